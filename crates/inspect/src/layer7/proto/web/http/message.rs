//! The heads of messages, line by line.

use super::super::super::lines;
use crate::layer7::insight::text_within;
use crate::layer7::record::{self, HttpField};

/// A text of a head as it is kept.
pub(super) fn text(bytes: &[u8]) -> String {
    text_within(bytes, record::Http::TEXT_MAX)
}

/// The parts of a request line. The version is missing in HTTP/0.9.
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) version: Option<&'a [u8]>,
}

impl<'a> RequestLine<'a> {
    pub(super) fn of(line: &'a [u8]) -> Self {
        let (method, rest) = lines::word(line);
        let rest = rest.trim_ascii_end();
        let (target, version) = match rest.iter().rposition(|&b| b == b' ') {
            Some(at) if rest[at + 1..].starts_with(b"HTTP/") => {
                (rest[..at].trim_ascii_end(), Some(&rest[at + 1..]))
            }
            _ => (rest, None),
        };
        Self {
            method,
            // Some add a path to the host they want a tunnel to.
            target: if method == b"CONNECT" {
                lines::word(target).0
            } else {
                target
            },
            version,
        }
    }

    /// Host and port that stand in the target itself, of a request to a proxy.
    pub(super) fn authority(&self) -> Option<&'a [u8]> {
        let authority = if self.method == b"CONNECT" {
            self.target
        } else {
            let at = memchr::memmem::find(self.target, b"://")?;
            // A path may hold a whole URL.
            if self.target[..at].iter().any(|b| !b.is_ascii_alphanumeric()) {
                return None;
            }
            let rest = &self.target[at + 3..];
            let end = rest.iter().position(|b| b"/?#".contains(b)).unwrap_or(rest.len());
            &rest[..end]
        };
        let host = match memchr::memrchr(b'@', authority) {
            Some(at) => &authority[at + 1..],
            None => authority,
        };
        (!host.is_empty()).then_some(host)
    }
}

/// Host and port.
pub(in crate::layer7::proto::web) fn split_authority(authority: &[u8]) -> (&[u8], Option<u16>) {
    let from = match memchr::memrchr(b']', authority) {
        Some(at) => at + 1,
        None => 0,
    };
    let Some(colon) = memchr::memrchr(b':', &authority[from..]).map(|at| at + from) else {
        return (authority, None);
    };
    let port = lines::number(&authority[colon + 1..]).and_then(|port| u16::try_from(port).ok());
    match port {
        Some(_) => (&authority[..colon], port),
        None if colon + 1 == authority.len() => (&authority[..colon], None),
        None => (authority, None),
    }
}

/// A media type without what follows it.
pub(in crate::layer7::proto::web) fn without_parameters(value: &[u8]) -> &[u8] {
    let end = value
        .iter()
        .position(|b| b";,".contains(b))
        .unwrap_or(value.len());
    value[..end].trim_ascii()
}

/// What tells how long a body is.
#[derive(Clone, Debug, Default)]
pub(super) struct Framing {
    pub(super) length: Option<u64>,
    pub(super) is_chunked: bool,
    pub(super) has_bad_length: bool,
    pub(super) has_other_lengths: bool,
    pub(super) has_bad_coding: bool,
}

impl Framing {
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        if name.eq_ignore_ascii_case(b"content-length") {
            for one in value.split(|&b| b == b',') {
                match lines::number(one.trim_ascii()) {
                    Some(length) => {
                        self.has_other_lengths |= self.length.is_some_and(|first| first != length);
                        self.length.get_or_insert(length);
                    }
                    None => self.has_bad_length = true,
                }
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let last = value
                .rsplit(|&b| b == b',')
                .next()
                .unwrap_or_default()
                .trim_ascii();
            if last.eq_ignore_ascii_case(b"chunked") {
                self.is_chunked = true;
            } else if !last.eq_ignore_ascii_case(b"identity") {
                self.has_bad_coding = true;
            }
        }
    }
}

/// A header field as records show it: what logs somebody in does not belong there.
pub(in crate::layer7::proto::web) fn shown(name: &[u8], value: &[u8]) -> HttpField {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    let value = if is("authorization") || is("proxy-authorization") {
        let mut kind = text_within(lines::word(value).0, 32);
        kind.push_str(" …");
        kind
    } else if is("cookie") || is("set-cookie") {
        "…".to_owned()
    } else {
        text(value)
    };
    HttpField {
        name: text(name),
        value,
    }
}
