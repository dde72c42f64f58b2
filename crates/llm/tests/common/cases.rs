//! What clients ask and providers answer, in the canonical model: one case for each thing that can be said.

use llm::answer::{Answer, Choice, Stop, TokenLogprob};
use llm::canonical::{
    Message, OutputShape, Part, PartKind, Reasoning, Request, Role, Source, Tool, ToolChoice,
};
use llm::format::Format;
use llm::usage::Usage;
use serde_json::{Map, Number, Value, json};

fn part(kind: PartKind) -> Part {
    Part {
        kind,
        other: Map::new(),
        cache_control: None,
    }
}

fn text(text: &str) -> Part {
    part(PartKind::Text(text.to_owned()))
}

fn says(role: Role, parts: Vec<Part>) -> Message {
    Message {
        role,
        parts,
        other: Map::new(),
    }
}

fn call(id: &str, name: &str, arguments: &str) -> Part {
    let (id, name, arguments) = (id.to_owned(), name.to_owned(), arguments.to_owned());
    part(PartKind::ToolCall { id, name, arguments })
}

fn result(id: &str, is_error: Option<bool>, said: &str) -> Part {
    part(PartKind::ToolResult {
        id: id.to_owned(),
        is_error,
        parts: vec![text(said)],
    })
}

fn tool(name: &str) -> Tool {
    Tool::Function {
        name: name.to_owned(),
        description: Some(format!("what {name} does")),
        parameters: Some(
            json!({"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}),
        ),
        strict: None,
        cache_control: None,
        other: Map::new(),
    }
}

fn base64(media_type: &str) -> Source {
    Source::Base64 {
        media_type: media_type.to_owned(),
        data: "AAAA".to_owned(),
    }
}

fn number(value: f64) -> Option<Number> {
    Number::from_f64(value)
}

/// A question and nothing else.
fn plain() -> Request {
    Request {
        format: Format::Chat,
        model: "m".to_owned(),
        messages: vec![says(Role::User, vec![text("Hi?")])],
        tools: Vec::new(),
        tool_choice: None,
        parallel_tool_calls: None,
        max_output_tokens: Some(100),
        temperature: None,
        top_p: None,
        top_k: None,
        frequency_penalty: None,
        presence_penalty: None,
        seed: None,
        n: None,
        logprobs: None,
        top_logprobs: None,
        stop: Vec::new(),
        output: None,
        reasoning: Reasoning::default(),
        user: None,
        stream: false,
        other: Map::new(),
    }
}

/// Requests by what they are about.
pub(crate) fn requests() -> Vec<(&'static str, Request)> {
    let of = |change: &dyn Fn(&mut Request)| {
        let mut request = plain();
        change(&mut request);
        request
    };
    let asks = |parts: Vec<Part>| of(&|request| request.messages = vec![says(Role::User, parts.clone())]);
    let with_tools = |choice: Option<ToolChoice>| {
        of(&|request| {
            request.tools = vec![tool("f"), tool("g")];
            request.tool_choice.clone_from(&choice);
        })
    };
    let shape = |name: Option<&str>, strict| OutputShape::JsonSchema {
        name: name.map(str::to_owned),
        schema: json!({"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}),
        strict,
        description: None,
    };
    let reasons = |effort: Option<&str>, budget_tokens, mode: Option<&str>| {
        of(&|request| {
            request.max_output_tokens = Some(20_000);
            request.reasoning = Reasoning {
                effort: effort.map(str::to_owned),
                budget_tokens,
                mode: mode.map(str::to_owned),
            };
        })
    };
    let after_tools = |results: Vec<Part>| {
        let mut request = with_tools(None);
        request.messages.extend([
            says(
                Role::Assistant,
                vec![
                    text("I look."),
                    call("call_a", "f", "{\"x\":1}"),
                    call("call_b", "g", "{\"x\":2}"),
                ],
            ),
            says(Role::User, results),
        ]);
        request
    };
    let thought = |signature: Option<&str>| {
        let kind = PartKind::Reasoning {
            text: "hm".to_owned(),
            signature: signature.map(str::to_owned),
        };
        of(&|request| {
            request.messages.extend([
                says(Role::Assistant, vec![part(kind.clone()), text("Hi.")]),
                says(Role::User, vec![text("And?")]),
            ]);
        })
    };
    let says_before = |said: Value| {
        let said = part(PartKind::Other(said));
        of(&|request| {
            request.messages.extend([
                says(Role::Assistant, vec![said.clone(), text("Hm.")]),
                says(Role::User, vec![text("And?")]),
            ]);
        })
    };
    let cached = || {
        let mut request = with_tools(None);
        let mut prompt = text("Be brief.");
        prompt.cache_control = Some(json!({"type": "ephemeral"}));
        request.messages.insert(0, says(Role::System, vec![prompt]));
        request
    };
    let file = |source| {
        part(PartKind::File {
            source,
            name: Some("a.pdf".to_owned()),
        })
    };
    vec![
        ("text", plain()),
        ("stream", of(&|request| request.stream = true)),
        (
            "talk",
            of(&|request| {
                request.messages = vec![
                    says(Role::System, vec![text("Be brief.")]),
                    says(Role::User, vec![text("Hi?")]),
                    says(Role::Assistant, vec![text("Hi.")]),
                    says(Role::User, vec![text("And?"), text("Well?")]),
                ];
            }),
        ),
        (
            "two prompts",
            of(&|request| {
                request
                    .messages
                    .insert(0, says(Role::Developer, vec![text("Be kind.")]));
                request
                    .messages
                    .insert(0, says(Role::System, vec![text("Be brief.")]));
            }),
        ),
        (
            "image",
            asks(vec![text("What?"), part(PartKind::Image(base64("image/png")))]),
        ),
        (
            "image by url",
            asks(vec![
                text("What?"),
                part(PartKind::Image(Source::Url("https://a.example/a.png".to_owned()))),
            ]),
        ),
        ("file", asks(vec![text("What?"), file(base64("application/pdf"))])),
        (
            "file by url",
            asks(vec![
                text("What?"),
                file(Source::Url("https://a.example/a.pdf".to_owned())),
            ]),
        ),
        ("tools", with_tools(None)),
        ("tools auto", with_tools(Some(ToolChoice::Auto))),
        ("tools none", with_tools(Some(ToolChoice::None))),
        ("tools required", with_tools(Some(ToolChoice::Required))),
        ("tools named", with_tools(Some(ToolChoice::Named("g".to_owned())))),
        (
            "one call at once",
            of(&|request| {
                request.tools = vec![tool("f")];
                request.parallel_tool_calls = Some(false);
            }),
        ),
        (
            "results",
            after_tools(vec![result("call_a", None, "one"), result("call_b", None, "two")]),
        ),
        (
            "results and a question",
            after_tools(vec![
                result("call_a", None, "one"),
                result("call_b", None, "two"),
                text("And?"),
            ]),
        ),
        (
            "result of failure",
            after_tools(vec![
                result("call_a", Some(true), "no"),
                result("call_b", Some(false), "two"),
            ]),
        ),
        (
            "json",
            of(&|request| request.output = Some(OutputShape::JsonObject)),
        ),
        ("schema", of(&|request| request.output = Some(shape(None, None)))),
        (
            "schema strict",
            of(&|request| request.output = Some(shape(Some("n"), Some(true)))),
        ),
        ("effort", reasons(Some("medium"), None, None)),
        ("no effort", reasons(Some("none"), None, None)),
        ("budget", reasons(None, Some(4000), Some("enabled"))),
        ("adaptive", reasons(None, None, Some("adaptive"))),
        ("thought", thought(None)),
        ("thought signed", thought(Some("c2ln"))),
        (
            "thought hidden",
            says_before(json!({"type": "redacted_thinking", "data": "ZGF0YQ=="})),
        ),
        (
            "declined",
            says_before(json!({"type": "refusal", "refusal": "No."})),
        ),
        (
            "sampling",
            of(&|request| {
                request.temperature = number(0.5);
                request.top_p = number(0.75);
            }),
        ),
        (
            "more sampling",
            of(&|request| {
                request.top_k = Some(5);
                request.frequency_penalty = number(0.25);
                request.presence_penalty = number(0.5);
                request.seed = Some(7);
            }),
        ),
        ("stop", of(&|request| request.stop = vec!["END".to_owned()])),
        ("user", of(&|request| request.user = Some("u1".to_owned()))),
        (
            "logprobs",
            of(&|request| {
                request.logprobs = Some(true);
                request.top_logprobs = Some(2);
            }),
        ),
        ("two answers", of(&|request| request.n = Some(2))),
        ("cache", cached()),
    ]
}

/// Answers by what they are about.
pub(crate) fn answers() -> Vec<(&'static str, Answer)> {
    let usage = Usage {
        input: 20,
        cache_read: 5,
        output: 7,
        ..Usage::default()
    };
    let of = |parts: Vec<Part>, stop: Stop| Answer {
        format: Format::Chat,
        id: "a1".to_owned(),
        model: "m".to_owned(),
        created_s: Some(5),
        choices: vec![Choice {
            parts,
            stop: Some(stop),
            logprobs: Vec::new(),
            other: Map::new(),
        }],
        usage: Some(usage),
        other: Map::new(),
    };
    let thought = PartKind::Reasoning {
        text: "hm".to_owned(),
        signature: None,
    };
    let signed = PartKind::Reasoning {
        text: "hm".to_owned(),
        signature: Some("c2ln".to_owned()),
    };
    let calls = || vec![call("call_a", "f", "{\"x\":1}"), call("call_b", "g", "{}")];
    let token = |token: &str| TokenLogprob {
        token: token.to_owned(),
        logprob: -0.5,
        bytes: None,
        top: Vec::new(),
    };
    let mut likely = of(vec![text("Hi.")], Stop::End);
    likely.choices[0].logprobs = vec![token("Hi"), token(".")];
    let mut reasoned = of(vec![part(thought.clone()), text("Hi.")], Stop::End);
    reasoned.usage = Some(Usage {
        reasoning: 4,
        ..usage
    });
    vec![
        ("text", of(vec![text("Hi. \u{1f600}")], Stop::End)),
        ("nothing", of(Vec::new(), Stop::End)),
        ("cut", of(vec![text("Hi")], Stop::MaxTokens)),
        (
            "sequence",
            of(vec![text("Hi")], Stop::Sequence(Some("END".to_owned()))),
        ),
        ("refused", of(vec![text("No.")], Stop::Refused)),
        ("calls", of(calls(), Stop::ToolUse)),
        (
            "text and calls",
            of([vec![text("I look.")], calls()].concat(), Stop::ToolUse),
        ),
        ("thought", reasoned),
        ("thought signed", of(vec![part(signed), text("Hi.")], Stop::End)),
        (
            "thought and calls",
            of([vec![part(thought)], calls()].concat(), Stop::ToolUse),
        ),
        ("logprobs", likely),
    ]
}
