//! Reads numbers and lengths off the front of bytes; every read is checked.

/// Bytes still to be read.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// At the first of these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What is left.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Bytes left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next bytes, as an array.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    /// A byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes in network order.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Three bytes in network order.
    pub fn u24(&mut self) -> Option<u32> {
        self.array::<3>()
            .map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// Four bytes in network order.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Bytes after their length in one byte.
    pub fn vec8(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(len.into())
    }

    /// Bytes after their length in two bytes.
    pub fn vec16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }

    /// Bytes after their length in three bytes.
    pub fn vec24(&mut self) -> Option<&'a [u8]> {
        let len = self.u24()?;
        self.take(len as usize)
    }

    /// A QUIC variable-length integer (RFC 9000, section 16).
    pub fn varint(&mut self) -> Option<u64> {
        let first = self.u8()?;
        let mut value = u64::from(first & 0x3f);
        for &byte in self.take((1 << (first >> 6)) - 1)? {
            value = value << 8 | u64::from(byte);
        }
        Some(value)
    }
}

/// Numbers of two bytes, one after another.
#[must_use]
pub fn u16s(bytes: &[u8]) -> Vec<u16> {
    let pairs = bytes.as_chunks::<2>().0;
    pairs.iter().map(|&pair| u16::from_be_bytes(pair)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_end_where_the_bytes_do() {
        let mut cursor = Cursor::new(&[1, 2, 3, 0, 2, 9, 8, 7]);
        assert_eq!((cursor.u8(), cursor.u16()), (Some(1), Some(0x0203)));
        assert_eq!(cursor.vec16(), Some(&[9, 8][..]));
        assert_eq!((cursor.vec16(), cursor.rest()), (None, &[7][..]));
        assert_eq!(u16s(&[1, 2, 3]), [0x0102]);
    }

    /// The examples of RFC 9000, appendix A.1.
    #[test]
    fn varints() {
        let check = |bytes: &[u8], expected: Option<u64>| {
            assert_eq!(Cursor::new(bytes).varint(), expected, "{bytes:x?}");
        };
        check(
            &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
            Some(151_288_809_941_952_652),
        );
        check(&[0x9d, 0x7f, 0x3e, 0x7d], Some(494_878_333));
        check(&[0x7b, 0xbd], Some(15_293));
        check(&[0x25], Some(37));
        check(&[0x7b], None);
        check(&[], None);
    }
}
