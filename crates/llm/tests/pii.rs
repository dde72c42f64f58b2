//! Personal data is found, look-alikes stay, and a stream is scrubbed to what the whole text is.

use llm::pii::{Kind, Rule, Scrubber, Side, StreamRestorer, StreamScrubber, Vault};
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A text and what is personal in it, in order; none for look-alikes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    text: String,
    find: Vec<(Kind, String)>,
    #[serde(rename = "why", default)]
    _why: String,
}

/// Where the parts are.
fn places(text: &str, parts: &[(Kind, String)]) -> Vec<(Kind, Range<usize>)> {
    let mut from = 0;
    let place = |(kind, part): &(Kind, String)| {
        let start = from + text[from..].find(part.as_str()).expect("the text has the part");
        from = start + part.len();
        (*kind, start..from)
    };
    parts.iter().map(place).collect()
}

/// The first set was written before the finders. The second was written after them: on its first run
/// recall was 0.87 and precision 0.96, and what it showed was mended; its last part is look-alikes that
/// turned up in source code. The third was meant to be hard: on its first run recall was 0.78 and
/// precision 0.98, and only what was plainly a fault was mended.
const SETS: [(&str, &str); 3] = [
    ("first", include_str!("data/pii.jsonl")),
    ("later", include_str!("data/pii-later.jsonl")),
    ("fresh", include_str!("data/pii-fresh.jsonl")),
];

fn read(set: &str) -> Vec<Case> {
    let lines = set.lines();
    lines
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

fn cases() -> Vec<Case> {
    SETS.iter().flat_map(|(_, set)| read(set)).collect()
}

fn scrubber(rules: &str) -> Arc<Scrubber> {
    let rules: Vec<Rule> = serde_json::from_str(rules).unwrap();
    Arc::new(Scrubber::compile(&rules, Side::Both, "pii").unwrap())
}

fn all_kinds() -> Arc<Scrubber> {
    scrubber(
        r#"[{"kind":"email"},{"kind":"phone"},{"kind":"card"},{"kind":"iban"},{"kind":"ip"},{"kind":"national_id"},{"kind":"postal_code"}]"#,
    )
}

#[derive(Default)]
struct Tally {
    expected: usize,
    found: usize,
    right: usize,
}

impl Tally {
    fn recall(&self) -> f64 {
        self.right as f64 / self.expected.max(1) as f64
    }

    fn precision(&self) -> f64 {
        self.right as f64 / self.found.max(1) as f64
    }
}

#[test]
fn labelled_cases() {
    let scrubber = all_kinds();
    let mut tallies = BTreeMap::<&str, Tally>::new();
    for (set, lines) in SETS {
        for Case { text, find, .. } in &read(lines) {
            let expected = places(text, find);
            let found: Vec<(Kind, Range<usize>)> = scrubber
                .find(text)
                .iter()
                .map(|found| (found.kind.unwrap().family(), found.start..found.end))
                .collect();
            for place in &found {
                let right = expected.contains(place);
                for name in [place.0.label(), set, "all"] {
                    let tally = tallies.entry(name).or_default();
                    tally.found += 1;
                    tally.right += usize::from(right);
                }
                if !right {
                    println!(
                        "{set}: too much: {:?} `{}` in {text:?}",
                        place.0,
                        &text[place.1.clone()]
                    );
                }
            }
            for place in &expected {
                for name in [place.0.label(), set, "all"] {
                    tallies.entry(name).or_default().expected += 1;
                }
                if !found.contains(place) {
                    println!(
                        "{set}: missed: {:?} `{}` in {text:?}",
                        place.0,
                        &text[place.1.clone()]
                    );
                }
            }
        }
    }
    for (name, tally) in &tallies {
        let (recall, precision) = (tally.recall(), tally.precision());
        let Tally { expected, found, .. } = tally;
        println!(
            "{name:12} expected {expected:3}, found {found:3}, recall {recall:.3}, precision {precision:.3}"
        );
        let (least_recall, least_precision) = match *name {
            "all" => (0.98, 0.95),
            "fresh" => (0.85, 0.9),
            _ => (0.9, 0.9),
        };
        assert!(recall >= least_recall && precision >= least_precision, "{name}");
    }
}

/// Scrubs `pieces` as a stream, holding the scrubber to its bound.
fn streamed<'a>(
    scrubber: &Arc<Scrubber>,
    pieces: impl IntoIterator<Item = &'a str>,
) -> (String, Vault, String) {
    let (mut vault, mut out) = (Vault::new(7), String::new());
    let mut stream = StreamScrubber::new(Arc::clone(scrubber));
    for piece in pieces {
        out.push_str(&stream.push(piece, &mut vault));
        assert!(stream.held_bytes() <= scrubber.hold_max_bytes());
        let shown = format!("{stream:?}");
        assert_eq!(
            shown,
            format!("StreamScrubber {{ held_bytes: {}, .. }}", stream.held_bytes())
        );
    }
    out.push_str(&stream.finish(&mut vault));
    let counts = format!("{:?}", stream.found());
    (out, vault, counts)
}

fn check_cuts(scrubber: &Arc<Scrubber>, text: &str) {
    let mut vault = Vault::new(7);
    let (whole, found) = scrubber.scrub(text, &mut vault);
    let found = format!("{found:?}");
    let cuts = (0..=text.len()).filter(|&at| text.is_char_boundary(at));
    for at in cuts {
        let (head, tail) = text.split_at(at);
        let (out, _, counts) = streamed(scrubber, [head, tail]);
        assert_eq!(
            (out, counts),
            (whole.clone(), found.clone()),
            "cut at {at}: {text:?}"
        );
    }
    let chars: Vec<String> = text.chars().map(String::from).collect();
    let (out, streams, _) = streamed(scrubber, chars.iter().map(String::as_str));
    assert_eq!(out, whole, "character by character: {text:?}");
    assert_eq!(streams.restore(&out), vault.restore(&whole));
}

const MIXED: &str = r#"[{"regex":"EMP-\\d{3,6}","label":"EMPLOYEE","action":"reversible"},{"keywords":["Projekt Ö","acme"]},
    {"kind":"email","action":"reversible"},{"kind":"phone","keep_last":4},{"kind":"card","action":"shuffle"},
    {"kind":"national_id","action":"truncate","keep_first":2},{"kind":"ip","action":"replace","text":"(ip)"},
    {"kind":"postal_code"},{"kind":"iban","action":"reversible"}]"#;

#[test]
fn streams_are_scrubbed_like_whole_texts() {
    for scrubber in [all_kinds(), scrubber(MIXED)] {
        for case in cases() {
            check_cuts(&scrubber, &case.text);
        }
    }
    let joined: Vec<String> = cases().into_iter().map(|case| case.text).collect();
    let joined = joined.join("\n");
    for scrubber in [all_kinds(), scrubber(MIXED)] {
        let whole = scrubber.scrub(&joined, &mut Vault::new(7)).0;
        for size in [1, 2, 3, 7, 61, 4099] {
            let chars: Vec<char> = joined.chars().collect();
            let pieces: Vec<String> = chars.chunks(size).map(|piece| piece.iter().collect()).collect();
            assert_eq!(
                streamed(&scrubber, pieces.iter().map(String::as_str)).0,
                whole,
                "{size}"
            );
        }
    }
}

fn check(rules: &str, text: &str, expected: &str) {
    let scrubber = scrubber(rules);
    let mut vault = Vault::new(7);
    assert_eq!(scrubber.scrub(text, &mut vault).0, expected);
    check_cuts(&scrubber, text);
}

#[test]
fn actions() {
    let text = "From ann@example.com (415-555-2671) to ann@example.com, bob@example.com";
    check(
        r#"[{"kind":"email"},{"kind":"phone"}]"#,
        text,
        "From [EMAIL] ([PHONE]) to [EMAIL], [EMAIL]",
    );
    check(
        r#"[{"kind":"phone","keep_last":4}]"#,
        "Call 415-555-2671.",
        "Call ****2671.",
    );
    check(
        r#"[{"kind":"postal_code","keep_last":4}]"#,
        "Ottawa K1A 0B1",
        "Ottawa ****0B1",
    );
    check(
        r#"[{"kind":"email","action":"reversible"}]"#,
        text,
        "From [EMAIL_1] (415-555-2671) to [EMAIL_1], [EMAIL_2]",
    );
    check(
        r#"[{"kind":"email","action":"replace","text":"someone"}]"#,
        "a@b.co!",
        "someone!",
    );
    check(
        r#"[{"kind":"email","action":"truncate","keep_first":1}]"#,
        "ann@example.com",
        "a",
    );
    check(
        r#"[{"regex":"EMP-\\d+","label":"EMPLOYEE"}]"#,
        "EMP-12, EMP-x, EMP-345",
        "[EMPLOYEE], EMP-x, [EMPLOYEE]",
    );
    check(
        r#"[{"keywords":["Project Zebra","ÖBB"]}]"#,
        "project zebra, Project Zebras, die öbb, 在ÖBB上",
        "[KEYWORD], Project Zebras, die [KEYWORD], 在[KEYWORD]上",
    );
    check(
        r#"[{"kind":"us_ssn"},{"kind":"national_id","label":"ID"}]"#,
        "536-22-8726, 046 454 286",
        "[US_SSN], [ID]",
    );
    check(r#"[{"regex":"^\\d+$"}]"#, "123", "[CUSTOM]");
    check(r#"[{"regex":"^\\d+$"}]"#, "a 123", "a 123");
    check(
        r#"[{"regex":"a+","max_bytes":4}]"#,
        "aaaaaab",
        "[CUSTOM][CUSTOM]b",
    );
}

#[test]
fn shuffled_values_keep_their_shape() {
    let scrubber = scrubber(r#"[{"kind":"card","action":"shuffle"}]"#);
    let scrub = |seed| scrubber.scrub("5500 0055 5555 5559", &mut Vault::new(seed)).0;
    let (one, other) = (scrub(1), scrub(2));
    assert_eq!(one, scrub(1));
    assert_ne!(one, other);
    let mut digits: Vec<char> = one.chars().collect();
    digits.sort_unstable();
    assert_eq!(digits.iter().collect::<String>(), "   0000555555555559");
}

#[test]
fn errors_name_the_field() {
    let check = |rules: &str, expected: &str| {
        let error = serde_json::from_str::<Vec<Rule>>(rules)
            .map_err(|error| error.to_string())
            .and_then(|rules| {
                Scrubber::compile(&rules, Side::Both, "pii").map_err(|error| error.to_string())
            });
        let error = error.expect_err(rules);
        assert!(error.starts_with(expected), "{error}");
    };
    check(
        r#"[{"kind":"email"},{"regex":"("}]"#,
        "`pii[1].regex`: not a pattern",
    );
    check(
        r#"[{"regex":"(\\w{1000}){1000}"}]"#,
        "`pii[0].regex`: not a pattern",
    );
    check(
        r#"[{"regex":"x*"}]"#,
        "`pii[0].regex`: the pattern matches the empty",
    );
    check(r#"[{"regex":"x","max_bytes":5000}]"#, "`pii[0].max_bytes`: ");
    check(r#"[{"kind":"email","max_bytes":50}]"#, "`pii[0].max_bytes`: ");
    check(r#"[{"keywords":[]}]"#, "`pii[0].keywords`: ");
    check(r#"[{"keywords":[" "]}]"#, "`pii[0].keywords`: ");
    check(r#"[{}]"#, "`pii[0]`: expected exactly one");
    check(
        r#"[{"kind":"email","regex":"x"}]"#,
        "`pii[0]`: expected exactly one",
    );
    check(r#"[{"kind":"email","label":"e-mail"}]"#, "`pii[0].label`: ");
    check(r#"[{"kind":"email","action":"replace"}]"#, "`pii[0].text`: ");
    check(r#"[{"kind":"email","text":"x"}]"#, "`pii[0].text`: ");
    check(
        r#"[{"kind":"email","action":"shuffle","keep_last":2}]"#,
        "`pii[0].keep_last`: ",
    );
    check(r#"[{"kind":"email","keep_first":2}]"#, "`pii[0].keep_first`: ");
    check(r#"[{"kind":"mail"}]"#, "unknown variant `mail`");
    check(r#"[{"kind":"email","colour":1}]"#, "unknown field `colour`");
}

#[test]
fn rules_hold_on_their_side() {
    let rules: Vec<Rule> =
        serde_json::from_str(r#"[{"kind":"email","in":"request"},{"kind":"phone","in":"response"}]"#)
            .unwrap();
    let check = |side, expected: &str| {
        let scrubber = Scrubber::compile(&rules, side, "pii").unwrap();
        let out = scrubber
            .scrub("ann@example.com 415-555-2671", &mut Vault::new(0))
            .0;
        assert_eq!(out, expected);
    };
    check(Side::Request, "[EMAIL] 415-555-2671");
    check(Side::Response, "ann@example.com [PHONE]");
    check(Side::Both, "[EMAIL] [PHONE]");
}

#[test]
fn tokens_come_back() {
    let scrubber = scrubber(r#"[{"kind":"email","action":"reversible"}]"#);
    let mut vault = Vault::new(0);
    scrubber.scrub("ann@example.com bob@example.com", &mut vault);
    assert_eq!(format!("{vault:?}"), "Vault { entries: 2, overflow: 0, .. }");
    let answer = "Hi [EMAIL_2], [EMAIL_1]! a[0] [[EMAIL_1]] [EMAIL_3] [EMAIL_1 [x] 你[EMAIL_2]好 [EMAIL_";
    let expected = "Hi bob@example.com, ann@example.com! a[0] [ann@example.com] [EMAIL_3] [EMAIL_1 [x] 你bob@example.com好 [EMAIL_";
    assert_eq!(vault.restore(answer), expected);
    for (at, _) in answer.char_indices() {
        let mut restorer = StreamRestorer::default();
        let mut out = restorer.push(&answer[..at], &vault);
        assert!(restorer.held_bytes() < 48);
        out.push_str(&restorer.push(&answer[at..], &vault));
        out.push_str(&restorer.finish());
        assert_eq!(out, expected, "cut at {at}");
    }
}

#[test]
fn a_full_vault_masks_and_counts() {
    let scrubber = scrubber(r#"[{"kind":"email","action":"reversible"}]"#);
    let mut vault = Vault::new(0);
    let text: String = (0..=llm::pii::VAULT_ENTRIES_MAX)
        .map(|number| format!("u{number}@example.com "))
        .collect();
    let (out, found) = scrubber.scrub(&text, &mut vault);
    assert!(out.ends_with("[EMAIL_10000] [EMAIL] "));
    assert_eq!(
        (vault.len(), vault.overflow(), found.count("EMAIL")),
        (10_000, 1, 10_001)
    );
    assert_eq!(vault.restore(&out), text.replace("u10000@example.com", "[EMAIL]"));
}

/// Text made of what the finders look at.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[0-9]{1,5}",
        4 => "[-+ ().:/#@_%'\\\\,]",
        2 => "[a-zA-Z]{1,4}",
        1 => prop::sample::select(vec![
            "ann@example.com", "415-555-2671", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "2001:db8::1",
            "203.0.113.7", "046 454 286", "K1A 0B1", "zip 94105", "\\u00e9", "\\n", "EMP-123", "acme", "电话", "é",
            "Projekt ö", "phone ", "😀", "version ",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_stream_is_scrubbed_like_the_whole(text in texts(), cuts in prop::collection::vec(0..400usize, 0..8)) {
        for scrubber in [all_kinds(), scrubber(MIXED)] {
            let whole = scrubber.scrub(&text, &mut Vault::new(7)).0;
            let mut cuts: Vec<usize> = cuts.iter().map(|&at| text.floor_char_boundary(at)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]);
            prop_assert_eq!(&streamed(&scrubber, pieces).0, &whole);
        }
    }

    #[test]
    fn what_is_reversible_comes_back(text in texts()) {
        prop_assume!(!text.contains('['));
        let scrubber = scrubber(r#"[{"kind":"email","action":"reversible"},{"kind":"phone","action":"reversible"},
            {"kind":"national_id","action":"reversible"},{"kind":"card","action":"reversible"}]"#);
        let mut vault = Vault::new(0);
        let (out, _) = scrubber.scrub(&text, &mut vault);
        prop_assert_eq!(vault.restore(&out), text);
    }
}
