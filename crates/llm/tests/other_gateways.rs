//! What other gateways make of the same documents.
//!
//! Of agentgateway (Apache-2.0) the results are there: every difference is listed in
//! `golden/agentgateway.txt` with its reason, one without a reason fails. Of Higress (Apache-2.0) only the
//! documents of its tests are: `golden/higress.txt` shows what becomes of them.

#[allow(dead_code, reason = "recorded traffic is not here")]
mod common;
#[path = "common/stream.rs"]
#[allow(dead_code, reason = "only binary streams are here")]
mod stream;

use common::{check_golden, shared};
use llm::convert::{self, PathFacts, StreamOptions, WriteOptions};
use llm::format::Format;
use llm::sse::Framing;
use serde_json::{Map, Value, json};
use stream::assemble;

/// The pairs by the end of the name of the result.
const CONVERSIONS: [(&str, &str, Format, Format); 17] = [
    (
        "requests/completions",
        "anthropic",
        Format::Chat,
        Format::Messages,
    ),
    ("requests/messages", "completions", Format::Messages, Format::Chat),
    (
        "response/completions",
        "completions-messages",
        Format::Chat,
        Format::Messages,
    ),
    (
        "response/completions",
        "completions-messages-streaming",
        Format::Chat,
        Format::Messages,
    ),
    (
        "response/anthropic",
        "messages-completions-streaming",
        Format::Messages,
        Format::Chat,
    ),
    (
        "requests/completions",
        "vertex-gemini",
        Format::Chat,
        Format::GenerateContent,
    ),
    ("requests/completions", "bedrock", Format::Chat, Format::Converse),
    ("requests/messages", "bedrock", Format::Messages, Format::Converse),
    (
        "requests/responses",
        "bedrock",
        Format::Responses,
        Format::Converse,
    ),
    (
        "requests/gemini",
        "gemini-native",
        Format::GenerateContent,
        Format::GenerateContent,
    ),
    (
        "response/bedrock",
        "bedrock-completions",
        Format::Converse,
        Format::Chat,
    ),
    (
        "response/bedrock",
        "bedrock-messages",
        Format::Converse,
        Format::Messages,
    ),
    (
        "response/bedrock",
        "bedrock-responses",
        Format::Converse,
        Format::Responses,
    ),
    (
        "response/bedrock",
        "bedrock-completions-streaming",
        Format::Converse,
        Format::Chat,
    ),
    (
        "response/bedrock",
        "bedrock-messages-streaming",
        Format::Converse,
        Format::Messages,
    ),
    (
        "response/vertex-gemini",
        "gemini-native",
        Format::GenerateContent,
        Format::GenerateContent,
    ),
    (
        "response/vertex-gemini",
        "vertex-gemini-completions",
        Format::GenerateContent,
        Format::Chat,
    ),
];

const ALWAYS: &str = "a field that OpenAI's own answers always have";

/// Why we differ: by a part of the path, or of what is there. The first that matches holds.
const REASONS: [(&str, &str); 49] = [
    (".id: theirs \"[id]\"", "their test hides it"),
    (
        ".usage.service_tier",
        "a word of OpenAI's, not of Anthropic's; we name it as dropped",
    ),
    // Between Chat and Messages.
    (
        "tool-call to Messages: .messages[",
        "results of calls made at once are one turn, as Anthropic asks; their content is a list of blocks",
    ),
    (
        ".content: theirs [{\"type\":\"text\"",
        "one text alone is a string, which every provider of Chat takes",
    ),
    (".stream: theirs false", "the default"),
    (
        "gpt_adaptive_thinking_with_tools to Chat: .reasoning_effort",
        "adaptive leaves it to the model; they turn reasoning off",
    ),
    (
        "structured-output to Chat: .reasoning_effort",
        "the effort that the client asked for, which theirs loses",
    ),
    (
        ".response_format.json_schema.name",
        "OpenAI demands a name, Anthropic has none: any will do",
    ),
    (
        "openrouter_reasoning to Messages: .content",
        "the reasoning is there as thinking; theirs loses it",
    ),
    (
        "truncated_tool_call to Messages: .content[0].input",
        "Anthropic's input is an object; what was cut off must fail when a client runs it",
    ),
    (
        "stream to Messages: .usage",
        "the reasoning is told apart, inside the output as Anthropic tells it",
    ),
    (
        "stream_message_delta_usage to Chat: .usage",
        "Chat counts the cache inside the prompt; theirs loses the input beside it",
    ),
    // Requests to Gemini.
    (
        ".generationConfig.topK",
        "OpenAI's format has no `top_k`; we name it as dropped",
    ),
    (
        ".parameters:",
        "we write JSON Schema where Google takes it: nothing is lost",
    ),
    (
        ".parametersJsonSchema:",
        "the same schema, in the field for JSON Schema",
    ),
    (
        ".responseSchema:",
        "read from Google's dialect, written as JSON Schema",
    ),
    (
        ".responseJsonSchema:",
        "the same schema, in the field for JSON Schema",
    ),
    (
        ".functionCall.id",
        "Google has ids now: results of calls at once are matched for sure",
    ),
    (
        ".functionResponse.id",
        "Google has ids now: results of calls at once are matched for sure",
    ),
    (
        ".functionResponse.response",
        "a result that is an object is the response; Google names no field `content`",
    ),
    (
        "someNewToolField",
        "functions and tools of Google are apart in our model: two tools, the same meaning",
    ),
    // Requests to Bedrock.
    (
        ".inferenceConfig: theirs {\"maxTokens\":4096}",
        "a limit that the client did not ask for cuts answers off",
    ),
    (
        "toolSpec.",
        "Bedrock wants a tool where there were calls; the name and words are ours",
    ),
    (
        "reasoning_replay to Converse",
        "`reasoning_signature` is their own field of Chat; ours is OpenRouter's `reasoning_details`",
    ),
    (
        "we refuse: `n`",
        "they give one answer where three were asked for",
    ),
    (
        "we refuse: `tool web_search",
        "they leave out the tool that the request is about",
    ),
    (
        ".additionalModelRequestFields: theirs {\"metadata\"",
        "Bedrock documents no `metadata` of Claude; we name the user as dropped",
    ),
    // Answers.
    (
        ".id: theirs",
        "a name that their test made up; Bedrock gives none and the gateway fills it in",
    ),
    (
        ".model: theirs",
        "a name that their test made up; Bedrock gives none and the gateway fills it in",
    ),
    (".created", "the time that the gateway fills in"),
    (
        ".usage.cache_creation_input_tokens",
        "a count that the format does not have, or that is always there in Anthropic's",
    ),
    (
        ".usage.cache_read_input_tokens",
        "a count that the format does not have, or that is always there in Anthropic's",
    ),
    (".usage.cache_creation:", "always there in Anthropic's own"),
    (
        ".usage.prompt_tokens:",
        "this format counts the cache inside the prompt; theirs loses it",
    ),
    (
        ".usage.input_tokens:",
        "this format counts the cache inside the input; theirs loses it",
    ),
    ("_tokens_details", "details that the format always has"),
    (
        ".message.reasoning_",
        "they invent `reasoning_signature`; we write OpenRouter's `reasoning_details`",
    ),
    (
        ".incomplete_details.reason",
        "OpenAI's word is `max_output_tokens`",
    ),
    (
        "reasoning to Responses: .output",
        "OpenAI has reasoning as an item of its own, theirs says it as an answer",
    ),
    (".background:", ALWAYS),
    (".parallel_tool_calls:", ALWAYS),
    (".reasoning:", ALWAYS),
    (".service_tier:", ALWAYS),
    (".store:", ALWAYS),
    (".text:", ALWAYS),
    (".tool_choice:", ALWAYS),
    (".top_logprobs:", ALWAYS),
    (".truncation:", ALWAYS),
    (
        "reasoning to Chat: .parts",
        "`reasoning_signature` is their own field of Chat; ours is OpenRouter's `reasoning_details`",
    ),
];

/// All differences between two documents, as `path: theirs, ours`.
fn differences(path: &str, theirs: &Value, ours: &Value, out: &mut Vec<String>) {
    let is_nothing = |value: &Value| value.is_null() || value == &json!({}) || value == &json!([]);
    match (theirs, ours) {
        (Value::Object(left), Value::Object(right)) => {
            let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let at = |fields: &Map<String, Value>| fields.get(key).cloned().unwrap_or(Value::Null);
                differences(&format!("{path}.{key}"), &at(left), &at(right), out);
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            for idx in 0..left.len().max(right.len()) {
                let at = |items: &[Value]| items.get(idx).cloned().unwrap_or(Value::Null);
                differences(&format!("{path}[{idx}]"), &at(left), &at(right), out);
            }
        }
        _ if theirs == ours || (is_nothing(theirs) && is_nothing(ours)) => {}
        _ => {
            let show = |value: &Value| {
                if is_nothing(value) {
                    "nothing".to_owned()
                } else {
                    value.to_string()
                }
            };
            out.push(format!("{path}: theirs {}, ours {}", show(theirs), show(ours)));
        }
    }
}

/// What a text stream tells, read by our reader; names are the gateway's.
fn told(format: Format, stream: &str) -> Value {
    let lines = stream
        .lines()
        .filter(|line| line.is_empty() || line.starts_with("data: "));
    let lines: String = lines.map(|line| line.to_owned() + "\n").collect();
    let told = assemble(&stream::read(
        format,
        Framing::ServerSentEvents,
        [lines.as_bytes()],
    ));
    json!({"parts": format!("{:?}", told.parts), "stops": format!("{:?}", told.stops),
        "usage": format!("{:?}", told.usage), "error": told.error})
}

fn theirs(snapshot: &str, key: &str, format: Format) -> Value {
    let (_, body) = snapshot.split_once("\n---\n").unwrap();
    if key == "stream" {
        return told(format, body);
    }
    let document: Value = serde_json::from_str(body).unwrap();
    document[key].clone()
}

/// What we make of it, or why we refuse.
fn ours(key: &str, bytes: &[u8], from: Format, to: Format) -> Result<(Value, Vec<String>), String> {
    if key == "stream" {
        let events = if from == Format::Converse {
            stream::read_binary([bytes])
        } else {
            stream::read(from, Framing::ServerSentEvents, [bytes])
        };
        let options = StreamOptions {
            include_usage: true,
            now_s: 123,
            ..StreamOptions::default()
        };
        let mut writer = convert::stream_writer(to, options);
        let mut written = Vec::new();
        events.iter().for_each(|event| writer.write(event, &mut written));
        return Ok((told(to, std::str::from_utf8(&written).unwrap()), Vec::new()));
    }
    let document: Value = serde_json::from_slice(bytes).unwrap();
    let written = if key == "request" {
        let facts = PathFacts {
            model: document["model"]
                .as_str()
                .map(str::to_owned)
                .or(Some("gemini".to_owned())),
            stream: false,
        };
        convert::read_request(from, document, &facts)
            .and_then(|request| convert::write_request(to, &request, &WriteOptions::default()))
    } else {
        convert::read_answer(from, document).and_then(|answer| convert::write_answer(to, &answer))
    };
    written
        .map(|written| (written.body, written.dropped))
        .map_err(|error| error.to_string())
}

#[test]
fn differences_have_reasons() {
    let root = shared().join("data/ai/golden-agentgateway");
    let (mut shown, mut n_pairs, mut unexplained) = (String::new(), 0, Vec::new());
    for (folder, end, from, to) in CONVERSIONS {
        let mut files: Vec<_> = std::fs::read_dir(root.join(folder))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| Some(name.strip_suffix(&format!(".{end}.snap"))?.to_owned()))
            .collect();
        files.sort();
        for file in files {
            n_pairs += 1;
            let (key, source) = match (folder.starts_with("requests"), end.ends_with("-streaming")) {
                (true, _) => ("request", format!("{file}.json")),
                (false, true) if from == Format::Converse => ("stream", format!("{file}.bin")),
                (false, true) => ("stream", format!("{file}.json")),
                (false, false) => ("response", format!("{file}.json")),
            };
            let read = |name: &str| std::fs::read(root.join(folder).join(name)).unwrap();
            let snapshot = String::from_utf8(read(&format!("{file}.{end}.snap"))).unwrap();
            let mut found = Vec::new();
            match ours(key, &read(&source), from, to) {
                Ok((body, dropped)) => {
                    differences("", &theirs(&snapshot, key, to), &body, &mut found);
                    if !dropped.is_empty() {
                        shown += &format!(
                            "{folder}/{file} to {to:?}: we name as dropped: {}\n",
                            dropped.join(", ")
                        );
                    }
                }
                Err(error) => found.push(format!("we refuse: {error}")),
            }
            if found.is_empty() {
                shown += &format!("{folder}/{file} to {to:?}: the same\n");
            }
            for difference in found {
                let place = format!("{folder}/{file} to {to:?}: {difference}");
                match REASONS.iter().find(|(part, _)| place.contains(part)) {
                    Some((_, reason)) => shown += &format!("{place}; {reason}\n"),
                    None => unexplained.push(place),
                }
            }
        }
    }
    assert!(n_pairs >= 42, "only {n_pairs} pairs");
    assert!(
        unexplained.is_empty(),
        "without a reason:\n{}",
        unexplained.join("\n")
    );
    check_golden("agentgateway.txt", &shown);
}

/// What a document of Higress's tests becomes at the provider of its test.
fn outcome(provider: &str, document: &Value) -> String {
    let facts = PathFacts {
        model: Some("m".to_owned()),
        stream: false,
    };
    let to = if provider == "bedrock" {
        Format::Converse
    } else {
        Format::GenerateContent
    };
    let from = match document {
        _ if document["candidates"].is_array() || document["output"].is_object() => {
            let answer = convert::read_answer(to, document.clone()).unwrap();
            let stop = answer.choices[0].stop.clone();
            let written = convert::write_answer(Format::Chat, &answer).unwrap().body;
            let (message, usage) = (&written["choices"][0]["message"], &written["usage"]);
            let usage = [&usage["prompt_tokens"], &usage["completion_tokens"]];
            return format!("answer {message}, stop {stop:?}, tokens {usage:?}");
        }
        _ if document["model"].is_null() => to,
        _ if document["messages"].is_array() => Format::Chat,
        _ => return "no chat: another endpoint".to_owned(),
    };
    let request = convert::read_request(from, document.clone(), &facts).unwrap();
    match convert::write_request(to, &request, &WriteOptions::default()) {
        Ok(written) if written.dropped.is_empty() => written.body.to_string(),
        Ok(written) => format!("{} without {}", written.body, written.dropped.join(", ")),
        Err(error) => error.to_string(),
    }
}

#[test]
fn documents_of_higress() {
    let path = shared().join("data/ai/handmade/higress-ai-proxy-literals.jsonl");
    let (mut shown, mut n_documents) = (String::new(), 0);
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let provider = row["provider"].as_str().unwrap();
        if !["bedrock", "gemini", "vertex"].contains(&provider) {
            continue;
        }
        n_documents += 1;
        let outcome = outcome(provider, &row["json"]);
        let (test, part) = (row["test"].as_str().unwrap(), row["var"].as_str().unwrap());
        shown += &format!("{test}, {part}: {outcome}\n");
    }
    assert!(n_documents >= 28, "only {n_documents} documents");
    check_golden("higress.txt", &shown);
}
