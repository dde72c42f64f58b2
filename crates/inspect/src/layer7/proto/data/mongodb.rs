//! MongoDB wire protocol (`OP_MSG`, `OP_QUERY` and their kin).

use serde_json::{Map, Value};

use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::{Reader, eve_text};
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Mongodb;

const HEADER_LEN: usize = 16;
/// No server takes a longer message.
const MESSAGE_LEN_MAX: u32 = 48_000_000;
/// Bytes of a message that are looked at; what is behind them is skipped.
const HEAD_LEN_MAX: usize = 2048;
/// Commands that may wait for their replies.
const PENDING_MAX: usize = 64;

const OP_REPLY: u32 = 1;
const OP_QUERY: u32 = 2004;
const OP_COMPRESSED: u32 = 2012;
const OP_MSG: u32 = 2013;

impl Protocol for Mongodb {
    fn name(&self) -> &'static str {
        "mongodb"
    }

    fn ports(&self) -> &'static [u16] {
        &[27017]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        seen.opened_by_either(|bytes| {
            // The length's highest byte, which is last.
            if bytes.get(3).is_some_and(|&high| high > 2) || bytes.get(14).is_some_and(|&high| high != 0) {
                return Verdict::No;
            }
            let Some(header) = Header::read(bytes) else {
                return if bytes.len() < HEADER_LEN {
                    Verdict::NeedMore
                } else {
                    Verdict::No
                };
            };
            let body = &bytes[HEADER_LEN..];
            let is_reply = header.op == OP_REPLY || header.response_to != 0 && header.op == OP_MSG;
            let is_fitting = match header.op {
                // Flags of four kinds, a cursor, and how many documents there are.
                OP_REPLY => {
                    header.response_to != 0
                        && header.len >= 36
                        && body.first().is_none_or(|flags| *flags < 16)
                        && body.get(1..4).is_none_or(|flags| flags == [0; 3])
                }
                // Flags, then a section: a document or several.
                OP_MSG => {
                    header.len > 21
                        && body.first().is_none_or(|flags| *flags < 4)
                        && body.get(1).is_none_or(|flags| *flags == 0)
                        && body.get(4).is_none_or(|kind| *kind < 2)
                }
                OP_COMPRESSED => body.get(8).is_none_or(|kind| *kind < 4),
                // Flags or a zero, then for most the collection's name.
                _ => header.len >= 24 && body.get(2..4).is_none_or(|flags| flags == [0; 2]),
            };
            let wanted = if header.op == OP_COMPRESSED { 9 } else { 5 };
            match is_fitting {
                false => Verdict::No,
                true if body.len() < wanted => Verdict::NeedMore,
                true => Verdict::certain(if is_reply { Side::Server } else { Side::Client }),
            }
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Connection>::default()
    }
}

struct Header {
    len: u32,
    id: u32,
    response_to: u32,
    op: u32,
}

impl Header {
    /// `None` if it is none.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let header = Self {
            len: reader.le32()?,
            id: reader.le32()?,
            response_to: reader.le32()?,
            op: reader.le32()?,
        };
        let is_op = matches!(header.op, OP_REPLY | 2001 | 2002 | 2004..=2007 | 2010..=2013);
        (is_op && (HEADER_LEN as u32..=MESSAGE_LEN_MAX).contains(&header.len)).then_some(header)
    }
}

struct Command {
    id: u32,
    is_login: bool,
    fields: Map<String, Value>,
}

#[derive(Default)]
struct Connection {
    pending: Vec<Command>,
}

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut taken = 0u64;
        while let Some(rest) = bytes
            .get(taken as usize..)
            .filter(|rest| rest.len() >= HEADER_LEN)
        {
            let Some(header) = Header::read(rest) else {
                return Step::Broken(Anomaly::parser("malformed_message", Severity::Medium));
            };
            let Some(head) = rest.get(HEADER_LEN..(header.len as usize).min(HEAD_LEN_MAX)) else {
                break;
            };
            match side {
                Side::Client => self.request(&header, head, out),
                Side::Server => self.reply(&header, head, out),
            }
            taken += u64::from(header.len);
        }
        Step::Take(taken)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        for command in self.pending.drain(..) {
            out.record_of(Side::Client, Record::fields("mongodb", command.fields));
        }
    }
}

impl Connection {
    fn request(&mut self, header: &Header, body: &[u8], out: &mut Out<'_>) {
        let mut fields = Map::new();
        let name = match header.op {
            2001 => "update",
            2002 => "insert",
            OP_QUERY => "query",
            2005 => "get_more",
            2006 => "delete",
            2007 => "kill_cursors",
            OP_COMPRESSED => "compressed",
            _ => "msg",
        };
        fields.insert("operation".into(), name.into());
        let mut is_login = false;
        if let Some(document) = document(header.op, body, &mut fields) {
            for (at, element) in Elements::of(document).enumerate() {
                if at == 0 && (header.op != OP_QUERY || is_command(&fields)) {
                    fields.insert("command".into(), eve_text(element.name).into());
                    if let Kind::Text(value) = element.kind {
                        fields.insert("collection".into(), eve_text(value).into());
                    }
                    is_login = matches!(element.name, b"saslStart" | b"saslContinue" | b"authenticate");
                    if matches!(element.name, b"saslStart" | b"authenticate") {
                        out.login(Login::Attempted);
                    }
                }
                match (element.name, element.kind) {
                    (b"$db", Kind::Text(value)) => {
                        fields.insert("database".into(), eve_text(value).into());
                    }
                    (b"mechanism", Kind::Text(value)) if is_login => {
                        fields.insert("mechanism".into(), eve_text(value).into());
                        out.insight.has_clear_credential |= value == b"PLAIN";
                    }
                    (b"user", Kind::Text(value)) if is_login => out.insight.user = Some(text(value)),
                    // SCRAM's first message: `n,,n=bob,r=...`.
                    (b"payload", Kind::Binary(value)) if is_login => {
                        let user = value
                            .split(|&byte| byte == b',')
                            .find_map(|part| part.strip_prefix(b"n="));
                        if let Some(user) = user {
                            out.insight.user = Some(text(user));
                        }
                    }
                    _ => {}
                }
            }
        }
        if self.pending.len() >= PENDING_MAX {
            let oldest = self.pending.remove(0);
            out.record_of(Side::Client, Record::fields("mongodb", oldest.fields));
        }
        self.pending.push(Command {
            id: header.id,
            is_login,
            fields,
        });
    }

    fn reply(&mut self, header: &Header, body: &[u8], out: &mut Out<'_>) {
        let is_of = |command: &Command| command.id == header.response_to;
        let Some(at) = self.pending.iter().position(is_of) else {
            return;
        };
        let mut command = self.pending.remove(at);
        let mut is_done = false;
        if let Some(document) = document(header.op, body, &mut Map::new()) {
            for element in Elements::of(document) {
                match (element.name, element.kind) {
                    (b"ok", Kind::Number(ok)) => {
                        let status = if ok == 0.0 { "error" } else { "ok" };
                        command.fields.insert("status".into(), status.into());
                        if command.is_login && ok == 0.0 {
                            out.login(Login::Failed);
                        }
                    }
                    (b"errmsg", Kind::Text(value)) => {
                        command.fields.insert("error".into(), eve_text(value).into());
                    }
                    (b"code", Kind::Number(code)) => {
                        command.fields.insert("error_code".into(), (code as i64).into());
                    }
                    (b"done", Kind::Truth(value)) => is_done = value,
                    _ => {}
                }
            }
        }
        if command.is_login && is_done {
            out.login(Login::Succeeded);
        }
        out.record_of(Side::Client, Record::fields("mongodb", command.fields));
    }
}

/// A query of the collection `$cmd` is a command.
fn is_command(fields: &Map<String, Value>) -> bool {
    let collection = fields.get("collection").and_then(Value::as_str);
    collection.is_some_and(|collection| collection.ends_with(".$cmd"))
}

/// The first document of a message.
fn document<'a>(op: u32, body: &'a [u8], fields: &mut Map<String, Value>) -> Option<&'a [u8]> {
    let mut reader = Reader::new(body);
    match op {
        OP_MSG => {
            let _flags = reader.le32()?;
            // A document sequence may stand first; the command is the section of kind 0.
            while reader.u8()? != 0 {
                let len = reader.le32()?;
                reader.skip((len as usize).checked_sub(4)?)?;
            }
        }
        OP_QUERY => {
            let _flags = reader.le32()?;
            fields.insert("collection".into(), eve_text(reader.until(0)?).into());
            reader.skip(8)?;
        }
        OP_REPLY => reader.skip(20)?,
        2001 | 2002 | 2005 | 2006 => {
            let _zero = reader.le32()?;
            fields.insert("collection".into(), eve_text(reader.until(0)?).into());
            return None;
        }
        _ => return None,
    }
    Some(reader.rest())
}

/// What a BSON element holds, as far as it is of interest.
enum Kind<'a> {
    Text(&'a [u8]),
    Binary(&'a [u8]),
    Number(f64),
    Truth(bool),
    Other,
}

struct Element<'a> {
    name: &'a [u8],
    kind: Kind<'a>,
}

/// The elements of a BSON document, without those inside of them.
struct Elements<'a>(Reader<'a>);

impl<'a> Elements<'a> {
    fn of(document: &'a [u8]) -> Self {
        let mut reader = Reader::new(document);
        let _len = reader.le32();
        Self(reader)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let reader = &mut self.0;
        let kind = reader.u8().filter(|&kind| kind != 0)?;
        let name = reader.until(0)?;
        let kind = match kind {
            0x01 => Kind::Number(f64::from_bits(reader.le64()?)),
            0x02 | 0x0d | 0x0e => {
                let len = reader.le32()?;
                let text = reader.take(len as usize)?;
                Kind::Text(text.strip_suffix(b"\0").unwrap_or(text))
            }
            0x03 | 0x04 => {
                let len = reader.le32()?;
                reader.skip((len as usize).checked_sub(4)?)?;
                Kind::Other
            }
            0x05 => {
                let len = reader.le32()?;
                let _subtype = reader.u8()?;
                Kind::Binary(reader.take(len as usize)?)
            }
            0x07 => {
                reader.skip(12)?;
                Kind::Other
            }
            0x08 => Kind::Truth(reader.u8()? != 0),
            0x09 | 0x11 => {
                reader.skip(8)?;
                Kind::Other
            }
            0x0a | 0x06 | 0x7f | 0xff => Kind::Other,
            0x10 => Kind::Number(f64::from(reader.le32()? as i32)),
            0x12 => Kind::Number(reader.le64()? as i64 as f64),
            0x13 => {
                reader.skip(16)?;
                Kind::Other
            }
            _ => return None,
        };
        Some(Element { name, kind })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    fn message(id: u8, response_to: u8, op: u32, body: &[u8]) -> Vec<u8> {
        let mut message = (16 + body.len() as u32).to_le_bytes().to_vec();
        message.extend([id, 0, 0, 0, response_to, 0, 0, 0]);
        message.extend(op.to_le_bytes());
        message.extend_from_slice(body);
        message
    }

    #[test]
    fn a_command_and_its_reply() {
        let find = b"\0\0\0\0\0\x21\0\0\0\x02find\0\x02\0\0\0c\0\x02$db\0\x05\0\0\0test\0\0";
        let reply = b"\0\0\0\0\0\x11\0\0\0\x01ok\0\0\0\0\0\0\0\xf0\x3f\0";
        let said: &[Said<'_>] = &[(0, &message(7, 0, 2013, find)), (1, &message(9, 7, 2013, reply))];
        let expected = json!({"operation": "msg", "command": "find", "collection": "c", "database": "test",
            "status": "ok"});
        kit::check_stream(said, Some("mongodb"), &[("mongodb", expected)]);
    }

    #[test]
    fn a_failed_log_in() {
        let start = b"\0\0\0\0\0\0\0\0\0\x10saslStart\0\x01\0\0\0\x02mechanism\0\x0e\0\0\0SCRAM-SHA-256\0\x05payload\0\x0c\0\0\0\0n,,n=bob,r=x\0";
        let reply =
            b"\0\0\0\0\0\0\0\0\0\x01ok\0\0\0\0\0\0\0\0\0\x02errmsg\0\x03\0\0\0no\0\x10code\0\x12\0\0\0\0";
        let said: &[Said<'_>] = &[(0, &message(7, 0, 2013, start)), (1, &message(9, 7, 2013, reply))];
        let insight = kit::stream(said).insight;
        assert_eq!(insight.user.as_deref(), Some("bob"));
        assert_eq!(
            [
                insight.logins_attempted,
                insight.logins_succeeded,
                insight.logins_failed
            ],
            [1, 0, 1]
        );
        kit::check_cuts(said);
    }

    #[test]
    fn not_mongodb() {
        kit::check_stream(&[(0, &message(1, 0, 999, b""))], None, &[]);
        // Skinny counts its bytes in the same place.
        kit::check_stream(
            &[(
                0,
                b"\x14\0\0\0\x14\0\0\0\x85\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0",
            )],
            None,
            &[],
        );
        kit::check_stream(&[(0, b"\x10\0\0\x40\0\0\0\0\0\0\0\0\xdd\x07\0\0")], None, &[]);
    }
}
