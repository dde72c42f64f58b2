//! The front of the gateway: what a request is for.
//!
//! Services with an exact host come first, then prompts and the AI paths, then services by path. What is
//! for nobody gets 404.

use crate::ai::{Ai, ingress};
use crate::body::{Body, Received};
use crate::live::{Live, Shared};
use crate::refusal::Refusal;
use crate::rest::{Found, Rest};
use crate::server::{ConnInfo, Handler};
use crate::upstream::{Client, ClientSettings};
use hyper::{Method, Request, Response, StatusCode};
use llm::format::Format;
use std::pin::Pin;
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

/// An answer in the making. Boxed, so that a connection keeps no room for it while there is none.
type Answering = Pin<Box<dyn Future<Output = Response<Body>>>>;

impl Handler for Front {
    fn handle(
        self: Rc<Self>,
        request: Request<Received>,
        conn: Rc<ConnInfo>,
    ) -> impl Future<Output = Response<Body>> + 'static {
        self.choose(request, conn)
    }
}

impl Front {
    fn choose(self: Rc<Self>, request: Request<Received>, conn: Rc<ConnInfo>) -> Answering {
        let live = self.shared.live();
        if let Some(found) = self.rest.find_exact(&live, &request) {
            return self.through_rest(request, conn, live, found);
        }
        let uri = request.uri().clone();
        let path = uri.path();
        if let Some(prompt) = live.snapshot.prompts.get(path) {
            let prompt = Arc::clone(prompt);
            return Box::pin(async move {
                if request.method() == Method::POST {
                    return self.ai.handle_prompt(request, &conn, &live, prompt).await;
                }
                let refusal = Refusal::wrong_method("a prompt is called with POST");
                self.ai.refuse(request, &conn, &refusal)
            });
        }
        if let Some(document) = self.ai.prompt_document(&live, path, request.method()) {
            return Box::pin(std::future::ready(document));
        }
        let list_format = list_format(request.headers());
        if let Some(ingress) = ingress::recognise(request.method(), path, uri.query(), list_format) {
            return Box::pin(async move { self.ai.handle(request, &conn, &live, &ingress).await });
        }
        if !live.services.is_empty() {
            let found = self.rest.find_other(&live, &request);
            return self.through_rest(request, conn, live, found);
        }
        Box::pin(async move { self.ai.refuse(request, &conn, &nothing_here()) })
    }

    fn through_rest(
        self: Rc<Self>,
        request: Request<Received>,
        conn: Rc<ConnInfo>,
        live: Arc<Live>,
        found: Found,
    ) -> Answering {
        Box::pin(async move { self.rest.handle(request, &conn, &live, found).await })
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
