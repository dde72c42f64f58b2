//! Telnet (RFC 854), and the log-ins in it.

use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};

#[derive(Debug)]
pub(super) struct Telnet;

const IAC: u8 = 255;
/// Text of the server since the client's last line, and a line of the client: bytes that are kept.
const TEXT_MAX: usize = 2048;
const LINE_MAX: usize = 256;
/// Bytes of either side after which nobody logs in any more.
const SIDE_MAX: u64 = 64 * 1024;

impl Protocol for Telnet {
    fn name(&self) -> &'static str {
        "telnet"
    }

    fn ports(&self) -> &'static [u16] {
        &[23, 2323]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let counts = seen.data.map(options);
        if counts.iter().any(|count| count.is_none_or(|count| count == 0)) {
            // One side may speak first, but what it says must be options.
            return match counts {
                [Some(0), Some(0)] if seen.data.iter().all(|data| data.len() < 3) => Verdict::NeedMore,
                [Some(n), Some(0)] | [Some(0), Some(n)] if n >= 2 => Verdict::CERTAIN,
                [Some(n), Some(0)] | [Some(0), Some(n)] if n > 0 => {
                    if seen.has_port(23) {
                        Verdict::LIKELY
                    } else {
                        Verdict::NeedMore
                    }
                }
                _ => Verdict::No,
            };
        }
        Verdict::CERTAIN
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<TelnetSession>::default()
    }
}

/// Options that the bytes begin with; `None` if they begin with something else.
fn options(bytes: &[u8]) -> Option<u32> {
    let (mut at, mut count) = (0, 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match *rest {
            [IAC, 251..=254, option, ..] if option <= 50 || option == 255 => {
                count += 1;
                at += 3;
            }
            [IAC, 250, ..] => {
                count += 1;
                match memchr::memmem::find(rest, &[IAC, 240]) {
                    Some(end) => at += end + 2,
                    None => break,
                }
            }
            [IAC] | [IAC, 251..=254] => break,
            _ if count > 0 => break,
            _ => return None,
        }
    }
    Some(count)
}

#[derive(Debug, Default)]
struct TelnetSession {
    sides: [Plain; 2],
    /// What the server said since the client's last line.
    prompt: Vec<u8>,
    line: Vec<u8>,
    /// A password was sent, and what came of it has not shown.
    is_pending: bool,
}

/// A side's bytes without options.
#[derive(Debug, Default)]
struct Plain {
    state: Options,
    len: u64,
}

#[derive(Debug, Default)]
enum Options {
    #[default]
    Text,
    Command,
    Option,
    Sub,
    SubCommand,
}

impl Plain {
    fn text(&mut self, byte: u8) -> Option<u8> {
        self.len += 1;
        let (state, text) = match (&self.state, byte) {
            (Options::Text, IAC) => (Options::Command, None),
            (Options::Text, byte) => (Options::Text, Some(byte)),
            (Options::Command, 251..=254) => (Options::Option, None),
            (Options::Command, 250) => (Options::Sub, None),
            (Options::Command | Options::Option, _) => (Options::Text, None),
            (Options::Sub, IAC) => (Options::SubCommand, None),
            (Options::SubCommand, 240) => (Options::Text, None),
            (Options::Sub | Options::SubCommand, _) => (Options::Sub, None),
        };
        self.state = state;
        text
    }
}

impl Session for TelnetSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        for &byte in bytes {
            let plain = &mut self.sides[side.index()];
            let Some(byte) = plain.text(byte) else {
                continue;
            };
            if plain.len > SIDE_MAX {
                self.settle(out);
                return Step::Done;
            }
            match side {
                Side::Server => {
                    if self.prompt.len() >= TEXT_MAX {
                        self.prompt.drain(..TEXT_MAX / 2);
                    }
                    self.prompt.push(byte.to_ascii_lowercase());
                }
                Side::Client => match byte {
                    b'\r' => self.client_line(out),
                    b'\n' | 0 => {}
                    8 | 0x7f => {
                        self.line.pop();
                    }
                    _ if self.line.len() < LINE_MAX => self.line.push(byte),
                    _ => {}
                },
            }
        }
        Step::Take(bytes.len() as u64)
    }

    fn gap(&mut self, _: Side, _: u64, _: &mut Out<'_>) -> Step {
        Step::Take(0)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        self.settle(out);
    }
}

impl TelnetSession {
    fn client_line(&mut self, out: &mut Out<'_>) {
        self.settle(out);
        let line = std::mem::take(&mut self.line);
        let prompt = std::mem::take(&mut self.prompt);
        // The echo of the line stands behind the prompt.
        let last = prompt.rsplit(|&b| b == b'\n').next().unwrap_or_default();
        let asks = |what: &[u8]| memchr::memmem::find(last, what).is_some();
        if asks(b"password") || asks(b"passcode") {
            out.login(Login::Attempted);
            out.insight.has_clear_credential = true;
            self.is_pending = true;
        } else if (asks(b"login:") || asks(b"username:") || asks(b"user name:") || asks(b"user:"))
            && !line.is_empty()
        {
            out.insight.user = Some(text(&line));
        }
    }

    /// What came of the last password.
    fn settle(&mut self, out: &mut Out<'_>) {
        if !self.is_pending {
            return;
        }
        let has = |what: &[u8]| memchr::memmem::find(&self.prompt, what).is_some();
        if self.prompt.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        self.is_pending = false;
        let failed: [&[u8]; 9] = [
            b"incorrect",
            b"failed",
            b"failure",
            b"denied",
            b"invalid",
            b"bad password",
            b"wrong",
            b"login:",
            b"password:",
        ];
        let is_failed = !has(b"last login") && failed.iter().any(|what| has(what));
        out.login(if is_failed {
            Login::Failed
        } else {
            Login::Succeeded
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit::{self, Said};

    #[test]
    fn log_ins() {
        let said: [Said<'_>; 10] = [
            (1, b"\xff\xfd\x18\xff\xfb\x01"),
            (0, b"\xff\xfb\x18\xff\xfa\x18\0xterm\xff\xf0"),
            (1, b"host login: "),
            (0, b"bon\x7fb\r\n"),
            (1, b"bob\r\nPassword: "),
            (0, b"wrong\r\0"),
            (1, b"\r\nLogin incorrect\r\nhost login: "),
            (0, b"bob\r\n"),
            (1, b"bob\r\nPassword: "),
            (0, b"right\r\n"),
        ];
        let said = [&said[..], &[(1, b"\r\nLast login: never\r\n$ ")]].concat();
        kit::check_stream(&said, Some("telnet"), &[]);
        let insight = kit::stream(&said).insight;
        let counts = [
            insight.logins_attempted,
            insight.logins_succeeded,
            insight.logins_failed,
        ];
        assert_eq!((insight.user.as_deref(), counts), (Some("bob"), [2, 1, 1]));
    }

    #[test]
    fn others_are_not_telnet() {
        kit::check_stream(&[(0, b"\xff\xff\xff\xff")], None, &[]);
        kit::check_stream(&[(1, b"\xff\xfb")], None, &[]);
    }
}
