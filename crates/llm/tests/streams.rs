//! Streams of Chat and Messages, as providers send them and clients see them: one case a line.
//!
//! Events are shown as `+CHOICE.PART KIND`, `CHOICE.PART "more"`, `-CHOICE.PART`, and by their names.

use llm::answer::{Delta, Stop, StreamEvent, StreamPart};
use llm::canonical::{Part, PartKind};
use llm::convert::{self, StreamOptions};
use llm::error::ErrorAnswer;
use llm::format::Format;
use llm::usage::Usage;
use serde_json::{Value, json};

fn show(event: &StreamEvent) -> String {
    match event {
        StreamEvent::Start { id, model, .. } => format!("start {id} {model}"),
        StreamEvent::PartStart { choice, part, kind } => match kind {
            StreamPart::Text => format!("+{choice}.{part} text"),
            StreamPart::Reasoning => format!("+{choice}.{part} reasoning"),
            StreamPart::ToolCall { id, name } => format!("+{choice}.{part} call {id} {name}"),
            StreamPart::Whole(whole) => match &whole.kind {
                PartKind::Other(value) => format!("+{choice}.{part} {value}"),
                kind => format!("+{choice}.{part} {kind:?} {}", Value::from(whole.other.clone())),
            },
        },
        StreamEvent::Delta { choice, part, delta } => match delta {
            Delta::Text(text) | Delta::Reasoning(text) | Delta::Arguments(text) => {
                format!("{choice}.{part} {text:?}")
            }
            Delta::Signature(text) => format!("{choice}.{part} signature {text:?}"),
        },
        StreamEvent::PartEnd { choice, part } => format!("-{choice}.{part}"),
        StreamEvent::Logprobs { choice, tokens } => format!("logprobs {choice} {}", tokens.len()),
        StreamEvent::Stop { choice, stop } => format!("stop {choice} {stop:?}"),
        StreamEvent::Usage(usage) => format!("usage {}+{}", usage.total_input(), usage.total_output()),
        StreamEvent::Error(error) => format!("error {} {}", error.status, error.message),
        StreamEvent::Ping => "ping".to_owned(),
        StreamEvent::End => "end".to_owned(),
    }
}

fn read(format: Format, data: &[String]) -> Vec<String> {
    let mut reader = convert::stream_reader(format);
    let mut events = Vec::new();
    for data in data {
        if let Err(error) = reader.read("", data, &mut events) {
            return events.iter().map(show).chain([error.to_string()]).collect();
        }
    }
    reader.finish(&mut events);
    // What is said after the end is nothing.
    let n_events = events.len();
    let _ = reader.read("", "{}", &mut events);
    reader.finish(&mut events);
    assert_eq!(events.len(), n_events);
    events.iter().map(show).collect()
}

const CUT: &str = "error 502 the provider ended its stream before the answer was complete";

/// A Chat stream of these deltas of choice 0, and `[DONE]`; each may be `[delta, finish_reason]`.
fn check_chat(deltas: &Value, expected: &[&str]) {
    let chunk = |delta: &Value| {
        let (delta, finish) = match delta.as_array() {
            Some(both) => (&both[0], &both[1]),
            None => (delta, &Value::Null),
        };
        json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
            .to_string()
    };
    let mut data: Vec<String> = deltas.as_array().unwrap().iter().map(chunk).collect();
    data.push("[DONE]".to_owned());
    let seen = read(Format::Chat, &data);
    let expected: Vec<&str> = [&["start c m"], expected, &["end"]].concat();
    assert_eq!(seen, expected, "{deltas}");
}

fn call(fields: &Value) -> Value {
    json!({"tool_calls": [fields]})
}

#[test]
fn chat_text_and_reasoning() {
    check_chat(
        &json!([{"role": "assistant", "content": ""}, {"content": "Hi"}, {"content": " you"}, [{}, "stop"]]),
        &["+0.0 text", "0.0 \"Hi\"", "0.0 \" you\"", "-0.0", "stop 0 End"],
    );
    for key in ["reasoning", "reasoning_content"] {
        check_chat(
            &json!([{key: "hm", "content": null}, {key: "m", "content": ""}, {"content": "Hi", key: ""}, [{}, "length"]]),
            &[
                "+0.0 reasoning",
                "0.0 \"hm\"",
                "0.0 \"m\"",
                "-0.0",
                "+0.1 text",
                "0.1 \"Hi\"",
                "-0.1",
                "stop 0 MaxTokens",
            ],
        );
    }
    // Both at once are the same text twice.
    check_chat(
        &json!([[{"reasoning": "a", "reasoning_content": "a"}, "stop"]]),
        &["+0.0 reasoning", "0.0 \"a\"", "-0.0", "stop 0 End"],
    );
    // OpenRouter.
    let text = json!([{"type": "reasoning.text", "text": "a", "index": 0}]);
    let signed =
        json!([{"type": "reasoning.text", "signature": "s", "format": "anthropic-claude-v1", "index": 0}]);
    let hidden =
        json!([{"type": "reasoning.encrypted", "data": "x", "format": "anthropic-claude-v1", "index": 1}]);
    check_chat(
        &json!([{"reasoning": "a", "reasoning_details": text}, {"reasoning_details": signed}, [{"reasoning_details": hidden}, "stop"]]),
        &[
            "+0.0 reasoning",
            "0.0 \"a\"",
            "0.0 signature \"s\"",
            "-0.0",
            "+0.1 {\"type\":\"redacted_thinking\",\"data\":\"x\"}",
            "-0.1",
            "stop 0 End",
        ],
    );
    // Mistral.
    let pieces = json!([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "Hi"}]);
    check_chat(
        &json!([[{"content": pieces}, "stop"]]),
        &[
            "+0.0 reasoning",
            "0.0 \"hm\"",
            "-0.0",
            "+0.1 text",
            "0.1 \"Hi\"",
            "-0.1",
            "stop 0 End",
        ],
    );
    check_chat(
        &json!([{"refusal": "I "}, [{"refusal": "won't"}, "stop"]]),
        &[
            "+0.0 {\"type\":\"refusal\",\"refusal\":\"I won't\"}",
            "-0.0",
            "stop 0 End",
        ],
    );
    check_chat(
        &json!([{"content": "a"}, [{"annotations": [{"type": "url_citation"}], "channel": "final"}, "stop"]]),
        &[
            "+0.0 text",
            "0.0 \"a\"",
            "+0.1 {\"type\":\"chat_delta\",\"delta\":{\"annotations\":[{\"type\":\"url_citation\"}]}}",
            "-0.1",
            "-0.0",
            "stop 0 End",
        ],
    );
    // A reason in every chunk, as Google's compatible endpoint has sent.
    check_chat(
        &json!([[{"content": "a"}, "stop"], [{"content": "b"}, "stop"]]),
        &["+0.0 text", "0.0 \"a\"", "0.0 \"b\"", "-0.0", "stop 0 End"],
    );
    check_chat(
        &json!([[{}, "insufficient_system_resource"]]),
        &["stop 0 Other(\"insufficient_system_resource\")"],
    );
    // No reason at all.
    check_chat(
        &json!([[{"content": "a"}, ""]]),
        &["+0.0 text", "0.0 \"a\"", "-0.0", "stop 0 End"],
    );
}

#[test]
fn chat_calls_of_tools() {
    let two = [
        "+0.0 call a f",
        "0.0 \"{\\\"x\\\":\"",
        "+0.1 call b g",
        "0.1 \"{}\"",
        "0.0 \"1}\"",
        "-0.0",
        "-0.1",
        "stop 0 ToolUse",
    ];
    // As OpenAI sends them, though in turns.
    check_chat(
        &json!([
            call(
                &json!({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}})
            ),
            call(&json!({"index": 0, "function": {"arguments": "{\"x\":"}})),
            call(
                &json!({"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}})
            ),
            [
                call(&json!({"index": 0, "function": {"arguments": "1}"}})),
                "tool_calls"
            ],
        ]),
        &two,
    );
    // Id and name repeated.
    check_chat(
        &json!([
            call(&json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"x\":"}})),
            call(&json!({"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}})),
            [
                call(&json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "1}"}})),
                "tool_calls"
            ],
        ]),
        &two,
    );
    // No index, but the id.
    check_chat(
        &json!([
            call(&json!({"id": "a", "function": {"name": "f", "arguments": "{\"x\":"}})),
            call(&json!({"id": "b", "function": {"name": "g", "arguments": "{}"}})),
            [
                call(&json!({"id": "a", "function": {"arguments": "1}"}})),
                "tool_calls"
            ],
        ]),
        &two,
    );
    let whole = [
        "+0.0 call a f",
        "0.0 \"{\\\"x\\\":1}\"",
        "+0.1 call b f",
        "0.1 \"{\\\"x\\\":2}\"",
        "-0.0",
        "-0.1",
        "stop 0 End",
    ];
    // Whole calls in one chunk; all of index 0; arguments as objects; no index.
    for index in [json!([0, 1]), json!([0, 0]), json!([null, null])] {
        let first = json!({"index": index[0], "id": "a", "function": {"name": "f", "arguments": {"x": 1}}});
        let second =
            json!({"index": index[1], "id": "b", "function": {"name": "f", "arguments": "{\"x\":2}"}});
        check_chat(&json!([[{"tool_calls": [first, second]}, "stop"]]), &whole);
    }
    // Another id with each piece: a piece without a name is of the call of its index.
    check_chat(
        &json!([
            call(&json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}})),
            [
                call(&json!({"index": 0, "id": "z", "function": {"arguments": "}"}})),
                "tool_calls"
            ],
        ]),
        &[
            "+0.0 call a f",
            "0.0 \"{\"",
            "0.0 \"}\"",
            "-0.0",
            "stop 0 ToolUse",
        ],
    );
    // No id: one is made.
    check_chat(
        &json!([[
            call(&json!({"index": 0, "id": "", "function": {"name": "f", "arguments": "{}"}})),
            "tool_calls"
        ]]),
        &["+0.0 call call_c_0_0 f", "0.0 \"{}\"", "-0.0", "stop 0 ToolUse"],
    );
    // The name comes after arguments did.
    check_chat(
        &json!([
            {"content": "I look."},
            call(&json!({"index": 0, "id": "a", "function": {"arguments": "{"}})),
            [call(&json!({"index": 0, "function": {"name": "f", "arguments": "}"}})), "tool_calls"],
        ]),
        &[
            "+0.0 text",
            "0.0 \"I look.\"",
            "-0.0",
            "+0.1 call a f",
            "0.1 \"{\"",
            "0.1 \"}\"",
            "-0.1",
            "stop 0 ToolUse",
        ],
    );
}

#[test]
fn chat_streams_end() {
    let check = |data: &[&str], expected: &[&str]| {
        let data: Vec<String> = data.iter().map(|&data| data.to_owned()).collect();
        assert_eq!(read(Format::Chat, &data), expected, "{data:?}");
    };
    let text = r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}"#;
    let stop = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
    let said = ["start c m", "+0.0 text", "0.0 \"a\""];
    check(
        &[text, stop, usage, "[DONE]"],
        &[&said[..], &["usage 3+2", "-0.0", "stop 0 End", "end"]].concat(),
    );
    check(
        &[text, stop],
        &[&said[..], &["-0.0", "stop 0 End", "end"]].concat(),
    );
    check(&[text], &[&said[..], &["-0.0", CUT, "end"]].concat());
    check(&[], &["start  ", CUT, "end"]);
    check(&["[DONE]"], &["start  ", CUT, "end"]);
    check(
        &["", " ", text, "", stop, "[DONE]", text],
        &[&said[..], &["-0.0", "stop 0 End", "end"]].concat(),
    );
    check(
        &[text, r#"{"error":{"message":"too much","code":429}}"#, stop],
        &[&said[..], &["-0.0", "error 429 too much", "end"]].concat(),
    );
    check(&[r#"{"error":"gone"}"#], &["start  ", "error 502 gone", "end"]);
    for (bad, words) in [
        ("{", "field `data` must be a JSON object or [DONE]"),
        ("[]", "field `data` must be a JSON object or [DONE]"),
        (r#"{"choices":{}}"#, "field `choices` must be an array"),
        (r#"{"choices":[1]}"#, "field `choices[0]` must be an object"),
        (
            r#"{"choices":[{"index":128}]}"#,
            "field `choices[0].index` must be a number below 128",
        ),
        (
            r#"{"choices":[{"index":0,"delta":{"tool_calls":{}}}]}"#,
            "field `choices[].delta.tool_calls` must be an array",
        ),
    ] {
        assert_eq!(
            read(Format::Chat, &[bad.to_owned()]).last().unwrap(),
            words,
            "{bad}"
        );
    }
}

#[test]
fn chat_choices_and_logprobs() {
    let token = json!({"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1.5, "bytes": null}]});
    let data = [
        json!({"id": "c", "model": "m", "choices": [
            {"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [token]}},
            {"index": 1, "delta": {"content": "b"}}]}),
        json!({"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}),
    ];
    let data: Vec<String> = data.iter().map(Value::to_string).collect();
    let expected = [
        "start c m",
        "+0.0 text",
        "0.0 \"a\"",
        "logprobs 0 1",
        "+1.0 text",
        "1.0 \"b\"",
        "-0.0",
        "-1.0",
        "stop 0 MaxTokens",
        "stop 1 End",
        "end",
    ];
    assert_eq!(read(Format::Chat, &data), expected);
    assert_eq!(read(Format::Chat, &data[..2]).last().unwrap(), "end");
    assert!(read(Format::Chat, &data[..2]).contains(&CUT.to_owned()));
}

fn check_messages(events: &Value, expected: &[&str]) {
    let data: Vec<String> = events.as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(read(Format::Messages, &data), expected, "{events}");
}

#[test]
fn messages_blocks() {
    let start = json!({"type": "message_start", "message": {"id": "i", "model": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}});
    let block = |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let delta =
        |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let end = |index: u64| json!({"type": "content_block_stop", "index": index});
    let last = |reason: &str, sequence: Value| json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": sequence}, "usage": {"output_tokens": 9}});
    let stop = json!({"type": "message_stop"});
    check_messages(
        &json!([start, {"type": "ping"},
            block(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
            delta(0, json!({"type": "signature_delta", "signature": "s"})), end(0),
            block(1, json!({"type": "redacted_thinking", "data": "x"})), end(1),
            block(2, json!({"type": "text", "text": ""})),
            delta(2, json!({"type": "text_delta", "text": "Hi"})), end(2),
            block(3, json!({"type": "tool_use", "id": "a", "name": "f", "input": {}})),
            delta(3, json!({"type": "input_json_delta", "partial_json": ""})),
            delta(3, json!({"type": "input_json_delta", "partial_json": "{\"x\":1}"})), end(3),
            last("tool_use", Value::Null), stop]),
        &[
            "start i m",
            "usage 3+1",
            "ping",
            "+0.0 reasoning",
            "0.0 \"hm\"",
            "0.0 signature \"s\"",
            "-0.0",
            "+0.1 {\"type\":\"redacted_thinking\",\"data\":\"x\"}",
            "-0.1",
            "+0.2 text",
            "0.2 \"Hi\"",
            "-0.2",
            "+0.3 call a f",
            "0.3 \"{\\\"x\\\":1}\"",
            "-0.3",
            "usage 3+9",
            "stop 0 ToolUse",
            "end",
        ],
    );
    // Anthropic's own tools, their results, and what it says of its sources.
    check_messages(
        &json!([
            start,
            block(
                0,
                json!({"type": "server_tool_use", "id": "a", "name": "web_search", "input": {}})
            ),
            delta(
                0,
                json!({"type": "input_json_delta", "partial_json": "{\"query\""})
            ),
            delta(0, json!({"type": "input_json_delta", "partial_json": ":1}"})),
            end(0),
            block(
                1,
                json!({"type": "web_search_tool_result", "tool_use_id": "a", "content": [{"url": "u"}]})
            ),
            end(1),
            block(2, json!({"type": "text", "text": "", "citations": []})),
            delta(2, json!({"type": "text_delta", "text": "He"})),
            delta(2, json!({"type": "text_delta", "text": "re"})),
            delta(2, json!({"type": "citations_delta", "citation": {"url": "u"}})),
            end(2),
            block(3, json!({"type": "text", "text": ""})),
            delta(3, json!({"type": "text_delta", "text": "X"})),
            delta(3, json!({"type": "citations_delta", "citation": {"url": "v"}})),
            end(3),
            last("end_turn", Value::Null),
            stop
        ]),
        &[
            "start i m",
            "usage 3+1",
            "+0.0 {\"type\":\"server_tool_use\",\"id\":\"a\",\"name\":\"web_search\",\"input\":{\"query\":1}}",
            "-0.0",
            "+0.1 {\"type\":\"web_search_tool_result\",\"tool_use_id\":\"a\",\"content\":[{\"url\":\"u\"}]}",
            "-0.1",
            "+0.2 Text(\"Here\") {\"citations\":[{\"url\":\"u\"}]}",
            "-0.2",
            "+0.3 text",
            "0.3 \"X\"",
            "-0.3",
            "+0.4 Text(\"\") {\"citations\":[{\"url\":\"v\"}]}",
            "-0.4",
            "usage 3+9",
            "stop 0 End",
            "end",
        ],
    );
    for (reason, sequence, shown) in [
        ("max_tokens", Value::Null, "stop 0 MaxTokens"),
        ("stop_sequence", json!("END"), "stop 0 Sequence(Some(\"END\"))"),
        ("refusal", Value::Null, "stop 0 Refused"),
        ("pause_turn", Value::Null, "stop 0 Other(\"pause_turn\")"),
    ] {
        let expected = ["start i m", "usage 3+1", "usage 3+9", shown, "end"];
        check_messages(&json!([start, last(reason, sequence.clone()), stop]), &expected);
        // The connection closed after all was said.
        check_messages(&json!([start, last(reason, sequence)]), &expected);
    }
    check_messages(
        &json!([start, block(0, json!({"type": "text", "text": "a"}))]),
        &[
            "start i m",
            "usage 3+1",
            "+0.0 text",
            "0.0 \"a\"",
            "-0.0",
            CUT,
            "end",
        ],
    );
    check_messages(
        &json!([start, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, stop]),
        &["start i m", "usage 3+1", "error 529 busy", "end"],
    );
    check_messages(
        &json!([start, {"type": "new_thing"}, last("end_turn", Value::Null)]),
        &["start i m", "usage 3+1", "usage 3+9", "stop 0 End", "end"],
    );
    check_messages(
        &json!([start, delta(4, json!({"type": "text_delta", "text": "a"}))]),
        &[
            "start i m",
            "usage 3+1",
            "field `index` must be that of a block that is open",
        ],
    );
    // A call whose input came with its start.
    check_messages(
        &json!([
            start,
            block(
                0,
                json!({"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}})
            ),
            end(0),
            last("tool_use", Value::Null)
        ]),
        &[
            "start i m",
            "usage 3+1",
            "+0.0 call a f",
            "0.0 \"{\\\"x\\\":1}\"",
            "-0.0",
            "usage 3+9",
            "stop 0 ToolUse",
            "end",
        ],
    );
}

/// The `data` of what is written, without what every chunk of Chat repeats.
fn write(format: Format, include_usage: bool, events: &[StreamEvent]) -> Vec<String> {
    let options = StreamOptions {
        include_usage,
        request_id: "r".to_owned(),
        now_s: 7,
        ..StreamOptions::default()
    };
    let mut writer = convert::stream_writer(format, options);
    let mut bytes = Vec::new();
    for event in events {
        writer.write(event, &mut bytes);
    }
    let text = String::from_utf8(bytes).unwrap();
    let same = r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":["#;
    let lines = text.split("\n\n").filter(|block| !block.is_empty()).map(|block| {
        let line = block.lines().last().unwrap();
        let data = line.strip_prefix("data: ").unwrap_or(line);
        if let Some((name, rest)) = block.split_once('\n') {
            let kind: Value = serde_json::from_str(data).unwrap();
            assert_eq!(
                name,
                format!("event: {}", kind["type"].as_str().unwrap()),
                "{rest}"
            );
        }
        data.strip_prefix(same).unwrap_or(data).to_owned()
    });
    lines.collect()
}

fn start() -> StreamEvent {
    StreamEvent::Start {
        id: "c".to_owned(),
        model: "m".to_owned(),
        created_s: None,
    }
}

fn open(part: usize, kind: StreamPart) -> StreamEvent {
    StreamEvent::PartStart {
        choice: 0,
        part,
        kind,
    }
}

fn tool(id: &str) -> StreamPart {
    StreamPart::ToolCall {
        id: id.to_owned(),
        name: "f".to_owned(),
    }
}

fn more(part: usize, delta: Delta) -> StreamEvent {
    StreamEvent::Delta {
        choice: 0,
        part,
        delta,
    }
}

fn close(part: usize) -> StreamEvent {
    StreamEvent::PartEnd { choice: 0, part }
}

fn whole(part: usize, kind: PartKind) -> [StreamEvent; 2] {
    let whole = Part {
        kind,
        other: serde_json::Map::new(),
        cache_control: None,
    };
    [open(part, StreamPart::Whole(Box::new(whole))), close(part)]
}

#[test]
fn chat_is_written() {
    let usage = Usage {
        input: 2,
        cache_read: 1,
        output: 4,
        ..Usage::default()
    };
    let events = [
        start(),
        open(0, StreamPart::Reasoning),
        more(0, Delta::Reasoning("hm".to_owned())),
        close(0),
        open(1, tool("a")),
        open(2, tool("b")),
        more(2, Delta::Arguments("{}".to_owned())),
        close(1),
        close(2),
        StreamEvent::Ping,
        StreamEvent::Usage(usage),
        StreamEvent::Stop {
            choice: 0,
            stop: Stop::ToolUse,
        },
        StreamEvent::End,
        StreamEvent::Ping,
    ];
    let chunks = |end: &str| {
        let delta = |delta: &str, finish: &str| {
            format!(
                "{{\"index\":0,\"delta\":{{{delta}}},\"logprobs\":null,\"finish_reason\":{finish}}}]{end}}}"
            )
        };
        vec![
            delta(r#""role":"assistant","reasoning_content":"hm""#, "null"),
            delta(
                r#""tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]"#,
                "null",
            ),
            delta(
                r#""tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"f","arguments":""}}]"#,
                "null",
            ),
            delta(
                r#""tool_calls":[{"index":1,"function":{"arguments":"{}"}}]"#,
                "null",
            ),
            // No arguments came.
            delta(
                r#""tool_calls":[{"index":0,"function":{"arguments":"{}"}}]"#,
                "null",
            ),
            ": ping".to_owned(),
            delta("", "\"tool_calls\""),
        ]
    };
    let mut expected = chunks("");
    expected.push("[DONE]".to_owned());
    assert_eq!(write(Format::Chat, false, &events), expected);
    let mut expected = chunks(",\"usage\":null");
    expected.push(
        r#"],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":1},"completion_tokens_details":{"reasoning_tokens":0}}}"#
            .to_owned(),
    );
    expected.push("[DONE]".to_owned());
    assert_eq!(write(Format::Chat, true, &events), expected);
}

#[test]
fn errors_are_the_last_thing_written() {
    let error = ErrorAnswer {
        status: 529,
        message: "busy".to_owned(),
        code: None,
        param: None,
    };
    let events = [start(), StreamEvent::Error(error), StreamEvent::End];
    let chat = r#"{"error":{"message":"busy","type":"server_error","param":null,"code":null}}"#;
    assert_eq!(write(Format::Chat, true, &events), [chat]);
    let messages =
        r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"},"request_id":"r"}"#;
    assert_eq!(write(Format::Messages, true, &events), [messages]);
}

#[test]
fn messages_blocks_are_written_one_after_the_other() {
    let arguments = |part, text: &str| more(part, Delta::Arguments(text.to_owned()));
    let mut events = vec![
        start(),
        open(0, tool("a")),
        open(1, tool("b")),
        arguments(1, "{\"y\""),
        arguments(0, "{\"x\""),
        arguments(1, ":2}"),
        close(1),
        open(2, StreamPart::Text),
        arguments(0, ":1}"),
        more(2, Delta::Text("Hi".to_owned())),
        close(0),
        more(2, Delta::Text(" you".to_owned())),
        close(2),
    ];
    events.extend(whole(
        3,
        PartKind::Other(json!({"type": "chat_delta", "delta": {}})),
    ));
    events.extend(whole(
        4,
        PartKind::Other(json!({"type": "redacted_thinking", "data": "x"})),
    ));
    let tokens = |output| Usage {
        input: 5,
        cache_read: 2,
        cache_write_1h: 1,
        output,
        ..Usage::default()
    };
    events.insert(1, StreamEvent::Usage(tokens(1)));
    events.extend([
        StreamEvent::Stop {
            choice: 0,
            stop: Stop::End,
        },
        StreamEvent::Usage(tokens(9)),
        StreamEvent::End,
    ]);
    let usage = |output| {
        format!(
            r#""usage":{{"input_tokens":5,"cache_creation_input_tokens":1,"cache_read_input_tokens":2,"cache_creation":{{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":1}},"output_tokens":{output}}}"#
        )
    };
    let tool = |index, id| {
        format!(
            r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"tool_use","id":"{id}","name":"f","input":{{}}}}}}"#
        )
    };
    let input = |index, json: &str| {
        json!({"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": json}}).to_string()
    };
    let text = |text| {
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": text}})
            .to_string()
    };
    let stop = |index| format!(r#"{{"type":"content_block_stop","index":{index}}}"#);
    let expected = [
        format!(
            r#"{{"type":"message_start","message":{{"id":"c","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,{}}}}}"#,
            usage(1)
        ),
        tool(0, "a"),
        input(0, "{\"x\""),
        input(0, ":1}"),
        stop(0),
        tool(1, "b"),
        // What waited comes in one piece.
        input(1, "{\"y\":2}"),
        stop(1),
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#.to_owned(),
        text("Hi"),
        text(" you"),
        stop(2),
        r#"{"type":"content_block_start","index":3,"content_block":{"type":"redacted_thinking","data":"x"}}"#
            .to_owned(),
        stop(3),
        format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"tool_use","stop_sequence":null}},{}}}"#,
            usage(9)
        ),
        r#"{"type":"message_stop"}"#.to_owned(),
    ];
    assert_eq!(write(Format::Messages, false, &events), expected);
}

#[test]
fn what_waits_has_a_limit() {
    let mut events = vec![start(), open(0, tool("a")), open(1, tool("b"))];
    let megabyte = "x".repeat(1 << 20);
    events.extend((0..20).map(|_| more(1, Delta::Arguments(megabyte.clone()))));
    events.extend([close(0), close(1), StreamEvent::End]);
    let written = write(Format::Messages, false, &events);
    let error = r#"{"type":"error","error":{"type":"api_error","message":"the provider's answer has too many parts open at once"},"request_id":"r"}"#;
    assert_eq!(written.len(), 3, "the start, the first call, the error");
    assert_eq!(written[2], error);
}
