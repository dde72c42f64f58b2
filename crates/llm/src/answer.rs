//! The one model of an answer, whole or as a stream, that every wire format is read into and written
//! from. Its parts are those of a request ([`crate::canonical::Part`]), so that an answer can be said
//! again in the next turn.

use crate::canonical::Part;
use crate::error::ErrorAnswer;
use crate::format::Format;
use crate::usage::Usage;
use serde_json::{Map, Value};

/// An answer of a chat model.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The format it was read from, which `other` fields are of.
    pub format: Format,
    /// The provider's name for this answer; empty where the format has none.
    pub id: String,
    /// The model that answered, as the provider calls it.
    pub model: String,
    /// When, in seconds since 1970, where the format says.
    pub created_s: Option<u64>,
    /// One, unless the request asked for more.
    pub choices: Vec<Choice>,
    /// What it used, if the provider reports it.
    pub usage: Option<Usage>,
    /// Fields of `format` that this model does not know.
    pub other: Map<String, Value>,
}

/// One of the answers to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Reasoning, text and calls of tools, in order.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub stop: Option<Stop>,
    /// Of the tokens of its text, if asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// Fields that this model does not know.
    pub other: Map<String, Value>,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model had said all.
    End,
    /// `max_output_tokens`, or the model's own limit.
    MaxTokens,
    /// One of the texts given in `stop`, named where the format says which.
    Sequence(Option<String>),
    /// It waits for the results of tools.
    ToolUse,
    /// The provider or the model declined: content filters, safety, refusal.
    Refused,
    /// A word this model does not know, as it came.
    Other(String),
}

/// A token of the answer and how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// Its text.
    pub token: String,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// Its bytes, where the format gives them: a token may be a part of a character.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens at this place.
    pub top: Vec<TokenLogprob>,
}

/// What happens in a stream, in this order: `Start`; per choice any number of parts, each
/// `PartStart`, `Delta`…, `PartEnd`; `Stop` per choice; `Usage` at any place, the last holding for
/// all; `End`. A reader brings every format into this order and never leaves a part open.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// The answer begins.
    Start {
        /// As in [`Answer`].
        id: String,
        /// As in [`Answer`].
        model: String,
        /// As in [`Answer`].
        created_s: Option<u64>,
    },
    /// A part begins. Parts are counted from 0 in each choice; several may be open at once.
    PartStart {
        /// Of which choice, from 0.
        choice: usize,
        /// Which part of it, from 0.
        part: usize,
        /// What it will hold.
        kind: StreamPart,
    },
    /// More of a part.
    Delta {
        /// Of which choice.
        choice: usize,
        /// Of which part.
        part: usize,
        /// What is added.
        delta: Delta,
    },
    /// A part is complete.
    PartEnd {
        /// Of which choice.
        choice: usize,
        /// Which part.
        part: usize,
    },
    /// Log probabilities of tokens just sent.
    Logprobs {
        /// Of which choice.
        choice: usize,
        /// In order.
        tokens: Vec<TokenLogprob>,
    },
    /// A choice is complete.
    Stop {
        /// Which.
        choice: usize,
        /// Why.
        stop: Stop,
    },
    /// What was used so far: the last report holds, earlier ones are in it.
    Usage(Usage),
    /// The provider gave up. Nothing but `End` follows.
    Error(ErrorAnswer),
    /// The connection is alive.
    Ping,
    /// Nothing follows.
    End,
}

/// What a part of a stream will hold.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamPart {
    /// Text of the answer.
    Text,
    /// Reasoning.
    Reasoning,
    /// A call of a tool.
    ToolCall {
        /// Which the result names again.
        id: String,
        /// The tool.
        name: String,
    },
    /// A whole part that this model does not know, or that no format streams in pieces.
    Whole(Box<Part>),
}

/// What is added to a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    /// To a text.
    Text(String),
    /// To reasoning.
    Reasoning(String),
    /// The provider's signature over the reasoning before it.
    Signature(String),
    /// To the arguments of a call: a piece of a JSON text.
    Arguments(String),
}
