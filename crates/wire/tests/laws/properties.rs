//! Laws of the parser and of flow rows over generated input.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use wire::flow::StampedAt;
use wire::rows::{Pending, Step};
use wire::tcp::{self, flag};
use wire::{Addr, FlowKey, FlowRow, Link, Packet, Size, ip_proto};

use crate::invariants::{LINKS, check_frame, check_prefix};

/// Bytes that tend to be headers: EtherTypes, protocols, lengths and versions that lead on, among
/// arbitrary ones.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let leading: Vec<&'static [u8]> = vec![
        &[0x08, 0x00, 0x45, 0x00],
        &[0x86, 0xdd, 0x60, 0x00],
        &[0x81, 0x00, 0x00, 0x07],
        &[0x88, 0x47, 0x00, 0x01, 0xd1, 0xff],
        &[0x88, 0x64, 0x11, 0x00, 0x00, 0x01, 0x00, 0x40, 0x00, 0x21],
        &[0x00, 0x24, 0xaa, 0xaa, 0x03, 0x00, 0x00, 0x00],
        &[0x45, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x40, 0x06],
        &[0x45, 0x00, 0x00, 0x40, 0x00, 0x00, 0x20, 0x00, 0x40, 0x11],
        &[0x60, 0x00, 0x00, 0x00, 0x00, 0x40, 0x3c, 0x40],
        &[0x02, 0x00, 0x00, 0x00],
        &[0x11, 0x00, 0x01, 0x04, 0x00, 0x00, 0x00, 0x00],
        &[0x2c, 0x00, 0x00, 0x01],
        &[0; 12],
    ];
    let piece = prop_oneof![select(leading).prop_map(<[u8]>::to_vec), vec(any::<u8>(), 0..24),];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// An Ethernet frame whose headers are all sound.
fn sound_frame() -> impl Strategy<Value = Vec<u8>> {
    let tags = vec(any::<[u8; 2]>(), 0..3);
    let transport = prop_oneof![
        (any::<[u8; 13]>(), vec(Just(1u8), 0..=10)).prop_map(|(fields, options)| {
            let words = options.len().div_ceil(4);
            let mut header = [&fields[..12], &[((5 + words) << 4) as u8, fields[12]], &[0; 6]].concat();
            header.extend(options);
            header.resize(20 + 4 * words, 0);
            (ip_proto::TCP, header)
        }),
        any::<[u8; 4]>().prop_map(|ports| (ip_proto::UDP, [&ports[..], &[0; 4]].concat())),
        any::<[u8; 12]>().prop_map(|header| (ip_proto::SCTP, header.to_vec())),
        any::<[u8; 8]>().prop_map(|header| (ip_proto::ICMP, header.to_vec())),
    ];
    let network = (
        any::<bool>(),
        any::<[u8; 32]>(),
        vec(select(vec![0u8, 43, 60, 44]), 0..4),
    );
    (tags, network, transport, vec(any::<u8>(), 0..40)).prop_map(
        |(tags, (is_ip6, addresses, kinds), (protocol, header), payload)| {
            let mut frame = vec![2; 12];
            for tag in tags {
                frame.extend([0x81, 0x00]);
                frame.extend(tag);
            }
            let body = [header, payload].concat();
            if is_ip6 {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(((8 * kinds.len() + body.len()) as u16).to_be_bytes());
                frame.push(*kinds.first().unwrap_or(&protocol));
                frame.push(64);
                frame.extend(addresses);
                for i in 0..kinds.len() {
                    let next = *kinds.get(i + 1).unwrap_or(&protocol);
                    frame.extend([next, 0, 0, 0, 0, 0, 0, 0]);
                }
            } else {
                frame.extend([0x08, 0x00, 0x45, 0]);
                frame.extend(((20 + body.len()) as u16).to_be_bytes());
                frame.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
                frame.extend(&addresses[..8]);
            }
            frame.extend(body);
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_of_any_link_layer(frame in frame(), more in 0u32..2000) {
        for link in LINKS {
            let _ = check_frame(link, &frame, frame.len() as u32 + more);
        }
    }

    #[test]
    fn a_cut_shows_nothing_new(frame in frame(), cut in any::<Index>()) {
        for link in LINKS {
            check_prefix(link, &frame, cut.index(frame.len() + 1));
        }
    }

    #[test]
    fn every_prefix_of_a_sound_frame(frame in sound_frame()) {
        let packet = check_frame(Link::Ethernet, &frame, frame.len() as u32).expect("a sound frame");
        prop_assert_eq!(packet.notes & !wire::parse::note::EXTENSIONS, 0);
        prop_assert_eq!(packet.l3_end as usize, frame.len());
        for len in 0..frame.len() {
            check_prefix(Link::Ethernet, &frame, len);
        }
    }
}

/// A handshake as a middlebox sees it: repeats on either side, data in the SYN, either end the
/// client; then what follows it.
#[derive(Debug, Clone)]
struct Handshake {
    client_is_upper: bool,
    client_seq: u32,
    server_seq: u32,
    data_len: u32,
    /// Which side sends the next SYN or SYN-ACK (`true`: the server), after the first SYN.
    repeats: Vec<bool>,
    gaps_us: Vec<u64>,
    data_is_taken: bool,
    segments: Vec<(bool, u32, u32)>,
}

fn handshake() -> impl Strategy<Value = Handshake> {
    (
        any::<bool>(),
        any::<u32>(),
        any::<u32>(),
        prop_oneof![Just(0u32), 1u32..1400],
        vec(any::<bool>(), 0..5),
        vec(0u64..5_000, 16),
        any::<bool>(),
        vec((any::<bool>(), 0u32..3000, 0u32..1460), 0..8),
    )
        .prop_map(|fields| Handshake {
            client_is_upper: fields.0,
            client_seq: fields.1,
            server_seq: fields.2,
            data_len: fields.3,
            repeats: fields.4,
            gaps_us: fields.5,
            data_is_taken: fields.6,
            segments: fields.7,
        })
}

impl Handshake {
    /// Its packets in order, with their times, and how many of them are SYNs or SYN-ACKs.
    fn packets(&self) -> (Vec<(u64, Packet)>, usize) {
        let taken = if self.data_is_taken { self.data_len } else { 0 };
        let client_next = self.client_seq.wrapping_add(1).wrapping_add(taken);
        let server_next = self.server_seq.wrapping_add(1);
        let mut sent = vec![self.segment(false, flag::SYN, self.client_seq, 0, self.data_len)];
        for &by_server in &self.repeats {
            sent.push(if by_server {
                self.segment(true, flag::SYN | flag::ACK, self.server_seq, client_next, 0)
            } else {
                self.segment(false, flag::SYN, self.client_seq, 0, self.data_len)
            });
        }
        let of_handshake = sent.len();
        sent.push(self.segment(false, flag::ACK, client_next, server_next, 0));
        for &(by_server, offset, len) in &self.segments {
            let (seq, ack) = if by_server {
                (server_next, client_next)
            } else {
                (client_next, server_next)
            };
            sent.push(self.segment(by_server, flag::ACK, seq.wrapping_add(offset), ack, len));
        }
        let mut at_ns = 1_000_000_000;
        let timed = sent.into_iter().zip(&self.gaps_us).map(|(packet, gap_us)| {
            at_ns += gap_us * 1000;
            (at_ns, packet)
        });
        (timed.collect(), of_handshake)
    }

    fn segment(&self, by_server: bool, flags: u8, seq: u32, ack: u32, len: u32) -> Packet {
        let (lower, upper) = ((Addr::v4([10, 0, 0, 1]), 1000), (Addr::v4([10, 0, 0, 2]), 2000));
        let (from, to) = if by_server == self.client_is_upper {
            (lower, upper)
        } else {
            (upper, lower)
        };
        Packet {
            src: from.0,
            dst: to.0,
            src_port: from.1,
            dst_port: to.1,
            family: 4,
            protocol: ip_proto::TCP,
            ttl: 60 + u8::from(by_server),
            tos: u8::from(by_server),
            payload_len: len,
            tcp_flags: flags,
            tcp_seq: seq,
            tcp_ack: ack,
            tcp_window: 500,
            tcp_window_scale: if flags & flag::SYN != 0 {
                7
            } else {
                tcp::NO_WINDOW_SCALE
            },
            ..Packet::default()
        }
    }
}

fn size_of_frame(packet: &Packet) -> Size {
    Size::one(54 + packet.payload_len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn adopting_a_handshake_is_as_accounting_its_packets(handshake in handshake()) {
        let (packets, of_handshake) = handshake.packets();
        let direction_of = |packet: &Packet| FlowKey::of(packet, 1).1;
        let (first_ns, first) = packets[0];
        let mut direct = FlowRow::begin(direction_of(&first), first_ns, 0);
        for (at_ns, packet) in &packets {
            direct.account(direction_of(packet), packet, size_of_frame(packet), &StampedAt(*at_ns));
        }

        let mut pending = Pending::default();
        for (at_ns, packet) in &packets[..of_handshake] {
            let step = if packet.tcp_flags & flag::ACK == 0 { Step::Syn } else { Step::SynAck };
            prop_assert!(pending.note(9, step, direction_of(packet), packet, size_of_frame(packet), *at_ns));
        }
        let (row_ns, completing) = packets[of_handshake];
        prop_assert!(pending.completes(9, direction_of(&completing), &completing));
        let mut adopted = FlowRow::begin(direction_of(&completing), row_ns, 0);
        adopted.adopt(&pending);
        for (at_ns, packet) in &packets[of_handshake..] {
            adopted.account(direction_of(packet), packet, size_of_frame(packet), &StampedAt(*at_ns));
        }
        prop_assert_eq!(usize::from(adopted.adopted_packets), of_handshake);
        adopted.adopted_packets = 0;
        adopted.adopted_bytes = 0;
        prop_assert_eq!(adopted, direct);
    }
}
