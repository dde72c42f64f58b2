//! Guardrails: words and patterns that must not be said, or are masked, or noted.
//!
//! Every rule looks at the whole text by itself; what one masks another still sees. Of a stream, text
//! goes out only as far as no rule can find anything more in it: the longest word, or the longest match
//! of a pattern, waits ([`Guard::hold_max_bytes`]). Verdicts on a stream are those on the whole text,
//! wherever it is cut, save that what stands before a blocked word is out already.

use crate::pii::{Found, LABEL_MAX_BYTES, Next, PATTERN_MATCH_BYTES, RuleError, Seeker, Side};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// How many rules, and how many patterns in one, there may be.
const RULES_MAX: usize = 1000;
/// Text of a stream that is done with is cut off in steps of this.
const COMPACT_BYTES: usize = 4096;
/// What stays of it, for `\b` and whole words: more than one character.
const KEEP_BYTES: usize = 8;

/// Words and patterns, and what happens if one is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardRule {
    /// Its name, for the error of a blocked call and for records.
    pub name: String,
    /// Words and phrases, in any case.
    #[serde(default)]
    pub words: Vec<String>,
    /// Are they found only as words of their own? They are if this is not given.
    #[serde(default = "yes")]
    pub whole_words: bool,
    /// Patterns, in the syntax of the Rust crate `regex`.
    #[serde(default)]
    pub patterns: Vec<String>,
    /// The longest match of a pattern in bytes, which is also what a stream waits for. 128 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
    /// What happens.
    #[serde(default)]
    pub action: GuardAction,
    /// Where it holds.
    #[serde(default, rename = "in")]
    pub side: Side,
}

fn yes() -> bool {
    true
}

/// What happens when a rule finds something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardAction {
    /// The call ends.
    #[default]
    Block,
    /// `[MASKED]` stands in its place.
    Mask,
    /// It is counted.
    Flag,
}

/// Rules, compiled.
#[derive(Debug, Default)]
pub struct Guard {
    rules: Vec<(Arc<str>, GuardAction)>,
    seekers: Vec<(usize, Seeker)>,
}

/// What the rules say of a text. `found`: how often each rule found something, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was found.
    Pass,
    /// It may go as it is; rules took note.
    Flag {
        /// What was found.
        found: Found,
    },
    /// Another text goes in its place.
    Mask {
        /// The text.
        text: String,
        /// What was found.
        found: Found,
    },
    /// It must not go.
    Block {
        /// The rule that found something first, of those that block.
        rule: Arc<str>,
        /// What was found up to there.
        found: Found,
    },
}

impl Verdict {
    /// The rule that blocks.
    pub fn blocked_by(&self) -> Option<&Arc<str>> {
        match self {
            Self::Block { rule, .. } => Some(rule),
            _ => None,
        }
    }

    /// What was found.
    pub fn found(&self) -> Option<&Found> {
        match self {
            Self::Pass => None,
            Self::Flag { found } | Self::Mask { found, .. } | Self::Block { found, .. } => Some(found),
        }
    }
}

/// What a stream lets out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "the stream may be blocked"]
pub struct Passed {
    /// The text, up to what is blocked.
    pub text: String,
    /// The rule that ended it. Nothing comes after.
    pub blocked_by: Option<Arc<str>>,
}

/// Stands for what is masked.
const MASK: &str = "[MASKED]";

impl Guard {
    /// One guardrail: words of their own, in any case, and patterns. `name` stands in verdicts; `field` is
    /// where it is in the document, for errors.
    ///
    /// # Errors
    /// What cannot be used: `{field}.words`, `{field}.patterns[2]`.
    pub fn compile(
        name: &str,
        words: &[String],
        patterns: &[String],
        action: GuardAction,
        field: &str,
    ) -> Result<Self, RuleError> {
        let rule = GuardRule {
            name: name.to_owned(),
            words: words.to_vec(),
            whole_words: true,
            patterns: patterns.to_vec(),
            max_bytes: None,
            action,
            side: Side::Both,
        };
        let mut guard = Self::default();
        guard.add(&rule, field)?;
        Ok(guard)
    }

    /// Several at once, looked at together: those that hold on `side`; all are checked. `field` is what
    /// the list is called in the document it is from, for errors.
    ///
    /// # Errors
    /// The first rule that cannot be used.
    pub fn compile_rules(rules: &[GuardRule], side: Side, field: &str) -> Result<Self, RuleError> {
        if rules.len() > RULES_MAX {
            let problem = format!("at most {RULES_MAX} rules are possible, not {}", rules.len());
            return Err(RuleError::new(field, problem));
        }
        let mut guard = Self::default();
        for (idx, rule) in rules.iter().enumerate() {
            let field = format!("{field}[{idx}]");
            if rule.side.covers(side) {
                guard.add(rule, &field)?;
            } else {
                rule.seekers(&field)?;
            }
        }
        Ok(guard)
    }

    fn add(&mut self, rule: &GuardRule, field: &str) -> Result<(), RuleError> {
        let seekers = rule.seekers(field)?.into_iter();
        let number = self.rules.len();
        self.rules.push((rule.name.as_str().into(), rule.action));
        self.seekers.extend(seekers.map(|seeker| (number, seeker)));
        Ok(())
    }

    /// Has it no rule?
    pub fn is_empty(&self) -> bool {
        self.seekers.is_empty()
    }

    /// How many bytes of a stream wait at most.
    pub fn hold_max_bytes(&self) -> usize {
        let holds = self.seekers.iter().map(|(_, seeker)| seeker.hold_max_bytes());
        // A character that begins before the limit may end behind it.
        holds.max().map_or(0, |held| held + 4)
    }

    /// Does a rule block or mask? Else all that is said goes on as it is.
    pub fn holds(&self) -> bool {
        self.rules.iter().any(|(_, action)| *action != GuardAction::Flag)
    }

    /// What the rules say of `text`.
    pub fn check(&self, text: &str) -> Verdict {
        let mut state = State::new(self);
        let mut out = String::with_capacity(text.len());
        state.advance(self, text, false, &mut out);
        let found = state.found;
        match state.blocked_by {
            Some(rule) => Verdict::Block { rule, found },
            None if state.masked => Verdict::Mask { text: out, found },
            None if found.total() > 0 => Verdict::Flag { found },
            None => Verdict::Pass,
        }
    }
}

impl GuardRule {
    fn seekers(&self, field: &str) -> Result<Vec<Seeker>, RuleError> {
        let fail = |name: &str, problem: String| RuleError::new(format!("{field}.{name}"), problem);
        if self.name.is_empty() || self.name.len() > 4 * LABEL_MAX_BYTES {
            return Err(fail(
                "name",
                format!("expected 1 to {} bytes", 4 * LABEL_MAX_BYTES),
            ));
        }
        if self.words.is_empty() && self.patterns.is_empty() {
            return Err(RuleError::new(field, "expected `words`, `patterns` or both"));
        }
        if self.patterns.len() > RULES_MAX {
            return Err(fail("patterns", format!("at most {RULES_MAX} are possible")));
        }
        let mut seekers = Vec::new();
        if !self.words.is_empty() {
            let words = Seeker::words(&self.words, self.whole_words);
            seekers.push(words.map_err(|problem| fail("words", problem))?);
        }
        let limit = Seeker::match_limit(self.max_bytes.unwrap_or(PATTERN_MATCH_BYTES));
        let limit = limit.map_err(|problem| fail("max_bytes", problem))?;
        for (idx, pattern) in self.patterns.iter().enumerate() {
            let pattern = Seeker::pattern(pattern, limit);
            seekers.push(pattern.map_err(|problem| fail(&format!("patterns[{idx}]"), problem))?);
        }
        Ok(seekers)
    }
}

/// How far a text has been looked at.
#[derive(Debug)]
struct State {
    /// How far it has gone out, or been masked.
    done: usize,
    /// How far each seeker is.
    cursors: Vec<usize>,
    blocked_by: Option<Arc<str>>,
    masked: bool,
    found: Found,
}

impl State {
    fn new(guard: &Guard) -> Self {
        Self {
            done: 0,
            cursors: vec![0; guard.seekers.len()],
            blocked_by: None,
            masked: false,
            found: Found::default(),
        }
    }

    /// Looks at `text` as far as all rules can decide, and gives that to `out`.
    fn advance(&mut self, guard: &Guard, text: &str, open: bool, out: &mut String) {
        let decided = guard.seekers.iter().map(|(_, seeker)| seeker.decided(text, open));
        let decided = decided.min().unwrap_or(text.len());
        let mut hits: Vec<(usize, usize, usize)> = Vec::new();
        for ((rule, seeker), cursor) in guard.seekers.iter().zip(&mut self.cursors) {
            while let Next::Found((start, end)) = seeker.next(text, *cursor, open) {
                if start >= decided {
                    break;
                }
                hits.push((start, end, *rule));
                *cursor = end;
                if guard.rules[*rule].1 == GuardAction::Block {
                    break;
                }
            }
            *cursor = (*cursor).max(decided);
        }
        hits.sort_unstable();
        for (start, end, rule) in hits {
            let (name, action) = &guard.rules[rule];
            self.found.add(name);
            match action {
                GuardAction::Flag => {}
                GuardAction::Mask => {
                    if start >= self.done {
                        out.push_str(&text[self.done..start]);
                        out.push_str(MASK);
                    }
                    self.done = self.done.max(end);
                    self.masked = true;
                }
                GuardAction::Block => {
                    out.push_str(text.get(self.done..start).unwrap_or_default());
                    self.blocked_by = Some(Arc::clone(name));
                    self.done = text.len();
                    return;
                }
            }
        }
        if decided > self.done {
            out.push_str(&text[self.done..decided]);
            self.done = decided;
        }
    }
}

/// Guards a stream of text: one choice of an answer.
pub struct StreamGuard {
    guard: Arc<Guard>,
    text: String,
    state: State,
}

/// Without the text, which is nobody's to log.
impl fmt::Debug for StreamGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamGuard")
            .field("held_bytes", &self.held_bytes())
            .finish_non_exhaustive()
    }
}

impl StreamGuard {
    /// For one stream.
    pub fn new(guard: Arc<Guard>) -> Self {
        Self {
            state: State::new(&guard),
            guard,
            text: String::new(),
        }
    }

    /// Takes the next piece; gives what can go out. Once blocked, nothing does.
    pub fn push(&mut self, piece: &str) -> Passed {
        if self.guard.is_empty() {
            return Passed {
                text: piece.to_owned(),
                blocked_by: None,
            };
        }
        if self.state.blocked_by.is_none() {
            self.text.push_str(piece);
        }
        self.advance(true)
    }

    /// The stream has ended: the rest.
    pub fn finish(&mut self) -> Passed {
        self.advance(false)
    }

    /// The rule that blocked the stream.
    pub fn blocked_by(&self) -> Option<&Arc<str>> {
        self.state.blocked_by.as_ref()
    }

    /// How often each rule found something up to now.
    pub fn found(&self) -> &Found {
        &self.state.found
    }

    /// Has something been masked so far?
    pub fn has_masked(&self) -> bool {
        self.state.masked
    }

    /// How many bytes wait.
    pub fn held_bytes(&self) -> usize {
        self.text.len().saturating_sub(self.state.done)
    }

    fn advance(&mut self, open: bool) -> Passed {
        let mut text = String::new();
        if self.state.blocked_by.is_none() {
            self.state.advance(&self.guard, &self.text, open, &mut text);
        }
        let least = self.state.cursors.iter().copied().min().unwrap_or(0);
        let keep = self.state.done.min(least).saturating_sub(KEEP_BYTES);
        if keep > COMPACT_BYTES {
            let keep = self.text.floor_char_boundary(keep);
            self.text.drain(..keep);
            self.state.done -= keep;
            for cursor in &mut self.state.cursors {
                *cursor -= keep;
            }
        }
        Passed {
            text,
            blocked_by: self.state.blocked_by.clone(),
        }
    }
}
