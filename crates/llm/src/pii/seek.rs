//! What an operator asks for: patterns of their own, and words.
//!
//! A match is at most so many bytes long, counted from where it begins; a longer one is cut there. So a
//! stream is held back by that and no more, and finds what the whole text would.

use super::scan::Next;
use super::view::is_word;
use aho_corasick::AhoCorasick;
use regex_automata::meta::{self, Regex};
use regex_automata::{Anchored, Input};

/// The longest match of a pattern that names no limit of its own.
pub const PATTERN_MATCH_BYTES: usize = 128;
/// The largest limit it may name.
pub const PATTERN_MATCH_BYTES_MAX: usize = 1024;
/// The longest word of a list.
pub const WORD_BYTES_MAX: usize = 256;
/// How many words a list may have.
pub const WORDS_MAX: usize = 100_000;
/// Memory of a compiled pattern.
const PATTERN_SIZE_MAX_BYTES: usize = 1 << 20;
/// What a pattern's end may look at beyond itself: one character.
const PEEK_BYTES: usize = 4;
/// How far a search goes at once.
const BLOCK_BYTES: usize = 4096;
/// How far after a match that was too long.
const RETRY_BYTES: usize = 64;

/// A pattern or a list of words.
#[derive(Debug)]
pub(crate) struct Seeker {
    engine: Engine,
    match_max_bytes: usize,
}

#[derive(Debug)]
enum Engine {
    Pattern(Box<Regex>),
    Words {
        automaton: Box<AhoCorasick>,
        whole: bool,
    },
}

impl Seeker {
    /// `bytes`, if a pattern may have that as its limit.
    pub(crate) fn match_limit(bytes: usize) -> Result<usize, String> {
        if (1..=PATTERN_MATCH_BYTES_MAX).contains(&bytes) {
            return Ok(bytes);
        }
        Err(format!(
            "expected 1 to {PATTERN_MATCH_BYTES_MAX} bytes, not {bytes}"
        ))
    }

    /// A pattern in the syntax of the crate `regex`: no look-around but `^ $ \b`, no back references,
    /// linear time.
    pub(crate) fn pattern(pattern: &str, match_max_bytes: usize) -> Result<Self, String> {
        let config = meta::Config::new().nfa_size_limit(Some(PATTERN_SIZE_MAX_BYTES));
        let regex = Regex::builder()
            .configure(config)
            .build(pattern)
            .map_err(|error| {
                let why = error
                    .syntax_error()
                    .map_or_else(|| error.to_string(), ToString::to_string);
                format!("not a pattern that can be used: {why}")
            })?;
        if regex.is_match("") {
            return Err("the pattern matches the empty text, and so everywhere".to_owned());
        }
        Ok(Self {
            engine: Engine::Pattern(Box::new(regex)),
            match_max_bytes,
        })
    }

    /// Any of `words`, in any case. `whole`: only as words of their own.
    pub(crate) fn words(words: &[String], whole: bool) -> Result<Self, String> {
        if words.is_empty() || words.len() > WORDS_MAX {
            return Err(format!(
                "1 to {WORDS_MAX} words are possible, not {}",
                words.len()
            ));
        }
        let mut forms: Vec<String> = Vec::with_capacity(words.len());
        for word in words {
            if word.trim().is_empty() || word.len() > WORD_BYTES_MAX {
                return Err(format!(
                    "a word of 1 to {WORD_BYTES_MAX} bytes is possible, not `{word}`"
                ));
            }
            forms.push(word.clone());
            // The automaton folds the case of ASCII only.
            if !word.is_ascii() {
                let lower = word.to_lowercase();
                let mut rest = lower.chars();
                let capital = rest
                    .next()
                    .map(|first| first.to_uppercase().chain(rest).collect());
                forms.extend([word.to_uppercase(), lower.clone()].into_iter().chain(capital));
            }
        }
        let match_max_bytes = forms.iter().map(String::len).max().unwrap_or(1);
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(&forms)
            .map_err(|error| format!("these words cannot be searched for: {error}"))?;
        Ok(Self {
            engine: Engine::Words {
                automaton: Box::new(automaton),
                whole,
            },
            match_max_bytes,
        })
    }

    /// How many bytes of a stream wait for what comes after them.
    pub(crate) fn hold_max_bytes(&self) -> usize {
        self.match_max_bytes + PEEK_BYTES
    }

    /// How far it is certain what begins in `text`.
    pub(crate) fn decided(&self, text: &str, open: bool) -> usize {
        let held = if open { self.hold_max_bytes() } else { 0 };
        text.floor_char_boundary(text.len().saturating_sub(held))
    }

    /// The first match that begins at `from` or later: where it begins and ends.
    pub(crate) fn next(&self, text: &str, from: usize, open: bool) -> Next<(usize, usize)> {
        let decided = self.decided(text, open);
        let (mut at, mut block_bytes) = (from, BLOCK_BYTES);
        while at < decided {
            let block_end = text.ceil_char_boundary(at + block_bytes + self.match_max_bytes);
            // What begins later may have something longer before it that the block cuts off.
            let sure = if block_end < text.len() {
                text.floor_char_boundary(block_end - self.match_max_bytes)
            } else {
                decided
            };
            match self.candidate(text, at, block_end) {
                Some((start, end)) if start < sure.min(decided) => {
                    if let Some(end) = self.confirm(text, start, end) {
                        return Next::Found((start, end));
                    }
                    at = text.ceil_char_boundary(start + 1);
                    block_bytes = self.match_max_bytes.max(RETRY_BYTES);
                }
                _ => {
                    at = sure;
                    block_bytes = BLOCK_BYTES;
                }
            }
        }
        Next::Clear(decided.max(from))
    }

    /// The first match in `from..to`, which may be longer than allowed.
    fn candidate(&self, text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
        match &self.engine {
            Engine::Pattern(regex) => {
                let found = regex.search(&Input::new(text).range(from..to))?;
                Some((found.start(), found.end()))
            }
            Engine::Words { automaton, whole } => {
                let mut best: Option<(usize, usize)> = None;
                // By their ends: once these are further away than a word is long, none begins earlier.
                for found in automaton.find_overlapping_iter(&text[from..to]) {
                    let (start, end) = (from + found.start(), from + found.end());
                    if best.is_some_and(|(first, _)| end > first + self.match_max_bytes) {
                        break;
                    }
                    if *whole && !stands_alone(text, start, end) {
                        continue;
                    }
                    let better =
                        best.is_none_or(|(first, last)| start < first || (start == first && end > last));
                    if better {
                        best = Some((start, end));
                    }
                }
                best
            }
        }
    }

    /// The end of the match at `start`, within the limit.
    fn confirm(&self, text: &str, start: usize, end: usize) -> Option<usize> {
        let Engine::Pattern(regex) = &self.engine else {
            return Some(end);
        };
        let limit = text.floor_char_boundary(start + self.match_max_bytes);
        let input = Input::new(text).range(start..limit).anchored(Anchored::Yes);
        regex
            .search(&input)
            .map(|found| found.end())
            .filter(|&end| end > start)
    }
}

/// Is the word at `start..end` no part of a longer one?
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let joined =
        |inner: Option<char>, outer: Option<char>| inner.is_some_and(is_word) && outer.is_some_and(is_word);
    let word = &text[start..end];
    !joined(word.chars().next(), text[..start].chars().next_back())
        && !joined(word.chars().next_back(), text[end..].chars().next())
}
