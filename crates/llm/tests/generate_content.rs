//! Google generateContent: recorded traffic through the canonical model and back, and across formats.

#[allow(dead_code, reason = "not every test has golden files")]
mod common;
#[path = "common/stream.rs"]
mod stream;

use common::recorded;
use llm::answer::Stop;
use llm::canonical::{PartKind, Request};
use llm::convert::{self, PathFacts, StreamOptions, WriteOptions};
use llm::format::Format;
use llm::sse::Framing;
use llm::usage::{Meter, of_response};
use serde_json::{Map, Value, json};
use stream::{assemble, check_cuts, merge_texts};

const FORMAT: Format = Format::GenerateContent;

struct Call {
    name: String,
    facts: PathFacts,
    request: Value,
    response: Value,
}

fn calls() -> Vec<Call> {
    let mut calls = Vec::new();
    for (name, interaction) in recorded() {
        let uri = interaction["request"]["uri"].as_str().unwrap_or("");
        let path = uri.split('?').next().unwrap();
        let Some((model, method)) = path.rsplit('/').next().unwrap().split_once(':') else {
            continue;
        };
        if !["generateContent", "streamGenerateContent"].contains(&method) {
            continue;
        }
        calls.push(Call {
            name: name.rsplit('/').take(2).collect::<Vec<_>>().join(" "),
            facts: PathFacts {
                model: Some(model.to_owned()),
                stream: method == "streamGenerateContent",
            },
            request: interaction["request"]["body_json"].clone(),
            response: interaction["response"].clone(),
        });
    }
    calls
}

fn camel(key: &str) -> String {
    let mut words = key.split('_');
    let mut out = words.next().unwrap_or("").to_owned();
    for word in words {
        let (first, rest) = word.split_at(word.len().min(1));
        out += &(first.to_uppercase() + rest);
    }
    out
}

/// Brings what the format lets one write in two ways to one of them, and leaves out what says nothing.
fn normal(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => json!(float as i64),
            _ => value.clone(),
        },
        Value::Object(fields) => {
            let mut out = Map::new();
            for (key, value) in fields {
                let key = match camel(key).as_str() {
                    "responseSchema" => "responseJsonSchema".to_owned(),
                    "parameters" => "parametersJsonSchema".to_owned(),
                    key => key.to_owned(),
                };
                let value = match (key.as_str(), normal(value)) {
                    (_, Value::Null) | ("index" | "tokenId" | "usageMetadata", _) => continue,
                    ("parts", Value::Array(parts)) if parts.is_empty() => continue,
                    ("responseModalities", kinds) if kinds == json!(["TEXT"]) => continue,
                    ("generationConfig", Value::Object(config)) if config.is_empty() => continue,
                    ("role", _) if !fields.contains_key("parts") => continue,
                    ("type", Value::String(kind)) => kind.to_lowercase().into(),
                    ("systemInstruction", Value::Object(mut system)) => {
                        system.shift_remove("role");
                        system.into()
                    }
                    (_, value) => value,
                };
                out.insert(key, value);
            }
            let has_parts = out.contains_key("parts");
            out.retain(|key, value| {
                (key != "role" || has_parts) && (key != "content" || *value != json!({}))
            });
            Value::Object(out)
        }
        other => other.clone(),
    }
}

fn read(call: &Call) -> Request {
    convert::read_request(FORMAT, call.request.clone(), &call.facts)
        .unwrap_or_else(|error| panic!("{}: {error}", call.name))
}

#[test]
fn recorded_requests_come_back_whole() {
    let calls = calls();
    assert!(calls.len() >= 90, "only {} recorded requests", calls.len());
    for call in calls {
        let request = read(&call);
        assert_eq!(request.stream, call.facts.stream);
        let written = convert::write_request(FORMAT, &request, &WriteOptions::default())
            .unwrap_or_else(|error| panic!("{}: {error}", call.name));
        assert_eq!(normal(&written.body), normal(&call.request), "{}", call.name);
        assert_eq!(written.dropped, [""; 0], "{}", call.name);
        let again = convert::read_request(FORMAT, written.body, &call.facts);
        assert_eq!(again.as_ref(), Ok(&request), "{}: read again", call.name);
    }
}

#[test]
fn recorded_answers_come_back_whole() {
    let mut n_answers = 0;
    for call in calls() {
        let body = &call.response["body_json"];
        if !body.is_object() {
            continue;
        }
        n_answers += 1;
        let answer = convert::read_answer(FORMAT, body.clone()).unwrap();
        assert_eq!(answer.usage, of_response(FORMAT, body), "{}", call.name);
        let written = convert::write_answer(FORMAT, &answer).unwrap();
        assert_eq!(normal(&written.body), normal(body), "{}", call.name);
        assert_eq!(written.dropped, [""; 0], "{}", call.name);
        assert_eq!(
            convert::read_answer(FORMAT, written.body).as_ref(),
            Ok(&answer),
            "{}",
            call.name
        );
    }
    assert!(n_answers >= 70, "only {n_answers} recorded answers");
}

/// The answer that the chunks of a stream are pieces of.
fn join(chunks: &[Value]) -> Value {
    let mut whole = chunks.last().unwrap().clone();
    let parts = chunks.iter().flat_map(|chunk| {
        chunk
            .pointer("/candidates/0/content/parts")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    });
    whole["candidates"][0]["content"]["parts"] = parts.collect();
    whole
}

#[test]
fn recorded_streams() {
    let mut n_streams = 0;
    for call in calls() {
        let Some(body) = call.response["body"].as_str() else {
            continue;
        };
        n_streams += 1;
        let name = &call.name;
        let read = |pieces: &[&[u8]]| stream::read(FORMAT, Framing::ServerSentEvents, pieces.iter().copied());
        check_cuts(name, body.as_bytes(), read);
        let events = read(&[body.as_bytes()]);
        let assembled = assemble(&events);
        assert_eq!(assembled.error, None, "{name}");

        let lines = body.lines().filter_map(|line| line.strip_prefix("data: "));
        let chunks: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut meter = Meter::new(FORMAT);
        chunks.iter().for_each(|chunk| meter.observe(chunk));
        assert_eq!(assembled.usage, meter.usage(), "{name}");

        let whole = convert::read_answer(FORMAT, join(&chunks)).unwrap();
        assert_eq!(
            (&assembled.id, &assembled.model),
            (&whole.id, &whole.model),
            "{name}"
        );
        let choice = &whole.choices[0];
        assert_eq!(
            merge_texts(&assembled.parts[&0]),
            merge_texts(&choice.parts),
            "{name}"
        );
        assert_eq!(assembled.stops.get(&0), choice.stop.as_ref(), "{name}");

        // The same as an array, and written again in both forms.
        let array = Value::from(chunks).to_string();
        let read_array = |pieces: &[&[u8]]| stream::read(FORMAT, Framing::JsonArray, pieces.iter().copied());
        assert_eq!(read_array(&[array.as_bytes()]), events, "{name}: array");
        for (json_array, framing) in [(false, Framing::ServerSentEvents), (true, Framing::JsonArray)] {
            let options = StreamOptions {
                json_array,
                ..StreamOptions::default()
            };
            let mut writer = convert::stream_writer(FORMAT, options);
            let mut bytes = Vec::new();
            events.iter().for_each(|event| writer.write(event, &mut bytes));
            let back = assemble(&stream::read(FORMAT, framing, [&bytes[..]]));
            assert_eq!(back, assembled, "{name}: json_array {json_array}");
            if json_array {
                assert!(serde_json::from_slice::<Vec<Value>>(&bytes).is_ok(), "{name}");
            }
        }
    }
    assert!(n_streams >= 16, "only {n_streams} recorded streams");
}

/// Nothing of a stream that is cut passes for a whole answer.
#[test]
fn a_stream_without_finish_reason_is_cut() {
    let check = |body: &str, error: Option<&str>, n_parts: usize| {
        let events = stream::read(FORMAT, Framing::ServerSentEvents, [body.as_bytes()]);
        let assembled = assemble(&events);
        assert_eq!(assembled.error.as_deref(), error, "{body}");
        assert_eq!(
            assembled.parts.values().map(Vec::len).sum::<usize>(),
            n_parts,
            "{body}"
        );
    };
    let cut = Some("the provider ended its stream before the answer was complete");
    let text = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\n\n";
    check("", cut, 0);
    check(text, cut, 1);
    check(
        &format!("{text}data: {{\"candidates\":[{{\"finishReason\":\"STOP\"}}]}}\n\n"),
        None,
        1,
    );
    let more = "data: {\"candidates\":[{\"finishReason\":\"\"}]}\n\n";
    check(&format!("{text}{more}"), cut, 1);
    check(
        "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n",
        None,
        0,
    );
    check(
        &format!(
            "{text}data: {{\"error\":{{\"code\":503,\"message\":\"busy\",\"status\":\"UNAVAILABLE\"}}}}\n\n{text}"
        ),
        Some("busy"),
        1,
    );
}

#[test]
fn calls_without_ids() {
    let call = |city: &str| json!({"functionCall": {"name": "f", "args": {"city": city}}});
    let result = |text: &str| json!({"functionResponse": {"name": "f", "response": {"output": text}}});
    let body = json!({"contents": [
        {"role": "model", "parts": [call("a"), call("b")]},
        {"role": "user", "parts": [result("1"), result("2")]},
        {"role": "model", "parts": [call("c")]},
        {"role": "user", "parts": [result("3")]}]});
    let facts = PathFacts {
        model: Some("gemini-2.5-pro".to_owned()),
        stream: false,
    };
    let request = convert::read_request(FORMAT, body.clone(), &facts).unwrap();
    let ids: Vec<&str> = request
        .messages
        .iter()
        .flat_map(|message| &message.parts)
        .map(|part| match &part.kind {
            PartKind::ToolCall { id, .. } | PartKind::ToolResult { id, .. } => id.as_str(),
            kind => panic!("{kind:?}"),
        })
        .collect();
    assert_eq!(ids, ["weir_0", "weir_1", "weir_0", "weir_1", "weir_2", "weir_2"]);
    let written = convert::write_request(FORMAT, &request, &WriteOptions::default()).unwrap();
    assert_eq!(written.body, body);

    // Through a client of another format and back: no id that Google did not give.
    let chat = convert::write_request(Format::Chat, &request, &WriteOptions::default()).unwrap();
    let chat = convert::read_request(Format::Chat, chat.body, &facts).unwrap();
    let back = convert::write_request(FORMAT, &chat, &WriteOptions::default()).unwrap();
    assert_eq!(back.body, body);
}

/// A prompt that is refused has no candidates.
#[test]
fn a_blocked_prompt() {
    let body = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "modelVersion": "m",
        "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}});
    let answer = convert::read_answer(FORMAT, body.clone()).unwrap();
    assert_eq!(answer.choices.len(), 1);
    assert_eq!(answer.choices[0].stop, Some(Stop::Refused));
    let written = convert::write_answer(FORMAT, &answer).unwrap().body;
    assert_eq!(normal(&written), normal(&body));
    let chat = convert::write_answer(Format::Chat, &answer).unwrap().body;
    assert_eq!(chat["choices"][0]["finish_reason"], "content_filter");
}

#[test]
fn several_candidates() {
    let candidate = |text: &str, index: usize| json!({"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": index});
    let body = json!({"candidates": [candidate("a", 0), candidate("b", 1)], "responseId": "r"});
    let answer = convert::read_answer(FORMAT, body.clone()).unwrap();
    assert_eq!(convert::write_answer(FORMAT, &answer).unwrap().body, body);
    let chat = convert::write_answer(Format::Chat, &answer).unwrap().body;
    assert_eq!(chat["choices"][1]["message"]["content"], "b");
    let stream = format!("data: {body}\n\n");
    let assembled = assemble(&stream::read(
        FORMAT,
        Framing::ServerSentEvents,
        [stream.as_bytes()],
    ));
    assert_eq!(assembled.parts[&1], answer.choices[1].parts);
    assert_eq!(assembled.stops.len(), 2);
}

/// Gemini 3 refuses a call without the signature that it gave; clients of Chat hand back what they got.
#[test]
fn signatures_come_back_through_chat() {
    let body = json!({"responseId": "r", "candidates": [{"finishReason": "STOP", "content": {"role": "model", "parts": [
        {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "sig=="},
        {"functionCall": {"name": "f", "args": {}}}]}}]});
    let answer = convert::read_answer(FORMAT, body.clone()).unwrap();
    assert_eq!(answer.choices[0].stop, Some(Stop::ToolUse));
    let whole = convert::write_answer(Format::Chat, &answer).unwrap();
    assert_eq!(whole.dropped, [""; 0]);
    let message = whole.body["choices"][0]["message"].clone();
    let extra = json!({"google": {"thought_signature": "sig=="}});
    assert_eq!(message["tool_calls"][0]["extra_content"], extra);

    let events = stream::read(
        FORMAT,
        Framing::ServerSentEvents,
        [format!("data: {body}\n\n").as_bytes()],
    );
    let mut writer = convert::stream_writer(Format::Chat, StreamOptions::default());
    let mut bytes = Vec::new();
    events.iter().for_each(|event| writer.write(event, &mut bytes));
    let shown = String::from_utf8(bytes).unwrap();
    assert!(shown.contains(&format!("\"extra_content\":{extra}")), "{shown}");

    let results =
        ["weir_r_0_0", "weir_r_0_1"].map(|id| json!({"role": "tool", "tool_call_id": id, "content": "1"}));
    let mut messages = vec![json!({"role": "user", "content": "x"}), message];
    messages.extend(results);
    let next = json!({"model": "gemini-3-pro", "messages": messages});
    let next = convert::read_request(Format::Chat, next, &PathFacts::default()).unwrap();
    let written = convert::write_request(FORMAT, &next, &WriteOptions::default()).unwrap();
    assert_eq!(written.body["contents"][1], body["candidates"][0]["content"]);
    let result = json!({"functionResponse": {"name": "f", "response": {"output": "1"}}});
    assert_eq!(written.body["contents"][2]["parts"], json!([result, result]));
    assert_eq!(written.dropped, [""; 0]);
}

/// JSON of protocol buffers writes numbers in more than one way.
#[test]
fn numbers() {
    let facts = PathFacts {
        model: Some("m".to_owned()),
        stream: false,
    };
    let read = |config: Value| {
        let body = json!({"contents": [], "generationConfig": config});
        convert::read_request(FORMAT, body, &facts)
            .map(|request| (request.top_k, request.seed, request.reasoning.mode))
    };
    let adaptive = Some("adaptive".to_owned());
    let config = json!({"top_k": 40.0, "seed": "-3", "thinkingConfig": {"thinkingBudget": -1}});
    assert_eq!(read(config), Ok((Some(40), Some(-3), adaptive)));
    for bad in [json!({"topK": 1.5}), json!({"topK": "x"}), json!({"topK": 1e300})] {
        let error = read(bad).unwrap_err().to_string();
        assert_eq!(error, "field `generationConfig.topK` must be a whole number");
    }
}

/// Google's SDK writes bytes in the alphabet of URLs and without padding; other providers refuse that.
#[test]
fn images_leave_in_standard_base64() {
    let check = |data: &str, expected: &str| {
        let body = json!({"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": data}}]}]});
        let path = PathFacts {
            model: Some("m".to_owned()),
            stream: false,
        };
        let request = convert::read_request(Format::GenerateContent, body, &path).unwrap();
        let written = convert::write_request(Format::Chat, &request, &WriteOptions::default()).unwrap();
        let url = written
            .body
            .pointer("/messages/0/content/0/image_url/url")
            .unwrap();
        assert_eq!(
            url.as_str(),
            Some(format!("data:image/png;base64,{expected}").as_str())
        );
    };
    check("-_-_", "+/+/");
    check("AAECAw", "AAECAw==");
    check("AAECAwQ", "AAECAwQ=");
    check("AAECAwQF", "AAECAwQF");
}
