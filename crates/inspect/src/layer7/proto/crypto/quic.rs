//! QUIC versions 1 and 2 and their drafts, and Google's own before: up to the hellos of both sides.

use memchr::memmem;

use crate::layer7::cursor::Cursor;
use crate::layer7::hello::{ClientHello, ServerHello, extension, version_name as tls_version_name};
use crate::layer7::insight::text;
use crate::layer7::ja3;
use crate::layer7::ja4::{Carrier, ja4};
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::record::{Anomaly, Ja3, Quic as QuicRecord, QuicExtension, Record, Severity};

use super::assemble::Assembler;
use super::handshake::{learn, message};
use super::quic_packet::{
    Keys, Kind, Packet, crypto_frames, is_google, is_reserved, is_version, version_name,
};

#[derive(Debug)]
pub(in crate::layer7::proto) struct Quic;

/// Longest hello that is put together.
const HELLO_MAX: usize = 32 * 1024;
/// Datagrams that are looked at for the hellos, and after the client's.
const DATAGRAMS_MAX: u32 = 64;
const DATAGRAMS_AFTER_MAX: u32 = 16;

impl Protocol for Quic {
    fn name(&self) -> &'static str {
        "quic"
    }

    fn ports(&self) -> &'static [u16] {
        &[443, 80, 784, 853, 4433, 8443]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let bytes = seen.newest();
        let Some(&first) = bytes.first() else {
            return Verdict::No;
        };
        match first {
            0x80.. => probe_long(bytes, seen),
            _ if google_header(bytes).is_some() => Verdict::certain(seen.side),
            0x40..=0x7f => probe_short(bytes, seen),
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(QuicSession {
            version: 0,
            keys: None,
            hellos: Default::default(),
            is_done: [false; 2],
            datagrams: 0,
            datagrams_after: 0,
        })
    }
}

fn probe_long(bytes: &[u8], seen: &Seen<'_>) -> Verdict {
    let Some((packet, _)) = Packet::read(bytes) else {
        return Verdict::No;
    };
    // Who sends from a port that QUIC is known by answers.
    let is_server_port = |side: Side| matches!(seen.ports[side.index()], 443 | 80 | 853);
    let client = if is_server_port(seen.side) && !is_server_port(seen.side.other()) {
        seen.side.other()
    } else {
        seen.side
    };
    match packet.kind {
        Kind::Negotiation => {
            let versions = packet.payload();
            let is_list = !versions.is_empty() && versions.len().is_multiple_of(4);
            let is_any_known = versions.as_chunks::<4>().0.iter().any(|&version| {
                let version = u32::from_be_bytes(version);
                is_version(version) || is_reserved(version)
            });
            if is_list && is_any_known && (!packet.dcid.is_empty() || !packet.scid.is_empty()) {
                Verdict::certain(seen.side.other())
            } else {
                Verdict::No
            }
        }
        Kind::Retry if is_version(packet.version) => Verdict::certain(seen.side.other()),
        _ if is_version(packet.version) => Verdict::certain(client),
        // A version made up to be refused, or one of an experiment: the keys tell.
        Kind::Initial if bytes.len() >= 1200 && packet.dcid.len() >= 8 => {
            if Keys::of_client(&packet).is_some() {
                Verdict::certain(seen.side)
            } else if is_reserved(packet.version) {
                Verdict::likely(client)
            } else {
                Verdict::No
            }
        }
        _ => Verdict::No,
    }
}

/// A connection that was joined in the middle: the packets of one side carry the same connection id.
fn probe_short(bytes: &[u8], seen: &Seen<'_>) -> Verdict {
    const PACKETS: usize = 2;
    if !seen.has_port(443) || bytes.len() < 21 {
        return Verdict::No;
    }
    let all_short = seen
        .earlier
        .iter()
        .all(|earlier| matches!(earlier.head().first(), Some(0x40..=0x7f)) && earlier.len >= 21);
    if !all_short {
        return Verdict::No;
    }
    let id = &bytes[1..9];
    let same_side = seen.earlier.iter().filter(|earlier| earlier.side == seen.side);
    let n_same = same_side
        .filter(|earlier| earlier.head().get(1..9) == Some(id))
        .count();
    let to_443 = seen.ports[seen.side.other().index()] == 443;
    if n_same + 1 >= PACKETS && to_443 {
        Verdict::likely(seen.side)
    } else {
        Verdict::NeedMore
    }
}

/// Version and payload of a packet of Google's QUIC before it took over the IETF's headers (Q024 to Q043).
fn google_header(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut rest = Cursor::new(bytes);
    let flags = rest.u8()?;
    // With a version, no reset, reserved bits clear.
    if flags & 0b1100_0011 != 1 {
        return None;
    }
    if flags & 0x08 != 0 {
        rest.take(8)?;
    }
    let version = rest.u32()?;
    is_google(version).then_some(())?;
    Some((version, rest.rest()))
}

struct QuicSession {
    version: u32,
    keys: Option<Keys>,
    /// CRYPTO streams of the first packets, by side.
    hellos: [Assembler; 2],
    is_done: [bool; 2],
    datagrams: u32,
    /// Since the client's hello.
    datagrams_after: u32,
}

impl Session for QuicSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        self.datagrams += 1;
        self.datagrams_after += u32::from(self.is_done[0]);
        if self.datagrams > DATAGRAMS_MAX || self.datagrams_after > DATAGRAMS_AFTER_MAX {
            return Step::Done;
        }
        if let Some((version, payload)) = google_header(bytes) {
            self.version = version;
            self.google_hello(side, payload, out);
        }
        let mut rest = bytes;
        while let Some((packet, after)) = Packet::read(rest) {
            if let Err(anomaly) = self.packet(side, &packet, out) {
                return Step::Broken(anomaly);
            }
            rest = after;
        }
        if self.is_done == [true; 2] {
            return Step::Done;
        }
        Step::Take(bytes.len() as u64)
    }
}

impl QuicSession {
    fn packet(&mut self, side: Side, packet: &Packet<'_>, out: &mut Out<'_>) -> Result<(), Anomaly> {
        match packet.kind {
            Kind::Initial => {}
            // After these the client begins anew, with keys that its next packet gives.
            Kind::Negotiation | Kind::Retry | Kind::Other => return Ok(()),
        }
        if packet.version != self.version {
            self.version = packet.version;
            if !self.is_done[side.index()] {
                self.hellos[side.index()] = Assembler::default();
            }
        }
        if self.is_done[side.index()] {
            // After a retry the server's keys are made of what the client sends now.
            let opens = |keys: &Keys| keys.open(side.index(), packet).is_some();
            if side == Side::Client
                && !self.keys.as_ref().is_some_and(opens)
                && let Some((keys, _)) = Keys::of_client(packet)
            {
                self.keys = Some(keys);
            }
            return Ok(());
        }
        if is_google(packet.version) && packet.version < 0x5130_3439 {
            self.google_hello(side, packet.payload(), out);
            return Ok(());
        }
        let with_known = self
            .keys
            .as_ref()
            .and_then(|keys| keys.open(side.index(), packet));
        let frames = match (with_known, side) {
            (Some(frames), _) => frames,
            (None, Side::Server) => return Ok(()),
            (None, Side::Client) => match Keys::of_client(packet) {
                Some((keys, frames)) => {
                    self.keys = Some(keys);
                    frames
                }
                None => return Ok(()),
            },
        };
        if packet.version >> 24 == u32::from(b'Q') {
            self.google_hello(side, &frames, out);
            return Ok(());
        }
        let stream = &mut self.hellos[side.index()];
        let mut fits = true;
        let is_valid = crypto_frames(&frames, |offset, bytes| {
            fits &= stream.insert(offset, bytes, HELLO_MAX);
        });
        if !is_valid {
            out.anomaly(Anomaly::parser("invalid_quic_frame", Severity::Medium));
        }
        if !fits {
            return Err(Anomaly::parser("crypto_frag_too_long", Severity::Medium));
        }
        self.hello(side, out)
    }

    /// Looks whether the hello of a side is whole.
    fn hello(&mut self, side: Side, out: &mut Out<'_>) -> Result<(), Anomaly> {
        const BROKEN: Anomaly = Anomaly::parser("error_on_data", Severity::Medium);
        let mut stream = Cursor::new(self.hellos[side.index()].prefix());
        let (Some(kind), Some(body)) = (stream.u8(), stream.vec24()) else {
            return Ok(());
        };
        match (side, kind) {
            (Side::Client, message::CLIENT_HELLO) => {
                let hello = ClientHello::parse(body, false).ok_or(BROKEN)?;
                self.client_hello(&hello, out);
            }
            (Side::Server, message::SERVER_HELLO) => {
                let hello = ServerHello::parse(body).ok_or(BROKEN)?;
                self.server_hello(&hello, out);
            }
            _ => return Err(BROKEN),
        }
        self.is_done[side.index()] = true;
        self.hellos[side.index()] = Assembler::default();
        Ok(())
    }

    fn client_hello(&self, hello: &ClientHello, out: &mut Out<'_>) {
        let ja4 = ja4(hello, Carrier::Quic);
        learn(out.insight, hello, &ja4);
        let user_agent = hello.user_agent.as_deref().map(text);
        if user_agent.is_some() {
            out.insight
                .http
                .get_or_insert_default()
                .user_agent
                .clone_from(&user_agent);
        }
        if !out.wants_records() {
            return;
        }
        let name = |name: &[u8]| text(name).into_string();
        let values = |kind: u16| match kind {
            extension::SERVER_NAME => hello.sni.iter().map(|sni| name(sni)).collect(),
            extension::ALPN => hello
                .alpns
                .iter()
                .take(VALUES_MAX)
                .map(|alpn| name(alpn))
                .collect(),
            _ => Vec::new(),
        };
        let record = QuicRecord {
            version: version_name(self.version),
            sni: hello.sni.as_deref().map(name),
            ua: user_agent.map(Into::into),
            ja3: Some(Ja3::of(ja3::client(hello))),
            ja3s: None,
            ja4: Some(ja4),
            extensions: extensions(&hello.extensions, values),
        };
        out.record_of(Side::Client, Record::Quic(Box::new(record)));
    }

    fn server_hello(&self, hello: &ServerHello, out: &mut Out<'_>) {
        out.insight.tls.get_or_insert_default().version = tls_version_name(hello.version);
        if out.wants_records() {
            let record = QuicRecord {
                version: version_name(self.version),
                ja3s: Some(Ja3::of(ja3::server(hello))),
                extensions: extensions(&hello.extensions, |_| Vec::new()),
                ..QuicRecord::default()
            };
            out.record_of(Side::Server, Record::Quic(Box::new(record)));
        }
    }

    /// The client's hello of Google's own handshake: tags and values.
    fn google_hello(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) {
        if side != Side::Client || self.is_done[0] {
            return;
        }
        let Some([name, user_agent]) = memmem::find(bytes, b"CHLO").and_then(|at| tags(&bytes[at..])) else {
            return;
        };
        // The first hello has no more than these; what the server says does not matter.
        self.is_done = [true; 2];
        let insight = &mut *out.insight;
        let tls = insight.tls.get_or_insert_default();
        tls.sni = name.map(text);
        insight.host.clone_from(&tls.sni);
        let name = tls.sni.clone();
        let user_agent = user_agent.map(text);
        if user_agent.is_some() {
            insight
                .http
                .get_or_insert_default()
                .user_agent
                .clone_from(&user_agent);
        }
        let record = QuicRecord {
            version: version_name(self.version),
            sni: name.map(Into::into),
            ua: user_agent.map(Into::into),
            ..QuicRecord::default()
        };
        out.record_of(Side::Client, Record::Quic(Box::new(record)));
    }
}

/// Values of an extension that are kept.
const VALUES_MAX: usize = 32;
/// Tags of a hello at most; Chrome sends about 25.
const TAGS_MAX: u16 = 128;

/// Server name and user agent among the tags of a hello.
fn tags(hello: &[u8]) -> Option<[Option<&[u8]>; 2]> {
    let mut rest = Cursor::new(hello.get(4..)?);
    let n_tags = u16::from_le_bytes(rest.array()?);
    rest.take(2)?;
    if n_tags > TAGS_MAX {
        return None;
    }
    let mut index = Cursor::new(rest.take(usize::from(n_tags) * 8)?);
    let values = rest.rest();
    let (mut name, mut user_agent, mut begin) = (None, None, 0);
    while !index.is_empty() {
        let tag = index.array::<4>()?;
        let end = u32::from_le_bytes(index.array()?) as usize;
        let value = values.get(begin..end);
        match &tag {
            b"SNI\0" => name = value,
            b"UAID" => user_agent = value,
            _ => {}
        }
        begin = end;
    }
    Some([name, user_agent])
}

fn extensions(kinds: &[u16], values: impl Fn(u16) -> Vec<String>) -> Vec<QuicExtension> {
    let extension = |&kind: &u16| QuicExtension {
        name: extension_name(kind),
        r#type: kind,
        values: values(kind),
    };
    kinds.iter().map(extension).collect()
}

/// Names of the registry "TLS ExtensionType Values", but `alpn` as EVE has it.
fn extension_name(kind: u16) -> Option<&'static str> {
    Some(match kind {
        0 => "server_name",
        1 => "max_fragment_length",
        5 => "status_request",
        10 => "supported_groups",
        11 => "ec_point_formats",
        13 => "signature_algorithms",
        14 => "use_srtp",
        15 => "heartbeat",
        16 => "alpn",
        17 => "status_request_v2",
        18 => "signed_certificate_timestamp",
        19 => "client_certificate_type",
        20 => "server_certificate_type",
        21 => "padding",
        22 => "encrypt_then_mac",
        23 => "extended_master_secret",
        24 => "token_binding",
        25 => "cached_info",
        27 => "compress_certificate",
        28 => "record_size_limit",
        34 => "delegated_credential",
        35 => "session_ticket",
        41 => "pre_shared_key",
        42 => "early_data",
        43 => "supported_versions",
        44 => "cookie",
        45 => "psk_key_exchange_modes",
        47 => "certificate_authorities",
        48 => "oid_filters",
        49 => "post_handshake_auth",
        50 => "signature_algorithms_cert",
        51 => "key_share",
        57 => "quic_transport_parameters",
        17513 | 17613 => "application_settings",
        0xfe0d => "encrypted_client_hello",
        0xff01 => "renegotiation_info",
        0xffa5 => "quic_transport_parameters_draft",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::quic_packet::VERSION_2;
    use super::super::quic_packet::tests::{crypto, initial};
    use crate::layer7::kit;

    const DCID: &[u8] = &[0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind], &(body.len() as u32).to_be_bytes()[1..], body].concat()
    }

    fn client_hello() -> Vec<u8> {
        message(1, &crate::layer7::ja4::tests::hello())
    }

    fn server_hello() -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[9; 32],
            &[0, 0x13, 1, 0],
            &[0, 6, 0, 43, 0, 2, 3, 4],
        ]
        .concat();
        message(2, &body)
    }

    /// A client's hello in these frames, and the server's answer.
    fn check(version: u32, name: &str, datagrams: &[Vec<u8>]) {
        let answer = initial(version, 1, (DCID, &[]), &crypto(0, &server_hello()));
        let mut said: Vec<(usize, &[u8])> = datagrams.iter().map(|datagram| (0, &datagram[..])).collect();
        said.push((1, &answer));
        let outcome = kit::datagrams(443, &said);
        assert_eq!(outcome.insight.app, Some("quic"));
        assert_eq!(outcome.insight.host.as_deref(), Some("example.org"));
        let tls = outcome.insight.tls.clone().expect("TLS");
        assert_eq!((tls.version, tls.alpn.as_deref()), (Some("TLS 1.3"), Some("h2")));
        let bodies = outcome.bodies();
        assert_eq!(bodies.len(), 2);
        assert_eq!(bodies[0].1["version"], name);
        assert_eq!(
            bodies[0].1["ja4"].as_str().map(|ja4| &ja4[..10]),
            Some("q13d0306h2")
        );
        assert_eq!(
            bodies[0].1["extensions"][2],
            json!({"name": "alpn", "type": 16, "values": ["h2", "http/1.1"]})
        );
        assert_eq!(
            bodies[1].1["extensions"],
            json!([{"name": "supported_versions", "type": 43}])
        );
        kit::check_datagrams_to(443, &said, Some("quic"), &bodies);
    }

    #[test]
    fn versions() {
        for (version, name) in [
            (1, "1"),
            (VERSION_2, "2"),
            (0xff00_001d, "draft-29"),
            (0xff00_0017, "draft-23"),
        ] {
            let frames = [crypto(0, &client_hello()), vec![0; 900]].concat();
            check(version, name, &[initial(version, 0, (DCID, DCID), &frames)]);
        }
    }

    #[test]
    fn hello_in_pieces() {
        let hello = client_hello();
        let (head, rest) = hello.split_at(50);
        let (middle, tail) = rest.split_at(20);
        let first = [crypto(70, tail), vec![1, 0, 0], crypto(0, head), vec![0; 900]].concat();
        let second = [vec![2, 0, 0, 0, 0], crypto(50, middle), vec![0; 900]].concat();
        let one = initial(1, 0, (DCID, DCID), &first);
        let other = initial(1, 0, (DCID, &[5; 8]), &second);
        check(1, "1", &[one.clone(), other.clone()]);
        // Both packets in one datagram.
        check(1, "1", &[[one, other].concat()]);
    }

    #[test]
    fn after_a_retry() {
        let hello = [crypto(0, &client_hello()), vec![0; 900]].concat();
        let first = initial(1, 0, (DCID, DCID), &hello);
        let retry = [&[0xf0, 0, 0, 0, 1, 0, 8][..], &[6; 8], &[1; 30]].concat();
        let second = initial(1, 0, (&[6; 8], &[6; 8]), &hello);
        let answer = initial(1, 1, (&[6; 8], &[]), &crypto(0, &server_hello()));
        let outcome = kit::datagrams(443, &[(0, &first), (1, &retry), (0, &second), (1, &answer)]);
        assert_eq!(outcome.records.len(), 2);
        assert_eq!(outcome.insight.host.as_deref(), Some("example.org"));
    }

    #[test]
    fn google() {
        let mut hello = b"CHLO\x02\0\0\0SNI\0\x0b\0\0\0UAID\x16\0\0\0example.orgChrome/57.0".to_vec();
        hello.extend([b'-'; 40]);
        let old = [
            &[0x0d][..],
            DCID,
            b"Q043",
            &[1],
            &[7; 12],
            &[0xa0, 1, 0, 4],
            &hello,
        ]
        .concat();
        let new = [
            &[0xc3][..],
            b"Q046",
            &[0x50],
            DCID,
            &[0, 0, 0, 1],
            &[7; 12],
            &[0xa0, 1, 0, 4],
            &hello,
        ]
        .concat();
        let newest = initial(
            0x5130_3530,
            0,
            (DCID, DCID),
            &[&[8, 0, 0, 4][..], &hello].concat(),
        );
        for (version, datagram) in [("Q043", old), ("Q046", new), ("Q050", newest)] {
            let body = json!({"version": version, "sni": "example.org", "ua": "Chrome/57.0"});
            kit::check_datagrams(&[(0, &datagram)], Some("quic"), &[("quic", body)]);
        }
    }

    #[test]
    fn others() {
        let negotiation = [&[0x9a, 0, 0, 0, 0, 0, 8][..], DCID, &[0, 0, 0, 1, 0xff, 0, 0, 29]].concat();
        kit::check_datagrams(&[(1, &negotiation)], Some("quic"), &[]);
        kit::check_datagrams(&[(0, &[0x80; 100])], None, &[]);
        let short = [&[0x45][..], DCID, &[3; 40]].concat();
        let said = [(0, &short[..]); 2];
        kit::check_datagrams_to(443, &said, Some("quic"), &[]);
        kit::check_datagrams_to(443, &said[..1], None, &[]);
        kit::check_datagrams_to(9, &said, None, &[]);
    }
}
