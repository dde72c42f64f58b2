//! IP addresses.
//!
//! Found: IPv4 as four numbers without leading zeros, IPv6 (RFC 4291) with a digit and four hex digits
//! at least; ports and prefix lengths after them are left in place. Left: versions (after `v`,
//! `version`, `firmware`, `section` and the like, after `name-`, `name/`, `==`, or with a fifth
//! number), four single digits without a word such as `host` (a section of a document), object
//! identifiers, and loopback, unspecified, multicast and broadcast addresses, which name no one.

use super::view::{View, is_word};
use super::words::WordSet;
use std::net::{Ipv4Addr, Ipv6Addr};

const V6_MAX_BYTES: usize = 45;

/// Words that say that the dotted number after them is none.
pub(crate) const VERSION_WORDS: [&str; 22] = [
    "v",
    "ver",
    "version",
    "versions",
    "release",
    "firmware",
    "build",
    "driver",
    "section",
    "sections",
    "chapter",
    "§",
    "oid",
    "revision",
    "rev",
    "update",
    "clause",
    "paragraph",
    "版本",
    "版",
    "versión",
    "версия",
];

static OID_WORDS: WordSet = WordSet::new(&["oid", "object identifier"]);

/// Words that say that four single digits are an address.
static ADDRESS_WORDS: WordSet = WordSet::new(&[
    "ip",
    "ipv",
    "host",
    "server",
    "dns",
    "addr",
    "address",
    "ping",
    "client",
    "from",
    "peer",
    "gateway",
    "subnet",
    "remote",
    "via",
    "local",
    "服务器",
    "地址",
]);

/// The end of the IPv4 address that begins at `start`, where there is a digit.
pub(crate) fn find_v4(view: &View<'_>, start: usize) -> Option<usize> {
    if !view.word_starts(start) {
        return None;
    }
    let (mut at, mut octets) = (start, [0u8; 4]);
    for (idx, slot) in octets.iter_mut().enumerate() {
        if idx > 0 {
            at += view.byte(at).filter(|&byte| byte == b'.').map(|_| 1)?;
        }
        let (first, mut value) = (at, 0u32);
        while let Some(digit) = view.digit(at).filter(|_| at - first < 4) {
            value = value * 10 + u32::from(digit);
            at += 1;
        }
        if at == first || at - first > 3 || (at - first > 1 && view.digit(first) == Some(0)) {
            return None;
        }
        *slot = u8::try_from(value).ok()?;
    }
    let (last, second) = view.two_before(start);
    let product = match last {
        Some('.' | '/' | '_') => second.is_some_and(is_word),
        Some('-') => second.is_some_and(|c| is_word(c) && !c.is_ascii_digit()),
        Some('=') => matches!(second, Some('=' | '~' | '>' | '<')),
        Some('^' | '~') => true,
        _ => false,
    };
    let next = view.char(at);
    let second = || view.char(at + next.map_or(0, char::len_utf8));
    let longer = match next {
        Some('.') => second().is_some_and(is_word),
        Some('-') => second().is_some_and(|c| is_word(c) && !c.is_ascii_digit()),
        Some(next) => is_word(next),
        None => false,
    };
    let address = Ipv4Addr::from(octets);
    let common = address.is_loopback() || matches!(octets[0], 0 | 224..);
    if product || longer || common {
        return None;
    }
    let words = view.words_before(start);
    let section = octets.iter().all(|&octet| octet < 10)
        && !(matches!(next, Some(':' | '/')) && second().is_some_and(|c| c.is_ascii_digit()))
        && last != Some('/')
        && !words.any(&ADDRESS_WORDS);
    (!section && !words.end_in(&VERSION_WORDS) && !words.any(&OID_WORDS)).then_some(at)
}

/// The end of the IPv6 address that begins at `start`, where there is a hex digit or a colon.
pub(crate) fn find_v6(view: &View<'_>, start: usize) -> Option<usize> {
    let (mut at, mut colons) = (start, 0);
    while let Some(byte) = view
        .byte(at)
        .filter(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
    {
        colons += usize::from(byte == b':');
        at += 1;
        // A word or a number, long before the address could be one.
        if at - start > V6_MAX_BYTES || (colons == 0 && at - start > 4) {
            return None;
        }
    }
    if colons < 2 || !starts_v6(view, start) {
        return None;
    }
    let mut text = view.slice(start, at);
    text = text.strip_suffix('.').unwrap_or(text);
    if !text.ends_with("::") {
        text = text.strip_suffix(':').unwrap_or(text);
    }
    let end = start + text.len();
    let address: Ipv6Addr = text.parse().ok()?;
    let hex = text.bytes().filter(u8::is_ascii_hexdigit).count();
    let plain = text.bytes().any(|byte| byte.is_ascii_digit()) && hex >= 4;
    let common = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    // `c::B50` is a path of some language; addresses in use begin with three or four digits.
    let groups = text.split(':').filter(|group| !group.is_empty()).count();
    let first = text.split(':').next().unwrap_or_default().len();
    let plain = plain && (groups > 3 || first == 0 || first >= 3);
    (plain && !common && view.word_ends(end)).then_some(end)
}

/// No address begins inside a word, a path of `::` or a longer run of colons; after `label:` one may.
fn starts_v6(view: &View<'_>, start: usize) -> bool {
    match view.two_before(start) {
        (Some(':'), Some(second)) if is_word(second) => {
            let before = view.before(start).trim_end_matches(':');
            let label = before.rsplit(|c: char| !is_word(c)).next().unwrap_or_default();
            label.bytes().any(|byte| !byte.is_ascii_hexdigit())
        }
        (Some(':'), Some(':')) => false,
        (Some('.'), _) => false,
        _ => view.word_starts(start),
    }
}
