//! Multicast DNS (RFC 6762).

use crate::layer7::protocol::{Protocol, Seen, Session, Side, Transport, Verdict};

use super::dns::{Messages, probe_message};

#[derive(Debug)]
pub(super) struct Mdns;

pub(super) const PORT: u16 = 5353;

impl Protocol for Mdns {
    fn name(&self) -> &'static str {
        "mdns"
    }

    fn ports(&self) -> &'static [u16] {
        &[PORT]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        // A name server may be asked from any port.
        if !seen.has_port(PORT) || seen.has_port(53) {
            return Verdict::No;
        }
        // Whoever speaks first, even with an answer, is not asked for it.
        match probe_message(seen, true) {
            Verdict::Match { sure, .. } => Verdict::Match {
                sure,
                client: Side::Client,
            },
            other => other,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Messages::new("mdns"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    #[test]
    fn questions_and_announcements() {
        let query = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x05_http\x04_tcp\x05local\0\0\x0c\x80\x01";
        let mut answer = b"\0\0\x84\0\0\0\0\x02\0\0\0\0\x05_http\x04_tcp\x05local\0\0\x0c\x80\x01".to_vec();
        answer.extend(b"\0\0\x11\x94\0\x04\x01A\xc0\x0c");
        answer.extend(b"\xc0\x28\0\x10\x80\x01\0\0\x11\x94\0\x04\x03k=v");
        kit::check_datagrams_to(
            5353,
            &[(0, query), (1, &answer)],
            Some("mdns"),
            &[
                (
                    "mdns",
                    json!({
                        "type": "request", "id": 0, "flags": "0", "opcode": 0, "rcode": "NOERROR",
                        "queries": [{"rrname": "_http._tcp.local", "rrtype": "ptr"}],
                    }),
                ),
                (
                    "mdns",
                    json!({
                        "type": "response", "id": 0, "flags": "8400", "qr": true, "aa": true, "opcode": 0,
                        "rcode": "NOERROR",
                        "answers": [
                            {"rrname": "_http._tcp.local", "ptr": "A._http._tcp.local"},
                            {"rrname": "A._http._tcp.local", "txt": ["k=v"]},
                        ],
                    }),
                ),
            ],
        );
    }
}
