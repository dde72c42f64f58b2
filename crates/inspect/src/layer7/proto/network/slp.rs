//! Service Location Protocol, version 1 (RFC 2165) and 2 (RFC 2608).

use serde_json::Map;

use crate::layer7::insight;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::{Reader, eve_text};
use crate::layer7::record::Record;

#[derive(Debug)]
pub(super) struct Slp;

const FUNCTIONS: [&str; 11] = [
    "service_request",
    "service_reply",
    "service_registration",
    "service_deregister",
    "service_acknowledge",
    "attribute_request",
    "attribute_reply",
    "directory_agent_advertisement",
    "service_type_request",
    "service_type_reply",
    "service_agent_advertisement",
];

/// Version, name of the function, and what follows the header, of a message that is as long as it says.
/// `None` in the last place: more bytes are needed.
fn read(bytes: &[u8]) -> Option<(u8, u8, usize, usize)> {
    let &[version, function, ..] = bytes else {
        return None;
    };
    if !(1..=11).contains(&function) {
        return None;
    }
    let mut reader = Reader::new(&bytes[2..]);
    match version {
        1 => {
            let len = usize::from(reader.be16()?);
            let flags = reader.u8()?;
            let _dialect = reader.u8()?;
            let language = reader.array::<2>()?;
            let is_language = language.iter().all(u8::is_ascii_lowercase);
            (len >= 12 && flags & 7 == 0 && is_language).then_some((version, function, len, 12))
        }
        2 => {
            let [a, b, c] = reader.array::<3>()?;
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            let flags = reader.be16()?;
            let _extension = reader.array::<3>()?;
            let _id = reader.be16()?;
            let language = reader.piece16()?;
            let is_language = (1..=16).contains(&language.len())
                && language
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
            let header_len = 14 + language.len();
            (len >= header_len && flags & 0x1fff == 0 && is_language)
                .then_some((version, function, len, header_len))
        }
        _ => None,
    }
}

impl Protocol for Slp {
    fn name(&self) -> &'static str {
        "slp"
    }

    fn ports(&self) -> &'static [u16] {
        &[427]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Udp | Transport::Tcp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let bytes = seen.newest();
        let is_udp = seen.transport == Transport::Udp;
        if !is_udp && bytes.len() < 18 {
            let could_be = match bytes {
                [] => true,
                [version, rest @ ..] => {
                    matches!(version, 1 | 2)
                        && rest.first().is_none_or(|function| (1..=11).contains(function))
                        && seen.has_port(427)
                }
            };
            return if could_be { Verdict::NeedMore } else { Verdict::No };
        }
        match read(bytes) {
            Some((_, function, len, _)) if !is_udp || len == bytes.len() => {
                let is_answer = matches!(function, 2 | 5 | 7 | 10);
                let client = if is_answer { seen.side.other() } else { seen.side };
                if is_udp || seen.has_port(427) {
                    Verdict::certain(client)
                } else {
                    Verdict::No
                }
            }
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Messages)
    }
}

#[derive(Debug)]
struct Messages;

/// Longest message over TCP that is read.
const MESSAGE_MAX: usize = 65_535;

impl Session for Messages {
    fn data(&mut self, _: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let is_stream = out.transport == Transport::Tcp;
        let mut taken = 0;
        loop {
            let bytes = &bytes[taken..];
            if bytes.is_empty() || is_stream && bytes.len() < 18 {
                break;
            }
            let Some((version, function, len, header_len)) = read(bytes) else {
                return Step::Done;
            };
            if len > MESSAGE_MAX {
                return Step::Done;
            }
            let Some(message) = bytes.get(..len) else {
                break;
            };
            let mut fields = Map::new();
            fields.insert("version".into(), version.into());
            fields.insert("type".into(), FUNCTIONS[usize::from(function) - 1].into());
            let mut reader = Reader::new(&message[header_len..]);
            // After the list of those who answered before stands what is asked for.
            if function == 1
                && reader.piece16().is_some()
                && let Some(service) = reader.piece16()
            {
                out.insight.host = Some(insight::text(service));
                fields.insert("service".into(), eve_text(service).into());
            }
            out.record(Record::fields("slp", fields));
            taken += len;
            if !is_stream {
                break;
            }
        }
        Step::Take(taken as u64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    #[test]
    fn a_request() {
        let request = b"\x02\x01\0\0\x23\0\0\0\0\0\x12\x34\0\x02en\0\0\0\x09service:x\0\0\0\0\0\0";
        kit::check_datagrams_to(
            427,
            &[(0, request)],
            Some("slp"),
            &[(
                "slp",
                json!({"version": 2, "type": "service_request", "service": "service:x"}),
            )],
        );
        kit::check_datagrams_to(427, &[(0, &request[..20])], None, &[]);
    }
}
