//! Budgets, limits and the cache: what a call may cost, and what it cost.

use super::common::wait_until;
use super::kit::*;
use llm::catalogue::Catalogue;
use llm::usage::Usage;
use serde_json::{Value, json};
use std::io::Read;
use store::outcome::Outcome;

/// What the catalogue says that these tokens cost.
fn cost(input: u64, output: u64) -> i64 {
    let model = Catalogue::shipped()
        .lookup("openai", "gpt-4o-mini")
        .expect("a model");
    let usage = Usage {
        input,
        output,
        ..Usage::default()
    };
    llm::money::cost(&model.prices, &usage).amount.pico_usd()
}

fn usage(input: u64, output: u64) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"g","choices":[{{"index":0,"message":{{"role":"assistant","content":"x"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}}}"#,
        input + output
    )
}

#[test]
fn costs() {
    let fake = Fake::new(|_| reply(200, "", usage(1000, 500)));
    let site = Site::before(
        &fake,
        json!({ "consumers": [{ "name": "app", "keys": [{ "value": "ck" }], "budget": { "usd": 5 } }] }),
    );
    assert_eq!(site.post("/v1/chat/completions", chat("fast")).status, 200);
    let record = site.record();
    assert_eq!(record.cost_pusd, cost(1000, 500));
    assert!(record.cost_pusd > 0 && record.price_assumed && !record.estimated);
    // No usage: an estimate, marked.
    fake.says(reply(
        200,
        "",
        r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Some words."}}]}"#,
    ));
    assert_eq!(site.post("/v1/chat/completions", chat("fast")).status, 200);
    let record = site.record();
    assert!(
        record.estimated && record.usage.input > 0 && record.usage.output > 0,
        "{record:?}"
    );
    // A model that nobody has priced cannot be kept to a budget.
    let got = site.post("/v1/chat/completions", chat("free"));
    assert_eq!(
        (got.status, site.record().outcome),
        (402, Outcome::BudgetExceeded),
        "{}",
        got.body
    );
}

#[test]
fn budgets() {
    let fake = Fake::new(|_| Vec::new());
    let check = |budget: Value, answers: &[(u64, u64)], expected: &[u16]| {
        let site = Site::before(
            &fake,
            json!({ "consumers": [{ "name": "app", "keys": [{ "value": "ck" }], "budget": budget }] }),
        );
        let mut answers = std::collections::VecDeque::from(answers.to_vec());
        fake.does(move |_| {
            let (input, output) = answers.pop_front().expect("no more is asked");
            reply(200, "", usage(input, output))
        });
        for (idx, status) in expected.iter().enumerate() {
            let got = site.post("/v1/chat/completions", chat("fast"));
            assert_eq!(got.status, *status, "{idx} of {budget}: {}", got.body);
            let record = site.record();
            if *status == 402 {
                assert_eq!(got.json()["error"]["code"], "budget_exceeded");
                assert_eq!((record.outcome, record.cost_pusd), (Outcome::BudgetExceeded, 0));
            }
        }
        let status = site.shared.budgets.as_ref().expect("budgets").status();
        assert_eq!(status.overshoots, 0);
    };
    // gpt-4o-mini: 4096 tokens of an answer cost 0.0024576 USD, so that 0.003 hold one call and 0.002 none.
    check(json!({ "usd": 0.002, "hard": true }), &[], &[402]);
    check(
        json!({ "usd": 0.003, "hard": true }),
        &[(100, 50), (100, 4000)],
        &[200, 200, 402],
    );
    check(
        json!({ "usd": 0.003, "hard": true, "per": "day" }),
        &[(100, 4000)],
        &[200, 402],
    );
    // A soft budget ends with the call that goes above it.
    check(
        json!({ "usd": 0.001 }),
        &[(100, 50), (100, 4000)],
        &[200, 200, 402],
    );
}

#[test]
fn a_hard_budget_holds_what_is_under_way() {
    let fake = Fake::new(|_| vec![Step::Hold]);
    let site = Site::before(
        &fake,
        json!({ "consumers": [{ "name": "app", "keys": [{ "value": "ck" }], "budget": { "usd": 0.003, "hard": true } }] }),
    );
    let first = site.open("/v1/chat/completions", &chat("fast"));
    wait_until("asked", || !fake.take().is_empty());
    assert_eq!(
        site.post("/v1/chat/completions", chat("fast")).status,
        402,
        "all of it is held"
    );
    site.record();
    drop(first);
    assert_eq!(site.record().outcome, Outcome::ClientGone);
    fake.says(reply(200, "", usage(10, 10)));
    wait_until("given back", || {
        site.post("/v1/chat/completions", chat("fast")).status == 200
    });
}

#[test]
fn providers_whose_answers_cannot_be_bounded() {
    let fake = Fake::new(|_| reply(200, "", usage(10, 10)));
    let site = Site::before(
        &fake,
        json!({
            "gateway": { "catalogue": [{ "provider": "think", "model": "qwen", "usd_per_million": { "input": 1, "output": 1 } }] },
            "providers": [{ "name": "think", "kind": "dashscope", "base_url": format!("http://{}/v1", fake.address), "keys": [{ "value": "k" }], "models": ["qwen"] }],
            "consumers": [
                { "name": "hard", "keys": [{ "value": "hk" }], "budget": { "usd": 5, "hard": true } },
                { "name": "soft", "keys": [{ "value": "sk" }], "budget": { "usd": 5 } },
            ],
        }),
    );
    let check = |key: &str, status: u16| {
        let got = site.post_with(
            "/v1/chat/completions",
            &format!("x-api-key: {key}\r\n"),
            chat("qwen"),
        );
        assert_eq!(got.status, status, "{}", got.body);
    };
    check("hk", 402);
    check("sk", 200);
    check("ck", 200);
}

#[test]
fn limits() {
    let fake = Fake::new(|_| reply(200, "", usage(10, 10)));
    let check = |documents: Value, keys: &[&str], expected: &[u16]| {
        let site = Site::before(&fake, documents.clone());
        for (key, status) in keys.iter().zip(expected) {
            let (key, model) = key.split_once(' ').unwrap_or((key, "fast"));
            let got = site.post_with(
                "/v1/chat/completions",
                &format!("x-api-key: {key}\r\n"),
                chat(model),
            );
            assert_eq!(got.status, *status, "{key} {documents}: {}", got.body);
            let record = site.record();
            if *status == 429 {
                assert_eq!(got.json()["error"]["code"], "rate_limit_exceeded");
                let wait: u64 = got
                    .header("retry-after")
                    .and_then(|text| text.parse().ok())
                    .expect("a time");
                assert!((1..=3600).contains(&wait));
                assert_eq!((record.outcome, record.attempts), (Outcome::RateLimited, 0));
            }
        }
    };
    let app = |limit: Value| {
        json!({ "consumers": [
        { "name": "app", "keys": [{ "value": "ck" }, { "value": "ck2" }], "limits": [limit] },
        { "name": "other", "keys": [{ "value": "ok" }] },
    ] })
    };
    let all = |limit: Value| {
        json!({ "gateway": { "limits": [limit] }, "consumers": [
        { "name": "app", "keys": [{ "value": "ck" }, { "value": "ck2" }], "team": "a" },
        { "name": "other", "keys": [{ "value": "ok" }], "team": "a" },
        { "name": "third", "keys": [{ "value": "tk" }], "team": "b" },
    ] })
    };
    let two = |per: &str| json!({ "requests": "2/h", "burst": 2, "per": per });
    check(
        app(two("consumer")),
        &["ck", "ck2", "ck", "ok"],
        &[200, 200, 429, 200],
    );
    check(app(two("key")), &["ck", "ck", "ck2", "ck"], &[200, 200, 200, 429]);
    check(
        all(two("consumer")),
        &["ck", "ck2", "ck", "ok"],
        &[200, 200, 429, 200],
    );
    check(all(two("key")), &["ck", "ck", "ck2", "ck"], &[200, 200, 200, 429]);
    check(all(two("team")), &["ck", "ok", "ck", "tk"], &[200, 200, 429, 200]);
    check(
        all(two("model")),
        &["ck", "ok", "ck", "ck gpt-4o-mini"],
        &[200, 200, 429, 200],
    );
    check(all(two("source")), &["ck", "ok", "tk"], &[200, 200, 429]);
    check(all(two("all")), &["ck", "ok", "tk"], &[200, 200, 429]);
    let model = json!({ "models": [{ "name": "fast", "targets": [{ "model": "oa/gpt-4o-mini" }], "limits": [{ "requests": "1/h", "burst": 1 }] }] });
    check(model, &["ck", "ck", "ck gpt-4o-mini"], &[200, 429, 200]);
    // Tokens are settled with what was used: 20 each time.
    check(
        app(json!({ "tokens": "100/h", "burst": 100 })),
        &["ck", "ck", "ck", "ck"],
        &[200, 200, 200, 200],
    );
    check(
        app(json!({ "tokens": "40/h", "burst": 40 })),
        &["ck", "ck", "ck", "ok"],
        &[200, 200, 429, 200],
    );
    // What a later limit refuses is not counted by an earlier one.
    let both = json!({
        "gateway": { "limits": [{ "requests": "3/h", "burst": 3, "per": "all" }] },
        "consumers": [
            { "name": "app", "keys": [{ "value": "ck" }], "limits": [{ "requests": "1/h", "burst": 1 }] },
            { "name": "other", "keys": [{ "value": "ok" }] },
        ],
    });
    check(
        both,
        &["ck", "ck", "ck", "ck", "ok", "ok", "ok"],
        &[200, 429, 429, 429, 200, 200, 429],
    );
}

#[test]
fn tokens_of_a_call_that_failed_are_given_back() {
    let fake = Fake::new(|_| reply(400, "", "{}"));
    let site = Site::before(
        &fake,
        json!({ "consumers": [{ "name": "app", "keys": [{ "value": "ck" }], "limits": [{ "tokens": "40/h", "burst": 40 }] }] }),
    );
    for _ in 0..10 {
        assert_eq!(site.post("/v1/chat/completions", chat("fast")).status, 400);
    }
}

#[test]
fn tokens_of_a_provider_are_settled() {
    let fake = Fake::new(|_| reply(200, "", usage(500, 500)));
    let site = Site::before(
        &fake,
        json!({ "providers": [{
            "name": "oa", "kind": "openai", "base_url": format!("http://{}/v1", fake.address), "keys": [{ "value": PROVIDER_KEY }],
            "models": ["gpt-4o-mini"], "limits": [{ "tokens": "900/h", "burst": 900 }],
        }]}),
    );
    assert_eq!(site.post("/v1/chat/completions", chat("fast")).status, 200);
    assert_eq!(site.post("/v1/chat/completions", chat("fast")).status, 429);
}

#[test]
fn concurrency() {
    let fake = Fake::new(|_| vec![Step::Hold]);
    let site = Site::before(
        &fake,
        json!({ "consumers": [{ "name": "app", "keys": [{ "value": "ck" }], "limits": [{ "concurrency": 1 }] }] }),
    );
    let check = |body: &str, steps: Vec<Step>| {
        fake.says(steps);
        let mut first = site.open("/v1/chat/completions", body);
        wait_until("asked", || !fake.take().is_empty());
        let got = site.post("/v1/chat/completions", chat("fast"));
        assert_eq!(got.status, 429);
        assert!(got.header("retry-after").is_some());
        assert_eq!(site.record().outcome, Outcome::RateLimited);
        if body.contains("stream") {
            let mut byte = [0; 16];
            first.read_exact(&mut byte).expect("it began");
        }
        drop(first);
        assert_eq!(site.record().outcome, Outcome::ClientGone);
        fake.says(reply(200, "", ANSWER));
        assert_eq!(site.post("/v1/chat/completions", chat("fast")).status, 200);
        site.record();
        fake.take();
    };
    check(&chat("fast"), vec![Step::Hold]);
    check(
        &chat_stream("fast"),
        stream(&[delta("Hello")], false)
            .into_iter()
            .chain([Step::Hold])
            .collect(),
    );
}

#[test]
fn answers_are_kept() {
    let fake = Fake::new(|_| reply(200, "", ANSWER));
    let on = json!({ "ttl_s": 60 });
    let consumers = json!([
        { "name": "app", "keys": [{ "value": "ck" }, { "value": "ck2" }] },
        { "name": "other", "keys": [{ "value": "ok" }] },
    ]);
    let site = Site::before(
        &fake,
        json!({ "gateway": { "cache": on }, "consumers": consumers }),
    );
    let check = |key: &str, path: &str, body: &str, is_hit: bool| {
        let got = site.post_with(path, &format!("x-api-key: {key}\r\n"), body);
        assert_eq!(got.status, 200, "{}", got.body);
        assert_eq!(
            got.header("x-weir-cache") == Some("hit"),
            is_hit,
            "{key} {path} {body}"
        );
        assert_eq!(fake.take().is_empty(), is_hit);
        let record = site.record();
        assert_eq!(record.cache_hit, is_hit);
        assert_eq!(record.outcome == Outcome::CacheHit, is_hit);
        assert_eq!(record.cost_pusd == 0, is_hit);
        got
    };
    let path = "/v1/chat/completions";
    let first = check("ck", path, &chat("fast"), false);
    assert_eq!(check("ck", path, &chat("fast"), true).body, first.body);
    assert_eq!(first.body, ANSWER);
    check("ck2", path, &chat("fast"), true);
    check("ok", path, &chat("fast"), false);
    check("ok", path, &chat("fast"), true);
    check("ck", path, &chat("gpt-4o-mini"), false);
    check("ck", path, &chat("fast").replace("hi", "ho"), false);
    let messages = r#"{"model":"fast","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let told = check("ck", "/v1/messages", messages, false);
    assert_eq!(check("ck", "/v1/messages", messages, true).body, told.body);
    fake.says(deltas(&["x"]));
    check("ck", path, &chat_stream("fast"), false);
    check("ck", path, &chat_stream("fast"), false);
    // An error is not kept, and nothing is where it is off.
    fake.says(reply(400, "", "{}"));
    let body = chat("fast").replace("hi", "bad");
    assert_eq!(site.post(path, &body).status, 400);
    fake.says(reply(200, "", ANSWER));
    assert_eq!(site.post(path, &body).header("x-weir-cache"), None);
    let off = Site::before(&fake, json!({}));
    for _ in 0..2 {
        assert_eq!(off.post(path, chat("fast")).header("x-weir-cache"), None);
    }
}
