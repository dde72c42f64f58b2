//! Tunnels over UDP: the outer flows. What VXLAN and Geneve carry has flows of its own.

use crate::layer7::protocol::{Named, Transport, Verdict};

const UDP: &[Transport] = &[Transport::Udp];

/// Virtual eXtensible LAN (RFC 7348), also with a policy's group.
pub(super) const VXLAN: Named = Named {
    name: "vxlan",
    ports: &[4789, 8472],
    transports: UDP,
    probe: |seen| match *seen.newest() {
        [flags, _, _, _, _, _, _, 0, ref frame @ ..] => {
            let has_port = seen.has_port(4789) || seen.has_port(8472);
            if has_port && flags & 0x77 == 0 && flags & 8 != 0 && frame.len() >= 14 {
                Verdict::CERTAIN
            } else {
                Verdict::No
            }
        }
        _ => Verdict::No,
    },
};

/// Generic Network Virtualization Encapsulation (RFC 8926).
pub(super) const GENEVE: Named = Named {
    name: "geneve",
    ports: &[6081],
    transports: UDP,
    probe: |seen| match *seen.newest() {
        [first, flags, high, low, _, _, _, 0, ..] => {
            let is_kind = matches!((high, low), (0x65, 0x58) | (0x08, 0) | (0x86, 0xdd));
            if seen.has_port(6081) && first >> 6 == 0 && flags & 0x3f == 0 && is_kind {
                Verdict::CERTAIN
            } else {
                Verdict::No
            }
        }
        _ => Verdict::No,
    },
};

/// Teredo (RFC 4380): IPv6, behind an authentication or an origin or not.
pub(super) const TEREDO: Named = Named {
    name: "teredo",
    ports: &[3544],
    transports: UDP,
    probe: |seen| {
        const IPV6_LEN: usize = 40;
        let mut rest = seen.newest();
        if let [0, 1, id_len, value_len, ..] = *rest {
            let len = 13 + usize::from(id_len) + usize::from(value_len);
            rest = rest.get(len..).unwrap_or_default();
        }
        if let [0, 0, after @ ..] = rest {
            rest = after.get(6..).unwrap_or_default();
        }
        if rest.len() < IPV6_LEN || rest[0] >> 4 != 6 {
            return Verdict::No;
        }
        let len = usize::from(u16::from_be_bytes([rest[4], rest[5]]));
        // One of the ends has an address of Teredo, or is still looking for one.
        let is_address = |at: usize| {
            rest[at..at + 4] == [0x20, 1, 0, 0] || rest[at..at + 2] == [0xfe, 0x80] || rest[at] == 0xff
        };
        let is_teredo = is_address(8) || is_address(24);
        match (is_teredo && len + IPV6_LEN <= rest.len(), seen.has_port(3544)) {
            (true, true) => Verdict::CERTAIN,
            (true, false) if len + IPV6_LEN == rest.len() => Verdict::LIKELY,
            _ => Verdict::No,
        }
    },
};

/// Anything In Anything.
pub(super) const AYIYA: Named = Named {
    name: "ayiya",
    ports: &[5072],
    transports: UDP,
    probe: |seen| match *seen.newest() {
        // Lengths and kinds of identity and signature, operation, what is carried, the time.
        [identity, signature, operation, _, ref rest @ ..] if seen.has_port(5072) => {
            let len = 4 + (1 << (identity >> 4)) + 4 * usize::from(signature >> 4);
            let is_kind = matches!(identity & 15, 0..=3) || identity & 15 == 4;
            if is_kind && signature & 15 <= 3 && operation & 15 <= 5 && rest.len() >= len {
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
        let check = |port: u16, head: &[u8], len: usize, app: Option<&str>| {
            let mut bytes = head.to_vec();
            bytes.resize(head.len() + len, 0);
            kit::check_datagrams_to(port, &[(0, &bytes)], app, &[]);
        };
        check(4789, b"\x08\0\0\0\0\0\x2a\0", 40, Some("vxlan"));
        check(9, b"\x08\0\0\0\0\0\x2a\0", 40, None);
        check(6081, b"\0\0\x65\x58\0\0\x2a\0", 40, Some("geneve"));
        let packet = [&b"\x60\0\0\0\0\0\x3b\x15\x20\x01\0\0"[..], &[1; 12]].concat();
        check(3544, &packet, 16, Some("teredo"));
        check(
            3544,
            &[b"\0\0\x12\x34\x56\x78\x9a\xbc", &packet[..]].concat(),
            16,
            Some("teredo"),
        );
        check(5072, b"\x44\x52\x11\x29", 60, Some("ayiya"));
    }
}
