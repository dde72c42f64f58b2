//! Licence expressions: SPDX 2.3, annex D, in the form Cargo.toml uses.
//!
//! `AND` binds tighter than `OR`, `WITH` tighter than both. The slash of old manifests means `OR`.

/// A parsed licence expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// An identifier, with its exception if there is one: `Apache-2.0 WITH LLVM-exception`.
    Licence(String),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
}

impl Expression {
    /// Parses `text`; the error says what was expected and what was there.
    pub(crate) fn parse(text: &str) -> Result<Expression, String> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let mut parser = Parser {
            words: spaced.split_whitespace().collect(),
            position: 0,
        };
        let expression = parser.or()?;
        match parser.next() {
            None => Ok(expression),
            Some(word) => Err(format!("expected AND, OR or the end, found `{word}`")),
        }
    }

    /// Can the terms be met with licences that `is_allowed` accepts?
    pub(crate) fn is_met(&self, is_allowed: &dyn Fn(&str) -> bool) -> bool {
        match self {
            Expression::Licence(name) => is_allowed(name),
            Expression::And(left, right) => left.is_met(is_allowed) && right.is_met(is_allowed),
            Expression::Or(left, right) => left.is_met(is_allowed) || right.is_met(is_allowed),
        }
    }
}

struct Parser<'a> {
    words: Vec<&'a str>,
    position: usize,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.position).copied();
        self.position += 1;
        word
    }

    fn skip(&mut self, wanted: &str) -> bool {
        let found = self.words.get(self.position) == Some(&wanted);
        self.position += usize::from(found);
        found
    }

    fn or(&mut self) -> Result<Expression, String> {
        let mut left = self.and()?;
        while self.skip("OR") {
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, String> {
        let mut left = self.licence()?;
        while self.skip("AND") {
            left = Expression::And(Box::new(left), Box::new(self.licence()?));
        }
        Ok(left)
    }

    fn licence(&mut self) -> Result<Expression, String> {
        if self.skip("(") {
            let inner = self.or()?;
            return if self.skip(")") {
                Ok(inner)
            } else {
                Err("expected `)`".to_owned())
            };
        }
        let name = self.identifier("a licence")?;
        if self.skip("WITH") {
            let exception = self.identifier("an exception after WITH")?;
            return Ok(Expression::Licence(format!("{name} WITH {exception}")));
        }
        Ok(Expression::Licence(name.to_owned()))
    }

    fn identifier(&mut self, expected: &str) -> Result<&'a str, String> {
        match self.next() {
            Some(word) if !["AND", "OR", "WITH", "(", ")"].contains(&word) => Ok(word),
            Some(word) => Err(format!("expected {expected}, found `{word}`")),
            None => Err(format!("expected {expected}, found the end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expected`: whether MIT, Apache-2.0, Zlib and the LLVM exception are enough, or the parser's error.
    fn check(text: &str, expected: Result<bool, &str>) {
        let allowed = ["MIT", "Apache-2.0", "Zlib", "Apache-2.0 WITH LLVM-exception"];
        let met =
            Expression::parse(text).map(|expression| expression.is_met(&|name| allowed.contains(&name)));
        assert_eq!(met, expected.map_err(ToOwned::to_owned), "{text}");
    }

    #[test]
    fn expressions_are_met_or_not() {
        check("MIT", Ok(true));
        check("GPL-2.0-only", Ok(false));
        check("GPL-2.0-only OR MIT", Ok(true));
        check("GPL-2.0-only AND MIT", Ok(false));
        check("MIT/Apache-2.0", Ok(true));
        check("Apache-2.0 / GPL-2.0-only", Ok(true));
        check("Apache-2.0 WITH LLVM-exception", Ok(true));
        check("GPL-2.0-only WITH Classpath-exception-2.0", Ok(false));
        check("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only", Ok(true));
        // AND binds tighter: MIT OR (GPL AND GPL), not (MIT OR GPL) AND GPL.
        check("MIT OR GPL-2.0-only AND GPL-3.0-only", Ok(true));
        check("(MIT OR GPL-2.0-only) AND GPL-3.0-only", Ok(false));
        check("((MIT) AND (Zlib OR GPL-2.0-only))", Ok(true));
    }

    #[test]
    fn malformed_expressions_say_what_was_expected() {
        check("", Err("expected a licence, found the end"));
        check("MIT OR", Err("expected a licence, found the end"));
        check("AND MIT", Err("expected a licence, found `AND`"));
        check(
            "MIT Apache-2.0",
            Err("expected AND, OR or the end, found `Apache-2.0`"),
        );
        check("(MIT", Err("expected `)`"));
        check("MIT)", Err("expected AND, OR or the end, found `)`"));
        check(
            "Apache-2.0 WITH",
            Err("expected an exception after WITH, found the end"),
        );
    }
}
