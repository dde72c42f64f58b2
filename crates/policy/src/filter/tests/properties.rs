use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::select;

use super::super::{
    Expr, FieldInfo, FieldType, Matcher, NESTING_MAX, Order, Relation, Source, Test, complete, fields,
};
use super::*;

// Small pools, so that filters and facts meet.
const ADDRESSES: &[&str] = &[
    "10.0.0.1",
    "10.0.0.9",
    "10.1.2.3",
    "192.0.2.7",
    "::",
    "2001:db8::1",
    "2001:db8:1::",
    "::ffff:10.0.0.1",
];
const NUMBERS: &[u64] = &[
    0, 1, 3, 4, 6, 17, 22, 53, 80, 443, 769, 771, 4094, 8080, 65535, 100_000,
];
const TEXTS: &[&str] = &[
    "a",
    "ab",
    "A",
    "tls",
    "in",
    "DE",
    "de",
    "www.example.com",
    "",
    "and",
    "grün ist",
    "a*b",
    "\"\\",
];
const MACS: &[&str] = &["02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff"];
const FLAGS: &[&str] = &["S", "SA", "none", "syn+rst", "0xff"];
const GLOBS: &[&str] = &[
    "*",
    "a*",
    "?",
    "*.example.???",
    "*b",
    "w*w*c*m",
    "grün?ist",
    "**a**",
];

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn listed(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    proptest::collection::vec(value, 1..4).prop_map(|items| format!("{{{}}}", items.join(", ")))
}

/// A valid test of one field.
fn test_of(info: &'static FieldInfo) -> BoxedStrategy<String> {
    let join = |name: &'static str, operators: &'static [&'static str], value: BoxedStrategy<String>| {
        (select(operators), value)
            .prop_map(move |(operator, value)| format!("{name} {operator} {value}"))
            .boxed()
    };
    let within = &["in", "not in"];
    let same = &["==", "!="];
    let owned = |pool: &'static [&'static str]| select(pool).prop_map(str::to_owned).boxed();
    let name = info.name;
    let valued = match info.field_type {
        FieldType::Address => {
            let one = owned(ADDRESSES);
            let network = (owned(ADDRESSES), 0..=32_u32).prop_map(|(a, bits)| format!("{a}/{bits}"));
            let range = (0..4_usize, 0..4_usize).prop_filter_map("mixed", |(a, b)| {
                let (a, b) = (ADDRESSES[a.min(b)], ADDRESSES[a.max(b)]);
                Some(format!("{a}-{b}"))
            });
            let any = prop_oneof![one.clone(), network, range].boxed();
            prop_oneof![
                join(name, same, one),
                join(name, within, any.clone()),
                join(name, within, listed(any).boxed())
            ]
            .boxed()
        }
        FieldType::Number { max, .. } => {
            let number = select(NUMBERS).prop_map(move |n| n.min(max));
            let one = number.clone().prop_map(|n| n.to_string()).boxed();
            let range = (number.clone(), number).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
            let any = prop_oneof![one.clone(), range].boxed();
            prop_oneof![
                join(name, &["==", "!=", "<", "<=", ">", ">="], one),
                join(name, within, any.clone()),
                join(name, within, listed(any).boxed())
            ]
            .boxed()
        }
        FieldType::TcpFlags => prop_oneof![
            join(name, &["==", "!=", "contains"], owned(FLAGS)),
            join(name, within, listed(owned(FLAGS)).boxed())
        ]
        .boxed(),
        FieldType::Bool => join(name, same, owned(&["true", "false"])),
        FieldType::Mac => prop_oneof![
            join(name, same, owned(MACS)),
            join(name, within, listed(owned(MACS)).boxed())
        ]
        .boxed(),
        FieldType::Text {
            known, only_known, ..
        } => {
            let is_country = name.ends_with("country");
            let words = if only_known {
                known
            } else if is_country {
                &["DE", "de", "FR"]
            } else {
                TEXTS
            };
            let word = select(words).prop_map(quoted).boxed();
            let part = select(TEXTS).prop_map(quoted).boxed();
            prop_oneof![
                join(name, same, word.clone()),
                join(name, within, listed(word).boxed()),
                join(name, &["contains", "startswith", "endswith"], part.clone()),
                join(
                    name,
                    &["contains", "startswith", "endswith"],
                    listed(part).boxed()
                ),
                join(name, &["matches"], select(GLOBS).prop_map(quoted).boxed()),
            ]
            .boxed()
        }
    };
    prop_oneof![1 => Just(name.to_owned()), 6 => valued].boxed()
}

/// Valid filters.
fn filters() -> impl Strategy<Value = String> {
    let test = select(fields().iter().collect::<Vec<_>>()).prop_flat_map(test_of);
    test.prop_recursive(4, 24, 4, |inner| {
        let several = proptest::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            several
                .clone()
                .prop_map(|parts| format!("({})", parts.join(" and "))),
            several.clone().prop_map(|parts| parts.join(" or ")),
            several.prop_map(|parts| parts.join(" && ")),
            inner.clone().prop_map(|part| format!("not ({part})")),
            inner.prop_map(|part| format!("!({part})")),
        ]
    })
}

fn facts() -> impl Strategy<Value = Known<'static>> {
    let one = select(
        fields()
            .iter()
            .filter(|info| info.field.source() == Source::Itself)
            .collect::<Vec<_>>(),
    )
    .prop_flat_map(|info| {
        let value = match info.field_type {
            FieldType::Address => select(ADDRESSES).prop_map(address).boxed(),
            FieldType::Number { .. } => select(NUMBERS).prop_map(Value::Int).boxed(),
            FieldType::TcpFlags => (0..256_u64).prop_map(Value::Int).boxed(),
            FieldType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
            FieldType::Mac => select(&[[2, 0, 0, 0, 0, 1], [0xff; 6], [0; 6]][..])
                .prop_map(Value::Mac)
                .boxed(),
            FieldType::Text { .. } => select(TEXTS).prop_map(Value::Str).boxed(),
        };
        value.prop_map(move |value| (info.field, value))
    });
    proptest::collection::vec(one, 0..120).prop_map(Known)
}

// === A second evaluator, that knows no shortcuts ===

fn naive(expr: &Expr, facts: &Known<'_>) -> bool {
    match expr {
        Expr::And(parts) => parts
            .iter()
            .map(|part| naive(part, facts))
            .fold(true, |all, part| all & part),
        Expr::Or(parts) => parts
            .iter()
            .map(|part| naive(part, facts))
            .fold(false, |any, part| any | part),
        Expr::Not(inner) => !naive(inner, facts),
        Expr::Test(test) => {
            let sides: Vec<bool> = values(test.field, facts)
                .iter()
                .map(|value| naive_matches(test, *value))
                .collect();
            if test.negated {
                !sides.is_empty() && !sides.contains(&true)
            } else {
                sides.contains(&true)
            }
        }
    }
}

/// The values that are known of a field: none, one or two.
fn values<'a>(field: Field, facts: &'a Known<'_>) -> Vec<Value<'a>> {
    let found = match field.source() {
        Source::Itself => vec![facts.get(field)],
        Source::Either(one, other) => vec![facts.get(one), facts.get(other)],
        Source::FlagBit(bit) => match facts.get(Field::Flags) {
            Value::Int(flags) => vec![Value::Bool(flags as u8 & bit == bit)],
            _ => vec![],
        },
    };
    found
        .into_iter()
        .filter(|value| *value != Value::Missing)
        .collect()
}

fn naive_matches(test: &Test, value: Value<'_>) -> bool {
    let numbers = |address: IpAddr| match address {
        IpAddr::V4(v4) => (4, u128::from(u32::from(v4))),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => (4, u128::from(u32::from(v4))),
            None => (6, u128::from(v6)),
        },
    };
    match (&test.matcher, value) {
        (Matcher::Present, value) => value != Value::Str(""),
        (Matcher::Bool(wanted), Value::Bool(value)) => value == *wanted,
        (Matcher::Number(order, limit), Value::Int(value)) => {
            let ordering = value.cmp(limit);
            match order {
                Order::Less => ordering.is_lt(),
                Order::LessOrEqual => ordering.is_le(),
                Order::Greater => ordering.is_gt(),
                Order::GreaterOrEqual => ordering.is_ge(),
            }
        }
        (Matcher::NumberIn(ranges), Value::Int(value)) => {
            ranges.pairs().iter().any(|(a, b)| (*a..=*b).contains(&value))
        }
        (Matcher::Flags(items), Value::Int(value)) => items.iter().any(|flags| u64::from(*flags) == value),
        (Matcher::FlagsContain(flags), Value::Int(value)) => {
            (0..8).all(|bit| flags >> bit & 1 == 0 || value >> bit & 1 == 1)
        }
        (Matcher::AddressIn(ranges), Value::Addr(value)) => {
            ranges.pairs().iter().any(|(first, last)| {
                // The last address of `::/80` looks IPv4-mapped, so the family is that of the first.
                let (family, first) = numbers(*first);
                let last = match last {
                    IpAddr::V6(last) if family == 6 => u128::from(*last),
                    last => numbers(*last).1,
                };
                let (value_family, value) = numbers(value);
                family == value_family && first <= value && value <= last
            })
        }
        (Matcher::Mac(items), Value::Mac(value)) => items.contains(&value),
        (
            Matcher::Text {
                relation,
                items,
                ignore_case,
            },
            Value::Str(value),
        ) => {
            let fold = |text: &str| {
                if *ignore_case {
                    text.to_ascii_lowercase()
                } else {
                    text.to_owned()
                }
            };
            let value = fold(value);
            items.iter().map(|item| fold(item)).any(|item| match relation {
                Relation::Is => value == item,
                Relation::Contains => value.contains(&item),
                Relation::StartsWith => value.starts_with(&item),
                Relation::EndsWith => value.ends_with(&item),
                Relation::Matches => naive_glob(&value, &item),
            })
        }
        _ => false,
    }
}

fn naive_glob(text: &str, pattern: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => text.is_empty(),
        Some('*') => text
            .char_indices()
            .map(|(at, _)| at)
            .chain([text.len()])
            .any(|at| naive_glob(&text[at..], rest.as_str())),
        Some(c) => {
            let mut after = text.chars();
            after.next().is_some_and(|first| c == '?' || c == first)
                && naive_glob(after.as_str(), rest.as_str())
        }
    }
}

/// Whatever `source` is: no panic, errors that render, filters that survive their own text.
fn survives(source: &str) {
    let _ = complete(source);
    match Filter::parse(source) {
        Ok(parsed) => {
            let canonical = parsed.to_string();
            if canonical.len() <= super::super::LENGTH_MAX {
                assert_eq!(filter(&canonical), parsed, "{source} is shown as {canonical}");
            }
            parsed.eval(&Known(vec![]));
        }
        Err(error) => {
            assert!(source.get(error.span.clone()).is_some(), "{source}: {error:?}");
            assert!(!error.hint.is_empty() && !error.message.is_empty());
            assert_eq!(
                error.render(source).lines().count(),
                4,
                "{}",
                error.render(source)
            );
            let _ = error.render("another text");
        }
    }
}

const TOKENS: &[&str] = &[
    "src",
    "host",
    "dport",
    "proto",
    "tls.sni",
    "flags",
    "flags.syn",
    "rtt",
    "bytes",
    "country",
    "src.mac",
    "tcp",
    "and",
    "or",
    "not",
    "in",
    "contains",
    "matches",
    "==",
    "=",
    "!=",
    "<",
    ">=",
    "~",
    "!",
    "&&",
    "||",
    "(",
    ")",
    "{",
    "}",
    ",",
    "80",
    "80-90",
    "1.5GB",
    "10ms",
    "10.0.0.0/8",
    "::/0",
    "10.0.0.1-10.0.0.2",
    "SA",
    "true",
    "*.x",
    "\"a b\"",
    "'",
    "\"",
    "\\",
    "..",
    "-",
    "0x",
    "é",
    "\n",
    "DE",
    "1e9",
    "99999999999999999999999d",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn canonical_text_means_the_same(source in filters(), facts in facts()) {
        let parsed = filter(&source);
        let again = filter(&parsed.to_string());
        prop_assert_eq!(&again, &parsed);
        prop_assert_eq!(again.to_string(), parsed.to_string());
        prop_assert_eq!(again.fields_used(), parsed.fields_used());
        prop_assert_eq!(parsed.eval(&facts), naive(parsed.expr(), &facts), "{}", parsed);
    }

    #[test]
    fn every_prefix_is_a_filter_or_an_error(source in filters()) {
        for (end, _) in source.char_indices() {
            survives(&source[..end]);
        }
    }

    #[test]
    fn any_text_is_a_filter_or_an_error(source in "\\PC*") {
        survives(&source);
    }

    #[test]
    fn any_tokens_are_a_filter_or_an_error(
        tokens in proptest::collection::vec(select(TOKENS), 0..24),
        parted in any::<bool>(),
    ) {
        survives(&tokens.join(if parted { " " } else { "" }));
    }

    #[test]
    fn any_value_is_taken_or_refused(info in select(fields()), operator in select(TOKENS), value in "[ -~µ]{0,24}") {
        survives(&format!("{} {operator} {value}", info.name));
        survives(&format!("{} in {{{value}}}", info.name));
    }

    #[test]
    fn globs_agree_with_their_definition(text in "[abé]{0,8}", pattern in "[abé*?]{0,8}") {
        let parsed = filter(&format!("comm matches \"{pattern}\""));
        let facts = Known(vec![(Field::Comm, Value::Str(&text))]);
        prop_assert_eq!(parsed.eval(&facts), naive_glob(&text, &pattern));
    }

    #[test]
    fn completions_fit(source in filters()) {
        for (end, _) in source.char_indices() {
            for choice in complete(&source[..end]) {
                prop_assert!(source.is_char_boundary(choice.start) && choice.start <= end);
                prop_assert!(!choice.text.is_empty() && !choice.doc.is_empty());
            }
        }
    }

    #[test]
    fn nesting_never_overflows(opens in proptest::collection::vec(select(&["(", "not ", "!", "not("][..]), 0..2 * NESTING_MAX)) {
        survives(&opens.concat());
        survives(&format!("{}tcp{}", opens.concat(), ")".repeat(opens.iter().filter(|open| open.contains('(')).count())));
    }
}
