//! From a provider's stream to the client's: bytes in, bytes out, and what was used.
//!
//! In the same format every byte goes through as it came, but for Chat's usage event that was asked for
//! by the gateway and not by the client. In another format events are read and written anew. Both ways
//! the events are followed, so that usage, first token, errors and the true end are known.

use crate::guards::{Guards, TextFilter, Verdict};
use llm::answer::{Delta, StreamEvent, StreamPart};
use llm::canonical::ConvertError;
use llm::convert::{ReadStream, StreamOptions, WriteStream, stream_reader, stream_writer};
use llm::error::ErrorAnswer;
use llm::estimate::TextCount;
use llm::eventstream;
use llm::format::Format;
use llm::shape_as_tool::Shower;
use llm::sse::{Event, Framer, Framing};
use llm::usage::Usage;
use std::collections::HashMap;

/// The longest event of a stream: some providers send a whole image in one.
pub(super) const EVENT_MAX_BYTES: usize = 16 << 20;

/// Why a provider's stream cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenStream {
    /// An event is too long.
    #[error("an event of the provider's stream is longer than {EVENT_MAX_BYTES} bytes")]
    TooLong,
    /// The frames are not frames.
    #[error("the provider's stream is not what its format says: {0}")]
    Frame(String),
    /// An event says nothing its format knows.
    #[error("the provider's stream cannot be read")]
    Event(#[source] ConvertError),
}

/// What is known of a stream so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Something of the answer has come: from here on no other provider can take over.
    pub has_token: bool,
    /// What the provider reported last.
    pub usage: Option<Usage>,
    /// Text, reasoning and arguments so far, for an estimate where no usage comes.
    pub text: TextCount,
    /// The provider gave up.
    pub error: Option<ErrorAnswer>,
    /// The stream said that it is complete.
    pub is_complete: bool,
    /// A guardrail ended it.
    pub blocked_by: Option<String>,
}

enum Decoder {
    Text(Framer),
    Binary(eventstream::Framer),
}

enum Output {
    /// Bytes as they came, cut into events.
    Same {
        cut: EventCut,
        /// Usage events were asked for by the gateway alone.
        drop_usage: bool,
    },
    Across(Box<dyn WriteStream>),
}

/// A stream under way.
pub(super) struct Relay {
    decoder: Option<Decoder>,
    reader: Box<dyn ReadStream>,
    output: Output,
    filters: Option<Filters>,
    shower: Option<Shower>,
    progress: Progress,
    texts: Vec<Event>,
    events: Vec<StreamEvent>,
    is_over: bool,
    ingress: Format,
    request_id: String,
}

/// How a stream is relayed.
pub(super) struct RelayOptions {
    /// The provider's format.
    pub wire: Format,
    /// The client's.
    pub ingress: Format,
    /// Chat to Chat: drop usage events.
    pub drop_usage: bool,
    /// The shape of the answer was hidden in a tool.
    pub shower: Option<Shower>,
    /// For the client's writer.
    pub stream: StreamOptions,
    /// What looks at texts; with it even the same format is written anew.
    pub guards: Option<Guards>,
    /// Reads the provider's stream instead of the format's own reader.
    pub reader: Option<Box<dyn ReadStream>>,
    /// Writes the client's stream instead of the format's own writer.
    pub writer: Option<Box<dyn WriteStream>>,
}

struct Filters {
    guards: Guards,
    open: HashMap<(usize, usize), TextFilter>,
    /// Arguments of tools, which are looked at as documents once they are whole.
    arguments: HashMap<(usize, usize), String>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay")
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// A stream at its start.
    pub(super) fn new(options: RelayOptions) -> Self {
        let is_same = options.wire == options.ingress
            && options.guards.is_none()
            && options.writer.is_none()
            && options.shower.is_none()
            && !options.stream.json_array;
        let (ingress, request_id) = (options.ingress, options.stream.request_id.clone());
        Self {
            decoder: Some(if options.wire == Format::Converse {
                Decoder::Binary(eventstream::Framer::new(EVENT_MAX_BYTES))
            } else {
                Decoder::Text(Framer::new(Framing::ServerSentEvents, EVENT_MAX_BYTES))
            }),
            reader: options.reader.unwrap_or_else(|| stream_reader(options.wire)),
            output: if is_same {
                Output::Same {
                    cut: EventCut::default(),
                    drop_usage: options.drop_usage,
                }
            } else {
                let own = || stream_writer(options.ingress, options.stream);
                Output::Across(options.writer.unwrap_or_else(own))
            },
            filters: options.guards.map(|guards| Filters {
                guards,
                open: HashMap::new(),
                arguments: HashMap::new(),
            }),
            shower: options.shower,
            progress: Progress::default(),
            texts: Vec::new(),
            events: Vec::new(),
            is_over: false,
            ingress,
            request_id,
        }
    }

    /// What is known so far.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Has the client been told all it will be?
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Takes bytes of the provider and appends bytes for the client.
    ///
    /// # Errors
    /// The stream cannot be followed; call [`Relay::fail`] to tell the client.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BrokenStream> {
        if self.is_over {
            return Ok(());
        }
        let Output::Same { cut, drop_usage } = &mut self.output else {
            self.decode(bytes)?;
            self.write(out);
            return Ok(());
        };
        if !*drop_usage {
            out.extend_from_slice(bytes);
            self.decode(bytes)?;
            self.follow();
            return Ok(());
        }
        for piece in cut.feed(bytes) {
            let is_usage = memchr::memmem::find(&piece, b"\"usage\"").is_some() && is_usage_event(&piece);
            if !is_usage {
                out.extend_from_slice(&piece);
            }
        }
        if cut.held() > EVENT_MAX_BYTES {
            return Err(BrokenStream::TooLong);
        }
        self.decode(bytes)?;
        self.follow();
        Ok(())
    }

    /// The provider's bytes have ended.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.is_over {
            return;
        }
        match self.decoder.take() {
            Some(Decoder::Text(framer)) => {
                if let Some(event) = framer.finish() {
                    let _ = self.reader.read(&event.name, &event.data, &mut self.events);
                }
            }
            Some(Decoder::Binary(framer)) => {
                let _ = framer.finish();
            }
            None => {}
        }
        self.reader.finish(&mut self.events);
        match &mut self.output {
            Output::Same { cut, .. } => {
                out.extend_from_slice(&cut.rest());
                self.follow();
                if let Some(error) = self
                    .progress
                    .error
                    .clone()
                    .filter(|error| error.code.as_deref() == Some("stream_cut"))
                {
                    // The client's reader would wait or take half an answer for a whole one.
                    self.tell(&error, out);
                }
            }
            Output::Across(_) => self.write(out),
        }
        self.is_over = true;
    }

    /// Ends the client's stream with an error in its own format.
    pub(super) fn fail(&mut self, error: &ErrorAnswer, out: &mut Vec<u8>) {
        if self.is_over {
            return;
        }
        self.progress.error = Some(error.clone());
        if let Output::Across(writer) = &mut self.output {
            writer.write(&StreamEvent::Error(error.clone()), out);
            writer.write(&StreamEvent::End, out);
        } else {
            self.tell(error, out);
        }
        self.is_over = true;
    }

    /// An error event in a stream that was passed on as it came.
    fn tell(&self, error: &ErrorAnswer, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\n\n");
        out.extend_from_slice(&llm::error::write_stream_error(
            self.ingress,
            error,
            &self.request_id,
        ));
    }

    fn decode(&mut self, bytes: &[u8]) -> Result<(), BrokenStream> {
        match &mut self.decoder {
            Some(Decoder::Text(framer)) => {
                framer
                    .feed(bytes, &mut self.texts)
                    .map_err(|_| BrokenStream::TooLong)?;
                for event in self.texts.drain(..) {
                    self.reader
                        .read(&event.name, &event.data, &mut self.events)
                        .map_err(BrokenStream::Event)?;
                }
            }
            Some(Decoder::Binary(framer)) => {
                let mut messages = Vec::new();
                framer
                    .feed(bytes, &mut messages)
                    .map_err(|error| BrokenStream::Frame(error.to_string()))?;
                for message in &messages {
                    let name = message
                        .header(":event-type")
                        .or_else(|| message.header(":exception-type"))
                        .unwrap_or_default();
                    let data = String::from_utf8_lossy(&message.payload);
                    self.reader
                        .read(name, &data, &mut self.events)
                        .map_err(BrokenStream::Event)?;
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Looks at events that go through as they came.
    fn follow(&mut self) {
        for event in self.events.drain(..) {
            self.progress.note(&event);
        }
    }

    /// Writes events anew, through the filters.
    fn write(&mut self, out: &mut Vec<u8>) {
        let Output::Across(writer) = &mut self.output else {
            return;
        };
        for event in self.events.drain(..) {
            let event = match &mut self.shower {
                Some(shower) => shower.show(event),
                None => event,
            };
            self.progress.note(&event);
            let Some(filters) = &mut self.filters else {
                writer.write(&event, out);
                continue;
            };
            match filters.pass(event) {
                Ok(events) => {
                    for event in events {
                        writer.write(&event, out);
                    }
                }
                Err(name) => {
                    let error = super::answer::blocked(&name);
                    writer.write(&StreamEvent::Error(error), out);
                    writer.write(&StreamEvent::End, out);
                    self.progress.blocked_by = Some(name);
                    self.is_over = true;
                    break;
                }
            }
        }
        if let Some(error) = writer.found() {
            self.progress.error = Some(error.clone());
        }
    }
}

impl Progress {
    fn note(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Delta { delta, .. } => {
                let (Delta::Text(text) | Delta::Reasoning(text) | Delta::Arguments(text)) = delta else {
                    return;
                };
                self.has_token |= !text.is_empty();
                self.text.add(text);
            }
            StreamEvent::PartStart {
                kind: StreamPart::ToolCall { .. } | StreamPart::Whole(_),
                ..
            }
            | StreamEvent::Stop { .. } => self.has_token = true,
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Error(error) => self.error = Some(error.clone()),
            StreamEvent::End => self.is_complete = self.error.is_none(),
            _ => {}
        }
    }
}

impl Filters {
    /// What becomes of an event; a guardrail's name if it ends the stream.
    fn pass(&mut self, event: StreamEvent) -> Result<Vec<StreamEvent>, String> {
        match event {
            StreamEvent::Delta {
                choice,
                part,
                delta: Delta::Text(text),
            } => {
                let make = || TextFilter::new(&self.guards);
                let filter = self.open.entry((choice, part)).or_insert_with(make);
                let text = filter.push(&text).into_text()?;
                Ok(text_delta(choice, part, text))
            }
            StreamEvent::Delta {
                choice,
                part,
                delta: Delta::Arguments(text),
            } => {
                let all = self.arguments.entry((choice, part)).or_default();
                all.push_str(&text);
                if all.len() > EVENT_MAX_BYTES {
                    return Err("length of a tool's arguments".to_owned());
                }
                Ok(Vec::new())
            }
            StreamEvent::PartEnd { choice, part } => {
                let mut events = match self.open.remove(&(choice, part)) {
                    Some(mut filter) => text_delta(choice, part, filter.finish().into_text()?),
                    None => Vec::new(),
                };
                if let Some(mut text) = self.arguments.remove(&(choice, part)) {
                    self.guards.answer_arguments(&mut text)?;
                    let delta = Delta::Arguments(text);
                    events.push(StreamEvent::Delta { choice, part, delta });
                }
                events.push(StreamEvent::PartEnd { choice, part });
                Ok(events)
            }
            other => Ok(vec![other]),
        }
    }
}

impl Verdict {
    fn into_text(self) -> Result<String, String> {
        match self {
            Self::Pass(text) => Ok(text),
            Self::Block(name) => Err(name),
        }
    }
}

fn text_delta(choice: usize, part: usize, text: String) -> Vec<StreamEvent> {
    if text.is_empty() {
        return Vec::new();
    }
    vec![StreamEvent::Delta {
        choice,
        part,
        delta: Delta::Text(text),
    }]
}

/// Is this the event that carries Chat's usage and nothing else?
fn is_usage_event(raw: &[u8]) -> bool {
    let mut events = Vec::new();
    let mut framer = Framer::new(Framing::ServerSentEvents, EVENT_MAX_BYTES);
    if framer.feed(raw, &mut events).is_err() {
        return false;
    }
    events.extend(framer.finish());
    events.iter().any(|event| {
        serde_json::from_str(&event.data).is_ok_and(|value| llm::usage::is_usage_only_chunk(&value))
    })
}

/// Cuts the bytes of server-sent events behind each empty line, without a change of any byte.
#[derive(Debug, Default)]
struct EventCut {
    held: Vec<u8>,
    line_bytes: usize,
    after_cr: bool,
}

impl EventCut {
    /// The pieces that are complete with these bytes.
    fn feed(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        for &byte in bytes {
            let ends_crlf = byte == b'\n' && std::mem::take(&mut self.after_cr);
            self.after_cr = byte == b'\r';
            self.held.push(byte);
            if ends_crlf {
                // The line ended with the CR before.
                continue;
            }
            if byte != b'\n' && byte != b'\r' {
                self.line_bytes += 1;
            } else if std::mem::take(&mut self.line_bytes) == 0 {
                pieces.push(std::mem::take(&mut self.held));
            }
        }
        pieces
    }

    fn held(&self) -> usize {
        self.held.len()
    }

    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}
