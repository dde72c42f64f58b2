//! The gateway as the admin API manages it: documents, client keys, records of calls, money.
//!
//! Documents come from the configuration file, which alone changes them, and from the API, which keeps
//! them in the data folder. What is in force is always compiled from all of them at once; a change that
//! does not compile is not stored. Changes are made one after another.

mod book;
mod keys;
mod numbers;
mod spending;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use control::gateway::{
    Applied, CallQuery, Change, CostQuery, Document, GatewayError, GatewayHost, KeyQuery, Kind, NewKey,
};
use gateway::numbers::Number;
use llm::catalogue::Catalogue;
use policy::gateway::compile::Outside;
use policy::gateway::document::Documents;
use policy::gateway::snapshot::Snapshot;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::calls::CallReader;
use store::documents::{self as stored, CatalogueError, HistoryQuery, IfMatch, Origin};
use store::identity::Identities;
use store::ledger::{Budgets, LedgerReader};
use store::seal::KeyHasher;

use crate::config::gateway::Recorded;
use crate::config::secrets;
use book::{ApiDocuments, Compiled, FileDocuments, Stored};

pub(crate) use book::Faults;
pub(crate) use numbers::{CountedCalls, KeyNumbers, ProviderNumbers};

/// Most entries of the history in one answer.
const AUDIT_MAX: usize = 1_000;

/// What the gateway is managed with.
pub(crate) struct AdminParts {
    /// How the configuration file is called.
    pub(crate) file: String,
    /// What it says.
    pub(crate) documents: Documents,
    /// Variables and files that it names.
    pub(crate) outside: Box<dyn Outside + Send + Sync>,
    /// Documents of the API, and the history.
    pub(crate) catalogue: Box<dyn stored::Catalogue>,
    /// Keys of clients.
    pub(crate) identities: Arc<Identities>,
    /// Hashes them.
    pub(crate) hasher: KeyHasher,
    /// Records of calls; `None` where none are kept.
    pub(crate) history: Option<CallReader>,
    /// The ledger's file; `None` where there is none.
    pub(crate) ledger: Option<LedgerReader>,
    /// The ledger's state in this process.
    pub(crate) budgets: Option<Arc<Budgets>>,
    /// Counts of calls.
    pub(crate) counted: Arc<CountedCalls>,
    /// What is known of providers.
    pub(crate) providers: Box<dyn Fn() -> Vec<ProviderNumbers> + Send + Sync>,
    /// What the data plane counted.
    pub(crate) traffic: Box<dyn Fn() -> Vec<Number> + Send + Sync>,
    /// Puts a configuration in force.
    pub(crate) publish: Box<dyn Fn(Snapshot, Catalogue) + Send + Sync>,
    /// Now, in milliseconds since 1970.
    pub(crate) now_ms: Box<dyn Fn() -> i64 + Send + Sync>,
}

/// The gateway's management.
pub(crate) struct GatewayAdmin {
    state: Mutex<State>,
    identities: Arc<Identities>,
    hasher: KeyHasher,
    history: Option<CallReader>,
    ledger: Option<LedgerReader>,
    budgets: Option<Arc<Budgets>>,
    counted: Arc<CountedCalls>,
    providers: Box<dyn Fn() -> Vec<ProviderNumbers> + Send + Sync>,
    traffic: Box<dyn Fn() -> Vec<Number> + Send + Sync>,
    publish: Box<dyn Fn(Snapshot, Catalogue) + Send + Sync>,
    now_ms: Box<dyn Fn() -> i64 + Send + Sync>,
}

struct State {
    file: FileDocuments,
    api: ApiDocuments,
    store: Box<dyn stored::Catalogue>,
    in_force: InForce,
    /// Why what the documents say is not in force.
    faults: Faults,
}

/// What is known of the configuration in force.
#[derive(Default)]
struct InForce {
    generation: u64,
    catalogue: Arc<Catalogue>,
    consumers: Vec<Consumer>,
    /// Ids of keys that stand in documents.
    static_keys: Vec<Arc<str>>,
}

struct Consumer {
    name: Arc<str>,
    organisation: Arc<str>,
    team: Arc<str>,
}

/// What is in force first.
#[derive(Debug)]
pub(crate) struct Initial {
    pub(crate) snapshot: Snapshot,
    pub(crate) catalogue: Catalogue,
    /// Not empty: this is what was in force last, since the documents of now do not compile.
    pub(crate) faults: Faults,
}

/// The set that was in force last, as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    documents: Documents,
    outside: Recorded,
}

impl GatewayAdmin {
    /// Nothing is in force before [`Self::initial`].
    pub(crate) fn new(parts: AdminParts) -> Self {
        let state = State {
            file: FileDocuments::new(parts.file, parts.documents, parts.outside),
            api: ApiDocuments::default(),
            store: parts.catalogue,
            in_force: InForce::default(),
            faults: Faults::new(),
        };
        Self {
            state: Mutex::new(state),
            identities: parts.identities,
            hasher: parts.hasher,
            history: parts.history,
            ledger: parts.ledger,
            budgets: parts.budgets,
            counted: parts.counted,
            providers: parts.providers,
            traffic: parts.traffic,
            publish: parts.publish,
            now_ms: parts.now_ms,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> i64 {
        (self.now_ms)()
    }

    fn key_table(&self) -> book::Keys<'_> {
        book::Keys {
            identities: &self.identities,
            hasher: &self.hasher,
            now_ms: self.now_ms(),
        }
    }

    /// What is to be in force when the gateway starts: the documents of file and API, or, if they do not
    /// compile, what was in force last. Takes the keys of the documents in; publishes nothing.
    ///
    /// # Errors
    /// Neither compiles.
    pub(crate) fn initial(&self) -> Result<Initial, Faults> {
        let mut state = self.state();
        let failed = |error: CatalogueError| vec![("store".to_owned(), error.to_string())];
        let last = state.store.last_snapshot().unwrap_or_else(|error| {
            tracing::error!(reason = %error, "what was in force last cannot be read");
            None
        });
        let generation = last.as_ref().map_or(0, |last| last.generation) + 1;
        let read = state.store.list(None).map_err(failed);
        let compiled = read.and_then(|documents| {
            state.api = of_store(documents);
            book::compile(&state.file, &state.api, generation, self.key_table())
        });
        let (compiled, faults) = match compiled {
            Ok(compiled) => {
                self.keep(&mut state, &compiled);
                self.note_file(&mut state);
                (compiled, Faults::new())
            }
            Err(faults) => {
                let kept = last.and_then(|last| serde_json::from_value::<Kept>(last.body).ok());
                let kept = kept.and_then(|kept| {
                    book::compile_all(kept.documents, &kept.outside, generation, self.key_table()).ok()
                });
                match kept {
                    Some(compiled) => (compiled, faults),
                    None => return Err(faults),
                }
            }
        };
        state.faults.clone_from(&faults);
        let (snapshot, catalogue) = self.enter(&mut state, compiled);
        Ok(Initial {
            snapshot,
            catalogue,
            faults,
        })
    }

    /// Takes what the configuration file says now. Answers the generation in force.
    ///
    /// # Errors
    /// It does not compile with the documents of the API; what was in force stays.
    pub(crate) fn reload(
        &self,
        documents: Documents,
        outside: Box<dyn Outside + Send + Sync>,
    ) -> Result<u64, Faults> {
        let mut state = self.state();
        let file = FileDocuments::new(state.file.name.clone(), documents, outside);
        let generation = state.in_force.generation + 1;
        match book::compile(&file, &state.api, generation, self.key_table()) {
            Ok(compiled) => {
                state.file = file;
                self.keep(&mut state, &compiled);
                self.note_file(&mut state);
                self.put_in_force(&mut state, compiled);
                Ok(generation)
            }
            Err(faults) => {
                state.faults.clone_from(&faults);
                Err(faults)
            }
        }
    }

    /// Keeps what is about to be in force, for a start at which the documents do not compile.
    fn keep(&self, state: &mut State, compiled: &Compiled) {
        let kept = Kept {
            documents: compiled.documents.clone(),
            outside: compiled.recorded.clone(),
        };
        let snapshot = stored::Snapshot {
            generation: compiled.snapshot.generation,
            at_ms: self.now_ms(),
            body: serde_json::to_value(kept).unwrap_or_default(),
        };
        if let Err(error) = state.store.keep_snapshot(&snapshot) {
            // The documents themselves are stored; only the way back from a broken file is lost.
            tracing::error!(reason = %error, "what is in force cannot be kept");
        }
    }

    /// Writes into the history what the file says otherwise than when it was last read; of secrets only that
    /// they are there.
    fn note_file(&self, state: &mut State) {
        let noted = state.store.list(None).and_then(|known| {
            let changes = state.file.changes(known);
            let author = format!("file {}", state.file.name);
            for changes in changes.chunks(stored::CHANGES_MAX) {
                state.store.write(changes, &author, self.now_ms())?;
            }
            Ok(())
        });
        if let Err(error) = noted {
            // What it says is in force all the same.
            tracing::error!(reason = %error, "what the file changes cannot be put into the history");
        }
    }

    fn put_in_force(&self, state: &mut State, compiled: Compiled) {
        state.faults.clear();
        let (snapshot, catalogue) = self.enter(state, compiled);
        (self.publish)(snapshot, catalogue);
    }

    /// Notes what is in force and takes its keys in.
    fn enter(&self, state: &mut State, compiled: Compiled) -> (Snapshot, Catalogue) {
        let consumers = compiled.snapshot.consumers.values().map(|consumer| Consumer {
            name: Arc::clone(&consumer.name),
            organisation: Arc::clone(&consumer.organisation),
            team: Arc::clone(&consumer.team),
        });
        state.in_force = InForce {
            generation: compiled.snapshot.generation,
            catalogue: Arc::new(compiled.catalogue.clone()),
            consumers: consumers.collect(),
            static_keys: compiled
                .keys
                .iter()
                .map(|(identity, _)| Arc::clone(&identity.id))
                .collect(),
        };
        let refused = self.identities.set_from_files(compiled.keys);
        for id in refused {
            tracing::error!(key = %id, "a key of a document cannot be taken in: its name or value is another's");
        }
        (compiled.snapshot, compiled.catalogue)
    }

    fn apply_to(
        &self,
        state: &mut State,
        changes: Vec<Change>,
        prune: bool,
        author: &str,
        dry_run: bool,
    ) -> Result<Applied, GatewayError> {
        let mut api = state.api.clone();
        let mut applied = Applied {
            generation: state.in_force.generation,
            dry_run,
            ..Applied::default()
        };
        let mut writes = Vec::new();
        let mut faults = Faults::new();
        let mut named = std::collections::HashSet::new();
        for change in changes {
            let (kind, name) = (change.kind, change.name.clone());
            let of = format!("{}/{name}", kind.as_str());
            if !named.insert((kind, name)) {
                faults.push((
                    of,
                    "is there twice: names are unique within their kind".to_owned(),
                ));
                continue;
            }
            if state.file.has(kind, &change.name) {
                let file = &state.file.name;
                return Err(GatewayError::Conflict(format!(
                    "{of} comes from the file `{file}`: change it there"
                )));
            }
            let was = api.of(kind).get(&change.name).cloned();
            let version = was.as_ref().map_or(0, |was| was.version);
            if change.if_version.is_some_and(|wanted| wanted != version) {
                let found = if was.is_some() {
                    format!("has version {version}")
                } else {
                    "does not exist".to_owned()
                };
                return Err(GatewayError::Conflict(format!(
                    "{of} {found}: read it again and repeat the change"
                )));
            }
            match change.body {
                None if was.is_none() => return Err(GatewayError::NotFound(of)),
                None => remove(&mut api, &mut writes, kind, &change.name, version, &mut applied),
                Some(body) => match named_body(kind, &change.name, body, was.as_ref()) {
                    Err(wrong) => {
                        faults.extend(
                            wrong
                                .into_iter()
                                .map(|(field, words)| (format!("{of}: {field}"), words)),
                        );
                    }
                    Ok(body) if was.as_ref().is_some_and(|was| was.body == body) => {
                        applied.unchanged.push(of);
                    }
                    Ok(body) => {
                        if was.is_some() {
                            applied.changed.push(of);
                        } else {
                            applied.created.push(of);
                        }
                        writes.push(stored::Change {
                            kind: kind.as_str().to_owned(),
                            name: change.name.clone(),
                            origin: Origin::Api,
                            if_match: if was.is_some() {
                                IfMatch::Version(version)
                            } else {
                                IfMatch::Absent
                            },
                            action: stored::Action::Put {
                                secrets: secrets::pointers(kind, &body),
                                body: body.clone(),
                            },
                        });
                        api.of_mut(kind).insert(change.name, Stored { version, body });
                    }
                },
            }
        }
        if prune {
            for kind in Kind::ALL {
                let left: Vec<(String, u64)> = (api.of(kind).iter())
                    .filter(|(name, _)| !named.contains(&(kind, (*name).clone())))
                    .map(|(name, stored)| (name.clone(), stored.version))
                    .collect();
                for (name, version) in left {
                    remove(&mut api, &mut writes, kind, &name, version, &mut applied);
                }
            }
        }
        if !faults.is_empty() {
            return Err(GatewayError::Invalid(faults));
        }
        let generation = state.in_force.generation + 1;
        let compiled =
            book::compile(&state.file, &api, generation, self.key_table()).map_err(GatewayError::Invalid)?;
        if dry_run || writes.is_empty() {
            return Ok(applied);
        }
        let written = state
            .store
            .write(&writes, author, self.now_ms())
            .map_err(not_stored)?;
        for (write, version) in writes.iter().zip(written.versions) {
            let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == write.kind);
            if let Some(stored) = kind.and_then(|kind| api.of_mut(kind).get_mut(&write.name)) {
                stored.version = version;
            }
        }
        state.api = api;
        self.keep(state, &compiled);
        self.put_in_force(state, compiled);
        applied.generation = generation;
        Ok(applied)
    }
}

fn remove(
    api: &mut ApiDocuments,
    writes: &mut Vec<stored::Change>,
    kind: Kind,
    name: &str,
    version: u64,
    applied: &mut Applied,
) {
    api.of_mut(kind).remove(name);
    applied.removed.push(format!("{}/{name}", kind.as_str()));
    writes.push(stored::Change {
        kind: kind.as_str().to_owned(),
        name: name.to_owned(),
        origin: Origin::Api,
        if_match: IfMatch::Version(version),
        action: stored::Action::Delete,
    });
}

/// A document as it is stored: with its name, and the secrets that were left as they are.
fn named_body(kind: Kind, name: &str, mut body: Value, was: Option<&Stored>) -> Result<Value, Faults> {
    let Some(fields) = body.as_object_mut() else {
        return Err(vec![("body".to_owned(), "expected an object".to_owned())]);
    };
    match fields.get("name") {
        None => {
            fields.insert("name".to_owned(), name.into());
        }
        Some(own) if own == name => {}
        Some(own) => {
            return Err(vec![(
                "name".to_owned(),
                format!("expected `{name}`, as in the address, found {own}"),
            )]);
        }
    }
    let faults = secrets::restore(kind, &mut body, was.map(|was| &was.body));
    if faults.is_empty() { Ok(body) } else { Err(faults) }
}

fn of_store(documents: Vec<stored::Document>) -> ApiDocuments {
    let mut api = ApiDocuments::default();
    for document in documents {
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == document.kind);
        if let (Some(kind), Origin::Api) = (kind, document.origin) {
            let stored = Stored {
                version: document.version,
                body: document.body,
            };
            api.of_mut(kind).insert(document.name, stored);
        }
    }
    api
}

fn not_stored(error: CatalogueError) -> GatewayError {
    match error {
        CatalogueError::Conflict { .. }
        | CatalogueError::FromFile { .. }
        | CatalogueError::NameTaken { .. } => GatewayError::Conflict(error.to_string()),
        CatalogueError::NotFound { kind, name } => GatewayError::NotFound(format!("{kind}/{name}")),
        CatalogueError::Invalid { kind, name, problem } => {
            GatewayError::Invalid(vec![(format!("{kind}/{name}"), problem)])
        }
        CatalogueError::Sealed { .. } | CatalogueError::Store(_) => unavailable("the documents", &error),
    }
}

/// The sentence for the caller; what is below it goes to the log.
fn unavailable(what: &str, error: &dyn std::error::Error) -> GatewayError {
    let below = error.source().map(ToString::to_string).unwrap_or_default();
    tracing::error!(reason = %error, below, "{what} cannot be used");
    GatewayError::Unavailable(format!("{what} cannot be used: {error}"))
}

/// Waits for what a thread of the store answers. The calls of [`GatewayHost`] may block.
fn wait<F: Future>(future: F) -> F::Output {
    struct Thread(std::thread::Thread);
    impl std::task::Wake for Thread {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Thread(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

impl GatewayHost for GatewayAdmin {
    fn status(&self) -> Value {
        let mut status = {
            let state = self.state();
            let documents = Kind::ALL.map(|kind| {
                let counts = json!({ "file": state.file.count(kind), "api": state.api.of(kind).len() });
                (kind.as_str().to_owned(), counts)
            });
            let faults = state.faults.iter();
            let faults = faults.map(|(field, words)| json!({ "field": field, "message": words }));
            json!({
                "generation": state.in_force.generation,
                "file": state.file.name,
                "documents": Map::from_iter(documents),
                "faults": faults.collect::<Vec<_>>(),
            })
        };
        status["keys"] = self.identities.len().into();
        status["providers"] = json!((self.providers)());
        status["traffic"] = numbers::traffic_json(&(self.traffic)());
        status["calls"] = self.counted.json();
        status["ledger"] = numbers::ledger_json(self.budgets.as_deref());
        status["budgets"] = self.budgets_left();
        status
    }

    fn documents(&self, kind: Kind) -> Vec<Document> {
        let state = self.state();
        let of_api = state.api.of(kind).iter().map(|(name, stored)| Document {
            kind,
            name: name.clone(),
            origin: "api".to_owned(),
            version: stored.version,
            body: secrets::hidden(kind, &stored.body),
        });
        let mut all: Vec<Document> = state.file.all(kind).chain(of_api).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn document(&self, kind: Kind, name: &str) -> Option<Document> {
        self.documents(kind)
            .into_iter()
            .find(|document| document.name == name)
    }

    fn apply(
        &self,
        changes: Vec<Change>,
        prune: bool,
        author: &str,
        dry_run: bool,
    ) -> Result<Applied, GatewayError> {
        let mut applied = self.apply_to(&mut self.state(), changes, prune, author, dry_run)?;
        let removed = applied.removed.iter();
        let consumers = removed.filter_map(|of| of.strip_prefix("consumers/"));
        let consumers: Vec<String> = consumers.map(str::to_owned).collect();
        applied.keys_revoked = self.end_keys_of(&consumers, author, dry_run)?;
        Ok(applied)
    }

    fn keys(&self, query: &KeyQuery) -> Result<Value, GatewayError> {
        self.list_keys(query)
    }

    fn create_key(&self, key: &NewKey, author: &str) -> Result<Value, GatewayError> {
        self.make_key(key, author)
    }

    fn rotate_key(&self, id: &str, grace_s: u64, author: &str) -> Result<Value, GatewayError> {
        self.turn_key(id, grace_s, author)
    }

    fn revoke_key(&self, id: &str, author: &str) -> Result<(), GatewayError> {
        self.end_key(id, author)
    }

    fn calls(&self, query: &CallQuery) -> Result<Value, GatewayError> {
        self.find_calls(query)
    }

    fn cost(&self, query: &CostQuery) -> Result<Value, GatewayError> {
        self.sum_calls(query)
    }

    fn audit(&self, limit: usize, before: Option<u64>) -> Result<Value, GatewayError> {
        let query = HistoryQuery {
            before_id: before,
            limit: limit.clamp(1, AUDIT_MAX),
            ..HistoryQuery::default()
        };
        let entries = self.state().store.history(&query).map_err(not_stored)?;
        let next = (entries.len() == query.limit)
            .then(|| entries.last().map(|last| last.id))
            .flatten();
        let entries = entries.into_iter().map(|entry| {
            json!({
                "id": entry.id,
                "generation": entry.generation,
                "time": store::civil::time_text(entry.at_ms),
                "author": entry.author,
                "kind": entry.kind,
                "name": entry.name,
                "version": entry.version,
                "before": entry.before,
                "after": entry.after,
            })
        });
        Ok(json!({ "entries": entries.collect::<Vec<_>>(), "before": next }))
    }

    fn catalogue(&self) -> Value {
        let catalogue = Arc::clone(&self.state().in_force.catalogue);
        let presets = llm::presets::all().iter().map(|preset| {
            let parameters = preset.parameters.iter();
            let parameters = parameters.map(|one| json!({ "name": one.name, "default": one.default }));
            json!({
                "kind": preset.kind,
                "title": preset.title,
                "base_url": preset.base_url,
                "format": format!("{:?}", preset.wire),
                "parameters": parameters.collect::<Vec<_>>(),
                "source": preset.source,
            })
        });
        json!({ "models": catalogue.iter().collect::<Vec<_>>(), "presets": presets.collect::<Vec<_>>() })
    }

    fn metrics(&self) -> String {
        let generation = self.state().in_force.generation;
        numbers::metrics(
            generation,
            self.identities.len(),
            &(self.providers)(),
            &(self.traffic)(),
            &self.counted,
            self.budgets.as_deref(),
        )
    }
}
