//! Which provider and operation a path belongs to.

use hyper::{HeaderMap, Method};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    OpenAi,
    Azure,
    Anthropic,
    Gemini,
    Vertex,
    Bedrock,
    Cohere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Chat,
    Responses,
    ResponsesTokens,
    Completions,
    Embeddings,
    Models,
    Messages,
    MessagesTokens,
    Generate,
    GenerateStream,
    GeminiTokens,
    Embed,
    EmbedBatch,
    Converse,
    ConverseStream,
    CohereChat,
    CohereEmbed,
    CohereRerank,
}

impl Operation {
    /// The wire's name in the journal.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Chat => "chat",
            Operation::Responses => "responses",
            Operation::ResponsesTokens => "responses.input_tokens",
            Operation::Completions => "completions",
            Operation::Embeddings => "embeddings",
            Operation::Models => "models",
            Operation::Messages => "messages",
            Operation::MessagesTokens => "messages.count_tokens",
            Operation::Generate => "generateContent",
            Operation::GenerateStream => "streamGenerateContent",
            Operation::GeminiTokens => "countTokens",
            Operation::Embed => "embedContent",
            Operation::EmbedBatch => "batchEmbedContents",
            Operation::Converse => "converse",
            Operation::ConverseStream => "converse-stream",
            Operation::CohereChat => "cohere.chat",
            Operation::CohereEmbed => "cohere.embed",
            Operation::CohereRerank => "cohere.rerank",
        }
    }
}

impl Provider {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Provider::OpenAi => "openai",
            Provider::Azure => "azure",
            Provider::Anthropic => "anthropic",
            Provider::Gemini => "gemini",
            Provider::Vertex => "vertex",
            Provider::Bedrock => "bedrock",
            Provider::Cohere => "cohere",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) provider: Provider,
    pub(crate) operation: Operation,
    /// Where the path names the model.
    pub(crate) model: Option<String>,
}

/// Paths of OpenAI's shape, under whatever prefix a provider of that shape puts them.
const OPENAI_SUFFIXES: [(&str, Operation); 6] = [
    ("/chat/completions", Operation::Chat),
    ("/responses/input_tokens", Operation::ResponsesTokens),
    ("/responses", Operation::Responses),
    ("/completions", Operation::Completions),
    ("/embeddings", Operation::Embeddings),
    ("/models", Operation::Models),
];

pub(crate) fn route(method: &Method, path: &str, headers: &HeaderMap) -> Option<Route> {
    let plain = |provider, operation| {
        Some(Route {
            provider,
            operation,
            model: None,
        })
    };
    let is_get = method == Method::GET;
    if !is_get && method != Method::POST {
        return None;
    }
    match path {
        "/v1/messages" if !is_get => return plain(Provider::Anthropic, Operation::Messages),
        "/v1/messages/count_tokens" if !is_get => {
            return plain(Provider::Anthropic, Operation::MessagesTokens);
        }
        "/v1/models" if is_get && headers.contains_key("anthropic-version") => {
            return plain(Provider::Anthropic, Operation::Models);
        }
        "/v2/chat" if !is_get => return plain(Provider::Cohere, Operation::CohereChat),
        "/v2/embed" if !is_get => return plain(Provider::Cohere, Operation::CohereEmbed),
        "/v2/rerank" if !is_get => return plain(Provider::Cohere, Operation::CohereRerank),
        "/v1beta/models" if is_get => return plain(Provider::Gemini, Operation::Models),
        _ => {}
    }
    if let Some(rest) = path.strip_prefix("/model/").filter(|_| !is_get) {
        let (model, action) = rest.rsplit_once('/')?;
        let operation = match action {
            "converse" => Operation::Converse,
            "converse-stream" => Operation::ConverseStream,
            _ => return None,
        };
        return Some(Route {
            provider: Provider::Bedrock,
            operation,
            model: Some(percent_decoded(model)),
        });
    }
    if let Some((before, after)) = path.split_once("/models/").filter(|_| !is_get)
        && let Some((model, action)) = after.rsplit_once(':')
    {
        let operation = match action {
            "generateContent" => Operation::Generate,
            "streamGenerateContent" => Operation::GenerateStream,
            "countTokens" => Operation::GeminiTokens,
            "embedContent" => Operation::Embed,
            "batchEmbedContents" => Operation::EmbedBatch,
            _ => return None,
        };
        let provider = match before {
            "/v1beta" | "/v1" | "/v1alpha" => Provider::Gemini,
            other if is_vertex(other) => Provider::Vertex,
            _ => return None,
        };
        return Some(Route {
            provider,
            operation,
            model: Some(percent_decoded(model)),
        });
    }
    let (prefix, operation) = OPENAI_SUFFIXES
        .iter()
        .find_map(|(suffix, operation)| Some((path.strip_suffix(suffix)?, *operation)))?;
    if is_get != (operation == Operation::Models) {
        return None;
    }
    if let Some(deployment) = prefix.strip_prefix("/openai/deployments/") {
        return Some(Route {
            provider: Provider::Azure,
            operation,
            model: Some(percent_decoded(deployment)),
        });
    }
    // Groq has the same path as Azure's newer form; the header tells them apart.
    let is_azure = prefix == "/openai/v1" && (headers.contains_key("api-key"));
    plain(
        if is_azure {
            Provider::Azure
        } else {
            Provider::OpenAi
        },
        operation,
    )
}

/// `/v1/projects/P/locations/L/publishers/google`, and the same under `v1beta1`.
fn is_vertex(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(
        parts[..],
        [
            "",
            "v1" | "v1beta1",
            "projects",
            _,
            "locations",
            _,
            "publishers",
            "google"
        ]
    )
}

pub(crate) fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Operation, Provider, route};
    use hyper::{HeaderMap, Method};

    #[test]
    fn paths_name_provider_operation_and_model() {
        let check = |method: Method, path: &str, expected: Option<(Provider, Operation, &str)>| {
            let found = route(&method, path, &HeaderMap::new());
            let found = found
                .as_ref()
                .map(|one| (one.provider, one.operation, one.model.as_deref().unwrap_or("")));
            assert_eq!(found, expected, "{path}");
        };
        let post = || Method::POST;
        check(
            post(),
            "/v1/chat/completions",
            Some((Provider::OpenAi, Operation::Chat, "")),
        );
        check(
            post(),
            "/api/v1/chat/completions",
            Some((Provider::OpenAi, Operation::Chat, "")),
        );
        check(
            post(),
            "/v1/completions",
            Some((Provider::OpenAi, Operation::Completions, "")),
        );
        check(
            post(),
            "/openai/deployments/m%2Fx/chat/completions",
            Some((Provider::Azure, Operation::Chat, "m/x")),
        );
        check(
            post(),
            "/v1/messages",
            Some((Provider::Anthropic, Operation::Messages, "")),
        );
        check(
            post(),
            "/v1beta/models/a/b:generateContent",
            Some((Provider::Gemini, Operation::Generate, "a/b")),
        );
        check(
            post(),
            "/v1/projects/p/locations/l/publishers/google/models/m:streamGenerateContent",
            Some((Provider::Vertex, Operation::GenerateStream, "m")),
        );
        check(
            post(),
            "/model/a.b-v1%3A0/converse",
            Some((Provider::Bedrock, Operation::Converse, "a.b-v1:0")),
        );
        check(
            Method::GET,
            "/v1/models",
            Some((Provider::OpenAi, Operation::Models, "")),
        );
        check(Method::GET, "/v1/chat/completions", None);
        check(post(), "/elsewhere/models/m:generateContent", None);
        check(post(), "/model/m/other", None);
    }
}
