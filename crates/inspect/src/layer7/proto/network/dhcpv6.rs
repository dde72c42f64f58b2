//! Dynamic Host Configuration Protocol for IPv6 (RFC 8415, 5007).

use std::net::Ipv6Addr;

use serde_json::{Map, Value};

use crate::layer7::insight;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::Reader;
use crate::layer7::record::Record;

#[derive(Debug)]
pub(super) struct Dhcpv6;

const KINDS: [&str; 17] = [
    "solicit",
    "advertise",
    "request",
    "confirm",
    "renew",
    "rebind",
    "reply",
    "release",
    "decline",
    "reconfigure",
    "information_request",
    "relay_forward",
    "relay_reply",
    "leasequery",
    "leasequery_reply",
    "leasequery_done",
    "leasequery_data",
];
/// Kind and transaction, and of a relay: hops and two addresses.
const HEADER_LEN: usize = 4;
const RELAY_HEADER_LEN: usize = 34;

const fn is_relay(kind: u8) -> bool {
    matches!(kind, 12 | 13)
}

/// Codes and data.
type Options<'a> = Vec<(u16, &'a [u8])>;

/// Name of the kind of message and its options, if they fill it exactly.
fn read(bytes: &[u8]) -> Option<(&'static str, Options<'_>)> {
    let kind = usize::from(*bytes.first()?).checked_sub(1)?;
    let name = *KINDS.get(kind)?;
    let header_len = if is_relay(bytes[0]) {
        RELAY_HEADER_LEN
    } else {
        HEADER_LEN
    };
    let mut reader = Reader::new(bytes.get(header_len..)?);
    let mut options = Vec::new();
    while !reader.is_empty() {
        let code = reader.be16()?;
        options.push((code, reader.piece16()?));
    }
    (!options.is_empty()).then_some((name, options))
}

impl Protocol for Dhcpv6 {
    fn name(&self) -> &'static str {
        "dhcpv6"
    }

    fn ports(&self) -> &'static [u16] {
        &[546, 547]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let has_port = seen.has_port(546) || seen.has_port(547);
        if !has_port || read(seen.newest()).is_none() {
            return Verdict::No;
        }
        let is_server = matches!(seen.newest()[0], 2 | 7 | 10 | 13 | 15..=17);
        Verdict::certain(if is_server { seen.side.other() } else { seen.side })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Leases)
    }
}

#[derive(Debug)]
struct Leases;

/// A name as DNS writes it.
fn domain(bytes: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some(label) = reader.piece8().filter(|label| !label.is_empty()) {
        labels.push(String::from_utf8_lossy(label));
    }
    labels.join(".")
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}

impl Session for Leases {
    fn data(&mut self, _: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let Some((kind, options)) = read(bytes) else {
            return Step::Take(bytes.len() as u64);
        };
        let mut fields = Map::new();
        fields.insert("type".into(), kind.into());
        if !is_relay(bytes[0]) {
            let id = u32::from_be_bytes([0, bytes[1], bytes[2], bytes[3]]);
            fields.insert("id".into(), id.into());
        }
        for (code, data) in options {
            let (key, value) = match code {
                1 => ("client_id", hex(data).into()),
                2 => ("server_id", hex(data).into()),
                // Identity associations: where their addresses stand.
                3 if data.len() >= 12 + 4 + 16 => {
                    let address = data[16..32].as_array::<16>().copied().unwrap_or_default();
                    ("assigned_ip", Ipv6Addr::from(address).to_string().into())
                }
                23 => {
                    let (servers, _) = data.as_chunks::<16>();
                    let servers = servers.iter().map(|&server| Ipv6Addr::from(server).to_string());
                    ("dns_servers", servers.map(Value::from).collect())
                }
                39 if !data.is_empty() => {
                    let name = domain(&data[1..]);
                    out.insight.host = Some(insight::text(name.as_bytes()));
                    ("client_fqdn", name.into())
                }
                _ => continue,
            };
            fields.insert(key.into(), value);
        }
        out.record(Record::fields("dhcpv6", fields));
        Step::Take(bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    #[test]
    fn a_solicitation() {
        kit::check_datagrams_to(
            547,
            &[(0, b"\x01\x00\x01\x02\0\x01\0\x02\xab\xcd\0\x27\0\x04\0\x02pc")],
            Some("dhcpv6"),
            &[(
                "dhcpv6",
                json!({"type": "solicit", "id": 258, "client_id": "ab:cd", "client_fqdn": "pc"}),
            )],
        );
        kit::check_datagrams_to(
            547,
            &[(0, b"\x0e\x00\x01\x02\0\x01\0\x02\xab\xcd")],
            Some("dhcpv6"),
            &[(
                "dhcpv6",
                json!({"type": "leasequery", "id": 258, "client_id": "ab:cd"}),
            )],
        );
        kit::check_datagrams_to(547, &[(0, b"\x01\x00\x01\x02\0\x01\0\x09\xab\xcd")], None, &[]);
    }
}
