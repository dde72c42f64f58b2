//! Dynamic Host Configuration Protocol for IPv4 (RFC 2131, 2132), and BOOTP before it.

use std::net::Ipv4Addr;

use serde_json::{Map, Value};

use crate::layer7::insight;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::eve_text;
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Dhcp;

/// Fixed part, which ends in the server's name and a file's name.
const HEADER_LEN: usize = 236;
const SERVER_NAME: std::ops::Range<usize> = 44..108;
const FILE_NAME: std::ops::Range<usize> = 108..236;
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

impl Protocol for Dhcp {
    fn name(&self) -> &'static str {
        "dhcp"
    }

    fn ports(&self) -> &'static [u16] {
        &[67, 68]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let bytes = seen.newest();
        let &[op @ (REQUEST | REPLY), _, address_len @ 0..=16, hops, ..] = bytes else {
            return Verdict::No;
        };
        let client = if op == REQUEST {
            seen.side
        } else {
            seen.side.other()
        };
        match bytes.get(HEADER_LEN..) {
            Some(rest) if rest.starts_with(&COOKIE) => Verdict::certain(client),
            Some(_) if seen.has_port(67) && address_len == 6 && hops <= 16 => Verdict::likely(client),
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Leases)
    }
}

#[derive(Debug)]
struct Leases;

fn mac(bytes: &[u8]) -> String {
    let pairs: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}

fn addresses(bytes: &[u8]) -> impl Iterator<Item = Value> + '_ {
    let (addresses, _) = bytes.as_chunks::<4>();
    addresses
        .iter()
        .map(|&address| Ipv4Addr::from(address).to_string().into())
}

/// Options, as code and data; an error if one runs out of the bytes.
fn options(bytes: &[u8]) -> (Vec<(u8, &[u8])>, bool) {
    let mut found = Vec::new();
    let mut rest = bytes;
    loop {
        rest = match *rest {
            [] | [255, ..] => return (found, true),
            [0, ref after @ ..] => after,
            [code, len, ref after @ ..] if after.len() >= usize::from(len) => {
                let (data, after) = after.split_at(len.into());
                found.push((code, data));
                after
            }
            _ => return (found, false),
        };
    }
}

fn insert_option(fields: &mut Map<String, Value>, code: u8, data: &[u8]) {
    let seconds = || {
        data.as_array::<4>()
            .map(|&seconds| Value::from(u32::from_be_bytes(seconds)))
    };
    let address = || addresses(data).next();
    let (key, value) = match code {
        1 => ("subnet_mask", address()),
        3 | 6 => {
            let key = if code == 3 { "routers" } else { "dns_servers" };
            let list = fields.entry(key).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.extend(addresses(data));
            }
            return;
        }
        12 => ("hostname", Some(eve_text(data).into())),
        15 => ("domain", Some(eve_text(data).into())),
        50 => ("requested_ip", address()),
        51 => ("lease_time", seconds()),
        53 => (
            "dhcp_type",
            data.first().map(|kind| {
                match kind {
                    1 => "discover",
                    2 => "offer",
                    3 => "request",
                    4 => "decline",
                    5 => "ack",
                    6 => "nak",
                    7 => "release",
                    8 => "inform",
                    _ => "unknown",
                }
                .into()
            }),
        ),
        54 => ("server_id", address()),
        55 => (
            "params",
            Some(data.iter().filter_map(|code| parameter(*code)).collect()),
        ),
        58 => ("renewal_time", seconds()),
        59 => ("rebinding_time", seconds()),
        60 => ("vendor_class_identifier", Some(eve_text(data).into())),
        61 => ("client_id", Some(mac(data).into())),
        81 => ("client_fqdn", data.get(3..).map(|name| eve_text(name).into())),
        _ => return,
    };
    if let Some(value) = value {
        fields.insert(key.into(), value);
    }
}

/// What a client asks for, as far as EVE has a name for it.
fn parameter(code: u8) -> Option<Value> {
    let name = match code {
        1 => "subnet_mask",
        3 => "router",
        6 => "dns_server",
        15 => "domain",
        35 => "arp_timeout",
        42 => "ntp_server",
        66 => "tftp_server_name",
        150 => "tftp_server_ip",
        _ => return None,
    };
    Some(name.into())
}

impl Session for Leases {
    fn data(&mut self, _: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let Some(head) = bytes.first_chunk::<HEADER_LEN>() else {
            out.anomaly(Anomaly::parser("truncated_message", Severity::Medium));
            return Step::Take(bytes.len() as u64);
        };
        let mut fields = Map::new();
        let kind = match head[0] {
            REQUEST => "request",
            REPLY => "reply",
            _ => "unknown",
        };
        fields.insert("type".into(), kind.into());
        let id = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        fields.insert("id".into(), id.into());
        let mac_len = usize::from(head[2]).min(16);
        fields.insert("client_mac".into(), mac(&head[28..28 + mac_len]).into());
        for (key, at) in [
            ("client_ip", 12),
            ("assigned_ip", 16),
            ("next_server_ip", 20),
            ("relay_ip", 24),
        ] {
            let is_set = head[at..at + 4] != [0; 4];
            if is_set || key == "assigned_ip" {
                fields.extend(
                    addresses(&head[at..at + 4])
                        .next()
                        .map(|value| (key.to_owned(), value)),
                );
            }
        }
        let mut is_right = true;
        if let Some(rest) = bytes[HEADER_LEN..].strip_prefix(&COOKIE) {
            let (mut all, is_whole) = options(rest);
            is_right = is_whole;
            let overload = all
                .iter()
                .find(|(code, _)| *code == 52)
                .and_then(|(_, data)| data.first().copied())
                .unwrap_or(0);
            for (bit, range) in [(1, FILE_NAME), (2, SERVER_NAME)] {
                if overload & bit != 0 {
                    let (more, is_whole) = options(&head[range]);
                    is_right &= is_whole;
                    all.extend(more);
                }
            }
            for (code, data) in all {
                if code == 12 {
                    out.insight.host = Some(insight::text(data));
                }
                insert_option(&mut fields, code, data);
            }
        }
        if !is_right {
            out.anomaly(Anomaly::parser("malformed_options", Severity::Medium));
        }
        out.record(Record::fields("dhcp", fields));
        Step::Take(bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    fn message(op: u8, options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 236];
        bytes[..4].copy_from_slice(&[op, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&[0, 0, 1, 2]);
        bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
        bytes.extend([0x63, 0x82, 0x53, 0x63]);
        bytes.extend(options);
        bytes
    }

    #[test]
    fn leases() {
        let discover = message(
            1,
            b"\x35\x01\x01\x0c\x02pc\x37\x04\x01\x03\x06\x1c\x3c\x03abc\xff",
        );
        kit::check_datagrams_to(
            67,
            &[(0, &discover)],
            Some("dhcp"),
            &[(
                "dhcp",
                json!({
                    "type": "request", "id": 258, "client_mac": "02:00:00:00:00:07",
                    "assigned_ip": "0.0.0.0", "dhcp_type": "discover", "hostname": "pc",
                    "params": ["subnet_mask", "router", "dns_server"], "vendor_class_identifier": "abc",
                }),
            )],
        );
        // The rest of the options stands where the file's name would.
        let mut offer = message(2, b"\x34\x01\x01\x35\x01\x02\x33\x04\0\0\x0e\x10\xff");
        offer[16..20].copy_from_slice(&[192, 0, 2, 9]);
        offer[108..121].copy_from_slice(b"\x03\x04\xc0\0\x02\x01\x06\x04\xc0\0\x02\x02\xff");
        kit::check_datagrams(
            &[(1, &offer)],
            Some("dhcp"),
            &[(
                "dhcp",
                json!({
                    "type": "reply", "id": 258, "client_mac": "02:00:00:00:00:07",
                    "assigned_ip": "192.0.2.9", "dhcp_type": "offer", "lease_time": 3600,
                    "routers": ["192.0.2.1"], "dns_servers": ["192.0.2.2"],
                }),
            )],
        );
    }

    #[test]
    fn options_that_run_out_are_told() {
        let outcome = kit::datagrams(67, &[(0, &message(1, b"\x35\x01\x01\x0c\x40pc"))]);
        assert!(
            outcome
                .anomalies()
                .any(|anomaly| anomaly.event == "malformed_options")
        );
    }
}
