//! Telephone numbers (ITU-T E.164 and national habits).
//!
//! * International: `+` or `00`, an assigned country code, as many digits as the country has.
//! * North American: 3-3-4, in any common form; ten digits in one, or seven, after a word for it.
//! * Chinese mobiles: eleven digits from 13 to 19, also 3-4-4; land lines `010-12345678`.
//! * National with the trunk prefix 0, as in most of Europe and Asia: ten to twelve digits in groups.
//! * Any other eight to eleven digits in groups, or in one, close after a word for it.
//!
//! A word such as `order` or `serial` nearer than one such as `phone` leaves a number where it is.

use super::digits::{Sep, ends_alone, starts_alone};
use super::view::View;

const WORDS: [&str; 56] = [
    "phone",
    "telephone",
    "tel",
    "mobile",
    "cell",
    "cellphone",
    "fax",
    "whatsapp",
    "call",
    "text",
    "sms",
    "dial",
    "ring",
    "reach",
    "contact",
    "call me",
    "handy",
    "telefon",
    "téléphone",
    "tél",
    "telefono",
    "teléfono",
    "appelez",
    "appeler",
    "llame",
    "llamar",
    "chiama",
    "bel",
    "anruf",
    "rufen",
    "móvil",
    "movil",
    "celular",
    "telefone",
    "ligue",
    "zadzwoń",
    "电话",
    "手机",
    "手机号",
    "联系",
    "致电",
    "电话号码",
    "電話",
    "携帯",
    "전화",
    "휴대폰",
    "телефон",
    "тел",
    "звоните",
    "позвоните",
    "फ़ोन",
    "फोन",
    "هاتف",
    "اتصل",
    "mobil",
    "msisdn",
];
const OTHER_WORDS: [&str; 44] = [
    "order",
    "invoice",
    "tracking",
    "po",
    "ref",
    "reference",
    "id",
    "serial",
    "part",
    "sku",
    "isbn",
    "ticket",
    "issn",
    "bytes",
    "build",
    "version",
    "lot",
    "batch",
    "upc",
    "ean",
    "doi",
    "arxiv",
    "pmid",
    "epoch",
    "total",
    "sum",
    "订单",
    "订单号",
    "单号",
    "编号",
    "流水",
    "流水号",
    "学号",
    "工号",
    "bestellnummer",
    "commande",
    "pedido",
    "account",
    "uuid",
    "timestamp",
    "amount",
    "price",
    "zip",
    "size",
];

/// How near a word must be to make a telephone number of plain digits.
const WORD_NEAR_BYTES: usize = 32;

/// Country codes (ITU-T E.164, list of assigned codes) of one and two digits; those of three begin
/// with what is not here.
const SHORT_CODES: [u8; 46] = [
    1, 7, 20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56, 57,
    58, 60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98,
];
/// First two digits of codes of three digits.
const LONG_CODES: [u8; 14] = [21, 22, 23, 24, 25, 26, 29, 35, 37, 38, 42, 50, 59, 67];
const LONG_CODES_MORE: [u8; 8] = [68, 69, 80, 85, 87, 88, 96, 97];

/// Digits of a number after the country code, where they are fixed.
const NATIONAL_LENGTHS: [(u8, usize, usize); 30] = [
    (1, 10, 10),
    (7, 10, 10),
    (20, 8, 10),
    (27, 9, 9),
    (30, 10, 10),
    (31, 9, 9),
    (32, 8, 9),
    (33, 9, 9),
    (34, 9, 9),
    (36, 8, 9),
    (39, 8, 11),
    (41, 9, 9),
    (43, 7, 13),
    (44, 9, 10),
    (45, 8, 8),
    (46, 7, 10),
    (47, 8, 8),
    (48, 9, 9),
    (49, 7, 12),
    (52, 10, 10),
    (55, 10, 11),
    (61, 9, 9),
    (64, 8, 10),
    (65, 8, 8),
    (81, 9, 10),
    (82, 8, 10),
    (84, 9, 10),
    (86, 10, 11),
    (90, 10, 10),
    (91, 10, 10),
];

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
            if let Some((sep, len)) = Sep::at(view, at) {
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

/// The end of the number that begins at `start`, where there is `+`, `(` or a digit.
pub(crate) fn find(view: &View<'_>, start: usize) -> Option<usize> {
    match view.byte(start)? {
        b'+' => {
            view.digit(start + 1)?;
            let before = view.char_before(start);
            let free = view.word_starts(start) && !matches!(before, Some('+' | '-' | '.' | '$' | '€'));
            let number = Number::read(view, start + 1);
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
            assigned(&digits[..count]) && ends_alone(view, number.end(groups), false)
        })
        .map(|groups| number.end(groups))
}

impl Number {
    fn regular_international(&self, from: usize, to: usize) -> bool {
        (from..to.saturating_sub(1)).all(|idx| self.seps[idx] != Some(Sep::Slash) || idx == from + 1)
    }
}

/// Do the digits begin with a country code, and are they as many as its numbers have?
fn assigned(digits: &[u8]) -> bool {
    if digits.len() < 8 || digits.len() > 15 {
        return false;
    }
    let two = digits[0] * 10 + digits[1];
    let code = match digits[0] {
        1 | 7 => digits[0],
        _ => two,
    };
    let national = digits.len() - if code < 10 { 1 } else { 2 };
    if SHORT_CODES.contains(&code) {
        let (_, min, max) = NATIONAL_LENGTHS
            .iter()
            .find(|(known, ..)| *known == code)
            .copied()
            .unwrap_or((code, 7, 12));
        let valid = match code {
            1 => is_north_american(&digits[1..]),
            _ => digits[digits.len() - national] != 0 || code == 39,
        };
        return (min..=max).contains(&national) && valid;
    }
    (LONG_CODES.contains(&two) || LONG_CODES_MORE.contains(&two) || two == 99)
        && (6..=10).contains(&(digits.len() - 3))
}

/// Area and exchange begin with 2 to 9 and are no service code such as 911.
fn is_north_american(digits: &[u8]) -> bool {
    let code = |at: usize| digits[at] >= 2 && !(digits[at + 1] == 1 && digits[at + 2] == 1);
    digits.len() == 10 && code(0) && code(3) && digits[1] != 9
}

fn national(view: &View<'_>, number: &Number, start: usize) -> Option<usize> {
    let groups = plausible(view, number, start)?;
    let grouped = groups > 1;
    let spaced = grouped && number.seps[..groups - 1].contains(&Some(Sep::Space));
    let alone = starts_alone(view, start, grouped, spaced) && ends_alone(view, number.end(groups), spaced);
    alone.then(|| number.end(groups))
}

/// How near the words are that say that it is a telephone number, or that it is not.
#[derive(Debug, PartialEq, Eq)]
enum Hint {
    Phone,
    Other,
    None,
}

/// Does a word say that what begins at `start` is a telephone number?
pub(crate) fn is_said(view: &View<'_>, start: usize) -> bool {
    hint(view, start) == Hint::Phone
}

fn hint(view: &View<'_>, start: usize) -> Hint {
    let words = view.words_before(start);
    let (phone, other) = (words.last_of(&WORDS), words.last_of(&OTHER_WORDS));
    match (phone, other) {
        (Some(phone), other) if other.is_none_or(|other| other < phone) => {
            if words.len() - phone <= WORD_NEAR_BYTES {
                Hint::Phone
            } else {
                Hint::None
            }
        }
        (_, Some(_)) => Hint::Other,
        _ => Hint::None,
    }
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
    let dotted = number.seps[0] == Some(Sep::Dot);
    if number.lens(0, &[3, 3, 4]) && is_north_american(number.digits(0, 3)) && number.regular(0, 3) {
        return (hint(view, start) != Hint::Other || !dotted).then_some(3);
    }
    let first = number.values[0];
    let mobile = first == 1 && number.values[1] >= 3;
    let chinese = (number.len(0) == 11 && number.groups >= 1) || number.lens(0, &[3, 4, 4]);
    if mobile && chinese && (number.len(0) == 11 || number.regular(0, 3)) {
        let groups = if number.len(0) == 11 { 1 } else { 3 };
        return (hint(view, start) != Hint::Other).then_some(groups);
    }
    if number.len(0) == 1 && number.groups == 1 {
        return None;
    }
    if first == 0 && number.values[1] == 0 {
        return zero_zero(view, number, start);
    }
    if number.groups > 1
        && let Some(groups) = trunk(number)
    {
        return (hint(view, start) != Hint::Other).then_some(groups);
    }
    by_word(view, number, start)
}

/// `00`, then an international number.
fn zero_zero(view: &View<'_>, number: &Number, start: usize) -> Option<usize> {
    let groups = number.groups;
    let digits = number.digits(0, groups);
    let sure = groups > 1 || hint(view, start) == Hint::Phone;
    let area = !matches!(number.len(0), 3);
    (sure && area && assigned(digits.get(2..)?) && number.regular(0, groups)).then_some(groups)
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
    })
}

/// Other digits, if a word says what they are.
fn by_word(view: &View<'_>, number: &Number, start: usize) -> Option<usize> {
    let compact = number.len(0);
    let trunk_mobile = number.values[0] == 0 && matches!((compact, number.values[1]), (11, 7) | (10, 6 | 7));
    if !(number.groups > 1 || (8..=12).contains(&compact)) {
        return None;
    }
    let hint = hint(view, start);
    if hint != Hint::Phone {
        return (trunk_mobile && hint == Hint::None).then_some(1);
    }
    if number.lens(0, &[3, 4]) && number.seps[0] != Some(Sep::Dot) && number.values[0] >= 2 {
        return Some(2);
    }
    if (8..=12).contains(&compact) {
        return Some(1);
    }
    (2..=number.groups).rev().find(|&groups| {
        let lens = (0..groups).map(|idx| number.len(idx));
        let date = number.lens(0, &[2, 2, 4]) || number.lens(0, &[4, 2, 2]);
        (8..=11).contains(&number.digits(0, groups).len())
            && lens.clone().all(|len| (2..=5).contains(&len) || len == 7)
            && number.regular(0, groups)
            && number.seps[0] != Some(Sep::Dot)
            && !date
    })
}
