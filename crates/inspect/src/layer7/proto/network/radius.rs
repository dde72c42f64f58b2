//! RADIUS (RFC 2865, 2866, 5176).

use std::net::Ipv4Addr;

use serde_json::{Map, Value};

use crate::layer7::insight;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::{Reader, eve_text};
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Radius;

const HEADER_LEN: usize = 20;
const PORTS: &[u16] = &[1812, 1813, 1645, 1646, 3799];

/// Name of a code, and whether the client sends it.
fn code(code: u8) -> Option<(&'static str, bool)> {
    Some(match code {
        1 => ("access_request", true),
        2 => ("access_accept", false),
        3 => ("access_reject", false),
        4 => ("accounting_request", true),
        5 => ("accounting_response", false),
        11 => ("access_challenge", false),
        12 => ("status_server", true),
        40 => ("disconnect_request", true),
        41 => ("disconnect_ack", false),
        42 => ("disconnect_nak", false),
        43 => ("coa_request", true),
        44 => ("coa_ack", false),
        45 => ("coa_nak", false),
        _ => return None,
    })
}

/// Types and data.
type Attributes<'a> = Vec<(u8, &'a [u8])>;

/// Attributes, and whether they fill the message exactly.
fn attributes(bytes: &[u8]) -> Option<(Attributes<'_>, bool)> {
    let [_, _, high, low, ..] = *bytes else {
        return None;
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    let mut reader = Reader::new(bytes.get(HEADER_LEN..len)?);
    let mut found = Vec::new();
    let mut next = || {
        let kind = reader.u8()?;
        let len = usize::from(reader.u8()?).checked_sub(2)?;
        Some((kind, reader.take(len)?))
    };
    while let Some(attribute) = next() {
        found.push(attribute);
    }
    // A few bytes may pad the datagram.
    Some((found, reader.is_empty() && bytes.len() < len + 4))
}

impl Protocol for Radius {
    fn name(&self) -> &'static str {
        "radius"
    }

    fn ports(&self) -> &'static [u16] {
        PORTS
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let bytes = seen.newest();
        let Some((_, is_client)) = bytes.first().and_then(|byte| code(*byte)) else {
            return Verdict::No;
        };
        let Some((attributes, is_whole)) = attributes(bytes) else {
            return Verdict::No;
        };
        let client = if is_client { seen.side } else { seen.side.other() };
        let has_port = PORTS.iter().any(|&port| seen.has_port(port));
        let is_usual = attributes
            .iter()
            .all(|(kind, data)| *kind != 0 && !data.is_empty());
        match (has_port, attributes.len()) {
            (true, _) | (_, 3..) if is_usual && is_whole => Verdict::certain(client),
            (true, 1..) if is_usual => Verdict::likely(client),
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Messages)
    }
}

#[derive(Debug)]
struct Messages;

impl Session for Messages {
    fn data(&mut self, _: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let taken = Step::Take(bytes.len() as u64);
        let Some((kind, _)) = bytes.first().and_then(|byte| code(*byte)) else {
            return taken;
        };
        let Some((attributes, is_whole)) = attributes(bytes) else {
            return taken;
        };
        if !is_whole {
            out.anomaly(Anomaly::parser("malformed_attributes", Severity::Medium));
        }
        match bytes[0] {
            1 => out.login(Login::Attempted),
            2 => out.login(Login::Succeeded),
            3 => out.login(Login::Failed),
            _ => {}
        }
        let mut fields = Map::new();
        fields.insert("type".into(), kind.into());
        fields.insert("id".into(), bytes[1].into());
        for (kind, data) in attributes {
            let text = || Value::from(eve_text(data));
            let address = || {
                data.as_array::<4>()
                    .map(|&address| Value::from(Ipv4Addr::from(address).to_string()))
            };
            let number = || {
                data.as_array::<4>()
                    .map(|&number| Value::from(u32::from_be_bytes(number)))
            };
            let (key, value) = match kind {
                1 => {
                    out.insight.user = Some(insight::text(data));
                    ("user_name", Some(text()))
                }
                4 => ("nas_ip", address()),
                5 => ("nas_port", number()),
                6 => ("service_type", number()),
                8 => ("framed_ip", address()),
                18 => ("reply_message", Some(text())),
                30 => ("called_station_id", Some(text())),
                31 => ("calling_station_id", Some(text())),
                32 => ("nas_identifier", Some(text())),
                40 => ("accounting_status", number()),
                44 => ("session_id", Some(text())),
                _ => continue,
            };
            if let Some(value) = value {
                fields.insert(key.into(), value);
            }
        }
        out.record(Record::fields("radius", fields));
        taken
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    #[test]
    fn a_log_in_that_fails() {
        let request = [
            b"\x01\x07\0\x20".as_slice(),
            &[9; 16],
            b"\x01\x06user\x04\x06\xc0\0\x02\x01",
        ]
        .concat();
        let reject = [b"\x03\x07\0\x14".as_slice(), &[8; 16]].concat();
        let said: &[(usize, &[u8])] = &[(0, &request), (1, &reject)];
        kit::check_datagrams_to(
            1812,
            said,
            Some("radius"),
            &[
                (
                    "radius",
                    json!({"type": "access_request", "id": 7, "user_name": "user", "nas_ip": "192.0.2.1"}),
                ),
                ("radius", json!({"type": "access_reject", "id": 7})),
            ],
        );
        let insight = kit::datagrams(1812, said).insight;
        assert_eq!((insight.logins_attempted, insight.logins_failed), (1, 1));
        assert_eq!(insight.user.as_deref(), Some("user"));
        kit::check_datagrams_to(1812, &[(0, &[1; 40])], None, &[]);
    }
}
