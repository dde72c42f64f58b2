//! `weir lab provider`: every wire against the shapes of recorded traffic, its trouble, its journal.

use std::path::PathBuf;

use serde_json::{Value, json};

#[path = "../common/mod.rs"]
mod common;
mod meaning;
mod more_wires;
mod shapes;
mod sign;
mod trouble;
mod upstream;

const BEARER: (&str, &str) = ("authorization", "Bearer sk-sim");
const CLAUDE: [(&str, &str); 2] = [("x-api-key", "sk-sim"), ("anthropic-version", "2023-06-01")];
const GOOGLE: (&str, &str) = ("x-goog-api-key", "sk-sim");
const GENERATE: &str = "/v1beta/models/gemini-2.5-flash:generateContent";
const STREAM: &str = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

fn chat(text: &str) -> Value {
    json!({"model": "gpt-4o-mini", "messages": user(text)})
}

fn messages(text: &str) -> Value {
    json!({"model": "claude-sonnet-4-5", "max_tokens": 1000, "messages": user(text)})
}

fn contents(text: &str) -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": text}]}]})
}

/// The object with more fields.
fn with(mut base: Value, more: Value) -> Value {
    let Value::Object(more) = more else {
        panic!("expected an object");
    };
    base.as_object_mut().expect("an object").extend(more);
    base
}

/// Recorded calls that were answered, whose address contains one of `places`.
fn recorded(places: &[&str], is_stream: bool) -> Vec<Value> {
    let found = recorded_where(|one| {
        let uri = one["request"]["uri"].as_str().unwrap_or_default();
        let body = if is_stream {
            &one["response"]["body"]
        } else {
            &one["response"]["body_json"]
        };
        places.iter().any(|place| uri.contains(place)) && one["response"]["status"] == 200 && !body.is_null()
    });
    assert!(found.len() > 1, "recorded calls of {places:?}");
    found
}

fn recorded_folder() -> PathBuf {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(|| workspace.join("../shared"), PathBuf::from);
    shared.join("data/ai/recorded")
}

fn recorded_where(wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut found = Vec::new();
    for folder in
        std::fs::read_dir(recorded_folder()).expect("recorded traffic; name its folder by WEIR_SHARED")
    {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let cassette: Value = serde_json::from_slice(&bytes).unwrap();
            let interactions = cassette["interactions"].as_array().unwrap();
            found.extend(interactions.iter().filter(|one| wanted(one)).cloned());
        }
    }
    found
}
