//! International bank account numbers (ISO 13616): a country's length and the check by 97.
//!
//! Found: compact, or in groups of four with spaces or hyphens, in upper or lower case.

use super::view::{View, is_word};

/// Countries of the registry and the length of their numbers.
const LENGTHS: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 \
    DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 \
    IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 \
    OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 \
    UA29 VA22 VG24 XK20 YE30";

/// The end of the number that begins at `start`.
pub(crate) fn find(view: &View<'_>, start: usize) -> Option<usize> {
    let country = [view.byte(start)?, view.byte(start + 1)?].map(|byte| byte.to_ascii_uppercase());
    if !country.iter().all(u8::is_ascii_uppercase)
        || view.digit(start + 2).is_none()
        || view.digit(start + 3).is_none()
    {
        return None;
    }
    let length = length(country)?;
    let (last, second) = view.two_before(start);
    if !view.word_starts(start) || (matches!(last, Some('-' | '.' | '/')) && second.is_some_and(is_word)) {
        return None;
    }
    let (mut at, mut chars) = (start, [0u8; 34]);
    let mut sep = None;
    for (idx, slot) in chars[..length].iter_mut().enumerate() {
        if idx > 0 && idx % 4 == 0 {
            let here = view.char(at).filter(|c| matches!(c, ' ' | '-' | '\u{a0}'));
            sep = sep.or(here);
            at += here.filter(|_| here == sep).map_or(0, char::len_utf8);
        }
        *slot = view
            .byte(at)
            .filter(u8::is_ascii_alphanumeric)?
            .to_ascii_uppercase();
        at += 1;
    }
    let longer = matches!(view.char(at), Some('-')) && view.char(at + 1).is_some_and(is_word);
    (view.word_ends(at) && !longer && checks(&chars[..length])).then_some(at)
}

fn length(country: [u8; 2]) -> Option<usize> {
    LENGTHS
        .split_ascii_whitespace()
        .find(|entry| entry.as_bytes().starts_with(&country))
        .and_then(|entry| entry[2..].parse().ok())
}

fn checks(chars: &[u8]) -> bool {
    let turned = chars[4..].iter().chain(&chars[..4]);
    turned.fold(0u32, |rest, &c| match c {
        b'0'..=b'9' => (rest * 10 + u32::from(c - b'0')) % 97,
        _ => (rest * 100 + u32::from(c - b'A') + 10) % 97,
    }) == 1
}
