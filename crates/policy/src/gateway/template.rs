//! Templates of prompts: text with `{{ name }}`. A value is put in as it is and never read again, so
//! that what a caller sends cannot become a part of the template.

use std::collections::BTreeMap;

/// A template, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(String),
}

impl Template {
    /// Takes a text apart.
    ///
    /// # Errors
    /// One sentence on a brace that does not close or a name that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("{{") {
            if start > 0 {
                pieces.push(Piece::Text(rest[..start].to_owned()));
            }
            let after = &rest[start + 2..];
            let Some(end) = after.find("}}") else {
                return Err(format!(
                    "`{{{{` after {} characters is not closed by `}}}}`",
                    text.len() - rest.len() + start
                ));
            };
            let name = after[..end].trim();
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
            if !is_name {
                return Err(format!(
                    "`{{{{{}}}}}` names no variable: letters, digits and `_` alone",
                    &after[..end]
                ));
            }
            pieces.push(Piece::Variable(name.to_owned()));
            rest = &after[end + 2..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { pieces })
    }

    /// The variables it names.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// Puts values in; a variable without one becomes nothing.
    pub fn render(&self, values: &BTreeMap<String, String>) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Variable(name) => out.push_str(values.get(name).map_or("", String::as_str)),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let values = BTreeMap::from([
                ("a".to_owned(), "{{ b }}".to_owned()),
                ("b".to_owned(), "B".to_owned()),
            ]);
            let got = Template::parse(text).map(|template| template.render(&values));
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{text}"),
                (Err(got), Err(part)) => assert!(got.contains(part), "{text}: {got}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        };
        check("say {{ a }} and {{b}}!", Ok("say {{ b }} and B!"));
        check("", Ok(""));
        check("{ {{b}} }", Ok("{ B }"));
        check("{{ none }}x", Ok("x"));
        check("x {{ a", Err("not closed"));
        check("{{ a b }}", Err("names no variable"));
        check("{{}}", Err("names no variable"));
    }
}
