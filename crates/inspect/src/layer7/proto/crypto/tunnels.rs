//! Tunnels of which little is to be told: PPTP (RFC 2637), L2TP (RFC 2661, 3931), tinc, SoftEther.

use serde_json::Map;

use crate::layer7::cursor::Cursor;
use crate::layer7::insight::text;
use crate::layer7::protocol::{
    Expected, NameOnly, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict,
};
use crate::layer7::record::Record;

#[derive(Debug)]
pub(in crate::layer7::proto) struct Pptp;

/// Of every control message, behind length and type.
const PPTP_COOKIE: [u8; 4] = [0x1a, 0x2b, 0x3c, 0x4d];
/// Length of the messages that begin a control connection.
const PPTP_START_LEN: usize = 156;

impl Protocol for Pptp {
    fn name(&self) -> &'static str {
        "pptp"
    }

    fn ports(&self) -> &'static [u16] {
        &[1723]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        for side in [Side::Client, Side::Server] {
            let bytes = seen.data[side.index()];
            let expected = [
                0,
                1,
                PPTP_COOKIE[0],
                PPTP_COOKIE[1],
                PPTP_COOKIE[2],
                PPTP_COOKIE[3],
            ];
            // A length of up to 220, then type 1 and the cookie.
            let Some(&first) = bytes.first() else { continue };
            let known = bytes.get(2..8.min(bytes.len())).unwrap_or_default();
            if first != 0 || !expected.starts_with(known) {
                return Verdict::No;
            }
            if known.len() == expected.len() {
                // Requests have odd numbers, answers even ones; only the first are told apart so.
                let is_answer = bytes.get(8..10) == Some(&[0, 2]);
                return Verdict::certain(if is_answer { side.other() } else { side });
            }
        }
        Verdict::NeedMore
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(PptpSession)
    }
}

struct PptpSession;

impl Session for PptpSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if bytes.len() < 10 {
            return Step::Take(0);
        }
        let kind = u16::from_be_bytes([bytes[8], bytes[9]]);
        if !matches!(kind, 1 | 2) {
            return Step::Done;
        }
        let Some(message) = bytes.get(..PPTP_START_LEN) else {
            return Step::Take(0);
        };
        let name = |at: usize| {
            let bytes = &message[at..at + 64];
            text(bytes.split(|&byte| byte == 0).next().unwrap_or_default())
        };
        let (host, vendor) = (name(28), name(92));
        let mut fields = Map::new();
        let kind = if kind == 1 { "request" } else { "reply" };
        fields.insert("type".to_owned(), kind.into());
        fields.insert("hostname".to_owned(), host.as_ref().into());
        fields.insert("vendor".to_owned(), vendor.as_ref().into());
        out.record_of(side, Record::fields("pptp", fields));
        if side == Side::Server {
            if !host.is_empty() {
                out.insight.host = Some(host);
            }
            return Step::Done;
        }
        Step::Take(PPTP_START_LEN as u64)
    }
}

#[derive(Debug)]
pub(in crate::layer7::proto) struct L2tp;

impl Protocol for L2tp {
    fn name(&self) -> &'static str {
        "l2tp"
    }

    fn ports(&self) -> &'static [u16] {
        &[1701]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Udp | Transport::Other(115))
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        if seen.transport != Transport::Udp {
            return Verdict::CERTAIN;
        }
        let bytes = seen.newest();
        let Some(&[flags, version, high, low]) = bytes.first_chunk::<4>() else {
            return Verdict::No;
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let is_whole = len == bytes.len();
        match (flags, version) {
            // Control: type, length and sequence are there; the first pair names the message.
            (0xc8, 2 | 3) if is_whole => match bytes.get(12..18) {
                Some([0x80, 8, 0, 0, 0, 0]) => Verdict::certain(seen.side),
                None if seen.has_port(1701) => Verdict::LIKELY,
                _ => Verdict::No,
            },
            // Data with a length.
            (0x40 | 0x42 | 0x48 | 0x4a, 2) if is_whole && seen.has_port(1701) => Verdict::LIKELY,
            (0 | 2 | 8 | 10, 2) if bytes.len() > 12 && seen.has_port(1701) => Verdict::LIKELY,
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

#[derive(Debug)]
pub(in crate::layer7::proto) struct Tinc;

const TINC_LINE_MAX: usize = 128;

impl Protocol for Tinc {
    fn name(&self) -> &'static str {
        "tinc"
    }

    fn ports(&self) -> &'static [u16] {
        &[655]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Tcp | Transport::Udp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        // Over UDP everything is encrypted: only an announced flow is known.
        if seen.transport == Transport::Udp {
            return Verdict::No;
        }
        for bytes in seen.data {
            if bytes.is_empty() {
                continue;
            }
            let line = &bytes[..bytes.len().min(TINC_LINE_MAX)];
            let Some(end) = memchr::memchr(b'\n', line) else {
                let could_be = b"0 ".starts_with(&line[..line.len().min(2)]);
                return if could_be && line.len() < TINC_LINE_MAX {
                    Verdict::NeedMore
                } else {
                    Verdict::No
                };
            };
            return if is_tinc_id(&line[..end]) {
                Verdict::CERTAIN
            } else {
                Verdict::No
            };
        }
        Verdict::NeedMore
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(TincSession)
    }
}

/// `0 name 17` or, since 1.1, `0 name 17.7`.
fn is_tinc_id(line: &[u8]) -> bool {
    let mut words = line.split(|&byte| byte == b' ');
    let is_name = |name: &[u8]| {
        !name.is_empty()
            && name
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'^'))
    };
    let is_version = |version: &[u8]| {
        let major = version.split(|&byte| byte == b'.').next().unwrap_or_default();
        major.len() == 2
            && major[0] == b'1'
            && version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
    };
    words.next() == Some(b"0") && words.next().is_some_and(is_name) && words.next().is_some_and(is_version)
}

struct TincSession;

impl Session for TincSession {
    fn data(&mut self, side: Side, _: &[u8], out: &mut Out<'_>) -> Step {
        if out.transport != Transport::Tcp {
            return Step::Done;
        }
        // The same ports carry the packets.
        if side == Side::Server {
            let [_, server] = out.addresses;
            let expected = Expected {
                protocol: &Tinc,
                about: None,
            };
            out.expect(Transport::Udp, server, out.ports[1], expected);
            return Step::Done;
        }
        Step::Take(0)
    }
}

#[derive(Debug)]
pub(in crate::layer7::proto) struct SoftEther;

/// Elements of a pack, and their names, that are believed.
const PACK_ELEMENTS_MAX: u32 = 256;
const PACK_NAME_MAX: u32 = 64;

impl Protocol for SoftEther {
    fn name(&self) -> &'static str {
        "softether"
    }

    fn ports(&self) -> &'static [u16] {
        &[5004]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let bytes = seen.newest();
        match bytes {
            // Asks for its own address.
            [b'A'] if seen.has_port(5004) => Verdict::LIKELY,
            [b'A' | b'B'] => Verdict::NeedMore,
            [b'I', b'P', b'=', rest @ ..] if is_address(rest) => Verdict::certain(seen.side.other()),
            _ if is_pack(bytes) => {
                let is_answer = matches!(seen.ports[seen.side.index()], 5004);
                Verdict::certain(if is_answer { seen.side.other() } else { seen.side })
            }
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

/// `192.0.2.1,PORT=5004`
fn is_address(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(2, |&byte| byte == b',');
    let is_ip =
        |part: &[u8]| std::str::from_utf8(part).is_ok_and(|part| part.parse::<std::net::IpAddr>().is_ok());
    let is_port = |part: &[u8]| {
        part.strip_prefix(b"PORT=").is_some_and(|port| {
            !port.is_empty() && port.iter().all(|byte| byte.is_ascii_digit() || *byte == 0)
        })
    };
    parts.next().is_some_and(is_ip) && parts.next().is_some_and(is_port)
}

/// Named values, to the last byte.
fn is_pack(bytes: &[u8]) -> bool {
    let mut rest = Cursor::new(bytes);
    let mut read = || -> Option<()> {
        let n_elements = rest.u32().filter(|n| (1..=PACK_ELEMENTS_MAX).contains(n))?;
        for _ in 0..n_elements {
            // Counts a zero that is not sent.
            let name_len = rest.u32().filter(|len| (2..=PACK_NAME_MAX).contains(len))?;
            let name = rest.take(name_len as usize - 1)?;
            let is_name =
                |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'@' | b'-');
            name.iter().all(is_name).then_some(())?;
            let kind = rest.u32()?;
            let n_values = rest.u32().filter(|n| *n <= PACK_ELEMENTS_MAX)?;
            for _ in 0..n_values {
                match kind {
                    0 => rest.take(4)?,
                    4 => rest.take(8)?,
                    1..=3 => {
                        let len = rest.u32()?;
                        rest.take(len as usize)?
                    }
                    _ => return None,
                };
            }
        }
        Some(())
    };
    // Random bytes may follow, to hide the length.
    read().is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    #[test]
    fn pptp() {
        let message = |kind: u8| {
            let mut message = vec![0, 156, 0, 1, 0x1a, 0x2b, 0x3c, 0x4d, 0, kind];
            message.resize(156, 0);
            message[28..32].copy_from_slice(b"peer");
            message[92..97].copy_from_slice(b"Linux");
            message
        };
        let body = |kind: &str| {
            (
                "pptp",
                json!({"type": kind, "hostname": "peer", "vendor": "Linux"}),
            )
        };
        kit::check_stream(
            &[(0, &message(1)), (1, &message(2))],
            Some("pptp"),
            &[body("request"), body("reply")],
        );
        kit::check_stream(&[(0, &[0, 156, 0, 1, 0x1a, 0x2b, 0x3c, 0x4e])], None, &[]);
    }

    #[test]
    fn l2tp() {
        let control = [0xc8, 2, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 8, 0, 0, 0, 0, 0, 1];
        kit::check_datagrams(&[(0, &control)], Some("l2tp"), &[]);
        kit::check_datagrams(&[(0, &control[..19])], None, &[]);
        let data = [0x40, 2, 0, 12, 0, 1, 0, 1, 0xff, 3, 0, 0x21];
        kit::check_datagrams_to(1701, &[(0, &data)], Some("l2tp"), &[]);
        kit::check_datagrams(&[(0, &data)], None, &[]);
    }

    #[test]
    fn tinc() {
        let said = [(0, &b"0 one 17\n1 94 64 0 0 AB\n"[..]), (1, b"0 other 17.7\n")];
        kit::check_stream(&said, Some("tinc"), &[]);
        kit::check_stream(&[(0, b"0 one 27\n")], None, &[]);
        kit::check_stream(&[(0, b"0 o/ne 17\n")], None, &[]);
    }

    #[test]
    fn softether() {
        kit::check_datagrams(
            &[(0, b"A"), (1, b"IP=192.0.2.1,PORT=51381")],
            Some("softether"),
            &[],
        );
        kit::check_datagrams(&[(0, b"A"), (1, b"IP=192.0.2.x,PORT=51381")], None, &[]);
        kit::check_datagrams_to(5004, &[(0, b"A")], Some("softether"), &[]);
        let pack = b"\0\0\0\x02\0\0\0\x06first\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x03ip\0\0\0\x02\0\0\0\x01\0\0\0\x04abcd";
        kit::check_datagrams(&[(0, pack)], Some("softether"), &[]);
        kit::check_datagrams(&[(0, &pack[..pack.len() - 1])], None, &[]);
    }
}
