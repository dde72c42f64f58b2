//! How tokens are counted, and the counts of a call in disjoint buckets.
//!
//! The rule: a text is cut greedily into pieces of at most four bytes at borders of characters, each is
//! a token; for ASCII that is a fourth of the bytes, rounded up. An image is 85 tokens, a file 256, audio
//! and video 128. A tool declaration counts as its JSON, a call as its name and its arguments.

use serde::{Deserialize, Serialize};

use crate::lab::random::Random;

pub(crate) const IMAGE_TOKENS: u64 = 85;
pub(crate) const FILE_TOKENS: u64 = 256;
pub(crate) const AUDIO_TOKENS: u64 = 128;

const TOKEN_BYTES_MAX: usize = 4;

/// The tokens of a text, one after the other.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (token, after) = rest.split_at(rest.floor_char_boundary(TOKEN_BYTES_MAX));
        rest = after;
        Some(token)
    })
}

pub(crate) fn count(text: &str) -> u64 {
    if text.is_ascii() {
        text.len().div_ceil(TOKEN_BYTES_MAX) as u64
    } else {
        tokens(text).count() as u64
    }
}

/// As much of a text as `limit` tokens are.
pub(crate) fn first(text: &str, limit: u64) -> &str {
    let bytes: usize = tokens(text)
        .take(usize::try_from(limit).unwrap_or(usize::MAX))
        .map(str::len)
        .sum();
    &text[..bytes]
}

/// A text in runs of one to four tokens, as streams deliver it, each with its number of tokens.
pub(crate) fn runs<'a>(text: &'a str, random: &mut Random) -> Vec<(&'a str, u64)> {
    let mut runs = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let wanted = u64::from(1 + random.below(4));
        let (run, after) = rest.split_at(first(rest, wanted).len());
        runs.push((run, count(run).min(wanted)));
        rest = after;
    }
    runs
}

/// Tokens of a call. No token is in two buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Usage {
    /// Text of the prompt that no cache had.
    pub(crate) input: u64,
    pub(crate) image: u64,
    pub(crate) audio: u64,
    pub(crate) cache_read: u64,
    pub(crate) cache_write_5m: u64,
    pub(crate) cache_write_1h: u64,
    /// Visible text and calls.
    pub(crate) output: u64,
    pub(crate) reasoning: u64,
    pub(crate) audio_output: u64,
}

impl Usage {
    pub(crate) fn cache_write(&self) -> u64 {
        self.cache_write_5m + self.cache_write_1h
    }

    /// All of the prompt, cached or not.
    pub(crate) fn prompt(&self) -> u64 {
        self.uncached() + self.cache_read + self.cache_write()
    }

    /// The prompt beside what went through a cache.
    pub(crate) fn uncached(&self) -> u64 {
        self.input + self.image + self.audio
    }

    /// All that was produced.
    pub(crate) fn produced(&self) -> u64 {
        self.output + self.reasoning + self.audio_output
    }

    pub(crate) fn total(&self) -> u64 {
        self.prompt() + self.produced()
    }

    /// The counts of the prompt only.
    pub(crate) fn of_prompt(&self) -> Usage {
        Usage {
            output: 0,
            reasoning: 0,
            audio_output: 0,
            ..*self
        }
    }
}

/// `usage: {…}` in a user's text: sets counts; those not named stay as counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SetUsage {
    input: Option<u64>,
    image: Option<u64>,
    audio: Option<u64>,
    cache_read: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
    audio_output: Option<u64>,
}

impl SetUsage {
    pub(crate) fn apply(&self, usage: &mut Usage) {
        for (set, count) in [
            (self.input, &mut usage.input),
            (self.image, &mut usage.image),
            (self.audio, &mut usage.audio),
            (self.cache_read, &mut usage.cache_read),
            (self.cache_write_5m, &mut usage.cache_write_5m),
            (self.cache_write_1h, &mut usage.cache_write_1h),
            (self.output, &mut usage.output),
            (self.reasoning, &mut usage.reasoning),
            (self.audio_output, &mut usage.audio_output),
        ] {
            if let Some(set) = set {
                // Sums of a few of these must not overflow.
                *count = set.min(u64::from(u32::MAX));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{count, first, tokens};

    #[test]
    fn a_token_is_at_most_four_bytes_of_whole_characters() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(tokens(text).collect::<Vec<_>>(), expected);
            assert_eq!(count(text), expected.len() as u64, "{text}");
        };
        check("", &[]);
        check("hello", &["hell", "o"]);
        check("東京", &["東", "京"]);
        check("a🙂b", &["a", "🙂", "b"]);
        assert_eq!(first("hello you", 2), "hello yo");
        assert_eq!(first("東京", 9), "東京");
    }
}
