//! Parameters that an operator gives a model or a prompt: in each provider's own words, and never over the
//! client's.

use super::kit::*;
use serde_json::{Value, json};

const MESSAGES: &str = r#"{"id":"m","type":"message","role":"assistant","model":"c","content":[{"type":"text","text":"Hello."}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":2}}"#;
const GEMINI: &str = r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Hello."}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"totalTokenCount":5}}"#;
const COHERE: &str = r#"{"id":"c","finish_reason":"COMPLETE","message":{"role":"assistant","content":[{"type":"text","text":"Hello."}]},"usage":{"tokens":{"input_tokens":3,"output_tokens":2}}}"#;

/// One model a wire, all with the same parameters.
fn site(fake: &Fake) -> Site {
    let parameters =
        || json!({ "temperature": 0.5, "stop": ["END"], "seed": 7, "max_tokens": 50, "top_k": 3 });
    let model = |name: &str, target: &str| json!({ "name": name, "targets": [{ "model": target }], "parameters": parameters() });
    let provider = json!({ "name": "old", "kind": "mistral", "base_url": format!("http://{}/v1", fake.address), "keys": [{ "value": PROVIDER_KEY }] });
    let names = ["chat", "claude", "gemini", "command", "legacy"];
    let prompts = names.map(|name| {
        json!({
            "name": format!("p-{name}"), "model": name, "template": "Hi",
            "parameters": { "temperature": 0.1, "max_tokens": 9, "stop": "\n" },
        })
    });
    Site::before(
        fake,
        json!({
            "providers": [provider],
            "models": [
                model("chat", "oa/gpt-4o-mini"), model("claude", "an/claude-haiku-4-5"),
                model("gemini", "ge/gemini-2.5-flash"), model("command", "co/command-r"), model("legacy", "old/m"),
            ],
            "prompts": prompts,
        }),
    )
}

#[test]
fn every_provider_is_told_in_its_own_words() {
    let fake = Fake::new(|seen| {
        reply(
            200,
            "",
            match seen.line.as_str() {
                line if line.contains("/messages") => MESSAGES,
                line if line.contains(":generateContent") => GEMINI,
                line if line.contains("/v2/chat") => COHERE,
                _ => ANSWER,
            },
        )
    });
    let site = site(&fake);
    // All fields of what is sent but the model and the messages.
    let check = |path: &str, sent: Value, expected: Value, dropped: Option<&str>| {
        let got = site.post(path, sent.to_string());
        assert_eq!(got.status, 200, "{path} {sent}: {}", got.body);
        let mut seen = fake.one().json();
        let fields = seen.as_object_mut().expect("an object");
        for name in ["model", "messages", "contents"] {
            fields.remove(name);
        }
        assert_eq!(seen, expected, "{path} {sent}");
        assert_eq!(got.header("x-weir-dropped"), dropped, "{path} {sent}");
    };
    let chat = |model: &str, more: Value| {
        let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] });
        let fields = body.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        body
    };
    let (completions, messages) = ("/v1/chat/completions", "/v1/messages");
    let gemini = "/v1beta/models/gemini:generateContent";
    let of_chat =
        json!({ "temperature": 0.5, "stop": ["END"], "seed": 7, "max_completion_tokens": 50, "top_k": 3 });
    let of_claude = json!({ "temperature": 0.5, "stop_sequences": ["END"], "max_tokens": 50, "top_k": 3 });
    let of_gemini = json!({ "generationConfig": { "temperature": 0.5, "stopSequences": ["END"], "seed": 7, "maxOutputTokens": 50, "topK": 3 } });
    let of_command =
        json!({ "temperature": 0.5, "stop_sequences": ["END"], "seed": 7, "max_tokens": 50, "k": 3 });
    // From another format.
    check(
        completions,
        chat("claude", json!({})),
        of_claude.clone(),
        Some("seed"),
    );
    check(completions, chat("gemini", json!({})), of_gemini.clone(), None);
    check(completions, chat("command", json!({})), of_command, None);
    check(
        messages,
        chat("chat", json!({ "max_tokens": 8 })),
        json!({ "temperature": 0.5, "stop": ["END"], "seed": 7, "max_completion_tokens": 8, "top_k": 3 }),
        None,
    );
    // In the same.
    check(completions, chat("chat", json!({})), of_chat, None);
    check(
        completions,
        chat("legacy", json!({})),
        json!({ "temperature": 0.5, "stop": ["END"], "max_tokens": 50, "top_k": 3 }),
        Some("seed"),
    );
    check(
        messages,
        chat("claude", json!({ "max_tokens": 8, "temperature": 1 })),
        json!({ "temperature": 1, "stop_sequences": ["END"], "max_tokens": 8, "top_k": 3 }),
        Some("seed"),
    );
    let contents = json!([{ "role": "user", "parts": [{ "text": "hi" }] }]);
    check(gemini, json!({ "contents": contents }), of_gemini, None);
    check(
        gemini,
        json!({ "contents": contents, "generation_config": { "top_k": 9, "temperature": 1 } }),
        json!({ "generation_config": { "top_k": 9, "temperature": 1, "stopSequences": ["END"], "seed": 7, "maxOutputTokens": 50 } }),
        None,
    );
    // Of a prompt, which come before those of its model.
    let prompt = |name: &str, expected: Value, dropped| {
        check(&format!("/prompts/p-{name}"), json!({}), expected, dropped);
    };
    prompt(
        "chat",
        json!({ "temperature": 0.1, "stop": ["\n"], "seed": 7, "max_completion_tokens": 9, "top_k": 3 }),
        None,
    );
    prompt(
        "legacy",
        json!({ "temperature": 0.1, "stop": ["\n"], "max_tokens": 9, "top_k": 3 }),
        Some("seed"),
    );
    prompt(
        "claude",
        json!({ "temperature": 0.1, "stop_sequences": ["\n"], "max_tokens": 9, "top_k": 3 }),
        Some("seed"),
    );
    prompt(
        "gemini",
        json!({ "generationConfig": { "temperature": 0.1, "stopSequences": ["\n"], "seed": 7, "maxOutputTokens": 9, "topK": 3 } }),
        None,
    );
    prompt(
        "command",
        json!({ "temperature": 0.1, "stop_sequences": ["\n"], "seed": 7, "max_tokens": 9, "k": 3 }),
        None,
    );
}
