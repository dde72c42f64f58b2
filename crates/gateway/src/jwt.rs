//! JSON Web Tokens (RFC 7519) of others, by their published keys (RFC 7517).
//!
//! The kind of key decides which algorithms are possible, never the token: a public key is not taken for a shared
//! secret, and `none` is no algorithm. Key sets are fetched when they are needed and kept for [`KEYS_FOR_MS`]; a token
//! with an unknown key id leads to another look, at most every [`LOOK_AGAIN_MS`]. A set that cannot be fetched leaves
//! the last one in force.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::{Request, StatusCode};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use policy::gateway::service::Jwt;
use policy::gateway::snapshot::Snapshot;
use serde_json::{Map, Value};
use store::outcome::Outcome;

use crate::auth::Principal;
use crate::body::Body;
use crate::clock;
use crate::refusal::Refusal;
use crate::upstream::trust::Trust;
use crate::upstream::{Client, EgressRule, Origin, Protocol, Timeouts};

/// How long a set of keys is used without another look.
pub const KEYS_FOR_MS: u64 = 600_000;
/// How soon an unknown key id may lead to another look.
pub const LOOK_AGAIN_MS: u64 = 10_000;
/// Bytes of a key set.
const SET_BYTES_MAX: u64 = 256 * 1024;
/// Keys of a set.
const KEYS_MAX: usize = 64;
/// Sets remembered.
const SETS_MAX: usize = 256;
/// For all of a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How far clocks may differ, unless the configuration says.
const LEEWAY_S: u32 = 30;

/// Key sets that were read, by where they come from.
#[derive(Default)]
pub struct KeySets {
    sets: Mutex<HashMap<Arc<str>, Entry>>,
}

impl std::fmt::Debug for KeySets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeySets")
    }
}

struct Entry {
    keys: Arc<Vec<Key>>,
    /// When it was read, or it was tried to.
    looked_ms: u64,
}

struct Key {
    id: Option<String>,
    /// What it can be used for, of its kind; or the one it says.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Why a token does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Not a token, or signed by nobody known.
    Invalid,
    /// It was valid.
    Expired,
    /// It will be valid.
    NotYet,
    /// Made by or for somebody else.
    NotForUs,
    /// The keys cannot be had.
    NoKeys,
}

impl Refused {
    /// Is the token at fault, and not the way to its keys?
    pub(crate) fn is_of_client(self) -> bool {
        self != Refused::NoKeys
    }

    pub(crate) fn refusal(self) -> Refusal {
        let (code, message) = match self {
            Refused::Invalid => (
                "invalid_token",
                "the token is malformed, or not signed by a known key",
            ),
            Refused::Expired => ("token_expired", "the token has expired"),
            Refused::NotYet => ("token_not_yet_valid", "the token is not valid yet"),
            Refused::NotForUs => (
                "token_not_for_us",
                "the token is of another issuer, or for another audience",
            ),
            Refused::NoKeys => {
                let message = "tokens cannot be checked at the moment";
                return Refusal::new(
                    Outcome::Internal,
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no_token_keys",
                    message,
                );
            }
        };
        Refusal::new(Outcome::Unauthenticated, StatusCode::UNAUTHORIZED, code, message)
    }
}

/// Has it the form of a token?
pub(crate) fn is_token(credential: &str) -> bool {
    credential.bytes().filter(|&byte| byte == b'.').count() == 2
}

/// Checks a token and gives its claims.
pub(crate) async fn verify(
    token: &str,
    rules: &Jwt,
    sets: &KeySets,
    client: &Client,
    trust: &Trust,
) -> Result<Map<String, Value>, Refused> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Invalid)?;
    let named = &rules.document.algorithms;
    if !named.is_empty()
        && !named
            .iter()
            .any(|name| Algorithm::from_str(name).is_ok_and(|one| one == header.alg))
    {
        return Err(Refused::Invalid);
    }
    if let Some(secret) = &rules.secret {
        let algorithms = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        return decode(
            token,
            rules,
            header.alg,
            &algorithms,
            &DecodingKey::from_secret(secret.expose().as_bytes()),
        );
    }
    let mut keys = sets.get(rules, client, trust, false).await?;
    let is_known = |keys: &[Key]| header.kid.is_none() || keys.iter().any(|key| key.id == header.kid);
    if !is_known(&keys) {
        keys = sets.get(rules, client, trust, true).await?;
    }
    let mut refused = Refused::Invalid;
    for key in keys.iter() {
        let is_named = match (&header.kid, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            // A token that names none may be by any of them.
            _ => header.kid.is_none() || keys.len() == 1,
        };
        if !is_named || !key.algorithms.contains(&header.alg) {
            continue;
        }
        match decode(token, rules, header.alg, &key.algorithms, &key.key) {
            Ok(claims) => return Ok(claims),
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

fn decode(
    token: &str,
    rules: &Jwt,
    algorithm: Algorithm,
    possible: &[Algorithm],
    key: &DecodingKey,
) -> Result<Map<String, Value>, Refused> {
    if !possible.contains(&algorithm) {
        return Err(Refused::Invalid);
    }
    let document = &rules.document;
    let mut validation = Validation::new(algorithm);
    validation.leeway = document.leeway_s.unwrap_or(LEEWAY_S).into();
    validation.validate_nbf = true;
    validation.validate_aud = document.audience.is_some();
    if let Some(audience) = &document.audience {
        validation.set_audience(&[audience]);
        validation.required_spec_claims.insert("aud".to_owned());
    }
    if let Some(issuer) = &document.issuer {
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.insert("iss".to_owned());
    }
    match jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation) {
        Ok(data) => Ok(data.claims),
        Err(error) => Err(match error.kind() {
            ErrorKind::ExpiredSignature => Refused::Expired,
            ErrorKind::ImmatureSignature => Refused::NotYet,
            ErrorKind::InvalidAudience | ErrorKind::InvalidIssuer => Refused::NotForUs,
            ErrorKind::MissingRequiredClaim(claim) if claim == "aud" || claim == "iss" => Refused::NotForUs,
            _ => Refused::Invalid,
        }),
    }
}

/// Whom a token names. With `consumer_claim` in the configuration it must be a consumer; else it may be one.
pub(crate) fn principal(
    claims: &Map<String, Value>,
    rules: &Jwt,
    snapshot: &Snapshot,
) -> Result<Principal, Refusal> {
    let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
    let subject: Arc<str> = text("sub").unwrap_or_default().into();
    let claim = rules.document.consumer_claim.as_deref();
    let name = text(claim.unwrap_or("sub"));
    match name.and_then(|name| snapshot.consumers.get(name)) {
        Some(consumer) => Ok(Principal {
            consumer: Arc::clone(consumer),
            key_id: subject,
        }),
        None if claim.is_none() => Ok(Principal {
            key_id: subject,
            ..Principal::anybody()
        }),
        None => Err(Refusal::new(
            Outcome::Forbidden,
            StatusCode::FORBIDDEN,
            "unknown_consumer",
            "the token names no consumer that is known here",
        )),
    }
}

impl KeySets {
    async fn get(
        &self,
        rules: &Jwt,
        client: &Client,
        trust: &Trust,
        look_again: bool,
    ) -> Result<Arc<Vec<Key>>, Refused> {
        if let Some(text) = &rules.jwks {
            // By its content: another file content is another set.
            let name: Arc<str> = format!("file:{:016x}", crate::limits::subject(&[text])).into();
            return match self.known(&name) {
                Some((keys, _)) => Ok(keys),
                None => Ok(self.keep(name, read(text.as_bytes()).ok_or(Refused::NoKeys)?)),
            };
        }
        let Some(url) = &rules.document.jwks_url else {
            return Err(Refused::NoKeys);
        };
        let name: Arc<str> = url.as_str().into();
        let known = self.known(&name);
        let now_ms = clock::now_ms();
        if let Some((keys, looked_ms)) = &known {
            let age_ms = now_ms.saturating_sub(*looked_ms);
            if age_ms < LOOK_AGAIN_MS || age_ms < KEYS_FOR_MS && !look_again {
                return Ok(Arc::clone(keys));
            }
            // Others go on with what there is meanwhile.
            self.touch(&name, now_ms);
        }
        match fetch(url, client, trust).await {
            Ok(keys) => Ok(self.keep(name, keys)),
            Err(why) => {
                tracing::warn!(url, why, "a key set cannot be read");
                known.map(|(keys, _)| keys).ok_or(Refused::NoKeys)
            }
        }
    }

    fn known(&self, name: &str) -> Option<(Arc<Vec<Key>>, u64)> {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.get(name)
            .map(|entry| (Arc::clone(&entry.keys), entry.looked_ms))
    }

    fn touch(&self, name: &str, now_ms: u64) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = sets.get_mut(name) {
            entry.looked_ms = now_ms;
        }
    }

    fn keep(&self, name: Arc<str>, keys: Vec<Key>) -> Arc<Vec<Key>> {
        let keys = Arc::new(keys);
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.len() >= SETS_MAX {
            // Names come from the configuration: so many are left from earlier ones.
            sets.clear();
        }
        sets.insert(
            name,
            Entry {
                keys: Arc::clone(&keys),
                looked_ms: clock::now_ms(),
            },
        );
        keys
    }
}

async fn fetch(url: &str, client: &Client, trust: &Trust) -> Result<Vec<Key>, &'static str> {
    // The URL stands in the operator's own configuration.
    let egress = EgressRule { allow_literal: true };
    let origin = Origin::new(url, Protocol::Auto, egress, trust.clone()).map_err(|_| "not a URL")?;
    let mut request = Request::new(Body::Empty);
    *request.uri_mut() = url.parse().map_err(|_| "not a URL")?;
    let timeouts = Timeouts {
        connect: FETCH_TIMEOUT,
        first_byte: FETCH_TIMEOUT,
        idle: FETCH_TIMEOUT,
    };
    let reply = client
        .call(&Arc::new(origin), request, &timeouts)
        .await
        .map_err(|error| {
            tracing::debug!(%error, "fetching a key set");
            "no answer"
        })?;
    if reply.response.status() != StatusCode::OK {
        return Err("an answer other than 200");
    }
    let body = reply
        .response
        .into_body()
        .collect(SET_BYTES_MAX)
        .await
        .map_err(|_| "broken off, or too long")?;
    read(&body).ok_or("no set of usable keys")
}

/// Reads a set; keys of other kinds and uses are left out.
fn read(text: &[u8]) -> Option<Vec<Key>> {
    // By hand: one key of an unknown kind must not spoil the others.
    let set: Value = serde_json::from_slice(text).ok()?;
    let mut usable = Vec::new();
    for key in set.get("keys")?.as_array()?.iter().take(KEYS_MAX) {
        let Ok(JwkSet { keys }) = serde_json::from_value(serde_json::json!({ "keys": [key] })) else {
            continue;
        };
        let Some(jwk) = keys.into_iter().next() else {
            continue;
        };
        if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
            continue;
        }
        let possible: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            AlgorithmParameters::EllipticCurve(_) => &[Algorithm::ES256, Algorithm::ES384],
            AlgorithmParameters::OctetKeyPair(_) => &[Algorithm::EdDSA],
            // A shared secret does not belong into a published set.
            _ => continue,
        };
        let Ok(decoding) = DecodingKey::from_jwk(&jwk) else {
            continue;
        };
        let said = jwk
            .common
            .key_algorithm
            .and_then(|said| Algorithm::from_str(&said.to_string()).ok());
        let algorithms = match said {
            Some(said) => possible.iter().copied().filter(|one| *one == said).collect(),
            None => possible.to_vec(),
        };
        usable.push(Key {
            id: jwk.common.key_id,
            algorithms,
            key: decoding,
        });
    }
    (!usable.is_empty()).then_some(usable)
}
