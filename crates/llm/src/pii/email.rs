//! E-mail addresses (RFC 5321, 5322, 6531, without quoted local parts).
//!
//! Found: a local part of letters, digits and `._%+-'`, `@` (or `%40`), and a domain of at least two
//! labels whose last is of letters only (and not of Han or Kana, which nothing parts from what follows). Left: `user@host`, remotes of git and scp (`git@host:path`),
//! credentials in URLs, `icon@2x.png`, `package@1.2.3`.

use super::view::{View, is_unspaced};

const LOCAL_MAX_BYTES: usize = 64;

/// Endings of files, none of which is a top-level domain.
const FILE_ENDINGS: [&str; 28] = [
    "png", "jpg", "jpeg", "gif", "svg", "webp", "css", "scss", "js", "ts", "json", "html", "bmp", "pdf",
    "tgz", "gz", "tar", "whl", "exe", "dll", "txt", "log", "csv", "xml", "yaml", "yml", "toml", "jar",
];

/// The end of the address that begins at `start`.
pub(crate) fn find(view: &View<'_>, start: usize) -> Option<usize> {
    if !starts(view, start) {
        return None;
    }
    let mut at = start;
    while let Some(len) = local_char(view, at) {
        at += len;
        if at - start > LOCAL_MAX_BYTES {
            return None;
        }
    }
    let domain = at_sign(view, at)?;
    let local = view.slice(start, at);
    if local.is_empty() || local.starts_with('.') || local.ends_with('.') || local.contains("..") {
        return None;
    }
    let end = self::domain(view, domain)?;
    let before = view.before(start);
    let in_url = before.ends_with("//") || (before.ends_with(':') && before.contains("://"));
    let remote = view.byte(end) == Some(b':')
        && view
            .byte(end + 1)
            .is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, b'~' | b'/'));
    (!in_url && !remote).then_some(end)
}

/// An address begins where a run of its characters does, signs before the first letter aside.
fn starts(view: &View<'_>, start: usize) -> bool {
    if !view
        .char(start)
        .is_some_and(|c| c == '_' || c == '\\' || c.is_alphanumeric())
    {
        return false;
    }
    let before = view.before(start).trim_end_matches(['.', '-', '\'', '+', '%']);
    match before.chars().next_back() {
        Some('\\' | '@') => false,
        Some(last) if is_local(last) => before.len() == view.before(start).len() && view.word_starts(start),
        _ => true,
    }
}

fn is_local(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '\'');
    }
    c.is_alphanumeric() && !is_unspaced(c)
}

/// The length of the character of a local part at `at`; of one that JSON escapes, that of the escape.
fn local_char(view: &View<'_>, at: usize) -> Option<usize> {
    match view.char(at)? {
        '\\' => {
            if view.byte(at + 1)? != b'u' {
                return None;
            }
            let mut code = 0;
            for idx in 2..6 {
                code = code * 16 + char::from(view.byte(at + idx)?).to_digit(16)?;
            }
            char::from_u32(code).filter(|&c| is_local(c)).map(|_| 6)
        }
        '%' if at_sign(view, at).is_some() => None,
        // An address in single quotes.
        '\'' if view.char_before(at).is_none_or(|last| !is_local(last)) => None,
        c => is_local(c).then(|| c.len_utf8()),
    }
}

/// Where the domain begins, if the sign stands at `at`.
fn at_sign(view: &View<'_>, at: usize) -> Option<usize> {
    match view.byte(at)? {
        b'@' => Some(at + 1),
        b'%' if view.byte(at + 1) == Some(b'4') && view.byte(at + 2) == Some(b'0') => Some(at + 3),
        _ => None,
    }
}

/// The end of the domain at `start`, without dots and hyphens that follow it.
fn domain(view: &View<'_>, start: usize) -> Option<usize> {
    let (mut at, mut labels, mut end, mut last) = (start, 0, None, start..start);
    loop {
        let label = at;
        // A label is of one kind of script, so that `例え.jp` is a domain and the `へ` after it is not.
        let unspaced = view.char(at).is_some_and(is_unspaced);
        while let Some(c) = view.char(at).filter(|&c| c == '-' || is_host(c, unspaced)) {
            at += c.len_utf8();
        }
        let goes_on = view.byte(at) == Some(b'.') && view.char(at + 1).is_some_and(|c| is_host(c, false));
        if unspaced && !goes_on {
            break;
        }
        let text = view.slice(label, at).trim_end_matches('-');
        if text.is_empty() || text.starts_with('-') {
            break;
        }
        labels += 1;
        if labels > 1 {
            end = Some(label + text.len());
            last = label..label + text.len();
        }
        if text.len() < at - label || view.byte(at) != Some(b'.') {
            break;
        }
        at += 1;
    }
    let top = view.slice(last.start, last.end);
    let lower = top.to_ascii_lowercase();
    let named = lower.starts_with("xn--") || top.chars().all(char::is_alphabetic);
    (top.chars().count() >= 2 && named && !FILE_ENDINGS.contains(&lower.as_str())).then_some(end?)
}

fn is_host(c: char, unspaced: bool) -> bool {
    c.is_alphanumeric() && is_unspaced(c) == unspaced
}
