//! A signature that matched.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::signature;

/// EVE's `alert`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    /// `allowed`: what is dropped is policy's.
    pub action: &'static str,
    pub gid: u32,
    pub signature_id: u32,
    pub rev: u32,
    pub signature: String,
    /// One of the words that findings have: `web-attack`, `malware`, …
    pub category: &'static str,
    /// 1 (high) to 3 (low).
    pub severity: u8,
    /// Values by name; a name may have several.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl From<signature::Alert> for Alert {
    fn from(alert: signature::Alert) -> Self {
        let mut metadata = Map::new();
        for (name, value) in alert.metadata {
            let values = metadata.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(values) = values {
                values.push(Value::String(value));
            }
        }
        Self {
            action: "allowed",
            gid: 1,
            signature_id: alert.sid,
            rev: alert.rev,
            signature: alert.msg,
            category: alert.category,
            severity: alert.severity,
            metadata,
        }
    }
}
