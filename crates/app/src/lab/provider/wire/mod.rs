//! The wires: what a request means, and an answer in the provider's own form.
//!
//! Each module has `read` (strict), `plain` (one document) and `stream` (its events, each with the tokens
//! it carries). They were written from the providers' references and from recorded traffic, and share
//! nothing with crate `llm`, so that one misreading of a format cannot pass on both sides.

use hyper::body::Bytes;
use serde_json::Value;

pub(crate) mod anthropic;
pub(crate) mod chat;
pub(crate) mod gemini;

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
