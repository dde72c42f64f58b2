//! PPP framing (RFC 1661, RFC 1662).

use crate::{Load, Reject, ethertype};

/// A serial line: PPP, or Cisco's HDLC, whose first byte (0x0f unicast, 0x8f broadcast) no PPP
/// frame has (RFC 1547, 4.3.1).
#[inline(always)]
pub(crate) fn enter_hdlc(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    match load.byte(at) {
        Some(0x0f | 0x8f) => Ok((at + 4, load.be16(at + 2).ok_or(Reject::LinkShort)?)),
        _ => enter(load, at),
    }
}

/// Reads the optional address and control bytes and the protocol, which may be compressed to one
/// byte, and translates it to an EtherType.
#[inline(always)]
pub(crate) fn enter(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    let mut at = at;
    if load.bytes::<2>(at) == Some([0xff, 0x03]) {
        at += 2;
    }
    let first = load.byte(at).ok_or(Reject::LinkShort)?;
    let protocol = if first & 1 == 1 {
        at += 1;
        first as u16
    } else {
        let whole = load.be16(at).ok_or(Reject::LinkShort)?;
        at += 2;
        whole
    };
    match protocol {
        0x0021 => Ok((at, ethertype::IPV4)),
        0x0057 => Ok((at, ethertype::IPV6)),
        0x0281 => Ok((at, ethertype::MPLS)),
        0x0283 => Ok((at, ethertype::MPLS_MULTICAST)),
        _ => Err(Reject::NotIp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::hex;

    fn check(digits: &str, expected: Result<(usize, u16), Reject>) {
        assert_eq!(enter_hdlc(hex(digits).as_slice(), 0), expected, "{digits}");
    }

    #[test]
    fn protocols() {
        check("0021 45", Ok((2, ethertype::IPV4)));
        check("ff03 0021 45", Ok((4, ethertype::IPV4)));
        check("21 45", Ok((1, ethertype::IPV4)));
        check("ff03 57 60", Ok((3, ethertype::IPV6)));
        check("0281 0001", Ok((2, ethertype::MPLS)));
        check("0283 0001", Ok((2, ethertype::MPLS_MULTICAST)));
        check("c021 0100", Err(Reject::NotIp));
        check("", Err(Reject::LinkShort));
        check("ff03", Err(Reject::LinkShort));
        check("00", Err(Reject::LinkShort));
    }

    #[test]
    fn cisco_hdlc_under_the_same_link_type() {
        check("0f00 0800 45c0", Ok((4, ethertype::IPV4)));
        check("8f00 8035 0000", Ok((4, 0x8035)));
        check("0f00 08", Err(Reject::LinkShort));
    }
}
