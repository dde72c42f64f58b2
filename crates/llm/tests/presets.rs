//! Where every kind of provider is asked for what, and that no model's name leads elsewhere.

mod common;

use llm::catalogue::Catalogue;
use llm::presets::{self, Auth, Operation, Preset, TargetError};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;

fn parameters(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    owned.collect()
}

fn all_parameters() -> BTreeMap<String, String> {
    parameters(&[
        ("resource", "acme"),
        ("region", "eu-west-1"),
        ("project", "acme-1"),
        ("location", "europe-west4"),
    ])
}

fn preset(kind: &str) -> &'static Preset {
    presets::by_kind(kind).unwrap_or_else(|| panic!("no preset {kind}"))
}

#[test]
fn addresses_are_these() {
    let told = all_parameters();
    let mut shown = String::new();
    for preset in presets::all() {
        let base = preset
            .base(&told)
            .map_or_else(|| "BASE".to_owned(), Result::unwrap);
        writeln!(
            shown,
            "{} | {:?} | {:?} {:?}",
            preset.kind, preset.wire, preset.auth, preset.headers
        )
        .unwrap();
        for operation in Operation::ALL {
            for stream in [false, true] {
                let Some(target) = preset.request_target(operation, "/m", stream, &told) else {
                    assert!(!preset.supports(operation));
                    continue;
                };
                let target = match operation {
                    Operation::Passthrough => target,
                    _ => preset.request_target(operation, "m", stream, &told).unwrap(),
                };
                if !stream || (operation == Operation::Chat && preset.stream_path.is_some()) {
                    let method = operation.method();
                    writeln!(shown, "  {operation:?} {method} {base}{}", target.unwrap()).unwrap();
                }
            }
        }
    }
    common::check_golden("presets.txt", &shown);
}

#[test]
fn rows_are_whole() {
    let mut kinds: Vec<&str> = presets::all().iter().map(|preset| preset.kind).collect();
    let n_kinds = kinds.len();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), n_kinds, "a kind is there twice");
    for preset in presets::all() {
        let kind = preset.kind;
        assert!(
            !kind.is_empty() && !preset.title.is_empty() && !preset.source.is_empty(),
            "{kind}"
        );
        assert!(preset.supports(Operation::Chat) && is_rooted(preset), "{kind}");
        let embeds = preset.supports(Operation::Embeddings);
        assert_eq!(embeds, preset.embeddings.is_some(), "{kind}");
        assert_eq!(
            preset.supports(Operation::CountTokens),
            preset.count.is_some(),
            "{kind}"
        );
        if let Some(base) = preset.base_url {
            assert!(
                base.starts_with("https://") || preset.auth == Auth::None,
                "{kind}: a key in the clear"
            );
            assert!(!base.ends_with('/'), "{kind}");
        }
        for kind in preset.catalogue {
            assert!(
                Catalogue::shipped().of_kind(kind).next().is_some(),
                "{kind} has no models"
            );
        }
    }
    // Every kind of the catalogue can be called.
    for kind in Catalogue::shipped().kinds() {
        assert!(
            presets::all()
                .iter()
                .any(|preset| preset.catalogue.contains(&kind)),
            "{kind}"
        );
    }
}

fn is_rooted(preset: &Preset) -> bool {
    let streamed = preset.stream_path.into_iter();
    let mut paths = preset.paths.iter().map(|(_, path)| *path).chain(streamed);
    paths.all(|path| path.starts_with('/'))
}

fn check(kind: &str, model: &str, pairs: &[(&str, &str)], expected: Result<&str, TargetError>) {
    let target = preset(kind).request_target(Operation::Chat, model, true, &parameters(pairs));
    assert_eq!(target.unwrap(), expected.map(str::to_owned), "{kind} {model}");
}

#[test]
fn names_of_models() {
    check("openai", "gpt-4o", &[], Ok("/chat/completions"));
    check(
        "bedrock",
        "us.amazon.nova-lite-v1:0",
        &[],
        Ok("/model/us.amazon.nova-lite-v1%3A0/converse-stream"),
    );
    check(
        "bedrock",
        "arn:aws:bedrock:us-east-1:1:inference-profile/x",
        &[],
        Ok("/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fx/converse-stream"),
    );
    check(
        "gemini",
        "gemini-2.5-pro",
        &[],
        Ok("/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
    );
    check(
        "gemini",
        "tunedModels/my:one",
        &[],
        Ok("/tunedModels/my%3Aone:streamGenerateContent?alt=sse"),
    );
    check(
        "gemini",
        "é?#",
        &[],
        Ok("/models/%C3%A9%3F%23:streamGenerateContent?alt=sse"),
    );
    check(
        "vertex",
        "claude-haiku@20241022",
        &[("project", "p")],
        Ok(
            "/projects/p/locations/global/publishers/google/models/claude-haiku@20241022:streamGenerateContent?alt=sse",
        ),
    );
    check(
        "vertex",
        "meta/llama",
        &[("project", "p"), ("location", "eu")],
        Ok("/projects/p/locations/eu/publishers/meta/models/llama:streamGenerateContent?alt=sse"),
    );
    check(
        "azure",
        "my deployment",
        &[],
        Ok("/openai/deployments/my%20deployment/chat/completions?api-version=2024-10-21"),
    );
    check(
        "azure",
        "d",
        &[("api_version", "x&y")],
        Ok("/openai/deployments/d/chat/completions?api-version=x%26y"),
    );
}

#[test]
fn names_that_lead_elsewhere() {
    for model in ["", ".", "..", "a\nb", "a\0"] {
        check("bedrock", model, &[], Err(TargetError::Model));
        check("gemini", model, &[], Err(TargetError::Model));
        check("vertex", model, &[("project", "p")], Err(TargetError::Model));
    }
    for model in ["a/../b", "/a", "a/", "a//b", "../a"] {
        check("gemini", model, &[], Err(TargetError::Model));
    }
    check("vertex", "../x", &[("project", "p")], Err(TargetError::Model));
    check(
        "vertex",
        "m",
        &[],
        Err(TargetError::Missing("project".to_owned())),
    );
    check(
        "vertex",
        "m",
        &[("project", "")],
        Err(TargetError::Missing("project".to_owned())),
    );
    // A model's name is never taken for a parameter.
    check(
        "bedrock",
        "{region}",
        &[("region", "x")],
        Ok("/model/%7Bregion%7D/converse-stream"),
    );
}

#[test]
fn addresses_with_parameters() {
    let base = |kind, pairs| preset(kind).base(&parameters(pairs));
    let at = |url: &str| Some(Ok(url.to_owned()));
    assert_eq!(
        base("bedrock", &[("region", "eu-west-1")]),
        at("https://bedrock-runtime.eu-west-1.amazonaws.com")
    );
    assert_eq!(
        base("bedrock", &[("region", "x.evil/")]),
        at("https://bedrock-runtime.x.evil%2F.amazonaws.com")
    );
    assert_eq!(
        base("bedrock", &[]),
        Some(Err(TargetError::Missing("region".to_owned())))
    );
    assert_eq!(base("vertex", &[]), at("https://aiplatform.googleapis.com/v1"));
    assert_eq!(
        base("vertex", &[("location", "us-east5")]),
        at("https://us-east5-aiplatform.googleapis.com/v1")
    );
    assert_eq!(base("vllm", &[]), None);
    assert_eq!(
        presets::fill("a{b}c{d", &parameters(&[("b", "1")])),
        Ok("a1c{d".to_owned())
    );
    assert_eq!(presets::fill("{b}", &BTreeMap::new()), Err("b".to_owned()));
}

#[test]
fn models_of_a_provider() {
    let own = serde_json::json!([{"provider": "mine", "model": "gpt-4o", "usd_per_million": {"input": "1"}}]);
    let catalogue = Catalogue::with_overrides(serde_json::from_value(own).unwrap()).unwrap();
    let check = |kind: &str, provider: &str, name: &str, expected: Option<&str>| {
        let found = preset(kind).model(&catalogue, provider, name);
        assert_eq!(
            found.map(|model| &*model.kind),
            expected,
            "{kind} {provider} {name}"
        );
    };
    check("openai", "mine", "gpt-4o", Some("mine"));
    check("openai", "mine", "gpt-4o-mini", Some("openai"));
    check("azure", "a", "gpt-4o", Some("azure"));
    check("zhipu", "z", "glm-5.3", Some("zhipu"));
    check("zhipu", "z", "glm-4.5", Some("zai"));
    check("hunyuan", "h", "kimi-k3", Some("tencent"));
    check("vllm", "v", "gpt-4o", None);
}

#[test]
fn paths_of_clients() {
    let check = |path: &str, is_fine: bool| {
        let target = preset("openai").request_target(Operation::Passthrough, path, false, &BTreeMap::new());
        let expected = if is_fine {
            Ok(path.to_owned())
        } else {
            Err(TargetError::Model)
        };
        assert_eq!(target, Some(expected), "{path}");
    };
    for path in [
        "/files",
        "/files?limit=5&after=../x",
        "/batches/b_1/cancel",
        "/a/b..c",
        "/realtime?model=m",
    ] {
        check(path, true);
    }
    for path in [
        "",
        "files",
        "//evil",
        "/../x",
        "/a/..",
        "/a/./b",
        "/%2e%2E/x",
        "/.%2e/x",
        "/a b",
        "/a#b",
        "/a\\..\\b",
        "/a%2f..%2fb",
        "/a%5Cb",
        "/a\r\nHost: x",
    ] {
        check(path, false);
    }
    assert!(!preset("bedrock").supports(Operation::Passthrough));
}

proptest! {
    #[test]
    fn one_segment_whatever_the_name(model in "\\PC{1,40}") {
        let target = preset("bedrock").request_target(Operation::Chat, &model, false, &BTreeMap::new());
        if let Ok(target) = target.unwrap() {
            let encoded = target.strip_prefix("/model/").and_then(|rest| rest.strip_suffix("/converse")).unwrap();
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~@%".contains(&byte)));
            prop_assert!(encoded != "." && encoded != "..");
        }
    }
}
