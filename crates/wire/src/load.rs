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
