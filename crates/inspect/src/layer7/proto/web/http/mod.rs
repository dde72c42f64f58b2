//! HTTP/1.1 and older (RFC 9110, RFC 9112, RFC 1945).

mod message;
mod session;
#[cfg(test)]
mod tests;

use super::super::lines::{self, Fit, Line};
use crate::layer7::protocol::{Protocol, Seen, Session, Side, Transport, Verdict};

pub(super) use message::{shown, split_authority, without_parameters};

#[derive(Debug)]
pub(in crate::layer7::proto) struct Http;

/// Longest first line that is waited for before a flow counts as HTTP by its method alone.
const FIRST_LINE_MAX: usize = 2048;
const METHOD_MAX: usize = 24;

impl Protocol for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn ports(&self) -> &'static [u16] {
        &[80, 8080, 8000, 3128, 8008, 8088, 8888]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let requests = seen.data.map(request);
        let responses = seen.data.map(response);
        for side in [Side::Client, Side::Server] {
            let at = side.index();
            if requests[at] == Fit::Certain || responses[side.other().index()] == Fit::Certain {
                return Verdict::certain(side);
            }
        }
        for side in [Side::Client, Side::Server] {
            if requests[side.index()] == Fit::Likely {
                return Verdict::likely(side);
            }
        }
        // Of a connection that was joined inside a body the other side may still begin a message.
        let may_begin = |side: usize| {
            let is_open = requests[side] == Fit::More || responses[side] == Fit::More;
            is_open && (!seen.data[side].is_empty() || !seen.is_from_start)
        };
        if may_begin(0) || may_begin(1) {
            Verdict::NeedMore
        } else {
            Verdict::No
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<session::HttpSession>::default()
    }
}

/// Methods that begin requests of nothing else if a path follows.
const COMMON: [&[u8]; 8] = [
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"PUT ",
    b"DELETE ",
    b"PATCH ",
    b"OPTIONS ",
    b"CONNECT ",
];

/// Whether these bytes begin a request.
pub(super) fn request(bytes: &[u8]) -> Fit {
    let bytes = without_blank_lines(bytes);
    let method_len = bytes
        .iter()
        .take(METHOD_MAX + 1)
        .take_while(|b| is_method(**b))
        .count();
    if method_len == bytes.len() && method_len <= METHOD_MAX {
        return Fit::More;
    }
    if !(1..=METHOD_MAX).contains(&method_len) || bytes[method_len] != b' ' {
        return Fit::No;
    }
    let target = &bytes[method_len + 1..];
    let is_common = COMMON.contains(&&bytes[..=method_len]) && is_target(target);
    // As for a line that is not whole: what is said of it must not depend on where it was cut.
    let is_text = |text: &[u8]| text.iter().all(|&b| b == b'\r' || (b >= b' ' && b != 0x7f));
    match lines::first(bytes, FIRST_LINE_MAX) {
        Line::Whole(line, _) if !is_common && !is_text(line) => Fit::No,
        Line::Whole(line, _) => match version(line) {
            Some(b'0' | b'1') => Fit::Certain,
            // The preface of HTTP/2 looks like a request.
            Some(_) if bytes.starts_with(b"PRI * HTTP/2") => Fit::No,
            Some(_) => Fit::Likely,
            None if is_common => Fit::Likely,
            None => Fit::No,
        },
        Line::Long(_) if is_common => Fit::Certain,
        _ if is_common => Fit::Likely,
        Line::More if is_text(target) => Fit::More,
        _ => Fit::No,
    }
}

/// A path, or the URL that a proxy is asked for.
fn is_target(target: &[u8]) -> bool {
    target.starts_with(b"/") || target.starts_with(b"http://") || target.starts_with(b"https://")
}

/// Whether these bytes begin a response.
pub(super) fn response(bytes: &[u8]) -> Fit {
    match bytes.first_chunk::<8>() {
        Some([b'H', b'T', b'T', b'P', b'/', b'0' | b'1', b'.', digit]) if digit.is_ascii_digit() => {
            Fit::Certain
        }
        None if lines::begins(bytes, b"HTTP/1.") != Some(false) => Fit::More,
        _ => Fit::No,
    }
}

fn is_method(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'-' || b == b'_'
}

/// Some clients send an empty line after a body.
fn without_blank_lines(bytes: &[u8]) -> &[u8] {
    let blank = bytes
        .iter()
        .take(4)
        .take_while(|&&b| b == b'\r' || b == b'\n')
        .count();
    &bytes[blank..]
}

/// The major version at the end of a request line.
fn version(line: &[u8]) -> Option<u8> {
    let line = line.trim_ascii_end();
    let at = line.iter().rposition(|&b| b == b' ')?;
    match &line[at + 1..] {
        [b'H', b'T', b'T', b'P', b'/', major, ..] => Some(*major),
        _ => None,
    }
}
