//! RTSP (RFC 2326, RFC 7826), and the streams it sets up.

use serde_json::{Map, Value};

use super::super::lines::{self, Fit, Lines, Next};
use super::credentials;
use crate::layer7::insight::{self, text_within};
use crate::layer7::protocol::{
    Expected, Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict,
};
use crate::layer7::record::Record;

#[derive(Debug)]
pub(super) struct Rtsp;

const LINE_MAX: usize = 4096;
const METHOD_MAX: usize = 16;

impl Protocol for Rtsp {
    fn name(&self) -> &'static str {
        "rtsp"
    }

    fn ports(&self) -> &'static [u16] {
        &[554, 8554]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let mut is_open = false;
        for side in [Side::Client, Side::Server] {
            let bytes = seen.data[side.index()];
            match (
                request(bytes),
                Fit::begins_any(bytes, &[b"RTSP/1.0 ", b"RTSP/2.0 "]),
            ) {
                (Fit::Certain, _) => return Verdict::certain(side),
                (_, Fit::Certain) => return Verdict::certain(side.other()),
                (Fit::More, _) | (_, Fit::More) => is_open |= !bytes.is_empty(),
                _ => {}
            }
        }
        if is_open { Verdict::NeedMore } else { Verdict::No }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<RtspSession>::default()
    }
}

/// Whether these bytes begin a request.
fn request(bytes: &[u8]) -> Fit {
    let is_method = |b: &&u8| b.is_ascii_uppercase() || **b == b'_';
    let len = bytes.iter().take(METHOD_MAX).take_while(is_method).count();
    match bytes.get(len) {
        None if len < METHOD_MAX => return Fit::More,
        Some(b' ') if len > 2 => {}
        _ => return Fit::No,
    }
    match Fit::begins_any(&bytes[len + 1..], &[b"rtsp://", b"rtsps://", b"* RTSP/"]) {
        // RTSP through an HTTP port names a path only.
        Fit::No => match lines::first(bytes, 512) {
            lines::Line::Whole(line, _) if line.ends_with(b" RTSP/1.0") || line.ends_with(b" RTSP/2.0") => {
                Fit::Certain
            }
            lines::Line::More if bytes.iter().all(|&b| b >= b' ' || b == b'\r') => Fit::More,
            _ => Fit::No,
        },
        fit => fit,
    }
}

#[derive(Debug, Default)]
struct RtspSession {
    halves: [Half; 2],
    /// The request whose response has not come.
    waiting: Option<Asked>,
}

#[derive(Debug, Default)]
struct Half {
    lines: Lines,
    is_in_head: bool,
    body_len: u64,
}

#[derive(Debug, Default)]
struct Asked {
    method: String,
    url: String,
    user_agent: Option<String>,
    status: Option<u16>,
    server: Option<String>,
    has_credential: bool,
}

impl Session for RtspSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let half = &mut self.halves[side.index()];
            // Packets of a stream between the messages: `$`, the channel, the length.
            if !half.is_in_head && rest[0] == b'$' {
                let Some(&[_, _, high, low]) = rest.first_chunk() else {
                    break;
                };
                let end = at as u64 + 4 + u64::from(u16::from_be_bytes([high, low]));
                if end > bytes.len() as u64 {
                    return Step::Take(end);
                }
                at = end as usize;
                continue;
            }
            let (line, taken) = match half.lines.next(rest, LINE_MAX) {
                Next::Line { line, taken, .. } => (line, taken),
                Next::Pass(taken) => {
                    at += taken;
                    continue;
                }
                Next::More => break,
            };
            at += taken;
            if half.is_in_head && line.is_empty() {
                half.is_in_head = false;
                let body_len = std::mem::take(&mut half.body_len);
                self.end_head(side, out);
                let end = at as u64 + body_len;
                if end > bytes.len() as u64 {
                    return Step::Take(end);
                }
                at = end as usize;
            } else if half.is_in_head {
                self.field(side, line, out);
            } else if !line.is_empty() {
                half.is_in_head = true;
                self.first_line(side, line, out);
            }
        }
        Step::Take(at as u64)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        self.tell(out);
    }
}

impl RtspSession {
    fn first_line(&mut self, side: Side, line: &[u8], out: &mut Out<'_>) {
        let (first, rest) = lines::word(line);
        if first.starts_with(b"RTSP/") {
            let status = lines::number(lines::word(rest).0).and_then(|status| u16::try_from(status).ok());
            self.waiting.get_or_insert_default().status = status;
        } else if side == Side::Client {
            self.tell(out);
            self.waiting = Some(Asked {
                method: text_within(first, 64),
                url: text_within(lines::word(rest).0, LINE_MAX),
                ..Asked::default()
            });
        }
    }

    fn field(&mut self, side: Side, line: &[u8], out: &mut Out<'_>) {
        let Some(colon) = memchr::memchr(b':', line) else {
            return;
        };
        let name = line[..colon].trim_ascii().to_ascii_lowercase();
        let value = line[colon + 1..].trim_ascii();
        let asked = self.waiting.get_or_insert_default();
        match &name[..] {
            b"content-length" => {
                self.halves[side.index()].body_len = lines::number(value).unwrap_or(0).min(1 << 32);
            }
            b"user-agent" if side == Side::Client => asked.user_agent = Some(text_within(value, LINE_MAX)),
            b"server" if side == Side::Server => asked.server = Some(text_within(value, LINE_MAX)),
            b"authorization" => {
                if let Some(credential) = credentials::authorization(value) {
                    asked.has_credential = true;
                    out.login(Login::Attempted);
                    out.insight.has_clear_credential |= credential.is_clear;
                    if credential.user.is_some() {
                        out.insight.user = credential.user;
                    }
                }
            }
            b"transport" if side == Side::Server => announce(value, out),
            _ => {}
        }
    }

    fn end_head(&mut self, side: Side, out: &mut Out<'_>) {
        let Some(asked) = &self.waiting else {
            return;
        };
        let told = out.insight.http.get_or_insert_default();
        if side == Side::Client {
            told.requests += 1;
            if told.requests == 1 {
                told.method = Some(insight::text(asked.method.as_bytes()));
                told.path = Some(insight::text(asked.url.as_bytes()));
                told.user_agent = asked
                    .user_agent
                    .as_ref()
                    .map(|agent| insight::text(agent.as_bytes()));
            }
            if out.insight.host.is_none()
                && let Some((_, rest)) = asked.url.split_once("://")
            {
                let authority = rest.split('/').next().unwrap_or_default();
                let (host, _) = super::http::split_authority(authority.as_bytes());
                out.insight.host = Some(insight::text(host));
            }
            return;
        }
        let status = asked.status.unwrap_or(0);
        told.status.get_or_insert(status);
        told.refused += u32::from(matches!(status, 401 | 403));
        if asked.has_credential {
            out.login(if status >= 400 {
                Login::Failed
            } else {
                Login::Succeeded
            });
        }
        self.tell(out);
    }

    fn tell(&mut self, out: &mut Out<'_>) {
        let Some(asked) = self.waiting.take() else {
            return;
        };
        if !out.wants_records() {
            return;
        }
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| {
            fields.insert(name.into(), value);
        };
        if !asked.method.is_empty() {
            put("method", asked.method.into());
            put("url", asked.url.into());
        }
        if let Some(agent) = asked.user_agent {
            put("user_agent", agent.into());
        }
        if let Some(status) = asked.status {
            put("status", status.into());
        }
        if let Some(server) = asked.server {
            put("server", server.into());
        }
        out.record_of(Side::Client, Record::fields("rtsp", fields));
    }
}

/// The ports of a stream: `RTP/AVP;unicast;client_port=4588-4589;server_port=6256-6257`.
fn announce(transport: &[u8], out: &mut Out<'_>) {
    let ports = |name: &[u8]| {
        let value = transport
            .split(|&b| b == b';')
            .find_map(|part| part.strip_prefix(name))?;
        let mut ports = value
            .split(|&b| b == b'-')
            .map(|port| lines::number(port).and_then(|port| u16::try_from(port).ok()));
        Some([ports.next()??, ports.next().flatten()?])
    };
    let (Some(rtp), Some(rtcp)) = (super::super::by_name("rtp"), super::super::by_name("rtcp")) else {
        return;
    };
    let Some([port, control_port]) = ports(b"client_port=") else {
        return;
    };
    let address = out.addresses[0];
    for (protocol, port) in [(rtp, port), (rtcp, control_port)] {
        let expected = Expected {
            protocol,
            about: None,
        };
        out.expect(Transport::Udp, address, port, expected);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    #[test]
    fn requests_and_responses() {
        let said: [Said<'_>; 5] = [
            (
                0,
                b"OPTIONS rtsp://h:554/a RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: VLC\r\n\r\n",
            ),
            (
                1,
                b"RTSP/1.0 200 OK\r\nServer: s\r\nContent-Length: 4\r\n\r\nbody",
            ),
            (
                0,
                b"PLAY rtsp://h/a RTSP/1.0\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\n\r\n",
            ),
            (1, b"RTSP/1.0 401 No\r\n\r\n$\x00\x00\x03abc"),
            (0, b"TEARDOWN rtsp://h/a RTSP/1.0\r\n\r\n"),
        ];
        kit::check_stream(
            &said,
            Some("rtsp"),
            &[
                (
                    "rtsp",
                    json!({"method": "OPTIONS", "url": "rtsp://h:554/a", "user_agent": "VLC", "status": 200,
                        "server": "s"}),
                ),
                (
                    "rtsp",
                    json!({"method": "PLAY", "url": "rtsp://h/a", "status": 401}),
                ),
                ("rtsp", json!({"method": "TEARDOWN", "url": "rtsp://h/a"})),
            ],
        );
        let insight = kit::stream(&said).insight;
        assert_eq!(
            (insight.user.as_deref(), insight.logins_failed),
            (Some("alice"), 1)
        );
        assert_eq!(insight.host.as_deref(), Some("h"));
        let sip = kit::stream(&[(0, b"OPTIONS sip:a SIP/2.0\r\n")]);
        assert_ne!(sip.insight.app, Some("rtsp"));
    }
}
