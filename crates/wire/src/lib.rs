//! The kernel ABI and the one packet parser.
//!
//! `no_std` and without dependencies: the same code is compiled for the BPF target, where it reads
//! packets in place and fills map rows, and for the host, where it reads capture files, drives the
//! flow table of `inspect` and is fuzzed. What one side decides about a packet the other side
//! decides too, because it is the same function.
//!
//! * [`parse`]: one walk over the headers of a frame, giving a [`Packet`] or a [`Reject`].
//! * [`flow`]: the direction-independent [`FlowKey`] and the [`FlowRow`] that counts a flow.
//! * [`event`]: what the ring buffer carries.
//! * [`rows`]: every other map key and row, and the programs' settings.
//! * one module a protocol (`ipv4`, `tcp`, …): a view over its header, named fields, no judgement.
//!
//! No function here panics on any input: lengths are checked once, by [`Load`], and a view holds
//! the bytes that were checked.

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch, core_intrinsics))]
#![cfg_attr(target_arch = "bpf", allow(internal_features))]

#[cfg(test)]
extern crate std;

pub mod addr;
pub mod arp;
pub mod event;
pub mod flow;
pub mod icmp;
pub mod ieee80211;
pub mod ipv4;
pub mod ipv6;
pub mod link;
pub mod load;
pub mod parse;
pub mod ppp;
pub mod rows;
#[cfg(test)]
mod samples;
pub mod tcp;
pub mod tunnel;
pub mod udp;

pub use addr::Addr;
pub use flow::{Clock, Direction, FlowKey, FlowRow, Size};
pub use link::Link;
pub use load::Load;
pub use parse::{Packet, Reject, Start, parse, parse_into};

/// Version of everything that crosses between the kernel programs and user space: keys, rows,
/// events and settings. Part of the pin path; raised by one with every change of layout or meaning.
pub const ABI_VERSION: u32 = 1;

/// IP protocol numbers that Weir treats by name (IANA "Assigned Internet Protocol Numbers").
pub mod ip_proto {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IPV4: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const DCCP: u8 = 33;
    pub const IPV6: u8 = 41;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const ESP: u8 = 50;
    pub const AH: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const NO_NEXT: u8 = 59;
    pub const DEST_OPTIONS: u8 = 60;
    pub const SCTP: u8 = 132;
    pub const MOBILITY: u8 = 135;
    pub const UDP_LITE: u8 = 136;
    pub const HIP: u8 = 139;
    pub const SHIM6: u8 = 140;
}

/// EtherTypes that Weir treats by name (IEEE registry).
pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const VLAN: u16 = 0x8100;
    pub const QINQ: u16 = 0x88a8;
    pub const QINQ_OLD: u16 = 0x9100;
    pub const IPV6: u16 = 0x86dd;
    pub const PPP: u16 = 0x880b;
    pub const MPLS: u16 = 0x8847;
    pub const MPLS_MULTICAST: u16 = 0x8848;
    pub const PPPOE_DISCOVERY: u16 = 0x8863;
    pub const PPPOE_SESSION: u16 = 0x8864;
    pub const TRANSPARENT_BRIDGING: u16 = 0x6558;
}
