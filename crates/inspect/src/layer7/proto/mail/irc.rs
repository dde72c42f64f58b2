//! IRC (RFC 1459, RFC 2812).

use super::super::lines::{self, Fit, Lines, Next};
use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};

#[derive(Debug)]
pub(super) struct Irc;

const LINE_MAX: usize = 1024;
/// Lines after which a client has long been let in.
const LINES_MAX: u32 = 200;

impl Protocol for Irc {
    fn name(&self) -> &'static str {
        "irc"
    }

    fn ports(&self) -> &'static [u16] {
        &[6667, 6666, 6668, 6669, 7000]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let client = match seen.client() {
            [] => Fit::More,
            bytes => client_line(bytes),
        };
        let server = match seen.server() {
            [] => Fit::More,
            bytes => server_line(bytes),
        };
        let fit = match (client, server) {
            (Fit::Certain, _) | (_, Fit::Certain) => Fit::Certain,
            (Fit::No, _) | (_, Fit::No) => Fit::No,
            _ => Fit::More,
        };
        fit.verdict()
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<IrcSession>::default()
    }
}

fn client_line(bytes: &[u8]) -> Fit {
    let fit = Fit::begins_any(
        bytes,
        &[
            b"CAP LS",
            b"CAP REQ :",
            b"JOIN #",
            b"PRIVMSG #",
            b"NICK ",
            b"USER ",
            b"PASS ",
        ],
    );
    if fit != Fit::Certain {
        return fit;
    }
    if Fit::begins_any(bytes, &[b"CAP ", b"JOIN ", b"PRIVMSG "]) == Fit::Certain {
        return Fit::Certain;
    }
    let lines::Line::Whole(line, taken) = lines::first(bytes, LINE_MAX) else {
        return Fit::More;
    };
    let (verb, rest) = lines::word(line);
    let words = rest.split(|&b| b == b' ').filter(|word| !word.is_empty()).count();
    match &verb.to_ascii_uppercase()[..] {
        // NICK name, or with the hops of old.
        b"NICK" if words <= 2 => Fit::Certain,
        // USER user host server :name
        b"USER" if words >= 4 => Fit::Certain,
        b"PASS" if words == 1 => match Fit::begins_any(&bytes[taken..], &[b"NICK ", b"USER ", b"CAP "]) {
            Fit::No => Fit::No,
            Fit::Certain => Fit::Certain,
            _ => Fit::More,
        },
        _ => Fit::No,
    }
}

fn server_line(bytes: &[u8]) -> Fit {
    const BEGINNINGS: [&[u8]; 3] = [b"NOTICE AUTH :", b"NOTICE * :", b"ERROR :Closing"];
    if bytes[0] != b':' {
        return Fit::begins_any(bytes, &BEGINNINGS);
    }
    match lines::first(bytes, LINE_MAX) {
        lines::Line::Whole(line, _) => {
            let (_, rest) = lines::word(line);
            let (verb, _) = lines::word(rest);
            let is_number = verb.len() == 3 && verb.iter().all(u8::is_ascii_digit);
            let is_known = [
                &b"NOTICE"[..],
                b"PRIVMSG",
                b"JOIN",
                b"MODE",
                b"PART",
                b"NICK",
                b"QUIT",
            ]
            .contains(&verb);
            if is_number || is_known {
                Fit::Certain
            } else {
                Fit::No
            }
        }
        lines::Line::Long(_) => Fit::No,
        lines::Line::More => Fit::More,
    }
}

#[derive(Debug, Default)]
struct IrcSession {
    lines: [Lines; 2],
    n_lines: u32,
    is_login: bool,
}

impl Session for IrcSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            match self.lines[side.index()].next(&bytes[at..], LINE_MAX) {
                Next::Line { line, taken, .. } => {
                    at += taken;
                    self.n_lines += 1;
                    if self.n_lines > LINES_MAX {
                        return Step::Done;
                    }
                    match side {
                        Side::Client => self.command(line, out),
                        Side::Server => self.reply(line, out),
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

impl IrcSession {
    fn command(&mut self, line: &[u8], out: &mut Out<'_>) {
        let (verb, rest) = lines::word(line);
        match &verb.to_ascii_uppercase()[..] {
            b"NICK" => out.insight.user = Some(text(lines::word(rest).0)),
            b"PASS" | b"OPER" => {
                out.insight.has_clear_credential = true;
                out.login(Login::Attempted);
                self.is_login = true;
            }
            _ => {}
        }
    }

    fn reply(&mut self, line: &[u8], out: &mut Out<'_>) {
        let Some(from) = line.strip_prefix(b":") else {
            return;
        };
        let (host, rest) = lines::word(from);
        let code = lines::word(rest).0;
        if code == b"001" && out.insight.host.is_none() {
            out.insight.host = Some(text(host));
        }
        if self.is_login {
            let login = match code {
                b"001" | b"381" => Login::Succeeded,
                b"464" | b"491" => Login::Failed,
                _ => return,
            };
            self.is_login = false;
            out.login(login);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit::{self, Said};

    #[test]
    fn a_client_is_let_in() {
        let said: [Said<'_>; 3] = [
            (1, b":irc.example.org NOTICE * :*** Looking up your hostname\r\n"),
            (0, b"PASS x\r\nNICK bob\r\nUSER bob 0 * :Bob\r\n"),
            (1, b":irc.example.org 001 bob :Welcome\r\n"),
        ];
        kit::check_stream(&said, Some("irc"), &[]);
        let insight = kit::stream(&said).insight;
        assert_eq!(
            (insight.user.as_deref(), insight.logins_succeeded),
            (Some("bob"), 1)
        );
        assert_eq!(insight.host.as_deref(), Some("irc.example.org"));
        for other in [&b"USER anonymous\r\n"[..], b"PASS x\r\nRETR 1\r\n", b"NOOP\r\n"] {
            assert_ne!(kit::stream(&[(0, other)]).insight.app, Some("irc"));
        }
    }
}
