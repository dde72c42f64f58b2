//! Routers among themselves: BGP, LDP, RIP, HSRP, BFD, LISP.

use crate::layer7::protocol::{Named, Seen, Transport, Verdict};

/// Border Gateway Protocol (RFC 4271).
pub(super) const BGP: Named = Named {
    name: "bgp",
    ports: &[179],
    transports: &[Transport::Tcp],
    probe: |seen| {
        const MARKER_LEN: usize = 16;
        let bytes = seen.newest();
        let marker = &bytes[..bytes.len().min(MARKER_LEN)];
        if !marker.iter().all(|&byte| byte == 0xff) {
            return Verdict::No;
        }
        match bytes.get(MARKER_LEN..) {
            Some(&[high, low, kind, ..]) => {
                let len = u16::from_be_bytes([high, low]);
                if (19..=4096).contains(&len) && (1..=5).contains(&kind) {
                    Verdict::CERTAIN
                } else {
                    Verdict::No
                }
            }
            _ => Verdict::NeedMore,
        }
    },
};

/// Label Distribution Protocol (RFC 5036).
pub(super) const LDP: Named = Named {
    name: "ldp",
    ports: &[646],
    transports: &[Transport::Tcp, Transport::Udp],
    probe: |seen| match *seen.newest() {
        [0, 1, high, low, _, _, _, _, 0, 0, kind_high, kind_low, ..] if seen.has_port(646) => {
            let len = usize::from(u16::from_be_bytes([high, low]));
            let kind = u16::from_be_bytes([kind_high & 0x7f, kind_low]);
            let is_kind = matches!(
                kind,
                0x001 | 0x100 | 0x200 | 0x201 | 0x300 | 0x301 | 0x400..=0x404
            );
            let is_whole = seen.transport == Transport::Tcp || len + 4 == seen.newest().len();
            if is_kind && is_whole && len >= 6 {
                Verdict::CERTAIN
            } else {
                Verdict::No
            }
        }
        [] | [0] | [0, 1] | [0, 1, ..] if seen.newest().len() < 12 && seen.has_port(646) => Verdict::NeedMore,
        _ => Verdict::No,
    },
};

/// Routing Information Protocol (RFC 1058, 2453), and RIPng (RFC 2080).
pub(super) const RIP: Named = Named {
    name: "rip",
    ports: &[520, 521],
    transports: &[Transport::Udp],
    probe: |seen| match *seen.newest() {
        [1..=2, 1..=2, 0, 0, ref entries @ ..] if seen.has_port(520) || seen.has_port(521) => {
            if !entries.is_empty() && entries.len().is_multiple_of(20) {
                Verdict::CERTAIN
            } else {
                Verdict::No
            }
        }
        _ => Verdict::No,
    },
};

/// Hot Standby Router Protocol, version 0 (RFC 2281) and Cisco's 2.
pub(super) const HSRP: Named = Named {
    name: "hsrp",
    ports: &[1985, 2029],
    transports: &[Transport::Udp],
    probe: |seen| {
        let has_port = seen.has_port(1985) || seen.has_port(2029);
        let is_group = seen.addresses[1].is_multicast();
        match *seen.newest() {
            [0, 0..=3, 0 | 1 | 2 | 4 | 8 | 16, ..] | [1, 40, 2, 0..=2, ..] if has_port && is_group => {
                Verdict::CERTAIN
            }
            // Advertisements of interfaces.
            [0, 3, 0, 1, ..] | [2, 4, 0, 0, ..] if has_port => Verdict::CERTAIN,
            _ => Verdict::No,
        }
    },
};

/// Bidirectional Forwarding Detection (RFC 5880, 5881, 5883): control and echo.
pub(super) const BFD: Named = Named {
    name: "bfd",
    ports: &[3784, 3785, 4784, 6784],
    transports: &[Transport::Udp],
    probe: bfd,
};

fn bfd(seen: &Seen<'_>) -> Verdict {
    let bytes = seen.newest();
    let is_control = matches!(*bytes, [first, _, multiplier, len, ..]
        if first >> 5 == 1 && multiplier > 0 && usize::from(len) == bytes.len() && len >= 24);
    let has_port = [3784, 4784, 6784].iter().any(|&port| seen.has_port(port));
    // What an echo holds is up to its sender, who also gets it back.
    let is_echo = seen.ports[1] == 3785 && bytes.len() >= 12;
    match (is_control && has_port, is_echo) {
        (true, _) => Verdict::CERTAIN,
        (_, true) => Verdict::LIKELY,
        _ => Verdict::No,
    }
}

/// Locator/ID Separation Protocol (RFC 9301), control messages, over UDP and reliable transport.
pub(super) const LISP: Named = Named {
    name: "lisp",
    ports: &[4342, 4341],
    transports: &[Transport::Udp, Transport::Tcp],
    probe: lisp,
};

fn lisp(seen: &Seen<'_>) -> Verdict {
    let bytes = seen.newest();
    if !seen.has_port(4342) {
        return Verdict::No;
    }
    if seen.transport == Transport::Tcp {
        // Type, length of the message, its number; at its end a marker.
        const MARKER: [u8; 4] = [0x9f, 0xac, 0xad, 0xe9];
        return match *bytes {
            [kind_high, kind_low, high, low, ..] => {
                let kind = u16::from_be_bytes([kind_high, kind_low]);
                let len = usize::from(u16::from_be_bytes([high, low]));
                if !(16..=32).contains(&kind) || !(8..=4096).contains(&len) {
                    return Verdict::No;
                }
                match bytes.get(len - 4..len) {
                    Some(end) if end == MARKER => Verdict::CERTAIN,
                    Some(_) => Verdict::No,
                    None => Verdict::NeedMore,
                }
            }
            _ => Verdict::NeedMore,
        };
    }
    match bytes.first().map(|first| first >> 4) {
        Some(1..=6 | 8) if bytes.len() >= 12 => Verdict::CERTAIN,
        _ => Verdict::No,
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        let open = [&[0xff; 16][..], b"\0\x1d\x01\x04\xfd\xe8\0\xb4\xc0\0\x02\x01\0"].concat();
        kit::check_stream(&[(0, &open)], Some("bgp"), &[]);
        kit::check_stream(&[(0, &[0xff; 40])], None, &[]);
        let hello = b"\0\x01\0\x1e\xc0\0\x02\x01\0\0\x01\0\0\x14\0\0\0\0\x04\0\0\x04\0\x0f\0\0\x04\x01\0\x04\xc0\0\x02\x01";
        kit::check_datagrams_to(646, &[(0, hello)], Some("ldp"), &[]);
        let rip = [&[2, 2, 0, 0][..], &[0; 20]].concat();
        kit::check_datagrams_to(520, &[(0, &rip)], Some("rip"), &[]);
        kit::check_datagrams(&[(0, &rip)], None, &[]);
        let bfd = b"\x20\xc0\x03\x18\0\0\0\x01\0\0\0\x02\0\x0f\x42\x40\0\x0f\x42\x40\0\0\0\0";
        kit::check_datagrams_to(3784, &[(0, bfd)], Some("bfd"), &[]);
        kit::check_datagrams_to(3784, &[(0, &bfd[..20])], None, &[]);
        kit::check_datagrams_to(
            4342,
            &[(0, &[0x13, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9])],
            Some("lisp"),
            &[],
        );
    }
}
