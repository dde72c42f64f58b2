//! What a finder may see of the text around the place it looks at.
//!
//! A finder sees at most [`LOOK_AHEAD_BYTES`] from where a match would begin and at most
//! [`LOOK_BEHIND_BYTES`] before it, of a whole text as of a stream. Where it asks for more than is in
//! hand of a stream, the view notes that; the caller then waits and asks again. So a stream is found
//! the same things in as the whole text, wherever it is cut, by construction.

use super::words::Words;
use std::cell::Cell;

/// The longest match, and the most a stream without custom patterns is held back.
pub const LOOK_AHEAD_BYTES: usize = 128;

/// How far back words are looked for that say what a number is.
pub const LOOK_BEHIND_BYTES: usize = 64;

/// The text around one place.
#[derive(Debug)]
pub(crate) struct View<'t> {
    text: &'t str,
    /// Words that stand before the text, such as the name of the field it is in.
    context: &'t str,
    floor: usize,
    limit: usize,
    /// More may come after `limit`.
    open: bool,
    touched: Cell<bool>,
}

impl<'t> View<'t> {
    /// The view from `start`. `open`: the text goes on after what is in hand.
    pub(crate) fn new(text: &'t str, context: &'t str, start: usize, open: bool) -> Self {
        let ahead = start + LOOK_AHEAD_BYTES;
        Self {
            text,
            context,
            floor: text.ceil_char_boundary(start.saturating_sub(LOOK_BEHIND_BYTES)),
            limit: text.floor_char_boundary(ahead),
            open: open && ahead > text.len(),
            touched: Cell::new(false),
        }
    }

    /// Did a finder ask for what is not in hand yet?
    pub(crate) fn touched(&self) -> bool {
        self.touched.get()
    }

    /// The byte at `at`.
    pub(crate) fn byte(&self, at: usize) -> Option<u8> {
        if at < self.limit {
            return Some(self.text.as_bytes()[at]);
        }
        self.touched.set(self.touched.get() || self.open);
        None
    }

    /// The character at `at`.
    pub(crate) fn char(&self, at: usize) -> Option<char> {
        self.byte(at)?;
        self.text[at..].chars().next()
    }

    /// The character before `at`.
    pub(crate) fn char_before(&self, at: usize) -> Option<char> {
        self.text[self.floor..at].chars().next_back()
    }

    /// The last two characters before `at`, the nearest first.
    pub(crate) fn two_before(&self, at: usize) -> (Option<char>, Option<char>) {
        let mut back = self.text[self.floor..at].chars().rev();
        (back.next(), back.next())
    }

    /// What lies before `at`.
    pub(crate) fn before(&self, at: usize) -> &'t str {
        &self.text[self.floor..at]
    }

    /// The text from `start` to `end`, which were both seen.
    pub(crate) fn slice(&self, start: usize, end: usize) -> &'t str {
        &self.text[start..end]
    }

    /// The digit at `at`, as a number.
    pub(crate) fn digit(&self, at: usize) -> Option<u8> {
        self.byte(at).filter(u8::is_ascii_digit).map(|byte| byte - b'0')
    }

    /// Does a word begin at `at`: is there no letter or digit before it, but for an escape of JSON?
    pub(crate) fn word_starts(&self, at: usize) -> bool {
        match self.two_before(at) {
            (None, _) => true,
            (Some('\\'), _) => false,
            (Some(last), _) if !is_word(last) => true,
            (Some('n' | 'r' | 't' | 'b' | 'f'), Some('\\')) => true,
            _ => self.after_unicode_escape(at),
        }
    }

    fn after_unicode_escape(&self, at: usize) -> bool {
        let before = self.before(at).as_bytes();
        before.len() >= 6
            && before[before.len() - 6..].starts_with(b"\\u")
            && before[before.len() - 4..].iter().all(u8::is_ascii_hexdigit)
    }

    /// Does a word end at `at`?
    pub(crate) fn word_ends(&self, at: usize) -> bool {
        self.char(at).is_none_or(|next| !is_word(next))
    }

    /// The words before `at`, in lower case, those of `snake_case` and `camelCase` apart.
    pub(crate) fn words_before(&self, at: usize) -> Words {
        if self.floor > 0 || self.context.is_empty() {
            // The first word may be cut off.
            let whole = |text: &'t str| text.trim_start_matches(is_word);
            return Words::new(if self.floor > 0 {
                whole(self.before(at))
            } else {
                self.before(at)
            });
        }
        let near = self.context.len().saturating_sub(LOOK_BEHIND_BYTES);
        let context = &self.context[self.context.ceil_char_boundary(near)..];
        Words::new(&format!("{context}: {}", self.before(at)))
    }
}

/// Letters, digits and `_`, of scripts that part words by spaces. Text in Han, Kana, Thai and their like
/// has none, so that a letter of those bounds a word.
pub(crate) fn is_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    c.is_alphanumeric() && !is_unspaced(c)
}

/// A script without spaces between words, or (Hangul) with particles joined to them.
pub(crate) fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1100}'..='\u{11ff}'
        | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}'
        | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}')
}
