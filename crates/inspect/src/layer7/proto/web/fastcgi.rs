//! FastCGI 1: the requests of a web server to a program.

use serde_json::{Map, Value};

use crate::layer7::insight::{self, text_within};
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::record::Record;

#[derive(Debug)]
pub(super) struct FastCgi;

const HEADER_LEN: usize = 8;
const BEGIN_REQUEST: u8 = 1;
const PARAMS: u8 = 4;
/// Bytes of a request's parameters that are read.
const PARAMS_MAX: usize = 64 * 1024;

impl Protocol for FastCgi {
    fn name(&self) -> &'static str {
        "fastcgi"
    }

    fn ports(&self) -> &'static [u16] {
        &[9000]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        // BEGIN_REQUEST: version, kind, request, length 8, padding, reserved, role 1 to 3, flags, 5 of zero.
        let client = seen.client();
        let is = |at: usize, fits: &dyn Fn(u8) -> bool| client.get(at).is_none_or(|&b| fits(b));
        let zero = |b: u8| b == 0;
        let fits = is(0, &|b| b == 1)
            && is(1, &|b| b == BEGIN_REQUEST)
            && is(4, &zero)
            && is(5, &|b| b == 8)
            && is(7, &zero)
            && is(8, &zero)
            && is(9, &|b| (1..=3).contains(&b))
            && is(10, &|b| b <= 1)
            && (11..16).all(|at| is(at, &zero));
        match client.len() {
            _ if !fits => Verdict::No,
            0 if !seen.server().is_empty() => Verdict::No,
            16.. => Verdict::CERTAIN,
            _ => Verdict::NeedMore,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<FastCgiSession>::default()
    }
}

#[derive(Debug, Default)]
struct FastCgiSession {
    params: Vec<u8>,
}

impl Session for FastCgiSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if side == Side::Server {
            return Step::Take(bytes.len() as u64);
        }
        let mut at = 0;
        while let Some(&[_, kind, _, _, high, low, padding, _]) =
            bytes.get(at..).and_then(<[u8]>::first_chunk::<HEADER_LEN>)
        {
            let len = usize::from(u16::from_be_bytes([high, low]));
            let end = at + HEADER_LEN + len + usize::from(padding);
            if kind == PARAMS {
                let Some(content) = bytes.get(at + HEADER_LEN..at + HEADER_LEN + len) else {
                    break;
                };
                if content.is_empty() {
                    self.request(out);
                } else if self.params.len() + len <= PARAMS_MAX {
                    self.params.extend_from_slice(content);
                }
            }
            if end > bytes.len() {
                return Step::Take(end as u64);
            }
            at = end;
        }
        Step::Take(at as u64)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        self.request(out);
    }
}

impl FastCgiSession {
    /// The parameters are whole.
    fn request(&mut self, out: &mut Out<'_>) {
        let params = std::mem::take(&mut self.params);
        let mut rest = &params[..];
        let mut fields = Map::new();
        while let Some((name, value)) = pair(&mut rest) {
            let field = match name {
                b"REQUEST_METHOD" => "method",
                b"REQUEST_URI" => "url",
                b"SCRIPT_NAME" => "script",
                b"HTTP_HOST" => "hostname",
                b"HTTP_USER_AGENT" => "user_agent",
                b"REMOTE_ADDR" => "remote_addr",
                _ => continue,
            };
            fields.insert(field.into(), Value::from(text_within(value, 2048)));
        }
        if fields.is_empty() {
            return;
        }
        let text = |name: &str| {
            let value = fields.get(name).and_then(Value::as_str);
            value.map(|value| insight::text(value.as_bytes()))
        };
        if out.insight.host.is_none() {
            out.insight.host = text("hostname");
        }
        let told = out.insight.http.get_or_insert_default();
        told.requests += 1;
        if told.requests == 1 {
            told.host = text("hostname");
            told.method = text("method");
            told.path = text("url");
            told.user_agent = text("user_agent");
        }
        out.record_of(Side::Client, Record::fields("fastcgi", fields));
    }
}

/// A name and a value, with their lengths before them.
fn pair<'a>(bytes: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let name_len = length(bytes)?;
    let value_len = length(bytes)?;
    let (name, rest) = bytes.split_at_checked(name_len)?;
    let (value, rest) = rest.split_at_checked(value_len)?;
    *bytes = rest;
    Some((name, value))
}

/// One byte, or four if the first bit is set.
fn length(bytes: &mut &[u8]) -> Option<usize> {
    let (&first, rest) = bytes.split_first()?;
    if first & 0x80 == 0 {
        *bytes = rest;
        return Some(first.into());
    }
    let (four, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some((u32::from_be_bytes(*four) & 0x7fff_ffff) as usize)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    #[test]
    fn a_request() {
        let begin = b"\x01\x01\0\x01\0\x08\0\0\0\x01\x01\0\0\0\0\0";
        let params =
            b"\x01\x04\0\x01\0\x1d\x01\0\x09\x03HTTP_HOSTa.b\x0b\x02REQUEST_URI/x\0\x01\x04\0\x01\0\0\0\0";
        let said: [Said<'_>; 3] = [(0, begin), (0, params), (1, b"\x01\x06\0\x01\0\x01\0\0x")];
        kit::check_stream(
            &said,
            Some("fastcgi"),
            &[("fastcgi", json!({"hostname": "a.b", "url": "/x"}))],
        );
        assert_eq!(kit::stream(&said).insight.host.as_deref(), Some("a.b"));
        kit::check_stream(&[(0, b"\x01\x01\0\x01\0\x09\0\0\0\x01\x01\0\0\0\0\0")], None, &[]);
    }
}
