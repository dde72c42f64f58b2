//! BitTorrent's distributed hash table (BEP 5, 32).

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value as Json, json};

use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::eve_text;
use crate::layer7::record::{Anomaly, Record, Severity};

use super::bencode::Value;

#[derive(Debug)]
pub(super) struct Dht;

/// Nodes and peers that are told of one answer.
const NODES_MAX: usize = 64;

/// The message, and whether it is a question.
fn read(bytes: &[u8]) -> Option<(Value<'_>, bool)> {
    if bytes.first() != Some(&b'd') {
        return None;
    }
    let message = Value::of(bytes)?;
    let is_question = match message.get("y")?.text()? {
        b"q" => message.get("q")?.text().is_some(),
        b"r" | b"e" => false,
        _ => return None,
    };
    Some((message, is_question))
}

impl Protocol for Dht {
    fn name(&self) -> &'static str {
        "bittorrent-dht"
    }

    fn ports(&self) -> &'static [u16] {
        &[6881]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        match read(seen.newest()) {
            Some((_, true)) => Verdict::certain(seen.side),
            Some((_, false)) => Verdict::certain(seen.side.other()),
            // Of an old client, or cut short: the keys and the length of an identifier.
            None if is_begin(seen.newest()) => Verdict::LIKELY,
            None => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Messages)
    }
}

fn is_begin(bytes: &[u8]) -> bool {
    [
        &b"d1:ad2:id20:"[..],
        b"d1:rd2:id20:",
        b"d2:ip4:",
        b"d2:ip6:",
        b"d1:eli",
    ]
    .iter()
    .any(|begin| bytes.starts_with(begin))
}

#[derive(Debug)]
struct Messages;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Address and port of a peer in compact form.
fn peer(bytes: &[u8]) -> Option<Map<String, Json>> {
    let (address, port) = bytes.split_last_chunk::<2>()?;
    let address = match address.len() {
        4 => Ipv4Addr::from(*address.as_array::<4>()?).to_string(),
        16 => Ipv6Addr::from(*address.as_array::<16>()?).to_string(),
        _ => return None,
    };
    let mut peer = Map::new();
    peer.insert("ip".into(), address.into());
    peer.insert("port".into(), u16::from_be_bytes(*port).into());
    Some(peer)
}

fn nodes(bytes: &[u8], node_len: usize) -> Json {
    let nodes = bytes.chunks_exact(node_len).take(NODES_MAX).filter_map(|node| {
        let (id, at) = node.split_at(20);
        let mut node = peer(at)?;
        node.insert("id".into(), hex(id).into());
        Some(Json::from(node))
    });
    nodes.collect()
}

/// What of a dictionary EVE has, in hexadecimal.
fn texts(of: &Value<'_>, keys: &[&str]) -> Map<String, Json> {
    let text = |key: &&str| Some(((*key).to_owned(), hex(of.get(key)?.text()?).into()));
    keys.iter().filter_map(text).collect()
}

fn request(arguments: &Value<'_>) -> Json {
    let mut fields = texts(arguments, &["id", "target", "info_hash", "token"]);
    for key in ["implied_port", "port"] {
        if let Some(number) = arguments.get(key).and_then(Value::number) {
            fields.insert(key.into(), number.into());
        }
    }
    fields.into()
}

fn response(values: &Value<'_>) -> Json {
    let mut fields = texts(values, &["id", "token"]);
    for (key, node_len) in [("nodes", 26), ("nodes6", 38)] {
        if let Some(list) = values.get(key).and_then(Value::text) {
            fields.insert(key.into(), nodes(list, node_len));
        }
    }
    if let Some(list) = values.get("values").and_then(Value::list) {
        let peers = list
            .iter()
            .take(NODES_MAX)
            .filter_map(|value| peer(value.text()?));
        fields.insert("values".into(), peers.map(Json::from).collect());
    }
    fields.into()
}

impl Session for Messages {
    fn data(&mut self, _: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let taken = Step::Take(bytes.len() as u64);
        let Some((message, _)) = read(bytes) else {
            // The same port also carries uTP.
            if bytes.first() == Some(&b'd') {
                out.anomaly(Anomaly::parser("malformed_packet", Severity::Low));
            }
            return taken;
        };
        if !out.wants_records() {
            return taken;
        }
        let mut fields = Map::new();
        let hex_of = |key: &str| message.get(key).and_then(Value::text).map(hex);
        // Some leave it out.
        fields.insert("transaction_id".into(), hex_of("t").unwrap_or_default().into());
        if let Some(version) = hex_of("v") {
            fields.insert("client_version".into(), version.into());
        }
        if let Some(kind) = message.get("q").and_then(Value::text) {
            fields.insert("request_type".into(), eve_text(kind).into());
        }
        if let Some(arguments) = message.get("a") {
            fields.insert("request".into(), request(arguments));
        }
        if let Some(values) = message.get("r") {
            fields.insert("response".into(), response(values));
        }
        if let Some([Value::Number(number), Value::Text(text), ..]) =
            message.get("e").and_then(|error| error.list())
        {
            let error = json!({"num": number, "msg": eve_text(text)});
            fields.insert("error".into(), error);
        }
        out.record(Record::fields("bittorrent_dht", fields));
        taken
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    #[test]
    fn questions_answers_and_errors() {
        let ask = b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe";
        let answer = b"d1:rd2:id20:abcdefghij01234567895:token2:ok6:valuesl6:axje.uee1:t2:aa1:v4:UT011:y1:re";
        let error = b"d1:eli203e9:Malformede1:t2:aa1:y1:ee";
        kit::check_datagrams(
            &[(0, ask), (1, answer), (1, error)],
            Some("bittorrent-dht"),
            &[
                (
                    "bittorrent_dht",
                    json!({
                        "transaction_id": "6161", "request_type": "get_peers",
                        "request": {
                            "id": "6162636465666768696a30313233343536373839",
                            "info_hash": "6d6e6f707172737475767778797a313233343536",
                        },
                    }),
                ),
                (
                    "bittorrent_dht",
                    json!({
                        "transaction_id": "6161", "client_version": "55543031",
                        "response": {
                            "id": "6162636465666768696a30313233343536373839", "token": "6f6b",
                            "values": [{"ip": "97.120.106.101", "port": 11893}],
                        },
                    }),
                ),
                (
                    "bittorrent_dht",
                    json!({"transaction_id": "6161", "error": {"num": 203, "msg": "Malformed"}}),
                ),
            ],
        );
        kit::check_datagrams(&[(0, b"d1:t2:aae")], None, &[]);
    }
}
