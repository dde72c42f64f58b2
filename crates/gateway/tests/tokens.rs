//! Services that are called with tokens, and connections that become tunnels.

mod common;
#[path = "common/site.rs"]
mod site;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use common::{Answer, address, bind, serve, settings, text, wait_until};
use hyper::StatusCode;
use serde_json::{Value, json};
use site::{get, mirror, site};

#[test]
fn a_websocket_is_a_tunnel() {
    use std::io::{Read, Write};
    let socket = bind();
    let url = format!("http://{}", socket.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let (mut stream, _) = socket.accept().expect("a connection");
        let head = common::read_until(&mut stream, "\r\n\r\n").to_lowercase();
        assert!(
            head.contains("connection: upgrade") && head.contains("upgrade: websocket"),
            "{head}"
        );
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n")
            .expect("written");
        let mut buf = [0u8; 64];
        loop {
            match stream.read(&mut buf) {
                Ok(0) | Err(_) => return,
                Ok(n) => stream.write_all(&buf[..n].to_ascii_uppercase()).expect("written"),
            }
        }
    });
    let site = site(
        json!({ "services": [{ "name": "s", "auth": ["none"], "routes": [{ "path": "/*", "upstreams": [{ "url": url }] }] }]}),
    );
    let mut stream = common::connect(address(&site.server));
    stream
        .write_all(b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n")
        .expect("written");
    let head = common::read_until(&mut stream, "\r\n\r\n");
    assert!(
        head.starts_with("HTTP/1.1 101") && head.contains("sec-websocket-accept: x"),
        "{head}"
    );
    // Neither HTTP nor lines: nothing of ours looks at it any more.
    for (sent, expected) in [
        ("hello\n", "HELLO\n"),
        ("\n\nget / http/9\n", "\n\nGET / HTTP/9\n"),
    ] {
        stream.write_all(sent.as_bytes()).expect("written");
        assert_eq!(common::read_until(&mut stream, expected), expected);
    }
    drop(stream);
    wait_until("recorded", || {
        site.calls.0.lock().expect("not poisoned").len() == 1
    });
    let calls = site.calls.0.lock().expect("not poisoned");
    assert_eq!(
        (calls[0].status, calls[0].bytes_in, calls[0].bytes_out),
        (101, 21, 21)
    );
}

/// A token of these claims, signed with a shared secret.
fn hs256(secret: &str, claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("a token")
}

fn now_s() -> u64 {
    gateway::clock::unix_ms() / 1000
}

#[test]
fn tokens_of_a_shared_secret() {
    let upstream = serve(settings(), mirror);
    let url = format!("http://{}", address(&upstream));
    let site = site(json!({
        "consumers": [{ "name": "app", "keys": [{ "value": "sk-app" }] }],
        "services": [{
            "name": "s", "auth": ["jwt"],
            "jwt": { "secret": { "value": "0123456789abcdef0123456789abcdef" }, "issuer": "us", "audience": "them",
                "consumer_claim": "client", "leeway_s": 0 },
            "routes": [{ "path": "/*", "upstreams": [{ "url": url }] }],
        }]
    }));
    let claims = |change: Value| {
        let mut claims =
            json!({ "sub": "u1", "client": "app", "iss": "us", "aud": "them", "exp": now_s() + 60 });
        for (name, value) in change.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        claims
    };
    let check = |token: String, status: u16, code: &str| {
        let (got, _, body) = get(
            address(&site.server),
            "a",
            "/",
            &format!("authorization: Bearer {token}\r\n"),
        );
        assert_eq!(got, status, "{body}");
        assert!(body.contains(code), "{code} in {body}");
        assert!(!body.contains(&token), "the token went on");
    };
    let secret = "0123456789abcdef0123456789abcdef";
    check(hs256(secret, &claims(json!({}))), 200, "GET /");
    check(
        hs256(secret, &claims(json!({ "exp": now_s() - 60 }))),
        401,
        "token_expired",
    );
    check(
        hs256(secret, &claims(json!({ "nbf": now_s() + 60 }))),
        401,
        "token_not_yet_valid",
    );
    check(
        hs256(secret, &claims(json!({ "iss": "others" }))),
        401,
        "token_not_for_us",
    );
    check(
        hs256(secret, &claims(json!({ "aud": "others" }))),
        401,
        "token_not_for_us",
    );
    check(
        hs256(secret, &claims(json!({ "exp": null }))),
        401,
        "invalid_token",
    );
    check(
        hs256("another secret of the same length!", &claims(json!({}))),
        401,
        "invalid_token",
    );
    check(
        hs256(secret, &claims(json!({ "client": "nobody" }))),
        403,
        "unknown_consumer",
    );
    // `none` is no algorithm, and neither is a token without its signature.
    let good = hs256(secret, &claims(json!({})));
    let (head_and_claims, _) = good.rsplit_once('.').expect("three parts");
    check(format!("{head_and_claims}."), 401, "invalid_token");
    let (_, claims_part) = head_and_claims.split_once('.').expect("two parts");
    check(
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims_part}."),
        401,
        "invalid_token",
    );
}

#[test]
fn tokens_of_published_keys() {
    // Two Ed25519 keys; only the first is published.
    let keys: Vec<rcgen::KeyPair> = (0..2)
        .map(|_| rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key"))
        .collect();
    let jwk = |n: usize| {
        use rcgen::PublicKeyData;
        let x = base64_url(keys[n].der_bytes());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": format!("k{n}"), "use": "sig", "x": x })
    };
    let published = Arc::new(Mutex::new(json!({ "keys": [{ "kty": "unheard of" }, jwk(0)] })));
    let n_fetched = Arc::new(AtomicU64::new(0));
    let (serving, counting) = (Arc::clone(&published), Arc::clone(&n_fetched));
    let issuer = serve(settings(), move |_, _| -> Answer {
        counting.fetch_add(1, Relaxed);
        let set = serving.lock().expect("not poisoned").to_string();
        Box::pin(async move { text(StatusCode::OK, set) })
    });
    let upstream = serve(settings(), mirror);
    let url = format!("http://{}", address(&upstream));
    let site = site(json!({ "services": [{
        "name": "s", "auth": ["jwt"], "jwt": { "jwks_url": format!("http://{}/keys", address(&issuer)) },
        "routes": [{ "path": "/*", "upstreams": [{ "url": url }] }],
    }]}));
    let token = |n: usize, kid: &str| {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
        header.kid = Some(kid.to_owned());
        let key = jsonwebtoken::EncodingKey::from_ed_pem(keys[n].serialize_pem().as_bytes()).expect("a key");
        jsonwebtoken::encode(&header, &json!({ "sub": "u", "exp": now_s() + 60 }), &key).expect("a token")
    };
    let check = |token: &str, status: u16| {
        let (got, _, body) = get(
            address(&site.server),
            "a",
            "/",
            &format!("authorization: Bearer {token}\r\n"),
        );
        assert_eq!(got, status, "{body}");
    };
    for _ in 0..3 {
        check(&token(0, "k0"), 200);
    }
    assert_eq!(n_fetched.load(Relaxed), 1, "the set is kept");
    check(&token(1, "k0"), 401);
    check(&token(1, "k1"), 401);
    // A public key is no shared secret.
    let mut forged = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    forged.kid = Some("k0".to_owned());
    let secret = jsonwebtoken::EncodingKey::from_secret(keys[0].public_key_pem().as_bytes());
    let forged =
        jsonwebtoken::encode(&forged, &json!({ "sub": "u", "exp": now_s() + 60 }), &secret).expect("a token");
    check(&forged, 401);
    assert_eq!(
        n_fetched.load(Relaxed),
        1,
        "unknown ids do not lead to a fetch each"
    );
}

fn base64_url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, &byte| n << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(char::from(DIGITS[(n >> (18 - 6 * i)) as usize & 63]));
        }
    }
    out
}
