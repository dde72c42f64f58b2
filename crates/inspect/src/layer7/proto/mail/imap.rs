//! IMAP (RFC 9051, RFC 3501).

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::super::lines::{self, Fit, Lines, Next};
use crate::layer7::insight::{text, text_within};
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::record::Record;

#[derive(Debug)]
pub(super) struct Imap;

const LINE_MAX: usize = 8192;
const TAG_MAX: usize = 32;
const WAITING_MAX: usize = 64;

impl Protocol for Imap {
    fn name(&self) -> &'static str {
        "imap"
    }

    fn ports(&self) -> &'static [u16] {
        &[143]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        const GREETINGS: [&[u8]; 6] = [
            b"* OK",
            b"* PREAUTH",
            b"* BYE",
            b"* CAPABILITY",
            b"* LIST (",
            b"* FLAGS (",
        ];
        let server = match seen.server() {
            [] => Fit::More,
            bytes => Fit::begins_any(bytes, &GREETINGS),
        };
        let client = match seen.client() {
            [] => Fit::More,
            bytes => command(bytes),
        };
        let fit = match (client, server) {
            (Fit::Certain, _) | (_, Fit::Certain) => Fit::Certain,
            (Fit::No, _) | (_, Fit::No) => Fit::No,
            _ => Fit::More,
        };
        fit.verdict()
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<ImapSession>::default()
    }
}

/// Whether a client's first line is a command with a tag before it.
fn command(bytes: &[u8]) -> Fit {
    const COMMANDS: [&[u8]; 13] = [
        b"CAPABILITY\r\n",
        b"LOGIN ",
        b"AUTHENTICATE ",
        b"STARTTLS\r\n",
        b"SELECT ",
        b"EXAMINE ",
        b"ID (",
        b"ID NIL",
        b"LOGOUT\r\n",
        b"UID FETCH ",
        b"NAMESPACE\r\n",
        b"IDLE\r\n",
        b"LIST \"",
    ];
    let is_tag = |b: &u8| b.is_ascii_alphanumeric() || *b == b'.' || *b == b'-';
    let tag = bytes.iter().take(TAG_MAX).take_while(|b| is_tag(b)).count();
    match bytes.get(tag) {
        None => Fit::More,
        Some(b' ') if tag > 0 => Fit::begins_any(&bytes[tag + 1..], &COMMANDS),
        Some(_) => Fit::No,
    }
}

#[derive(Debug, Default)]
struct ImapSession {
    lines: [Lines; 2],
    waiting: VecDeque<Command>,
    /// The next line of the client is an answer to a challenge of this mechanism.
    auth: Option<Mechanism>,
    /// The words of a LOGIN that come as literals.
    login: Option<Vec<Vec<u8>>>,
}

#[derive(Debug)]
struct Command {
    tag: Vec<u8>,
    verb: String,
    is_login: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mechanism {
    Plain,
    User,
    Secret,
    Digest,
}

impl Session for ImapSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            let (line, taken) = match self.lines[side.index()].next(&bytes[at..], LINE_MAX) {
                Next::Line { line, taken, .. } => (line, taken),
                Next::Pass(taken) => {
                    at += taken;
                    continue;
                }
                Next::More => break,
            };
            let literal = literal(line);
            if side == Side::Client {
                let rest = &bytes[at + taken..];
                if let Some(len) = literal.filter(|len| *len <= 1024 && self.is_login(line)) {
                    // The user's name or the password itself.
                    let Some(value) = rest.get(..len as usize) else {
                        break;
                    };
                    self.client_line(line, out);
                    self.login.get_or_insert_default().push(value.to_vec());
                    at += taken + len as usize;
                    continue;
                }
                self.client_line(line, out);
            } else if self.server_line(line, out) {
                return Step::Switch {
                    taken: at + taken,
                    to: None,
                };
            }
            at += taken;
            if let Some(len) = literal {
                // A mail: nobody looks at it.
                let end = at as u64 + len;
                if end > bytes.len() as u64 {
                    return Step::Take(end);
                }
                at = end as usize;
            }
        }
        Step::Take(at as u64)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        for command in std::mem::take(&mut self.waiting) {
            tell(&command, None, out);
        }
    }
}

impl ImapSession {
    fn is_login(&self, line: &[u8]) -> bool {
        self.login.is_some() || lines::begins(lines::word(line).1, b"LOGIN ") == Some(true)
    }

    fn client_line(&mut self, line: &[u8], out: &mut Out<'_>) {
        if let Some(auth) = self.auth.take() {
            self.answer(auth, line, out);
            return;
        }
        if let Some(words) = &mut self.login {
            // What follows a literal of a LOGIN.
            let rest = arguments(line);
            words.extend(rest);
            self.end_login(out);
            return;
        }
        let (tag, rest) = lines::word(line);
        let (verb, rest) = lines::word(rest);
        if tag.is_empty() || verb.is_empty() {
            return;
        }
        let verb = text_within(&verb.to_ascii_uppercase(), TAG_MAX);
        let is_login = verb == "LOGIN" || verb == "AUTHENTICATE";
        if is_login {
            out.login(Login::Attempted);
        }
        match &verb[..] {
            "LOGIN" => {
                self.login = Some(arguments(rest));
                self.end_login(out);
            }
            "AUTHENTICATE" => {
                let (mechanism, initial) = lines::word(rest);
                let auth = match &mechanism.to_ascii_uppercase()[..] {
                    b"PLAIN" => Mechanism::Plain,
                    b"LOGIN" => Mechanism::User,
                    b"XOAUTH2" | b"OAUTHBEARER" => Mechanism::Secret,
                    _ => Mechanism::Digest,
                };
                if initial.is_empty() {
                    self.auth = Some(auth);
                } else {
                    self.answer(auth, initial, out);
                }
            }
            _ => {}
        }
        if self.waiting.len() >= WAITING_MAX
            && let Some(oldest) = self.waiting.pop_front()
        {
            tell(&oldest, None, out);
        }
        self.waiting.push_back(Command {
            tag: tag[..tag.len().min(TAG_MAX)].to_vec(),
            verb,
            is_login,
        });
    }

    fn end_login(&mut self, out: &mut Out<'_>) {
        let words = self.login.as_deref().unwrap_or_default();
        if let Some(user) = words.first() {
            out.insight.user = Some(text(user));
        }
        if words.len() >= 2 {
            out.insight.has_clear_credential = true;
            self.login = None;
        }
    }

    /// A client's answer to a challenge.
    fn answer(&mut self, auth: Mechanism, line: &[u8], out: &mut Out<'_>) {
        let answer = STANDARD.decode(line.trim_ascii()).unwrap_or_default();
        let user = match auth {
            Mechanism::Plain => answer.split(|&b| b == 0).nth(1),
            Mechanism::User => Some(&answer[..]),
            Mechanism::Secret => None,
            Mechanism::Digest => memchr::memrchr(b' ', &answer).map(|blank| &answer[..blank]),
        };
        if let Some(user) = user.filter(|user| !user.is_empty()) {
            out.insight.user = Some(text(user));
        }
        match auth {
            Mechanism::Plain | Mechanism::Secret => out.insight.has_clear_credential |= !answer.is_empty(),
            Mechanism::User => self.auth = Some(Mechanism::Secret),
            Mechanism::Digest => {}
        }
    }

    /// A line of the server's; true if TLS begins after it.
    fn server_line(&mut self, line: &[u8], out: &mut Out<'_>) -> bool {
        let (tag, rest) = lines::word(line);
        if tag == b"*" || tag == b"+" {
            return false;
        }
        let Some(at) = self.waiting.iter().position(|command| command.tag == tag) else {
            return false;
        };
        let Some(command) = self.waiting.remove(at) else {
            return false;
        };
        let status = lines::word(rest).0.to_ascii_uppercase();
        let is_good = status == b"OK";
        self.auth = None;
        self.login = None;
        if command.is_login {
            out.login(if is_good { Login::Succeeded } else { Login::Failed });
        }
        tell(&command, Some(&status), out);
        is_good && command.verb == "STARTTLS"
    }
}

fn tell(command: &Command, status: Option<&[u8]>, out: &mut Out<'_>) {
    if !out.wants_records() {
        return;
    }
    let mut fields = Map::new();
    fields.insert("command".into(), Value::from(command.verb.as_str()));
    if let Some(status) = status {
        fields.insert("status".into(), text_within(status, TAG_MAX).into());
    }
    out.record_of(Side::Client, Record::fields("imap", fields));
}

/// Bytes of a literal that follows a line: `{12}`, `{12+}`.
fn literal(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"}")?;
    let line = line.strip_suffix(b"+").unwrap_or(line);
    let at = memchr::memrchr(b'{', line)?;
    lines::number(&line[at + 1..]).filter(|len| *len < 1 << 32)
}

/// Words, which may stand in quotes; literals are left out.
fn arguments(line: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while !rest.is_empty() && words.len() < 8 {
        let mut word = Vec::new();
        let end = if rest[0] == b'"' {
            let mut at = 1;
            while at < rest.len() && rest[at] != b'"' {
                at += usize::from(rest[at] == b'\\' && at + 1 < rest.len());
                word.push(rest[at]);
                at += 1;
            }
            at + 1
        } else {
            let (first, _) = lines::word(rest);
            word.extend_from_slice(first);
            first.len()
        };
        rest = rest.get(end..).unwrap_or_default().trim_ascii_start();
        if !(word.starts_with(b"{") && word.ends_with(b"}")) {
            words.push(word);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    #[test]
    fn log_ins_and_what_follows() {
        let said: [Said<'_>; 9] = [
            (1, b"* OK ready\r\n"),
            (0, b"a1 LOGIN \"bob\" wrong\r\n"),
            (1, b"a1 NO [AUTHENTICATIONFAILED] no\r\n"),
            (0, b"a2 login {3}\r\n"),
            (1, b"+ go on\r\n"),
            (0, b"bob {5}\r\n"),
            (0, b"right\r\n"),
            (1, b"a2 OK in\r\n"),
            (0, b"a3 FETCH 1 RFC822\r\n"),
        ];
        let said = [
            &said[..],
            &[(1, b"* 1 FETCH (RFC822 {9}\r\na3 OK no\r)\r\na3 OK done\r\n")],
        ]
        .concat();
        let record = |command, status| ("imap", json!({"command": command, "status": status}));
        kit::check_stream(
            &said,
            Some("imap"),
            &[
                record("LOGIN", "NO"),
                record("LOGIN", "OK"),
                record("FETCH", "OK"),
            ],
        );
        let insight = kit::stream(&said).insight;
        let counts = [
            insight.logins_attempted,
            insight.logins_succeeded,
            insight.logins_failed,
        ];
        assert_eq!((insight.user.as_deref(), counts), (Some("bob"), [2, 1, 1]));
        assert!(insight.has_clear_credential);
    }

    #[test]
    fn authenticate() {
        let said: [Said<'_>; 5] = [
            (0, b"1 AUTHENTICATE PLAIN\r\n"),
            (1, b"+ \r\n"),
            (0, b"AHVzZXIAcGFzcw==\r\n"),
            (1, b"1 OK in\r\n"),
            (0, b"2 STARTTLS\r\n"),
        ];
        let insight = kit::stream(&said).insight;
        assert_eq!(
            (insight.app, insight.user.as_deref()),
            (Some("imap"), Some("user"))
        );
        assert!(insight.has_clear_credential);
        kit::check_cuts(&said);
        let said = [&said[..], &[(1, b"2 OK go\r\n"), (0, b"\x00\x00\x00\x00\x00")]].concat();
        assert_eq!(kit::stream(&said).insight.app_before, Some("imap"));
    }
}
