//! Oracle's Transparent Network Substrate: packets with a length and a type, a connect descriptor in the first.

use crate::layer7::protocol::{Named, Seen, Transport, Verdict};

pub(super) static TNS: Named = Named {
    name: "oracle",
    ports: &[1521],
    transports: &[Transport::Tcp],
    probe,
};

fn probe(seen: &Seen<'_>) -> Verdict {
    seen.opened_by_either(|bytes| {
        // Length, its checksum (0), type 1 (connect), a reserved byte, the header's checksum (0), versions.
        let is_begun = match *bytes {
            [_, _, c, ..] if c != 0 => false,
            [_, _, _, c, ..] if c != 0 => false,
            [_, _, _, _, kind, ..] if kind != 1 => false,
            [_, _, _, _, _, flags, ..] if flags > 0x0f => false,
            _ => true,
        };
        let Some(head) = bytes.first_chunk::<12>() else {
            return if is_begun { Verdict::NeedMore } else { Verdict::No };
        };
        let len = u16::from_be_bytes([head[0], head[1]]);
        let version = u16::from_be_bytes([head[8], head[9]]);
        let compatible = u16::from_be_bytes([head[10], head[11]]);
        let is_version = (0x100..=0x200).contains(&version) && compatible <= version && compatible >= 0x100;
        // A length of 0: it stands in four bytes (since version 3.15 of the protocol).
        let is_len = len == 0 || (34..=8192).contains(&len);
        if is_begun && is_version && is_len && head[6] == 0 && head[7] == 0 {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        let check = |bytes: &[u8], app: Option<&str>| kit::check_stream(&[(0, bytes)], app, &[]);
        check(b"\0\xd4\0\0\x01\0\0\0\x01\x3b\x01\x2c\x0c\x41", Some("oracle"));
        check(b"\0\xd4\0\0\x02\0\0\0\x01\x3b\x01\x2c\x0c\x41", None);
        check(b"\0\xd4\0\0\x01\0\0\0\x01\x2c\x01\x3b\x0c\x41", None);
    }
}
