//! Responses, Completions, vectors, Azure, Bedrock, Cohere and the lists of models.

use base64::Engine;
use serde_json::{Value, json};

use crate::common::http;
use crate::common::simulator::Simulator;
use crate::shapes::{bodies, check_shape, events};
use crate::sign::{converse, frames};
use crate::{BEARER, CLAUDE, GOOGLE, chat, recorded, user, with};

fn input(text: &str) -> Value {
    json!({"model": "gpt-5", "input": text})
}

/// A turn of Bedrock.
fn content(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": [{"text": text}]}]})
}

#[test]
fn responses_are_as_recorded() {
    let sim = Simulator::start(&[]);
    let post = |body: &Value| http::post(sim.addr, "/v1/responses", &[BEARER], body);
    let plain = recorded(&["api.openai.com/v1/responses"], false);
    let plain: Vec<Value> = bodies(&plain)
        .into_iter()
        .filter(|one| one["object"] == "response")
        .collect();
    let reasoning = json!({"reasoning": {"effort": "low", "summary": "auto"}});
    let answer = post(&with(input("think: hm\nsay: Grüße 🙂"), reasoning.clone())).json();
    assert_eq!(answer["output"][0]["summary"][0]["text"], "hm");
    assert_eq!(answer["output"][1]["content"][0]["text"], "Grüße 🙂");
    assert_eq!(answer["usage"]["output_tokens_details"]["reasoning_tokens"], 1);
    check_shape(&[answer], &plain);
    let cut = post(&with(
        input("say: 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789"),
        json!({"max_output_tokens": 16}),
    ))
    .json();
    assert_eq!(cut["status"], "incomplete");
    assert_eq!(cut["incomplete_details"]["reason"], "max_output_tokens");

    let tools = json!({"tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": true}]});
    let body = with(
        with(input("think: hm\nsay: Grüße 🙂"), tools.clone()),
        json!({"stream": true}),
    );
    let thought = post(&with(body.clone(), reasoning)).events();
    let summary: String = thought
        .iter()
        .filter(|one| one["type"] == "response.reasoning_summary_text.delta")
        .filter_map(|one| one["delta"].as_str())
        .collect();
    assert_eq!(summary, "hm");
    let streamed = post(&body).events();
    let text: String = streamed
        .iter()
        .filter(|one| one["type"] == "response.output_text.delta")
        .filter_map(|one| one["delta"].as_str())
        .collect();
    assert_eq!(text, "Grüße 🙂");
    let numbers: Vec<u64> = streamed
        .iter()
        .filter_map(|one| one["sequence_number"].as_u64())
        .collect();
    assert_eq!(numbers, (0..streamed.len() as u64).collect::<Vec<_>>());
    assert_eq!(streamed.last().unwrap()["type"], "response.completed");
    // Each kind of event against those of its kind.
    let of_recorded: Vec<Value> = recorded(&["/responses"], true).iter().flat_map(events).collect();
    for one in &streamed {
        let same: Vec<Value> = of_recorded
            .iter()
            .filter(|other| other["type"] == one["type"])
            .cloned()
            .collect();
        if !same.is_empty() {
            let own: Vec<Value> = streamed
                .iter()
                .filter(|other| other["type"] == one["type"])
                .cloned()
                .collect();
            check_shape(&own, &same);
        }
    }

    let called = post(&with(input("call: f {\"a\":1}"), tools.clone())).json();
    assert_eq!(called["output"][0]["arguments"], "{\"a\":1}");
    let mut history = user("call: f {\"a\":1}").as_array().unwrap().clone();
    history.push(called["output"][0].clone());
    let unanswered = post(&with(with(input(""), tools.clone()), json!({"input": history})));
    assert!(
        unanswered
            .text()
            .contains("No tool output found for function call"),
        "{}",
        unanswered.text()
    );
    history.push(
        json!({"type": "function_call_output", "call_id": called["output"][0]["call_id"], "output": "dry"}),
    );
    let heard = post(&with(with(input(""), tools), json!({"input": history}))).json();
    assert_eq!(heard["output"][0]["content"][0]["text"], "tool said: dry");
    let broken = post(&with(
        input("x"),
        json!({"model": "sim-error-in-stream-3", "stream": true}),
    ))
    .events();
    assert_eq!(broken.last().unwrap()["type"], "error");
    let counted = http::post(
        sim.addr,
        "/v1/responses/input_tokens",
        &[BEARER],
        &input("12345678"),
    )
    .json();
    assert_eq!(
        counted,
        json!({"object": "response.input_tokens", "input_tokens": 2})
    );
}

#[test]
fn recorded_requests_of_these_wires_are_taken() {
    let sim = Simulator::start(&[]);
    let mut refused = Vec::new();
    for (place, path) in [
        ("api.openai.com/v1/responses", "/v1/responses"),
        ("api.openai.com/v1/completions", "/v1/completions"),
        ("api.openai.com/v1/embeddings", "/v1/embeddings"),
        ("api.cohere.com/v2/chat", "/v2/chat"),
    ] {
        for one in recorded(&[place], false) {
            let request = &one["request"];
            let uri = request["uri"].as_str().unwrap();
            if request["method"] != "POST" || uri.ends_with("/compact") {
                continue;
            }
            let answer = http::post(sim.addr, path, &[BEARER], &request["body_json"]);
            if answer.status != 200 {
                refused.push(format!("{} {}", request["body_json"], answer.text()));
            }
        }
    }
    for one in recorded(&["bedrock-runtime"], false) {
        let uri = one["request"]["uri"].as_str().unwrap();
        let (model, action) = uri.split_once("/model/").unwrap().1.rsplit_once('/').unwrap();
        if action == "converse" && one["request"]["body_json"].is_object() {
            let answer = converse(sim.addr, "secret", model, action, &one["request"]["body_json"]);
            if answer.status != 200 {
                refused.push(format!("{uri} {}", answer.text()));
            }
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn completions_and_vectors_are_as_recorded() {
    let sim = Simulator::start(&[]);
    let post = |path: &str, body: Value| http::post(sim.addr, path, &[BEARER], &body);
    let asked =
        json!({"model": "babbage-002", "prompt": "say: Grüße 🙂", "stream_options": {"include_usage": true}});
    let answer = post("/v1/completions", asked.clone()).json();
    assert_eq!(answer["choices"][0]["text"], "Grüße 🙂");
    let plain = recorded(&["api.openai.com/v1/completions"], false);
    let logprobs = post("/v1/completions", with(asked.clone(), json!({"logprobs": 2}))).json();
    assert_eq!(
        logprobs["choices"][0]["logprobs"]["text_offset"],
        json!([0, 3, 6])
    );
    // The names of alternatives are tokens, not keys.
    check_shape(&[answer], &bodies(&plain));
    let several = post(
        "/v1/completions",
        json!({"model": "m", "prompt": ["say: a", "say: b"], "n": 2}),
    )
    .json();
    let texts: Vec<&str> = several["choices"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["text"].as_str())
        .collect();
    assert_eq!(texts, ["a", "a", "b", "b"]);
    let streamed = post("/v1/completions", with(asked, json!({"stream": true}))).events();
    let of_recorded: Vec<Value> = recorded(&["api.openai.com/v1/completions"], true)
        .iter()
        .flat_map(events)
        .collect();
    check_shape(&streamed, &of_recorded);

    let body = json!({"model": "text-embedding-3-small", "input": ["one", "two"], "dimensions": 8});
    let vectors = post("/v1/embeddings", body.clone()).json();
    let first: Vec<f64> = vectors["data"][0]["embedding"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    assert_eq!(first.len(), 8);
    assert!((first.iter().map(|one| one * one).sum::<f64>() - 1.0).abs() < 1e-3);
    let packed = post("/v1/embeddings", with(body, json!({"encoding_format": "base64"}))).json();
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(packed["data"][0]["embedding"].as_str().unwrap());
    assert_eq!(
        f64::from(f32::from_le_bytes(bytes.unwrap()[..4].try_into().unwrap())) as f32,
        first[0] as f32
    );
    check_shape(
        &[packed],
        &bodies(&recorded(&["api.openai.com/v1/embeddings"], false)),
    );
    assert_eq!(
        post("/v1/embeddings", json!({"model": "m", "input": [1, 2, 3]})).json()["usage"]["prompt_tokens"],
        3
    );
    assert_eq!(
        post(
            "/v1/embeddings",
            json!({"model": "m", "input": "a", "dimensions": -1})
        )
        .status,
        400
    );

    let google = |action: &str, body: Value| {
        http::post(sim.addr, &format!("/v1beta/models/e:{action}"), &[GOOGLE], &body).json()
    };
    let one = google(
        "embedContent",
        json!({"content": {"parts": [{"text": "one"}]}, "outputDimensionality": 8}),
    );
    assert_eq!(one["embedding"]["values"].as_array().unwrap().len(), 8);
    let request =
        json!({"model": "models/e", "content": {"parts": [{"text": "one"}]}, "outputDimensionality": 8});
    let batch = google("batchEmbedContents", json!({"requests": [request, request]}));
    assert_eq!(batch["embeddings"][1], one["embedding"]);
}

#[test]
fn azure_wants_its_version_and_its_key() {
    let sim = Simulator::start(&[]);
    let path = "/openai/deployments/sim-tokens-3/chat/completions";
    let key = ("api-key", "sk-sim");
    let body = json!({"messages": user("hello")});
    let answer = http::post(sim.addr, &format!("{path}?api-version=2024-10-21"), &[key], &body).json();
    assert_eq!(
        (
            answer["model"].clone(),
            answer["usage"]["completion_tokens"].clone()
        ),
        (json!("sim-tokens-3"), json!(3))
    );
    let unversioned = http::post(sim.addr, path, &[key], &body);
    assert_eq!(
        (unversioned.status, unversioned.json()["error"]["message"].clone()),
        (404, json!("Resource not found"))
    );
    let wrong = http::post(
        sim.addr,
        "/openai/v1/responses",
        &[("api-key", "no")],
        &input("x"),
    );
    assert_eq!(
        (wrong.status, wrong.json()["error"]["code"].clone()),
        (401, json!("401"))
    );
    let newer = http::post(sim.addr, "/openai/v1/responses", &[key], &input("say: hi")).json();
    assert_eq!(newer["output"][0]["content"][0]["text"], "hi");
}

#[test]
fn vertex_is_gemini_under_other_paths_with_a_bearer_token() {
    let sim = Simulator::start(&[]);
    let path = "/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-flash";
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "say: Grüße 🙂"}]}]});
    let answer = http::post(sim.addr, &format!("{path}:generateContent"), &[BEARER], &body).json();
    assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], "Grüße 🙂");
    let streamed = http::post(
        sim.addr,
        &format!("{path}:streamGenerateContent?alt=sse"),
        &[BEARER],
        &body,
    );
    assert_eq!(
        streamed.events().last().unwrap()["candidates"][0]["finishReason"],
        "STOP"
    );
    let wrong = http::post(sim.addr, &format!("{path}:generateContent"), &[GOOGLE], &body);
    assert_eq!(
        (wrong.status, wrong.json()["error"]["status"].clone()),
        (401, json!("UNAUTHENTICATED"))
    );
}

#[test]
fn converse_is_signed_and_as_recorded() {
    let sim = Simulator::start(&[]);
    let model = "us.anthropic.claude-v1%3A0";
    let thinking =
        json!({"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}}});
    let body = with(content("think: hm\nsay: Grüße 🙂"), thinking);
    let answer = converse(sim.addr, "secret", model, "converse", &body).json();
    assert_eq!(
        answer["output"]["message"]["content"][1],
        json!({"text": "Grüße 🙂"})
    );
    let plain: Vec<Value> = recorded(&["bedrock-runtime"], false);
    let plain: Vec<Value> = bodies(&plain)
        .into_iter()
        .filter(|one| one.get("output").is_some())
        .collect();
    check_shape(&[answer], &plain);

    let wrong = converse(sim.addr, "other", model, "converse", &body);
    assert_eq!(wrong.status, 403);
    assert!(
        wrong
            .header("x-amzn-errortype")
            .unwrap()
            .starts_with("InvalidSignatureException")
    );
    assert_eq!(sim.calls(2)[0]["model"], "us.anthropic.claude-v1:0");
    let unsigned = http::post(sim.addr, "/model/m/converse", &[], &body);
    assert!(
        unsigned
            .header("x-amzn-errortype")
            .unwrap()
            .starts_with("MissingAuthenticationToken")
    );
    assert_eq!(
        http::post(sim.addr, "/model/m/converse", &[BEARER], &body).status,
        200
    );
    let throttled = converse(sim.addr, "secret", "sim-429", "converse", &body);
    assert!(
        throttled
            .header("x-amzn-errortype")
            .unwrap()
            .starts_with("ThrottlingException")
    );

    let tools = json!({"toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}]}});
    let body = with(content("call: f {\"a\": [1]}"), tools);
    let streamed = converse(sim.addr, "secret", model, "converse-stream", &body);
    assert_eq!(
        streamed.header("content-type"),
        Some("application/vnd.amazon.eventstream")
    );
    let streamed = frames(&streamed.body);
    let of_recorded: Vec<(String, Value)> = recorded_frames();
    for (kind, _) in &streamed {
        let of = |all: &[(String, Value)]| -> Vec<Value> {
            all.iter()
                .filter(|(one, _)| one == kind)
                .map(|(_, value)| value.clone())
                .collect()
        };
        if kind == "metadata" || kind == "contentBlockStart" {
            continue; // has counts of caching, and no `type`, unlike the few recorded
        }
        check_shape(&of(&streamed), &of(&of_recorded));
    }
    let input: String = streamed
        .iter()
        .filter_map(|(_, one)| one["delta"]["toolUse"]["input"].as_str())
        .collect();
    assert_eq!(input, "{\"a\":[1]}");
    let stop = streamed.iter().find(|(kind, _)| kind == "messageStop").unwrap();
    assert_eq!(stop.1["stopReason"], "tool_use");
    let broken = converse(
        sim.addr,
        "secret",
        "sim-error-in-stream-1",
        "converse-stream",
        &content("x"),
    );
    assert_eq!(
        frames(&broken.body).last().unwrap().0,
        "modelStreamErrorException"
    );
}

fn recorded_frames() -> Vec<(String, Value)> {
    let packed = crate::recorded_where(|one| {
        one["request"]["uri"]
            .as_str()
            .is_some_and(|uri| uri.ends_with("/converse-stream"))
    });
    let bytes = packed
        .iter()
        .filter_map(|one| one["response"]["body_b64"].as_str());
    bytes
        .flat_map(|text| frames(&base64::engine::general_purpose::STANDARD.decode(text).unwrap()))
        .collect()
}

#[test]
fn cohere_is_as_documented() {
    let sim = Simulator::start(&[]);
    let post = |path: &str, body: Value| http::post(sim.addr, path, &[BEARER], &body);
    let body = json!({"model": "command-a", "messages": user("think: hm\nsay: Grüße 🙂"), "thinking": {"type": "enabled"}});
    let answer = post("/v2/chat", body.clone()).json();
    assert_eq!(answer["finish_reason"], "COMPLETE");
    check_shape(&[answer], &bodies(&recorded(&["api.cohere.com/v2/chat"], false)));
    let streamed = post("/v2/chat", with(body, json!({"stream": true})));
    let kinds: Vec<&str> = streamed
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect();
    assert_eq!(kinds.first(), Some(&"message-start"));
    assert_eq!(kinds.last(), Some(&"message-end"));
    let text: String = streamed
        .events()
        .iter()
        .filter_map(|one| {
            one["delta"]["message"]["content"]["text"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(text, "Grüße 🙂");
    let wrong = http::post(
        sim.addr,
        "/v2/chat",
        &[("authorization", "Bearer no")],
        &json!({}),
    );
    assert_eq!(
        (wrong.status, wrong.json()["message"].clone()),
        (401, json!("invalid api token"))
    );

    let ranked = post(
        "/v2/rerank",
        json!({"model": "rerank-v4", "query": "blue river",
        "documents": ["a stone", "the river is blue", "a blue door"], "top_n": 2}),
    )
    .json();
    let order: Vec<&Value> = ranked["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["index"])
        .collect();
    assert_eq!(order, [1, 2]);
    let vectors = post(
        "/v2/embed",
        json!({"model": "embed-v4.0", "input_type": "search_query", "texts": ["a"],
        "embedding_types": ["float", "int8", "ubinary"], "output_dimension": 256}),
    )
    .json();
    assert_eq!(vectors["embeddings"]["float"][0].as_array().unwrap().len(), 256);
    assert_eq!(vectors["embeddings"]["ubinary"][0].as_array().unwrap().len(), 32);
}

#[test]
fn models_are_listed_as_each_provider_does() {
    let sim = Simulator::start(&[]);
    let get = |path: &str, headers: &[(&str, &str)]| http::call(sim.addr, "GET", path, headers, b"");
    assert_eq!(get("/v1/models", &[BEARER]).json()["data"][0]["object"], "model");
    assert_eq!(get("/v1/models", &CLAUDE).json()["data"][0]["type"], "model");
    assert_eq!(
        get("/v1beta/models", &[GOOGLE]).json()["models"][0]["name"],
        "models/gemini-2.5-flash"
    );
    assert_eq!(get("/v1/models", &[]).status, 401);
    assert_eq!(
        http::post(sim.addr, "/v1/elsewhere", &[BEARER], &chat("x")).status,
        404
    );
    let counted = http::post(
        sim.addr,
        "/v1/messages/count_tokens",
        &CLAUDE,
        &json!({"model": "m", "messages": user("12345678")}),
    );
    assert_eq!(counted.json(), json!({"input_tokens": 2}));
    let body = json!({"contents": [{"parts": [{"text": "12345678"}]}]});
    let counted = http::post(sim.addr, "/v1beta/models/m:countTokens", &[GOOGLE], &body).json();
    assert_eq!(counted["totalTokens"], 2);
}
