//! The Domain Name System (RFC 1035) over UDP and over TCP.

use crate::layer7::insight;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::record::{Anomaly, Record, Severity};

use super::message::{self, HEADER_LEN, Header, Message};

#[derive(Debug)]
pub(super) struct Dns;

/// Ports of protocols that send the same messages, and are named for their port.
const OTHERS: [u16; 3] = [137, super::mdns::PORT, super::llmnr::PORT];

impl Protocol for Dns {
    fn name(&self) -> &'static str {
        "dns"
    }

    fn ports(&self) -> &'static [u16] {
        &[53]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Udp | Transport::Tcp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        if seen.transport == Transport::Udp {
            if !seen.has_port(53) && OTHERS.iter().any(|&port| seen.has_port(port)) {
                return Verdict::No;
            }
            return probe_message(seen, seen.has_port(53));
        }
        [Side::Client, Side::Server]
            .into_iter()
            .map(|side| probe_stream(seen.data[side.index()], side))
            .filter(|verdict| *verdict != Verdict::No)
            .max_by_key(|verdict| matches!(verdict, Verdict::Match { .. }))
            .unwrap_or(Verdict::No)
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Messages::new("dns"))
    }
}

/// A datagram. With a port that is its own a message need not be in order throughout.
pub(super) fn probe_message(seen: &Seen<'_>, has_port: bool) -> Verdict {
    let bytes = seen.newest();
    let Some(header) = Header::of(bytes).filter(Header::is_plausible) else {
        return Verdict::No;
    };
    let client = if header.is_response() {
        seen.side.other()
    } else {
        seen.side
    };
    let Some(message) = message::read(bytes, "dns") else {
        return Verdict::No;
    };
    let has_question = message.record.queries.len() == usize::from(header.counts[0]) && header.counts[0] > 0;
    let is_whole = message.broken.is_none() && message.len == bytes.len();
    match (is_whole, has_port) {
        (true, _) if has_question && message.is_plain => Verdict::certain(client),
        (true, true) => Verdict::certain(client),
        (false, true) if has_question => Verdict::certain(client),
        (false, true) if message.len > HEADER_LEN => Verdict::likely(client),
        _ => Verdict::No,
    }
}

/// The bytes of one side of a TCP connection: a message behind its length.
fn probe_stream(bytes: &[u8], side: Side) -> Verdict {
    let Some((len, rest)) = bytes.split_first_chunk::<2>() else {
        return Verdict::NeedMore;
    };
    let len = usize::from(u16::from_be_bytes(*len));
    if len < HEADER_LEN + 5 {
        return Verdict::No;
    }
    let Some(header) = Header::of(rest) else {
        return Verdict::NeedMore;
    };
    if !header.is_plausible() || header.counts[0] == 0 {
        return Verdict::No;
    }
    let message = &rest[..rest.len().min(len)];
    let Some(message) = message::read(message, "dns") else {
        return Verdict::No;
    };
    let client = if header.is_response() { side.other() } else { side };
    match message.record.queries.first() {
        Some(_) if message.is_plain => Verdict::certain(client),
        Some(_) => Verdict::No,
        None if rest.len() < len && rest.len() < 2048 => Verdict::NeedMore,
        None => Verdict::No,
    }
}

/// Messages of DNS, mDNS or LLMNR.
#[derive(Debug)]
pub(super) struct Messages {
    pub(super) protocol: &'static str,
    tx_id: u64,
    /// Datagrams that could not be read; the first ones are told.
    broken: u32,
}

/// Anomalies of a flow that are told.
const BROKEN_MAX: u32 = 16;

impl Messages {
    pub(super) const fn new(protocol: &'static str) -> Self {
        Self {
            protocol,
            tx_id: 0,
            broken: 0,
        }
    }

    fn oddity(&mut self, event: &'static str, severity: Severity, out: &mut Out<'_>) {
        if self.broken < BROKEN_MAX {
            self.broken += 1;
            out.anomaly(Anomaly::parser(event, severity));
        }
    }

    fn message(&mut self, bytes: &[u8], out: &mut Out<'_>) {
        let Some(message) = message::read(bytes, self.protocol) else {
            self.oddity("malformed_data", Severity::Medium, out);
            return;
        };
        let Message {
            mut record,
            addresses,
            broken,
            ..
        } = message;
        record.tx_id = self.tx_id;
        self.tx_id += 1;
        let is_response = record.r#type == "response";
        let insight = out.insight.dns.get_or_insert_default();
        let question = record.queries.first().map(|query| query.rrname.clone());
        if let Some(question) = &question {
            let name = insight::text(question.as_bytes());
            insight.query = Some(name.clone());
            // The flow goes by what was asked first.
            out.insight.host.get_or_insert(name);
        } else if let Some(answer) = record.answers.first() {
            let name = insight::text(answer.rrname.as_bytes());
            out.insight.host.get_or_insert(name);
        }
        let insight = out.insight.dns.get_or_insert_default();
        if is_response {
            insight.answers = insight.answers.saturating_add(1);
            insight.rcode = record.rcode.as_deref().map(Into::into);
        } else {
            insight.queries = insight.queries.saturating_add(1);
        }
        if is_response {
            for (address, name) in &addresses {
                // What was asked for, and not the alias it stands for.
                let asked = question.as_deref().filter(|_| record.queries.len() == 1);
                let name = asked.filter(|name| !name.is_empty()).unwrap_or(name);
                out.resolved(*address, &insight::text(name.as_bytes()));
            }
        }
        if record.flags & 0x0040 != 0 && self.protocol == "dns" {
            self.oddity("z_flag_set", Severity::Low, out);
        }
        if let Some(event) = broken {
            self.oddity(event, Severity::Medium, out);
        }
        let has_content = !record.queries.is_empty() || !record.answers.is_empty();
        if broken.is_none() || has_content {
            out.record(Record::Dns(Box::new(record)));
        }
    }
}

impl Session for Messages {
    fn data(&mut self, _: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if out.transport != Transport::Tcp {
            self.message(bytes, out);
            return Step::Take(bytes.len() as u64);
        }
        let mut taken = 0;
        while let Some((len, rest)) = bytes[taken..].split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len));
            if len < HEADER_LEN {
                return Step::Broken(Anomaly::parser("malformed_data", Severity::Medium));
            }
            let Some(message) = rest.get(..len) else {
                break;
            };
            if !Header::of(message).is_some_and(|header| header.is_plausible() || header.is_response()) {
                return Step::Broken(Anomaly::parser("malformed_data", Severity::Medium));
            }
            self.message(message, out);
            taken += 2 + len;
        }
        Step::Take(taken as u64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    /// `id` and flags, counts, rest.
    fn message(head: [u16; 6], rest: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = head.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend_from_slice(rest);
        bytes
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = (message.len() as u16).to_be_bytes().to_vec();
        bytes.extend_from_slice(message);
        bytes
    }

    const ASKED: &[u8] = b"\x03www\x07example\x00\x00\x01\x00\x01";

    fn query() -> Vec<u8> {
        message([0x1234, 0x0100, 1, 0, 0, 0], ASKED)
    }

    fn answer() -> Vec<u8> {
        let mut rest = ASKED.to_vec();
        // An alias of `a.example`, its address, and EDNS.
        rest.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01a\xc0\x10");
        rest.extend(b"\xc0\x29\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x07");
        rest.extend(b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x06\x00\x0a\x00\x02\xab\xcd");
        message([0x1234, 0x8180, 1, 2, 0, 1], &rest)
    }

    fn expected() -> Vec<(&'static str, serde_json::Value)> {
        let queries = json!([{"rrname": "www.example", "rrtype": "A"}]);
        vec![
            (
                "dns",
                json!({
                    "version": 3, "type": "request", "tx_id": 0, "id": 0x1234, "flags": "100", "rd": true,
                    "opcode": 0, "rcode": "NOERROR", "queries": queries,
                }),
            ),
            (
                "dns",
                json!({
                    "version": 3, "type": "response", "tx_id": 1, "id": 0x1234, "flags": "8180", "qr": true,
                    "rd": true, "ra": true, "opcode": 0, "rcode": "NOERROR", "queries": queries,
                    "answers": [
                        {"rrname": "www.example", "rrtype": "CNAME", "ttl": 60, "rdata": "a.example"},
                        {"rrname": "a.example", "rrtype": "A", "ttl": 60, "rdata": "192.0.2.7"},
                    ],
                    "additionals": [
                        {"rrname": "", "rrtype": "OPT", "ttl": 0, "opt": [{"code": 10, "data": "abcd"}]},
                    ],
                    "grouped": {"CNAME": ["a.example"], "A": ["192.0.2.7"]},
                }),
            ),
        ]
    }

    #[test]
    fn question_and_answer() {
        let (query, answer) = (query(), answer());
        kit::check_datagrams(&[(0, &query), (1, &answer)], Some("dns"), &expected());
        kit::check_stream(
            &[(0, &framed(&query)), (1, &framed(&answer))],
            Some("dns"),
            &expected(),
        );
        let insight = kit::datagrams(53, &[(0, &query), (1, &answer)]).insight;
        let dns = insight.dns.unwrap_or_default();
        assert_eq!(insight.host.as_deref(), Some("www.example"));
        assert_eq!(
            (dns.queries, dns.answers, dns.rcode.as_deref()),
            (1, 1, Some("NOERROR"))
        );
    }

    #[test]
    fn several_messages_in_one_stream() {
        let query = framed(&query());
        let twice = [query.clone(), query].concat();
        let outcome = kit::stream(&[(0, &twice)]);
        assert_eq!(outcome.records.len(), 2);
        kit::check_cuts(&[(0, &twice)]);
    }

    /// The answers' data of a response with one record of this type and data.
    #[track_caller]
    fn check_data(kind: u16, data: &[u8], expected: &serde_json::Value) {
        let mut rest = ASKED.to_vec();
        rest.extend(b"\xc0\x0c");
        rest.extend(kind.to_be_bytes());
        rest.extend(b"\x00\x01\x00\x00\x00\x3c");
        rest.extend(framed(data));
        let bytes = message([1, 0x8180, 1, 1, 0, 0], &rest);
        let bodies = kit::datagrams(53, &[(1, &bytes)]).bodies();
        let mut values = Vec::new();
        for answer in bodies[0].1["answers"].as_array().into_iter().flatten() {
            for key in ["rdata", "soa", "srv", "sshfp"] {
                values.extend(answer.get(key).cloned());
            }
        }
        assert_eq!(serde_json::Value::Array(values), *expected, "{bodies:?}");
    }

    #[test]
    fn records_of_each_type() {
        check_data(
            28,
            &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &json!(["2001:db8::1"]),
        );
        check_data(2, b"\x02ns\xc0\x10", &json!(["ns.example"]));
        check_data(15, b"\x00\x0a\x04mail\xc0\x10", &json!(["mail.example"]));
        check_data(16, b"\x03one\x00\x03two", &json!(["one", "", "two"]));
        check_data(16, b"\x02\xff\x41", &json!(["\\xffA"]));
        check_data(10, b"raw", &json!(["raw"]));
        check_data(
            6,
            b"\x02ns\xc0\x10\x04root\xc0\x10\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05",
            &json!([{
                "mname": "ns.example", "rname": "root.example", "serial": 1, "refresh": 2, "retry": 3,
                "expire": 4, "minimum": 5,
            }]),
        );
        check_data(
            33,
            b"\0\x0a\0\x01\x13\xc4\x03sip\xc0\x10",
            &json!([{"priority": 10, "weight": 1, "port": 5060, "name": "sip.example"}]),
        );
        check_data(
            44,
            b"\x01\x02\xab\xcd",
            &json!([{"fingerprint": "ab:cd", "algo": 1, "type": 2}]),
        );
        check_data(
            65,
            b"\0\x01\0\0\x01\0\x06\x02h2\x02h3\0\x04\0\x04\xc0\0\x02\x01",
            &json!(["1 . alpn=\"h2,h3\" ipv4hint=192.0.2.1"]),
        );
        check_data(
            257,
            b"\x00\x05issueca.example",
            &json!(["0 issue \"ca.example\""]),
        );
    }

    #[test]
    fn broken_messages() {
        // A pointer to itself, one forward, a name that runs out.
        for name in [&b"\xc0\x1d"[..], b"\xc0\xff", b"\x3fabc"] {
            let mut rest = ASKED.to_vec();
            rest.extend(name);
            rest.extend(b"\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x07");
            let bytes = message([1, 0x8180, 1, 1, 0, 0], &rest);
            let outcome = kit::datagrams(53, &[(1, &bytes)]);
            assert_eq!(outcome.insight.app, Some("dns"));
            assert!(
                outcome
                    .anomalies()
                    .any(|anomaly| anomaly.event == "malformed_data")
            );
        }
        kit::check_datagrams(&[(0, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")], None, &[]);
        kit::check_stream(&[(0, b"no message of any kind")], None, &[]);
    }

    #[test]
    fn a_name_that_is_too_long_is_cut() {
        let mut rest = Vec::new();
        for _ in 0..40 {
            rest.push(60);
            rest.extend([b'a'; 60]);
        }
        rest.extend(b"\x00\x00\x01\x00\x01");
        let query = framed(&message([1, 0x0100, 1, 0, 0, 0], &rest));
        let body = &kit::stream(&[(0, &query)]).bodies()[0].1;
        assert_eq!(body["queries"][0]["rrname_truncated"], json!(true));
        assert_eq!(body["queries"][0]["rrname"].as_str().map(str::len), Some(1025));
    }
}
