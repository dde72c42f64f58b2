//! One TLS or DTLS handshake.

use serde::Serialize;

/// EVE's `tls`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tls {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_resumed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// As EVE writes it: `TLS 1.3`, `TLSv1`, `DTLS 1.2`; `UNDETERMINED` if no server answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja3: Option<Ja3>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja3s: Option<Ja3>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja4: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub client_alpns: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub server_alpns: Vec<String>,
    /// Suite the server chose, by its IANA number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher: Option<u16>,
    /// The first alert in clear, by its IANA name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<&'static str>,
    /// An encrypted client hello was offered: `sni` is the outer name.
    #[serde(skip_serializing_if = "is_false")]
    pub ech: bool,
}

/// Serde asks with a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// A JA3 or JA3S fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ja3 {
    /// MD5 of `string`.
    pub hash: String,
    pub string: String,
}

impl Ja3 {
    /// With the hash of this text.
    #[must_use]
    pub fn of(string: String) -> Self {
        Self {
            hash: crate::layer7::ja3::md5_hex(&string),
            string,
        }
    }
}

/// The server's own certificate, as EVE writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Certificate {
    pub subject: String,
    pub issuerdn: String,
    /// In hexadecimal pairs with colons.
    pub serial: String,
    /// SHA-1 of the certificate, in hexadecimal pairs with colons.
    pub fingerprint: String,
    pub notbefore: String,
    pub notafter: String,
}
