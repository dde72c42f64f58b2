//! What devices and hosts report of themselves: NetFlow and IPFIX, sFlow, collectd, Munin, Checkmk, PTP's
//! clocks.

use crate::layer7::insight;
use crate::layer7::protocol::{Named, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::Reader;

/// Cisco NetFlow, version 1, 5, 7 and 9 (RFC 3954).
pub(super) const NETFLOW: Named = Named {
    name: "netflow",
    ports: &[2055, 2056, 9995, 9996],
    transports: &[Transport::Udp],
    probe: |seen| {
        let bytes = seen.newest();
        let Some(&[version_high, version_low, high, low]) = bytes.first_chunk::<4>() else {
            return Verdict::No;
        };
        let count = usize::from(u16::from_be_bytes([high, low]));
        // A few bytes may pad the datagram.
        let is_len = |len: usize| count > 0 && (len..len + 8).contains(&bytes.len());
        let is_right = match u16::from_be_bytes([version_high, version_low]) {
            1 => is_len(16 + 52 * count),
            5 => is_len(24 + 48 * count),
            7 => is_len(24 + 52 * count),
            9 => count > 0 && sets(bytes.get(20..).unwrap_or_default(), &[0, 1]),
            _ => false,
        };
        if is_right { Verdict::CERTAIN } else { Verdict::No }
    },
};

/// IP Flow Information Export (RFC 7011).
pub(super) const IPFIX: Named = Named {
    name: "ipfix",
    ports: &[4739, 4740],
    transports: &[Transport::Udp, Transport::Tcp],
    probe: |seen| {
        const HEADER_LEN: usize = 16;
        let bytes = seen.newest();
        let is_begin = bytes
            .iter()
            .zip([0, 10])
            .all(|(byte, expected)| *byte == expected);
        if !is_begin {
            return Verdict::No;
        }
        let Some(&[_, _, high, low]) = bytes.first_chunk::<4>() else {
            return Verdict::NeedMore;
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len < HEADER_LEN + 4 {
            return Verdict::No;
        }
        match bytes.get(HEADER_LEN..len) {
            Some(body) if sets(body, &[2, 3]) => Verdict::CERTAIN,
            None if seen.transport == Transport::Tcp && seen.has_port(4739) => Verdict::NeedMore,
            _ => Verdict::No,
        }
    },
};

/// Whether sets, each behind its number and length, fill the bytes: templates have one of these numbers.
fn sets(bytes: &[u8], templates: &[u16]) -> bool {
    let mut reader = Reader::new(bytes);
    let mut sets = 0;
    while reader.len() >= 4 {
        let (Some(id), Some(len)) = (reader.be16(), reader.be16()) else {
            return false;
        };
        let is_id = id >= 256 || templates.contains(&id);
        let body = usize::from(len).checked_sub(4);
        if !is_id || body.and_then(|body| reader.skip(body)).is_none() {
            return false;
        }
        sets += 1;
    }
    sets > 0
}

/// sFlow, version 2, 4 and 5.
pub(super) const SFLOW: Named = Named {
    name: "sflow",
    ports: &[6343],
    transports: &[Transport::Udp],
    probe: |seen| {
        let mut reader = Reader::new(seen.newest());
        let version = reader.be32();
        let address = reader.be32();
        let is_version = matches!(version, Some(2 | 4 | 5));
        let samples_at = match address {
            Some(1) => 4 + 12,
            Some(2) => 16 + 12,
            _ => return Verdict::No,
        };
        let samples = reader.skip(samples_at).and_then(|()| reader.be32());
        match samples {
            Some(0..=256) if is_version && seen.has_port(6343) => Verdict::CERTAIN,
            Some(1..=64) if is_version => Verdict::LIKELY,
            _ => Verdict::No,
        }
    },
};

/// collectd's binary protocol: parts, each of a type, a length and data.
#[derive(Debug)]
pub(super) struct Collectd;

impl Protocol for Collectd {
    fn name(&self) -> &'static str {
        "collectd"
    }

    fn ports(&self) -> &'static [u16] {
        &[25826]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let mut reader = Reader::new(seen.newest());
        let mut parts = 0;
        while !reader.is_empty() {
            let (Some(kind), Some(len)) = (reader.be16(), reader.be16()) else {
                return Verdict::No;
            };
            let Some(data) = usize::from(len).checked_sub(4).and_then(|len| reader.take(len)) else {
                return Verdict::No;
            };
            let is_right = match kind {
                // Texts end in a zero.
                0 | 2..=5 | 0x100 => data.last() == Some(&0),
                1 | 7 | 8 | 9 | 0x101 => data.len() == 8,
                6 => data.len() >= 2,
                // Signed and encrypted packets.
                0x200 | 0x210 => parts == 0,
                _ => false,
            };
            if !is_right {
                return Verdict::No;
            }
            parts += 1;
        }
        if parts >= 3 || (parts > 0 && seen.has_port(25826)) {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Host(|bytes| {
            let mut reader = Reader::new(bytes);
            let kind = reader.be16()?;
            let len = usize::from(reader.be16()?).checked_sub(5)?;
            (kind == 0).then(|| reader.take(len))?
        }))
    }
}

/// A Munin node greets.
#[derive(Debug)]
pub(super) struct Munin;

const MUNIN_GREETING: &[u8] = b"# munin node at ";

impl Protocol for Munin {
    fn name(&self) -> &'static str {
        "munin"
    }

    fn ports(&self) -> &'static [u16] {
        &[4949]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        banner(seen, MUNIN_GREETING)
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Host(|bytes| {
            let rest = bytes.strip_prefix(MUNIN_GREETING)?;
            Some(&rest[..memchr::memchr(b'\n', rest)?])
        }))
    }
}

/// Takes the name of the host out of the first message that has one.
struct Host(fn(&[u8]) -> Option<&[u8]>);

/// Bytes of a stream among which it is looked for.
const HOST_WITHIN: usize = 512;

impl Session for Host {
    fn data(&mut self, _: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let Some(host) = (self.0)(bytes) else {
            return if out.transport == Transport::Tcp && bytes.len() < HOST_WITHIN {
                Step::Take(0)
            } else {
                Step::Done
            };
        };
        out.insight.host = Some(insight::text(host));
        Step::Done
    }
}

/// The server speaks first, and begins with this text.
fn banner(seen: &Seen<'_>, text: &[u8]) -> Verdict {
    seen.opened_by_either(|bytes| Verdict::magic(bytes, text).with_client(Side::Server))
}

/// A Checkmk agent tells all it knows at once.
pub(super) const CHECKMK: Named = Named {
    name: "checkmk",
    ports: &[6556],
    transports: &[Transport::Tcp],
    probe: |seen| banner(seen, b"<<<check_mk>>>"),
};

/// Precision Time Protocol, version 2 (IEEE 1588).
pub(super) const PTP: Named = Named {
    name: "ptp",
    ports: &[319, 320],
    transports: &[Transport::Udp],
    probe: |seen| {
        let bytes = seen.newest();
        let has_port = seen.has_port(319) || seen.has_port(320);
        match *bytes {
            [kind, version, high, low, ..] if has_port => {
                let len = usize::from(u16::from_be_bytes([high, low]));
                let is_kind = matches!(kind & 15, 0..=3 | 8..=13);
                if is_kind && version & 15 == 2 && len >= 34 && len <= bytes.len() {
                    Verdict::CERTAIN
                } else {
                    Verdict::No
                }
            }
            _ => Verdict::No,
        }
    },
};

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        let mut v5 = vec![0; 24 + 48];
        v5[1] = 5;
        v5[3] = 1;
        kit::check_datagrams(&[(0, &v5)], Some("netflow"), &[]);
        kit::check_datagrams(&[(0, &v5[..70])], None, &[]);
        let v9 = [
            &b"\0\x09\0\x01"[..],
            &[1; 16],
            b"\0\0\0\x0c\x01\0\0\x01\0\x08\0\x04",
        ]
        .concat();
        kit::check_datagrams(&[(0, &v9)], Some("netflow"), &[]);
        let v10 = [
            &b"\0\x0a\0\x1c"[..],
            &[1; 12],
            b"\0\x02\0\x0c\x01\0\0\x01\0\x08\0\x04",
        ]
        .concat();
        kit::check_datagrams(&[(0, &v10)], Some("ipfix"), &[]);
        let sflow = [
            &b"\0\0\0\x05\0\0\0\x01\xc0\0\x02\x01"[..],
            &[0; 12],
            b"\0\0\0\x01",
            &[0; 40],
        ]
        .concat();
        kit::check_datagrams_to(6343, &[(0, &sflow)], Some("sflow"), &[]);
        let collectd = b"\0\0\0\x09host\0\0\x01\0\x0c\0\0\0\0\x12\x34\x56\x78\0\x02\0\x08cpu\0";
        kit::check_datagrams(&[(0, collectd)], Some("collectd"), &[]);
        kit::check_stream(&[(1, b"# munin node at host\n")], Some("munin"), &[]);
        for outcome in [
            kit::stream(&[(1, b"# munin node at host\n")]),
            kit::datagrams(9, &[(0, collectd)]),
        ] {
            assert_eq!(outcome.insight.host.as_deref(), Some("host"));
        }
        kit::check_stream(&[(1, b"<<<check_mk>>>\nVersion: 1\n")], Some("checkmk"), &[]);
        kit::check_stream(&[(1, b"<html>")], None, &[]);
        let ptp = [&b"\0\x02\0\x2c"[..], &[0; 40]].concat();
        kit::check_datagrams_to(319, &[(0, &ptp)], Some("ptp"), &[]);
    }
}
