//! Comments that say what Weir knows of a packet.

use std::collections::HashMap;
use std::fmt::Write as _;

use inspect::community_id::{Tuple, community_id};
use wire::flow::{FlowKey, FlowRow, Size, StampedAt, row_flag};
use wire::parse::note;
use wire::tcp::flag;
use wire::{Direction, Packet, Reject, ip_proto};

use crate::packet_socket::{Frame, Interface};

/// Flows remembered, about 400 bytes each. Packets of further ones have no comment about their flow.
const FLOWS_MAX: usize = 65_536;

/// Remembers flows, so that packets can be told apart from repetitions of themselves.
#[derive(Debug, Default)]
pub(super) struct Annotator {
    flows: HashMap<FlowKey, FlowRow>,
    comment: String,
    unremembered: u64,
}

impl Annotator {
    /// Makes the comment on `frame`. Frames must come in the order they were captured.
    pub(super) fn annotate(
        &mut self,
        interface: &Interface,
        frame: &Frame<'_>,
        parsed: &Result<Packet, Reject>,
    ) {
        self.comment.clear();
        match parsed {
            Ok(packet) => {
                self.note_flow(interface, frame, packet);
                self.note_peculiarities(packet);
            }
            Err(reject) if reject.is_fault() => self.say(format_args!("broken: {}", reject.name())),
            Err(_) => {}
        }
        if frame.is_tag_restored {
            self.say(format_args!("VLAN tag put back"));
        }
        // An Ethernet header and two tags may come on top.
        if frame.wire_len > interface.mtu_bytes.saturating_add(22) {
            self.say(format_args!(
                "larger than the MTU of {}: segmentation offload",
                interface.mtu_bytes
            ));
        }
    }

    /// What is known of the last frame, parts separated by `; `; empty where that is nothing.
    pub(super) fn comment(&self) -> &str {
        &self.comment
    }

    /// Packets of flows beyond [`FLOWS_MAX`].
    pub(super) fn unremembered(&self) -> u64 {
        self.unremembered
    }

    fn say(&mut self, part: std::fmt::Arguments<'_>) {
        if !self.comment.is_empty() {
            self.comment.push_str("; ");
        }
        // Writing to a String cannot fail.
        let _ = self.comment.write_fmt(part);
    }

    fn note_flow(&mut self, interface: &Interface, frame: &Frame<'_>, packet: &Packet) {
        let (key, direction) = FlowKey::of(packet, interface.index.cast_unsigned());
        let is_new = !self.flows.contains_key(&key);
        if is_new && self.flows.len() >= FLOWS_MAX {
            self.unremembered += 1;
            return;
        }
        let row = self
            .flows
            .entry(key)
            .or_insert_with(|| FlowRow::begin(direction, frame.ts_ns, 0));
        let before = *row;
        row.account(
            direction,
            packet,
            Size::one(frame.wire_len),
            &StampedAt(frame.ts_ns),
        );
        let after = *row;
        if packet.protocol == ip_proto::TCP && packet.notes & (note::FRAGMENT_LATER | note::L4_SHORT) == 0 {
            self.note_segment(packet, direction, &before, &after);
        }
        if is_new {
            let id = community_id(&tuple_of(packet), 0);
            self.say(format_args!("first of flow {id}"));
        }
    }

    fn note_segment(&mut self, packet: &Packet, direction: Direction, before: &FlowRow, after: &FlowRow) {
        let side = |row: &FlowRow| row.sides[direction as usize & 1];
        let (was, is) = (side(before), side(after));
        for (flags, name) in [
            (flag::SYN | flag::ACK, "SYN-ACK"),
            (flag::SYN, "SYN"),
            (flag::RST, "RST"),
            (flag::FIN, "FIN"),
        ] {
            if packet.tcp_flags & flags == flags {
                self.say(format_args!("{name}"));
                break;
            }
        }
        if is.retransmits > was.retransmits {
            self.say(format_args!("retransmission"));
        }
        if is.out_of_order > was.out_of_order {
            self.say(format_args!("out of order"));
        }
        if is.zero_windows > was.zero_windows {
            self.say(format_args!("window closed"));
        }
        if before.rtt_server_us == 0 && after.rtt_server_us != 0 {
            self.say(format_args!("server answered after {} µs", after.rtt_server_us));
        }
        if before.rtt_client_us == 0 && after.rtt_client_us != 0 {
            self.say(format_args!("client answered after {} µs", after.rtt_client_us));
        }
        if before.flags & row_flag::CLOSED == 0 && after.flags & row_flag::CLOSED != 0 {
            self.say(format_args!("connection closed"));
        }
    }

    fn note_peculiarities(&mut self, packet: &Packet) {
        if packet.notes & note::FRAGMENT_FIRST != 0 {
            self.say(format_args!("first fragment of {:#x}", packet.frag_id));
        }
        if packet.notes & note::FRAGMENT_LATER != 0 {
            let (id, offset) = (packet.frag_id, packet.frag_offset);
            self.say(format_args!("fragment of {id:#x} at byte {offset}"));
        }
        for (bit, text) in [
            (note::L4_SHORT, "broken: transport header cut short"),
            (note::L4_BAD, "broken: transport header contradicts itself"),
            (note::EXTENSIONS_BAD, "broken: IPv6 extension headers"),
            (note::TCP_OPTIONS_BAD, "broken: TCP options"),
        ] {
            if packet.notes & bit != 0 {
                self.say(format_args!("{text}"));
            }
        }
    }
}

fn tuple_of(packet: &Packet) -> Tuple {
    let (src_port, dst_port) = match packet.protocol {
        ip_proto::ICMP | ip_proto::ICMPV6 => (u16::from(packet.icmp_type), u16::from(packet.icmp_code)),
        _ => (packet.src_port, packet.dst_port),
    };
    Tuple {
        src: packet.src.to_ip(packet.family),
        dst: packet.dst.to_ip(packet.family),
        protocol: packet.protocol,
        src_port,
        dst_port,
    }
}
