//! RTP and its control protocol (RFC 3550), encrypted (RFC 3711) or not: their headers are the same.

use crate::layer7::protocol::{Named, Seen, Transport, Verdict};

pub(super) const RTP: Named = Named {
    name: "rtp",
    ports: &[],
    transports: &[Transport::Udp, Transport::Tcp],
    probe: probe_rtp,
};

pub(super) const RTCP: Named = Named {
    name: "rtcp",
    ports: &[],
    transports: &[Transport::Udp],
    probe: probe_rtcp,
};

const HEADER_LEN: usize = 12;
/// Of encrypted control packets: number and digest.
const ENCRYPTED_END_LEN: usize = 14;
/// Consecutive packets of one source that prove a stream.
const PACKETS: usize = 3;

/// Which of the two begins like this, where it is known to be one of them (RFC 5761).
pub(in crate::layer7::proto) fn name(bytes: &[u8]) -> &'static str {
    match bytes.get(1) {
        Some(192..=223) => "rtcp",
        _ => "rtp",
    }
}

/// Number, time and source of a packet.
struct Header {
    number: u16,
    time: u32,
    source: u32,
}

fn header(bytes: &[u8]) -> Option<Header> {
    let head = bytes.first_chunk::<HEADER_LEN>()?;
    // Version 2; of the payload types those that control uses are out.
    let kind = head[1] & 0x7f;
    let is_right = head[0] >> 6 == 2 && !(64..=95).contains(&kind);
    is_right.then(|| Header {
        number: u16::from_be_bytes([head[2], head[3]]),
        time: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        source: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
    })
}

fn probe_rtp(seen: &Seen<'_>) -> Verdict {
    if seen.transport == Transport::Tcp {
        return probe_framed(seen.newest());
    }
    let Some(newest) = header(seen.newest()) else {
        return Verdict::No;
    };
    let mut packets = 1;
    let mut next = newest;
    for earlier in seen
        .earlier
        .iter()
        .rev()
        .filter(|earlier| earlier.side == seen.side)
    {
        let Some(header) = header(earlier.head()) else {
            return Verdict::No;
        };
        // Numbers rise by little, times do not jump back far, the source stays.
        let step = next.number.wrapping_sub(header.number);
        let is_stream =
            header.source == next.source && step <= 16 && next.time.wrapping_sub(header.time) < 1 << 24;
        if !is_stream {
            return Verdict::No;
        }
        // The same packet twice, as captures at two places have it, proves nothing.
        packets += usize::from(step > 0);
        next = header;
    }
    if packets >= PACKETS {
        Verdict::CERTAIN
    } else {
        Verdict::NeedMore
    }
}

/// Packets over TCP, each behind its length (RFC 4571).
fn probe_framed(bytes: &[u8]) -> Verdict {
    let mut rest = bytes;
    let mut before: Option<Header> = None;
    for _ in 0..PACKETS {
        let Some((len, packet)) = rest.split_first_chunk::<2>() else {
            return Verdict::NeedMore;
        };
        let len = usize::from(u16::from_be_bytes(*len));
        if len < HEADER_LEN || packet.first().is_some_and(|first| first >> 6 != 2) {
            return Verdict::No;
        }
        if packet.len() < HEADER_LEN {
            return Verdict::NeedMore;
        }
        let Some(header) = header(packet) else {
            return Verdict::No;
        };
        if let Some(before) = before
            && (header.source != before.source || header.number.wrapping_sub(before.number) > 16)
        {
            return Verdict::No;
        }
        before = Some(header);
        rest = packet.get(len..).unwrap_or_default();
    }
    Verdict::CERTAIN
}

/// Packets of a compound one: version, type and length of each fit.
fn probe_rtcp(seen: &Seen<'_>) -> Verdict {
    let bytes = seen.newest();
    let mut rest = bytes;
    let mut packets = 0;
    while let Some(&[first, kind, high, low]) = rest.first_chunk::<4>() {
        let len = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        let is_kind = match packets {
            // The first is a report, of feedback alone (RFC 5506), or a bye.
            0 => matches!(kind, 200..=207),
            _ => matches!(kind, 192..=195 | 200..=213),
        };
        if first >> 6 != 2 || !is_kind || len < 8 || len > rest.len() {
            // What is encrypted has only its first header in clear.
            break;
        }
        rest = &rest[len..];
        packets += 1;
    }
    // Behind what is encrypted stand a bit that says so, a number, and a digest.
    let index_at = bytes.len().saturating_sub(ENCRYPTED_END_LEN);
    let is_encrypted = index_at >= 8 && bytes[index_at] & 0x80 != 0 && is_report(bytes);
    let has_earlier = seen.earlier.iter().any(|earlier| is_report(earlier.head()));
    match (packets, rest.is_empty()) {
        _ if is_encrypted && has_earlier => Verdict::CERTAIN,
        _ if is_encrypted && !rest.is_empty() => Verdict::NeedMore,
        (2.., true) => Verdict::CERTAIN,
        (1, true) if bytes.len() >= 28 || has_earlier => Verdict::LIKELY,
        (1, true) => Verdict::NeedMore,
        _ => Verdict::No,
    }
}

fn is_report(bytes: &[u8]) -> bool {
    matches!(*bytes, [first, 200..=207, ..] if first >> 6 == 2)
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    fn packet(number: u8, source: u8) -> Vec<u8> {
        let mut bytes = vec![0x80, 0, 0, number, 0, 0, number, 0, 1, 2, 3, source];
        bytes.extend([0xd5; 160]);
        bytes
    }

    #[test]
    fn a_stream_of_packets() {
        let [one, two, three] = [1, 2, 3].map(|number| packet(number, 9));
        kit::check_datagrams(&[(0, &one), (0, &two), (0, &three)], Some("rtp"), &[]);
        kit::check_datagrams(&[(0, &one), (0, &two)], None, &[]);
        let other = packet(3, 8);
        kit::check_datagrams(&[(0, &one), (0, &two), (0, &other)], None, &[]);
    }

    #[test]
    fn a_stream_over_tcp() {
        let frame = |number| {
            let packet = packet(number, 9);
            [&(packet.len() as u16).to_be_bytes()[..], &packet].concat()
        };
        let said = [frame(1), frame(2), frame(3)].concat();
        kit::check_stream(&[(0, &said)], Some("rtp"), &[]);
    }

    #[test]
    fn encrypted_reports() {
        let one = b"\x80\xc9\0\x01\x73\x4e\x7b\x28\x80\0\0\x05abcdefghij";
        kit::check_datagrams(&[(0, one), (0, one)], Some("rtcp"), &[]);
    }

    #[test]
    fn reports() {
        let report = b"\x81\xc9\0\x07\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
            \x81\xca\0\x02\0\0\0\x01\x01\x01a\0";
        kit::check_datagrams(&[(0, report)], Some("rtcp"), &[]);
        kit::check_datagrams(&[(0, &report[..31])], None, &[]);
    }
}
