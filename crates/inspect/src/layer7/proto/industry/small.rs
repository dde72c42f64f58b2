//! Protocols of which only the name is told.

use crate::layer7::protocol::{Named, Seen, Side, Transport, Verdict};
use crate::layer7::reader::Reader;

const TCP: &[Transport] = &[Transport::Tcp];
const UDP: &[Transport] = &[Transport::Udp];
const BOTH: &[Transport] = &[Transport::Tcp, Transport::Udp];

/// A datagram that is as `is` says; likely, or certain.
fn datagram(seen: &Seen<'_>, is: impl FnOnce(&[u8]) -> Option<Verdict>) -> Verdict {
    match is(seen.newest()) {
        Some(verdict) if seen.side == Side::Server => match verdict {
            Verdict::Match { sure, client } => Verdict::Match {
                sure,
                client: client.other(),
            },
            other => other,
        },
        Some(verdict) => verdict,
        None => Verdict::No,
    }
}

/// What a message over ISO transport (RFC 1006) holds: `None` while it is not whole, no bytes if it is none.
fn iso(bytes: &[u8]) -> Option<(u8, &[u8])> {
    match *bytes {
        [3, 0, high, low, len, kind, ref rest @ ..] => {
            let total = usize::from(u16::from_be_bytes([high, low]));
            let header = usize::from(len).checked_sub(1).filter(|len| len + 6 <= total);
            header.map_or(Some((0, &[])), |len| rest.get(len..).map(|rest| (kind, rest)))
        }
        [3] | [3, 0] | [3, 0, _] | [3, 0, _, _] | [3, 0, _, _, _] => None,
        _ => Some((0, &[])),
    }
}

/// The bytes of a stream behind the connection request, if it began with one.
fn behind_request(bytes: &[u8]) -> &[u8] {
    match *bytes {
        [3, 0, high, low, _, 0xe0 | 0xd0, ..] => {
            let len = usize::from(u16::from_be_bytes([high, low]));
            bytes.get(len..).unwrap_or_default()
        }
        _ => bytes,
    }
}

fn over_iso(seen: &Seen<'_>, is: fn(&[u8]) -> Option<bool>) -> Verdict {
    seen.opened_by_either(|bytes| {
        let begin: [u8; 2] = [3, 0];
        if !begin.starts_with(&bytes[..bytes.len().min(2)]) {
            return Verdict::No;
        }
        let rest = behind_request(bytes);
        if rest.is_empty() {
            return Verdict::NeedMore;
        }
        match iso(rest) {
            Some((0xf0, body)) => match is(body) {
                Some(true) => Verdict::CERTAIN,
                Some(false) => Verdict::No,
                None => Verdict::NeedMore,
            },
            Some((0xe0 | 0xd0, _)) | None => Verdict::NeedMore,
            Some(_) => Verdict::No,
        }
    })
}

/// Siemens S7 communication, old (0x32) and new (0x72).
pub(super) static S7COMM: Named = Named {
    name: "s7comm",
    ports: &[102],
    transports: TCP,
    probe: |seen| {
        over_iso(seen, |body| match *body {
            [0x32, kind, ..] => Some(matches!(kind, 1..=3 | 7)),
            [0x72, version, ..] => Some(matches!(version, 1..=3 | 0xfe)),
            [] | [0x32 | 0x72] => None,
            _ => Some(false),
        })
    },
};

/// MMS (IEC 61850): a session's CONNECT or ACCEPT.
pub(super) static MMS: Named = Named {
    name: "mms",
    ports: &[102],
    transports: TCP,
    probe: |seen| {
        over_iso(seen, |body| match *body {
            [0x0d | 0x0e, len, 0x05, ..] => Some(len > 8),
            [] | [0x0d | 0x0e] | [0x0d | 0x0e, _] => None,
            _ => Some(false),
        })
    },
};

/// BACnet/IP (ASHRAE 135 annex J): 0x81, a function, the length.
pub(super) static BACNET: Named = Named {
    name: "bacnet",
    ports: &[47808],
    transports: UDP,
    probe: |seen| {
        datagram(seen, |bytes| match *bytes {
            [0x81, function @ 0..=12, high, low, ref rest @ ..]
                if usize::from(u16::from_be_bytes([high, low])) == bytes.len() =>
            {
                // Those that carry a network message have its version (1) next; forwarded ones an address before.
                let version = match function {
                    4 => rest.get(6),
                    9..=11 => rest.first(),
                    _ => return seen.has_port(47808).then_some(Verdict::LIKELY),
                };
                (version == Some(&1)).then_some(Verdict::CERTAIN)
            }
            _ => None,
        })
    },
};

/// IEC 60870-5-104: 0x68, a length, four bytes of control that say of what kind the frame is.
pub(super) static IEC104: Named = Named {
    name: "iec104",
    ports: &[2404],
    transports: TCP,
    probe: |seen| {
        let has_port = seen.has_port(2404);
        seen.opened_by_either(|bytes| {
            if bytes[0] != 0x68 || bytes.get(1).is_some_and(|&len| !(4..=253).contains(&len)) {
                return Verdict::No;
            }
            let Some(&[_, len, one, two, three, four]) = bytes.first_chunk() else {
                return Verdict::NeedMore;
            };
            let is_unnumbered =
                len == 4 && matches!(one, 7 | 0x0b | 0x13 | 0x23 | 0x43 | 0x83) && two | three | four == 0;
            let is_supervisory = len == 4 && one == 1 && two == 0 && three & 1 == 0;
            let is_information = len >= 12 && one & 1 == 0 && three & 1 == 0;
            if is_unnumbered || (has_port && (is_supervisory || is_information)) {
                Verdict::LIKELY
            } else {
                Verdict::No
            }
        })
    },
};

/// DLMS/COSEM (IEC 62056): in HDLC frames, or in the wrapper over TCP and UDP (version 1).
pub(super) static DLMS: Named = Named {
    name: "iec62056",
    ports: &[4059, 4060],
    transports: BOTH,
    probe: |seen| {
        let is_udp = seen.transport == Transport::Udp;
        let has_port = seen.has_port(4059) || seen.has_port(4060);
        seen.opened_by_either(|bytes| match *bytes {
            // A flag, the format (type 3) with the length, which leads to the other flag.
            [0x7e, format, low, ..] if format & 0xf0 == 0xa0 => {
                let len = usize::from(format & 7) << 8 | usize::from(low);
                match bytes.get(len + 1) {
                    Some(0x7e) if len >= 7 => Verdict::LIKELY,
                    None if !is_udp && len >= 7 => Verdict::NeedMore,
                    _ => Verdict::No,
                }
            }
            [0x7e] | [0x7e, 0xa0..=0xaf] if !is_udp => Verdict::NeedMore,
            [0, 1, _, _, _, _, high, low, tag, ..] if has_port => {
                let len = usize::from(u16::from_be_bytes([high, low]));
                let is_tag = matches!(
                    tag,
                    0x60 | 0x61 | 0xc0..=0xc8 | 0x01 | 0x05 | 0x06 | 0x0c | 0x0d | 0xd8
                );
                if is_tag && len > 1 && (!is_udp || bytes.len() == 8 + len) {
                    Verdict::LIKELY
                } else {
                    Verdict::No
                }
            }
            [0, 1, ..] if has_port && bytes.len() < 9 => Verdict::NeedMore,
            [0] if has_port => Verdict::NeedMore,
            _ => Verdict::No,
        })
    },
};

/// OPC UA over TCP: three letters, `F` or `C` or `A`, the length.
pub(super) static OPCUA: Named = Named {
    name: "opc-ua",
    ports: &[4840],
    transports: TCP,
    probe: |seen| {
        seen.opened_by_either(|bytes| {
            let kinds: [(&[u8], Side); 5] = [
                (b"HELF", Side::Client),
                (b"ACKF", Side::Server),
                (b"OPNF", Side::Client),
                (b"MSGF", Side::Client),
                (b"RHEF", Side::Server),
            ];
            for (kind, client) in kinds {
                if kind.starts_with(&bytes[..bytes.len().min(4)]) {
                    let Some(&[_, _, _, _, a, b, c, d]) = bytes.first_chunk() else {
                        return Verdict::NeedMore;
                    };
                    let is_ok = (12..1 << 24).contains(&u32::from_le_bytes([a, b, c, d]));
                    return if is_ok {
                        Verdict::certain(client)
                    } else {
                        Verdict::No
                    };
                }
            }
            Verdict::No
        })
    },
};

/// KNXnet/IP: a header of six bytes, version 1.0, a service, the length.
pub(super) static KNX: Named = Named {
    name: "knxnet-ip",
    ports: &[3671],
    transports: BOTH,
    probe: |seen| {
        let is_udp = seen.transport == Transport::Udp;
        seen.opened_by_either(|bytes| match *bytes {
            [6, 0x10, 2..=7 | 9, _, high, low, ..] => {
                let len = usize::from(u16::from_be_bytes([high, low]));
                if len == bytes.len() || (!is_udp && (8..256).contains(&len)) {
                    Verdict::CERTAIN
                } else {
                    Verdict::No
                }
            }
            _ if !is_udp && bytes.len() < 6 && b"\x06\x10".starts_with(&bytes[..bytes.len().min(2)]) => {
                Verdict::NeedMore
            }
            _ => Verdict::No,
        })
    },
};

/// ANSI C12.22: an ACSE unit whose first element is a name or a reference.
pub(super) static C1222: Named = Named {
    name: "c1222",
    ports: &[1153],
    transports: BOTH,
    probe: |seen| {
        let is_udp = seen.transport == Transport::Udp;
        let has_port = seen.has_port(1153);
        seen.opened_by_either(|bytes| {
            if bytes[0] != 0x60 {
                return Verdict::No;
            }
            let (len, rest) = match *bytes {
                [_, len @ 0..=0x7f, ref rest @ ..] => (usize::from(len), rest),
                [_, 0x81, len, ref rest @ ..] => (len.into(), rest),
                [_, 0x82, high, low, ref rest @ ..] => (u16::from_be_bytes([high, low]).into(), rest),
                _ if bytes.len() < 4 && !is_udp => return Verdict::NeedMore,
                _ => return Verdict::No,
            };
            let is_whole = rest.len() == len;
            match *rest {
                // An application's name: an identifier below one of C12's two roots.
                [0xa2 | 0xa6, _, 6 | 0x80, n, ..] if usize::from(n) < len && (is_whole || !is_udp) => {
                    if memchr::memmem::find(rest, b"\x86\xf7\x54\x01\x16").is_some() {
                        Verdict::CERTAIN
                    } else if has_port {
                        Verdict::LIKELY
                    } else {
                        Verdict::No
                    }
                }
                _ if rest.len() < 4 && !is_udp => Verdict::NeedMore,
                _ => Verdict::No,
            }
        })
    },
};

/// SOME/IP (AUTOSAR): a service, a method, the length, two numbers, version 1, an interface's version, a
/// kind and a return code.
pub(super) static SOMEIP: Named = Named {
    name: "someip",
    ports: &[30490, 30491, 30501],
    transports: BOTH,
    probe: |seen| {
        let is_udp = seen.transport == Transport::Udp;
        seen.opened_by_either(|bytes| {
            let Some(head) = bytes.first_chunk::<16>() else {
                let is_begun = bytes.get(12).is_none_or(|&version| version == 1);
                return if is_begun && !is_udp && bytes.get(4).is_none_or(|&high| high == 0) {
                    Verdict::NeedMore
                } else {
                    Verdict::No
                };
            };
            let len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let [.., version, _, kind, code] = *head;
            let is_kind = matches!(kind, 0 | 1 | 2 | 0x40..=0x42 | 0x80 | 0x81 | 0xc0 | 0xc1);
            // A datagram may hold several.
            let is_len = (8..=1 << 16).contains(&len) && (!is_udp || len + 8 <= bytes.len());
            let is_request = matches!(kind, 0 | 1 | 2 | 0x40..=0x42);
            if version != 1 || !is_kind || !is_len || code > 0x5e || (is_request && code != 0) {
                return Verdict::No;
            }
            // Service discovery is service 0xffff, method 0x8100.
            if head[..4] == [0xff, 0xff, 0x81, 0] {
                return Verdict::CERTAIN;
            }
            let is_exact = is_udp && len + 8 == bytes.len();
            let has_port = [30490, 30491, 30501].iter().any(|&port| seen.has_port(port));
            let client = if is_request { Side::Client } else { Side::Server };
            if is_exact || has_port {
                Verdict::likely(client)
            } else {
                Verdict::No
            }
        })
    },
};

/// TRDP (IEC 61375-2-3): a sequence number, version 1, a kind in two letters.
pub(super) static TRDP: Named = Named {
    name: "trdp",
    ports: &[17224, 17225],
    transports: BOTH,
    probe: |seen| {
        let is_udp = seen.transport == Transport::Udp;
        let verdict = |bytes: &[u8]| match *bytes {
            [_, _, _, _, 1, _, b'P', b'd' | b'p' | b'r' | b'e', ..]
            | [
                _,
                _,
                _,
                _,
                1,
                _,
                b'M',
                b'n' | b'r' | b'p' | b'q' | b'c' | b'e',
                ..,
            ] => {
                if bytes.len() >= 40 || !is_udp {
                    Verdict::CERTAIN
                } else {
                    Verdict::No
                }
            }
            _ if is_udp || bytes.len() >= 8 => Verdict::No,
            _ => Verdict::NeedMore,
        };
        seen.opened_by_either(verdict)
    },
};

/// RTPS of DDS: `RTPS` and a version.
pub(super) static RTPS: Named = Named {
    name: "rtps",
    ports: &[7400, 7410, 7411],
    transports: UDP,
    probe: |seen| {
        datagram(seen, |bytes| match *bytes {
            [b'R', b'T', b'P', b'S' | b'X', 1 | 2, ..] if bytes.len() >= 16 => Some(Verdict::CERTAIN),
            _ => None,
        })
    },
};

/// Ether-S-I/O of Saia: `ESIO`.
pub(super) static ETHERSIO: Named = Named {
    name: "ether-s-io",
    ports: &[6060],
    transports: UDP,
    probe: |seen| {
        datagram(seen, |bytes| {
            (bytes.starts_with(b"ESIO\0") && bytes.len() >= 14).then_some(Verdict::CERTAIN)
        })
    },
};

/// FLUTE over ALC/LCT (RFC 6726, 5651): version 1, the header's length, and a file table's first object.
pub(super) static FLUTE: Named = Named {
    name: "flute",
    ports: &[],
    transports: UDP,
    probe: |seen| {
        datagram(seen, |bytes| {
            let &[first, flags, header_words, _, ..] = bytes.first_chunk::<8>()?;
            let header_len = usize::from(header_words) * 4;
            let is_ok = first & 0xf0 == 0x10 && first & 3 == 0 && flags & 0x0c == 0 && header_words >= 3;
            let header = bytes.get(..header_len).filter(|_| is_ok)?;
            // Extension 192 says it is FLUTE, version 1 or 2; 64 what is sent; then the table itself.
            let has_table = header
                .windows(2)
                .step_by(4)
                .any(|head| head[0] == 192 && matches!(head[1] >> 4, 1 | 2));
            let is_xml = memchr::memmem::find(&bytes[header_len..], b"<?xml").is_some_and(|at| at <= 8);
            (has_table && is_xml).then_some(Verdict::CERTAIN)
        })
    },
};

/// Roughtime: a number of tags, offsets in steps of four, tags in letters.
pub(super) static ROUGHTIME: Named = Named {
    name: "roughtime",
    ports: &[2002, 2003],
    transports: UDP,
    probe: |seen| {
        datagram(seen, |bytes| {
            // The later drafts begin with a magic number and a length.
            let message = bytes
                .strip_prefix(b"ROUGHTIM")
                .and_then(|rest| rest.get(4..))
                .unwrap_or(bytes);
            let mut reader = Reader::new(message);
            let n = reader.le32().filter(|n| (2..=32).contains(n))?;
            let mut last = 0;
            for _ in 1..n {
                let offset = reader.le32()?;
                if offset % 4 != 0 || offset < last || offset as usize > bytes.len() {
                    return None;
                }
                last = offset;
            }
            let tags = reader.take(4 * n as usize)?;
            let has = |tag: &[u8]| tags.chunks(4).any(|of| of == tag);
            let is_answer = has(b"SREP") && has(b"CERT");
            match (is_answer, has(b"NONC")) {
                (true, _) => Some(Verdict::certain(Side::Server)),
                (false, true) => Some(Verdict::CERTAIN),
                _ => None,
            }
        })
    },
};

/// CNP/IP (EIA-852, LonWorks): the length, version 1, a kind.
pub(super) static CNPIP: Named = Named {
    name: "cnp-ip",
    ports: &[1628, 1629],
    transports: BOTH,
    probe: |seen| {
        let has_port = seen.has_port(1628) || seen.has_port(1629);
        datagram(seen, |bytes| match *bytes {
            [high, low, 1, kind, _, flags, ..] if has_port && bytes.len() >= 20 => {
                let len = usize::from(u16::from_be_bytes([high, low]));
                let is_kind = matches!(kind, 1..=8 | 0x60..=0x72 | 0x7f);
                let is_len =
                    len == bytes.len() || len + 2 == bytes.len() || len + 4 == bytes.len() || kind == 1;
                (is_kind && is_len && flags <= 0x1f).then_some(Verdict::LIKELY)
            }
            _ => None,
        })
    },
};

/// HART-IP: version 1 or 2, a kind, an id, a status, a number, the length.
pub(super) static HARTIP: Named = Named {
    name: "hart-ip",
    ports: &[5094],
    transports: BOTH,
    probe: |seen| {
        let is_udp = seen.transport == Transport::Udp;
        let has_port = seen.has_port(5094);
        seen.opened_by_either(|bytes| {
            if !has_port || !matches!(bytes[0], 1 | 2) {
                return Verdict::No;
            }
            let Some(&[_, kind, id, _, _, _, high, low]) = bytes.first_chunk() else {
                return if is_udp { Verdict::No } else { Verdict::NeedMore };
            };
            let len = usize::from(u16::from_be_bytes([high, low]));
            let is_ok = matches!(kind, 0..=3 | 15) && id <= 5 && (8..=1500).contains(&len);
            match is_ok && (!is_udp || bytes.len() == len) {
                true if kind == 1 => Verdict::likely(Side::Server),
                true => Verdict::LIKELY,
                false => Verdict::No,
            }
        })
    },
};

/// OMRON FINS: over TCP `FINS` and a length; over UDP its control field and a gateway count.
pub(super) static FINS: Named = Named {
    name: "fins",
    ports: &[9600],
    transports: BOTH,
    probe: |seen| {
        if seen.transport == Transport::Tcp {
            return seen.opened_by_either(|bytes| match Verdict::magic(bytes, b"FINS") {
                Verdict::Match { .. } => match *bytes {
                    [_, _, _, _, 0, 0, _, 8..=255, 0, 0, 0, 0..=6, ..] => Verdict::CERTAIN,
                    _ if bytes.len() < 12 => Verdict::NeedMore,
                    _ => Verdict::No,
                },
                other => other,
            });
        }
        let has_port = seen.has_port(9600);
        datagram(seen, |bytes| match *bytes {
            [
                icf @ (0x80 | 0x81 | 0xc0 | 0xc1),
                0,
                2 | 7,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                1..=0x23,
                _,
                ..,
            ] if has_port => Some(Verdict::likely(if icf & 0x40 != 0 {
                Side::Server
            } else {
                Side::Client
            })),
            _ => None,
        })
    },
};

/// DoIP (ISO 13400): a version and its complement, a kind, the length.
pub(super) static DOIP: Named = Named {
    name: "doip",
    ports: &[13400],
    transports: BOTH,
    probe: |seen| {
        let is_udp = seen.transport == Transport::Udp;
        let has_port = seen.has_port(13400);
        seen.opened_by_either(|bytes| {
            let is_begun =
                matches!(bytes[0], 1..=4 | 0xff) && bytes.get(1).is_none_or(|&other| other == !bytes[0]);
            let Some(&[_, _, high, low, a, b, c, d]) = bytes.first_chunk() else {
                return if is_begun && !is_udp {
                    Verdict::NeedMore
                } else {
                    Verdict::No
                };
            };
            let kind = u16::from_be_bytes([high, low]);
            let len = u32::from_be_bytes([a, b, c, d]) as usize;
            let is_kind = matches!(kind, 0..=8 | 0x4001..=0x4004 | 0x8001..=0x8003);
            if !is_begun || !is_kind || len > 1 << 20 || (is_udp && bytes.len() != 8 + len) {
                return Verdict::No;
            }
            let client = if matches!(kind, 0 | 4 | 6 | 7 | 0x4002 | 0x4004) {
                Side::Server
            } else {
                Side::Client
            };
            if has_port {
                Verdict::certain(client)
            } else {
                Verdict::likely(client)
            }
        })
    },
};

/// Synchrophasors (IEEE C37.118): 0xAA, a kind and a version, the length.
pub(super) static SYNCHROPHASOR: Named = Named {
    name: "synchrophasor",
    ports: &[4712, 4713],
    transports: BOTH,
    probe: |seen| {
        let is_udp = seen.transport == Transport::Udp;
        seen.opened_by_either(|bytes| {
            if bytes[0] != 0xaa
                || bytes
                    .get(1)
                    .is_some_and(|kind| kind >> 4 > 5 || !(1..=3).contains(&(kind & 0xf)))
            {
                return Verdict::No;
            }
            let Some(&[_, kind, high, low]) = bytes.first_chunk() else {
                return if is_udp { Verdict::No } else { Verdict::NeedMore };
            };
            let len = usize::from(u16::from_be_bytes([high, low]));
            // Commands come from the client.
            let client = if kind >> 4 == 4 {
                Side::Client
            } else {
                Side::Server
            };
            match bytes.get(..len) {
                _ if len < 16 => Verdict::No,
                None if is_udp || len > 2048 => Verdict::No,
                None => Verdict::NeedMore,
                // The checksum is what tells it.
                Some(frame) if ccitt(&frame[..len - 2]).to_be_bytes() == frame[len - 2..] => {
                    Verdict::certain(client)
                }
                Some(_) => Verdict::No,
            }
        })
    },
};

fn ccitt(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |mut crc, &byte| {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 != 0 {
                crc << 1 ^ 0x1021
            } else {
                crc << 1
            };
        }
        crc
    })
}

/// BFCP (RFC 4582, 8855): version 1 or 2, an operation, the length in words, a conference.
pub(super) static BFCP: Named = Named {
    name: "bfcp",
    ports: &[],
    transports: BOTH,
    probe: |seen| {
        let is_udp = seen.transport == Transport::Udp;
        seen.opened_by_either(|bytes| {
            // The lowest three bits are reserved; of those above one says it is an answer.
            if !matches!(bytes[0] >> 5, 1 | 2) || bytes[0] & 0x0f != 0 {
                return Verdict::No;
            }
            let Some(&[first, op, high, low, ..]) = bytes.first_chunk::<12>() else {
                let is_op = bytes.get(1).is_none_or(|op| matches!(op, 1..=18));
                return if !is_udp && is_op {
                    Verdict::NeedMore
                } else {
                    Verdict::No
                };
            };
            let len = 12 + 4 * usize::from(u16::from_be_bytes([high, low]));
            let is_op = matches!(op, 1..=18);
            // Attributes: a kind, the highest seven bits, and a length that counts both bytes.
            let attribute_ok = match bytes.get(12..14) {
                Some(&[kind, n]) => (1..=18).contains(&(kind >> 1)) && (2..=len - 12).contains(&n.into()),
                // HELLO has none.
                _ => len == 12 && matches!(op, 11 | 12),
            };
            let is_answer = first & 0x10 != 0 || matches!(op, 4 | 8 | 10 | 12 | 13);
            match is_op && attribute_ok && (bytes.len() == len || (!is_udp && bytes.len() > len)) {
                true if is_answer => Verdict::likely(Side::Server),
                true => Verdict::LIKELY,
                false if is_op && !is_udp && bytes.len() < len.min(14) => Verdict::NeedMore,
                false => Verdict::No,
            }
        })
    },
};

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn streams() {
        let check = |bytes: &[u8], app: Option<&str>| {
            assert_eq!(kit::stream(&[(0, bytes)]).insight.app, app, "{bytes:02x?}");
            kit::check_cuts(&[(0, bytes)]);
        };
        check(
            b"\x03\0\0\x16\x11\xe0\0\0\0\x07\0\xc1\x02\x01\0\xc2\x02\x01\x02\xc0\x01\x0a\x03\0\0\x19\x02\xf0\x80\x32\x01\0\0\x02\0\0\x08\0\0\xf0\0\0\x01\0\x01\x01\xe0",
            Some("s7comm"),
        );
        check(b"\x03\0\0\x19\x02\xf0\x80\x33\x01\0\0\x02\0\0\x08", None);
        check(b"\x68\x04\x07\0\0\0", Some("iec104"));
        check(b"\x68\x04\x06\0\x07\0", None);
        check(b"\x7e\xa0\x07\x03\x21\x93\x0f\x01\x7e", Some("iec62056"));
        check(b"HELF\x38\0\0\0\0\0\0\0\0\0\x02\0", Some("opc-ua"));
        check(b"\0\0\0\0\x01\0Mr\0\0\x03\xe9", Some("trdp"));
        check(
            b"\xaa\x41\0\x12\0\x64\x65\x53\xf1\x03\0\0\0\0\0\x05\xf8\x91",
            Some("synchrophasor"),
        );
        check(
            b"\xaa\x41\0\x12\0\x64\x65\x53\xf1\x03\0\0\0\0\0\x05\xf8\x92",
            None,
        );
        check(b"FINS\0\0\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0", Some("fins"));
        check(b"\x02\xfd\0\x05\0\0\0\x07\x0e\0\0\0\0\0\0", Some("doip"));
        check(b"\x02\xfc\0\x05\0\0\0\x07\x0e\0\0\0\0\0\0", None);
    }

    #[test]
    fn datagrams() {
        let check = |bytes: &[u8], app: Option<&str>| {
            assert_eq!(kit::datagrams(9, &[(0, bytes)]).insight.app, app, "{bytes:02x?}");
            kit::check_datagrams(&[(0, bytes)], app, &[]);
        };
        check(
            b"\x81\x0a\0\x11\x01\x04\0\x05\xa9\x0c\x0c\x02\x3f\xff\xff\x19\x4b",
            Some("bacnet"),
        );
        check(
            b"\x81\x0a\0\x12\x01\x04\0\x05\xa9\x0c\x0c\x02\x3f\xff\xff\x19\x4b",
            None,
        );
        check(
            b"\x06\x10\x02\x01\0\x0e\x08\x01\xc0\xa8\x58\xe7\xa1\x7f",
            Some("knxnet-ip"),
        );
        check(
            b"\x12\x34\0\x08\0\0\0\x11\0\0\0\x01\x01\x01\0\0\0\0\0\x05\xab\xab\xab\xab\xab",
            Some("someip"),
        );
        check(b"RTPS\x02\x01\x01\x01NDDSPING", Some("rtps"));
        check(b"ESIO\0\x01\0\0\0\x31\x76\x16\0\0\0\x18", Some("ether-s-io"));
        check(b"\x02\0\0\0\x40\0\0\0NONCPAD\xff0123456789012345678901234567890123456789012345678901234567890123", Some("roughtime"));
        check(
            b"\x20\x03\0\x01\0\0\0\x01\0\x02\x05\x04\x0a\x04\0\0",
            Some("bfcp"),
        );
        check(b"\x20\x03\0\x01\0\0\0\x01\0\x02\x05\x04\x0a\x09\0\0", None);
    }
}
