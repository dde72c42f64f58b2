//! Redis (RESP 2 and 3, "Redis serialization protocol specification").

use std::collections::VecDeque;

use serde_json::Map;

use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::eve_text;
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Redis;

/// Longest line that is waited for.
const LINE_MAX: usize = 4096;
/// Bytes of an argument that are kept.
const ARGUMENT_MAX: usize = 256;
/// Arguments that are kept, the command's name among them.
const ARGUMENTS_MAX: usize = 4;
/// Commands that may wait for their replies.
const PENDING_MAX: usize = 256;

impl Protocol for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn ports(&self) -> &'static [u16] {
        &[6379]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        seen.opened_by_either(|bytes| {
            if bytes[0] != b'*' {
                return if seen.has_port(6379) {
                    plain(bytes)
                } else {
                    Verdict::No
                };
            }
            // `*2\r\n$4\r\n`
            let mut rest = bytes;
            for mark in [b'*', b'$'] {
                let Some((&first, digits)) = rest.split_first() else {
                    return Verdict::NeedMore;
                };
                let n = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let after = &digits[n..];
                if first != mark || n > 7 || (n == 0 && !after.is_empty()) || digits.first() == Some(&b'0') {
                    return Verdict::No;
                }
                if after.len() < 2 {
                    return if b"\r\n".starts_with(after) {
                        Verdict::NeedMore
                    } else {
                        Verdict::No
                    };
                }
                if !after.starts_with(b"\r\n") {
                    return Verdict::No;
                }
                rest = &after[2..];
            }
            match rest.first() {
                None => Verdict::NeedMore,
                Some(byte) if byte.is_ascii_alphabetic() => Verdict::CERTAIN,
                Some(_) => Verdict::No,
            }
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Connection>::default()
    }
}

/// A command in plain words, or a reply: with Redis' port only.
fn plain(bytes: &[u8]) -> Verdict {
    const WORDS: [&[u8]; 9] = [
        b"PING", b"AUTH ", b"HELLO", b"INFO", b"GET ", b"SET ", b"SELECT ", b"COMMAND", b"QUIT",
    ];
    let upper: Vec<u8> = bytes.iter().take(8).map(u8::to_ascii_uppercase).collect();
    if WORDS.iter().any(|word| upper.starts_with(word)) {
        Verdict::LIKELY
    } else if WORDS.iter().any(|word| word.starts_with(&upper))
        || matches!(bytes[0], b'+' | b'-' | b':' | b'$')
    {
        Verdict::NeedMore
    } else {
        Verdict::No
    }
}

/// A value that is being read, of either side.
#[derive(Default)]
struct Value {
    /// Elements that are still to come; 0 between values.
    left: u64,
    /// Its first texts.
    texts: Vec<Vec<u8>>,
    is_error: bool,
}

struct Command {
    arguments: Vec<Vec<u8>>,
    is_login: bool,
}

#[derive(Default)]
struct Connection {
    values: [Value; 2],
    pending: VecDeque<Command>,
}

const BROKEN: Step = Step::Broken(Anomaly::parser("malformed_value", Severity::Medium));

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut taken = 0u64;
        while let Some(rest) = bytes.get(taken as usize..).filter(|rest| !rest.is_empty()) {
            let Some(end) = memchr::memchr(b'\n', rest) else {
                if rest.len() > LINE_MAX {
                    return BROKEN;
                }
                break;
            };
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            let mut used = end as u64 + 1;
            let value = &mut self.values[side.index()];
            let kind = line.first().copied().unwrap_or_default();
            let number = std::str::from_utf8(line.get(1..).unwrap_or_default())
                .ok()
                .and_then(|digits| digits.parse::<i64>().ok());
            if value.left == 0 {
                if line.is_empty() && side == Side::Client {
                    taken += used;
                    continue;
                }
                *value = Value {
                    left: 1,
                    ..Value::default()
                };
            }
            value.left -= 1;
            match kind {
                // Arrays, sets, pushes, maps, attributes.
                b'*' | b'~' | b'>' | b'%' | b'|' => {
                    let Some(n) = number.filter(|&n| n < 1 << 31) else {
                        return BROKEN;
                    };
                    let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                    // An attribute stands before the value it is of.
                    value.left += n.max(0) as u64 * each + u64::from(kind == b'|');
                }
                // Texts behind their length; of long ones the first bytes are enough.
                b'$' | b'=' | b'!' => {
                    let Some(len) = number.filter(|&len| len < 1 << 31) else {
                        return BROKEN;
                    };
                    if len >= 0 {
                        let len = len as usize;
                        let begin = end + 1;
                        let Some(text) = rest.get(begin..begin + len.min(ARGUMENT_MAX)) else {
                            if value.left == 0 && value.texts.is_empty() {
                                *value = Value::default();
                            } else {
                                value.left += 1;
                            }
                            return Step::Take(taken);
                        };
                        value.is_error |= kind == b'!';
                        value.keep(text);
                        used += len as u64 + 2;
                    }
                }
                b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {
                    value.is_error |= kind == b'-';
                    value.keep(&line[1..]);
                }
                // A command in plain words.
                _ if side == Side::Client && value.left == 0 && value.texts.is_empty() => {
                    for word in line.split(|&byte| byte == b' ').filter(|word| !word.is_empty()) {
                        value.keep(word);
                    }
                }
                _ => return BROKEN,
            }
            taken += used;
            if value.left == 0 {
                let value = std::mem::take(value);
                match side {
                    Side::Client => self.asked(value, out),
                    Side::Server => self.answered(&value, out),
                }
            }
        }
        Step::Take(taken)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        while let Some(command) = self.pending.pop_front() {
            tell(&command, None, out);
        }
    }
}

impl Value {
    fn keep(&mut self, text: &[u8]) {
        if self.texts.len() < ARGUMENTS_MAX {
            self.texts.push(text[..text.len().min(ARGUMENT_MAX)].to_vec());
        }
    }
}

impl Connection {
    fn asked(&mut self, value: Value, out: &mut Out<'_>) {
        let arguments = value.texts;
        let Some(name) = arguments.first() else {
            return;
        };
        let is_hello = name.eq_ignore_ascii_case(b"HELLO");
        let has_auth = arguments
            .get(2)
            .is_some_and(|word| word.eq_ignore_ascii_case(b"AUTH"));
        let is_login = name.eq_ignore_ascii_case(b"AUTH") || (is_hello && has_auth);
        if is_login {
            out.login(Login::Attempted);
            out.insight.has_clear_credential = true;
            let user = match arguments.as_slice() {
                [_, user, _] if !is_hello => Some(user),
                [_, _, _, user] if is_hello => Some(user),
                _ => None,
            };
            if let Some(user) = user {
                out.insight.user = Some(text(user));
            }
        }
        if self.pending.len() >= PENDING_MAX
            && let Some(oldest) = self.pending.pop_front()
        {
            tell(&oldest, None, out);
        }
        self.pending.push_back(Command { arguments, is_login });
    }

    fn answered(&mut self, value: &Value, out: &mut Out<'_>) {
        let Some(command) = self.pending.pop_front() else {
            return;
        };
        if command.is_login {
            out.login(if value.is_error {
                Login::Failed
            } else {
                Login::Succeeded
            });
        }
        tell(&command, Some(value), out);
    }
}

/// What is written and read is not told, nor are passwords: the command, its key, and whether it went well.
fn tell(command: &Command, reply: Option<&Value>, out: &mut Out<'_>) {
    if !out.wants_records() {
        return;
    }
    let Some((name, rest)) = command.arguments.split_first() else {
        return;
    };
    let mut fields = Map::new();
    fields.insert("command".into(), eve_text(name).to_ascii_uppercase().into());
    if !command.is_login
        && let Some(key) = rest.first()
    {
        fields.insert("key".into(), eve_text(key).into());
    }
    if let Some(reply) = reply {
        let status = if reply.is_error { "error" } else { "ok" };
        fields.insert("status".into(), status.into());
        if reply.is_error
            && let Some(error) = reply.texts.first()
        {
            fields.insert("error".into(), eve_text(error).into());
        }
    }
    out.record_of(Side::Client, Record::fields("redis", fields));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    #[test]
    fn commands_and_replies() {
        let said: &[Said<'_>] = &[
            (0, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nkeys\r\n"),
            (1, b"$2\r\nv1\r\n*2\r\n$1\r\na\r\n*1\r\n:5\r\n"),
            (0, b"PING\r\n*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n"),
            (1, b"+PONG\r\n-ERR not a number\r\n"),
        ];
        let expected = [
            ("redis", json!({"command": "GET", "key": "k", "status": "ok"})),
            ("redis", json!({"command": "KEYS", "status": "ok"})),
            ("redis", json!({"command": "PING", "status": "ok"})),
            (
                "redis",
                json!({"command": "INCR", "key": "k", "status": "error", "error": "ERR not a number"}),
            ),
        ];
        kit::check_stream(said, Some("redis"), &expected);
    }

    #[test]
    fn log_ins() {
        let check = |asks: &[u8], answer: &[u8], user: Option<&str>, expected: [u16; 3]| {
            let outcome = kit::stream(&[(0, asks), (1, answer)]);
            let insight = &outcome.insight;
            assert_eq!(insight.user.as_deref(), user);
            assert!(insight.has_clear_credential);
            assert_eq!(
                [
                    insight.logins_attempted,
                    insight.logins_succeeded,
                    insight.logins_failed
                ],
                expected
            );
            assert!(!format!("{:?}", outcome.bodies()).contains("secret"));
        };
        check(
            b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n",
            b"+OK\r\n",
            None,
            [1, 1, 0],
        );
        let named = b"*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$6\r\nsecret\r\n";
        check(named, b"-WRONGPASS invalid\r\n", Some("bob"), [1, 0, 1]);
        let hello = b"*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$6\r\nsecret\r\n";
        check(hello, b"%1\r\n$1\r\na\r\n:1\r\n", Some("bob"), [1, 1, 0]);
    }

    #[test]
    fn plain_words_with_its_port() {
        let app = |port: u16, said: &[Said<'_>]| kit::run(6, port, said, |_, _| Vec::new()).insight.app;
        assert_eq!(app(6379, &[(0, b"ping\r\n"), (1, b"+PONG\r\n")]), Some("redis"));
        assert_eq!(app(9, &[(0, b"ping\r\n")]), None);
    }

    #[test]
    fn not_redis() {
        kit::check_stream(&[(0, b"*a\r\n")], None, &[]);
        kit::check_stream(&[(0, b"*1\r\n+OK\r\n")], None, &[]);
    }
}
