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
use hyper::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use llm::canonical::{ConvertError, Request};
use llm::convert::WriteStream;
use llm::embeddings::{self, EmbedFormat, EmbedRequest};
use llm::format::Format;
use llm::money::{Money, cost_bound};
use llm::presets::{self, Preset};
use policy::gateway::document::GuardOn;
use policy::gateway::snapshot::{Consumer, Model, Prompt, Target};
use serde_json::Value;
use std::sync::Arc;
use store::outcome::Outcome;

/// The longest answer that is asked for where a hard budget must hold and the client names none.
const HARD_MAX_TOKENS: u64 = 4096;

/// Headers of a client that mean something to a provider of the same format, and hold no secret.
const FORWARDED: [&str; 3] = ["anthropic-beta", "anthropic-version", "openai-beta"];

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
    pub(super) request: Option<Request>,
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
    pub(super) fn new(
        ingress: &Ingress<'_>,
        head: Head,
        body: Bytes,
        headers: &HeaderMap,
        path: &str,
    ) -> Self {
        let mut forwarded = HeaderMap::new();
        for name in FORWARDED {
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
            path: path.to_owned(),
        }
    }

    pub(super) fn of_prompt(prompt: Arc<Prompt>, head: Head, body: Bytes) -> Self {
        let ingress = Ingress {
            operation: Operation::Chat,
            format: Format::Chat,
            model: None,
            stream: head.stream,
            json_array: false,
            batch: false,
        };
        Self {
            prompt: Some(prompt),
            ..Self::new(&ingress, head, body, &HeaderMap::new(), "")
        }
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
            let mut request = self.read()?;
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

    /// The writer of a prompt's stream.
    pub(super) fn stream_writer(&self, request_id: &[u8; 16]) -> Option<Box<dyn WriteStream>> {
        let prompt = self.prompt.as_ref()?;
        let id = super::id_text(request_id);
        Some(Box::new(PromptWriter::new(Arc::clone(prompt), id)))
    }

    /// The body for one target.
    pub(super) fn outgoing(&self, model: &Model, target: &Target) -> Result<Outgoing, Refusal> {
        let preset = target.provider.preset;
        match self.operation {
            Operation::Chat => {
                let plan = Plan {
                    ingress: self.ingress,
                    wire: self.wire(preset),
                    preset,
                    model: &target.model,
                    head: &self.head,
                    parameters: &model.parameters,
                    max_tokens: self.hard_max_tokens,
                    max_output_tokens: target.max_output_tokens,
                    strict: self.strict,
                };
                plan.write(&self.body, self.request.as_ref())
                    .map_err(|error| match error {
                        TranslateError::Convert(error) => convert_refusal(&error),
                        TranslateError::Splice(error) => Refusal::bad_request(error.to_string(), None),
                    })
            }
            Operation::Embeddings => self.embeddings(target),
            _ => {
                let body = if self.content_type.as_bytes().starts_with(b"application/json") {
                    translate::with_model(&self.body, &self.head.model, &target.model)
                        .map_err(|error| Refusal::bad_request(error.to_string(), None))?
                } else {
                    self.body.clone()
                };
                Ok(Outgoing {
                    body,
                    dropped: Vec::new(),
                    drop_usage: false,
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

    fn read_embed_request(&self) -> Result<EmbedRequest, Refusal> {
        let body = serde_json::from_slice(&self.body)
            .map_err(|error| Refusal::bad_request(format!("the body is not JSON: {error}"), None))?;
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
            });
        }
        request.model = target.model.to_string();
        let written = embeddings::write_request(wire, &request).map_err(|error| convert_refusal(&error))?;
        Ok(Outgoing {
            body: written.body.to_string().into(),
            dropped: written.dropped,
            drop_usage: false,
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
        let n_tokens = super::text_tokens(&request);
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
