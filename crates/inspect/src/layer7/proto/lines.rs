//! What protocols of lines have in common.

use crate::layer7::protocol::Verdict;

/// Longest line that is waited for; what is longer counts as a line of this length, and the rest of it is
/// passed over.
pub(super) const LINE_MAX: usize = 32 * 1024;

/// The first line of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Without its end (LF or CRLF), and its length with it.
    Whole(&'a [u8], usize),
    /// Longer than allowed: its beginning. The end has not come.
    Long(&'a [u8]),
    More,
}

/// The first line, if it ends within `max` bytes.
pub(super) fn first(bytes: &[u8], max: usize) -> Line<'_> {
    let window = &bytes[..bytes.len().min(max + 2)];
    match memchr::memchr(b'\n', window) {
        Some(end) => {
            let line = &bytes[..end];
            Line::Whole(line.strip_suffix(b"\r").unwrap_or(line), end + 1)
        }
        None if bytes.len() > max + 1 => Line::Long(&bytes[..max]),
        None => Line::More,
    }
}

/// Lines of one side, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    is_passing_over: bool,
}

/// What comes next of a side's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    Line {
        line: &'a [u8],
        taken: usize,
        /// It is longer, and the rest of it will be passed over.
        is_cut: bool,
    },
    /// So many bytes belong to a line that was told already.
    Pass(usize),
    More,
}

impl Lines {
    /// The next line, of which at most `max` bytes are told.
    pub(super) fn next<'a>(&mut self, bytes: &'a [u8], max: usize) -> Next<'a> {
        if self.is_passing_over {
            let end = memchr::memchr(b'\n', bytes);
            self.is_passing_over = end.is_none();
            return Next::Pass(end.map_or(bytes.len(), |end| end + 1));
        }
        match first(bytes, max) {
            Line::Whole(line, taken) => Next::Line {
                line,
                taken,
                is_cut: false,
            },
            Line::Long(line) => {
                self.is_passing_over = true;
                Next::Line {
                    line,
                    taken: line.len(),
                    is_cut: true,
                }
            }
            Line::More => Next::More,
        }
    }
}

/// How well the first bytes of a side fit a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    No,
    More,
    Likely,
    Certain,
}

impl Fit {
    /// `Certain` if the bytes begin with one of these texts, upper or lower case.
    pub(super) fn begins_any(bytes: &[u8], texts: &[&[u8]]) -> Self {
        let mut fit = Self::No;
        for text in texts {
            match begins(bytes, text) {
                Some(true) => return Self::Certain,
                None => fit = Self::More,
                Some(false) => {}
            }
        }
        fit
    }

    /// The verdict of a protocol whose client is the flow's.
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Self::No => Verdict::No,
            Self::More => Verdict::NeedMore,
            Self::Likely => Verdict::LIKELY,
            Self::Certain => Verdict::CERTAIN,
        }
    }
}

/// The code of a reply of FTP or SMTP, and whether more lines of it follow.
pub(super) fn reply(line: &[u8]) -> Option<(u16, bool)> {
    let code = line
        .get(..3)
        .and_then(number)
        .filter(|code| (100..700).contains(code))?;
    match line.get(3) {
        None | Some(b' ') => Some((code as u16, false)),
        Some(b'-') => Some((code as u16, true)),
        Some(_) => None,
    }
}

/// Whether a text stands somewhere in the bytes, upper or lower case.
pub(super) fn has(bytes: &[u8], text: &[u8]) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window.eq_ignore_ascii_case(text))
}

/// A line's first word, and what follows it without the blanks between.
pub(super) fn word(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(|&b| b == b' ' || b == b'\t');
    let (word, rest) = line.split_at(end.unwrap_or(line.len()));
    (word, rest.trim_ascii_start())
}

/// Whether the bytes begin with this text, upper or lower case; `None` if they are too few to tell.
pub(super) fn begins(bytes: &[u8], text: &[u8]) -> Option<bool> {
    let len = bytes.len().min(text.len());
    if !bytes[..len].eq_ignore_ascii_case(&text[..len]) {
        Some(false)
    } else if len < text.len() {
        None
    } else {
        Some(true)
    }
}

/// A number of decimal digits only.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_lf_or_crlf() {
        assert_eq!(first(b"ab\r\ncd", 9), Line::Whole(b"ab", 4));
        assert_eq!(first(b"ab\ncd", 9), Line::Whole(b"ab", 3));
        assert_eq!(first(b"abcd", 4), Line::More);
        assert_eq!(first(b"abcd\r\n", 4), Line::Whole(b"abcd", 6));
        assert_eq!(first(b"abcdef", 4), Line::Long(b"abcd"));
        assert_eq!(word(b"MAIL  FROM:<a>"), (&b"MAIL"[..], &b"FROM:<a>"[..]));
        assert_eq!(begins(b"EH", b"EHLO "), None);
        assert_eq!(begins(b"ehlo x", b"EHLO "), Some(true));
        assert_eq!(begins(b"x", b"EHLO "), Some(false));
        assert_eq!(number(b"0042"), Some(42));
        assert_eq!(number(b"4x"), None);
    }
}
