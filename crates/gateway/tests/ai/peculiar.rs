//! What is peculiar to a kind of provider, where a request is written for it.

use super::kit::*;
use serde_json::{Value, json};
use store::outcome::Outcome;

const SCHEMA: &str = r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}"#;

/// A request of Responses for `model`, its answer to be of a schema.
fn shaped(model: &str, stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","stream":{stream},"input":[{{"role":"developer","content":"Be brief."}},{{"role":"user","content":"hi"}}],"parallel_tool_calls":false,"text":{{"format":{{"type":"json_schema","name":"n","schema":{SCHEMA}}}}}}}"#
    )
}

fn site(fake: &Fake) -> Site {
    let provider = |name: &str, kind: &str| json!({ "name": name, "kind": kind, "base_url": format!("http://{}/{name}", fake.address), "keys": [{ "value": PROVIDER_KEY }], "models": ["m"] });
    let mut bedrock = provider("bedrock", "bedrock");
    bedrock["keys"] = json!([{ "value": "AKID:SECRET" }]);
    bedrock["parameters"] = json!({ "region": "eu-west-1" });
    Site::before(
        fake,
        json!({
            "gateway": { "catalogue": [{ "provider": "deep", "model": "m", "usd_per_million": { "input": 1, "output": 1 } }] },
            "providers": [provider("deep", "deepseek"), provider("search", "perplexity"), bedrock],
            "consumers": [
                { "name": "strict", "strict": true, "keys": [{ "value": "sk" }] },
                { "name": "poor", "keys": [{ "value": "pk" }], "budget": { "usd": 5, "hard": true } },
            ],
        }),
    )
}

#[test]
fn quirks() {
    let fake = Fake::new(|_| reply(200, "", ANSWER));
    let site = site(&fake);
    let got = site.post("/v1/responses", shaped("deep/m", false));
    assert_eq!(got.status, 200, "{}", got.body);
    let dropped = got.header("x-weir-dropped").expect("named");
    assert_eq!(dropped, "response_format.json_schema");
    assert_eq!(&*site.record().dropped, dropped);
    let sent = fake.one().json();
    let roles: Vec<_> = sent["messages"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["role"].clone())
        .collect();
    assert_eq!(roles, ["system", "system", "user"]);
    assert_eq!(sent["response_format"], json!({ "type": "json_object" }));
    assert_eq!(sent.get("parallel_tool_calls"), None);
    let got = site.post_with("/v1/responses", "x-api-key: sk\r\n", shaped("deep/m", false));
    assert_eq!((got.status, fake.take().len()), (400, 0), "{}", got.body);
    let tools = r#"{"model":"search/m","input":"hi","tools":[{"type":"function","name":"f","parameters":{"type":"object"}}]}"#;
    let got = site.post("/v1/responses", tools);
    assert_eq!((got.status, fake.take().len()), (400, 0), "{}", got.body);
    assert!(
        got.json()["error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("tools")),
        "{}",
        got.body
    );
    // In its own format a request keeps its bytes, but where a hard budget needs a bound.
    let chat =
        r#"{"model":"deep/m","messages":[{"role":"developer","content":"x"}],"max_completion_tokens":5}"#;
    site.post("/v1/chat/completions", chat);
    assert_eq!(fake.one().body, chat.replace("deep/m", "m"));
    site.post_with("/v1/chat/completions", "x-api-key: pk\r\n", chat);
    assert_eq!(fake.one().json()["max_tokens"], 5);
}

#[test]
fn shapes_of_answers_at_models_that_take_none() {
    let call = json!({
        "output": { "message": { "role": "assistant", "content": [
            { "toolUse": { "toolUseId": "t", "name": "weir_answer", "input": { "a": 1 } } },
        ] } },
        "stopReason": "tool_use",
        "usage": { "inputTokens": 5, "outputTokens": 3, "totalTokens": 8 },
    })
    .to_string();
    let fake = Fake::new(move |_| reply(200, "", &call));
    let site = site(&fake);
    let check = |path: &str, sent: String, at: &str, stop: (&str, &str)| {
        let got = site.post(path, sent);
        assert_eq!(got.status, 200, "{}", got.body);
        let body = got.json();
        let text = body
            .pointer(at)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{}", got.body));
        assert_eq!(
            serde_json::from_str::<Value>(text).expect("JSON"),
            json!({ "a": 1 })
        );
        assert_eq!(body.pointer(stop.0), Some(&json!(stop.1)), "{}", got.body);
        let seen = fake.one();
        assert_eq!(seen.line, "POST /bedrock/model/m/converse");
        let tools = &seen.json()["toolConfig"];
        assert_eq!(
            tools["tools"][0]["toolSpec"]["inputSchema"]["json"],
            serde_json::from_str::<Value>(SCHEMA).expect("JSON")
        );
        assert_eq!(tools["toolChoice"], json!({ "tool": { "name": "weir_answer" } }));
        let signed = seen.header("authorization").unwrap_or("");
        assert!(
            signed.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"),
            "{signed}"
        );
        assert!(!format!("{seen:?}").contains("SECRET"));
        let record = site.record();
        assert_eq!(
            (record.usage.input, record.usage.output, record.outcome),
            (5, 3, Outcome::Ok)
        );
    };
    let chat = format!(
        r#"{{"model":"bedrock/m","messages":[{{"role":"user","content":"hi"}}],"response_format":{{"type":"json_schema","json_schema":{{"name":"n","schema":{SCHEMA}}}}}}}"#
    );
    check(
        "/v1/chat/completions",
        chat,
        "/choices/0/message/content",
        ("/choices/0/finish_reason", "stop"),
    );
    check(
        "/v1/responses",
        shaped("bedrock/m", false),
        "/output/0/content/0/text",
        ("/status", "completed"),
    );
}

/// A message of AWS's event stream: <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html>.
fn event(kind: &str, payload: Value) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                if crc & 1 == 1 {
                    crc >> 1 ^ 0xedb8_8320
                } else {
                    crc >> 1
                }
            })
        })
    };
    let mut headers = Vec::new();
    for (name, value) in [
        (":event-type", kind),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ] {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let mut all = ((16 + headers.len() + payload.len()) as u32)
        .to_be_bytes()
        .to_vec();
    all.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    all.extend_from_slice(&crc(&all).to_be_bytes());
    all.extend_from_slice(&headers);
    all.extend_from_slice(payload.as_bytes());
    all.extend_from_slice(&crc(&all).to_be_bytes());
    all
}

#[test]
fn streamed_shapes() {
    let bytes: Vec<u8> = [
        event("messageStart", json!({ "role": "assistant" })),
        event("contentBlockStart", json!({ "contentBlockIndex": 0, "start": { "toolUse": { "toolUseId": "t", "name": "weir_answer" } } })),
        event("contentBlockDelta", json!({ "contentBlockIndex": 0, "delta": { "toolUse": { "input": "{\"a\"" } } })),
        event("contentBlockDelta", json!({ "contentBlockIndex": 0, "delta": { "toolUse": { "input": ":1}" } } })),
        event("contentBlockStop", json!({ "contentBlockIndex": 0 })),
        event("messageStop", json!({ "stopReason": "tool_use" })),
        event("metadata", json!({ "usage": { "inputTokens": 5, "outputTokens": 3, "totalTokens": 8 }, "metrics": { "latencyMs": 1 } })),
    ]
    .concat();
    let pieces: Vec<Vec<u8>> = bytes.chunks(11).map(<[u8]>::to_vec).collect();
    let fake = Fake::new(move |_| stream(&pieces, true));
    let site = site(&fake);
    let chat = format!(
        r#"{{"model":"bedrock/m","stream":true,"messages":[{{"role":"user","content":"hi"}}],"response_format":{{"type":"json_schema","json_schema":{{"name":"n","schema":{SCHEMA}}}}}}}"#
    );
    let got = site.post("/v1/chat/completions", chat);
    assert_eq!(said(&got.body), r#"{"a":1}"#, "{}", got.body);
    assert!(
        got.body.contains("\"finish_reason\":\"stop\"") && !got.body.contains("weir_answer"),
        "{}",
        got.body
    );
    assert_eq!(fake.one().line, "POST /bedrock/model/m/converse-stream");
    let record = site.record();
    assert_eq!(
        (record.usage.input, record.usage.output, record.outcome),
        (5, 3, Outcome::Ok)
    );
}
