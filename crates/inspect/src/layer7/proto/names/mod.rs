//! Name services.

mod dns;
mod dnscrypt;
mod llmnr;
mod mdns;
pub(in crate::layer7::proto) mod message;
mod netbios;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[
    &mdns::Mdns,
    &llmnr::Llmnr,
    &netbios::NetBios::Names,
    &netbios::NetBios::Datagrams,
    &netbios::NetBios::Sessions,
    &dnscrypt::DnsCrypt,
    &dns::Dns,
];
