//! Session Initiation Protocol (RFC 3261) over UDP and TCP, and the media it announces (RFC 8866).

use std::net::IpAddr;

use memchr::memmem;
use serde_json::{Map, Value};

use crate::layer7::insight;
use crate::layer7::protocol::{
    Expected, Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict,
};
use crate::layer7::reader::eve_text;
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Sip;

const VERSION: &[u8] = b"SIP/2.0";
const METHODS: [&[u8]; 14] = [
    b"INVITE",
    b"ACK",
    b"BYE",
    b"CANCEL",
    b"REGISTER",
    b"OPTIONS",
    b"PRACK",
    b"SUBSCRIBE",
    b"NOTIFY",
    b"PUBLISH",
    b"INFO",
    b"REFER",
    b"MESSAGE",
    b"UPDATE",
];
/// Schemes of what a request is for.
const SCHEMES: [&[u8]; 3] = [b"sip:", b"sips:", b"tel:"];
/// Longest header of a message over TCP.
const HEADER_MAX: usize = 16 * 1024;
/// Media streams of one message.
const MEDIA_MAX: usize = 8;

/// Whether `text` goes on like this, as far as there is some of it.
fn is_begin(bytes: &[u8], text: &[u8]) -> bool {
    let len = bytes.len().min(text.len());
    bytes[..len].eq_ignore_ascii_case(&text[..len])
}

fn probe_text(bytes: &[u8], is_whole: bool) -> Option<bool> {
    if bytes.starts_with(b"SIP/2.0 ") {
        return Some(true);
    }
    if !is_whole && is_begin(bytes, b"SIP/2.0 ") {
        return None;
    }
    for method in METHODS {
        match bytes
            .strip_prefix(method)
            .and_then(|rest| rest.strip_prefix(b" "))
        {
            Some(uri) => {
                if SCHEMES
                    .iter()
                    .any(|scheme| uri.len() >= scheme.len() && is_begin(uri, scheme))
                {
                    return Some(true);
                }
                if !is_whole && SCHEMES.iter().any(|scheme| is_begin(uri, scheme)) {
                    return None;
                }
                // What is asked for may have no scheme.
                let line = uri.split(|&byte| byte == b'\n').next().unwrap_or_default();
                if line.trim_ascii_end().ends_with(VERSION) {
                    return Some(true);
                }
            }
            None if !is_whole && bytes.len() <= method.len() && is_begin(bytes, method) => return None,
            None => {}
        }
    }
    Some(false)
}

impl Protocol for Sip {
    fn name(&self) -> &'static str {
        "sip"
    }

    fn ports(&self) -> &'static [u16] {
        &[5060, 5061]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Udp | Transport::Tcp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let is_datagram = seen.transport == Transport::Udp;
        let bytes = seen.newest();
        let text = bytes.trim_ascii_start();
        if text.is_empty() || bytes.iter().all(|&byte| byte == 0) || bytes == b"hello" {
            // Lines and zeros keep the way open.
            let is_short = bytes.len() <= 8;
            return match (is_datagram, is_short && seen.has_port(5060)) {
                (true, true) => Verdict::LIKELY,
                (false, true) => Verdict::NeedMore,
                _ => Verdict::No,
            };
        }
        match probe_text(text, is_datagram) {
            None => Verdict::NeedMore,
            Some(false) => Verdict::No,
            Some(true) if text.starts_with(VERSION) => Verdict::certain(seen.side.other()),
            Some(true) => Verdict::certain(seen.side),
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Messages::default())
    }
}

#[derive(Debug, Default)]
struct Messages {
    /// A registration with a proof was sent.
    is_logging_in: bool,
}

/// One header's value, by its name or its short one.
fn header<'a>(head: &'a [u8], names: &[&str]) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').skip(1).find_map(|line| {
        let at = memchr::memchr(b':', line)?;
        let name = line[..at].trim_ascii();
        names
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
            .then(|| line[at + 1..].trim_ascii())
    })
}

/// Length of the head with the empty line behind it.
fn head_len(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, b"\r\n\r\n")
        .map(|at| at + 4)
        .or_else(|| memmem::find(bytes, b"\n\n").map(|at| at + 2))
}

fn content_len(head: &[u8]) -> Option<usize> {
    let value = header(head, &["content-length", "l"])?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl Messages {
    fn message(&mut self, head: &[u8], body: &[u8], side: Side, out: &mut Out<'_>) {
        let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let line = line.trim_ascii_end();
        let mut words = line.splitn(3, |&byte| byte == b' ');
        let [first, second, third] = [0; 3].map(|_| words.next().unwrap_or_default());
        let mut fields = Map::new();
        let mut insert = |key: &str, value: &[u8]| {
            if !value.is_empty() {
                fields.insert(key.into(), Value::from(eve_text(value)));
            }
        };
        let is_response = first == VERSION;
        if is_response {
            insert("version", first);
            insert("code", second);
            insert("reason", third);
            insert("response_line", line);
        } else {
            insert("method", first);
            insert("uri", second);
            insert("version", third);
            insert("request_line", line);
        }
        let sequence = header(head, &["cseq"]).unwrap_or_default();
        for (key, names) in [
            ("from", &["from", "f"][..]),
            ("to", &["to", "t"]),
            ("call_id", &["call-id", "i"]),
            ("via", &["via", "v"]),
            ("user_agent", &["user-agent"]),
            ("content_type", &["content-type", "c"]),
        ] {
            insert(key, header(head, names).unwrap_or_default());
        }
        if let Some(from) = header(head, &["from", "f"]).and_then(user)
            && side == Side::Client
            && !is_response
        {
            out.insight.user = Some(insight::text(from));
        }
        if !is_response && out.insight.host.is_none() {
            out.insight.host = host(second).map(insight::text);
        }
        if is_response {
            let is_register = sequence.ends_with(b"REGISTER");
            match second.first() {
                Some(b'2') if is_register && self.is_logging_in => {
                    out.login(Login::Succeeded);
                    self.is_logging_in = false;
                }
                Some(b'4'..=b'6') if is_register && self.is_logging_in => {
                    out.login(Login::Failed);
                    self.is_logging_in = false;
                }
                _ => {}
            }
        } else if first == b"REGISTER" && header(head, &["authorization"]).is_some() {
            out.login(Login::Attempted);
            self.is_logging_in = true;
        }
        if body.starts_with(b"v=0") {
            expect_media(body, out);
        }
        out.record_of(side, Record::fields("sip", fields));
    }
}

/// The name before the host of an address.
fn user(address: &[u8]) -> Option<&[u8]> {
    let at = memmem::find(address, b"sip:")? + 4;
    let rest = &address[at..];
    let end = memchr::memchr2(b'@', b'>', rest)?;
    (rest[end] == b'@' && end > 0).then(|| &rest[..end])
}

/// The host of what is asked for.
fn host(uri: &[u8]) -> Option<&[u8]> {
    let at = memchr::memchr(b':', uri)? + 1;
    let rest = &uri[at..];
    let rest = memchr::memchr(b'@', rest).map_or(rest, |at| &rest[at + 1..]);
    let end = rest
        .iter()
        .position(|byte| b":;?>".contains(byte))
        .unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

/// Streams that a description of a session announces.
fn expect_media(body: &[u8], out: &mut Out<'_>) {
    let Ok(body) = std::str::from_utf8(body) else {
        return;
    };
    let mut address: Option<IpAddr> = None;
    let mut ports: Vec<(u16, Option<IpAddr>)> = Vec::new();
    for line in body.lines() {
        if let Some(connection) = line.strip_prefix("c=IN IP") {
            let found = connection
                .get(2..)
                .and_then(|rest| rest.split('/').next()?.trim().parse().ok());
            match ports.last_mut() {
                Some((_, own)) => *own = found,
                None => address = found,
            }
        } else if let Some(media) = line.strip_prefix("m=") {
            let mut words = media.split(' ').skip(1);
            let port = words.next().and_then(|port| port.split('/').next()?.parse().ok());
            let is_rtp = words.next().is_some_and(|profile| profile.contains("RTP/"));
            if let Some(port) = port
                && port > 0
                && is_rtp
                && ports.len() < MEDIA_MAX
            {
                ports.push((port, None));
            }
        }
    }
    for (port, own) in ports {
        let Some(address) = own.or(address).filter(|address| !address.is_unspecified()) else {
            continue;
        };
        for (port, protocol) in [
            (Some(port), &super::rtp::RTP),
            (port.checked_add(1), &super::rtp::RTCP),
        ] {
            let Some(port) = port else { continue };
            let expected = Expected {
                protocol,
                about: out.insight.user.clone(),
            };
            out.expect(Transport::Udp, address, port, expected);
        }
    }
}

impl Session for Messages {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if out.transport == Transport::Udp {
            let text = bytes.trim_ascii_start();
            if probe_text(text, true) == Some(true) {
                let (head, body) = text.split_at(head_len(text).unwrap_or(text.len()));
                self.message(head, body, side, out);
            }
            return Step::Take(bytes.len() as u64);
        }
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            let text = rest.trim_ascii_start();
            let blank = rest.len() - text.len();
            if text.is_empty() {
                return Step::Take((taken + blank) as u64);
            }
            if probe_text(text, false) == Some(false) {
                return Step::Broken(Anomaly::parser("invalid_start_line", Severity::Medium));
            }
            let Some(head_len) = head_len(text) else {
                if text.len() > HEADER_MAX {
                    return Step::Broken(Anomaly::parser("header_too_long", Severity::Medium));
                }
                return Step::Take((taken + blank) as u64);
            };
            let head = &text[..head_len];
            let body_len = content_len(head).unwrap_or(0);
            if body_len > HEADER_MAX {
                return Step::Broken(Anomaly::parser("body_too_long", Severity::Medium));
            }
            let Some(body) = text.get(head_len..head_len + body_len) else {
                return Step::Take((taken + blank) as u64);
            };
            self.message(head, body, side, out);
            taken += blank + head_len + body_len;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    const REGISTER: &[u8] = b"REGISTER sip:pbx.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1\r\n\
        From: \"A\" <sip:alice@pbx.example>;tag=1\r\nCSeq: 1 REGISTER\r\n\
        Authorization: Digest username=\"alice\"\r\nContent-Length: 0\r\n\r\n";
    const REFUSED: &[u8] = b"SIP/2.0 403 Forbidden here\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn a_log_in_that_fails() {
        let expected = [
            (
                "sip",
                json!({
                    "method": "REGISTER", "uri": "sip:pbx.example", "version": "SIP/2.0",
                    "request_line": "REGISTER sip:pbx.example SIP/2.0", "via": "SIP/2.0/UDP 192.0.2.1",
                    "from": "\"A\" <sip:alice@pbx.example>;tag=1",
                }),
            ),
            (
                "sip",
                json!({
                    "version": "SIP/2.0", "code": "403", "reason": "Forbidden here",
                    "response_line": "SIP/2.0 403 Forbidden here",
                }),
            ),
        ];
        let said: &[(usize, &[u8])] = &[(0, REGISTER), (1, REFUSED)];
        kit::check_datagrams(said, Some("sip"), &expected);
        kit::check_stream(said, Some("sip"), &expected);
        let insight = kit::stream(said).insight;
        assert_eq!(insight.user.as_deref(), Some("alice"));
        assert_eq!(insight.host.as_deref(), Some("pbx.example"));
        assert_eq!((insight.logins_attempted, insight.logins_failed), (1, 1));
    }

    #[test]
    fn several_messages_and_bodies_in_one_stream() {
        let invite =
            b"INVITE sip:bob@b.example SIP/2.0\r\nContent-Type: application/sdp\r\nl: 6\r\n\r\nv=0\r\nx";
        let said = [&invite[..], b"\r\n\r\n", REGISTER].concat();
        assert_eq!(kit::stream(&[(0, &said)]).records.len(), 2);
        kit::check_cuts(&[(0, &said)]);
        kit::check_stream(&[(0, b"OPTIONS are many")], None, &[]);
        kit::check_datagrams(
            &[(0, b"NOTIFY * HTTP/1.1\r\nNT: a\r\n\r\n")],
            Some("ssdp"),
            &[("ssdp", json!({"type": "request", "method": "NOTIFY", "nt": "a"}))],
        );
    }

    #[test]
    fn announced_media() {
        use crate::layer7::{Config, Conn, Engine, Segment};
        use wire::{Addr, Direction, FlowKey};
        let key = |a_port, b_port| FlowKey {
            a: Addr::v4([192, 0, 2, 1]),
            b: Addr::v4([192, 0, 2, 2]),
            a_port,
            b_port,
            protocol: wire::ip_proto::UDP,
            family: 4,
            ..FlowKey::default()
        };
        let invite = b"INVITE sip:bob@b.example SIP/2.0\r\n\r\nv=0\r\nc=IN IP4 192.0.2.1\r\n\
            m=audio 4000 RTP/AVP 0\r\n";
        let mut engine = Engine::new(Config::default());
        let mut call = Conn::new(&mut engine, key(5060, 5060), Direction::AToB, 1, 0);
        call.packet(
            &mut engine,
            &Segment {
                ts_ns: 1,
                direction: Direction::AToB,
                seq: 0,
                ack: 0,
                flags: 0,
                payload: invite,
                wire_len: invite.len() as u32,
            },
        );
        let media = Conn::new(&mut engine, key(4000, 5000), Direction::BToA, 2, 2);
        assert_eq!(media.insight.app, Some("rtp"));
    }
}
