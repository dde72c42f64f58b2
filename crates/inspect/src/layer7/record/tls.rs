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
    /// As EVE writes it: `TLS 1.3`, `TLSv1`, `DTLS 1.2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja4: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub client_alpns: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub server_alpns: Vec<String>,
    /// Suite the server chose, by its IANA number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher: Option<u16>,
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
