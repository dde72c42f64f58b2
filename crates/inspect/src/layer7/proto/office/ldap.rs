//! LDAP (RFC 4511) over TCP, and its connectionless kin over UDP ([MS-ADTS] 3.1.1.3).

use serde_json::{Map, Value, json};

use super::ber::{ENUMERATED, Element, Elements, Extent, INTEGER, OCTETS, SEQUENCE, extent, integer};
use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::eve_text;
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Ldap;

/// Messages longer than this are skipped.
const MESSAGE_MAX: usize = 64 * 1024;
/// Requests that may be open at once, and responses and values told of each.
const OPEN_MAX: usize = 64;
const RESPONSES_MAX: usize = 32;
const VALUES_MAX: usize = 32;

const BIND: u8 = 0x60;
const BIND_RESPONSE: u8 = 0x61;
const UNBIND: u8 = 0x42;
const SEARCH: u8 = 0x63;
const ENTRY: u8 = 0x64;
const MODIFY: u8 = 0x66;
const ADD: u8 = 0x68;
const DELETE: u8 = 0x4a;
const MODIFY_DN: u8 = 0x6c;
const COMPARE: u8 = 0x6e;
const ABANDON: u8 = 0x50;
const REFERENCE: u8 = 0x73;
const EXTENDED: u8 = 0x77;
const EXTENDED_RESPONSE: u8 = 0x78;
const INTERMEDIATE: u8 = 0x79;

const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

/// Name of an operation as EVE has it, and whether a server sends it.
fn operation(tag: u8) -> Option<(&'static str, bool)> {
    Some(match tag {
        BIND => ("bind_request", false),
        BIND_RESPONSE => ("bind_response", true),
        UNBIND => ("unbind_request", false),
        SEARCH => ("search_request", false),
        ENTRY => ("search_result_entry", true),
        0x65 => ("search_result_done", true),
        MODIFY => ("modify_request", false),
        0x67 => ("modify_response", true),
        ADD => ("add_request", false),
        0x69 => ("add_response", true),
        DELETE => ("del_request", false),
        0x6b => ("del_response", true),
        MODIFY_DN => ("mod_dn_request", false),
        0x6d => ("mod_dn_response", true),
        COMPARE => ("compare_request", false),
        0x6f => ("compare_response", true),
        ABANDON => ("abandon_request", false),
        REFERENCE => ("search_result_reference", true),
        EXTENDED => ("extended_request", false),
        EXTENDED_RESPONSE => ("extended_response", true),
        INTERMEDIATE => ("intermediate_response", true),
        _ => return None,
    })
}

impl Protocol for Ldap {
    fn name(&self) -> &'static str {
        "ldap"
    }

    fn ports(&self) -> &'static [u16] {
        &[389, 3268]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Tcp | Transport::Udp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        seen.opened_by_either(|bytes| {
            if bytes[0] != SEQUENCE {
                return Verdict::No;
            }
            let (head, len) = match extent(bytes) {
                Extent::No => return Verdict::No,
                Extent::NeedMore => return Verdict::NeedMore,
                Extent::Known { head, body } => (head, body),
            };
            let body = &bytes[head..bytes.len().min(head.saturating_add(len))];
            match *body {
                [] => return Verdict::NeedMore,
                [INTEGER] => return Verdict::NeedMore,
                [INTEGER, 1..=4, ..] => {}
                _ => return Verdict::No,
            }
            let id_len = usize::from(body[1]);
            let Some(rest) = body.get(2 + id_len..).filter(|rest| !rest.is_empty()) else {
                return if body.len() < len {
                    Verdict::NeedMore
                } else {
                    Verdict::No
                };
            };
            let Some((_, is_of_server)) = operation(rest[0]) else {
                return Verdict::No;
            };
            let (op_head, op_len) = match extent(rest) {
                Extent::No => return Verdict::No,
                Extent::NeedMore => return Verdict::NeedMore,
                Extent::Known { head, body } => (head, body),
            };
            if 2 + id_len + op_head + op_len > len || (rest[0] == UNBIND && op_len != 0) {
                return Verdict::No;
            }
            let client = if is_of_server { Side::Server } else { Side::Client };
            match (rest[0], rest.get(op_head)) {
                (BIND, Some(&INTEGER)) | (SEARCH | ENTRY, Some(&OCTETS)) => Verdict::certain(client),
                (BIND | SEARCH | ENTRY, Some(_)) => Verdict::No,
                (BIND | SEARCH | ENTRY, None) => Verdict::NeedMore,
                (EXTENDED, Some(0x80)) | (BIND_RESPONSE, Some(&ENUMERATED)) => Verdict::certain(client),
                _ => Verdict::likely(client),
            }
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Connection>::default()
    }
}

struct Open {
    id: i64,
    tag: u8,
    request: Map<String, Value>,
    responses: Vec<Value>,
    is_start_tls: bool,
    /// A log-in with a name.
    is_login: bool,
}

#[derive(Default)]
struct Connection {
    /// By side: whether a message was read, so that what is none is protected rather than nonsense.
    has_read: [bool; 2],
    open: Vec<Open>,
}

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut taken = 0u64;
        while let Some(rest) = bytes.get(taken as usize..).filter(|rest| !rest.is_empty()) {
            if rest[0] != SEQUENCE {
                // Protected by SASL from here on, or nonsense.
                return if !self.has_read[side.index()] && out.insight.logins_attempted == 0 {
                    Step::Broken(Anomaly::parser("invalid_data", Severity::Medium))
                } else {
                    Step::Done
                };
            }
            let (head, body) = match extent(rest) {
                Extent::No => return Step::Broken(Anomaly::parser("invalid_data", Severity::Medium)),
                Extent::NeedMore => break,
                Extent::Known { head, body } => (head, body),
            };
            if body <= MESSAGE_MAX {
                let Some(message) = rest.get(head..head + body) else {
                    break;
                };
                let mut elements = Elements(message);
                let parsed = elements.integer().and_then(|id| Some((id, elements.next()?)));
                let is_tls = parsed.and_then(|(id, element)| self.message(id, element, out));
                match is_tls {
                    None => out.anomaly(Anomaly::parser("invalid_data", Severity::Low)),
                    Some(true) => {
                        let taken = taken as usize + head + body;
                        return Step::Switch { taken, to: None };
                    }
                    Some(false) => {}
                }
            }
            self.has_read[side.index()] = true;
            taken += (head + body) as u64;
        }
        Step::Take(taken)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        for open in self.open.drain(..) {
            tell(open, out);
        }
    }
}

fn tell(open: Open, out: &mut Out<'_>) {
    let mut fields = Map::new();
    if !open.request.is_empty() {
        fields.insert("request".into(), open.request.into());
    }
    if !open.responses.is_empty() {
        fields.insert("responses".into(), open.responses.into());
    }
    out.record_of(Side::Client, Record::fields("ldap", fields));
}

impl Connection {
    /// Whether TLS begins behind it; `None` if it cannot be read.
    fn message(&mut self, id: i64, element: Element<'_>, out: &mut Out<'_>) -> Option<bool> {
        let (name, is_of_server) = operation(element.tag)?;
        let mut fields = Map::new();
        fields.insert("operation".into(), name.into());
        let body = if is_of_server {
            response(element)?
        } else {
            request(element)?
        };
        if !body.is_empty() {
            fields.insert(name.into(), body.into());
        }
        if !is_of_server {
            self.request(id, element, fields, out);
            return Some(false);
        }
        fields.insert("message_id".into(), id.into());
        let at = match self.open.iter().position(|open| open.id == id) {
            Some(at) => at,
            None => {
                self.open.push(Open {
                    id,
                    tag: 0,
                    request: Map::new(),
                    responses: Vec::new(),
                    is_start_tls: false,
                    is_login: false,
                });
                self.open.len() - 1
            }
        };
        let open = &mut self.open[at];
        if open.responses.len() < RESPONSES_MAX {
            open.responses.push(fields.into());
        }
        let code = element.inner().expect(ENUMERATED).and_then(integer);
        match (open.tag, element.tag, code) {
            // SASL goes on.
            (BIND, BIND_RESPONSE, Some(14)) | (_, ENTRY | REFERENCE | INTERMEDIATE, _) => {}
            (BIND, BIND_RESPONSE, Some(code)) if open.is_login => {
                out.login(if code == 0 {
                    Login::Succeeded
                } else {
                    Login::Failed
                });
            }
            _ => {}
        }
        if matches!(element.tag, ENTRY | REFERENCE | INTERMEDIATE) {
            return Some(false);
        }
        let open = self.open.remove(at);
        let is_tls = open.is_start_tls && element.tag == EXTENDED_RESPONSE && code == Some(0);
        tell(open, out);
        Some(is_tls)
    }

    fn request(&mut self, id: i64, element: Element<'_>, mut fields: Map<String, Value>, out: &mut Out<'_>) {
        fields.insert("message_id".into(), id.into());
        let mut is_login = false;
        if element.tag == BIND {
            let mut inner = element.inner();
            let _version = inner.integer();
            let name = inner.expect(OCTETS).unwrap_or_default();
            match inner.next() {
                // A password.
                Some(Element { tag: 0x80, body }) if !body.is_empty() => {
                    out.insight.has_clear_credential = true;
                    is_login = true;
                }
                Some(Element { tag: 0xa3, .. }) => is_login = true,
                _ => {}
            }
            if is_login {
                out.login(Login::Attempted);
                if !name.is_empty() {
                    out.insight.user = Some(text(name));
                }
            }
        }
        let is_start_tls = element.tag == EXTENDED && element.inner().expect(0x80) == Some(START_TLS);
        if self.open.len() >= OPEN_MAX {
            let oldest = self.open.remove(0);
            tell(oldest, out);
        }
        let open = Open {
            id,
            tag: element.tag,
            request: fields,
            responses: Vec::new(),
            is_start_tls,
            is_login,
        };
        // These are not answered.
        if matches!(element.tag, UNBIND | ABANDON) {
            tell(open, out);
        } else {
            self.open.push(open);
        }
    }
}

/// What a request asks for.
fn request(element: Element<'_>) -> Option<Map<String, Value>> {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| {
        fields.insert(key.into(), value);
    };
    let mut inner = element.inner();
    match element.tag {
        BIND => {
            put("version", inner.integer()?.into());
            put("name", eve_text(inner.expect(OCTETS)?).into());
            if let Some(Element { tag: 0xa3, body }) = inner.next() {
                let mechanism = eve_text(Elements(body).expect(OCTETS)?);
                put("sasl", json!({ "mechanism": mechanism }));
            }
        }
        SEARCH => {
            put("base_object", eve_text(inner.expect(OCTETS)?).into());
            put("scope", integer(inner.expect(ENUMERATED)?).into());
            put("deref_alias", integer(inner.expect(ENUMERATED)?).into());
            put("size_limit", inner.integer()?.into());
            put("time_limit", inner.integer()?.into());
            let types_only = inner.next()?;
            put(
                "types_only",
                types_only.body.first().is_some_and(|&byte| byte != 0).into(),
            );
            let _filter = inner.next()?;
            if let Some(names) = inner.expect(SEQUENCE) {
                put("attributes", texts(names).into());
            }
        }
        MODIFY => {
            put("object", eve_text(inner.expect(OCTETS)?).into());
            let mut changes = Vec::new();
            for change in Elements(inner.expect(SEQUENCE)?).take(VALUES_MAX) {
                let mut change = change.inner();
                let operation = match integer(change.expect(ENUMERATED)?)? {
                    0 => "add",
                    1 => "delete",
                    2 => "replace",
                    3 => "increment",
                    _ => "unknown",
                };
                let (name, values) = attribute(change.expect(SEQUENCE)?)?;
                let modification = json!({"attribute_type": name, "attribute_values": values});
                changes.push(json!({"operation": operation, "modification": modification}));
            }
            put("changes", changes.into());
        }
        ADD => {
            put("entry", eve_text(inner.expect(OCTETS)?).into());
            put("attributes", attributes(inner.expect(SEQUENCE)?, "values")?);
        }
        DELETE => put("dn", eve_text(element.body).into()),
        MODIFY_DN => {
            put("entry", eve_text(inner.expect(OCTETS)?).into());
            put("new_rdn", eve_text(inner.expect(OCTETS)?).into());
            let delete = inner.next()?;
            put(
                "delete_old_rdn",
                delete.body.first().is_some_and(|&byte| byte != 0).into(),
            );
            if let Some(superior) = inner.expect(0x80) {
                put("new_superior", eve_text(superior).into());
            }
        }
        COMPARE => {
            put("entry", eve_text(inner.expect(OCTETS)?).into());
            let mut assertion = Elements(inner.expect(SEQUENCE)?);
            let description = eve_text(assertion.expect(OCTETS)?);
            let value = eve_text(assertion.expect(OCTETS)?);
            put(
                "attribute_value_assertion",
                json!({"description": description, "value": value}),
            );
        }
        ABANDON => put("message_id", integer(element.body)?.into()),
        EXTENDED => {
            put("name", eve_text(inner.expect(0x80)?).into());
            if let Some(value) = inner.expect(0x81) {
                put("value", eve_text(value).into());
            }
        }
        _ => {}
    }
    Some(fields)
}

fn response(element: Element<'_>) -> Option<Map<String, Value>> {
    let mut fields = Map::new();
    let mut inner = element.inner();
    match element.tag {
        ENTRY => {
            fields.insert("base_object".into(), eve_text(inner.expect(OCTETS)?).into());
            fields.insert(
                "attributes".into(),
                attributes(inner.expect(SEQUENCE)?, "values")?,
            );
        }
        REFERENCE => {
            fields.insert("uris".into(), texts(element.body).into());
        }
        INTERMEDIATE => {}
        _ => {
            let code = integer(inner.expect(ENUMERATED)?)?;
            fields.insert("result_code".into(), result_name(code).into());
            fields.insert("matched_dn".into(), eve_text(inner.expect(OCTETS)?).into());
            fields.insert("message".into(), eve_text(inner.expect(OCTETS)?).into());
            for Element { tag, body } in inner {
                match (element.tag, tag) {
                    (EXTENDED_RESPONSE, 0x8a) => {
                        fields.insert("name".into(), eve_text(body).into());
                    }
                    (EXTENDED_RESPONSE, 0x8b) => {
                        fields.insert("value".into(), eve_text(body).into());
                    }
                    _ => {}
                }
            }
        }
    }
    Some(fields)
}

/// A type and its values.
fn attribute(body: &[u8]) -> Option<(String, Vec<String>)> {
    let mut inner = Elements(body);
    let name = eve_text(inner.expect(OCTETS)?);
    let values = inner.expect(0x31).unwrap_or_default();
    Some((name, texts(values)))
}

fn attributes(body: &[u8], key: &str) -> Option<Value> {
    let mut told = Vec::new();
    for element in Elements(body).take(VALUES_MAX) {
        let (name, values) = attribute(element.body)?;
        told.push(json!({"name": name, key: values}));
    }
    Some(told.into())
}

fn texts(body: &[u8]) -> Vec<String> {
    Elements(body)
        .take(VALUES_MAX)
        .map(|element| eve_text(element.body))
        .collect()
}

fn result_name(code: i64) -> String {
    match code {
        0 => "success",
        1 => "operations_error",
        2 => "protocol_error",
        3 => "time_limit_exceeded",
        4 => "size_limit_exceeded",
        5 => "compare_false",
        6 => "compare_true",
        7 => "auth_method_not_supported",
        8 => "stronger_auth_required",
        10 => "referral",
        11 => "admin_limit_exceeded",
        12 => "unavailable_critical_extension",
        13 => "confidentiality_required",
        14 => "sasl_bind_in_progress",
        16 => "no_such_attribute",
        17 => "undefined_attribute_type",
        18 => "inappropriate_matching",
        19 => "constraint_violation",
        20 => "attribute_or_value_exists",
        21 => "invalid_attribute_syntax",
        32 => "no_such_object",
        33 => "alias_problem",
        34 => "invalid_dn_syntax",
        36 => "alias_dereferencing_problem",
        48 => "inappropriate_authentication",
        49 => "invalid_credentials",
        50 => "insufficient_access_rights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwilling_to_perform",
        54 => "loop_detect",
        64 => "naming_violation",
        65 => "object_class_violation",
        66 => "not_allowed_on_non_leaf",
        67 => "not_allowed_on_rdn",
        68 => "entry_already_exists",
        69 => "object_class_mods_prohibited",
        71 => "affects_multiple_dsas",
        80 => "other",
        _ => return format!("unknown-{code}"),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    const BIND: &[u8] = b"\x30\x12\x02\x01\x01\x60\x0d\x02\x01\x03\x04\x04cn=x\x80\x02pw";

    #[test]
    fn log_ins() {
        let check = |code: u8, expected: [u16; 3], name: &str| {
            let answer = [
                b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01",
                &[code][..],
                b"\x04\0\x04\0",
            ]
            .concat();
            let said: &[Said<'_>] = &[(0, BIND), (1, &answer)];
            let insight = kit::stream(said).insight;
            assert_eq!(insight.user.as_deref(), Some("cn=x"));
            assert!(insight.has_clear_credential);
            assert_eq!(
                [
                    insight.logins_attempted,
                    insight.logins_succeeded,
                    insight.logins_failed
                ],
                expected
            );
            let record = json!({
                "request": {"message_id": 1, "operation": "bind_request", "bind_request": {"version": 3, "name": "cn=x"}},
                "responses": [{"message_id": 1, "operation": "bind_response",
                    "bind_response": {"result_code": name, "matched_dn": "", "message": ""}}],
            });
            kit::check_stream(said, Some("ldap"), &[("ldap", record)]);
        };
        check(0, [1, 1, 0], "success");
        check(49, [1, 0, 1], "invalid_credentials");
    }

    #[test]
    fn datagrams_and_others() {
        let search = b"\x30\x21\x02\x01\x07\x63\x1c\x04\0\x0a\x01\0\x0a\x01\0\x02\x01\0\x02\x01\0\x01\x01\0\x87\x01c\x30\x06\x04\x04netl";
        let done = b"\x30\x0c\x02\x01\x07\x65\x07\x0a\x01\0\x04\0\x04\0";
        let record = json!({
            "request": {"message_id": 7, "operation": "search_request",
                "search_request": {"base_object": "", "scope": 0, "deref_alias": 0, "size_limit": 0, "time_limit": 0,
                    "types_only": false, "attributes": ["netl"]}},
            "responses": [{"message_id": 7, "operation": "search_result_done",
                "search_result_done": {"result_code": "success", "matched_dn": "", "message": ""}}],
        });
        kit::check_datagrams(&[(0, search), (1, done)], Some("ldap"), &[("ldap", record)]);
        // SNMP has a text in the place of the operation.
        let snmp = b"\x30\x0c\x02\x01\x01\x04\x06publica";
        assert_ne!(kit::datagrams(9, &[(0, snmp)]).insight.app, Some("ldap"));
    }

    #[test]
    fn what_follows_a_message_and_is_none_is_told_the_same_however_cut() {
        let done = b"\x30\x0c\x02\x01\x07\x65\x07\x0a\x01\0\x04\0\x04\0";
        let nonsense = [&done[..], b"\xff\xfe\xfd\xfc\xfb\xfa"].concat();
        kit::check_cuts(&[(1, &nonsense), (0, &nonsense)]);
        kit::check_cuts(&[(0, b"\x30\x05\x02\x01\x07\x42\0"), (1, b"\x01\x02\x03\x04")]);
    }

    #[test]
    fn tls_hides_the_rest() {
        let ask = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
        let said: &[Said<'_>] = &[
            (0, ask),
            (1, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\0\x04\0\x04\0"),
        ];
        assert_eq!(kit::stream(said).insight.app_before, Some("ldap"));
        kit::check_cuts(said);
    }
}
