//! What could come next in an unfinished filter, for shells and for the terminal view.

use super::LENGTH_MAX;
use super::fields::{Field, FieldInfo, FieldType, fields};
use super::lex::{Token, TokenKind, tokens};
use super::parse::{Keyword, Operator, keyword, operator, shorthand};

/// One way to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Where in the input the unfinished word begins; its length where a new word begins.
    pub start: usize,
    /// What to put from `start` on.
    pub text: String,
    /// One sentence on it, for the help beside the choice.
    pub doc: &'static str,
}

/// Where in the grammar the input ends.
#[derive(Clone, Copy)]
enum State {
    /// A test begins.
    Field,
    /// Behind a field.
    Operator(&'static FieldInfo),
    /// Behind `not` behind a field.
    NotIn(&'static FieldInfo),
    /// Behind an operator.
    Value(&'static FieldInfo, Operator),
    /// Between the braces of a list.
    Item(&'static FieldInfo),
    /// Behind a whole test.
    Joint,
}

/// Completions of the last word of `input`, in the order to show them. Empty where nothing is known
/// to fit: behind a mistake, within quotes, or where a value can be anything.
#[must_use]
pub fn complete(input: &str) -> Vec<Completion> {
    if input.len() > LENGTH_MAX {
        return Vec::new();
    }
    let Ok(mut tokens) = tokens(input) else {
        return Vec::new();
    };
    tokens.retain(|token| token.kind != TokenKind::End);
    // A word that ends with the input may go on.
    let (partial, start) = match tokens.last() {
        Some(Token {
            kind: TokenKind::Word(word),
            span,
        }) if span.end == input.len() => (word.clone(), span.start),
        _ => (String::new(), input.len()),
    };
    if start < input.len() {
        tokens.pop();
    }
    let mut open = 0_usize;
    let mut state = State::Field;
    for token in &tokens {
        match step(state, token, &mut open) {
            Some(next) => state = next,
            None => return Vec::new(),
        }
    }
    let partial = partial.to_ascii_lowercase();
    choices(state, &partial, open)
        .into_iter()
        .filter(|(text, _)| text.to_ascii_lowercase().starts_with(&partial))
        .map(|(text, doc)| Completion {
            start,
            text: text.to_owned(),
            doc,
        })
        .collect()
}

/// Where the grammar is after `token`, or `None` where it does not fit.
fn step(state: State, token: &Token, open: &mut usize) -> Option<State> {
    let word = keyword(&token.kind);
    Some(match (state, &token.kind) {
        (State::Field, _) if word == Some(Keyword::Not) => State::Field,
        (State::Field, TokenKind::Open) => {
            *open += 1;
            State::Field
        }
        (State::Field, TokenKind::Word(name)) => match Field::by_name(name) {
            Some(field) => State::Operator(field.info()),
            None => shorthand(name).map(|_| State::Joint)?,
        },
        (State::Operator(info), _) if word == Some(Keyword::Not) => State::NotIn(info),
        (State::Operator(info), kind) if operator(kind).is_some() => State::Value(info, operator(kind)?),
        (State::NotIn(info), kind) if operator(kind) == Some(Operator::In) => {
            State::Value(info, Operator::NotIn)
        }
        (State::Operator(_) | State::Joint, TokenKind::Close) => {
            *open = open.checked_sub(1)?;
            State::Joint
        }
        (State::Operator(_) | State::Joint, _) if matches!(word, Some(Keyword::And | Keyword::Or)) => {
            State::Field
        }
        (State::Value(info, _), TokenKind::OpenBrace) => State::Item(info),
        (State::Value(..), TokenKind::Word(_) | TokenKind::Quoted(_)) => State::Joint,
        (State::Item(info), TokenKind::Word(_) | TokenKind::Quoted(_) | TokenKind::Comma) => {
            State::Item(info)
        }
        (State::Item(_), TokenKind::CloseBrace) => State::Joint,
        _ => return None,
    })
}

fn choices(state: State, partial: &str, open: usize) -> Vec<(&'static str, &'static str)> {
    match state {
        State::Field => {
            let field = |info: &'static FieldInfo| {
                // An alias is offered only to those who began to write it.
                let canonical = info.name.starts_with(partial);
                let name = info.names().find(|name| canonical || name.starts_with(partial));
                name.map(|name| (name, info.doc))
            };
            fields()
                .iter()
                .filter_map(field)
                .chain([("not", "The test that follows does not hold.")])
                .collect()
        }
        State::Operator(info) => {
            let operators = info
                .operators()
                .iter()
                .map(|operator| (*operator, operator_doc(operator)));
            operators.chain(joints(open)).collect()
        }
        State::NotIn(_) => vec![("in", operator_doc("not in"))],
        State::Value(info, operator) => {
            let mut out = values(info);
            if matches!(operator, Operator::In | Operator::NotIn) {
                out.push(("{", "A list of values."));
            }
            out
        }
        State::Item(info) => values(info),
        State::Joint => joints(open).collect(),
    }
}

fn joints(open: usize) -> impl Iterator<Item = (&'static str, &'static str)> {
    let close = (open > 0).then_some((")", "The group ends."));
    [("and", "Both hold."), ("or", "At least one holds.")]
        .into_iter()
        .chain(close)
}

fn operator_doc(operator: &str) -> &'static str {
    match operator {
        "==" => "Equal.",
        "!=" => "There, and not equal.",
        "<" => "Less.",
        "<=" => "Less or equal.",
        ">" => "Greater.",
        ">=" => "Greater or equal.",
        "in" => "In a network, a range or a list.",
        "not in" => "There, and not in a network, a range or a list.",
        "contains" => "Holds this somewhere.",
        "startswith" => "Begins with this.",
        "endswith" => "Ends with this.",
        "matches" => "Fits a pattern of `*` and `?`.",
        _ => "",
    }
}

/// Values that the table knows for a field.
fn values(info: &'static FieldInfo) -> Vec<(&'static str, &'static str)> {
    match info.field_type {
        FieldType::Number { names, .. } => names.iter().map(|(name, _)| (*name, info.doc)).collect(),
        FieldType::Text { known, .. } => known.iter().map(|name| (*name, info.doc)).collect(),
        FieldType::Bool => vec![("true", info.doc), ("false", info.doc)],
        FieldType::TcpFlags => ["S", "SA", "A", "FA", "R", "RA"]
            .into_iter()
            .map(|flags| (flags, info.doc))
            .collect(),
        FieldType::Address | FieldType::Mac => Vec::new(),
    }
}
