//! One QUIC handshake.

use serde::Serialize;

/// EVE's `quic`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Quic {
    /// `1`, `2`, `draft-29`, `Q046`; else the number in hexadecimal.
    pub version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ua: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja4: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
}
