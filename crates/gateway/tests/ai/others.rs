//! What is not chat: embeddings, counts, lists of models, completions, rerank, what is passed on, prompts.

use super::kit::*;
use serde_json::{Value, json};
use store::outcome::Outcome;

#[test]
fn embeddings() {
    let fake = Fake::new(|_| Vec::new());
    let site = Site::before(&fake, json!({}));
    let check = |path: &str, sent: &str, target: &str, expected: Value, answer: &str, told: Value| {
        fake.says(reply(200, "", answer));
        let got = site.post(path, sent);
        assert_eq!(got.status, 200, "{path} {sent}: {}", got.body);
        let seen = fake.one();
        assert_eq!((seen.line.as_str(), seen.json()), (target, expected), "{sent}");
        let body = got.json();
        for (at, value) in told.as_object().expect("an object") {
            assert_eq!(body.pointer(at), Some(value), "{at} of {}", got.body);
        }
        let record = site.record();
        assert_eq!((record.outcome, record.estimated), (Outcome::Ok, false), "{path}");
        got
    };
    let openai = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-1]}],"model":"t","usage":{"prompt_tokens":3,"total_tokens":3}, "x":1}"#;
    let got = check(
        "/v1/embeddings",
        r#"{"input":"hi","model":"text-embedding-3-small"}"#,
        "POST /v1/embeddings",
        json!({ "input": "hi", "model": "text-embedding-3-small" }),
        openai,
        json!({ "/usage/prompt_tokens": 3 }),
    );
    assert_eq!(got.body, openai, "in the same format every byte stays");
    check(
        "/v1beta/models/text-embedding-3-small:embedContent",
        r#"{"content":{"parts":[{"text":"hi"}]}}"#,
        "POST /v1/embeddings",
        json!({ "input": "hi", "model": "text-embedding-3-small", "encoding_format": "float" }),
        openai,
        json!({ "/embedding/values/0": 0.5 }),
    );
    let two = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]},{"object":"embedding","index":1,"embedding":[0.25]}],"model":"t","usage":{"prompt_tokens":3,"total_tokens":3}}"#;
    check(
        "/v1beta/models/text-embedding-3-small:batchEmbedContents",
        r#"{"requests":[{"model":"models/m","content":{"parts":[{"text":"a"}]}},{"model":"models/m","content":{"parts":[{"text":"b"}]}}]}"#,
        "POST /v1/embeddings",
        json!({ "input": ["a", "b"], "model": "text-embedding-3-small", "encoding_format": "float" }),
        two,
        json!({ "/embeddings/1/values/0": 0.25 }),
    );
    let cohere = r#"{"id":"e","embeddings":{"float":[[0.5]]},"meta":{"billed_units":{"input_tokens":3}}}"#;
    fake.says(reply(200, "", cohere));
    let got = site.post("/v1/embeddings", r#"{"input":"hi","model":"embed-v4.0"}"#);
    assert_eq!(
        got.json().pointer("/data/0/embedding/0"),
        Some(&json!(0.5)),
        "{}",
        got.body
    );
    let seen = fake.one();
    assert_eq!(
        (seen.line.as_str(), &seen.json()["texts"]),
        ("POST /v2/embed", &json!(["hi"]))
    );
    let got = site.post("/v1/embeddings", r#"{"input":"hi","model":"claude-haiku-4-5"}"#);
    assert_eq!((got.status, fake.take().len()), (501, 0), "{}", got.body);
    let got = site.post("/v1/embeddings", r#"{"input":{},"model":"embed-v4.0"}"#);
    assert_eq!((got.status, fake.take().len()), (400, 0), "{}", got.body);
}

#[test]
fn counts_are_estimates() {
    let fake = Fake::new(|_| Vec::new());
    let site = Site::before(&fake, json!({}));
    let check = |path: &str, body: &str, field: &str| {
        let got = site.post(path, body);
        assert_eq!(got.status, 200, "{}", got.body);
        let n = got.json()[field].as_u64().expect("a count");
        assert!((3..60).contains(&n), "{path}: {n}");
        assert_eq!(site.record().cost_pusd, 0);
        assert_eq!(fake.take().len(), 0);
    };
    check(
        "/v1/messages/count_tokens",
        r#"{"model":"fast","messages":[{"role":"user","content":"How many are these?"}]}"#,
        "input_tokens",
    );
    check(
        "/v1beta/models/fast:countTokens",
        r#"{"contents":[{"role":"user","parts":[{"text":"How many are these?"}]}]}"#,
        "totalTokens",
    );
    check(
        "/v1/responses/input_tokens",
        r#"{"model":"fast","input":"How many are these?"}"#,
        "input_tokens",
    );
    let got = site.post("/v1/messages/count_tokens", r#"{"model":"fast","messages":7}"#);
    assert_eq!(got.status, 400, "{}", got.body);
}

#[test]
fn lists_of_models() {
    let fake = Fake::new(|_| Vec::new());
    let site = Site::before(
        &fake,
        json!({
            "consumers": [{ "name": "narrow", "models": ["fast", "ge/*"], "keys": [{ "value": "nk" }] }],
        }),
    );
    let get = |path: &str, headers: &str| site.send("GET", path, headers, b"");
    let ids = |list: &Value, field: &str| -> Vec<String> {
        let list = list.as_array().expect("a list");
        list.iter()
            .map(|one| one[field].as_str().expect("a name").to_owned())
            .collect()
    };
    let narrow = ["fast", "ge/gemini-2.5-flash", "ge/gemini-embedding-001"];
    let key = "x-api-key: nk\r\n";
    let got = get("/v1/models", key).json();
    assert_eq!(got["object"], "list");
    assert_eq!(ids(&got["data"], "id"), narrow);
    let version = format!("{key}anthropic-version: 2023-06-01\r\n");
    let got = get("/v1/models", &version).json();
    assert_eq!(ids(&got["data"], "id"), narrow);
    assert_eq!(got["has_more"], false);
    let got = get("/v1/models?limit=2", &version).json();
    assert_eq!(
        (ids(&got["data"], "id"), &got["has_more"]),
        (
            narrow[..2].iter().map(|id| (*id).to_owned()).collect(),
            &json!(true)
        )
    );
    let last = got["last_id"].as_str().expect("an id").replace('/', "%2F");
    let got = get(&format!("/v1/models?limit=2&after_id={last}"), &version).json();
    assert_eq!(ids(&got["data"], "id"), narrow[2..]);
    let got = get("/v1beta/models?pageSize=2", key).json();
    assert_eq!(
        ids(&got["models"], "name"),
        ["models/fast", "models/ge/gemini-2.5-flash"]
    );
    let token = got["nextPageToken"]
        .as_str()
        .expect("a token")
        .replace('/', "%2F");
    let got = get(&format!("/v1beta/models?pageSize=2&pageToken={token}&key=nk"), "").json();
    assert_eq!(ids(&got["models"], "name"), ["models/ge/gemini-embedding-001"]);
    assert!(got.get("nextPageToken").is_none(), "{got}");
    let check = |path: &str, headers: &str, status: u16, field: &str, name: &str| {
        let got = get(path, headers);
        assert_eq!(got.status, status, "{path}: {}", got.body);
        if status == 200 {
            assert_eq!(got.json()[field], name);
        }
    };
    check("/v1/models/fast", key, 200, "id", "fast");
    check(
        "/v1/models/ge%2Fgemini-2.5-flash",
        key,
        200,
        "id",
        "ge/gemini-2.5-flash",
    );
    check(
        "/v1/models/ge/gemini-2.5-flash",
        &version,
        200,
        "id",
        "ge/gemini-2.5-flash",
    );
    check("/v1beta/models/fast", key, 200, "name", "models/fast");
    check("/v1/models/oa/gpt-4o-mini", key, 404, "", "");
    check("/v1/models/none", key, 404, "", "");
    check("/v1/models", "", 401, "", "");
    assert_eq!(fake.take().len(), 0, "nobody was asked");
}

#[test]
fn completions() {
    let fake = Fake::new(|_| Vec::new());
    let site = Site::before(&fake, json!({}));
    // To a provider that has them: as they are.
    let answer = r#"{"id":"c","object":"text_completion", "choices":[{"text":"x","index":0}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;
    fake.says(reply(200, "", answer));
    let got = site.post(
        "/v1/completions",
        r#"{ "model":"free","prompt":"Once", "echo":true}"#,
    );
    assert_eq!(got.body, answer);
    let seen = fake.one();
    assert_eq!(
        (seen.line.as_str(), seen.body.as_str()),
        (
            "POST /x/v1/completions",
            r#"{ "model":"free","prompt":"Once", "echo":true}"#
        )
    );
    let record = site.record();
    assert_eq!((record.usage.input, record.usage.output), (1, 2));
    // Streamed: byte by byte too.
    let stream_bytes = "data: {\"id\":\"c\",\"object\":\"text_completion\",\"choices\":[{\"text\":\"x\",\"index\":0}]}\n\ndata: [DONE]\n\n";
    fake.says(stream(&[stream_bytes], true));
    let got = site.post(
        "/v1/completions",
        r#"{"model":"free","prompt":"Once","stream":true}"#,
    );
    assert_eq!(got.body, stream_bytes);
    assert!(
        got.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/event-stream")),
        "{}",
        got.head
    );
    fake.take();
    site.record();
    // What such a provider does not report is estimated from the text, at once or streamed.
    let text = "Once upon a time there was a river with a weir in it. ".repeat(4);
    let choices = json!([{ "text": text, "index": 0, "finish_reason": "stop" }]);
    let whole = json!({ "id": "c", "object": "text_completion", "choices": choices }).to_string();
    let pieces = [format!("data: {whole}\n\n"), "data: [DONE]\n\n".to_owned()];
    let mut outputs = Vec::new();
    for (steps, is_streamed) in [(reply(200, "", &whole), false), (stream(&pieces, true), true)] {
        fake.says(steps);
        let body = json!({ "model": "free", "prompt": "Once", "stream": is_streamed }).to_string();
        assert_eq!(site.post("/v1/completions", body).status, 200);
        let record = site.record();
        assert!(record.estimated && record.usage.input > 0, "{record:?}");
        outputs.push(record.usage.output);
    }
    fake.take();
    assert_eq!(outputs[0], outputs[1]);
    assert!((30..=90).contains(&outputs[0]), "{outputs:?}");
    // To one that has none: as a chat.
    let claude = r#"{"id":"m","type":"message","role":"assistant","model":"c","content":[{"type":"text","text":"upon a time"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":5}}"#;
    fake.says(reply(200, "", claude));
    let got = site.post(
        "/v1/completions",
        r#"{"model":"claude-haiku-4-5","prompt":"Once","max_tokens":20}"#,
    );
    assert_eq!(got.status, 200, "{}", got.body);
    assert_eq!(
        got.json().pointer("/choices/0/text"),
        Some(&json!("upon a time")),
        "{}",
        got.body
    );
    assert_eq!(got.json()["object"], "text_completion");
    let seen = fake.one();
    assert_eq!(seen.line, "POST /v1/messages");
    assert_eq!(seen.json()["max_tokens"], 20);
    assert_eq!(site.record().usage.output, 5);
    fake.says(stream(&[
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"c\",\"content\":[],\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"upon\"}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ], true));
    let got = site.post(
        "/v1/completions",
        r#"{"model":"claude-haiku-4-5","prompt":"Once","stream":true}"#,
    );
    assert!(
        got.body.contains("\"text\":\"upon\"") && got.body.ends_with("data: [DONE]\n\n"),
        "{}",
        got.body
    );
    assert_eq!(site.record().usage.output, 5);
    let got = site.post(
        "/v1/completions",
        r#"{"model":"claude-haiku-4-5","prompt":"a","suffix":"b"}"#,
    );
    assert_eq!(got.status, 400, "{}", got.body);
}

#[test]
fn rerank() {
    let fake = Fake::new(|_| Vec::new());
    let site = Site::before(&fake, json!({}));
    let cohere = r#"{"id":"r","results":[{"index":1,"relevance_score":0.9},{"index":0,"relevance_score":0.1}],"meta":{"api_version":{"version":"2"},"billed_units":{"search_units":1}}}"#;
    let check = |path: &str, sent: &str, target: &str, expected: Value| -> Got {
        fake.says(reply(200, "", cohere));
        let got = site.post(path, sent);
        assert_eq!(got.status, 200, "{path} {}", got.body);
        let seen = fake.one();
        assert_eq!((seen.line.as_str(), seen.json()), (target, expected));
        assert_eq!(got.json().pointer("/results/0/index"), Some(&json!(1)));
        assert_eq!(site.record().outcome, Outcome::Ok);
        got
    };
    let got = check(
        "/v2/rerank",
        r#"{"model":"rerank-v3.5","query":"q","documents":["a","b"]}"#,
        "POST /v2/rerank",
        json!({ "model": "rerank-v3.5", "query": "q", "documents": ["a", "b"] }),
    );
    assert_eq!(got.body, cohere);
    let got = check(
        "/v1/rerank",
        r#"{"model":"rerank-v3.5","query":"q","documents":["a",{"text":"b"}],"return_documents":true}"#,
        "POST /v2/rerank",
        json!({ "model": "rerank-v3.5", "query": "q", "documents": ["a", "b"] }),
    );
    assert_eq!(
        got.json().pointer("/results/0/document/text"),
        Some(&json!("b")),
        "{}",
        got.body
    );
    check(
        "/v1/rerank",
        r#"{"model":"free","query":"q","documents":["a",{"text":"b","n":1}]}"#,
        "POST /x/v1/rerank",
        json!({ "model": "free", "query": "q", "documents": ["a", { "text": "b", "n": 1 }] }),
    );
    check(
        "/v2/rerank",
        r#"{"model":"free","query":"q","documents":["a","b"],"top_n":2}"#,
        "POST /x/v1/rerank",
        json!({ "model": "free", "query": "q", "documents": ["a", "b"], "top_n": 2 }),
    );
    let got = site.post(
        "/v1/rerank",
        r#"{"model":"rerank-v3.5","query":"q","documents":[{"text":"b","n":1}]}"#,
    );
    assert_eq!(got.status, 400, "{}", got.body);
    let got = site.post(
        "/v1/rerank",
        r#"{"model":"claude-haiku-4-5","query":"q","documents":["a"]}"#,
    );
    assert_eq!(got.status, 501, "{}", got.body);
}

#[test]
fn what_is_passed_on() {
    let fake = Fake::new(|_| reply(200, "", r#"{"data":[]}"#));
    let site = Site::before(
        &fake,
        json!({ "models": [{ "name": "draw", "targets": [{ "model": "oa/gpt-4o-mini" }] }] }),
    );
    for path in [
        "/v1/images/generations?x=1",
        "/openai/v1/images/generations?x=1&key=ck",
    ] {
        let got = site.post(path, r#"{"model":"draw" ,"prompt":"p"}"#);
        assert_eq!((got.status, got.body.as_str()), (200, r#"{"data":[]}"#));
        let seen = fake.one();
        assert_eq!(seen.line, "POST /v1/images/generations?x=1");
        assert_eq!(seen.body, r#"{"model":"gpt-4o-mini" ,"prompt":"p"}"#);
        site.record();
    }
    let form = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\ndraw\r\n--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\x01draw\r\n--b--\r\n";
    let got = site.post_with(
        "/v1/audio/transcriptions",
        "x-api-key: ck\r\ncontent-type: multipart/form-data; boundary=b\r\n",
        form,
    );
    assert_eq!(got.status, 200, "{}", got.body);
    let seen = fake.one();
    assert_eq!(seen.line, "POST /v1/audio/transcriptions");
    assert_eq!(
        seen.header("content-type"),
        Some("multipart/form-data; boundary=b")
    );
    assert_eq!(seen.body, form.replacen("\r\ndraw\r\n", "\r\ngpt-4o-mini\r\n", 1));
}

fn prompts(fake: &Fake) -> Site {
    Site::before(
        fake,
        json!({
            "prompts": [
                {
                    "name": "mood", "model": "fast", "system": "Be {{ tone }}.", "template": "Mood of: {{ text }} ({{ n }})",
                    "variables": {
                        "text": { "type": "string", "max_length": 10 },
                        "tone": { "type": "string", "default": "calm", "enum": ["calm", "glad"] },
                        "n": { "type": "integer", "default": 3 },
                    },
                    "parameters": { "temperature": 0 },
                    "output": { "type": "object", "properties": { "mood": { "type": "string" } }, "required": ["mood"], "additionalProperties": false },
                },
                { "name": "open", "model": "fast", "template": "Hi", "auth": ["none"] },
            ],
            "consumers": [{ "name": "narrow", "services": ["open"], "models": [], "keys": [{ "value": "nk" }] }],
        }),
    )
}

fn mood(text: &str) -> Vec<Step> {
    reply(200, "", json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "g",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6 },
    }).to_string())
}

#[test]
fn prompts_are_called() {
    let fake = Fake::new(|_| mood(r#"{"mood":"good"}"#));
    let site = prompts(&fake);
    let got = site.post("/prompts/mood", r#"{"text":"sunny"}"#);
    assert_eq!(got.status, 200, "{}", got.body);
    let body = got.json();
    assert_eq!(body["output"], json!({ "mood": "good" }));
    assert_eq!(body["usage"], json!({ "input_tokens": 4, "output_tokens": 2 }));
    assert_eq!(body["request_id"].as_str(), got.header("x-request-id"));
    let seen = fake.one().json();
    assert_eq!(
        seen["messages"],
        json!([
            { "role": "system", "content": "Be calm." }, { "role": "user", "content": "Mood of: sunny (3)" },
        ])
    );
    assert_eq!(
        (&seen["temperature"], &seen["response_format"]["type"]),
        (&json!(0), &json!("json_schema"))
    );
    let record = site.record();
    assert_eq!(
        (&*record.service, &*record.consumer, record.outcome),
        ("mood", "app", Outcome::Ok)
    );
    assert!(record.cost_pusd > 0);
    let check = |body: &str, words: &str| {
        let got = site.post("/prompts/mood", body);
        assert_eq!(got.status, 400, "{body}: {}", got.body);
        assert!(
            got.json()["error"]["message"]
                .as_str()
                .is_some_and(|text| text.contains(words)),
            "{body}: {}",
            got.body
        );
        assert_eq!(
            (site.record().outcome, fake.take().len()),
            (Outcome::ClientError, 0)
        );
    };
    check("{}", "`text` is missing");
    check("", "`text` is missing");
    check("[]", "JSON object");
    check("{", "not JSON");
    check(r#"{"text":7}"#, "`text` must be a text");
    check(r#"{"text":"12345678901"}"#, "at most 10 characters");
    check(r#"{"text":"x","tone":"sad"}"#, "must be one of");
    check(r#"{"text":"x","n":1.5}"#, "`n` must be a whole number");
    check(r#"{"text":"x","more":1}"#, "no variable is called `more`");
    // The model does not keep to the schema.
    for (text, words) in WRONG_MOODS {
        fake.says(mood(text));
        let got = site.post("/prompts/mood", r#"{"text":"x"}"#);
        assert_eq!(
            (got.status, site.record().outcome),
            (502, Outcome::BrokenReply),
            "{text}: {}",
            got.body
        );
        let error = &got.json()["error"];
        assert_eq!(error["code"], "output_mismatch");
        let message = error["message"].as_str().expect("words");
        assert!(message.contains(words), "{text}: {message}");
    }
}

/// Answers that are not of the schema, and what is said of them.
const WRONG_MOODS: [(&str, &str); 5] = [
    ("not JSON", "it is not JSON"),
    ("", "it is not JSON"),
    ("{}", "as a whole"),
    (r#"{"mood":7}"#, "at `/mood`"),
    (r#"{"mood":"good","why":"sun"}"#, "as a whole"),
];

#[test]
fn prompts_are_streamed() {
    let fake = Fake::new(|_| deltas(&["{\"mo", "od\":\"good\"}"]));
    let site = prompts(&fake);
    for (path, accept) in [
        ("/prompts/mood?stream=true", ""),
        ("/prompts/mood", "accept: text/event-stream\r\n"),
    ] {
        let got = site.post_with(path, &format!("x-api-key: ck\r\n{accept}"), r#"{"text":"x"}"#);
        assert!(
            got.body
                .starts_with("event: delta\ndata: {\"text\":\"{\\\"mo\"}\n\n"),
            "{}",
            got.body
        );
        let done = got.body.split("event: done\ndata: ").nth(1).expect("an end");
        let done: Value = serde_json::from_str(done.trim()).expect("JSON");
        assert_eq!(done["output"], json!({ "mood": "good" }));
        assert_eq!(done["usage"]["output_tokens"], 7);
        assert_eq!(site.record().outcome, Outcome::Ok);
    }
    for (text, words) in WRONG_MOODS {
        fake.says(deltas(&[text]));
        let got = site.post("/prompts/mood?stream=true", r#"{"text":"x"}"#);
        assert!(!got.body.contains("event: done"), "{}", got.body);
        let error = got.body.split("event: error\ndata: ").nth(1).expect("an error");
        let error: Value = serde_json::from_str(error.trim()).expect("JSON");
        assert_eq!(error["error"]["code"], "output_mismatch");
        assert!(
            error["error"]["message"]
                .as_str()
                .is_some_and(|message| message.contains(words)),
            "{error}"
        );
        assert_eq!(site.record().outcome, Outcome::BrokenReply);
    }
    fake.says(stream(&[delta("{\"mo")], false));
    let got = site.post("/prompts/mood?stream=true", r#"{"text":"x"}"#);
    assert!(
        got.body.contains("event: error") && !got.body.contains("event: done"),
        "{}",
        got.body
    );
    assert_eq!(site.record().outcome, Outcome::BrokenReply);
}

#[test]
fn prompts_and_who_may_call_them() {
    let fake = Fake::new(|_| mood("x"));
    let site = prompts(&fake);
    let check = |path: &str, headers: &str, expected: (u16, &str)| {
        fake.says(mood(r#"{"mood":"x"}"#));
        let got = site.post_with(
            path,
            headers,
            r#"{"text":"x"}"#.replace(
                "\"text\":\"x\"",
                if path.ends_with("mood") {
                    "\"text\":\"x\""
                } else {
                    ""
                },
            ),
        );
        assert_eq!(got.status, expected.0, "{path} {headers} {}", got.body);
        assert_eq!(&*site.record().consumer, expected.1, "{path} {headers}");
    };
    check("/prompts/mood", "", (401, ""));
    check("/prompts/mood", "x-api-key: no\r\n", (401, ""));
    check("/prompts/mood", "x-api-key: nk\r\n", (403, "narrow"));
    check("/prompts/mood", "x-api-key: ck\r\n", (200, "app"));
    check("/prompts/open", "", (200, ""));
    check("/prompts/open", "x-api-key: nk\r\n", (200, "narrow"));
    let got = site.send("GET", "/prompts/mood", "x-api-key: ck\r\n", b"");
    assert_eq!((got.status, got.header("allow")), (405, Some("post")));
    let document = site.get("/prompts/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    assert_eq!(
        paths.keys().collect::<Vec<_>>(),
        ["/prompts/mood", "/prompts/open"]
    );
    let mood = &document["paths"]["/prompts/mood"]["post"];
    assert_eq!(mood["security"], json!([{ "key": [] }]));
    assert_eq!(document["paths"]["/prompts/open"]["post"]["security"], json!([]));
    let schema = &mood["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["required"], json!(["text"]));
    assert_eq!(
        schema["properties"]["tone"],
        json!({ "type": "string", "default": "calm", "enum": ["calm", "glad"] })
    );
    let one = site.get("/prompts/mood/openapi.json").json();
    assert_eq!(one["paths"].as_object().map(serde_json::Map::len), Some(1));
}
