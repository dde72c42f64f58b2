//! Reads numbers and pieces from the front of bytes; `None` when there are not enough of them.

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

macro_rules! numbers {
    ($($be:ident $le:ident $kind:ident),*) => {$(
        /// A number, the highest byte first.
        pub fn $be(&mut self) -> Option<$kind> {
            self.array().map($kind::from_be_bytes)
        }

        /// A number, the lowest byte first.
        pub fn $le(&mut self) -> Option<$kind> {
            self.array().map($kind::from_le_bytes)
        }
    )*};
}

impl<'a> Reader<'a> {
    /// At the front of these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Bytes that were not read yet.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// Passes over `len` bytes.
    pub fn skip(&mut self, len: usize) -> Option<()> {
        self.take(len).map(|_| ())
    }

    /// The next bytes, as many as the array has.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Bytes up to the next one of this value, which is passed over.
    pub fn until(&mut self, end: u8) -> Option<&'a [u8]> {
        let at = memchr::memchr(end, self.rest)?;
        let taken = self.take(at)?;
        self.skip(1)?;
        Some(taken)
    }

    /// A piece behind its length in one byte.
    pub fn piece8(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(len.into())
    }

    /// A piece behind its length in two bytes, the highest first.
    pub fn piece16(&mut self) -> Option<&'a [u8]> {
        let len = self.be16()?;
        self.take(len.into())
    }

    /// A piece behind its length in four bytes, the highest first.
    pub fn piece32(&mut self) -> Option<&'a [u8]> {
        let len = self.be32()?;
        self.take(usize::try_from(len).ok()?)
    }

    numbers!(be16 le16 u16, be32 le32 u32, be64 le64 u64);
}

/// Most bytes of one text in a record.
pub const RECORD_TEXT_MAX: usize = 1024;

/// Bytes from outside as EVE writes them: UTF-8 as it is, else what is not ASCII as `\xNN`; what is longer
/// than [`RECORD_TEXT_MAX`] is cut and ends in an ellipsis.
#[must_use]
pub fn eve_text(bytes: &[u8]) -> String {
    let kept = &bytes[..bytes.len().min(RECORD_TEXT_MAX)];
    let mut text = match std::str::from_utf8(kept) {
        Ok(text) => text.to_owned(),
        // A character that was cut in two does not make the rest something else.
        Err(error) if error.error_len().is_none() && kept.len() < bytes.len() => {
            String::from_utf8_lossy(&kept[..error.valid_up_to()]).into_owned()
        }
        Err(_) => kept.iter().fold(String::new(), |mut text, &byte| {
            if byte.is_ascii() {
                text.push(byte.into());
            } else {
                text.extend(std::ascii::escape_default(byte).map(char::from));
            }
            text
        }),
    };
    if kept.len() < bytes.len() {
        text.push('…');
    }
    text
}

/// UTF-16 in little endian as text; half a character at the end is left out.
#[must_use]
pub fn utf16le(bytes: &[u8]) -> String {
    let kept = &bytes[..bytes.len().min(2 * RECORD_TEXT_MAX)];
    let units = kept
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_to_the_end_and_not_beyond() {
        let mut reader = Reader::new(&[1, 2, 3, 0, 4, 5, 2, b'a', b'b', b'x', 0, 9]);
        assert_eq!(reader.u8(), Some(1));
        assert_eq!(reader.be16(), Some(0x203));
        assert_eq!(reader.le16(), Some(0x400));
        assert_eq!(reader.be64(), None);
        assert_eq!(reader.u8(), Some(5));
        assert_eq!(reader.piece8(), Some(&b"ab"[..]));
        assert_eq!(reader.until(0), Some(&b"x"[..]));
        assert_eq!(reader.piece8(), None);
        assert_eq!(reader.until(0), None);
    }

    #[test]
    fn texts() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(eve_text(bytes), expected);
        check("é\u{1a}".as_bytes(), "é\u{1a}");
        check(b"\x9fi\x1a\x8e", "\\x9fi\u{1a}\\x8e");
        check(
            &[b'a'; RECORD_TEXT_MAX + 1],
            &format!("{}…", "a".repeat(RECORD_TEXT_MAX)),
        );
        let long = "é".repeat(RECORD_TEXT_MAX);
        check(
            &long.as_bytes()[..RECORD_TEXT_MAX + 8],
            &format!("{}…", "é".repeat(RECORD_TEXT_MAX / 2)),
        );
        assert_eq!(utf16le(b"a\0\xe9\0x"), "aé");
    }
}
