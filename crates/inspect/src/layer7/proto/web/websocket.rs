//! WebSocket (RFC 6455): frames, after HTTP agreed on them.

use serde_json::{Map, Value};

use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct WebSocket;

impl Protocol for WebSocket {
    fn name(&self) -> &'static str {
        "websocket"
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    /// HTTP tells. Of a connection joined in the middle: a text that fills its frame from both sides.
    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        if seen.is_from_start {
            return Verdict::No;
        }
        let fits = seen.data.map(text);
        match fits {
            [Some(is_masked), Some(other)] if is_masked != other => {
                Verdict::certain(if is_masked { Side::Client } else { Side::Server })
            }
            [Some(_), None] if seen.server().is_empty() => Verdict::NeedMore,
            [None, Some(_)] if seen.client().is_empty() => Verdict::NeedMore,
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Frames)
    }
}

#[derive(Debug)]
struct Frames;

/// A frame without its payload.
struct Header {
    is_last: bool,
    opcode: &'static str,
    mask: Option<u32>,
    len: usize,
    payload_len: u64,
}

enum Parsed {
    Frame(Header),
    More,
    Bad(&'static str),
}

impl Header {
    fn parse(bytes: &[u8]) -> Parsed {
        let &[first, second, ..] = bytes else {
            return Parsed::More;
        };
        let opcode = match first & 0x0f {
            0 => "continuation",
            1 => "text",
            2 => "binary",
            8 => "connection_close",
            9 => "ping",
            10 => "pong",
            _ => return Parsed::Bad("invalid_opcode"),
        };
        let short = u64::from(second & 0x7f);
        let is_control = first & 8 != 0;
        if is_control && (short > 125 || first & 0x80 == 0) {
            return Parsed::Bad("invalid_control_frame");
        }
        let wide = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(length) = bytes.get(2..2 + wide) else {
            return Parsed::More;
        };
        let payload_len = match wide {
            0 => short,
            _ => length.iter().fold(0, |len, &b| len << 8 | u64::from(b)),
        };
        if payload_len >> 63 != 0 {
            return Parsed::Bad("invalid_length");
        }
        let mut len = 2 + wide;
        let mut mask = None;
        if second & 0x80 != 0 {
            let Some(key) = bytes.get(len..).and_then(<[u8]>::first_chunk) else {
                return Parsed::More;
            };
            mask = Some(u32::from_be_bytes(*key));
            len += 4;
        }
        Parsed::Frame(Self {
            is_last: first & 0x80 != 0,
            opcode,
            mask,
            len,
            payload_len,
        })
    }

    /// Why the connection is closed.
    fn close_code(&self, payload: &[u8]) -> Option<u16> {
        let key = (self.mask.unwrap_or(0) >> 16) as u16;
        payload.first_chunk().map(|&code| u16::from_be_bytes(code) ^ key)
    }
}

/// Whether the bytes begin with the whole of a text, and whether that is masked.
fn text(bytes: &[u8]) -> Option<bool> {
    let Parsed::Frame(frame) = Header::parse(bytes) else {
        return None;
    };
    let payload = bytes
        .get(frame.len..)?
        .get(..usize::try_from(frame.payload_len).ok()?)?;
    let key = frame.mask.unwrap_or(0).to_be_bytes();
    let plain: Vec<u8> = payload
        .iter()
        .zip(key.into_iter().cycle())
        .map(|(byte, key)| byte ^ key)
        .collect();
    let is_text = frame.opcode == "text" && frame.is_last && payload.len() >= 2;
    let has_no_controls = |text: &str| !text.chars().any(|c| c.is_control() && !c.is_whitespace());
    (is_text && std::str::from_utf8(&plain).is_ok_and(has_no_controls)).then_some(frame.mask.is_some())
}

impl Session for Frames {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut at = 0usize;
        while at < bytes.len() {
            let frame = match Header::parse(&bytes[at..]) {
                Parsed::Frame(frame) => frame,
                Parsed::More => break,
                Parsed::Bad(why) => return Step::Broken(Anomaly::parser(why, Severity::Medium)),
            };
            let payload = &bytes[at + frame.len..];
            let is_close = frame.opcode == "connection_close";
            if is_close && (payload.len() as u64) < frame.payload_len {
                break;
            }
            if out.wants_records() {
                let mut fields = Map::new();
                fields.insert("fin".into(), frame.is_last.into());
                if let Some(mask) = frame.mask {
                    fields.insert("mask".into(), mask.into());
                }
                fields.insert("opcode".into(), Value::from(frame.opcode));
                fields.insert("payload_length".into(), frame.payload_len.into());
                let payload = &payload[..payload.len().min(frame.payload_len as usize)];
                if is_close && let Some(code) = frame.close_code(payload) {
                    fields.insert("close_code".into(), code.into());
                }
                out.record_of(side, Record::fields("websocket", fields));
            }
            let taken = (at + frame.len) as u64 + frame.payload_len;
            if taken > bytes.len() as u64 {
                return Step::Take(taken);
            }
            at = taken as usize;
        }
        Step::Take(at as u64)
    }
}
