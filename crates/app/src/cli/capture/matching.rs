//! Whether a filter holds for a frame.
//!
//! Frames that are no IP packet have link-layer fields only; the others are missing. A packet that
//! carries another in a tunnel is kept when the filter holds for either, and the outer one has the
//! tunnel's kind and identifier too.

use inspect::facts::PacketFacts;
use policy::filter::{Facts, Field, Filter, Value};
use wire::{Packet, Reject};

use crate::packet_socket::{Frame, Interface, LINKTYPE_ETHERNET};

/// Whether `filter` holds for `frame`, which the parser found to be `parsed`.
pub(super) fn holds(
    filter: &Filter,
    interface: &Interface,
    frame: &Frame<'_>,
    parsed: &Result<Packet, Reject>,
) -> bool {
    let facts = |packet| PacketFacts {
        packet,
        data: frame.data,
        frame_len: frame.wire_len,
        is_ethernet: interface.linktype == LINKTYPE_ETHERNET,
        interface: Some(&interface.name),
        direction: Some(if frame.is_outgoing { "out" } else { "in" }),
    };
    match parsed {
        Err(_) => filter.eval(&LinkFacts(facts(&Packet::default()))),
        Ok(outer) => match wire::parse::parse_inner(frame.data, outer) {
            Some(Ok((mut inner, _))) => {
                // The outermost tag is the frame's.
                inner.vlan = outer.vlan;
                let mut outer = *outer;
                outer.tunnel = inner.tunnel;
                outer.tunnel_id = inner.tunnel_id;
                filter.eval(&facts(&outer)) || filter.eval(&facts(&inner))
            }
            _ => filter.eval(&facts(outer)),
        },
    }
}

/// What is known of a frame without an IP header.
struct LinkFacts<'a>(PacketFacts<'a>);

impl LinkFacts<'_> {
    /// The outermost VLAN identifier (IEEE 802.1Q, 9): the parser gives none of frames it rejects.
    fn vlan(&self) -> Option<u16> {
        const TAG_TYPES: [u16; 3] = [
            wire::ethertype::VLAN,
            wire::ethertype::QINQ,
            wire::ethertype::QINQ_OLD,
        ];
        let [t0, t1, c0, c1] = *self.0.data.get(12..)?.first_chunk()?;
        let is_tagged = self.0.is_ethernet && TAG_TYPES.contains(&u16::from_be_bytes([t0, t1]));
        is_tagged.then_some(u16::from_be_bytes([c0, c1]) & 0x0fff)
    }
}

impl Facts for LinkFacts<'_> {
    fn get(&self, field: Field) -> Value<'_> {
        match field {
            Field::Vlan => self.vlan().into(),
            Field::Iface | Field::Direction | Field::SrcMac | Field::DstMac | Field::Len => self.0.get(field),
            _ => Value::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use wire::{Link, Start};

    use super::*;

    fn interface() -> Interface {
        Interface {
            name: "eth7".to_owned(),
            index: 7,
            linktype: LINKTYPE_ETHERNET,
            mac: None,
            mtu_bytes: 1500,
            is_up: true,
            is_loopback: false,
            has_large_frames: false,
        }
    }

    #[track_caller]
    fn check(data: &[u8], expected: &[(&str, bool)]) {
        let frame = Frame {
            ts_ns: 0,
            wire_len: data.len() as u32,
            data,
            is_outgoing: true,
            is_tag_restored: false,
        };
        let parsed = wire::parse(data, Start::of(Link::Ethernet, frame.wire_len));
        for (text, expected) in expected {
            let filter = Filter::parse(text).expect(text);
            assert_eq!(holds(&filter, &interface(), &frame, &parsed), *expected, "{text}");
        }
    }

    fn udp(dport: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(4000, dport)
            .write(&mut frame, payload)
            .expect("room");
        frame
    }

    #[test]
    fn fields_of_a_packet() {
        check(
            &udp(53, b"x"),
            &[
                ("dport == 53", true),
                ("dport == 54", false),
                ("proto == udp and src in 10.0.0.0/8", true),
                ("iface == eth7 and direction == out", true),
                ("direction == in", false),
                ("dst.mac == 02:00:00:00:00:02 and len == 43", true),
                ("tunnel", false),
                ("vlan", false),
                ("flags.syn", false),
                ("not flags.syn", true),
            ],
        );
    }

    #[test]
    fn frames_without_ip() {
        let mut arp = vec![0xff; 12];
        arp.extend_from_slice(&[0x81, 0x00, 0x00, 0x07, 0x08, 0x06]);
        arp.resize(60, 0);
        check(
            &arp,
            &[
                ("not tcp", true),
                ("proto == tcp", false),
                ("proto == 0", false),
                ("proto != tcp", false),
                ("family", false),
                ("src == 0.0.0.0", false),
                ("ttl == 0", false),
                ("frag == false", false),
                ("vlan == 7", true),
                ("len == 60 and iface == eth7", true),
                ("dst.mac == ff:ff:ff:ff:ff:ff", true),
            ],
        );
    }

    #[test]
    fn either_packet_of_a_tunnel() {
        // VXLAN: flags with a valid VNI, VNI 42 (RFC 7348, 5).
        let mut payload = vec![8, 0, 0, 0, 0, 0, 42, 0];
        payload.extend_from_slice(&udp(53, b"x"));
        check(
            &udp(4789, &payload),
            &[
                ("tunnel == vxlan", true),
                ("dport == 4789 and tunnel == vxlan and vni == 42", true),
                ("dport == 53 and tunnel == vxlan", true),
                ("not tunnel", false),
                ("dport == 54", false),
            ],
        );
    }
}
