//! Something that is not as a protocol or a packet should be.

use serde::Serialize;

/// One oddity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Anomaly {
    /// `applayer`, `stream` or `decode`, as Suricata has it.
    pub r#type: &'static str,
    /// What is wrong, in snake case: `invalid_record_length`.
    pub event: &'static str,
    /// Where it was found, as Suricata's `layer` has it: `proto_parser`, `proto_detect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<&'static str>,
    #[serde(skip)]
    pub severity: Severity,
}

/// How much an oddity matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Often evasion or an attack: bytes of one sequence number that differ, smuggled requests.
    High,
    /// A peer that breaks the protocol.
    Medium,
    /// Seen in healthy networks too: cut captures, odd but legal messages.
    Low,
}

impl Anomaly {
    /// A parser met what its protocol does not allow.
    #[must_use]
    pub const fn parser(event: &'static str, severity: Severity) -> Self {
        Self {
            r#type: "applayer",
            event,
            layer: Some("proto_parser"),
            severity,
        }
    }

    /// A TCP stream that is not as it should be.
    #[must_use]
    pub const fn stream(event: &'static str, severity: Severity) -> Self {
        Self {
            r#type: "stream",
            event,
            layer: None,
            severity,
        }
    }
}
