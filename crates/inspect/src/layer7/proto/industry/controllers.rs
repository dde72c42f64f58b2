//! Controllers and instruments of which only the name is told.

use crate::layer7::protocol::{Named, Side, Transport, Verdict};
use crate::layer7::reader::Reader;

const TCP: &[Transport] = &[Transport::Tcp];
const UDP: &[Transport] = &[Transport::Udp];

/// HiSLIP (IVI-6.1): `HS`, and the message that begins a session.
pub(super) static HISLIP: Named = Named {
    name: "hislip",
    ports: &[4880],
    transports: TCP,
    probe: |seen| {
        seen.opened_by_either(|bytes| match Verdict::magic(bytes, b"HS\0\0") {
            // Eight bytes of length at the end of the header: a name of at most 256 bytes.
            Verdict::Match { .. } => match bytes.get(8..16) {
                Some([0, 0, 0, 0, 0, 0, 0 | 1, _]) => Verdict::CERTAIN,
                Some(_) => Verdict::No,
                None => Verdict::NeedMore,
            },
            other => other,
        })
    },
};

/// Beckhoff's ADS: two zeroes, a length, two addresses, a command, flags, and the length of the data.
pub(super) static ADS: Named = Named {
    name: "beckhoff-ads",
    ports: &[48898],
    transports: TCP,
    probe: |seen| {
        seen.opened_by_either(|bytes| {
            let begin: [u8; 2] = [0, 0];
            if !begin.starts_with(&bytes[..bytes.len().min(2)])
                || bytes.get(4..6).is_some_and(|high| high != [0, 0])
            {
                return Verdict::No;
            }
            let mut reader = Reader::new(bytes);
            let head = (|| {
                reader.skip(2)?;
                let len = reader.le32()?;
                reader.skip(16)?;
                Some((len, reader.le16()?, reader.le16()?, reader.le32()?))
            })();
            // Only its port makes waiting for so many zeroes worth it.
            let Some((len, command, flags, data_len)) = head else {
                return if seen.has_port(48898) {
                    Verdict::NeedMore
                } else {
                    Verdict::No
                };
            };
            let is_ok =
                (1..=9).contains(&command) && matches!(flags, 4 | 5) && data_len.checked_add(32) == Some(len);
            match (is_ok, flags & 1) {
                (false, _) => Verdict::No,
                (true, 0) => Verdict::CERTAIN,
                (true, _) => Verdict::certain(Side::Server),
            }
        })
    },
};

/// Ethernet Global Data of GE: a kind (13) and version 1, with its port.
pub(super) static EGD: Named = Named {
    name: "ethernet-global-data",
    ports: &[18246],
    transports: UDP,
    probe: |seen| match *seen.newest() {
        [13, 1, ..] if seen.has_port(18246) && seen.newest().len() >= 32 => Verdict::likely(seen.side),
        _ => Verdict::No,
    },
};

/// Ether-S-Bus of Saia: the length, a version, a kind, with its port.
pub(super) static ETHERSBUS: Named = Named {
    name: "ether-s-bus",
    ports: &[5050],
    transports: UDP,
    probe: |seen| match *seen.newest() {
        [a, b, c, d, 0 | 1, 0 | 1, _, _, attribute @ 0..=2, ..]
            if seen.has_port(5050) && u32::from_be_bytes([a, b, c, d]) as usize == seen.newest().len() =>
        {
            // A telegram, its answer, or its acknowledgement.
            Verdict::likely(if attribute == 0 {
                seen.side
            } else {
                seen.side.other()
            })
        }
        _ => Verdict::No,
    },
};

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn sessions_of_instruments() {
        let check = |bytes: &[u8], app: Option<&str>| {
            assert_eq!(kit::stream(&[(0, bytes)]).insight.app, app, "{bytes:02x?}");
            kit::check_cuts(&[(0, bytes)]);
        };
        check(b"HS\0\0\x01\0vv\0\0\0\0\0\0\0\x07hislip0", Some("hislip"));
        check(b"HS\0\0\x01\0vv\0\0\0\0\0\x01\0\x07hislip0", None);
    }

    #[test]
    fn with_their_ports() {
        let app = |number: u8, port: u16, bytes: &[u8]| {
            kit::run(number, port, &[(0, bytes)], |_, _| Vec::new())
                .insight
                .app
        };
        let mut ads = b"\0\0\x20\0\0\0".to_vec();
        ads.extend([7; 16]);
        ads.extend(b"\x01\0\x04\0\0\0\0\0\0\0\0\0\x01\0\0\0");
        assert_eq!(app(6, 48898, &ads), Some("beckhoff-ads"));
        let mut egd = vec![13, 1];
        egd.resize(32, 0);
        assert_eq!(app(17, 18246, &egd), Some("ethernet-global-data"));
        assert_eq!(app(17, 9, &egd), None);
        let bus = b"\0\0\0\x0e\x01\0\0\x07\0\x01\x20\0\xab\xcd";
        assert_eq!(app(17, 5050, bus), Some("ether-s-bus"));
        assert_eq!(app(17, 5050, &bus[..13]), None);
    }
}
