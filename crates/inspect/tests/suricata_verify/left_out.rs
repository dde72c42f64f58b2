//! Checks that say nothing of a reader of packets, each with its reason.

use serde_json::Value;

use super::check::Check;
use super::tests::Test;

/// The version of Suricata whose records Weir writes.
const VERSION: [u32; 3] = [8, 0, 7];

/// Event types of what Suricata does, not of what it sees.
const ENGINE_TYPES: &[&str] = &[
    "alert", "drop", "verdict", "stats", "engine", "fileinfo", "metadata", "frame", "any",
];

/// Fields by how their names begin, and why nothing else than Suricata has them.
const FIELDS: &[(&str, &str)] = &[
    ("flow.action", "Suricata acts on packets"),
    ("flow.bypass", "Suricata acts on packets"),
    ("flow.exception_policy", "Suricata acts on packets"),
    ("tcp.ts_max_regions", "memory of Suricata's stream engine"),
    ("tcp.tc_max_regions", "memory of Suricata's stream engine"),
    ("flow.tx_cnt", "counts transactions as Suricata's parsers do"),
    ("pcap_cnt", "counts packets of the file"),
];

/// Options that make Suricata see less or other things.
const OPTIONS: &[(&str, &str)] = &[
    ("midstream-policy", "exception policies"),
    ("error-policy", "exception policies"),
    ("exception-policy", "exception policies"),
    ("simulate-applayer", "exception policies"),
    ("firewall", "its rules drop packets"),
    (
        "midstream=false",
        "Weir always follows connections joined in the middle",
    ),
    ("async-oneside=false", "Weir always follows one side alone"),
    ("memcap", "limits of Suricata"),
    ("reassembly.depth", "limits of Suricata"),
    ("urgent.policy", "options of Suricata's stream engine"),
    (
        "recursion-level.use-for-tracking",
        "options of Suricata's flow engine",
    ),
    ("fingerprints=no", "fingerprints switched off"),
];

/// Why a check is not judged, if it is not.
pub(crate) fn reason(test: &Test, check: &Check) -> Option<&'static str> {
    if ENGINE_TYPES.contains(&check.event_type()) {
        return Some("events of Suricata's own engine");
    }
    let below = |version: &Value| numbers(version).is_some_and(|version| VERSION < version);
    let for_later = test
        .min_version
        .as_ref()
        .is_some_and(|version| below(&Value::from(version.as_str())));
    let is_other_version = [&test.requires, &check.requires].into_iter().any(|requires| {
        requires.get("min-version").is_some_and(below)
            || requires.get("lt-version").is_some_and(|version| !below(version))
    });
    if for_later || is_other_version {
        return Some("another version of Suricata");
    }
    if let Some((_, reason)) = OPTIONS.iter().find(|(part, _)| test.args.contains(part)) {
        return Some(reason);
    }
    let field = |(field, _): &&(&str, &str)| check.wanted.keys().any(|key| key.starts_with(field));
    if let Some((_, reason)) = FIELDS.iter().find(field) {
        return Some(reason);
    }
    // Its configuration has a seed, which the labels do not tell.
    if test.name.contains("community-id") && check.wanted.contains_key("community_id") {
        return Some("a seed of the community id");
    }
    let text = |key: &str| check.wanted.get(key).and_then(Value::as_str);
    if check.wanted.get("flow.alerted") == Some(&Value::Bool(true)) {
        return Some("its rules raise alerts");
    }
    if text("flow.state") == Some("bypassed") {
        return Some("Suricata acts on packets");
    }
    if matches!(text("dns.type"), Some("answer" | "query")) {
        return Some("DNS in the form of an older version");
    }
    // What a rule drops is neither seen nor told by the rest of Suricata.
    let drops = |check: &Check| {
        check
            .wanted
            .get("flow.action")
            .is_some_and(|action| action == "drop")
            || check.event_type() == "drop"
    };
    if test.checks.iter().any(drops) {
        return Some("its rules drop packets");
    }
    None
}

fn numbers(version: &Value) -> Option<[u32; 3]> {
    let text = match version {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let mut numbers = [0; 3];
    for (at, part) in text.split('.').take(3).enumerate() {
        numbers[at] = part.parse().ok()?;
    }
    Some(numbers)
}
