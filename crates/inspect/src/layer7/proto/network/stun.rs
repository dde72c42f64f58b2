//! STUN and TURN (RFC 8489, 8656; RFC 3489 before them), and the media that follows on the same ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use crate::layer7::insight;
use crate::layer7::proto::by_name;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::{Reader, eve_text};
use crate::layer7::record::Record;

#[derive(Debug)]
pub(super) struct Stun;

const HEADER_LEN: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Messages of a flow that are told: what keeps the way open is not.
const TOLD_MAX: u32 = 8;
/// Datagrams that are neither STUN nor known media before the flow is left alone.
const OTHERS_MAX: u32 = 16;

/// Bytes of the message's body, if this is the header of one.
fn body_len(bytes: &[u8]) -> Option<usize> {
    let head = bytes.first_chunk::<HEADER_LEN>()?;
    let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
    // All attributes are padded to four bytes, but by some.
    let is_len = len.is_multiple_of(4) || has_cookie(bytes);
    (head[0] & 0xc0 == 0 && is_len).then_some(len)
}

/// The message behind its length, as media over TCP has it (RFC 4571).
fn framed(bytes: &[u8]) -> Option<&[u8]> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let is_len = has_cookie(rest)
        && body_len(rest).map(|len| HEADER_LEN + len) == Some(usize::from(u16::from_be_bytes(*len)));
    is_len.then_some(rest)
}

fn has_cookie(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(&COOKIE)
}

/// Name of the method, and of the class: request, indication, success, error.
fn kind(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let kind = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
    let class = ["request", "indication", "success", "error"][usize::from(kind >> 7 & 2 | kind >> 4 & 1)];
    let method = match kind & 0xf | kind >> 1 & 0x70 | kind >> 2 & 0xf80 {
        1 => "binding",
        2 => "shared_secret",
        3 => "allocate",
        4 => "refresh",
        6 => "send",
        7 => "data",
        8 => "create_permission",
        9 => "channel_bind",
        10 => "connect",
        11 => "connection_bind",
        12 => "connection_attempt",
        _ => "other",
    };
    Some((method, class))
}

/// Attributes that fill the body.
fn attributes(body: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut reader = Reader::new(body);
    let mut found = Vec::new();
    while !reader.is_empty() {
        let kind = reader.be16()?;
        let data = reader.piece16()?;
        let padding = data.len().next_multiple_of(4) - data.len();
        reader.skip(padding.min(reader.len()))?;
        found.push((kind, data));
    }
    Some(found)
}

impl Protocol for Stun {
    fn name(&self) -> &'static str {
        "stun"
    }

    fn ports(&self) -> &'static [u16] {
        &[3478, 3479, 5349, 19302]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Udp | Transport::Tcp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let bytes = seen.newest();
        let Some(first) = bytes.first() else {
            return Verdict::NeedMore;
        };
        if first & 0xc0 != 0 {
            return Verdict::No;
        }
        let is_udp = seen.transport == Transport::Udp;
        if !is_udp && bytes.len() < HEADER_LEN + 2 {
            let could_be = [4, 6].iter().any(|&at| {
                let cookie = bytes.get(at..).unwrap_or_default();
                COOKIE.starts_with(&cookie[..cookie.len().min(4)])
            });
            return if could_be && *first < 4 {
                Verdict::NeedMore
            } else {
                Verdict::No
            };
        }
        let bytes = if is_udp {
            bytes
        } else {
            framed(bytes).unwrap_or(bytes)
        };
        let Some(len) = body_len(bytes) else {
            return Verdict::No;
        };
        let Some((method, class)) = kind(bytes) else {
            return Verdict::No;
        };
        let is_answer = matches!(class, "success" | "error");
        let client = if is_answer { seen.side.other() } else { seen.side };
        let is_whole = !is_udp || !seen.is_whole || HEADER_LEN + len == bytes.len();
        if has_cookie(bytes) {
            return if is_whole || seen.has_port(3478) {
                Verdict::certain(client)
            } else {
                Verdict::No
            };
        }
        // Before the cookie there was, nothing but the attributes is to be seen.
        let has_attributes = bytes
            .get(HEADER_LEN..HEADER_LEN + len)
            .and_then(attributes)
            .is_some_and(|all| {
                all.iter()
                    .all(|(kind, _)| matches!(kind, 1..=0x24 | 0x8000..=0x8fff))
            });
        let is_classic =
            is_udp && HEADER_LEN + len == bytes.len() && matches!(method, "binding" | "allocate");
        match (is_classic && has_attributes, len) {
            (true, 8..) => Verdict::certain(client),
            (true, _) if seen.has_port(3478) || seen.has_port(3479) => Verdict::certain(client),
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Messages::default())
    }
}

#[derive(Debug, Default)]
struct Messages {
    told: u32,
    others: u32,
}

/// An address, with the cookie over it or not.
fn address(data: &[u8], is_xored: bool, transaction: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    let _reserved = reader.u8()?;
    let family = reader.u8()?;
    let mut port = reader.be16()?;
    let mut bytes = reader.rest().to_vec();
    if is_xored {
        port ^= 0x2112;
        for (byte, mask) in bytes.iter_mut().zip(transaction) {
            *byte ^= mask;
        }
    }
    let address = match family {
        1 => IpAddr::from(Ipv4Addr::from(*bytes.first_chunk::<4>()?)),
        2 => IpAddr::from(Ipv6Addr::from(*bytes.first_chunk::<16>()?)),
        _ => return None,
    };
    Some(std::net::SocketAddr::new(address, port).to_string())
}

impl Messages {
    fn message(&mut self, message: &[u8], out: &mut Out<'_>) {
        self.told += 1;
        let (Some((method, class)), Some(attributes)) = (kind(message), attributes(&message[HEADER_LEN..]))
        else {
            return;
        };
        let mut fields = Map::new();
        fields.insert("method".into(), method.into());
        fields.insert("class".into(), class.into());
        for (kind, data) in attributes {
            let (key, value) = match kind {
                0x0001 => ("mapped_address", address(data, false, &[])),
                0x0006 => ("username", Some(eve_text(data))),
                0x0014 => {
                    out.insight.host = Some(insight::text(data));
                    ("realm", Some(eve_text(data)))
                }
                0x0012 => ("peer_address", address(data, true, &message[4..HEADER_LEN])),
                0x0016 => ("relayed_address", address(data, true, &message[4..HEADER_LEN])),
                0x0020 | 0x8020 => ("mapped_address", address(data, true, &message[4..HEADER_LEN])),
                0x8022 => ("software", Some(eve_text(data))),
                0x0009 => {
                    let code = data
                        .get(2..4)
                        .map(|code| u16::from(code[0] & 7) * 100 + u16::from(code[1]));
                    ("error", code.map(|code| code.to_string()))
                }
                _ => continue,
            };
            if let Some(value) = value {
                fields.insert(key.into(), Value::from(value));
            }
        }
        out.record(Record::fields("stun", fields));
    }
}

impl Session for Messages {
    fn data(&mut self, _: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if out.transport == Transport::Tcp {
            let mut taken = 0;
            while bytes.len() - taken >= HEADER_LEN + 2 {
                let rest = &bytes[taken..];
                let frame_len = if framed(rest).is_some() { 2 } else { 0 };
                let rest = &rest[frame_len..];
                let Some(message) = body_len(rest)
                    .filter(|_| has_cookie(rest))
                    .map(|len| rest.get(..HEADER_LEN + len))
                else {
                    // Data of a channel, or what else goes over the connection.
                    return Step::Done;
                };
                let Some(message) = message else { break };
                if self.told < TOLD_MAX {
                    self.message(message, out);
                }
                taken += frame_len + message.len();
            }
            return Step::Take(taken as u64);
        }
        let taken = bytes.len() as u64;
        match body_len(bytes) {
            Some(len) if HEADER_LEN + len == bytes.len() => {
                if self.told < TOLD_MAX {
                    self.message(bytes, out);
                }
                return Step::Take(taken);
            }
            _ => {}
        }
        // What the first byte means when all share a port: RFC 7983.
        let next = match bytes.first() {
            Some(20..=63) if matches!(bytes.get(1), Some(0xfe)) => by_name("dtls").or_else(|| by_name("tls")),
            Some(128..=191) if bytes.len() >= 12 => by_name(super::super::media::rtp_name(bytes)),
            _ => None,
        };
        if next.is_some() {
            return Step::Switch { taken: 0, to: next };
        }
        self.others += 1;
        if self.others >= OTHERS_MAX {
            return Step::Done;
        }
        Step::Take(taken)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    const REQUEST: &[u8] = b"\0\x01\0\x08\x21\x12\xa4\x42abcdefghijkl\x80\x22\0\x04test";

    #[test]
    fn binding() {
        let answer = b"\x01\x01\0\x0c\x21\x12\xa4\x42abcdefghijkl\0\x20\0\x08\0\x01\x31\x50\xe1\x12\xa6\x43";
        let expected = [
            (
                "stun",
                json!({"method": "binding", "class": "request", "software": "test"}),
            ),
            (
                "stun",
                json!({"method": "binding", "class": "success", "mapped_address": "192.0.2.1:4162"}),
            ),
        ];
        let said: &[(usize, &[u8])] = &[(0, REQUEST), (1, answer)];
        kit::check_datagrams(said, Some("stun"), &expected);
        kit::check_stream(said, Some("stun"), &expected);
    }

    #[test]
    fn media_on_the_same_port() {
        let rtp = b"\x80\x00\x00\x01\0\0\0\0\x12\x34\x56\x78payload.";
        let insight = kit::datagrams(9, &[(0, REQUEST), (0, rtp)]).insight;
        assert_eq!((insight.app_before, insight.app), (Some("stun"), Some("rtp")));
    }
}
