//! JSON Web Tokens by keys in a file, and keys that change.

use super::*;
use common::upstream::Upstream;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// Of these tests and nothing else.
const RSA: &[u8] = include_bytes!("rsa.pem");

struct Signer {
    id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Signer {
    fn rs256(id: &'static str) -> Signer {
        Signer {
            id,
            algorithm: Algorithm::RS256,
            key: EncodingKey::from_rsa_pem(RSA).expect("a key"),
        }
    }

    fn es256(id: &'static str) -> Signer {
        let pair = rcgen::KeyPair::generate().expect("a key");
        Signer {
            id,
            algorithm: Algorithm::ES256,
            key: EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a key"),
        }
    }

    /// What is published of it.
    fn public(&self) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).expect("a public key");
        jwk.common.key_id = Some(self.id.to_owned());
        jwk
    }

    fn token(&self, expires_in_s: i64) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_s = i64::try_from(now.expect("a time").as_secs()).expect("a time");
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.to_owned());
        let claims = json!({"sub": "shop", "iss": "us", "aud": "them", "exp": now_s + expires_in_s});
        jsonwebtoken::encode(&header, &claims, &self.key).expect("a token")
    }
}

fn publish(file: &std::path::Path, signers: &[&Signer]) {
    let keys = signers.iter().map(|signer| signer.public()).collect();
    let text = serde_json::to_string(&JwkSet { keys }).expect("JSON");
    std::fs::write(file, text).expect("written");
}

fn status(weir: &Gateway, token: &str) -> (u16, String) {
    let bearer = format!("Bearer {token}");
    let answer = http::call(weir.addr, "GET", "/x", &[("authorization", &bearer)], b"");
    (answer.status, answer.text().to_owned())
}

#[test]
fn tokens_by_a_file_of_keys_that_change() {
    if !own_network() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.json");
    let (rs, old, new) = (Signer::rs256("rs"), Signer::es256("old"), Signer::es256("new"));
    publish(&file, &[&rs, &old]);
    let upstream = Upstream::start(None);
    let weir = Gateway::start(&format!(
        "gateway: {{ listen: [\"127.0.0.1:8080\"] }}\n\
         consumers: [{{ name: shop }}]\n\
         services: [{{ name: s, auth: [jwt], jwt: {{ jwks_file: {}, issuer: us, audience: them, leeway_s: 0 }}, \
         routes: [{{ path: /*, upstreams: [{{ url: \"http://{}\" }}] }}] }}]\n",
        file.display(),
        upstream.addr
    ));
    let check = |token: &str, expected: u16, words: &str| {
        let (got, said) = status(&weir, token);
        assert!(got == expected && said.contains(words), "{got} {said}");
    };
    let reload = || {
        let before = weir.n_said("is in force");
        weir.signal(nix::sys::signal::Signal::SIGHUP);
        weir.wait_to_say("is in force", before);
    };
    check(&rs.token(60), 200, "GET /x");
    check(&old.token(60), 200, "GET /x");
    check(&new.token(60), 401, "invalid_token");
    check(&rs.token(-60), 401, "token_expired");
    check(&old.token(-60), 401, "token_expired");
    // Signed by another key under a known name, and by the public key as if it were a shared secret.
    let forged = Signer {
        id: "old",
        ..Signer::es256("old")
    };
    check(&forged.token(60), 401, "invalid_token");
    let public = serde_json::to_vec(&rs.public()).expect("JSON");
    for secret in [RSA, &public] {
        let confused = Signer {
            id: "rs",
            algorithm: Algorithm::HS256,
            key: EncodingKey::from_secret(secret),
        };
        check(&confused.token(60), 401, "invalid_token");
    }

    // Both keys, then the new one alone: who changes in between is never refused.
    let (is_new, is_over, n_done) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let _end = OnDrop(&is_over);
                while !is_over.load(Relaxed) {
                    let signer = if is_new.load(Relaxed) { &new } else { &old };
                    let (got, said) = status(&weir, &signer.token(60));
                    assert_eq!(got, 200, "{said}");
                    n_done.fetch_add(1, Relaxed);
                }
            });
        }
        let _end = OnDrop(&is_over);
        let go_on = || {
            let wanted = n_done.load(Relaxed) + 50;
            wait_for("requests are answered", || {
                n_done.load(Relaxed) >= wanted || is_over.load(Relaxed)
            });
        };
        go_on();
        publish(&file, &[&old, &new]);
        reload();
        check(&rs.token(60), 401, "invalid_token");
        is_new.store(true, Relaxed);
        go_on();
        publish(&file, &[&new]);
        reload();
        check(&old.token(60), 401, "invalid_token");
        go_on();
        // A file that is no set of keys changes nothing.
        std::fs::write(&file, "{").expect("written");
        weir.signal(nix::sys::signal::Signal::SIGHUP);
        weir.wait_to_say("not taken", 0);
        go_on();
    });
    println!("{} requests over two changes of keys", n_done.load(Relaxed));
}

/// Callers end also where a check fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
