//! The rows. Alphabetical but for the generic one.

use super::{Auth, Operation, Parameter, Preset, Quirks};
use crate::embeddings::EmbedFormat;
use crate::format::Format;
use Operation::{Chat, Completions, CountTokens, Embeddings, Models, Rerank, Responses};

/// OpenAI's own behaviour.
const OPENAI: Quirks = Quirks {
    legacy_max_tokens: false,
    max_tokens_excludes_reasoning: false,
    needs_max_tokens: false,
    include_usage: true,
    developer_role: true,
    parallel_tool_calls: true,
    tools: true,
    json_schema: true,
    reasoning_field: None,
    unsupported: &[],
};

/// What speaks OpenAI's format but is not OpenAI: no `developer`, and the older name of the limit.
const COMPATIBLE: Quirks = Quirks {
    legacy_max_tokens: true,
    developer_role: false,
    reasoning_field: Some("reasoning_content"),
    ..OPENAI
};

/// Formats that are not OpenAI's have no fields of OpenAI's to differ in.
const OTHER_WIRE: Quirks = Quirks {
    include_usage: false,
    developer_role: false,
    ..OPENAI
};

const CHAT: &[(Operation, &str)] = &[(Chat, "/chat/completions"), (Models, "/models")];
const CHAT_EMBEDDINGS: &[(Operation, &str)] = &[
    (Chat, "/chat/completions"),
    (Embeddings, "/embeddings"),
    (Models, "/models"),
];
const CHAT_COMPLETIONS_EMBEDDINGS: &[(Operation, &str)] = &[
    (Chat, "/chat/completions"),
    (Completions, "/completions"),
    (Embeddings, "/embeddings"),
    (Models, "/models"),
];
const CHAT_EMBEDDINGS_RERANK: &[(Operation, &str)] = &[
    (Chat, "/chat/completions"),
    (Embeddings, "/embeddings"),
    (Rerank, "/rerank"),
    (Models, "/models"),
];
const CHAT_COMPLETIONS_EMBEDDINGS_RERANK: &[(Operation, &str)] = &[
    (Chat, "/chat/completions"),
    (Completions, "/completions"),
    (Embeddings, "/embeddings"),
    (Rerank, "/rerank"),
    (Models, "/models"),
];
const OPENAI_PATHS: &[(Operation, &str)] = &[
    (Chat, "/chat/completions"),
    (Responses, "/responses"),
    (Completions, "/completions"),
    (Embeddings, "/embeddings"),
    (CountTokens, "/responses/input_tokens"),
    (Models, "/models"),
];

/// A row to start from: OpenAI's format with a bearer key.
const BASE: Preset = Preset {
    kind: "",
    title: "",
    wire: Format::Chat,
    auth: Auth::Bearer,
    base_url: None,
    parameters: &[],
    headers: &[],
    paths: CHAT,
    stream_path: None,
    passthrough: true,
    embeddings: None,
    count: None,
    quirks: COMPATIBLE,
    catalogue: &[],
    source: "",
};

/// The same with embeddings in OpenAI's format.
const BASE_EMBEDDINGS: Preset = Preset {
    paths: CHAT_EMBEDDINGS,
    embeddings: Some(EmbedFormat::OpenAi),
    ..BASE
};

const fn needed(name: &'static str) -> Parameter {
    Parameter { name, default: None }
}

const fn optional(name: &'static str, default: &'static str) -> Parameter {
    Parameter {
        name,
        default: Some(default),
    }
}

/// The GLM models of Zhipu, on both of its platforms.
const GLM: Quirks = Quirks {
    parallel_tool_calls: false,
    json_schema: false,
    unsupported: &["frequency_penalty", "presence_penalty"],
    ..COMPATIBLE
};

pub(super) static ROWS: [Preset; 33] = [
    Preset {
        kind: "anthropic",
        title: "Anthropic",
        wire: Format::Messages,
        auth: Auth::Header("x-api-key"),
        base_url: Some("https://api.anthropic.com/v1"),
        headers: &[("anthropic-version", "2023-06-01")],
        paths: &[
            (Chat, "/messages"),
            (CountTokens, "/messages/count_tokens"),
            (Models, "/models"),
        ],
        count: Some(Format::Messages),
        quirks: Quirks {
            needs_max_tokens: true,
            ..OTHER_WIRE
        },
        catalogue: &["anthropic"],
        source: "docs.anthropic.com/en/api/overview",
        ..BASE
    },
    Preset {
        kind: "azure",
        title: "Azure OpenAI",
        auth: Auth::Header("api-key"),
        base_url: Some("https://{resource}.openai.azure.com"),
        parameters: &[needed("resource"), optional("api_version", "2024-10-21")],
        paths: &[
            (
                Chat,
                "/openai/deployments/{model}/chat/completions?api-version={api_version}",
            ),
            (Responses, "/openai/v1/responses"),
            (
                Completions,
                "/openai/deployments/{model}/completions?api-version={api_version}",
            ),
            (
                Embeddings,
                "/openai/deployments/{model}/embeddings?api-version={api_version}",
            ),
            (Models, "/openai/models?api-version={api_version}"),
        ],
        passthrough: false,
        embeddings: Some(EmbedFormat::OpenAi),
        // The model is the name of a deployment.
        quirks: OPENAI,
        catalogue: &["azure", "openai"],
        source: "learn.microsoft.com/azure/ai-foundry/openai/reference",
        ..BASE
    },
    Preset {
        kind: "azure_v1",
        title: "Azure OpenAI, v1 API",
        auth: Auth::Header("api-key"),
        base_url: Some("https://{resource}.openai.azure.com/openai/v1"),
        parameters: &[needed("resource")],
        paths: OPENAI_PATHS,
        embeddings: Some(EmbedFormat::OpenAi),
        count: Some(Format::Responses),
        quirks: OPENAI,
        catalogue: &["azure", "openai"],
        source: "learn.microsoft.com/azure/foundry/openai/api-version-lifecycle",
        ..BASE
    },
    Preset {
        kind: "bedrock",
        title: "Amazon Bedrock",
        wire: Format::Converse,
        auth: Auth::SigV4,
        base_url: Some("https://bedrock-runtime.{region}.amazonaws.com"),
        parameters: &[needed("region")],
        paths: &[
            (Chat, "/model/{model}/converse"),
            (Embeddings, "/model/{model}/invoke"),
            (CountTokens, "/model/{model}/count-tokens"),
        ],
        stream_path: Some("/model/{model}/converse-stream"),
        passthrough: false,
        embeddings: Some(EmbedFormat::BedrockTitan),
        count: Some(Format::Converse),
        quirks: OTHER_WIRE,
        catalogue: &["bedrock"],
        source: "docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Amazon_Bedrock_Runtime",
        ..BASE
    },
    Preset {
        kind: "cerebras",
        title: "Cerebras",
        base_url: Some("https://api.cerebras.ai/v1"),
        paths: &[
            (Chat, "/chat/completions"),
            (Completions, "/completions"),
            (Models, "/models"),
        ],
        // The system role acts as the developer; these fields answer 400.
        quirks: Quirks {
            legacy_max_tokens: false,
            parallel_tool_calls: false,
            reasoning_field: Some("reasoning"),
            unsupported: &[
                "frequency_penalty",
                "logit_bias",
                "presence_penalty",
                "service_tier",
            ],
            ..COMPATIBLE
        },
        catalogue: &["cerebras"],
        source: "inference-docs.cerebras.ai/resources/openai",
        ..BASE
    },
    Preset {
        kind: "cohere",
        title: "Cohere",
        wire: Format::Cohere,
        base_url: Some("https://api.cohere.com"),
        paths: &[
            (Chat, "/v2/chat"),
            (Embeddings, "/v2/embed"),
            (Rerank, "/v2/rerank"),
            (Models, "/v1/models"),
        ],
        embeddings: Some(EmbedFormat::Cohere),
        quirks: OTHER_WIRE,
        catalogue: &["cohere"],
        source: "docs.cohere.com/reference/chat",
        ..BASE
    },
    Preset {
        kind: "dashscope",
        title: "Alibaba DashScope (Qwen)",
        base_url: Some("https://dashscope.aliyuncs.com/compatible-mode/v1"),
        // Abroad: https://dashscope-intl.aliyuncs.com/compatible-mode/v1. JSON schemas by newer models only.
        quirks: Quirks {
            max_tokens_excludes_reasoning: true,
            ..COMPATIBLE
        },
        catalogue: &["dashscope"],
        source: "help.aliyun.com/en/model-studio/deep-thinking",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "deepseek",
        title: "DeepSeek",
        base_url: Some("https://api.deepseek.com/v1"),
        quirks: Quirks {
            parallel_tool_calls: false,
            json_schema: false,
            ..COMPATIBLE
        },
        catalogue: &["deepseek"],
        source: "api-docs.deepseek.com/api/create-chat-completion",
        ..BASE
    },
    Preset {
        kind: "fireworks",
        title: "Fireworks AI",
        base_url: Some("https://api.fireworks.ai/inference/v1"),
        paths: CHAT_COMPLETIONS_EMBEDDINGS_RERANK,
        catalogue: &["fireworks"],
        source: "docs.fireworks.ai/api-reference/post-chatcompletions",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "gemini",
        title: "Google Gemini",
        wire: Format::GenerateContent,
        auth: Auth::Header("x-goog-api-key"),
        base_url: Some("https://generativelanguage.googleapis.com/v1beta"),
        paths: &[
            (Chat, "/{models/}:generateContent"),
            (Embeddings, "/{models/}:batchEmbedContents"),
            (CountTokens, "/{models/}:countTokens"),
            (Models, "/models"),
        ],
        stream_path: Some("/{models/}:streamGenerateContent?alt=sse"),
        embeddings: Some(EmbedFormat::GeminiBatch),
        count: Some(Format::GenerateContent),
        quirks: OTHER_WIRE,
        catalogue: &["gemini"],
        source: "ai.google.dev/api/generate-content",
        ..BASE
    },
    Preset {
        kind: "groq",
        title: "Groq",
        base_url: Some("https://api.groq.com/openai/v1"),
        // These fields answer 400.
        quirks: Quirks {
            legacy_max_tokens: false,
            reasoning_field: Some("reasoning"),
            unsupported: &["logit_bias", "logprobs", "top_logprobs"],
            ..COMPATIBLE
        },
        catalogue: &["groq"],
        source: "console.groq.com/docs/openai",
        ..BASE
    },
    Preset {
        kind: "hunyuan",
        title: "Tencent Hunyuan",
        base_url: Some("https://api.hunyuan.cloud.tencent.com/v1"),
        catalogue: &["tencent"],
        source: "cloud.tencent.com/document/product/1729/111007",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "meta",
        title: "Meta",
        base_url: Some("https://api.meta.ai/v1"),
        quirks: Quirks {
            legacy_max_tokens: false,
            ..COMPATIBLE
        },
        catalogue: &["meta"],
        source: "ai.developer.meta.com/docs",
        ..BASE
    },
    Preset {
        kind: "meta_llama",
        title: "Meta Llama API",
        base_url: Some("https://api.llama.com/compat/v1"),
        quirks: Quirks {
            legacy_max_tokens: false,
            reasoning_field: None,
            ..COMPATIBLE
        },
        catalogue: &["meta_llama"],
        source: "llama.developer.meta.com/docs/features/compatibility",
        ..BASE
    },
    Preset {
        kind: "minimax",
        title: "MiniMax",
        base_url: Some("https://api.minimax.io/v1"),
        // In China: https://api.minimaxi.com/v1. Reasoning is apart only if `reasoning_split` is set.
        quirks: Quirks {
            legacy_max_tokens: false,
            parallel_tool_calls: false,
            json_schema: false,
            unsupported: &["frequency_penalty", "presence_penalty", "response_format", "seed"],
            ..COMPATIBLE
        },
        catalogue: &["minimax"],
        source: "platform.minimax.io/docs/api-reference/text-openai-api",
        ..BASE
    },
    Preset {
        kind: "mistral",
        title: "Mistral",
        base_url: Some("https://api.mistral.ai/v1"),
        // Refuses every field it does not know; tells the usage of a stream unasked.
        quirks: Quirks {
            include_usage: false,
            reasoning_field: None,
            unsupported: &[
                "logit_bias",
                "logprobs",
                "seed",
                "service_tier",
                "store",
                "stream_options",
                "top_logprobs",
                "user",
            ],
            ..COMPATIBLE
        },
        catalogue: &["mistral"],
        source: "docs.mistral.ai/api",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "moonshot",
        title: "Moonshot (Kimi)",
        base_url: Some("https://api.moonshot.cn/v1"),
        // Abroad: https://api.moonshot.ai/v1.
        quirks: Quirks {
            legacy_max_tokens: false,
            ..COMPATIBLE
        },
        catalogue: &["moonshot"],
        source: "platform.moonshot.cn/docs/api/chat",
        ..BASE
    },
    Preset {
        kind: "nvidia",
        title: "NVIDIA",
        base_url: Some("https://integrate.api.nvidia.com/v1"),
        paths: CHAT_COMPLETIONS_EMBEDDINGS,
        catalogue: &["nvidia"],
        source: "docs.api.nvidia.com/nim/reference",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "ollama",
        title: "Ollama",
        auth: Auth::None,
        base_url: Some("http://127.0.0.1:11434/v1"),
        paths: CHAT_COMPLETIONS_EMBEDDINGS,
        quirks: Quirks {
            parallel_tool_calls: false,
            reasoning_field: Some("reasoning"),
            ..COMPATIBLE
        },
        catalogue: &["ollama"],
        source: "docs.ollama.com/openai",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "openai",
        title: "OpenAI",
        base_url: Some("https://api.openai.com/v1"),
        paths: OPENAI_PATHS,
        embeddings: Some(EmbedFormat::OpenAi),
        count: Some(Format::Responses),
        quirks: OPENAI,
        catalogue: &["openai"],
        source: "platform.openai.com/docs/api-reference",
        ..BASE
    },
    Preset {
        kind: "openrouter",
        title: "OpenRouter",
        base_url: Some("https://openrouter.ai/api/v1"),
        paths: CHAT_COMPLETIONS_EMBEDDINGS,
        quirks: Quirks {
            developer_role: true,
            reasoning_field: Some("reasoning"),
            ..COMPATIBLE
        },
        source: "openrouter.ai/docs/api-reference/overview",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "perplexity",
        title: "Perplexity",
        base_url: Some("https://api.perplexity.ai"),
        paths: &[(Chat, "/chat/completions")],
        // Every chunk of a stream has the usage so far.
        quirks: Quirks {
            include_usage: false,
            parallel_tool_calls: false,
            tools: false,
            reasoning_field: None,
            ..COMPATIBLE
        },
        catalogue: &["perplexity"],
        source: "docs.perplexity.ai/docs/sonar/openai-compatibility",
        ..BASE
    },
    Preset {
        kind: "qianfan",
        title: "Baidu Qianfan (ERNIE)",
        base_url: Some("https://qianfan.baidubce.com/v2"),
        paths: CHAT_EMBEDDINGS_RERANK,
        catalogue: &["qianfan"],
        source: "cloud.baidu.com/doc/qianfan/s/Hmh4suq26",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "siliconflow",
        title: "SiliconFlow",
        base_url: Some("https://api.siliconflow.cn/v1"),
        paths: CHAT_EMBEDDINGS_RERANK,
        quirks: Quirks {
            max_tokens_excludes_reasoning: true,
            ..COMPATIBLE
        },
        source: "docs.siliconflow.cn/docs/api/chat-completions-post",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "tencent",
        title: "Tencent TokenHub",
        base_url: Some("https://tokenhub-intl.tencentcloudmaas.com/v1"),
        catalogue: &["tencent"],
        source: "www.tencentcloud.com/document/product/1300/82345",
        ..BASE
    },
    Preset {
        kind: "together",
        title: "Together AI",
        base_url: Some("https://api.together.ai/v1"),
        paths: CHAT_COMPLETIONS_EMBEDDINGS_RERANK,
        quirks: Quirks {
            reasoning_field: Some("reasoning"),
            ..COMPATIBLE
        },
        catalogue: &["together"],
        source: "docs.together.ai/docs/chat-overview",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "vertex",
        title: "Google Vertex AI",
        wire: Format::GenerateContent,
        auth: Auth::ServiceAccount,
        base_url: Some("https://{location-}aiplatform.googleapis.com/v1"),
        parameters: &[needed("project"), optional("location", "global")],
        paths: &[
            (
                Chat,
                "/projects/{project}/locations/{location}/{publisher/}:generateContent",
            ),
            (
                Embeddings,
                "/projects/{project}/locations/{location}/{publisher/}:predict",
            ),
            (
                CountTokens,
                "/projects/{project}/locations/{location}/{publisher/}:countTokens",
            ),
        ],
        stream_path: Some(
            "/projects/{project}/locations/{location}/{publisher/}:streamGenerateContent?alt=sse",
        ),
        passthrough: false,
        embeddings: Some(EmbedFormat::Vertex),
        count: Some(Format::GenerateContent),
        quirks: OTHER_WIRE,
        catalogue: &["vertex"],
        source: "cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/projects.locations.publishers.models",
        ..BASE
    },
    Preset {
        kind: "vllm",
        title: "vLLM",
        paths: CHAT_COMPLETIONS_EMBEDDINGS_RERANK,
        quirks: Quirks {
            reasoning_field: Some("reasoning"),
            ..COMPATIBLE
        },
        source: "docs.vllm.ai/en/latest/serving/openai_compatible_server",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "volcengine",
        title: "Volcengine Ark (Doubao)",
        base_url: Some("https://ark.cn-beijing.volces.com/api/v3"),
        // Its `max_tokens` limits the answer without the reasoning, `max_completion_tokens` both.
        quirks: Quirks {
            legacy_max_tokens: false,
            ..COMPATIBLE
        },
        catalogue: &["volcengine"],
        source: "www.volcengine.com/docs/82379/1494384",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "xai",
        title: "xAI",
        base_url: Some("https://api.x.ai/v1"),
        quirks: Quirks {
            legacy_max_tokens: false,
            developer_role: true,
            ..COMPATIBLE
        },
        catalogue: &["xai"],
        source: "docs.x.ai/docs/api-reference",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "zai",
        title: "Z.ai",
        base_url: Some("https://api.z.ai/api/paas/v4"),
        quirks: GLM,
        catalogue: &["zai"],
        source: "docs.z.ai/api-reference/llm/chat-completion",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "zhipu",
        title: "Zhipu BigModel (GLM)",
        base_url: Some("https://open.bigmodel.cn/api/paas/v4"),
        paths: CHAT_EMBEDDINGS_RERANK,
        quirks: GLM,
        catalogue: &["zhipu", "zai"],
        source: "docs.bigmodel.cn/api-reference",
        ..BASE_EMBEDDINGS
    },
    Preset {
        kind: "openai_compatible",
        title: "Any that speaks the format of OpenAI",
        paths: CHAT_COMPLETIONS_EMBEDDINGS_RERANK,
        source: "platform.openai.com/docs/api-reference",
        ..BASE_EMBEDDINGS
    },
];
