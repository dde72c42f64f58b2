//! POP3 (RFC 1939), with AUTH (RFC 5034) and STLS (RFC 2595).

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::super::lines::{self, Fit, Lines, Next};
use crate::layer7::insight::{text, text_within};
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::record::Record;

#[derive(Debug)]
pub(super) struct Pop3;

const LINE_MAX: usize = 1024;
const WAITING_MAX: usize = 64;

impl Protocol for Pop3 {
    fn name(&self) -> &'static str {
        "pop3"
    }

    fn ports(&self) -> &'static [u16] {
        &[110]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        const COMMANDS: [&[u8]; 5] = [b"APOP ", b"STLS\r\n", b"UIDL", b"CAPA\r\n", b"USER "];
        let server = match seen.server() {
            [] => Fit::More,
            bytes => Fit::begins_any(bytes, &[b"+OK ", b"+OK\r\n", b"-ERR "]),
        };
        let client = match seen.client() {
            [] => Fit::More,
            bytes => Fit::begins_any(bytes, &COMMANDS),
        };
        let fit = match (client, server) {
            // Redis answers so too, but says no more on the line.
            (Fit::More, Fit::Certain)
                if seen.client().is_empty() && seen.is_from_start && seen.server().starts_with(b"+OK ") =>
            {
                Fit::Certain
            }
            (Fit::Certain, Fit::Certain) => Fit::Certain,
            (_, Fit::Certain) if seen.has_port(110) => Fit::Likely,
            (Fit::Certain, Fit::More) if seen.has_port(110) => Fit::Likely,
            (Fit::No, _) | (_, Fit::No) => Fit::No,
            _ => Fit::More,
        };
        fit.verdict()
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Pop3Session>::default()
    }
}

#[derive(Debug, Default)]
struct Pop3Session {
    lines: [Lines; 2],
    waiting: VecDeque<Command>,
    has_greeting: bool,
    /// The lines of a long answer go on until a dot.
    is_long: bool,
    auth: Option<Auth>,
}

#[derive(Debug)]
struct Command {
    verb: String,
    arguments: Vec<String>,
    is_login: bool,
}

/// What the client's next line is.
#[derive(Clone, Copy, Debug)]
enum Auth {
    Plain,
    User,
    Secret,
    Digest,
}

impl Session for Pop3Session {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            match self.lines[side.index()].next(&bytes[at..], LINE_MAX) {
                Next::Line { line, taken, .. } => {
                    at += taken;
                    match side {
                        Side::Client => self.command(line, out),
                        Side::Server => {
                            if self.reply(line, out) {
                                return Step::Switch { taken: at, to: None };
                            }
                        }
                    }
                }
                Next::Pass(taken) => at += taken,
                Next::More => break,
            }
        }
        Step::Take(at as u64)
    }

    fn gap(&mut self, side: Side, _: u64, _: &mut Out<'_>) -> Step {
        // Inside a mail nothing else is missed.
        if side == Side::Server && self.is_long {
            Step::Take(0)
        } else {
            Step::Done
        }
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        for command in std::mem::take(&mut self.waiting) {
            tell(&command, None, out);
        }
    }
}

impl Pop3Session {
    fn command(&mut self, line: &[u8], out: &mut Out<'_>) {
        if let Some(auth) = self.auth.take() {
            self.answer(auth, line, out);
            return;
        }
        let (verb, rest) = lines::word(line);
        let verb = text_within(&verb.to_ascii_uppercase(), 16);
        let mut is_login = false;
        let mut words: Vec<String> = rest
            .split(|&b| b == b' ')
            .filter(|word| !word.is_empty())
            .take(8)
            .map(|word| text_within(word, LINE_MAX))
            .collect();
        match &verb[..] {
            "USER" => out.insight.user = Some(text(rest)),
            "PASS" => {
                is_login = true;
                out.login(Login::Attempted);
                out.insight.has_clear_credential |= !rest.is_empty();
                words = vec!["…".to_owned()];
            }
            "APOP" => {
                is_login = true;
                out.login(Login::Attempted);
                out.insight.user = Some(text(lines::word(rest).0));
            }
            "AUTH" if !rest.is_empty() => {
                is_login = true;
                out.login(Login::Attempted);
                let (mechanism, initial) = lines::word(rest);
                let auth = match &mechanism.to_ascii_uppercase()[..] {
                    b"PLAIN" => Auth::Plain,
                    b"LOGIN" => Auth::User,
                    b"XOAUTH2" | b"OAUTHBEARER" => Auth::Secret,
                    _ => Auth::Digest,
                };
                words.truncate(1);
                if initial.is_empty() {
                    self.auth = Some(auth);
                } else {
                    self.answer(auth, initial, out);
                }
            }
            _ => {}
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(Command {
                verb,
                arguments: words,
                is_login,
            });
        }
    }

    /// A client's answer to a challenge.
    fn answer(&mut self, auth: Auth, line: &[u8], out: &mut Out<'_>) {
        let answer = STANDARD.decode(line.trim_ascii()).unwrap_or_default();
        let user = match auth {
            Auth::Plain => answer.split(|&b| b == 0).nth(1),
            Auth::User => Some(&answer[..]),
            Auth::Secret => None,
            Auth::Digest => memchr::memrchr(b' ', &answer).map(|blank| &answer[..blank]),
        };
        if let Some(user) = user.filter(|user| !user.is_empty()) {
            out.insight.user = Some(text(user));
        }
        match auth {
            Auth::Plain | Auth::Secret => out.insight.has_clear_credential |= !answer.is_empty(),
            Auth::User => self.auth = Some(Auth::Secret),
            Auth::Digest => {}
        }
    }

    /// A line of the server's; true if TLS begins after it.
    fn reply(&mut self, line: &[u8], out: &mut Out<'_>) -> bool {
        if self.is_long {
            self.is_long = line != b".";
            return false;
        }
        let is_good = line.starts_with(b"+OK");
        if !is_good && !line.starts_with(b"-ERR") {
            return false;
        }
        if !std::mem::replace(&mut self.has_greeting, true) && self.waiting.is_empty() {
            return false;
        }
        let Some(command) = self.waiting.pop_front() else {
            return false;
        };
        self.auth = None;
        if command.is_login {
            out.login(if is_good { Login::Succeeded } else { Login::Failed });
        }
        self.is_long = is_good
            && match &command.verb[..] {
                "RETR" | "TOP" | "CAPA" => true,
                "LIST" | "UIDL" => command.arguments.is_empty(),
                _ => false,
            };
        tell(&command, Some(line), out);
        is_good && command.verb == "STLS"
    }
}

fn tell(command: &Command, reply: Option<&[u8]>, out: &mut Out<'_>) {
    if !out.wants_records() {
        return;
    }
    let mut fields = Map::new();
    let mut request = json!({"command": command.verb});
    if !command.arguments.is_empty() {
        request["args"] = json!(command.arguments);
    }
    fields.insert("request".into(), request);
    if let Some(line) = reply {
        let (status, header) = lines::word(line);
        let is_good = status == b"+OK";
        let mut response = json!({"success": is_good, "status": if is_good { "OK" } else { "ERR" }});
        if !header.is_empty() {
            response["header"] = Value::from(text_within(header, LINE_MAX));
        }
        fields.insert("response".into(), response);
    }
    out.record_of(Side::Client, Record::fields("pop3", fields));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    #[test]
    fn a_mail_is_fetched() {
        let said: [Said<'_>; 9] = [
            (1, b"+OK ready\r\n"),
            (0, b"USER bob\r\n"),
            (1, b"+OK\r\n"),
            (0, b"PASS secret\r\n"),
            (1, b"-ERR no\r\n"),
            (0, b"PASS other\r\n"),
            (1, b"+OK yes\r\n"),
            (0, b"RETR 1\r\nQUIT\r\n"),
            (1, b"+OK 9\r\nSubject: x\r\n\r\n+OK no reply\r\n.\r\n+OK bye\r\n"),
        ];
        let record = |request, response| ("pop3", json!({"request": request, "response": response}));
        kit::check_stream(
            &said,
            Some("pop3"),
            &[
                record(
                    json!({"command": "USER", "args": ["bob"]}),
                    json!({"success": true, "status": "OK"}),
                ),
                record(
                    json!({"command": "PASS", "args": ["…"]}),
                    json!({"success": false, "status": "ERR", "header": "no"}),
                ),
                record(
                    json!({"command": "PASS", "args": ["…"]}),
                    json!({"success": true, "status": "OK", "header": "yes"}),
                ),
                record(
                    json!({"command": "RETR", "args": ["1"]}),
                    json!({"success": true, "status": "OK", "header": "9"}),
                ),
                record(
                    json!({"command": "QUIT"}),
                    json!({"success": true, "status": "OK", "header": "bye"}),
                ),
            ],
        );
        let insight = kit::stream(&said).insight;
        let counts = [
            insight.logins_attempted,
            insight.logins_succeeded,
            insight.logins_failed,
        ];
        assert_eq!((insight.user.as_deref(), counts), (Some("bob"), [2, 1, 1]));
    }

    #[test]
    fn tls_begins() {
        let said: [Said<'_>; 4] = [
            (1, b"+OK ready\r\n"),
            (0, b"STLS\r\n"),
            (1, b"+OK go\r\n"),
            (0, b"\x00\x00\x00\x00\x00"),
        ];
        assert_eq!(kit::stream(&said).insight.app_before, Some("pop3"));
        kit::check_cuts(&said);
    }

    #[test]
    fn redis_is_not_pop3() {
        let said: [Said<'_>; 2] = [(0, b"*1\r\n$4\r\nPING\r\n"), (1, b"+OK\r\n")];
        assert_ne!(kit::stream(&said).insight.app, Some("pop3"));
    }
}
