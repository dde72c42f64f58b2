//! Reading bytes that may not be there.

use core::marker::PhantomData;

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

    /// The first `N` bytes, checked once for all that is read of them; `None` if any is missing.
    fn head<const N: usize>(&self) -> Option<Head<'_, N>>;

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

    #[inline(always)]
    fn head<const N: usize>(&self) -> Option<Head<'_, N>> {
        self.first_chunk().map(Head::of)
    }
}

/// The first `N` bytes of a frame. Numbers are read as they are in memory, from offsets that are
/// checked when the program is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a, const N: usize> {
    from: *const u8,
    bytes: PhantomData<&'a [u8; N]>,
}

impl<'a, const N: usize> Head<'a, N> {
    /// Of bytes in memory.
    #[inline(always)]
    #[must_use]
    pub const fn of(bytes: &'a [u8; N]) -> Self {
        Self {
            from: bytes.as_ptr(),
            bytes: PhantomData,
        }
    }

    /// Of bytes that a pointer leads to.
    ///
    /// # Safety
    ///
    /// `from` must be valid for reads of `N` bytes as long as the head lives.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn at(from: *const u8) -> Self {
        Self {
            from,
            bytes: PhantomData,
        }
    }

    #[inline(always)]
    #[must_use]
    pub fn u16<const AT: usize>(&self) -> u16 {
        const { assert!(AT + 2 <= N) };
        #[cfg(target_arch = "bpf")]
        {
            let word: u64;
            // SAFETY: within the head. The compiler's own unaligned read would be one of each byte.
            unsafe {
                core::arch::asm!("{0} = *(u16 *)({1} + {2})", out(reg) word, in(reg) self.from, const AT, options(pure, readonly, nostack))
            };
            word as u16
        }
        #[cfg(not(target_arch = "bpf"))]
        // SAFETY: within the head.
        unsafe {
            self.from.add(AT).cast::<u16>().read_unaligned()
        }
    }

    #[inline(always)]
    #[must_use]
    pub fn u32<const AT: usize>(&self) -> u32 {
        const { assert!(AT + 4 <= N) };
        #[cfg(target_arch = "bpf")]
        {
            let word: u64;
            // SAFETY: as in `u16`.
            unsafe {
                core::arch::asm!("{0} = *(u32 *)({1} + {2})", out(reg) word, in(reg) self.from, const AT, options(pure, readonly, nostack))
            };
            word as u32
        }
        #[cfg(not(target_arch = "bpf"))]
        // SAFETY: within the head.
        unsafe {
            self.from.add(AT).cast::<u32>().read_unaligned()
        }
    }

    #[inline(always)]
    #[must_use]
    pub fn u64<const AT: usize>(&self) -> u64 {
        const { assert!(AT + 8 <= N) };
        #[cfg(target_arch = "bpf")]
        {
            let word: u64;
            // SAFETY: as in `u16`.
            unsafe {
                core::arch::asm!("{0} = *(u64 *)({1} + {2})", out(reg) word, in(reg) self.from, const AT, options(pure, readonly, nostack))
            };
            word
        }
        #[cfg(not(target_arch = "bpf"))]
        // SAFETY: within the head.
        unsafe {
            self.from.add(AT).cast::<u64>().read_unaligned()
        }
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
