//! Keys of clients: made, turned, ended. Each change is in the history, with who made it.

use control::gateway::{GatewayError, KeyQuery, NewKey};
use serde_json::{Value, json};
use store::civil::time_text;
use store::documents::{self as stored, IfMatch, Origin};
use store::identity::{Identity, IdentityError, NewKey as NewIdentity, PAGE_MAX};

use super::{GatewayAdmin, not_stored, unavailable, wait};

/// The kind under which keys stand in the history.
const KIND: &str = "keys";
/// The longest that a key, or the old text of a turned one, is valid: ten years.
const SPAN_S_MAX: u64 = 10 * 366 * 86_400;
const NAME_LEN_MAX: usize = 64;

impl GatewayAdmin {
    pub(super) fn list_keys(&self, query: &KeyQuery) -> Result<Value, GatewayError> {
        let limit = query.limit.unwrap_or(PAGE_MAX);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(invalid(
                "limit",
                format!("expected 1 to {PAGE_MAX}, found {limit}"),
            ));
        }
        // Where the page before ended: among those of documents, or behind them.
        let (mut of_documents, mut after_id) = (Some(String::new()), None);
        match query.cursor.as_deref().map(|cursor| cursor.split_once(':')) {
            None => {}
            Some(Some(("document", id))) => of_documents = Some(id.to_owned()),
            Some(Some(("made", id))) => (of_documents, after_id) = (None, Some(id.to_owned())),
            Some(_) => {
                let words = "expected what `next` of the page before gave";
                return Err(invalid("cursor", words.to_owned()));
            }
        }
        let now_ms = self.now_ms();
        let consumers: std::collections::HashSet<String> = self
            .state()
            .in_force
            .consumers
            .iter()
            .map(|one| one.name.to_string())
            .collect();
        let is_wanted = |key: &Identity| query.consumer.as_ref().is_none_or(|name| *name == *key.consumer);
        // One more than is shown tells whether there is another page.
        let mut found: Vec<Identity> = Vec::new();
        if let Some(after) = of_documents {
            found = self.static_keys();
            found.retain(|key| *key.id > *after && is_wanted(key));
            found.sort_by(|a, b| a.id.cmp(&b.id));
            found.truncate(limit + 1);
        }
        while found.len() <= limit {
            let wanted = (limit + 1 - found.len()).min(PAGE_MAX);
            let page = wait(
                self.identities
                    .list(query.consumer.clone(), after_id.clone(), wanted),
            );
            let page = page.map_err(|error| not_kept(&error))?;
            let is_last = page.len() < wanted;
            after_id = page.last().map(|last| last.id.to_string());
            found.extend(page);
            if is_last {
                break;
            }
        }
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| has_more).map(|last| {
            let origin = if last.is_from_file { "document" } else { "made" };
            format!("{origin}:{}", last.id)
        });
        let keys = found.iter().map(|key| shown(key, now_ms, &consumers));
        Ok(json!({ "keys": keys.collect::<Vec<_>>(), "next": next }))
    }

    /// Ends the keys of consumers that are no longer there, so that none of that name to come inherits them.
    pub(super) fn end_keys_of(
        &self,
        consumers: &[String],
        author: &str,
        dry_run: bool,
    ) -> Result<Vec<String>, GatewayError> {
        let mut ended = Vec::new();
        for consumer in consumers {
            let mut after_id = None;
            loop {
                let page = wait(self.identities.list(Some(consumer.clone()), after_id, PAGE_MAX));
                let page = page.map_err(|error| not_kept(&error))?;
                for key in page.iter().filter(|key| key.revoked_ms.is_none()) {
                    if !dry_run {
                        self.end_key(&key.id, author)?;
                    }
                    ended.push(key.id.to_string());
                }
                match page.last() {
                    Some(last) if page.len() == PAGE_MAX => after_id = Some(last.id.to_string()),
                    _ => break,
                }
            }
        }
        Ok(ended)
    }

    /// Keys that stand in documents.
    fn static_keys(&self) -> Vec<Identity> {
        let ids = self.state().in_force.static_keys.clone();
        let found = ids.iter().filter_map(|id| self.identities.find(id));
        found
            .map(|identity| (*identity).clone())
            .filter(|identity| identity.is_from_file)
            .collect()
    }

    pub(super) fn make_key(&self, key: &NewKey, author: &str) -> Result<Value, GatewayError> {
        let now_ms = self.now_ms();
        let (organisation, team) = self.owner(&key.consumer)?;
        let id = match &key.name {
            None => format!("{}-{}", key.consumer, hex(&random::<4>()?)),
            Some(name) if is_name(name) => name.clone(),
            Some(_) => {
                return Err(invalid(
                    "name",
                    format!("expected 1 to {NAME_LEN_MAX} letters, digits, `-`, `_`, `.`"),
                ));
            }
        };
        let expires_ms = match key.expires_in_s {
            None => None,
            Some(0) => return Err(invalid("expires_in_s", "expected a time above 0".to_owned())),
            Some(span_s) => Some(after(now_ms, span_s, "expires_in_s")?),
        };
        let new = NewIdentity {
            id,
            organisation,
            team,
            consumer: key.consumer.clone(),
            expires_ms,
        };
        self.add(new, author, now_ms)
    }

    pub(super) fn turn_key(&self, id: &str, grace_s: u64, author: &str) -> Result<Value, GatewayError> {
        let now_ms = self.now_ms();
        let old = self.made(id)?;
        let (organisation, team) = self.owner(&old.consumer)?;
        let grace_ms = after(now_ms, grace_s, "grace_s")?;
        let span_ms = old
            .expires_ms
            .map(|expires_ms| expires_ms.saturating_sub(old.created_ms));
        // Who turns a key for the third time finds `name.4`.
        let (base, count) = match id.rsplit_once('.') {
            Some((base, count)) if count.parse::<u32>().is_ok() => (base, count.parse().unwrap_or(1)),
            _ => (id, 1_u32),
        };
        let new = NewIdentity {
            id: format!("{base}.{}", count.saturating_add(1)),
            organisation,
            team,
            consumer: old.consumer.to_string(),
            expires_ms: span_ms.map(|span_ms| now_ms.saturating_add(span_ms)),
        };
        let made = self.add(new, author, now_ms)?;
        if grace_s == 0 {
            self.end_key(id, author)?;
            return Ok(made);
        }
        let ends_ms = old
            .expires_ms
            .map_or(grace_ms, |expires_ms| expires_ms.min(grace_ms));
        wait(self.identities.set_expiry(id, Some(ends_ms))).map_err(|error| not_kept(&error))?;
        let until = Identity {
            expires_ms: Some(ends_ms),
            ..old
        };
        self.note(id, Some(&until), author, now_ms)?;
        Ok(made)
    }

    pub(super) fn end_key(&self, id: &str, author: &str) -> Result<(), GatewayError> {
        self.made(id)?;
        let now_ms = self.now_ms();
        let was_there = wait(self.identities.revoke(id, now_ms)).map_err(|error| not_kept(&error))?;
        if !was_there {
            return Err(GatewayError::NotFound(format!("keys/{id}")));
        }
        // It is refused from here on, whether or not the history can be written.
        self.note(id, None, author, now_ms)
    }

    /// A key that was made here and is in force.
    fn made(&self, id: &str) -> Result<Identity, GatewayError> {
        let found = self
            .identities
            .find(id)
            .ok_or_else(|| GatewayError::NotFound(format!("keys/{id}")))?;
        if found.is_from_file {
            return Err(GatewayError::Conflict(format!(
                "the key `{id}` stands in the document of consumer `{}`: change it there",
                found.consumer
            )));
        }
        Ok((*found).clone())
    }

    /// Organisation and team of a consumer.
    fn owner(&self, consumer: &str) -> Result<(String, String), GatewayError> {
        let state = self.state();
        let found = state.in_force.consumers.iter().find(|one| &*one.name == consumer);
        found
            .map(|one| (one.organisation.to_string(), one.team.to_string()))
            .ok_or_else(|| {
                invalid(
                    "consumer",
                    format!("no consumer is called `{consumer}`: `weir get consumers` lists them"),
                )
            })
    }

    fn add(&self, new: NewIdentity, author: &str, now_ms: i64) -> Result<Value, GatewayError> {
        let random = random::<32>()?;
        let made = wait(self.identities.create(new, &random, &self.hasher, now_ms));
        let (key, identity) = made.map_err(|error| not_kept(&error))?;
        if let Err(error) = self.note(&identity.id, Some(&identity), author, now_ms) {
            // A key that nobody can account for must not live.
            if let Err(error) = wait(self.identities.revoke(&identity.id, now_ms)) {
                tracing::error!(key = %identity.id, reason = %error, "a key that is not in the history cannot be revoked");
            }
            return Err(error);
        }
        let mut answer = facts(&identity);
        answer["key"] = key.expose().into();
        Ok(answer)
    }

    /// Writes to the history what became of a key.
    fn note(&self, id: &str, key: Option<&Identity>, author: &str, now_ms: i64) -> Result<(), GatewayError> {
        let action = match key {
            Some(key) => stored::Action::Put {
                body: facts(key),
                secrets: Vec::new(),
            },
            None => stored::Action::Delete,
        };
        let change = stored::Change {
            kind: KIND.to_owned(),
            name: id.to_owned(),
            origin: Origin::Api,
            if_match: IfMatch::Any,
            action,
        };
        match self.state().store.write(&[change], author, now_ms) {
            // A key from before its history: there is nothing to end there.
            Ok(_) | Err(stored::CatalogueError::NotFound { .. }) => Ok(()),
            Err(error) => Err(not_stored(error)),
        }
    }
}

fn facts(key: &Identity) -> Value {
    json!({
        "id": &*key.id,
        "consumer": &*key.consumer,
        "organisation": &*key.organisation,
        "team": &*key.team,
        "shown": &*key.shown,
        "created": time_text(key.created_ms),
        "expires": key.expires_ms.map(time_text),
    })
}

fn shown(key: &Identity, now_ms: i64, consumers: &std::collections::HashSet<String>) -> Value {
    let state = if key.revoked_ms.is_some() {
        "revoked"
    } else if !key.is_valid(now_ms) {
        "expired"
    } else if !consumers.contains(&*key.consumer) {
        "no_consumer"
    } else {
        "valid"
    };
    let mut out = facts(key);
    out["state"] = state.into();
    out["origin"] = if key.is_from_file { "document" } else { "api" }.into();
    if key.is_from_file {
        out["created"] = Value::Null;
    }
    out["revoked"] = key.revoked_ms.map(time_text).into();
    out
}

fn is_name(name: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn after(now_ms: i64, span_s: u64, field: &str) -> Result<i64, GatewayError> {
    if span_s > SPAN_S_MAX {
        return Err(invalid(
            field,
            format!("expected at most {SPAN_S_MAX} seconds (ten years)"),
        ));
    }
    Ok(now_ms.saturating_add_unsigned(span_s * 1000))
}

fn invalid(field: &str, words: String) -> GatewayError {
    GatewayError::Invalid(vec![(field.to_owned(), words)])
}

fn not_kept(error: &IdentityError) -> GatewayError {
    match error {
        IdentityError::Exists { .. } | IdentityError::Full => GatewayError::Conflict(error.to_string()),
        IdentityError::Store(_) => unavailable("the keys", error),
    }
}

fn random<const N: usize>() -> Result<[u8; N], GatewayError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| GatewayError::Unavailable(format!("this host gives no random bytes: {error}")))?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
