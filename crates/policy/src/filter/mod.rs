//! The filter language of `weir watch`, `capture`, `read` and `flows`: which packets or flows to look at.
//!
//! ```
//! use policy::filter::{Facts, Field, Filter, Value};
//!
//! struct Packet {
//!     dport: u16,
//! }
//! impl Facts for Packet {
//!     fn get(&self, field: Field) -> Value<'_> {
//!         match field {
//!             Field::Dport => self.dport.into(),
//!             _ => Value::Missing,
//!         }
//!     }
//! }
//!
//! let filter: Filter = "dport in {80, 443, 8000-8100} and not flags.rst".parse().unwrap();
//! assert!(filter.eval(&Packet { dport: 8080 }));
//! assert!(!filter.eval(&Packet { dport: 22 }));
//! ```
//!
//! # Grammar
//!
//! ```text
//! filter   = any ;
//! any      = all , { ( "or" | "||" ) , all } ;
//! all      = part , { ( "and" | "&&" ) , part } ;
//! part     = ( "not" | "!" ) , part | "(" , any , ")" | test ;
//! test     = field                                     (* there, not empty, above zero, or true *)
//!          | protocol                                  (* tcp: proto == tcp; ip6: family == ipv6 *)
//!          | field , order , value
//!          | field , [ "not" ] , "in" , values
//!          | field , relation , values ;
//! order    = "==" | "=" | "!=" | "<" | "<=" | ">" | ">=" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" ;
//! relation = "contains" | "startswith" | "endswith" | "matches" | "~" ;
//! values   = value | "{" , value , { [ "," ] , value } , [ "," ] , "}" ;
//! value    = word | '"' , { character | escape } , '"' | "'" , { character | escape } , "'" ;
//! word     = ( letter | digit | one of . _ - : / * ? % @ + ) , { the same } ;
//! escape   = "\" , ( "\" | '"' | "'" | "n" | "r" | "t" | "u{" , hexadecimal digits , "}" ) ;
//! ```
//!
//! `not` binds tightest, then `and`, then `or`. Keywords and field names are known in either case.
//! The field decides what a word means:
//!
//! | type | values | operators |
//! |---|---|---|
//! | address | `10.0.0.1`, `2001:db8::/32`, `10.0.0.1-10.0.0.9` | `== != in`, `not in` |
//! | number | `443`, `0x1bb`, `8000-8100`, names as `tcp`, units as `10k 1.5GB 64KiB 10ms 5m` | all but those of text |
//! | TCP flags | `SA`, `syn+ack`, `none` | `== != in contains` (all of these are set) |
//! | bool | `true`, `false` | `== !=`, or the field alone |
//! | text | any | `== != in contains startswith endswith matches` |
//! | MAC | `02:00:00:00:00:01` | `== != in`, `not in` |
//!
//! # Meaning
//!
//! - A field that is missing makes every test of it false, `!=` and `not in` too; `not` of such a test is true.
//! - A field alone holds when it is there; text must not be empty and a quantity (what has a unit, or
//!   is counted) must be above zero; a bool must be true.
//! - `host`, `port` and `country` are either side: a test holds when it holds for one of them, but `!=`
//!   and `not in` hold when a side is known and none of them is the value.
//! - IPv4-mapped IPv6 addresses are IPv4 addresses; `::/0` is IPv6 only. Bits behind a prefix length
//!   do not matter.
//! - In `matches`, `*` is any text and `?` any one character. Host names, protocol names and country
//!   codes are compared without regard to ASCII case, other text with it.
//! - Fields of flows only (see [`fields`]) cannot be tested on a packet: [`Filter::check_scope`].

mod ast;
mod check;
mod complete;
mod error;
mod eval;
mod fields;
mod lex;
mod parse;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::str::FromStr;

pub use ast::{Expr, Matcher, Order, Ranges, Relation, Test};
pub use complete::{Completion, complete};
pub use error::{FilterError, Span};
pub use eval::{Facts, Value};
pub use fields::{Field, FieldInfo, FieldType, NamedNumber, Scope, Source, Unit, fields};

/// Bytes a filter's text may have.
pub const LENGTH_MAX: usize = 4096;
/// Parentheses and `not` that may be nested.
pub const NESTING_MAX: usize = 64;

/// A checked filter, ready to be evaluated.
///
/// Two filters are equal when they say the same in the same order, however they were written.
/// `Display` gives the canonical text, which parses to an equal filter unless full field names make
/// it longer than [`LENGTH_MAX`]. As serde data a filter is its text.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Filter {
    expr: Expr,
    /// Each field named, and where in the source.
    named: Vec<(Field, Span)>,
}

impl Filter {
    /// Parses and checks `source`.
    ///
    /// # Errors
    /// When `source` is empty, too long, too deep, not of the grammar, names an unknown field, or
    /// compares a field with what it cannot be.
    pub fn parse(source: &str) -> Result<Self, FilterError> {
        let (expr, named) = parse::parse(source)?;
        Ok(Self { expr, named })
    }

    /// Whether the filter holds for `facts`. Allocates nothing.
    #[inline]
    pub fn eval<F: Facts + ?Sized>(&self, facts: &F) -> bool {
        self.expr.holds(facts)
    }

    /// What the filter says.
    #[must_use]
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The fields it names, each once, in the order of the manual. What [`Facts`] is asked for them
    /// is [`Field::source`].
    #[must_use]
    pub fn fields_used(&self) -> Vec<Field> {
        let mut used: Vec<Field> = self.named.iter().map(|(field, _)| *field).collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    /// Refuses fields that are not known in `scope`, where they would only ever be missing.
    ///
    /// # Errors
    /// At the first such field; the place is in the text this filter was parsed from.
    pub fn check_scope(&self, scope: Scope) -> Result<(), FilterError> {
        let unknown = self
            .named
            .iter()
            .find(|(field, _)| !field.info().scopes.contains(&scope));
        let Some((field, span)) = unknown else {
            return Ok(());
        };
        let name = field.name();
        let (message, hint) = match scope {
            Scope::Packet => (
                format!("`{name}` is known of flows, not of single packets"),
                "packets have addresses, ports, proto, flags, ttl, len, vlan, tunnel and the like; \
                 use `weir flows` or `weir watch` for this field",
            ),
            Scope::Flow => (
                format!("`{name}` is known of single packets, not of flows"),
                "flows have bytes, packets and rates; use `weir capture` for this field",
            ),
        };
        Err(FilterError::new(span.clone(), message, hint))
    }
}

/// What they say, not where it stood in the text.
impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.expr == other.expr
    }
}

impl Eq for Filter {}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(source: &str) -> Result<Self, FilterError> {
        Self::parse(source)
    }
}

impl TryFrom<String> for Filter {
    type Error = FilterError;

    fn try_from(source: String) -> Result<Self, FilterError> {
        Self::parse(&source)
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.to_string()
    }
}
