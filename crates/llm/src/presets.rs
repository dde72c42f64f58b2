//! Providers as rows of data: where they are, how they want to be called, and what they do otherwise.
//!
//! A row is a [`Preset`]; [`all`] lists them. No code knows a provider by name: what is peculiar to one is
//! a field here ([`Quirks`]). Addresses are templates. A base URL ends where the provider's version ends
//! (`https://api.openai.com/v1`, `https://api.anthropic.com/v1`), and [`Preset::request_target`] gives
//! what comes below it.
//!
//! Parts of a template:
//!
//! * `{name}`: a parameter of the provider (`{region}`), or `{model}`: percent-encoded, so that
//!   it stays one segment whatever it holds.
//! * `{name-}`: the same with a hyphen after it, or nothing if it is `global`: Google's host names.
//! * `{models/}`: the model as a resource of Gemini: `models/NAME`, or as it is where it has a slash
//!   (`tunedModels/NAME`).
//! * `{publisher/}`: the model as a resource of Vertex: `publishers/google/models/NAME`, or of another
//!   publisher for `PUBLISHER/NAME`.
//!
//! Each row names the documentation it is from, as of November 2026. A quirk that no documentation
//! settles has the value with which a request fails least.

mod rows;
mod target;

pub use target::{TargetError, fill};

use crate::catalogue::{Catalogue, Model};
use crate::embeddings::EmbedFormat;
use crate::format::Format;
use std::collections::BTreeMap;

/// How a provider is told who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Auth {
    /// It does not ask.
    None,
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// The key in a header of this name.
    Header(&'static str),
    /// A signature of AWS: see [`crate::sigv4`].
    SigV4,
    /// A bearer token that Google gives for the key file of a service account.
    ServiceAccount,
}

/// What is asked of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A conversation in the format of the preset.
    Chat,
    /// A conversation by OpenAI Responses.
    Responses,
    /// A text to be continued, as OpenAI Completions.
    Completions,
    /// Texts to vectors.
    Embeddings,
    /// The tokens of a request.
    CountTokens,
    /// The list of models.
    Models,
    /// Documents by how well they answer a query, as Cohere's Rerank.
    Rerank,
    /// Any other path of the provider, as the client wrote it.
    Passthrough,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Chat,
        Self::Responses,
        Self::Completions,
        Self::Embeddings,
        Self::CountTokens,
        Self::Models,
        Self::Rerank,
        Self::Passthrough,
    ];

    /// The method of its request; [`Operation::Passthrough`] keeps the client's.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Models => "GET",
            _ => "POST",
        }
    }
}

/// Something that an address needs to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in templates and in `parameters` of a provider.
    pub name: &'static str,
    /// What it is if it is not told.
    pub default: Option<&'static str>,
}

/// What providers of one format do differently. For wires other than Chat most of it has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// The limit of an answer is `max_tokens`, not `max_completion_tokens`.
    pub legacy_max_tokens: bool,
    /// That limit does not count reasoning: it bounds no cost.
    pub max_tokens_excludes_reasoning: bool,
    /// A request without a limit is refused.
    pub needs_max_tokens: bool,
    /// A stream tells its usage if asked by `stream_options.include_usage`; else it tells it unasked, and
    /// the field must not be sent.
    pub include_usage: bool,
    /// Messages may have the role `developer`; else it is `system`.
    pub developer_role: bool,
    /// `parallel_tool_calls` is understood.
    pub parallel_tool_calls: bool,
    /// Takes tools at all.
    pub tools: bool,
    /// `response_format` may be a JSON schema; else at most `json_object`.
    pub json_schema: bool,
    /// The field of a message, or of a delta, in which reasoning comes.
    pub reasoning_field: Option<&'static str>,
    /// Fields of a request that it answers with an error, or says it does not take: to be left out.
    pub unsupported: &'static [&'static str],
}

/// A kind of provider.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name in configuration and in the catalogue of models.
    pub kind: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// The format of its conversations.
    pub wire: Format,
    /// How it is told who asks.
    pub auth: Auth,
    /// A template of its address; `None` where only the operator can know it.
    pub base_url: Option<&'static str>,
    /// What its addresses need to be told.
    pub parameters: &'static [Parameter],
    /// Headers of every request.
    pub headers: &'static [(&'static str, &'static str)],
    /// Templates of what is below the base URL, by operation.
    pub paths: &'static [(Operation, &'static str)],
    /// The one for streamed conversations, if it is another.
    pub stream_path: Option<&'static str>,
    /// May a client call paths that are not known here?
    pub passthrough: bool,
    /// The format of its embeddings; see [`Preset::embed_format`].
    pub embeddings: Option<EmbedFormat>,
    /// The format in which it counts tokens.
    pub count: Option<Format>,
    /// What it does differently.
    pub quirks: Quirks,
    /// The kinds of the catalogue that hold its models, in order: its own, then those whose prices are
    /// only assumed to be its own.
    pub catalogue: &'static [&'static str],
    /// The documentation this is from.
    pub source: &'static str,
}

/// Every kind of provider.
pub fn all() -> &'static [Preset] {
    &rows::ROWS
}

/// The kind of this name.
pub fn by_kind(kind: &str) -> Option<&'static Preset> {
    all().iter().find(|preset| preset.kind == kind)
}

impl Preset {
    /// Can it be asked for this?
    pub fn supports(&self, operation: Operation) -> bool {
        match operation {
            Operation::Passthrough => self.passthrough,
            _ => self.path(operation).is_some(),
        }
    }

    fn path(&self, operation: Operation) -> Option<&'static str> {
        let found = self.paths.iter().find(|(known, _)| *known == operation);
        found.map(|(_, path)| *path)
    }

    /// The base URL, if the preset has one.
    pub fn base(&self, parameters: &BTreeMap<String, String>) -> Option<Result<String, TargetError>> {
        Some(target::expand(self, self.base_url?, "", parameters))
    }

    /// Path and query below the base URL; `None` if the provider has no such operation.
    ///
    /// For [`Operation::Passthrough`] `model` is the path and query that the client wants, below the
    /// version: `/files?limit=5`.
    pub fn request_target(
        &self,
        operation: Operation,
        model: &str,
        stream: bool,
        parameters: &BTreeMap<String, String>,
    ) -> Option<Result<String, TargetError>> {
        if operation == Operation::Passthrough {
            return self.passthrough.then(|| target::client_path(model));
        }
        let path = self.path(operation)?;
        let streamed = self
            .stream_path
            .filter(|_| stream && operation == Operation::Chat);
        Some(target::expand(self, streamed.unwrap_or(path), model, parameters))
    }

    /// What the catalogue knows of a model: by the name of the provider, which an operator may have given
    /// it; else by the kinds of this preset, in order.
    pub fn model<'a>(&self, catalogue: &'a Catalogue, provider: &str, name: &str) -> Option<&'a Model> {
        let own = catalogue.lookup(provider, name);
        own.or_else(|| {
            self.catalogue
                .iter()
                .find_map(|kind| catalogue.lookup(kind, name))
        })
    }

    /// The format of embeddings by this model: Bedrock has one for each maker of models.
    pub fn embed_format(&self, model: &str) -> Option<EmbedFormat> {
        let format = self.embeddings?;
        let is_cohere = format == EmbedFormat::BedrockTitan && model.contains("cohere.");
        Some(if is_cohere {
            EmbedFormat::BedrockCohere
        } else {
            format
        })
    }
}
