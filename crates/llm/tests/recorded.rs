//! The framers over recorded traffic of real providers: the folder that `WEIR_SHARED` names, else
//! `../shared` beside the workspace.

use base64::Engine as _;
use llm::{eventstream, splice, sse};
use serde_json::Value;
use std::path::PathBuf;

const LIMIT_BYTES: usize = 1 << 20;

fn recorded() -> Vec<(String, Value)> {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(|| workspace.join("../shared"), PathBuf::from);
    let root = shared.join("data/ai/recorded");
    let mut files = Vec::new();
    for provider in std::fs::read_dir(&root).expect("recorded traffic; name its folder by WEIR_SHARED") {
        for file in std::fs::read_dir(provider.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let cassette: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for (idx, interaction) in cassette["interactions"].as_array().unwrap().iter().enumerate() {
                files.push((format!("{}#{idx}", path.display()), interaction.clone()));
            }
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

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
