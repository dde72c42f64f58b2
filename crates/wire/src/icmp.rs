//! ICMP (RFC 792) and ICMPv6 (RFC 4443): the first eight bytes, alike in both.

use crate::Load;

/// Length of what the view holds, in bytes.
pub const HEADER_LEN: usize = 8;

/// Types that come in pairs of question and answer with an identifier.
pub mod kind {
    pub const ECHO_REPLY: u8 = 0;
    pub const ECHO: u8 = 8;
    pub const ECHO_V6: u8 = 128;
    pub const ECHO_REPLY_V6: u8 = 129;
}

/// Whether a message of this type asks something of the host it goes to. Everything else answers, or
/// reports an error.
#[inline(always)]
#[must_use]
pub const fn is_question(kind: u8, family: u8) -> bool {
    if family == 4 {
        // Echo, router solicitation, time stamp, information and mask requests, extended echo.
        matches!(kind, kind::ECHO | 10 | 13 | 15 | 17 | 42)
    } else {
        // Echo, multicast listener query, router and neighbour solicitation, extended echo.
        matches!(kind, kind::ECHO_V6 | 130 | 133 | 135 | 160)
    }
}

/// Whether a message of this type is an echo request or reply.
#[inline(always)]
#[must_use]
pub const fn is_echo(kind: u8, family: u8) -> bool {
    if family == 4 {
        kind == kind::ECHO || kind == kind::ECHO_REPLY
    } else {
        kind == kind::ECHO_V6 || kind == kind::ECHO_REPLY_V6
    }
}

/// View over type, code, checksum and the four bytes whose meaning depends on the type.
#[derive(Clone, Copy, Debug)]
pub struct View([u8; HEADER_LEN]);

impl View {
    /// `None` if the 8 bytes are not there.
    #[inline(always)]
    pub fn load(load: &(impl Load + ?Sized), at: usize) -> Option<Self> {
        load.bytes(at).map(Self)
    }

    #[inline(always)]
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.0[0]
    }

    #[inline(always)]
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.0[1]
    }

    /// Identifier of an echo request or reply.
    #[inline(always)]
    #[must_use]
    pub const fn identifier(&self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// Whether this is an echo request or reply of the given IP family.
    #[inline(always)]
    #[must_use]
    pub const fn is_echo(&self, family: u8) -> bool {
        is_echo(self.0[0], family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::hex;

    fn check(digits: &str, family: u8, expected: (u8, u8, Option<u16>)) {
        let view = View::load(hex(digits).as_slice(), 0).unwrap();
        let identifier = view.is_echo(family).then(|| view.identifier());
        assert_eq!((view.kind(), view.code(), identifier), expected);
    }

    #[test]
    fn echoes_have_an_identifier() {
        check("080066b400080001", 4, (8, 0, Some(8)));
        check("00006eb400080001", 4, (0, 0, Some(8)));
        check("8000000012340001", 6, (128, 0, Some(0x1234)));
        check("8100000012340001", 6, (129, 0, Some(0x1234)));
    }

    #[test]
    fn others_have_none() {
        check("0303aaaa00000000", 4, (3, 3, None));
        check("8000000012340001", 4, (128, 0, None));
        check("0800000012340001", 6, (8, 0, None));
        assert!(View::load(&hex("0800000012340001")[..7], 0).is_none());
    }
}
