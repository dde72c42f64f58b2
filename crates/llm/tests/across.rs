//! Recorded requests from every format into every other: what can be said comes back the same, the rest
//! is refused or named.

mod common;

use common::{check_golden, recorded};
use llm::canonical::{PartKind, Request};
use llm::convert::{self, PathFacts, WriteOptions};
use llm::format::Format;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Formats whose requests are read and written here; those between the first two are compared in
/// `requests.rs`.
const FORMATS: [Format; 4] = [
    Format::Chat,
    Format::Messages,
    Format::GenerateContent,
    Format::Converse,
];

fn requests() -> Vec<(String, Request)> {
    let mut requests = Vec::new();
    for (name, interaction) in recorded() {
        let uri = interaction["request"]["uri"].as_str().unwrap_or("");
        let path = uri.split('?').next().unwrap();
        let format = match path {
            _ if path.ends_with("/chat/completions") => Format::Chat,
            _ if path.ends_with("/v1/messages") => Format::Messages,
            _ if path.ends_with("enerateContent") => Format::GenerateContent,
            _ if path.ends_with("/converse") || path.ends_with("/converse-stream") => Format::Converse,
            _ => continue,
        };
        if !interaction["request"]["body_json"].is_object() {
            continue;
        }
        let model = match format {
            Format::Converse => path.rsplit('/').nth(1),
            _ => path.rsplit('/').next().and_then(|last| last.split(':').next()),
        };
        let facts = PathFacts {
            model: model.map(str::to_owned),
            stream: path.ends_with("streamGenerateContent") || path.ends_with("converse-stream"),
        };
        let name = name.rsplit('/').take(2).collect::<Vec<_>>().join(" ");
        let request = convert::read_request(format, interaction["request"]["body_json"].clone(), &facts);
        requests.push((name, request.unwrap()));
    }
    requests
}

/// Every text, call and result of a conversation. Ids and the spelling of JSON are the formats' own.
fn said(request: &Request) -> Vec<String> {
    let json = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    let parts = request.messages.iter().flat_map(|message| &message.parts);
    let mut said: Vec<String> = parts
        .filter_map(|part| match &part.kind {
            PartKind::Reasoning { .. } => None,
            PartKind::Text(text) if text.is_empty() => None,
            PartKind::ToolCall { name, arguments, .. } => {
                let arguments = if arguments.is_empty() {
                    json!({})
                } else {
                    json(arguments)
                };
                Some(format!("call {name} {arguments}"))
            }
            PartKind::ToolResult { parts, .. } => {
                let texts = parts.iter().map(|part| match &part.kind {
                    PartKind::Text(text) => json(text).to_string(),
                    kind => format!("{kind:?}"),
                });
                Some(format!("result {}", texts.collect::<Vec<_>>().join("\n")))
            }
            // Names of files are hints.
            PartKind::File { source, .. } => Some(format!("file {source:?}")),
            kind => Some(format!("{kind:?}")),
        })
        .collect();
    said.sort();
    said
}

#[test]
fn recorded_requests_across_formats() {
    let mut outcomes: BTreeMap<(String, String), (usize, String)> = BTreeMap::new();
    let mut n_written = 0;
    for (name, request) in requests() {
        for to in FORMATS {
            let from = request.format;
            let both_old = [Format::Chat, Format::Messages];
            if to == from || (both_old.contains(&to) && both_old.contains(&from)) {
                continue;
            }
            let outcome = match convert::write_request(to, &request, &WriteOptions::default()) {
                Err(error) => error.to_string(),
                Ok(mut written) => {
                    n_written += 1;
                    let facts = PathFacts {
                        model: Some(request.model.clone()),
                        stream: request.stream,
                    };
                    let back = convert::read_request(to, written.body, &facts)
                        .unwrap_or_else(|error| panic!("{name} to {to:?}: {error}"));
                    assert_eq!(said(&back), said(&request), "{name} to {to:?}");
                    assert_eq!(back.tools.len(), request.tools.len(), "{name} to {to:?}");
                    let settings = |request: &Request| {
                        let shape = request.output.is_some();
                        let (choice, stop) = (request.tool_choice.clone(), request.stop.clone());
                        (
                            request.model.clone(),
                            request.stream,
                            choice,
                            stop,
                            request.temperature.clone(),
                            shape,
                        )
                    };
                    assert_eq!(settings(&back), settings(&request), "{name} to {to:?}");
                    written.dropped.sort();
                    written.dropped.dedup();
                    match written.dropped.join(", ") {
                        none if none.is_empty() => "written".to_owned(),
                        dropped => format!("written without {dropped}"),
                    }
                }
            };
            let key = (format!("{from:?} to {to:?}"), outcome);
            outcomes.entry(key).or_insert((0, name.clone())).0 += 1;
        }
    }
    let mut shown = String::new();
    for ((formats, outcome), (count, first)) in outcomes {
        shown += &format!("{formats}: {count} {outcome}; first {first}\n");
    }
    assert!(n_written >= 250, "only {n_written} could be written");
    check_golden("across.txt", &shown);
}

fn check(from: Format, model: &str, body: &Value, to: Format, expected: &Result<(Value, &[&str]), &str>) {
    let facts = PathFacts {
        model: Some(model.to_owned()),
        stream: false,
    };
    let written = convert::read_request(from, body.clone(), &facts)
        .and_then(|request| convert::write_request(to, &request, &WriteOptions::default()));
    match (written, expected) {
        (Ok(written), Ok((body, dropped))) => {
            assert_eq!(&written.body, body);
            assert_eq!(written.dropped, *dropped);
        }
        (Err(error), Err(words)) => assert_eq!(error.to_string(), *words),
        (written, _) => panic!("{written:?}"),
    }
}

#[test]
fn chat_to_generate_content() {
    let schema = json!({"type": "object", "properties": {"x": {"$ref": "#/$defs/X"}}, "additionalProperties": false,
        "$defs": {"X": {"type": "integer"}}});
    let body = json!({"model": "gemini-2.5-pro", "max_tokens": 50, "temperature": 0.5, "stop": "END", "seed": 7, "n": 2,
        "logprobs": true, "top_logprobs": 3, "user": "u1", "reasoning_effort": "low", "parallel_tool_calls": false,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": true}},
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://x.example/a.png?b"}},
                {"type": "input_audio", "input_audio": {"format": "wav", "data": "BBBB"}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "b", "content": "{\"two\": 2}"},
            {"role": "tool", "tool_call_id": "a", "content": "one"},
            {"role": "developer", "content": "Go on."}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]});
    let expected = json!({
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Go on."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "What is this?"},
                {"inlineData": {"mimeType": "image/jpeg", "data": "AAAA"}},
                {"fileData": {"mimeType": "image/png", "fileUri": "https://x.example/a.png?b"}},
                {"inlineData": {"mimeType": "audio/wav", "data": "BBBB"}}]},
            {"role": "model", "parts": [
                {"functionCall": {"id": "a", "name": "f", "args": {"x": 1}}},
                {"functionCall": {"id": "b", "name": "g", "args": {}}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "a", "name": "f", "response": {"output": "one"}}},
                {"functionResponse": {"id": "b", "name": "g", "response": {"two": 2}}}]}],
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "generationConfig": {"temperature": 0.5, "maxOutputTokens": 50, "stopSequences": ["END"],
            "candidateCount": 2, "seed": 7, "responseLogprobs": true, "logprobs": 3,
            "responseMimeType": "application/json", "responseJsonSchema": schema,
            "thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": true}}});
    let dropped = [
        "messages[].role (system prompt moved to the front)",
        "response_format.json_schema.name",
        "response_format.json_schema.strict",
        "reasoning_effort (became a budget)",
        "parallel_tool_calls",
        "user",
    ];
    let to = Format::GenerateContent;
    check(
        Format::Chat,
        "gemini-2.5-pro",
        &body,
        to,
        &Ok((expected, &dropped)),
    );
}

/// Gemini 3 wants a signature over the first call of a turn, and thinks at levels.
#[test]
fn messages_to_generate_content_3() {
    let body = json!({"model": "gemini-3-pro", "max_tokens": 9, "system": "Be brief.", "top_k": 4,
        "output_config": {"effort": "max"}, "metadata": {"user_id": "u"},
        "messages": [
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "f", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": "no"},
                {"type": "tool_result", "tool_use_id": "b", "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
                {"type": "document", "title": "T", "source": {"type": "url", "url": "https://x.example/a"},
                    "cache_control": {"type": "ephemeral"}}]}]});
    let expected = json!({
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "model", "parts": [
                {"functionCall": {"id": "a", "name": "f", "args": {"x": 1}},
                    "thoughtSignature": "skip_thought_signature_validator"},
                {"functionCall": {"id": "b", "name": "f", "args": {}}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "a", "name": "f", "response": {"error": "no"}}},
                {"functionResponse": {"id": "b", "name": "f", "response": {"output": ""},
                    "parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}},
                {"fileData": {"mimeType": "application/pdf", "fileUri": "https://x.example/a"}}]}],
        "generationConfig": {"topK": 4, "maxOutputTokens": 9,
            "thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": true}}});
    let dropped = [
        "thinking",
        "filename",
        "cache_control",
        "reasoning_effort (max became high)",
        "user",
    ];
    let to = Format::GenerateContent;
    check(Format::Messages, "", &body, to, &Ok((expected, &dropped)));
}

#[test]
fn generate_content_to_chat() {
    let body = json!({"system_instruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"parts": [{"text": "What is this?"}, {"inline_data": {"mime_type": "image/png", "data": "AAAA"}}]},
            {"role": "model", "parts": [{"text": "hm", "thought": true, "thoughtSignature": "s"},
                {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "s"}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"a": "b"}}}]}],
        "tools": [{"function_declarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {
            "x": {"type": "INTEGER", "nullable": true}}}}]}],
        "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f"]}},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "generation_config": {"max_output_tokens": 9, "top_k": 40, "response_mime_type": "application/json",
            "response_schema": {"type": "STRING"}, "thinking_config": {"thinking_budget": 4000}}});
    let expected = json!({"model": "gpt",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            {"role": "assistant", "tool_calls": [
                {"id": "weir_0", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}]},
            {"role": "tool", "tool_call_id": "weir_0", "content": "{\"a\":\"b\"}"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object",
            "properties": {"x": {"type": ["integer", "null"]}}}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "max_completion_tokens": 9,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "string"}}},
        "reasoning_effort": "medium"});
    let dropped = [
        "thinking",
        "tool_calls[].thoughtSignature",
        "top_k",
        "thinking.budget_tokens (became an effort)",
        "safetySettings",
    ];
    check(
        Format::GenerateContent,
        "gpt",
        &body,
        Format::Chat,
        &Ok((expected, &dropped)),
    );
}

#[test]
fn generate_content_refusals() {
    let generate = |more: Value| {
        let mut body = json!({"contents": [{"parts": [{"text": "x"}]}]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    for (more, words) in [
        (json!({"contents": {}}), "field `contents` must be an array"),
        (
            json!({"contents": [{"role": "x"}]}),
            "field `contents[0].role` must be `user` or `model`",
        ),
        (
            json!({"contents": [{"parts": [{"function_call": {"name": "f", "args": 1}}]}]}),
            "field `contents[0].parts[0].functionCall.args` must be an object",
        ),
        (
            json!({"generationConfig": {"maxOutputTokens": -1}}),
            "field `generationConfig.maxOutputTokens` must be a whole number, not negative",
        ),
        (
            json!({"generationConfig": {"stopSequences": [1]}}),
            "field `generationConfig.stopSequences` must be an array of strings",
        ),
        (
            json!({"tools": [{"functionDeclarations": [{}]}]}),
            "field `tools[0].functionDeclarations[0].name` must be a string",
        ),
        (
            json!({"tools": [{"googleSearch": {}}]}),
            "`tool googleSearch` cannot be expressed in the format of this model's provider (Chat)",
        ),
        (
            json!({"contents": [{"parts": [{"executableCode": {}}]}]}),
            "`executableCode` cannot be expressed in the format of this model's provider (Chat)",
        ),
        (
            json!({"cachedContent": "cachedContents/1"}),
            "`cachedContent` cannot be expressed in the format of this model's provider (Chat)",
        ),
        (
            json!({"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}),
            "`responseModalities` cannot be expressed in the format of this model's provider (Chat)",
        ),
    ] {
        check(
            Format::GenerateContent,
            "m",
            &generate(more),
            Format::Chat,
            &Err(words),
        );
    }
    let chat = |more: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    for (more, what) in [
        (json!({"modalities": ["audio"]}), "modalities"),
        (json!({"web_search_options": {}}), "web_search_options"),
        (
            json!({"tools": [{"type": "custom", "custom": {}}]}),
            "tool custom",
        ),
        (
            json!({"messages": [{"role": "tool", "tool_call_id": "a", "content": "x"}]}),
            "result of `a` without its call",
        ),
    ] {
        let words =
            format!("`{what}` cannot be expressed in the format of this model's provider (GenerateContent)");
        check(
            Format::Chat,
            "",
            &chat(more),
            Format::GenerateContent,
            &Err(&words),
        );
    }
}

#[test]
fn chat_to_converse() {
    let detail = |text: &str| json!([{"type": "reasoning.text", "text": text, "signature": "s", "format": "anthropic-claude-v1", "index": 0}]);
    let body = json!({"model": "us.anthropic.claude-sonnet-4-5", "max_tokens": 50, "top_p": 0.5, "stop": ["END"],
        "seed": 7, "user": "u1", "reasoning_effort": "minimal",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA"}},
                {"type": "file", "file": {"filename": "a_b.pdf", "file_data": "data:application/pdf;base64,BBBB"}},
                {"type": "file", "file": {"filename": "a b.md", "file_data": "data:application/x;base64,CCCC"}}]},
            {"role": "user", "content": "Well?"},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "reasoning_details": detail("hm"),
                "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
            {"role": "tool", "tool_call_id": "a", "content": "one"}],
        "tool_choice": "required",
        "tools": [{"type": "function", "function": {"name": "f", "strict": true, "description": "",
            "parameters": {"type": "object"}}}]});
    let expected = json!({
        "messages": [
            {"role": "user", "content": [{"text": "What is this?"},
                {"image": {"format": "jpeg", "source": {"bytes": "AAAA"}}},
                {"document": {"format": "pdf", "source": {"bytes": "BBBB"}, "name": "a b"}},
                {"document": {"format": "md", "source": {"bytes": "CCCC"}, "name": "a b [2]"}},
                {"text": "Well?"}]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
                {"toolUse": {"toolUseId": "a", "name": "f", "input": {"x": 1}}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "a", "content": [{"text": "one"}]}}]}],
        "system": [{"text": "Be brief."}],
        "inferenceConfig": {"maxTokens": 50, "topP": 0.5, "stopSequences": ["END"]},
        "toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}, "strict": true}}],
            "toolChoice": {"any": {}}},
        "additionalModelRequestFields": {"output_config": {"effort": "low"}}});
    let dropped = ["seed", "user", "reasoning_effort (minimal became low)"];
    let to = Format::Converse;
    check(Format::Chat, "", &body, to, &Ok((expected, &dropped)));
}

#[test]
fn messages_and_converse() {
    let body = json!({"model": "claude-opus-4-1", "max_tokens": 9, "top_k": 4,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "tool", "name": "f"},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "xx"},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": [
                    {"type": "text", "text": "no"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "AAAA"}}]},
                {"type": "text", "text": "Well?", "cache_control": {"type": "ephemeral"}}]}]});
    let converse = json!({
        "messages": [
            {"role": "user", "content": [{"text": "Hi"}]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
                {"reasoningContent": {"redactedContent": "xx"}},
                {"toolUse": {"toolUseId": "a", "name": "f", "input": {"x": 1}}}]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "a", "content": [{"text": "no"},
                    {"image": {"format": "webp", "source": {"bytes": "AAAA"}}}], "status": "error"}},
                {"text": "Well?"}, {"cachePoint": {"type": "default"}}]}],
        "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
        "inferenceConfig": {"maxTokens": 9},
        "toolConfig": {
            "tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}},
                {"cachePoint": {"type": "default"}}],
            "toolChoice": {"tool": {"name": "f"}}},
        "outputConfig": {"textFormat": {"type": "json_schema",
            "structure": {"jsonSchema": {"schema": "{\"type\":\"object\"}"}}}},
        "additionalModelRequestFields": {"top_k": 4, "thinking": {"type": "enabled", "budget_tokens": 2000}}});
    check(
        Format::Messages,
        "",
        &body,
        Format::Converse,
        &Ok((converse.clone(), &[])),
    );
    check(
        Format::Converse,
        "claude-opus-4-1",
        &converse,
        Format::Messages,
        &Ok((body, &[])),
    );
}

#[test]
fn converse_refusals() {
    let chat = |more: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let image = |url: &str| {
        let part = json!({"type": "image_url", "image_url": {"url": url}});
        json!({"messages": [{"role": "user", "content": [part]}]})
    };
    for (more, what) in [
        (json!({"n": 2}), "n"),
        (json!({"logprobs": true}), "logprobs"),
        (
            json!({"response_format": {"type": "json_object"}}),
            "response_format json_object",
        ),
        (image("https://x.example/a.png"), "content by url"),
        (image("data:image/tiff;base64,AAAA"), "content of type image/tiff"),
        (
            image("s3://b/a"),
            "content in S3 whose name does not tell its format",
        ),
    ] {
        let words = format!("`{what}` cannot be expressed in the format of this model's provider (Converse)");
        check(Format::Chat, "", &chat(more), Format::Converse, &Err(&words));
    }
    let s3 = json!({"messages": [{"role": "user", "content": [
        {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://b/a.JPG"}}}}]}]});
    check(
        Format::Chat,
        "",
        &chat(image("s3://b/a.JPG")),
        Format::Converse,
        &Ok((s3, &[])),
    );
    let converse = |content: Value| json!({"messages": [{"role": "user", "content": [content]}]});
    for (content, words) in [
        (
            json!({"toolUse": {"name": "f"}}),
            "field `messages[0].content[0].toolUse.toolUseId` must be a string",
        ),
        (
            json!({"toolResult": {"toolUseId": "a", "status": "odd"}}),
            "field `messages[0].content[0].toolResult.status` must be `success` or `error`",
        ),
        (
            json!({"image": {"format": "png"}}),
            "field `messages[0].content[0].image.source` must be an object",
        ),
        (
            json!({"video": {"format": "mp4"}}),
            "`video` cannot be expressed in the format of this model's provider (Chat)",
        ),
    ] {
        check(
            Format::Converse,
            "m",
            &converse(content),
            Format::Chat,
            &Err(words),
        );
    }
}
