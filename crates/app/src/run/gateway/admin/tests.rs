//! The management over stores in temporary folders.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

mod history;

use super::*;
use crate::config::gateway::Process;
use store::calls::{CallOptions, CallRecord, CallSink as _, Calls};
use store::documents::{Catalogue as _, SqliteCatalogue};
use store::outcome::Outcome;
use store::seal::Sealer;

/// The catalogue of a folder, shared by one run and the next, which fails when told to.
#[derive(Clone)]
struct Shelf {
    fails: Arc<AtomicBool>,
    catalogue: Arc<Mutex<SqliteCatalogue>>,
}

impl Shelf {
    fn open(&self) -> Result<MutexGuard<'_, SqliteCatalogue>, CatalogueError> {
        if self.fails.load(Relaxed) {
            return Err(store::StoreError::Busy.into());
        }
        Ok(self.catalogue.lock().expect("no panic"))
    }
}

impl stored::Catalogue for Shelf {
    fn generation(&mut self) -> Result<u64, CatalogueError> {
        self.open()?.generation()
    }

    fn get(&mut self, kind: &str, name: &str) -> Result<Option<stored::Document>, CatalogueError> {
        self.open()?.get(kind, name)
    }

    fn list(&mut self, kind: Option<&str>) -> Result<Vec<stored::Document>, CatalogueError> {
        self.open()?.list(kind)
    }

    fn write(
        &mut self,
        changes: &[stored::Change],
        author: &str,
        now_ms: i64,
    ) -> Result<stored::Written, CatalogueError> {
        self.open()?.write(changes, author, now_ms)
    }

    fn history(&mut self, query: &HistoryQuery) -> Result<Vec<stored::AuditEntry>, CatalogueError> {
        self.open()?.history(query)
    }

    fn keep_snapshot(&mut self, snapshot: &stored::Snapshot) -> Result<(), CatalogueError> {
        self.open()?.keep_snapshot(snapshot)
    }

    fn last_snapshot(&mut self) -> Result<Option<stored::Snapshot>, CatalogueError> {
        self.open()?.last_snapshot()
    }
}

const NOW_MS: i64 = 1_795_000_000_000;
const FILE: &str = r#"{
    "gateway": {"catalogue": [{"provider": "local", "model": "tiny", "usd_per_million": {"input": "1", "output": "2"}}]},
    "providers": [{"name": "openai", "kind": "openai", "keys": [{"value": "sk-of-the-file"}]}],
    "consumers": [{"name": "shop", "team": "web", "keys": [{"value": "sk-weir-static-key", "name": "fixed"}]}]
}"#;

/// A management whose store outlives it.
struct Bench {
    folder: tempfile::TempDir,
    shelf: Shelf,
    published: Arc<Mutex<Vec<Snapshot>>>,
    identities: Arc<Identities>,
    hasher: KeyHasher,
    now_ms: Arc<AtomicI64>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let identities = Arc::new(Identities::open(&folder.path().join("keys.sqlite")).expect("a table"));
        let sealer = Sealer::new(&[9; 32]);
        let catalogue =
            SqliteCatalogue::open(&folder.path().join("documents.sqlite"), sealer).expect("a catalogue");
        Self {
            folder,
            shelf: Shelf {
                fails: Arc::default(),
                catalogue: Arc::new(Mutex::new(catalogue)),
            },
            published: Arc::default(),
            identities,
            hasher: KeyHasher::new(&[7; 32]),
            now_ms: Arc::new(AtomicI64::new(NOW_MS)),
        }
    }

    fn admin(&self, file: &str) -> GatewayAdmin {
        let (published, now_ms) = (Arc::clone(&self.published), Arc::clone(&self.now_ms));
        let calls = self.folder.path().join("calls");
        GatewayAdmin::new(AdminParts {
            file: "weir.yaml".to_owned(),
            documents: documents(file),
            outside: Box::new(Process),
            catalogue: Box::new(self.shelf.clone()),
            identities: Arc::clone(&self.identities),
            hasher: self.hasher.clone(),
            history: Some(CallReader::open(&calls).expect("a reader")),
            ledger: None,
            budgets: None,
            counted: Arc::new(CountedCalls::new(
                Calls::start(CallOptions::new(calls), Arc::new(|| NOW_MS)).expect("a writer"),
            )),
            traffic: Box::new(|| {
                let number = |name, label, value| Number {
                    name,
                    help: "Help.",
                    label,
                    value,
                };
                vec![
                    number("weir_gateway_wrong_keys_uncounted_total", None, 3),
                    number(
                        "weir_gateway_cache_dropped_total",
                        Some(("reason", "too_large")),
                        4,
                    ),
                    number("weir_gateway_cache_dropped_total", Some(("reason", "evicted")), 5),
                    number("weir_gateway_cache_bytes", None, 6),
                ]
            }),
            providers: Box::new(|| {
                vec![ProviderNumbers {
                    name: "openai".to_owned(),
                    kind: "openai".to_owned(),
                    keys: vec![KeyNumbers {
                        id: "openai#0".to_owned(),
                        state: "limited".to_owned(),
                    }],
                    ..ProviderNumbers::default()
                }]
            }),
            publish: Box::new(move |snapshot, _| published.lock().expect("no panic").push(snapshot)),
            now_ms: Box::new(move || now_ms.load(Relaxed)),
        })
    }

    /// One that has started with the usual file.
    fn started(&self) -> GatewayAdmin {
        let admin = self.admin(FILE);
        let initial = admin.initial().expect("compiles");
        assert_eq!(initial.faults, []);
        admin
    }

    fn is_known(&self, key: &str) -> bool {
        self.identities
            .lookup(&self.hasher.hash(key.as_bytes()))
            .is_some()
    }
}

fn documents(text: &str) -> Documents {
    serde_json::from_str(text).expect("documents")
}

fn put(kind: Kind, name: &str, body: Value) -> Change {
    Change {
        kind,
        name: name.to_owned(),
        body: Some(body),
        if_version: None,
    }
}

fn delete(kind: Kind, name: &str) -> Change {
    Change {
        kind,
        name: name.to_owned(),
        body: None,
        if_version: None,
    }
}

fn local() -> Change {
    let body = json!({"kind": "openai_compatible", "base_url": "http://127.0.0.1:1/v1",
        "keys": [{"value": "sk-local-secret"}], "headers": {"x-api-key": "sk-header-secret"}});
    put(Kind::Providers, "local", body)
}

impl GatewayAdmin {
    fn change(&self, change: Change) -> Result<Applied, GatewayError> {
        self.apply(vec![change], false, "uid 0", false)
    }
}

#[test]
fn a_change_is_compiled_stored_and_in_force() {
    let bench = Bench::new();
    let admin = bench.started();
    let applied = admin.change(local()).expect("applied");
    assert_eq!(
        (applied.created, applied.generation),
        (vec!["providers/local".to_owned()], 2)
    );
    {
        let published = bench.published.lock().expect("no panic");
        assert_eq!(published.len(), 1);
        let provider = &published[0].providers["local"];
        assert_eq!(provider.keys[0].secret.expose(), "sk-local-secret");
        assert_eq!(published[0].generation, 2);
    }
    let shown = admin.document(Kind::Providers, "local").expect("there");
    assert_eq!((shown.origin.as_str(), shown.version), ("api", 1));
    assert_eq!(shown.body["keys"][0]["value"], "***");
    // What was shown, sent back with one field changed, keeps its secrets.
    let mut body = shown.body;
    body["idle_timeout_ms"] = 5_000.into();
    let applied = admin
        .change(put(Kind::Providers, "local", body))
        .expect("applied");
    assert_eq!(applied.changed, ["providers/local"]);
    {
        let published = bench.published.lock().expect("no panic");
        let provider = &published[1].providers["local"];
        assert_eq!(provider.keys[0].secret.expose(), "sk-local-secret");
        assert_eq!(
            provider.headers,
            [("x-api-key".to_owned(), "sk-header-secret".to_owned())]
        );
        assert_eq!(provider.idle_timeout_ms, 5_000);
    }
    let again = admin.document(Kind::Providers, "local").expect("there").body;
    let applied = admin
        .change(put(Kind::Providers, "local", again))
        .expect("applied");
    assert_eq!((applied.unchanged.len(), applied.generation), (1, 3));
    // A next run finds it.
    let next = bench.admin(FILE);
    let initial = next.initial().expect("compiles");
    assert!(initial.snapshot.providers.contains_key("local"));
    assert_eq!(initial.snapshot.generation, 4);
}

#[test]
fn what_is_wrong_changes_nothing() {
    let bench = Bench::new();
    let admin = bench.started();
    let check = |changes: Vec<Change>, expected: Result<&[&str], GatewayError>| {
        let error = admin.apply(changes, false, "x", false).expect_err("refused");
        match (error, expected) {
            (GatewayError::Invalid(faults), Ok(fields)) => {
                let found: Vec<&str> = faults.iter().map(|(field, _)| field.as_str()).collect();
                assert_eq!(found, fields, "{faults:?}");
            }
            (error, expected) => assert_eq!(Some(error), expected.err()),
        }
    };
    let provider = |body: Value| vec![put(Kind::Providers, "p", body)];
    check(
        provider(json!({"kind": "openai", "idle_timeout_ms": 0})),
        Ok(&["providers/p: idle_timeout_ms"]),
    );
    check(
        provider(json!({"kind": "openai", "keyes": []})),
        Ok(&["providers/p: keyes"]),
    );
    check(provider(json!({"kind": "open"})), Ok(&["providers/p: kind"]));
    check(
        provider(json!({"kind": "openai", "keys": [{"env": "HOME"}]})),
        Ok(&["providers/p: keys[0].env"]),
    );
    check(
        provider(json!({"kind": "openai", "keys": [{"value": "***"}]})),
        Ok(&["providers/p: keys[0].value"]),
    );
    check(
        provider(json!({"name": "q", "kind": "openai"})),
        Ok(&["providers/p: name"]),
    );
    check(provider(json!([1])), Ok(&["providers/p: body"]));
    check(
        provider(json!({"kind": "openai", "keys": [{}]})),
        Ok(&["providers/p: keys[0]"]),
    );
    check(vec![local(), local()], Ok(&["providers/local"]));
    check(
        vec![put(Kind::Models, "m", json!({"targets": [{"model": "none/x"}]}))],
        Ok(&["models/m: targets[0].model"]),
    );
    check(
        vec![put(
            Kind::Consumers,
            "c",
            json!({"keys": [{"value": "sk-weir-static-key"}]}),
        )],
        Ok(&["consumers/c: keys[0]"]),
    );
    check(
        vec![put(
            Kind::Consumers,
            "c",
            json!({"keys": [{"value": "another", "name": "fixed"}]}),
        )],
        Ok(&["consumers/c: keys"]),
    );
    check(
        vec![put(Kind::Providers, "openai", json!({"kind": "openai"}))],
        Err(GatewayError::Conflict(
            "providers/openai comes from the file `weir.yaml`: change it there".to_owned(),
        )),
    );
    check(
        vec![delete(Kind::Models, "none")],
        Err(GatewayError::NotFound("models/none".to_owned())),
    );
    let mut only_new = local();
    only_new.if_version = Some(3);
    check(
        vec![only_new],
        Err(GatewayError::Conflict(
            "providers/local does not exist: read it again and repeat the change".to_owned(),
        )),
    );
    assert_eq!(bench.published.lock().expect("no panic").len(), 0);
    assert_eq!(
        bench
            .shelf
            .open()
            .expect("works")
            .list(None)
            .expect("a list")
            .iter()
            .filter(|document| document.origin == Origin::Api)
            .count(),
        0
    );
    assert_eq!(admin.status()["generation"], 1);
    // A store that fails: nothing is in force that is not stored.
    bench.shelf.fails.store(true, Relaxed);
    assert!(matches!(admin.change(local()), Err(GatewayError::Unavailable(_))));
    assert!(matches!(admin.audit(1, None), Err(GatewayError::Unavailable(_))));
    assert_eq!(bench.published.lock().expect("no panic").len(), 0);
    assert!(admin.document(Kind::Providers, "local").is_none());
}

#[test]
fn versions_dry_runs_and_pruning() {
    let bench = Bench::new();
    let admin = bench.started();
    let model = |name: &str| {
        put(
            Kind::Models,
            name,
            json!({"targets": [{"model": "openai/gpt-4o"}]}),
        )
    };
    admin
        .apply(vec![model("a"), model("b"), local()], false, "x", false)
        .expect("applied");
    let mut stale = model("a");
    stale.body = Some(json!({"targets": [{"model": "openai/gpt-4o-mini"}]}));
    stale.if_version = Some(7);
    assert!(matches!(
        admin.change(stale.clone()),
        Err(GatewayError::Conflict(_))
    ));
    stale.if_version = Some(1);
    admin.change(stale).expect("applied");
    assert_eq!(admin.document(Kind::Models, "a").expect("there").version, 2);
    let all = admin.apply(vec![model("b")], true, "x", true).expect("a plan");
    assert!(all.dry_run);
    assert_eq!(all.removed, ["providers/local", "models/a"]);
    assert_eq!(all.unchanged, ["models/b"]);
    assert_eq!(admin.documents(Kind::Models).len(), 2);
    admin.apply(vec![model("b")], true, "x", false).expect("applied");
    assert_eq!(admin.documents(Kind::Models).len(), 1);
    // The file's are not pruned.
    assert_eq!(admin.documents(Kind::Providers).len(), 1);
    // One that others need cannot go.
    admin.change(local()).expect("applied");
    let user = put(Kind::Models, "c", json!({"targets": [{"model": "local/tiny"}]}));
    admin.change(user).expect("applied");
    assert!(matches!(
        admin.change(delete(Kind::Providers, "local")),
        Err(GatewayError::Invalid(_))
    ));
}

#[test]
fn a_file_that_does_not_compile_leaves_what_was_in_force() {
    let bench = Bench::new();
    bench.started().change(local()).expect("applied");
    let broken = r#"{"providers": [{"name": "openai", "kind": "opn"}]}"#;
    let admin = bench.admin(broken);
    let initial = admin.initial().expect("the last good one");
    assert_eq!(initial.faults[0].0, "providers/openai: kind");
    assert_eq!(initial.snapshot.providers.len(), 2);
    assert_eq!(initial.snapshot.generation, 3);
    assert!(bench.is_known("sk-weir-static-key"));
    assert_eq!(admin.status()["faults"][0]["field"], "providers/openai: kind");
    // A name that both claim.
    let both = r#"{"providers": [{"name": "local", "kind": "openai"}]}"#;
    let faults = admin
        .reload(documents(both), Box::new(Process))
        .expect_err("refused");
    assert_eq!(faults[0].0, "providers/local");
    assert!(faults[0].1.contains("weir.yaml"), "{faults:?}");
    let generation = admin.reload(documents(FILE), Box::new(Process)).expect("mended");
    assert_eq!(generation, 4);
    assert_eq!(admin.status()["faults"], json!([]));
    // Without one that was in force, there is nothing to start with.
    assert!(Bench::new().admin(broken).initial().is_err());
}

#[test]
fn keys_are_made_turned_and_ended() {
    let bench = Bench::new();
    let admin = bench.started();
    let new = |name: Option<&str>, consumer: &str| NewKey {
        consumer: consumer.to_owned(),
        name: name.map(str::to_owned),
        expires_in_s: None,
    };
    let made = admin
        .create_key(&new(Some("till"), "shop"), "uid 0")
        .expect("made");
    let key = made["key"].as_str().expect("shown once").to_owned();
    assert_eq!(
        (key.len(), made["id"].as_str(), made["team"].as_str()),
        (72, Some("till"), Some("web"))
    );
    assert!(bench.is_known(&key));
    let error = |result: Result<Value, GatewayError>| result.expect_err("refused");
    assert!(matches!(
        error(admin.create_key(&new(Some("till"), "shop"), "x")),
        GatewayError::Conflict(_)
    ));
    assert!(matches!(
        error(admin.create_key(&new(Some("a b"), "shop"), "x")),
        GatewayError::Invalid(_)
    ));
    assert!(matches!(
        error(admin.create_key(&new(None, "nobody"), "x")),
        GatewayError::Invalid(_)
    ));
    let never = NewKey {
        expires_in_s: Some(0),
        ..new(None, "shop")
    };
    assert!(matches!(
        error(admin.create_key(&never, "x")),
        GatewayError::Invalid(_)
    ));
    // Keys of documents are changed there.
    assert!(matches!(
        admin.revoke_key("fixed", "x"),
        Err(GatewayError::Conflict(_))
    ));
    assert!(matches!(
        error(admin.rotate_key("fixed", 0, "x")),
        GatewayError::Conflict(_)
    ));
    assert_eq!(
        admin.revoke_key("none", "x"),
        Err(GatewayError::NotFound("keys/none".to_owned()))
    );
    // Turned with grace: both hold, then the new one alone.
    let turned = admin.rotate_key("till", 60, "uid 0").expect("turned");
    assert_eq!(turned["id"], "till.2");
    assert!(bench.is_known(&key) && bench.is_known(turned["key"].as_str().expect("shown")));
    let old = bench.identities.find("till").expect("still there");
    assert!(old.is_valid(NOW_MS + 59_999) && !old.is_valid(NOW_MS + 60_000));
    // Without: at once.
    let last = admin.rotate_key("till.2", 0, "uid 0").expect("turned");
    assert_eq!(last["id"], "till.3");
    assert!(!bench.is_known(turned["key"].as_str().expect("shown")));
    admin.revoke_key("till.3", "uid 0").expect("revoked");
    assert!(!bench.is_known(last["key"].as_str().expect("shown")));
    bench.now_ms.store(NOW_MS + 61_000, Relaxed);
    let states: Vec<String> = admin
        .all_keys(&KeyQuery::default())
        .iter()
        .map(|key| format!("{} {}", key["id"], key["state"]).replace('"', ""))
        .collect();
    assert_eq!(
        states,
        ["fixed valid", "till expired", "till.2 revoked", "till.3 revoked"]
    );
    let audit = admin.audit(100, None).expect("a history");
    let entries: Vec<String> = audit["entries"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| {
            format!(
                "{} {} {}",
                entry["name"],
                entry["after"].is_null(),
                entry["author"]
            )
            .replace('"', "")
        })
        .collect();
    assert_eq!(
        entries,
        [
            "till.3 true uid 0",
            "till.2 true uid 0",
            "till.3 false uid 0",
            "till false uid 0",
            "till.2 false uid 0",
            "till false uid 0",
            "shop false file weir.yaml",
            "openai false file weir.yaml",
        ]
    );
    // Pages of the history.
    let page = admin.audit(6, None).expect("a history");
    let rest = admin.audit(6, page["before"].as_u64()).expect("a history");
    assert_eq!(
        (rest["entries"].as_array().map(Vec::len), rest["before"].is_null()),
        (Some(2), true)
    );
}

/// A key that cannot be put into the history is not in force.
#[test]
fn a_key_nobody_can_account_for_does_not_live() {
    let bench = Bench::new();
    let admin = bench.started();
    let before = bench.identities.len();
    bench.shelf.fails.store(true, Relaxed);
    let new = NewKey {
        consumer: "shop".to_owned(),
        name: None,
        expires_in_s: None,
    };
    assert!(matches!(
        admin.create_key(&new, "x"),
        Err(GatewayError::Unavailable(_))
    ));
    assert_eq!(bench.identities.len(), before);
    bench.shelf.fails.store(false, Relaxed);
    let made = admin.create_key(&new, "x").expect("made");
    let (id, key) = (
        made["id"].as_str().expect("an id"),
        made["key"].as_str().expect("a key"),
    );
    // Revoked all the same.
    bench.shelf.fails.store(true, Relaxed);
    assert!(matches!(
        admin.revoke_key(id, "x"),
        Err(GatewayError::Unavailable(_))
    ));
    assert!(!bench.is_known(key));
}

#[test]
fn money_is_exact() {
    let bench = Bench::new();
    let admin = bench.started();
    let call = |model: &str, cost_pusd: i64, estimated: bool| CallRecord {
        at_ms: NOW_MS,
        model: model.into(),
        consumer: "shop".into(),
        cost_pusd,
        estimated,
        usage: llm::usage::Usage {
            input: 10,
            reasoning: 3,
            ..llm::usage::Usage::default()
        },
        ..CallRecord::default()
    };
    // Two of them exceed what 64 bits hold.
    let big = 9_000_000_000_000_000_001;
    for one in [call("a", big, false), call("a", big, true), call("b", 1, false)] {
        admin.counted.record(one);
    }
    admin.counted.record(CallRecord {
        outcome: Outcome::RateLimited,
        at_ms: NOW_MS,
        status: 429,
        ..CallRecord::default()
    });
    wait(admin.counted.flush());
    let cost = admin.cost(&CostQuery::default()).expect("sums");
    assert_eq!(cost["rows"][0]["of"], "a");
    assert_eq!(cost["rows"][0]["cost_usd"], "18000000.000000000002");
    assert_eq!(cost["rows"][0]["estimated_usd"], "9000000.000000000001");
    assert_eq!(cost["total"]["cost_usd"], "18000000.000000000003");
    assert_eq!(cost["total"]["tokens"]["reasoning"], 9);
    assert_eq!(
        (cost["total"]["calls"].as_u64(), cost["total"]["failed"].as_u64()),
        (Some(4), Some(1))
    );
    for by in ["consumer", "team", "provider", "hour", "day"] {
        let query = CostQuery {
            by: Some(by.to_owned()),
            ..CostQuery::default()
        };
        let sums = admin.cost(&query).expect("sums");
        assert_eq!(sums["total"]["cost_usd"], "18000000.000000000003", "{by}");
    }
    // What is asked for alone.
    let of = |consumer: Option<&str>, model: Option<&str>, provider: Option<&str>| {
        let text = |given: Option<&str>| given.map(str::to_owned);
        let query = CostQuery {
            consumer: text(consumer),
            model: text(model),
            provider: text(provider),
            ..CostQuery::default()
        };
        let sums = admin.cost(&query).expect("sums");
        (
            sums["rows"].as_array().map(Vec::len),
            sums["total"]["calls"].as_u64(),
        )
    };
    let (all, of_a) = (of(None, None, None), of(None, Some("a"), None));
    assert_eq!(all.1, Some(4));
    assert!(
        of_a.0 == Some(1) && of_a.1 > Some(0) && of_a.1 < Some(4),
        "{of_a:?}"
    );
    assert_eq!(of(Some("nobody"), None, None), (Some(0), Some(0)));
    assert_eq!(of(None, None, Some("nobody")), (Some(0), Some(0)));
    let calls = |query: CallQuery| admin.calls(&query);
    let query = || CallQuery {
        limit: Some(2),
        ..CallQuery::default()
    };
    let page = calls(query()).expect("calls");
    assert_eq!(page["calls"].as_array().map(Vec::len), Some(2));
    let rest = calls(CallQuery {
        cursor: page["next"].as_str().map(str::to_owned),
        ..query()
    });
    assert_eq!(rest.expect("calls")["calls"].as_array().map(Vec::len), Some(2));
    let dear = CallQuery {
        cost_min_usd: Some("0.5".to_owned()),
        outcome: Some("ok".to_owned()),
        ..CallQuery::default()
    };
    assert_eq!(
        calls(dear).expect("calls")["calls"].as_array().map(Vec::len),
        Some(2)
    );
    let text = |text: &str| Some(text.to_owned());
    for wrong in [
        CallQuery {
            outcome: text("fine"),
            ..query()
        },
        CallQuery {
            cost_min_usd: text("much"),
            ..query()
        },
        CallQuery {
            cursor: text("x y"),
            ..query()
        },
        CallQuery {
            limit: Some(0),
            ..query()
        },
    ] {
        assert!(
            matches!(calls(wrong.clone()), Err(GatewayError::Invalid(_))),
            "{wrong:?}"
        );
    }
    let by = CostQuery {
        by: text("colour"),
        ..CostQuery::default()
    };
    assert!(matches!(admin.cost(&by), Err(GatewayError::Invalid(_))));
    let metrics = admin.metrics();
    for line in [
        "weir_gateway_calls_total{outcome=\"rate_limited\"} 1",
        "weir_gateway_tokens_total{bucket=\"input\"} 30",
        "weir_gateway_cost_usd_total 18000000.000000000003",
        "weir_gateway_provider_keys{provider=\"openai\",state=\"limited\"} 1",
        "weir_gateway_records_lost_total{of=\"queue\"} 0",
        "# TYPE weir_gateway_wrong_keys_uncounted_total counter",
        "weir_gateway_wrong_keys_uncounted_total 3",
        "weir_gateway_cache_dropped_total{reason=\"too_large\"} 4",
        "weir_gateway_cache_dropped_total{reason=\"evicted\"} 5",
        "# TYPE weir_gateway_cache_bytes gauge",
    ] {
        assert!(
            metrics.lines().any(|one| one == line),
            "{line} is not in\n{metrics}"
        );
    }
    let types: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("# TYPE"))
        .collect();
    let mut different = types.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), types.len(), "a metric is there twice: {types:?}");
    assert_eq!(
        admin.status()["traffic"],
        json!({
            "wrong_keys_uncounted_total": 3,
            "cache_dropped_total": { "too_large": 4, "evicted": 5 },
            "cache_bytes": 6,
        })
    );
}

/// Nothing that the management answers holds a secret.
#[test]
fn secrets_are_in_no_answer() {
    let bench = Bench::new();
    let admin = bench.started();
    admin.change(local()).expect("applied");
    let mut bodies = Vec::new();
    for kind in Kind::ALL {
        bodies.push(format!("{:?}", admin.documents(kind)));
    }
    let wrong = admin.change(put(
        Kind::Providers,
        "local",
        json!({"kind": "nothing", "base_url": 5, "keys": [{"value": "sk-new-secret"}, {"value": "sk-other-secret", "what": 1}]}),
    ));
    bodies.push(format!("{wrong:?}"));
    bodies.push(admin.audit(100, None).expect("a history").to_string());
    bodies.push(admin.status().to_string());
    bodies.push(admin.catalogue().to_string());
    bodies.push(admin.metrics());
    bodies.push(format!("{:?}", admin.keys(&KeyQuery::default())));
    let all = bodies.concat();
    for secret in ["secret", "sk-of-the-file", "static-key"] {
        assert!(!all.contains(secret), "{secret} is in {all}");
    }
    assert!(all.contains("***"));
    // Nor is one in the clear in any file.
    for entry in std::fs::read_dir(bench.folder.path())
        .expect("a folder")
        .flatten()
    {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        let is_there = |secret: &str| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        for secret in [
            "sk-local-secret",
            "sk-header-secret",
            "sk-of-the-file",
            "sk-weir-static-key",
        ] {
            assert!(!is_there(secret), "{secret} is in {}", entry.path().display());
        }
    }
}
