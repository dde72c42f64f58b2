//! Gemini `generateContent`, also under Vertex's paths.
//! <https://ai.google.dev/api/generate-content>, <https://ai.google.dev/api/tokens>, <https://ai.google.dev/api/embeddings>

use serde_json::{Map, Value, json};

use super::{Piece, data};
use crate::lab::provider::answer::{Answer, Call, End, Reply, letters};
use crate::lab::provider::ask::{Ask, Choice, Format, Kind, Media, Part, Role, Tool, Turn, decoded_media};
use crate::lab::provider::fields::{Checked, Fields, not_one_of, other, problem};
use crate::lab::provider::tokens::{Usage, count, runs, tokens};
use crate::lab::random::Random;

const TOP: [&str; 12] = [
    "cachedContent",
    "contents",
    "generationConfig",
    "labels",
    "model",
    "modelArmorConfig",
    "safetySettings",
    "serviceTier",
    "store",
    "systemInstruction",
    "toolConfig",
    "tools",
];
const CONFIG: [&str; 27] = [
    "audioTimestamp",
    "candidateCount",
    "enableAffectiveDialog",
    "enableEnhancedCivicAnswers",
    "frequencyPenalty",
    "imageConfig",
    "logprobs",
    "maxOutputTokens",
    "mediaResolution",
    "modelConfig",
    "modelSelectionConfig",
    "presencePenalty",
    "responseJsonSchema",
    "responseLogprobs",
    "responseMimeType",
    "responseModalities",
    "responseSchema",
    "routingConfig",
    "seed",
    "speechConfig",
    "stopSequences",
    "temperature",
    "thinkingConfig",
    "topK",
    "topP",
    "translationConfig",
    "responseFormat",
];
/// Values that belong to the caller: names inside stay as they are.
const OPAQUE: [&str; 11] = [
    "args",
    "response",
    "parameters",
    "parametersJsonSchema",
    "responseSchema",
    "responseJsonSchema",
    "responseFormat",
    "labels",
    "customMetadata",
    "responseTemplateName",
    "result",
];

/// protobuf's JSON takes `snake_case` for every `camelCase` name.
pub(crate) fn camel(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let renamed = map.iter().map(|(key, inner)| {
                let key = camel_name(key);
                let inner = if OPAQUE.contains(&key.as_str()) {
                    inner.clone()
                } else {
                    camel(inner)
                };
                (key, inner)
            });
            Value::Object(renamed.collect::<Map<_, _>>())
        }
        Value::Array(list) => Value::Array(list.iter().map(camel).collect()),
        other => other.clone(),
    }
}

fn camel_name(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut is_next_upper = false;
    for letter in name.chars() {
        match letter {
            '_' if !camel.is_empty() => is_next_upper = true,
            letter if is_next_upper => {
                camel.push(letter.to_ascii_uppercase());
                is_next_upper = false;
            }
            letter => camel.push(letter),
        }
    }
    camel
}

pub(crate) fn read(body: &Value, model: &str, stream: bool) -> Checked<Ask> {
    let body = camel(body);
    let top = Fields::of(&body, "")?;
    top.only(&TOP)?;
    let mut ask = Ask {
        model: model.to_owned(),
        stream,
        count: 1,
        ..Ask::default()
    };
    read_tools(&top, &mut ask)?;
    ask.choice = read_choice(&top)?;
    if let Some(config) = top.object("generationConfig")? {
        read_config(&config, &mut ask)?;
    }
    if let Some(system) = top.object("systemInstruction")? {
        let turn = read_content(&system)?;
        ask.system
            .extend(turn.parts.into_iter().filter_map(|part| match part {
                Part::Text(text) => Some(text),
                _ => None,
            }));
    }
    let contents = top.objects("contents")?;
    if contents.is_empty() {
        return other(
            "contents",
            "* GenerateContentRequest.contents: contents is not specified\n",
        );
    }
    for content in &contents {
        let turn = read_content(content)?;
        check_results(&ask, &turn)?;
        ask.turns.push(turn);
    }
    Ok(ask)
}

/// A turn of function results must answer the calls of the turn before, one by one.
fn check_results(ask: &Ask, turn: &Turn) -> Checked<()> {
    let number = |turn: Option<&Turn>, wanted: fn(&Part) -> bool| {
        turn.map_or(0, |turn| turn.parts.iter().filter(|part| wanted(part)).count())
    };
    let results = number(Some(turn), |part| matches!(part, Part::Result(_)));
    let calls = number(ask.turns.last(), |part| matches!(part, Part::Call { .. }));
    if results > 0 && calls == 0 {
        return other(
            "contents",
            "Please ensure that function response turn comes immediately after a function call turn.",
        );
    }
    if results > 0 && results != calls {
        return other(
            "contents",
            "Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.",
        );
    }
    Ok(())
}

fn read_config(config: &Fields, ask: &mut Ask) -> Checked<()> {
    config.only(&CONFIG)?;
    config.number("temperature", 0.0, 2.0)?;
    config.number("topP", 0.0, 1.0)?;
    ask.max_tokens = config.count("maxOutputTokens", 1)?;
    ask.count = config.count("candidateCount", 1)?.unwrap_or(1).min(8);
    config.list("stopSequences")?;
    ask.stops = config.texts("stopSequences")?;
    if ask.stops.len() > 5 {
        return other(
            "generation_config.stop_sequences",
            "The number of stop sequences must not exceed 5.",
        );
    }
    if config.flag("responseLogprobs")? {
        ask.logprobs = Some(config.count("logprobs", 0)?.unwrap_or(0).min(20));
    } else if config.has("logprobs") {
        return other(
            "generation_config.logprobs",
            "Logprobs is only allowed when response_logprobs is true.",
        );
    }
    if let Some(thinking) = config.object("thinkingConfig")? {
        thinking.only(&["includeThoughts", "thinkingBudget", "thinkingLevel"])?;
        let has_budget = thinking
            .get("thinkingBudget")
            .is_none_or(|budget| budget.as_i64() != Some(0));
        ask.reasoning = thinking.flag("includeThoughts")? && has_budget;
    }
    let kind = config.text("responseMimeType")?.unwrap_or("text/plain");
    let schema = config.get("responseJsonSchema").or(config.get("responseSchema"));
    ask.format = match (kind, schema) {
        ("application/json", Some(schema)) => Format::Schema(schema.clone()),
        ("application/json", None) => Format::Json,
        ("text/plain" | "text/x.enum", None) => Format::Text,
        ("text/x.enum", Some(schema)) => Format::Schema(schema.clone()),
        (_, Some(_)) => {
            return other(
                "generation_config.response_mime_type",
                "Function calling config is set with a response schema; response_mime_type must be application/json.",
            );
        }
        (kind, None) => {
            return problem(
                "generation_config.response_mime_type",
                not_one_of(kind, &["text/plain", "application/json", "text/x.enum"]),
            );
        }
    };
    Ok(())
}

fn read_tools(top: &Fields, ask: &mut Ask) -> Checked<()> {
    for tool in top.objects("tools")? {
        tool.only(&[
            "functionDeclarations",
            "googleSearch",
            "googleSearchRetrieval",
            "codeExecution",
            "urlContext",
            "fileSearch",
            "computerUse",
            "enterpriseWebSearch",
            "googleMaps",
            "retrieval",
            "mcpServers",
        ])?;
        for function in tool.objects("functionDeclarations")? {
            function.only(&[
                "name",
                "description",
                "parameters",
                "parametersJsonSchema",
                "response",
                "responseJsonSchema",
                "behavior",
            ])?;
            let name = function.need_text("name")?;
            let schema = function
                .get("parametersJsonSchema")
                .or(function.get("parameters"));
            let schema = schema.cloned().unwrap_or_else(|| json!({"type": "object"}));
            let description = function.text("description")?.unwrap_or_default();
            ask.tools.push(Tool {
                name: name.to_owned(),
                tokens: count(name) + count(description) + count(&schema.to_string()),
                schema,
            });
        }
    }
    Ok(())
}

fn read_choice(top: &Fields) -> Checked<Choice> {
    let Some(config) = top.object("toolConfig")? else {
        return Ok(Choice::Auto);
    };
    config.only(&[
        "functionCallingConfig",
        "retrievalConfig",
        "includeServerSideToolInvocations",
    ])?;
    let Some(calling) = config.object("functionCallingConfig")? else {
        return Ok(Choice::Auto);
    };
    calling.only(&["mode", "allowedFunctionNames", "streamFunctionCallArguments"])?;
    let names = calling.texts("allowedFunctionNames")?;
    match calling.text("mode")?.unwrap_or("AUTO") {
        "AUTO" | "MODE_UNSPECIFIED" | "VALIDATED" => Ok(Choice::Auto),
        "NONE" => Ok(Choice::Never),
        "ANY" => Ok(match names.as_slice() {
            [one] => Choice::Named(one.clone()),
            _ => Choice::Must,
        }),
        mode => problem(
            calling.path("mode"),
            not_one_of(mode, &["AUTO", "ANY", "NONE", "VALIDATED"]),
        ),
    }
}

fn read_content(content: &Fields) -> Checked<Turn> {
    content.only(&["role", "parts"])?;
    let role = match content.text("role")? {
        None | Some("user" | "function" | "system") => Role::User,
        Some("model") => Role::Assistant,
        Some(_) => return other(content.path("role"), "Please use a valid role: user, model."),
    };
    let parts = content.objects("parts")?;
    if parts.is_empty() {
        return other(
            content.path("parts"),
            format!(
                "* GenerateContentRequest.{}: contents.parts must not be empty.\n",
                content.own_path()
            ),
        );
    }
    let mut turn = Turn {
        role,
        parts: Vec::new(),
    };
    for part in &parts {
        turn.parts.extend(read_part(part)?);
    }
    Ok(turn)
}

fn read_part(part: &Fields) -> Checked<Option<Part>> {
    const DATA: [&str; 9] = [
        "text",
        "inlineData",
        "fileData",
        "functionCall",
        "functionResponse",
        "executableCode",
        "codeExecutionResult",
        "toolCall",
        "toolResponse",
    ];
    const BESIDE: [&str; 6] = [
        "thought",
        "thoughtSignature",
        "videoMetadata",
        "partMetadata",
        "mediaResolution",
        "mediaId",
    ];
    part.only(&[&DATA[..], &BESIDE[..]].concat())?;
    let is_thought = part.flag("thought")?;
    if let Some(text) = part.text("text")? {
        let text = text.to_owned();
        return Ok(Some(if is_thought {
            Part::Reasoning(text)
        } else {
            Part::Text(text)
        }));
    }
    if let Some(data) = part.object("inlineData")? {
        data.only(&["mimeType", "data", "displayName"])?;
        // Google's JSON takes the alphabet of URLs too, which its own SDK writes.
        let text = data.need_text("data")?.replace('-', "+").replace('_', "/");
        return match decoded_media(data.need_text("mimeType")?, &text) {
            Some(media) => Ok(Some(Part::Media(media))),
            None => other(
                data.path("data"),
                format!(
                    "Invalid value at '{}' (TYPE_BYTES), Base64 decoding failed",
                    data.path("data")
                ),
            ),
        };
    }
    if let Some(file) = part.object("fileData")? {
        file.only(&["mimeType", "fileUri", "displayName"])?;
        return Ok(Some(Part::Media(Media {
            kind: file.text("mimeType")?.map_or(Kind::File, Kind::of),
            said: format!("at {}", file.need_text("fileUri")?),
        })));
    }
    if let Some(call) = part.object("functionCall")? {
        call.only(&["id", "name", "args"])?;
        call.object("args")?;
        return Ok(Some(Part::Call {
            name: call.need_text("name")?.to_owned(),
            arguments: call.get("args").map_or_else(|| "{}".to_owned(), Value::to_string),
        }));
    }
    if let Some(result) = part.object("functionResponse")? {
        result.only(&["id", "name", "response", "willContinue", "scheduling", "parts"])?;
        result.need_text("name")?;
        result.need("response")?;
        result.object("response")?;
        return Ok(Some(Part::Result(said_by(result.need("response")?))));
    }
    if DATA.iter().any(|key| part.has(key)) || part.has("thoughtSignature") {
        return Ok(None);
    }
    other(
        part.own_path(),
        format!(
            "* {}.data: required oneof field 'data' must have one initialized field\n",
            part.own_path()
        ),
    )
}

/// A result's text: the one value of the object where there is one text, else the object.
fn said_by(response: &Value) -> String {
    let only = response
        .as_object()
        .filter(|map| map.len() == 1)
        .and_then(|map| map.values().next());
    match only {
        Some(Value::String(text)) => text.clone(),
        _ => response.to_string(),
    }
}

pub(crate) fn usage(usage: &Usage, produced: &Usage) -> Value {
    let prompt = usage.prompt();
    let mut shown = json!({"promptTokenCount": prompt});
    if usage.cache_read > 0 {
        shown["cachedContentTokenCount"] = json!(usage.cache_read);
        shown["cacheTokensDetails"] = json!([{"modality": "TEXT", "tokenCount": usage.cache_read}]);
    }
    if produced.output + produced.audio_output > 0 {
        shown["candidatesTokenCount"] = json!(produced.output + produced.audio_output);
    }
    shown["totalTokenCount"] = json!(prompt + produced.produced());
    let modalities = [
        ("TEXT", prompt - usage.image - usage.audio),
        ("IMAGE", usage.image),
        ("AUDIO", usage.audio),
    ];
    let details = modalities.iter().filter(|(_, count)| *count > 0);
    shown["promptTokensDetails"] = details
        .map(|(modality, count)| json!({"modality": modality, "tokenCount": count}))
        .collect();
    if produced.reasoning > 0 {
        shown["thoughtsTokenCount"] = json!(produced.reasoning);
    }
    shown
}

fn finish_reason(end: &End) -> &'static str {
    match end {
        End::Stop | End::Sequence(_) | End::Calls => "STOP",
        End::Length => "MAX_TOKENS",
    }
}

fn call_part(call: &Call) -> Value {
    json!({"functionCall": {"name": call.name, "args": call.arguments, "id": call.id[..8]},
        "thoughtSignature": signature(&call.id)})
}

fn signature(of: &str) -> String {
    // Base64 of the simulator's making, as long as it decodes.
    letters(&mut Random::new(8, of), 40)
}

pub(crate) fn plain(ask: &Ask, reply: &Reply) -> Value {
    let candidates = reply
        .answers
        .iter()
        .enumerate()
        .map(|(idx, answer)| candidate(ask, idx, answer));
    json!({
        "candidates": candidates.collect::<Vec<_>>(),
        "usageMetadata": usage(&reply.usage, &reply.usage),
        "modelVersion": ask.model,
        "responseId": reply.id,
    })
}

fn candidate(ask: &Ask, idx: usize, answer: &Answer) -> Value {
    let mut parts = Vec::new();
    if let Some(thought) = &answer.reasoning {
        parts.push(json!({"text": thought, "thought": true}));
    }
    if !answer.text.is_empty() || answer.calls.is_empty() {
        parts.push(json!({"text": answer.text}));
    }
    parts.extend(answer.calls.iter().map(call_part));
    let mut candidate = json!({
        "content": {"parts": parts, "role": "model"},
        "finishReason": finish_reason(&answer.end),
        "index": idx,
    });
    if let Some(alternatives) = ask.logprobs {
        candidate["avgLogprobs"] = json!(-0.125);
        candidate["logprobsResult"] = logprobs(&answer.text, alternatives);
    }
    candidate
}

fn logprobs(text: &str, alternatives: u64) -> Value {
    let one = |token: &str, rank: u64| json!({"token": token, "tokenId": token.len() as u64 + rank, "logProbability": -0.125 - rank as f64});
    let mut result = json!({"chosenCandidates": tokens(text).map(|token| one(token, 0)).collect::<Vec<_>>()});
    if alternatives > 0 {
        let top = tokens(text).map(|token| {
            let candidates = (0..alternatives).map(|rank| match rank {
                0 => one(token, 0),
                rank => one(&format!("{token}{rank}"), rank),
            });
            json!({"candidates": candidates.collect::<Vec<_>>()})
        });
        result["topCandidates"] = top.collect();
    }
    result
}

/// Chunks of a stream, as documents with the tokens that they carry.
fn chunks(ask: &Ask, reply: &Reply) -> Vec<(Value, u64, u64)> {
    let mut random = Random::new(6, &reply.id);
    let mut chunks = Vec::new();
    let mut so_far = Usage::default();
    for (idx, answer) in reply.answers.iter().enumerate() {
        let mut parts: Vec<(Value, u64, u64)> = Vec::new();
        for (run, tokens) in runs(answer.reasoning.as_deref().unwrap_or_default(), &mut random) {
            parts.push((json!({"text": run, "thought": true}), 0, tokens));
        }
        for (run, tokens) in runs(&answer.text, &mut random) {
            parts.push((json!({"text": run}), tokens, 0));
        }
        for call in &answer.calls {
            parts.push((call_part(call), call.tokens(), 0));
        }
        if parts.is_empty() {
            parts.push((json!({"text": ""}), 0, 0));
        }
        let last = parts.len() - 1;
        for (at, (part, output, reasoning)) in parts.into_iter().enumerate() {
            so_far.output += output;
            so_far.reasoning += reasoning;
            let mut candidate = json!({"content": {"parts": [part], "role": "model"}});
            if at == last {
                candidate["finishReason"] = json!(finish_reason(&answer.end));
            }
            candidate["index"] = json!(idx);
            if let (Some(alternatives), Some(text)) = (ask.logprobs, part_text(&candidate)) {
                candidate["logprobsResult"] = logprobs(&text, alternatives);
            }
            // Cumulative; the last has the truth, also where `usage:` set it.
            let is_last = at == last && idx + 1 == reply.answers.len();
            let produced = if is_last { reply.usage } else { so_far };
            chunks.push((
                json!({"candidates": [candidate], "usageMetadata": usage(&reply.usage, &produced),
                    "modelVersion": ask.model, "responseId": reply.id}),
                output,
                reasoning,
            ));
        }
    }
    chunks
}

fn part_text(candidate: &Value) -> Option<String> {
    let part = &candidate["content"]["parts"][0];
    if part.get("thought").is_some() {
        return None;
    }
    part["text"].as_str().map(str::to_owned)
}

/// With `alt=sse` events, else one JSON array that arrives element by element.
pub(crate) fn stream(ask: &Ask, reply: &Reply, is_sse: bool) -> Vec<Piece> {
    let chunks = chunks(ask, reply);
    let last = chunks.len().saturating_sub(1);
    let pieces = chunks
        .into_iter()
        .enumerate()
        .map(|(idx, (chunk, output, reasoning))| {
            let piece = if is_sse {
                Piece::new(format!("data: {chunk}\r\n\r\n"))
            } else {
                let before = if idx == 0 { "[" } else { ",\r\n" };
                let after = if idx == last { "\n]\n" } else { "\n" };
                Piece::new(format!("{before}{chunk:#}{after}"))
            };
            piece.output(output).reasoning(reasoning)
        });
    pieces.collect()
}

pub(crate) fn stream_error(is_sse: bool) -> Piece {
    let error = json!({"error": {"code": 503, "message": "The model is overloaded. Please try again later.", "status": "UNAVAILABLE"}});
    if is_sse {
        data(&error)
    } else {
        Piece::new(format!(",\r\n{error:#}\n]\n"))
    }
}

/// `countTokens` takes contents, or a whole request.
pub(crate) fn count_tokens(body: &Value, model: &str) -> Checked<Value> {
    let body = camel(body);
    let top = Fields::of(&body, "")?;
    top.only(&[
        "contents",
        "generateContentRequest",
        "systemInstruction",
        "tools",
        "generationConfig",
        "model",
    ])?;
    let inner = match top.get("generateContentRequest") {
        Some(inner) => inner.clone(),
        None => body.clone(),
    };
    let usage = read(&inner, model, false)?.prompt();
    let modalities = [
        ("TEXT", usage.input),
        ("IMAGE", usage.image),
        ("AUDIO", usage.audio),
    ];
    let details = modalities.iter().filter(|(_, count)| *count > 0);
    Ok(json!({"totalTokens": usage.prompt(),
        "promptTokensDetails": details.map(|(modality, count)| json!({"modality": modality, "tokenCount": count})).collect::<Vec<_>>()}))
}
