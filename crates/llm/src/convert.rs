//! One way into and out of every format: dispatch by [`Format`], nothing more.

use crate::answer::{Answer, StreamEvent};
use crate::canonical::{ConvertError, Request, Written};
use crate::error::ErrorAnswer;
use crate::format::Format;
use crate::{chat, cohere, converse, generate_content, messages, responses};
use serde_json::Value;

/// What a request needs beside its body.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// For formats that demand a maximum, where the client gave none: the model's own limit.
    pub max_tokens_if_absent: u64,
    /// Write `max_tokens` instead of `max_completion_tokens` (Chat providers other than OpenAI).
    pub legacy_max_tokens: bool,
    /// Refuse what would be dropped.
    pub strict: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            max_tokens_if_absent: 4096,
            legacy_max_tokens: false,
            strict: false,
        }
    }
}

/// What the path of a request says where the body does not: Gemini and Bedrock name the model, and
/// whether to stream, there.
#[derive(Clone, Debug, Default)]
pub struct PathFacts {
    /// The model, if the path names it.
    pub model: Option<String>,
    /// Is a stream asked for by the path?
    pub stream: bool,
}

/// Reads a request.
///
/// # Errors
/// [`ConvertError::Invalid`] names the field.
pub fn read_request(format: Format, body: Value, path: &PathFacts) -> Result<Request, ConvertError> {
    match format {
        Format::Chat => chat::read_request(body),
        Format::Responses => responses::read_request(body),
        Format::Messages => messages::read_request(body),
        Format::GenerateContent => generate_content::read_request(body, path),
        Format::Converse => converse::read_request(body, path),
        Format::Cohere => cohere::read_request(body),
    }
}

/// Writes a request.
///
/// # Errors
/// [`ConvertError::Inexpressible`] where meaning would be lost, and if `strict`, where any hint would.
pub fn write_request(
    format: Format,
    request: &Request,
    options: &WriteOptions,
) -> Result<Written, ConvertError> {
    let written = match format {
        Format::Chat => chat::write_request(request, options),
        Format::Responses => responses::write_request(request, options),
        Format::Messages => messages::write_request(request, options.max_tokens_if_absent),
        Format::GenerateContent => generate_content::write_request(request, options),
        Format::Converse => converse::write_request(request, options),
        Format::Cohere => cohere::write_request(request, options),
    }?;
    if options.strict && !written.dropped.is_empty() {
        return Err(ConvertError::Inexpressible {
            field: written.dropped.join("`, `"),
            format,
        });
    }
    Ok(written)
}

/// Reads a whole answer.
///
/// # Errors
/// [`ConvertError::Invalid`]: the provider's reply is broken.
pub fn read_answer(format: Format, body: Value) -> Result<Answer, ConvertError> {
    match format {
        Format::Chat => chat::read_answer(body),
        Format::Responses => responses::read_answer(body),
        Format::Messages => messages::read_answer(body),
        Format::GenerateContent => generate_content::read_answer(body),
        Format::Converse => converse::read_answer(body),
        Format::Cohere => cohere::read_answer(body),
    }
}

/// Writes a whole answer.
///
/// # Errors
/// [`ConvertError::Inexpressible`] where the format has no words for a part of it.
pub fn write_answer(format: Format, answer: &Answer) -> Result<Written, ConvertError> {
    match format {
        Format::Chat => chat::write_answer(answer),
        Format::Responses => responses::write_answer(answer),
        Format::Messages => messages::write_answer(answer),
        Format::GenerateContent => generate_content::write_answer(answer),
        Format::Converse => converse::write_answer(answer),
        Format::Cohere => cohere::write_answer(answer),
    }
}

/// Reads one event of a provider's stream, whose data is a JSON document. `name` is the event's name
/// (of server-sent events, or `:event-type` / `:exception-type` of AWS); empty where there is none.
pub trait ReadStream: Send {
    /// Appends what the event tells.
    ///
    /// # Errors
    /// [`ConvertError::Invalid`]: the provider's stream is broken.
    fn read(&mut self, name: &str, data: &str, events: &mut Vec<StreamEvent>) -> Result<(), ConvertError>;

    /// The bytes ended. Closes what is open; a stream that ended before its own end mark gives
    /// [`StreamEvent::Error`] and then [`StreamEvent::End`].
    fn finish(&mut self, events: &mut Vec<StreamEvent>);
}

/// Writes events as the bytes of a stream in the client's format, framing included.
pub trait WriteStream: Send {
    /// Appends the bytes that tell the event. A format that has no words for it appends none.
    fn write(&mut self, event: &StreamEvent, bytes: &mut Vec<u8>);

    /// What the writer itself found wrong at the end, and told the client.
    fn found(&self) -> Option<&ErrorAnswer> {
        None
    }
}

/// What a stream's writer needs beside the events.
#[derive(Clone, Debug, Default)]
pub struct StreamOptions {
    /// Chat: did the client ask for the usage chunk?
    pub include_usage: bool,
    /// Gemini: a JSON array instead of server-sent events (no `alt=sse`).
    pub json_array: bool,
    /// For errors in the stream.
    pub request_id: String,
    /// Seconds since 1970, for formats that tell when the answer was made and wires that do not.
    pub now_s: u64,
    /// The format of the provider, for signatures: only their maker accepts them again.
    pub provider: Option<Format>,
}

/// A reader for a provider's stream.
pub fn stream_reader(format: Format) -> Box<dyn ReadStream> {
    match format {
        Format::Chat => Box::new(chat::StreamReader::default()),
        Format::Responses => Box::new(responses::StreamReader::default()),
        Format::Messages => Box::new(messages::StreamReader::default()),
        Format::GenerateContent => Box::new(generate_content::StreamReader::default()),
        Format::Converse => Box::new(converse::StreamReader::default()),
        Format::Cohere => Box::new(cohere::StreamReader::default()),
    }
}

/// A writer of a client's stream.
pub fn stream_writer(format: Format, options: StreamOptions) -> Box<dyn WriteStream> {
    match format {
        Format::Chat => Box::new(chat::StreamWriter::new(options)),
        Format::Responses => Box::new(responses::StreamWriter::new(options)),
        Format::Messages => Box::new(messages::StreamWriter::new(options)),
        Format::GenerateContent => Box::new(generate_content::StreamWriter::new(options)),
        Format::Converse => Box::new(converse::StreamWriter::new(options)),
        Format::Cohere => Box::new(cohere::StreamWriter::new(options)),
    }
}

/// The event by which a reader tells that a stream ended too early.
pub(crate) fn cut_short() -> ErrorAnswer {
    ErrorAnswer {
        status: 502,
        message: "the provider ended its stream before the answer was complete".to_owned(),
        code: Some("stream_cut".to_owned()),
        param: None,
    }
}
