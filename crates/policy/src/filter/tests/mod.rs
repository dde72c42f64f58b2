//! Tables of filters: what they hold for, how they are refused, what completes them.

mod complete;
mod errors;
mod meaning;
mod properties;

use super::{Facts, Field, Filter, Value};

/// Facts as a list of what is known.
#[derive(Debug, Clone)]
struct Known<'a>(Vec<(Field, Value<'a>)>);

impl Facts for Known<'_> {
    fn get(&self, field: Field) -> Value<'_> {
        self.0
            .iter()
            .find(|(known, _)| *known == field)
            .map_or(Value::Missing, |(_, value)| *value)
    }
}

fn address(text: &str) -> Value<'static> {
    Value::Addr(text.parse().expect("an address"))
}

fn filter(source: &str) -> Filter {
    Filter::parse(source).unwrap_or_else(|error| panic!("{}", error.render(source)))
}
