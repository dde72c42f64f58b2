//! Telephone numbers (ITU-T E.164 and national habits).
//!
//! * International: `+` or `00`, an assigned country code, as many digits as the country has.
//! * North American: 3-3-4, in any common form; ten digits in one, or seven, after a word for it.
//! * Chinese mobiles: eleven digits from 13 to 19, also 3-4-4; land lines `010-12345678`.
//! * National with the trunk prefix 0, as in most of Europe and Asia: ten to twelve digits in groups.
//! * Any other eight to eleven digits in groups, or in one, close after a word for it.
//!
//! A word such as `order` or `serial` nearer than one such as `phone` leaves a number where it is.

mod plan;
mod words;

use super::digits::{Sep, ends_alone, starts_alone};
use super::view::{View, is_word};
use plan::{assigned, is_north_american};
use words::{Hint, hint};
pub(crate) use words::{is_other, is_said};

const GROUPS_MAX: usize = 8;
const DIGITS_MAX: usize = 18;

/// Groups of digits with what stands around them.
#[derive(Debug)]
struct Number {
    values: [u8; DIGITS_MAX],
    /// Digits up to the group's end, and its end in the text, a closing bracket included.
    ends: [(usize, usize); GROUPS_MAX],
    seps: [Option<Sep>; GROUPS_MAX],
    bracketed: [bool; GROUPS_MAX],
    groups: usize,
}

impl Number {
    fn read(view: &View<'_>, start: usize) -> Self {
        let mut number = Self {
            values: [0; DIGITS_MAX],
            ends: [(0, 0); GROUPS_MAX],
            seps: [None; GROUPS_MAX],
            bracketed: [false; GROUPS_MAX],
            groups: 0,
        };
        let (mut at, mut count) = (start, 0);
        while number.groups < GROUPS_MAX && count < DIGITS_MAX {
            let open = view.byte(at) == Some(b'(');
            let mut end = at + usize::from(open);
            let before = count;
            while let Some(value) = view.digit(end).filter(|_| count < DIGITS_MAX) {
                number.values[count] = value;
                (end, count) = (end + 1, count + 1);
            }
            if count == before || (open && view.byte(end) != Some(b')')) {
                break;
            }
            end += usize::from(open);
            let idx = number.groups;
            number.ends[idx] = (count, end);
            number.bracketed[idx] = open;
            number.groups += 1;
            at = end;
            if let Some(slash) = spaced_slash(view, at) {
                number.seps[idx] = Some(Sep::Slash);
                at = slash;
            } else if let Some((sep, len)) = Sep::at(view, at) {
                number.seps[idx] = Some(sep);
                at += len;
            } else if !open && view.byte(at) != Some(b'(') {
                break;
            }
        }
        number
    }

    fn len(&self, idx: usize) -> usize {
        if idx >= self.groups {
            return 0;
        }
        self.ends[idx].0 - if idx == 0 { 0 } else { self.ends[idx - 1].0 }
    }

    fn lens(&self, from: usize, lens: &[usize]) -> bool {
        lens.iter()
            .enumerate()
            .all(|(idx, &len)| self.len(from + idx) == len)
    }

    /// The digits of groups `from..to`.
    fn digits(&self, from: usize, to: usize) -> &[u8] {
        let start = if from == 0 { 0 } else { self.ends[from - 1].0 };
        &self.values[start..self.ends[to - 1].0]
    }

    fn end(&self, groups: usize) -> usize {
        self.ends[groups - 1].1
    }

    /// Are the separators of groups `from..to` the same, but for the first, which parts the area?
    fn regular(&self, from: usize, to: usize) -> bool {
        let inner = &self.seps[from..to.saturating_sub(1).max(from)];
        let rest = inner.get(1..).unwrap_or_default();
        rest.iter().all(|sep| *sep == rest[0] && *sep != Some(Sep::Slash))
    }
}

/// Where the ` / ` at `at` ends.
fn spaced_slash(view: &View<'_>, at: usize) -> Option<usize> {
    let found = view.byte(at)? == b' ' && view.byte(at + 1)? == b'/' && view.byte(at + 2)? == b' ';
    found.then_some(at + 3)
}

/// The end of the number that begins at `start`, where there is `+`, `%2B`, `(` or a digit.
pub(crate) fn find(view: &View<'_>, start: usize) -> Option<usize> {
    match view.byte(start)? {
        sign @ (b'+' | b'%') => {
            // %2B is a plus in a query.
            let escaped =
                sign == b'%' && view.byte(start + 1) == Some(b'2') && view.byte(start + 2) == Some(b'B');
            let digits = match sign {
                b'+' => start + 1,
                _ if escaped => start + 3,
                _ => return None,
            };
            view.digit(digits)?;
            let before = view.char_before(start);
            let free = view.word_starts(start) && !matches!(before, Some('+' | '-' | '.' | '$' | '€'));
            let number = Number::read(view, digits);
            international(view, &number, 0).filter(|_| free)
        }
        _ => {
            let number = Number::read(view, start);
            national(view, &number, start)
        }
    }
}

/// The end of an international number whose country code begins with the group `from`.
fn international(view: &View<'_>, number: &Number, from: usize) -> Option<usize> {
    let most = (from + 1..=number.groups).rev();
    most.filter(|&groups| number.regular_international(from, groups))
        .find(|&groups| {
            let mut digits = [0; DIGITS_MAX];
            let mut count = 0;
            for idx in from..groups {
                // The trunk prefix, as in +44 (0)20.
                if idx > from && number.bracketed[idx] && number.digits(idx, idx + 1) == [0] {
                    continue;
                }
                for &digit in number.digits(idx, idx + 1) {
                    digits[count] = digit;
                    count += 1;
                }
            }
            assigned(&digits[..count]) && ends(view, number.end(groups), false)
        })
        .map(|groups| number.end(groups))
}

impl Number {
    fn regular_international(&self, from: usize, to: usize) -> bool {
        let seps = &self.seps[from..to - 1];
        // +255959.999 is a number.
        let decimal = *seps == [Some(Sep::Dot)];
        !decimal
            && seps
                .iter()
                .enumerate()
                .all(|(idx, sep)| *sep != Some(Sep::Slash) || idx > 0)
    }
}

fn national(view: &View<'_>, number: &Number, start: usize) -> Option<usize> {
    let groups = plausible(view, number, start)?;
    let grouped = groups > 1;
    let spaced = grouped && number.seps[..groups - 1].contains(&Some(Sep::Space));
    let alone = starts_alone(view, start, grouped, spaced) && ends(view, number.end(groups), spaced);
    alone.then(|| number.end(groups))
}

/// May the number end at `at`, before an extension such as `x44` too?
fn ends(view: &View<'_>, at: usize, spaced: bool) -> bool {
    let extension = view.byte(at) == Some(b'x') && view.digit(at + 1).is_some();
    extension || ends_alone(view, at, spaced)
}

/// How many groups make a telephone number.
fn plausible(view: &View<'_>, number: &Number, start: usize) -> Option<usize> {
    if number.groups == 0 {
        return None;
    }
    // 1-415-555-2671
    if number.lens(0, &[1, 3, 3, 4]) && number.values[0] == 1 && is_north_american(number.digits(1, 4)) {
        return number.regular(1, 4).then_some(4);
    }
    // 8 (495) 123-45-67
    if number.lens(0, &[1, 3, 3, 2, 2]) && matches!(number.values[0], 7 | 8) && number.regular(1, 5) {
        return Some(5);
    }
    let dotted = number.seps[0] == Some(Sep::Dot);
    if number.lens(0, &[3, 3, 4]) && is_north_american(number.digits(0, 3)) && number.regular(0, 3) {
        return (hint(view, start) != Hint::Other || !dotted).then_some(3);
    }
    let first = number.values[0];
    let mobile = first == 1 && number.values[1] >= 3;
    let chinese = (number.len(0) == 11 && number.groups >= 1) || number.lens(0, &[3, 4, 4]);
    if mobile && chinese && (number.len(0) == 11 || number.regular(0, 3)) {
        let groups = if number.len(0) == 11 { 1 } else { 3 };
        let wanted = match hint(view, start) {
            Hint::Phone => true,
            Hint::Other => false,
            // `f(17179870208)` and `Const<17179870208>` are code.
            Hint::None => {
                !matches!(view.two_before(start), (Some('(' | '<'), Some(before)) if is_word(before))
            }
        };
        return wanted.then_some(groups);
    }
    if number.len(0) == 1 && number.groups == 1 {
        return None;
    }
    if number.len(0) >= 2 && number.values[..2] == [0, 0] {
        return abroad(view, number, start, 2);
    }
    if number.len(0) == 3 && number.values[..3] == [0, 1, 1] && number.groups > 2 {
        return abroad(view, number, start, 3);
    }
    if number.groups > 1
        && let Some(groups) = trunk(number)
        && !is_dump(view, number, groups, start)
    {
        return (hint(view, start) != Hint::Other).then_some(groups);
    }
    by_word(view, number, start)
}

/// An international number after `00`, or `011` in North America.
fn abroad(view: &View<'_>, number: &Number, start: usize, prefix: usize) -> Option<usize> {
    let groups = number.groups;
    let digits = number.digits(0, groups);
    let sure = groups > 1 || hint(view, start) == Hint::Phone;
    let plain = !number.seps[..groups - 1].contains(&Some(Sep::Dot)) && (prefix == 3 || number.len(0) != 3);
    (sure && plain && assigned(digits.get(prefix..)?) && number.regular(0, groups)).then_some(groups)
}

/// A number with the trunk prefix 0, in groups.
fn trunk(number: &Number) -> Option<usize> {
    let first = number.values[0];
    if first != 0 || number.values[1] == 0 {
        return None;
    }
    (2..=number.groups).rev().find(|&groups| {
        let count = number.digits(0, groups).len();
        let short = count == 9 && (groups > 3 || number.len(0) == 2);
        let dotted = number.seps[..groups - 1].contains(&Some(Sep::Dot));
        let date = number.lens(0, &[2, 2, 4]);
        ((10..=12).contains(&count) || short)
            && (0..groups).all(|idx| number.len(idx) >= 2)
            && number.len(0) <= 5
            && number.regular(0, groups)
            && (!dotted || groups > 3)
            && !date
            && (number.len(0) > 2 || groups < 6)
    })
}

/// Are the groups, all of two digits, some of the bytes of a hex dump?
fn is_dump(view: &View<'_>, number: &Number, groups: usize, start: usize) -> bool {
    if (0..groups).any(|idx| number.len(idx) != 2) {
        return false;
    }
    let end = number.end(groups);
    let hex = |at: usize| view.byte(at).is_some_and(|byte| byte.is_ascii_hexdigit());
    let after = view.byte(end) == Some(b' ') && hex(end + 1) && hex(end + 2) && view.word_ends(end + 3);
    let before = view.before(start).trim_end_matches([' ', '\t']);
    let last = before.rsplit(|c: char| !is_word(c)).next().unwrap_or_default();
    let byte = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    after || (byte(last) && before.len() < view.before(start).len())
}

/// Other digits, if a word says what they are.
fn by_word(view: &View<'_>, number: &Number, start: usize) -> Option<usize> {
    let compact = number.len(0);
    let local = number.lens(0, &[3, 4]) && number.seps[0] != Some(Sep::Dot) && number.values[0] >= 2;
    let date = number.lens(0, &[2, 2, 4]) || number.lens(0, &[4, 2, 2]);
    // By their form first, since the words cost more.
    let groups = if local {
        2
    } else if (8..=12).contains(&compact) {
        1
    } else {
        (2..=number.groups).rev().find(|&groups| {
            (8..=11).contains(&number.digits(0, groups).len())
                && (0..groups).all(|idx| matches!(number.len(idx), 2..=5 | 7))
                && number.regular(0, groups)
                && number.seps[0] != Some(Sep::Dot)
                && !date
        })?
    };
    let trunk_mobile = number.values[0] == 0 && matches!((compact, number.values[1]), (11, 7) | (10, 6 | 7));
    match hint(view, start) {
        Hint::Phone => Some(groups),
        Hint::None => trunk_mobile.then_some(1),
        Hint::Other => None,
    }
}
