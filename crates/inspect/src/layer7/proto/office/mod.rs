//! File sharing, directories, remote desktops, calls between programs.

mod ber;
mod dcerpc;
mod krb5;
mod ldap;
mod rdp;
mod rfb;
mod rpc;
mod rpc_names;
mod rpc_pdu;
mod small;
mod smb;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[
    &smb::Smb,
    &dcerpc::Dcerpc,
    &ldap::Ldap,
    &krb5::Krb5,
    &rdp::Rdp,
    &rfb::Rfb,
    &rpc::Rpc::Nfs,
    &rpc::Rpc::Any,
    &small::X11,
    &small::GIOP,
    &small::JRMI,
    &small::NOMACHINE,
    &small::RADMIN,
    &small::CITRIX,
    &small::ISCSI,
    &small::AFP,
    &small::JETDIRECT,
    &small::NOTES,
    &small::HPVIRTGRP,
];
