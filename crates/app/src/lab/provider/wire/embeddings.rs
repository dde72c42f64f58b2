//! Vectors on each wire, and Cohere's order of documents. A vector has length one and depends on the text alone.
//! <https://platform.openai.com/docs/api-reference/embeddings>, <https://ai.google.dev/api/embeddings>,
//! <https://docs.cohere.com/v2/reference/embed>, <https://docs.cohere.com/v2/reference/rerank>

use base64::Engine;
use serde_json::{Value, json};

use super::gemini::camel;
use super::{Document, completions};
use crate::lab::provider::ask::{Ask, Part};
use crate::lab::provider::fields::{Checked, Fields, What, not_one_of, other, problem, wrong_type};
use crate::lab::provider::tokens::{IMAGE_TOKENS, Usage, count};
use crate::lab::random::Random;

const DIMENSIONS_MAX: u64 = 4096;
const TEXTS_MAX: usize = 2048;

fn vector(text: &str, dimensions: u64) -> Vec<f32> {
    let mut random = Random::new(dimensions, text);
    let raw: Vec<f32> = (0..dimensions)
        .map(|_| random.next_u32() as f32 / u32::MAX as f32 - 0.5)
        .collect();
    let length = raw
        .iter()
        .map(|one| one * one)
        .sum::<f32>()
        .sqrt()
        .max(f32::MIN_POSITIVE);
    raw.iter().map(|one| one / length).collect()
}

fn encoded(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|one| one.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn texts_only(texts: &[String]) -> Usage {
    Usage {
        input: texts.iter().map(|text| count(text)).sum(),
        ..Usage::default()
    }
}

pub(crate) fn openai(body: &Value, model_of_path: Option<&str>) -> Checked<Document> {
    let top = Fields::of(body, "")?;
    top.only(&["input", "model", "dimensions", "encoding_format", "user"])?;
    let model = match model_of_path {
        Some(model) => model,
        None => top.need_text("model")?,
    };
    top.text("user")?;
    if let Some(number) = top.get("dimensions").and_then(Value::as_f64)
        && number < 1.0
    {
        return other(
            "dimensions",
            format!("{number} is less than the minimum of 1 - 'dimensions'"),
        );
    }
    let dimensions = top.count("dimensions", 1)?;
    let is_base64 = top.one_of("encoding_format", &["float", "base64"])? == Some("base64");
    let dimensions = match dimensions {
        Some(number) if number > DIMENSIONS_MAX => {
            return other(
                "dimensions",
                format!("{number} is greater than the maximum of {DIMENSIONS_MAX} - 'dimensions'"),
            );
        }
        Some(number) => number,
        None if model.contains("large") => 3072,
        None => 1536,
    };
    let texts = openai_texts(&top, body)?;
    let one = |(idx, text): (usize, &String)| {
        let vector = vector(text, dimensions);
        let embedding = if is_base64 {
            json!(encoded(&vector))
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": idx, "embedding": embedding})
    };
    let usage = texts_only(&texts);
    Ok(Document {
        model: model.to_owned(),
        value: json!({"object": "list", "data": texts.iter().enumerate().map(one).collect::<Vec<_>>(), "model": model,
            "usage": {"prompt_tokens": usage.input, "total_tokens": usage.input}}),
        usage,
    })
}

/// Texts, or lists of token numbers, as Completions takes them too.
fn openai_texts(top: &Fields, body: &Value) -> Checked<Vec<String>> {
    let input = top.need("input")?;
    let length = input.as_array().map_or(1, Vec::len);
    let is_numbers = input
        .as_array()
        .is_some_and(|list| list.iter().all(Value::is_number));
    if length == 0 || (length > TEXTS_MAX && !is_numbers) {
        return other(
            "input",
            format!("Invalid 'input': expected 1 to {TEXTS_MAX} texts, got {length}."),
        );
    }
    let mut texts = Vec::new();
    let parts: Vec<Value> = match input {
        Value::Array(list) if !is_numbers => list.clone(),
        one => vec![one.clone()],
    };
    for part in parts {
        let ask: Ask = match completions::read(
            &json!({"model": body["model"].as_str().unwrap_or("m"), "prompt": part}),
            None,
        ) {
            Ok(ask) => ask,
            Err(_) => return wrong_type("input", "a string or an array of strings or tokens", &part),
        };
        for part in ask.turns.into_iter().flat_map(|turn| turn.parts) {
            if let Part::Text(text) = part {
                texts.push(text);
            }
        }
    }
    Ok(texts)
}

/// `embedContent`, and `batchEmbedContents` with several requests.
pub(crate) fn gemini(body: &Value, model: &str, is_batch: bool) -> Checked<Document> {
    let body = camel(body);
    let top = Fields::of(&body, "")?;
    let mut texts = Vec::new();
    let mut vectors = Vec::new();
    let requests = if is_batch {
        top.only(&["requests"])?;
        top.need("requests")?;
        top.objects("requests")?
    } else {
        vec![top]
    };
    if requests.is_empty() || requests.len() > TEXTS_MAX {
        return other(
            "requests",
            format!("* BatchEmbedContentsRequest.requests: expected 1 to {TEXTS_MAX}\n"),
        );
    }
    for request in &requests {
        request.only(&[
            "model",
            "content",
            "taskType",
            "title",
            "outputDimensionality",
            "embedContentConfig",
        ])?;
        if is_batch {
            request.need_text("model")?;
        }
        request.need("content")?;
        let dimensions = request
            .count("outputDimensionality", 1)?
            .unwrap_or(768)
            .min(DIMENSIONS_MAX);
        let parts = request
            .object("content")?
            .map(|content| content.objects("parts"))
            .transpose()?
            .unwrap_or_default();
        let mut text = String::new();
        for part in &parts {
            text.push_str(part.need_text("text")?);
        }
        vectors.push(json!({"values": vector(&text, dimensions)}));
        texts.push(text);
    }
    let value = if is_batch {
        json!({"embeddings": vectors})
    } else {
        json!({"embedding": vectors.pop()})
    };
    Ok(Document {
        model: model.to_owned(),
        value,
        usage: texts_only(&texts),
    })
}

pub(crate) fn cohere(body: &Value, id: &str) -> Checked<Document> {
    const TYPES: [&str; 6] = ["float", "int8", "uint8", "binary", "ubinary", "base64"];
    let top = Fields::of(body, "")?;
    top.only(&[
        "model",
        "input_type",
        "texts",
        "images",
        "inputs",
        "max_tokens",
        "output_dimension",
        "embedding_types",
        "truncate",
        "priority",
    ])?;
    let model = top.need_text("model")?;
    top.need_text("input_type")?;
    top.one_of(
        "input_type",
        &[
            "search_document",
            "search_query",
            "classification",
            "clustering",
            "image",
        ],
    )?;
    let dimensions = top
        .count("output_dimension", 1)?
        .unwrap_or(1024)
        .min(DIMENSIONS_MAX);
    let texts = top.texts("texts")?;
    let images = top.texts("images")?;
    let mut said = [texts.clone(), images.clone()].concat();
    for input in top.objects("inputs")? {
        for part in input.objects("content")? {
            said.push(
                part.text("text")?
                    .map_or_else(|| "image".to_owned(), str::to_owned),
            );
        }
    }
    if said.is_empty() || said.len() > TEXTS_MAX {
        return problem("texts", What::Missing);
    }
    let mut types = top.texts("embedding_types")?;
    if types.is_empty() {
        types.push("float".to_owned());
    }
    let mut embeddings = serde_json::Map::new();
    for kind in types {
        let Some(known) = TYPES.iter().find(|one| **one == kind) else {
            return problem("embedding_types", not_one_of(&kind, &TYPES));
        };
        let of_kind = said.iter().map(|text| {
            let vector = vector(text, dimensions);
            match *known {
                "int8" => json!(vector.iter().map(|one| (one * 127.0) as i8).collect::<Vec<_>>()),
                "uint8" => json!(
                    vector
                        .iter()
                        .map(|one| (one * 127.0 + 128.0) as u8)
                        .collect::<Vec<_>>()
                ),
                "ubinary" => json!(bits(&vector)),
                "binary" => json!(
                    bits(&vector)
                        .iter()
                        .map(|byte| i16::from(*byte) - 128)
                        .collect::<Vec<_>>()
                ),
                "base64" => json!(encoded(&vector)),
                _ => json!(vector),
            }
        });
        embeddings.insert(kind, of_kind.collect());
    }
    let mut usage = texts_only(&texts);
    usage.image = images.len() as u64 * IMAGE_TOKENS;
    let mut billed = json!({"input_tokens": usage.input});
    if !images.is_empty() {
        billed["images"] = json!(images.len());
        billed["image_tokens"] = json!(usage.image);
    }
    Ok(Document {
        model: model.to_owned(),
        value: json!({"id": id, "embeddings": embeddings, "texts": texts,
            "meta": {"api_version": {"version": "2"}, "billed_units": billed}, "response_type": "embeddings_by_type"}),
        usage,
    })
}

fn bits(vector: &[f32]) -> Vec<u8> {
    let byte = |chunk: &[f32]| {
        chunk
            .iter()
            .fold(0_u8, |byte, one| byte << 1 | u8::from(*one > 0.0))
    };
    vector.chunks(8).map(byte).collect()
}

/// The more words of the query a document has, the higher its score.
pub(crate) fn rerank(body: &Value, id: &str) -> Checked<Document> {
    let top = Fields::of(body, "")?;
    top.only(&[
        "model",
        "query",
        "documents",
        "top_n",
        "max_tokens_per_doc",
        "priority",
    ])?;
    let model = top.need_text("model")?;
    let query = top.need_text("query")?;
    top.need("documents")?;
    let documents = top.texts("documents")?;
    if documents.is_empty() || documents.len() > TEXTS_MAX {
        return other("documents", format!("documents: expected 1 to {TEXTS_MAX} texts"));
    }
    let most = top.count("top_n", 1)?.unwrap_or(u64::MAX);
    let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
    let score = |document: &String| {
        let document = document.to_lowercase();
        let hits = words
            .iter()
            .filter(|word| document.contains(word.as_str()))
            .count();
        let noise = f64::from(Random::new(14, &document).below(1000)) / 10_000.0;
        0.9 * hits as f64 / words.len().max(1) as f64 + noise
    };
    let mut ranked: Vec<(usize, f64)> = documents.iter().map(score).enumerate().collect();
    ranked.sort_by(|one, other| other.1.total_cmp(&one.1));
    let shown = ranked.iter().take(usize::try_from(most).unwrap_or(usize::MAX));
    let results = shown.map(|(idx, score)| json!({"index": idx, "relevance_score": score}));
    Ok(Document {
        model: model.to_owned(),
        value: json!({"id": id, "results": results.collect::<Vec<_>>(),
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": documents.len().div_ceil(100)}}}),
        usage: Usage::default(),
    })
}
