//! Services that keep a network going.

mod access;
mod devices;
mod dhcp;
mod dhcpv6;
mod encapsulation;
mod ntp;
mod radius;
mod routing;
mod slp;
mod snmp;
mod ssdp;
mod stun;
mod telemetry;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[
    &dhcp::Dhcp,
    &dhcpv6::Dhcpv6,
    &ntp::Ntp,
    &radius::Radius,
    &slp::Slp,
    &snmp::Snmp,
    &ssdp::Ssdp,
    &stun::Stun,
    &access::CAPWAP,
    &access::GTP,
    &access::PFCP,
    &access::TACACS,
    &devices::COAP,
    &devices::RX,
    &devices::TPLINK,
    &devices::UBIQUITI,
    &encapsulation::AYIYA,
    &encapsulation::GENEVE,
    &encapsulation::TEREDO,
    &encapsulation::VXLAN,
    &routing::BFD,
    &routing::BGP,
    &routing::HSRP,
    &routing::LDP,
    &routing::LISP,
    &routing::RIP,
    &telemetry::CHECKMK,
    &telemetry::Collectd,
    &telemetry::IPFIX,
    &telemetry::Munin,
    &telemetry::NETFLOW,
    &telemetry::PTP,
    &telemetry::SFLOW,
];
