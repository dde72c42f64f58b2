//! The gateway of a running Weir as its commands manage it, in a network namespace of its own.

use std::time::{Duration, Instant};

use serde_json::json;

mod common;
use common::gateway::{Gateway, PROVIDER_KEY, lines, own_network};
use common::simulator::Simulator;

/// One provider, and a client without a key.
fn sections(simulator: &Simulator) -> String {
    format!(
        "gateway: {{ listen: [\"127.0.0.1:8080\"] }}\n\
         providers:\n  - name: sim\n    kind: openai_compatible\n    price_as: openai\n    \
         base_url: http://{}/v1\n    keys: [{{ env: SIM_KEY }}]\n\
         consumers: [{{ name: shop, team: web }}]\n",
        simulator.addr
    )
}

/// The status of a chat with this key.
fn chat(weir: &Gateway, key: &str, model: &str) -> u16 {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
    let answer = weir.ask(key, "/v1/chat/completions", &body);
    answer.map_or(0, |answer| answer.status)
}

#[test]
fn keys_documents_calls_and_cost() {
    if !own_network() {
        return;
    }
    let simulator = Simulator::start(&["--key", PROVIDER_KEY]);
    let weir = Gateway::start(&sections(&simulator));
    // A key: made, used, ended.
    let key = weir.says(
        &["key", "create", "--consumer", "shop", "--name", "till"],
        0,
        "made key till",
    );
    let key = key.trim().to_owned();
    assert!(key.starts_with("sk-weir-"), "{key}");
    assert_eq!(chat(&weir, "sk-weir-none", "sim/gpt-4o-mini"), 401);
    assert_eq!(chat(&weir, &key, "sim/gpt-4o-mini"), 200);
    weir.says(
        &["key", "create", "--consumer", "shop", "--name", "till"],
        1,
        "exists",
    );
    weir.says(
        &["key", "create", "--consumer", "nobody"],
        2,
        "consumer: no consumer is called `nobody`",
    );
    let listed = weir.says(&["key", "list", "--format", "json"], 0, "");
    assert!(!listed.contains(&key), "{listed}");
    assert_eq!(lines(&listed)[0]["state"], "valid");

    // Documents: planned, applied, compared, exported, removed.
    let file = weir.write(
        "docs.yaml",
        "providers:\n  - { name: other, kind: openai, keys: [{ value: sk-of-the-api }] }\n\
         models:\n  - { name: fast, targets: [{ model: sim/gpt-4o-mini }] }\n",
    );
    assert_eq!(chat(&weir, &key, "fast"), 404);
    let plan = weir.says(&["apply", "--dry-run", "-f", &file], 0, "2 to create");
    assert_eq!(plan, "+ providers/other\n+ models/fast\n");
    weir.says(&["diff", "-f", &file], 1, "2 to create");
    weir.says(&["apply", "-f", &file], 0, "created 2, changed 0, removed 0");
    assert_eq!(chat(&weir, &key, "fast"), 200);
    weir.says(&["diff", "-f", &file], 0, "2 unchanged");
    let exported = weir.says(&["export"], 0, "secrets read ***");
    assert!(
        exported.contains("sim/gpt-4o-mini") && exported.contains("***"),
        "{exported}"
    );
    let exported_text = exported.clone();
    let exported = weir.write("exported.yaml", &exported);
    weir.says(&["diff", "-f", &exported, "--prune"], 0, "2 unchanged");
    let wrong = weir.write(
        "wrong.yaml",
        "models:\n  - { name: fast, targets: [{ model: none/x }] }\n",
    );
    weir.says(
        &["apply", "-f", &wrong],
        2,
        "models/fast: targets[0].model: no provider is called `none`",
    );
    let wrong = weir.write(
        "wrong.yaml",
        "models:\n  - name: fast\n    tragets: []\ngateway: {}\n",
    );
    weir.says(
        &["apply", "-f", &wrong],
        2,
        "wrong.yaml:3: models[0].tragets: no such field",
    );
    let files = weir.write("files.yaml", "providers: [{ name: sim, kind: openai }]\n");
    weir.says(&["apply", "-f", &files], 1, "comes from the file");
    weir.says(&["delete", "models", "fast"], 0, "removed models/fast");
    assert_eq!(chat(&weir, &key, "fast"), 404);
    weir.says(&["delete", "models", "fast"], 1, "");
    let models = weir.says(&["get", "providers"], 0, "");
    assert!(models.contains("other") && models.contains("sim"), "{models}");
    assert!(weir.says(&["get", "presets"], 0, "").contains("anthropic"));

    // Revoked: refused from the moment the command has ended.
    let begun = Instant::now();
    weir.says(&["key", "revoke", "till"], 0, "revoked key till");
    let revoked = Instant::now();
    assert_eq!(chat(&weir, &key, "sim/gpt-4o-mini"), 401);
    assert!(
        revoked.elapsed() < Duration::from_millis(100),
        "{:?} after {:?}",
        revoked.elapsed(),
        revoked - begun
    );
    weir.says(&["key", "revoke", "till"], 1, "");

    // Records of what happened, and its cost.
    let calls = weir.records(2, &["--outcome", "ok"]);
    assert_eq!(
        (calls.len(), &calls[0]["consumer"], &calls[0]["key_id"]),
        (2, &"shop".into(), &"till".into())
    );
    assert_eq!(calls[0]["provider"], "sim");
    weir.says(&["calls", "--outcome", "fine"], 2, "outcome: expected one of ok");
    let cost = lines(&weir.says(&["cost", "--by", "consumer", "--format", "json"], 0, ""));
    let shop = cost.iter().find(|row| row["of"] == "shop").expect("a row");
    assert_ne!(shop["cost_usd"], "0");
    let by_model = lines(&weir.says(&["cost", "--by", "model", "--format", "json"], 0, ""));
    let row = by_model
        .iter()
        .find(|row| row["cost_usd"] == shop["cost_usd"])
        .expect("the same money");
    let (day, model) = (
        &calls[0]["time"].as_str().expect("a time")[..10],
        row["of"].as_str().expect("a name"),
    );
    let usd = shop["cost_usd"].as_str().expect("text");
    let export = weir.write("usage.csv", &format!("date,model,usd\n{day},{model},{usd}\n"));
    weir.says(&["cost", "reconcile", &export], 0, "0 of 1 rows differ");
    let export = weir.write("usage.csv", &format!("date,model,usd\n{day},{model},99\n"));
    weir.says(&["cost", "reconcile", &export], 1, "1 of 1 rows differ");

    // What is in force.
    let state = weir.says(&["gateway"], 0, "");
    assert!(state.contains("sim") && state.contains("ok 2"), "{state}");

    // No secret is said, neither by it nor by what commands print of it.
    for said in [
        weir.log(),
        state,
        exported_text,
        models,
        weir.says(&["calls", "--format", "json"], 0, ""),
        weir.says(&["get", "providers", "--format", "json"], 0, ""),
    ] {
        for secret in [PROVIDER_KEY, "sk-of-the-api", key.as_str()] {
            assert!(!said.contains(secret), "{said}");
        }
    }
}
