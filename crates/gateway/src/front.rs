//! The front of the gateway: what a request is for.
//!
//! Services with an exact host come first, then prompts and the AI paths, then services by path. What is
//! for nobody gets 404.

use crate::ai::{Ai, ingress};
use crate::body::{Body, Received};
use crate::live::Shared;
use crate::refusal::Refusal;
use crate::rest::Rest;
use crate::server::{ConnInfo, Handler};
use crate::upstream::{Client, ClientSettings};
use hyper::{Method, Request, Response, StatusCode};
use llm::format::Format;
use std::rc::Rc;
use std::sync::Arc;
use store::outcome::Outcome;

/// The front of one thread.
#[derive(Debug)]
pub struct Front {
    shared: Arc<Shared>,
    ai: Ai,
    rest: Rest,
}

impl Front {
    /// For one thread; `seed` is any number.
    pub fn new(shared: Arc<Shared>, seed: u64) -> Rc<Self> {
        let client = Client::new(ClientSettings::default());
        let ai = Ai::new(Arc::clone(&shared), client.clone(), shared.trust.clone(), seed);
        let rest = Rest::new(Arc::clone(&shared), client, !seed);
        Rc::new(Self { shared, ai, rest })
    }
}

impl Handler for Front {
    async fn handle(self: Rc<Self>, request: Request<Received>, conn: Rc<ConnInfo>) -> Response<Body> {
        let live = self.shared.live();
        if let Some(found) = self.rest.find_exact(&live, &request) {
            return self.rest.handle(request, &conn, &live, found).await;
        }
        let path = request.uri().path().to_owned();
        let list_format = list_format(request.headers());
        if let Some(prompt) = live.snapshot.prompts.get(path.as_str()) {
            if request.method() == Method::POST {
                let prompt = Arc::clone(prompt);
                return self.ai.handle_prompt(request, &conn, prompt).await;
            }
            return self.ai.refuse(
                request,
                &conn,
                &Refusal::wrong_method("a prompt is called with POST"),
            );
        }
        if let Some(document) = self.ai.prompt_document(&live, &path, request.method()) {
            return document;
        }
        let query = request.uri().query().map(str::to_owned);
        let found = ingress::recognise(request.method(), &path, query.as_deref(), list_format);
        if let Some(ingress) = found {
            return self.ai.handle(request, &conn, ingress).await;
        }
        if !live.services.is_empty() {
            let found = self.rest.find_other(&live, &request);
            return self.rest.handle(request, &conn, &live, found).await;
        }
        self.ai.refuse(request, &conn, &nothing_here())
    }
}

fn nothing_here() -> Refusal {
    Refusal::new(
        Outcome::NotFound,
        StatusCode::NOT_FOUND,
        "not_found",
        "nothing is served at this address",
    )
}

/// Whose client asks: each maker's SDK sends a header of its own.
fn list_format(headers: &hyper::HeaderMap) -> Format {
    if headers.contains_key("anthropic-version") {
        Format::Messages
    } else if headers.contains_key("x-goog-api-key") || headers.contains_key("x-goog-api-client") {
        Format::GenerateContent
    } else {
        Format::Chat
    }
}
