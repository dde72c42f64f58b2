//! Ranking of documents by their relevance to a query.
//!
//! Jina, Cohere version 1 and most others share one shape (`POST /v1/rerank`); Cohere version 2
//! (`POST /v2/rerank`) takes texts alone and does not repeat them. Both are read by the same functions.

use crate::canonical::{ConvertError, Fields, Written, merge, put};
use crate::format::Format;
use crate::usage::Usage;
use serde_json::{Map, Number, Value, json};

/// The shape to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `/v1/rerank` of Jina, Cohere version 1 and others.
    Common,
    /// `/v2/rerank` of Cohere.
    Cohere2,
}

/// Documents to rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The model's name as the client gave it.
    pub model: String,
    /// What they should be relevant to.
    pub query: String,
    /// The documents: texts, or objects with a `text`.
    pub documents: Vec<Value>,
    /// How many of the best are wanted; all by default.
    pub top_n: Option<u64>,
    /// Is the answer to repeat the documents?
    pub return_documents: Option<bool>,
    /// Longer documents are cut.
    pub max_tokens_per_doc: Option<u64>,
    /// Fields that this model does not know.
    pub other: Map<String, Value>,
}

/// Documents in order of relevance.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The provider's name for this answer.
    pub id: Option<String>,
    /// The model that ranked, where the provider says.
    pub model: Option<String>,
    /// The best first.
    pub results: Vec<Ranked>,
    /// Tokens read, where the provider counts them.
    pub tokens: Option<u64>,
    /// What Cohere bills instead: a query with up to 100 documents is one.
    pub search_units: Option<u64>,
    /// Fields that this model does not know.
    pub other: Map<String, Value>,
}

/// A document and its relevance.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Its place in the request, from 0.
    pub index: usize,
    /// How relevant it is; larger is more.
    pub score: Number,
    /// The document, where the provider repeats it.
    pub document: Option<Value>,
}

/// Reads a request of any shape.
///
/// # Errors
/// [`ConvertError::Invalid`] names the field.
pub fn read_request(body: Value) -> Result<Request, ConvertError> {
    let mut fields = Fields::new(body, "")?;
    let documents = fields
        .list("documents")?
        .ok_or_else(|| fields.invalid("documents", "an array"))?;
    for (idx, document) in documents.iter().enumerate() {
        if !document.is_string() && !document.is_object() {
            return Err(fields.invalid(&format!("documents[{idx}]"), "a string or an object"));
        }
    }
    Ok(Request {
        model: fields.needed_text("model")?,
        query: fields.needed_text("query")?,
        documents,
        top_n: fields.whole("top_n")?,
        return_documents: fields.flag("return_documents")?,
        max_tokens_per_doc: fields.whole("max_tokens_per_doc")?,
        other: fields.rest,
    })
}

/// Writes a request.
///
/// # Errors
/// [`ConvertError::Inexpressible`]: a document that is not a text alone, for Cohere version 2.
pub fn write_request(request: &Request, shape: Shape) -> Result<Written, ConvertError> {
    let mut dropped = Vec::new();
    let mut body = Map::new();
    body.insert("model".to_owned(), request.model.as_str().into());
    body.insert("query".to_owned(), request.query.as_str().into());
    let mut documents = request.documents.clone();
    if shape == Shape::Cohere2 {
        let refuse = |field: String| ConvertError::Inexpressible {
            field,
            format: Format::Cohere,
        };
        for (idx, document) in documents.iter_mut().enumerate() {
            *document = match text_alone(document) {
                Some(text) => text.into(),
                None => return Err(refuse(format!("documents[{idx}] with more than a text"))),
            };
        }
        if request
            .other
            .get("rank_fields")
            .is_some_and(|fields| *fields != json!(["text"]))
        {
            return Err(refuse("rank_fields".to_owned()));
        }
        let others = request
            .other
            .iter()
            .filter(|(key, value)| !value.is_null() && *key != "rank_fields");
        // The answer's writer repeats documents itself, so the wish for it is not dropped.
        for (key, value) in others {
            if key == "priority" {
                body.insert(key.clone(), value.clone());
            } else {
                dropped.push(key.clone());
            }
        }
    }
    body.insert("documents".to_owned(), documents.into());
    put(&mut body, "top_n", request.top_n);
    put(&mut body, "max_tokens_per_doc", request.max_tokens_per_doc);
    if shape == Shape::Common {
        put(&mut body, "return_documents", request.return_documents);
        merge(&mut body, &request.other);
    }
    Ok(Written {
        body: body.into(),
        dropped,
    })
}

/// The text of a document, if it is all that it is.
fn text_alone(document: &Value) -> Option<&str> {
    let object = || {
        document
            .as_object()
            .filter(|fields| fields.len() == 1)?
            .get("text")?
            .as_str()
    };
    document.as_str().or_else(object)
}

/// Reads an answer of any shape to a request of `n_documents`.
///
/// # Errors
/// [`ConvertError::Invalid`]: the provider's reply is broken.
pub fn read_answer(body: Value, n_documents: usize) -> Result<Answer, ConvertError> {
    let mut fields = Fields::new(body, "")?;
    // Voyage calls them `data`.
    let results = match fields.list("results")? {
        Some(results) => Some(results),
        None => fields.list("data")?,
    };
    let results = results.ok_or_else(|| fields.invalid("results", "an array"))?;
    let results = results.into_iter().enumerate().map(|(idx, result)| {
        let mut result = Fields::new(result, &format!("results[{idx}]"))?;
        let index = result
            .whole("index")?
            .and_then(|index| usize::try_from(index).ok());
        let index = index.filter(|index| *index < n_documents);
        Ok(Ranked {
            index: index.ok_or_else(|| result.invalid("index", "the place of a document of the request"))?,
            score: result
                .number("relevance_score")?
                .ok_or_else(|| result.invalid("relevance_score", "a number"))?,
            document: result.take("document"),
        })
    });
    let results = results.collect::<Result<_, ConvertError>>()?;
    let at = |pointer: &str| {
        let (first, rest) = pointer.split_once('/')?;
        let count = fields.rest.get(first)?.pointer(&format!("/{rest}"))?;
        count.as_u64().or_else(|| {
            let count = count
                .as_f64()
                .filter(|count| count.fract() == 0.0 && (0.0..9e15).contains(count));
            count.map(|count| count as u64)
        })
    };
    let counts = [
        "usage/total_tokens",
        "usage/prompt_tokens",
        "meta/tokens/input_tokens",
    ];
    let tokens = counts.into_iter().find_map(at);
    let search_units = at("meta/billed_units/search_units");
    Ok(Answer {
        id: fields.text("id")?,
        model: fields.text("model")?,
        results,
        tokens,
        search_units,
        other: fields.rest,
    })
}

impl Answer {
    /// What it used, in the buckets of other calls.
    pub fn usage(&self) -> Option<Usage> {
        self.tokens.map(|tokens| Usage {
            input: tokens,
            ..Usage::default()
        })
    }
}

/// Writes an answer to `request`. Of Common, documents are repeated if the client asked for it, whether
/// or not the provider did.
pub fn write_answer(answer: &Answer, request: &Request, shape: Shape) -> Value {
    let repeat = shape == Shape::Common && request.return_documents == Some(true);
    let results = answer.results.iter().map(|ranked| {
        let mut result = json!({"index": ranked.index, "relevance_score": ranked.score});
        let given = ranked
            .document
            .as_ref()
            .or_else(|| request.documents.get(ranked.index));
        if let Some(document) = given.filter(|_| repeat) {
            result["document"] = match document {
                Value::String(text) => json!({"text": text}),
                document => document.clone(),
            };
        }
        result
    });
    let results: Vec<Value> = results.collect();
    let mut body = Map::new();
    put(&mut body, "id", answer.id.as_deref());
    if shape == Shape::Common {
        let model = answer.model.as_deref().unwrap_or(&request.model);
        body.insert("model".to_owned(), model.into());
    }
    body.insert("results".to_owned(), results.into());
    if shape == Shape::Common {
        put(
            &mut body,
            "usage",
            answer.tokens.map(|tokens| json!({"total_tokens": tokens})),
        );
    }
    let mut meta = json!({});
    if shape == Shape::Cohere2 {
        meta["api_version"] = json!({"version": "2"});
        if let Some(tokens) = answer.tokens {
            meta["tokens"] = json!({"input_tokens": tokens});
        }
    }
    if let Some(units) = answer.search_units {
        meta["billed_units"] = json!({"search_units": units});
    }
    if meta.as_object().is_some_and(|meta| !meta.is_empty()) {
        body.insert("meta".to_owned(), meta);
    }
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common() -> Value {
        json!({"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 2,
            "return_documents": true, "max_tokens_per_doc": 9, "truncation": true})
    }

    #[test]
    fn requests() {
        let request = read_request(common()).unwrap();
        let same = write_request(&request, Shape::Common).unwrap();
        assert_eq!((same.body, same.dropped), (common(), vec![]));
        let cohere = write_request(&request, Shape::Cohere2).unwrap();
        let expected =
            json!({"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 2, "max_tokens_per_doc": 9});
        assert_eq!(
            (cohere.body, cohere.dropped),
            (expected, vec!["truncation".to_owned()])
        );
    }

    #[test]
    fn refusals() {
        let check = |key: &str, value: Value, words: &str| {
            let mut body = common();
            body[key] = value;
            let written = read_request(body).and_then(|request| write_request(&request, Shape::Cohere2));
            assert_eq!(written.unwrap_err().to_string(), words);
        };
        let inexpressible = |field: &str| {
            format!("`{field}` cannot be expressed in the format of this model's provider (Cohere)")
        };
        check(
            "documents",
            json!(["a", {"image": "u"}]),
            &inexpressible("documents[1] with more than a text"),
        );
        check("rank_fields", json!(["title"]), &inexpressible("rank_fields"));
        check(
            "documents",
            json!(["a", 3]),
            "field `documents[1]` must be a string or an object",
        );
        check("query", json!({}), "field `query` must be a string");
    }

    #[test]
    fn answers() {
        let request = read_request(common()).unwrap();
        let cohere = json!({"id": "i", "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}});
        let answer = read_answer(cohere.clone(), 2).unwrap();
        assert_eq!(write_answer(&answer, &request, Shape::Cohere2), cohere);
        let expected = json!({"id": "i", "model": "m", "results": [
                {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}},
                {"index": 0, "relevance_score": 0.1, "document": {"text": "a"}}],
            "meta": {"billed_units": {"search_units": 1}}});
        assert_eq!(write_answer(&answer, &request, Shape::Common), expected);

        let jina = json!({"model": "j", "usage": {"total_tokens": 15}, "results": [
            {"index": 0, "relevance_score": 0.5, "document": {"text": "a"}}]});
        let answer = read_answer(jina.clone(), 2).unwrap();
        assert_eq!(answer.usage().map(|usage| usage.total()), Some(15));
        assert_eq!(write_answer(&answer, &request, Shape::Common), jina);
        let bare = read_answer(json!({"results": []}), 2).unwrap();
        assert_eq!(bare.usage(), None);
        for (index, words) in [
            (
                json!(2),
                "field `results[0].index` must be the place of a document of the request",
            ),
            (json!(0), "field `results[0].relevance_score` must be a number"),
        ] {
            let error = read_answer(json!({"results": [{"index": index}]}), 2).unwrap_err();
            assert_eq!(error.to_string(), words);
        }
    }
}
