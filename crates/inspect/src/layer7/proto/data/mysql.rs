//! MySQL and MariaDB, client/server protocol with handshake version 10 (chapter "Client/Server Protocol" of
//! MySQL's internals documentation).

use serde_json::{Map, json};

use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::{Reader, eve_text};
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Mysql;

/// Bytes of a packet that are looked at; what is behind them is skipped.
const HEAD_LEN_MAX: usize = 4096;
const GREETING_LEN_MAX: usize = 512;
/// Bytes of it that tell it from anything else.
const HEAD_LEN: usize = 14;

const CLIENT_CONNECT_WITH_DB: u32 = 1 << 3;
const CLIENT_PROTOCOL_41: u32 = 1 << 9;
const CLIENT_SSL: u32 = 1 << 11;
const CLIENT_SECURE_CONNECTION: u32 = 1 << 15;
const CLIENT_LENENC_AUTH: u32 = 1 << 21;

impl Protocol for Mysql {
    fn name(&self) -> &'static str {
        "mysql"
    }

    fn ports(&self) -> &'static [u16] {
        &[3306]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        // The server greets; the client says nothing before that.
        seen.opened_by_either(|bytes| {
            let head = &bytes[..bytes.len().min(HEAD_LEN)];
            let is_begun = match *head {
                [_, high, ..] if usize::from(high) > GREETING_LEN_MAX >> 8 => false,
                [_, _, high, ..] if high != 0 => false,
                [_, _, _, number, ..] if number != 0 => false,
                [_, _, _, _, kind, ..] if !matches!(kind, 10 | 0xff) => false,
                // A version: `8.0`, `5.7`, `10.`.
                [_, _, _, _, 10, ref version @ ..] => {
                    let is_version =
                        |(at, byte): (usize, &u8)| byte.is_ascii_digit() || at > 0 && *byte == b'.';
                    version.iter().take(3).enumerate().all(is_version)
                }
                // Too many connections, host not allowed: an error instead of the greeting.
                [_, _, _, _, 0xff, _, high, ref message @ ..] => {
                    (0x04..=0x13).contains(&high) && message.iter().all(|byte| (b' '..=b'~').contains(byte))
                }
                _ => true,
            };
            match is_begun {
                false => Verdict::No,
                true if head.len() < HEAD_LEN => Verdict::NeedMore,
                true => Verdict::certain(Side::Server),
            }
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Connection>::default()
    }
}

enum Greeting<'a> {
    Whole { version: &'a [u8] },
    Refused { code: u16, message: &'a [u8] },
}

/// The server's first packet, without its header.
fn greeting(body: &[u8]) -> Option<Greeting<'_>> {
    let mut reader = Reader::new(body);
    if reader.u8()? == 0xff {
        let code = reader.le16()?;
        let message = error_message(reader.rest());
        return Some(Greeting::Refused { code, message });
    }
    let version = reader.until(0)?;
    (reader.len() >= 13).then_some(Greeting::Whole { version })
}

/// The text of an error, behind the SQL state where there is one.
fn error_message(bytes: &[u8]) -> &[u8] {
    match bytes {
        [b'#', _, _, _, _, _, message @ ..] => message,
        message => message,
    }
}

#[derive(Default)]
enum Phase {
    /// The server's greeting is next.
    #[default]
    Greeting,
    /// The client's answer is next.
    Response,
    LoggingIn,
    Commands,
}

#[derive(Default)]
struct Connection {
    phase: Phase,
    version: String,
    user: String,
    database: String,
    /// A command that was not answered: its name and text.
    command: Option<(&'static str, String)>,
}

const BROKEN: Step = Step::Broken(Anomaly::parser("malformed_packet", Severity::Medium));

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut taken = 0u64;
        while let Some(rest) = bytes.get(taken as usize..).filter(|rest| !rest.is_empty()) {
            let mut reader = Reader::new(rest);
            let Some([a, b, c, number]) = reader.array::<4>() else {
                break;
            };
            let len = u32::from_le_bytes([a, b, c, 0]);
            let Some(body) = reader.take((len as usize).min(HEAD_LEN_MAX)) else {
                break;
            };
            match self.packet(side, number, body, out) {
                Some(Step::Take(_)) => taken += 4 + u64::from(len),
                Some(Step::Switch { to, .. }) => {
                    let taken = taken as usize + 4 + len as usize;
                    return Step::Switch { taken, to };
                }
                Some(step) => return step,
                None => return BROKEN,
            }
        }
        Step::Take(taken)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        self.answered(json!({}), out);
    }
}

impl Connection {
    fn packet(&mut self, side: Side, number: u8, body: &[u8], out: &mut Out<'_>) -> Option<Step> {
        match (&self.phase, side) {
            (Phase::Greeting, Side::Server) => match greeting(body)? {
                Greeting::Whole { version } => {
                    self.version = eve_text(version);
                    self.phase = Phase::Response;
                }
                Greeting::Refused { code, message } => {
                    let refused = json!({"error_code": code, "error": eve_text(message)});
                    self.tell_login("refused", refused, out);
                    return Some(Step::Done);
                }
            },
            (Phase::Response, Side::Client) => return self.handshake(body, out),
            (Phase::LoggingIn, Side::Server) => match body.first()? {
                0 => {
                    out.login(Login::Succeeded);
                    self.tell_login("ok", json!({}), out);
                    self.phase = Phase::Commands;
                }
                0xff => {
                    let mut reader = Reader::new(&body[1..]);
                    let code = reader.le16()?;
                    out.login(Login::Failed);
                    let error = json!({"error_code": code, "error": eve_text(error_message(reader.rest()))});
                    self.tell_login("failed", error, out);
                    return Some(Step::Done);
                }
                0xfe if body
                    .get(1..)
                    .is_some_and(|name| name.starts_with(b"mysql_clear_password")) =>
                {
                    out.insight.has_clear_credential = true;
                }
                _ => {}
            },
            (Phase::Commands, Side::Client) if number == 0 => self.request(body, out),
            (Phase::Commands, Side::Server) => self.response(body, out),
            _ => {}
        }
        Some(Step::Take(0))
    }

    fn handshake(&mut self, body: &[u8], out: &mut Out<'_>) -> Option<Step> {
        let mut reader = Reader::new(body);
        let low = reader.le16()?;
        let mut capabilities = u32::from(low);
        if capabilities & CLIENT_PROTOCOL_41 != 0 {
            capabilities |= u32::from(reader.le16()?) << 16;
            // Longest packet, character set, filler.
            reader.skip(4 + 1 + 23)?;
        } else {
            reader.skip(3)?;
        }
        if capabilities & CLIENT_SSL != 0 && reader.is_empty() {
            self.tell_login("tls", json!({}), out);
            return Some(Step::Switch { taken: 0, to: None });
        }
        let user = reader.until(0)?;
        self.user = eve_text(user);
        out.insight.user = Some(text(user));
        out.login(Login::Attempted);
        if capabilities & (CLIENT_LENENC_AUTH | CLIENT_SECURE_CONNECTION) != 0 {
            // A length that needs more than a byte does not occur: digests are short.
            reader.piece8()?;
        } else {
            reader.until(0);
        }
        if capabilities & CLIENT_CONNECT_WITH_DB != 0
            && let Some(database) = reader.until(0)
        {
            self.database = eve_text(database);
        }
        self.phase = Phase::LoggingIn;
        Some(Step::Take(0))
    }

    fn request(&mut self, body: &[u8], out: &mut Out<'_>) {
        let Some((&code, argument)) = body.split_first() else {
            return;
        };
        self.answered(json!({}), out);
        let name = match code {
            1 => "quit",
            2 => "init_db",
            3 => "query",
            4 => "field_list",
            5 => "create_db",
            6 => "drop_db",
            8 => "shutdown",
            9 => "statistics",
            10 => "process_info",
            12 => "process_kill",
            13 => "debug",
            14 => "ping",
            17 => "change_user",
            18 => "binlog_dump",
            21 => "register_slave",
            22 => "statement_prepare",
            23 => "statement_execute",
            24 => "statement_send_long_data",
            25 => "statement_close",
            26 => "statement_reset",
            27 => "set_option",
            28 => "statement_fetch",
            31 => "reset_connection",
            _ => "unknown",
        };
        let argument = match code {
            2 | 3 | 4 | 5 | 6 | 22 => eve_text(argument),
            _ => String::new(),
        };
        self.command = Some((name, argument));
        // These are not answered.
        if matches!(code, 1 | 24 | 25) {
            self.answered(json!({}), out);
        }
    }

    /// The first packet after a command says how it went; rows come after it.
    fn response(&mut self, body: &[u8], out: &mut Out<'_>) {
        let response = match body.split_first() {
            Some((0, _)) => json!({"status": "ok"}),
            Some((0xff, rest)) => {
                let mut reader = Reader::new(rest);
                let code = reader.le16().unwrap_or_default();
                json!({"status": "error", "error_code": code, "error": eve_text(error_message(reader.rest()))})
            }
            Some((&columns, _)) if columns < 0xfb => json!({"status": "rows", "columns": columns}),
            _ => json!({"status": "ok"}),
        };
        self.answered(response, out);
    }

    fn answered(&mut self, response: serde_json::Value, out: &mut Out<'_>) {
        let Some((name, argument)) = self.command.take() else {
            return;
        };
        let mut fields = Map::new();
        fields.insert("command".into(), name.into());
        if !argument.is_empty() {
            fields.insert("argument".into(), argument.into());
        }
        if let serde_json::Value::Object(mut response) = response {
            fields.append(&mut response);
        }
        out.record_of(Side::Client, Record::fields("mysql", fields));
    }

    fn tell_login(&mut self, result: &'static str, more: serde_json::Value, out: &mut Out<'_>) {
        let mut fields = Map::new();
        fields.insert("command".into(), "login".into());
        fields.insert("result".into(), result.into());
        for (key, value) in [
            ("version", &self.version),
            ("user", &self.user),
            ("database", &self.database),
        ] {
            if !value.is_empty() {
                fields.insert(key.into(), value.as_str().into());
            }
        }
        if let serde_json::Value::Object(mut more) = more {
            fields.append(&mut more);
        }
        out.record_of(Side::Client, Record::fields("mysql", fields));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    /// A packet of this number.
    fn packet(number: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![body.len() as u8, 0, 0, number];
        packet.extend_from_slice(body);
        packet
    }

    fn greeting() -> Vec<u8> {
        packet(
            0,
            b"\x0a8.0.30\0\x08\0\0\0saltsalt\0\xff\xf7\xff\x02\0\xff\xdf\x15\0\0\0\0\0",
        )
    }

    fn response() -> Vec<u8> {
        let mut body = b"\x08\x82\0\0\0\0\0\x01\x21".to_vec();
        body.extend([0; 23]);
        body.extend(b"bob\0\x01xdb\0");
        packet(1, &body)
    }

    const OK: &[u8] = b"\x07\0\0\x02\0\0\0\x02\0\0\0";

    #[test]
    fn a_session() {
        let rows = [
            packet(1, b"\x01"),
            packet(2, b"\x03def"),
            packet(3, b"\xfe\0\0\0\0"),
        ]
        .concat();
        let said: &[Said<'_>] = &[
            (1, &greeting()),
            (0, &response()),
            (1, OK),
            (0, &packet(0, b"\x03select 1")),
            (1, &rows),
            (0, &packet(0, b"\x03x")),
            (1, &packet(1, b"\xff\x28\x04#42000bad")),
            (0, &packet(0, b"\x01")),
        ];
        let login =
            json!({"command": "login", "result": "ok", "version": "8.0.30", "user": "bob", "database": "db"});
        let expected = [
            ("mysql", login),
            (
                "mysql",
                json!({"command": "query", "argument": "select 1", "status": "rows", "columns": 1}),
            ),
            (
                "mysql",
                json!({"command": "query", "argument": "x", "status": "error", "error_code": 1064, "error": "bad"}),
            ),
            ("mysql", json!({"command": "quit"})),
        ];
        kit::check_stream(said, Some("mysql"), &expected);
    }

    #[test]
    fn log_ins() {
        let check = |answer: &[u8], expected: [u16; 3]| {
            let insight = kit::stream(&[(1, &greeting()), (0, &response()), (1, answer)]).insight;
            assert_eq!(insight.user.as_deref(), Some("bob"));
            assert_eq!(
                [
                    insight.logins_attempted,
                    insight.logins_succeeded,
                    insight.logins_failed
                ],
                expected
            );
        };
        check(OK, [1, 1, 0]);
        check(&packet(2, b"\xff\x15\x04#28000denied"), [1, 0, 1]);
    }

    #[test]
    fn refused_hosts_and_others() {
        let refused =
            json!({"command": "login", "result": "refused", "error_code": 1130, "error": "Host not allowed"});
        let said: &[Said<'_>] = &[(1, &packet(0, b"\xff\x6a\x04Host not allowed"))];
        kit::check_stream(said, Some("mysql"), &[("mysql", refused)]);
        kit::check_stream(&[(1, b"\x21\0\0\0\x0axyz")], None, &[]);
        kit::check_stream(&[(0, b"\x21\x22 no protocol\r\n")], None, &[]);
    }
}
