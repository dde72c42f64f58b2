//! Any text: scrubbing and guarding never panic, and a stream comes to the same as the whole. The first
//! byte chooses the length of the pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm::guard::{Guard, StreamGuard, Verdict};
use llm::pii::{Scrubber, Side, StreamRestorer, StreamScrubber, Vault};
use std::sync::{Arc, LazyLock};

const RULES: &str = r#"[{"regex":"EMP-\\d{3,6}\\b","label":"EMPLOYEE","action":"reversible"},{"keywords":["ab c","acme"]},
    {"kind":"email","action":"reversible"},{"kind":"phone","action":"reversible"},{"kind":"card","action":"reversible"},
    {"kind":"national_id","action":"reversible"},{"kind":"ip","action":"reversible"},
    {"kind":"postal_code","action":"reversible"},{"kind":"iban","action":"reversible"}]"#;
const GUARD_RULES: &str = r#"[{"name":"m","words":["ab c","c d","phone"],"action":"mask"},
    {"name":"f","patterns":["a+b?$"],"action":"flag"},{"name":"b","patterns":["x{3}"],"max_bytes":8}]"#;

static SCRUBBER: LazyLock<Arc<Scrubber>> = LazyLock::new(|| {
    let rules: Vec<_> = serde_json::from_str(RULES).expect("rules");
    Arc::new(Scrubber::compile(&rules, Side::Both, "pii").expect("rules"))
});
static GUARD: LazyLock<Arc<Guard>> = LazyLock::new(|| {
    let rules: Vec<_> = serde_json::from_str(GUARD_RULES).expect("rules");
    Arc::new(Guard::compile_rules(&rules, Side::Both, "guardrails").expect("rules"))
});

fuzz_target!(|bytes: &[u8]| {
    let Some((&size, rest)) = bytes.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    let pieces = pieces(&text, usize::from(size) + 1);

    let mut vault = Vault::new(7);
    let (whole, found) = SCRUBBER.scrub(&text, &mut vault);
    let (mut stream, mut again, mut out) = (
        StreamScrubber::new(Arc::clone(&SCRUBBER)),
        Vault::new(7),
        String::new(),
    );
    for piece in &pieces {
        out.push_str(&stream.push(piece, &mut again));
        assert!(stream.held_bytes() <= SCRUBBER.hold_max_bytes());
    }
    out.push_str(&stream.finish(&mut again));
    assert_eq!((&out, stream.found(), again.len()), (&whole, &found, vault.len()));

    let (mut restorer, mut restored) = (StreamRestorer::default(), String::new());
    for piece in self::pieces(&out, usize::from(size) + 1) {
        restored.push_str(&restorer.push(piece, &vault));
    }
    restored.push_str(&restorer.finish());
    assert_eq!(restored, vault.restore(&whole));
    if !text.contains(['[', ']']) && !whole.contains("[KEYWORD]") {
        assert_eq!(restored, text);
    }

    let verdict = GUARD.check(&text);
    let (mut stream, mut out) = (StreamGuard::new(Arc::clone(&GUARD)), String::new());
    for piece in &pieces {
        out.push_str(&stream.push(piece).text);
    }
    out.push_str(&stream.finish().text);
    assert_eq!(stream.blocked_by(), verdict.blocked_by());
    assert_eq!(stream.found(), &verdict.found().cloned().unwrap_or_default());
    match verdict {
        Verdict::Mask { text, .. } => assert_eq!(out, text),
        Verdict::Flag { .. } | Verdict::Pass => assert_eq!(out, text),
        Verdict::Block { .. } => {}
    }
});

/// The text in pieces of at least `size` bytes.
fn pieces(text: &str, size: usize) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(rest.ceil_char_boundary(size));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}
