//! File sharing, directories, remote desktops, calls between programs.

mod ber;
mod dcerpc;
mod krb5;
mod ldap;
mod rpc_names;
mod rpc_pdu;
mod smb;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[&smb::Smb, &dcerpc::Dcerpc, &ldap::Ldap, &krb5::Krb5];
