//! TLS 1.0 to 1.3 (RFC 2246, 4346, 5246, 8446), SSL 3.0 (RFC 6101) and the hellos of SSL 2.0, up to where the
//! handshake goes on encrypted.

use crate::layer7::cursor::Cursor;
use crate::layer7::ja4::Carrier;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::record::{Anomaly, Severity};

use super::handshake::{After, Handshake, MESSAGE_MAX, is_message, message};

#[derive(Debug)]
pub(in crate::layer7::proto) struct Tls;

mod content {
    pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
    pub(super) const ALERT: u8 = 21;
    pub(super) const HANDSHAKE: u8 = 22;
    pub(super) const APPLICATION_DATA: u8 = 23;
    pub(super) const HEARTBEAT: u8 = 24;
}

/// Longest record: 2^14 bytes, and what encryption and compression may add.
const RECORD_MAX: u16 = (1 << 14) + 2048;
const HEADER_LEN: usize = 5;
/// Encrypted records of a client that are passed over while no server is heard.
const CLIENT_RECORDS_MAX: u32 = 16;
/// More than any stream has.
const ALL: u64 = 1 << 48;

impl Protocol for Tls {
    fn name(&self) -> &'static str {
        "tls"
    }

    fn ports(&self) -> &'static [u16] {
        &[443, 465, 636, 853, 989, 990, 993, 995, 8443]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let mut verdict = Verdict::NeedMore;
        let mut n_headers = 0;
        for side in [Side::Client, Side::Server] {
            let bytes = seen.data[side.index()];
            if bytes.is_empty() {
                continue;
            }
            match probe_records(side, bytes) {
                Found::Verdict(Verdict::NeedMore) => {}
                Found::Verdict(Verdict::No) => verdict = Verdict::No,
                Found::Verdict(decided) => return decided,
                Found::Headers(n) => n_headers += n,
            }
        }
        // Five bytes of a header say little where no handshake was seen, unless more follow or the port fits.
        let has_port = self.ports().iter().any(|&port| seen.has_port(port));
        if verdict == Verdict::NeedMore && n_headers > usize::from(!has_port) {
            return Verdict::LIKELY;
        }
        verdict
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(TlsSession {
            handshake: Handshake::new(Carrier::Tls),
            sides: Default::default(),
            is_reversed: false,
        })
    }
}

/// What the first bytes of a side are.
enum Found {
    Verdict(Verdict),
    /// So many headers of records that are encrypted.
    Headers(usize),
}

fn probe_records(side: Side, bytes: &[u8]) -> Found {
    match probe_first(side, bytes) {
        Some(verdict) => Found::Verdict(verdict),
        None => second_header(bytes),
    }
}

/// Looks where the first record ends.
fn second_header(bytes: &[u8]) -> Found {
    let len = usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
    match bytes.get(HEADER_LEN + len..) {
        None | Some([] | [_] | [_, _]) => Found::Headers(1),
        Some([20..=23, 3, 0..=4, ..]) => Found::Headers(2),
        Some(_) => Found::Verdict(Verdict::No),
    }
}

/// `None` if the first record is encrypted.
fn probe_first(side: Side, bytes: &[u8]) -> Option<Verdict> {
    if bytes[0] & 0x80 != 0 {
        return Some(probe_v2(side, bytes));
    }
    if !matches!(bytes[0], 20..=23) || bytes.get(1).is_some_and(|&major| major != 3) {
        return Some(Verdict::No);
    }
    if bytes.get(2).is_some_and(|&minor| minor > 4) {
        return Some(Verdict::No);
    }
    let Some(&[kind, _, _, high, low]) = bytes.first_chunk::<HEADER_LEN>() else {
        return Some(Verdict::NeedMore);
    };
    let len = u16::from_be_bytes([high, low]);
    let body = &bytes[HEADER_LEN..];
    Some(match (kind, body) {
        _ if len == 0 || len > RECORD_MAX => Verdict::No,
        (content::CHANGE_CIPHER_SPEC, _) if len > 1 => Verdict::No,
        (content::CHANGE_CIPHER_SPEC, [1, ..]) => Verdict::LIKELY,
        (content::CHANGE_CIPHER_SPEC, [_, ..]) => Verdict::No,
        (content::ALERT, [1 | 2, ..]) if len == 2 => Verdict::LIKELY,
        (content::ALERT, [_, ..]) if len < 18 => Verdict::No,
        (content::ALERT, [_, ..]) => return None,
        (content::CHANGE_CIPHER_SPEC | content::ALERT | content::HANDSHAKE, []) => Verdict::NeedMore,
        (content::HANDSHAKE, &[first @ (message::CLIENT_HELLO | message::SERVER_HELLO), ..]) => {
            let is_client = first == message::CLIENT_HELLO;
            let client = if is_client { side } else { side.other() };
            match body.get(4) {
                _ if len < 6 => Verdict::likely(client),
                None => Verdict::NeedMore,
                Some(3 | 0x7f) => Verdict::certain(client),
                Some(_) => return None,
            }
        }
        (content::HANDSHAKE, &[message::CERTIFICATE | 12..=14, 0, ..]) => Verdict::likely(side.other()),
        _ => return None,
    })
}

/// A hello of SSL 2.0, which later versions were also offered in.
fn probe_v2(side: Side, bytes: &[u8]) -> Verdict {
    let Some(&[first, second, kind]) = bytes.first_chunk::<3>() else {
        return Verdict::NeedMore;
    };
    let len = u16::from_be_bytes([first & 0x7f, second]);
    match kind {
        1 if (9 + 3 + 16..=512).contains(&len) => {}
        4 if (11..=4096).contains(&len) => {}
        _ => return Verdict::No,
    }
    if kind == 1 {
        let Some(
            &[
                major,
                minor,
                ciphers_high,
                ciphers,
                id_high,
                id,
                challenge_high,
                challenge,
            ],
        ) = bytes[3..].first_chunk::<8>()
        else {
            return Verdict::NeedMore;
        };
        let ciphers = u16::from_be_bytes([ciphers_high, ciphers]);
        let id = u16::from_be_bytes([id_high, id]);
        let challenge = u16::from_be_bytes([challenge_high, challenge]);
        let is_version = matches!((major, minor), (0, 2) | (3, 0..=4));
        let is_whole = u32::from(ciphers) + u32::from(id) + u32::from(challenge) + 9 == u32::from(len);
        let fits = is_version && is_whole && ciphers % 3 == 0 && matches!(id, 0 | 16 | 32);
        return if fits && (16..=32).contains(&challenge) {
            Verdict::certain(side)
        } else {
            Verdict::No
        };
    }
    match bytes[3..].first_chunk::<4>() {
        None => Verdict::NeedMore,
        Some([0 | 1, 0 | 1, 0, 2]) => Verdict::likely(side.other()),
        Some(_) => Verdict::No,
    }
}

struct TlsSession {
    handshake: Handshake,
    /// By who plays client and server of TLS.
    sides: [OneSide; 2],
    /// The flow's server says the client's hello, as of active FTP.
    is_reversed: bool,
}

#[derive(Default)]
struct OneSide {
    /// Handshake messages of which the end is missing.
    messages: Vec<u8>,
    is_begun: bool,
    is_encrypted: bool,
    /// Encrypted records.
    records: u32,
}

const HEADER_BROKEN: Anomaly = Anomaly::parser("invalid_tls_header", Severity::Medium);
const LENGTH_BROKEN: Anomaly = Anomaly::parser("invalid_record_length", Severity::Medium);
const MESSAGE_TOO_LONG: Anomaly = Anomaly::parser("handshake_message_too_long", Severity::Medium);
/// CVE-2014-0160.
const HEARTBLEED: Anomaly = Anomaly::parser("overflow_heartbeat_message", Severity::High);

/// Whether to go on after a record.
type Next = Result<After, Anomaly>;

impl Session for TlsSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let is_hello = |hello: &[u8; 6]| hello[0] == content::HANDSHAKE && hello[5] == message::CLIENT_HELLO;
        if side == Side::Server && !self.is_begun() && bytes.first_chunk().is_some_and(is_hello) {
            self.is_reversed = true;
        }
        let side = if self.is_reversed { side.other() } else { side };
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            if rest.is_empty() {
                return Step::Take(taken as u64);
            }
            if !self.sides[side.index()].is_begun && rest[0] & 0x80 != 0 {
                let Some(len) = v2_len(rest) else {
                    return Step::Take(taken as u64);
                };
                taken += len;
                self.sides[side.index()].is_begun = true;
                match self.v2_record(side, &rest[..len], out) {
                    Ok(After::More) => continue,
                    Ok(After::Over) => return Step::Done,
                    Err(anomaly) => return Step::Broken(anomaly),
                }
            }
            let Some(&[kind, major, _, high, low]) = rest.first_chunk::<HEADER_LEN>() else {
                return Step::Take(taken as u64);
            };
            let len = u16::from_be_bytes([high, low]);
            if !matches!(kind, 20..=24) || major != 3 {
                return Step::Broken(HEADER_BROKEN);
            }
            if len > RECORD_MAX {
                return Step::Broken(LENGTH_BROKEN);
            }
            let end = HEADER_LEN + usize::from(len);
            // Nobody wants to read these; the rest of a long one is passed over.
            let is_opaque = kind == content::APPLICATION_DATA;
            let Some(body) = rest.get(HEADER_LEN..end).or(is_opaque.then_some(&[])) else {
                return Step::Take(taken as u64);
            };
            self.sides[side.index()].is_begun = true;
            match self.record(side, kind, body, out) {
                Ok(After::More) => {}
                Ok(After::Over) => return Step::Done,
                Err(anomaly) => return Step::Broken(anomaly),
            }
            taken += end;
            if taken > bytes.len() {
                return Step::Take(taken as u64);
            }
        }
    }

    fn gap(&mut self, side: Side, _: u64, _: &mut Out<'_>) -> Step {
        let side = if self.is_reversed { side.other() } else { side };
        // Where the next record begins is not known any more; the other side may still tell something.
        match side {
            Side::Client if !self.handshake.has_server() => Step::Take(ALL),
            _ => Step::Done,
        }
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        self.handshake.tell(self.is_reversed, out);
    }
}

impl TlsSession {
    fn is_begun(&self) -> bool {
        self.sides.iter().any(|side| side.is_begun)
    }

    fn record(&mut self, side: Side, kind: u8, body: &[u8], out: &mut Out<'_>) -> Next {
        let is_encrypted = self.sides[side.index()].is_encrypted;
        match kind {
            content::CHANGE_CIPHER_SPEC => {
                self.sides[side.index()].is_encrypted = true;
                if side == Side::Server {
                    self.handshake.server_encrypts();
                    return Ok(After::Over);
                }
                Ok(After::More)
            }
            content::ALERT if !is_encrypted => match *body {
                [2, description] => {
                    self.handshake.alert(description);
                    Ok(After::Over)
                }
                _ => Ok(After::More),
            },
            content::HANDSHAKE if !is_encrypted => self.handshake_record(side, body, out),
            content::HEARTBEAT if !is_encrypted => {
                if let Some(&[1, high, low]) = body.first_chunk::<3>()
                    && usize::from(u16::from_be_bytes([high, low])) + 3 > body.len()
                {
                    out.anomaly(HEARTBLEED);
                }
                Ok(After::More)
            }
            _ if side == Side::Server => Ok(After::Over),
            _ => {
                let records = &mut self.sides[side.index()].records;
                *records += 1;
                if *records > CLIENT_RECORDS_MAX {
                    return Ok(After::Over);
                }
                Ok(After::More)
            }
        }
    }

    fn handshake_record(&mut self, side: Side, body: &[u8], out: &mut Out<'_>) -> Next {
        let mut kept = std::mem::take(&mut self.sides[side.index()].messages);
        let all: &[u8] = if kept.is_empty() {
            body
        } else {
            kept.extend_from_slice(body);
            &kept
        };
        let mut rest = Cursor::new(all);
        loop {
            let mut next = rest;
            let Some(kind) = next.u8() else { break };
            if !is_message(kind) {
                // Joined in the middle: this is encrypted.
                self.sides[side.index()].is_encrypted = true;
                return Ok(After::More);
            }
            let Some(len) = next.u24() else { break };
            if len as usize > MESSAGE_MAX {
                return Err(MESSAGE_TOO_LONG);
            }
            let Some(message) = next.take(len as usize) else {
                break;
            };
            rest = next;
            if self.handshake.message(side, kind, message, out)? == After::Over {
                return Ok(After::Over);
            }
        }
        let rest = rest.rest().to_vec();
        self.sides[side.index()].messages = rest;
        Ok(After::More)
    }

    fn v2_record(&mut self, side: Side, record: &[u8], out: &mut Out<'_>) -> Next {
        const BROKEN: Anomaly = Anomaly::parser("invalid_sslv2_header", Severity::Medium);
        let mut body = Cursor::new(&record[2..]);
        match (side, body.u8()) {
            (Side::Client, Some(1)) => {
                self.handshake.client_hello_v2();
                Ok(After::More)
            }
            (Side::Server, Some(4)) => {
                body.take(2).ok_or(BROKEN)?;
                let version = body.u16().ok_or(BROKEN)?;
                let certificate_len = body.u16().ok_or(BROKEN)?;
                body.take(4).ok_or(BROKEN)?;
                let certificate = body.take(certificate_len.into()).ok_or(BROKEN)?;
                self.handshake.version(version, out.insight);
                if !certificate.is_empty() {
                    self.handshake.certificate(certificate, out);
                }
                Ok(After::Over)
            }
            _ => Err(BROKEN),
        }
    }
}

/// Length of an SSL 2.0 record, if all of it is there.
fn v2_len(bytes: &[u8]) -> Option<usize> {
    let &[first, second] = bytes.first_chunk::<2>()?;
    let len = 2 + usize::from(u16::from_be_bytes([first & 0x7f, second]));
    (bytes.len() >= len).then_some(len)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::layer7::kit;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![kind];
        out.extend(&(body.len() as u32).to_be_bytes()[1..]);
        out.extend(body);
        out
    }

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![kind, 3, 1];
        out.extend((body.len() as u16).to_be_bytes());
        out.extend(body);
        out
    }

    fn client_hello() -> Vec<u8> {
        message(1, &crate::layer7::ja4::tests::hello())
    }

    fn server_hello(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([9; 32]);
        body.extend([0, 0xc0, 0x2b, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        message(2, &body)
    }

    fn certificate() -> Vec<u8> {
        let der = super::super::x509::tests::example();
        let len = |len: usize| (len as u32).to_be_bytes()[1..].to_vec();
        message(11, &[len(der.len() + 3), len(der.len()), der].concat())
    }

    /// What the record of the client's hello has in any case.
    fn expected(more: &serde_json::Value) -> serde_json::Value {
        let hello =
            crate::layer7::hello::ClientHello::parse(&crate::layer7::ja4::tests::hello(), false).unwrap();
        let string = crate::layer7::ja3::client(&hello);
        let mut expected = json!({
            "sni": "example.org",
            "ja3": {"hash": crate::layer7::ja3::md5_hex(&string), "string": string},
            "ja4": crate::layer7::ja4::ja4(&hello, Carrier::Tls),
            "client_alpns": ["h2", "http/1.1"],
        });
        for (name, value) in more.as_object().unwrap() {
            expected[name] = value.clone();
        }
        expected
    }

    fn ja3s(string: &str) -> serde_json::Value {
        json!({"hash": crate::layer7::ja3::md5_hex(string), "string": string})
    }

    #[test]
    fn tls13() {
        let server = server_hello(&[0, 43, 0, 2, 3, 4]);
        let said = [
            (0, &record(22, &client_hello())[..]),
            (
                1,
                &[record(22, &server), record(20, &[1]), record(23, &[5; 60])].concat(),
            ),
            (0, &record(23, &[5; 60])),
        ];
        let body = expected(&json!({
            "version": "TLS 1.3", "cipher": 0xc02b, "ja3s": ja3s("771,49195,43"),
        }));
        kit::check_stream(&said, Some("tls"), &[("tls", body)]);
        let insight = kit::stream(&said).insight;
        assert_eq!(insight.host.as_deref(), Some("example.org"));
        let tls = insight.tls.expect("TLS");
        assert_eq!((tls.alpn.as_deref(), tls.version), (Some("h2"), Some("TLS 1.3")));
    }

    #[test]
    fn tls12_in_many_records() {
        let hello = client_hello();
        let (one, other) = hello.split_at(3);
        let server = [
            server_hello(b"\0\x10\0\x05\0\x03\x02h2"),
            certificate(),
            message(14, &[]),
        ]
        .concat();
        let pieces: Vec<u8> = server.chunks(100).flat_map(|piece| record(22, piece)).collect();
        let said = [
            (0, &[record(22, one), record(22, other)].concat()[..]),
            (1, &pieces),
            (
                0,
                &[
                    record(22, &message(16, &[1; 30])),
                    record(20, &[1]),
                    record(22, &[0xee; 40]),
                ]
                .concat(),
            ),
            (1, &[record(20, &[1]), record(22, &[0xee; 40])].concat()),
        ];
        let body = expected(&json!({
            "subject": "C=DE, CN=example.org", "issuerdn": "C=IT, CN=An issuer", "serial": "00:83:0A",
            "fingerprint": super::super::x509::certificate(&super::super::x509::tests::example())
                .unwrap().fingerprint,
            "notbefore": "2017-03-23T00:00:00", "notafter": "2055-05-13T12:00:00",
            "version": "TLS 1.2", "cipher": 0xc02b, "ja3s": ja3s("771,49195,16"), "server_alpns": ["h2"],
        }));
        kit::check_stream(&said, Some("tls"), &[("tls", body)]);
    }

    #[test]
    fn resumed() {
        let said = [
            (0, &record(22, &client_hello())[..]),
            (
                1,
                &[
                    record(22, &server_hello(&[])),
                    record(20, &[1]),
                    record(22, &[0xee; 40]),
                ]
                .concat(),
            ),
        ];
        let body = expected(&json!({
            "session_resumed": true, "version": "TLS 1.2", "cipher": 0xc02b, "ja3s": ja3s("771,49195,"),
        }));
        kit::check_stream(&said, Some("tls"), &[("tls", body)]);
    }

    #[test]
    fn refused() {
        let said = [(0, &record(22, &client_hello())[..]), (1, &record(21, &[2, 40]))];
        let body = expected(&json!({"version": "UNDETERMINED", "alert": "handshake_failure"}));
        kit::check_stream(&said, Some("tls"), &[("tls", body)]);
    }

    #[test]
    fn ssl2() {
        let mut hello = vec![0x80, 9 + 3 + 16, 1, 0, 2, 0, 3, 0, 0, 0, 16, 1, 0, 0x80];
        hello.extend([3; 16]);
        let mut server = vec![0x80, 11, 4, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
        let said = [(0, &hello[..]), (1, &server[..])];
        kit::check_stream(&said, Some("tls"), &[("tls", json!({"version": "SSLv2"}))]);
        server = record(22, &server_hello(&[]));
        let upgraded = json!({"version": "TLS 1.2", "cipher": 0xc02b, "ja3s": ja3s("771,49195,")});
        kit::check_stream(&[(0, &hello), (1, &server)], Some("tls"), &[("tls", upgraded)]);
    }

    #[test]
    fn roles_reversed() {
        let said = [
            (1, &record(22, &client_hello())[..]),
            (0, &[record(22, &server_hello(&[])), record(20, &[1])].concat()),
        ];
        let outcome = kit::stream(&said);
        assert_eq!(outcome.insight.host.as_deref(), Some("example.org"));
        assert_eq!(outcome.bodies()[0].1["version"], "TLS 1.2");
        kit::check_cuts(&said);
    }

    #[test]
    fn heartbleed() {
        let said = [(
            0,
            &[record(22, &client_hello()), record(24, &[1, 0x40, 0])].concat()[..],
        )];
        let outcome = kit::stream(&said);
        assert_eq!(outcome.anomalies().collect::<Vec<_>>(), [HEARTBLEED]);
    }

    #[test]
    fn joined_in_the_middle() {
        kit::check_stream(
            &[(1, &record(23, &[1; 90])), (0, &record(23, &[1; 9]))],
            Some("tls"),
            &[],
        );
        kit::check_stream(&[(0, b"\x16\x04\x01 nothing anyone knows")], None, &[]);
        kit::check_stream(&[(0, &[22, 3, 1, 0xff, 0xff, 1])], None, &[]);
        kit::check_stream(&[(0, &record(23, &[1; 90]))], None, &[]);
        kit::check_stream(
            &[(0, &[record(23, &[1; 90]), b"other".to_vec()].concat())],
            None,
            &[],
        );
        let run = |port| {
            let said = [(0, &record(23, &[1; 90])[..])];
            kit::run(wire::ip_proto::TCP, port, &said, |_, _| Vec::new())
                .insight
                .app
        };
        assert_eq!((run(443), run(444)), (Some("tls"), None));
    }

    #[test]
    fn broken() {
        let said = [(
            0,
            &[record(22, &client_hello()), b"rubbish".to_vec()].concat()[..],
        )];
        let outcome = kit::stream(&said);
        assert_eq!(outcome.anomalies().collect::<Vec<_>>(), [HEADER_BROKEN]);
        assert_eq!(outcome.records.len(), 2);
        kit::check_cuts(&said);
    }
}
