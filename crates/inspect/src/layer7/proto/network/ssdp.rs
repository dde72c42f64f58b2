//! Simple Service Discovery Protocol (UPnP Device Architecture 2.0): HTTP's headers over UDP.

use serde_json::{Map, Value};

use crate::layer7::insight;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::eve_text;
use crate::layer7::record::Record;

#[derive(Debug)]
pub(super) struct Ssdp;

const METHODS: [&[u8]; 3] = [b"M-SEARCH *", b"NOTIFY *", b"B-NOTIFY *"];
const ANSWER: &[u8] = b"HTTP/1.1 200 ";
/// Headers that are told, as they are written there and here.
const HEADERS: [(&str, &str); 9] = [
    ("host", "host"),
    ("st", "st"),
    ("nt", "nt"),
    ("nts", "nts"),
    ("man", "man"),
    ("usn", "usn"),
    ("location", "location"),
    ("server", "server"),
    ("user-agent", "user_agent"),
];

fn has_header(bytes: &[u8], names: &[&str]) -> bool {
    headers(bytes).any(|(name, _)| {
        names
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
    })
}

fn headers(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    bytes.split(|&byte| byte == b'\n').skip(1).filter_map(|line| {
        let at = line.iter().position(|&byte| byte == b':')?;
        Some((line[..at].trim_ascii(), line[at + 1..].trim_ascii()))
    })
}

impl Protocol for Ssdp {
    fn name(&self) -> &'static str {
        "ssdp"
    }

    fn ports(&self) -> &'static [u16] {
        &[1900]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let bytes = seen.newest();
        if METHODS.iter().any(|method| bytes.starts_with(method)) {
            Verdict::certain(seen.side)
        } else if bytes.starts_with(ANSWER) && (seen.has_port(1900) || has_header(bytes, &["st", "usn"])) {
            Verdict::certain(seen.side.other())
        } else {
            Verdict::No
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
        let method = bytes.split(|&byte| byte == b' ').next().unwrap_or_default();
        let mut fields = Map::new();
        if method.starts_with(b"HTTP") {
            fields.insert("type".into(), "response".into());
        } else {
            fields.insert("type".into(), "request".into());
            fields.insert("method".into(), eve_text(method).into());
        }
        for (name, value) in headers(bytes).take(64) {
            let Some((_, key)) = HEADERS
                .iter()
                .find(|(header, _)| name.eq_ignore_ascii_case(header.as_bytes()))
            else {
                continue;
            };
            match *key {
                "user_agent" => {
                    let http = out.insight.http.get_or_insert_default();
                    http.user_agent = Some(insight::text(value));
                }
                "host" => out.insight.host = Some(insight::text(value)),
                _ => {}
            }
            fields.insert((*key).into(), Value::from(eve_text(value)));
        }
        out.record(Record::fields("ssdp", fields));
        Step::Take(bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    #[test]
    fn search_and_answer() {
        let search = b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nST: ssdp:all\r\n\r\n";
        let answer = b"HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLOCATION: http://192.0.2.1/d.xml\r\n\r\n";
        kit::check_datagrams(
            &[(0, search), (1, answer)],
            Some("ssdp"),
            &[
                (
                    "ssdp",
                    json!({
                        "type": "request", "method": "M-SEARCH", "host": "239.255.255.250:1900",
                        "man": "\"ssdp:discover\"", "st": "ssdp:all",
                    }),
                ),
                (
                    "ssdp",
                    json!({
                        "type": "response", "st": "upnp:rootdevice", "location": "http://192.0.2.1/d.xml",
                    }),
                ),
            ],
        );
        kit::check_datagrams(&[(0, b"HTTP/1.1 200 OK\r\nServer: a\r\n\r\n")], None, &[]);
    }
}
