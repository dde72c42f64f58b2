//! Whether a filter holds. This runs once per packet in a capture: it allocates nothing, and every
//! constant was parsed before.

use std::net::IpAddr;

use super::ast::{Expr, Matcher, Order, Relation, Test};
use super::fields::{Field, Source};

/// What is known of one packet or flow.
///
/// [`get`](Self::get) is never asked for fields that are made of others (see [`Field::source`]):
/// answer `Src` and `Dst` for `host`, `Sport` and `Dport` for `port`, `SrcCountry` and `DstCountry`
/// for `country`, `Flags` for `flags.syn` and the like.
pub trait Facts {
    /// The value of `field`, in the type and unit of its row in [`fields`](super::fields), or
    /// [`Value::Missing`] where it is not known or does not apply. `Flags` is `Int`, the flags octet.
    /// A value of the wrong type counts as missing.
    fn get(&self, field: Field) -> Value<'_>;
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Not known, or does not apply.
    Missing,
    /// A number in the field's unit, or the TCP flags octet.
    Int(u64),
    /// True or false.
    Bool(bool),
    /// An address; IPv4-mapped ones count as IPv4.
    Addr(IpAddr),
    /// Text.
    Str(&'a str),
    /// A link-layer address.
    Mac([u8; 6]),
}

impl From<u64> for Value<'_> {
    fn from(value: u64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u16> for Value<'_> {
    fn from(value: u16) -> Self {
        Self::Int(value.into())
    }
}

impl From<u8> for Value<'_> {
    fn from(value: u8) -> Self {
        Self::Int(value.into())
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<IpAddr> for Value<'_> {
    fn from(value: IpAddr) -> Self {
        Self::Addr(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Str(value)
    }
}

impl From<[u8; 6]> for Value<'_> {
    fn from(value: [u8; 6]) -> Self {
        Self::Mac(value)
    }
}

/// `None` is [`Value::Missing`].
impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Missing, Into::into)
    }
}

impl Expr {
    /// Whether the condition holds for `facts`.
    pub(super) fn holds<F: Facts + ?Sized>(&self, facts: &F) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.holds(facts)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(facts)),
            Self::Not(inner) => !inner.holds(facts),
            Self::Test(test) => test.holds(facts),
        }
    }
}

impl Test {
    #[inline]
    fn holds<F: Facts + ?Sized>(&self, facts: &F) -> bool {
        match self.field.source() {
            Source::Itself => self
                .matcher
                .compare(facts.get(self.field))
                .is_some_and(|holds| holds != self.negated),
            Source::FlagBit(bit) => match facts.get(Field::Flags) {
                Value::Int(flags) => {
                    let is_set = Value::Bool(flags & u64::from(bit) != 0);
                    self.matcher
                        .compare(is_set)
                        .is_some_and(|holds| holds != self.negated)
                }
                _ => false,
            },
            Source::Either(one, other) => {
                let one = self.matcher.compare(facts.get(one));
                // The second side is asked only when the first does not decide.
                if one == Some(true) {
                    return !self.negated;
                }
                match self.matcher.compare(facts.get(other)) {
                    Some(true) => !self.negated,
                    Some(false) => self.negated,
                    None => one.is_some() && self.negated,
                }
            }
        }
    }
}

impl Matcher {
    /// Whether `value` is as wanted, or `None` where it is missing or of another type.
    #[inline]
    fn compare(&self, value: Value<'_>) -> Option<bool> {
        Some(match (self, value) {
            (_, Value::Missing) => return None,
            (Self::NumberIn(ranges), Value::Int(number)) => ranges.contains(number),
            (Self::Number(order, limit), Value::Int(number)) => match order {
                Order::Less => number < *limit,
                Order::LessOrEqual => number <= *limit,
                Order::Greater => number > *limit,
                Order::GreaterOrEqual => number >= *limit,
            },
            (Self::AddressIn(ranges), Value::Addr(address)) => ranges.contains(address.to_canonical()),
            (Self::Flags(items), Value::Int(flags)) => items.iter().any(|item| u64::from(*item) == flags),
            (Self::FlagsContain(wanted), Value::Int(flags)) => {
                flags & u64::from(*wanted) == u64::from(*wanted)
            }
            (Self::Bool(wanted), Value::Bool(value)) => *wanted == value,
            (Self::Mac(items), Value::Mac(mac)) => items.contains(&mac),
            (
                Self::Text {
                    relation,
                    items,
                    ignore_case,
                },
                Value::Str(text),
            ) => items.iter().any(|item| relation.holds(text, item, *ignore_case)),
            (Self::Present, Value::Str(text)) => !text.is_empty(),
            (Self::Present, _) => true,
            _ => return None,
        })
    }
}

impl Relation {
    fn holds(self, text: &str, item: &str, ignore_case: bool) -> bool {
        let (text, item) = (text.as_bytes(), item.as_bytes());
        match self {
            Self::Is => same(text, item, ignore_case),
            Self::StartsWith => text
                .get(..item.len())
                .is_some_and(|start| same(start, item, ignore_case)),
            Self::EndsWith => {
                let end = text.len().checked_sub(item.len()).map(|from| &text[from..]);
                end.is_some_and(|end| same(end, item, ignore_case))
            }
            Self::Contains => {
                item.is_empty()
                    || text
                        .windows(item.len())
                        .any(|window| same(window, item, ignore_case))
            }
            Self::Matches => glob(text, item, ignore_case),
        }
    }
}

fn same(a: &[u8], b: &[u8], ignore_case: bool) -> bool {
    if ignore_case {
        a.eq_ignore_ascii_case(b)
    } else {
        a == b
    }
}

/// Whether `pattern` with `*` and `?` is all of `text`. Both are UTF-8.
///
/// A mismatch goes back to the last `*` only, which is enough: what an earlier one could take, the
/// last can take as well. So the time is at most the product of the lengths.
fn glob(text: &[u8], pattern: &[u8], ignore_case: bool) -> bool {
    let (mut t, mut p) = (0, 0);
    // Where the last `*` was in the pattern, and where in the text what follows it was tried.
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(b'?') => {
                p += 1;
                t = next_char(text, t);
            }
            Some(wanted) if same(&text[t..=t], &[*wanted], ignore_case) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star, tried)) = last_star else {
                    return false;
                };
                let next = next_char(text, tried);
                last_star = Some((star, next));
                p = star + 1;
                t = next;
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The index behind the character of UTF-8 that begins at `at`.
fn next_char(text: &[u8], at: usize) -> usize {
    let continuation = text[at + 1..]
        .iter()
        .take_while(|byte| **byte & 0xc0 == 0x80)
        .count();
    at + 1 + continuation
}
