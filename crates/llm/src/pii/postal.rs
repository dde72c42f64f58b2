//! Postal codes.
//!
//! * Canada: `A1A 1A1` with a space or hyphen, in the letters that Canada Post uses; compact only after
//!   words of an address.
//! * United States: five digits after a word for it (`zip`, `postal code`), or after a comma and a
//!   state's two letters or name (`Springfield, IL 62704`); ZIP+4 after those, a state, or words of an address.
//! * United Kingdom: an area that exists, a district, and an inward code, after words of an address.

use super::digits::{Digits, Sep, starts_alone};
use super::view::{View, is_word};
use super::words::WordSet;

/// Words of an address.
static ADDRESS_WORDS: WordSet = WordSet::new(&[
    "address",
    "addr",
    "street",
    "st",
    "road",
    "rd",
    "avenue",
    "ave",
    "lane",
    "drive",
    "blvd",
    "boulevard",
    "way",
    "square",
    "court",
    "house",
    "flat",
    "close",
    "crescent",
    "terrace",
    "postcode",
    "post code",
    "postal",
    "zip",
    "zipcode",
    "code postal",
    "mailing",
    "ship to",
    "shipping",
    "deliver",
    "delivery",
    "live",
    "lives",
    "living",
    "moved to",
    "office",
    "city",
    "town",
    "england",
    "scotland",
    "wales",
    "london",
    "manchester",
    "birmingham",
    "leeds",
    "glasgow",
    "edinburgh",
    "liverpool",
    "bristol",
    "cardiff",
    "belfast",
    "toronto",
    "ottawa",
    "vancouver",
    "montreal",
    "montréal",
    "calgary",
    "canada",
]);
static ZIP_WORDS: WordSet = WordSet::new(&[
    "zip",
    "zipcode",
    "zip code",
    "postal code",
    "postcode",
    "post code",
    "postal",
]);
const STATES: &str = "AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY \
    NC ND OH OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY DC PR GU VI AS MP AA AE AP";
const STATE_NAMES: &str = "Alabama, Alaska, Arizona, Arkansas, California, Colorado, Connecticut, Delaware, Florida, \
    Georgia, Hawaii, Idaho, Illinois, Indiana, Iowa, Kansas, Kentucky, Louisiana, Maine, Maryland, Massachusetts, \
    Michigan, Minnesota, Mississippi, Missouri, Montana, Nebraska, Nevada, New Hampshire, New Jersey, New Mexico, \
    New York, North Carolina, North Dakota, Ohio, Oklahoma, Oregon, Pennsylvania, Rhode Island, South Carolina, \
    South Dakota, Tennessee, Texas, Utah, Vermont, Virginia, Washington, West Virginia, Wisconsin, Wyoming";
const UK_AREAS: &str = "AB AL B BA BB BD BF BH BL BN BR BS BT CA CB CF CH CM CO CR CT CV CW DA DD DE DG DH DL DN DT DY \
    E EC EH EN EX FK FY G GL GU GY HA HD HG HP HR HS HU HX IG IM IP IV JE KA KT KW KY L LA LD LE LL LN LS LU M ME MK \
    ML N NE NG NN NP NR NW OL OX PA PE PH PL PO PR RG RH RM S SA SE SG SK SL SM SN SO SP SR SS ST SW SY TA TD TF TN \
    TQ TR TS TW UB W WA WC WD WF WN WR WS WV YO ZE";

/// The end of the Canadian code at `start`.
pub(crate) fn find_canada(view: &View<'_>, start: usize) -> Option<usize> {
    let letter = |at: usize, not: &[u8]| {
        let upper = view.byte(at)?.to_ascii_uppercase();
        (upper.is_ascii_uppercase() && !not.contains(&upper)).then_some(())
    };
    letter(start, b"DFIOQUWZ")?;
    view.digit(start + 1)?;
    letter(start + 2, b"DFIOQU")?;
    let sep = matches!(view.byte(start + 3), Some(b' ' | b'-'));
    let at = start + 3 + usize::from(sep);
    view.digit(at)?;
    letter(at + 1, b"DFIOQU")?;
    view.digit(at + 2)?;
    let named = sep || view.words_before(start).any(&ADDRESS_WORDS);
    (bounded(view, start, at + 3) && named).then_some(at + 3)
}

/// The end of the British code at `start`.
pub(crate) fn find_uk(view: &View<'_>, start: usize) -> Option<usize> {
    let mut at = start;
    while view.byte(at).is_some_and(|byte| byte.is_ascii_alphabetic()) && at - start < 3 {
        at += 1;
    }
    if !matches!(at - start, 1 | 2) {
        return None;
    }
    let area = view.slice(start, at).to_ascii_uppercase();
    view.digit(at)?;
    at += 1;
    at += usize::from(view.byte(at).is_some_and(|byte| byte.is_ascii_alphanumeric()));
    at += usize::from(view.byte(at) == Some(b' '));
    // Without a space the district's second digit may have been the first of the inward code.
    let inward = |at: usize| {
        view.digit(at)?;
        let letter = |at: usize| {
            let upper = view.byte(at)?.to_ascii_uppercase();
            (upper.is_ascii_uppercase() && !b"CIKMOV".contains(&upper)).then_some(())
        };
        letter(at + 1)?;
        letter(at + 2)?;
        Some(at + 3)
    };
    let end = inward(at).or_else(|| inward(at - 1))?;
    let known = UK_AREAS.split_ascii_whitespace().any(|known| known == area);
    (known && bounded(view, start, end) && view.words_before(start).any(&ADDRESS_WORDS)).then_some(end)
}

/// The end of the ZIP code that `digits` begin with.
pub(crate) fn find_zip(view: &View<'_>, digits: &Digits) -> Option<usize> {
    let groups = if digits.shaped(&[5, 4], &[Sep::Hyphen]) {
        2
    } else if digits.len(0) == 5 {
        1
    } else {
        return None;
    };
    // One of a row of numbers is none.
    let in_row = groups == 1 && digits.sep(0) == Some(Sep::Space) && digits.len(1) == 5;
    let alone = digits.stands_alone(view, groups) && starts_alone(view, digits.start, false, groups == 1);
    if !alone || in_row {
        return None;
    }
    let before = view.before(digits.start);
    let (state, comma) = state_before(before);
    let named_state = state_name_before(before);
    let words = view.words_before(digits.start);
    let near = |names: &WordSet| words.last_of(names).is_some_and(|at| words.len() - at <= 24);
    let named = near(&ZIP_WORDS) || (state && (comma || groups == 2 || words.any(&ADDRESS_WORDS)));
    (named || named_state || (groups == 2 && words.any(&ADDRESS_WORDS))).then(|| digits.end(groups))
}

/// Does the text end in a comma and a state's name?
fn state_name_before(before: &str) -> bool {
    let Some(at) = before.rfind(',') else {
        return false;
    };
    let name = before[at + 1..].trim();
    STATE_NAMES.split(',').any(|known| known.trim() == name)
}

/// Does the text end in a state's letters, and is there a comma before them?
fn state_before(before: &str) -> (bool, bool) {
    let Some(rest) = before.strip_suffix(' ') else {
        return (false, false);
    };
    let rest = rest.trim_end_matches([' ', ',']);
    let Some((town, state)) = rest.len().checked_sub(2).and_then(|at| rest.split_at_checked(at)) else {
        return (false, false);
    };
    let apart = town.chars().next_back().is_none_or(|c| !is_word(c));
    let known = apart && STATES.split_ascii_whitespace().any(|known| known == state);
    (known, known && town.trim_end().ends_with(','))
}

fn bounded(view: &View<'_>, start: usize, end: usize) -> bool {
    let (last, second) = view.two_before(start);
    let joined = matches!(last, Some('-' | '.' | '/' | '#')) && second.is_some_and(is_word);
    let goes_on = view.byte(end) == Some(b'-') && view.char(end + 1).is_some_and(is_word);
    view.word_starts(start) && view.word_ends(end) && !joined && !goes_on
}
