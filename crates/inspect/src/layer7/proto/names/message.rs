//! A DNS message (RFC 1035), as DNS, mDNS and LLMNR send it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::layer7::record::{Dns, DnsAnswer, DnsData, DnsOption, DnsQuestion, Soa, Srv, Sshfp};

pub(super) const HEADER_LEN: usize = 12;
/// Bytes kept of a name. The standard allows 255; names beyond are kept as evidence.
const NAME_MAX: usize = 1025;
/// Questions and records kept of a message.
const RECORDS_MAX: usize = 2048;
/// Bytes of names kept of a message: pointers make many long names of few bytes.
const NAMES_BYTES_MAX: usize = 256 * 1024;

/// A message, as far as it could be read.
pub(in crate::layer7::proto) struct Message {
    pub(in crate::layer7::proto) record: Dns,
    /// Addresses with the names they belong to.
    pub(in crate::layer7::proto) addresses: Vec<(IpAddr, String)>,
    /// Where it could not be read further, as Suricata's event.
    pub(in crate::layer7::proto) broken: Option<&'static str>,
    /// Bytes that were read.
    pub(super) len: usize,
    /// Classes of the questions are known ones, and their names printable.
    pub(super) is_plain: bool,
}

pub(super) struct Header {
    pub(super) flags: u16,
    /// Questions, answers, authorities, additionals.
    pub(super) counts: [u16; 4],
}

impl Header {
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        Some(Self {
            flags: word(2),
            counts: [word(4), word(6), word(8), word(10)],
        })
    }

    pub(super) const fn is_response(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    pub(super) const fn opcode(&self) -> u8 {
        (self.flags >> 11) as u8 & 15
    }

    /// Could be a message at all, however it goes on.
    pub(super) fn is_plausible(&self) -> bool {
        let [questions, answers, ..] = self.counts;
        let is_sane = matches!(self.opcode(), 0..=2 | 4..=6)
            && self.counts.iter().any(|&count| count > 0)
            && self.counts.iter().all(|&count| usize::from(count) <= RECORDS_MAX);
        // An inverse query asks with an answer.
        let has_question = questions > 0 || self.opcode() == 1 && answers > 0;
        is_sane && (self.is_response() || (has_question && self.flags & 0xf == 0 && answers <= 256))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    names_bytes: usize,
}

struct Name {
    text: Vec<u8>,
    is_truncated: bool,
}

impl Name {
    fn to_text(&self) -> String {
        text(&self.text)
    }
}

/// UTF-8 as it is, else with escapes for what is not printable ASCII.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes
            .iter()
            .fold(String::with_capacity(bytes.len()), |mut text, &byte| {
                if (0x20..0x7f).contains(&byte) {
                    text.push(byte as char);
                } else {
                    let _ = write!(text, "\\x{byte:02x}");
                }
                text
            }),
    }
}

fn hex(bytes: &[u8], separator: &str) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            text.push_str(separator);
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(*self.take(4)?.first_chunk()?))
    }

    /// A name, through its pointers, each of which leads to before where the last one led.
    fn name(&mut self) -> Option<Name> {
        let mut name = Name {
            text: Vec::new(),
            is_truncated: false,
        };
        let mut at = self.at;
        let mut end = None;
        let mut lowest = at;
        loop {
            let len = usize::from(*self.bytes.get(at)?);
            match len {
                0 => {
                    at += 1;
                    break;
                }
                1..=63 => {
                    let label = self.bytes.get(at + 1..at + 1 + len)?;
                    at += 1 + len;
                    if name.is_truncated {
                        continue;
                    }
                    if !name.text.is_empty() {
                        name.text.push(b'.');
                    }
                    name.text.extend_from_slice(label);
                    if name.text.len() > NAME_MAX {
                        name.text.truncate(NAME_MAX);
                        name.is_truncated = true;
                    }
                }
                0xc0.. => {
                    let low = usize::from(*self.bytes.get(at + 1)?);
                    let to = (len & 0x3f) << 8 | low;
                    end.get_or_insert(at + 2);
                    if to >= lowest || to < HEADER_LEN {
                        return None;
                    }
                    if name.is_truncated {
                        break;
                    }
                    (at, lowest) = (to, to);
                }
                _ => return None,
            }
        }
        self.at = end.unwrap_or(at);
        self.names_bytes += name.text.len();
        (self.names_bytes <= NAMES_BYTES_MAX).then_some(name)
    }

    fn name_text(&mut self) -> Option<String> {
        Some(self.name()?.to_text())
    }

    /// Type, and what it says, of a record whose data are the next `len` bytes.
    fn data(&mut self, kind: u16, len: usize) -> Option<DnsData> {
        let end = self.at.checked_add(len)?;
        if end > self.bytes.len() {
            return None;
        }
        // Names in the data may point out of it, but do not go on behind it.
        let mut inner = Reader {
            bytes: &self.bytes[..end],
            at: self.at,
            names_bytes: self.names_bytes,
        };
        let data = inner.data_of(kind, len);
        self.names_bytes = inner.names_bytes;
        self.at = end;
        data
    }

    fn data_of(&mut self, kind: u16, len: usize) -> Option<DnsData> {
        let end = self.bytes.len();
        // A deletion in an update has no data.
        if len == 0 && kind != kind::OPT {
            return Some(DnsData::None);
        }
        Some(match kind {
            kind::A => DnsData::Text(Ipv4Addr::from(*self.take(len)?.as_array::<4>()?).to_string()),
            kind::AAAA => DnsData::Text(Ipv6Addr::from(*self.take(len)?.as_array::<16>()?).to_string()),
            kind::NS | kind::CNAME | kind::PTR | kind::DNAME | 3 | 4 | 7 | 8 | 9 => {
                DnsData::Text(self.name_text()?)
            }
            kind::MX => {
                let _preference = self.u16()?;
                DnsData::Text(self.name_text()?)
            }
            kind::TXT | kind::SPF => {
                let mut strings = Vec::new();
                while self.at < end {
                    let len = self.u8()?;
                    strings.push(text(self.take(len.into())?));
                }
                DnsData::Strings(strings)
            }
            kind::SOA => DnsData::Soa(Soa {
                mname: self.name_text()?,
                rname: self.name_text()?,
                serial: self.u32()?,
                refresh: self.u32()?,
                retry: self.u32()?,
                expire: self.u32()?,
                minimum: self.u32()?,
            }),
            kind::SRV => DnsData::Srv(Srv {
                priority: self.u16()?,
                weight: self.u16()?,
                port: self.u16()?,
                name: self.name_text()?,
            }),
            kind::SSHFP => DnsData::Sshfp(Sshfp {
                algo: self.u8()?,
                r#type: self.u8()?,
                fingerprint: hex(self.take(end - self.at)?, ":"),
            }),
            kind::CAA => {
                let flags = self.u8()?;
                let tag_len = self.u8()?;
                let tag = text(self.take(tag_len.into())?);
                let value = text(self.take(end - self.at)?);
                DnsData::Text(format!("{flags} {tag} \"{value}\""))
            }
            kind::NULL => DnsData::Text(text(self.take(len)?)),
            kind::SVCB | kind::HTTPS => DnsData::Text(self.service()?),
            kind::OPT => {
                let mut options = Vec::new();
                while self.at < end {
                    let code = self.u16()?;
                    let len = self.u16()?;
                    options.push(DnsOption {
                        code,
                        data: hex(self.take(len.into())?, ""),
                    });
                }
                DnsData::Opt(options)
            }
            _ => DnsData::None,
        })
    }

    /// A service binding (RFC 9460) as it is written in zone files.
    fn service(&mut self) -> Option<String> {
        let mut out = self.u16()?.to_string();
        let target = self.name_text()?;
        let _ = write!(out, " {}", if target.is_empty() { "." } else { &target });
        while self.at < self.bytes.len() {
            let key = self.u16()?;
            let len = self.u16()?;
            let value = self.take(len.into())?;
            match key {
                1 => {
                    let mut ids = Vec::new();
                    let mut rest = value;
                    while let Some((&len, after)) = rest.split_first() {
                        let (id, after) = after.split_at_checked(len.into())?;
                        ids.push(text(id));
                        rest = after;
                    }
                    let _ = write!(out, " alpn=\"{}\"", ids.join(","));
                }
                2 => out.push_str(" no-default-alpn"),
                3 => {
                    let _ = write!(out, " port={}", u16::from_be_bytes(*value.as_array()?));
                }
                4 => {
                    let hints = value
                        .chunks_exact(4)
                        .filter_map(|hint| hint.as_array::<4>())
                        .map(|&hint| Ipv4Addr::from(hint).to_string());
                    let _ = write!(out, " ipv4hint={}", hints.collect::<Vec<_>>().join(","));
                }
                5 => out.push_str(" ech"),
                6 => {
                    let hints = value
                        .chunks_exact(16)
                        .filter_map(|hint| hint.as_array::<16>())
                        .map(|&hint| Ipv6Addr::from(hint).to_string());
                    let _ = write!(out, " ipv6hint={}", hints.collect::<Vec<_>>().join(","));
                }
                _ => {
                    let _ = write!(out, " key{key}={}", hex(value, ""));
                }
            }
        }
        Some(out)
    }
}

/// Reads a message; `None` if not even its header is there.
pub(in crate::layer7::proto) fn read(bytes: &[u8], protocol: &'static str) -> Option<Message> {
    let header = Header::of(bytes)?;
    let mut reader = Reader {
        bytes,
        at: HEADER_LEN,
        names_bytes: 0,
    };
    let mut message = Message {
        record: Dns {
            protocol,
            r#type: if header.is_response() {
                "response"
            } else {
                "request"
            },
            id: u16::from_be_bytes([bytes[0], bytes[1]]),
            flags: header.flags,
            opcode: header.opcode(),
            ..Dns::default()
        },
        addresses: Vec::new(),
        broken: None,
        len: HEADER_LEN,
        is_plain: true,
    };
    let mut extended = 0;
    message.broken = sections(&mut reader, &header, &mut message, &mut extended).err();
    message.len = reader.at;
    message.record.rcode = Some(rcode(extended << 4 | header.flags & 0xf));
    Some(message)
}

/// Reads all sections, or says which one cannot be.
fn sections(
    reader: &mut Reader<'_>,
    header: &Header,
    message: &mut Message,
    extended: &mut u16,
) -> Result<(), &'static str> {
    let mut left = RECORDS_MAX;
    for _ in 0..header.counts[0] {
        let Some((name, kind, class)) =
            (|| Some((reader.name()?, reader.u16()?, reader.u16()?)))().filter(|_| left > 0)
        else {
            return Err("malformed_data");
        };
        left -= 1;
        // The highest bit of mDNS asks for an answer to the sender alone.
        let is_class = matches!(class & 0x7fff, 1..=4 | 254 | 255);
        message.is_plain &= is_class && name.text.iter().all(|&byte| byte > 0x20 && byte != 0x7f);
        message.record.queries.push(DnsQuestion {
            rrname: name.to_text(),
            is_truncated: name.is_truncated,
            rrtype: kind_name(kind),
        });
    }
    for (section, event) in [
        (1, "malformed_data"),
        (2, "invalid_authorities"),
        (3, "invalid_additionals"),
    ] {
        for _ in 0..header.counts[section] {
            let before = reader.at;
            let record = record(reader, message, extended).filter(|_| left > 0);
            let Some(record) = record else {
                reader.at = before;
                return Err(event);
            };
            left -= 1;
            match section {
                1 => message.record.answers.push(record),
                2 => message.record.authorities.push(record),
                _ => message.record.additionals.push(record),
            }
        }
    }
    Ok(())
}

fn record(reader: &mut Reader<'_>, message: &mut Message, extended: &mut u16) -> Option<DnsAnswer> {
    let name = reader.name()?;
    let (kind, _class, ttl, len) = (reader.u16()?, reader.u16()?, reader.u32()?, reader.u16()?);
    let raw = reader.bytes.get(reader.at..reader.at + usize::from(len));
    let data = reader.data(kind, len.into())?;
    let rrname = name.to_text();
    match (kind, raw) {
        (kind::A, Some(raw)) => {
            let address = raw.as_array::<4>().map(|&raw| Ipv4Addr::from(raw).into());
            message
                .addresses
                .extend(address.map(|address| (address, rrname.clone())));
        }
        (kind::AAAA, Some(raw)) => {
            let address = raw.as_array::<16>().map(|&raw| Ipv6Addr::from(raw).into());
            message
                .addresses
                .extend(address.map(|address| (address, rrname.clone())));
        }
        (kind::OPT, _) => *extended = (ttl >> 24) as u16,
        _ => {}
    }
    Some(DnsAnswer {
        rrname,
        is_truncated: name.is_truncated,
        rrtype: kind_name(kind),
        // Of EDNS these bits are flags.
        ttl: if kind == kind::OPT { 0 } else { ttl },
        data,
    })
}

/// Numbers of record types.
mod kind {
    pub(super) const A: u16 = 1;
    pub(super) const NS: u16 = 2;
    pub(super) const CNAME: u16 = 5;
    pub(super) const SOA: u16 = 6;
    pub(super) const NULL: u16 = 10;
    pub(super) const PTR: u16 = 12;
    pub(super) const MX: u16 = 15;
    pub(super) const TXT: u16 = 16;
    pub(super) const AAAA: u16 = 28;
    pub(super) const SRV: u16 = 33;
    pub(super) const DNAME: u16 = 39;
    pub(super) const OPT: u16 = 41;
    pub(super) const SSHFP: u16 = 44;
    pub(super) const SVCB: u16 = 64;
    pub(super) const HTTPS: u16 = 65;
    pub(super) const SPF: u16 = 99;
    pub(super) const CAA: u16 = 257;
}

/// As IANA's registry has it; types it does not name are numbers.
pub(super) fn kind_name(kind: u16) -> Cow<'static, str> {
    const LOW: [&str; 66] = [
        "",
        "A",
        "NS",
        "MD",
        "MF",
        "CNAME",
        "SOA",
        "MB",
        "MG",
        "MR",
        "NULL",
        "WKS",
        "PTR",
        "HINFO",
        "MINFO",
        "MX",
        "TXT",
        "RP",
        "AFSDB",
        "X25",
        "ISDN",
        "RT",
        "NSAP",
        "NSAPPTR",
        "SIG",
        "KEY",
        "PX",
        "GPOS",
        "AAAA",
        "LOC",
        "NXT",
        "EID",
        "NIMLOC",
        "SRV",
        "ATMA",
        "NAPTR",
        "KX",
        "CERT",
        "A6",
        "DNAME",
        "SINK",
        "OPT",
        "APL",
        "DS",
        "SSHFP",
        "IPSECKEY",
        "RRSIG",
        "NSEC",
        "DNSKEY",
        "DHCID",
        "NSEC3",
        "NSEC3PARAM",
        "TLSA",
        "SMIMEA",
        "",
        "HIP",
        "NINFO",
        "RKEY",
        "TALINK",
        "CDS",
        "CDNSKEY",
        "OPENPGPKEY",
        "CSYNC",
        "ZONEMD",
        "SVCB",
        "HTTPS",
    ];
    let name = match kind {
        0..=65 => LOW[usize::from(kind)],
        99 => "SPF",
        103 => "UNSPEC",
        108 => "EUI48",
        109 => "EUI64",
        249 => "TKEY",
        250 => "TSIG",
        251 => "IXFR",
        252 => "AXFR",
        253 => "MAILB",
        254 => "MAILA",
        255 => "ANY",
        256 => "URI",
        257 => "CAA",
        258 => "AVC",
        259 => "DOA",
        260 => "AMTRELAY",
        32768 => "TA",
        32769 => "DLV",
        _ => "",
    };
    if name.is_empty() {
        kind.to_string().into()
    } else {
        name.into()
    }
}

fn rcode(rcode: u16) -> Cow<'static, str> {
    const LOW: [&str; 11] = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
        "NOTAUTH", "NOTZONE",
    ];
    const HIGH: [&str; 8] = [
        "BADVERS",
        "BADKEY",
        "BADTIME",
        "BADMODE",
        "BADNAME",
        "BADALG",
        "BADTRUNC",
        "BADCOOKIE",
    ];
    match rcode {
        0..=10 => LOW[usize::from(rcode)].into(),
        16..=23 => HIGH[usize::from(rcode) - 16].into(),
        _ => rcode.to_string().into(),
    }
}
