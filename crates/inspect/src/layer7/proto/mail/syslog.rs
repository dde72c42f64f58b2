//! Syslog (RFC 3164, RFC 5424), over UDP (RFC 5426) and TCP (RFC 6587).

use super::super::lines;
use crate::layer7::protocol::{NameOnly, Protocol, Seen, Session, Transport, Verdict};

#[derive(Debug)]
pub(super) struct Syslog;

impl Protocol for Syslog {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn ports(&self) -> &'static [u16] {
        &[514, 601]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Udp | Transport::Tcp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let newest = seen.newest();
        // Over TCP the length may stand before each message.
        let digits = newest.iter().take(6).take_while(|b| b.is_ascii_digit()).count();
        let is_counted = seen.transport == Transport::Tcp && digits > 0;
        let message = match newest.get(digits) {
            Some(b' ') if is_counted => &newest[digits + 1..],
            None if is_counted => return Verdict::NeedMore,
            _ => newest,
        };
        match text(message) {
            Some(_) if message.len() < 16 && seen.transport == Transport::Tcp => Verdict::NeedMore,
            None => match message {
                [] => Verdict::NeedMore,
                [b'<', rest @ ..] if rest.len() < 4 && rest.iter().all(u8::is_ascii_digit) => {
                    Verdict::NeedMore
                }
                _ => Verdict::No,
            },
            Some(text) if is_dated(text) => Verdict::certain(seen.side),
            Some(_) if self.ports().iter().any(|&port| seen.has_port(port)) => Verdict::likely(seen.side),
            Some(_) => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

/// What is behind the priority: `<34>`.
fn text(message: &[u8]) -> Option<&[u8]> {
    let rest = message.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|&b| b == b'>')?;
    let priority = lines::number(&rest[..end])?;
    let text = &rest[end + 1..];
    let is_text = text
        .iter()
        .take(16)
        .all(|&b| b >= b' ' || b.is_ascii_whitespace());
    (priority <= 191 && is_text).then_some(text)
}

/// `1 2003-10-11T…` of the newer kind, `Oct 11 22:14:15` of the older.
fn is_dated(text: &[u8]) -> bool {
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    match text {
        [b'1', b' ', a, b, c, d, b'-', ..] => [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()),
        [b'1', b' ', b'-', b' ', ..] => true,
        [a, b, c, b' ', ..] => MONTHS.chunks(3).any(|month| month == [*a, *b, *c]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        kit::check_datagrams(&[(0, b"<34>Oct 11 22:14:15 m su: no")], Some("syslog"), &[]);
        kit::check_datagrams(
            &[(0, b"<165>1 2003-10-11T22:14:15Z m e - - -")],
            Some("syslog"),
            &[],
        );
        kit::check_datagrams_to(514, &[(0, b"<13>anything")], Some("syslog"), &[]);
        kit::check_datagrams(&[(0, b"<192>Oct 11 22:14:15 m")], None, &[]);
        kit::check_datagrams(&[(0, b"<a href=x>")], None, &[]);
        kit::check_stream(&[(0, b"31 <34>Oct 11 22:14:15 m su: nono")], Some("syslog"), &[]);
    }
}
