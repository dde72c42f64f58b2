//! One connection: requests and their responses.

use std::collections::VecDeque;

use super::super::super::lines::{self, Fit, LINE_MAX, Lines, Next};
use super::super::credentials::{self, Credential};
use super::super::{http2, websocket};
use super::message::{Framing, RequestLine, shown, split_authority, text, without_parameters};
use super::without_blank_lines;
use crate::layer7::insight;
use crate::layer7::protocol::{Login, Out, Protocol, Session, Side, Step};
use crate::layer7::record::{self, Anomaly, Record, Severity};

/// Requests that wait for their responses; of more than these the oldest is told without one.
const WAITING_MAX: usize = 256;
/// A form longer than this is not looked at.
const FORM_MAX: u64 = 4096;
/// Bytes of a tunnel that are held while its response is not there.
const TUNNEL_MAX: usize = 16 * 1024;
/// Fields of a head that are looked at.
const HEAD_FIELDS_MAX: u32 = 1000;

#[derive(Debug, Default)]
pub(super) struct HttpSession {
    waiting: VecDeque<Transaction>,
    halves: [Half; 2],
    /// Of the credentials last seen, so that a log-in counts once and not with each request.
    last_credential: Option<Box<[u8]>>,
}

/// What one side is in the middle of.
#[derive(Debug, Default)]
struct Half {
    state: State,
    framing: Framing,
    /// A field whose next line may continue it.
    field: Option<(Vec<u8>, Vec<u8>)>,
    fields: u32,
    lines: Lines,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Fields,
    Body(u64),
    /// A body that may hold a log-in: so many bytes.
    Form(u64),
    UntilClose,
    ChunkSize,
    /// With the end of line behind it.
    Chunk(u64),
    Trailer,
    /// The client's bytes are not HTTP any more if the server agrees.
    Tunnel,
    /// Somewhere inside a message; whether at the beginning of a line.
    Lost(bool),
}

#[derive(Debug, Default)]
struct Transaction {
    http: record::Http,
    is_first: bool,
    has_request: bool,
    is_head: bool,
    is_connect: bool,
    form: Option<Form>,
    upgrade: Option<Vec<u8>>,
    credential: Option<Credential>,
    is_login_new: bool,
}

/// Reads a body that may hold a log-in.
type Form = fn(&[u8]) -> Option<Credential>;

/// What came of some bytes.
enum Turn {
    Took(usize),
    Wait,
    Switch(usize, Option<&'static dyn Protocol>),
}

impl Session for HttpSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            match self.turn(side, &bytes[at..], out) {
                Turn::Took(len) => at += len,
                Turn::Wait => break,
                Turn::Switch(len, to) => {
                    self.tell_waiting(out);
                    return Step::Switch { taken: at + len, to };
                }
            }
        }
        Step::Take(at as u64)
    }

    fn gap(&mut self, side: Side, len: u64, out: &mut Out<'_>) -> Step {
        let half = &mut self.halves[side.index()];
        match &mut half.state {
            State::Body(left) | State::Form(left) if *left >= len => {
                half.state = State::Body(*left - len);
                self.end_if_empty(side, out);
            }
            State::Chunk(left) if *left > len => *left -= len,
            State::UntilClose => {}
            State::Fields => {
                half.state = State::Lost(true);
                self.tell_head(side, out);
            }
            _ => half.state = State::Lost(true),
        }
        Step::Take(0)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        for side in [Side::Client, Side::Server] {
            if self.halves[side.index()].state == State::Fields {
                self.tell_head(side, out);
            }
        }
        self.tell_waiting(out);
    }
}

impl HttpSession {
    fn turn(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Turn {
        let len = bytes.len() as u64;
        let half = &mut self.halves[side.index()];
        match &mut half.state {
            State::Start => self.start(side, bytes, out),
            State::Fields | State::Trailer | State::ChunkSize => self.line(side, bytes, out),
            State::Body(left) => {
                let taken = len.min(*left);
                *left -= taken;
                self.body(side, taken);
                self.end_if_empty(side, out);
                Turn::Took(taken as usize)
            }
            State::Form(left) => {
                let left = *left;
                if len < left {
                    return Turn::Wait;
                }
                self.form(&bytes[..left as usize], out);
                self.end_body(side, out);
                Turn::Took(left as usize)
            }
            State::Chunk(left) => {
                let taken = len.min(*left);
                *left -= taken;
                if *left == 0 {
                    half.state = State::ChunkSize;
                }
                self.body(side, taken);
                Turn::Took(taken as usize)
            }
            State::UntilClose => {
                self.body(side, len);
                Turn::Took(bytes.len())
            }
            State::Tunnel if bytes.len() < TUNNEL_MAX => Turn::Wait,
            State::Tunnel => Turn::Switch(0, None),
            State::Lost(is_line_start) => {
                if *is_line_start {
                    let fit = match side {
                        Side::Client => super::request(bytes),
                        Side::Server => super::response(bytes),
                    };
                    match fit {
                        Fit::Certain => {
                            self.found_again(side, out);
                            return Turn::Took(0);
                        }
                        Fit::More if bytes.len() < 16 => return Turn::Wait,
                        _ => {}
                    }
                }
                let end = memchr::memchr(b'\n', bytes);
                half.state = State::Lost(end.is_some());
                Turn::Took(end.map_or(bytes.len(), |end| end + 1))
            }
        }
    }

    /// After a hole: of the requests before it only the last may still get its response.
    fn found_again(&mut self, side: Side, out: &mut Out<'_>) {
        self.halves[side.index()] = Half::default();
        let keep = usize::from(side == Side::Server);
        while self.waiting.len() > keep {
            self.tell_first(out);
        }
    }

    fn start(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Turn {
        let blank = bytes.len() - without_blank_lines(bytes).len();
        if blank > 0 {
            return Turn::Took(blank);
        }
        if side == Side::Server {
            self.end_simple_request(out);
            match super::response(bytes) {
                Fit::More => return Turn::Wait,
                Fit::Certain => {}
                _ if self.waiting.front().is_some_and(Transaction::is_simple) => {
                    self.halves[1].state = State::UntilClose;
                    return Turn::Took(0);
                }
                // Shoutcast answers so.
                _ if bytes.starts_with(b"ICY ") => {}
                _ => {
                    self.halves[side.index()].state = State::Lost(false);
                    return Turn::Took(0);
                }
            }
        } else if super::request(bytes) == Fit::No {
            self.halves[side.index()].state = State::Lost(false);
            return Turn::Took(0);
        }
        let mut lines = Lines::default();
        let Next::Line { line, taken, .. } = lines.next(bytes, LINE_MAX) else {
            return Turn::Wait;
        };
        let half = &mut self.halves[side.index()];
        *half = Half {
            state: State::Fields,
            lines,
            ..Half::default()
        };
        match side {
            Side::Client => self.request_line(line, out),
            Side::Server => self.status_line(line),
        }
        Turn::Took(taken)
    }

    /// A request of HTTP/0.9 has no fields: that it is over shows when the answer comes.
    fn end_simple_request(&mut self, out: &mut Out<'_>) {
        if self.halves[0].state == State::Fields && self.waiting.back().is_some_and(Transaction::is_simple) {
            self.end_field(Side::Client, out);
            self.end_head(Side::Client, out);
        }
    }

    fn request_line(&mut self, line: &[u8], out: &mut Out<'_>) {
        let request = RequestLine::of(line);
        if self.waiting.len() >= WAITING_MAX {
            self.tell_first(out);
        }
        let mut transaction = Transaction {
            has_request: true,
            is_head: request.method == b"HEAD",
            is_connect: request.method == b"CONNECT",
            is_first: out.insight.http.is_none(),
            ..Transaction::default()
        };
        let http = &mut transaction.http;
        http.http_method = Some(text(request.method));
        http.url = (!request.target.is_empty()).then(|| text(request.target));
        http.protocol = request.version.map(text);
        if let Some(authority) = request.authority() {
            let (host, port) = split_authority(authority);
            http.hostname = Some(text(host));
            http.http_port = port;
        }
        if let Some(at) = memchr::memchr(b'?', request.target) {
            transaction.credential = credentials::form(&request.target[at + 1..]);
        }
        self.waiting.push_back(transaction);
        out.insight.http.get_or_insert_default().requests += 1;
    }

    fn status_line(&mut self, line: &[u8]) {
        if self.waiting.is_empty() {
            self.waiting.push_back(Transaction::default());
        }
        let Some(transaction) = self.waiting.front_mut() else {
            return;
        };
        let (version, rest) = lines::word(line);
        let (status, _) = lines::word(rest);
        let http = &mut transaction.http;
        if http.protocol.is_none() {
            http.protocol = Some(text(version));
        }
        let number = lines::number(status).and_then(|status| u16::try_from(status).ok());
        http.status = number.filter(|status| (100..1000).contains(status));
        if http.status.is_none() && !status.is_empty() {
            http.status_string = Some(text(status));
        }
    }

    /// A line of a head, a trailer or between chunks.
    fn line(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Turn {
        let half = &mut self.halves[side.index()];
        let (line, taken) = match half.lines.next(bytes, LINE_MAX) {
            Next::Line { line, taken, .. } => (line, taken),
            Next::Pass(taken) => return Turn::Took(taken),
            Next::More => return Turn::Wait,
        };
        match half.state {
            State::ChunkSize => self.chunk_size(side, line, taken, out),
            _ if !line.is_empty() => self.field_line(side, line, out),
            State::Trailer => {
                self.end_body(side, out);
            }
            _ => {
                self.end_field(side, out);
                if let Some(to) = self.end_head(side, out) {
                    return Turn::Switch(taken, to);
                }
            }
        }
        Turn::Took(taken)
    }

    fn chunk_size(&mut self, side: Side, line: &[u8], taken: usize, out: &mut Out<'_>) {
        self.body(side, taken as u64);
        let end = line.iter().position(|&b| b == b';').unwrap_or(line.len());
        let digits = line[..end].trim_ascii();
        let size = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        self.halves[side.index()].state = match size {
            Some(0) => State::Trailer,
            Some(size) => State::Chunk(size.saturating_add(2)),
            None => {
                out.anomaly(anomaly(
                    side,
                    ["invalid_request_chunk_len", "invalid_response_chunk_len"],
                    Severity::Medium,
                ));
                State::Lost(true)
            }
        };
    }

    fn field_line(&mut self, side: Side, line: &[u8], out: &mut Out<'_>) {
        let half = &mut self.halves[side.index()];
        if half.state == State::Trailer {
            return;
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            if let Some((_, value)) = &mut half.field
                && value.len() < LINE_MAX
            {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            return;
        }
        self.end_field(side, out);
        let half = &mut self.halves[side.index()];
        half.fields += 1;
        if half.fields > HEAD_FIELDS_MAX {
            return;
        }
        match memchr::memchr(b':', line) {
            Some(at) => {
                let (name, value) = (line[..at].trim_ascii(), line[at + 1..].trim_ascii());
                half.field = Some((name.to_vec(), value.to_vec()));
            }
            None => out.anomaly(anomaly(
                side,
                ["request_field_missing_colon", "response_field_missing_colon"],
                Severity::Low,
            )),
        }
    }

    /// A field is whole.
    fn end_field(&mut self, side: Side, out: &mut Out<'_>) {
        let half = &mut self.halves[side.index()];
        let Some((name, value)) = half.field.take() else {
            return;
        };
        half.framing.field(&name, &value);
        let transaction = match side {
            Side::Client => self.waiting.back_mut(),
            Side::Server => self.waiting.front_mut(),
        };
        let Some(transaction) = transaction else {
            return;
        };
        if out.wants_records() {
            let fields = match side {
                Side::Client => &mut transaction.http.request_headers,
                Side::Server => &mut transaction.http.response_headers,
            };
            if fields.len() < record::Http::FIELDS_MAX {
                fields.push(shown(&name, &value));
            }
        }
        let name = name.to_ascii_lowercase();
        match side {
            Side::Client => {
                if transaction.request_field(&name, &value, out) {
                    transaction.is_login_new = self.last_credential.as_deref() != Some(&value[..]);
                    self.last_credential = Some(value.into());
                }
            }
            Side::Server => transaction.response_field(&name, &value),
        }
    }

    /// The head is whole. A protocol to switch to, if that is agreed.
    fn end_head(&mut self, side: Side, out: &mut Out<'_>) -> Option<Option<&'static dyn Protocol>> {
        self.check_framing(side, out);
        self.tell_head(side, out);
        let half = &mut self.halves[side.index()];
        let framing = std::mem::take(&mut half.framing);
        let length = framing.length.filter(|_| !framing.has_bad_length);
        if side == Side::Client {
            let Some(transaction) = self.waiting.back() else {
                half.state = State::Start;
                return None;
            };
            half.state = if transaction.is_connect {
                State::Tunnel
            } else if framing.is_chunked {
                State::ChunkSize
            } else {
                match length.unwrap_or(0) {
                    0 => State::Start,
                    length if transaction.form.is_some() && length <= FORM_MAX => State::Form(length),
                    length => State::Body(length),
                }
            };
            return None;
        }
        let Some(transaction) = self.waiting.front() else {
            half.state = State::Start;
            return None;
        };
        let status = transaction.http.status.unwrap_or(0);
        if status == 101 {
            let to = upgraded(transaction.upgrade.as_deref());
            self.tell_first(out);
            return Some(to);
        }
        if (100..200).contains(&status) {
            half.state = State::Start;
            if let Some(transaction) = self.waiting.front_mut() {
                transaction.http.response_headers.clear();
            }
            return None;
        }
        if transaction.is_connect && (200..300).contains(&status) {
            self.tell_first(out);
            return Some(None);
        }
        if transaction.is_connect {
            // Refused: what follows is HTTP again.
            self.halves[0].state = State::Start;
        }
        let half = &mut self.halves[1];
        if transaction.is_head || status == 204 || status == 304 {
            self.end_body(side, out);
        } else if framing.is_chunked {
            half.state = State::ChunkSize;
        } else if let Some(length) = length {
            half.state = State::Body(length);
            self.end_if_empty(side, out);
        } else {
            half.state = State::UntilClose;
        }
        None
    }

    fn check_framing(&self, side: Side, out: &mut Out<'_>) {
        let framing = &self.halves[side.index()].framing;
        if framing.is_chunked && framing.length.is_some() {
            out.anomaly(anomaly(
                side,
                [
                    "content_length_and_chunked_in_request",
                    "content_length_and_chunked_in_response",
                ],
                Severity::High,
            ));
        }
        if framing.has_other_lengths {
            out.anomaly(anomaly(
                side,
                [
                    "duplicate_content_length_field_in_request",
                    "duplicate_content_length_field_in_response",
                ],
                Severity::High,
            ));
        }
        if framing.has_bad_length {
            out.anomaly(anomaly(
                side,
                [
                    "invalid_content_length_field_in_request",
                    "invalid_content_length_field_in_response",
                ],
                Severity::Medium,
            ));
        }
        if framing.has_bad_coding {
            out.anomaly(anomaly(
                side,
                [
                    "invalid_transfer_encoding_value_in_request",
                    "invalid_transfer_encoding_value_in_response",
                ],
                Severity::Medium,
            ));
        }
    }

    /// Bytes of a body went by.
    fn body(&mut self, side: Side, len: u64) {
        if side == Side::Server
            && let Some(transaction) = self.waiting.front_mut()
        {
            transaction.http.length += len;
        }
    }

    fn end_if_empty(&mut self, side: Side, out: &mut Out<'_>) {
        if self.halves[side.index()].state == State::Body(0) {
            self.end_body(side, out);
        }
    }

    fn end_body(&mut self, side: Side, out: &mut Out<'_>) {
        self.halves[side.index()] = Half::default();
        if side == Side::Server {
            self.tell_first(out);
        }
    }

    fn form(&mut self, body: &[u8], out: &mut Out<'_>) {
        let Some(transaction) = self.waiting.back_mut() else {
            return;
        };
        if let Some(credential) = transaction.form.and_then(|form| form(body)) {
            tell_credential(&credential, out);
            out.login(Login::Attempted);
            transaction.is_login_new = true;
            transaction.credential = Some(credential);
        }
    }

    /// What the head of the newest message says of the flow.
    fn tell_head(&mut self, side: Side, out: &mut Out<'_>) {
        let transaction = match side {
            Side::Client => self.waiting.back_mut(),
            Side::Server => self.waiting.front_mut(),
        };
        match (side, transaction) {
            (Side::Client, Some(transaction)) => transaction.tell_request(out),
            (Side::Server, Some(transaction)) => transaction.tell_response(out),
            _ => {}
        }
    }

    fn tell_first(&mut self, out: &mut Out<'_>) {
        if let Some(transaction) = self.waiting.pop_front() {
            out.record_of(Side::Client, Record::Http(Box::new(transaction.http)));
        }
    }

    fn tell_waiting(&mut self, out: &mut Out<'_>) {
        while !self.waiting.is_empty() {
            self.tell_first(out);
        }
    }
}

impl Transaction {
    /// Of HTTP/0.9, which knows no versions.
    fn is_simple(&self) -> bool {
        self.has_request && self.http.protocol.is_none()
    }

    /// True if the field is a credential of the connection.
    fn request_field(&mut self, name: &[u8], value: &[u8], out: &mut Out<'_>) -> bool {
        let http = &mut self.http;
        match name {
            b"host" => {
                let (host, port) = split_authority(value);
                match &http.hostname {
                    None => {
                        http.hostname = Some(text(host));
                        http.http_port = port;
                    }
                    Some(known) if !known.as_bytes().eq_ignore_ascii_case(host) => {
                        out.anomaly(Anomaly::parser("host_header_ambiguous", Severity::Medium));
                    }
                    Some(_) => {}
                }
            }
            b"user-agent" => http.http_user_agent = Some(text(value)),
            b"referer" => http.http_refer = Some(text(value)),
            b"content-length" => http.request_content_length = lines::number(value),
            b"content-type" => {
                let kind = without_parameters(value).to_ascii_lowercase();
                self.form = match &kind[..] {
                    b"application/x-www-form-urlencoded" => Some(credentials::form),
                    b"application/json" => Some(credentials::json),
                    _ => None,
                };
            }
            b"upgrade" => self.upgrade = Some(value.to_ascii_lowercase()),
            b"authorization" | b"proxy-authorization" => {
                self.credential = credentials::authorization(value);
                return self.credential.is_some();
            }
            _ => {}
        }
        false
    }

    fn response_field(&mut self, name: &[u8], value: &[u8]) {
        let http = &mut self.http;
        match name {
            b"content-type" => http.http_content_type = Some(text(without_parameters(value))),
            b"content-length" => http.content_length = lines::number(value),
            b"location" => http.redirect = Some(text(value)),
            b"upgrade" if self.upgrade.is_none() => self.upgrade = Some(value.to_ascii_lowercase()),
            _ => {}
        }
    }

    fn tell_request(&mut self, out: &mut Out<'_>) {
        let http = &self.http;
        let boxed = |text: &Option<String>| text.as_deref().map(|text| insight::text(text.as_bytes()));
        if out.insight.host.is_none() {
            out.insight.host = boxed(&http.hostname);
        }
        if self.is_first {
            let first = out.insight.http.get_or_insert_default();
            first.host = boxed(&http.hostname);
            first.method = boxed(&http.http_method);
            first.path = boxed(&http.url);
            first.user_agent = boxed(&http.http_user_agent);
            first.referer = boxed(&http.http_refer);
            first.content_length[0] = http.request_content_length;
        }
        if let Some(credential) = &self.credential {
            tell_credential(credential, out);
            if self.is_login_new && credential.has_result {
                out.login(Login::Attempted);
            }
        }
    }

    fn tell_response(&mut self, out: &mut Out<'_>) {
        let http = &self.http;
        let is_first = self.is_first || !self.has_request && out.insight.http.is_none();
        let told = out.insight.http.get_or_insert_default();
        let status = http.status.unwrap_or(0);
        if (100..200).contains(&status) && status != 101 {
            return;
        }
        if is_first {
            told.status = http.status;
            told.content_type = http
                .http_content_type
                .as_deref()
                .map(|text| insight::text(text.as_bytes()));
            told.content_length[1] = http.content_length;
        }
        let is_refused = matches!(status, 401 | 403 | 407);
        told.refused += u32::from(is_refused);
        match &self.credential {
            Some(credential) if is_refused && (credential.has_result || self.is_login_new) => {
                out.login(Login::Failed);
            }
            Some(credential) if credential.has_result && self.is_login_new && status < 400 => {
                out.login(Login::Succeeded);
            }
            _ => {}
        }
    }
}

fn tell_credential(credential: &Credential, out: &mut Out<'_>) {
    out.insight.has_clear_credential |= credential.is_clear;
    if let Some(user) = &credential.user {
        out.insight.user = Some(user.clone());
    }
}

/// The protocol that an `Upgrade` field names.
fn upgraded(name: Option<&[u8]>) -> Option<&'static dyn Protocol> {
    match name {
        Some(name) if name.starts_with(b"websocket") => Some(&websocket::WebSocket),
        Some(name) if name.starts_with(b"h2c") => Some(&http2::Http2),
        _ => None,
    }
}

fn anomaly(side: Side, events: [&'static str; 2], severity: Severity) -> Anomaly {
    Anomaly::parser(events[side.index()], severity)
}
