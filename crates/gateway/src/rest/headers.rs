//! Headers between client and upstream: what belongs to a connection goes no further, and who called is told anew.

use std::io::Write;
use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{
    CONNECTION, EXPECT, FORWARDED, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRANSFER_ENCODING, UPGRADE,
};

use crate::server::ConnInfo;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Takes away what is of one connection only (RFC 9110, 7.6.1). Gives the protocol asked for by `upgrade`.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let mut upgrade = None;
    if headers.contains_key(CONNECTION) {
        let connection: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
        headers.remove(CONNECTION);
        for value in &connection {
            for name in value.to_str().unwrap_or_default().split(',').map(str::trim) {
                if name.eq_ignore_ascii_case("upgrade") {
                    upgrade = headers.get(UPGRADE).cloned();
                } else if let Ok(name) = HeaderName::from_bytes(name.as_bytes())
                    // Nobody may have the host taken away, or what says how long the body is.
                    && name != HOST
                    && name != hyper::header::CONTENT_LENGTH
                {
                    headers.remove(name);
                }
            }
        }
    }
    for name in [
        UPGRADE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TRANSFER_ENCODING,
        HTTP2_SETTINGS,
    ] {
        headers.remove(name);
    }
    if let Some(te) = headers.get(TE) {
        // All that HTTP/2 lets pass, and gRPC needs.
        let has_trailers = te
            .to_str()
            .unwrap_or_default()
            .split(',')
            .any(|part| part.trim().eq_ignore_ascii_case("trailers"));
        headers.remove(TE);
        if has_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    upgrade
}

/// Says who called. What the client itself says of it is not passed on: it may say anything.
pub(super) fn forward(headers: &mut HeaderMap, conn: &ConnInfo, host: Option<&HeaderValue>) {
    headers.remove(FORWARDED);
    headers.remove(X_REAL_IP);
    headers.remove(X_FORWARDED_PORT);
    // The server has answered `100 Continue` when the body is asked for.
    headers.remove(EXPECT);
    headers.insert(X_FORWARDED_FOR, address(conn.peer.ip()));
    let proto = if conn.tls.is_some() { "https" } else { "http" };
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    match host {
        Some(host) => headers.insert(X_FORWARDED_HOST, host.clone()),
        None => headers.remove(X_FORWARDED_HOST),
    };
}

fn address(ip: IpAddr) -> HeaderValue {
    let mut text = [0u8; 48];
    let mut rest = text.as_mut_slice();
    // No address is that long.
    let _ = write!(rest, "{}", ip.to_canonical());
    let left = rest.len();
    HeaderValue::from_bytes(&text[..48 - left]).unwrap_or(HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop() {
        let check = |headers: &[(&'static str, &str)], upgrade: Option<&str>, left: &[(&str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().expect("a value"));
            }
            let found = strip_hop_by_hop(&mut map);
            assert_eq!(
                found.as_ref().and_then(|value| value.to_str().ok()),
                upgrade,
                "{headers:?}"
            );
            let map: Vec<_> = map
                .iter()
                .map(|(k, v)| (k.as_str(), v.to_str().expect("text")))
                .collect();
            assert_eq!(map, left);
        };
        check(
            &[("accept", "a"), ("keep-alive", "5"), ("proxy-authorization", "x")],
            None,
            &[("accept", "a")],
        );
        check(
            &[("connection", "close, x-mine"), ("x-mine", "1"), ("x-other", "2")],
            None,
            &[("x-other", "2")],
        );
        check(
            &[
                ("connection", "x-a"),
                ("connection", "x-b"),
                ("x-a", "1"),
                ("x-b", "1"),
            ],
            None,
            &[],
        );
        check(
            &[("connection", "host, content-length"), ("content-length", "3")],
            None,
            &[("content-length", "3")],
        );
        check(
            &[("connection", "Upgrade"), ("upgrade", "websocket")],
            Some("websocket"),
            &[],
        );
        // Without `connection` it is no upgrade.
        check(&[("upgrade", "websocket")], None, &[]);
        check(&[("te", "gzip, trailers")], None, &[("te", "trailers")]);
        check(&[("te", "gzip")], None, &[]);
    }
}
