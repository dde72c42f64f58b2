//! Recorded traffic and files of expected results.

use serde_json::Value;
use std::path::PathBuf;

/// The folder of test data that is not committed.
pub(crate) fn shared() -> PathBuf {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("WEIR_SHARED").map_or_else(|| workspace.join("../shared"), PathBuf::from)
}

/// Every recorded call: its name and `{request, response}`, in a fixed order.
#[allow(dead_code, reason = "used by some of the test programs")]
pub(crate) fn recorded() -> Vec<(String, Value)> {
    let root = shared().join("data/ai/recorded");
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

/// Compares with a file of `tests/golden`; with WEIR_BLESS=1 it writes the file instead.
#[allow(dead_code, reason = "used by some of the test programs")]
pub(crate) fn check_golden(file: &str, shown: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file);
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, shown).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (shown, expected) in shown.lines().zip(expected.lines()) {
        assert_eq!(shown, expected, "{file}");
    }
    assert_eq!(shown.lines().count(), expected.lines().count(), "lines of {file}");
}

/// The events that tell a whole answer.
#[allow(dead_code, reason = "used by some of the test programs")]
pub(crate) fn as_events(answer: &llm::answer::Answer) -> Vec<llm::answer::StreamEvent> {
    use llm::answer::{Delta, StreamEvent, StreamPart};
    use llm::canonical::PartKind;
    let mut events = vec![StreamEvent::Start {
        id: answer.id.clone(),
        model: answer.model.clone(),
        created_s: answer.created_s,
    }];
    for (choice, body) in answer.choices.iter().enumerate() {
        for (part, content) in body.parts.iter().enumerate() {
            let (kind, deltas) = match &content.kind {
                PartKind::Text(text) if content.other.is_empty() => {
                    (StreamPart::Text, vec![Delta::Text(text.clone())])
                }
                PartKind::Reasoning { text, signature } => {
                    let mut deltas = vec![Delta::Reasoning(text.clone())];
                    deltas.extend(signature.clone().map(Delta::Signature));
                    (StreamPart::Reasoning, deltas)
                }
                PartKind::ToolCall { id, name, arguments } => {
                    let (id, name) = (id.clone(), name.clone());
                    let deltas = vec![Delta::Arguments(arguments.clone())];
                    (StreamPart::ToolCall { id, name }, deltas)
                }
                _ => (StreamPart::Whole(Box::new(content.clone())), Vec::new()),
            };
            events.push(StreamEvent::PartStart { choice, part, kind });
            let deltas = deltas.into_iter();
            events.extend(deltas.map(|delta| StreamEvent::Delta { choice, part, delta }));
            events.push(StreamEvent::PartEnd { choice, part });
        }
        if !body.logprobs.is_empty() {
            let tokens = body.logprobs.clone();
            events.push(StreamEvent::Logprobs { choice, tokens });
        }
        let stop = body.stop.clone().unwrap_or(llm::answer::Stop::End);
        events.push(StreamEvent::Stop { choice, stop });
    }
    events.extend(answer.usage.map(StreamEvent::Usage));
    events.push(StreamEvent::End);
    events
}
