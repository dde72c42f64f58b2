//! The one pass over a text that asks the finders, each only where its kind can begin.

use super::digits::Digits;
use super::view::{View, is_word};
use super::{Kind, Kinds, card, email, iban, ip, national, phone, postal};

/// What is next in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    /// This, and nothing begins before it.
    Found(T),
    /// Nothing begins before this place. It is the end of what is in hand, or where more is needed.
    Clear(usize),
}

/// A place of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) kind: Kind,
}

/// The first of `kinds` that begins at `from` or later. `context`: words before the text. `open`: the
/// text goes on.
pub(crate) fn next(kinds: Kinds, text: &str, context: &str, from: usize, open: bool) -> Next<Place> {
    let bytes = text.as_bytes();
    if kinds.is_empty() {
        return Next::Clear(bytes.len());
    }
    let mut at = from;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        let look = match byte {
            b'0'..=b'9' => !inside_word(bytes, start),
            b'a'..=b'z' | b'A'..=b'Z' => {
                if inside_word(bytes, start) {
                    continue;
                }
                let end = start + letters(&bytes[start..]);
                if !worth_a_look(bytes, start, end, open) {
                    at = end;
                    continue;
                }
                true
            }
            b'+' | b'%' | b'(' | b':' | b'_' | b'\\' => true,
            0x80.. => {
                let c = text[start..].chars().next().unwrap_or_default();
                at = start + c.len_utf8();
                is_word(c)
            }
            _ => false,
        };
        if !look {
            continue;
        }
        let view = View::new(text, context, start, open);
        let found = find_at(kinds, &view, start, byte);
        if view.touched() {
            return Next::Clear(start);
        }
        if let Some((kind, end)) = found {
            return Next::Found(Place { start, end, kind });
        }
    }
    Next::Clear(bytes.len())
}

/// Is there a letter or digit before `at`, which no escape of JSON ends with?
fn inside_word(bytes: &[u8], at: usize) -> bool {
    let back = |count: usize| at.checked_sub(count).map(|at| bytes[at]);
    back(1).is_some_and(|last| last.is_ascii_alphanumeric())
        && back(2) != Some(b'\\')
        && back(6) != Some(b'\\')
}

fn letters(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_alphabetic()).count()
}

/// Can anything begin at the letters from `start` to `end`? What begins with a letter goes on with a
/// digit or with what e-mail and IPv6 addresses are made of.
fn worth_a_look(bytes: &[u8], start: usize, end: usize, open: bool) -> bool {
    match bytes.get(end) {
        None => open,
        Some(b'0'..=b'9' | b'@' | b'.' | b'_' | b'%' | b'+' | b'-' | b'\'' | b'\\' | b':' | 0x80..) => true,
        Some(b' ') => end - start == 2 && bytes.get(end + 1).map_or(open, u8::is_ascii_digit),
        Some(_) => false,
    }
}

/// What begins at `start`, and where it ends.
fn find_at(kinds: Kinds, view: &View<'_>, start: usize, byte: u8) -> Option<(Kind, usize)> {
    let ask = |kind: Kind, find: &dyn Fn() -> Option<usize>| {
        if kinds.has(kind) {
            find().map(|end| (kind, end))
        } else {
            None
        }
    };
    let found = match byte {
        b'+' | b'%' | b'(' => return ask(Kind::Phone, &|| phone::find(view, start)),
        b':' => return ask(Kind::Ip, &|| ip::find_v6(view, start)),
        _ => ask(Kind::Email, &|| email::find(view, start)),
    };
    match byte {
        b'0'..=b'9' => found.or_else(|| number_at(kinds, view, start)),
        b'a'..=b'z' | b'A'..=b'Z' => found
            .or_else(|| ask(Kind::Iban, &|| iban::find(view, start)))
            .or_else(|| ask(Kind::Ip, &|| ip::find_v6(view, start)))
            .or_else(|| ask(Kind::EsDni, &|| national::es_nie(view, start)))
            .or_else(|| ask(Kind::UkNino, &|| national::uk_nino(view, start)))
            .or_else(|| ask(Kind::CaPostalCode, &|| postal::find_canada(view, start)))
            .or_else(|| ask(Kind::UkPostcode, &|| postal::find_uk(view, start))),
        _ => found,
    }
}

/// What begins at the digit at `start`: the stricter first.
fn number_at(kinds: Kinds, view: &View<'_>, start: usize) -> Option<(Kind, usize)> {
    let ask = |kind: Kind, find: &dyn Fn() -> Option<usize>| {
        if kinds.has(kind) {
            find().map(|end| (kind, end))
        } else {
            None
        }
    };
    if let Some(found) = ask(Kind::Ip, &|| {
        ip::find_v4(view, start).or_else(|| ip::find_v6(view, start))
    }) {
        return Some(found);
    }
    if !kinds.has_numbers() {
        return None;
    }
    let digits = Digits::read(view, start);
    let national = national::FINDERS
        .iter()
        .find_map(|(kind, find)| ask(*kind, &|| find(view, &digits)));
    national
        .or_else(|| ask(Kind::EsDni, &|| national::es_dni(view, &digits)))
        .or_else(|| ask(Kind::FrNir, &|| national::fr_nir_corsica(view, start)))
        .or_else(|| ask(Kind::Card, &|| card::find(view, &digits)))
        .or_else(|| ask(Kind::UsZip, &|| postal::find_zip(view, &digits)))
        .or_else(|| ask(Kind::Phone, &|| phone::find(view, start)))
}
