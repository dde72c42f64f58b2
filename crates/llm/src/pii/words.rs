//! The words before a number, which say what it is.

use super::view::is_unspaced;
use aho_corasick::AhoCorasick;
use std::sync::OnceLock;

/// Words in lower case, all looked for at once.
#[derive(Debug)]
pub(crate) struct WordSet {
    names: &'static [&'static str],
    automaton: OnceLock<Option<AhoCorasick>>,
}

impl WordSet {
    pub(crate) const fn new(names: &'static [&'static str]) -> Self {
        Self {
            names,
            automaton: OnceLock::new(),
        }
    }

    /// None only if the words are too many for it, which constants are not.
    fn automaton(&self) -> Option<&AhoCorasick> {
        let build = || AhoCorasick::new(self.names).ok();
        self.automaton.get_or_init(build).as_ref()
    }
}

/// The words in front of a number.
#[derive(Debug)]
pub(crate) struct Words(String);

impl Words {
    pub(crate) fn new(text: &str) -> Self {
        let mut words = String::with_capacity(text.len() + 8);
        let mut was_lower = false;
        if text.is_ascii() {
            for byte in text.bytes() {
                if was_lower && byte.is_ascii_uppercase() {
                    words.push(' ');
                }
                was_lower = byte.is_ascii_lowercase();
                words.push(if byte == b'_' {
                    ' '
                } else {
                    char::from(byte.to_ascii_lowercase())
                });
            }
            return Self(words);
        }
        for c in text.chars() {
            if c.is_uppercase() && was_lower {
                words.push(' ');
            }
            was_lower = c.is_lowercase();
            match c {
                '_' => words.push(' '),
                // Full-width forms of ASCII.
                '\u{ff01}'..='\u{ff5e}' => {
                    let narrow = char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c);
                    words.push(narrow.to_ascii_lowercase());
                }
                _ => words.extend(c.to_lowercase()),
            }
        }
        Self(words)
    }

    /// Where the last of `names` stands as a word of its own, a plural `s` aside.
    pub(crate) fn last_of(&self, names: &WordSet) -> Option<usize> {
        let text = self.0.as_str();
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphabetic() && !is_unspaced(c));
        names
            .automaton()?
            .find_overlapping_iter(text)
            .filter(|found| {
                let after = &text[found.end()..];
                let after = after.strip_prefix('s').unwrap_or(after);
                !joins(text[..found.start()].chars().next_back()) && !joins(after.chars().next())
            })
            .map(|found| found.start())
            .max()
    }

    /// Is one of `names` here?
    pub(crate) fn any(&self, names: &WordSet) -> bool {
        self.last_of(names).is_some()
    }

    /// Is one of `names` the very last word, signs aside?
    pub(crate) fn end_in(&self, names: &[&str]) -> bool {
        let text = self
            .0
            .trim_end_matches(|c: char| !c.is_alphanumeric() && c != '§');
        names
            .iter()
            .filter_map(|name| text.strip_suffix(name))
            .any(|rest| {
                rest.chars()
                    .next_back()
                    .is_none_or(|c| !c.is_alphanumeric() || is_unspaced(c))
            })
    }

    /// The words from `at`, where one begins.
    pub(crate) fn from(&self, at: usize) -> &str {
        &self.0[at..]
    }

    /// How many bytes of words there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
