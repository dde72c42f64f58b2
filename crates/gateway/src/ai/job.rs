//! What is to be done for one call, whoever does it.

use super::answer::{Answer, Whole};
use super::cache::Key;
use super::head::Head;
use super::ingress::{Ingress, Operation};
use super::prompt::PromptWriter;
use super::translate::{self, Outgoing, Plan, TranslateError};
use crate::guards::Guards;
use crate::refusal::Refusal;
use hyper::body::Bytes;
use hyper::http::StatusCode;
use hyper::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use llm::canonical::{ConvertError, Request};
use llm::catalogue::{Catalogue, Features};
use llm::convert::{StreamOptions, WriteStream};
use llm::embeddings::{self, EmbedFormat, EmbedRequest};
use llm::format::Format;
use llm::money::{Money, cost_bound};
use llm::presets::{self, Preset};
use llm::{completions, rerank};
use policy::gateway::document::GuardOn;
use policy::gateway::snapshot::{Consumer, Model, Prompt, Target};
use serde_json::Value;
use std::sync::Arc;
use store::outcome::Outcome;

/// The longest answer that is asked for where a hard budget must hold and the client names none.
const HARD_MAX_TOKENS: u64 = 4096;

/// Headers of a client that mean something to a provider of the same format, and hold no secret.
static FORWARDED: [HeaderName; 3] = [
    HeaderName::from_static("anthropic-beta"),
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("openai-beta"),
];

/// What is to be done.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) operation: Operation,
    /// The client's format.
    pub(super) ingress: Format,
    pub(super) json_array: bool,
    pub(super) batch: bool,
    pub(super) head: Head,
    /// The client's body.
    pub(super) body: Bytes,
    /// The same, read, where somebody had to; it then goes out instead of the body.
    pub(super) request: Option<Box<Request>>,
    /// The prompt that stands behind the request.
    pub(super) prompt: Option<Arc<Prompt>>,
    pub(super) guards: Guards,
    pub(super) strict: bool,
    /// Put in where the client names no maximum.
    hard_max_tokens: Option<u64>,
    /// Headers that go out too, to a provider of the same format.
    pub(super) forwarded: HeaderMap,
    pub(super) content_type: HeaderValue,
    /// The path that a passthrough asks for.
    pub(super) path: String,
}

impl Job {
    pub(super) fn new(ingress: &Ingress, head: Head, body: Bytes, headers: &HeaderMap, path: &str) -> Self {
        let mut forwarded = HeaderMap::new();
        for name in &FORWARDED {
            for value in headers.get_all(name) {
                forwarded.append(name, value.clone());
            }
        }
        Self {
            operation: ingress.operation,
            ingress: ingress.format,
            json_array: ingress.json_array,
            batch: ingress.batch,
            head,
            body,
            request: None,
            prompt: None,
            guards: Guards::default(),
            strict: false,
            hard_max_tokens: None,
            forwarded,
            content_type: headers
                .get(CONTENT_TYPE)
                .cloned()
                .unwrap_or_else(|| HeaderValue::from_static("application/json")),
            path: if ingress.operation == Operation::Passthrough {
                path.to_owned()
            } else {
                String::new()
            },
        }
    }

    /// The request of a prompt is nobody's bytes: it is written anew for every provider.
    ///
    /// # Errors
    /// The prompt's parameters make no request.
    pub(super) fn of_prompt(prompt: Arc<Prompt>, head: Head, body: Bytes) -> Result<Self, Refusal> {
        let ingress = Ingress {
            operation: Operation::Chat,
            format: Format::Chat,
            model: None,
            stream: head.stream,
            json_array: false,
            batch: false,
        };
        let mut job = Self::new(&ingress, head, body, &HeaderMap::new(), "");
        job.prompt = Some(prompt);
        job.request = Some(Box::new(job.read()?));
        Ok(job)
    }

    /// May the same request get the same answer again?
    pub(super) fn is_cacheable(&self) -> bool {
        matches!(self.operation, Operation::Chat | Operation::Embeddings) && !self.head.stream
    }

    pub(super) fn cache_key(&self, consumer: &Consumer, generation: u64) -> Key {
        let tenant = [&*consumer.organisation, &*consumer.team, &*consumer.name];
        let prompt = self.prompt.as_ref().map_or("", |prompt| &prompt.name);
        let operation = format!(
            "{:?} {} {} {prompt}",
            self.operation,
            self.ingress.as_str(),
            self.head.model
        );
        match &self.request {
            // Guardrails have changed it: what goes out decides.
            Some(request) => Key::of(tenant, generation, &operation, format!("{request:?}").as_bytes()),
            None => Key::of(tenant, generation, &operation, &self.body),
        }
    }

    /// Lets guardrails look at the request, and change it.
    pub(super) fn guard_request(&mut self, guards: &Guards) -> Result<(), Refusal> {
        let blocked = |name: &str| {
            Refusal::new(
                Outcome::GuardBlocked,
                StatusCode::BAD_REQUEST,
                "content_blocked",
                format!("the guardrail `{name}` does not let this request pass"),
            )
        };
        if self.operation == Operation::Chat {
            let mut request = match &self.request {
                Some(request) => request.clone(),
                None => Box::new(self.read()?),
            };
            let before = request.clone();
            guards.request(&mut request).map_err(|name| blocked(&name))?;
            if request != before {
                self.request = Some(request);
            }
            return Ok(());
        }
        // Of the other operations every text of the body is looked at.
        let Ok(mut body) = serde_json::from_slice::<Value>(&self.body) else {
            return Ok(());
        };
        let changed = guards
            .json(&mut body, &["model"], GuardOn::Request)
            .map_err(|name| blocked(&name))?;
        if changed {
            self.body = body.to_string().into();
        }
        Ok(())
    }

    fn read(&self) -> Result<Request, Refusal> {
        translate::read_request(self.ingress, &self.body, &self.head).map_err(|error| convert_refusal(&error))
    }

    /// The request as it may be kept: as guardrails left it.
    pub(super) fn audit_body(&self) -> Vec<u8> {
        match &self.request {
            Some(request) => {
                let options = llm::convert::WriteOptions::default();
                llm::convert::write_request(self.ingress, request, &options)
                    .map(|written| written.body.to_string().into_bytes())
                    .unwrap_or_default()
            }
            None => self.body.to_vec(),
        }
    }

    /// A hard budget has to know how long an answer can be.
    pub(super) fn bound_output(&mut self, order: &[&Target]) {
        let most = order.iter().filter_map(|target| target.max_output_tokens).min();
        self.hard_max_tokens = Some(most.unwrap_or(HARD_MAX_TOKENS).min(HARD_MAX_TOKENS));
    }

    /// The most that a call can cost: its bytes as tokens, and the longest answer.
    pub(super) fn cost_bound(&self, target: &Target) -> Option<Money> {
        let output = match self.operation {
            Operation::Chat | Operation::Completion => {
                let each = self
                    .head
                    .max_tokens
                    .or(self.hard_max_tokens)
                    .unwrap_or(HARD_MAX_TOKENS);
                each.saturating_mul(self.head.n.max(1))
            }
            _ => 0,
        };
        // A provider puts a few tokens of its own around each turn and tool.
        let input = (self.body.len() as u64).saturating_add(64);
        cost_bound(target.prices.as_deref()?, input, output)
    }

    /// The format that this provider is asked in.
    pub(super) fn wire(&self, preset: &Preset) -> Format {
        if self.ingress == Format::Responses && preset.supports(presets::Operation::Responses) {
            Format::Responses
        } else {
            preset.wire
        }
    }

    /// Does the answer come in pieces?
    pub(super) fn is_stream(&self) -> bool {
        self.head.stream && matches!(self.operation, Operation::Chat | Operation::Completion)
    }

    /// What this provider is asked for: a completion is a chat where it has no completions, or where its
    /// answer must be looked at.
    pub(super) fn operation_at(&self, preset: &Preset) -> Operation {
        let is_chat = self.operation == Operation::Completion
            && (self.guards.look_at_answers() || !preset.supports(presets::Operation::Completions));
        if is_chat { Operation::Chat } else { self.operation }
    }

    /// The writer of a stream that is in none of the formats of chats.
    pub(super) fn stream_writer(
        &self,
        preset: &Preset,
        stream: &StreamOptions,
    ) -> Option<Box<dyn WriteStream>> {
        if let Some(prompt) = &self.prompt {
            let id = stream.request_id.clone();
            return Some(Box::new(PromptWriter::new(Arc::clone(prompt), id)));
        }
        let is_across =
            self.operation == Operation::Completion && self.operation_at(preset) == Operation::Chat;
        is_across.then(|| Box::new(completions::StreamWriter::new(stream.clone())) as Box<dyn WriteStream>)
    }

    /// The body for one target.
    pub(super) fn outgoing(
        &self,
        model: &Model,
        target: &Target,
        catalogue: &Catalogue,
    ) -> Result<Outgoing, Refusal> {
        let preset = target.provider.preset;
        let splice = |error: llm::splice::SpliceError| Refusal::bad_request(error.to_string(), None);
        let operation = self.operation_at(preset);
        // Most models of Bedrock.
        let takes_shapes = || {
            let known = preset.model(catalogue, &target.provider.name, &target.model);
            known.is_some_and(|known| known.features.has(Features::STRUCTURED))
        };
        let shape_as_tool = preset.wire == Format::Converse && !takes_shapes();
        match operation {
            Operation::Chat | Operation::Completion => {
                let is_completion = operation == Operation::Completion;
                let plan = Plan {
                    ingress: self.ingress,
                    wire: if is_completion {
                        Format::Chat
                    } else {
                        self.wire(preset)
                    },
                    preset,
                    legacy_max_tokens: preset.quirks.legacy_max_tokens || is_completion,
                    model: &target.model,
                    head: &self.head,
                    parameters: &model.parameters,
                    max_tokens: self.hard_max_tokens,
                    max_output_tokens: target.max_output_tokens,
                    strict: self.strict,
                    shape_as_tool,
                };
                let read;
                let request = if operation == self.operation {
                    self.request.as_deref()
                } else {
                    read = self.read_json().and_then(|body| {
                        completions::read_request(body).map_err(|error| convert_refusal(&error))
                    })?;
                    Some(&read)
                };
                plan.write(&self.body, request).map_err(|error| match error {
                    TranslateError::Convert(error) => convert_refusal(&error),
                    TranslateError::Splice(error) => splice(error),
                })
            }
            Operation::Embeddings => self.embeddings(target),
            Operation::Rerank if self.rerank_shapes(preset).is_some() => self.rerank(target),
            _ => {
                let body = if self.content_type.as_bytes().starts_with(b"application/json") {
                    translate::with_model(&self.body, &self.head.model, &target.model).map_err(splice)?
                } else {
                    super::head::form_with_model(&self.body, &target.model)
                };
                Ok(Outgoing {
                    body,
                    dropped: Vec::new(),
                    drop_usage: false,
                    is_shown: false,
                })
            }
        }
    }
}

impl Job {
    /// The client's format of embeddings.
    fn embed_ingress(&self) -> EmbedFormat {
        match (self.ingress, self.batch) {
            (Format::GenerateContent, true) => EmbedFormat::GeminiBatch,
            (Format::GenerateContent, false) => EmbedFormat::Gemini,
            _ => EmbedFormat::OpenAi,
        }
    }

    /// The provider's, for this request.
    fn embed_wire(&self, target: &Target, n_inputs: usize) -> Result<EmbedFormat, Refusal> {
        let format = target
            .provider
            .preset
            .embed_format(&target.model)
            .ok_or_else(|| {
                Refusal::new(
                    Outcome::NotSupported,
                    StatusCode::NOT_IMPLEMENTED,
                    "not_supported",
                    format!("the provider of `{}` has no embeddings", self.head.model),
                )
            })?;
        Ok(match format {
            EmbedFormat::Gemini if n_inputs > 1 => EmbedFormat::GeminiBatch,
            format => format,
        })
    }

    fn read_json(&self) -> Result<Value, Refusal> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Refusal::bad_request(format!("the body is not JSON: {error}"), None))
    }

    /// The client's shape and the provider's, where they are not the same.
    fn rerank_shapes(&self, preset: &Preset) -> Option<(rerank::Shape, rerank::Shape)> {
        let shape = |format| match format {
            Format::Cohere => rerank::Shape::Cohere2,
            _ => rerank::Shape::Common,
        };
        let (ingress, wire) = (shape(self.ingress), shape(preset.wire));
        (ingress != wire).then_some((ingress, wire))
    }

    fn rerank(&self, target: &Target) -> Result<Outgoing, Refusal> {
        let mut request = rerank::read_request(self.read_json()?).map_err(|error| convert_refusal(&error))?;
        request.model = target.model.to_string();
        let shape = match self.rerank_shapes(target.provider.preset) {
            Some((_, wire)) => wire,
            None => rerank::Shape::Common,
        };
        let written = rerank::write_request(&request, shape).map_err(|error| convert_refusal(&error))?;
        Ok(Outgoing {
            body: written.body.to_string().into(),
            dropped: written.dropped,
            drop_usage: false,
            is_shown: false,
        })
    }

    /// A provider's order of documents in the client's shape.
    ///
    /// # Errors
    /// One sentence for the log.
    pub(super) fn read_rerank(&self, target: &Target, body: &Bytes) -> Result<Whole, String> {
        let value: Value = serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
        let request = self.read_json().map_err(|refusal| refusal.message)?;
        let Some((ingress, _)) = self.rerank_shapes(target.provider.preset) else {
            let n_documents = request["documents"].as_array().map_or(0, Vec::len);
            let answer = rerank::read_answer(value, n_documents).map_err(|error| error.to_string())?;
            return Ok(Whole::as_it_came(body.clone(), answer.usage()));
        };
        let request = rerank::read_request(request).map_err(|error| error.to_string())?;
        let answer =
            rerank::read_answer(value, request.documents.len()).map_err(|error| error.to_string())?;
        let written = rerank::write_answer(&answer, &request, ingress);
        Ok(Whole::of_value(&written, answer.usage()))
    }

    fn read_embed_request(&self) -> Result<EmbedRequest, Refusal> {
        let body = self.read_json()?;
        let model = (self.ingress == Format::GenerateContent).then_some(self.head.model.as_str());
        embeddings::read_request(self.embed_ingress(), body, model).map_err(|error| convert_refusal(&error))
    }

    fn embeddings(&self, target: &Target) -> Result<Outgoing, Refusal> {
        let mut request = self.read_embed_request()?;
        let wire = self.embed_wire(target, request.inputs.len())?;
        if wire == self.embed_ingress() && wire == EmbedFormat::OpenAi {
            let body = translate::with_model(&self.body, &self.head.model, &target.model)
                .map_err(|error| Refusal::bad_request(error.to_string(), None))?;
            return Ok(Outgoing {
                body,
                dropped: Vec::new(),
                drop_usage: false,
                is_shown: false,
            });
        }
        request.model = target.model.to_string();
        let written = embeddings::write_request(wire, &request).map_err(|error| convert_refusal(&error))?;
        Ok(Outgoing {
            body: written.body.to_string().into(),
            dropped: written.dropped,
            drop_usage: false,
            is_shown: false,
        })
    }

    /// A provider's vectors in the client's format.
    ///
    /// # Errors
    /// One sentence for the log.
    pub(super) fn read_embeddings(&self, target: &Target, body: &Bytes) -> Result<Whole, String> {
        let request = self.read_embed_request().map_err(|refusal| refusal.message)?;
        let wire = self
            .embed_wire(target, request.inputs.len())
            .map_err(|refusal| refusal.message)?;
        let value: Value = serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
        let ingress = self.embed_ingress();
        if wire == ingress && wire == EmbedFormat::OpenAi {
            let usage = llm::usage::of_response(Format::Chat, &value);
            return Ok(Whole::as_it_came(body.clone(), usage));
        }
        let mut answer = embeddings::read_answer(wire, value).map_err(|error| error.to_string())?;
        if answer.model.is_empty() {
            answer.model = target.model.to_string();
        }
        let usage = answer.usage;
        let written = embeddings::write_answer(ingress, &answer, request.encoding)
            .map_err(|error| error.to_string())?;
        Ok(Whole::of_value(&written, usage))
    }

    /// An estimate of how many tokens a request has, in the client's format.
    ///
    /// # Errors
    /// The request cannot be read.
    pub(super) fn count_locally(&self) -> Result<Answer, Refusal> {
        let body = serde_json::from_slice(&self.body)
            .map_err(|error| Refusal::bad_request(format!("the body is not JSON: {error}"), None))?;
        let path = llm::convert::PathFacts {
            model: Some(self.head.model.clone()),
            stream: false,
        };
        let request = llm::count::read_count_request(self.ingress, body, &path)
            .map_err(|error| convert_refusal(&error))?;
        let n_tokens = super::prompt_count::text_tokens(&request);
        llm::count::write_count_answer(self.ingress, n_tokens)
            .map(|answer| Answer::local(&answer))
            .map_err(|error| convert_refusal(&error))
    }
}

/// A request that cannot be read, or not be said in the words of a provider.
pub(super) fn convert_refusal(error: &ConvertError) -> Refusal {
    let param = match error {
        ConvertError::Invalid { field, .. } | ConvertError::Inexpressible { field, .. } => field.clone(),
        ConvertError::Failed { .. } => String::new(),
    };
    Refusal::bad_request(error.to_string(), Some(param).filter(|field| !field.is_empty()))
}
