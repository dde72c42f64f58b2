//! Kerberos 5 (RFC 4120) over UDP and TCP.

use serde_json::Map;

use super::ber::{Element, Elements, Extent, SEQUENCE, extent};
use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::eve_text;
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Krb5;

/// Longest message that is looked at over TCP.
const MESSAGE_MAX: usize = 64 * 1024;

const AS_REQ: u8 = 10;
const AS_REP: u8 = 11;
const TGS_REQ: u8 = 12;
const TGS_REP: u8 = 13;
const AP_REQ: u8 = 14;
const ERROR: u8 = 30;

impl Protocol for Krb5 {
    fn name(&self) -> &'static str {
        "krb5"
    }

    fn ports(&self) -> &'static [u16] {
        &[88]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Tcp | Transport::Udp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let is_tcp = seen.transport == Transport::Tcp;
        seen.opened_by_either(|bytes| {
            let message = if is_tcp {
                if bytes[0] != 0 {
                    return Verdict::No;
                }
                match bytes.get(4..) {
                    Some(message) if !message.is_empty() => message,
                    _ => return Verdict::NeedMore,
                }
            } else {
                bytes
            };
            let kind = message[0] & 0x1f;
            if message[0] & 0xe0 != 0x60 || !matches!(kind, 10..=15 | 20..=22 | 30) {
                return Verdict::No;
            }
            let (head, len) = match extent(message) {
                Extent::No => return Verdict::No,
                Extent::NeedMore => return Verdict::NeedMore,
                Extent::Known { head, body } => (head, body),
            };
            if is_tcp {
                let framed = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
                if framed != head + len {
                    return Verdict::No;
                }
            }
            let client = if matches!(kind, AS_REP | TGS_REP | 15 | ERROR) {
                Side::Server
            } else {
                Side::Client
            };
            match message.get(head) {
                None => return Verdict::NeedMore,
                Some(&SEQUENCE) => {}
                Some(_) => return Verdict::No,
            }
            let inner = &message[head..];
            let Extent::Known { head, .. } = extent(inner) else {
                return if extent(inner) == Extent::No {
                    Verdict::No
                } else {
                    Verdict::NeedMore
                };
            };
            // Version 5, as the first or the second field.
            match inner.get(head..) {
                Some([0xa0 | 0xa1, 3, 2, 1, 5, ..]) => Verdict::certain(client),
                Some(begun) if begun.len() < 5 => Verdict::NeedMore,
                _ => Verdict::No,
            }
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Exchange)
    }
}

struct Exchange;

impl Session for Exchange {
    fn data(&mut self, _: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if out.transport != Transport::Tcp {
            message(bytes, out);
            return Step::Take(bytes.len() as u64);
        }
        let mut taken = 0u64;
        while let Some(rest) = bytes.get(taken as usize..) {
            let Some(frame) = rest.first_chunk::<4>() else {
                break;
            };
            let len = u32::from_be_bytes(*frame) as usize;
            if len > 1 << 24 {
                return Step::Broken(Anomaly::parser("malformed_data", Severity::Medium));
            }
            if len <= MESSAGE_MAX {
                let Some(bytes) = rest.get(4..4 + len) else {
                    break;
                };
                message(bytes, out);
            }
            taken += 4 + len as u64;
        }
        Step::Take(taken)
    }
}

fn message(bytes: &[u8], out: &mut Out<'_>) {
    if read(bytes, out).is_none() {
        out.anomaly(Anomaly::parser("malformed_data", Severity::Low));
    }
}

/// Parts of a message by the number of their field.
fn fields(body: &[u8]) -> impl Iterator<Item = (u8, Elements<'_>)> {
    Elements(body).filter_map(|element| {
        let number = element.tag.checked_sub(0xa0).filter(|&number| number < 32)?;
        Some((number, element.inner()))
    })
}

fn name_of(kind: u8) -> Option<&'static str> {
    Some(match kind {
        AS_REQ => "KRB_AS_REQ",
        AS_REP => "KRB_AS_REP",
        TGS_REQ => "KRB_TGS_REQ",
        TGS_REP => "KRB_TGS_REP",
        AP_REQ => "KRB_AP_REQ",
        15 => "KRB_AP_REP",
        20 => "KRB_SAFE",
        21 => "KRB_PRIV",
        22 => "KRB_CRED",
        ERROR => "KRB_ERROR",
        _ => return None,
    })
}

fn read(bytes: &[u8], out: &mut Out<'_>) -> Option<()> {
    let Element { tag, body } = Elements(bytes).next()?;
    let kind = tag & 0x1f;
    let name = name_of(kind)?;
    let body = Elements(body).expect(SEQUENCE)?;
    let mut told = Map::new();
    told.insert("msg_type".into(), name.into());
    match kind {
        AS_REQ | TGS_REQ => {
            if kind == AS_REQ {
                out.login(Login::Attempted);
            }
            // Field 4 is the request's body, whose field 1 is the client.
            let request = fields(body).find(|(number, _)| *number == 4);
            if let Some((_, mut request)) = request {
                for (number, inner) in fields(request.expect(SEQUENCE)?) {
                    match number {
                        1 => out.insight.user = Some(text(principal(inner)?.as_bytes())),
                        3 if kind == TGS_REQ => out.insight.host = Some(text(principal(inner)?.as_bytes())),
                        _ => {}
                    }
                }
            }
            // EVE tells of answers; of a request nobody answered, the flow does.
            return Some(());
        }
        AS_REP | TGS_REP => {
            if kind == AS_REP {
                out.login(Login::Succeeded);
            }
            for (number, mut inner) in fields(body) {
                match number {
                    3 => told.insert("realm".into(), text_of(inner)?.into()),
                    4 => {
                        let name = principal(inner)?;
                        out.insight.user = Some(text(name.as_bytes()));
                        told.insert("cname".into(), name.into())
                    }
                    5 => {
                        let ticket = Elements(inner.next()?.body).expect(SEQUENCE)?;
                        for (number, inner) in fields(ticket) {
                            match number {
                                2 => told.insert("sname".into(), principal(inner)?.into()),
                                3 => put_encryption(inner, "ticket_", &mut told),
                                _ => None,
                            };
                        }
                        None
                    }
                    6 => put_encryption(inner, "", &mut told),
                    _ => None,
                };
            }
        }
        AP_REQ => {
            for (number, mut inner) in fields(body) {
                if number == 3 {
                    for (number, inner) in fields(Elements(inner.next()?.body).expect(SEQUENCE)?) {
                        match number {
                            1 => told.insert("realm".into(), text_of(inner)?.into()),
                            2 => told.insert("sname".into(), principal(inner)?.into()),
                            3 => put_encryption(inner, "ticket_", &mut told),
                            _ => None,
                        };
                    }
                }
            }
        }
        ERROR => {
            for (number, mut inner) in fields(body) {
                match number {
                    6 => {
                        let code = inner.integer()?;
                        // Unknown, locked or expired clients, and wrong passwords.
                        if matches!(code, 1 | 3 | 6 | 8 | 9 | 12 | 18 | 23 | 24 | 31) {
                            out.login(Login::Failed);
                        }
                        told.insert("error_code".into(), error_name(code).into());
                    }
                    8 => {
                        told.insert("cname".into(), principal(inner)?.into());
                    }
                    9 => {
                        told.insert("realm".into(), text_of(inner)?.into());
                    }
                    10 => {
                        told.insert("sname".into(), principal(inner)?.into());
                    }
                    _ => {}
                }
            }
        }
        _ => return Some(()),
    }
    out.record(Record::fields("krb5", told));
    Some(())
}

fn text_of(mut inner: Elements<'_>) -> Option<String> {
    Some(eve_text(inner.next()?.body))
}

/// The parts of a name, with slashes between them.
fn principal(mut inner: Elements<'_>) -> Option<String> {
    let name = fields(inner.expect(SEQUENCE)?).find(|(number, _)| *number == 1)?;
    let (_, mut parts) = name;
    let parts: Vec<String> = Elements(parts.expect(SEQUENCE)?)
        .take(16)
        .map(|part| eve_text(part.body))
        .collect();
    Some(parts.join("/"))
}

fn put_encryption(
    mut inner: Elements<'_>,
    prefix: &str,
    told: &mut Map<String, serde_json::Value>,
) -> Option<serde_json::Value> {
    let (_, mut kind) = fields(inner.expect(SEQUENCE)?).find(|(number, _)| *number == 0)?;
    let kind = kind.integer()?;
    let name = match kind {
        1 => "des-cbc-crc",
        2 => "des-cbc-md4",
        3 => "des-cbc-md5",
        5 => "des3-cbc-md5",
        7 => "des3-cbc-sha1",
        16 => "des3-cbc-sha1-kd",
        17 => "aes128-cts-hmac-sha1-96",
        18 => "aes256-cts-hmac-sha1-96",
        19 => "aes128-cts-hmac-sha256-128",
        20 => "aes256-cts-hmac-sha384-192",
        23 => "rc4-hmac",
        24 => "rc4-hmac-exp",
        25 => "camellia128-cts-cmac",
        26 => "camellia256-cts-cmac",
        _ => "unknown",
    };
    told.insert(format!("{prefix}encryption"), name.into());
    let is_weak = !matches!(kind, 17..=20 | 25 | 26);
    told.insert(format!("{prefix}weak_encryption"), is_weak.into())
}

fn error_name(code: i64) -> String {
    match code {
        1 => "KDC_ERR_NAME_EXP",
        2 => "KDC_ERR_SERVICE_EXP",
        3 => "KDC_ERR_BAD_PVNO",
        6 => "KDC_ERR_C_PRINCIPAL_UNKNOWN",
        7 => "KDC_ERR_S_PRINCIPAL_UNKNOWN",
        8 => "KDC_ERR_PRINCIPAL_NOT_UNIQUE",
        9 => "KDC_ERR_NULL_KEY",
        12 => "KDC_ERR_POLICY",
        13 => "KDC_ERR_BADOPTION",
        14 => "KDC_ERR_ETYPE_NOSUPP",
        15 => "KDC_ERR_SUMTYPE_NOSUPP",
        16 => "KDC_ERR_PADATA_TYPE_NOSUPP",
        18 => "KDC_ERR_CLIENT_REVOKED",
        19 => "KDC_ERR_SERVICE_REVOKED",
        20 => "KDC_ERR_TGT_REVOKED",
        23 => "KDC_ERR_KEY_EXPIRED",
        24 => "KDC_ERR_PREAUTH_FAILED",
        25 => "KDC_ERR_PREAUTH_REQUIRED",
        26 => "KDC_ERR_SERVER_NOMATCH",
        29 => "KDC_ERR_SVC_UNAVAILABLE",
        31 => "KRB_AP_ERR_BAD_INTEGRITY",
        32 => "KRB_AP_ERR_TKT_EXPIRED",
        33 => "KRB_AP_ERR_TKT_NYV",
        34 => "KRB_AP_ERR_REPEAT",
        37 => "KRB_AP_ERR_SKEW",
        41 => "KRB_AP_ERR_MODIFIED",
        52 => "KRB_ERR_RESPONSE_TOO_BIG",
        60 => "KRB_ERR_GENERIC",
        68 => "KDC_ERR_WRONG_REALM",
        _ => return code.to_string(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    /// An element with this tag around these.
    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        [&[tag, body.len() as u8][..], &body].concat()
    }

    fn number(field: u8, number: u8) -> Vec<u8> {
        element(field, &[&[2, 1, number]])
    }

    fn name(field: u8, parts: &[&str]) -> Vec<u8> {
        let parts: Vec<u8> = parts
            .iter()
            .flat_map(|part| element(0x1b, &[part.as_bytes()]))
            .collect();
        let parts = element(0xa1, &[&element(0x30, &[&parts])]);
        element(field, &[&element(0x30, &[&number(0xa0, 1), &parts])])
    }

    fn request() -> Vec<u8> {
        let body = element(0xa4, &[&element(0x30, &[&name(0xa1, &["bob"])])]);
        element(
            0x6a,
            &[&element(0x30, &[&number(0xa1, 5), &number(0xa2, 10), &body])],
        )
    }

    fn error(code: u8) -> Vec<u8> {
        let realm = element(0xa9, &[&element(0x1b, &[b"R"])]);
        let service = name(0xaa, &["krbtgt", "R"]);
        let parts = [
            number(0xa0, 5),
            number(0xa1, 30),
            number(0xa6, code),
            realm,
            service,
        ]
        .concat();
        element(0x7e, &[&element(0x30, &[&parts])])
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&[0, 0, 0, message.len() as u8][..], message].concat()
    }

    #[test]
    fn a_failed_log_in() {
        let record = json!({"msg_type": "KRB_ERROR", "error_code": "KDC_ERR_PREAUTH_FAILED", "realm": "R",
            "sname": "krbtgt/R"});
        let (request, error) = (request(), error(24));
        kit::check_datagrams(
            &[(0, &request), (1, &error)],
            Some("krb5"),
            &[("krb5", record.clone())],
        );
        let said: &[Said<'_>] = &[(0, &framed(&request)), (1, &framed(&error))];
        kit::check_stream(said, Some("krb5"), &[("krb5", record)]);
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
    }

    #[test]
    fn a_wish_for_more_is_no_failure() {
        let insight = kit::datagrams(9, &[(0, &request()), (1, &error(25))]).insight;
        assert_eq!(
            [
                insight.logins_attempted,
                insight.logins_succeeded,
                insight.logins_failed
            ],
            [1, 0, 0]
        );
    }

    #[test]
    fn a_ticket() {
        let key = element(0x30, &[&number(0xa0, 18)]);
        let ticket = element(
            0x61,
            &[&element(
                0x30,
                &[&name(0xa2, &["host", "h"]), &element(0xa3, &[&key])],
            )],
        );
        let realm = element(0xa3, &[&element(0x1b, &[b"R"])]);
        let parts = [number(0xa0, 5), number(0xa1, 11), realm, name(0xa4, &["bob"])].concat();
        let rest = [
            element(0xa5, &[&ticket]),
            element(0xa6, &[&element(0x30, &[&number(0xa0, 23)])]),
        ]
        .concat();
        let reply = element(0x6b, &[&element(0x30, &[&parts, &rest])]);
        let record = json!({"msg_type": "KRB_AS_REP", "realm": "R", "cname": "bob", "sname": "host/h",
            "ticket_encryption": "aes256-cts-hmac-sha1-96", "ticket_weak_encryption": false,
            "encryption": "rc4-hmac", "weak_encryption": true});
        kit::check_datagrams(&[(1, &reply)], Some("krb5"), &[("krb5", record)]);
    }

    #[test]
    fn not_kerberos() {
        kit::check_datagrams(&[(0, b"\x6a\x0a\x30\x08\xa1\x03\x02\x01\x04\0\0\0")], None, &[]);
    }
}
