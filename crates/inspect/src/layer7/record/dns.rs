//! One DNS message.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

/// EVE's `dns`, version 3, and its `mdns`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dns {
    /// `dns`, `mdns` or `llmnr`.
    pub protocol: &'static str,
    /// `request` or `response`.
    pub r#type: &'static str,
    /// Messages of the flow before this one.
    pub tx_id: u64,
    pub id: u16,
    /// The header's second word.
    pub flags: u16,
    pub opcode: u8,
    pub rcode: Option<Cow<'static, str>>,
    pub queries: Vec<DnsQuestion>,
    pub answers: Vec<DnsAnswer>,
    pub authorities: Vec<DnsAnswer>,
    pub additionals: Vec<DnsAnswer>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnsQuestion {
    pub rrname: String,
    /// The name was longer than what is kept of it.
    pub is_truncated: bool,
    pub rrtype: Cow<'static, str>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnsAnswer {
    pub rrname: String,
    /// The name was longer than what is kept of it.
    pub is_truncated: bool,
    pub rrtype: Cow<'static, str>,
    pub ttl: u32,
    pub data: DnsData,
}

/// What a record says.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum DnsData {
    #[default]
    None,
    /// An address, a name, or the presentation of what has one.
    Text(String),
    /// Strings of a TXT record.
    Strings(Vec<String>),
    Soa(Soa),
    Srv(Srv),
    Sshfp(Sshfp),
    /// Code and value in hexadecimal of EDNS options.
    Opt(Vec<DnsOption>),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Soa {
    pub mname: String,
    pub rname: String,
    pub serial: u32,
    pub refresh: u32,
    pub retry: u32,
    pub expire: u32,
    pub minimum: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Srv {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sshfp {
    /// In hexadecimal pairs with colons.
    pub fingerprint: String,
    pub algo: u8,
    pub r#type: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DnsOption {
    pub code: u16,
    pub data: String,
}

/// Flags of the header's second word, as EVE names them.
const FLAGS: [(u16, &str); 6] = [
    (0x8000, "qr"),
    (0x0400, "aa"),
    (0x0200, "tc"),
    (0x0100, "rd"),
    (0x0080, "ra"),
    (0x0040, "z"),
];

impl Serialize for Dns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let body = if self.protocol == "mdns" {
            self.mdns()
        } else {
            self.dns()
        };
        body.serialize(serializer)
    }
}

impl Dns {
    fn dns(&self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("version".into(), 3.into());
        body.insert("type".into(), self.r#type.into());
        body.insert("tx_id".into(), self.tx_id.into());
        self.header(&mut body);
        if !self.queries.is_empty() {
            body.insert(
                "queries".into(),
                self.queries.iter().map(DnsQuestion::dns).collect(),
            );
        }
        for (name, records) in [
            ("answers", &self.answers),
            ("authorities", &self.authorities),
            ("additionals", &self.additionals),
        ] {
            if !records.is_empty() {
                body.insert(name.into(), records.iter().flat_map(DnsAnswer::dns).collect());
            }
        }
        let mut grouped = Map::new();
        for answer in &self.answers {
            if let Value::Array(group) = grouped
                .entry(answer.rrtype.as_ref())
                .or_insert_with(|| Value::Array(Vec::new()))
            {
                group.extend(answer.values());
            }
        }
        grouped.retain(|_, group| group.as_array().is_some_and(|group| !group.is_empty()));
        if !grouped.is_empty() {
            body.insert("grouped".into(), grouped.into());
        }
        body
    }

    fn mdns(&self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("type".into(), self.r#type.into());
        self.header(&mut body);
        if !self.queries.is_empty() {
            body.insert(
                "queries".into(),
                self.queries.iter().map(DnsQuestion::mdns).collect(),
            );
        }
        for (name, records) in [
            ("answers", &self.answers),
            ("authorities", &self.authorities),
            ("additionals", &self.additionals),
        ] {
            if !records.is_empty() {
                body.insert(name.into(), records.iter().map(DnsAnswer::mdns).collect());
            }
        }
        body
    }

    fn header(&self, body: &mut Map<String, Value>) {
        body.insert("id".into(), self.id.into());
        body.insert("flags".into(), format!("{:x}", self.flags).into());
        for (flag, name) in FLAGS {
            if self.flags & flag != 0 {
                body.insert(name.into(), true.into());
            }
        }
        body.insert("opcode".into(), self.opcode.into());
        if let Some(rcode) = &self.rcode {
            body.insert("rcode".into(), rcode.as_ref().into());
        }
    }
}

impl DnsQuestion {
    fn dns(&self) -> Value {
        let mut body = name(&self.rrname, self.is_truncated);
        body.insert("rrtype".into(), self.rrtype.as_ref().into());
        body.into()
    }

    fn mdns(&self) -> Value {
        let mut body = name(&self.rrname, self.is_truncated);
        body.insert("rrtype".into(), self.rrtype.to_lowercase().into());
        body.into()
    }
}

impl DnsAnswer {
    /// Each string of a text as an answer of its own.
    fn dns(&self) -> Vec<Value> {
        let mut body = name(&self.rrname, self.is_truncated);
        body.insert("rrtype".into(), self.rrtype.as_ref().into());
        body.insert("ttl".into(), self.ttl.into());
        let key = match &self.data {
            DnsData::None => return vec![body.into()],
            DnsData::Text(_) | DnsData::Strings(_) => "rdata",
            DnsData::Soa(_) => "soa",
            DnsData::Srv(_) => "srv",
            DnsData::Sshfp(_) => "sshfp",
            DnsData::Opt(_) => "opt",
        };
        let with = |value: Value| {
            let mut body = body.clone();
            body.insert(key.into(), value);
            body.into()
        };
        match &self.data {
            DnsData::Opt(options) => vec![with(json!(options))],
            _ => self.values().into_iter().map(with).collect(),
        }
    }

    fn mdns(&self) -> Value {
        let mut body = name(&self.rrname, self.is_truncated);
        let mut values = self.values();
        let value = match &self.data {
            DnsData::Strings(_) => Some(values.into()),
            _ => values.pop(),
        };
        if let Some(value) = value {
            body.insert(self.rrtype.to_lowercase(), value);
        } else {
            body.insert("rrtype".into(), self.rrtype.to_lowercase().into());
        }
        body.into()
    }

    /// What it says; a text's strings each.
    fn values(&self) -> Vec<Value> {
        match &self.data {
            DnsData::None | DnsData::Opt(_) => Vec::new(),
            DnsData::Text(text) => vec![text.as_str().into()],
            DnsData::Strings(strings) => strings.iter().map(|text| text.as_str().into()).collect(),
            DnsData::Soa(soa) => vec![json!(soa)],
            DnsData::Srv(srv) => vec![json!(srv)],
            DnsData::Sshfp(sshfp) => vec![json!(sshfp)],
        }
    }
}

fn name(rrname: &str, is_truncated: bool) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("rrname".into(), rrname.into());
    if is_truncated {
        body.insert("rrname_truncated".into(), true.into());
    }
    body
}
