//! What tests and demonstrations ask of the simulator itself, under `/sim/`.

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use std::sync::atomic::Ordering;

use super::body::{Cut, SimBody};
use super::fault::Fault;
use super::serve::{Server, document, insert, said};

const BODY_BYTES_MAX: usize = 64 * 1024;

pub(crate) async fn handle(server: &Server, request: Request<Incoming>) -> Result<Response<SimBody>, Cut> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let response = match (&method, path.as_str()) {
        (&Method::GET, "/sim/calls") => {
            let (lines, dropped) = server.journal.lines();
            let mut response = Response::new(SimBody::full(lines));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
            insert(headers, "x-sim-dropped", &dropped.to_string());
            response
        }
        (&Method::DELETE, "/sim/calls") => {
            server.journal.clear();
            no_content()
        }
        (&Method::DELETE, "/sim/cache") => {
            server.cache.clear();
            no_content()
        }
        (&Method::GET, "/sim/stats") => {
            let (begun, kept, dropped) = server.journal.counts();
            let connections = server.connections.load(Ordering::Relaxed);
            let stats = json!({"connections": connections, "calls": begun, "kept": kept, "dropped": dropped});
            document(StatusCode::OK, &stats)
        }
        (&Method::GET, "/sim/fault") => document(StatusCode::OK, &json!(*server.lock_fault())),
        (&Method::DELETE, "/sim/fault") => {
            server.set_fault(Fault::default());
            no_content()
        }
        (&Method::PUT, "/sim/fault") => {
            match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
                Ok(body) => set_fault(server, &body.to_bytes()),
                Err(_) => said(StatusCode::PAYLOAD_TOO_LARGE, "expected a fault of a few fields"),
            }
        }
        _ => said(
            StatusCode::NOT_FOUND,
            "expected GET or DELETE /sim/calls, GET /sim/stats, DELETE /sim/cache, or GET, PUT or DELETE /sim/fault",
        ),
    };
    Ok(response)
}

fn set_fault(server: &Server, body: &[u8]) -> Response<SimBody> {
    let fault: Fault = match serde_json::from_slice(body) {
        Ok(fault) => fault,
        Err(error) => {
            let sentence = format!("expected {{\"down\", \"status\", \"percent\", \"delay_ms\"}}: {error}");
            return said(StatusCode::BAD_REQUEST, &sentence);
        }
    };
    if fault.status.is_some_and(|status| !(400..600).contains(&status)) {
        return said(StatusCode::BAD_REQUEST, "status: expected 400 to 599");
    }
    if fault.percent.is_some_and(|percent| percent > 100) {
        return said(StatusCode::BAD_REQUEST, "percent: expected 0 to 100");
    }
    server.set_fault(fault);
    no_content()
}

fn no_content() -> Response<SimBody> {
    let mut response = Response::new(SimBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
