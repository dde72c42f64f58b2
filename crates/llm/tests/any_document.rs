//! Documents of Google and AWS that nobody would send: nothing panics, and what is read and written reads
//! the same again.

use llm::convert::{self, PathFacts, StreamOptions, WriteOptions};
use llm::format::Format;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Names and words that the formats know, so that documents go deep.
const WORDS: [&str; 62] = [
    "contents",
    "parts",
    "role",
    "text",
    "thought",
    "thoughtSignature",
    "functionCall",
    "functionResponse",
    "name",
    "id",
    "args",
    "response",
    "inlineData",
    "fileData",
    "mimeType",
    "data",
    "fileUri",
    "tools",
    "functionDeclarations",
    "parameters",
    "generationConfig",
    "topK",
    "stopSequences",
    "thinkingConfig",
    "thinkingBudget",
    "responseMimeType",
    "responseSchema",
    "candidates",
    "content",
    "finishReason",
    "usageMetadata",
    "promptTokenCount",
    "logprobsResult",
    "chosenCandidates",
    "promptFeedback",
    "blockReason",
    "systemInstruction",
    "error",
    "messages",
    "system",
    "toolUse",
    "toolUseId",
    "toolResult",
    "input",
    "status",
    "cachePoint",
    "type",
    "reasoningContent",
    "reasoningText",
    "redactedContent",
    "image",
    "document",
    "source",
    "bytes",
    "format",
    "toolConfig",
    "toolSpec",
    "inputSchema",
    "json",
    "output",
    "message",
    "stopReason",
];

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(WORDS.to_vec()).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["user", "model", "assistant", "STOP", "image/png", "default", "weir_0", "gs://x"])
            .prop_map(str::to_owned),
        1 => ".{0,4}",
    ]
}

fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((words(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Puts a document where a part, a block or an answer is, so that it is looked at.
fn placed(document: &Value) -> Vec<Value> {
    let tool = json!({"functionDeclarations": [document]});
    vec![
        document.clone(),
        json!({"contents": [{"role": "model", "parts": [document, document]}, {"parts": [document]}], "tools": [tool]}),
        json!({"contents": [], "generationConfig": document, "toolConfig": document, "systemInstruction": document}),
        json!({"candidates": [{"content": {"parts": [document, document]}, "finishReason": "STOP"}]}),
        json!({"messages": [{"role": "user", "content": [document, document]}], "system": [document]}),
        json!({"messages": [], "inferenceConfig": document, "toolConfig": document, "outputConfig": document}),
        json!({"output": {"message": {"content": [document, document]}}, "stopReason": "tool_use"}),
        json!({"contentBlockIndex": 0, "delta": document, "start": document}),
    ]
}

const NAMES: [&str; 6] = [
    "messageStart",
    "contentBlockStart",
    "contentBlockDelta",
    "contentBlockStop",
    "messageStop",
    "metadata",
];

proptest! {
    #[test]
    fn reads_or_refuses(document in documents()) {
        let facts = PathFacts { model: Some("claude".to_owned()), stream: false };
        for format in [Format::GenerateContent, Format::Converse] {
            for body in placed(&document) {
                if let Ok(request) = convert::read_request(format, body.clone(), &facts) {
                    for to in Format::ALL {
                        let written = convert::write_request(to, &request, &WriteOptions::default());
                        if let (true, Ok(written)) = (to == format, written) {
                            let again = convert::read_request(format, written.body, &facts);
                            let twice = again.and_then(|again| {
                                let written = convert::write_request(format, &again, &WriteOptions::default())?;
                                Ok((again, convert::read_request(format, written.body, &facts)?))
                            });
                            let (again, twice) = twice.unwrap();
                            prop_assert_eq!(again, twice);
                        }
                    }
                }
                if let Ok(answer) = convert::read_answer(format, body) {
                    for to in Format::ALL {
                        let _ = convert::write_answer(to, &answer);
                    }
                }
            }
        }
    }

    #[test]
    fn streams_of_anything_end(documents in prop::collection::vec((documents(), 0..6_usize, 0..8_usize), 0..6)) {
        for format in [Format::GenerateContent, Format::Converse] {
            let mut reader = convert::stream_reader(format);
            let mut events = Vec::new();
            for (document, name, place) in &documents {
                let data = placed(document)[*place].to_string();
                let _ = reader.read(NAMES[*name], &data, &mut events);
            }
            reader.finish(&mut events);
            let ends = events.iter().filter(|event| **event == llm::answer::StreamEvent::End).count();
            prop_assert_eq!(ends, 1);
            for to in Format::ALL {
                let mut writer = convert::stream_writer(to, StreamOptions::default());
                let mut bytes = Vec::new();
                events.iter().for_each(|event| writer.write(event, &mut bytes));
            }
        }
    }
}
