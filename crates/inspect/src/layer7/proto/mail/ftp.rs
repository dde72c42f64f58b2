//! FTP (RFC 959), with EPRT and EPSV (RFC 2428) and TLS (RFC 4217), and the transfers it announces.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use super::super::lines::{self, Fit, Lines, Next};
use crate::layer7::insight::{text, text_within};
use crate::layer7::protocol::{
    Expected, Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict,
};
use crate::layer7::record::{self, Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Ftp;

#[derive(Debug)]
pub(super) struct FtpData;

/// Longest line that is told.
const LINE_MAX: usize = 4096;
/// Commands that wait for their replies, and lines of a reply that are kept.
const WAITING_MAX: usize = 64;
const REPLY_LINES_MAX: usize = 64;

/// What a client of POP3, SMTP or IRC would not say.
const COMMANDS: [&[u8]; 9] = [
    b"PASV\r\n",
    b"EPSV",
    b"TYPE I\r\n",
    b"TYPE A\r\n",
    b"AUTH TLS\r\n",
    b"AUTH SSL\r\n",
    b"PORT ",
    b"EPRT |",
    b"SYST\r\n",
];
/// What a client says after a greeting of FTP, and others might as well.
const USUAL: [&[u8]; 5] = [b"USER ", b"FEAT\r\n", b"OPTS ", b"HOST ", b"CLNT "];

impl Protocol for Ftp {
    fn name(&self) -> &'static str {
        "ftp"
    }

    fn ports(&self) -> &'static [u16] {
        &[21]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let has_port = seen.has_port(21);
        let server = match seen.server() {
            [] => Fit::More,
            bytes => greeting(bytes, has_port),
        };
        let client = match seen.client() {
            [] => Fit::More,
            bytes => match Fit::begins_any(bytes, &COMMANDS) {
                Fit::Certain => Fit::Certain,
                fit => match Fit::begins_any(bytes, &USUAL) {
                    Fit::Certain if Fit::begins_any(seen.server(), &[b"220"]) == Fit::Certain => Fit::Certain,
                    Fit::Certain if has_port => Fit::Likely,
                    Fit::No => fit,
                    _ => Fit::More,
                },
            },
        };
        let fit = match (client, server) {
            (_, Fit::No) | (Fit::No, Fit::More) => Fit::No,
            (client, server) => client.max(server),
        };
        fit.verdict()
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<FtpSession>::default()
    }
}

/// What a server says first.
fn greeting(bytes: &[u8], has_port: bool) -> Fit {
    let is_begun = Fit::begins_any(bytes, &[b"220 ", b"220-"]);
    if is_begun != Fit::Certain {
        let is_reply = lines::reply(bytes.get(..4).unwrap_or_default()).is_some();
        return if has_port && is_reply {
            Fit::Likely
        } else {
            is_begun
        };
    }
    match lines::first(bytes, 512) {
        lines::Line::Whole(line, _) if lines::has(line, b"ftp") => Fit::Certain,
        lines::Line::Whole(line, _) if lines::has(line, b"smtp") => Fit::No,
        lines::Line::Long(_) => Fit::No,
        _ if has_port => Fit::Likely,
        _ => Fit::More,
    }
}

#[derive(Debug, Default)]
struct FtpSession {
    lines: [Lines; 2],
    /// Commands without their last reply, and the greeting.
    waiting: VecDeque<record::Ftp>,
    /// A reply of several lines goes on until a line begins with this code.
    many: Option<u16>,
    has_greeting: bool,
    is_anonymous: bool,
    /// Where the next transfer goes.
    data: Option<(IpAddr, u16)>,
}

impl Session for FtpSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            match self.lines[side.index()].next(&bytes[at..], LINE_MAX) {
                Next::Line { line, taken, is_cut } => {
                    at += taken;
                    match side {
                        Side::Client => self.command(line, is_cut, out),
                        Side::Server => {
                            if self.reply(line, is_cut, out) {
                                self.tell_all(out);
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

    fn gap(&mut self, _: Side, _: u64, out: &mut Out<'_>) -> Step {
        self.tell_all(out);
        self.many = None;
        Step::Take(0)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        self.tell_all(out);
    }
}

impl FtpSession {
    fn command(&mut self, line: &[u8], is_cut: bool, out: &mut Out<'_>) {
        // Telnet's marks may stand before an ABOR.
        let line = line.trim_ascii();
        let (verb, argument) = lines::word(line);
        if verb.is_empty() {
            return;
        }
        let verb = verb.to_ascii_uppercase();
        let mut ftp = record::Ftp {
            command: Some(text_within(&verb, 32)),
            command_data: (!argument.is_empty()).then(|| text_within(argument, LINE_MAX)),
            command_truncated: is_cut,
            reply_received: "no",
            ..record::Ftp::default()
        };
        match &verb[..] {
            b"USER" => {
                self.is_anonymous =
                    argument.eq_ignore_ascii_case(b"anonymous") || argument.eq_ignore_ascii_case(b"ftp");
                out.insight.user = Some(text(argument));
            }
            b"PASS" => {
                out.login(Login::Attempted);
                out.insight.has_clear_credential |= !self.is_anonymous && !argument.is_empty();
                ftp.command_data = Some("…".to_owned());
            }
            b"PORT" | b"EPRT" => {
                let end = if verb == b"PORT" {
                    six(argument)
                } else {
                    extended(argument)
                };
                if let Some((address, port)) = end {
                    ftp.mode = Some("active");
                    ftp.dynamic_port = Some(port);
                    self.announce((address, port), None, out);
                    if address != out.addresses[0] {
                        out.anomaly(Anomaly::parser("port_of_another_host", Severity::Medium));
                    }
                }
            }
            b"RETR" | b"STOR" | b"STOU" | b"APPE" | b"LIST" | b"NLST" | b"MLSD" => {
                if let Some(end) = self.data.take() {
                    let mut about = text_within(&verb, 4);
                    if matches!(&verb[..], b"RETR" | b"STOR" | b"STOU" | b"APPE") && !argument.is_empty() {
                        about.push(' ');
                        about.push_str(&text(argument));
                    }
                    self.announce(end, Some(about.into()), out);
                    self.data = None;
                }
            }
            _ => {}
        }
        if self.waiting.len() >= WAITING_MAX
            && let Some(oldest) = self.waiting.pop_front()
        {
            tell(oldest, out);
        }
        self.waiting.push_back(ftp);
    }

    fn announce(&mut self, end: (IpAddr, u16), about: Option<Box<str>>, out: &mut Out<'_>) {
        self.data = Some(end);
        let expected = Expected {
            protocol: &FtpData,
            about,
        };
        out.expect(Transport::Tcp, end.0, end.1, expected);
    }

    /// A line of the server's; true if TLS begins after it.
    fn reply(&mut self, line: &[u8], is_cut: bool, out: &mut Out<'_>) -> bool {
        let of = lines::reply(line);
        let is_greeting = !self.has_greeting;
        if self.waiting.is_empty() {
            self.waiting.push_back(record::Ftp {
                reply_received: "no",
                ..record::Ftp::default()
            });
        }
        let Some(ftp) = self.waiting.front_mut() else {
            return false;
        };
        let said = match (self.many, of) {
            (None, Some(_)) => line.get(4..).unwrap_or_default(),
            (Some(code), Some((last, false))) if last == code => line.get(4..).unwrap_or_default(),
            _ => line,
        };
        ftp.reply_received = "yes";
        ftp.reply_truncated |= is_cut;
        if ftp.reply.len() < REPLY_LINES_MAX {
            ftp.reply.push(text_within(said, LINE_MAX));
        }
        let code = match (self.many, of) {
            (None, Some((code, true))) => {
                self.many = Some(code);
                return false;
            }
            (None, Some((code, false))) => code,
            (Some(begun), Some((code, false))) if begun == code => code,
            _ => return false,
        };
        self.many = None;
        if ftp.completion_code.len() < REPLY_LINES_MAX {
            ftp.completion_code.push(code.to_string());
        }
        // The last reply to the command comes yet.
        if code < 200 {
            return false;
        }
        self.has_greeting = true;
        let Some(mut ftp) = self.waiting.pop_front() else {
            return false;
        };
        let is_tls = self.replied(code, &mut ftp, out);
        if is_greeting && code == 220 && ftp.command.is_none() && out.insight.host.is_none() {
            let name = ftp.reply.first().map(String::as_str).unwrap_or_default();
            let host = name.split(' ').next().unwrap_or_default();
            if host.contains('.')
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
            {
                out.insight.host = Some(host.into());
            }
        }
        tell(ftp, out);
        is_tls
    }

    fn replied(&mut self, code: u16, ftp: &mut record::Ftp, out: &mut Out<'_>) -> bool {
        let said = ftp.reply.last().map(String::as_bytes).unwrap_or_default();
        match ftp.command.as_deref() {
            Some("USER") if code == 230 => {
                out.login(Login::Attempted);
                out.login(Login::Succeeded);
            }
            Some("USER") if code == 530 => {
                out.login(Login::Attempted);
                out.login(Login::Failed);
            }
            Some("PASS") if code == 230 || code == 232 => out.login(Login::Succeeded),
            Some("PASS") if code >= 400 => out.login(Login::Failed),
            Some("AUTH") => return code == 234,
            Some("PASV") if code == 227 => {
                let from = said.iter().position(u8::is_ascii_digit).unwrap_or(said.len());
                if let Some((address, port)) = six(&said[from..]) {
                    ftp.mode = Some("passive");
                    ftp.dynamic_port = Some(port);
                    // Behind a translator of addresses the one given is not the one that is used.
                    self.announce((address, port), None, out);
                    self.announce((out.addresses[1], port), None, out);
                }
            }
            Some("EPSV") if code == 229 => {
                let port = memchr::memmem::find(said, b"|||")
                    .map(|at| &said[at + 3..])
                    .and_then(|rest| lines::number(&rest[..memchr::memchr(b'|', rest)?]))
                    .and_then(|port| u16::try_from(port).ok());
                if let Some(port) = port {
                    ftp.mode = Some("passive");
                    ftp.dynamic_port = Some(port);
                    self.announce((out.addresses[1], port), None, out);
                }
            }
            _ => {}
        }
        false
    }

    fn tell_all(&mut self, out: &mut Out<'_>) {
        for ftp in std::mem::take(&mut self.waiting) {
            tell(ftp, out);
        }
    }
}

fn tell(ftp: record::Ftp, out: &mut Out<'_>) {
    out.record_of(Side::Client, Record::Ftp(Box::new(ftp)));
}

/// `1,2,3,4,5,6`: an address and a port.
fn six(text: &[u8]) -> Option<(IpAddr, u16)> {
    let end = text.iter().position(|b| !b.is_ascii_digit() && *b != b',');
    let mut numbers = [0u8; 6];
    let mut parts = text[..end.unwrap_or(text.len())].split(|&b| b == b',');
    for number in &mut numbers {
        *number = u8::try_from(lines::number(parts.next()?)?).ok()?;
    }
    let [a, b, c, d, high, low] = numbers;
    Some((Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
}

/// `|1|192.0.2.1|1234|`: family, address and port.
fn extended(text: &[u8]) -> Option<(IpAddr, u16)> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.split(text.chars().next()?).skip(2);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

impl Protocol for FtpData {
    fn name(&self) -> &'static str {
        "ftp-data"
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    /// It may be anything: FTP tells.
    fn probe(&self, _: &Seen<'_>) -> Verdict {
        Verdict::No
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Transfer)
    }
}

#[derive(Debug)]
struct Transfer;

impl Session for Transfer {
    fn data(&mut self, _: Side, _: &[u8], out: &mut Out<'_>) -> Step {
        if let Some(about) = &out.insight.about {
            let (command, file) = match about.split_once(' ') {
                Some((command, file)) => (command, Some(file)),
                None => (&**about, None),
            };
            let known = ["RETR", "STOR", "STOU", "APPE", "LIST", "NLST", "MLSD"];
            let data = record::FtpData {
                filename: file.map(str::to_owned),
                command: known
                    .into_iter()
                    .find(|known| *known == command)
                    .unwrap_or_default(),
            };
            out.record_of(Side::Client, Record::FtpData(Box::new(data)));
        }
        Step::Done
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::layer7::kit::{self, Said};

    #[test]
    fn commands_and_their_replies() {
        let said: [Said<'_>; 10] = [
            (1, b"220-Hi\r\n220 there\r\n"),
            (0, b"USER bob\r\n"),
            (1, b"331 Password?\r\n"),
            (0, b"PASS secret\r\n"),
            (1, b"530 No\r\n"),
            (0, b"PASS other\r\n"),
            (1, b"230 Yes\r\n"),
            (0, b"PASV\r\nRETR f\r\n"),
            (
                1,
                b"227 Passive (198,51,100,2,1,2).\r\n150 Opening\r\n226 Done\r\n",
            ),
            (0, b"PORT 9,9,9,9,0,80\r\n"),
        ];
        let command = |command: &str, data: Option<&str>, codes: &[&str], reply: &[&str]| {
            let mut ftp = json!({"command": command});
            if let Some(data) = data {
                ftp["command_data"] = data.into();
            }
            ftp["reply"] = json!(reply);
            ftp["completion_code"] = json!(codes);
            ftp["reply_received"] = "yes".into();
            ftp["command_truncated"] = false.into();
            ftp["reply_truncated"] = false.into();
            ftp
        };
        let mut passive = command("PASV", None, &["227"], &["Passive (198,51,100,2,1,2)."]);
        passive["dynamic_port"] = 258.into();
        passive["mode"] = "passive".into();
        kit::check_stream(
            &said,
            Some("ftp"),
            &[
                (
                    "ftp",
                    json!({"reply": ["Hi", "there"], "completion_code": ["220"], "reply_received": "yes",
                        "command_truncated": false, "reply_truncated": false}),
                ),
                ("ftp", command("USER", Some("bob"), &["331"], &["Password?"])),
                ("ftp", command("PASS", Some("…"), &["530"], &["No"])),
                ("ftp", command("PASS", Some("…"), &["230"], &["Yes"])),
                ("ftp", passive),
                (
                    "ftp",
                    command("RETR", Some("f"), &["150", "226"], &["Opening", "Done"]),
                ),
                (
                    "anomaly",
                    json!({"type": "applayer", "event": "port_of_another_host", "layer": "proto_parser"}),
                ),
                (
                    "ftp",
                    json!({"command": "PORT", "command_data": "9,9,9,9,0,80", "dynamic_port": 80, "mode": "active",
                        "reply_received": "no", "command_truncated": false, "reply_truncated": false}),
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
        assert!(insight.has_clear_credential);
    }

    #[test]
    fn addresses_of_transfers() {
        let end = |address: &str, port| Some((address.parse().expect("address"), port));
        assert_eq!(six(b"1,2,3,4,5,6)."), end("1.2.3.4", 1286));
        assert_eq!(six(b"1,2,3,4,5"), None);
        assert_eq!(six(b"1,2,3,4,5,256"), None);
        assert_eq!(extended(b"|1|192.0.2.1|99|"), end("192.0.2.1", 99));
        assert_eq!(extended(b"|2|2001:db8::1|99|"), end("2001:db8::1", 99));
        assert_eq!(extended(b""), None);
    }

    #[test]
    fn tls_begins() {
        let said: [Said<'_>; 4] = [
            (1, b"220 FTP server\r\n"),
            (0, b"AUTH TLS\r\n"),
            (1, b"234 go\r\n"),
            (0, b"\x00\x00\x00\x00\x00"),
        ];
        assert_eq!(kit::stream(&said).insight.app_before, Some("ftp"));
        kit::check_cuts(&said);
    }
}
