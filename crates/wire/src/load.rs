//! Reading bytes that may not be there.

/// Furthest offset at which a header is looked for. Headers end long before; a bound keeps the
/// ranges small that the kernel's verifier follows, and offsets within 16 bits. Every [`Load`]
/// holds it, so that kernel and host stop at the same place.
pub const OFFSET_MAX: usize = 0x3fff;

/// A frame whose bytes are read by offset, each read checked.
///
/// The host reads slices; the kernel programs read packet memory between `data` and `data_end`.
/// Everything else in this crate is written against this trait, so there is one parser.
pub trait Load {
    /// The `N` bytes that begin `at` bytes into the frame, or `None` if any of them is missing or
    /// `at` is beyond [`OFFSET_MAX`].
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// The same number. Called where loops and branches meet: the kernel's verifier follows every
    /// way through a parser separately as long as it knows something different about a number on
    /// each, and a program would grow past its limit. The kernel side makes it forget.
    #[inline(always)]
    fn forget(&self, number: usize) -> usize {
        number
    }

    /// The byte at `at`.
    #[inline(always)]
    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes::<1>(at).map(|[byte]| byte)
    }

    /// The 16-bit big-endian number at `at`.
    #[inline(always)]
    fn be16(&self, at: usize) -> Option<u16> {
        self.bytes::<2>(at).map(u16::from_be_bytes)
    }
}

impl Load for [u8] {
    #[inline(always)]
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        if at > OFFSET_MAX {
            return None;
        }
        self.get(at..at + N)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_there_or_not() {
        let bytes: &[u8] = &[1, 2, 3];
        assert_eq!(bytes.bytes(0), Some([1, 2, 3]));
        assert_eq!(bytes.bytes::<2>(2), None);
        assert_eq!(bytes.byte(2), Some(3));
        assert_eq!(bytes.byte(3), None);
        assert_eq!(bytes.be16(1), Some(0x0203));
        assert_eq!(bytes.bytes::<2>(usize::MAX), None);
    }

    #[test]
    fn nothing_is_read_beyond_the_bound() {
        let bytes: &[u8] = &[7; OFFSET_MAX + 8];
        assert_eq!(bytes.bytes(OFFSET_MAX), Some([7; 4]));
        assert_eq!(bytes.byte(OFFSET_MAX + 1), None);
    }
}
