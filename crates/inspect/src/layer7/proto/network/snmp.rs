//! Simple Network Management Protocol, versions 1, 2c and 3 (RFC 1157, 3416, 3412, 3414).

use std::net::Ipv4Addr;

use serde_json::{Map, Value};

use crate::layer7::insight;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::eve_text;
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Snmp;

/// Tags of the Basic Encoding Rules.
mod tag {
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const TEXT: u8 = 0x04;
    pub(super) const OID: u8 = 0x06;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const ADDRESS: u8 = 0x40;
    /// Contexts 0 to 8: kinds of PDU.
    pub(super) const PDU_FIRST: u8 = 0xa0;
    pub(super) const PDU_LAST: u8 = 0xa8;
    pub(super) const TRAP_V1: u8 = 0xa4;
}

const KINDS: [&str; 9] = [
    "get_request",
    "get_next_request",
    "response",
    "set_request",
    "trap_v1",
    "get_bulk_request",
    "inform_request",
    "trap_v2",
    "report",
];
/// As RFC 3416 has them, without the first: no error.
const ERRORS: [&str; 18] = [
    "TooBig",
    "NoSuchName",
    "BadValue",
    "ReadOnly",
    "GenErr",
    "NoAccess",
    "WrongType",
    "WrongLength",
    "WrongEncoding",
    "WrongValue",
    "NoCreation",
    "InconsistentValue",
    "ResourceUnavailable",
    "CommitFailed",
    "UndoFailed",
    "AuthorizationError",
    "NotWritable",
    "InconsistentName",
];
/// Variables listed of a message.
const VARS_MAX: usize = 256;

/// One element in front of the bytes: tag, content, what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, len, rest @ ..] = bytes else {
        return None;
    };
    let (len, rest) = match len {
        0..=0x7f => (usize::from(*len), rest),
        0x81..=0x84 => {
            let (len, rest) = rest.split_at_checked(usize::from(len & 7))?;
            let value = len
                .iter()
                .fold(0usize, |value, byte| value << 8 | usize::from(*byte));
            (value, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((*tag, content, rest))
}

/// The content of one element of this tag; `bytes` goes on behind it.
fn take<'a>(bytes: &mut &'a [u8], expected: u8) -> Option<&'a [u8]> {
    let (tag, content, rest) = element(bytes)?;
    *bytes = rest;
    (tag == expected).then_some(content)
}

fn number(content: &[u8]) -> Option<i64> {
    if content.is_empty() || content.len() > 8 {
        return None;
    }
    let sign = if content[0] & 0x80 != 0 { -1 } else { 0 };
    Some(
        content
            .iter()
            .fold(sign, |value, byte| value << 8 | i64::from(*byte)),
    )
}

fn oid(content: &[u8]) -> String {
    let mut numbers = Vec::new();
    let mut value = 0u64;
    for byte in content.iter().take(256) {
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (value / 40).min(2);
                numbers.push(first.to_string());
                value -= first * 40;
            }
            numbers.push(value.to_string());
            value = 0;
        }
    }
    numbers.join(".")
}

/// What a message says.
struct Message<'a> {
    version: u8,
    community: Option<&'a [u8]>,
    user: Option<&'a [u8]>,
    pdu: Pdu<'a>,
}

enum Pdu<'a> {
    Encrypted,
    Plain(u8, &'a [u8]),
}

fn read(bytes: &[u8]) -> Option<Message<'_>> {
    let mut rest = bytes;
    let mut message = take(&mut rest, tag::SEQUENCE)?;
    let version = number(take(&mut message, tag::INTEGER)?)?;
    match version {
        0 | 1 => {
            let community = take(&mut message, tag::TEXT)?;
            let (kind, pdu, _) = element(message)?;
            (tag::PDU_FIRST..=tag::PDU_LAST)
                .contains(&kind)
                .then_some(Message {
                    version: version as u8 + 1,
                    community: Some(community),
                    user: None,
                    pdu: Pdu::Plain(kind, pdu),
                })
        }
        3 => {
            let mut header = take(&mut message, tag::SEQUENCE)?;
            let _id = take(&mut header, tag::INTEGER)?;
            let _size_max = take(&mut header, tag::INTEGER)?;
            let _flags = take(&mut header, tag::TEXT)?;
            let model = number(take(&mut header, tag::INTEGER)?)?;
            let mut security = take(&mut message, tag::TEXT)?;
            let user = (model == 3).then(|| user(&mut security)).flatten();
            let (kind, content, _) = element(message)?;
            let pdu = match kind {
                tag::TEXT => Pdu::Encrypted,
                tag::SEQUENCE => {
                    let mut scoped = content;
                    let _engine = take(&mut scoped, tag::TEXT)?;
                    let _context = take(&mut scoped, tag::TEXT)?;
                    let (kind, pdu, _) = element(scoped)?;
                    if !(tag::PDU_FIRST..=tag::PDU_LAST).contains(&kind) {
                        return None;
                    }
                    Pdu::Plain(kind, pdu)
                }
                _ => return None,
            };
            Some(Message {
                version: 3,
                community: None,
                user,
                pdu,
            })
        }
        _ => None,
    }
}

/// The name in the parameters of the user-based security model.
fn user<'a>(security: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut model = take(security, tag::SEQUENCE)?;
    let _engine = take(&mut model, tag::TEXT)?;
    let _boots = take(&mut model, tag::INTEGER)?;
    let _time = take(&mut model, tag::INTEGER)?;
    take(&mut model, tag::TEXT)
}

/// Fields of a PDU, as far as it can be read.
fn pdu(kind: u8, mut bytes: &[u8], fields: &mut Map<String, Value>) -> Option<()> {
    if kind == tag::TRAP_V1 {
        fields.insert("trap_oid".into(), oid(take(&mut bytes, tag::OID)?).into());
        let address = take(&mut bytes, tag::ADDRESS)?.as_array::<4>().copied()?;
        fields.insert("trap_address".into(), Ipv4Addr::from(address).to_string().into());
        let trap = number(take(&mut bytes, tag::INTEGER)?)?;
        let name = match trap {
            0 => "cold_start",
            1 => "warm_start",
            2 => "link_down",
            3 => "link_up",
            4 => "authentication_failure",
            5 => "egp_neighbor_loss",
            _ => "enterprise_specific",
        };
        fields.insert("trap_type".into(), name.into());
        let _specific = take(&mut bytes, tag::INTEGER)?;
        let (_, _uptime, rest) = element(bytes)?;
        bytes = rest;
    } else {
        let _id = take(&mut bytes, tag::INTEGER)?;
        // Of a bulk request these two are limits.
        let error = number(take(&mut bytes, tag::INTEGER)?)?;
        let _index = take(&mut bytes, tag::INTEGER)?;
        let error = usize::try_from(error).ok().and_then(|error| error.checked_sub(1));
        if kind != 0xa5
            && let Some(error) = error
        {
            let name = ERRORS.get(error).map_or("Unknown", |name| name);
            fields.insert("error".into(), name.into());
        }
    }
    let mut list = take(&mut bytes, tag::SEQUENCE)?;
    let mut vars = Vec::new();
    while !list.is_empty() && vars.len() < VARS_MAX {
        let mut var = take(&mut list, tag::SEQUENCE)?;
        vars.push(Value::from(oid(take(&mut var, tag::OID)?)));
    }
    if !vars.is_empty() {
        fields.insert("vars".into(), vars.into());
    }
    Some(())
}

impl Protocol for Snmp {
    fn name(&self) -> &'static str {
        "snmp"
    }

    fn ports(&self) -> &'static [u16] {
        &[161, 162]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        if seen.newest().first() != Some(&tag::SEQUENCE) {
            return Verdict::No;
        }
        match read(seen.newest()) {
            Some(message) => {
                let is_answer = matches!(message.pdu, Pdu::Plain(0xa2 | 0xa8, _));
                Verdict::certain(if is_answer { seen.side.other() } else { seen.side })
            }
            // A first message that is cut short.
            None if seen.has_port(161) || seen.has_port(162) => {
                let is_version = seen
                    .newest()
                    .windows(3)
                    .take(4)
                    .any(|at| at[..2] == [2, 1] && at[2] <= 3);
                if is_version { Verdict::LIKELY } else { Verdict::No }
            }
            None => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Messages)
    }
}

#[derive(Debug)]
struct Messages;

impl Session for Messages {
    fn data(&mut self, _: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let Some(message) = read(bytes) else {
            out.anomaly(Anomaly::parser("malformed_data", Severity::Medium));
            return Step::Take(bytes.len() as u64);
        };
        let mut fields = Map::new();
        fields.insert("version".into(), message.version.into());
        match message.pdu {
            Pdu::Encrypted => {
                fields.insert("pdu_type".into(), "encrypted".into());
            }
            Pdu::Plain(kind, content) => {
                let name = KINDS[usize::from(kind - tag::PDU_FIRST)];
                fields.insert("pdu_type".into(), name.into());
                if pdu(kind, content, &mut fields).is_none() {
                    out.anomaly(Anomaly::parser("malformed_data", Severity::Medium));
                }
            }
        }
        if let Some(community) = message.community {
            fields.insert("community".into(), eve_text(community).into());
            // Whoever knows it may read, or write; this one everybody knows.
            out.insight.has_clear_credential |= community != b"public";
        }
        if let Some(user) = message.user.filter(|user| !user.is_empty()) {
            fields.insert("usm".into(), eve_text(user).into());
            out.insight.user = Some(insight::text(user));
        }
        out.record(Record::fields("snmp", fields));
        Step::Take(bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    #[test]
    fn versions() {
        let get =
            b"\x30\x26\x02\x01\x01\x04\x06public\xa0\x19\x02\x01\x07\x02\x01\0\x02\x01\0\x30\x0e\x30\x0c\
            \x06\x08\x2b\x06\x01\x02\x01\x01\x01\0\x05\0";
        kit::check_datagrams(
            &[(0, get)],
            Some("snmp"),
            &[(
                "snmp",
                json!({
                    "version": 2, "pdu_type": "get_request", "community": "public",
                    "vars": ["1.3.6.1.2.1.1.1.0"],
                }),
            )],
        );
        let mut failed = get.to_vec();
        failed[2 + 3 + 8] = 0xa2;
        failed[2 + 3 + 8 + 2 + 3 + 2] = 2;
        failed[7..13].copy_from_slice(b"secret");
        let outcome = kit::datagrams(161, &[(1, &failed)]);
        assert_eq!(outcome.bodies()[0].1["error"], json!("NoSuchName"));
        assert!(outcome.insight.has_clear_credential);

        let encrypted = b"\x30\x35\x02\x01\x03\x30\x0d\x02\x01\x01\x02\x02\x05\xdc\x04\x01\x03\x02\x01\x03\
            \x04\x1a\x30\x18\x04\x02\x80\0\x02\x01\x01\x02\x01\x02\x04\x04user\x04\x02ab\x04\x02cd\
            \x04\x05\x01\x02\x03\x04\x05";
        kit::check_datagrams(
            &[(0, encrypted)],
            Some("snmp"),
            &[(
                "snmp",
                json!({"version": 3, "pdu_type": "encrypted", "usm": "user"}),
            )],
        );
        kit::check_datagrams(&[(0, b"\x30\x05\x02\x01\x05\x04\0")], None, &[]);
    }
}
