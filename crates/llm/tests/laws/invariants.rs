//! What holds for every stream and every document, also of a provider that sends nonsense. The fuzz
//! targets `llm-stream` and `llm-body` feed any bytes; the tests here feed the seeds of both.

use llm::answer::{Delta, StreamEvent, StreamPart};
use llm::assemble::Assembler;
use llm::convert::{self, PathFacts, StreamOptions, WriteOptions};
use llm::format::Format;
use llm::{eventstream, sse};
use std::collections::{BTreeMap, BTreeSet};

const LIMIT_BYTES: usize = 1 << 16;

/// The order that [`StreamEvent`] promises.
///
/// # Panics
/// If it does not hold.
pub(crate) fn check_order(events: &[StreamEvent]) {
    assert!(
        matches!(events.first(), Some(StreamEvent::Start { .. })),
        "{events:?}"
    );
    assert_eq!(events.last(), Some(&StreamEvent::End), "{events:?}");
    // The open parts of each choice, with their kinds.
    let mut open: BTreeMap<(usize, usize), &StreamPart> = BTreeMap::new();
    let (mut stopped, mut n_parts) = (BTreeSet::new(), BTreeMap::<usize, usize>::new());
    let mut failed = false;
    for (at, event) in events.iter().enumerate() {
        assert!(!failed || *event == StreamEvent::End, "{event:?} after an error");
        match event {
            StreamEvent::Start { .. } => assert_eq!(at, 0, "{event:?}"),
            StreamEvent::PartStart { choice, part, kind } => {
                assert!(!stopped.contains(choice), "{event:?} after its stop");
                let n_parts = n_parts.entry(*choice).or_default();
                assert_eq!(part, n_parts, "{event:?}");
                *n_parts += 1;
                open.insert((*choice, *part), kind);
            }
            StreamEvent::Delta { choice, part, delta } => {
                let kind = open.get(&(*choice, *part));
                let fits = match delta {
                    Delta::Text(_) => matches!(kind, Some(StreamPart::Text)),
                    Delta::Reasoning(_) | Delta::Signature(_) => matches!(kind, Some(StreamPart::Reasoning)),
                    Delta::Arguments(_) => matches!(kind, Some(StreamPart::ToolCall { .. })),
                };
                assert!(fits, "{event:?} of {kind:?}");
            }
            StreamEvent::PartEnd { choice, part } => {
                assert!(
                    open.remove(&(*choice, *part)).is_some(),
                    "{event:?} of no open part"
                );
            }
            StreamEvent::Stop { choice, .. } => {
                assert!(
                    !open.keys().any(|(other, _)| other == choice),
                    "{event:?}: {open:?}"
                );
                assert!(stopped.insert(*choice), "{event:?} twice");
            }
            StreamEvent::Error(_) => failed = true,
            StreamEvent::End => assert_eq!(at, events.len() - 1, "more after the end"),
            StreamEvent::Logprobs { .. } | StreamEvent::Usage(_) | StreamEvent::Ping => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// The frames of a stream as its reader takes them: names and data.
fn frames(format: Format, as_text: bool, bytes: &[u8], piece_bytes: usize) -> Vec<(String, String)> {
    let mut frames = Vec::new();
    if format == Format::Converse && !as_text {
        let mut framer = eventstream::Framer::new(LIMIT_BYTES);
        let mut messages = Vec::new();
        for piece in bytes.chunks(piece_bytes) {
            if framer.feed(piece, &mut messages).is_err() {
                break;
            }
        }
        frames.extend(messages.iter().map(|message| {
            let name = message
                .header(":event-type")
                .or(message.header(":exception-type"));
            let data = String::from_utf8_lossy(&message.payload).into_owned();
            (name.unwrap_or_default().to_owned(), data)
        }));
        return frames;
    }
    let mut framer = sse::Framer::new(sse::Framing::ServerSentEvents, LIMIT_BYTES);
    let mut events = Vec::new();
    for piece in bytes.chunks(piece_bytes) {
        if framer.feed(piece, &mut events).is_err() {
            break;
        }
    }
    events.extend(framer.finish());
    frames.extend(events.into_iter().map(|event| (event.name, event.data)));
    frames
}

fn read(format: Format, frames: &[(String, String)]) -> (Vec<StreamEvent>, bool) {
    let mut reader = convert::stream_reader(format);
    let mut events = Vec::new();
    let broken = frames
        .iter()
        .any(|(name, data)| reader.read(name, data, &mut events).is_err());
    reader.finish(&mut events);
    reader.finish(&mut events);
    (events, broken)
}

fn format(byte: u8) -> Format {
    Format::ALL[usize::from(byte) % Format::ALL.len()]
}

/// Any bytes as a stream. The first byte chooses the format, the second the options.
///
/// # Panics
/// If a law does not hold.
pub(crate) fn check_stream(input: &[u8]) {
    let [first, flags, bytes @ ..] = input else { return };
    let from = format(*first);
    let as_text = flags & 1 == 1;
    let whole = frames(from, as_text, bytes, bytes.len().max(1));
    let piece_bytes = usize::from(flags >> 4) + 1;
    assert_eq!(
        frames(from, as_text, bytes, piece_bytes),
        whole,
        "in pieces of {piece_bytes}"
    );
    let (events, _) = read(from, &whole);
    check_order(&events);
    let mut assembler = Assembler::new(from, LIMIT_BYTES);
    for event in &events {
        assembler.add(event);
    }
    let answer = assembler.finish().answer;
    for to in Format::ALL {
        let options = StreamOptions {
            include_usage: flags & 2 == 2,
            json_array: flags & 4 == 4,
            request_id: "r".to_owned(),
            now_s: 1,
            provider: Some(from),
        };
        let mut writer = convert::stream_writer(to, options);
        let mut written = Vec::new();
        for event in &events {
            writer.write(event, &mut written);
        }
        if to != Format::GenerateContent || flags & 4 == 0 {
            // What is written is a stream that is not broken, of the order that holds for all.
            let (again, broken) = read(to, &frames(to, false, &written, 4096));
            assert!(
                !broken || written.len() >= LIMIT_BYTES,
                "{from:?} to {to:?}: {}",
                String::from_utf8_lossy(&written)
            );
            check_order(&again);
        }
        drop(convert::write_answer(to, &answer));
    }
}

/// Any bytes as a JSON document: a request, then an answer. The first byte chooses the format.
///
/// # Panics
/// If a law does not hold.
pub(crate) fn check_body(input: &[u8]) {
    let [first, flags, bytes @ ..] = input else { return };
    let from = format(*first);
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(bytes) else {
        return;
    };
    let path = PathFacts {
        model: Some("m".to_owned()),
        stream: flags & 1 == 1,
    };
    if let Ok(request) = convert::read_request(from, body.clone(), &path) {
        for to in Format::ALL {
            let options = WriteOptions::default();
            if let Ok(written) = convert::write_request(to, &request, &options) {
                let again = convert::read_request(to, written.body.clone(), &path);
                assert!(again.is_ok(), "{from:?} to {to:?}: {again:?} of {}", written.body);
            }
            drop(llm::count::write_count_request(to, &request, &options));
        }
    }
    if let Ok(answer) = convert::read_answer(from, body.clone()) {
        for to in Format::ALL {
            if let Ok(written) = convert::write_answer(to, &answer) {
                let again = convert::read_answer(to, written.body.clone());
                assert!(again.is_ok(), "{from:?} to {to:?}: {again:?} of {}", written.body);
            }
        }
    }
    drop(llm::error::read_error(500, &body));
    drop(llm::error::read_stream_error(&body));
    for format in llm::embeddings::EmbedFormat::ALL {
        if let Ok(request) = llm::embeddings::read_request(format, body.clone(), Some("m")) {
            for to in llm::embeddings::EmbedFormat::ALL {
                drop(llm::embeddings::write_request(to, &request));
            }
        }
        drop(llm::embeddings::read_answer(format, body.clone()));
    }
}
