//! One ARP packet: it belongs to no flow, and is told all the same.

use std::net::Ipv4Addr;

use serde::Serialize;
use wire::arp::{Repr, View};
use wire::{Direction, FlowKey};

use super::{Event, Record};
use crate::layer7::Side;

/// EVE's `arp`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arp {
    pub hw_type: &'static str,
    pub proto_type: &'static str,
    /// `request`, `reply`, or the number.
    pub opcode: String,
    pub src_mac: String,
    pub src_ip: Ipv4Addr,
    pub dest_mac: String,
    pub dest_ip: Ipv4Addr,
}

/// EtherType, Ethernet, IPv4, lengths of their addresses: what an ARP packet that means something to
/// us begins with.
const HEAD: [u8; 8] = [0x08, 0x06, 0, 1, 8, 0, 6, 4];

impl Arp {
    /// That of a frame which the parser found to be ARP, or to carry it. The parser does not say where
    /// it begins, so its head is looked for.
    #[must_use]
    pub fn find(frame: &[u8]) -> Option<Self> {
        let at = memchr::memmem::find(frame, &HEAD)? + 2;
        View::load(frame, at)?.repr().map(|arp| Self::of(&arp))
    }

    fn of(arp: &Repr) -> Self {
        let mac = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        Self {
            hw_type: "ethernet",
            proto_type: "ipv4",
            opcode: match arp.operation {
                1 => "request".to_owned(),
                2 => "reply".to_owned(),
                3 => "request_reverse".to_owned(),
                4 => "reply_reverse".to_owned(),
                other => other.to_string(),
            },
            src_mac: mac(arp.sender_mac),
            src_ip: arp.sender_ip.into(),
            dest_mac: mac(arp.target_mac),
            dest_ip: arp.target_ip.into(),
        }
    }

    /// The event, seen on this interface.
    #[must_use]
    pub fn event(self, ts_ns: u64, interface: u32) -> Event {
        Event {
            ts_ns,
            key: FlowKey {
                ifindex: interface,
                ..FlowKey::default()
            },
            flow_id: 0,
            client: Direction::AToB,
            side: Side::Client,
            tx_id: None,
            app: None,
            record: Record::Arp(Box::new(self)),
        }
    }
}
