//! Bodies kept for audit: as guardrails left them, with who asked, and only where the operator wants them.

use super::kit::*;
use serde_json::{Value, json};
use store::outcome::Outcome;

const ASKED: &str =
    r#"{"model":"fast","user":"ada","messages":[{"role":"user","content":"I am ada@example.org."}]}"#;

fn site(fake: &Fake, bodies: bool, more: Value) -> Site {
    let mut documents = json!({
        "gateway": { "calls": { "bodies": bodies }, "guardrails": ["rail"], "cache": { "ttl_s": 60 } },
        "guardrails": [{ "name": "rail", "pii": [{ "kind": "email" }] }],
    });
    let fields = documents.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    Site::before(fake, documents)
}

#[test]
fn bodies_are_kept_as_they_went() {
    let fake = Fake::new(|_| Vec::new());
    let site = site(&fake, true, json!({}));
    // The text of the answer, how it comes, and what is kept of it.
    let check = |body: &str, steps: Vec<Step>, outcome: Outcome, kept: &str| {
        fake.says(steps);
        let got = site.post("/v1/chat/completions", body);
        let record = site.record();
        assert_eq!(record.outcome, outcome, "{}", got.body);
        let audits = site.audits();
        let [audit] = audits.as_slice() else {
            panic!("{audits:?}")
        };
        assert_eq!(audit.request_id, record.request_id);
        assert_eq!(
            (&*audit.consumer, &*audit.team, &*audit.user),
            ("app", "default", "ada")
        );
        let (request, answer) = (
            String::from_utf8_lossy(&audit.request).into_owned(),
            String::from_utf8_lossy(&audit.response).into_owned(),
        );
        assert!(
            request.contains("I am [EMAIL].") && !request.contains("ada@"),
            "{request}"
        );
        assert_eq!(answer, got.body, "what the client got");
        assert!(answer.contains(kept) && !answer.contains("bob@"), "{answer}");
    };
    let streamed = ASKED.replacen('{', "{\"stream\":true,", 1);
    let answer = ANSWER.replace("Hello.", "Hello, bob@example.org.");
    check(ASKED, reply(200, "", answer), Outcome::Ok, "Hello, [EMAIL].");
    check(ASKED, Vec::new(), Outcome::CacheHit, "Hello, [EMAIL].");
    check(
        &streamed,
        deltas(&["Hello, bob@exam", "ple.org."]),
        Outcome::Ok,
        "[EMAIL]",
    );
    let other = ASKED.replace("I am", "Now I am");
    check(
        &other,
        reply(400, "", r#"{"error":{"message":"too odd"}}"#),
        Outcome::ClientError,
        "error",
    );
}

#[test]
fn nothing_is_kept_unless_it_is_wanted() {
    let fake = Fake::new(|_| reply(200, "", ANSWER));
    let unwanted = site(&fake, false, json!({}));
    assert_eq!(unwanted.post("/v1/chat/completions", ASKED).status, 200);
    unwanted.record();
    assert_eq!(unwanted.audits().len(), 0);
    // Of what a guardrail refuses nothing was scrubbed: it is not kept.
    let rail = json!({ "guardrails": [{ "name": "rail", "words": ["ada"] }] });
    let blocking = site(&fake, true, rail);
    assert_eq!(blocking.post("/v1/chat/completions", ASKED).status, 400);
    assert_eq!(blocking.record().outcome, Outcome::GuardBlocked);
    assert_eq!(blocking.audits().len(), 0);
}

#[test]
fn long_bodies_are_cut() {
    let fake = Fake::new(|_| Vec::new());
    let site = site(&fake, true, json!({}));
    let long = "x".repeat(400 << 10);
    fake.says(reply(200, "", ANSWER.replace("Hello.", &long)));
    let got = site.post("/v1/chat/completions", ASKED.replace("I am", &long));
    assert_eq!(got.status, 200);
    site.record();
    let audits = site.audits();
    assert_eq!(
        (audits[0].request.len(), audits[0].response.len()),
        (256 << 10, 256 << 10)
    );
}
