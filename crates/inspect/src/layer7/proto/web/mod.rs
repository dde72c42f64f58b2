//! HTTP and what grew out of it.

mod credentials;
mod fastcgi;
mod haproxy;
mod http;
mod http2;
mod json_rpc;
mod mpeg_ts;
mod rtmp;
mod rtsp;
mod versions;
mod websocket;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[
    &http::Http,
    &http2::Http2,
    &http2::Doh2,
    &websocket::WebSocket,
    &rtsp::Rtsp,
    &rtmp::Rtmp,
    &mpeg_ts::MpegTs,
    &fastcgi::FastCgi,
    &haproxy::HaProxy,
    &versions::Git,
    &versions::Svn,
    &versions::Rsync,
    &json_rpc::JsonRpc,
];
