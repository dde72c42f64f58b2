//! The admin API and the metrics of a running Weir, over HTTP/1.1.
//!
//! This crate knows requests, who may make them, and how answers and errors look. What the answers
//! are it asks a [`Host`], which `app` implements; it knows nothing of kernels or packets. The
//! process that serves needs no privileges: listeners come bound.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/status` | [`status::Status`] |
//! | `GET /api/v1/flows` | a page of flow records |
//! | `GET /api/v1/flows/{id}` | one flow record |
//! | `GET /api/v1/flows/stream` | flow records as they end, one JSON object a line |
//! | `GET /api/v1/aggregates` | packets that are in no flow, by service |
//! | `GET /api/v1/programs` | every BPF program of the host |
//! | `POST /api/v1/tokens` | a new token; on the Unix socket only |
//! | `GET /api/v1/openapi.json` | these endpoints as an OpenAPI document |
//! | `GET /api/v1/gateway` | generation, providers and counts of the gateway |
//! | `GET, PUT, DELETE /api/v1/{providers,models,…}/{name}` | a document of the gateway |
//! | `POST /api/v1/apply` | many documents at once, all or none |
//! | `/api/v1/keys` | keys of consumers: made, rotated, revoked |
//! | `GET /api/v1/{calls,cost,audit,catalogue}` | records, sums, changes, models |
//! | `GET /metrics` | Prometheus text; needs no token |
//! | `GET /healthz` | `ok`; needs no token |
//!
//! A Unix socket is trusted when the other end runs as root or as the user Weir was started by. TCP
//! needs a token (`Authorization: Bearer weir_…`) and a `Host` that names this machine, so that a web
//! page cannot reach it by a name of its own that resolves here (DNS rebinding).

mod error;
pub mod gateway;
mod guard;
pub mod host;
mod io;
pub mod metrics;
pub mod openapi;
mod routes;
mod server;
pub mod status;
mod stream;
pub mod token;

pub use error::ApiError;
pub use host::Host;
pub use server::{ServeError, Settings, serve};
