//! NetBIOS over TCP/IP (RFC 1001, 1002): name service, datagrams, and the opening of a session.

use serde_json::{Map, Value};

use crate::layer7::insight;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::record::Record;

/// One of the three services, each under its own name.
#[derive(Debug)]
pub(super) enum NetBios {
    Names,
    Datagrams,
    Sessions,
}

/// Letters of an encoded name: two for each of 16 bytes.
const ENCODED_LEN: usize = 32;
/// Bytes of a name on the wire when no scope follows: its length, its letters, the root.
const NAME_LEN: usize = ENCODED_LEN + 2;
const NS_HEADER_LEN: usize = 12;
const DATAGRAM_HEADER_LEN: usize = 14;
/// Of a session message: type, flags, length.
const SESSION_HEADER_LEN: usize = 4;

/// The name that stands at the beginning of these bytes, and its last byte, which says what has it.
fn name(bytes: &[u8]) -> Option<(Box<str>, u8)> {
    let (&len, rest) = bytes.split_first()?;
    let letters = rest.first_chunk::<ENCODED_LEN>()?;
    if usize::from(len) != ENCODED_LEN || !letters.iter().all(|letter| (b'A'..=b'P').contains(letter)) {
        return None;
    }
    let mut plain = [0; ENCODED_LEN / 2];
    for (byte, pair) in plain.iter_mut().zip(letters.chunks_exact(2)) {
        *byte = (pair[0] - b'A') << 4 | (pair[1] - b'A');
    }
    let [text @ .., suffix] = plain;
    // A query for the state of a node asks for `*` and zeros.
    let text = text.trim_ascii_end();
    let end = text.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
    Some((insight::text(&text[..end]), suffix))
}

fn name_service(bytes: &[u8]) -> Option<(&'static str, (Box<str>, u8))> {
    let [_, _, flags, ..] = *bytes.first_chunk::<NS_HEADER_LEN>()?;
    let is_response = flags & 0x80 != 0;
    let opcode = match flags >> 3 & 15 {
        0 => "query",
        5 => "registration",
        6 => "release",
        7 => "wait_for_acknowledgement",
        8 | 9 => "refresh",
        15 => "multihomed_registration",
        _ => return None,
    };
    let name = name(&bytes[NS_HEADER_LEN..])?;
    let kind = bytes.get(NS_HEADER_LEN + NAME_LEN..)?.first_chunk::<4>()?;
    // Names and states of nodes; answers also have plain records.
    let is_kind = match kind {
        [0, 0x20 | 0x21, 0, 1] => true,
        [0, 1 | 2 | 10, 0, 1] => is_response,
        _ => false,
    };
    is_kind.then_some((opcode, name))
}

fn datagram(bytes: &[u8]) -> Option<(&'static str, (Box<str>, u8))> {
    let head = bytes.first_chunk::<DATAGRAM_HEADER_LEN>()?;
    let kind = match head[0] {
        0x10 => "direct_unique",
        0x11 => "direct_group",
        0x12 => "broadcast",
        _ => return None,
    };
    if head[1] & 0xf0 != 0 {
        return None;
    }
    let source = name(&bytes[DATAGRAM_HEADER_LEN..])?;
    Some((kind, source))
}

/// A session request: called and calling name.
fn session_request(bytes: &[u8]) -> Verdict {
    match *bytes {
        [] => Verdict::NeedMore,
        [0x81] | [0x81, 0] | [0x81, 0, 0] => Verdict::NeedMore,
        [0x81, 0, 0, len, ref rest @ ..] if usize::from(len) >= 2 * NAME_LEN => {
            if rest.len() < NAME_LEN {
                let is_begin = rest.iter().enumerate().all(|(at, &byte)| match at {
                    0 => usize::from(byte) == ENCODED_LEN,
                    1..=ENCODED_LEN => (b'A'..=b'P').contains(&byte),
                    _ => byte == 0,
                });
                return if is_begin { Verdict::NeedMore } else { Verdict::No };
            }
            if name(rest).is_some() {
                Verdict::CERTAIN
            } else {
                Verdict::No
            }
        }
        _ => Verdict::No,
    }
}

impl Protocol for NetBios {
    fn name(&self) -> &'static str {
        match self {
            Self::Names => "nbns",
            Self::Datagrams => "nbdgm",
            Self::Sessions => "nbss",
        }
    }

    fn ports(&self) -> &'static [u16] {
        match self {
            Self::Names => &[137],
            Self::Datagrams => &[138],
            Self::Sessions => &[139],
        }
    }

    fn runs_over(&self, transport: Transport) -> bool {
        match self {
            Self::Names | Self::Datagrams => transport == Transport::Udp,
            Self::Sessions => transport == Transport::Tcp,
        }
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let bytes = seen.newest();
        match self {
            // To a name server such a name is a name like others.
            Self::Names if name_service(bytes).is_some() && !seen.has_port(53) => {
                let is_response = bytes[2] & 0x80 != 0;
                Verdict::certain(if is_response { seen.side.other() } else { seen.side })
            }
            Self::Datagrams if datagram(bytes).is_some() => Verdict::CERTAIN,
            Self::Sessions => session_request(seen.client()),
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Names)
    }
}

#[derive(Debug)]
struct Names;

fn tell(service: &'static str, kind: &str, (name, suffix): (Box<str>, u8), side: Side, out: &mut Out<'_>) {
    if side == Side::Client {
        out.insight.host.get_or_insert_with(|| name.clone());
    }
    if out.wants_records() {
        let mut fields = Map::new();
        fields.insert("type".into(), kind.into());
        fields.insert("name".into(), Value::from(&*name));
        fields.insert("suffix".into(), format!("{suffix:02x}").into());
        out.record(Record::fields(service, fields));
    }
}

impl Session for Names {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if out.transport != Transport::Tcp {
            if let Some((kind, name)) = name_service(bytes) {
                tell("nbns", kind, name, side, out);
            } else if let Some((kind, name)) = datagram(bytes) {
                tell("nbdgm", kind, name, side, out);
            }
            return Step::Take(bytes.len() as u64);
        }
        let Some(&[kind, flags, high, low]) = bytes.first_chunk::<SESSION_HEADER_LEN>() else {
            return Step::Take(0);
        };
        let len = usize::from(flags & 1) << 16 | usize::from(high) << 8 | usize::from(low);
        let Some(body) = bytes.get(SESSION_HEADER_LEN..SESSION_HEADER_LEN + len) else {
            return Step::Take(0);
        };
        match (kind, side) {
            (0x81, Side::Client) => {
                if let Some(name) = name(body) {
                    tell("nbss", "request", name, side, out);
                }
                Step::Take((SESSION_HEADER_LEN + len) as u64)
            }
            // Accepted: what follows is what the session is for, mostly SMB.
            (0x82, Side::Server) => Step::Switch {
                taken: SESSION_HEADER_LEN + len,
                to: None,
            },
            _ => Step::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    /// `NAME` and 0x20 behind blanks.
    const NAME: &[u8] = b"\x20EOEBENEFCACACACACACACACACACACACA\0";

    #[test]
    fn names_datagrams_and_sessions() {
        let query = [b"\x12\x34\x01\x10\0\x01\0\0\0\0\0\0", NAME, b"\0\x20\0\x01"].concat();
        kit::check_datagrams(
            &[(0, &query)],
            Some("nbns"),
            &[("nbns", json!({ "type": "query", "name": "NAME", "suffix": "20"}))],
        );
        let datagram = [b"\x11\x0a\x12\x34\xc0\0\x02\x01\0\x8a\0\xbb\0\0", NAME, NAME].concat();
        kit::check_datagrams(
            &[(0, &datagram)],
            Some("nbdgm"),
            &[(
                "nbdgm",
                json!({ "type": "direct_group", "name": "NAME", "suffix": "20"}),
            )],
        );
        let request = [b"\x81\0\0\x44", NAME, NAME].concat();
        let outcome = kit::stream(&[(0, &request), (1, b"\x82\0\0\0")]);
        assert_eq!(outcome.insight.app_before, Some("nbss"));
        assert_eq!(outcome.insight.host.as_deref(), Some("NAME"));
        kit::check_cuts(&[(0, &request), (1, b"\x82\0\0\0")]);
        kit::check_stream(&[(0, b"\x81\0\0\x44 not a name at all")], None, &[]);
    }
}
