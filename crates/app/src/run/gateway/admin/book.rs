//! All documents, of the file and of the API, and what they compile to.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use control::gateway::{Document, Kind};
use llm::catalogue::Catalogue;
use policy::gateway::compile::{Fault, Outside};
use policy::gateway::document::Documents;
use policy::gateway::snapshot::Snapshot;
use serde_json::{Map, Value};
use store::documents::{self as stored, IfMatch, Origin};
use store::identity::{Identities, Identity, shown};
use store::seal::KeyHasher;

use crate::config::gateway::{self as compiled, Recorded, Recorder};
use crate::config::secrets;

/// Where and what: `providers/openai: keys[0].env`.
pub(crate) type Faults = Vec<(String, String)>;

/// A document of the API.
#[derive(Clone, PartialEq)]
pub(super) struct Stored {
    pub(super) version: u64,
    /// With its secrets.
    pub(super) body: Value,
}

/// Documents of the API by kind and name.
#[derive(Clone, Default, PartialEq)]
pub(super) struct ApiDocuments([BTreeMap<String, Stored>; Kind::ALL.len()]);

impl ApiDocuments {
    pub(super) fn of(&self, kind: Kind) -> &BTreeMap<String, Stored> {
        &self.0[kind as usize]
    }

    pub(super) fn of_mut(&mut self, kind: Kind) -> &mut BTreeMap<String, Stored> {
        &mut self.0[kind as usize]
    }
}

/// The documents of the configuration file.
pub(super) struct FileDocuments {
    /// How the file is called.
    pub(super) name: String,
    pub(super) documents: Documents,
    pub(super) outside: Box<dyn Outside + Send + Sync>,
    /// By kind, in their order: name and what may be shown.
    shown: [Vec<(String, Value)>; Kind::ALL.len()],
}

impl FileDocuments {
    pub(super) fn new(name: String, documents: Documents, outside: Box<dyn Outside + Send + Sync>) -> Self {
        let all = serde_json::to_value(&documents).unwrap_or_default();
        let shown = Kind::ALL.map(|kind| {
            let bodies = all[kind.as_str()].as_array().into_iter().flatten();
            let bodies = bodies.map(|body| {
                let name = body["name"].as_str().unwrap_or_default().to_owned();
                (name, secrets::hidden(kind, &trimmed(body)))
            });
            bodies.collect()
        });
        Self {
            name,
            documents,
            outside,
            shown,
        }
    }

    pub(super) fn has(&self, kind: Kind, name: &str) -> bool {
        self.shown[kind as usize].iter().any(|(own, _)| own == name)
    }

    pub(super) fn count(&self, kind: Kind) -> usize {
        self.shown[kind as usize].len()
    }

    /// What has changed since `known` was stored, of which only documents of files count.
    pub(super) fn changes(&self, known: Vec<stored::Document>) -> Vec<stored::Change> {
        let known = known.into_iter().filter_map(|document| match document.origin {
            Origin::File(file) => Some(((document.kind, document.name), (document.body, file))),
            Origin::Api => None,
        });
        let mut known: BTreeMap<(String, String), (Value, String)> = known.collect();
        let change = |kind: &str, name: &str, file: &str, action| stored::Change {
            kind: kind.to_owned(),
            name: name.to_owned(),
            origin: Origin::File(file.to_owned()),
            if_match: IfMatch::Any,
            action,
        };
        let mut changes = Vec::new();
        for kind in Kind::ALL {
            for (name, body) in &self.shown[kind as usize] {
                let before = known.remove(&(kind.as_str().to_owned(), name.clone()));
                if before.is_none_or(|(before, _)| before != *body) {
                    let action = stored::Action::Put {
                        body: body.clone(),
                        secrets: Vec::new(),
                    };
                    changes.push(change(kind.as_str(), name, &self.name, action));
                }
            }
        }
        let gone = known
            .iter()
            .map(|((kind, name), (_, file))| change(kind, name, file, stored::Action::Delete));
        changes.extend(gone);
        changes
    }

    /// As they may be shown.
    pub(super) fn all(&self, kind: Kind) -> impl Iterator<Item = Document> {
        self.shown[kind as usize]
            .iter()
            .map(move |(name, body)| Document {
                kind,
                name: name.clone(),
                origin: self.name.clone(),
                version: 0,
                body: body.clone(),
            })
    }
}

/// Without what says nothing: fields that are null or empty, but for what users fill in freely.
fn trimmed(value: &Value) -> Value {
    const FREE: [&str; 5] = ["parameters", "output", "pii", "default", "enum"];
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !is_empty(value));
            let fields = fields.map(|(name, value)| {
                let is_free = FREE.contains(&name.as_str());
                (name.clone(), if is_free { value.clone() } else { trimmed(value) })
            });
            Value::Object(fields.collect())
        }
        Value::Array(items) => items.iter().map(trimmed).collect(),
        other => other.clone(),
    }
}

/// What documents compile to.
pub(super) struct Compiled {
    pub(super) snapshot: Snapshot,
    pub(super) catalogue: Catalogue,
    /// All documents in one.
    pub(super) documents: Documents,
    /// What was asked of the outside.
    pub(super) recorded: Recorded,
    /// Keys that stand in documents.
    pub(super) keys: Vec<(Identity, [u8; 32])>,
}

/// Who makes keys out of documents.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    pub(super) identities: &'a Identities,
    pub(super) hasher: &'a KeyHasher,
    pub(super) now_ms: i64,
}

/// Compiles the file's documents and those of the API as one.
pub(super) fn compile(
    file: &FileDocuments,
    api: &ApiDocuments,
    generation: u64,
    keys: Keys<'_>,
) -> Result<Compiled, Faults> {
    let mut faults = Faults::new();
    let mut sections = Map::new();
    for kind in Kind::ALL {
        let mut bodies = Vec::new();
        for (name, stored) in api.of(kind) {
            if file.has(kind, name) {
                faults.push((
                    format!("{}/{name}", kind.as_str()),
                    format!(
                        "this name stands in the file `{}`, and in a document made through the API: delete that one, or rename one",
                        file.name
                    ),
                ));
            }
            let outside = secrets::outside(kind, &stored.body);
            faults.extend(
                outside
                    .into_iter()
                    .map(|(field, words)| (format!("{}/{name}: {field}", kind.as_str()), words)),
            );
            bodies.push(stored.body.clone());
        }
        sections.insert(kind.as_str().to_owned(), Value::Array(bodies));
    }
    let sections = Value::Object(sections);
    let of_api = |fault: Fault| located(fault, |kind, at| api.of(kind).keys().nth(at).cloned());
    faults.extend(compiled::check_schema(&sections).into_iter().map(of_api));
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut documents = file.documents.clone();
    let more: Documents =
        serde_json::from_value(sections).map_err(|error| vec![(String::new(), error.to_string())])?;
    documents.providers.extend(more.providers);
    documents.models.extend(more.models);
    documents.consumers.extend(more.consumers);
    documents.services.extend(more.services);
    documents.prompts.extend(more.prompts);
    documents.guardrails.extend(more.guardrails);
    compile_all(documents, &*file.outside, generation, keys)
}

/// Compiles one set of documents.
pub(super) fn compile_all(
    documents: Documents,
    outside: &dyn Outside,
    generation: u64,
    keys: Keys<'_>,
) -> Result<Compiled, Faults> {
    let recorder = Recorder::new(outside);
    let (snapshot, catalogue) = compiled::compile(&documents, &recorder, generation).map_err(|faults| {
        let of_all = |fault| located(fault, |kind, at| name_at(&documents, kind, at));
        faults.into_iter().map(of_all).collect::<Faults>()
    })?;
    let keys = static_keys(&snapshot, keys)?;
    Ok(Compiled {
        snapshot,
        catalogue,
        documents,
        recorded: recorder.recorded(),
        keys,
    })
}

fn name_at(documents: &Documents, kind: Kind, at: usize) -> Option<String> {
    let name = match kind {
        Kind::Providers => documents.providers.get(at).map(|one| &one.name),
        Kind::Models => documents.models.get(at).map(|one| &one.name),
        Kind::Consumers => documents.consumers.get(at).map(|one| &one.name),
        Kind::Services => documents.services.get(at).map(|one| &one.name),
        Kind::Prompts => documents.prompts.get(at).map(|one| &one.name),
        Kind::Guardrails => documents.guardrails.get(at).map(|one| &one.name),
    };
    name.cloned()
}

/// A fault by the name of its document: `providers[3].keys[0]` as `providers/openai: keys[0]`.
fn located(fault: Fault, name: impl Fn(Kind, usize) -> Option<String>) -> (String, String) {
    let place = || {
        let (section, rest) = fault.field.split_once('[')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == section)?;
        let (at, rest) = rest.split_once(']')?;
        let name = name(kind, at.parse().ok()?)?;
        Some(match rest.trim_start_matches('.') {
            "" => format!("{section}/{name}"),
            field => format!("{section}/{name}: {field}"),
        })
    };
    let field = place().unwrap_or_else(|| fault.field.clone());
    (field, fault.words)
}

/// Keys that stand in documents, as the table of keys takes them.
fn static_keys(snapshot: &Snapshot, keys: Keys<'_>) -> Result<Vec<(Identity, [u8; 32])>, Faults> {
    let mut faults = Faults::new();
    let mut ids: HashSet<&str> = HashSet::new();
    let mut out = Vec::new();
    for key in &snapshot.keys {
        let Some(consumer) = snapshot.consumers.get(&key.consumer) else {
            continue;
        };
        let hash = keys.hasher.hash(key.secret.expose().as_bytes());
        let mut fault = |words: String| faults.push((format!("consumers/{}: keys", key.consumer), words));
        let is_made = |identity: &Arc<Identity>| !identity.is_from_file;
        if !ids.insert(&key.id) || keys.identities.find(&key.id).as_ref().is_some_and(is_made) {
            fault(format!(
                "another key has the name `{}`: give this one a name of its own",
                key.id
            ));
        } else if keys.identities.lookup(&hash).as_ref().is_some_and(is_made) {
            fault(format!(
                "the key `{}` was made by `weir key create` before: remove it here, or revoke that one",
                key.id
            ));
        }
        let identity = Identity {
            id: Arc::clone(&key.id),
            organisation: Arc::clone(&consumer.organisation),
            team: Arc::clone(&consumer.team),
            consumer: Arc::clone(&key.consumer),
            shown: shown(key.secret.expose()).into(),
            created_ms: keys.now_ms,
            expires_ms: None,
            revoked_ms: None,
            is_from_file: true,
        };
        out.push((identity, hash));
    }
    if faults.is_empty() { Ok(out) } else { Err(faults) }
}
