//! About how many tokens a prompt has, for what no provider has counted.
//!
//! Most calls never ask: their provider counts. So the body is kept, and read only where a call ends
//! without a count. A long one is not kept as long as a stream lasts.

use super::ingress::Operation;
use super::job::Job;
use hyper::body::Bytes;
use llm::canonical::{Part, PartKind, Request, Tool};
use llm::completions;
use llm::convert::{self, PathFacts};
use llm::estimate::{tokens_of_bytes, tokens_of_text};
use llm::format::Format;

/// The longest body that is kept while a stream lasts.
const KEPT_MAX_BYTES: usize = 64 << 10;
/// What Anthropic and OpenAI take for an image of middling size.
const IMAGE_TOKENS: u64 = 1000;
/// What a turn costs around its text.
const TURN_TOKENS: u64 = 4;

/// The tokens of a prompt, counted when they are asked for.
#[derive(Clone, Debug, Default)]
pub struct PromptCount {
    n_bytes: u64,
    counted: Option<u64>,
    body: Bytes,
    operation: Option<Operation>,
    format: Option<Format>,
}

impl PromptCount {
    pub(super) fn of(job: &Job) -> Self {
        Self {
            n_bytes: job.body.len() as u64,
            counted: None,
            body: job.body.clone(),
            operation: Some(job.operation),
            format: Some(job.ingress),
        }
    }

    /// From the length of the body alone.
    pub fn by_length(&self) -> u64 {
        tokens_of_bytes(self.n_bytes)
    }

    /// From the texts in it, or from its length where no texts can be found.
    pub fn tokens(&self) -> u64 {
        self.counted
            .or_else(|| self.read().map(|request| text_tokens(&request)))
            .unwrap_or_else(|| self.by_length())
    }

    /// Lets go of a long body.
    pub fn let_go(&mut self) {
        if self.body.len() > KEPT_MAX_BYTES {
            self.counted = Some(self.tokens());
            self.body = Bytes::new();
        }
    }

    fn read(&self) -> Option<Request> {
        let body = serde_json::from_slice(&self.body).ok()?;
        let path = PathFacts {
            // Gemini's path names it; no token of the prompt.
            model: Some(String::new()),
            stream: false,
        };
        match self.operation? {
            Operation::Chat => convert::read_request(self.format?, body, &path).ok(),
            Operation::Completion => completions::read_request(body).ok(),
            _ => None,
        }
    }
}

/// About how many tokens the texts of a request are.
pub(super) fn text_tokens(request: &Request) -> u64 {
    fn parts(all: &[Part]) -> u64 {
        let tokens = all.iter().map(|part| match &part.kind {
            PartKind::Text(text) | PartKind::Reasoning { text, .. } => tokens_of_text(text),
            PartKind::ToolCall { name, arguments, .. } => tokens_of_text(name) + tokens_of_text(arguments),
            PartKind::ToolResult { parts: inner, .. } => parts(inner),
            PartKind::Image(_) => IMAGE_TOKENS,
            PartKind::File { .. } | PartKind::Other(_) => 0,
        });
        tokens.sum()
    }
    let turns = request
        .messages
        .iter()
        .map(|message| TURN_TOKENS + parts(&message.parts));
    turns.sum::<u64>() + request.tools.iter().map(tool_tokens).sum::<u64>()
}

fn tool_tokens(tool: &Tool) -> u64 {
    match tool {
        Tool::Function {
            name,
            description,
            parameters,
            ..
        } => {
            let parameters = parameters.as_ref().map(ToString::to_string);
            let texts = [Some(name), description.as_ref(), parameters.as_ref()];
            texts.into_iter().flatten().map(|text| tokens_of_text(text)).sum()
        }
        // Its maker puts in a prompt of its own, of which nothing is known here.
        Tool::Other(value) => tokens_of_text(&value.to_string()),
    }
}
