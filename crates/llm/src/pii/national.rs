//! National identity, social security and tax numbers. Each has a check digit or a structure that most
//! numbers of its length fail; what is weak in that needs separators or a word for it before.
//!
//! | kind | form | checked |
//! | --- | --- | --- |
//! | `us_ssn` | 3-2-4 with hyphens or spaces; nine digits after a word | area, group, serial (SSA); tax numbers of the 9xx range (IRS) |
//! | `ca_sin` | 3-3-3 with hyphens or spaces; nine digits after a word | Luhn |
//! | `uk_nino` | two letters, six digits, a letter, in pairs or compact; in lower case after a word | prefixes (HMRC, NIM39110) |
//! | `cn_id` | 18 characters, compact or 6-8-4 | province, date, ISO 7064 MOD 11-2 (GB 11643) |
//! | `es_dni` | DNI, NIE | check letter |
//! | `fr_nir` | 15 digits, in groups or compact, 2A and 2B too | sex, month, key by 97 |
//! | `de_tax_id` | 11 digits, compact or 2-3-3-3 | repetition, ISO 7064 MOD 11,10 |
//! | `in_aadhaar` | 4-4-4; twelve digits after a word | Verhoeff |
//! | `br_cpf` | 000.000.000-00 or compact | two check digits |

use super::Kind;
use super::digits::{Digits, Sep, ends_alone, luhn, number, starts_alone};
use super::ip;
use super::phone;
use super::view::{View, is_word};
use super::words::WordSet;

const HYPHEN_SPACE: [Sep; 2] = [Sep::Hyphen, Sep::Space];
static SSN_WORDS: WordSet = WordSet::new(&["ssn", "social", "social security", "tin", "itin", "taxpayer"]);
static SIN_WORDS: WordSet = WordSet::new(&[
    "sin",
    "social insurance",
    "nas",
    "assurance sociale",
    "insurance number",
    "sin number",
]);
static NINO_WORDS: WordSet = WordSet::new(&["nino", "national insurance", "ni number", "insurance"]);
static AADHAAR_WORDS: WordSet = WordSet::new(&["aadhaar", "aadhar", "uidai", "uid", "आधार"]);
const MONEY: [&str; 10] = ["€", "$", "£", "¥", "₹", "%", "kr", "zł", "eur", "usd"];

/// A finder of numbers that are digits only.
type Finder = fn(&View<'_>, &Digits) -> Option<usize>;

/// In the order in which they are asked. The stricter come first.
pub(crate) const FINDERS: [(Kind, Finder); 7] = [
    (Kind::CnId, cn_id),
    (Kind::FrNir, fr_nir),
    (Kind::DeTaxId, de_tax_id),
    (Kind::BrCpf, br_cpf),
    (Kind::InAadhaar, in_aadhaar),
    (Kind::UsSsn, us_ssn),
    (Kind::CaSin, ca_sin),
];

/// The end, if the first `groups` groups stand alone. One group has been said to be such a number, so
/// that it may follow a `#`.
fn alone(view: &View<'_>, digits: &Digits, groups: usize) -> Option<usize> {
    let hash = groups == 1
        && view.char_before(digits.start) == Some('#')
        && ends_alone(view, digits.end(groups), false);
    (hash || digits.stands_alone(view, groups)).then(|| digits.end(groups))
}

fn us_ssn(view: &View<'_>, digits: &Digits) -> Option<usize> {
    let groups = if digits.shaped(&[3, 2, 4], &HYPHEN_SPACE) {
        3
    } else if digits.len(0) == 9 && view.words_before(digits.start).any(&SSN_WORDS) {
        1
    } else {
        return None;
    };
    let values = digits.values(groups);
    let (area, group, serial) = (number(&values[..3]), number(&values[3..5]), number(&values[5..]));
    let social = area != 0 && area != 666 && area < 900 && group != 0 && serial != 0;
    let tax = area >= 900 && matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99);
    alone(view, digits, groups).filter(|_| social || tax)
}

fn ca_sin(view: &View<'_>, digits: &Digits) -> Option<usize> {
    let said = || view.words_before(digits.start).any(&SIN_WORDS);
    let groups = if digits.shaped(&[3, 3, 3], &HYPHEN_SPACE) {
        3
    } else if digits.len(0) == 9 && said() {
        1
    } else {
        return None;
    };
    let values = digits.values(groups);
    let end = alone(view, digits, groups)?;
    // 130 692 544 € is money, in countries that group by spaces.
    let money = groups == 3 && digits.sep(0) == Some(Sep::Space) && is_money(view, end);
    // So is 139 119 101 a colour.
    let colour = groups == 3 && values.chunks(3).all(|part| number(part) < 256);
    let valid = luhn(values) && number(values) != 0 && !((money || colour) && !said());
    // Spanish and Polish telephone numbers have the same form.
    (valid && (said() || !phone::is_said(view, digits.start))).then_some(end)
}

fn is_money(view: &View<'_>, end: usize) -> bool {
    let mut at = end + usize::from(view.byte(end) == Some(b' '));
    let start = at;
    while let Some(c) = view.char(at).filter(|_| at - start < 3) {
        at += c.len_utf8();
    }
    let word = view.slice(start, at).to_lowercase();
    MONEY.iter().any(|sign| word.starts_with(sign))
}

fn cn_id(view: &View<'_>, digits: &Digits) -> Option<usize> {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let groups = match digits.len(0) {
        17 | 18 => 1,
        6 if digits.len(1) == 8 && digits.sep(0) == Some(Sep::Space) && digits.sep(1) == Some(Sep::Space) => {
            3
        }
        _ => return None,
    };
    let len = digits.values(groups).len();
    if !matches!(len, 17 | 18) || !starts_alone(view, digits.start, groups > 1, groups > 1) {
        return None;
    }
    let values = digits.values(groups);
    let mut end = digits.end(groups);
    let last = if len == 18 {
        u32::from(values[17])
    } else {
        view.byte(end).filter(|byte| matches!(byte, b'X' | b'x'))?;
        end += 1;
        10
    };
    let sum: u32 = values
        .iter()
        .zip(WEIGHTS)
        .map(|(&digit, weight)| u32::from(digit) * weight)
        .sum();
    let province = matches!(number(&values[..2]),
        11..=15 | 21..=23 | 31..=37 | 41..=46 | 50..=54 | 61..=65 | 71 | 81..=83);
    let born = is_date(
        number(&values[6..10]),
        number(&values[10..12]),
        number(&values[12..14]),
    );
    (province && born && (12 - sum % 11) % 11 == last && ends_alone(view, end, false)).then_some(end)
}

fn is_date(year: u64, month: u64, day: u64) -> bool {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => 0,
    };
    (1800..2100).contains(&year) && (1..=days).contains(&day)
}

fn fr_nir(view: &View<'_>, digits: &Digits) -> Option<usize> {
    let groups = if digits.shaped(&[1, 2, 2, 2, 3, 3, 2], &[Sep::Space, Sep::Hyphen, Sep::Dot]) {
        7
    } else if digits.len(0) == 15 {
        1
    } else if digits.shaped(&[13, 2], &HYPHEN_SPACE) {
        2
    } else {
        return None;
    };
    let values = digits.values(groups);
    (nir_checks(values) && digits.stands_alone(view, groups)).then(|| digits.end(groups))
}

fn nir_checks(values: &[u8]) -> bool {
    let month = matches!(number(&values[3..5]), 1..=12 | 20 | 30..=42 | 50..=99);
    matches!(values[0], 1 | 2 | 7 | 8) && month && 97 - number(&values[..13]) % 97 == number(&values[13..])
}

/// A number of someone born in Corsica, whose department is `2A` or `2B`.
pub(crate) fn fr_nir_corsica(view: &View<'_>, start: usize) -> Option<usize> {
    let (mut at, mut values, mut count, mut minus) = (start, [0u8; 15], 0, 0);
    while count < 15 {
        if count == 6 {
            // Counted as departments 19 and 18.
            minus = match view.byte(at)? {
                b'A' => 1,
                b'B' => 2,
                _ => return None,
            };
            values[6] = 0;
            at += 1;
            count += 1;
            continue;
        }
        if matches!(count, 1 | 3 | 5 | 7 | 10 | 13) && view.byte(at) == Some(b' ') {
            at += 1;
        }
        values[count] = view.digit(at)?;
        at += 1;
        count += 1;
    }
    let department = values[5] == 2;
    let born = number(&values[..13]) - minus * 1_000_000;
    let key = 97 - born % 97 == number(&values[13..]);
    let month = (1..=12).contains(&number(&values[3..5]));
    let sex = matches!(values[0], 1 | 2);
    (department
        && key
        && month
        && sex
        && starts_alone(view, start, false, false)
        && ends_alone(view, at, false))
    .then_some(at)
}

fn de_tax_id(view: &View<'_>, digits: &Digits) -> Option<usize> {
    let groups = if digits.shaped(&[2, 3, 3, 3], &[Sep::Space]) {
        4
    } else if digits.len(0) == 11 {
        1
    } else {
        return None;
    };
    let values = digits.values(groups);
    let mut counts = [0; 10];
    for &digit in &values[..10] {
        counts[usize::from(digit)] += 1;
    }
    let repeated =
        counts.iter().filter(|&&count| count > 1).count() == 1 && counts.iter().all(|&count| count < 4);
    let product = values[..10].iter().fold(10, |product, &digit| {
        let sum = (u32::from(digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    let check = (11 - product) % 10 == u32::from(values[10]);
    (values[0] != 0 && repeated && check && digits.stands_alone(view, groups)).then(|| digits.end(groups))
}

fn in_aadhaar(view: &View<'_>, digits: &Digits) -> Option<usize> {
    let groups = if digits.shaped(&[4, 4, 4], &HYPHEN_SPACE) {
        3
    } else if digits.len(0) == 12 && view.words_before(digits.start).any(&AADHAAR_WORDS) {
        1
    } else {
        return None;
    };
    let values = digits.values(groups);
    (values[0] > 1 && verhoeff(values) && digits.stands_alone(view, groups)).then(|| digits.end(groups))
}

/// Verhoeff's check: the dihedral group of order ten, and a permutation for each place.
fn verhoeff(values: &[u8]) -> bool {
    const PLACES: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let product = |a: u8, b: u8| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b - 5) % 5 + 5,
        (false, true) => (a - 5 + 5 - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let mut sum = 0;
    for (place, &digit) in values.iter().rev().enumerate() {
        let moved = (0..place % 8).fold(digit, |digit, _| PLACES[usize::from(digit)]);
        sum = product(sum, moved);
    }
    sum == 0
}

fn br_cpf(view: &View<'_>, digits: &Digits) -> Option<usize> {
    let formatted = [3, 3, 3, 2]
        .iter()
        .enumerate()
        .all(|(idx, &len)| digits.len(idx) == len)
        && digits.sep(0) == Some(Sep::Dot)
        && digits.sep(1) == Some(Sep::Dot)
        && digits.sep(2) == Some(Sep::Hyphen);
    let groups = if formatted {
        4
    } else if digits.len(0) == 11 {
        1
    } else {
        return None;
    };
    let values = digits.values(groups);
    let check = |len: usize| {
        let weighted = values[..len].iter().zip((2..=len + 1).rev());
        let sum: usize = weighted.map(|(&digit, weight)| usize::from(digit) * weight).sum();
        sum * 10 % 11 % 10 == usize::from(values[len])
    };
    let varied = values.iter().any(|&digit| digit != values[0]);
    (varied && check(9) && check(10) && digits.stands_alone(view, groups)).then(|| digits.end(groups))
}

const DNI_LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";

/// A DNI: eight digits and a letter, `12345678Z`, `12.345.678-Z`.
pub(crate) fn es_dni(view: &View<'_>, digits: &Digits) -> Option<usize> {
    let groups = if digits.len(0) == 8 {
        1
    } else if digits.shaped(&[2, 3, 3], &[Sep::Dot]) {
        3
    } else {
        return None;
    };
    let version = view.words_before(digits.start).end_in(&ip::VERSION_WORDS);
    if version || !starts_alone(view, digits.start, groups > 1, false) {
        return None;
    }
    check_letter(view, digits.end(groups), number(digits.values(groups)))
}

/// A NIE: `X`, `Y` or `Z`, seven digits and a letter.
pub(crate) fn es_nie(view: &View<'_>, start: usize) -> Option<usize> {
    let first = match view.byte(start)? {
        b'X' => 0,
        b'Y' => 1,
        b'Z' => 2,
        _ => return None,
    };
    if !starts_alone(view, start, false, false) {
        return None;
    }
    let mut at = start + 1 + usize::from(view.byte(start + 1) == Some(b'-'));
    let mut value = first;
    for _ in 0..7 {
        value = value * 10 + u64::from(view.digit(at)?);
        at += 1;
    }
    check_letter(view, at, value)
}

fn check_letter(view: &View<'_>, at: usize, value: u64) -> Option<usize> {
    let at = at + usize::from(matches!(view.byte(at), Some(b'-' | b' ')));
    let letter = view.byte(at)?;
    let expected = DNI_LETTERS[(value % 23) as usize];
    (letter.to_ascii_uppercase() == expected && ends_alone(view, at + 1, false)).then_some(at + 1)
}

/// A National Insurance number: `QQ123456C`, `QQ 12 34 56 C`.
pub(crate) fn uk_nino(view: &View<'_>, start: usize) -> Option<usize> {
    let prefix = [view.byte(start)?, view.byte(start + 1)?];
    let upper = prefix.map(|byte| byte.to_ascii_uppercase());
    let letter = |byte: u8, not: &[u8]| byte.is_ascii_uppercase() && !not.contains(&byte);
    let excluded: [&[u8; 2]; 7] = [b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"];
    if !letter(upper[0], b"DFIQUV") || !letter(upper[1], b"DFIOQUV") || excluded.contains(&&upper) {
        return None;
    }
    let sep = view.byte(start + 2).filter(|byte| matches!(byte, b' ' | b'-'));
    let skip = |at: usize| Some(at + usize::from(sep.is_some_and(|sep| view.byte(at) == Some(sep))));
    let mut at = start + 2;
    for _ in 0..3 {
        at = skip(at)?;
        view.digit(at)?;
        view.digit(at + 1)?;
        at += 2;
    }
    at = skip(at)?;
    let suffix = view.byte(at)?;
    if !matches!(suffix.to_ascii_uppercase(), b'A'..=b'D') || !view.word_ends(at + 1) {
        return None;
    }
    let (last, second) = view.two_before(start);
    let joined = matches!(last, Some('-' | '.' | '/')) && second.is_some_and(is_word);
    let shouted = prefix == upper && suffix.is_ascii_uppercase();
    let named = shouted || view.words_before(start).any(&NINO_WORDS);
    (view.word_starts(start) && !joined && named).then_some(at + 1)
}
