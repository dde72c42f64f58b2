//! IPv4 header (RFC 791).

use crate::Load;

/// Length of the header without options, in bytes.
pub const HEADER_LEN: usize = 20;

/// View over the fixed part of an IPv4 header. Judges nothing: every accessor gives what is there.
#[derive(Clone, Copy, Debug)]
pub struct View([u8; HEADER_LEN]);

impl View {
    /// `None` if the 20 bytes are not there.
    #[inline(always)]
    pub fn load(load: &(impl Load + ?Sized), at: usize) -> Option<Self> {
        load.bytes(at).map(Self)
    }

    #[inline(always)]
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.0[0] >> 4
    }

    /// Header length with options, in bytes: 0 to 60.
    #[inline(always)]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        (self.0[0] & 0x0f) as usize * 4
    }

    /// Type of service: DSCP and ECN (RFC 2474, RFC 3168).
    #[inline(always)]
    #[must_use]
    pub const fn tos(&self) -> u8 {
        self.0[1]
    }

    /// Length of header and payload in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn total_len(&self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    #[inline(always)]
    #[must_use]
    pub const fn id(&self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// The don't-fragment bit.
    #[inline(always)]
    #[must_use]
    pub const fn dont_fragment(&self) -> bool {
        self.0[6] & 0x40 != 0
    }

    /// The more-fragments bit.
    #[inline(always)]
    #[must_use]
    pub const fn more_fragments(&self) -> bool {
        self.0[6] & 0x20 != 0
    }

    /// Where this fragment's payload belongs in the whole datagram's, in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn fragment_offset(&self) -> u16 {
        (u16::from_be_bytes([self.0[6], self.0[7]]) & 0x1fff) << 3
    }

    #[inline(always)]
    #[must_use]
    pub const fn ttl(&self) -> u8 {
        self.0[8]
    }

    #[inline(always)]
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.0[9]
    }

    #[inline(always)]
    #[must_use]
    pub const fn src(&self) -> [u8; 4] {
        [self.0[12], self.0[13], self.0[14], self.0[15]]
    }

    #[inline(always)]
    #[must_use]
    pub const fn dst(&self) -> [u8; 4] {
        [self.0[16], self.0[17], self.0[18], self.0[19]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{IP4_TCP_SYN, hex};

    #[test]
    fn fields() {
        let view = View::load(hex(IP4_TCP_SYN).as_slice(), 0).unwrap();
        assert_eq!((view.version(), view.header_len(), view.total_len()), (4, 20, 44));
        assert_eq!((view.tos(), view.ttl(), view.protocol()), (0xc0, 255, 6));
        assert_eq!((view.src(), view.dst()), ([10, 1, 2, 1], [10, 34, 0, 1]));
        assert_eq!((view.id(), view.fragment_offset()), (0, 0));
        assert!(!view.dont_fragment() && !view.more_fragments());
    }

    #[test]
    fn fragment_fields() {
        let mut bytes = hex(IP4_TCP_SYN);
        bytes[4..8].copy_from_slice(&[0xab, 0xcd, 0x7f, 0xff]);
        let view = View::load(bytes.as_slice(), 0).unwrap();
        assert_eq!((view.id(), view.fragment_offset()), (0xabcd, 0xfff8));
        assert!(view.dont_fragment() && view.more_fragments());
    }

    #[test]
    fn short() {
        assert!(View::load(&hex(IP4_TCP_SYN)[..19], 0).is_none());
    }
}
