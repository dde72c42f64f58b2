//! Requests for embeddings.

use super::{EmbedFormat, EmbedInput, EmbedRequest, Encoding, Task};
use crate::canonical::{ConvertError, Fields, Written, merge, put};
use serde_json::{Map, Value, json};

/// The most inputs of one request: OpenAI's limit, which is the highest.
const MAX_INPUTS: usize = 2048;

/// Reads a request. Gemini and Bedrock name the model in the path: `model` is that, and ignored elsewhere.
///
/// # Errors
/// [`ConvertError::Invalid`] names the field.
pub fn read_request(
    format: EmbedFormat,
    body: Value,
    model: Option<&str>,
) -> Result<EmbedRequest, ConvertError> {
    let mut fields = Fields::new(body, "")?;
    let mut request = EmbedRequest {
        format,
        model: model.unwrap_or_default().to_owned(),
        inputs: Vec::new(),
        dimensions: None,
        encoding: Encoding::Float,
        task: None,
        user: None,
        other: Map::new(),
    };
    match format {
        EmbedFormat::OpenAi => {
            request.model = fields.needed_text("model")?;
            request.inputs = read_openai_input(&mut fields)?;
            request.dimensions = fields.whole("dimensions")?;
            request.encoding = match fields.text("encoding_format")?.as_deref() {
                None | Some("float") => Encoding::Float,
                Some("base64") => Encoding::Base64,
                Some(_) => return Err(fields.invalid("encoding_format", "`float` or `base64`")),
            };
            // Not OpenAI's: NVIDIA, Voyage and Cohere behind this format have it.
            request.task = fields.text("input_type")?.map(read_task);
            request.user = fields.text("user")?;
        }
        EmbedFormat::Gemini => read_gemini(&mut fields, &mut request)?,
        EmbedFormat::GeminiBatch => {
            let requests = fields.list("requests")?;
            let requests = requests.ok_or_else(|| fields.invalid("requests", "an array"))?;
            let blank = request.clone();
            for (idx, inner) in requests.into_iter().enumerate() {
                let mut inner = Fields::new(inner, &format!("requests[{idx}]"))?;
                let mut one = blank.clone();
                read_gemini(&mut inner, &mut one)?;
                if idx > 0 && (&one.task, one.dimensions) != (&request.task, request.dimensions) {
                    return Err(
                        inner.invalid("taskType", "the same in all requests, as outputDimensionality")
                    );
                }
                (request.task, request.dimensions) = (one.task, one.dimensions);
                request.model = one.model;
                request.inputs.extend(one.inputs);
                // Each may have fields of its own; those of the first stand for all.
                if idx == 0 {
                    request.other = inner.rest;
                }
            }
            request.other.extend(fields.rest);
            return checked(request, "requests");
        }
        EmbedFormat::Vertex => {
            let instances = fields.list("instances")?;
            let instances = instances.ok_or_else(|| fields.invalid("instances", "an array"))?;
            for (idx, instance) in instances.into_iter().enumerate() {
                let mut instance = Fields::new(instance, &format!("instances[{idx}]"))?;
                request
                    .inputs
                    .push(EmbedInput::Text(instance.needed_text("content")?));
                request.task = instance.text("task_type")?.map(read_task).or(request.task);
            }
            if let Some(mut parameters) = fields.object("parameters")? {
                request.dimensions = parameters.whole("outputDimensionality")?;
                fields.put_back("parameters", parameters);
            }
        }
        EmbedFormat::Cohere | EmbedFormat::BedrockCohere => {
            if format == EmbedFormat::Cohere {
                request.model = fields.needed_text("model")?;
            }
            read_cohere(&mut fields, &mut request)?;
        }
        EmbedFormat::BedrockTitan => {
            request
                .inputs
                .push(EmbedInput::Text(fields.needed_text("inputText")?));
            request.dimensions = fields.whole("dimensions")?;
        }
    }
    request.other = fields.rest;
    checked(request, "input")
}

fn checked(request: EmbedRequest, field: &str) -> Result<EmbedRequest, ConvertError> {
    if request.inputs.is_empty() || request.inputs.len() > MAX_INPUTS {
        return Err(ConvertError::Invalid {
            field: field.to_owned(),
            expected: "at least one input and at most 2048",
        });
    }
    Ok(request)
}

/// A text, texts, the tokens of one text, or the tokens of several.
fn read_openai_input(fields: &mut Fields) -> Result<Vec<EmbedInput>, ConvertError> {
    let expected = "a string, an array of strings, of token numbers, or of arrays of token numbers";
    let tokens = |list: &[Value]| list.iter().map(Value::as_u64).collect::<Option<Vec<_>>>();
    let input = match fields.take("input") {
        Some(Value::String(text)) => Some(vec![EmbedInput::Text(text)]),
        Some(Value::Array(list)) if list.first().is_some_and(Value::is_number) => {
            tokens(&list).map(|tokens| vec![EmbedInput::Tokens(tokens)])
        }
        Some(Value::Array(list)) => list
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Some(EmbedInput::Text(text)),
                Value::Array(inner) => tokens(&inner).map(EmbedInput::Tokens),
                _ => None,
            })
            .collect(),
        _ => None,
    };
    input.ok_or_else(|| fields.invalid("input", expected))
}

fn read_gemini(fields: &mut Fields, request: &mut EmbedRequest) -> Result<(), ConvertError> {
    if let Some(model) = fields.text("model")?
        && request.model.is_empty()
    {
        request.model = model.strip_prefix("models/").unwrap_or(&model).to_owned();
    }
    let content = fields.take("content");
    let content = content.ok_or_else(|| fields.invalid("content", "an object"))?;
    let parts = content["parts"].as_array();
    let parts = parts.ok_or_else(|| fields.invalid("content.parts", "an array"))?;
    let texts: Option<Vec<&str>> = parts.iter().map(|part| part["text"].as_str()).collect();
    request.inputs.push(match texts {
        Some(texts) => EmbedInput::Text(texts.concat()),
        None => EmbedInput::Other(content),
    });
    request.task = fields.text("taskType")?.map(read_task);
    request.dimensions = fields.whole("outputDimensionality")?;
    Ok(())
}

fn read_cohere(fields: &mut Fields, request: &mut EmbedRequest) -> Result<(), ConvertError> {
    for text in fields.list("texts")?.unwrap_or_default() {
        let text = text
            .as_str()
            .ok_or_else(|| fields.invalid("texts[]", "a string"))?;
        request.inputs.push(EmbedInput::Text(text.to_owned()));
    }
    for input in fields.list("inputs")?.unwrap_or_default() {
        let only = input["content"].as_array().filter(|content| content.len() == 1);
        let text = only.and_then(|content| content[0]["text"].as_str());
        request.inputs.push(match text {
            Some(text) => EmbedInput::Text(text.to_owned()),
            None => EmbedInput::Other(input),
        });
    }
    request.task = fields.text("input_type")?.map(read_task);
    request.dimensions = fields.whole("output_dimension")?;
    let types = fields.list("embedding_types")?.unwrap_or_default();
    request.encoding = match types.first().and_then(Value::as_str) {
        None | Some("float") => Encoding::Float,
        Some("base64") => Encoding::Base64,
        Some(_) => return Err(fields.invalid("embedding_types", "[`float`] or [`base64`]")),
    };
    if types.len() > 1 {
        return Err(fields.invalid("embedding_types", "one type"));
    }
    Ok(())
}

/// Gemini's words, Cohere's, and those of NVIDIA and Voyage.
fn read_task(word: String) -> Task {
    match word.as_str() {
        "RETRIEVAL_QUERY" | "search_query" | "query" => Task::Query,
        "RETRIEVAL_DOCUMENT" | "search_document" | "passage" | "document" => Task::Document,
        "CLASSIFICATION" | "classification" => Task::Classification,
        "CLUSTERING" | "clustering" => Task::Clustering,
        "SEMANTIC_SIMILARITY" => Task::Similarity,
        _ => Task::Other(word),
    }
}

fn google_task(task: &Task) -> &str {
    match task {
        Task::Query => "RETRIEVAL_QUERY",
        Task::Document => "RETRIEVAL_DOCUMENT",
        Task::Classification => "CLASSIFICATION",
        Task::Clustering => "CLUSTERING",
        Task::Similarity => "SEMANTIC_SIMILARITY",
        Task::Other(word) => word,
    }
}

fn cohere_task(task: Option<&Task>) -> &str {
    match task {
        Some(Task::Query) => "search_query",
        // The models demand a word; most vectors are made to be found.
        Some(Task::Document | Task::Similarity) | None => "search_document",
        Some(Task::Classification) => "classification",
        Some(Task::Clustering) => "clustering",
        Some(Task::Other(word)) => word,
    }
}

/// Writes a request. The model of Gemini, Vertex and Bedrock belongs into the path.
///
/// # Errors
/// [`ConvertError::Inexpressible`] for several inputs where the format takes one, tokens by number
/// outside OpenAI's format, and inputs other than text across formats.
pub fn write_request(format: EmbedFormat, request: &EmbedRequest) -> Result<Written, ConvertError> {
    let own = format == request.format;
    let mut dropped = Vec::new();
    let mut body = Map::new();
    let texts = || request.texts(format);
    let one = || {
        let texts = texts()?;
        match texts[..] {
            [text] => Ok(text),
            _ => Err(format.refuse("several inputs")),
        }
    };
    match format {
        EmbedFormat::OpenAi => {
            body.insert("model".to_owned(), request.model.as_str().into());
            body.insert("input".to_owned(), write_openai_input(&request.inputs)?);
            put(&mut body, "dimensions", request.dimensions);
            let encoding = match request.encoding {
                Encoding::Float => "float",
                Encoding::Base64 => "base64",
            };
            body.insert("encoding_format".to_owned(), encoding.into());
            put(&mut body, "user", request.user.as_deref());
            match &request.task {
                Some(task) if own => put(&mut body, "input_type", Some(cohere_task(Some(task)))),
                Some(_) => dropped.push("task type".to_owned()),
                None => {}
            }
        }
        EmbedFormat::Gemini => {
            let [input] = &request.inputs[..] else {
                return Err(format.refuse("several inputs"));
            };
            body = write_gemini(input, request, format)?;
        }
        EmbedFormat::GeminiBatch => {
            let name = request.model.strip_prefix("models/").unwrap_or(&request.model);
            let requests = request.inputs.iter().map(|input| {
                let mut inner = write_gemini(input, request, format)?;
                inner.insert("model".to_owned(), format!("models/{name}").into());
                if own {
                    merge(&mut inner, &request.other);
                }
                Ok(Value::from(inner))
            });
            body.insert("requests".to_owned(), requests.collect::<Result<_, _>>()?);
        }
        EmbedFormat::Vertex => {
            let texts = texts()?;
            let instances = texts.into_iter().map(|text| {
                let mut instance = json!({"content": text});
                if let Some(task) = &request.task {
                    instance["task_type"] = google_task(task).into();
                }
                instance
            });
            body.insert("instances".to_owned(), instances.collect());
            if let Some(dimensions) = request.dimensions {
                let parameters = json!({"outputDimensionality": dimensions});
                body.insert("parameters".to_owned(), parameters);
            }
        }
        EmbedFormat::Cohere | EmbedFormat::BedrockCohere => {
            if format == EmbedFormat::Cohere {
                body.insert("model".to_owned(), request.model.as_str().into());
            }
            match texts() {
                Ok(texts) => body.insert("texts".to_owned(), texts.into()),
                Err(_) if own => body.insert("inputs".to_owned(), cohere_inputs(&request.inputs)),
                Err(error) => return Err(error),
            };
            let task = cohere_task(request.task.as_ref());
            body.insert("input_type".to_owned(), task.into());
            body.insert("embedding_types".to_owned(), json!(["float"]));
            put(&mut body, "output_dimension", request.dimensions);
        }
        EmbedFormat::BedrockTitan => {
            body.insert("inputText".to_owned(), one()?.into());
            put(&mut body, "dimensions", request.dimensions);
            if request.task.is_some() {
                dropped.push("task type".to_owned());
            }
        }
    }
    if format != EmbedFormat::OpenAi && request.user.is_some() {
        dropped.push("user".to_owned());
    }
    if own && format != EmbedFormat::GeminiBatch {
        merge(&mut body, &request.other);
    } else if !own {
        let given = request.other.iter().filter(|(_, value)| !value.is_null());
        dropped.extend(given.map(|(key, _)| key.clone()));
    }
    Ok(Written {
        body: body.into(),
        dropped,
    })
}

impl EmbedRequest {
    fn texts(&self, format: EmbedFormat) -> Result<Vec<&str>, ConvertError> {
        let mut texts = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            match input {
                EmbedInput::Text(text) => texts.push(text.as_str()),
                EmbedInput::Tokens(_) => return Err(format.refuse("input of token numbers")),
                EmbedInput::Other(_) => return Err(format.refuse("input other than text")),
            }
        }
        Ok(texts)
    }
}

fn write_openai_input(inputs: &[EmbedInput]) -> Result<Value, ConvertError> {
    let write = |input: &EmbedInput| match input {
        EmbedInput::Text(text) => Ok(text.as_str().into()),
        EmbedInput::Tokens(tokens) => Ok(tokens.clone().into()),
        EmbedInput::Other(_) => Err(EmbedFormat::OpenAi.refuse("input other than text")),
    };
    match inputs {
        [only] => write(only),
        several => several.iter().map(write).collect(),
    }
}

fn write_gemini(
    input: &EmbedInput,
    request: &EmbedRequest,
    format: EmbedFormat,
) -> Result<Map<String, Value>, ConvertError> {
    let content = match input {
        EmbedInput::Text(text) => json!({"parts": [{"text": text}]}),
        EmbedInput::Other(content) if request.format.family() == format.family() => content.clone(),
        EmbedInput::Tokens(_) => return Err(format.refuse("input of token numbers")),
        EmbedInput::Other(_) => return Err(format.refuse("input other than text")),
    };
    let mut body = Map::new();
    body.insert("content".to_owned(), content);
    put(&mut body, "taskType", request.task.as_ref().map(google_task));
    put(&mut body, "outputDimensionality", request.dimensions);
    Ok(body)
}

/// Cohere's own form of mixed inputs.
fn cohere_inputs(inputs: &[EmbedInput]) -> Value {
    let write = |input: &EmbedInput| match input {
        EmbedInput::Text(text) => json!({"content": [{"type": "text", "text": text}]}),
        EmbedInput::Other(value) => value.clone(),
        EmbedInput::Tokens(tokens) => tokens.clone().into(),
    };
    inputs.iter().map(write).collect()
}
