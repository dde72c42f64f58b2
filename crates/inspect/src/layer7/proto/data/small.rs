//! Protocols told by the text or the magic number that each begins with.

use crate::layer7::protocol::{Named, Seen, Side, Transport, Verdict};

/// Ceph's messenger: either version's banner, which both sides send.
pub(super) static CEPH: Named = Named {
    name: "ceph",
    ports: &[6789, 3300],
    transports: &[Transport::Tcp],
    probe: |seen| {
        // The server speaks first in version 1.
        let banner =
            |bytes: &[u8]| Verdict::magic(bytes, b"ceph v027").or(|| Verdict::magic(bytes, b"ceph v2\n"));
        seen.opened_by_either(banner).with_client(Side::Client)
    },
};

/// Gearman's binary protocol: `\0REQ` or `\0RES`, a type, a length.
pub(super) static GEARMAN: Named = Named {
    name: "gearman",
    ports: &[4730],
    transports: &[Transport::Tcp],
    probe: |seen| {
        seen.opened_by_either(|bytes| {
            let answer = || Verdict::magic(bytes, b"\0RES").with_client(Side::Server);
            Verdict::magic(bytes, b"\0REQ").or(answer)
        })
    },
};

/// Apache Thrift: the strict binary protocol (version 0x8001 and a type, a name), framed or not, and the compact
/// one over UDP.
pub(super) static THRIFT: Named = Named {
    name: "thrift",
    ports: &[9090],
    transports: &[Transport::Tcp, Transport::Udp],
    probe: |seen| {
        seen.opened_by_either(|bytes| {
            if bytes[0] == 0x82 && seen.transport == Transport::Udp {
                return compact(bytes);
            }
            let is_framed = bytes[0] == 0;
            let body = if is_framed {
                bytes.get(4..).unwrap_or_default()
            } else {
                bytes
            };
            if bytes[0] > 0 && bytes[0] != 0x80 {
                return Verdict::No;
            }
            let begun: [u8; 3] = [0x80, 1, 0];
            if !begun.starts_with(&body[..body.len().min(3)]) {
                return Verdict::No;
            }
            match *body {
                [_, _, _, kind @ 1..=4, 0, 0, high, low, ref name @ ..] => {
                    let len = usize::from(u16::from_be_bytes([high, low]));
                    let name = &name[..name.len().min(len)];
                    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.:".contains(byte);
                    let client = if matches!(kind, 2 | 3) {
                        Side::Server
                    } else {
                        Side::Client
                    };
                    match name.len() {
                        _ if !(1..=256).contains(&len) || !name.iter().all(is_name) => Verdict::No,
                        0..2 if name.len() < len => Verdict::NeedMore,
                        _ => Verdict::certain(client),
                    }
                }
                _ if body.len() < 8 => Verdict::NeedMore,
                _ => Verdict::No,
            }
        })
    },
};

/// Thrift's compact protocol: version 1 below the type, a number, a name.
fn compact(bytes: &[u8]) -> Verdict {
    let Some((&kind, mut rest)) = bytes.get(1..).and_then(<[u8]>::split_first) else {
        return Verdict::No;
    };
    let client = match kind {
        0x21 | 0x81 => Side::Client,
        0x41 | 0x61 => Side::Server,
        _ => return Verdict::No,
    };
    while let [more, after @ ..] = rest
        && *more >= 0x80
    {
        rest = after;
    }
    match rest {
        [_, len @ 1..=127, name @ ..] => {
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.:".contains(byte);
            match name.get(..usize::from(*len)) {
                Some(name) if name.iter().all(is_name) => Verdict::certain(client),
                _ => Verdict::No,
            }
        }
        _ => Verdict::No,
    }
}

/// NATS: the server says `INFO {...}`.
pub(super) static NATS: Named = Named {
    name: "nats",
    ports: &[4222],
    transports: &[Transport::Tcp],
    probe: |seen| {
        seen.opened_by_either(|bytes| {
            let info =
                Verdict::magic(bytes, b"INFO {\"server_id\"").or(|| Verdict::magic(bytes, b"INFO  {\""));
            let connect =
                || Verdict::magic(bytes, b"CONNECT {\"").or(|| Verdict::magic(bytes, b"CONNECT  {\""));
            info.with_client(Side::Server).or(connect)
        })
    },
};

/// HL7 over MLLP: a vertical tab, then the header segment and its separator.
pub(super) static HL7: Named = Named {
    name: "hl7",
    ports: &[2575],
    transports: &[Transport::Tcp],
    probe: |seen| any_magic(seen, &[b"\x0bMSH|", b"\x0bFHS|", b"\x0bBHS|"]),
};

/// FIX: the version, then the body's length; the separator is SOH. Engines that compress have versions of
/// their own.
pub(super) static FIX: Named = Named {
    name: "fix",
    ports: &[],
    transports: &[Transport::Tcp],
    probe: |seen| any_magic(seen, &[b"8=FIX.", b"8=FIXT.", b"8=O\x019=", b"8=FIXCOM\x019="]),
};

/// Zabbix: `ZBXD` and flags.
pub(super) static ZABBIX: Named = Named {
    name: "zabbix",
    ports: &[10050, 10051],
    transports: &[Transport::Tcp],
    probe: |seen| any_magic(seen, &[b"ZBXD\x01", b"ZBXD\x03", b"ZBXD\x05"]),
};

/// One of these begins the flow.
fn any_magic(seen: &Seen<'_>, magics: &[&[u8]]) -> Verdict {
    seen.opened_by_either(|bytes| {
        let all = magics.iter().map(|magic| Verdict::magic(bytes, magic));
        all.fold(Verdict::No, |found, verdict| found.or(|| verdict))
    })
}

/// SMPP: the length, one of the binds, no status, a number, and who binds.
pub(super) static SMPP: Named = Named {
    name: "smpp",
    ports: &[2775],
    transports: &[Transport::Tcp],
    probe: |seen| {
        seen.opened_by_either(|bytes| {
            let is_begun = match *bytes {
                [a, ..] if a != 0 => false,
                [_, _, high, ..] if high != 0 => false,
                [_, _, _, len, ..] if !(23..=120).contains(&len) => false,
                [_, _, _, _, a, b, c, kind, ..] if [a, b, c] != [0; 3] || !matches!(kind, 1 | 2 | 9) => false,
                [_, _, _, _, a, ..] if a != 0 => false,
                _ => bytes.get(8..12).is_none_or(|status| status == [0; 4]),
            };
            match bytes.get(16) {
                Some(first) if is_begun && (first.is_ascii_graphic() || *first == 0) => Verdict::CERTAIN,
                None if is_begun => Verdict::NeedMore,
                _ => Verdict::No,
            }
        })
    },
};

/// Z39.50: a request to begin (tag 20), with the protocol's version and options.
pub(super) static Z3950: Named = Named {
    name: "z3950",
    ports: &[210],
    transports: &[Transport::Tcp],
    probe: |seen| {
        seen.opened_by_either(|bytes| match *bytes {
            [0xb4, len, 0x83, 2 | 3, ..] if (12..0x80).contains(&len) => Verdict::CERTAIN,
            [0xb4, 0x81, 0x80..=0xff, 0x83, 2 | 3, ..] => Verdict::CERTAIN,
            [0xb4, ..] if bytes.len() < 5 => Verdict::NeedMore,
            _ => Verdict::No,
        })
    },
};

/// DICOM: a request for an association, version 1, and names padded with blanks.
pub(super) static DICOM: Named = Named {
    name: "dicom",
    ports: &[104, 11112],
    transports: &[Transport::Tcp],
    probe: |seen| {
        seen.opened_by_either(|bytes| {
            let is_begun = bytes[0] == 1 && bytes.get(1..4).is_none_or(|zero| zero == [0; 3]);
            match bytes.get(6..11) {
                Some([0, 1, 0, 0, first]) if is_begun && first.is_ascii_graphic() => Verdict::CERTAIN,
                None if is_begun
                    || bytes.len() < 4 && bytes[0] == 1 && bytes[1..].iter().all(|&byte| byte == 0) =>
                {
                    Verdict::NeedMore
                }
                _ => Verdict::No,
            }
        })
    },
};

/// Raft as the C library of that name has it: a type and an id, each in eight bytes with the lowest first, and
/// in the first message an address.
pub(super) static RAFT: Named = Named {
    name: "raft",
    ports: &[9000, 9001, 9002],
    transports: &[Transport::Tcp],
    probe: |seen| {
        seen.opened_by_either(|bytes| {
            let mut head = [0; 8];
            let n = bytes.len().min(8);
            head[..n].copy_from_slice(&bytes[..n]);
            // The handshake: 1, the id, the length of the address, the address.
            if bytes[0] != 1 || head[1..] != [0; 7] {
                return Verdict::No;
            }
            match bytes.get(8..) {
                Some([id, zero @ ..]) if *id != 0 && zero.len() >= 15 => {
                    let is_ok = zero[..7] == [0; 7] && (8..=64).contains(&zero[7]) && zero[8..15] == [0; 7];
                    // Only zeroes tell it, so look at the address as well.
                    match zero.get(15..) {
                        _ if !is_ok => Verdict::No,
                        Some([first, ..]) if first.is_ascii_alphanumeric() || *first == b'[' => {
                            Verdict::CERTAIN
                        }
                        Some([]) => Verdict::NeedMore,
                        _ => Verdict::No,
                    }
                }
                Some([0, ..]) => Verdict::No,
                _ => Verdict::NeedMore,
            }
        })
    },
};

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        let check =
            |side: usize, bytes: &[u8], app: Option<&str>| kit::check_stream(&[(side, bytes)], app, &[]);
        check(1, b"ceph v027\0\0", Some("ceph"));
        check(0, b"ceph v1\n", None);
        check(0, b"\0REQ\0\0\0\x01\0\0\0\x02wc", Some("gearman"));
        check(0, b"\0RAQ\0\0\0\x01\0\0\0\x02wc", None);
        check(0, b"\x80\x01\0\x01\0\0\0\x04ping\0\0\0\0", Some("thrift"));
        check(
            0,
            b"\0\0\0\x11\x80\x01\0\x01\0\0\0\x04ping\0\0\0\0",
            Some("thrift"),
        );
        check(0, b"\x80\x01\0\x05\0\0\0\x04ping\0\0\0\0", None);
        kit::check_datagrams(&[(0, b"\x82\x81\x01\x04ping\0")], Some("thrift"), &[]);
        kit::check_datagrams(&[(0, b"\x82\x81\x01\x04p\0ng\0")], None, &[]);
        check(1, b"INFO {\"server_id\":\"x\"}\r\n", Some("nats"));
        check(0, b"\x0bMSH|^~\\&|", Some("hl7"));
        check(0, b"8=FIX.4.2\x019=", Some("fix"));
        check(0, b"ZBXD\x01", Some("zabbix"));
        check(
            0,
            b"\0\0\0\x1f\0\0\0\x09\0\0\0\0\0\0\0\x01user\0pw\0\0\x34\0\0\0",
            Some("smpp"),
        );
        check(0, b"\0\0\0\x1f\0\0\0\x07\0\0\0\0\0\0\0\x01user\0pw\0", None);
        check(0, b"\xb4\x30\x83\x02\x05\xe0\x84", Some("z3950"));
        check(0, b"\x01\0\0\0\0\xce\0\x01\0\0ANY-SCP         ", Some("dicom"));
        check(0, b"\x01\0\0\0\0\xce\0\x02\0\0ANY-SCP         ", None);
        let raft = b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\x00127.0.0.1:9001\0\0";
        assert_eq!(kit::stream(&[(0, raft)]).insight.app, Some("raft"));
    }
}
