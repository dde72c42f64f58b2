//! The shipped table, and what an operator puts over it.

use super::*;
use crate::money::{Bucket, Money, UnitPrice, cost};
use crate::usage::Usage;
use serde_json::json;

#[test]
fn the_shipped_table_is_whole() {
    let parsed = Catalogue::parse(SHIPPED).expect("the table reads");
    let catalogue = Catalogue::shipped();
    assert_eq!(parsed.len(), SHIPPED.lines().count() - 3);
    assert_eq!(catalogue.len(), parsed.len());
    assert!(
        catalogue.kinds().count() >= 20,
        "{:?}",
        catalogue.kinds().collect::<Vec<_>>()
    );
    let priced: Vec<_> = catalogue
        .iter()
        .filter(|model| !model.prices.is_empty())
        .collect();
    assert!(priced.len() >= 1_000);
    for pair in catalogue.models.windows(2) {
        assert!(
            (&pair[0].kind, &pair[0].name) < (&pair[1].kind, &pair[1].name),
            "{:?}",
            pair[1].name
        );
    }
    for model in catalogue.iter() {
        assert_eq!(catalogue.lookup(&model.kind, &model.name), Some(model));
        assert!(model.assumed());
        // Names point into the table.
        assert!(matches!(
            (&model.kind, &model.name),
            (Cow::Borrowed(_), Cow::Borrowed(_))
        ));
    }
    for (kind, part) in [
        ("openai", "gpt-"),
        ("anthropic", "claude-"),
        ("gemini", "gemini-"),
        ("mistral", "mistral-"),
        ("dashscope", "qwen"),
        ("qianfan", "ernie-"),
        ("deepseek", "deepseek-"),
        ("groq", "gpt-oss"),
        ("together", "Llama-"),
        ("meta_llama", "Llama-"),
        ("bedrock", "meta.llama"),
        ("volcengine", "doubao-"),
        ("moonshot", "kimi-"),
        ("minimax", "MiniMax-"),
        ("zhipu", "glm-"),
    ] {
        assert!(
            catalogue.of_kind(kind).any(|model| model.name.contains(part)),
            "{kind} {part}"
        );
    }
}

#[test]
fn it_takes_little_memory() {
    let catalogue = Catalogue::shipped();
    let tiers: usize = catalogue
        .iter()
        .map(|model| size_of_val(model.prices.tiers()))
        .sum();
    let total = catalogue.models.capacity() * size_of::<Model>() + tiers;
    assert!(
        total < 700_000,
        "{total} bytes, {} for a model",
        size_of::<Model>()
    );
}

#[test]
fn lookup() {
    let check = |kind, name, expected: Option<&str>| {
        let found = Catalogue::shipped().lookup(kind, name);
        assert_eq!(found.map(|model| &*model.name), expected, "{kind} {name}");
    };
    check("openai", "gpt-4o-mini", Some("gpt-4o-mini"));
    check(
        "openai",
        "ft:gpt-4o-mini-2024-07-18:acme::x1",
        Some("ft:gpt-4o-mini-2024-07-18"),
    );
    check("openai", "ft:", None);
    check("openai", "ft::::", None);
    check(
        "bedrock",
        "us.amazon.nova-lite-v1:0",
        Some("us.amazon.nova-lite-v1:0"),
    );
    check("vertex", "gpt-4o-mini", None);
    check("openai", "", None);
    check("", "gpt-4o-mini", None);
}

#[test]
fn a_shipped_price_is_the_tables() {
    let model = Catalogue::shipped().lookup("openai", "gpt-4o-mini").unwrap();
    let usage = Usage {
        input: 1_000,
        cache_read: 1_000,
        output: 100,
        ..Usage::default()
    };
    // 0.15, 0.075 and 0.60 USD per million.
    assert_eq!(cost(&model.prices, &usage).amount, "0.000285".parse().unwrap());
    assert_eq!(model.taken, Some("2026-11-20"));
    assert!(model.features.has(Features::TOOLS.with(Features::VISION)));
    assert_eq!(model.context_tokens, Some(128_000));
}

fn own(documents: serde_json::Value) -> Result<Catalogue, String> {
    let overrides = serde_json::from_value(documents).map_err(|error| error.to_string())?;
    Catalogue::with_overrides(overrides).map_err(|error| error.to_string())
}

#[test]
fn overrides_win() {
    let shipped = Catalogue::shipped();
    let catalogue = own(json!([
        {"provider": "openai", "model": "gpt-4o-mini", "usd_per_million": {"input": "1", "output": 2.5}},
        {"provider": "openai", "model": "gpt-4o", "context_tokens": 5},
        {"provider": "mine", "model": "m/1", "mode": "embedding", "features": ["tools", "pdf"], "usd_per_request": "0.01"},
    ]))
    .unwrap();
    assert_eq!(catalogue.len(), shipped.len() + 1);
    let mini = catalogue.lookup("openai", "gpt-4o-mini").unwrap();
    assert_eq!(
        mini.prices.price(Bucket::CacheRead, 1),
        Some(UnitPrice::parse_per_million("1").unwrap())
    );
    assert_eq!(mini.context_tokens, Some(128_000));
    assert!(!mini.assumed());
    let gpt = catalogue.lookup("openai", "gpt-4o").unwrap();
    assert_eq!((gpt.context_tokens, gpt.assumed()), (Some(5), true));
    assert_eq!(gpt.prices, shipped.lookup("openai", "gpt-4o").unwrap().prices);
    let mine = catalogue.lookup("mine", "m/1").unwrap();
    assert_eq!(mine.mode, Mode::Embedding);
    assert_eq!(mine.features, Features::TOOLS.with(Features::PDF));
    assert_eq!(
        cost(&mine.prices, &Usage::default()).amount,
        Money::from_pico_usd(10_000_000_000)
    );
    assert_eq!(
        catalogue
            .iter()
            .filter(|model| model.name == "gpt-4o-mini" && model.kind == "openai")
            .count(),
        1
    );
    // What is shown is an override but for where the prices are from.
    let mut shown = serde_json::to_value(mini).unwrap();
    assert_eq!(shown["usd_per_million"], json!({"input": "1", "output": "2.5"}));
    shown.as_object_mut().unwrap().remove("prices_taken");
    assert_eq!(
        own(json!([shown])).unwrap().lookup("openai", "gpt-4o-mini"),
        Some(mini)
    );
}

#[test]
fn wrong_overrides_name_the_field() {
    let check = |document: serde_json::Value, expected: &str| {
        let error = own(json!([document])).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    };
    check(
        json!({"model": "m"}),
        "provider: expected a name, such as \"openai\"",
    );
    check(json!({"provider": "p", "model": ""}), "model: expected a name");
    check(json!({"provider": 1, "model": "m"}), "provider: invalid type");
    check(
        json!({"provider": "p", "model": "m", "mode": "talk"}),
        "mode: unknown variant `talk`",
    );
    check(
        json!({"provider": "p", "model": "m", "context_tokens": -1}),
        "context_tokens: ",
    );
    check(
        json!({"provider": "p", "model": "m", "features": ["flies"]}),
        "features: `flies` is none of tools",
    );
    check(
        json!({"provider": "p", "model": "m", "usd_per_million": {"input": "cheap"}}),
        "usd_per_million: input: `cheap` expected a decimal number",
    );
    check(
        json!({"provider": "p", "model": "m", "usd_per_request": true}),
        "usd_per_request: ",
    );
    check(
        json!({"provider": "p", "model": "m", "price": 1}),
        "price: unknown; expected one of provider, model",
    );
    let twice = own(json!([{"provider": "p", "model": "m"}, {"provider": "p", "model": "m"}]));
    assert_eq!(twice.unwrap_err(), "model m of p is there twice: remove one");
}
