//! Which addresses may be called.
//!
//! A name in a configuration, or in a document of a team, must not lead to the host itself, to its network or to the
//! metadata service of a cloud (server-side request forgery). The check is made on the address that is then
//! connected to, so that a name that answers differently the second time gains nothing. Ranges are those of the IANA
//! special-purpose registries (RFC 6890 and its updates).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an operator allows for one origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EgressRule {
    /// The host is an address, written out in the operator's own configuration: it may be of any kind.
    pub allow_literal: bool,
}

/// Why `address` is not part of the public internet; `None` if it is.
#[must_use]
pub fn why_not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => why_not_public_v4(v4),
        IpAddr::V6(v6) => why_not_public_v6(v6),
    }
}

fn why_not_public_v4(v4: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = v4.octets();
    match (a, b, c) {
        (0, ..) => Some("this network"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some("private"),
        (100, 64..=127, _) => Some("shared address space"),
        (127, ..) => Some("loopback"),
        (169, 254, _) => Some("link-local or metadata"),
        (192, 0, 0) => Some("protocol assignments"),
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Some("documentation"),
        (192, 88, 99) => Some("6to4 relay"),
        (198, 18..=19, _) => Some("benchmarking"),
        // Azure's host services.
        (168, 63, 129) if v4 == Ipv4Addr::new(168, 63, 129, 16) => Some("metadata"),
        (224..=239, ..) => Some("multicast"),
        (240..=255, ..) => Some("reserved or broadcast"),
        _ => None,
    }
}

fn why_not_public_v6(v6: Ipv6Addr) -> Option<&'static str> {
    let s = v6.segments();
    let low_v4 = || Ipv4Addr::from_bits(v6.to_bits() as u32);
    let v4_at = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        // An IPv4 address in other clothes is judged as what it is.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => why_not_public_v4(low_v4()).or(
            // The mapped form of a public address reaches it; the compatible form is obsolete.
            if s[5] == 0xffff {
                None
            } else {
                Some("IPv4-compatible")
            },
        ),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => why_not_public_v4(low_v4()),
        [0x64, 0xff9b, 1, ..] => Some("local NAT64"),
        [0x100, 0, 0, 0, ..] => Some("discard"),
        [0x2001, 0, ..] => Some("Teredo"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("documentation"),
        [0x2001, 0..=0x1ff, ..] => Some("protocol assignments"),
        [0x2002, high, low, ..] => why_not_public_v4(v4_at(high, low)).or(Some("6to4")),
        [0x5f00, ..] => Some("segment routing"),
        [0xfc00..=0xfdff, ..] => Some("unique local"),
        [0xfe80..=0xfebf, ..] => Some("link-local"),
        [0xfec0..=0xfeff, ..] => Some("site-local"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        // Only this block has been given out for use.
        [0x2000..=0x3fff, ..] => None,
        _ => Some("unassigned"),
    }
}

#[cfg(test)]
mod tests {
    use super::why_not_public;

    #[track_caller]
    fn check(address: &str, expected: Option<&str>) {
        assert_eq!(
            why_not_public(address.parse().expect("an address")),
            expected,
            "{address}"
        );
    }

    #[test]
    fn addresses() {
        check("8.8.8.8", None);
        check("100.63.255.255", None);
        check("100.128.0.1", None);
        check("172.15.0.1", None);
        check("172.32.0.1", None);
        check("192.0.1.1", None);
        check("2606:4700::1111", None);
        check("::ffff:8.8.8.8", None);
        check("64:ff9b::808:808", None);
        check("0.0.0.0", Some("this network"));
        check("10.1.2.3", Some("private"));
        check("172.16.0.1", Some("private"));
        check("172.31.255.255", Some("private"));
        check("192.168.1.1", Some("private"));
        check("100.64.0.1", Some("shared address space"));
        check("127.0.0.1", Some("loopback"));
        check("127.255.255.254", Some("loopback"));
        check("169.254.169.254", Some("link-local or metadata"));
        check("168.63.129.16", Some("metadata"));
        check("198.18.0.1", Some("benchmarking"));
        check("203.0.113.9", Some("documentation"));
        check("224.0.0.1", Some("multicast"));
        check("255.255.255.255", Some("reserved or broadcast"));
        check("::", Some("unspecified"));
        check("::1", Some("loopback"));
        check("::ffff:127.0.0.1", Some("loopback"));
        check("::ffff:169.254.169.254", Some("link-local or metadata"));
        check("::127.0.0.1", Some("loopback"));
        check("::8.8.8.8", Some("IPv4-compatible"));
        check("::ffff:0:10.0.0.1", Some("private"));
        check("64:ff9b::7f00:1", Some("loopback"));
        check("64:ff9b::a9fe:a9fe", Some("link-local or metadata"));
        check("64:ff9b:1::1", Some("local NAT64"));
        check("2002:7f00:1::", Some("loopback"));
        check("2002:808:808::", Some("6to4"));
        check("2001:0:4136:e378::", Some("Teredo"));
        check("2001:db8::1", Some("documentation"));
        check("fd00:ec2::254", Some("unique local"));
        check("fe80::1", Some("link-local"));
        check("ff02::1", Some("multicast"));
        check("4000::1", Some("unassigned"));
    }
}
