//! Signatures: known attack patterns, in a subset of Suricata's rule syntax.
//!
//! [`parse`] reads rules, [`Ruleset`] compiles them, [`Scanner`] holds them against payloads and records. One
//! Aho-Corasick automaton a buffer (payload, request path, user agent, …) finds the longest content of
//! each rule; only rules it finds are looked at whole.
//!
//! What is understood: `alert` and `pass` rules over `ip`, `tcp`, `udp`, `http`, `tls`, `dns`; addresses and ports
//! with `any`, lists, ranges, `!` and variables; the options of [`rule::Option_`]. Whatever else a rule
//! holds is an error that names file, line and option: a rule half understood would promise what it does not do.

pub mod matcher;
pub mod parse;
pub mod rule;

#[cfg(test)]
mod tests;

pub use matcher::{Alert, Ruleset, Scan, Scanner};
pub use parse::{RuleError, parse};
pub use rule::{Buffer, Rule};

/// The rules that ship, their own text.
pub const SHIPPED: &str = include_str!("../../data/weir.rules");
