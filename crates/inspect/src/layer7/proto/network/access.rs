//! Networks of access and of mobile operators: TACACS+, CAPWAP, GTP, PFCP.

use crate::layer7::protocol::{Named, Seen, Transport, Verdict};

/// TACACS+ (RFC 8907).
pub(super) const TACACS: Named = Named {
    name: "tacacs",
    ports: &[49],
    transports: &[Transport::Tcp],
    probe: |seen| {
        let bytes = seen.newest();
        if !seen.has_port(49) {
            return Verdict::No;
        }
        let Some(head) = bytes.first_chunk::<12>() else {
            return match bytes.first() {
                None | Some(0xc0 | 0xc1) => Verdict::NeedMore,
                _ => Verdict::No,
            };
        };
        let len = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        let is_header = matches!(head[..4], [0xc0 | 0xc1, 1..=3, 1..=255, 0 | 1 | 4 | 5]);
        if is_header && (1..=0xffff).contains(&len) {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    },
};

/// Control and Provisioning of Wireless Access Points (RFC 5415).
pub(super) const CAPWAP: Named = Named {
    name: "capwap",
    ports: &[5246, 5247],
    transports: &[Transport::Udp],
    probe: |seen| {
        let bytes = seen.newest();
        if !(seen.has_port(5246) || seen.has_port(5247)) {
            return Verdict::No;
        }
        match *bytes {
            // DTLS behind four bytes.
            [1, 0, 0, 0, 20..=25, 0xfe, 0xff | 0xfd, ..] => Verdict::CERTAIN,
            [0, second, third, _, _, _, _, _, ..] => {
                let header_len = usize::from(second >> 3) * 4;
                let binding = (second & 7) << 2 | third >> 6;
                if (8..bytes.len()).contains(&header_len) && binding <= 3 {
                    Verdict::CERTAIN
                } else {
                    Verdict::No
                }
            }
            _ => Verdict::No,
        }
    },
};

/// GPRS Tunnelling Protocol: its control (3GPP TS 29.060, 29.274), and charging beside it (32.295).
pub(super) const GTP: Named = Named {
    name: "gtp",
    ports: &[2123, 2152, 3386],
    transports: &[Transport::Udp],
    probe: gtp,
};

fn gtp(seen: &Seen<'_>) -> Verdict {
    let bytes = seen.newest();
    let has_port = |ports: &[u16]| ports.iter().any(|&port| seen.has_port(port));
    let &[first, kind, high, low, ..] = bytes else {
        return Verdict::No;
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    let (version, is_gtp) = (first >> 5, first & 0x10 != 0);
    let is_right = match (version, is_gtp) {
        // The header's optional parts count.
        (1, true) if has_port(&[2123, 2152]) => len + 8 == bytes.len() && kind > 0,
        // A second message may follow.
        (2, _) if has_port(&[2123]) => len + 4 == bytes.len() || first & 0x10 != 0 && len + 4 < bytes.len(),
        // Version 0 and charging have headers of 6 or 20 bytes.
        (0..=2, false) if has_port(&[3386]) => len + 6 == bytes.len() || len + 20 == bytes.len(),
        (0, true) if has_port(&[2123, 2152, 3386]) => len + 20 == bytes.len(),
        _ => false,
    };
    if is_right { Verdict::CERTAIN } else { Verdict::No }
}

/// Packet Forwarding Control Protocol (3GPP TS 29.244).
pub(super) const PFCP: Named = Named {
    name: "pfcp",
    ports: &[8805],
    transports: &[Transport::Udp],
    probe: |seen| match *seen.newest() {
        [first, kind, high, low, ..] if first >> 5 == 1 && first & 0x18 == 0 && seen.has_port(8805) => {
            let len = usize::from(u16::from_be_bytes([high, low]));
            let is_kind = matches!(kind, 1..=16 | 50..=57);
            if is_kind && len + 4 == seen.newest().len() {
                Verdict::CERTAIN
            } else {
                Verdict::No
            }
        }
        _ => Verdict::No,
    },
};

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        let start = b"\xc0\x01\x01\0\x12\x34\x56\x78\0\0\0\x08abcdefgh";
        let outcome = kit::run(6, 49, &[(0, start)], |_, _| Vec::new());
        assert_eq!(outcome.insight.app, Some("tacacs"));
        kit::check_datagrams_to(
            2123,
            &[(0, b"\x32\x01\0\x04\0\0\0\0\x12\x34\0\0")],
            Some("gtp"),
            &[],
        );
        kit::check_datagrams_to(3386, &[(0, b"\x0f\x01\0\0\0\x01")], Some("gtp"), &[]);
        kit::check_datagrams_to(8805, &[(0, b"\x20\x01\0\x04\0\0\x01\0")], Some("pfcp"), &[]);
        kit::check_datagrams_to(8805, &[(0, b"\x20\x01\0\x05\0\0\x01\0")], None, &[]);
        kit::check_datagrams_to(
            5246,
            &[(0, b"\0\x10\x02\0\0\0\0\0\0\0\0\x01\0\0\x10\0")],
            Some("capwap"),
            &[],
        );
    }
}
