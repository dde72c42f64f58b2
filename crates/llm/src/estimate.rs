//! How many tokens a text is, without the tokenizer of its model.
//!
//! Three answers, for three uses:
//!
//! * [`most_tokens_of_bytes`]: an upper bound. The tokenizers in use are byte-level, or fall back to
//!   bytes: no token is less than a byte of the text. For hard budgets.
//! * [`tokens_of_bytes`]: a guess from the length alone, 4 bytes a token, where nothing is known of the
//!   text.
//! * [`tokens_of_text`]: a guess that knows scripts, for counting where a provider has no endpoint for
//!   it, and for what was asked by and streamed to a client that left. Such counts are marked as estimates.

/// The most tokens that so many bytes of text can be.
pub const fn most_tokens_of_bytes(n_bytes: u64) -> u64 {
    n_bytes
}

/// About how many tokens so many bytes of text are: a quarter, rounded up.
pub const fn tokens_of_bytes(n_bytes: u64) -> u64 {
    n_bytes.div_ceil(4)
}

/// About how many tokens a text is. By rule of thumb, rounded up at the end: an ASCII letter or space a
/// quarter, a digit a third, other ASCII characters a half; a letter of another alphabet a half;
/// Chinese, Japanese and Korean characters one; emoji and all else two.
pub fn tokens_of_text(text: &str) -> u64 {
    let mut count = TextCount::default();
    count.add(text);
    count.tokens()
}

/// [`tokens_of_text`] of a text that comes in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextCount {
    twelfths: u64,
}

impl TextCount {
    /// Adds a piece.
    pub fn add(&mut self, piece: &str) {
        let twelfths = piece.chars().map(twelfths_of).fold(0, u64::saturating_add);
        self.twelfths = self.twelfths.saturating_add(twelfths);
    }

    /// About how many tokens all of it is.
    pub const fn tokens(&self) -> u64 {
        self.twelfths.div_ceil(12)
    }
}

const fn twelfths_of(character: char) -> u64 {
    match character {
        '0'..='9' => 4,
        'a'..='z' | 'A'..='Z' | ' ' | '\t' | '\n' | '\r' => 3,
        '\0'..='\x7f' => 6,
        // Latin, Greek, Cyrillic, Hebrew, Arabic, Indic, Thai, Georgian, Ethiopic …
        '\u{80}'..='\u{10ff}' | '\u{1200}'..='\u{1fff}' => 6,
        // Jamo, kana, Hangul, Han, and their full-width forms and punctuation.
        '\u{1100}'..='\u{11ff}'
        | '\u{3000}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7ff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{ff00}'..='\u{ffef}'
        | '\u{20000}'..='\u{3ffff}' => 12,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn by_length() {
        for (n_bytes, expected) in [(0, 0), (1, 1), (4, 1), (5, 2), (u64::MAX, u64::MAX / 4 + 1)] {
            assert_eq!(tokens_of_bytes(n_bytes), expected, "{n_bytes}");
        }
    }

    #[test]
    fn by_script() {
        for (text, expected) in [
            ("", 0),
            ("The quick brown fox jumps over the lazy dog.", 12),
            ("今天天气怎么样？", 8),
            ("コンピュータ", 6),
            ("안녕하세요", 5),
            ("Привет, мир", 6),
            ("1234567890", 4),
            ("{\"a\":[1,2]}", 5),
            ("🙂", 2),
        ] {
            assert_eq!(tokens_of_text(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn within_the_bound(text in ".{0,200}") {
            prop_assert!(tokens_of_text(&text) <= most_tokens_of_bytes(text.len() as u64));
        }

        #[test]
        fn in_pieces_as_at_once(text in ".{0,200}") {
            let mut count = TextCount::default();
            for piece in text.chars() {
                count.add(piece.encode_utf8(&mut [0; 4]));
            }
            prop_assert_eq!(count.tokens(), tokens_of_text(&text));
        }
    }
}
