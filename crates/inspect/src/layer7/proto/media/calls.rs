//! Calls other than SIP's: H.323, MGCP, Skinny.

use memchr::memmem;
use serde_json::Map;

use crate::layer7::insight;
use crate::layer7::protocol::{Named, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::eve_text;
use crate::layer7::record::Record;

/// Object identifiers as PER writes them: H.225.0 0.0.8.2250.0 and H.245 0.0.8.245.0.
const H225: &[u8] = b"\0\x08\x91\x4a\0";
const H245: &[u8] = b"\0\x08\x81\x75\0";

/// H.323: signalling (Q.931 in TPKT), capabilities (H.245), registration (RAS).
pub(super) const H323: Named = Named {
    name: "h323",
    ports: &[1720, 1719, 1718],
    transports: &[Transport::Tcp, Transport::Udp],
    probe: |seen| {
        let bytes = seen.newest();
        if seen.transport == Transport::Udp {
            let head = &bytes[..bytes.len().min(32)];
            let has_port = seen.has_port(1719) || seen.has_port(1718);
            // Only requests and confirmations say which version they speak.
            return match (memmem::find(head, H225).is_some(), has_port && ras(bytes)) {
                (true, _) => Verdict::CERTAIN,
                (_, true) => Verdict::LIKELY,
                _ => Verdict::No,
            };
        }
        let is_begin = bytes.iter().zip([3, 0]).all(|(byte, expected)| *byte == expected);
        if !is_begin {
            return Verdict::No;
        }
        let Some(&[_, _, high, low, first, second, ..]) = bytes.first_chunk::<8>() else {
            return Verdict::NeedMore;
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        // Q.931: its discriminator, and the length of the call's reference.
        if first == 8 && second <= 2 && len > 8 {
            return Verdict::CERTAIN;
        }
        let head = &bytes[4..bytes.len().min(len).clamp(4, 64)];
        if memmem::find(head, H245).is_some() && first == 2 {
            return Verdict::CERTAIN;
        }
        if first == 2 && bytes.len() < len.min(24) {
            Verdict::NeedMore
        } else {
            Verdict::No
        }
    },
};

/// Whether a message of RAS could begin like this: a choice, and a number from 1 on.
fn ras(bytes: &[u8]) -> bool {
    matches!(*bytes, [first, _, _, ..] if first & 0x80 == 0 && first >> 2 <= 31) && bytes.len() >= 4
}

/// Media Gateway Control Protocol (RFC 3435).
#[derive(Debug)]
pub(super) struct Mgcp;

impl Protocol for Mgcp {
    fn name(&self) -> &'static str {
        "mgcp"
    }

    fn ports(&self) -> &'static [u16] {
        &[2427, 2727]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        const VERBS: [&[u8; 5]; 9] = [
            b"EPCF ", b"CRCX ", b"MDCX ", b"DLCX ", b"RQNT ", b"NTFY ", b"AUEP ", b"AUCX ", b"RSIP ",
        ];
        let bytes = seen.newest();
        let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let is_verb = bytes
            .first_chunk::<5>()
            .is_some_and(|verb| VERBS.iter().any(|other| verb.eq_ignore_ascii_case(*other)));
        if is_verb && memmem::find(line, b" MGCP ").is_some() {
            return Verdict::certain(seen.side);
        }
        let has_port = seen.has_port(2427) || seen.has_port(2727);
        match *bytes {
            [a, b, c, b' ', d, ..] if has_port && [a, b, c, d].iter().all(u8::is_ascii_digit) => {
                Verdict::certain(seen.side.other())
            }
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(MgcpMessages)
    }
}

#[derive(Debug)]
struct MgcpMessages;

impl Session for MgcpMessages {
    fn data(&mut self, _: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let taken = Step::Take(bytes.len() as u64);
        let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let mut words = line.trim_ascii_end().splitn(4, |&byte| byte == b' ');
        let [verb, transaction, third] = [0; 3].map(|_| words.next().unwrap_or_default());
        let mut fields = Map::new();
        if verb.iter().all(u8::is_ascii_digit) {
            fields.insert("type".into(), "response".into());
            fields.insert("code".into(), eve_text(verb).into());
        } else {
            fields.insert("type".into(), "request".into());
            fields.insert("verb".into(), eve_text(verb).into());
            fields.insert("endpoint".into(), eve_text(third).into());
            if let Some(at) = memchr::memchr(b'@', third) {
                out.insight
                    .host
                    .get_or_insert_with(|| insight::text(&third[at + 1..]));
            }
        }
        fields.insert("transaction_id".into(), eve_text(transaction).into());
        out.record(Record::fields("mgcp", fields));
        taken
    }
}

/// Cisco's Skinny Client Control Protocol.
pub(super) const SKINNY: Named = Named {
    name: "skinny",
    ports: &[2000],
    transports: &[Transport::Tcp],
    probe: |seen| {
        let bytes = seen.newest();
        if !seen.has_port(2000) {
            return Verdict::No;
        }
        let Some(head) = bytes.first_chunk::<12>() else {
            return Verdict::NeedMore;
        };
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (len, version, kind) = (number(0), number(4), number(8));
        if (4..=4096).contains(&len) && version <= 0x20 && kind < 0x2000 {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    },
};

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        kit::check_stream(&[(0, b"\x03\0\0\x0a\x08\x02\x77\xf4\x05\0")], Some("h323"), &[]);
        kit::check_datagrams(
            &[(0, b"\x16\x80\x0b\xb3\x06\0\x08\x91\x4a\0\x04\0\0")],
            Some("h323"),
            &[],
        );
        let said: &[(usize, &[u8])] = &[(0, b"RSIP 7 *@gw.example MGCP 0.1\r\nRM: restart\r\n")];
        kit::check_datagrams(
            said,
            Some("mgcp"),
            &[(
                "mgcp",
                serde_json::json!({
                    "type": "request", "verb": "RSIP", "endpoint": "*@gw.example", "transaction_id": "7",
                }),
            )],
        );
        assert_eq!(
            kit::datagrams(9, said).insight.host.as_deref(),
            Some("gw.example")
        );
        kit::check_datagrams(&[(0, b"RSIP is a verb")], None, &[]);
        let skinny = b"\x04\0\0\0\0\0\0\0\x9b\0\0\0\x01\0\0\0";
        let outcome = kit::run(6, 2000, &[(1, skinny)], |_, _| Vec::new());
        assert_eq!(outcome.insight.app, Some("skinny"));
    }
}
