//! What is wrong with a filter, where, and what to write instead.

use std::fmt::Write as _;
use std::ops::Range;

/// Columns of source text that [`FilterError::render`] shows at most.
const RENDER_WIDTH_MAX: usize = 100;
/// Characters of one word that a message repeats at most.
const SHOWN_WORD_MAX: usize = 40;

/// A byte range of the filter's text.
pub type Span = Range<usize>;

/// Why a text is no filter, or why a filter cannot be used where it was given.
///
/// `Display` is one sentence for logs; [`render`](Self::render) is for people who see the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({hint})")]
pub struct FilterError {
    /// The bytes of the source that are wrong; empty at the end of the text.
    pub span: Span,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl FilterError {
    pub(super) fn new(span: Span, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// Four lines: the message, the line of `source` that holds the place, carets under it, the hint.
    ///
    /// `source` should be the text that was parsed; any other text is safe but points nowhere useful.
    /// Control characters are replaced, and long lines are cut around the place.
    #[must_use]
    pub fn render(&self, source: &str) -> String {
        let start = floor_boundary(source, self.span.start);
        let end = floor_boundary(source, self.span.end.max(start));
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |at| start + at);

        let line: Vec<char> = source[line_start..line_end].chars().map(printable).collect();
        let column = source[line_start..start].chars().count();
        let marked = source[start..end.min(line_end).max(start)].chars().count().max(1);

        // Keep the place in view: cut in front when it lies beyond the width.
        let from = if column + marked.min(20) > RENDER_WIDTH_MAX {
            column - column.min(40)
        } else {
            0
        };
        let to = line.len().min(from + RENDER_WIDTH_MAX);
        let (before, after) = (
            if from > 0 { "…" } else { "" },
            if to < line.len() { "…" } else { "" },
        );
        let text: String = line[from..to].iter().collect();
        let indent = column - from + before.chars().count();
        let carets = marked.min(RENDER_WIDTH_MAX.saturating_sub(column - from).max(1));

        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "error: {}\n  {before}{text}{after}\n  {:indent$}{}\nhint: {}",
            self.message,
            "",
            "^".repeat(carets),
            self.hint
        );
        out
    }
}

fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// `word` in back quotes, cut and without control characters, for use in a message.
pub(super) fn shown(word: &str) -> String {
    let mut out = String::from("`");
    for (n_chars, c) in word.chars().enumerate() {
        if n_chars == SHOWN_WORD_MAX {
            out.push('…');
            break;
        }
        out.push(printable(c));
    }
    out.push('`');
    out
}

/// The candidate nearest to `word` by edit distance, when it is near enough to be a slip of the hand.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word
        .chars()
        .take(SHOWN_WORD_MAX)
        .flat_map(char::to_lowercase)
        .collect();
    let allowed = (word.len() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) between two words: optimal string alignment.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut rows = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}
