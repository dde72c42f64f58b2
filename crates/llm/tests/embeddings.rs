//! Embeddings across formats, and recorded answers of OpenAI.

mod common;

use common::recorded;
use llm::embeddings::{EmbedFormat, Encoding, read_answer, read_request, write_answer, write_request};
use serde_json::{Value, json};

/// A request of one format as another asks for it, with what was dropped, or why it cannot.
fn check(from: EmbedFormat, body: &Value, to: EmbedFormat, expected: &Result<(Value, &[&str]), &str>) {
    let written = read_request(from, body.clone(), Some("m")).and_then(|request| write_request(to, &request));
    match (written, expected) {
        (Ok(written), Ok((body, dropped))) => {
            assert_eq!(&written.body, body, "{from:?} to {to:?}");
            assert_eq!(&written.dropped, dropped, "{from:?} to {to:?}");
        }
        (Err(error), Err(words)) => assert_eq!(&error.to_string(), words, "{from:?} to {to:?}"),
        (written, expected) => panic!("{from:?} to {to:?}: {written:?}, not {expected:?}"),
    }
}

#[test]
fn requests() {
    use EmbedFormat::*;
    let openai = json!({"model": "m", "input": ["a", "b"], "dimensions": 3, "encoding_format": "base64",
        "user": "u", "input_type": "query", "truncate": "END"});
    let same = json!({"model": "m", "input": ["a", "b"], "dimensions": 3, "encoding_format": "base64",
        "user": "u", "input_type": "search_query", "truncate": "END"});
    check(OpenAi, &openai, OpenAi, &Ok((same, &[])));
    let batch = json!({"requests": [
        {"content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 3, "model": "models/m"},
        {"content": {"parts": [{"text": "b"}]}, "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 3, "model": "models/m"}]});
    check(
        OpenAi,
        &openai,
        GeminiBatch,
        &Ok((batch.clone(), &["user", "truncate"])),
    );
    check(GeminiBatch, &batch, GeminiBatch, &Ok((batch.clone(), &[])));
    let vertex = json!({"instances": [{"content": "a", "task_type": "RETRIEVAL_QUERY"},
        {"content": "b", "task_type": "RETRIEVAL_QUERY"}], "parameters": {"outputDimensionality": 3}});
    check(GeminiBatch, &batch, Vertex, &Ok((vertex.clone(), &[])));
    check(Vertex, &vertex, GeminiBatch, &Ok((batch, &[])));
    let cohere = json!({"model": "m", "texts": ["a", "b"], "input_type": "search_query",
        "embedding_types": ["float"], "output_dimension": 3});
    check(Vertex, &vertex, Cohere, &Ok((cohere.clone(), &[])));
    let bedrock = json!({"texts": ["a", "b"], "input_type": "search_query",
        "embedding_types": ["float"], "output_dimension": 3});
    check(Cohere, &cohere, BedrockCohere, &Ok((bedrock.clone(), &[])));
    check(BedrockCohere, &bedrock, Cohere, &Ok((cohere, &[])));
    let one = json!({"model": "m", "input": "a"});
    check(
        OpenAi,
        &one,
        Gemini,
        &Ok((json!({"content": {"parts": [{"text": "a"}]}}), &[])),
    );
    let plain =
        json!({"model": "m", "texts": ["a"], "input_type": "search_document", "embedding_types": ["float"]});
    check(OpenAi, &one, Cohere, &Ok((plain, &[])));
    check(OpenAi, &one, BedrockTitan, &Ok((json!({"inputText": "a"}), &[])));
    let gemini =
        json!({"content": {"parts": [{"text": "a"}, {"text": "b"}]}, "taskType": "CLUSTERING", "title": "t"});
    let expected = json!({"model": "m", "input": "ab", "encoding_format": "float"});
    check(Gemini, &gemini, OpenAi, &Ok((expected, &["task type", "title"])));
    check(
        Gemini,
        &gemini,
        Gemini,
        &Ok((
            json!({"content": {"parts": [{"text": "ab"}]}, "taskType": "CLUSTERING", "title": "t"}),
            &[],
        )),
    );
}

#[test]
fn requests_that_cannot_be() {
    use EmbedFormat::*;
    let openai = |input: Value| json!({"model": "m", "input": input});
    let refused = |what: &str, format: &str| {
        format!("`{what}` cannot be expressed in the format of this model's provider ({format})")
    };
    check(
        OpenAi,
        &openai(json!([[1, 2], [3]])),
        OpenAi,
        &Ok((
            json!({"model": "m", "input": [[1, 2], [3]], "encoding_format": "float"}),
            &[],
        )),
    );
    let tokens = "input of token numbers";
    check(
        OpenAi,
        &openai(json!([1, 2])),
        Cohere,
        &Err(&refused(tokens, "Cohere")),
    );
    check(
        OpenAi,
        &openai(json!([1, 2])),
        GeminiBatch,
        &Err(&refused(tokens, "GenerateContent")),
    );
    let several = "several inputs";
    check(
        OpenAi,
        &openai(json!(["a", "b"])),
        BedrockTitan,
        &Err(&refused(several, "Converse")),
    );
    check(
        OpenAi,
        &openai(json!(["a", "b"])),
        Gemini,
        &Err(&refused(several, "GenerateContent")),
    );
    let image =
        json!({"model": "m", "inputs": [{"content": [{"type": "image_url"}]}], "input_type": "image"});
    check(
        Cohere,
        &image,
        OpenAi,
        &Err(&refused("input other than text", "Chat")),
    );
    let kept = json!({"model": "m", "inputs": [{"content": [{"type": "image_url"}]}], "input_type": "image", "embedding_types": ["float"]});
    check(Cohere, &image, Cohere, &Ok((kept, &[])));
    let input = "field `input` must be a string, an array of strings, of token numbers, or of arrays of token numbers";
    for bad in [
        json!(3),
        json!([1, "a"]),
        json!(["a", 1]),
        json!([-1]),
        Value::Null,
    ] {
        check(OpenAi, &openai(bad), OpenAi, &Err(input));
    }
    let size = "field `input` must be at least one input and at most 2048";
    check(OpenAi, &openai(json!([])), OpenAi, &Err(size));
    check(OpenAi, &openai(json!(vec!["a"; 2049])), OpenAi, &Err(size));
    let mixed = json!({"requests": [{"content": {"parts": [{"text": "a"}]}},
        {"content": {"parts": [{"text": "b"}]}, "taskType": "CLUSTERING"}]});
    let words = "field `requests[1].taskType` must be the same in all requests, as outputDimensionality";
    check(GeminiBatch, &mixed, OpenAi, &Err(words));
}

#[test]
fn answers() {
    use EmbedFormat::*;
    let vectors = [[0.5, -1.25], [0.017_608_326, 3.0]];
    let openai = |first: Value, second: Value| {
        json!({"object": "list", "model": "m", "usage": {"prompt_tokens": 9, "total_tokens": 9}, "data": [
            {"object": "embedding", "index": 0, "embedding": first},
            {"object": "embedding", "index": 1, "embedding": second}]})
    };
    let float = openai(json!(vectors[0]), json!(vectors[1]));
    let base64 = openai("AAAAPwAAoL8=".into(), "Vj+QPAAAQEA=".into());
    let gemini = json!({"embeddings": [{"values": vectors[0]}, {"values": vectors[1]}],
        "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}});
    let vertex = json!({"predictions": [
        {"embeddings": {"values": vectors[0], "statistics": {"token_count": 4, "truncated": false}}},
        {"embeddings": {"values": vectors[1], "statistics": {"token_count": 5, "truncated": false}}}]});
    let cohere =
        json!({"id": "x", "embeddings": {"float": vectors}, "meta": {"billed_units": {"input_tokens": 9}}});
    for (format, body) in [
        (OpenAi, &float),
        (OpenAi, &base64),
        (GeminiBatch, &gemini),
        (Vertex, &vertex),
        (Cohere, &cohere),
        (BedrockCohere, &cohere),
    ] {
        let mut answer = read_answer(format, body.clone()).unwrap();
        assert_eq!(answer.vectors, vectors, "{format:?}");
        answer.model = "m".to_owned();
        assert_eq!(
            write_answer(OpenAi, &answer, Encoding::Float).unwrap(),
            float,
            "{format:?}"
        );
        assert_eq!(
            write_answer(OpenAi, &answer, Encoding::Base64).unwrap(),
            base64,
            "{format:?}"
        );
        for to in [GeminiBatch, Vertex, Cohere, BedrockCohere] {
            let written = write_answer(to, &answer, Encoding::Float).unwrap();
            let again = read_answer(to, written).unwrap();
            assert_eq!(
                (again.vectors, again.usage),
                (answer.vectors.clone(), answer.usage),
                "{to:?}"
            );
        }
        assert!(write_answer(Gemini, &answer, Encoding::Float).is_err());
    }
    for format in [Gemini, BedrockTitan] {
        let mut answer = read_answer(OpenAi, float.clone()).unwrap();
        answer.vectors.truncate(1);
        let written = write_answer(format, &answer, Encoding::Float).unwrap();
        let again = read_answer(format, written).unwrap();
        assert_eq!(
            (again.vectors, again.usage),
            (answer.vectors, answer.usage),
            "{format:?}"
        );
    }
    for bad in [
        json!("AAA"),
        json!("AAAA"),
        json!([1, "x"]),
        json!({}),
        Value::Null,
    ] {
        let body = json!({"data": [{"embedding": bad}]});
        assert_eq!(
            read_answer(OpenAi, body).unwrap_err().to_string(),
            "field `data[0].embedding` must be an array of numbers, or base64 of 32-bit floating point numbers"
        );
    }
}

#[test]
fn recorded_embeddings_come_back_whole() {
    let mut n_answers = 0;
    for (name, interaction) in recorded() {
        let path = interaction["request"]["uri"].as_str().unwrap_or_default();
        let response = &interaction["response"];
        if !path.ends_with("/v1/embeddings") || response["status"] != 200 {
            continue;
        }
        n_answers += 1;
        let asked = read_request(
            EmbedFormat::OpenAi,
            interaction["request"]["body_json"].clone(),
            None,
        )
        .unwrap();
        let answer = read_answer(EmbedFormat::OpenAi, response["body_json"].clone()).unwrap();
        assert_eq!(answer.vectors.len(), asked.inputs.len(), "{name}");
        let written = write_answer(EmbedFormat::OpenAi, &answer, asked.encoding).unwrap();
        assert_eq!(written, response["body_json"], "{name}");
    }
    assert!(n_answers >= 3, "only {n_answers} recorded embeddings");
}
