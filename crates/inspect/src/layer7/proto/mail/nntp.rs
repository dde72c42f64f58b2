//! NNTP (RFC 3977), with AUTHINFO (RFC 4643) and STARTTLS (RFC 4642).

use super::super::lines::{self, Fit, Lines, Next};
use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};

#[derive(Debug)]
pub(super) struct Nntp;

const LINE_MAX: usize = 1024;

impl Protocol for Nntp {
    fn name(&self) -> &'static str {
        "nntp"
    }

    fn ports(&self) -> &'static [u16] {
        &[119]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        const COMMANDS: [&[u8]; 9] = [
            b"MODE READER",
            b"MODE STREAM",
            b"AUTHINFO ",
            b"XOVER ",
            b"LIST NEWSGROUPS",
            b"LIST ACTIVE",
            b"IHAVE <",
            b"TAKETHIS <",
            b"ARTICLE <",
        ];
        let client = match seen.client() {
            [] => Fit::More,
            bytes => match Fit::begins_any(bytes, &COMMANDS) {
                Fit::No => Fit::begins_any(bytes, &[b"GROUP ", b"ARTICLE ", b"NEWGROUPS "]).min(Fit::Likely),
                fit => fit,
            },
        };
        let server = match seen.server() {
            [] => Fit::More,
            bytes => greeting(bytes, seen.has_port(119)),
        };
        let fit = match (client, server) {
            (_, Fit::No) => Fit::No,
            (Fit::Certain, _) | (_, Fit::Certain) => Fit::Certain,
            (Fit::Likely, _) if seen.has_port(119) => Fit::Likely,
            (Fit::No, Fit::More) => Fit::No,
            (_, server) => server,
        };
        fit.verdict()
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<NntpSession>::default()
    }
}

fn greeting(bytes: &[u8], has_port: bool) -> Fit {
    let fit = Fit::begins_any(bytes, &[b"200 ", b"201 "]);
    if fit != Fit::Certain {
        return fit;
    }
    match lines::first(bytes, 512) {
        lines::Line::Whole(line, _) => {
            if [&b"nntp"[..], b"news", b"posting"]
                .iter()
                .any(|word| lines::has(line, word))
            {
                Fit::Certain
            } else if has_port {
                Fit::Likely
            } else {
                Fit::No
            }
        }
        lines::Line::Long(_) => Fit::No,
        lines::Line::More => Fit::More,
    }
}

#[derive(Debug, Default)]
struct NntpSession {
    lines: [Lines; 2],
    is_login: bool,
    is_tls: bool,
}

impl Session for NntpSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            match self.lines[side.index()].next(&bytes[at..], LINE_MAX) {
                Next::Line { line, taken, .. } => {
                    at += taken;
                    if side == Side::Client {
                        self.command(line, out);
                    } else if self.reply(line, out) {
                        return Step::Switch { taken: at, to: None };
                    }
                }
                Next::Pass(taken) => at += taken,
                Next::More => break,
            }
        }
        Step::Take(at as u64)
    }

    fn gap(&mut self, _: Side, _: u64, _: &mut Out<'_>) -> Step {
        Step::Take(0)
    }
}

impl NntpSession {
    fn command(&mut self, line: &[u8], out: &mut Out<'_>) {
        let (verb, rest) = lines::word(line);
        if verb.eq_ignore_ascii_case(b"STARTTLS") {
            self.is_tls = true;
        }
        if !verb.eq_ignore_ascii_case(b"AUTHINFO") {
            return;
        }
        let (what, value) = lines::word(rest);
        if what.eq_ignore_ascii_case(b"USER") {
            out.insight.user = Some(text(value));
        } else if what.eq_ignore_ascii_case(b"PASS") {
            out.insight.has_clear_credential = true;
            out.login(Login::Attempted);
            self.is_login = true;
        }
    }

    /// True if TLS begins after it.
    fn reply(&mut self, line: &[u8], out: &mut Out<'_>) -> bool {
        match lines::reply(line) {
            Some((281, _)) if self.is_login => {
                self.is_login = false;
                out.login(Login::Succeeded);
            }
            Some((481 | 482 | 502, _)) if self.is_login => {
                self.is_login = false;
                out.login(Login::Failed);
            }
            Some((382, _)) => return self.is_tls,
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit::{self, Said};

    #[test]
    fn log_ins() {
        let said: [Said<'_>; 7] = [
            (1, b"200 Leafnode NNTP Daemon\r\n"),
            (0, b"MODE READER\r\n"),
            (1, b"200 ok\r\n"),
            (0, b"AUTHINFO USER bob\r\n"),
            (1, b"381 go on\r\n"),
            (0, b"AUTHINFO PASS x\r\n"),
            (1, b"481 no\r\n"),
        ];
        kit::check_stream(&said, Some("nntp"), &[]);
        let insight = kit::stream(&said).insight;
        assert_eq!(insight.user.as_deref(), Some("bob"));
        assert_eq!((insight.logins_attempted, insight.logins_failed), (1, 1));
        kit::check_stream(&[(1, b"200 OK\r\n")], None, &[]);
    }
}
