//! Whether a field, an operator and values fit together, and the [`Matcher`] they make.

use super::ast::{Matcher, Ranges, Relation};
use super::error::{FilterError, Span, nearest, shown};
use super::fields::{Field, FieldInfo, FieldType};
use super::parse::Operator;
use super::value::{self, Literal, NumberRules};

/// What `info`'s field must be, and whether that is to be turned round.
pub(super) fn matcher(
    info: &'static FieldInfo,
    operator: Operator,
    operator_span: Span,
    values: &[Literal],
) -> Result<(bool, Matcher), FilterError> {
    let negated = matches!(operator, Operator::NotEqual | Operator::NotIn);
    let no_operator = |why: &str| {
        let hint = format!("operators here are {}", info.operators().join(" "));
        Err(FilterError::new(
            operator_span.clone(),
            format!("{} {why}", info.name),
            hint,
        ))
    };
    let is_membership = matches!(
        operator,
        Operator::Equal | Operator::NotEqual | Operator::In | Operator::NotIn
    );
    let matcher = match info.field_type {
        FieldType::Number { max, unit, names } => {
            let rules = NumberRules {
                info,
                max,
                unit,
                names,
            };
            match operator {
                // One value: lists are refused before an ordering.
                Operator::Order(order) => match values {
                    [literal] => Matcher::Number(order, rules.number(literal)?),
                    _ => return no_operator("is compared with one number"),
                },
                Operator::Text(_) => return no_operator("is a number, not text"),
                _ => Matcher::NumberIn(Ranges::new(each(values, |literal| rules.range(literal))?)),
            }
        }
        FieldType::Address if is_membership => Matcher::AddressIn(Ranges::new(each(values, |literal| {
            value::address_range(info, literal)
        })?)),
        FieldType::Address => return no_operator("is an address, and is not compared this way"),
        FieldType::Mac if is_membership => {
            Matcher::Mac(distinct(each(values, |literal| value::mac(info, literal))?))
        }
        FieldType::Mac => return no_operator("is a MAC address, and is not compared this way"),
        FieldType::TcpFlags => match (operator, values) {
            (Operator::Text(Relation::Contains), [literal]) => {
                Matcher::FlagsContain(value::tcp_flags(literal)?)
            }
            _ if is_membership => Matcher::Flags(distinct(each(values, value::tcp_flags)?)),
            _ => return no_operator("holds TCP flags, and is not compared this way"),
        },
        FieldType::Bool => match (operator, values) {
            (Operator::Equal, [literal]) => Matcher::Bool(value::boolean(info, literal)?),
            (Operator::NotEqual, [literal]) => {
                return Ok((false, Matcher::Bool(!value::boolean(info, literal)?)));
            }
            _ => return no_operator("is true or false, and is not compared this way"),
        },
        FieldType::Text {
            ignore_case,
            known,
            only_known,
        } => {
            let relation = match operator {
                Operator::Order(_) => return no_operator("is text, which has no order"),
                Operator::Text(relation) => relation,
                _ => Relation::Is,
            };
            let items = each(values, |literal| {
                check_text(info, relation, literal, if only_known { known } else { &[] })?;
                Ok(literal.text.clone())
            })?;
            Matcher::Text {
                relation,
                items: distinct(items),
                ignore_case,
            }
        }
    };
    Ok((negated, matcher))
}

/// Refuses texts that can never be equal. `known` is empty where any text may be.
fn check_text(
    info: &FieldInfo,
    relation: Relation,
    literal: &Literal,
    known: &[&str],
) -> Result<(), FilterError> {
    if relation != Relation::Is {
        return Ok(());
    }
    let text = literal.text.as_str();
    let wrong = |message: String, hint: String| Err(FilterError::new(literal.span.clone(), message, hint));
    if !known.is_empty() && !known.iter().any(|word| word.eq_ignore_ascii_case(text)) {
        let near = nearest(text, known.iter().copied());
        return wrong(
            format!("{} takes {}, not {}", info.name, info.takes(), shown(text)),
            near.map_or_else(
                || format!("for example `{}`", info.example),
                |near| format!("did you mean `{near}`?"),
            ),
        );
    }
    if !literal.quoted && text.contains(['*', '?']) {
        return wrong(
            format!(
                "`*` and `?` are patterns only after `matches`, and {} would be compared as it is",
                shown(text)
            ),
            format!(
                "write `{} matches {}`, or put the text in quotes",
                info.name,
                shown(text).trim_matches('`')
            ),
        );
    }
    let is_country = matches!(info.field, Field::Country | Field::SrcCountry | Field::DstCountry);
    if is_country && !(text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic())) {
        return wrong(
            format!(
                "{} takes a country code of two letters, not {}",
                info.name,
                shown(text)
            ),
            "codes are those of ISO 3166-1, as `DE` or `US`".to_owned(),
        );
    }
    Ok(())
}

fn each<T>(
    values: &[Literal],
    parse: impl Fn(&Literal) -> Result<T, FilterError>,
) -> Result<Vec<T>, FilterError> {
    values.iter().map(parse).collect()
}

/// Without repetitions, in the order of first appearance.
fn distinct<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    let mut out: Vec<T> = Vec::with_capacity(items.len());
    for item in items {
        if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}
