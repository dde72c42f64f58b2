//! One rule, as data.

use std::net::IpAddr;

use regex_automata::meta::Regex;

/// What a content is looked for in. Sticky buffers by their Suricata names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Buffer {
    /// Bytes of packets; of TCP with the end of the segment before.
    Payload = 0,
    HttpUri = 1,
    HttpUserAgent = 2,
    HttpHost = 3,
    HttpMethod = 4,
    HttpReferer = 5,
    TlsSni = 6,
    DnsQuery = 7,
    SshSoftware = 8,
    Ja4 = 9,
}

impl Buffer {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// Names in rules; `http.uri.raw` is the same here, since paths are kept as they were sent.
    pub const NAMES: [(&'static str, Self); 13] = [
        ("pkt_data", Self::Payload),
        ("http.uri", Self::HttpUri),
        ("http.uri.raw", Self::HttpUri),
        ("http.user_agent", Self::HttpUserAgent),
        ("http.host", Self::HttpHost),
        ("http.host.raw", Self::HttpHost),
        ("http.method", Self::HttpMethod),
        ("http.referer", Self::HttpReferer),
        ("tls.sni", Self::TlsSni),
        ("dns.query", Self::DnsQuery),
        ("ssh.software", Self::SshSoftware),
        ("ja4.hash", Self::Ja4),
        ("tls.ja4", Self::Ja4),
    ];

    /// Whether it is compared without regard to the case of letters in any case: names are.
    #[must_use]
    pub const fn is_caseless(self) -> bool {
        matches!(self, Self::HttpHost | Self::TlsSni | Self::DnsQuery)
    }
}

/// What a rule does when it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Alert,
    /// Nothing more of this flow raises an alert.
    Pass,
}

/// Protocol in a rule's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    Ip,
    Tcp,
    Udp,
    Icmp,
    /// `app_proto` of flows.
    App(&'static str),
}

/// Which side's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Any,
    ToServer,
    ToClient,
}

/// A set of addresses: within one of `any_of` (all, if empty) and none of `none_of`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    pub any_of: Vec<(IpAddr, u8)>,
    pub none_of: Vec<(IpAddr, u8)>,
}

/// A set of ports, in the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    pub any_of: Vec<(u16, u16)>,
    pub none_of: Vec<(u16, u16)>,
}

impl Addresses {
    /// Whether it holds this address.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        let within = |list: &[(IpAddr, u8)]| list.iter().any(|&(net, len)| is_within(address, net, len));
        (self.any_of.is_empty() || within(&self.any_of)) && !within(&self.none_of)
    }
}

impl Ports {
    /// Whether it holds this port.
    #[must_use]
    pub fn holds(&self, port: u16) -> bool {
        let within = |list: &[(u16, u16)]| list.iter().any(|&(from, to)| (from..=to).contains(&port));
        (self.any_of.is_empty() || within(&self.any_of)) && !within(&self.none_of)
    }
}

fn is_within(address: IpAddr, net: IpAddr, len: u8) -> bool {
    match (address, net) {
        (IpAddr::V4(address), IpAddr::V4(net)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(len.min(32))).unwrap_or(0);
            u32::from(address) & mask == u32::from(net) & mask
        }
        (IpAddr::V6(address), IpAddr::V6(net)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0);
            u128::from(address) & mask == u128::from(net) & mask
        }
        _ => false,
    }
}

/// Something that is to be found, or not, in a buffer.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub buffer: Buffer,
    pub is_negated: bool,
    pub kind: PatternKind,
}

#[derive(Clone, Debug)]
pub enum PatternKind {
    Content(Content),
    /// `pcre`, compiled without look-around and back references. `is_relative`: begins where the match
    /// before it ended.
    Regex {
        regex: Box<Regex>,
        is_relative: bool,
    },
}

/// `content` and what limits where it may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// In lower case if `is_caseless`.
    pub bytes: Vec<u8>,
    pub is_caseless: bool,
    /// From the beginning of the buffer: first place it may begin, and where it must have ended.
    pub offset: Option<usize>,
    pub depth: Option<usize>,
    /// The same from where the match before it ended.
    pub distance: Option<i64>,
    pub within: Option<usize>,
    pub starts_with: bool,
    pub ends_with: bool,
}

impl Content {
    /// Whether it is looked for from where the match before it ended.
    #[must_use]
    pub const fn is_relative(&self) -> bool {
        self.distance.is_some() || self.within.is_some()
    }
}

/// `threshold`: how often alerts are raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    pub kind: ThresholdKind,
    pub is_by_source: bool,
    pub count: u32,
    pub seconds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThresholdKind {
    /// At most `count` in `seconds`.
    Limit,
    /// Every `count`th within `seconds`.
    Threshold,
    /// Once in `seconds`, when `count` is reached.
    Both,
}

/// `dsize`: length of the payload in bytes, from and to.
pub type Size = (u32, u32);

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    pub action: Action,
    pub head: Head,
    pub src: Addresses,
    pub src_ports: Ports,
    pub dst: Addresses,
    pub dst_ports: Ports,
    /// `<>`: either end may be either side.
    pub is_both_ways: bool,
    pub msg: String,
    pub sid: u32,
    pub rev: u32,
    /// `classtype`; `None` is the word `unknown` to readers.
    pub classtype: Option<String>,
    /// 1 (high) to 3 (low): `priority`, else that of the class.
    pub severity: u8,
    pub way: Way,
    pub is_established: bool,
    pub dsize: Option<Size>,
    pub patterns: Vec<Pattern>,
    pub threshold: Option<Threshold>,
    /// `metadata` and `reference`, as they stand.
    pub metadata: Vec<(String, String)>,
}

/// Severity and finding category of a class of Suricata's `classification.config`.
const CLASSES: [(&str, u8, &str); 17] = [
    ("web-application-attack", 1, "web-attack"),
    ("attempted-admin", 1, "web-attack"),
    ("attempted-user", 1, "web-attack"),
    ("shellcode-detect", 1, "malware"),
    ("trojan-activity", 1, "malware"),
    ("command-and-control", 1, "malware"),
    ("exploit-kit", 1, "malware"),
    ("credential-theft", 1, "malware"),
    ("successful-admin", 1, "malware"),
    ("attempted-recon", 2, "port-scan"),
    ("web-application-activity", 2, "web-attack"),
    ("attempted-dos", 2, "other"),
    ("bad-unknown", 2, "anomaly"),
    ("suspicious-login", 2, "brute-force"),
    ("coin-mining", 2, "malware"),
    ("policy-violation", 3, "other"),
    ("misc-activity", 3, "other"),
];

/// Severity of a class, if it is known.
#[must_use]
pub fn severity_of(classtype: &str) -> Option<u8> {
    CLASSES
        .iter()
        .find(|(name, ..)| *name == classtype)
        .map(|(_, severity, _)| *severity)
}

impl Rule {
    /// What kind of finding it is: one of the words findings have.
    #[must_use]
    pub fn category(&self) -> &'static str {
        let class = self.classtype.as_deref().unwrap_or_default();
        CLASSES
            .iter()
            .find(|(name, ..)| *name == class)
            .map_or("other", |(_, _, category)| category)
    }
}
