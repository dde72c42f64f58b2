//! AMQP 0-9-1 and 1.0: both begin with a protocol header.

use crate::layer7::protocol::{Named, Seen, Side, Transport, Verdict};

pub(super) static AMQP: Named = Named {
    name: "amqp",
    ports: &[5672],
    transports: &[Transport::Tcp],
    probe,
};

fn probe(seen: &Seen<'_>) -> Verdict {
    let has_port = seen.has_port(5672);
    seen.opened_by_either(|bytes| {
        if b"AMQP".starts_with(&bytes[..bytes.len().min(4)]) {
            return match *bytes {
                // The protocol's number (0, of TLS 2, of SASL 3; 1 in 0-9 and before) and three of its version.
                [_, _, _, _, 0..=3, 0..=9, 0..=10, 0..=10, ..] => Verdict::CERTAIN,
                _ if bytes.len() < 8 => Verdict::NeedMore,
                _ => Verdict::No,
            };
        }
        // Joined in the middle: a frame's type, channel and length, the class of its method, and its end.
        if !has_port || !matches!(bytes[0], 1..=3 | 8) {
            return Verdict::No;
        }
        match *bytes {
            [kind, _, _, a, b, c, d, ref body @ ..] => {
                let len = u32::from_be_bytes([a, b, c, d]) as usize;
                match body.get(len) {
                    _ if len > 128 * 1024 || (kind == 8 && len > 0) => Verdict::No,
                    Some(0xce) if seen.ports[1] == 5672 => Verdict::LIKELY,
                    Some(0xce) => Verdict::likely(Side::Server),
                    Some(_) => Verdict::No,
                    None => Verdict::NeedMore,
                }
            }
            _ => Verdict::NeedMore,
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        let check = |bytes: &[u8], app: Option<&str>| kit::check_stream(&[(0, bytes)], app, &[]);
        check(b"AMQP\0\0\x09\x01", Some("amqp"));
        check(b"AMQP\x03\x01\0\0", Some("amqp"));
        check(b"AMQP rocks", None);
        check(b"\x08\0\0\0\0\0\0\xce", None);
    }
}
