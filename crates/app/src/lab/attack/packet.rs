//! Frames built by hand, with right lengths and checksums.

use std::net::IpAddr;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
pub(super) const ETHERNET_BYTES: usize = 14;
const TTL: u8 = 64;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMPV6: u8 = 58;

/// What a frame carries above IP.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload {
    /// A SYN with the options a Linux client offers.
    TcpSyn {
        source_port: u16,
        port: u16,
        sequence: u32,
    },
    Udp {
        source_port: u16,
        port: u16,
        bytes: u16,
    },
    IcmpEcho {
        id: u16,
        sequence: u16,
        bytes: u16,
    },
}

/// MSS 1460, SACK permitted, timestamps, no-operation, window scale 7.
const SYN_OPTIONS: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

/// Writes a whole Ethernet frame into `frame`. Both addresses are of one family.
pub(super) fn build(
    frame: &mut Vec<u8>,
    macs: ([u8; 6], [u8; 6]),
    (source, target): (IpAddr, IpAddr),
    identification: u16,
    payload: Payload,
) {
    let (source_mac, target_mac) = macs;
    frame.clear();
    frame.extend(target_mac);
    frame.extend(source_mac);
    let segment_bytes = payload.bytes();
    let protocol = payload.protocol(source.is_ipv6());
    match (source, target) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend(ETHERTYPE_IPV4.to_be_bytes());
            let start = frame.len();
            frame.extend([0x45, 0]);
            frame.extend((20 + segment_bytes).to_be_bytes());
            frame.extend(identification.to_be_bytes());
            frame.extend([0, 0, TTL, protocol, 0, 0]);
            frame.extend(from.octets());
            frame.extend(to.octets());
            let sum = fold(add(0, &frame[start..]));
            frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
        }
        _ => {
            frame.extend(ETHERTYPE_IPV6.to_be_bytes());
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(segment_bytes.to_be_bytes());
            frame.extend([protocol, TTL]);
            frame.extend(octets(source));
            frame.extend(octets(target));
        }
    }
    let start = frame.len();
    let checksum_at = start + payload.append(frame, source.is_ipv6());
    // ICMP over IPv4 alone has no pseudo-header.
    let mut sum = 0;
    if protocol != PROTOCOL_ICMP {
        sum = add(sum, &octets(source));
        sum = add(sum, &octets(target));
        sum += u32::from(protocol) + u32::from(segment_bytes);
    }
    let mut checksum = fold(add(sum, &frame[start..]));
    if checksum == 0 && protocol == PROTOCOL_UDP {
        // Zero would mean "none" (RFC 768).
        checksum = 0xffff;
    }
    frame[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
}

impl Payload {
    fn bytes(self) -> u16 {
        match self {
            Payload::TcpSyn { .. } => 20 + SYN_OPTIONS.len() as u16,
            Payload::Udp { bytes, .. } | Payload::IcmpEcho { bytes, .. } => 8 + bytes,
        }
    }

    fn protocol(self, ipv6: bool) -> u8 {
        match self {
            Payload::TcpSyn { .. } => PROTOCOL_TCP,
            Payload::Udp { .. } => PROTOCOL_UDP,
            Payload::IcmpEcho { .. } if ipv6 => PROTOCOL_ICMPV6,
            Payload::IcmpEcho { .. } => PROTOCOL_ICMP,
        }
    }

    /// Appends the segment with a checksum of zero; returns where in it the checksum goes.
    fn append(self, frame: &mut Vec<u8>, ipv6: bool) -> usize {
        match self {
            Payload::TcpSyn {
                source_port,
                port,
                sequence,
            } => {
                frame.extend(source_port.to_be_bytes());
                frame.extend(port.to_be_bytes());
                frame.extend(sequence.to_be_bytes());
                // No acknowledgement; ten words of header; SYN; window 64240; checksum; no urgent data.
                frame.extend([0, 0, 0, 0, 0xa0, 0x02, 0xfa, 0xf0, 0, 0, 0, 0]);
                frame.extend(SYN_OPTIONS);
                16
            }
            Payload::Udp {
                source_port,
                port,
                bytes,
            } => {
                frame.extend(source_port.to_be_bytes());
                frame.extend(port.to_be_bytes());
                frame.extend((8 + bytes).to_be_bytes());
                frame.extend([0, 0]);
                frame.resize(frame.len() + usize::from(bytes), b'u');
                6
            }
            Payload::IcmpEcho { id, sequence, bytes } => {
                frame.extend([if ipv6 { 128 } else { 8 }, 0, 0, 0]);
                frame.extend(id.to_be_bytes());
                frame.extend(sequence.to_be_bytes());
                frame.resize(frame.len() + usize::from(bytes), b'i');
                2
            }
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The Internet checksum (RFC 1071): sums words; an odd last byte is padded with zero.
fn add(sum: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(sum, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
    })
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The local port at which a SYN was answered with SYN and ACK, and the port that answered, for a frame
/// to `own_mac`; `None` for everything else.
pub(super) fn syn_ack(frame: &[u8], own_mac: [u8; 6]) -> Option<(u16, u16)> {
    if frame.get(..6)? != own_mac {
        return None;
    }
    let ip = frame.get(ETHERNET_BYTES..)?;
    let tcp = match u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]) {
        ETHERTYPE_IPV4 if *ip.get(9)? == PROTOCOL_TCP => ip.get(usize::from(ip[0] & 0xf) * 4..)?,
        ETHERTYPE_IPV6 if *ip.get(6)? == PROTOCOL_TCP => ip.get(40..)?,
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
    (tcp.get(13)? & 0x3f == 0x12).then_some((port(2)?, port(0)?))
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketHeaders, TransportHeader};

    use super::*;

    fn check(source: &str, target: &str, payload: Payload) {
        let (source, target): (IpAddr, IpAddr) = (source.parse().expect("ip"), target.parse().expect("ip"));
        let mut frame = Vec::new();
        build(&mut frame, ([1; 6], [2; 6]), (source, target), 7, payload);
        let headers = PacketHeaders::from_ethernet_slice(&frame).expect("a whole frame");
        let ip = headers.net.expect("an IP header");
        let body = headers.payload.slice();
        if let Some((v4, _)) = ip.ipv4_ref() {
            assert_eq!(v4.header_checksum, v4.calc_header_checksum());
            assert_eq!(usize::from(v4.total_len) + ETHERNET_BYTES, frame.len());
        }
        let (written, computed) = match (headers.transport.expect("a transport"), source, target) {
            (TransportHeader::Tcp(tcp), IpAddr::V4(a), IpAddr::V4(b)) => (
                tcp.checksum,
                tcp.calc_checksum_ipv4_raw(a.octets(), b.octets(), body),
            ),
            (TransportHeader::Tcp(tcp), IpAddr::V6(a), IpAddr::V6(b)) => (
                tcp.checksum,
                tcp.calc_checksum_ipv6_raw(a.octets(), b.octets(), body),
            ),
            (TransportHeader::Udp(udp), IpAddr::V4(a), IpAddr::V4(b)) => (
                udp.checksum,
                udp.calc_checksum_ipv4_raw(a.octets(), b.octets(), body),
            ),
            (TransportHeader::Udp(udp), IpAddr::V6(a), IpAddr::V6(b)) => (
                udp.checksum,
                udp.calc_checksum_ipv6_raw(a.octets(), b.octets(), body),
            ),
            (TransportHeader::Icmpv4(icmp), ..) => (icmp.checksum, Ok(icmp.icmp_type.calc_checksum(body))),
            (TransportHeader::Icmpv6(icmp), IpAddr::V6(a), IpAddr::V6(b)) => (
                icmp.checksum,
                icmp.icmp_type.calc_checksum(a.octets(), b.octets(), body),
            ),
            other => panic!("unexpected transport {other:?}"),
        };
        assert_eq!(written, computed.expect("a length that fits"), "{payload:?}");
    }

    #[test]
    fn frames_are_right_in_another_parsers_eyes() {
        for payload in [
            Payload::TcpSyn {
                source_port: 40000,
                port: 80,
                sequence: 0xdead_beef,
            },
            Payload::Udp {
                source_port: 9,
                port: 9,
                bytes: 33,
            },
            Payload::IcmpEcho {
                id: 1,
                sequence: 2,
                bytes: 56,
            },
        ] {
            check("203.0.113.9", "10.77.0.1", payload);
            check("2001:db8::9", "fd77::1", payload);
        }
    }

    #[test]
    fn answers_to_syns_are_told_from_syns() {
        let mut frame = Vec::new();
        let payload = Payload::TcpSyn {
            source_port: 80,
            port: 40000,
            sequence: 0,
        };
        for (source, target, flags_at) in [
            ("10.77.0.1", "10.77.0.66", 14 + 20 + 13),
            ("fd77::1", "fd77::66", 14 + 40 + 13),
        ] {
            let addresses = (source.parse().expect("ip"), target.parse().expect("ip"));
            build(&mut frame, ([1; 6], [2; 6]), addresses, 0, payload);
            assert_eq!(syn_ack(&frame, [2; 6]), None);
            frame[flags_at] = 0x12;
            assert_eq!(syn_ack(&frame, [2; 6]), Some((40000, 80)));
            assert_eq!(syn_ack(&frame, [3; 6]), None);
            for end in 0..flags_at {
                assert_eq!(syn_ack(&frame[..end], [2; 6]), None);
            }
        }
    }
}
