//! PostgreSQL, frontend/backend protocol 3 (chapter "Frontend/Backend Protocol" of its documentation).

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::{Reader, eve_text};
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Pgsql;

/// Requests without a type: their code stands where the version does.
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// A server takes no longer startup message.
const STARTUP_LEN_MAX: u32 = 10_000;
/// Bytes of a message that are looked at; what is behind them is skipped.
const HEAD_LEN_MAX: usize = 8192;
/// Requests that may wait for their response.
const PENDING_MAX: usize = 64;
/// Parameters of one message that are told.
const PARAMETERS_MAX: usize = 64;

impl Protocol for Pgsql {
    fn name(&self) -> &'static str {
        "pgsql"
    }

    fn ports(&self) -> &'static [u16] {
        &[5432]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        seen.opened_by_either(|bytes| {
            if bytes[0] != 0 {
                return Verdict::No;
            }
            let mut reader = Reader::new(bytes);
            let (Some(len), Some(code)) = (reader.be32(), reader.be32()) else {
                return Verdict::NeedMore;
            };
            match (code, len) {
                (SSL_REQUEST | GSS_REQUEST, 8) | (CANCEL_REQUEST, 16) => Verdict::CERTAIN,
                // A minor version is small; parameters are names and values.
                (0x3_0000..=0x3_000f, 9..=STARTUP_LEN_MAX) => match reader.u8() {
                    None => Verdict::NeedMore,
                    Some(0) if len == 9 => Verdict::CERTAIN,
                    Some(first) if first.is_ascii_lowercase() || first == b'_' => Verdict::CERTAIN,
                    Some(_) => Verdict::No,
                },
                _ => Verdict::No,
            }
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Connection>::default()
    }
}

/// A request and what came of it so far.
#[derive(Default)]
struct Exchange {
    request: Map<String, Value>,
    response: Map<String, Value>,
    parameters: Vec<Value>,
    rows: u64,
    row_bytes: u64,
}

#[derive(Default)]
struct Connection {
    /// Startup was seen: messages have a type.
    is_started: bool,
    /// The next byte of the server answers a request for encryption.
    is_encryption_asked: bool,
    is_logged_in: bool,
    wants_clear_password: bool,
    pending: VecDeque<Exchange>,
    told: u64,
}

const BROKEN: Step = Step::Broken(Anomaly::parser("malformed_message", Severity::Medium));

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if side == Side::Client && !self.is_started {
            return self.startup(bytes, out);
        }
        if side == Side::Server && self.is_encryption_asked {
            let is_accepted = matches!(bytes[0], b'S' | b'G');
            self.is_encryption_asked = false;
            self.front()
                .response
                .insert("ssl_accepted".into(), is_accepted.into());
            self.complete(out);
            return match bytes[0] {
                b'S' => Step::Switch { taken: 1, to: None },
                // Nothing can be read of GSS.
                b'G' => Step::Done,
                _ => Step::Take(1),
            };
        }
        let mut taken = 0u64;
        while let Some(rest) = bytes.get(taken as usize..).filter(|rest| !rest.is_empty()) {
            let mut reader = Reader::new(rest);
            let (Some(kind), Some(len)) = (reader.u8(), reader.be32()) else {
                break;
            };
            // The length counts itself.
            let Some(body_len) = len.checked_sub(4).map(|len| len as usize) else {
                return BROKEN;
            };
            if !kind.is_ascii_alphanumeric() || len > 1 << 30 {
                return BROKEN;
            }
            let wanted = match (side, kind) {
                // Of a row the number of fields is enough.
                (Side::Server, b'D') => 2,
                // Rows that are copied.
                (_, b'd') => 0,
                _ => HEAD_LEN_MAX,
            };
            let Some(body) = reader.take(body_len.min(wanted)) else {
                break;
            };
            taken += 1 + u64::from(len);
            let reader = Reader::new(body);
            let understood = match side {
                Side::Client => self.request(kind, reader, out),
                Side::Server => self.response(kind, body_len, reader, out),
            };
            if understood.is_none() && body.len() == body_len {
                return BROKEN;
            }
        }
        Step::Take(taken)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        while !self.pending.is_empty() {
            self.complete(out);
        }
    }
}

impl Connection {
    fn startup(&mut self, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut reader = Reader::new(bytes);
        let Some(len) = reader.be32() else {
            return Step::Take(0);
        };
        if !(8..=STARTUP_LEN_MAX).contains(&len) {
            return BROKEN;
        }
        let Some(body) = reader.take(len as usize - 4) else {
            return Step::Take(0);
        };
        let mut reader = Reader::new(body);
        let mut request = Map::new();
        match reader.be32() {
            Some(SSL_REQUEST) => {
                request.insert("message".into(), "SSL Request".into());
                self.is_encryption_asked = true;
            }
            Some(GSS_REQUEST) => {
                request.insert("message".into(), "GSS Encryption Request".into());
                self.is_encryption_asked = true;
            }
            Some(CANCEL_REQUEST) => {
                request.insert("message".into(), "cancel_request".into());
                request.insert("process_id".into(), reader.be32().into());
                request.insert("secret_key".into(), reader.be32().into());
            }
            Some(version) => {
                self.is_started = true;
                let version = format!("{}.{}", version >> 16, version & 0xffff);
                request.insert("protocol_version".into(), version.into());
                let Some(parameters) = startup_parameters(&mut reader, out) else {
                    return BROKEN;
                };
                request.insert("startup_parameters".into(), parameters.into());
            }
            None => return BROKEN,
        }
        self.push(request, out);
        Step::Take(len.into())
    }

    fn push(&mut self, request: Map<String, Value>, out: &mut Out<'_>) {
        if self.pending.len() >= PENDING_MAX {
            self.complete(out);
        }
        self.pending.push_back(Exchange {
            request,
            ..Exchange::default()
        });
    }

    /// The request that the server answers now.
    fn front(&mut self) -> &mut Exchange {
        if self.pending.is_empty() {
            self.pending.push_back(Exchange::default());
        }
        &mut self.pending[0]
    }

    /// Nothing more will come of the oldest request.
    fn complete(&mut self, out: &mut Out<'_>) {
        let Some(mut exchange) = self.pending.pop_front() else {
            return;
        };
        let response = &mut exchange.response;
        if !exchange.parameters.is_empty() {
            response.insert("parameter_status".into(), exchange.parameters.into());
        }
        if exchange.rows > 0 {
            response.insert("data_rows".into(), exchange.rows.into());
            response.insert("data_size".into(), exchange.row_bytes.into());
        }
        if exchange.request.is_empty() && response.is_empty() {
            return;
        }
        self.told += 1;
        let mut fields = Map::new();
        fields.insert("tx_id".into(), self.told.into());
        for (key, part) in [("request", exchange.request), ("response", exchange.response)] {
            if !part.is_empty() {
                fields.insert(key.into(), part.into());
            }
        }
        out.record_of(Side::Client, Record::fields("pgsql", fields));
    }

    fn request(&mut self, kind: u8, mut reader: Reader<'_>, out: &mut Out<'_>) -> Option<()> {
        let mut request = Map::new();
        match kind {
            b'Q' => {
                request.insert("simple_query".into(), eve_text(until_nul(reader.rest())).into());
            }
            // A password, or a step of SASL.
            b'p' => {
                if !self.is_logged_in {
                    out.login(Login::Attempted);
                }
                if std::mem::take(&mut self.wants_clear_password) {
                    out.insight.has_clear_credential = true;
                }
                request.insert("password_redacted".into(), true.into());
            }
            b'X' => {
                request.insert("message".into(), "termination_message".into());
                self.push(request, out);
                while !self.pending.is_empty() {
                    self.complete(out);
                }
                return Some(());
            }
            // Extended queries: all up to Sync are one exchange.
            b'P' => {
                let _name = reader.until(0)?;
                request.insert("message".into(), "parse".into());
                request.insert("query".into(), eve_text(until_nul(reader.rest())).into());
            }
            b'F' => {
                request.insert("message".into(), "function_call".into());
            }
            b'f' => {
                request.insert("message".into(), "copy_fail".into());
            }
            _ => return Some(()),
        }
        self.push(request, out);
        Some(())
    }

    fn response(&mut self, kind: u8, len: usize, mut reader: Reader<'_>, out: &mut Out<'_>) -> Option<()> {
        match kind {
            b'R' => self.authentication(&mut reader, out)?,
            b'S' => {
                let name = snake_case(&eve_text(reader.until(0)?));
                let value = eve_text(reader.until(0)?);
                let parameters = &mut self.front().parameters;
                if parameters.len() < PARAMETERS_MAX {
                    parameters.push(json!({ name: value }));
                }
            }
            b'K' => {
                let (process, secret) = (reader.be32()?, reader.rest());
                let response = &mut self.front().response;
                response.insert("process_id".into(), process.into());
                if let Ok(secret) = <[u8; 4]>::try_from(secret) {
                    response.insert("secret_key".into(), u32::from_be_bytes(secret).into());
                }
            }
            b'T' => {
                let fields = reader.be16()?;
                self.front().response.insert("field_count".into(), fields.into());
            }
            b'D' => {
                let fields = reader.be16()?;
                let exchange = self.front();
                exchange.rows += 1;
                // Each field stands behind its length in four bytes.
                exchange.row_bytes += (len as u64).saturating_sub(2 + 4 * u64::from(fields));
            }
            b'C' => {
                let tag = eve_text(until_nul(reader.rest()));
                self.front()
                    .response
                    .insert("command_completed".into(), tag.into());
            }
            b'E' | b'N' => self.report(kind, &mut reader, out),
            b'Z' => self.complete(out),
            _ => {}
        }
        Some(())
    }

    fn authentication(&mut self, reader: &mut Reader<'_>, out: &mut Out<'_>) -> Option<()> {
        let kind = reader.be32()?;
        let response = &mut self.front().response;
        let message = match kind {
            0 => "authentication_ok",
            2 => "authentication_kerberosv5",
            3 => "authentication_cleartext_password",
            5 => {
                let salt = eve_text(reader.take(4)?);
                response.insert("authentication_md5_password".into(), salt.into());
                self.complete(out);
                return Some(());
            }
            7 => "authentication_gss",
            8 => "authentication_gss_continue",
            9 => "authentication_sspi",
            10 => {
                let mut mechanisms = Vec::new();
                while let Some(name) = reader.until(0).filter(|name| !name.is_empty()) {
                    mechanisms.push(eve_text(name));
                }
                response.insert("authentication_sasl_mechanisms".into(), mechanisms.into());
                "authentication_sasl"
            }
            11 => "authentication_sasl_continue",
            12 => "authentication_sasl_final",
            _ => "authentication_unknown",
        };
        response.insert("message".into(), message.into());
        match kind {
            0 => {
                if !self.is_logged_in {
                    out.login(Login::Succeeded);
                }
                self.is_logged_in = true;
            }
            // `authentication_ok` comes with it.
            12 => {}
            _ => {
                self.wants_clear_password = kind == 3;
                self.complete(out);
            }
        }
        Some(())
    }

    /// An error or a notice.
    fn report(&mut self, kind: u8, reader: &mut Reader<'_>, out: &mut Out<'_>) {
        let mut told = Map::new();
        while let Some(field) = reader.u8().filter(|&field| field != 0) {
            let Some(value) = reader.until(0) else {
                break;
            };
            let name = match field {
                b'S' => "severity_localizable",
                b'V' => "severity_non_localizable",
                b'C' => "code",
                b'M' => "message",
                b'D' => "detail",
                b'H' => "hint",
                b'F' => "file",
                b'L' => "line",
                b'R' => "routine",
                _ => continue,
            };
            told.insert(name.into(), eve_text(value).into());
        }
        if kind == b'N' {
            self.front().response.insert("notice".into(), told.into());
            return;
        }
        let is_refused = told
            .get("code")
            .and_then(Value::as_str)
            .is_some_and(|code| code.starts_with("28"));
        self.front().response.append(&mut told);
        if !self.is_logged_in {
            if is_refused {
                out.login(Login::Failed);
            }
            self.complete(out);
        }
    }
}

fn startup_parameters(reader: &mut Reader<'_>, out: &mut Out<'_>) -> Option<Map<String, Value>> {
    let mut told = Map::new();
    let mut others = Vec::new();
    loop {
        let name = reader.until(0)?;
        if name.is_empty() {
            break;
        }
        let value = reader.until(0)?;
        if name == b"user" {
            out.insight.user = Some(text(value));
            told.insert("user".into(), eve_text(value).into());
        } else if others.len() < PARAMETERS_MAX {
            others.push(json!({ eve_text(name): eve_text(value) }));
        }
    }
    if !others.is_empty() {
        told.insert("optional_parameters".into(), others.into());
    }
    Some(told)
}

/// What is before the first NUL, or everything.
fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// `DateStyle` as `date_style`.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 2);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::snake_case;
    use crate::layer7::kit::{self, Said};

    const STARTUP: Said<'_> = (0, b"\0\0\0\x1d\0\x03\0\0user\0bob\0database\0d\0\0");
    const ASKS: Said<'_> = (1, b"R\0\0\0\x0c\0\0\0\x05\x9fi\x1a\x8e");
    const PASSWORD: Said<'_> = (0, b"p\0\0\0\x08md5\0");
    const STARTED: Said<'_> = (
        1,
        b"R\0\0\0\x08\0\0\0\0S\0\0\0\x13DateStyle\0ISO\0\0K\0\0\0\x0c\0\0\0\x3d\0\0\0\x07Z\0\0\0\x05I",
    );

    #[test]
    fn a_session() {
        let query = (0, &b"Q\0\0\0\x0dselect 1\0"[..]);
        let answer = (
            1,
            &b"T\0\0\0\x1a\0\x01c\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0D\0\0\0\x0b\0\x01\0\0\0\x011C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I"[..],
        );
        let said = [
            (0, &b"\0\0\0\x08\x04\xd2\x16\x2f"[..]),
            (1, b"N"),
            STARTUP,
            ASKS,
            PASSWORD,
            STARTED,
            query,
            answer,
            (0, b"X\0\0\0\x04"),
        ];
        let expected = [
            (
                "pgsql",
                json!({"tx_id": 1, "request": {"message": "SSL Request"}, "response": {"ssl_accepted": false}}),
            ),
            (
                "pgsql",
                json!({"tx_id": 2,
                    "request": {"protocol_version": "3.0",
                        "startup_parameters": {"user": "bob", "optional_parameters": [{"database": "d"}]}},
                    "response": {"authentication_md5_password": "\\x9fi\u{1a}\\x8e"}}),
            ),
            (
                "pgsql",
                json!({"tx_id": 3, "request": {"password_redacted": true},
                    "response": {"message": "authentication_ok", "parameter_status": [{"date_style": "ISO"}],
                        "process_id": 61, "secret_key": 7}}),
            ),
            (
                "pgsql",
                json!({"tx_id": 4, "request": {"simple_query": "select 1"},
                    "response": {"field_count": 1, "data_rows": 1, "data_size": 1, "command_completed": "SELECT 1"}}),
            ),
            (
                "pgsql",
                json!({"tx_id": 5, "request": {"message": "termination_message"}}),
            ),
        ];
        kit::check_stream(&said, Some("pgsql"), &expected);
    }

    #[test]
    fn log_ins() {
        let check = |answer: &[u8], expected: [u16; 3]| {
            let insight = kit::stream(&[STARTUP, ASKS, PASSWORD, (1, answer)]).insight;
            let counts = [
                insight.logins_attempted,
                insight.logins_succeeded,
                insight.logins_failed,
            ];
            assert_eq!(insight.user.as_deref(), Some("bob"));
            assert_eq!(counts, expected);
        };
        check(STARTED.1, [1, 1, 0]);
        check(b"E\0\0\0\x13SFATAL\0C28P01\0\0", [1, 0, 1]);
        check(b"E\0\0\0\x13SFATAL\0C53300\0\0", [1, 0, 0]);
    }

    #[test]
    fn encryption_hides_the_rest() {
        let said: &[Said<'_>] = &[
            (0, b"\0\0\0\x08\x04\xd2\x16\x2f"),
            (1, b"S"),
            (0, b"\0\0\0\0\0\0\0\0"),
        ];
        let insight = kit::stream(said).insight;
        assert_eq!(insight.app_before, Some("pgsql"));
        kit::check_cuts(said);
    }

    #[test]
    fn not_pgsql() {
        kit::check_stream(&[(0, b"\0\0\0\x20\0\x03\0\0\x01\x02\x03")], None, &[]);
        kit::check_stream(&[(0, b"\0\0\xff\xff\x04\xd2\x16\x2f")], None, &[]);
    }

    #[test]
    fn names() {
        assert_eq!(snake_case("DateStyle"), "date_style");
        assert_eq!(snake_case("is_superuser"), "is_superuser");
        assert_eq!(snake_case("TimeZone"), "time_zone");
    }
}
