//! Payment cards (ISO/IEC 7812): a brand's prefix and length, and Luhn's check.
//!
//! Found: compact, or in groups of four (4-6-5 and 4-6-4 for American Express and Diners) with spaces,
//! hyphens or dots. A number of 13 digits, which has the shape of a bar code, needs a word for it
//! before, and so does a compact one of more than 16 (but of UnionPay). A card may be followed by a space and digits: its expiry or code.

use super::digits::{Digits, Sep, ends_alone, luhn, starts_alone};
use super::phone;
use super::view::View;
use super::words::WordSet;

const SEPS: [Sep; 3] = [Sep::Space, Sep::Hyphen, Sep::Dot];
static WORDS: WordSet = WordSet::new(&["card", "visa", "credit", "debit", "pay", "karte", "carte", "卡"]);

/// The groups that a card number is written in.
const SHAPES: [&[usize]; 9] = [
    &[4, 4, 4, 4, 3],
    &[4, 4, 4, 4, 2],
    &[4, 4, 4, 4, 1],
    &[4, 4, 4, 4],
    &[4, 6, 5],
    &[4, 6, 4],
    &[4, 4, 4, 2],
    &[6, 13],
    &[4, 4, 5],
];

/// The end of the card number `digits` begin with.
pub(crate) fn find(view: &View<'_>, digits: &Digits) -> Option<usize> {
    let compact = [digits.len(0)];
    SHAPES
        .iter()
        .copied()
        .filter(|shape| digits.shaped(shape, &SEPS))
        .chain([&compact[..]])
        .find_map(|shape| {
            let groups = shape.len();
            let values = digits.values(groups);
            let spaced = groups > 1 && digits.sep(0) == Some(Sep::Space);
            let alone = (starts_alone(view, digits.start, groups > 1, spaced)
                || (groups == 1 && after_word(view, digits.start)))
                && ends(view, digits.end(groups));
            let known = issued(values) && luhn(values);
            let odd = values.len() == 13 || (groups == 1 && values.len() > 16 && values[..2] != [6, 2]);
            let sure = !odd || view.words_before(digits.start).any(&WORDS);
            (alone && known && sure).then(|| digits.end(groups))
        })
}

/// `#4111…`, of a card rather than of an order.
fn after_word(view: &View<'_>, start: usize) -> bool {
    view.char_before(start) == Some('#') && !phone::is_other(view, start)
}

/// May the number end at `at`, before `-word` too?
fn ends(view: &View<'_>, at: usize) -> bool {
    let letter = |at: usize| view.byte(at).is_some_and(|byte| byte.is_ascii_alphabetic());
    (view.byte(at) == Some(b'-') && letter(at + 1) && letter(at + 2)) || ends_alone(view, at, false)
}

/// Is there a brand with such a prefix and length?
fn issued(digits: &[u8]) -> bool {
    let len = digits.len();
    if len < 13 {
        return false;
    }
    let prefix = |count: usize| {
        digits[..count]
            .iter()
            .fold(0u32, |sum, &digit| sum * 10 + u32::from(digit))
    };
    match prefix(4) {
        // Visa
        4000..=4999 => matches!(len, 13 | 16 | 19),
        // Mastercard
        5100..=5599 | 2221..=2720 => len == 16,
        // American Express
        3400..=3499 | 3700..=3799 => len == 15,
        // Diners Club
        3000..=3059 | 3095 | 3600..=3699 | 3800..=3999 => matches!(len, 14 | 16),
        // JCB
        3528..=3589 => (16..=19).contains(&len),
        // Mir
        2200..=2204 => (16..=19).contains(&len),
        // UnionPay; Discover, RuPay
        6200..=6299 | 8100..=8171 | 6011 | 6440..=6499 | 6500..=6599 | 6050..=6099 | 8200..=8299 => {
            (16..=19).contains(&len)
        }
        // Maestro
        5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763 => (13..=19).contains(&len),
        _ => false,
    }
}
