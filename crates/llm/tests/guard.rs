//! Guardrails block, mask and flag, on whole texts and on streams alike.

use llm::guard::{Guard, GuardAction, GuardRule, StreamGuard, Verdict};
use llm::pii::Side;
use proptest::prelude::*;
use std::sync::Arc;

fn guard(rules: &str) -> Arc<Guard> {
    let rules: Vec<GuardRule> = serde_json::from_str(rules).unwrap();
    Arc::new(Guard::compile_rules(&rules, Side::Both, "guardrails").unwrap())
}

/// What a stream lets out, and the rule that ended it.
fn streamed<'a>(
    guard: &Arc<Guard>,
    pieces: impl Iterator<Item = &'a str>,
) -> (String, Option<String>, String) {
    let mut stream = StreamGuard::new(Arc::clone(guard));
    let mut out = String::new();
    for piece in pieces {
        out.push_str(&stream.push(piece).text);
        assert!(stream.held_bytes() <= guard.hold_max_bytes());
    }
    let last = stream.finish();
    out.push_str(&last.text);
    let blocked = last.blocked_by.map(|rule| rule.to_string());
    (out, blocked, format!("{:?}", stream.found()))
}

/// `expected`: the text that goes out, or `!` and the rule that blocks it.
fn check(rules: &str, text: &str, expected: &str) {
    let guard = guard(rules);
    let verdict = guard.check(text);
    let shown = match &verdict {
        Verdict::Block { rule, .. } => format!("!{rule}"),
        Verdict::Mask { text, .. } => text.clone(),
        Verdict::Flag { .. } | Verdict::Pass => text.to_owned(),
    };
    assert_eq!(shown, expected);
    let whole = streamed(&guard, [text].into_iter());
    assert_eq!(whole.1, verdict.blocked_by().map(ToString::to_string));
    assert_eq!(
        whole.2,
        format!("{:?}", verdict.found().cloned().unwrap_or_default())
    );
    if verdict.blocked_by().is_none() {
        assert_eq!(whole.0, expected);
    }
    for (at, _) in text.char_indices() {
        let (head, tail) = text.split_at(at);
        assert_eq!(streamed(&guard, [head, tail].into_iter()), whole, "cut at {at}");
    }
    let chars: Vec<String> = text.chars().map(String::from).collect();
    assert_eq!(streamed(&guard, chars.iter().map(String::as_str)), whole);
}

#[test]
fn words_and_patterns() {
    let block = r#"[{"name": "secrets", "words": ["Project Zebra", "größe", "炸弹"]}]"#;
    check(block, "about project zebra now", "!secrets");
    check(block, "about project zebras now", "about project zebras now");
    check(block, "GRÖßE and Größe", "!secrets");
    check(block, "怎么做炸弹呢", "!secrets");
    check(
        r#"[{"name": "part", "words": ["bomb"], "whole_words": false}]"#,
        "Bombastic",
        "!part",
    );
    let mask = r#"[{"name": "m", "words": ["foo bar", "bar baz", "bar"], "action": "mask"}]"#;
    check(mask, "a foo bar baz b bar", "a [MASKED] baz b [MASKED]");
    check(
        r#"[{"name": "p", "patterns": ["(?i)sk-[a-z0-9]{8,}", "x{3}"], "action": "mask"}]"#,
        "key SK-abc12345 and xxxxx",
        "key [MASKED] and [MASKED]xx",
    );
    check(
        r#"[{"name": "f", "words": ["maybe"], "action": "flag"}]"#,
        "maybe, Maybe",
        "maybe, Maybe",
    );
}

#[test]
fn rules_see_what_others_mask() {
    let rules = r#"[{"name": "m", "words": ["alpha beta"], "action": "mask"}, {"name": "b", "words": ["beta gamma"]},
        {"name": "m2", "words": ["beta delta"], "action": "mask"}]"#;
    check(rules, "alpha beta gamma", "!b");
    check(rules, "say alpha beta delta end", "say [MASKED] end");
    let two = guard(r#"[{"name": "f", "words": ["a"], "action": "flag"}, {"name": "b", "words": ["b"]}]"#);
    let verdict = two.check("a a b a");
    let found = verdict.found().unwrap();
    assert_eq!((found.count("f"), found.count("b")), (2, 1));
    assert_eq!(streamed(&two, ["a a b a"].into_iter()).0, "a a ");
}

#[test]
fn one_guardrail() {
    let list = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let compile = |words: &[&str], patterns: &[&str]| {
        Guard::compile(
            "g",
            &list(words),
            &list(patterns),
            GuardAction::Flag,
            "guardrails[3]",
        )
    };
    let guard = compile(&["maybe"], &["per[h]aps"]).unwrap();
    assert_eq!(guard.check("no"), Verdict::Pass);
    let verdict = guard.check("maybe, perhaps");
    assert!(
        matches!(&verdict, Verdict::Flag { found } if found.count("g") == 2),
        "{verdict:?}"
    );
    assert_eq!(
        compile(&[], &["("]).unwrap_err().field,
        "guardrails[3].patterns[0]"
    );
}

#[test]
fn errors_name_the_field() {
    let check = |rules: &str, field: &str| {
        let rules: Vec<GuardRule> = serde_json::from_str(rules).unwrap();
        let error = Guard::compile_rules(&rules, Side::Both, "guardrails").unwrap_err();
        assert_eq!(error.field, field, "{error}");
    };
    check(r#"[{"name": ""}]"#, "guardrails[0].name");
    check(r#"[{"name": "x"}]"#, "guardrails[0]");
    check(r#"[{"name": "x", "words": [""]}]"#, "guardrails[0].words");
    check(
        r#"[{"name": "x", "patterns": ["a", "["]}]"#,
        "guardrails[0].patterns[1]",
    );
    check(
        r#"[{"name": "x", "patterns": ["a"], "max_bytes": 0}]"#,
        "guardrails[0].max_bytes",
    );
    assert!(serde_json::from_str::<GuardRule>(r#"{"name": "x", "word": []}"#).is_err());
}

proptest! {
    #[test]
    fn any_stream_is_guarded_like_the_whole(text in "[abé 炸]{0,60}", cuts in prop::collection::vec(0..80usize, 0..6)) {
        for rules in [
            r#"[{"name": "m", "words": ["ab", "bab a", "é b"], "whole_words": false, "action": "mask"},
                {"name": "f", "words": ["a", "炸"], "action": "flag"},
                {"name": "p", "patterns": ["a+b?\\b", "é$"], "max_bytes": 6, "action": "mask"}]"#,
            r#"[{"name": "m", "words": ["a b", "b"], "action": "mask"}, {"name": "b", "patterns": ["a{3}", "é é"]}]"#,
        ] {
            let guard = guard(rules);
            let whole = streamed(&guard, [text.as_str()].into_iter());
            let mut cuts: Vec<usize> = cuts.iter().map(|&at| text.floor_char_boundary(at)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]);
            prop_assert_eq!(streamed(&guard, pieces), whole);
        }
    }
}
