//! The frames that the programs are run on.

use wire::{ethertype, ip_proto, tcp};

/// An Ethernet frame under construction.
#[derive(Clone, Debug)]
pub(super) struct Frame(Vec<u8>);

/// Payload bytes of a data frame.
const PAYLOAD: [u8; 64] = [0x77; 64];

impl Frame {
    fn ethernet(kind: u16) -> Self {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        bytes.extend(kind.to_be_bytes());
        Self(bytes)
    }

    fn vlan(mut self, id: u16, kind: u16) -> Self {
        self.0.extend(id.to_be_bytes());
        self.0.extend(kind.to_be_bytes());
        self
    }

    fn ip4(mut self, protocol: u8, payload: &[u8]) -> Self {
        let total_len = 20 + payload.len() as u16;
        self.0.extend([0x45, 0]);
        self.0.extend(total_len.to_be_bytes());
        self.0.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
        self.0.extend([192, 0, 2, 1, 198, 51, 100, 7]);
        self.0.extend(payload);
        self
    }

    fn ip6(mut self, next_header: u8, payload: &[u8]) -> Self {
        self.0.extend([0x60, 0, 0, 0]);
        self.0.extend((payload.len() as u16).to_be_bytes());
        self.0.extend([next_header, 64]);
        for last in [1, 7] {
            self.0
                .extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        self.0.extend(payload);
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

fn segment(flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(40_000u16.to_be_bytes());
    bytes.extend(443u16.to_be_bytes());
    bytes.extend(1_000u32.to_be_bytes());
    bytes.extend(2_000u32.to_be_bytes());
    bytes.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    bytes.extend(payload);
    bytes
}

fn datagram(dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(40_000u16.to_be_bytes());
    bytes.extend(dst_port.to_be_bytes());
    bytes.extend((8 + payload.len() as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

pub(super) fn ip4_tcp_data() -> Frame {
    Frame::ethernet(ethertype::IPV4).ip4(ip_proto::TCP, &segment(tcp::flag::ACK, &PAYLOAD))
}

pub(super) fn ip4_tcp_ack() -> Frame {
    Frame::ethernet(ethertype::IPV4).ip4(ip_proto::TCP, &segment(tcp::flag::ACK, &[]))
}

pub(super) fn ip4_tcp_syn() -> Frame {
    Frame::ethernet(ethertype::IPV4).ip4(ip_proto::TCP, &segment(tcp::flag::SYN, &[]))
}

pub(super) fn ip6_tcp_data() -> Frame {
    Frame::ethernet(ethertype::IPV6).ip6(ip_proto::TCP, &segment(tcp::flag::ACK, &PAYLOAD))
}

pub(super) fn ip6_tcp_ack() -> Frame {
    Frame::ethernet(ethertype::IPV6).ip6(ip_proto::TCP, &segment(tcp::flag::ACK, &[]))
}

/// A tag, then hop-by-hop and destination options before TCP.
pub(super) fn vlan_ip6_extensions() -> Frame {
    let mut chain = vec![ip_proto::DEST_OPTIONS, 0, 1, 4, 0, 0, 0, 0];
    chain.extend([ip_proto::TCP, 0, 1, 4, 0, 0, 0, 0]);
    chain.extend(segment(tcp::flag::ACK, &PAYLOAD));
    Frame::ethernet(ethertype::VLAN)
        .vlan(7, ethertype::IPV6)
        .ip6(ip_proto::HOP_BY_HOP, &chain)
}

pub(super) fn ip4_udp() -> Frame {
    Frame::ethernet(ethertype::IPV4).ip4(ip_proto::UDP, &datagram(5353, &PAYLOAD))
}

/// An Ethernet frame with UDP inside VXLAN.
pub(super) fn vxlan() -> Frame {
    const VXLAN_PORT: u16 = 4789;
    let mut payload = vec![0x08, 0, 0, 0, 0, 0, 42, 0];
    payload.extend(ip4_udp().0);
    Frame::ethernet(ethertype::IPV4).ip4(ip_proto::UDP, &datagram(VXLAN_PORT, &payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::parse::{note, parse_inner};
    use wire::{Link, Start, parse};

    #[test]
    fn frames_are_what_their_names_say() {
        let check = |frame: Frame, family: u8, protocol: u8, payload_len: u32| {
            let start = Start::of(Link::Ethernet, frame.bytes().len() as u32);
            let packet = parse(frame.bytes(), start).unwrap();
            assert_eq!(packet.l3_end as usize, frame.bytes().len());
            assert_eq!((packet.family, packet.protocol), (family, protocol));
            assert_eq!(packet.payload_len, payload_len);
            assert_eq!(packet.notes & !note::EXTENSIONS, 0);
            packet
        };
        check(ip4_tcp_data(), 4, ip_proto::TCP, 64);
        check(ip4_tcp_ack(), 4, ip_proto::TCP, 0);
        check(ip4_tcp_syn(), 4, ip_proto::TCP, 0);
        check(ip6_tcp_data(), 6, ip_proto::TCP, 64);
        check(vlan_ip6_extensions(), 6, ip_proto::TCP, 64);
        check(ip4_udp(), 4, ip_proto::UDP, 64);
        let outer = check(vxlan(), 4, ip_proto::UDP, 114);
        let (inner, _) = parse_inner(vxlan().bytes(), &outer).unwrap().unwrap();
        assert_eq!((inner.protocol, inner.tunnel_id), (ip_proto::UDP, 42));
    }
}
