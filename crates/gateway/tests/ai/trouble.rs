//! What happens when providers fail: other keys, other targets, and an end that is told.

use super::common::wait_until;
use super::kit::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use store::outcome::Outcome;

/// Three keys at one provider, with `more` fields.
fn three_keys(fake: &Fake, more: Value) -> Value {
    let mut provider = json!({
        "name": "oa", "kind": "openai", "base_url": format!("http://{}/v1", fake.address), "models": ["gpt-4o-mini"],
        "keys": [
            { "value": "key-a", "name": "a", "weight": 3 },
            { "value": "key-b", "name": "b", "weight": 1 },
            { "value": "key-c", "name": "c", "weight": 0 },
        ],
    });
    let fields = provider.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    json!({
        "providers": [provider],
        "models": [{ "name": "fast", "targets": [{ "model": "oa/gpt-4o-mini" }], "retries": 3 }],
    })
}

/// The keys that were used, as `aab`.
fn keys(seen: &[Seen]) -> String {
    let last = |seen: &Seen| seen.header("authorization").and_then(|key| key.chars().last());
    seen.iter().filter_map(last).collect()
}

#[test]
fn keys_are_picked_as_configured() {
    let fake = Fake::new(|_| reply(200, "", ANSWER));
    let check = |pick: &str, n: usize, expected: &dyn Fn(&str) -> bool| {
        let site = Site::before(&fake, three_keys(&fake, json!({ "pick": pick })));
        for _ in 0..n {
            assert_eq!(site.post("/v1/chat/completions", chat("fast")).status, 200);
        }
        let used = keys(&fake.take());
        assert!(expected(&used), "{pick}: {used}");
    };
    check("order", 4, &|used| used == "aaaa");
    check("round_robin", 6, &|used| used == "abcabc");
    check("weight", 60, &|used| {
        let n = |key: char| used.chars().filter(|used| *used == key).count();
        n('c') == 0 && n('a') > n('b') && n('b') > 0
    });
}

#[test]
fn a_key_in_trouble_is_left_alone() {
    let fake = Fake::new(|_| Vec::new());
    // What the first key is told, and how it is called then.
    let check = |status: u16, headers: &'static str, body: &'static str, expected: &str| {
        let site = Site::before(&fake, three_keys(&fake, json!({})));
        fake.does(move |seen| {
            if keys(std::slice::from_ref(seen)) == "a" {
                reply(status, headers, body)
            } else {
                reply(200, "", ANSWER)
            }
        });
        for idx in 0..3 {
            let got = site.post("/v1/chat/completions", chat("fast"));
            assert_eq!(got.status, 200, "{status} {}", got.body);
            let record = site.record();
            assert_eq!(&*record.provider_key_id, "b");
            assert_eq!(
                (record.attempts, record.retries),
                if idx == 0 { (2, 1) } else { (1, 0) }
            );
        }
        assert_eq!(keys(&fake.take()), "abbb", "{status}");
        let live = site.shared.live();
        let state = live.providers["oa"].key(&live.snapshot.providers["oa"].keys[0]);
        let now_ms = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("a time")
            .as_millis() as u64;
        assert_eq!(state.status(now_ms), expected, "{status}");
        if expected == "limited" {
            assert_eq!(state.status(now_ms + 31_000), "ok", "as Retry-After says");
            assert_eq!(state.status(now_ms + 25_000), "limited", "as Retry-After says");
        }
    };
    check(401, "", "{}", "expired");
    check(403, "", "{}", "expired");
    check(402, "", "{}", "exhausted");
    check(
        429,
        "",
        r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#,
        "exhausted",
    );
    check(429, "retry-after: 30\r\n", "{}", "limited");
    check(
        400,
        "",
        r#"{"error":{"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}"#,
        "expired",
    );
}

/// An expired key is replaced under its old name: the new one is used from then on.
#[test]
fn a_replaced_key_is_used_at_once() {
    let fake = Fake::new(|seen| {
        if keys(std::slice::from_ref(seen)) == "a" {
            reply(401, "", "{}")
        } else {
            reply(200, "", ANSWER)
        }
    });
    let old = documents(&fake, three_keys(&fake, json!({ "pick": "order" })));
    let site = Site::new(old.clone());
    let ask = || assert_eq!(site.post("/v1/chat/completions", chat("fast")).status, 200);
    ask();
    ask();
    assert_eq!(keys(&fake.take()), "abb");
    // Nothing has changed: what is known stays.
    site.publish(old.clone(), 2);
    ask();
    assert_eq!(keys(&fake.take()), "b");
    let mut new = old;
    let provider = new["providers"].as_array_mut().expect("a list");
    let provider = provider.iter_mut().find(|one| one["name"] == "oa").expect("oa");
    provider["keys"][0]["value"] = "key-x".into();
    site.publish(new, 3);
    ask();
    assert_eq!(keys(&fake.take()), "x");
}

#[test]
fn no_key_is_left() {
    let fake = Fake::new(|_| reply(401, "", r#"{"error":{"message":"key-a is wrong"}}"#));
    let site = Site::before(&fake, three_keys(&fake, json!({})));
    let got = site.post("/v1/chat/completions", chat("fast"));
    assert_eq!((got.status, keys(&fake.take()).as_str()), (502, "abc"));
    assert_eq!(site.record().outcome, Outcome::ProviderAuth);
    assert!(!got.body.contains("key-a"), "{}", got.body);
    let got = site.post("/v1/chat/completions", chat("fast"));
    assert_eq!((got.status, fake.take().len()), (503, 0));
    assert!(got.header("retry-after").is_some());
    assert_eq!(site.record().outcome, Outcome::NoUpstream);
}

/// Two providers, each a server of its own, and a model that goes from one to the other.
fn two(first: &Fake, second: &Fake, more: Value) -> Site {
    Site::new(two_documents(first, second, more))
}

fn two_documents(first: &Fake, second: &Fake, more: Value) -> Value {
    let provider = |name: &str, kind: &str, fake: &Fake| {
        let mut provider = json!({
            "name": name, "kind": kind, "base_url": format!("http://{}/v1", fake.address), "keys": [{ "value": PROVIDER_KEY }],
            "models": ["gpt-4o-mini", "claude-haiku-4-5"],
        });
        let fields = provider.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        provider
    };
    json!({
        "providers": [provider("one", "openai", first), provider("two", "anthropic", second)],
        "models": [
            { "name": "both", "targets": [{ "model": "one/gpt-4o-mini" }, { "model": "two/claude-haiku-4-5" }], "retries": 2 },
            { "name": "alone", "targets": [{ "model": "one/gpt-4o-mini" }], "retries": 0 },
            { "name": "again", "targets": [{ "model": "one/gpt-4o-mini" }], "retries": 2 },
        ],
        "consumers": [{ "name": "app", "keys": [{ "value": "ck" }] }],
    })
}

const CLAUDE: &str = r#"{"id":"m","type":"message","role":"assistant","model":"c","content":[{"type":"text","text":"From two."}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":5}}"#;

fn claude_stream() -> Vec<Step> {
    stream(
        &[
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"c\",\"content\":[],\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"From two.\"}}\n\n",
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ],
        true,
    )
}

fn two_answers(fake: &Fake) {
    fake.does(|seen| {
        if seen.json()["stream"] == true {
            claude_stream()
        } else {
            reply(200, "", CLAUDE)
        }
    });
}

const ERROR_EVENT: &str =
    "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\",\"code\":null}}\n\n";
const ROLE: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"g\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";

#[test]
fn another_target_takes_over() {
    let (first, second) = (Fake::new(|_| Vec::new()), Fake::new(|_| Vec::new()));
    two_answers(&second);
    let check = |steps: Vec<Step>, body: &str| {
        // A site of its own: a breaker or a key in trouble must not help.
        let site = two(
            &first,
            &second,
            json!({ "first_byte_timeout_ms": 1000, "idle_timeout_ms": 1000 }),
        );
        first.says(steps.clone());
        let got = site.post("/v1/chat/completions", body);
        assert_eq!(got.status, 200, "{steps:?} {}", got.body);
        let text = if body.contains("stream") {
            said(&got.body)
        } else {
            got.json()["choices"][0]["message"]["content"]
                .as_str()
                .unwrap_or("")
                .to_owned()
        };
        assert_eq!(text, "From two.", "{steps:?} {}", got.body);
        assert_eq!(got.header("x-weir-model"), Some("two/claude-haiku-4-5"));
        let record = site.record();
        assert_eq!(
            (record.attempts, &*record.provider, record.outcome),
            (2, "two", Outcome::Ok),
            "{steps:?}"
        );
        assert_eq!(
            (record.usage.input, record.usage.output, record.estimated),
            (3, 5, false)
        );
        assert_eq!((first.wait(1).len(), second.wait(1).len()), (1, 1));
    };
    for status in [401, 402, 404, 408, 429, 500, 502, 503, 504, 529] {
        check(reply(status, "", "{}"), &chat("both"));
        check(reply(status, "", "{}"), &chat_stream("both"));
    }
    check(Vec::new(), &chat("both"));
    check(Vec::new(), &chat_stream("both"));
    check(vec![Step::Hold], &chat("both"));
    check(vec![Step::Hold], &chat_stream("both"));
    check(reply(200, "", "no json"), &chat("both"));
    check(stream(&[ERROR_EVENT], true), &chat_stream("both"));
    check(stream(&[ROLE, ERROR_EVENT], true), &chat_stream("both"));
    check(stream(&[ROLE], false), &chat_stream("both"));
    check(stream(&[ROLE], true), &chat_stream("both"));
    check(
        stream(&[ROLE, ROLE], true)
            .into_iter()
            .take(3)
            .chain([Step::Hold])
            .collect(),
        &chat_stream("both"),
    );
    check(
        reply(200, "", r#"{"error":{"message":"x"}}"#),
        &chat_stream("both"),
    );
}

#[test]
fn the_request_at_fault_is_not_tried_again() {
    let (first, second) = (Fake::new(|_| Vec::new()), Fake::new(|_| Vec::new()));
    let site = two(&first, &second, json!({}));
    for status in [400, 413, 422] {
        first.says(reply(status, "", r#"{"error":{"message":"bad"}}"#));
        assert_eq!(site.post("/v1/chat/completions", chat("both")).status, status);
        assert_eq!((first.take().len(), second.take().len()), (1, 0));
    }
}

#[test]
fn retries_have_an_end() {
    let (first, second) = (Fake::new(|_| reply(500, "", "{}")), Fake::new(|_| Vec::new()));
    let site = two(&first, &second, json!({ "breaker": { "failures": 1000 } }));
    let check = |model: &str, n: usize| {
        assert_eq!(site.post("/v1/chat/completions", chat(model)).status, 502);
        assert_eq!(first.take().len(), n, "{model}");
        assert_eq!(usize::from(site.record().attempts), n);
    };
    check("alone", 1);
    check("again", 3);
    // All together may make a hundred, and then a fifth of what comes in.
    while site.shared.retries.spend() {}
    check("again", 1);
    let n = Arc::new(AtomicUsize::new(0));
    first.does({
        let n = Arc::clone(&n);
        move |_| {
            if n.fetch_add(1, SeqCst) == 0 {
                reply(500, "", "{}")
            } else {
                reply(200, "", ANSWER)
            }
        }
    });
    for _ in 0..5 {
        site.shared.retries.earn();
    }
    assert_eq!(
        site.post("/v1/chat/completions", chat("again")).status,
        200,
        "the second time it works"
    );
    let record = site.record();
    assert_eq!((record.attempts, record.retries), (2, 1));
}

#[test]
fn a_broken_stream_is_told_in_the_clients_format() {
    let (first, second) = (Fake::new(|_| Vec::new()), Fake::new(|_| Vec::new()));
    let site = two(&first, &second, json!({ "idle_timeout_ms": 300 }));
    let check = |path: &str, body: &str, steps: Vec<Step>, expected: (&str, Outcome)| {
        first.says(steps.clone());
        let got = site.post(path, body);
        assert_eq!(got.status, 200);
        assert!(got.body.contains("Hel"), "{}", got.body);
        assert!(got.body.contains(expected.0), "{path} {}", got.body);
        assert!(
            !got.body.contains("[DONE]") && !got.body.contains("message_stop"),
            "{}",
            got.body
        );
        assert!(!got.body.contains("127.0.0.1"), "{}", got.body);
        let record = site.record();
        assert_eq!(record.outcome, expected.1, "{path} {}", got.body);
        assert!(
            record.estimated && record.usage.output > 0 && record.cost_pusd > 0,
            "{record:?}"
        );
        assert_eq!(
            (first.take().len(), second.take().len()),
            (1, 0),
            "no other is asked"
        );
    };
    let cut = || stream(&[delta("Hello")], false);
    let ended = || stream(&[delta("Hello")], true);
    let told = || stream(&[delta("Hello"), ERROR_EVENT.to_owned()], true);
    let idle = || {
        stream(&[delta("Hello")], false)
            .into_iter()
            .chain([Step::Hold])
            .collect::<Vec<_>>()
    };
    let messages =
        r#"{"model":"both","stream":true,"max_tokens":50,"messages":[{"role":"user","content":"hi"}]}"#;
    let responses = r#"{"model":"both","stream":true,"input":"hi"}"#;
    let gemini = "/v1beta/models/both:streamGenerateContent";
    let contents = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
    let broken = Outcome::BrokenReply;
    for (steps, outcome) in [
        (cut(), broken),
        (ended(), broken),
        (told(), Outcome::ProviderError),
        (idle(), Outcome::ProviderTimeout),
    ] {
        check(
            "/v1/chat/completions",
            &chat_stream("both"),
            steps.clone(),
            ("data: {\"error\":", outcome),
        );
        check("/v1/messages", messages, steps.clone(), ("event: error", outcome));
        check(
            &format!("{gemini}?alt=sse"),
            contents,
            steps.clone(),
            ("data: {\"error\":", outcome),
        );
        check(gemini, contents, steps, ("\"error\":", outcome));
    }
    first.does(|_| stream(&[
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"status\":\"in_progress\",\"output\":[]}}\n\n",
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"i\",\"output_index\":0,\"content_index\":0,\"delta\":\"Hel\"}\n\n",
    ], false));
    let got = site.post("/v1/responses", responses);
    assert!(got.body.contains("event: error"), "{}", got.body);
    assert_eq!(site.record().outcome, broken);
}

#[test]
fn timeouts() {
    let fake = Fake::new(|_| vec![Step::Hold]);
    let (site, _second) = (two(&fake, &fake, json!({ "first_byte_timeout_ms": 200 })), ());
    for body in [chat("alone"), chat_stream("alone")] {
        let got = site.post("/v1/chat/completions", body);
        assert_eq!(got.status, 504, "{}", got.body);
        assert_eq!(got.json()["error"]["code"], "provider_timeout");
        let record = site.record();
        assert_eq!(record.outcome, Outcome::ProviderTimeout);
        assert!(
            record.estimated && record.cost_pusd > 0,
            "it may have been worked on"
        );
    }
    wait_until("the connections are closed", || fake.n_left() == 2);
}

#[test]
fn a_breaker_opens_and_closes() {
    let (first, second) = (Fake::new(|_| reply(500, "", "{}")), Fake::new(|_| Vec::new()));
    two_answers(&second);
    let site = two(
        &first,
        &second,
        json!({ "breaker": { "failures": 2, "open_ms": 400 } }),
    );
    let ask = |model: &str| site.post("/v1/chat/completions", chat(model)).status;
    assert_eq!((ask("both"), ask("both"), first.take().len()), (200, 200, 2));
    assert_eq!((ask("both"), first.take().len()), (200, 0), "it is open");
    let got = site.post("/v1/chat/completions", chat("alone"));
    assert_eq!((got.status, first.take().len()), (503, 0));
    assert_eq!(got.header("retry-after"), Some("1"), "{}", got.head);
    first.says(reply(200, "", ANSWER));
    wait_until("closed", || ask("alone") == 200);
    assert_eq!(ask("both"), 200);
    assert_eq!(first.take().len(), 2);
}

/// The one that was quickest lately, and now and then another, so that old figures are renewed.
#[test]
fn least_latency_is_followed_and_renewed() {
    let (first, second) = (Fake::new(|_| reply(200, "", ANSWER)), Fake::new(|_| Vec::new()));
    two_answers(&second);
    let mut documents = two_documents(&first, &second, json!({}));
    documents["models"][0]["strategy"] = "least_latency".into();
    let site = Site::new(documents);
    let shares = |slow: &str| {
        let (mut n_first, mut n_second) = (0, 0);
        for _ in 0..400 {
            let live = site.shared.live();
            // Many samples each, so that what this machine does meanwhile weighs little.
            for (name, state) in &live.providers {
                for _ in 0..50 {
                    state.succeeded(if &**name == slow { 900_000_000 } else { 100_000_000 });
                }
            }
            assert_eq!(site.post("/v1/chat/completions", chat("both")).status, 200);
            n_first += first.take().len();
            n_second += second.take().len();
        }
        (n_first, n_second)
    };
    let (quick, slow) = shares("two");
    assert!(quick > 340 && (1..60).contains(&slow), "{quick} {slow}");
    let (slow, quick) = shares("one");
    assert!(quick > 340 && (1..60).contains(&slow), "{quick} {slow}");
}

/// Who is told to come back is told when.
#[test]
fn waits_are_those_of_breakers_and_keys() {
    let check = |more: Value, status: u16, headers: &'static str, expected: std::ops::RangeInclusive<u64>| {
        let fake = Fake::new(move |_| reply(status, headers, "{}"));
        let site = Site::before(&fake, three_keys(&fake, more));
        let mut got = site.post("/v1/chat/completions", chat("fast"));
        for _ in 0..4 {
            got = site.post("/v1/chat/completions", chat("fast"));
        }
        assert_eq!(got.status, 503, "{}", got.body);
        let wait_s = got.header("retry-after").and_then(|wait| wait.parse().ok());
        assert!(
            wait_s.is_some_and(|wait_s| expected.contains(&wait_s)),
            "{wait_s:?}"
        );
    };
    let breaker = json!({ "breaker": { "failures": 2, "open_ms": 60_000 } });
    check(breaker, 500, "", 50..=60);
    check(json!({}), 429, "retry-after: 30\r\n", 20..=30);
    check(json!({}), 401, "", 590..=600);
}

#[test]
fn a_client_that_leaves_ends_the_call() {
    let fake = Fake::new(|_| Vec::new());
    let site = Site::before(
        &fake,
        json!({
            "consumers": [{ "name": "app", "keys": [{ "value": "ck" }], "budget": { "usd": 1, "hard": true }, "limits": [{ "concurrency": 1 }] }],
            "models": [{ "name": "claude", "targets": [{ "model": "an/claude-haiku-4-5" }] }],
        }),
    );
    let held = |steps: Vec<Step>| steps.into_iter().chain([Step::Hold]).collect::<Vec<_>>();
    let check = |path: &str, body: &str, steps: Vec<Step>, until: &str, n: usize| {
        fake.says(held(steps));
        let mut socket = site.open(path, body);
        let mut all = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&all).contains(until) {
            socket.read_exact(&mut byte).expect("more");
            all.push(byte[0]);
        }
        wait_until("asked", || !fake.take().is_empty());
        drop(socket);
        wait_until("the provider is left", || fake.n_left() == n);
        let record = site.record();
        assert_eq!((record.outcome, record.status), (Outcome::ClientGone, 499));
        assert!(record.estimated, "{record:?}");
        assert!(
            record.usage.total_input() > 0 && record.cost_pusd > 0,
            "{record:?}"
        );
        if !until.is_empty() {
            assert!(record.usage.output > 0, "{record:?}");
        }
        let budgets = site.shared.budgets.as_ref().expect("budgets");
        assert_eq!(budgets.status().settlements as usize, n);
    };
    let texts = || stream(&[delta("Hello, "), delta("my dear.")], false);
    check("/v1/chat/completions", &chat_stream("fast"), texts(), "dear", 1);
    check(
        "/v1/messages",
        r#"{"model":"fast","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#,
        texts(),
        "dear",
        2,
    );
    check("/v1/chat/completions", &chat_stream("fast"), Vec::new(), "", 3);
    check("/v1/chat/completions", &chat("fast"), Vec::new(), "", 4);
    fake.says(reply(200, "", ANSWER));
    assert_eq!(
        site.post("/v1/chat/completions", chat("fast")).status,
        200,
        "the place is free"
    );
}

#[test]
fn targets_are_chosen_as_configured() {
    let fake = Fake::new(|_| reply(200, "", ANSWER));
    let check = |strategy: Value, targets: Value, expected: &dyn Fn(&BTreeMap<String, usize>) -> bool| {
        let site = Site::before(
            &fake,
            json!({ "models": [{ "name": "m", "targets": targets, "strategy": strategy }] }),
        );
        for _ in 0..40 {
            assert_eq!(site.post("/v1/chat/completions", chat("m")).status, 200);
        }
        let mut counts = BTreeMap::new();
        for seen in fake.take() {
            *counts.entry(seen.line.replace("POST ", "")).or_default() += 1;
        }
        assert!(expected(&counts), "{strategy} {counts:?}");
    };
    let (oa, any) = ("/v1/chat/completions", "/x/v1/chat/completions");
    let n = |counts: &BTreeMap<String, usize>, path: &str| counts.get(path).copied().unwrap_or(0);
    let both = json!([{ "model": "oa/gpt-4o-mini", "weight": 1 }, { "model": "any/free", "weight": 4 }]);
    check(json!("fallback"), both.clone(), &|counts| n(counts, oa) == 40);
    check(json!("weighted"), both, &|counts| {
        n(counts, any) > n(counts, oa) && n(counts, oa) > 0
    });
    let ranked =
        json!([{ "model": "oa/gpt-4o-mini", "priority": 2 }, { "model": "any/free", "priority": 1 }]);
    check(json!("weighted"), ranked, &|counts| n(counts, any) == 40);
}
