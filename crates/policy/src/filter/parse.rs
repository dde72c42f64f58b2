//! Tokens to a checked filter, by recursive descent. Depth is bounded by [`NESTING_MAX`].

use super::ast::{Expr, Matcher, Order, Ranges, Relation, Test};
use super::check::matcher;
use super::error::{FilterError, Span, nearest, shown};
use super::fields::{Field, FieldInfo, FieldType, Unit, fields};
use super::lex::{Token, TokenKind, tokens};
use super::table::{APPS, FAMILIES, PROTOCOLS};
use super::value::Literal;
use super::{LENGTH_MAX, NESTING_MAX};

/// The expression, and where each field was named.
pub(super) fn parse(source: &str) -> Result<(Expr, Vec<(Field, Span)>), FilterError> {
    if source.len() > LENGTH_MAX {
        return Err(FilterError::new(
            0..source.len(),
            format!(
                "the filter has {} bytes, and at most {LENGTH_MAX} are allowed",
                source.len()
            ),
            "join values in one list, as `src in {10.0.0.0/8, 192.0.2.7}`, or name a larger network",
        ));
    }
    let mut parser = Parser {
        tokens: tokens(source)?,
        at: 0,
        depth: 0,
        named: Vec::new(),
    };
    if parser.peek().kind == TokenKind::End {
        return Err(parser.wrong(
            "the filter is empty",
            "leave it out to see everything, or write a test, as `proto == tcp`",
        ));
    }
    let expr = parser.any()?;
    match parser.peek().kind {
        TokenKind::End => Ok((expr, parser.named)),
        TokenKind::Close => Err(parser.wrong(
            "this parenthesis closes none",
            "remove it, or add `(` where the group begins",
        )),
        _ => Err(parser.expected_joint()),
    }
}

/// The word of a boolean operator, if `kind` is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    And,
    Or,
    Not,
}

pub(super) fn keyword(kind: &TokenKind) -> Option<Keyword> {
    match kind {
        TokenKind::And => Some(Keyword::And),
        TokenKind::Or => Some(Keyword::Or),
        TokenKind::Not => Some(Keyword::Not),
        TokenKind::Word(word) if word.eq_ignore_ascii_case("and") => Some(Keyword::And),
        TokenKind::Word(word) if word.eq_ignore_ascii_case("or") => Some(Keyword::Or),
        TokenKind::Word(word) if word.eq_ignore_ascii_case("not") => Some(Keyword::Not),
        _ => None,
    }
}

/// Between a field and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Order(Order),
    In,
    NotIn,
    Text(Relation),
}

/// The operator that `kind` is, but for `not in`.
pub(super) fn operator(kind: &TokenKind) -> Option<Operator> {
    Some(match kind {
        TokenKind::Equal => Operator::Equal,
        TokenKind::NotEqual => Operator::NotEqual,
        TokenKind::Less => Operator::Order(Order::Less),
        TokenKind::LessEqual => Operator::Order(Order::LessOrEqual),
        TokenKind::Greater => Operator::Order(Order::Greater),
        TokenKind::GreaterEqual => Operator::Order(Order::GreaterOrEqual),
        TokenKind::Tilde => Operator::Text(Relation::Matches),
        TokenKind::Word(word) => match word.to_ascii_lowercase().as_str() {
            "eq" => Operator::Equal,
            "ne" => Operator::NotEqual,
            "lt" => Operator::Order(Order::Less),
            "le" => Operator::Order(Order::LessOrEqual),
            "gt" => Operator::Order(Order::Greater),
            "ge" => Operator::Order(Order::GreaterOrEqual),
            "in" => Operator::In,
            "contains" => Operator::Text(Relation::Contains),
            "startswith" => Operator::Text(Relation::StartsWith),
            "endswith" => Operator::Text(Relation::EndsWith),
            "matches" => Operator::Text(Relation::Matches),
            _ => return None,
        },
        _ => return None,
    })
}

/// A protocol or address family that stands alone, as `tcp` for `proto == tcp`.
pub(super) fn shorthand(word: &str) -> Option<(Field, u64)> {
    let find = |names: &[(&str, u64)]| {
        names
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word))
            .map(|row| row.1)
    };
    find(PROTOCOLS)
        .map(|number| (Field::Proto, number))
        .or_else(|| find(FAMILIES).map(|number| (Field::Family, number)))
}

struct Parser {
    /// Never empty: the last is `End`, which is never passed.
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    named: Vec<(Field, Span)>,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if token.kind != TokenKind::End {
            self.at += 1;
        }
        token
    }

    fn take(&mut self, kind: &TokenKind) -> bool {
        let taken = self.peek().kind == *kind;
        if taken {
            self.next();
        }
        taken
    }

    fn take_keyword(&mut self, wanted: Keyword) -> bool {
        let taken = keyword(&self.peek().kind) == Some(wanted);
        if taken {
            self.next();
        }
        taken
    }

    fn wrong(&self, message: impl Into<String>, hint: impl Into<String>) -> FilterError {
        FilterError::new(self.peek().span.clone(), message, hint)
    }

    fn expected_joint(&self) -> FilterError {
        let hint = match &self.peek().kind {
            TokenKind::Comma => "commas part the items of a list, as `dport in {80, 443}`",
            TokenKind::Equal | TokenKind::Word(_) | TokenKind::Quoted(_) => {
                "join two tests with `and` or `or`; put text with spaces in quotes"
            }
            _ => "join two tests with `and` or `or`",
        };
        self.wrong("expected `and`, `or` or the end of the filter", hint)
    }

    // === Boolean structure ===

    fn any(&mut self) -> Result<Expr, FilterError> {
        let mut parts = vec![self.all()?];
        while self.take_keyword(Keyword::Or) {
            parts.push(self.all()?);
        }
        Ok(Expr::any(parts))
    }

    fn all(&mut self) -> Result<Expr, FilterError> {
        let mut parts = vec![self.part()?];
        while self.take_keyword(Keyword::And) {
            parts.push(self.part()?);
        }
        Ok(Expr::all(parts))
    }

    fn part(&mut self) -> Result<Expr, FilterError> {
        if self.take_keyword(Keyword::Not) {
            return self.nested(|parser| Ok(Expr::Not(Box::new(parser.part()?))));
        }
        let open = self.peek().span.clone();
        if !self.take(&TokenKind::Open) {
            return self.test();
        }
        self.nested(|parser| {
            let inner = parser.any()?;
            if parser.take(&TokenKind::Close) {
                Ok(inner)
            } else if parser.peek().kind == TokenKind::End {
                Err(FilterError::new(
                    open,
                    "this parenthesis is never closed",
                    "add `)` where the group ends",
                ))
            } else {
                Err(parser.expected_joint())
            }
        })
    }

    /// Runs `inner` one level deeper, or refuses to.
    fn nested(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<Expr, FilterError>,
    ) -> Result<Expr, FilterError> {
        if self.depth == NESTING_MAX {
            return Err(self.wrong(
                format!("more than {NESTING_MAX} parentheses and `not` are nested"),
                "join values in one list, as `dport in {80, 443}`, or remove parentheses",
            ));
        }
        self.depth += 1;
        let expr = inner(self)?;
        self.depth -= 1;
        Ok(expr)
    }

    // === One test ===

    fn test(&mut self) -> Result<Expr, FilterError> {
        let token = self.next();
        let (TokenKind::Word(name), None) = (&token.kind, keyword(&token.kind)) else {
            return Err(expected_field(&token));
        };
        let Some(field) = Field::by_name(name) else {
            return self.stands_alone(&token, name);
        };
        self.named.push((field, token.span.clone()));
        let info = field.info();

        let operator_token = self.peek().clone();
        let is_not_in = keyword(&operator_token.kind) == Some(Keyword::Not);
        let operator = if is_not_in {
            self.next();
            if operator(&self.peek().kind) != Some(Operator::In) {
                return Err(FilterError::new(
                    operator_token.span,
                    format!("after `{}`, `not` is only known in `not in`", info.name),
                    format!(
                        "write `not` in front of the test, as `not {}`",
                        info.example.trim_start_matches("not ")
                    ),
                ));
            }
            Operator::NotIn
        } else {
            match operator(&operator_token.kind) {
                Some(operator) => operator,
                None => return self.bare(info),
            }
        };
        let operator_end = self.next().span.end;
        let operator_span = operator_token.span.start..operator_end;
        let values = self.values(operator, &operator_span)?;
        let (negated, matcher) = matcher(info, operator, operator_span, &values)?;
        Ok(Expr::Test(Test {
            field,
            negated,
            matcher,
        }))
    }

    /// A word that is no field: a protocol by itself, or a mistake.
    fn stands_alone(&mut self, token: &Token, name: &str) -> Result<Expr, FilterError> {
        let with_operator = operator(&self.peek().kind).is_some();
        if let (Some((field, number)), false) = (shorthand(name), with_operator) {
            self.named.push((field, token.span.clone()));
            let matcher = Matcher::NumberIn(Ranges::new(vec![(number, number)]));
            return Ok(Expr::Test(Test {
                field,
                negated: false,
                matcher,
            }));
        }
        let names = fields().iter().flat_map(FieldInfo::names);
        let lower = name.to_ascii_lowercase();
        let family = || {
            fields()
                .iter()
                .filter(|info| info.name.split('.').next() == Some(&lower))
                .map(|info| info.name)
        };
        let hint = if name.starts_with(|c: char| c.is_ascii_digit() || c == ':') {
            "a test begins with a field, as `dport == 443` or `src == 192.0.2.7`".to_owned()
        } else if APPS.contains(&lower.as_str()) {
            format!("write `app == {lower}`")
        } else if let Some(near) = nearest(name, names) {
            format!("did you mean `{near}`?")
        } else if name.len() >= 2 && family().next().is_some() {
            format!("did you mean one of {}?", family().collect::<Vec<_>>().join(", "))
        } else {
            "fields are src, dst, sport, dport, proto, app, comm, country and more".to_owned()
        };
        Err(FilterError::new(
            token.span.clone(),
            format!("unknown field {}", shown(name)),
            hint,
        ))
    }

    /// A field without operator.
    fn bare(&mut self, info: &FieldInfo) -> Result<Expr, FilterError> {
        let token = self.peek();
        let ends = matches!(token.kind, TokenKind::End | TokenKind::Close) || keyword(&token.kind).is_some();
        if !ends {
            let operators = info.operators().join(" ");
            let hint = match &token.kind {
                TokenKind::Word(word) | TokenKind::Quoted(word) => {
                    match nearest(word, info.operators().iter().copied()) {
                        Some(near) if near.len() > 2 => format!("did you mean `{near}`?"),
                        _ => format!(
                            "write `{} == {}`; operators here are {operators}",
                            info.name,
                            shown(word).trim_matches('`')
                        ),
                    }
                }
                _ => format!("operators here are {operators}"),
            };
            return Err(self.wrong(format!("expected an operator after `{}`", info.name), hint));
        }
        let matcher = match info.field_type {
            FieldType::Bool => Matcher::Bool(true),
            FieldType::Number { unit, .. } if unit != Unit::None => Matcher::Number(Order::Greater, 0),
            _ => Matcher::Present,
        };
        Ok(Expr::Test(Test {
            field: info.field,
            negated: false,
            matcher,
        }))
    }

    // === Values ===

    /// One value, or the items of a list in braces.
    fn values(&mut self, operator: Operator, operator_span: &Span) -> Result<Vec<Literal>, FilterError> {
        let open = self.peek().span.clone();
        if !self.take(&TokenKind::OpenBrace) {
            return Ok(vec![self.literal()?]);
        }
        if !matches!(operator, Operator::In | Operator::NotIn | Operator::Text(_)) {
            return Err(FilterError::new(
                operator_span.start..open.end,
                "a list cannot be compared this way",
                "write `in {…}` or `not in {…}`",
            ));
        }
        if self.peek().kind == TokenKind::CloseBrace {
            return Err(FilterError::new(
                open.start..self.peek().span.end,
                "the list is empty, so nothing could be in it",
                "write the values between the braces, as `{80, 443}`",
            ));
        }
        let mut items = Vec::new();
        loop {
            if self.peek().kind == TokenKind::End {
                return Err(FilterError::new(
                    open,
                    "this list is never closed",
                    "add `}` where the list ends",
                ));
            }
            items.push(self.literal()?);
            if self.take(&TokenKind::CloseBrace) {
                return Ok(items);
            }
            // Blanks part items as well as commas do; a comma may end the list.
            if self.take(&TokenKind::Comma) && self.take(&TokenKind::CloseBrace) {
                return Ok(items);
            }
        }
    }

    fn literal(&mut self) -> Result<Literal, FilterError> {
        let token = self.peek().clone();
        let (text, quoted) = match &token.kind {
            TokenKind::Quoted(text) => (text.clone(), true),
            TokenKind::Word(text) if keyword(&token.kind).is_none() => (text.clone(), false),
            _ => {
                let hint = match &token.kind {
                    TokenKind::Word(word) => {
                        format!("put it in quotes if it is the value: \"{word}\"")
                    }
                    TokenKind::End => "write the value to compare with".to_owned(),
                    _ => "write a value; put text with special characters in quotes".to_owned(),
                };
                return Err(self.wrong("expected a value", hint));
            }
        };
        self.next();
        Ok(Literal {
            text,
            quoted,
            span: token.span,
        })
    }
}

fn expected_field(token: &Token) -> FilterError {
    let (message, hint) = match &token.kind {
        TokenKind::End => (
            "expected a test, and the filter ends",
            "write one, as `dport == 443`, or remove the word before",
        ),
        TokenKind::Close => (
            "expected a test before this parenthesis",
            "write one, as `(dport == 443)`",
        ),
        TokenKind::Quoted(_) => (
            "expected a field, not text",
            "a test begins with a field, as `app == \"tls\"`",
        ),
        _ => ("expected a test", "a test begins with a field, as `dport == 443`"),
    };
    FilterError::new(token.span.clone(), message, hint)
}
