//! What the handshakes of TLS and DTLS have in common: messages in, one record out.

use crate::layer7::cursor::Cursor;
use crate::layer7::hello::{ClientHello, ServerHello, version_name};
use crate::layer7::insight::{self, text};
use crate::layer7::ja3;
use crate::layer7::ja4::{Carrier, ja4};
use crate::layer7::protocol::{Out, Side};
use crate::layer7::record::{Anomaly, Ja3, Record, Severity, Tls};

use super::x509;

/// Types of handshake messages.
pub(super) mod message {
    pub(in super::super) const CLIENT_HELLO: u8 = 1;
    pub(in super::super) const SERVER_HELLO: u8 = 2;
    pub(in super::super) const HELLO_VERIFY_REQUEST: u8 = 3;
    pub(in super::super) const CERTIFICATE: u8 = 11;
}

/// Longest handshake message that is put together; a chain of certificates fits.
pub(super) const MESSAGE_MAX: usize = 96 * 1024;

/// Whether a handshake message of this type may be seen unencrypted.
pub(super) const fn is_message(kind: u8) -> bool {
    matches!(kind, 0..=6 | 8 | 11..=16 | 20..=25 | 67)
}

/// One handshake.
#[derive(Debug)]
pub(super) struct Handshake {
    carrier: Carrier,
    record: Tls,
    session_id: Box<[u8]>,
    has_client: bool,
    has_server: bool,
    is_tls13: bool,
    is_told: bool,
}

/// What a message means for what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    More,
    /// The rest is encrypted.
    Over,
}

impl Handshake {
    pub(super) fn new(carrier: Carrier) -> Self {
        Self {
            carrier,
            record: Tls::default(),
            session_id: Box::default(),
            has_client: false,
            has_server: false,
            is_tls13: false,
            is_told: false,
        }
    }

    pub(super) const fn has_client(&self) -> bool {
        self.has_client
    }

    pub(super) const fn has_server(&self) -> bool {
        self.has_server
    }

    /// One whole message of either side. `Err` names what is wrong with it.
    pub(super) fn message(
        &mut self,
        side: Side,
        kind: u8,
        body: &[u8],
        out: &mut Out<'_>,
    ) -> Result<After, Anomaly> {
        const BROKEN: Anomaly = Anomaly::parser("invalid_handshake_message", Severity::Medium);
        match (side, kind) {
            (Side::Client, message::CLIENT_HELLO) => {
                let hello = ClientHello::parse(body, self.carrier == Carrier::Dtls).ok_or(BROKEN)?;
                if !self.has_client {
                    self.client_hello(&hello, out.insight);
                }
                Ok(After::More)
            }
            (Side::Server, message::SERVER_HELLO) => {
                let hello = ServerHello::parse(body).ok_or(BROKEN)?;
                self.server_hello(&hello, out.insight);
                if self.is_tls13 && !hello.is_retry {
                    return Ok(After::Over);
                }
                Ok(After::More)
            }
            (Side::Server, message::CERTIFICATE) if self.record.certificate.is_none() && !self.is_tls13 => {
                let mut body = Cursor::new(body);
                let mut chain = Cursor::new(body.vec24().ok_or(BROKEN)?);
                if let Some(der) = chain.vec24() {
                    self.certificate(der, out);
                }
                Ok(After::More)
            }
            _ => Ok(After::More),
        }
    }

    pub(super) fn client_hello(&mut self, hello: &ClientHello, insight: &mut insight::Insight) {
        self.has_client = true;
        self.session_id = hello.session_id.clone();
        let ja4 = ja4(hello, self.carrier);
        self.record.sni = hello.sni.as_deref().map(|name| text(name).into_string());
        self.record.client_alpns = hello
            .alpns
            .iter()
            .take(ALPNS_MAX)
            .map(|name| text(name).into_string())
            .collect();
        let string = ja3::client(hello);
        self.record.ja3 = Some(Ja3::of(string));
        self.record.ech = hello.has_ech;
        learn(insight, hello, &ja4);
        self.record.ja4 = Some(ja4);
    }

    /// A hello in the format of SSL 2.0.
    pub(super) const fn client_hello_v2(&mut self) {
        self.has_client = true;
    }

    pub(super) fn server_hello(&mut self, hello: &ServerHello, insight: &mut insight::Insight) {
        self.has_server = true;
        self.is_tls13 = hello.is_tls13();
        let record = &mut self.record;
        record.version = version_name(hello.version);
        record.cipher = Some(hello.cipher);
        record.ja3s = Some(Ja3::of(ja3::server(hello)));
        if self.is_tls13 {
            let is_resumed = hello
                .extensions
                .contains(&crate::layer7::hello::extension::PRE_SHARED_KEY);
            record.session_resumed = is_resumed.then_some(true);
        } else if self.has_client && !hello.session_id.is_empty() && hello.session_id == self.session_id {
            record.session_resumed = Some(true);
        }
        let tls = insight.tls.get_or_insert_default();
        tls.version = record.version;
        if let Some(alpn) = &hello.alpn {
            let alpn = text(alpn);
            record.server_alpns = vec![alpn.to_string()];
            tls.alpn = Some(alpn);
        }
    }

    pub(super) fn certificate(&mut self, der: &[u8], out: &mut Out<'_>) {
        self.record.session_resumed = None;
        self.record.certificate = x509::certificate(der);
        if self.record.certificate.is_none() {
            out.anomaly(Anomaly::parser("invalid_certificate", Severity::Low));
        }
    }

    /// The version of a handshake without a server hello that says it.
    pub(super) fn version(&mut self, version: u16, insight: &mut insight::Insight) {
        self.has_server = true;
        self.record.version = version_name(version);
        insight.tls.get_or_insert_default().version = self.record.version;
    }

    /// An alert in clear.
    pub(super) fn alert(&mut self, description: u8) {
        self.record.alert.get_or_insert(alert_name(description));
    }

    /// The server begins to encrypt: if it sent no certificate until now it resumed an earlier session.
    pub(super) fn server_encrypts(&mut self) {
        if self.has_client && self.has_server && !self.is_tls13 && self.record.certificate.is_none() {
            self.record.session_resumed = Some(true);
        }
    }

    /// The record, once, if there is anything to tell. `is_reversed`: the flow's server is the client of TLS.
    pub(super) fn tell(&mut self, is_reversed: bool, out: &mut Out<'_>) {
        if std::mem::replace(&mut self.is_told, true) || !(self.has_client || self.has_server) {
            return;
        }
        if out.wants_records() {
            let mut record = std::mem::take(&mut self.record);
            record.version.get_or_insert("UNDETERMINED");
            let client = if is_reversed { Side::Server } else { Side::Client };
            out.record_of(client, Record::Tls(Box::new(record)));
        }
    }
}

/// Protocols offered that are kept.
const ALPNS_MAX: usize = 32;

/// What a client's hello says of the flow.
pub(super) fn learn(insight: &mut insight::Insight, hello: &ClientHello, ja4: &str) {
    let tls = insight.tls.get_or_insert_default();
    tls.sni = hello.sni.as_deref().map(text);
    tls.ja4 = Some(ja4.into());
    tls.has_ech = hello.has_ech;
    if tls.alpn.is_none() {
        tls.alpn = hello.alpns.first().map(|name| text(name));
    }
    if tls.sni.is_some() {
        insight.host.clone_from(&tls.sni);
    }
}

/// Names of the registry "TLS Alerts".
fn alert_name(description: u8) -> &'static str {
    match description {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        21 => "decryption_failed",
        22 => "record_overflow",
        30 => "decompression_failure",
        40 => "handshake_failure",
        41 => "no_certificate",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        60 => "export_restriction",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        111 => "certificate_unobtainable",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        114 => "bad_certificate_hash_value",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        121 => "ech_required",
        _ => "unknown",
    }
}
