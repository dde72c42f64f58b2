//! JSON-RPC over a bare connection.

use memchr::memmem;

use crate::layer7::protocol::{NameOnly, Protocol, Seen, Session, Transport, Verdict};

#[derive(Debug)]
pub(super) struct JsonRpc;

/// Bytes of a message in which its version must stand.
const VERSION_WITHIN: usize = 1024;

impl Protocol for JsonRpc {
    fn name(&self) -> &'static str {
        "json-rpc"
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let bytes = if seen.client().is_empty() {
            seen.server()
        } else {
            seen.client()
        };
        let Some(&first) = bytes.iter().find(|b| !b.is_ascii_whitespace()) else {
            return Verdict::NeedMore;
        };
        if first != b'{' && first != b'[' {
            return Verdict::No;
        }
        let within = &bytes[..bytes.len().min(VERSION_WITHIN)];
        if memmem::find(within, b"\"jsonrpc\"").is_some() {
            // Miners speak it too, and say more.
            Verdict::LIKELY
        } else if bytes.len() < VERSION_WITHIN && !bytes.contains(&b'\n') {
            Verdict::NeedMore
        } else {
            Verdict::No
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn by_its_version() {
        kit::check_stream(
            &[(0, b"{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"id\":1}\n")],
            Some("json-rpc"),
            &[],
        );
        kit::check_stream(&[(0, b"{\"method\":\"a\",\"id\":1}\n")], None, &[]);
    }
}
