//! A run of digits in groups, such as `4111 1111 1111 1111` or `123-45-6789`, read once for all the
//! finders of numbers.

use super::view::{View, is_word};

/// More digits than the longest number has: 19 of a card.
const DIGITS_MAX: usize = 24;
/// The social security number of France comes in seven groups.
const GROUPS_MAX: usize = 8;

/// What stands between two groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sep {
    Space,
    Hyphen,
    Dot,
    Slash,
}

impl Sep {
    /// The separator at `at` and its length.
    pub(crate) fn at(view: &View<'_>, at: usize) -> Option<(Self, usize)> {
        let c = view.char(at)?;
        let sep = match c {
            ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}' => Self::Space,
            '-' | '\u{2010}' | '\u{2011}' => Self::Hyphen,
            '.' => Self::Dot,
            '/' => Self::Slash,
            _ => return None,
        };
        Some((sep, c.len_utf8()))
    }
}

/// Groups of digits.
#[derive(Debug)]
pub(crate) struct Digits {
    values: [u8; DIGITS_MAX],
    /// For each group, how many digits there are up to its end, and where it ends in the text.
    ends: [(usize, usize); GROUPS_MAX],
    seps: [Option<Sep>; GROUPS_MAX],
    groups: usize,
    /// Where it begins in the text.
    pub(crate) start: usize,
}

impl Digits {
    /// Reads from `start`, where there is a digit.
    pub(crate) fn read(view: &View<'_>, start: usize) -> Self {
        let mut digits = Self {
            values: [0; DIGITS_MAX],
            ends: [(0, 0); GROUPS_MAX],
            seps: [None; GROUPS_MAX],
            groups: 0,
            start,
        };
        let (mut at, mut count) = (start, 0);
        while digits.groups < GROUPS_MAX {
            let before = count;
            while let Some(value) = view.digit(at).filter(|_| count < DIGITS_MAX) {
                digits.values[count] = value;
                (at, count) = (at + 1, count + 1);
            }
            if count == before {
                break;
            }
            digits.ends[digits.groups] = (count, at);
            digits.groups += 1;
            let Some((sep, len)) = Sep::at(view, at).filter(|_| count < DIGITS_MAX) else {
                break;
            };
            if view.digit(at + len).is_none() {
                break;
            }
            digits.seps[digits.groups - 1] = Some(sep);
            at += len;
        }
        digits
    }

    /// How many digits the group `idx` has; 0 if there is no such group.
    pub(crate) fn len(&self, idx: usize) -> usize {
        if idx >= self.groups {
            return 0;
        }
        self.ends[idx].0 - if idx == 0 { 0 } else { self.ends[idx - 1].0 }
    }

    /// The digits of the first `groups` groups.
    pub(crate) fn values(&self, groups: usize) -> &[u8] {
        &self.values[..self.ends[groups - 1].0]
    }

    /// Where the first `groups` groups end in the text.
    pub(crate) fn end(&self, groups: usize) -> usize {
        self.ends[groups - 1].1
    }

    /// The separator after the group `idx`.
    pub(crate) fn sep(&self, idx: usize) -> Option<Sep> {
        self.seps[idx]
    }

    /// Do the first groups have these lengths, with one of `seps` between them, everywhere the same?
    pub(crate) fn shaped(&self, lens: &[usize], seps: &[Sep]) -> bool {
        let same =
            |idx: usize| self.seps[idx].is_some_and(|sep| seps.contains(&sep) && Some(sep) == self.seps[0]);
        self.groups >= lens.len()
            && lens.iter().enumerate().all(|(idx, &len)| self.len(idx) == len)
            && (0..lens.len() - 1).all(same)
    }

    /// Does a number of `groups` groups stand alone: is it no part of a longer one, a code, a file name,
    /// a price or a path?
    pub(crate) fn stands_alone(&self, view: &View<'_>, groups: usize) -> bool {
        let spaced = groups > 1 && self.seps[0] == Some(Sep::Space);
        starts_alone(view, self.start, groups > 1, spaced) && ends_alone(view, self.end(groups), spaced)
    }
}

/// May a number begin at `at`? `grouped`: it has separators; `spaced`: these are spaces.
pub(crate) fn starts_alone(view: &View<'_>, at: usize, grouped: bool, spaced: bool) -> bool {
    if !view.word_starts(at) {
        return false;
    }
    let (last, second) = view.two_before(at);
    let word = second.is_some_and(is_word);
    let digit = second.is_some_and(|c| c.is_ascii_digit());
    match last {
        // A single number after a minus is negative.
        Some('-' | '.' | '\u{2010}' | '\u{2011}') => !word && grouped,
        Some('+' | '#' | '$' | '€' | '£' | '¥' | '￥' | '₹' | '%' | '@' | '\\') => false,
        Some('/') => grouped || !word,
        Some(':') => !digit,
        Some(' ' | '\u{a0}' | '\u{202f}') => !(spaced && digit),
        _ => true,
    }
}

/// May a number end at `at`?
pub(crate) fn ends_alone(view: &View<'_>, at: usize, spaced: bool) -> bool {
    let Some(next) = view.char(at) else { return true };
    let second = || view.char(at + next.len_utf8());
    let digit = || second().is_some_and(|c| c.is_ascii_digit());
    match next {
        '_' | '%' | '@' | '€' | '$' | '£' => false,
        '-' | '\u{2010}' | '\u{2011}' | '.' => !second().is_some_and(is_word),
        ':' => !digit(),
        '/' => !second().is_some_and(|c| c.is_ascii_alphabetic()),
        ' ' | '\u{a0}' | '\u{202f}' if spaced => !digit(),
        _ => !is_word(next),
    }
}

/// Luhn's check (ISO/IEC 7812-1, annex B).
pub(crate) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(idx, &digit)| {
            let doubled = u32::from(digit) << (idx % 2);
            doubled / 10 + doubled % 10
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The digits as one number.
pub(crate) fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |sum, &digit| sum * 10 + u64::from(digit))
}
