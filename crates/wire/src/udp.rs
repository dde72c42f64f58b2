//! UDP header (RFC 768).

use crate::Load;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;

/// View over a UDP header.
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
    pub const fn src_port(&self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    #[inline(always)]
    #[must_use]
    pub const fn dst_port(&self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// Header and payload in bytes; 0 in jumbograms (RFC 2675).
    #[inline(always)]
    #[must_use]
    pub const fn len(&self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// Whether the length field holds no payload.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() <= HEADER_LEN as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{IP4_UDP, hex};

    #[test]
    fn fields() {
        let view = View::load(hex(IP4_UDP).as_slice(), 20).unwrap();
        assert_eq!((view.src_port(), view.dst_port(), view.len()), (38448, 53, 12));
        assert!(!view.is_empty());
        assert!(View::load(&hex(IP4_UDP)[..27], 20).is_none());
    }
}
