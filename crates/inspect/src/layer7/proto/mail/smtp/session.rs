//! One connection: its mails, log-ins, and where it turns into TLS.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::super::lines::{self, Lines, Next};
use super::super::email::Mail;
use crate::layer7::insight::{text, text_within};
use crate::layer7::protocol::{Login, Out, Session, Side, Step};
use crate::layer7::record::{self, Anomaly, Record, Severity};

/// Longest line of a command, a reply and a mail.
const LINE_MAX: usize = 4096;
/// Most recipients of a mail that are told.
const RECIPIENTS_MAX: usize = 1000;
/// Commands that wait for their replies.
const WAITING_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct SmtpSession {
    lines: [Lines; 2],
    state: State,
    /// Commands without their replies.
    waiting: VecDeque<Command>,
    has_greeting: bool,
    helo: Option<String>,
    /// The mail that is put together.
    now: Option<record::Smtp>,
    mail: Option<Mail>,
    /// Something was told of the connection.
    has_told: bool,
}

/// What the client's next bytes are.
#[derive(Debug, Default)]
enum State {
    #[default]
    Command,
    /// Lines of a mail, after so many of them.
    Data(u64),
    /// Bytes of a mail; whether it is the last chunk.
    Chunk(u64, bool),
    Auth(Mechanism),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mechanism {
    Plain,
    /// The user's name, then the password.
    Login,
    LoginPassword,
    Token,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Auth,
    StartTls,
    Data,
    /// The end of a mail.
    Mail,
    Other,
}

impl Session for SmtpSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if side == Side::Client
                && let State::Chunk(left, is_last) = self.state
            {
                // A chunk is cut into lines: a line goes on in the next chunk at most once.
                let len = (rest.len() as u64).min(left);
                if len < left && rest.len() < LINE_MAX && memchr::memchr(b'\n', rest).is_none() {
                    break;
                }
                at += self.chunk(&rest[..len as usize], left, is_last, out);
                continue;
            }
            match self.lines[side.index()].next(rest, LINE_MAX) {
                Next::Line { line, taken, is_cut } => {
                    at += taken;
                    if is_cut && !matches!(self.state, State::Data(_)) {
                        out.anomaly(Anomaly::parser("max_command_line_len_exceeded", Severity::Medium));
                    }
                    match side {
                        Side::Client => self.client_line(line, out),
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

    fn gap(&mut self, side: Side, len: u64, _: &mut Out<'_>) -> Step {
        if side == Side::Client {
            match &mut self.state {
                State::Chunk(left, _) if *left > len => *left -= len,
                State::Data(_) => {}
                _ => return Step::Done,
            }
        }
        // Replies that were lost are waited for no more.
        self.waiting.clear();
        Step::Take(0)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        self.end_mail(false, out);
        if !self.has_told
            && let Some(helo) = self.helo.take()
        {
            let greeted = record::Smtp {
                helo: Some(helo),
                ..record::Smtp::default()
            };
            out.record_of(Side::Client, Record::Smtp(Box::new(greeted)));
        }
    }
}

impl SmtpSession {
    fn client_line(&mut self, line: &[u8], out: &mut Out<'_>) {
        match self.state {
            State::Command => self.command(line, out),
            State::Data(n_lines) => {
                if line == b"." {
                    self.state = State::Command;
                    self.wait_for(Command::Mail);
                    self.end_mail(true, out);
                    return;
                }
                self.state = State::Data(n_lines + 1);
                let line = line.strip_prefix(b".").unwrap_or(line);
                self.mail.get_or_insert_default().line(line);
            }
            State::Auth(mechanism) => {
                self.state = State::Command;
                if line != b"*" {
                    self.wait_for(Command::Auth);
                    self.auth(mechanism, line, out);
                }
            }
            // Chunks are not lines: the caller looks at them before.
            State::Chunk(..) => {}
        }
    }

    fn command(&mut self, line: &[u8], out: &mut Out<'_>) {
        let (verb, rest) = lines::word(line);
        let rest = rest.trim_ascii_end();
        let verb = verb.to_ascii_uppercase();
        let mut command = Command::Other;
        match &verb[..] {
            b"EHLO" | b"HELO" | b"LHLO" => {
                self.end_mail(false, out);
                // As Suricata has it the first one counts.
                self.helo.get_or_insert_with(|| text_within(rest, LINE_MAX));
            }
            b"MAIL" => {
                let now = self.now.get_or_insert_default();
                // A second one is refused.
                if now.mail_from.is_none() {
                    now.mail_from = Some(path(rest));
                }
            }
            b"RCPT" => {
                let now = self.now.get_or_insert_default();
                if now.mail_from.is_some() && now.rcpt_to.len() < RECIPIENTS_MAX {
                    now.rcpt_to.push(path(rest));
                }
            }
            b"DATA" => {
                command = Command::Data;
                self.now.get_or_insert_default();
                self.state = State::Data(0);
            }
            b"BDAT" => {
                let (size, last) = lines::word(rest);
                let is_last = last.eq_ignore_ascii_case(b"LAST");
                if let Some(size) = lines::number(size)
                    && (is_last || last.is_empty())
                {
                    self.now.get_or_insert_default();
                    self.mail.get_or_insert_default();
                    self.state = State::Chunk(size, is_last);
                    if size == 0 {
                        self.chunk(&[], 0, is_last, out);
                    }
                }
            }
            b"RSET" | b"QUIT" => self.end_mail(false, out),
            b"STARTTLS" => command = Command::StartTls,
            b"AUTH" => {
                command = Command::Auth;
                out.login(Login::Attempted);
                let (name, initial) = lines::word(rest);
                let mechanism = match &name.to_ascii_uppercase()[..] {
                    b"PLAIN" => Mechanism::Plain,
                    b"LOGIN" => Mechanism::Login,
                    b"XOAUTH2" | b"OAUTHBEARER" => Mechanism::Token,
                    _ => Mechanism::Other,
                };
                self.state = State::Auth(mechanism);
                if !initial.is_empty() {
                    self.state = State::Command;
                    self.auth(mechanism, initial, out);
                }
            }
            _ => {}
        }
        self.wait_for(command);
    }

    /// A client's answer to a challenge.
    fn auth(&mut self, mechanism: Mechanism, line: &[u8], out: &mut Out<'_>) {
        let answer = STANDARD.decode(line.trim_ascii()).unwrap_or_default();
        let mut user = |name: &[u8]| {
            if !name.is_empty() {
                out.insight.user = Some(text(name));
            }
        };
        match mechanism {
            // Whom to act for, the user, the password, with NUL between.
            Mechanism::Plain => {
                if let Some(name) = answer.split(|&b| b == 0).nth(1) {
                    user(name);
                    out.insight.has_clear_credential = true;
                }
            }
            Mechanism::Login => {
                user(&answer);
                self.state = State::Auth(Mechanism::LoginPassword);
            }
            Mechanism::LoginPassword | Mechanism::Token => out.insight.has_clear_credential = true,
            // CRAM-MD5: the user and a digest.
            Mechanism::Other => {
                if let Some(blank) = memchr::memrchr(b' ', &answer) {
                    user(&answer[..blank]);
                }
            }
        }
    }

    fn chunk(&mut self, bytes: &[u8], left: u64, is_last: bool, out: &mut Out<'_>) -> usize {
        let end = memchr::memchr(b'\n', bytes);
        let taken = end.map_or(bytes.len(), |end| end + 1);
        let line = &bytes[..end.unwrap_or(bytes.len())];
        if taken > 0 {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.mail
                .get_or_insert_default()
                .line(&line[..line.len().min(LINE_MAX)]);
        }
        self.state = match left - taken as u64 {
            0 => State::Command,
            left => State::Chunk(left, is_last),
        };
        if is_last && left == taken as u64 {
            self.end_mail(true, out);
        }
        taken
    }

    fn wait_for(&mut self, command: Command) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(command);
        }
    }

    /// The mail is handed over, or given up.
    fn end_mail(&mut self, is_whole: bool, out: &mut Out<'_>) {
        let mail = self.mail.take();
        let Some(mut now) = self.now.take() else {
            return;
        };
        if now.mail_from.is_none() && now.rcpt_to.is_empty() && mail.is_none() {
            return;
        }
        now.helo = self.helo.clone();
        now.email = mail.map(|mail| mail.end(is_whole));
        self.has_told = true;
        out.record_of(Side::Client, Record::Smtp(Box::new(now)));
    }

    /// A line of the server's; true if TLS begins after it.
    fn reply(&mut self, line: &[u8], out: &mut Out<'_>) -> bool {
        let Some((code, has_more)) = lines::reply(line) else {
            return false;
        };
        if !self.has_greeting {
            if code == 220 && out.insight.host.is_none() {
                let (host, _) = lines::word(line.get(4..).unwrap_or_default());
                if host.contains(&b'.') {
                    out.insight.host = Some(text(host));
                }
            }
            self.has_greeting = !has_more;
            // Of a connection joined in the middle the first reply is to a command.
            if code == 220 || self.waiting.is_empty() {
                return false;
            }
        }
        if has_more {
            return false;
        }
        match self.waiting.pop_front() {
            Some(Command::Auth) => match code {
                334 => {}
                235 => {
                    self.state = State::Command;
                    out.login(Login::Succeeded);
                }
                _ => {
                    self.state = State::Command;
                    out.login(Login::Failed);
                }
            },
            Some(Command::StartTls) => return code == 220,
            Some(Command::Data) if code >= 400 && matches!(self.state, State::Data(0)) => {
                self.state = State::Command;
            }
            _ => {}
        }
        false
    }
}

/// What stands behind `FROM:` and `TO:`, without parameters.
fn path(rest: &[u8]) -> String {
    let path = match memchr::memchr(b':', rest) {
        Some(colon) => rest[colon + 1..].trim_ascii_start(),
        None => rest,
    };
    let end = match (path.first(), memchr::memchr(b'>', path)) {
        (Some(b'<'), Some(end)) => end + 1,
        _ => path.iter().position(|&b| b == b' ').unwrap_or(path.len()),
    };
    text_within(&path[..end], LINE_MAX)
}
