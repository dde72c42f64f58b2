//! Protocols of which only the name is told.

use crate::layer7::protocol::{Named, Seen, Side, Transport, Verdict};

const TCP: &[Transport] = &[Transport::Tcp];

/// One of these begins the flow, from this side.
fn begins(seen: &Seen<'_>, speaker: Side, magics: &[&[u8]]) -> Verdict {
    seen.opened_by_either(|bytes| {
        let all = magics.iter().map(|magic| Verdict::magic(bytes, magic));
        all.fold(Verdict::No, |found, verdict| found.or(|| verdict))
            .with_client(speaker)
    })
}

/// X11: byte order, version 11.0 and the lengths of a name and a key.
pub(super) static X11: Named = Named {
    name: "x11",
    ports: &[6000, 6001],
    transports: TCP,
    probe: |seen| {
        seen.opened_by_either(|bytes| match *bytes {
            [b'l', _, 11, 0, 0, 0, name, 0, key, 0, ..] | [b'B', _, 0, 11, 0, 0, 0, name, 0, key, ..]
                if name <= 64 && key <= 64 =>
            {
                Verdict::CERTAIN
            }
            [b'l', _, 11, 0, ..]
            | [b'B', _, 0, 11, ..]
            | [b'l' | b'B']
            | [b'l' | b'B', 0]
            | [b'l', _, 11]
            | [b'B', _, 0]
                if bytes.len() < 10 =>
            {
                Verdict::NeedMore
            }
            _ => Verdict::No,
        })
    },
};

/// CORBA's GIOP: a version, flags, a kind.
pub(super) static GIOP: Named = Named {
    name: "giop",
    ports: &[],
    transports: TCP,
    probe: |seen| {
        seen.opened_by_either(|bytes| match Verdict::magic(bytes, b"GIOP\x01") {
            Verdict::Match { .. } => match *bytes {
                [_, _, _, _, _, 0..=3, 0..=3, 1 | 2 | 4 | 6, ..] => Verdict::certain(match bytes[7] {
                    1 | 4 => Side::Server,
                    _ => Side::Client,
                }),
                [_, _, _, _, _, 0..=3, 0..=3, 0 | 3 | 5 | 7, ..] => Verdict::CERTAIN,
                _ if bytes.len() < 8 => Verdict::NeedMore,
                _ => Verdict::No,
            },
            other => other,
        })
    },
};

/// Java's remote method invocation: `JRMI`, version 1 or 2, a protocol in one letter.
pub(super) static JRMI: Named = Named {
    name: "rmi",
    ports: &[1099],
    transports: TCP,
    probe: |seen| {
        begins(
            seen,
            Side::Client,
            &[b"JRMI\0\x02K", b"JRMI\0\x02L", b"JRMI\0\x02M", b"JRMI\0\x01K"],
        )
    },
};

/// NoMachine: both sides say which version they are, then TLS begins.
pub(super) static NOMACHINE: Named = Named {
    name: "nomachine",
    ports: &[4000],
    transports: TCP,
    probe: |seen| begins(seen, Side::Client, &[b"NXSH-", b"NXD-"]),
};

/// Radmin 3: version 1, a length, and a first message of one byte twice.
pub(super) static RADMIN: Named = Named {
    name: "radmin",
    ports: &[4899],
    transports: TCP,
    probe: |seen| {
        seen.opened_by_either(|bytes| {
            let whole: [&[u8]; 2] = [
                b"\x01\0\0\0\x01\0\0\0\x08\x08",
                b"\x01\0\0\0\x05\0\0\x02\x27\x27\x02\0\0\0",
            ];
            let all = whole.iter().map(|whole| Verdict::magic(bytes, whole));
            all.fold(Verdict::No, |found, verdict| found.or(|| verdict))
        })
    },
};

/// Citrix ICA: the server's greeting, which the client says too; or its common gateway.
pub(super) static CITRIX: Named = Named {
    name: "citrix",
    ports: &[1494, 2598],
    transports: TCP,
    probe: |seen| {
        let ica = begins(seen, Side::Server, &[b"\x7f\x7fICA\0"]);
        ica.or(|| begins(seen, Side::Client, &[b"\x1aCGP/01"]))
    },
};

/// iSCSI: a log-in request of its first stage, version 0.
pub(super) static ISCSI: Named = Named {
    name: "iscsi",
    ports: &[3260],
    transports: TCP,
    probe: |seen| {
        seen.opened_by_either(|bytes| match *bytes {
            [0x43, flags, 0, 0, 0, _, high, ..] if bytes.len() >= 48 => {
                // Stages 0, 1 and 3; no additional headers; a text of keys and values.
                let is_stage = (flags >> 2) & 3 != 2 && flags & 3 != 2 && flags & 0x30 == 0;
                let begins_text = bytes.get(48).is_none_or(u8::is_ascii_uppercase);
                if is_stage && high < 4 && begins_text {
                    Verdict::CERTAIN
                } else {
                    Verdict::No
                }
            }
            [0x43, _, 0, 0, 0, ..] | [0x43] | [0x43, _] | [0x43, _, 0] | [0x43, _, 0, 0]
                if bytes.len() < 48 =>
            {
                Verdict::NeedMore
            }
            _ => Verdict::No,
        })
    },
};

/// Apple's filing protocol: DSI's request to open a session, or for the server's status.
pub(super) static AFP: Named = Named {
    name: "afp",
    ports: &[548],
    transports: TCP,
    probe: |seen| {
        seen.opened_by_either(|bytes| match *bytes {
            [flags @ (0 | 1), command @ (3 | 4), _, _, ref error @ ..]
                if bytes.len() >= 16 && error[..4] == [0; 4] && error[8..12] == [0; 4] =>
            {
                let len = u32::from_be_bytes([error[4], error[5], error[6], error[7]]);
                let is_ok = if command == 4 { len <= 64 } else { len <= 1024 };
                match is_ok && (command == 4 || seen.has_port(548)) && bytes.len() == 16 + len as usize {
                    true if flags == 1 => Verdict::likely(Side::Server),
                    true => Verdict::LIKELY,
                    false => Verdict::No,
                }
            }
            [0 | 1] if seen.has_port(548) => Verdict::NeedMore,
            [0 | 1, 3 | 4, ..] if bytes.len() < 16 && seen.has_port(548) => Verdict::NeedMore,
            _ => Verdict::No,
        })
    },
};

/// Printers: a job in PJL.
pub(super) static JETDIRECT: Named = Named {
    name: "jetdirect",
    ports: &[9100],
    transports: TCP,
    probe: |seen| begins(seen, Side::Client, &[b"\x1b%-12345X", b"@PJL "]),
};

/// HP's virtual groups: a kind (the client's 0x16, the server's 0x17), the length behind both, a zero.
pub(super) static HPVIRTGRP: Named = Named {
    name: "hp-virtgrp",
    ports: &[5223],
    transports: TCP,
    probe: |seen| {
        let fits = |bytes: &[u8], kind: u8| match *bytes {
            [of, high, low, 0, ..] => {
                let len = usize::from(u16::from_be_bytes([high, low])) + 3;
                // TLS has its version where the length is.
                Some(of == kind && high != 3 && (32..4096).contains(&len) && bytes.len() >= len)
            }
            [_, _, _, _, ..] => Some(false),
            [of, ..] if of != kind => Some(false),
            _ => None,
        };
        let is_begun = |bytes: &[u8], kind: u8| match *bytes {
            [of, high, low, third, ..] => {
                of == kind
                    && high != 3
                    && third == 0
                    && bytes.len() < usize::from(u16::from_be_bytes([high, low])) + 3
            }
            [of, high, ..] => of == kind && high != 3,
            [of] => of == kind,
            [] => true,
        };
        match (fits(seen.client(), 0x16), fits(seen.server(), 0x17)) {
            (Some(true), Some(true)) => Verdict::LIKELY,
            (Some(false), _) if !is_begun(seen.client(), 0x16) => Verdict::No,
            (_, Some(false)) if !is_begun(seen.server(), 0x17) => Verdict::No,
            _ => Verdict::NeedMore,
        }
    },
};

/// Lotus Notes: the first message of its RPC.
pub(super) static NOTES: Named = Named {
    name: "lotusnotes",
    ports: &[1352],
    transports: TCP,
    probe: |seen| {
        seen.opened_by_either(|bytes| match bytes.get(6..14) {
            Some([0, 0, 2, 0, 0, 0x40, 2, 0x0f]) => Verdict::CERTAIN,
            Some(_) => Verdict::No,
            None if bytes.len() > 6 && b"\0\0\x02\0\0\x40\x02\x0f".starts_with(&bytes[6..]) => {
                Verdict::NeedMore
            }
            None if bytes.len() <= 6 && seen.has_port(1352) => Verdict::NeedMore,
            None => Verdict::No,
        })
    },
};

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        let check = |side: usize, bytes: &[u8], app: Option<&str>| {
            assert_eq!(kit::stream(&[(side, bytes)]).insight.app, app, "{bytes:02x?}");
            kit::check_cuts(&[(side, bytes)]);
        };
        check(0, b"l\0\x0b\0\0\0\x12\0\x10\0\0\0", Some("x11"));
        check(0, b"l\0\x0c\0\0\0\x12\0\x10\0\0\0", None);
        check(0, b"GIOP\x01\x02\x01\0\0\0\0\x10", Some("giop"));
        let (mut ask, mut answer) = (b"\x16\0\x3d\0".to_vec(), b"\x17\0\x3d\0".to_vec());
        ask.resize(64, 0xaa);
        answer.resize(64, 0xbb);
        assert_eq!(
            kit::stream(&[(0, &ask), (1, &answer)]).insight.app,
            Some("hp-virtgrp")
        );
        assert_eq!(kit::stream(&[(0, &ask), (1, &ask)]).insight.app, None);
        kit::check_cuts(&[(0, &ask), (1, &answer)]);
        check(0, b"GIOP\x02\x02\x01\0\0\0\0\x10", None);
        check(0, b"JRMI\0\x02K", Some("rmi"));
        check(0, b"NXSH-8.10.1\n", Some("nomachine"));
        check(0, b"\x01\0\0\0\x01\0\0\0\x08\x08", Some("radmin"));
        check(0, b"\x01\0\0\0\x01\0\0\0\x08\x09", None);
        check(1, b"\x7f\x7fICA\0", Some("citrix"));
        check(0, b"\x1b%-12345X@PJL JOB\r\n", Some("jetdirect"));
        let mut login = vec![0x43, 0x87, 0, 0, 0, 0, 0, 0x20];
        login.resize(48, 0);
        login.extend(b"InitiatorName=iqn.x\0");
        assert_eq!(kit::stream(&[(0, &login)]).insight.app, Some("iscsi"));
    }
}
