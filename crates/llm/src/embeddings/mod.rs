//! Embeddings: the one model of a request and its answer, and the wire formats.
//!
//! Sources: OpenAI's `POST /v1/embeddings`; Gemini's `embedContent` and `batchEmbedContents`; Vertex
//! AI's `:predict` for text embeddings; Cohere's `POST /v2/embed`; Titan Text Embeddings and Cohere Embed
//! as Amazon's Bedrock takes them by InvokeModel.

mod answer;
mod request;

pub use answer::{read_answer, write_answer};
pub use request::{read_request, write_request};

use crate::canonical::ConvertError;
use crate::format::Format;
use crate::usage::Usage;
use serde_json::{Map, Value};

/// The format of a request for embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EmbedFormat {
    /// OpenAI, and the many that speak its format.
    OpenAi,
    /// Gemini's `embedContent`: one input.
    Gemini,
    /// Gemini's `batchEmbedContents`.
    GeminiBatch,
    /// Vertex AI's `:predict`.
    Vertex,
    /// Cohere, version 2.
    Cohere,
    /// Amazon Titan Text Embeddings by Bedrock's InvokeModel: one input.
    BedrockTitan,
    /// Cohere Embed by Bedrock's InvokeModel.
    BedrockCohere,
}

impl EmbedFormat {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::OpenAi,
        Self::Gemini,
        Self::GeminiBatch,
        Self::Vertex,
        Self::Cohere,
        Self::BedrockTitan,
        Self::BedrockCohere,
    ];

    /// The format of chat models of the same provider, whose errors are the same.
    pub fn family(self) -> Format {
        match self {
            Self::OpenAi => Format::Chat,
            Self::Gemini | Self::GeminiBatch | Self::Vertex => Format::GenerateContent,
            Self::Cohere => Format::Cohere,
            Self::BedrockTitan | Self::BedrockCohere => Format::Converse,
        }
    }

    fn refuse(self, field: impl Into<String>) -> ConvertError {
        ConvertError::Inexpressible {
            field: field.into(),
            format: self.family(),
        }
    }
}

/// A request for embeddings.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbedRequest {
    /// The format it was read from, which `other` fields are of.
    pub format: EmbedFormat,
    /// The model's name as the client gave it.
    pub model: String,
    /// What to embed, in order.
    pub inputs: Vec<EmbedInput>,
    /// The length of the vectors.
    pub dimensions: Option<u64>,
    /// How the client wants the vectors written.
    pub encoding: Encoding,
    /// What the vectors are for.
    pub task: Option<Task>,
    /// The end user on whose behalf this is asked.
    pub user: Option<String>,
    /// Fields of `format` that this model does not know.
    pub other: Map<String, Value>,
}

/// Something to embed.
#[derive(Clone, Debug, PartialEq)]
pub enum EmbedInput {
    /// Text.
    Text(String),
    /// Tokens of the model, by number: OpenAI's alone.
    Tokens(Vec<u64>),
    /// Images and what else a format has, as it came.
    Other(Value),
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// A list of numbers.
    #[default]
    Float,
    /// Base64 of 32-bit floating point numbers, little-endian.
    Base64,
}

/// What vectors are for. Models embed a question otherwise than a text that answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// A question to search with.
    Query,
    /// A text to be found.
    Document,
    /// To be sorted into classes.
    Classification,
    /// To be grouped.
    Clustering,
    /// To be compared.
    Similarity,
    /// A word this model does not know, as it came.
    Other(String),
}

/// The vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbedAnswer {
    /// The format it was read from.
    pub format: EmbedFormat,
    /// The model that answered; empty where the format does not say.
    pub model: String,
    /// The provider's name for the answer, where it has one.
    pub id: Option<String>,
    /// One vector for each input, in order.
    pub vectors: Vec<Vec<f64>>,
    /// What it used, if the provider reports it here. Cohere on Bedrock tells it in the header
    /// `x-amzn-bedrock-input-token-count` alone.
    pub usage: Option<Usage>,
}
