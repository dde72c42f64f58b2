//! Bytes that come in pieces by offset: handshake messages of DTLS, CRYPTO frames of QUIC.

/// Pieces that do not adjoin, at most.
const RANGES_MAX: usize = 64;

/// A message or stream that is put together.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    data: Vec<u8>,
    /// What is there: begin and end, in order, not adjoining.
    ranges: Vec<(usize, usize)>,
}

impl Assembler {
    /// One piece. Of bytes that come twice the first count. False if it would go beyond `len_max` or the
    /// pieces are too many.
    pub(super) fn insert(&mut self, offset: usize, bytes: &[u8], len_max: usize) -> bool {
        let Some(end) = offset.checked_add(bytes.len()).filter(|&end| end <= len_max) else {
            return false;
        };
        if bytes.is_empty() {
            return true;
        }
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        let mut at = offset;
        for &(begin, until) in &self.ranges {
            if at >= end {
                break;
            }
            if until <= at {
                continue;
            }
            if at < begin {
                let stop = begin.min(end);
                self.data[at..stop].copy_from_slice(&bytes[at - offset..stop - offset]);
            }
            at = until.max(at);
        }
        if at < end {
            self.data[at..end].copy_from_slice(&bytes[at - offset..]);
        }
        self.ranges.push((offset, end));
        self.ranges.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::with_capacity(self.ranges.len());
        for &(begin, end) in &self.ranges {
            match merged.last_mut() {
                Some(last) if begin <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((begin, end)),
            }
        }
        self.ranges = merged;
        self.ranges.len() <= RANGES_MAX
    }

    /// What is there from the beginning on, without a hole.
    pub(super) fn prefix(&self) -> &[u8] {
        match self.ranges.first() {
            Some(&(0, end)) => &self.data[..end],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[(usize, &str)], expected: &str) {
        let mut assembler = Assembler::default();
        for &(offset, bytes) in pieces {
            assert!(assembler.insert(offset, bytes.as_bytes(), 100));
        }
        assert_eq!(assembler.prefix(), expected.as_bytes(), "{pieces:?}");
    }

    #[test]
    fn pieces() {
        check(&[(0, "abc"), (3, "def")], "abcdef");
        check(&[(3, "def"), (0, "abc")], "abcdef");
        check(&[(3, "def")], "");
        check(&[(2, "cd"), (6, "gh"), (0, "ABCDEFGHI")], "ABcdEFghI");
        check(&[(0, "abcdef"), (2, "XXXXXX")], "abcdefXX");
        check(&[(4, "e"), (2, "c"), (0, "ab"), (3, "d")], "abcde");
    }

    #[test]
    fn bounds() {
        let mut assembler = Assembler::default();
        assert!(!assembler.insert(99, b"ab", 100));
        assert!(!assembler.insert(usize::MAX, b"ab", 100));
        assert!(assembler.insert(98, b"ab", 100));
        let mut assembler = Assembler::default();
        let all_fit = (0..=RANGES_MAX).all(|at| assembler.insert(at * 2, b"a", 10_000));
        assert!(!all_fit);
    }
}
