//! Tabular Data Stream of Microsoft SQL Server and Sybase ([MS-TDS]).

use serde_json::{Map, Value, json};

use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::{Reader, eve_text, utf16le};
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Tds;

const HEADER_LEN: usize = 8;
/// Bytes of a message that are looked at; what is behind them is skipped.
const MESSAGE_MAX: usize = 16 * 1024;

const SQL_BATCH: u8 = 1;
const OLD_LOGIN: u8 = 2;
const RPC: u8 = 3;
const RESPONSE: u8 = 4;
const LOGIN7: u8 = 0x10;
const PRELOGIN: u8 = 0x12;

impl Protocol for Tds {
    fn name(&self) -> &'static str {
        "tds"
    }

    fn ports(&self) -> &'static [u16] {
        &[1433]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let is_known_port = seen.has_port(1433);
        seen.opened_by_either(|bytes| {
            if !matches!(bytes[0], 1..=4 | 6 | 7 | 0x0e..=0x12)
                || bytes.get(1).is_some_and(|&status| status > 0x1f)
            {
                return Verdict::No;
            }
            let Some(header) = Header::read(bytes) else {
                return Verdict::NeedMore;
            };
            let body = &bytes[HEADER_LEN..];
            let is_whole = bytes.len() >= usize::from(header.len);
            match header.kind {
                _ if header.len < 8 || header.window != 0 => Verdict::No,
                // A list of options: a kind, where it is and how long, the version first and five or six bytes long.
                PRELOGIN if header.number <= 1 => match *body {
                    [0, offset_high, offset_low, 0, 6, ..] => {
                        let offset = u16::from_be_bytes([offset_high, offset_low]);
                        if (6..64).contains(&offset) {
                            Verdict::CERTAIN
                        } else {
                            Verdict::No
                        }
                    }
                    [0, _, _, _, _, ..] => Verdict::No,
                    [] | [0, ..] => Verdict::NeedMore,
                    _ => Verdict::No,
                },
                // Its length again, a version of TDS: 7.0 to 7.4.
                LOGIN7 => match *body {
                    [a, b, 0, 0, _, _, _, 0x70..=0x74, ..] => {
                        let len = usize::from(u16::from_le_bytes([a, b]));
                        if (86..=128 * 1024).contains(&len) {
                            Verdict::CERTAIN
                        } else {
                            Verdict::No
                        }
                    }
                    _ if body.len() < 8 => Verdict::NeedMore,
                    _ => Verdict::No,
                },
                // Sybase's first packet is always as long as this.
                OLD_LOGIN if header.len == 512 && header.channel == 0 && header.number <= 1 => {
                    Verdict::LIKELY
                }
                // Joined in the middle: all headers of a stream begin where the one before says.
                SQL_BATCH | RPC | RESPONSE | OLD_LOGIN if !is_known_port => {
                    if header.len < 16 || header.channel > 0x0400 {
                        Verdict::No
                    } else if header.kind == SQL_BATCH || header.kind == RPC {
                        // All headers' length, then that of the first: a transaction descriptor (section 2.2.5.3).
                        match *body {
                            [0x16, 0, 0, 0, 0x12, 0, 0, ..] => Verdict::CERTAIN,
                            _ if body.len() < 7 => Verdict::NeedMore,
                            _ => Verdict::No,
                        }
                    } else {
                        Verdict::No
                    }
                }
                _ if !is_known_port => Verdict::No,
                _ if !is_whole => Verdict::NeedMore,
                RESPONSE => Verdict::likely(Side::Server),
                _ => Verdict::LIKELY,
            }
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Connection>::default()
    }
}

struct Header {
    kind: u8,
    is_last: bool,
    len: u16,
    channel: u16,
    number: u8,
    window: u8,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [kind, status, len_high, len_low, high, low, number, window] = *bytes.first_chunk()?;
        Some(Self {
            kind,
            is_last: status & 1 != 0,
            len: u16::from_be_bytes([len_high, len_low]),
            channel: u16::from_be_bytes([high, low]),
            number,
            window,
        })
    }
}

/// A message put together from its packets.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Connection {
    messages: [Message; 2],
    is_logging_in: bool,
    request: Option<Map<String, Value>>,
}

const BROKEN: Step = Step::Broken(Anomaly::parser("malformed_packet", Severity::Medium));

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| rest.len() >= HEADER_LEN) {
            let Some(header) = Header::read(rest) else {
                break;
            };
            // TLS, once the log-in is over and all is encrypted.
            if matches!(header.kind, 0x14..=0x17) && rest[1] == 3 {
                self.finish(out);
                return Step::Done;
            }
            if usize::from(header.len) < HEADER_LEN || header.kind > 0x17 {
                return BROKEN;
            }
            let Some(packet) = rest.get(HEADER_LEN..header.len.into()) else {
                break;
            };
            let message = &mut self.messages[side.index()].bytes;
            let room = MESSAGE_MAX.saturating_sub(message.len());
            message.extend_from_slice(&packet[..packet.len().min(room)]);
            taken += usize::from(header.len);
            if header.is_last {
                let message = std::mem::take(message);
                match side {
                    Side::Client => self.request(header.kind, &message, out),
                    Side::Server => self.response(header.kind, &message, out),
                }
            }
        }
        Step::Take(taken as u64)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        if let Some(fields) = self.request.take() {
            out.record_of(Side::Client, Record::fields("tds", fields));
        }
    }
}

impl Connection {
    fn request(&mut self, kind: u8, message: &[u8], out: &mut Out<'_>) {
        self.finish(out);
        let mut fields = Map::new();
        let name = match kind {
            SQL_BATCH => "sql_batch",
            OLD_LOGIN => "login",
            RPC => "rpc",
            6 => "attention",
            7 => "bulk_load",
            0x0e => "transaction_manager",
            LOGIN7 => "login7",
            0x11 => "sspi",
            // TLS is set up inside of these.
            PRELOGIN if message.first() == Some(&0x16) => return,
            PRELOGIN => "prelogin",
            _ => return,
        };
        fields.insert("request".into(), name.into());
        match kind {
            SQL_BATCH => {
                let text = behind_headers(message);
                fields.insert("query".into(), utf16le(text).into());
            }
            RPC => {
                let mut reader = Reader::new(behind_headers(message));
                match reader.le16() {
                    Some(0xffff) => {
                        fields.insert("procedure_id".into(), reader.le16().into());
                    }
                    Some(len) => {
                        if let Some(name) = reader.take(usize::from(len) * 2) {
                            fields.insert("procedure".into(), utf16le(name).into());
                        }
                    }
                    None => {}
                }
            }
            LOGIN7 => {
                out.login(Login::Attempted);
                self.is_logging_in = true;
                login7(message, &mut fields, out);
            }
            OLD_LOGIN => {
                out.login(Login::Attempted);
                self.is_logging_in = true;
                // Host and user, each 30 bytes and their length.
                if let (Some(user), Some(&len)) = (message.get(31..61), message.get(61)) {
                    let user = &user[..usize::from(len).min(30)];
                    out.insight.user = Some(text(user));
                    fields.insert("user".into(), eve_text(user).into());
                }
                out.insight.has_clear_credential = true;
            }
            _ => {}
        }
        self.request = Some(fields);
    }

    fn response(&mut self, kind: u8, message: &[u8], out: &mut Out<'_>) {
        if kind != RESPONSE {
            return;
        }
        let Some(mut fields) = self.request.take() else {
            return;
        };
        // Tokens that stand first; those of rows are not looked at.
        let mut reader = Reader::new(message);
        while let Some(token) = reader.u8() {
            match token {
                0xaa => {
                    let Some(error) = reader.le16().and_then(|len| reader.take(len.into())) else {
                        break;
                    };
                    let mut error = Reader::new(error);
                    let number = error.le32();
                    let (_state, _class) = (error.u8(), error.u8());
                    let message = error.le16().and_then(|len| error.take(usize::from(len) * 2));
                    fields.insert("error_code".into(), number.into());
                    fields.insert("error".into(), utf16le(message.unwrap_or_default()).into());
                    if std::mem::take(&mut self.is_logging_in) {
                        out.login(Login::Failed);
                    }
                }
                // Log-in accepted.
                0xad => {
                    if std::mem::take(&mut self.is_logging_in) {
                        out.login(Login::Succeeded);
                        fields.insert("result".into(), json!("ok"));
                    }
                    break;
                }
                // Information, a change of the environment, and others with a length.
                0xab | 0xe3 | 0xa9 | 0xed => {
                    if reader.le16().and_then(|len| reader.skip(len.into())).is_none() {
                        break;
                    }
                }
                _ => break,
            }
        }
        if fields.contains_key("error") && fields.get("request").is_some_and(|request| request == "login7") {
            fields.insert("result".into(), json!("failed"));
        }
        out.record_of(Side::Client, Record::fields("tds", fields));
    }
}

/// What is behind the headers that version 7.2 and later put before a query.
fn behind_headers(message: &[u8]) -> &[u8] {
    let mut reader = Reader::new(message);
    match reader.le32() {
        Some(len @ 4..=256) => message.get(len as usize..).unwrap_or_default(),
        _ => message,
    }
}

/// Places of texts in a log-in record: where, and how many characters of two bytes.
fn login7(message: &[u8], fields: &mut Map<String, Value>, out: &mut Out<'_>) {
    let text_at = |at: usize| -> Option<String> {
        let mut reader = Reader::new(message.get(at..)?);
        let (begin, len) = (usize::from(reader.le16()?), usize::from(reader.le16()?));
        Some(utf16le(message.get(begin..begin + 2 * len)?))
    };
    for (name, at) in [
        ("client_name", 36),
        ("user", 40),
        ("app_name", 48),
        ("server_name", 52),
        ("database", 68),
    ] {
        if let Some(value) = text_at(at).filter(|value| !value.is_empty()) {
            if name == "user" {
                // The password is only obfuscated.
                out.insight.has_clear_credential = true;
                out.insight.user = Some(text(value.as_bytes()));
            }
            fields.insert(name.into(), value.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![kind, 1, 0, 8 + body.len() as u8, 0, 0, 1, 0];
        packet.extend_from_slice(body);
        packet
    }

    fn login() -> Vec<u8> {
        let mut body = vec![0; 94];
        body[0] = 100;
        body[4..8].copy_from_slice(&[4, 0, 0, 0x74]);
        body[40..44].copy_from_slice(&[94, 0, 3, 0]);
        body.extend(b"s\0a\0x\0");
        packet(0x10, &body)
    }

    const PRELOGIN: &[u8] = b"\0\0\x0b\0\x06\x01\0\x11\0\x01\xff\x0b\0\x0c\x38\0\0\0";

    #[test]
    fn a_session() {
        let said: &[Said<'_>] = &[
            (0, &packet(0x12, PRELOGIN)),
            (1, &packet(4, PRELOGIN)),
            (0, &login()),
            (1, &packet(4, b"\xe3\x01\0x\xad\x02\0zz")),
            (0, &packet(1, b"\x16\0\0\0\x12\0\0\0\x02\0xxxxxxxx\x01\0\0\0s\0")),
            (1, &packet(4, b"\x81\0")),
        ];
        let expected = [
            ("tds", json!({"request": "prelogin"})),
            ("tds", json!({"request": "login7", "user": "sax", "result": "ok"})),
            ("tds", json!({"request": "sql_batch", "query": "s"})),
        ];
        kit::check_stream(said, Some("tds"), &expected);
        kit::check_stream(&said[4..], Some("tds"), &expected[2..]);
    }

    #[test]
    fn log_ins() {
        let check = |answer: &[u8], expected: [u16; 3]| {
            let insight = kit::stream(&[(0, &login()), (1, &packet(4, answer))]).insight;
            assert_eq!(insight.user.as_deref(), Some("sax"));
            assert_eq!(
                [
                    insight.logins_attempted,
                    insight.logins_succeeded,
                    insight.logins_failed
                ],
                expected
            );
        };
        check(b"\xad\x02\0zz", [1, 1, 0]);
        check(b"\xaa\x0a\0\x18\x48\0\0\x01\x0e\x01\0n\0", [1, 0, 1]);
    }

    #[test]
    fn not_tds() {
        kit::check_stream(&[(0, &packet(0x12, b"\x01\x02\x03\x04\x05\x06"))], None, &[]);
        kit::check_stream(&[(0, &packet(4, b"\xad\x02\0zz"))], None, &[]);
    }
}
