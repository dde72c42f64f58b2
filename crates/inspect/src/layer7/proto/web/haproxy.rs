//! The PROXY protocol of HAProxy, versions 1 and 2: who the client is, before the client's own bytes.

use super::super::lines::{self, Fit};
use crate::layer7::insight::text;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::record::{Anomaly, Severity};

#[derive(Debug)]
pub(super) struct HaProxy;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest line of version 1.
const LINE_MAX: usize = 107;

impl Protocol for HaProxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let fit = match seen.client() {
            [] if !seen.server().is_empty() => Fit::No,
            bytes => Fit::begins_any(
                bytes,
                &[b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN", SIGNATURE],
            ),
        };
        fit.verdict()
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Header)
    }
}

#[derive(Debug)]
struct Header;

impl Session for Header {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if side == Side::Server {
            return Step::Take(0);
        }
        if !bytes.starts_with(&SIGNATURE[..1]) {
            return match lines::first(bytes, LINE_MAX) {
                lines::Line::Whole(line, taken) => {
                    // PROXY TCP4 client server port port
                    if let Some(client) = line.split(|&b| b == b' ').nth(2) {
                        out.insight.about = Some(text(client));
                    }
                    Step::Switch { taken, to: None }
                }
                lines::Line::More => Step::Take(0),
                lines::Line::Long(_) => {
                    Step::Broken(Anomaly::parser("invalid_proxy_header", Severity::Medium))
                }
            };
        }
        let Some(&[_, _, high, low]) = bytes.get(SIGNATURE.len()..).and_then(<[u8]>::first_chunk) else {
            return Step::Take(0);
        };
        let taken = SIGNATURE.len() + 4 + usize::from(u16::from_be_bytes([high, low]));
        if bytes.len() < taken {
            return Step::Take(0);
        }
        Step::Switch { taken, to: None }
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit::{self, Said};

    #[test]
    fn what_follows_is_looked_at() {
        for header in [
            &b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"[..],
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\0\x01\0\x02",
        ] {
            let bytes = [header, b"GET / HTTP/1.1\r\n\r\n"].concat();
            let said: [Said<'_>; 1] = [(0, &bytes)];
            let insight = kit::stream(&said).insight;
            assert_eq!((insight.app_before, insight.app), (Some("haproxy"), Some("http")));
            kit::check_cuts(&said);
        }
    }
}
