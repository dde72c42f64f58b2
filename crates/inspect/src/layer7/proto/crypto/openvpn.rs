//! OpenVPN over UDP and TCP: plain, with tls-auth, with tls-crypt (version 1 and 2). The hello of the TLS inside is
//! read where it is not hidden. A static key hides everything, so that such a flow cannot be told.

use std::collections::BTreeMap;

use crate::layer7::cursor::Cursor;
use crate::layer7::hello::ClientHello;
use crate::layer7::ja4::{Carrier, ja4};
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};

use super::handshake::learn;

#[derive(Debug)]
pub(in crate::layer7::proto) struct OpenVpn;

/// Operation codes, above three bits of the key's number.
mod op {
    pub(super) const RESET_CLIENT_1: u8 = 1;
    pub(super) const RESET_SERVER_1: u8 = 2;
    pub(super) const CONTROL: u8 = 4;
    pub(super) const ACK: u8 = 5;
    pub(super) const DATA_1: u8 = 6;
    pub(super) const RESET_CLIENT_2: u8 = 7;
    pub(super) const RESET_SERVER_2: u8 = 8;
    pub(super) const DATA_2: u8 = 9;
    pub(super) const RESET_CLIENT_3: u8 = 10;
    pub(super) const CONTROL_WRAPPED: u8 = 11;
}

/// Lengths of the HMACs that tls-auth may use, and none.
const HMAC_LENS: [usize; 7] = [0, 16, 20, 28, 32, 48, 64];
/// Where tls-crypt has its own: HMAC-SHA-256.
const CRYPT_LEN: usize = 32;
/// Control packets of a client that are looked at for its hello, and its bytes at most.
const CONTROLS_MAX: usize = 32;
const HELLO_MAX: usize = 16 * 1024;

impl Protocol for OpenVpn {
    fn name(&self) -> &'static str {
        "openvpn"
    }

    fn ports(&self) -> &'static [u16] {
        &[1194]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Tcp | Transport::Udp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        if seen.transport == Transport::Tcp {
            return probe_stream(seen);
        }
        let bytes = seen.newest();
        match Control::read(bytes) {
            Some(control) => match control.op() {
                op::RESET_CLIENT_1 | op::RESET_CLIENT_2 | op::RESET_CLIENT_3 => verdict(&control, seen.side),
                op::RESET_SERVER_1 | op::RESET_SERVER_2 => verdict(&control, seen.side.other()),
                _ => Verdict::No,
            },
            None => probe_data(bytes, seen),
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(OpenVpnSession::default())
    }
}

fn verdict(control: &Control<'_>, client: Side) -> Verdict {
    match control.wrap {
        // A session that is answered names the other's; a hash and a clock are hard to meet by chance.
        Wrap::Plain if control.remote.is_none() => Verdict::likely(client),
        _ => Verdict::certain(client),
    }
}

fn probe_stream(seen: &Seen<'_>) -> Verdict {
    for side in [Side::Client, Side::Server] {
        let bytes = seen.data[side.index()];
        let Some(&first) = bytes.first() else {
            continue;
        };
        // A reset is short, but for the wrapped key of tls-crypt version 2.
        if first > 4 {
            return Verdict::No;
        }
        let Some(&[high, low, op]) = bytes.first_chunk::<3>() else {
            return Verdict::NeedMore;
        };
        if !matches!(op, 0x08 | 0x10 | 0x38 | 0x40 | 0x50) {
            return Verdict::No;
        }
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len < 14 {
            return Verdict::No;
        }
        let Some(packet) = bytes.get(2..2 + len) else {
            return Verdict::NeedMore;
        };
        let Some(control) = Control::read(packet) else {
            return Verdict::No;
        };
        return match control.op() {
            op::RESET_SERVER_1 | op::RESET_SERVER_2 => verdict(&control, side.other()),
            _ => verdict(&control, side),
        };
    }
    Verdict::NeedMore
}

/// Joined in the middle: packets with data of the same peer, on its port.
fn probe_data(bytes: &[u8], seen: &Seen<'_>) -> Verdict {
    const PACKETS: usize = 3;
    let is_data = |head: &[u8]| {
        head.first()
            .is_some_and(|first| matches!(first >> 3, op::DATA_1 | op::DATA_2))
    };
    if !seen.has_port(1194) || !is_data(bytes) || bytes.len() < 20 {
        return Verdict::No;
    }
    let head = &bytes[..4.min(bytes.len())];
    let same_side = seen.earlier.iter().filter(|earlier| earlier.side == seen.side);
    let is_same = |earlier: &[u8]| {
        earlier.first() == head.first() && (head[0] >> 3 == op::DATA_1 || earlier.starts_with(head))
    };
    match same_side.filter(|earlier| is_same(earlier.head())).count() + 1 {
        PACKETS.. => Verdict::LIKELY,
        _ if seen.earlier.iter().all(|earlier| is_data(earlier.head())) => Verdict::NeedMore,
        _ => Verdict::No,
    }
}

/// How a control packet is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrap {
    Plain,
    /// An HMAC of so many bytes.
    Auth(usize),
    Crypt,
}

/// A packet that resets.
struct Control<'a> {
    first: u8,
    wrap: Wrap,
    /// The peer's session, if it is answered.
    remote: Option<&'a [u8]>,
}

impl<'a> Control<'a> {
    const fn op(&self) -> u8 {
        self.first >> 3
    }

    /// A reset of either side, whole.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let &first = bytes.first()?;
        let op = first >> 3;
        let is_reset = matches!(
            op,
            op::RESET_CLIENT_1
                | op::RESET_SERVER_1
                | op::RESET_CLIENT_2
                | op::RESET_SERVER_2
                | op::RESET_CLIENT_3
        );
        if !is_reset || first & 7 != 0 {
            return None;
        }
        bytes.get(1..9).filter(|session| **session != [0; 8])?;
        let is_client = !matches!(op, op::RESET_SERVER_1 | op::RESET_SERVER_2);
        for hmac_len in HMAC_LENS {
            let auth_len = if hmac_len == 0 { 0 } else { hmac_len + 8 };
            let Some(mut rest) = bytes.get(9 + auth_len..).map(Cursor::new) else {
                continue;
            };
            if hmac_len > 0 && !is_stamp(&bytes[9 + hmac_len..]) {
                continue;
            }
            let mut tail = || {
                let n_acks = usize::from(rest.u8()?);
                let acks = rest.take(n_acks * 4)?;
                let remote = if n_acks > 0 { Some(rest.take(8)?) } else { None };
                // The first message of a session has the number 0, and so has what it answers.
                (n_acks <= 4 && acks.iter().all(|&byte| byte == 0) && rest.u32()? == 0).then_some(remote)
            };
            let Some(remote) = tail() else { continue };
            if rest.is_empty() && (remote.is_none() || !is_client) {
                let wrap = if hmac_len == 0 {
                    Wrap::Plain
                } else {
                    Wrap::Auth(hmac_len)
                };
                return Some(Self { first, wrap, remote });
            }
        }
        // Number, time, HMAC, then at least the five bytes of an empty message.
        let is_crypt = bytes.len() >= 9 + 8 + CRYPT_LEN + 5 && is_stamp(&bytes[9..]);
        let is_long_enough = op == op::RESET_CLIENT_3 || bytes.len() <= 9 + 8 + CRYPT_LEN + 64;
        (is_crypt && is_long_enough).then_some(Self {
            first,
            wrap: Wrap::Crypt,
            remote: None,
        })
    }
}

/// The number of a first packet, and a time of this century.
fn is_stamp(bytes: &[u8]) -> bool {
    let mut rest = Cursor::new(bytes);
    let (Some(number), Some(time)) = (rest.u32(), rest.u32()) else {
        return false;
    };
    // 0x0f is set where the key of tls-crypt version 2 is negotiated early.
    matches!(number, 1..=4 | 0x0f00_0001) && time > 946_684_800
}

#[derive(Default)]
struct OpenVpnSession {
    /// Bytes between session and acknowledgements; `None` until the client's reset.
    auth_len: Option<usize>,
    controls: usize,
    /// Of the client, by number.
    messages: BTreeMap<u32, Box<[u8]>>,
}

impl Session for OpenVpnSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if out.transport != Transport::Tcp {
            return if side == Side::Client && self.packet(bytes, out).is_none() {
                Step::Done
            } else {
                Step::Take(bytes.len() as u64)
            };
        }
        if side == Side::Server {
            return Step::Take(bytes.len() as u64);
        }
        let mut rest = Cursor::new(bytes);
        loop {
            let mut next = rest;
            let Some(packet) = next.vec16() else {
                return Step::Take((bytes.len() - rest.len()) as u64);
            };
            rest = next;
            if self.packet(packet, out).is_none() {
                return Step::Done;
            }
        }
    }
}

impl OpenVpnSession {
    /// `None` once nothing more is of interest.
    fn packet(&mut self, packet: &[u8], out: &mut Out<'_>) -> Option<()> {
        self.controls += 1;
        if self.controls > CONTROLS_MAX {
            return None;
        }
        let first = *packet.first()?;
        match first >> 3 {
            op::CONTROL => {}
            op::ACK | op::CONTROL_WRAPPED => return Some(()),
            op::DATA_1 | op::DATA_2 => return None,
            _ => {
                self.auth_len = match Control::read(packet)?.wrap {
                    Wrap::Plain => Some(0),
                    Wrap::Auth(hmac_len) => Some(hmac_len + 8),
                    Wrap::Crypt => return None,
                };
                return Some(());
            }
        }
        let mut rest = Cursor::new(packet.get(9 + self.auth_len?..)?);
        let n_acks = usize::from(rest.u8()?);
        if n_acks > 0 {
            rest.take(n_acks * 4 + 8)?;
        }
        let number = rest.u32()?;
        self.messages.entry(number).or_insert_with(|| rest.rest().into());
        self.hello(out)
    }

    /// Looks whether the client's hello is whole; `None` if it is, or there is none.
    fn hello(&self, out: &mut Out<'_>) -> Option<()> {
        let in_order = (1u32..).map_while(|number| self.messages.get(&number));
        let stream: Vec<u8> = in_order.flatten().copied().take(HELLO_MAX).collect();
        let mut records = Cursor::new(&stream);
        let mut messages = Vec::new();
        while records.len() >= 5 {
            if records.u8() != Some(22) {
                break;
            }
            records.u16()?;
            let Some(body) = records.vec16() else { break };
            messages.extend_from_slice(body);
        }
        let mut messages = Cursor::new(&messages);
        if let (Some(kind), Some(body)) = (messages.u8(), messages.vec24()) {
            if kind == 1
                && let Some(hello) = ClientHello::parse(body, false)
            {
                let ja4 = ja4(&hello, Carrier::Tls);
                learn(out.insight, &hello, &ja4);
            }
            return None;
        }
        (stream.len() < HELLO_MAX).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    const OURS: [u8; 8] = [0x33, 0x48, 0x57, 0x70, 0x3d, 0x96, 0xdb, 0x39];
    const THEIRS: [u8; 8] = [0xd3, 0x1c, 0x3a, 0x69, 0x64, 0x60, 0x2f, 0xa0];

    fn auth(len: usize) -> Vec<u8> {
        if len == 0 {
            return Vec::new();
        }
        [vec![0xaa; len], vec![0, 0, 0, 1, 0x50, 0, 0, 0]].concat()
    }

    fn reset(hmac_len: usize) -> Vec<u8> {
        [&[0x38][..], &OURS, &auth(hmac_len), &[0; 5]].concat()
    }

    fn answer(hmac_len: usize) -> Vec<u8> {
        [
            &[0x40][..],
            &THEIRS,
            &auth(hmac_len),
            &[1, 0, 0, 0, 0],
            &OURS,
            &[0; 4],
        ]
        .concat()
    }

    fn control(hmac_len: usize, number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[0x20][..], &OURS, &auth(hmac_len), &[0, 0, 0, 0, number], bytes].concat()
    }

    fn hello() -> Vec<u8> {
        let body = crate::layer7::ja4::tests::hello();
        let len = body.len() as u16;
        let message = [&[1, 0][..], &len.to_be_bytes(), &body].concat();
        [&[22, 3, 1][..], &(len + 4).to_be_bytes(), &message].concat()
    }

    #[test]
    fn hellos() {
        for hmac_len in [0, 20, 64] {
            let hello = hello();
            let (head, tail) = hello.split_at(40);
            let packets = [
                (0, reset(hmac_len)),
                (1, answer(hmac_len)),
                (0, control(hmac_len, 2, tail)),
                (0, control(hmac_len, 1, head)),
            ];
            let said: Vec<(usize, &[u8])> = packets
                .iter()
                .map(|(side, packet)| (*side, &packet[..]))
                .collect();
            kit::check_datagrams(&said, Some("openvpn"), &[]);
            let insight = kit::datagrams(9, &said).insight;
            assert_eq!(insight.host.as_deref(), Some("example.org"));
            let framed: Vec<(usize, Vec<u8>)> = packets
                .iter()
                .map(|(side, packet)| (*side, [&(packet.len() as u16).to_be_bytes()[..], packet].concat()))
                .collect();
            let said: Vec<(usize, &[u8])> =
                framed.iter().map(|(side, packet)| (*side, &packet[..])).collect();
            kit::check_stream(&said, Some("openvpn"), &[]);
            assert_eq!(kit::stream(&said).insight.tls, insight.tls);
        }
    }

    #[test]
    fn crypt() {
        let stamp = [0, 0, 0, 1, 0x60, 0, 0, 0];
        let packet = [&[0x38][..], &OURS, &stamp, &[0xbb; 37]].concat();
        kit::check_datagrams(&[(0, &packet)], Some("openvpn"), &[]);
        let early = [0x0f, 0, 0, 1, 0x60, 0, 0, 0];
        let packet = [&[0x50][..], &OURS, &early, &[0xbb; 400]].concat();
        kit::check_datagrams(&[(0, &packet)], Some("openvpn"), &[]);
    }

    #[test]
    fn others() {
        let data = [&[0x48, 0, 0, 7][..], &[0xcc; 60]].concat();
        kit::check_datagrams_to(1194, &[(0, &data[..]); 3], Some("openvpn"), &[]);
        kit::check_datagrams_to(1194, &[(0, &data[..]); 2], None, &[]);
        kit::check_datagrams(&[(0, &data[..]); 3], None, &[]);
        kit::check_datagrams(&[(0, &[0x38; 50])], None, &[]);
        kit::check_stream(
            &[(0, &[0, 14, 0x38, 1, 2, 3, 4, 5, 6, 7, 8, 1, 0, 0, 0, 0])],
            None,
            &[],
        );
    }
}
