//! MQTT 3.1, 3.1.1 and 5 (OASIS standards of 2014 and 2019).

use serde_json::{Map, Value, json};

use super::mqtt_properties::properties;
use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::{Reader, eve_text};
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Mqtt;

/// Packets longer than this are told by their first bytes.
const WHOLE_MAX: usize = 32 * 1024;
/// Bytes of those that are waited for.
const HEAD_LEN: usize = 1024;
/// Exchanges that may be open at once.
const OPEN_MAX: usize = 32;
/// Topics of one packet that are told.
const TOPICS_MAX: usize = 64;

impl Protocol for Mqtt {
    fn name(&self) -> &'static str {
        "mqtt"
    }

    fn ports(&self) -> &'static [u16] {
        &[1883]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let is_known_port = seen.has_port(1883);
        if let Some(verdict) = pings(seen).or_else(|| acknowledged(seen)) {
            return verdict;
        }
        seen.opened_by_either(|bytes| {
            let Some(header) = Header::read(bytes) else {
                return Verdict::No;
            };
            let Header::Whole { kind, len, at, .. } = header else {
                return Verdict::NeedMore;
            };
            if kind == CONNECT {
                let names: [&[u8]; 2] = [b"\0\x04MQTT", b"\0\x06MQIsdp"];
                let body = &bytes[at..];
                let is_begun = |name: &&[u8]| name.starts_with(body);
                return if names.iter().any(|name| body.starts_with(name)) {
                    Verdict::CERTAIN
                } else if names.iter().any(is_begun) {
                    Verdict::NeedMore
                } else {
                    Verdict::No
                };
            }
            // Joined in the middle.
            if !is_known_port || !is_plausible_len(kind, len) {
                return Verdict::No;
            }
            if bytes.len() < at + len.min(HEAD_LEN) {
                return Verdict::NeedMore;
            }
            let is_of_client = matches!(kind, SUBSCRIBE | UNSUBSCRIBE | PINGREQ);
            let is_of_server = matches!(kind, CONNACK | SUBACK | UNSUBACK | PINGRESP);
            if is_of_client || (!is_of_server && seen.ports[1] == 1883) {
                Verdict::LIKELY
            } else {
                Verdict::likely(Side::Server)
            }
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Connection>::default()
    }
}

const CONNECT: u8 = 1;
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;
const SUBSCRIBE: u8 = 8;
const SUBACK: u8 = 9;
const UNSUBSCRIBE: u8 = 10;
const UNSUBACK: u8 = 11;
const PINGREQ: u8 = 12;
const PINGRESP: u8 = 13;
const DISCONNECT: u8 = 14;
const AUTH: u8 = 15;

const NAMES: [&str; 16] = [
    "",
    "connect",
    "connack",
    "publish",
    "puback",
    "pubrec",
    "pubrel",
    "pubcomp",
    "subscribe",
    "suback",
    "unsubscribe",
    "unsuback",
    "pingreq",
    "pingresp",
    "disconnect",
    "auth",
];

/// A message and its acknowledgement, in a flow that was joined in the middle.
fn acknowledged(seen: &Seen<'_>) -> Option<Verdict> {
    let [client, server] = seen.data;
    for (side, asks, answers) in [(Side::Client, client, server), (Side::Server, server, client)] {
        let Some(Header::Whole {
            kind: PUBLISH,
            flags,
            len,
            at,
        }) = Header::read(asks)
        else {
            continue;
        };
        let body = asks.get(at..)?;
        let topic_len = match *body {
            [high, low, ..] => usize::from(u16::from_be_bytes([high, low])),
            _ => 1,
        };
        if flags & 6 == 0 || topic_len == 0 || topic_len + 4 > len {
            continue;
        }
        let mut reader = Reader::new(body);
        let (Some(topic), Some(id)) = (reader.piece16(), reader.be16()) else {
            return Some(Verdict::NeedMore);
        };
        let is_plausible = topic.iter().all(|byte| *byte >= b' ');
        let [high, low] = id.to_be_bytes();
        let answer = [if flags & 6 == 2 { 0x40 } else { 0x50 }, 2, high, low];
        if !is_plausible || !answer.starts_with(&answers[..answers.len().min(4)]) {
            continue;
        }
        return Some(match answers.len() {
            0..4 => Verdict::NeedMore,
            // Either may have published; the client's port is the higher one.
            _ if seen.ports[side.index()] > seen.ports[side.other().index()] => Verdict::likely(side),
            _ => Verdict::likely(side.other()),
        });
    }
    None
}

/// Both sides of a flow that was joined in the middle and is silent but for pings.
fn pings(seen: &Seen<'_>) -> Option<Verdict> {
    let begins = |bytes: &[u8], ping: &[u8]| ping.starts_with(&bytes[..bytes.len().min(ping.len())]);
    let [client, server] = seen.data;
    for (side, asks, answers) in [(Side::Client, client, server), (Side::Server, server, client)] {
        if begins(asks, b"\xc0\0") && begins(answers, b"\xd0\0") {
            let is_both = asks.len() > 1 && answers.len() > 1;
            return Some(if is_both {
                Verdict::likely(side)
            } else {
                Verdict::NeedMore
            });
        }
    }
    None
}

/// Whether a packet of this kind can be of this length.
fn is_plausible_len(kind: u8, len: usize) -> bool {
    match kind {
        PINGREQ | PINGRESP => len == 0,
        CONNACK | UNSUBACK | PUBACK | PUBREC | PUBREL | PUBCOMP => (2..256).contains(&len),
        SUBACK | PUBLISH => len >= 3,
        SUBSCRIBE | UNSUBSCRIBE => len >= 5,
        DISCONNECT | AUTH => len < 256,
        _ => false,
    }
}

/// What begins every packet.
enum Header {
    /// More bytes of it will come.
    Begun,
    Whole {
        kind: u8,
        flags: u8,
        /// Of the rest.
        len: usize,
        /// Where the rest begins.
        at: usize,
    },
}

impl Header {
    /// `None` if it is none.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (&first, rest) = bytes.split_first()?;
        let (kind, flags) = (first >> 4, first & 15);
        let is_ok = match kind {
            0 => false,
            // Quality of service is 0, 1 or 2. MQTT 3.1 sets it, and `dup`, where later versions have fixed bits.
            PUBLISH | SUBSCRIBE | UNSUBSCRIBE | PUBREL => flags & 6 != 6,
            _ => flags == 0,
        };
        if !is_ok {
            return None;
        }
        let mut len = 0usize;
        for (at, &byte) in rest.iter().take(4).enumerate() {
            len |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Some(Self::Whole {
                    kind,
                    flags,
                    len,
                    at: at + 2,
                });
            }
        }
        (rest.len() < 4).then_some(Self::Begun)
    }
}

/// A packet that waits for its answers.
struct Open {
    /// Who sent it, its kind and number.
    side: Side,
    kind: u8,
    id: u16,
    fields: Map<String, Value>,
}

#[derive(Default)]
struct Connection {
    /// As CONNECT says; 0 if that was not seen.
    version: u8,
    has_user: bool,
    open: Vec<Open>,
}

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let Some(header) = Header::read(rest) else {
                return Step::Broken(Anomaly::parser("malformed_traffic", Severity::Medium));
            };
            let Header::Whole { kind, flags, len, at } = header else {
                break;
            };
            let is_long = len > WHOLE_MAX;
            let wanted = if is_long { HEAD_LEN } else { len };
            let Some(body) = rest.get(at..at + wanted) else {
                break;
            };
            let packet = Packet {
                kind,
                flags,
                body,
                len,
            };
            let Some(()) = self.packet(side, &packet, out) else {
                return Step::Broken(Anomaly::parser("malformed_traffic", Severity::Medium));
            };
            taken += at + len;
        }
        Step::Take(taken as u64)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        for open in self.open.drain(..) {
            out.record_of(open.side, Record::fields("mqtt", open.fields));
        }
    }
}

struct Packet<'a> {
    kind: u8,
    flags: u8,
    /// All of it, or the head of one longer than [`WHOLE_MAX`].
    body: &'a [u8],
    len: usize,
}

impl Connection {
    fn packet(&mut self, side: Side, packet: &Packet<'_>, out: &mut Out<'_>) -> Option<()> {
        if packet.body.len() < packet.len {
            return self.long(side, packet, out);
        }
        let mut reader = Reader::new(packet.body);
        let mut message = Map::new();
        message.insert("qos".into(), (packet.flags >> 1 & 3).into());
        message.insert("retain".into(), (packet.flags & 1 != 0).into());
        message.insert("dup".into(), (packet.flags & 8 != 0).into());
        let mut id = 0;
        match packet.kind {
            CONNECT => self.connect(&mut reader, &mut message, out)?,
            CONNACK => self.connack(&mut reader, &mut message, out)?,
            PUBLISH => {
                let topic = reader.piece16()?;
                message.insert("topic".into(), eve_text(topic).into());
                if packet.flags & 6 != 0 {
                    id = reader.be16()?;
                    message.insert("message_id".into(), id.into());
                }
                self.properties(&mut reader, &mut message)?;
                message.insert("message".into(), eve_text(reader.rest()).into());
            }
            PUBACK | PUBREC | PUBREL | PUBCOMP => {
                id = reader.be16()?;
                message.insert("message_id".into(), id.into());
                self.reason(&mut reader, &mut message)?;
            }
            SUBSCRIBE | UNSUBSCRIBE => {
                id = reader.be16()?;
                message.insert("message_id".into(), id.into());
                self.properties(&mut reader, &mut message)?;
                let mut topics = Vec::new();
                while !reader.is_empty() {
                    let topic = eve_text(reader.piece16()?);
                    let topic = match packet.kind {
                        SUBSCRIBE => json!({"topic": topic, "qos": reader.u8()? & 3}),
                        _ => topic.into(),
                    };
                    if topics.len() < TOPICS_MAX {
                        topics.push(topic);
                    }
                }
                message.insert("topics".into(), topics.into());
            }
            SUBACK | UNSUBACK => {
                id = reader.be16()?;
                message.insert("message_id".into(), id.into());
                self.properties(&mut reader, &mut message)?;
                let codes = reader.rest();
                let key = if packet.kind == SUBACK {
                    "qos_granted"
                } else {
                    "reason_codes"
                };
                if packet.kind == SUBACK || !codes.is_empty() {
                    message.insert(key.into(), codes[..codes.len().min(TOPICS_MAX)].into());
                }
            }
            DISCONNECT | AUTH => {
                self.reason(&mut reader, &mut message)?;
            }
            _ => {}
        }
        self.tell(side, packet, id, message, out);
        Some(())
    }

    /// A packet of which only the head is here.
    fn long(&mut self, side: Side, packet: &Packet<'_>, out: &mut Out<'_>) -> Option<()> {
        let mut message = Map::new();
        message.insert("qos".into(), (packet.flags >> 1 & 3).into());
        message.insert("retain".into(), (packet.flags & 1 != 0).into());
        message.insert("dup".into(), (packet.flags & 8 != 0).into());
        let mut id = 0;
        if packet.kind == PUBLISH {
            let mut reader = Reader::new(packet.body);
            if let Some(topic) = reader.piece16() {
                message.insert("topic".into(), eve_text(topic).into());
                if packet.flags & 6 != 0 {
                    id = reader.be16()?;
                    message.insert("message_id".into(), id.into());
                }
            }
        }
        message.insert("truncated".into(), true.into());
        message.insert("skipped_length".into(), (packet.len - packet.body.len()).into());
        self.tell(side, packet, id, message, out);
        Some(())
    }

    fn connect(
        &mut self,
        reader: &mut Reader<'_>,
        message: &mut Map<String, Value>,
        out: &mut Out<'_>,
    ) -> Option<()> {
        let name = reader.piece16()?;
        self.version = reader.u8()?;
        let flags = reader.u8()?;
        let has = |bit: u8| flags & bit != 0;
        let _keep_alive = reader.be16()?;
        message.insert("protocol_string".into(), eve_text(name).into());
        message.insert("protocol_version".into(), self.version.into());
        let flags = json!({
            "username": has(0x80), "password": has(0x40), "will_retain": has(0x20), "will": has(4),
            "clean_session": has(2),
        });
        message.insert("flags".into(), flags);
        self.properties(reader, message)?;
        message.insert("client_id".into(), eve_text(reader.piece16()?).into());
        if has(4) {
            let mut will = Map::new();
            self.properties(reader, &mut will)?;
            will.insert("topic".into(), eve_text(reader.piece16()?).into());
            will.insert("message".into(), eve_text(reader.piece16()?).into());
            message.insert("will".into(), will.into());
        }
        if has(0x80) {
            let user = reader.piece16()?;
            message.insert("username".into(), eve_text(user).into());
            out.insight.user = Some(text(user));
            out.login(Login::Attempted);
            self.has_user = true;
        }
        if has(0x40) {
            message.insert("password".into(), eve_text(reader.piece16()?).into());
            out.insight.has_clear_credential = true;
        }
        Some(())
    }

    fn connack(
        &mut self,
        reader: &mut Reader<'_>,
        message: &mut Map<String, Value>,
        out: &mut Out<'_>,
    ) -> Option<()> {
        let flags = reader.u8()?;
        let code = reader.u8()?;
        message.insert("session_present".into(), (flags & 1 != 0).into());
        message.insert("return_code".into(), code.into());
        if self.version == 0 && !reader.is_empty() {
            self.version = 5;
        }
        self.properties(reader, message)?;
        match code {
            0 if self.has_user => out.login(Login::Succeeded),
            // Bad user name or password, not authorized; version 5 also: bad authentication method, banned.
            4 | 5 | 0x86 | 0x87 | 0x8a | 0x8c => out.login(Login::Failed),
            _ => {}
        }
        Some(())
    }

    /// Reason and properties that end a packet of version 5, and may be left out there.
    fn reason(&self, reader: &mut Reader<'_>, message: &mut Map<String, Value>) -> Option<()> {
        if self.version < 5 {
            return Some(());
        }
        message.insert("reason_code".into(), reader.u8().unwrap_or(0).into());
        if reader.is_empty() {
            return Some(());
        }
        self.properties(reader, message)
    }

    fn properties(&self, reader: &mut Reader<'_>, message: &mut Map<String, Value>) -> Option<()> {
        if self.version >= 5 {
            let properties = properties(reader)?;
            if !properties.is_empty() {
                message.insert("properties".into(), properties.into());
            }
        }
        Some(())
    }

    /// Puts a packet into the exchange it belongs to, and tells the exchange once it is complete.
    fn tell(
        &mut self,
        side: Side,
        packet: &Packet<'_>,
        id: u16,
        message: Map<String, Value>,
        out: &mut Out<'_>,
    ) {
        let kind = packet.kind;
        // The kind of the packet that opened the exchange, and who sent it.
        let (opener, by) = match kind {
            CONNACK => (CONNECT, side.other()),
            PUBACK | PUBREC | PUBCOMP => (PUBLISH, side.other()),
            PUBREL => (PUBLISH, side),
            SUBACK => (SUBSCRIBE, side.other()),
            UNSUBACK => (UNSUBSCRIBE, side.other()),
            PINGRESP => (PINGREQ, side.other()),
            _ => (kind, side),
        };
        let is_open = |open: &Open| open.kind == opener && open.side == by && open.id == id;
        let found = if opener == kind {
            None
        } else {
            self.open.iter().position(is_open)
        };
        let mut exchange = match found {
            Some(at) => self.open.remove(at),
            None => Open {
                side: by,
                kind: opener,
                id,
                fields: Map::new(),
            },
        };
        exchange
            .fields
            .insert(NAMES[usize::from(kind)].into(), message.into());
        let has_answer = match kind {
            CONNECT | SUBSCRIBE | UNSUBSCRIBE | PINGREQ | PUBREC | PUBREL => true,
            PUBLISH => packet.flags & 6 != 0,
            _ => false,
        };
        if has_answer {
            if self.open.len() >= OPEN_MAX {
                let oldest = self.open.remove(0);
                out.record_of(oldest.side, Record::fields("mqtt", oldest.fields));
            }
            self.open.push(exchange);
        } else {
            out.record_of(exchange.side, Record::fields("mqtt", exchange.fields));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::insight::Insight;
    use crate::layer7::kit;

    const CONNECT: &[u8] = b"\x10\x1a\0\x04MQTT\x04\xc2\0\x3c\0\x02id\0\x04user\0\x04pass";

    fn connect(answer: &serde_json::Value) -> serde_json::Value {
        json!({
            "connect": {"qos": 0, "retain": false, "dup": false, "protocol_string": "MQTT",
                "protocol_version": 4, "client_id": "id", "username": "user", "password": "pass",
                "flags": {"username": true, "password": true, "will": false, "will_retain": false,
                    "clean_session": true}},
            "connack": answer,
        })
    }

    #[test]
    fn an_exchange_is_one_record() {
        let said: &[(usize, &[u8])] = &[
            (0, CONNECT),
            (1, b"\x20\x02\0\0"),
            (0, b"\x32\x07\0\x01t\0\x09hi\xc0\0"),
            (1, b"\x40\x02\0\x09\xd0\0"),
            (0, b"\x82\x06\0\x02\0\x01t\x01\xe0\0"),
        ];
        let flags = |qos: u8| json!({"qos": qos, "retain": false, "dup": false});
        let with = |qos: u8, more: serde_json::Value| {
            let mut flags = flags(qos);
            for (key, value) in more.as_object().expect("object") {
                flags[key] = value.clone();
            }
            flags
        };
        let expected = [
            (
                "mqtt",
                connect(&with(0, json!({"session_present": false, "return_code": 0}))),
            ),
            (
                "mqtt",
                json!({"publish": with(1, json!({"topic": "t", "message_id": 9, "message": "hi"})),
                    "puback": with(0, json!({"message_id": 9}))}),
            ),
            ("mqtt", json!({"pingreq": flags(0), "pingresp": flags(0)})),
            ("mqtt", json!({"disconnect": flags(0)})),
            // Never answered: told at the end.
            (
                "mqtt",
                json!({"subscribe": with(1, json!({"message_id": 2, "topics": [{"topic": "t", "qos": 1}]}))}),
            ),
        ];
        kit::check_stream(said, Some("mqtt"), &expected);
    }

    #[test]
    fn log_ins() {
        let check = |answer: &[u8], expected: [u16; 3]| {
            let Insight {
                user,
                has_clear_credential,
                logins_attempted,
                logins_succeeded,
                logins_failed,
                ..
            } = kit::stream(&[(0, CONNECT), (1, answer)]).insight;
            assert_eq!(user.as_deref(), Some("user"));
            assert!(has_clear_credential);
            assert_eq!([logins_attempted, logins_succeeded, logins_failed], expected);
        };
        check(b"\x20\x02\0\0", [1, 1, 0]);
        check(b"\x20\x02\0\x05", [1, 0, 1]);
        check(b"\x20\x02\0\x03", [1, 0, 0]);
    }

    #[test]
    fn properties_of_version_5() {
        let said: &[(usize, &[u8])] = &[
            (0, b"\x10\x13\0\x04MQTT\x05\x02\0\x3c\x03\x21\0\x14\0\x03abc"),
            (1, b"\x20\x06\0\0\x03\x22\0\x0a"),
            (0, b"\xe0\x0a\x04\x08\x26\0\x01k\0\x02vv"),
        ];
        let outcome = kit::stream(said);
        let bodies = outcome.bodies();
        assert_eq!(
            bodies[0].1["connect"]["properties"],
            json!({"receive_maximum": 20})
        );
        assert_eq!(
            bodies[0].1["connack"]["properties"],
            json!({"topic_alias_maximum": 10})
        );
        assert_eq!(bodies[1].1["disconnect"]["reason_code"], 4);
        assert_eq!(bodies[1].1["disconnect"]["properties"], json!({"k": "vv"}));
        kit::check_cuts(said);
    }

    #[test]
    fn a_long_message_is_told_by_its_head() {
        let mut publish = b"\x30\x84\x80\x04\0\x01t".to_vec();
        publish.resize(4 + 65_540, b'x');
        publish.extend(b"\xe0\0");
        let outcome = kit::stream(&[(0, CONNECT), (1, b"\x20\x02\0\0"), (0, &publish)]);
        let bodies = outcome.bodies();
        assert_eq!(bodies[1].1["publish"]["topic"], "t");
        assert_eq!(bodies[1].1["publish"]["truncated"], true);
        assert!(bodies[2].1["disconnect"].is_object());
    }

    #[test]
    fn pings_alone() {
        let flags = json!({"qos": 0, "retain": false, "dup": false});
        let ping = json!({"pingreq": flags, "pingresp": flags});
        kit::check_stream(&[(0, b"\xc0\0"), (1, b"\xd0\0")], Some("mqtt"), &[("mqtt", ping)]);
        assert_eq!(
            kit::stream(&[(1, b"\xd0\0"), (0, b"\xc0\0")]).insight.app,
            Some("mqtt")
        );
        kit::check_stream(&[(0, b"\xc0\0"), (1, b"\xd0\x01")], None, &[]);
    }

    #[test]
    fn a_message_and_its_acknowledgement_alone() {
        let said: &[kit::Said<'_>] = &[(1, b"\x32\x07\0\x01t\x12\x34hi"), (0, b"\x40\x02\x12\x34")];
        assert_eq!(kit::stream(said).insight.app, Some("mqtt"));
        kit::check_cuts(said);
        let other: &[kit::Said<'_>] = &[said[0], (0, b"\x40\x02\x12\x35")];
        assert_eq!(kit::stream(other).insight.app, None);
    }

    #[test]
    fn not_mqtt() {
        kit::check_stream(&[(0, b"\x10\x0c\0\x04MQTX\x04\x02\0\x3c\0\0")], None, &[]);
        kit::check_stream(&[(1, b"\x20\x02\0\0")], None, &[]);
    }
}
