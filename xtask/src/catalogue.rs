//! The model catalogue that ships with Weir, made from litellm's table of prices.
//!
//! `cargo xtask catalogue FILE` writes [`PATH`]; `cargo xtask check` says whether it still is what FILE
//! gives, where the folder of shared data holds FILE. Prices stay the text they are in the source.
//!
//! What of a row is kept: standard prices per token, by bucket and by size of the prompt, the price of a
//! request, the sizes, and what the model can do. Left out: batch, flex, priority and off-peak prices
//! (DeepSeek's, which are lower), prices of seconds, characters, pixels and searches, and rows that are
//! no model a client can name: by region (`azure/eu/…`, `bedrock/us-east-1/…`), by size
//! (`together-ai-4.1b-8b`), priced by count of results. A row whose prices are all zero has none here,
//! since the source writes zero for what it does not know; only what runs on one's own machine is free.

use anyhow::{Context as _, ensure};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The catalogue in this repository.
pub(crate) const PATH: &str = "crates/llm/data/catalogue.json";
/// The table in the folder of shared data.
pub(crate) const SOURCE_PATH: &str = "data/ai/prices/model_prices_and_context_window.min.json";

/// The table says neither its version nor its date: the release it is from, and the day it was taken.
const SOURCE_VERSION: &str = "1.109.1";
const TAKEN: &str = "2026-11-20";

const MODES: [&str; 5] = ["chat", "responses", "completion", "embedding", "rerank"];

/// Kinds of providers and the values of `litellm_provider` that are theirs; of two rows with one name the
/// earlier provider's wins. `vertex_ai-*` is vertex.
const KINDS: [(&str, &[&str]); 27] = [
    ("anthropic", &["anthropic"]),
    ("azure", &["azure", "azure_text", "azure_ai"]),
    ("bedrock", &["bedrock_converse", "bedrock"]),
    ("cerebras", &["cerebras"]),
    ("cohere", &["cohere_chat", "cohere"]),
    ("dashscope", &["dashscope"]),
    ("deepseek", &["deepseek"]),
    ("fireworks", &["fireworks_ai", "fireworks_ai-embedding-models"]),
    ("gemini", &["gemini"]),
    ("groq", &["groq"]),
    ("meta", &["meta"]),
    ("meta_llama", &["meta_llama"]),
    ("minimax", &["minimax"]),
    ("mistral", &["mistral", "codestral", "text-completion-codestral"]),
    ("moonshot", &["moonshot"]),
    ("nvidia", &["nvidia_nim"]),
    ("ollama", &["ollama"]),
    ("openai", &["openai", "text-completion-openai"]),
    ("perplexity", &["perplexity"]),
    // Baidu is not in the table: its models as others sell them, marked by `priced_from`.
    ("qianfan", &["aihubmix", "novita", "fireworks_ai"]),
    ("tencent", &["tencent"]),
    ("together", &["together_ai"]),
    ("vertex", &["vertex_ai"]),
    ("volcengine", &["volcengine"]),
    ("xai", &["xai"]),
    ("zai", &["zai"]),
    ("zhipu", &["bigmodel"]),
];

/// Their names in the catalogue, and the keys of the table, the first that is there.
const BUCKETS: [(&str, &[&str]); 10] = [
    ("input", &["input_cost_per_token"]),
    ("output", &["output_cost_per_token"]),
    (
        "cache_read",
        &["cache_read_input_token_cost", "input_cost_per_token_cache_hit"],
    ),
    ("cache_write_5m", &["cache_creation_input_token_cost"]),
    ("cache_write_1h", &["cache_creation_input_token_cost_above_1hr"]),
    ("reasoning", &["output_cost_per_reasoning_token"]),
    ("input_audio", &["input_cost_per_audio_token"]),
    ("output_audio", &["output_cost_per_audio_token"]),
    ("input_image", &["input_cost_per_image_token"]),
    ("output_image", &["output_cost_per_image_token"]),
];

const FEATURES: [(&str, &[&str]); 12] = [
    ("tools", &["supports_function_calling"]),
    ("parallel_tools", &["supports_parallel_function_calling"]),
    ("tool_choice", &["supports_tool_choice"]),
    (
        "vision",
        &[
            "supports_vision",
            "supports_image_input",
            "supports_embedding_image_input",
        ],
    ),
    ("pdf", &["supports_pdf_input"]),
    ("video", &["supports_video_input"]),
    ("audio_in", &["supports_audio_input"]),
    ("audio_out", &["supports_audio_output"]),
    (
        "structured",
        &["supports_response_schema", "supports_native_structured_output"],
    ),
    ("reasoning", &["supports_reasoning"]),
    ("cache", &["supports_prompt_caching"]),
    ("web_search", &["supports_web_search"]),
];

/// A row of the table: every value as the text it has there.
type Row = BTreeMap<String, Box<RawValue>>;
/// Prices by bucket, as text.
type Rates<'a> = BTreeMap<&'static str, &'a str>;

/// The text of the catalogue, from the text of litellm's table.
pub(crate) fn generate(table: &str) -> anyhow::Result<String> {
    let rows: BTreeMap<String, Row> =
        serde_json::from_str(table).context("expected litellm's table: an object of objects")?;
    let mut models: BTreeMap<(&str, String), (usize, String)> = BTreeMap::new();
    for (key, row) in &rows {
        let provider = text(row, "litellm_provider").unwrap_or_default();
        let mode = text(row, "mode").unwrap_or_default();
        if !MODES.contains(&mode) {
            continue;
        }
        for (kind, rank) in kinds_of(provider, key) {
            let Some((name, has_prefix)) = name(kind, provider, key) else {
                continue;
            };
            // A key with its provider's prefix is the provider's own row.
            let rank = rank * 2 + usize::from(!has_prefix);
            let shown = show(kind, &name, mode, provider, row).with_context(|| format!("row {key}"))?;
            let place = models
                .entry((kind, name))
                .or_insert_with(|| (usize::MAX, String::new()));
            if rank < place.0 {
                *place = (rank, shown);
            }
        }
    }
    ensure!(!models.is_empty(), "the table has no model of a known provider");
    let mut out = format!(
        "{{\"source\":\"litellm {SOURCE_VERSION}, model_prices_and_context_window.json, MIT: see LICENSE-litellm\",\n\
         \"taken\":\"{TAKEN}\",\"unit\":\"USD per token\",\"models\":[\n"
    );
    let lines: Vec<String> = models.into_values().map(|(_, shown)| shown).collect();
    out.push_str(&lines.join(",\n"));
    out.push_str("\n]}\n");
    Ok(out)
}

/// The kinds a row belongs to, with the rank of its provider there.
fn kinds_of<'a>(provider: &'a str, key: &'a str) -> impl Iterator<Item = (&'static str, usize)> + 'a {
    let family = provider.split('-').next().unwrap_or_default();
    let provider = if family == "vertex_ai" { family } else { provider };
    let is_ernie = key.to_ascii_lowercase().contains("ernie");
    KINDS.iter().filter_map(move |(kind, providers)| {
        let rank = providers.iter().position(|known| *known == provider)?;
        (*kind != "qianfan" || is_ernie).then_some((*kind, rank))
    })
}

/// The name a client would ask for, and whether the key had a provider's prefix. `None` for rows that are
/// no model.
fn name(kind: &str, provider: &str, key: &str) -> Option<(String, bool)> {
    if kind == "qianfan" {
        return Some((key.rsplit('/').next()?.to_ascii_lowercase(), true));
    }
    let prefix = match provider {
        _ if kind == "vertex" => "vertex_ai",
        "azure_text" => "azure",
        "bedrock_converse" => "bedrock",
        "cohere_chat" => "cohere",
        "fireworks_ai-embedding-models" => "fireworks_ai",
        "together_ai" => "together_ai",
        other => other,
    };
    let own = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
    let name = own.unwrap_or(key);
    let is_class = name.starts_with("together-ai-") || name.starts_with("fireworks-ai-");
    // Azure and Bedrock have no model with a slash in its name; these are regions.
    let is_region = provider != "azure_ai" && matches!(kind, "azure" | "bedrock") && name.contains('/');
    (!is_class && !is_region).then(|| (name.to_owned(), own.is_some()))
}

fn text<'a>(row: &'a Row, key: &str) -> Option<&'a str> {
    serde_json::from_str(row.get(key)?.get()).ok()
}

fn is_true(row: &Row, key: &str) -> bool {
    row.get(key).is_some_and(|value| value.get() == "true")
}

fn is_zero(price: &str) -> bool {
    let mantissa = price.split(['e', 'E']).next().unwrap_or_default();
    mantissa.bytes().all(|byte| matches!(byte, b'0' | b'.'))
}

/// The price at the first of `keys` with `suffix`, as text.
fn price<'a>(row: &'a Row, keys: &[&str], suffix: &str) -> Option<&'a str> {
    let values = keys.iter().filter_map(|key| row.get(&format!("{key}{suffix}")));
    values
        .map(|value| value.get())
        .find(|text| text.starts_with(|first: char| first.is_ascii_digit()))
}

fn rates<'a>(row: &'a Row, suffix: &str) -> Rates<'a> {
    let found = BUCKETS
        .iter()
        .filter_map(|(bucket, keys)| Some((*bucket, price(row, keys, suffix)?)));
    found.collect()
}

/// Prices for prompts above so many tokens.
type Tiers<'a> = BTreeMap<u64, Rates<'a>>;

/// Tiers by the suffixes of keys: `input_cost_per_token_above_200k_tokens`.
fn tiers_of_suffixes(row: &Row) -> Tiers<'_> {
    let mut tiers = Tiers::new();
    for key in row.keys() {
        let Some((_, size)) = key.rsplit_once("_above_") else {
            continue;
        };
        let thousands: Option<u64> = size
            .strip_suffix("k_tokens")
            .and_then(|digits| digits.parse().ok());
        if let Some(thousands) = thousands {
            let rates = rates(row, &format!("_above_{size}"));
            if !rates.is_empty() {
                tiers.insert(thousands * 1_000, rates);
            }
        }
    }
    tiers
}

/// The list `tiered_pricing`, whose ranges are of prompt tokens; lists by other ranges give nothing.
fn listed_tiers(row: &Row) -> anyhow::Result<Vec<(u64, Row)>> {
    let Some(list) = row.get("tiered_pricing") else {
        return Ok(Vec::new());
    };
    let entries: Vec<Row> = serde_json::from_str(list.get()).context("tiered_pricing")?;
    let mut tiers = Vec::new();
    for entry in entries {
        if let Some(range) = entry.get("range") {
            let [from, _]: [f64; 2] = serde_json::from_str(range.get()).context("tiered_pricing: range")?;
            ensure!(
                from >= 0.0 && from.fract() == 0.0,
                "tiered_pricing: range {from} is no count of tokens"
            );
            tiers.push((from as u64, entry));
        }
    }
    Ok(tiers)
}

/// A model as one line of JSON.
fn show(kind: &str, name: &str, mode: &str, provider: &str, row: &Row) -> anyhow::Result<String> {
    let mut base = rates(row, "");
    let mut tiers = tiers_of_suffixes(row);
    let listed = listed_tiers(row)?;
    for (from, entry) in &listed {
        let rates = rates(entry, "");
        match from {
            0 => base.extend(rates),
            above => tiers.entry(*above).or_default().extend(rates),
        }
    }
    let mut request = price(row, &["input_cost_per_request"], "");
    if mode == "rerank" {
        // One search of a rerank model is one request.
        request = request.or_else(|| price(row, &["input_cost_per_query"], ""));
    }
    let is_local = kind == "ollama" && !name.ends_with("-cloud");
    let mut all = base
        .values()
        .chain(tiers.values().flat_map(BTreeMap::values))
        .chain(&request);
    if !is_local && all.all(|price| is_zero(price)) {
        (base, tiers, request) = (Rates::new(), Tiers::new(), None);
    }

    let mut line = format!("{{\"kind\":{kind:?},\"model\":{},\"mode\":{mode:?}", json(name)?);
    for (key, source) in [
        ("context_tokens", "max_input_tokens"),
        ("max_output_tokens", "max_output_tokens"),
    ] {
        if let Some(tokens) = row.get(source).and_then(|value| value.get().parse::<u64>().ok()) {
            write!(line, ",\"{key}\":{tokens}")?;
        }
    }
    let has = |keys: &[&str]| keys.iter().any(|key| is_true(row, key));
    let features: Vec<&str> = FEATURES
        .iter()
        .filter(|(_, keys)| has(keys))
        .map(|(name, _)| *name)
        .collect();
    if !features.is_empty() {
        write!(line, ",\"features\":\"{}\"", features.join(" "))?;
    }
    let mut prices = fields(&base);
    prices.extend(request.map(|price| format!("\"request\":\"{price}\"")));
    if !tiers.is_empty() {
        let tiers = tiers.iter().map(|(above, rates)| {
            let mut all = vec![format!("\"above\":{above}")];
            all.extend(fields(rates));
            format!("{{{}}}", all.join(","))
        });
        prices.push(format!("\"tiers\":[{}]", tiers.collect::<Vec<_>>().join(",")));
    }
    if !prices.is_empty() {
        write!(line, ",\"prices\":{{{}}}", prices.join(","))?;
    }
    if kind == "qianfan" {
        write!(line, ",\"priced_from\":{}", json(provider)?)?;
    }
    line.push('}');
    Ok(line)
}

fn fields(rates: &Rates<'_>) -> Vec<String> {
    rates
        .iter()
        .map(|(bucket, price)| format!("\"{bucket}\":\"{price}\""))
        .collect()
}

fn json(text: &str) -> anyhow::Result<String> {
    Ok(serde_json::to_string(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the models in a table.
    fn lines(table: &str) -> Vec<String> {
        let catalogue = generate(table).unwrap();
        let models = catalogue.split_once("\"models\":[\n").unwrap().1;
        let lines = models.strip_suffix("\n]}\n").unwrap().lines();
        lines.map(|line| line.trim_end_matches(',').to_owned()).collect()
    }

    /// The one model that a row gives, after its name and mode.
    fn check(key: &str, row: &str, expected: &str) {
        let lines = lines(&format!("{{{key:?}:{row}}}"));
        assert_eq!(lines, [expected], "{key}");
    }

    #[test]
    fn prices_stay_text() {
        check(
            "groq/a/b",
            r#"{"litellm_provider":"groq","mode":"chat","input_cost_per_token":1e-06,"output_cost_per_token":1.0000000000000001e-07,
                "input_cost_per_token_batches":5,"input_cost_per_token_priority":6,"max_input_tokens":8,"supports_vision":true,"supports_pdf_input":false}"#,
            r#"{"kind":"groq","model":"a/b","mode":"chat","context_tokens":8,"features":"vision","prices":{"input":"1e-06","output":"1.0000000000000001e-07"}}"#,
        );
    }

    #[test]
    fn tiers() {
        check(
            "gemini/g",
            r#"{"litellm_provider":"gemini","mode":"chat","input_cost_per_token":1,"input_cost_per_token_above_200k_tokens":2,
                "input_cost_per_token_above_200k_tokens_batches":3,"cache_creation_input_token_cost_above_1hr_above_200k_tokens":4,
                "cache_creation_input_token_cost_above_1hr":5}"#,
            r#"{"kind":"gemini","model":"g","mode":"chat","prices":{"cache_write_1h":"5","input":"1","tiers":[{"above":200000,"cache_write_1h":"4","input":"2"}]}}"#,
        );
        check(
            "dashscope/q",
            r#"{"litellm_provider":"dashscope","mode":"chat","tiered_pricing":[{"range":[0,32000.0],"input_cost_per_token":1e-7},
                {"range":[32000.0,64000.0],"input_cost_per_token":2e-7},{"max_results_range":[0,5],"input_cost_per_token":9}]}"#,
            r#"{"kind":"dashscope","model":"q","mode":"chat","prices":{"input":"1e-7","tiers":[{"above":32000,"input":"2e-7"}]}}"#,
        );
    }

    #[test]
    fn zero_is_not_free() {
        let row = r#"{"litellm_provider":"volcengine","mode":"chat","input_cost_per_token":0.0,"output_cost_per_token":0e0}"#;
        check(
            "volcengine/d",
            row,
            r#"{"kind":"volcengine","model":"d","mode":"chat"}"#,
        );
        let row = r#"{"litellm_provider":"ollama","mode":"chat","input_cost_per_token":0.0}"#;
        check(
            "ollama/l",
            row,
            r#"{"kind":"ollama","model":"l","mode":"chat","prices":{"input":"0.0"}}"#,
        );
        check(
            "ollama/l-cloud",
            row,
            r#"{"kind":"ollama","model":"l-cloud","mode":"chat"}"#,
        );
        let row = r#"{"litellm_provider":"cohere","mode":"rerank","input_cost_per_token":0.0,"input_cost_per_query":0.002}"#;
        check(
            "r",
            row,
            r#"{"kind":"cohere","model":"r","mode":"rerank","prices":{"input":"0.0","request":"0.002"}}"#,
        );
    }

    #[test]
    fn names() {
        let row = |provider: &str, price: u32| {
            format!(r#"{{"litellm_provider":"{provider}","mode":"chat","input_cost_per_token":{price}}}"#)
        };
        let table = [
            ("sample_spec", "one of many"),
            ("a", "deepseek"),
            ("azure/eu/x", "azure"),
            ("azure/x", "azure"),
            ("azure_ai/m/x", "azure_ai"),
            ("bedrock/us-east-1/y", "bedrock"),
            ("deepseek/a", "deepseek"),
            ("novita/baidu/ERNIE-1", "novita"),
            ("novita/other", "novita"),
            ("together-ai-4.1b-8b", "together_ai"),
            ("vertex_ai/meta/l", "vertex_ai-llama_models"),
            ("us.y", "bedrock_converse"),
        ];
        let rows = table
            .iter()
            .zip(1..)
            .map(|((key, provider), price)| format!("{key:?}:{}", row(provider, price)));
        let expected = [
            ("azure", "m/x", 5, ""),
            ("azure", "x", 4, ""),
            ("bedrock", "us.y", 12, ""),
            ("deepseek", "a", 7, ""),
            ("qianfan", "ernie-1", 8, r#","priced_from":"novita""#),
            ("vertex", "meta/l", 11, ""),
        ];
        let expected = expected.map(|(kind, model, price, from)| {
            format!(
                r#"{{"kind":"{kind}","model":"{model}","mode":"chat","prices":{{"input":"{price}"}}{from}}}"#
            )
        });
        assert_eq!(
            lines(&format!("{{{}}}", rows.collect::<Vec<_>>().join(","))),
            expected
        );
    }
}
