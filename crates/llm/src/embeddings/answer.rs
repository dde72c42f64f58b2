//! Answers with embeddings.

use super::{EmbedAnswer, EmbedFormat, Encoding};
use crate::canonical::{ConvertError, Fields};
use crate::usage::{self, Usage};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

fn invalid(field: impl Into<String>, expected: &'static str) -> ConvertError {
    ConvertError::Invalid {
        field: field.into(),
        expected,
    }
}

/// Reads an answer.
///
/// # Errors
/// [`ConvertError::Invalid`]: the provider's reply is broken.
pub fn read_answer(format: EmbedFormat, body: Value) -> Result<EmbedAnswer, ConvertError> {
    let counts = usage::of_response(format.family(), &body);
    let tokens = |count: Option<u64>| {
        count.map(|input| Usage {
            input,
            ..Usage::default()
        })
    };
    let mut fields = Fields::new(body, "")?;
    let model = fields.text("model")?.unwrap_or_default();
    let id = fields.text("id")?;
    let (vectors, usage) = match format {
        EmbedFormat::OpenAi => (read_openai(&mut fields)?, counts),
        EmbedFormat::Gemini => {
            let embedding = fields.take("embedding").unwrap_or_default();
            (
                vec![read_vector(&embedding["values"], "embedding.values")?],
                counts,
            )
        }
        EmbedFormat::GeminiBatch => {
            let list = fields.list("embeddings")?;
            let list = list.ok_or_else(|| fields.invalid("embeddings", "an array"))?;
            let vectors = list
                .iter()
                .map(|item| read_vector(&item["values"], "embeddings[].values"));
            (vectors.collect::<Result<_, _>>()?, counts)
        }
        EmbedFormat::Vertex => {
            let list = fields.list("predictions")?;
            let list = list.ok_or_else(|| fields.invalid("predictions", "an array"))?;
            let path = "predictions[].embeddings.values";
            let vectors = list
                .iter()
                .map(|item| read_vector(&item["embeddings"]["values"], path));
            let vectors = vectors.collect::<Result<_, _>>()?;
            let counts = list
                .iter()
                .map(|item| &item["embeddings"]["statistics"]["token_count"]);
            let counts = counts.map(|count| count.as_f64().map(|count| count.max(0.0) as u64));
            let sum = counts.sum::<Option<u64>>();
            (vectors, tokens(sum))
        }
        EmbedFormat::Cohere | EmbedFormat::BedrockCohere => {
            let embeddings = fields.take("embeddings").unwrap_or_default();
            let list = embeddings.get("float").or_else(|| embeddings.get("base64"));
            let list = list.unwrap_or(&embeddings).as_array();
            let list = list.ok_or_else(|| fields.invalid("embeddings.float", "an array"))?;
            let vectors = list.iter().map(|item| read_vector(item, "embeddings.float[]"));
            let meta = fields.take("meta").unwrap_or_default();
            let count = meta["billed_units"]["input_tokens"].as_f64();
            let count = count.map(|count| count.max(0.0) as u64);
            (vectors.collect::<Result<_, _>>()?, tokens(count))
        }
        EmbedFormat::BedrockTitan => {
            let embedding = fields.take("embedding").unwrap_or_default();
            let vector = read_vector(&embedding, "embedding")?;
            (vec![vector], tokens(fields.whole("inputTextTokenCount")?))
        }
    };
    Ok(EmbedAnswer {
        format,
        model,
        id,
        vectors,
        usage,
    })
}

/// Providers send the vectors in order; `index` says so again, and is believed.
fn read_openai(fields: &mut Fields) -> Result<Vec<Vec<f64>>, ConvertError> {
    let data = fields.list("data")?;
    let data = data.ok_or_else(|| fields.invalid("data", "an array"))?;
    let mut vectors = Vec::with_capacity(data.len());
    for (at, item) in data.iter().enumerate() {
        let index = item["index"].as_u64().unwrap_or(at as u64);
        vectors.push((
            index,
            read_vector(&item["embedding"], &format!("data[{at}].embedding"))?,
        ));
    }
    vectors.sort_by_key(|(index, _)| *index);
    Ok(vectors.into_iter().map(|(_, vector)| vector).collect())
}

/// A list of numbers, or base64 of 32-bit ones.
fn read_vector(value: &Value, path: &str) -> Result<Vec<f64>, ConvertError> {
    let expected = "an array of numbers, or base64 of 32-bit floating point numbers";
    let vector = match value {
        Value::Array(numbers) => numbers.iter().map(Value::as_f64).collect(),
        Value::String(text) => STANDARD.decode(text).ok().and_then(|bytes| {
            let (numbers, rest) = bytes.as_chunks::<4>();
            let shortest = |bytes: &[u8; 4]| {
                // The shortest text of the 32-bit number, not its 64-bit neighbour of twice the digits.
                let number = f32::from_le_bytes(*bytes);
                number.to_string().parse().ok().filter(|_| number.is_finite())
            };
            rest.is_empty().then(|| numbers.iter().map(shortest).collect())?
        }),
        _ => None,
    };
    vector.ok_or_else(|| invalid(path, expected))
}

/// Writes an answer. `encoding` is that of the request.
///
/// # Errors
/// [`ConvertError::Inexpressible`] for several vectors where the format has one.
pub fn write_answer(
    format: EmbedFormat,
    answer: &EmbedAnswer,
    encoding: Encoding,
) -> Result<Value, ConvertError> {
    let n_tokens = answer.usage.map(|usage| usage.total_input());
    let only = || match &answer.vectors[..] {
        [only] => Ok(only),
        _ => Err(format.refuse("other than one vector")),
    };
    let mut body = Map::new();
    match format {
        EmbedFormat::OpenAi => {
            let item = |(index, vector): (usize, &Vec<f64>)| json!({"object": "embedding", "index": index, "embedding": write_vector(vector, encoding)});
            let data: Vec<Value> = answer.vectors.iter().enumerate().map(item).collect();
            let n_tokens = n_tokens.unwrap_or(0);
            body.insert("object".to_owned(), "list".into());
            body.insert("data".to_owned(), data.into());
            body.insert("model".to_owned(), answer.model.as_str().into());
            body.insert(
                "usage".to_owned(),
                json!({"prompt_tokens": n_tokens, "total_tokens": n_tokens}),
            );
        }
        EmbedFormat::Gemini | EmbedFormat::GeminiBatch => {
            if format == EmbedFormat::Gemini {
                body.insert("embedding".to_owned(), json!({"values": only()?}));
            } else {
                let list = answer.vectors.iter().map(|vector| json!({"values": vector}));
                body.insert("embeddings".to_owned(), list.collect());
            }
            if let Some(n_tokens) = n_tokens {
                let counts = json!({"promptTokenCount": n_tokens, "totalTokenCount": n_tokens});
                body.insert("usageMetadata".to_owned(), counts);
            }
        }
        EmbedFormat::Vertex => {
            // The count is of all together: the first tells it, so that their sum is right.
            let item = |(at, vector): (usize, &Vec<f64>)| {
                let n_tokens = if at == 0 { n_tokens.unwrap_or(0) } else { 0 };
                json!({"embeddings": {"values": vector, "statistics": {"token_count": n_tokens, "truncated": false}}})
            };
            let list = answer.vectors.iter().enumerate().map(item);
            body.insert("predictions".to_owned(), list.collect());
        }
        EmbedFormat::Cohere | EmbedFormat::BedrockCohere => {
            let key = match encoding {
                Encoding::Float => "float",
                Encoding::Base64 => "base64",
            };
            let vectors = answer.vectors.iter().map(|vector| write_vector(vector, encoding));
            let vectors: Vec<Value> = vectors.collect();
            body.insert("id".to_owned(), answer.id.as_deref().unwrap_or_default().into());
            body.insert("response_type".to_owned(), "embeddings_by_type".into());
            body.insert("embeddings".to_owned(), json!({key: vectors}));
            if let Some(n_tokens) = n_tokens {
                let meta =
                    json!({"api_version": {"version": "2"}, "billed_units": {"input_tokens": n_tokens}});
                body.insert("meta".to_owned(), meta);
            }
        }
        EmbedFormat::BedrockTitan => {
            body.insert("embedding".to_owned(), json!(only()?));
            body.insert("inputTextTokenCount".to_owned(), n_tokens.unwrap_or(0).into());
        }
    }
    Ok(body.into())
}

fn write_vector(vector: &[f64], encoding: Encoding) -> Value {
    match encoding {
        Encoding::Float => json!(vector),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector
                .iter()
                .flat_map(|&number| (number as f32).to_le_bytes())
                .collect();
            STANDARD.encode(bytes).into()
        }
    }
}
