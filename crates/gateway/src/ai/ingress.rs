//! Which AI operation a path asks for, and in whose format.

use hyper::http::Method;
use llm::format::Format;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// An answer of a chat model.
    Chat,
    /// OpenAI's older text completion, a chat in other words.
    Completion,
    /// Vectors.
    Embeddings,
    /// An order of documents.
    Rerank,
    /// How many tokens a request has.
    CountTokens,
    /// The models there are.
    ListModels,
    /// One of them.
    ShowModel,
    /// Named in the formats, and passed on to a provider of the same format as it is.
    Passthrough,
    /// Known, and not done here.
    Unsupported,
}

/// An AI request by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// What is asked for.
    pub operation: Operation,
    /// In whose words.
    pub format: Format,
    /// The model, where the path names it; percent-encoded as it came.
    pub model: Option<Box<str>>,
    /// A stream is asked for by the path.
    pub stream: bool,
    /// Gemini's stream as a JSON array instead of server-sent events.
    pub json_array: bool,
    /// Gemini's `batchEmbedContents`.
    pub batch: bool,
}

impl Ingress {
    /// All but lists of models is asked for with POST. What is not done here is so with any method.
    pub fn needs_post(&self) -> bool {
        use Operation::{ListModels, ShowModel, Unsupported};
        !matches!(self.operation, ListModels | ShowModel | Unsupported)
    }
}

/// Reads a path. `list_format` is that of the client's lists of models, which all are at `/v1/models`. `None`: no AI path.
pub fn recognise(method: &Method, path: &str, query: Option<&str>, list_format: Format) -> Option<Ingress> {
    use Operation::{
        Chat, Completion, CountTokens, Embeddings, ListModels, Passthrough, Rerank, ShowModel, Unsupported,
    };
    let found = |operation, format, model: Option<&str>| Ingress {
        operation,
        format,
        model: model.map(Into::into),
        stream: false,
        json_array: false,
        batch: false,
    };
    let path = without_base(path);
    let is_get = method == Method::GET || method == Method::HEAD;
    if let Some(rest) = path.strip_prefix("/v1beta/models") {
        return gemini(is_get, rest, query, found);
    }
    let rest = path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/v2/"))?;
    let is_v2 = path.starts_with("/v2/");
    if is_v2 && rest != "rerank" {
        return None;
    }
    Some(match rest {
        "chat/completions" => found(Chat, Format::Chat, None),
        "responses" => found(Chat, Format::Responses, None),
        "messages" => found(Chat, Format::Messages, None),
        "messages/count_tokens" => found(CountTokens, Format::Messages, None),
        "responses/input_tokens" => found(CountTokens, Format::Responses, None),
        "completions" => found(Completion, Format::Chat, None),
        "embeddings" => found(Embeddings, Format::Chat, None),
        "rerank" => found(Rerank, if is_v2 { Format::Cohere } else { Format::Chat }, None),
        "models" if is_get => found(ListModels, list_format, None),
        "moderations"
        | "images/generations"
        | "images/edits"
        | "images/variations"
        | "audio/speech"
        | "audio/transcriptions"
        | "audio/translations" => found(Passthrough, Format::Chat, None),
        _ => {
            if let Some(model) = rest.strip_prefix("models/") {
                // Gemini's newer API has its models under /v1 too.
                if let Some(rest) = path
                    .strip_prefix("/v1/models")
                    .filter(|_| !is_get && model.contains(':'))
                {
                    return gemini(is_get, rest, query, found);
                }
                return is_get.then(|| found(ShowModel, list_format, Some(model)));
            }
            let first = rest.split('/').next().unwrap_or_default();
            match first {
                "realtime" | "batches" | "files" | "uploads" | "assistants" | "threads" | "vector_stores"
                | "fine_tuning" | "responses" | "conversations" | "evals" | "containers" | "videos" => {
                    found(Unsupported, Format::Chat, None)
                }
                "messages" => found(Unsupported, Format::Messages, None),
                _ => return None,
            }
        }
    })
}

/// SDKs are given a base of `/v1`, `/openai/v1`, `/anthropic` or none.
fn without_base(path: &str) -> &str {
    ["/openai", "/anthropic", "/gemini"]
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix).filter(|rest| rest.starts_with("/v1")))
        .unwrap_or(path)
}

/// What follows the version: `/images/edits?x=1` of `/openai/v1/images/edits?x=1`. A provider's base URL
/// has its own.
pub fn below_version(target: &str) -> &str {
    without_base(target).strip_prefix("/v1").unwrap_or(target)
}

/// A path under `/v1beta/models`: what stands behind the last colon is the operation, so that a model's
/// name may hold slashes and colons.
fn gemini(
    is_get: bool,
    rest: &str,
    query: Option<&str>,
    found: impl Fn(Operation, Format, Option<&str>) -> Ingress,
) -> Option<Ingress> {
    let format = Format::GenerateContent;
    if is_get {
        return match rest.strip_prefix('/') {
            None if rest.is_empty() => Some(found(Operation::ListModels, format, None)),
            Some("") | None => None,
            Some(model) => Some(found(Operation::ShowModel, format, Some(model))),
        };
    }
    let (model, verb) = rest.strip_prefix('/')?.rsplit_once(':')?;
    if model.is_empty() {
        return None;
    }
    let is_sse = query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
    Some(match verb {
        "generateContent" => found(Operation::Chat, format, Some(model)),
        "streamGenerateContent" => Ingress {
            stream: true,
            json_array: !is_sse,
            ..found(Operation::Chat, format, Some(model))
        },
        "countTokens" => found(Operation::CountTokens, format, Some(model)),
        "embedContent" => found(Operation::Embeddings, format, Some(model)),
        "batchEmbedContents" => Ingress {
            batch: true,
            ..found(Operation::Embeddings, format, Some(model))
        },
        _ => found(Operation::Unsupported, format, Some(model)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |line: &str, expected: &str| {
            let (method, target) = line.split_once(' ').unwrap();
            let (path, query) = target
                .split_once('?')
                .map_or((target, None), |(p, q)| (p, Some(q)));
            let shown = recognise(&method.parse().unwrap(), path, query, Format::Chat).map_or_else(
                || "none".to_owned(),
                |i| {
                    let marks = [
                        (i.stream, " stream"),
                        (i.json_array, " array"),
                        (i.batch, " batch"),
                    ];
                    let marks: String = marks.iter().filter(|m| m.0).map(|m| m.1).collect();
                    format!(
                        "{:?} {} {}{marks}",
                        i.operation,
                        i.format.as_str(),
                        i.model.as_deref().unwrap_or("-")
                    )
                },
            );
            assert_eq!(shown, expected, "{line}");
        };
        check("POST /v1/chat/completions", "Chat chat -");
        check("POST /openai/v1/chat/completions", "Chat chat -");
        check("POST /v1/messages?beta=true", "Chat messages -");
        check(
            "POST /anthropic/v1/messages/count_tokens",
            "CountTokens messages -",
        );
        check("POST /v1/responses", "Chat responses -");
        check("GET /v1/responses/resp_1", "Unsupported chat -");
        check("GET /v1/models", "ListModels chat -");
        check("GET /v1/models/openai/gpt-4o", "ShowModel chat openai/gpt-4o");
        check(
            "POST /v1beta/models/gemini-2.5-pro:generateContent",
            "Chat generate_content gemini-2.5-pro",
        );
        check(
            "POST /v1/models/gemini-2.5-pro:generateContent",
            "Chat generate_content gemini-2.5-pro",
        );
        check(
            "POST /v1beta/models/a/b:c:streamGenerateContent?alt=sse&key=x",
            "Chat generate_content a/b:c stream",
        );
        check(
            "POST /v1beta/models/m:streamGenerateContent",
            "Chat generate_content m stream array",
        );
        check(
            "POST /v1beta/models/m:batchEmbedContents",
            "Embeddings generate_content m batch",
        );
        check("POST /v1beta/models/m:fly", "Unsupported generate_content m");
        check("POST /v1beta/models/:generateContent", "none");
        check("POST /v2/rerank", "Rerank cohere -");
        check("POST /v1/images/generations", "Passthrough chat -");
        check("POST /v1/batches", "Unsupported chat -");
        check("GET /v1/things", "none");
        check("GET /", "none");
        check("GET /prompts/sentiment", "none");
    }

    #[test]
    fn models_in_anthropics_form() {
        let found = recognise(&Method::GET, "/v1/models", None, Format::Messages).unwrap();
        assert_eq!(found.format, Format::Messages);
    }
}
