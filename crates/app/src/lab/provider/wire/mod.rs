//! The wires: what a request means, and an answer in the provider's own form.
//!
//! Each module has `read` (strict), `plain` (one document) and `stream` (its events, each with the tokens
//! it carries). They were written from the providers' references and from recorded traffic, and share
//! nothing with crate `llm`, so that one misreading of a format cannot pass on both sides.

use hyper::body::Bytes;
use serde_json::Value;

use super::answer::{Answer, Reply};
use super::ask::Ask;
use super::errors::Refusal;
use super::route::{Operation, Route};
use super::tokens::Usage;

pub(crate) mod anthropic;
pub(crate) mod bedrock;
pub(crate) mod chat;
pub(crate) mod cohere;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod gemini;
pub(crate) mod models;
pub(crate) mod responses;

/// One write of a stream, with the tokens it carries.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    pub(crate) output: u64,
    pub(crate) reasoning: u64,
}

impl Piece {
    pub(crate) fn new(bytes: impl Into<Bytes>) -> Piece {
        Piece {
            bytes: bytes.into(),
            output: 0,
            reasoning: 0,
        }
    }

    pub(crate) fn output(self, tokens: u64) -> Piece {
        Piece {
            output: tokens,
            ..self
        }
    }

    pub(crate) fn reasoning(self, tokens: u64) -> Piece {
        Piece {
            reasoning: tokens,
            ..self
        }
    }
}

/// An event without a name.
pub(crate) fn data(value: &Value) -> Piece {
    Piece::new(format!("data: {value}\n\n"))
}

/// An event with a name.
pub(crate) fn event(name: &str, value: &Value) -> Piece {
    Piece::new(format!("event: {name}\ndata: {value}\n\n"))
}

/// An answer that needs no talk: counts, vectors, lists.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) model: String,
    pub(crate) value: Value,
    pub(crate) usage: Usage,
}

#[derive(Debug)]
pub(crate) enum Asked {
    Talk(Box<Ask>),
    Document(Document),
}

/// Reads a request of any wire. `id` is what a document without another identifier gets.
pub(crate) fn read(route: &Route, body: &Value, id: &str) -> Result<Asked, Refusal> {
    let model = route.model.as_deref();
    let of_path = model.unwrap_or_default();
    let count = |ask: Ask, value: Value| {
        Asked::Document(Document {
            model: ask.model,
            value,
            usage: Usage::default(),
        })
    };
    let ask = match route.operation {
        Operation::Chat => chat::read(body, model)?,
        Operation::Responses => responses::read(body)?,
        Operation::Completions => completions::read(body, model)?,
        Operation::Messages => anthropic::read(body, false)?,
        Operation::Generate => gemini::read(body, of_path, false)?,
        Operation::GenerateStream => gemini::read(body, of_path, true)?,
        Operation::Converse => bedrock::read(body, of_path, false)?,
        Operation::ConverseStream => bedrock::read(body, of_path, true)?,
        Operation::CohereChat => cohere::read(body)?,
        Operation::ResponsesTokens => {
            let ask = responses::read(body)?;
            let value = responses::count_tokens(&ask);
            return Ok(count(ask, value));
        }
        Operation::MessagesTokens => {
            let ask = anthropic::read(body, true)?;
            let value = anthropic::count_tokens(&ask);
            return Ok(count(ask, value));
        }
        Operation::GeminiTokens => {
            return Ok(Asked::Document(Document {
                model: of_path.to_owned(),
                value: gemini::count_tokens(body, of_path)?,
                usage: Usage::default(),
            }));
        }
        Operation::Models => {
            return Ok(Asked::Document(Document {
                model: String::new(),
                value: models::list(route.provider),
                usage: Usage::default(),
            }));
        }
        Operation::Embeddings => return Ok(Asked::Document(embeddings::openai(body, model)?)),
        Operation::Embed => return Ok(Asked::Document(embeddings::gemini(body, of_path, false)?)),
        Operation::EmbedBatch => return Ok(Asked::Document(embeddings::gemini(body, of_path, true)?)),
        Operation::CohereEmbed => return Ok(Asked::Document(embeddings::cohere(body, &cohere::id(id))?)),
        Operation::CohereRerank => return Ok(Asked::Document(embeddings::rerank(body, &cohere::id(id))?)),
    };
    Ok(Asked::Talk(Box::new(ask)))
}

/// The answer in the wire's own form, and the error that would end its stream.
pub(crate) fn pieces(
    operation: Operation,
    ask: &Ask,
    body: &Value,
    reply: &Reply,
    is_sse: bool,
) -> (Vec<Piece>, Piece) {
    let one = |value: Value| {
        let sum = |wanted: fn(&Answer) -> u64| reply.answers.iter().map(wanted).sum::<u64>();
        let piece = Piece::new(value.to_string()).output(sum(|one| one.output));
        vec![piece.reasoning(sum(|one| one.reasoning_tokens))]
    };
    match operation {
        Operation::Messages if ask.stream => (anthropic::stream(ask, reply), anthropic::stream_error()),
        Operation::Messages => (one(anthropic::plain(ask, reply)), anthropic::stream_error()),
        Operation::GenerateStream => (gemini::stream(ask, reply, is_sse), gemini::stream_error(is_sse)),
        Operation::Generate => (one(gemini::plain(ask, reply)), gemini::stream_error(is_sse)),
        Operation::ConverseStream => (bedrock::stream(reply), bedrock::stream_error()),
        Operation::Converse => (one(bedrock::plain(reply)), bedrock::stream_error()),
        Operation::CohereChat if ask.stream => (cohere::stream(reply), cohere::stream_error()),
        Operation::CohereChat => (one(cohere::plain(ask, reply)), cohere::stream_error()),
        Operation::Responses if ask.stream => {
            (responses::stream(ask, body, reply), responses::stream_error())
        }
        Operation::Responses => (one(responses::plain(ask, body, reply)), responses::stream_error()),
        Operation::Completions if ask.stream => (completions::stream(ask, body, reply), chat::stream_error()),
        Operation::Completions => (one(completions::plain(ask, body, reply)), chat::stream_error()),
        _ if ask.stream => (chat::stream(ask, body, reply), chat::stream_error()),
        _ => (one(chat::plain(ask, reply)), chat::stream_error()),
    }
}
