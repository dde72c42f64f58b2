//! Guardrails, checked.

use super::compile::Faults;
use super::document::{self, GuardAction, GuardOn};
use super::snapshot::Guardrail;
use llm::guard::Guard;
use llm::pii::{Rule, Scrubber, Side};
use std::sync::Arc;

pub(super) fn read(one: &document::Guardrail, path: &str, faults: &mut Faults) -> Guardrail {
    if one.words.is_empty() && one.patterns.is_empty() && one.pii.is_empty() {
        faults.add(
            path.to_owned(),
            "expected at least one of words, patterns, pii".to_owned(),
        );
    }
    let on = one.on.unwrap_or_default();
    Guardrail {
        name: one.name.as_str().into(),
        guard: guard(one, path, faults),
        scrub_request: scrubber(one, Side::Request, on != GuardOn::Answer, path, faults),
        scrub_answer: scrubber(one, Side::Response, on != GuardOn::Request, path, faults),
        on,
    }
}

fn guard(one: &document::Guardrail, path: &str, faults: &mut Faults) -> Option<Arc<Guard>> {
    if one.words.is_empty() && one.patterns.is_empty() {
        return None;
    }
    let action = match one.action.unwrap_or_default() {
        GuardAction::Block => llm::guard::GuardAction::Block,
        GuardAction::Mask => llm::guard::GuardAction::Mask,
        GuardAction::Flag => llm::guard::GuardAction::Flag,
    };
    match Guard::compile(&one.name, &one.words, &one.patterns, action, path) {
        Ok(guard) => Some(Arc::new(guard)),
        Err(error) => {
            faults.add(error.field, error.problem);
            None
        }
    }
}

fn scrubber(
    one: &document::Guardrail,
    side: Side,
    looks: bool,
    path: &str,
    faults: &mut Faults,
) -> Option<Arc<Scrubber>> {
    if one.pii.is_empty() {
        return None;
    }
    let mut rules: Vec<Rule> = Vec::new();
    for (idx, rule) in one.pii.iter().enumerate() {
        match serde_json::from_value(rule.clone().into()) {
            Ok(rule) => rules.push(rule),
            // Each side reads the same rules: once is enough.
            Err(error) if side == Side::Request => {
                faults.add(format!("{path}.pii[{idx}]"), error.to_string());
            }
            Err(_) => {}
        }
    }
    match Scrubber::compile(&rules, side, &format!("{path}.pii")) {
        Ok(scrubber) => Some(Arc::new(scrubber)).filter(|scrubber| looks && !scrubber.is_empty()),
        Err(error) => {
            if side == Side::Request {
                faults.add(error.field, error.problem);
            }
            None
        }
    }
}
