//! Link-Local Multicast Name Resolution (RFC 4795).

use crate::layer7::protocol::{Protocol, Seen, Session, Transport, Verdict};

use super::dns::{Messages, probe_message};

#[derive(Debug)]
pub(super) struct Llmnr;

pub(super) const PORT: u16 = 5355;

impl Protocol for Llmnr {
    fn name(&self) -> &'static str {
        "llmnr"
    }

    fn ports(&self) -> &'static [u16] {
        &[PORT]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        if !seen.has_port(PORT) {
            return Verdict::No;
        }
        probe_message(seen, true)
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Messages::new("llmnr"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    #[test]
    fn a_question() {
        kit::check_datagrams_to(
            5355,
            &[(0, b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x04wpad\0\0\x01\0\x01")],
            Some("llmnr"),
            &[(
                "llmnr",
                json!({
                    "version": 3, "type": "request", "tx_id": 0, "id": 0x1234, "flags": "0", "opcode": 0,
                    "rcode": "NOERROR", "queries": [{"rrname": "wpad", "rrtype": "A"}],
                }),
            )],
        );
    }
}
