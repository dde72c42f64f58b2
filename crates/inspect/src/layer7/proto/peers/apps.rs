//! Other applications with a header of their own: messengers, remote screens, measurements.

use crate::layer7::protocol::{Named, Seen, Side, Transport, Verdict};

const UDP: &[Transport] = &[Transport::Udp];
const TCP: &[Transport] = &[Transport::Tcp];

/// Whether this side's bytes begin with a text.
fn begins(seen: &Seen<'_>, side: Side, text: &[u8]) -> Option<bool> {
    begin(seen.data[side.index()], text)
}

/// Whether bytes begin with a text: no, not yet to be told, or yes.
fn begin(bytes: &[u8], text: &[u8]) -> Option<bool> {
    let len = bytes.len().min(text.len());
    if bytes[..len] != text[..len] {
        Some(false)
    } else if len == text.len() {
        Some(true)
    } else {
        None
    }
}

fn verdict(begins: Option<bool>) -> Verdict {
    match begins {
        None => Verdict::NeedMore,
        Some(true) => Verdict::CERTAIN,
        Some(false) => Verdict::No,
    }
}

/// WhatsApp: what is sent before the Noise handshake, behind a routing hint or not.
pub(super) const WHATSAPP: Named = Named {
    name: "whatsapp",
    ports: &[5222, 443],
    transports: TCP,
    probe: |seen| seen.opened_by_either(whatsapp),
};

fn whatsapp(bytes: &[u8]) -> Verdict {
    let mut bytes = bytes;
    let could_be_hint = bytes
        .iter()
        .zip(*b"ED\0\x01")
        .all(|(byte, expected)| *byte == expected);
    if could_be_hint {
        let Some(&[_, _, _, _, a, b, c]) = bytes.first_chunk::<7>() else {
            return Verdict::NeedMore;
        };
        let hint_len = u32::from_be_bytes([0, a, b, c]) as usize;
        if hint_len > 256 {
            return Verdict::No;
        }
        let Some(rest) = bytes.get(7 + hint_len..) else {
            return Verdict::NeedMore;
        };
        bytes = rest;
    }
    match *bytes {
        [] | [b'W'] | [b'W', b'A'] | [b'W', b'A', _] => Verdict::NeedMore,
        // Version, then the length of the first message, in three bytes.
        [b'W', b'A', 1..=9, 0..=9, ..] if bytes.len() < 7 => Verdict::NeedMore,
        [b'W', b'A', 1..=9, 0..=9, 0, high, low, ..] if high < 16 && (high, low) != (0, 0) => {
            Verdict::CERTAIN
        }
        _ => Verdict::No,
    }
}

/// TeamViewer: its commands' first bytes.
pub(super) const TEAMVIEWER: Named = Named {
    name: "teamviewer",
    ports: &[5938],
    transports: &[Transport::Tcp, Transport::Udp],
    probe: |seen| {
        let bytes = seen.newest();
        let is_marker = |bytes: &[u8]| matches!(*bytes, [0x17, 0x24, ..] | [0x11, 0x30, ..]);
        if seen.transport == Transport::Udp {
            // Behind a number, and where the other end is.
            let is_udp = bytes.first() == Some(&0) && bytes.get(11..).is_some_and(is_marker);
            return if is_udp { Verdict::LIKELY } else { Verdict::No };
        }
        match bytes {
            [] | [0x17] | [0x11] if seen.has_port(5938) => Verdict::NeedMore,
            _ if is_marker(bytes) && seen.has_port(5938) => Verdict::CERTAIN,
            _ => Verdict::No,
        }
    },
};

/// Ookla's Speedtest: both ends greet.
pub(super) const OOKLA: Named = Named {
    name: "ookla",
    ports: &[8080, 5060],
    transports: TCP,
    probe: |seen| {
        let client = begins(seen, Side::Client, b"HI");
        let server = begins(seen, Side::Server, b"HELLO ");
        match (client, server) {
            (Some(false), _) | (_, Some(false)) => Verdict::No,
            (Some(true), Some(true)) => Verdict::CERTAIN,
            _ => Verdict::NeedMore,
        }
    },
};

/// RIPE Atlas: what its probes send to learn of middle boxes.
pub(super) const RIPE_ATLAS: Named = Named {
    name: "ripe-atlas",
    ports: &[],
    transports: UDP,
    probe: |seen| {
        if seen.newest().starts_with(b"MGLNDD_") {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    },
};

/// The probes of Brazil's measurement of broadband: sixteen bytes that begin with the digits of a counter.
pub(super) const EAQ: Named = Named {
    name: "eaq",
    ports: &[6000],
    transports: UDP,
    probe: |seen| {
        const LEN: usize = 16;
        let count = |bytes: &[u8]| {
            let digits = bytes.first_chunk::<4>()?;
            let is_digits = digits.iter().all(|digit| *digit <= 9);
            is_digits.then(|| {
                digits
                    .iter()
                    .fold(0, |count, digit| count * 10 + u32::from(*digit))
            })
        };
        let Some(newest) = count(seen.newest()) else {
            return Verdict::No;
        };
        if seen.newest().len() != LEN || !seen.has_port(6000) {
            return Verdict::No;
        }
        let is_before = |earlier: &crate::layer7::protocol::Earlier| {
            earlier.len as usize == LEN && count(earlier.head()).is_some_and(|before| before <= newest)
        };
        match seen.earlier.len() {
            0..=2 => Verdict::NeedMore,
            _ if seen.earlier.iter().all(is_before) => Verdict::CERTAIN,
            _ => Verdict::No,
        }
    },
};

/// TiVo's boxes tell of themselves.
pub(super) const TIVO: Named = Named {
    name: "tivo-connect",
    ports: &[2190],
    transports: &[Transport::Udp, Transport::Tcp],
    probe: |seen| match begins(seen, seen.side, b"TiVoConnect=") {
        None if seen.transport == Transport::Udp => Verdict::No,
        found => verdict(found),
    },
};

/// Cisco Meraki's devices and their cloud.
pub(super) const MERAKI: Named = Named {
    name: "meraki-cloud",
    ports: &[7351],
    transports: UDP,
    probe: |seen| match *seen.newest() {
        [0xfe, 0xf7, 0x28, 0x91, ..] if seen.newest().len() >= 16 => Verdict::CERTAIN,
        _ => Verdict::No,
    },
};

/// Avast's updates: a name, and a length that counts all.
pub(super) const AVAST: Named = Named {
    name: "avast",
    ports: &[80],
    transports: TCP,
    probe: |seen| seen.opened_by_either(|bytes| verdict(begin(bytes, b"NOSA\0"))),
};

/// Nest's devices and the service their logs go to, over OpenWeave: length, then a header of version 1.
pub(super) const NEST: Named = Named {
    name: "nest-log-sink",
    ports: &[11095],
    transports: TCP,
    probe: |seen| {
        if !seen.has_port(11095) {
            return Verdict::No;
        }
        seen.opened_by_either(|bytes| match *bytes {
            [low, high, flags, version, ..] => {
                let len = u16::from_le_bytes([low, high]);
                if len >= 16 && flags & 0xe0 == 0 && version >> 4 == 1 {
                    Verdict::CERTAIN
                } else {
                    Verdict::No
                }
            }
            _ => Verdict::NeedMore,
        })
    },
};

/// Dynamic Link Exchange Protocol (RFC 8175): radios and their routers.
pub(super) const DLEP: Named = Named {
    name: "dlep",
    ports: &[854],
    transports: &[Transport::Udp, Transport::Tcp],
    probe: |seen| {
        let bytes = seen.newest();
        if seen.transport == Transport::Udp {
            return match bytes.strip_prefix(b"DLEP") {
                Some([0, 1..=2, high, low, items @ ..])
                    if usize::from(u16::from_be_bytes([*high, *low])) == items.len() =>
                {
                    Verdict::CERTAIN
                }
                _ => Verdict::No,
            };
        }
        if !seen.has_port(854) {
            return Verdict::No;
        }
        match *bytes {
            // Opening a session comes first, and its items are numbered from 1 on.
            [0, 1..=2, _, _, 0, 1..=25, ..] => Verdict::CERTAIN,
            [] | [0] | [0, 1..=2] | [0, 1..=2, _] | [0, 1..=2, _, _] | [0, 1..=2, _, _, 0] => {
                Verdict::NeedMore
            }
            _ => Verdict::No,
        }
    },
};

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[track_caller]
    fn check_to(port: u16, said: &[(usize, &[u8])], app: Option<&str>) {
        for piece in [1, usize::MAX] {
            let outcome = kit::run(6, port, said, |_, len| vec![piece; len / piece]);
            assert_eq!(outcome.insight.app, app, "pieces of {piece}");
        }
    }

    #[test]
    fn over_tcp() {
        kit::check_stream(&[(0, b"WA\x06\x03\0\0\x2aabcdef")], Some("whatsapp"), &[]);
        kit::check_stream(
            &[(0, b"ED\0\x01\0\0\x02abWA\x06\x03\0\0\x2aabcdef")],
            Some("whatsapp"),
            &[],
        );
        kit::check_stream(&[(0, b"WARNING: no")], None, &[]);
        check_to(5938, &[(0, b"\x17\x24\x0a\x20\0\0")], Some("teamviewer"));
        kit::check_stream(&[(0, b"HI\n"), (1, b"HELLO 2.9 (2.9.2)\n")], Some("ookla"), &[]);
        kit::check_stream(&[(0, b"NOSA\0\x60\x01\x01")], Some("avast"), &[]);
        let message = b"\x11\x02\0\x13\x08\x03\0\0\x36\x9e";
        check_to(11095, &[(0, message)], Some("nest-log-sink"));
        check_to(9, &[(0, message)], None);
        check_to(854, &[(0, b"\0\x01\0\x08\0\x05\0\x04\0\0\xea\x60")], Some("dlep"));
    }

    #[test]
    fn over_udp() {
        kit::check_datagrams(&[(0, b"MGLNDD_192.0.2.1_4712")], Some("ripe-atlas"), &[]);
        kit::check_datagrams(&[(0, b"TiVoConnect=1\nswversion=1\n")], Some("tivo-connect"), &[]);
        kit::check_datagrams(&[(0, b"DLEP\0\x01\0\x04\0\x04\0\0")], Some("dlep"), &[]);
        kit::check_datagrams(&[(0, b"DLEP\0\x01\0\x05\0\x04\0\0")], None, &[]);
        let probe = |count: u8| [0, 0, 0, count, 0, 0, 0x0d, 0xda, 0, 1, 0x4b, 7, 0, 0, 0x90, 0];
        let said: Vec<_> = [1, 1, 2, 2].map(probe).to_vec();
        let said: Vec<(usize, &[u8])> = said.iter().map(|bytes| (0, &bytes[..])).collect();
        kit::check_datagrams_to(6000, &said, Some("eaq"), &[]);
        kit::check_datagrams(&said, None, &[]);
    }
}
