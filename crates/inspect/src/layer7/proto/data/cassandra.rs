//! Cassandra's native protocol (CQL binary protocol, versions 1 to 5).

use crate::layer7::protocol::{Named, Seen, Side, Transport, Verdict};

pub(super) static CASSANDRA: Named = Named {
    name: "cassandra",
    ports: &[9042],
    transports: &[Transport::Tcp],
    probe,
};

const LEN_MAX: u32 = 256 << 20;

fn probe(seen: &Seen<'_>) -> Verdict {
    let has_port = seen.has_port(9042);
    seen.opened_by_either(|bytes| {
        let version = bytes[0] & 0x7f;
        if !(1..=6).contains(&version) || bytes.get(1).is_some_and(|&flags| flags > 0x1f) {
            return Verdict::No;
        }
        // From version 3 on a stream's number has two bytes.
        let at = if version < 3 { 3 } else { 4 };
        let Some(&[op, a, b, c, d]) = bytes.get(at..).and_then(|rest| rest.first_chunk::<5>()) else {
            return Verdict::NeedMore;
        };
        let len = u32::from_be_bytes([a, b, c, d]);
        let is_response = bytes[0] & 0x80 != 0;
        let body = &bytes[at + 5..];
        let is_op = if is_response {
            matches!(op, 0x00 | 0x02 | 0x03 | 0x06 | 0x08 | 0x0c | 0x0e | 0x10)
        } else {
            matches!(op, 0x01 | 0x05 | 0x07 | 0x09..=0x0b | 0x0d | 0x0f)
        };
        let client = if is_response { Side::Server } else { Side::Client };
        match (op, is_response) {
            _ if !is_op || len > LEN_MAX => Verdict::No,
            // OPTIONS has no body; STARTUP's is a map of texts, `CQL_VERSION` among them.
            (0x05, false) if len == 0 && version >= 3 => Verdict::certain(client),
            (0x05, false) if len == 0 && has_port => Verdict::likely(client),
            (0x01, false) => match *body {
                [0, 1..=9, 0, 1..=40, first, ..] if first.is_ascii_uppercase() => Verdict::certain(client),
                _ if body.len() < 5 => Verdict::NeedMore,
                _ => Verdict::No,
            },
            (0x06, true) if (2..4096).contains(&len) => match *body {
                [0, 1..=9, 0, 1..=40, first, ..] if first.is_ascii_uppercase() => Verdict::certain(client),
                _ if body.len() < 5 => Verdict::NeedMore,
                _ => Verdict::No,
            },
            _ if has_port => Verdict::likely(client),
            _ => Verdict::No,
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        let check = |bytes: &[u8], app: Option<&str>| kit::check_stream(&[(0, bytes)], app, &[]);
        check(b"\x04\0\0\0\x05\0\0\0\0", Some("cassandra"));
        check(
            b"\x04\0\0\x01\x01\0\0\0\x16\0\x01\0\x0bCQL_VERSION\0\x053.3.1",
            Some("cassandra"),
        );
        check(b"\x04\0\0\x01\x04\0\0\0\x16\0\x01\0\x0bCQL", None);
        check(b"\x04\x7f\0\x01\x05\0\0\0\0", None);
    }
}
