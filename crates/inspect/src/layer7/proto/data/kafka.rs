//! Apache Kafka: requests with a length, an API key and version, a correlation id and a client's name.

use crate::layer7::protocol::{Named, Seen, Transport, Verdict};
use crate::layer7::reader::Reader;

pub(super) static KAFKA: Named = Named {
    name: "kafka",
    ports: &[9092],
    transports: &[Transport::Tcp],
    probe,
};

const LEN_MAX: u32 = 100 << 20;

fn probe(seen: &Seen<'_>) -> Verdict {
    let has_port = seen.has_port(9092);
    seen.opened_by_either(|bytes| {
        // The API's number is below 100, its version below 20, and no client begins at a high correlation id.
        match *bytes {
            [high, ..] if high > 6 => return Verdict::No,
            [_, _, _, _, high, ..] if high != 0 => return Verdict::No,
            [_, _, _, _, _, key, ..] if key > 92 => return Verdict::No,
            [_, _, _, _, _, _, high, ..] if high != 0 => return Verdict::No,
            [_, _, _, _, _, _, _, version, ..] if version > 20 => return Verdict::No,
            _ => {}
        }
        let mut reader = Reader::new(bytes);
        let head = (|| Some((reader.be32()?, reader.be32()?, reader.be32()?, reader.be16()?)))();
        let Some((len, _api, correlation, name_len)) = head else {
            return Verdict::NeedMore;
        };
        // A client without a name.
        if has_port && (10..=LEN_MAX).contains(&len) && matches!(name_len, 0 | 0xffff) {
            return Verdict::LIKELY;
        }
        if !(10..=LEN_MAX).contains(&len) || !(1..=255).contains(&name_len) || u32::from(name_len) + 10 > len
        {
            return Verdict::No;
        }
        let name = reader.rest();
        let name = &name[..name.len().min(name_len.into())];
        if !name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:@/".contains(byte))
        {
            return Verdict::No;
        }
        match name.len() {
            // Enough of a name that it is none by chance.
            2.. if has_port || correlation < 1 << 16 => Verdict::LIKELY,
            0 | 1 if name.len() < name_len.into() => Verdict::NeedMore,
            _ if has_port => Verdict::LIKELY,
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
        check(
            b"\0\0\0\x15\0\x12\0\x03\0\0\0\x01\0\x0brdkafka-1.9",
            Some("kafka"),
        );
        check(b"\0\0\0\x15\0\x12\0\x03\0\0\0\x01\0\x0b\x01\x02", None);
        check(b"\0\0\0\x15\0\x7f\0\x03\0\0\0\x01\0\x02ab", None);
    }
}
