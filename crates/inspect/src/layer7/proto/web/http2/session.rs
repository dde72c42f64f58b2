//! One connection: its streams, each a request and its response.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::super::{by_name, lines};
use super::super::credentials;
use super::super::http::{shown, split_authority, without_parameters};
use super::frame::{self, Header, flag, kind};
use super::hpack::{Decoder, Field};
use super::{DOH, PREFACE};
use crate::layer7::insight::{self, text_within};
use crate::layer7::protocol::{Login, Out, Protocol, Session, Side, Step};
use crate::layer7::record::{self, Anomaly, Http2, Record, Severity};

/// Open streams that are followed; of more the oldest is told as it stands.
const STREAMS_MAX: usize = 256;
/// Longest frame that is waited for as a whole, and longest header block.
const FRAME_MAX: usize = 96 * 1024;

#[derive(Default)]
pub(super) struct Http2Session {
    halves: [Half; 2],
    streams: BTreeMap<u32, Stream>,
    /// Reads the messages of DNS that bodies carry (RFC 8484).
    dns: Option<Box<dyn Session>>,
}

#[derive(Debug, Default)]
struct Half {
    decoder: Decoder,
    /// Bytes of a DATA frame that are to come, its stream, and whether that ends with it.
    data: Option<(usize, u32, bool)>,
    /// A header block that goes on in the next frame.
    block: Option<Block>,
}

#[derive(Debug)]
struct Block {
    stream: u32,
    bytes: Vec<u8>,
    is_end_of_stream: bool,
    /// It is of a request that the server promises to have got.
    is_promise: bool,
}

#[derive(Debug, Default)]
struct Stream {
    http: record::Http,
    is_first: bool,
    has_credential: bool,
    /// By side: a body that is a message of DNS, as far as it came.
    dns: [Option<Vec<u8>>; 2],
    /// The question, told if no answer repeats it.
    asked: Option<Vec<u8>>,
}

impl Session for Http2Session {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if let Some((left, stream, is_end)) = self.halves[side.index()].data {
                let len = left.min(rest.len());
                self.halves[side.index()].data = (len < left).then_some((left - len, stream, is_end));
                at += len;
                self.body(side, stream, &rest[..len]);
                if len == left && is_end {
                    self.end(side, stream, out);
                }
                continue;
            }
            if side == Side::Client && rest[0] == PREFACE[0] {
                match lines::begins(rest, PREFACE) {
                    Some(true) => {
                        at += PREFACE.len();
                        continue;
                    }
                    None => break,
                    Some(false) => {}
                }
            }
            let Some(header) = Header::of(rest) else {
                break;
            };
            if !header.is_plausible() {
                return broken("invalid_frame_header");
            }
            if header.kind == kind::DATA {
                // Padding counts for the body: it is rare, and no more than 256 bytes.
                at += Header::LEN;
                self.halves[side.index()].data =
                    (header.len > 0).then_some((header.len, header.stream, header.has(flag::END_STREAM)));
                if header.len == 0 && header.has(flag::END_STREAM) {
                    self.end(side, header.stream, out);
                }
                continue;
            }
            if header.len > FRAME_MAX {
                return broken("long_frame_data");
            }
            let Some(payload) = rest.get(Header::LEN..Header::LEN + header.len) else {
                break;
            };
            at += Header::LEN + header.len;
            if let Err(why) = self.frame(side, &header, payload, out) {
                return broken(why);
            }
        }
        Step::Take(at as u64)
    }

    fn gap(&mut self, side: Side, len: u64, out: &mut Out<'_>) -> Step {
        let _ = out;
        match &mut self.halves[side.index()].data {
            Some((left, ..)) if *left as u64 > len => {
                *left -= len as usize;
                Step::Take(0)
            }
            // What the tables of header fields hold is not known any more.
            _ => Step::Done,
        }
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        for (_, stream) in std::mem::take(&mut self.streams) {
            self.tell(stream, out);
        }
    }
}

fn broken(why: &'static str) -> Step {
    Step::Broken(Anomaly::parser(why, Severity::Medium))
}

impl Http2Session {
    fn frame(
        &mut self,
        side: Side,
        header: &Header,
        payload: &[u8],
        out: &mut Out<'_>,
    ) -> Result<(), &'static str> {
        let is_continued = self.halves[side.index()].block.is_some();
        if is_continued != (header.kind == kind::CONTINUATION) {
            return Err("invalid_continuation");
        }
        match header.kind {
            kind::HEADERS => {
                let opened = frame::opened(header, payload).ok_or("invalid_padding")?;
                if let Some(weight) = opened.weight {
                    let stream = self.stream(header.stream, out);
                    half_of(&mut stream.http, side).priority = Some(weight);
                }
                let block = Block {
                    stream: header.stream,
                    bytes: opened.block.to_vec(),
                    is_end_of_stream: header.has(flag::END_STREAM),
                    is_promise: false,
                };
                self.block(side, block, header.has(flag::END_HEADERS), out)
            }
            kind::PUSH_PROMISE => {
                let payload = frame::unpadded(header, payload).ok_or("invalid_padding")?;
                let (promised, block) = payload.split_first_chunk().ok_or("invalid_push_promise")?;
                let block = Block {
                    stream: u32::from_be_bytes(*promised) & 0x7fff_ffff,
                    bytes: block.to_vec(),
                    is_end_of_stream: false,
                    is_promise: true,
                };
                self.block(side, block, header.has(flag::END_HEADERS), out)
            }
            kind::CONTINUATION => {
                let Some(mut block) = self.halves[side.index()].block.take() else {
                    return Err("invalid_continuation");
                };
                if block.stream != header.stream && !block.is_promise {
                    return Err("invalid_continuation");
                }
                block.bytes.extend_from_slice(payload);
                if block.bytes.len() > FRAME_MAX {
                    return Err("long_header_block");
                }
                self.block(side, block, header.has(flag::END_HEADERS), out)
            }
            kind::SETTINGS if !header.has(flag::ACK) && !payload.is_empty() => {
                if out.wants_records() {
                    let mut http = record::Http {
                        version: Some("2"),
                        http2: Some(Http2::default()),
                        ..record::Http::default()
                    };
                    half_of(&mut http, side).settings = frame::settings(payload);
                    out.record_of(side, Record::Http(Box::new(http)));
                }
                Ok(())
            }
            kind::RST_STREAM | kind::GOAWAY => {
                let at = if header.kind == kind::GOAWAY { 4 } else { 0 };
                let code = payload.get(at..).and_then(<[u8]>::first_chunk);
                let name = code.map(|code| frame::error_name(u32::from_be_bytes(*code)));
                if let Some(mut stream) = self.streams.remove(&header.stream) {
                    half_of(&mut stream.http, side).error_code = name;
                    self.tell(stream, out);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn block(
        &mut self,
        side: Side,
        block: Block,
        is_whole: bool,
        out: &mut Out<'_>,
    ) -> Result<(), &'static str> {
        let half = &mut self.halves[side.index()];
        if !is_whole {
            half.block = Some(block);
            return Ok(());
        }
        let fields = half.decoder.block(&block.bytes).ok_or("invalid_header_block")?;
        let of = if block.is_promise { Side::Client } else { side };
        let stream = self.stream(block.stream, out);
        if of == Side::Client {
            stream.request(&fields, out);
        } else {
            stream.response(&fields, out);
        }
        if let Some(asked) = stream.asked_in_url() {
            stream.asked = Some(asked);
        }
        if stream.asked.is_some() || stream.dns.iter().any(Option::is_some) {
            turn_into_doh(out);
        }
        if block.is_end_of_stream {
            self.end(side, block.stream, out);
        }
        Ok(())
    }

    fn stream(&mut self, id: u32, out: &mut Out<'_>) -> &mut Stream {
        if self.streams.len() >= STREAMS_MAX
            && !self.streams.contains_key(&id)
            && let Some((_, oldest)) = self.streams.pop_first()
        {
            self.tell(oldest, out);
        }
        self.streams.entry(id).or_insert_with(|| Stream {
            http: record::Http {
                version: Some("2"),
                http2: Some(Http2 {
                    stream_id: id,
                    ..Http2::default()
                }),
                ..record::Http::default()
            },
            ..Stream::default()
        })
    }

    fn body(&mut self, side: Side, stream: u32, bytes: &[u8]) {
        let Some(stream) = self.streams.get_mut(&stream) else {
            return;
        };
        if side == Side::Server {
            stream.http.length += bytes.len() as u64;
        }
        if let Some(message) = &mut stream.dns[side.index()]
            && message.len() + bytes.len() <= usize::from(u16::MAX)
        {
            message.extend_from_slice(bytes);
        }
    }

    /// A side will send no more on a stream.
    fn end(&mut self, side: Side, id: u32, out: &mut Out<'_>) {
        match side {
            Side::Client => {
                if let Some(stream) = self.streams.get_mut(&id)
                    && let Some(message) = stream.dns[0].take()
                {
                    stream.asked = Some(message);
                }
            }
            Side::Server => {
                if let Some(mut stream) = self.streams.remove(&id) {
                    if let Some(message) = stream.dns[1].take().filter(|message| !message.is_empty()) {
                        stream.asked = None;
                        self.dns_message(Side::Server, &message, out);
                    }
                    self.tell(stream, out);
                }
            }
        }
    }

    /// A stream is over, or nothing more is seen of it.
    fn tell(&mut self, mut stream: Stream, out: &mut Out<'_>) {
        if let Some(asked) = stream.asked.take() {
            self.dns_message(Side::Client, &asked, out);
        }
        out.record_of(Side::Client, Record::Http(Box::new(stream.http)));
    }

    /// Hands a message to the parser of DNS, with the length before it that DNS over TCP has.
    fn dns_message(&mut self, side: Side, message: &[u8], out: &mut Out<'_>) {
        if self.dns.is_none() {
            self.dns = by_name("dns").map(Protocol::session);
        }
        if let Some(dns) = &mut self.dns
            && let Ok(len) = u16::try_from(message.len())
        {
            let framed = [&len.to_be_bytes()[..], message].concat();
            // The flow is named after the server, not after what it was asked.
            let host = out.insight.host.take();
            let _ = dns.data(side, &framed, out);
            if host.is_some() {
                out.insight.host = host;
            }
        }
    }
}

/// What Suricata calls HTTP/2 that carries DNS.
fn turn_into_doh(out: &mut Out<'_>) {
    if out.insight.app != Some(DOH) {
        out.insight.app_before = out.insight.app.replace(DOH);
    }
}

fn half_of(http: &mut record::Http, side: Side) -> &mut record::Http2Side {
    let http2 = http.http2.get_or_insert_default();
    match side {
        Side::Client => &mut http2.request,
        Side::Server => &mut http2.response,
    }
}

fn is_dns(kind: &[u8]) -> bool {
    without_parameters(kind).eq_ignore_ascii_case(b"application/dns-message")
}

fn text(bytes: &[u8]) -> String {
    text_within(bytes, record::Http::TEXT_MAX)
}

impl Stream {
    /// The question of a GET: `/dns-query?dns=…` in the alphabet of URLs.
    fn asked_in_url(&mut self) -> Option<Vec<u8>> {
        if self.dns[1].is_some() || self.http.status.is_some() {
            return None;
        }
        let (_, rest) = self.http.url.as_deref()?.split_once("dns-query?dns=")?;
        let end = rest.find('&').unwrap_or(rest.len());
        URL_SAFE_NO_PAD.decode(rest[..end].trim_end_matches('=')).ok()
    }

    fn request(&mut self, fields: &[Field], out: &mut Out<'_>) {
        let http = &mut self.http;
        let is_opening = http.http_method.is_none();
        for (name, value) in fields {
            match &name[..] {
                b":method" => http.http_method = Some(text(value)),
                b":path" => http.url = Some(text(value)),
                b":authority" | b"host" => {
                    let (host, port) = split_authority(value);
                    http.hostname = Some(text(host));
                    http.http_port = port;
                }
                b"user-agent" => http.http_user_agent = Some(text(value)),
                b"referer" => http.http_refer = Some(text(value)),
                b"content-length" => http.request_content_length = lines::number(value),
                b"content-type" if is_dns(value) => self.dns[0] = Some(Vec::new()),
                b"authorization" => {
                    if let Some(credential) = credentials::authorization(value) {
                        out.insight.has_clear_credential |= credential.is_clear;
                        if credential.user.is_some() {
                            out.insight.user = credential.user;
                        }
                        self.has_credential = true;
                    }
                }
                _ => {}
            }
            if out.wants_records() && http.request_headers.len() < record::Http::FIELDS_MAX {
                http.request_headers.push(shown(name, value));
            }
        }
        if !is_opening {
            return;
        }
        let boxed = |text: &Option<String>| text.as_deref().map(|text| insight::text(text.as_bytes()));
        if out.insight.host.is_none() {
            out.insight.host = boxed(&http.hostname);
        }
        if self.has_credential {
            out.login(Login::Attempted);
        }
        let told = out.insight.http.get_or_insert_default();
        told.requests += 1;
        if told.requests == 1 {
            self.is_first = true;
            told.host = boxed(&http.hostname);
            told.method = boxed(&http.http_method);
            told.path = boxed(&http.url);
            told.user_agent = boxed(&http.http_user_agent);
            told.referer = boxed(&http.http_refer);
            told.content_length[0] = http.request_content_length;
        }
    }

    fn response(&mut self, fields: &[Field], out: &mut Out<'_>) {
        let http = &mut self.http;
        let mut has_status = false;
        for (name, value) in fields {
            match &name[..] {
                b":status" => {
                    has_status = true;
                    http.status = lines::number(value).and_then(|status| u16::try_from(status).ok());
                }
                b"content-type" => {
                    http.http_content_type = Some(text(without_parameters(value)));
                    if is_dns(value) {
                        self.dns[1] = Some(Vec::new());
                    }
                }
                b"content-length" => http.content_length = lines::number(value),
                b"location" => http.redirect = Some(text(value)),
                _ => {}
            }
            if out.wants_records() && http.response_headers.len() < record::Http::FIELDS_MAX {
                http.response_headers.push(shown(name, value));
            }
        }
        let status = http.status.unwrap_or(0);
        // Trailers, and what comes before the response.
        if !has_status || (100..200).contains(&status) {
            return;
        }
        let told = out.insight.http.get_or_insert_default();
        let is_refused = matches!(status, 401 | 403 | 407);
        told.refused += u32::from(is_refused);
        if self.is_first {
            told.status = http.status;
            told.content_type = http
                .http_content_type
                .as_deref()
                .map(|text| insight::text(text.as_bytes()));
            told.content_length[1] = http.content_length;
        }
        if self.has_credential {
            out.login(if is_refused {
                Login::Failed
            } else {
                Login::Succeeded
            });
        }
    }
}
