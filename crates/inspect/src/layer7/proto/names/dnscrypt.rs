//! DNSCrypt version 2: the question for a resolver's certificate goes as plain DNS, what follows is
//! encrypted.

use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};

use super::dns::Messages;
use super::message::Header;

#[derive(Debug)]
pub(super) struct DnsCrypt;

/// First bytes of an encrypted answer.
const RESOLVER_MAGIC: &[u8; 8] = b"r6fnvWj8";
/// Where the name asked for stands, and how it begins: version 2 of the protocol.
const NAME_AT: usize = 12;
const CERTIFICATE_NAME: &[u8] = b"\x012\x0ddnscrypt-cert";

fn is_certificate(bytes: &[u8]) -> bool {
    bytes
        .get(NAME_AT..)
        .is_some_and(|name| name.starts_with(CERTIFICATE_NAME))
}

/// Whether an encrypted question has such a length: it is padded to 64 bytes, without key, nonce and digest
/// or with them.
const fn is_query_len(len: usize) -> bool {
    len >= 256 && (len.is_multiple_of(64) || (len - 68).is_multiple_of(64))
}

/// Without the length that stands before it over TCP.
fn unframed(bytes: &[u8]) -> &[u8] {
    bytes.get(2..).unwrap_or_default()
}

impl Protocol for DnsCrypt {
    fn name(&self) -> &'static str {
        "dnscrypt"
    }

    fn ports(&self) -> &'static [u16] {
        &[443, 5353, 8443]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Udp | Transport::Tcp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        if seen.transport == Transport::Udp {
            let bytes = seen.newest();
            return if bytes.starts_with(RESOLVER_MAGIC) {
                Verdict::certain(seen.side.other())
            } else if is_certificate(bytes) {
                let is_response = Header::of(bytes).is_some_and(|header| header.is_response());
                Verdict::certain(if is_response { seen.side.other() } else { seen.side })
            } else if is_query_len(bytes.len()) && seen.earlier.len() < 4 {
                // Only the answer tells.
                Verdict::NeedMore
            } else {
                Verdict::No
            };
        }
        let (client, server) = (unframed(seen.client()), unframed(seen.server()));
        if server.starts_with(RESOLVER_MAGIC) || is_certificate(client) {
            return Verdict::CERTAIN;
        }
        let could_be = |bytes: &[u8], magic: &[u8]| {
            let len = bytes.len().min(magic.len());
            bytes[..len] == magic[..len]
        };
        let name = client.get(NAME_AT..).unwrap_or_default();
        if could_be(server, RESOLVER_MAGIC) && could_be(name, CERTIFICATE_NAME) && client.len() < 64 {
            Verdict::NeedMore
        } else {
            Verdict::No
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Certificates(Messages::new("dns")))
    }
}

/// Certificates are told as the DNS they are; what is encrypted is passed over.
#[derive(Debug)]
struct Certificates(Messages);

impl Session for Certificates {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let message = if out.transport == Transport::Tcp {
            if bytes.len() < 2 + NAME_AT + CERTIFICATE_NAME.len() {
                return Step::Take(0);
            }
            unframed(bytes)
        } else {
            bytes
        };
        if is_certificate(message) {
            self.0.data(side, bytes, out)
        } else {
            Step::Done
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn certificates_and_answers() {
        let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x012\x0ddnscrypt-cert\x07example\0\0\x10\0\x01";
        let outcome = kit::datagrams(443, &[(0, query), (1, b"r6fnvWj8............")]);
        assert_eq!(outcome.insight.app, Some("dnscrypt"));
        assert_eq!(outcome.insight.host.as_deref(), Some("2.dnscrypt-cert.example"));
        assert_eq!(outcome.records.len(), 1);
        let framed = [&(query.len() as u16).to_be_bytes()[..], query].concat();
        let outcome = kit::stream(&[(0, &framed)]);
        assert_eq!(outcome.insight.app, Some("dnscrypt"));
        assert_eq!(outcome.records.len(), 1);
        kit::check_cuts(&[(0, &framed)]);
        kit::check_datagrams(&[(1, b"r6fnvWj8............")], Some("dnscrypt"), &[]);
        let question = [0x99; 68 + 512];
        kit::check_datagrams(
            &[(0, &question), (1, b"r6fnvWj8............")],
            Some("dnscrypt"),
            &[],
        );
    }
}
