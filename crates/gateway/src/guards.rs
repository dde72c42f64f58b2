//! What guardrails do to texts: words and patterns block, mask or are noted; personal data is scrubbed,
//! and what was scrubbed reversibly is put back into the answer.

use llm::canonical::{Part, PartKind, Request};
use llm::guard::{self, Guard, StreamGuard};
use llm::pii::{Scrubber, StreamRestorer, StreamScrubber, Vault};
use policy::gateway::document::GuardOn;
use policy::gateway::snapshot::Guardrail;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::calls::{CallRecord, Guard as GuardRecord};

/// What became of a text.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It goes on, perhaps changed.
    Pass(String),
    /// The guardrail of this name ends the call.
    Block(String),
}

/// What the guardrails of one call have found so far, shared by its parts.
#[derive(Debug, Default)]
struct Findings {
    pii_in: u64,
    pii_out: u64,
    flagged: bool,
    changed: bool,
    blocked: bool,
    vault: Vault,
}

/// The guardrails of one call.
#[derive(Clone, Debug)]
pub(crate) struct Guards {
    rails: Vec<Arc<Guardrail>>,
    found: Arc<Mutex<Findings>>,
}

fn looks_at(rail: &Guardrail, on: GuardOn) -> bool {
    rail.on == on || rail.on == GuardOn::Both
}

fn scrubber(rail: &Guardrail, on: GuardOn) -> Option<&Arc<Scrubber>> {
    if on == GuardOn::Answer {
        rail.scrub_answer.as_ref()
    } else {
        rail.scrub_request.as_ref()
    }
}

fn word_guard(rail: &Guardrail, on: GuardOn) -> Option<&Arc<Guard>> {
    rail.guard.as_ref().filter(|_| looks_at(rail, on))
}

thread_local! {
    /// Of all calls without guardrails, which find nothing.
    static NOTHING: Arc<Mutex<Findings>> = Arc::default();
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            rails: Vec::new(),
            found: NOTHING.with(Arc::clone),
        }
    }
}

impl Guards {
    /// Those that apply, each once.
    pub(crate) fn new<'a>(rails: impl Iterator<Item = &'a Arc<Guardrail>>, seed: u64) -> Self {
        let mut out: Vec<Arc<Guardrail>> = Vec::new();
        for rail in rails {
            if !out.iter().any(|other| Arc::ptr_eq(other, rail)) {
                out.push(Arc::clone(rail));
            }
        }
        if out.is_empty() {
            return Self::default();
        }
        let findings = Findings {
            vault: Vault::new(seed),
            ..Findings::default()
        };
        Self {
            rails: out,
            found: Arc::new(Mutex::new(findings)),
        }
    }

    fn found(&self) -> MutexGuard<'_, Findings> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_at(&self, on: GuardOn) -> bool {
        let mut rails = self.rails.iter();
        rails.any(|rail| word_guard(rail, on).is_some() || scrubber(rail, on).is_some())
    }

    /// Does one look at requests?
    pub(crate) fn look_at_requests(&self) -> bool {
        self.look_at(GuardOn::Request)
    }

    /// Does one look at answers, or must something be put back into them?
    pub(crate) fn look_at_answers(&self) -> bool {
        self.look_at(GuardOn::Answer) || (!self.rails.is_empty() && !self.found().vault.is_empty())
    }

    /// Looks at every text of a request, and changes it.
    ///
    /// # Errors
    /// The name of the guardrail that blocks it.
    pub(crate) fn request(&self, request: &mut Request) -> Result<(), String> {
        let mut found = self.found();
        for message in &mut request.messages {
            self.parts(&mut message.parts, &mut found)?;
        }
        Ok(())
    }

    fn parts(&self, parts: &mut [Part], found: &mut Findings) -> Result<(), String> {
        for part in parts {
            match &mut part.kind {
                PartKind::Text(text) | PartKind::ToolCall { arguments: text, .. } => {
                    self.text(text, found, GuardOn::Request)?;
                }
                PartKind::ToolResult { parts, .. } => self.parts(parts, found)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn text(&self, text: &mut String, found: &mut Findings, on: GuardOn) -> Result<(), String> {
        for rail in &self.rails {
            if let Some(guard) = word_guard(rail, on) {
                match guard.check(text) {
                    guard::Verdict::Pass => {}
                    guard::Verdict::Block { .. } => {
                        found.blocked = true;
                        return Err(rail.name.to_string());
                    }
                    guard::Verdict::Mask { text: masked, .. } => {
                        found.changed = true;
                        *text = masked;
                    }
                    guard::Verdict::Flag { .. } => found.flagged = true,
                }
            }
            if let Some(scrubber) = scrubber(rail, on) {
                let (scrubbed, counts) = scrubber.scrub(text, &mut found.vault);
                found.add(counts.total(), on);
                *text = scrubbed;
            }
        }
        Ok(())
    }

    /// Looks at every text of a JSON document, fields of the names in `skip` left out. Says whether it
    /// changed.
    ///
    /// # Errors
    /// The name of the guardrail that blocks it.
    pub(crate) fn json(&self, value: &mut Value, skip: &[&str], on: GuardOn) -> Result<bool, String> {
        let before = value.clone();
        let mut found = self.found();
        self.value(value, skip, on, &mut found)?;
        Ok(*value != before)
    }

    fn value(
        &self,
        value: &mut Value,
        skip: &[&str],
        on: GuardOn,
        found: &mut Findings,
    ) -> Result<(), String> {
        match value {
            Value::String(text) => self.text(text, found, on),
            Value::Array(items) => items
                .iter_mut()
                .try_for_each(|item| self.value(item, skip, on, found)),
            Value::Object(fields) => fields
                .iter_mut()
                .filter(|(name, _)| !skip.contains(&name.as_str()))
                .try_for_each(|(_, value)| self.value(value, skip, on, found)),
            _ => Ok(()),
        }
    }

    /// Looks at one whole text of an answer, and puts back what was taken out of the request.
    ///
    /// # Errors
    /// The name of the guardrail that blocks it.
    pub(crate) fn answer_text(&self, text: &mut String) -> Result<(), String> {
        let mut found = self.found();
        self.text(text, &mut found, GuardOn::Answer)?;
        if !found.vault.is_empty() {
            *text = found.vault.restore(text);
        }
        Ok(())
    }

    /// The same of a tool's arguments, which are a JSON document unless the model failed.
    ///
    /// # Errors
    /// The name of the guardrail that blocks it.
    pub(crate) fn answer_arguments(&self, text: &mut String) -> Result<(), String> {
        match serde_json::from_str(text) {
            Ok(mut value @ (Value::Object(_) | Value::Array(_))) => {
                if self.document(&mut value, GuardOn::Answer)? {
                    *text = value.to_string();
                }
                Ok(())
            }
            _ => self.answer_text(text),
        }
    }

    /// Does nothing apply?
    pub(crate) fn is_empty(&self) -> bool {
        self.rails.is_empty()
    }

    /// Was something refused?
    pub(crate) fn has_blocked(&self) -> bool {
        !self.rails.is_empty() && self.found().blocked
    }

    /// May a text go nowhere unless it was looked at? Not so if all that could be found is only noted.
    pub(crate) fn hold(&self, on: GuardOn) -> bool {
        let words = |rail: &Guardrail| word_guard(rail, on).is_some_and(|guard| guard.holds());
        self.rails
            .iter()
            .any(|rail| words(rail) || scrubber(rail, on).is_some())
    }

    /// Looks at one whole text of the side `on`; into an answer it puts back what was taken out of the
    /// request.
    ///
    /// # Errors
    /// The name of the guardrail that blocks it.
    pub(crate) fn whole_text(&self, text: &mut String, on: GuardOn) -> Result<(), String> {
        if on == GuardOn::Answer {
            return self.answer_text(text);
        }
        self.text(text, &mut self.found(), on)
    }

    /// Looks at a whole JSON document: words and patterns at each key, text and number, personal data also by
    /// field and path. Into an answer it puts back what was taken out of the request. Says whether the
    /// document changed.
    ///
    /// # Errors
    /// The name of the guardrail that blocks it.
    pub(crate) fn document(&self, value: &mut Value, on: GuardOn) -> Result<bool, String> {
        let before = value.clone();
        let mut found = self.found();
        let found = &mut *found;
        for rail in &self.rails {
            if let Some(guard) = word_guard(rail, on) {
                words_within(guard, rail, value, found)?;
            }
            if let Some(scrubber) = scrubber(rail, on) {
                let counts = scrubber.scrub_json(value, &[], &mut found.vault);
                found.add(counts.total() + counts.too_deep(), on);
            }
        }
        if on == GuardOn::Answer {
            found.vault.restore_json(value);
        }
        Ok(*value != before)
    }

    /// Writes what was found into the record.
    pub(crate) fn note(&self, record: &mut CallRecord) {
        if self.rails.is_empty() {
            return;
        }
        let found = self.found();
        record.pii_in = u32::try_from(found.pii_in).unwrap_or(u32::MAX);
        record.pii_out = u32::try_from(found.pii_out).unwrap_or(u32::MAX);
        if record.guard != GuardRecord::Blocked {
            record.guard = if found.blocked {
                GuardRecord::Blocked
            } else if found.changed {
                GuardRecord::Changed
            } else if found.flagged {
                GuardRecord::Noted
            } else {
                GuardRecord::Passed
            };
        }
    }
}

/// Words and patterns in every key, text and number. What is masked in a number makes it a text.
fn words_within(
    guard: &Guard,
    rail: &Guardrail,
    value: &mut Value,
    found: &mut Findings,
) -> Result<(), String> {
    let look = |text: &str, found: &mut Findings| match guard.check(text) {
        guard::Verdict::Pass => Ok(None),
        guard::Verdict::Block { .. } => {
            found.blocked = true;
            Err(rail.name.to_string())
        }
        guard::Verdict::Mask { text, .. } => {
            found.changed = true;
            Ok(Some(text))
        }
        guard::Verdict::Flag { .. } => {
            found.flagged = true;
            Ok(None)
        }
    };
    match value {
        Value::String(text) => {
            if let Some(masked) = look(text, found)? {
                *text = masked;
            }
        }
        Value::Number(number) => {
            if let Some(masked) = look(&number.to_string(), found)? {
                *value = Value::String(masked);
            }
        }
        Value::Array(items) => {
            for item in items {
                words_within(guard, rail, item, found)?;
            }
        }
        Value::Object(fields) => {
            for (key, mut value) in std::mem::take(fields) {
                words_within(guard, rail, &mut value, found)?;
                let key = look(&key, found)?.unwrap_or(key);
                let mut unique = key.clone();
                let mut number = 2;
                while fields.contains_key(&unique) {
                    unique = format!("{key} {number}");
                    number += 1;
                }
                fields.insert(unique, value);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    Ok(())
}

impl Findings {
    fn add(&mut self, n: u64, on: GuardOn) {
        self.changed |= n > 0;
        let count = if on == GuardOn::Answer {
            &mut self.pii_out
        } else {
            &mut self.pii_in
        };
        *count = count.saturating_add(n);
    }
}

/// The guardrails over one text of a stream. What may be the beginning of something found is held back.
#[derive(Debug)]
pub(crate) struct TextFilter {
    stages: Vec<Stage>,
    restorer: StreamRestorer,
    guards: Guards,
}

#[derive(Debug)]
enum Stage {
    Words(Arc<str>, StreamGuard),
    Personal(StreamScrubber, u64),
}

impl TextFilter {
    pub(crate) fn new(guards: &Guards) -> Self {
        let mut stages = Vec::new();
        for rail in &guards.rails {
            if let Some(guard) = word_guard(rail, GuardOn::Answer) {
                stages.push(Stage::Words(
                    Arc::clone(&rail.name),
                    StreamGuard::new(Arc::clone(guard)),
                ));
            }
            if let Some(scrubber) = scrubber(rail, GuardOn::Answer) {
                stages.push(Stage::Personal(StreamScrubber::new(Arc::clone(scrubber)), 0));
            }
        }
        Self {
            stages,
            restorer: StreamRestorer::default(),
            guards: guards.clone(),
        }
    }

    /// Takes the next piece; gives what can go out.
    pub(crate) fn push(&mut self, piece: &str) -> Verdict {
        self.run(piece, false)
    }

    /// The text has ended: the rest.
    pub(crate) fn finish(&mut self) -> Verdict {
        self.run("", true)
    }

    fn run(&mut self, piece: &str, ends: bool) -> Verdict {
        let mut found = self.guards.found.lock().unwrap_or_else(PoisonError::into_inner);
        let found = &mut *found;
        let mut text = piece.to_owned();
        for stage in &mut self.stages {
            match stage {
                Stage::Words(name, guard) => {
                    let mut out = guard.push(&text);
                    if ends && out.blocked_by.is_none() {
                        let rest = guard.finish();
                        out.text.push_str(&rest.text);
                        out.blocked_by = rest.blocked_by;
                    }
                    if out.blocked_by.is_some() {
                        found.blocked = true;
                        return Verdict::Block(name.to_string());
                    }
                    found.changed |= guard.has_masked();
                    found.flagged |= guard.found().total() > 0;
                    text = out.text;
                }
                Stage::Personal(scrubber, before) => {
                    let mut out = scrubber.push(&text, &mut found.vault);
                    if ends {
                        out.push_str(&scrubber.finish(&mut found.vault));
                    }
                    let total = scrubber.found().total();
                    found.add(total - *before, GuardOn::Answer);
                    *before = total;
                    text = out;
                }
            }
        }
        let mut out = self.restorer.push(&text, &found.vault);
        if ends {
            out.push_str(&self.restorer.finish());
        }
        Verdict::Pass(out)
    }
}
