//! Every format of a client with every format of a provider: what is asked, answered and streamed keeps
//! its texts, calls, results, ends and counts, or is refused or dropped by name.
//!
//! The cases are written in the client's format first, so that what passes through is what that format
//! can say. The outcomes are in `golden/pairs.txt`.

#[path = "common/cases.rs"]
mod cases;
mod common;
#[path = "common/stream.rs"]
mod stream;

use cases::{answers, requests};
use common::{as_events, check_golden};
use llm::answer::{Answer, Stop, StreamEvent};
use llm::canonical::{OutputShape, Part, PartKind, Reasoning, Request, Tool, ToolChoice};
use llm::convert::{self, PathFacts, StreamOptions, WriteOptions};
use llm::format::Format;
use llm::sse;
use llm::usage::Usage;
use serde_json::{Value, json};

/// Formats that are not written yet: none.
const STUBS: [Format; 0] = [];

fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| !STUBS.contains(format))
}

fn facts(request: &Request) -> PathFacts {
    PathFacts {
        model: Some(request.model.clone()),
        stream: request.stream,
    }
}

/// What is said, without what formats say in their own way: ids, spellings of JSON, names of files,
/// whether texts that follow each other are one.
fn said(request: &Request) -> Vec<String> {
    let json = |text: &str| {
        serde_json::from_str(text)
            .unwrap_or_else(|_| Value::from(text))
            .to_string()
    };
    let mut said = Vec::new();
    for part in request.messages.iter().flat_map(|message| &message.parts) {
        match &part.kind {
            PartKind::Reasoning { .. } => {}
            // Hidden reasoning is none of what was said, and not every format tells a refusal from a text.
            PartKind::Other(value) if value["type"] == "redacted_thinking" => {}
            PartKind::Other(value) if value["type"] == "refusal" => {
                said.push(format!("text {}", value["refusal"].as_str().unwrap()));
            }
            PartKind::Text(text) => said.extend(text.split("\n\n").map(|text| format!("text {text}"))),
            PartKind::ToolCall { name, arguments, .. } => {
                said.push(format!("call {name} {}", json(arguments)));
            }
            PartKind::ToolResult { parts, .. } => {
                let texts = parts.iter().map(|part| match &part.kind {
                    PartKind::Text(text) => json(text),
                    kind => format!("{kind:?}"),
                });
                said.push(format!("result {}", texts.collect::<String>()));
            }
            PartKind::File { source, .. } => said.push(format!("file {source:?}")),
            kind => said.push(format!("{kind:?}")),
        }
    }
    said.sort();
    said
}

/// A call and its result name each other, whatever the name.
fn check_ids(what: &str, request: &Request) {
    let parts: Vec<&PartKind> = request
        .messages
        .iter()
        .flat_map(|message| &message.parts)
        .map(|part| &part.kind)
        .collect();
    let ids = |read: &dyn Fn(&PartKind) -> Option<String>| -> Vec<String> {
        let mut ids: Vec<String> = parts.iter().filter_map(|kind| read(kind)).collect();
        ids.sort();
        ids
    };
    let calls = ids(&|kind| match kind {
        PartKind::ToolCall { id, .. } => Some(id.clone()),
        _ => None,
    });
    let results = ids(&|kind| match kind {
        PartKind::ToolResult { id, .. } => Some(id.clone()),
        _ => None,
    });
    assert_eq!(calls, results, "{what}");
}

/// A setting, as it was and as it came, and the words by which it may be named if it did not come.
fn settings(was: &Request, came: &Request) -> Vec<(&'static str, String, String, &'static [&'static str])> {
    fn pair<T: std::fmt::Debug>(was: T, came: T) -> (String, String) {
        (format!("{was:?}"), format!("{came:?}"))
    }
    // Without tools none can be called: some say it so.
    let none = was.tool_choice == Some(ToolChoice::None) && came.tools.is_empty();
    let choice = |request: &Request| {
        request
            .tool_choice
            .clone()
            .filter(|choice| *choice != ToolChoice::Auto && !none)
    };
    let one_call = |request: &Request| request.parallel_tool_calls == Some(false);
    let tools = |request: &Request| -> Vec<(String, Option<String>, Option<Value>)> {
        let read = |tool: &Tool| match tool {
            Tool::Function {
                name,
                description,
                parameters,
                ..
            } => (name.clone(), description.clone(), parameters.clone()),
            Tool::Other(value) => panic!("{value}"),
        };
        let tools = request.tools.iter().filter(|_| !none);
        tools.map(read).collect()
    };
    let schema = |request: &Request| match &request.output {
        Some(OutputShape::JsonSchema { schema, .. }) => Some(schema.clone()),
        Some(OutputShape::JsonObject) => Some(json!("any")),
        None => None,
    };
    let strict = |request: &Request| {
        matches!(
            &request.output,
            Some(OutputShape::JsonSchema {
                strict: Some(true),
                ..
            })
        )
    };
    let schema_name = |request: &Request| match &request.output {
        // What writers call a schema without a name.
        Some(OutputShape::JsonSchema { name, .. }) => name.clone().filter(|name| name != "answer"),
        _ => None,
    };
    let thinks = |request: &Request| {
        let Reasoning {
            effort,
            budget_tokens,
            mode,
        } = &request.reasoning;
        let off = mode.as_deref() == Some("disabled")
            || effort.as_deref() == Some("none")
            || *budget_tokens == Some(0);
        // Converse has no word for it: there it is off unless asked for.
        let said = effort.is_some() || budget_tokens.is_some() || mode.is_some();
        if came.format == Format::Converse {
            (said && !off, false)
        } else {
            (said, off)
        }
    };
    let thoughts = |request: &Request| {
        let parts = request.messages.iter().flat_map(|message| &message.parts);
        parts
            .filter(|part| matches!(part.kind, PartKind::Reasoning { .. }))
            .count()
    };
    let failures = |request: &Request| {
        let parts = request.messages.iter().flat_map(|message| &message.parts);
        parts
            .filter(|part| {
                matches!(
                    part.kind,
                    PartKind::ToolResult {
                        is_error: Some(true),
                        ..
                    }
                )
            })
            .count()
    };
    let breakpoints = |request: &Request| {
        let parts = request.messages.iter().flat_map(|message| &message.parts);
        parts.filter(|part| part.cache_control.is_some()).count()
    };
    let row = |name, (was, came): (String, String), words: &'static [&'static str]| (name, was, came, words);
    vec![
        row("model", pair(&was.model, &came.model), &[]),
        row("stream", pair(was.stream, came.stream), &[]),
        row("tools", pair(tools(was), tools(came)), &[]),
        row("tool_choice", pair(choice(was), choice(came)), &[]),
        row(
            "parallel_tool_calls",
            pair(one_call(was), one_call(came)),
            &["parallel"],
        ),
        row(
            "max_output_tokens",
            pair(was.max_output_tokens, came.max_output_tokens),
            &[],
        ),
        row("temperature", pair(&was.temperature, &came.temperature), &[]),
        row("top_p", pair(&was.top_p, &came.top_p), &[]),
        row("top_k", pair(was.top_k, came.top_k), &["top_k", "topK"]),
        row(
            "frequency_penalty",
            pair(&was.frequency_penalty, &came.frequency_penalty),
            &["frequency"],
        ),
        row(
            "presence_penalty",
            pair(&was.presence_penalty, &came.presence_penalty),
            &["presence"],
        ),
        row("seed", pair(was.seed, came.seed), &["seed"]),
        row("n", pair(was.n.unwrap_or(1), came.n.unwrap_or(1)), &[]),
        row(
            "logprobs",
            pair(was.logprobs == Some(true), came.logprobs == Some(true)),
            &[],
        ),
        row(
            "top_logprobs",
            pair(was.top_logprobs, came.top_logprobs),
            &["top_logprobs"],
        ),
        row("stop", pair(&was.stop, &came.stop), &[]),
        row("schema", pair(schema(was), schema(came)), &[]),
        row(
            "schema.name",
            pair(schema_name(was), schema_name(came)),
            &["name"],
        ),
        row("schema.strict", pair(strict(was), strict(came)), &["strict"]),
        row(
            "reasoning",
            pair(thinks(was), thinks(came)),
            &["thinking", "reasoning"],
        ),
        row(
            "thoughts",
            pair(thoughts(was), thoughts(came)),
            &["thinking", "reasoning", "thought"],
        ),
        row("failures", pair(failures(was), failures(came)), &["is_error"]),
        row("cache", pair(breakpoints(was), breakpoints(came)), &["cache"]),
        row("user", pair(&was.user, &came.user), &["user"]),
    ]
}

#[test]
fn requests_through_every_pair() {
    let (mut shown, mut n_written, mut n_refused) = (String::new(), 0, 0);
    let mut wrong = Vec::new();
    for (case, request) in requests() {
        for client in formats() {
            let request = Request {
                format: client,
                ..request.clone()
            };
            // What the client's own format has no words for cannot be asked in it.
            let Ok(asked) = convert::write_request(client, &request, &WriteOptions::default()) else {
                continue;
            };
            let asked = convert::read_request(client, asked.body, &facts(&request)).unwrap();
            for wire in formats() {
                let what = format!("{case}: {} to {}", client.as_str(), wire.as_str());
                let outcome = match convert::write_request(wire, &asked, &WriteOptions::default()) {
                    Err(error) => {
                        assert_ne!(wire, client, "{what}: {error}");
                        n_refused += 1;
                        error.to_string()
                    }
                    Ok(written) => {
                        n_written += 1;
                        let came = convert::read_request(wire, written.body, &facts(&asked))
                            .unwrap_or_else(|error| panic!("{what}: {error}"));
                        if said(&came) != said(&asked) {
                            wrong.push(format!("{what}: {:?} came as {:?}", said(&asked), said(&came)));
                        }
                        check_ids(&what, &came);
                        for (setting, was, came, words) in settings(&asked, &came) {
                            let named = written
                                .dropped
                                .iter()
                                .any(|name| words.iter().any(|word| name.contains(word)));
                            if was != came && !named {
                                wrong.push(format!(
                                    "{what}: {setting} was {was} and came as {came}; dropped {:?}",
                                    written.dropped
                                ));
                            }
                        }
                        if wire == client && !written.dropped.is_empty() {
                            wrong.push(format!("{what}: {:?}", written.dropped));
                        }
                        if written.dropped.is_empty() {
                            continue;
                        }
                        format!("written without {}", written.dropped.join(", "))
                    }
                };
                shown += &format!("{what}: {outcome}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        n_written >= 800 && n_refused >= 50,
        "{n_written} written, {n_refused} refused"
    );
    check_golden("pairs.txt", &shown);
}

/// Texts, reasoning and calls. Formats that have no order between kinds put texts before calls.
fn told(parts: &[Part]) -> Vec<String> {
    let told = stream::merge_texts(parts)
        .into_iter()
        .filter_map(|part| match part.kind {
            PartKind::Text(text) => Some(format!("text {text}")),
            PartKind::Reasoning { text, .. } => Some(format!("thought {text}")),
            PartKind::ToolCall { name, arguments, .. } => {
                let arguments: Value =
                    serde_json::from_str(if arguments.is_empty() { "{}" } else { &arguments }).unwrap();
                Some(format!("call {name} {arguments}"))
            }
            // What only the format it came in has words for.
            PartKind::Other(_) => None,
            kind => Some(format!("{kind:?}")),
        });
    told.collect()
}

/// Is it the same end, as far as a format can say? Most have no word for a text that ended it, or do not
/// say which.
fn same_stop(was: Option<&Stop>, came: Option<&Stop>) -> bool {
    match (was, came) {
        (Some(Stop::Sequence(_)), Some(Stop::Sequence(None) | Stop::End)) => true,
        _ => was == came,
    }
}

fn totals(usage: Option<Usage>) -> Option<(u64, u64)> {
    usage.map(|usage| (usage.total_input(), usage.total_output()))
}

#[test]
fn answers_through_every_pair() {
    let mut n_checked = 0;
    for (case, answer) in answers() {
        for wire in formats() {
            let answer = Answer {
                format: wire,
                ..answer.clone()
            };
            let Ok(written) = convert::write_answer(wire, &answer) else {
                continue;
            };
            let came = convert::read_answer(wire, written.body).unwrap();
            for client in formats() {
                let what = format!("{case}: {} to {}", wire.as_str(), client.as_str());
                let written = match convert::write_answer(client, &came) {
                    Ok(written) => written,
                    // Who asks in such a format cannot ask for them.
                    Err(error) => {
                        assert!(case == "logprobs" && client != wire, "{what}: {error}");
                        continue;
                    }
                };
                let seen = convert::read_answer(client, written.body)
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                let (was, is) = (&came.choices[0], &seen.choices[0]);
                assert_eq!(told(&is.parts), told(&was.parts), "{what}");
                assert!(
                    same_stop(was.stop.as_ref(), is.stop.as_ref()),
                    "{what}: {:?} came as {:?}",
                    was.stop,
                    is.stop
                );
                assert_eq!(totals(seen.usage), totals(came.usage), "{what}");
                let named = written.dropped.iter().any(|name| name.contains("logprobs"));
                assert!(
                    is.logprobs.len() == was.logprobs.len() || named,
                    "{what}: {:?}",
                    written.dropped
                );
                n_checked += 1;
            }
        }
    }
    assert!(n_checked >= 350, "{n_checked}");
}

fn write_stream(format: Format, provider: Format, events: &[StreamEvent]) -> Vec<u8> {
    let options = StreamOptions {
        include_usage: true,
        request_id: "r1".to_owned(),
        now_s: 5,
        provider: Some(provider),
        ..StreamOptions::default()
    };
    let mut writer = convert::stream_writer(format, options);
    let mut bytes = Vec::new();
    for event in events {
        writer.write(event, &mut bytes);
    }
    bytes
}

fn read_stream(format: Format, bytes: &[u8]) -> Vec<StreamEvent> {
    match format {
        Format::Converse => stream::read_binary([bytes]),
        format => stream::read(format, sse::Framing::ServerSentEvents, [bytes]),
    }
}

#[test]
fn streams_through_every_pair() {
    let mut n_checked = 0;
    for (case, answer) in answers() {
        for wire in formats() {
            let events = read_stream(wire, &write_stream(wire, wire, &as_events(&answer)));
            let came = stream::assemble(&events);
            let nothing = Vec::new();
            for client in formats() {
                let what = format!("{case}: {} to {}", wire.as_str(), client.as_str());
                let again = read_stream(client, &write_stream(client, wire, &events));
                let seen = stream::assemble(&again);
                assert_eq!(seen.error, None, "{what}");
                let (was, is) = (
                    came.parts.get(&0).unwrap_or(&nothing),
                    seen.parts.get(&0).unwrap_or(&nothing),
                );
                assert_eq!(told(is), told(was), "{what}");
                let (was, is) = (came.stops.get(&0), seen.stops.get(&0));
                assert!(same_stop(was, is), "{what}: {was:?} came as {is:?}");
                assert_eq!(totals(seen.usage), totals(came.usage), "{what}");
                // What a client reads, told again, is the same.
                let twice = read_stream(client, &write_stream(client, wire, &again));
                assert_eq!(twice, again, "{what}: told again");
                n_checked += 1;
            }
        }
    }
    assert!(n_checked >= 390, "{n_checked}");
}
