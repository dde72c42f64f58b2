//! Rules as operators write them, checked and compiled.

use super::json::FieldTarget;
use super::scrub::{Action, CompiledRule, Scrubber};
use super::seek::{PATTERN_MATCH_BYTES, Seeker};
use super::{Kind, Kinds};
use serde::{Deserialize, Serialize};

/// How many rules there may be.
const RULES_MAX: usize = 1000;
/// The longest name in a mask or token.
pub(crate) const LABEL_MAX_BYTES: usize = 32;
/// The most characters that a mask or truncation keeps.
const KEEP_MAX: usize = 64;

/// What to look for, and what to do with it. Exactly one of `kind`, `regex`, `keywords` and `json_path`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A kind that Weir knows how to find.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// A pattern, in the syntax of the Rust crate `regex`: linear time, no back references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// Words, in any case, found as words of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keywords: Option<Vec<String>>,
    /// A place in JSON documents, such as `customer.cards[*].number`: all that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_path: Option<String>,
    /// What to do.
    #[serde(default)]
    pub action: ActionName,
    /// For `mask`: how many of the last letters and digits stay, as in `****1234`; never more than half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<usize>,
    /// For `truncate`: how many characters stay. 0 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_first: Option<usize>,
    /// For `replace`: the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The name in masks, tokens and counts: capitals, digits, `_`. By default that of the kind, else
    /// `CUSTOM`, `KEYWORD` or `FIELD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// For `regex`: the longest match in bytes, which is also what a stream is held back by. 128 if not
    /// given, 1024 at most. A longer match is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
    /// Where it holds.
    #[serde(default, rename = "in")]
    pub side: Side,
}

/// What is done with what is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionName {
    /// `[EMAIL]`, or the last characters of it.
    #[default]
    Mask,
    /// A fixed text.
    Replace,
    /// A token such as `[EMAIL_1]`, which becomes the original again in the answer.
    Reversible,
    /// The first characters stay.
    Truncate,
    /// Letters and digits change places among themselves, by the vault's seed.
    Shuffle,
}

/// Which way a text goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// To the provider or service.
    Request,
    /// From it.
    #[serde(alias = "answer")]
    Response,
    /// Either way.
    #[default]
    Both,
}

impl Side {
    /// Does a rule for `self` hold on `side`?
    pub fn covers(self, side: Self) -> bool {
        self == Self::Both || side == Self::Both || self == side
    }
}

/// A rule that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {problem}")]
pub struct RuleError {
    /// Where it is, such as `pii[2].regex`.
    pub field: String,
    /// What is wrong, and what was expected.
    pub problem: String,
}

impl RuleError {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

impl Scrubber {
    /// Compiles the rules that hold on `side`; all are checked. `field` is what the list is called in
    /// the document it is from, for errors.
    ///
    /// # Errors
    /// The first rule that cannot be used.
    pub fn compile(rules: &[Rule], side: Side, field: &str) -> Result<Self, RuleError> {
        if rules.len() > RULES_MAX {
            let problem = format!("at most {RULES_MAX} rules are possible, not {}", rules.len());
            return Err(RuleError::new(field, problem));
        }
        let mut scrubber = Self::default();
        for (idx, rule) in rules.iter().enumerate() {
            let compiled = Compiled::new(rule, &format!("{field}[{idx}]"))?;
            if rule.side.covers(side) {
                scrubber.add(compiled.rule, compiled.target);
            }
        }
        Ok(scrubber)
    }

    fn add(&mut self, rule: CompiledRule, target: Target) {
        let number = self.rules.len();
        self.rules.push(rule);
        match target {
            Target::Field(field) => self.fields.push((number, field)),
            Target::Kind(kind) => {
                for &part in kind.parts() {
                    if !self.kinds.has(part) {
                        self.kinds.insert(part);
                        self.rule_of_kind.insert(part, number);
                    }
                }
            }
            Target::Seeker(seeker) => self.seekers.push((number, seeker)),
        }
    }
}

/// What a rule looks for.
enum Target {
    Kind(Kind),
    Seeker(Seeker),
    Field(FieldTarget),
}

struct Compiled {
    rule: CompiledRule,
    target: Target,
}

impl Compiled {
    fn new(rule: &Rule, field: &str) -> Result<Self, RuleError> {
        let fail = |name: &str, problem: String| RuleError::new(format!("{field}.{name}"), problem);
        let named = [
            rule.kind.is_some(),
            rule.regex.is_some(),
            rule.keywords.is_some(),
            rule.json_path.is_some(),
        ];
        if named.iter().filter(|&&named| named).count() != 1 {
            let problem = "expected exactly one of `kind`, `regex`, `keywords` and `json_path`";
            return Err(RuleError::new(field, problem));
        }
        if rule.max_bytes.is_some() && rule.regex.is_none() {
            return Err(fail("max_bytes", "is for `regex` only: remove it".to_owned()));
        }
        let (target, label) = if let Some(pattern) = &rule.regex {
            let limit = Seeker::match_limit(rule.max_bytes.unwrap_or(PATTERN_MATCH_BYTES));
            let limit = limit.map_err(|problem| fail("max_bytes", problem))?;
            let seeker = Seeker::pattern(pattern, limit).map_err(|problem| fail("regex", problem))?;
            (Target::Seeker(seeker), "CUSTOM")
        } else if let Some(words) = &rule.keywords {
            let seeker = Seeker::words(words, true).map_err(|problem| fail("keywords", problem))?;
            (Target::Seeker(seeker), "KEYWORD")
        } else if let Some(path) = &rule.json_path {
            let target = FieldTarget::path(path, &format!("{field}.json_path"))?;
            (Target::Field(target), "FIELD")
        } else {
            let kind = rule.kind.unwrap_or(Kind::Email);
            let target = match kind {
                Kind::Name => Target::Field(FieldTarget::Name),
                Kind::Amount => Target::Field(FieldTarget::Amount),
                Kind::Date => Target::Field(FieldTarget::Date),
                _ => Target::Kind(kind),
            };
            (target, kind.label())
        };
        let label = rule.label.as_deref().unwrap_or(label);
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if label.is_empty() || label.len() > LABEL_MAX_BYTES || !label.bytes().all(plain) {
            let problem = format!(
                "expected 1 to {LABEL_MAX_BYTES} of A-Z, 0-9 and `_`, as in `EMPLOYEE_ID`, not `{label}`"
            );
            return Err(fail("label", problem));
        }
        let action = action(rule, field)?;
        Ok(Self {
            rule: CompiledRule {
                label: label.into(),
                action,
            },
            target,
        })
    }
}

fn action(rule: &Rule, field: &str) -> Result<Action, RuleError> {
    let fail = |name: &str, problem: &str| Err(RuleError::new(format!("{field}.{name}"), problem));
    let of = |wanted: ActionName| rule.action == wanted;
    if rule.keep_last.is_some() && !of(ActionName::Mask) {
        return fail("keep_last", "is for the action `mask` only: remove it");
    }
    if rule.keep_first.is_some() && !of(ActionName::Truncate) {
        return fail("keep_first", "is for the action `truncate` only: remove it");
    }
    if rule.text.is_some() != of(ActionName::Replace) {
        return fail("text", "the action `replace` needs it, and no other has it");
    }
    if rule.keep_last.is_some_and(|keep| keep > KEEP_MAX) {
        return fail("keep_last", "expected 0 to 64");
    }
    if rule.keep_first.is_some_and(|keep| keep > KEEP_MAX) {
        return fail("keep_first", "expected 0 to 64");
    }
    Ok(match rule.action {
        ActionName::Mask => Action::Mask {
            keep_last: rule.keep_last.unwrap_or(0),
        },
        ActionName::Replace => Action::Replace(rule.text.clone().unwrap_or_default()),
        ActionName::Reversible => Action::Reversible,
        ActionName::Truncate => Action::Truncate {
            keep_first: rule.keep_first.unwrap_or(0),
        },
        ActionName::Shuffle => Action::Shuffle,
    })
}

#[derive(Clone, Debug, Default)]
pub(crate) struct RuleOfKind([u16; 32]);

impl RuleOfKind {
    fn insert(&mut self, kind: Kind, rule: usize) {
        self.0[kind as usize] = u16::try_from(rule).unwrap_or(u16::MAX);
    }

    pub(crate) fn get(&self, kind: Kind) -> usize {
        usize::from(self.0[kind as usize])
    }
}

const _: () = assert!(RULES_MAX < u16::MAX as usize);
const _: () = assert!(size_of::<Kinds>() == 4);
