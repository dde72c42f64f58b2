//! Access tokens for Google Vertex: a service account's key signs a claim (RFC 7523), which the token
//! endpoint exchanges for a token of an hour. A key that is no JSON is taken for a token itself.

use crate::body::Body;
use crate::upstream::{Client, EgressRule, Origin, Protocol, Timeouts, trust::Trust};
use hyper::http::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::{Method, Request};
use policy::gateway::snapshot::ProviderKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// What is asked for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// A token is renewed this long before its end.
const MARGIN_S: u64 = 300;
/// The longest that a claim may hold.
const CLAIM_S: u64 = 3600;
/// The longest answer of a token endpoint.
const ANSWER_MAX_BYTES: u64 = 64 << 10;

/// Tokens of one thread.
#[derive(Debug)]
pub(super) struct Tokens {
    client: Client,
    trust: Trust,
    /// By the hash of the account's key, so that a replaced key gets a token of its own.
    known: RefCell<HashMap<[u8; 32], Token>>,
}

#[derive(Clone)]
struct Token {
    text: Arc<str>,
    until_s: u64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("until_s", &self.until_s)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Account {
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: Option<String>,
    token_uri: String,
}

#[derive(Serialize)]
struct Claim<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Tokens {
    pub(super) fn new(client: Client, trust: Trust) -> Self {
        Self {
            client,
            trust,
            known: RefCell::default(),
        }
    }

    /// The token for a key: a kept one, or a new one.
    ///
    /// # Errors
    /// One sentence for the log, without a secret.
    pub(super) async fn get(&self, key: &ProviderKey) -> Result<Arc<str>, String> {
        let text = key.secret.expose();
        if !text.starts_with('{') {
            return Ok(text.into());
        }
        let now_s = crate::clock::unix_ms() / 1000;
        let hash = <[u8; 32]>::from(Sha256::digest(text));
        let known = self.known.borrow().get(&hash).cloned();
        if let Some(token) = known.filter(|token| token.until_s > now_s + MARGIN_S) {
            return Ok(token.text);
        }
        let account: Account =
            serde_json::from_str(text).map_err(|_| "its key is no service account's JSON".to_owned())?;
        let granted = self.exchange(&account, now_s).await?;
        let token = Token {
            text: granted.access_token.into(),
            until_s: now_s + granted.expires_in.unwrap_or(CLAIM_S).min(CLAIM_S),
        };
        let mut known = self.known.borrow_mut();
        // Those of keys that are no longer there end so too.
        known.retain(|_, token| token.until_s > now_s);
        known.insert(hash, token.clone());
        Ok(token.text)
    }

    async fn exchange(&self, account: &Account, now_s: u64) -> Result<Granted, String> {
        let claim = Claim {
            iss: &account.client_email,
            scope: SCOPE,
            aud: &account.token_uri,
            iat: now_s,
            exp: now_s + CLAIM_S,
        };
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
        header.kid.clone_from(&account.private_key_id);
        let key = jsonwebtoken::EncodingKey::from_rsa_pem(account.private_key.as_bytes())
            .map_err(|_| "the private key of its service account is no RSA key in PEM".to_owned())?;
        let assertion = jsonwebtoken::encode(&header, &claim, &key)
            .map_err(|_| "its service account cannot sign".to_owned())?;
        let uri: hyper::http::Uri = account
            .token_uri
            .parse()
            .map_err(|_| "the token_uri of its service account is no address".to_owned())?;
        let is_literal = uri
            .host()
            .is_some_and(|host| host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok());
        let egress = EgressRule {
            allow_literal: is_literal,
        };
        let origin = Origin::new(&account.token_uri, Protocol::Auto, egress, self.trust.clone())
            .map_err(|error| error.to_string())?;
        let form =
            format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
        let mut request = Request::new(Body::full(form));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        request.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let failed = |words: &str| format!("its token endpoint {words}");
        let reply = self
            .client
            .call(&Arc::new(origin), request, &Timeouts::default())
            .await
            .map_err(|error| failed(&format!("cannot be asked: {error}")))?;
        let status = reply.response.status();
        let body = reply
            .response
            .into_body()
            .collect(ANSWER_MAX_BYTES)
            .await
            .map_err(|_| failed("broke off"))?;
        if !status.is_success() {
            return Err(failed(&format!("answered with {status}")));
        }
        serde_json::from_slice(&body).map_err(|_| failed("gave no token"))
    }
}
