//! IP addresses as map keys hold them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 or IPv6 address in 16 bytes, in network byte order.
///
/// An IPv4 address stands in the last four bytes, the others are zero; the family is kept beside
/// the address (as in [`crate::FlowKey`]), so `1.2.3.4` and `::1.2.3.4` never meet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Addr(pub [u32; 4]);

const _: () = assert!(size_of::<Addr>() == 16);

impl Addr {
    /// From the four bytes of an IPv4 header.
    #[inline(always)]
    #[must_use]
    pub const fn v4(bytes: [u8; 4]) -> Self {
        Self([0, 0, 0, u32::from_ne_bytes(bytes)])
    }

    /// From the sixteen bytes of an IPv6 header.
    #[inline(always)]
    #[must_use]
    pub const fn v6(b: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
            u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
            u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
        ])
    }

    /// The address as the standard library writes it. `family` is 4 or 6.
    #[must_use]
    pub fn to_ip(self, family: u8) -> IpAddr {
        if family == 4 {
            IpAddr::V4(Ipv4Addr::from(self.0[3].to_ne_bytes()))
        } else {
            IpAddr::V6(Ipv6Addr::from(self.octets()))
        }
    }

    /// The address and its family, 4 or 6. An IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2), as
    /// dual-stack sockets report it, becomes the IPv4 address that is on the wire.
    #[must_use]
    pub fn from_ip(ip: IpAddr) -> (Self, u8) {
        match ip {
            IpAddr::V4(v4) => (Self::v4(v4.octets()), 4),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => (Self::v4(v4.octets()), 4),
                None => (Self::v6(v6.octets()), 6),
            },
        }
    }

    /// The sixteen bytes in network order.
    #[must_use]
    pub fn octets(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Whether `self` sorts after `other` as a number in network order.
    #[inline(always)]
    #[must_use]
    pub const fn is_after(&self, other: &Self) -> bool {
        let (a, b) = (self.halves(), other.halves());
        a[0] > b[0] || (a[0] == b[0] && a[1] > b[1])
    }

    /// The two halves as numbers.
    #[inline(always)]
    const fn halves(&self) -> [u64; 2] {
        let w = &self.0;
        [
            (u32::from_be(w[0]) as u64) << 32 | u32::from_be(w[1]) as u64,
            (u32::from_be(w[2]) as u64) << 32 | u32::from_be(w[3]) as u64,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_pass_through_unchanged() {
        for text in [
            "1.2.3.4",
            "0.0.0.0",
            "255.255.255.255",
            "::",
            "::1",
            "::1.2.3.4",
            "2001:db8::ff00:42",
        ] {
            let ip: IpAddr = text.parse().unwrap();
            let (addr, family) = Addr::from_ip(ip);
            assert_eq!(addr.to_ip(family), ip);
        }
    }

    #[test]
    fn mapped_addresses_become_ipv4() {
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(Addr::from_ip(mapped), (Addr::v4([10, 0, 0, 1]), 4));
    }

    #[test]
    fn order_is_that_of_the_numbers() {
        let sorted = ["::1", "::ff00", "::1:0", "1::", "1::1", "100::"].map(|text| {
            let IpAddr::V6(v6) = text.parse().unwrap() else {
                unreachable!()
            };
            Addr::v6(v6.octets())
        });
        for (i, low) in sorted.iter().enumerate() {
            for (j, high) in sorted.iter().enumerate() {
                assert_eq!(high.is_after(low), j > i);
            }
        }
        assert!(Addr::v4([2, 0, 0, 0]).is_after(&Addr::v4([1, 255, 255, 255])));
    }
}
