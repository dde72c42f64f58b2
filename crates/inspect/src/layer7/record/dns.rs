//! One DNS message.

use serde::Serialize;

/// EVE's `dns`, version 3.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Dns {
    /// `dns`, `mdns` or `llmnr`.
    #[serde(skip)]
    pub protocol: &'static str,
    pub version: u8,
    /// `request` or `response`.
    pub r#type: &'static str,
    pub id: u16,
    pub opcode: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rcode: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<DnsQuestion>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<DnsAnswer>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DnsQuestion {
    pub rrname: String,
    pub rrtype: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DnsAnswer {
    pub rrname: String,
    pub rrtype: String,
    pub ttl: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdata: Option<String>,
}
