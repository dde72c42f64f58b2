//! Which models there are. Any other name is answered as well; these are for those who ask.
//! <https://platform.openai.com/docs/api-reference/models>, <https://docs.anthropic.com/en/api/models-list>,
//! <https://ai.google.dev/api/models>

use serde_json::{Value, json};

use crate::lab::provider::route::Provider;

const OPENAI: [&str; 6] = [
    "gpt-4o-mini",
    "gpt-4o",
    "gpt-5-nano",
    "gpt-5",
    "text-embedding-3-small",
    "sim-model",
];
const ANTHROPIC: [&str; 3] = ["claude-sonnet-4-5", "claude-opus-4-6", "sim-model"];
const GEMINI: [&str; 4] = [
    "gemini-2.5-flash",
    "gemini-2.5-pro",
    "gemini-embedding-001",
    "sim-model",
];
const CREATED: u64 = 1_715_367_049;

pub(crate) fn list(provider: Provider) -> Value {
    match provider {
        Provider::Anthropic => {
            let models = ANTHROPIC
                .map(|id| json!({"type": "model", "id": id, "display_name": id, "created_at": "2025-01-01T00:00:00Z"}));
            json!({"data": models, "has_more": false, "first_id": ANTHROPIC[0], "last_id": ANTHROPIC[2]})
        }
        Provider::Gemini | Provider::Vertex => {
            let models = GEMINI.map(|id| {
                json!({"name": format!("models/{id}"), "version": "001", "displayName": id,
                    "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
                    "supportedGenerationMethods": ["generateContent", "countTokens"]})
            });
            json!({"models": models})
        }
        _ => {
            let models = OPENAI
                .map(|id| json!({"id": id, "object": "model", "created": CREATED, "owned_by": "weir-lab"}));
            json!({"object": "list", "data": models})
        }
    }
}
