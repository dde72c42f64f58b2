//! HTTP and what grew out of it.

mod credentials;
mod http;
mod http2;
mod websocket;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[&http::Http, &http2::Http2, &websocket::WebSocket];
