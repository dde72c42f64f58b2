//! The framers over recorded traffic of real providers: the folder that `WEIR_SHARED` names, else
//! `../shared` beside the workspace.

mod common;

use base64::Engine as _;
use common::{check_golden, recorded};
use llm::format::Format;
use llm::usage::Meter;
use llm::{eventstream, splice, sse};
use serde_json::Value;

const LIMIT_BYTES: usize = 1 << 20;

fn frame_text(pieces: &[&[u8]]) -> Vec<sse::Event> {
    let mut framer = sse::Framer::new(sse::Framing::ServerSentEvents, LIMIT_BYTES);
    let mut events = Vec::new();
    for piece in pieces {
        framer.feed(piece, &mut events).unwrap();
    }
    events.extend(framer.finish());
    events
}

#[test]
fn text_streams_give_the_same_events_cut_anywhere() {
    let mut n_streams = 0;
    for (name, interaction) in recorded() {
        let Some(body) = interaction["response"]["body"].as_str() else {
            continue;
        };
        if !body.lines().any(|line| line.starts_with("data:")) {
            continue;
        }
        n_streams += 1;
        let whole = frame_text(&[body.as_bytes()]);
        assert!(!whole.is_empty(), "{name}");
        for event in &whole {
            let json = serde_json::from_str::<Value>(&event.data);
            assert!(json.is_ok() || event.data == "[DONE]", "{name}: {}", event.data);
        }
        for piece_bytes in [1, 2, 3, 7, 64, 1000] {
            let pieces: Vec<&[u8]> = body.as_bytes().chunks(piece_bytes).collect();
            assert_eq!(frame_text(&pieces), whole, "{name} in pieces of {piece_bytes}");
        }
        for cut in (0..body.len()).step_by(1 + body.len() / 200) {
            let (left, right) = body.as_bytes().split_at(cut);
            assert_eq!(frame_text(&[left, right]), whole, "{name} cut at {cut}");
        }
    }
    assert!(n_streams >= 40, "only {n_streams} recorded streams");
}

#[test]
fn binary_streams_give_the_same_messages_cut_anywhere() {
    let mut n_streams = 0;
    for (name, interaction) in recorded() {
        let Some(body) = interaction["response"]["body_b64"].as_str() else {
            continue;
        };
        n_streams += 1;
        let body = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
        let frame = |piece_bytes: usize| {
            let mut framer = eventstream::Framer::new(LIMIT_BYTES);
            let mut messages = Vec::new();
            for piece in body.chunks(piece_bytes) {
                framer.feed(piece, &mut messages).unwrap();
            }
            assert_eq!(framer.finish(), Ok(()), "{name}");
            messages
        };
        let whole = frame(body.len());
        for message in &whole {
            assert_eq!(message.header(":message-type"), Some("event"), "{name}");
            assert!(
                serde_json::from_slice::<Value>(&message.payload).is_ok(),
                "{name}"
            );
        }
        assert_eq!(
            whole.first().and_then(|m| m.header(":event-type")),
            Some("messageStart")
        );
        assert_eq!(
            whole.last().and_then(|m| m.header(":event-type")),
            Some("metadata")
        );
        for piece_bytes in [1, 2, 5, 13, 100] {
            assert_eq!(frame(piece_bytes), whole, "{name} in pieces of {piece_bytes}");
        }
    }
    assert!(n_streams >= 4, "only {n_streams} recorded streams");
}

#[test]
fn a_spliced_request_differs_in_the_model_alone() {
    let mut n_requests = 0;
    for (name, interaction) in recorded() {
        let body = &interaction["request"]["body_json"];
        let Some(model) = body["model"].as_str() else {
            continue;
        };
        n_requests += 1;
        let json = serde_json::to_string_pretty(body).unwrap();
        let spliced = splice::set(json.as_bytes(), &["model"], "\"weir/new\"").unwrap();
        let place = splice::find(&spliced, &["model"]).unwrap().remove(0);
        assert_eq!(&spliced[place], b"\"weir/new\"", "{name}");
        let back = splice::set(&spliced, &["model"], &Value::from(model).to_string()).unwrap();
        assert_eq!(String::from_utf8(back).unwrap(), json, "{name}");
    }
    assert!(n_requests >= 200, "only {n_requests} recorded requests");
}

/// The format of a recorded call, from the path of its request.
fn format_of(interaction: &Value) -> Option<Format> {
    let path = interaction["request"]["uri"].as_str()?.split('?').next()?;
    let formats = [
        ("/chat/completions", Format::Chat),
        ("/v1/messages", Format::Messages),
        ("/responses", Format::Responses),
        (":generateContent", Format::GenerateContent),
        (":streamGenerateContent", Format::GenerateContent),
        ("/converse", Format::Converse),
        ("/converse-stream", Format::Converse),
        ("/v2/chat", Format::Cohere),
    ];
    formats
        .into_iter()
        .find(|(end, _)| path.ends_with(end))
        .map(|(_, format)| format)
}

/// The answer of a recorded call, or the events of its stream.
fn documents(interaction: &Value) -> Vec<Value> {
    let response = &interaction["response"];
    if let Some(body) = response["body"].as_str() {
        let events = frame_text(&[body.as_bytes()]);
        return events
            .iter()
            .filter_map(|event| serde_json::from_str(&event.data).ok())
            .collect();
    }
    if let Some(body) = response["body_b64"].as_str() {
        let body = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
        let (mut framer, mut messages) = (eventstream::Framer::new(LIMIT_BYTES), Vec::new());
        framer.feed(&body, &mut messages).unwrap();
        return messages
            .iter()
            .map(|message| serde_json::from_slice(&message.payload).unwrap())
            .collect();
    }
    vec![response["body_json"].clone()]
}

/// The last total that the provider itself states, where its format has one.
fn stated_total(format: Format, documents: &[Value]) -> Option<u64> {
    let pointers: &[&str] = match format {
        Format::Chat => &["/usage/total_tokens", "/x_groq/usage/total_tokens"],
        Format::Responses => &["/usage/total_tokens", "/response/usage/total_tokens"],
        Format::GenerateContent => &["/usageMetadata/totalTokenCount"],
        Format::Converse => &["/usage/totalTokens"],
        Format::Messages | Format::Cohere => &[],
    };
    let all = documents
        .iter()
        .flat_map(|document| pointers.iter().filter_map(|at| document.pointer(at)));
    all.filter_map(Value::as_u64).next_back()
}

#[test]
fn buckets_sum_to_the_total_of_the_provider() {
    let (mut shown, mut n_checked) = (String::new(), 0);
    for (name, interaction) in recorded() {
        let Some(format) = format_of(&interaction) else {
            continue;
        };
        let documents = documents(&interaction);
        let mut meter = Meter::new(format);
        for document in &documents {
            meter.observe(document);
        }
        let Some(usage) = meter.usage() else { continue };
        if let Some(total) = stated_total(format, &documents) {
            n_checked += 1;
            assert_eq!(usage.total(), total, "{name}: {usage:?}");
        }
        let name = name.rsplit('/').take(2).collect::<Vec<_>>().join(" ");
        let counts = format!("{usage:?}").replace("Usage { ", "").replace(" }", "");
        let counts: Vec<&str> = counts
            .split(", ")
            .filter(|count| !count.ends_with(": 0"))
            .collect();
        let counts = if counts.is_empty() {
            "none".to_owned()
        } else {
            counts.join(", ")
        };
        shown += &format!("{name} {format:?}: {counts}\n");
    }
    assert!(n_checked >= 250, "only {n_checked} recorded totals");
    check_golden("usage.txt", &shown);
}

#[test]
fn recorded_errors_say_why() {
    let mut n_errors = 0;
    for (name, interaction) in recorded() {
        let response = &interaction["response"];
        let status = response["status"]
            .as_u64()
            .and_then(|status| u16::try_from(status).ok())
            .unwrap_or(200);
        if status < 400 || format_of(&interaction).is_none() {
            continue;
        }
        n_errors += 1;
        let error = llm::error::read_error(status, &response["body_json"]);
        assert!(!error.message.contains("no message"), "{name}: {error:?}");
    }
    assert!(n_errors >= 12, "only {n_errors} recorded errors");
}

#[test]
fn recorded_counts_of_tokens() {
    use llm::convert::{PathFacts, WriteOptions};
    use llm::count;
    let mut n_counts = 0;
    for (name, interaction) in recorded() {
        let uri = interaction["request"]["uri"].as_str().unwrap_or_default();
        let path = uri.split('?').next().unwrap_or_default();
        let formats = [
            ("/messages/count_tokens", Format::Messages),
            ("/responses/input_tokens", Format::Responses),
            (":countTokens", Format::GenerateContent),
            ("/count-tokens", Format::Converse),
        ];
        let format = formats.into_iter().find(|(end, _)| path.ends_with(end));
        let Some((_, format)) = format.filter(|_| interaction["response"]["status"] == 200) else {
            continue;
        };
        let answer = &interaction["response"]["body_json"];
        let n_tokens = count::read_count_answer(format, answer).unwrap();
        assert!(n_tokens > 0, "{name}");
        let written = count::write_count_answer(format, n_tokens).unwrap();
        for (key, value) in written.as_object().unwrap() {
            assert_eq!(&answer[key], value, "{name}");
        }
        n_counts += 1;
        if format != Format::Messages {
            continue;
        }
        let body = &interaction["request"]["body_json"];
        let request = count::read_count_request(format, body.clone(), &PathFacts::default()).unwrap();
        let written = count::write_count_request(format, &request, &WriteOptions::default()).unwrap();
        let again = count::read_count_request(format, written.body.clone(), &PathFacts::default());
        assert_eq!(again.as_ref(), Ok(&request), "{name}");
        for key in body.as_object().unwrap().keys() {
            assert!(written.body.get(key).is_some(), "{name}: {key}");
        }
    }
    assert!(n_counts >= 10, "only {n_counts} recorded counts");
}
