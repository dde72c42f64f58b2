//! What a filter says, and its canonical text.
//!
//! The shape is canonical too: nested `and` in `and` is one list, ranges are sorted and merged, and
//! equal list items are one. So equal filters are equal values, and the text of a filter parses back
//! to the same value.

use std::fmt;
use std::net::IpAddr;

use super::fields::{Field, FieldType, NamedNumber};
use super::lex::is_word_char;

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// All hold. Two or more, none of them `And`.
    And(Vec<Expr>),
    /// At least one holds. Two or more, none of them `Or`.
    Or(Vec<Expr>),
    /// Does not hold.
    Not(Box<Expr>),
    /// One field.
    Test(Test),
}

/// A test of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// The field.
    pub field: Field,
    /// `!=` and `not in`: the field is there and the matcher does not hold.
    pub negated: bool,
    /// What its value must be.
    pub matcher: Matcher,
}

/// What the value of a field must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matcher {
    /// A bare field name: there, and text that is not empty. (Of a bool the bare name is `Bool(true)`,
    /// of a quantity `Number(Greater, 0)`.)
    Present,
    /// A bool of this value.
    Bool(bool),
    /// A number below, above or at a limit, in the field's unit.
    Number(Order, u64),
    /// A number in one of these ranges, in the field's unit.
    NumberIn(Ranges<u64>),
    /// TCP flags that are exactly one of these.
    Flags(Vec<u8>),
    /// TCP flags with all of these set.
    FlagsContain(u8),
    /// An address in one of these ranges. Both ends of a range are of one family; a range that lies
    /// among the IPv4-mapped addresses is held as IPv4.
    AddressIn(Ranges<IpAddr>),
    /// One of these MAC addresses.
    Mac(Vec<[u8; 6]>),
    /// Text that stands in this relation to any of these, at least one.
    Text {
        /// The relation.
        relation: Relation,
        /// What it is compared with.
        items: Vec<String>,
        /// Whether ASCII letters of both cases are the same.
        ignore_case: bool,
    },
}

/// An ordering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How texts are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The same text.
    Is,
    /// The item is somewhere in the text.
    Contains,
    /// The text begins with the item.
    StartsWith,
    /// The text ends with the item.
    EndsWith,
    /// The item is a pattern in which `*` stands for any text and `?` for any one character.
    Matches,
}

/// Inclusive ranges, sorted, none overlapping another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges<T>(Box<[(T, T)]>);

impl<T: Ord + Copy> Ranges<T> {
    /// From pairs of first and last in any order.
    pub(super) fn new(mut pairs: Vec<(T, T)>) -> Self {
        pairs.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(pairs.len());
        for (first, last) in pairs {
            match merged.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    /// Pairs of first and last, ascending.
    #[must_use]
    pub fn pairs(&self) -> &[(T, T)] {
        &self.0
    }

    /// Whether a range holds `value`.
    #[inline]
    pub fn contains(&self, value: T) -> bool {
        // Most filters have one range; a search pays off only for long lists.
        if let [(first, last)] = &*self.0 {
            return *first <= value && value <= *last;
        }
        let after = self.0.partition_point(|(first, _)| *first <= value);
        after > 0 && value <= self.0[after - 1].1
    }
}

impl Expr {
    /// All of `parts`, which are not empty.
    pub(super) fn all(parts: Vec<Expr>) -> Self {
        Self::chain(parts, Self::And, |part| match part {
            Self::And(inner) => Ok(inner),
            other => Err(other),
        })
    }

    /// Any of `parts`, which are not empty.
    pub(super) fn any(parts: Vec<Expr>) -> Self {
        Self::chain(parts, Self::Or, |part| match part {
            Self::Or(inner) => Ok(inner),
            other => Err(other),
        })
    }

    fn chain(
        parts: Vec<Expr>,
        join: fn(Vec<Expr>) -> Expr,
        unwrap: fn(Expr) -> Result<Vec<Expr>, Expr>,
    ) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match unwrap(part) {
                Ok(inner) => flat.extend(inner),
                Err(part) => flat.push(part),
            }
        }
        if flat.len() == 1 {
            flat.remove(0)
        } else {
            join(flat)
        }
    }

    /// How tightly the text of this binds: `or` 0, `and` 1, `not` and tests 2.
    fn strength(&self) -> u8 {
        match self {
            Self::Or(_) => 0,
            Self::And(_) => 1,
            Self::Not(_) | Self::Test(_) => 2,
        }
    }

    fn fmt_in(&self, f: &mut fmt::Formatter<'_>, strength: u8) -> fmt::Result {
        if self.strength() < strength {
            write!(f, "({self})")
        } else {
            write!(f, "{self}")
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, word) = match self {
            Self::And(parts) => (parts, " and "),
            Self::Or(parts) => (parts, " or "),
            Self::Not(inner) => {
                write!(f, "not ")?;
                return inner.fmt_in(f, 2);
            }
            Self::Test(test) => return write!(f, "{test}"),
        };
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                write!(f, "{word}")?;
            }
            part.fmt_in(f, self.strength() + 1)?;
        }
        Ok(())
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.field.name())?;
        let (is, within) = if self.negated {
            ("!=", "not in")
        } else {
            ("==", "in")
        };
        match &self.matcher {
            Matcher::Present | Matcher::Bool(true) => Ok(()),
            Matcher::Bool(value) => write!(f, " {is} {value}"),
            Matcher::Number(order, limit) => {
                write!(f, " {order} {}", NumberText(self.field, *limit))
            }
            Matcher::NumberIn(ranges) => match ranges.pairs() {
                [(first, last)] if first == last => {
                    write!(f, " {is} {}", NumberText(self.field, *first))
                }
                [(first, last)] => write!(f, " {within} {first}-{last}"),
                pairs => fmt_list(f, within, pairs, |f, (first, last)| {
                    if first == last {
                        write!(f, "{}", NumberText(self.field, *first))
                    } else {
                        write!(f, "{first}-{last}")
                    }
                }),
            },
            Matcher::Flags(items) => match items.as_slice() {
                [flags] => write!(f, " {is} {}", FlagsText(*flags)),
                items => fmt_list(f, within, items, |f, flags| write!(f, "{}", FlagsText(*flags))),
            },
            Matcher::FlagsContain(flags) => write!(f, " contains {}", FlagsText(*flags)),
            Matcher::AddressIn(ranges) => match ranges.pairs() {
                [(first, last)] if first == last => write!(f, " {is} {first}"),
                [pair] => write!(f, " {within} {}", AddressRangeText(*pair)),
                pairs => fmt_list(f, within, pairs, |f, pair| {
                    write!(f, "{}", AddressRangeText(*pair))
                }),
            },
            Matcher::Mac(items) => match items.as_slice() {
                [mac] => write!(f, " {is} {}", MacText(*mac)),
                items => fmt_list(f, within, items, |f, mac| write!(f, "{}", MacText(*mac))),
            },
            Matcher::Text { relation, items, .. } => {
                let word = match relation {
                    Relation::Is if items.len() == 1 => is,
                    Relation::Is => within,
                    Relation::Contains => "contains",
                    Relation::StartsWith => "startswith",
                    Relation::EndsWith => "endswith",
                    Relation::Matches => "matches",
                };
                let glob = *relation == Relation::Matches;
                match items.as_slice() {
                    [text] => write!(f, " {word} {}", Quoted { text, glob }),
                    items => fmt_list(f, word, items, |f, text| write!(f, "{}", Quoted { text, glob })),
                }
            }
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

fn fmt_list<T>(
    f: &mut fmt::Formatter<'_>,
    word: &str,
    items: &[T],
    fmt_item: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    write!(f, " {word} {{")?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            write!(f, ", ")?;
        }
        fmt_item(f, item)?;
    }
    write!(f, "}}")
}

/// A number by its name where the field has one for it.
struct NumberText(Field, u64);

impl fmt::Display for NumberText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: &[NamedNumber] = match self.0.info().field_type {
            FieldType::Number { names, .. } => names,
            _ => &[],
        };
        match names.iter().find(|(_, number)| *number == self.1) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}", self.1),
        }
    }
}

/// Names of the TCP flags, lowest bit first, and the letters they go by.
pub(super) const TCP_FLAGS: [(&str, char); 8] = [
    ("fin", 'F'),
    ("syn", 'S'),
    ("rst", 'R'),
    ("psh", 'P'),
    ("ack", 'A'),
    ("urg", 'U'),
    ("ece", 'E'),
    ("cwr", 'C'),
];

struct FlagsText(u8);

impl fmt::Display for FlagsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        TCP_FLAGS
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.0 & (1 << bit) != 0)
            .try_for_each(|(_, (_, letter))| write!(f, "{letter}"))
    }
}

struct MacText([u8; 6]);

impl fmt::Display for MacText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An address, a network where the range is one, else first and last.
struct AddressRangeText((IpAddr, IpAddr));

impl fmt::Display for AddressRangeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.0;
        if first == last {
            return write!(f, "{first}");
        }
        let (low, high, bits) = match (first, last) {
            (IpAddr::V4(low), IpAddr::V4(high)) => {
                (u128::from(low.to_bits()), u128::from(high.to_bits()), 32)
            }
            (IpAddr::V6(low), IpAddr::V6(high)) => (low.to_bits(), high.to_bits(), 128),
            _ => return write!(f, "{first}-{last}"),
        };
        // A network is a range whose ends differ in trailing bits only, all 0 in the first and 1 in the last.
        let host = low ^ high;
        let is_network = host & host.wrapping_add(1) == 0 && low & host == 0;
        if is_network {
            write!(f, "{first}/{}", bits - host.count_ones())
        } else {
            write!(f, "{first}-{last}")
        }
    }
}

/// Text as a word where it can be one, else in quotes.
struct Quoted<'a> {
    text: &'a str,
    /// Whether `*` and `?` are part of a pattern, and so may stand without quotes.
    glob: bool,
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |c: char| c.is_ascii() && is_word_char(c) && (self.glob || !matches!(c, '*' | '?'));
        let keyword = ["and", "or", "not"]
            .iter()
            .any(|word| self.text.eq_ignore_ascii_case(word));
        if !self.text.is_empty() && !keyword && self.text.chars().all(bare) {
            return f.write_str(self.text);
        }
        write!(f, "\"")?;
        for c in self.text.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => write!(f, "\\n")?,
                '\r' => write!(f, "\\r")?,
                '\t' => write!(f, "\\t")?,
                c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        write!(f, "\"")
    }
}
