//! One hello of a QUIC handshake.

use serde::Serialize;

use super::Ja3;

/// EVE's `quic`: one for the client's hello, one for the server's.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Quic {
    /// `1`, `2`, `draft-29`, `Q046`; else the number in hexadecimal.
    pub version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ua: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja3: Option<Ja3>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja3s: Option<Ja3>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja4: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<QuicExtension>,
}

/// An extension of the TLS hello inside.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct QuicExtension {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'static str>,
    pub r#type: u16,
    /// What it says, for names and protocols.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}
