//! Texts in, scrubbed texts out: whole, or as a stream.

use super::json::FieldTarget;
use super::rules::RuleOfKind;
use super::scan::{self, Next};
use super::seek::Seeker;
use super::view::{LOOK_AHEAD_BYTES, LOOK_BEHIND_BYTES};
use super::{Kind, Kinds, Vault};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Scrubbed text of a stream that is kept for the sake of what follows is cut off in steps of this.
const COMPACT_BYTES: usize = 4096;

/// Rules, compiled. Made by [`Scrubber::compile`].
#[derive(Debug, Default)]
pub struct Scrubber {
    pub(super) rules: Vec<CompiledRule>,
    pub(super) kinds: Kinds,
    pub(super) rule_of_kind: RuleOfKind,
    pub(super) seekers: Vec<(usize, Seeker)>,
    pub(super) fields: Vec<(usize, FieldTarget)>,
}

/// What a rule does.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(super) label: Arc<str>,
    pub(super) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    Mask { keep_last: usize },
    Replace(String),
    Reversible,
    Truncate { keep_first: usize },
    Shuffle,
}

/// A place that a rule holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Where it begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// The number of the rule among those of this side.
    pub rule: usize,
    /// Its kind; none if it is an operator's own.
    pub kind: Option<Kind>,
}

/// How many places were found, by label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    counts: BTreeMap<Arc<str>, u64>,
    too_deep: u64,
}

impl Found {
    /// Counts one.
    pub(crate) fn add(&mut self, label: &Arc<str>) {
        *self.counts.entry(Arc::clone(label)).or_insert(0) += 1;
    }

    /// Adds those of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (label, count) in &other.counts {
            *self.counts.entry(Arc::clone(label)).or_insert(0) += count;
        }
        self.too_deep += other.too_deep;
    }

    /// How many values of JSON were cut off because they nested too deep to look into.
    pub fn too_deep(&self) -> u64 {
        self.too_deep
    }

    pub(crate) fn cut_too_deep(&mut self) {
        self.too_deep += 1;
    }

    /// Each label and how many there were, in the order of labels.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(label, count)| (&**label, *count))
    }

    /// How many of `label`.
    pub fn count(&self, label: &str) -> u64 {
        self.counts.get(label).copied().unwrap_or(0)
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

impl Scrubber {
    /// Has it no rule?
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// How many bytes of a stream wait at most.
    pub fn hold_max_bytes(&self) -> usize {
        let kinds = if self.kinds.is_empty() {
            0
        } else {
            LOOK_AHEAD_BYTES
        };
        let seekers = self.seekers.iter().map(|(_, seeker)| seeker.hold_max_bytes() + 4);
        seekers.max().unwrap_or(0).max(kinds)
    }

    /// Everything the rules hold for, in order and without overlaps.
    pub fn find(&self, text: &str) -> Vec<Match> {
        let mut search = Search::new(self, text, "", 0, false);
        std::iter::from_fn(|| match search.next() {
            Next::Found(found) => Some(found),
            Next::Clear(_) => None,
        })
        .collect()
    }

    /// The text with everything the rules hold for done with as they say, and how much that was.
    pub fn scrub(&self, text: &str, vault: &mut Vault) -> (String, Found) {
        let (mut out, mut found) = (String::with_capacity(text.len()), Found::default());
        self.scrub_within(text, "", vault, &mut out, &mut found);
        (out, found)
    }

    /// Scrubs a text before which there are the words `context`.
    pub(super) fn scrub_within(
        &self,
        text: &str,
        context: &str,
        vault: &mut Vault,
        out: &mut String,
        found: &mut Found,
    ) {
        self.drain(Search::new(self, text, context, 0, false), vault, out, found);
    }

    /// The rule for the whole of `text`, if there is one.
    pub(super) fn all_of(&self, text: &str, context: &str) -> Option<usize> {
        match Search::new(self, text, context, 0, false).next() {
            Next::Found(found) if found.start == 0 && found.end == text.len() => Some(found.rule),
            _ => None,
        }
    }

    /// Scrubs as far as is decided, and says how far that is.
    fn drain(&self, mut search: Search<'_>, vault: &mut Vault, out: &mut String, found: &mut Found) -> usize {
        let (text, mut copied) = (search.text, search.at);
        loop {
            match search.next() {
                Next::Found(place) => {
                    out.push_str(&text[copied..place.start]);
                    self.apply(place.rule, &text[place.start..place.end], vault, out, found);
                    copied = place.end;
                }
                Next::Clear(up_to) => {
                    out.push_str(&text[copied..up_to]);
                    return up_to;
                }
            }
        }
    }

    /// Does with `value` what the rule says.
    pub(super) fn apply(
        &self,
        rule: usize,
        value: &str,
        vault: &mut Vault,
        out: &mut String,
        found: &mut Found,
    ) {
        let CompiledRule { label, action } = &self.rules[rule];
        found.add(label);
        match action {
            Action::Mask { keep_last: 0 } => mask(label, out),
            Action::Mask { keep_last } => {
                let chars: Vec<char> = value.chars().filter(|c| c.is_alphanumeric()).collect();
                out.push_str("****");
                out.extend(&chars[chars.len() - (*keep_last).min(chars.len() / 2)..]);
            }
            Action::Replace(text) => out.push_str(text),
            Action::Reversible => match vault.token(label, value) {
                Some(token) => out.push_str(&token),
                None => mask(label, out),
            },
            Action::Truncate { keep_first } => out.extend(value.chars().take(*keep_first)),
            Action::Shuffle => out.push_str(&vault.shuffled(value)),
        }
    }
}

fn mask(label: &str, out: &mut String) {
    out.push('[');
    out.push_str(label);
    out.push(']');
}

/// A walk over a text. Each finder and seeker is asked again only once its last answer is behind.
struct Search<'a> {
    scrubber: &'a Scrubber,
    text: &'a str,
    context: &'a str,
    open: bool,
    at: usize,
    kinds: Option<Next<Match>>,
    seekers: Vec<Option<Next<Match>>>,
}

impl<'a> Search<'a> {
    fn new(scrubber: &'a Scrubber, text: &'a str, context: &'a str, at: usize, open: bool) -> Self {
        Self {
            scrubber,
            text,
            context,
            open,
            at,
            kinds: None,
            seekers: vec![None; scrubber.seekers.len()],
        }
    }

    /// The next match, or how far there is none.
    fn next(&mut self) -> Next<Match> {
        let Self {
            scrubber,
            text,
            context,
            open,
            at,
            ..
        } = *self;
        let behind = |last: &Option<Next<Match>>| match last {
            None => true,
            Some(Next::Found(found)) => found.start < at,
            Some(Next::Clear(_)) => false,
        };
        let (mut best, mut clear) = (None::<Match>, usize::MAX);
        let mut weigh = |next: Next<Match>| match next {
            Next::Found(found) if best.is_none_or(|best| found.start < best.start) => best = Some(found),
            Next::Found(_) => {}
            Next::Clear(up_to) => clear = clear.min(up_to),
        };
        for ((rule, seeker), last) in scrubber.seekers.iter().zip(&mut self.seekers) {
            if behind(last) {
                *last = Some(match seeker.next(text, at, open) {
                    Next::Found((start, end)) => Next::Found(Match {
                        start,
                        end,
                        rule: *rule,
                        kind: None,
                    }),
                    Next::Clear(up_to) => Next::Clear(up_to),
                });
            }
            last.map(&mut weigh);
        }
        if behind(&self.kinds) {
            self.kinds = Some(match scan::next(scrubber.kinds, text, context, at, open) {
                Next::Found(place) => Next::Found(Match {
                    start: place.start,
                    end: place.end,
                    rule: scrubber.rule_of_kind.get(place.kind),
                    kind: Some(place.kind),
                }),
                Next::Clear(up_to) => Next::Clear(up_to),
            });
        }
        self.kinds.map(&mut weigh);
        let clear = clear.min(text.len());
        match best {
            Some(found) if found.start < clear => {
                self.at = found.end;
                Next::Found(found)
            }
            _ => Next::Clear(clear.max(at)),
        }
    }
}

/// Scrubs a stream: the same text as [`Scrubber::scrub`] of the whole, wherever it is cut. Holds back
/// [`Scrubber::hold_max_bytes`] at most. Text is held in memory only as long as needed.
pub struct StreamScrubber {
    scrubber: Arc<Scrubber>,
    /// What waits, after what was given out already and may still be looked back at.
    text: String,
    done: usize,
    found: Found,
}

/// Without the text, which is nobody's to log.
impl fmt::Debug for StreamScrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamScrubber")
            .field("held_bytes", &self.held_bytes())
            .finish_non_exhaustive()
    }
}

impl StreamScrubber {
    /// For one stream of text: one choice of an answer.
    pub fn new(scrubber: Arc<Scrubber>) -> Self {
        Self {
            scrubber,
            text: String::new(),
            done: 0,
            found: Found::default(),
        }
    }

    /// Takes the next piece; gives what can go out.
    pub fn push(&mut self, piece: &str, vault: &mut Vault) -> String {
        if self.scrubber.is_empty() {
            return piece.to_owned();
        }
        self.text.push_str(piece);
        self.advance(true, vault)
    }

    /// The stream has ended: the rest.
    pub fn finish(&mut self, vault: &mut Vault) -> String {
        let out = self.advance(false, vault);
        self.text.clear();
        self.done = 0;
        out
    }

    /// What has been found up to now.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// How many bytes wait.
    pub fn held_bytes(&self) -> usize {
        self.text.len() - self.done
    }

    fn advance(&mut self, open: bool, vault: &mut Vault) -> String {
        let mut out = String::new();
        let scrubber = Arc::clone(&self.scrubber);
        let search = Search::new(&scrubber, &self.text, "", self.done, open);
        self.done = scrubber.drain(search, vault, &mut out, &mut self.found);
        if self.done > COMPACT_BYTES {
            let keep = self.text.floor_char_boundary(self.done - LOOK_BEHIND_BYTES - 8);
            self.text.drain(..keep);
            self.done -= keep;
        }
        out
    }
}
