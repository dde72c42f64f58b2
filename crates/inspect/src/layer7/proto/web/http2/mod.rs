//! HTTP/2 in clear text (RFC 9113), by its preface or upgraded from HTTP/1.1, and gRPC in it.

mod frame;
mod hpack;
mod huffman;
mod session;
#[cfg(test)]
mod tests;

use super::super::lines;
use crate::layer7::protocol::{Protocol, Seen, Session, Side, Transport, Verdict};
use frame::Header;

#[derive(Debug)]
pub(in crate::layer7::proto) struct Http2;

/// DNS over HTTP/2: HTTP/2 turns into it when it carries DNS.
#[derive(Debug)]
pub(in crate::layer7::proto) struct Doh2;

const DOH: &str = "doh2";

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Protocol for Http2 {
    fn name(&self) -> &'static str {
        "http2"
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let mut verdict = Verdict::No;
        for side in [Side::Client, Side::Server] {
            let bytes = seen.data[side.index()];
            match lines::begins(bytes, PREFACE) {
                Some(true) => return Verdict::certain(side),
                None if !bytes.is_empty() => return Verdict::NeedMore,
                _ => {}
            }
            // The side that answers begins with its settings.
            if let Some(header) = Header::of(bytes)
                && header.is_first_settings()
                && let Some(rest) = bytes.get(Header::LEN + header.len..)
            {
                verdict = match Header::of(rest) {
                    Some(next) if next.is_plausible() => return Verdict::certain(side.other()),
                    Some(_) => Verdict::No,
                    None => Verdict::likely(side.other()),
                };
            }
        }
        verdict
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<session::Http2Session>::default()
    }
}

impl Protocol for Doh2 {
    fn name(&self) -> &'static str {
        DOH
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, _: &Seen<'_>) -> Verdict {
        Verdict::No
    }

    fn session(&self) -> Box<dyn Session> {
        Http2.session()
    }
}
