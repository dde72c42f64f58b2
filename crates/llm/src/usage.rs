//! What a call used, as its provider reports it, in buckets that do not overlap.
//!
//! Providers count differently: OpenAI and Google count cached tokens inside the prompt, Anthropic and
//! Bedrock beside it; OpenAI counts reasoning inside the output, Google beside it. Here every token is
//! in exactly one bucket, so that a price per bucket gives the cost.

mod flat;

use crate::format::Format;
use flat::Flat;
use serde_json::{Map, Value};

/// Tokens by bucket. No token is in two; [`Usage::total`] is their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens that none of the other buckets holds.
    pub input: u64,
    /// Prompt tokens read from a cache.
    pub cache_read: u64,
    /// Prompt tokens written to a cache that lives five minutes, or as long as the provider chooses.
    pub cache_write_5m: u64,
    /// Prompt tokens written to a cache that lives one hour.
    pub cache_write_1h: u64,
    /// Audio in the prompt, not read from a cache.
    pub input_audio: u64,
    /// Images in the prompt, not read from a cache.
    pub input_image: u64,
    /// Answer tokens that none of the other buckets holds.
    pub output: u64,
    /// Answer tokens the model spent on reasoning.
    pub reasoning: u64,
    /// Audio in the answer.
    pub output_audio: u64,
    /// Images in the answer.
    pub output_image: u64,
}

impl Usage {
    /// All tokens of the prompt.
    pub fn total_input(&self) -> u64 {
        [
            self.input,
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.input_audio,
            self.input_image,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// All tokens of the answer.
    pub fn total_output(&self) -> u64 {
        [self.output, self.reasoning, self.output_audio, self.output_image]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// All tokens.
    pub fn total(&self) -> u64 {
        self.total_input().saturating_add(self.total_output())
    }
}

/// Follows the counts of one call: give it its answer, or each event of its stream.
///
/// Counts in streams are cumulative, so the last report is taken; of Anthropic's, whose events carry
/// only some of the counts, the last of each count.
#[derive(Clone, Debug)]
pub struct Meter {
    format: Format,
    /// The last value of each count, from [`count_names`] alone and so of limited size.
    counts: Map<String, Value>,
}

impl Meter {
    /// A meter for answers in this format.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            counts: Map::new(),
        }
    }

    /// Takes the counts of an answer or of one event, if it has any.
    pub fn observe(&mut self, document: &Value) {
        let outer = match self.format {
            Format::Chat => "x_groq",
            Format::Messages => "message",
            Format::Responses => "response",
            Format::Cohere => "delta",
            Format::GenerateContent | Format::Converse => "",
        };
        let key = if self.format == Format::GenerateContent {
            "usageMetadata"
        } else {
            "usage"
        };
        let nested = document.get(outer).and_then(|inner| inner.get(key));
        // The document's own counts come second: where both are there, they are the standard's.
        for usage in nested.into_iter().chain(document.get(key)) {
            let known = count_names(self.format).iter().filter_map(|&name| {
                let value = usage.get(name).filter(|value| !value.is_null())?;
                Some((name.to_owned(), value.clone()))
            });
            let mut known = known.peekable();
            // Only Anthropic's events carry a part of the counts. Elsewhere each report is whole, and
            // Google leaves out what is zero.
            if self.format != Format::Messages && known.peek().is_some() {
                self.counts.clear();
            }
            self.counts.extend(known);
        }
    }

    /// What was used, or `None` where the provider has reported nothing yet.
    pub fn usage(&self) -> Option<Usage> {
        if self.counts.is_empty() {
            return None;
        }
        Some(match self.format {
            Format::Chat => chat(&self.counts),
            Format::Responses => responses(&self.counts),
            Format::Messages => messages(&self.counts),
            Format::GenerateContent => generate_content(&self.counts),
            Format::Converse => converse(&self.counts),
            Format::Cohere => cohere(&self.counts),
        })
    }
}

/// What a call used, from its whole answer.
pub fn of_response(format: Format, response: &Value) -> Option<Usage> {
    let mut meter = Meter::new(format);
    meter.observe(response);
    meter.usage()
}

/// As [`of_response`], from the text of the usage object alone: a call is metered without building a document.
pub fn of_usage_text(format: Format, usage: &str) -> Option<Usage> {
    match format {
        Format::Chat => Flat::read(format, usage).as_ref().map(chat),
        Format::Responses => Flat::read(format, usage).as_ref().map(responses),
        Format::Messages => Flat::read(format, usage).as_ref().map(messages),
        // Lists and choices between objects: rare enough for a document.
        Format::GenerateContent | Format::Converse | Format::Cohere => {
            let key = if format == Format::GenerateContent {
                "usageMetadata"
            } else {
                "usage"
            };
            let usage = serde_json::from_str(usage).unwrap_or_default();
            of_response(format, &Value::Object(Map::from_iter([(key.to_owned(), usage)])))
        }
    }
}

/// Is this the event of a Chat stream that carries only the counts? It comes because of
/// `stream_options.include_usage`; a client that did not ask for it must not see it.
pub fn is_usage_only_chunk(event: &Value) -> bool {
    event
        .get("choices")
        .and_then(Value::as_array)
        .is_some_and(Vec::is_empty)
        && event.get("usage").is_some_and(Value::is_object)
}

fn count_names(format: Format) -> &'static [&'static str] {
    match format {
        Format::Chat => &[
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "prompt_tokens_details",
            "completion_tokens_details",
            "prompt_cache_hit_tokens",
        ],
        Format::Responses => &[
            "input_tokens",
            "output_tokens",
            "input_tokens_details",
            "output_tokens_details",
        ],
        Format::Messages => &[
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "cache_creation",
            "output_tokens_details",
        ],
        Format::GenerateContent => &[
            "promptTokenCount",
            "cachedContentTokenCount",
            "toolUsePromptTokenCount",
            "candidatesTokenCount",
            "thoughtsTokenCount",
            "promptTokensDetails",
            "cacheTokensDetails",
            "candidatesTokensDetails",
        ],
        Format::Converse => &[
            "inputTokens",
            "outputTokens",
            "cacheReadInputTokens",
            "cacheWriteInputTokens",
            "cacheDetails",
        ],
        Format::Cohere => &["billed_units", "tokens"],
    }
}

/// Counts by their path of keys.
trait Counts {
    /// The count at a path; zero where it is absent or no whole number.
    fn at(&self, path: &[&str]) -> u64;
}

impl Counts for Map<String, Value> {
    fn at(&self, path: &[&str]) -> u64 {
        let Some((first, rest)) = path.split_first() else {
            return 0;
        };
        let found = rest.iter().fold(self.get(*first), |value, key| value?.get(key));
        found.and_then(whole).unwrap_or(0)
    }
}

fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().and_then(whole_of_f64))
}

/// Some providers write whole numbers as `12.0`.
fn whole_of_f64(number: f64) -> Option<u64> {
    // Exact below 2^53, which no count of tokens reaches.
    (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64)
}

/// Takes at most what is left, so that parts never sum to more than their whole.
fn take(left: &mut u64, wanted: u64) -> u64 {
    let taken = wanted.min(*left);
    *left -= taken;
    taken
}

fn chat(counts: &impl Counts) -> Usage {
    let prompt = counts.at(&["prompt_tokens"]);
    let completion = counts.at(&["completion_tokens"]);
    // xAI, and Google behind this format, count reasoning in the total alone.
    let beside = counts
        .at(&["total_tokens"])
        .saturating_sub(prompt.saturating_add(completion));
    let reported = counts.at(&["completion_tokens_details", "reasoning_tokens"]);
    let cached = counts.at(&["prompt_tokens_details", "cached_tokens"]);
    let mut usage = Usage::default();
    let mut left = prompt;
    usage.cache_read = take(&mut left, cached.max(counts.at(&["prompt_cache_hit_tokens"])));
    usage.cache_write_5m = take(
        &mut left,
        counts.at(&["prompt_tokens_details", "cache_write_tokens"]),
    );
    usage.input_audio = take(&mut left, counts.at(&["prompt_tokens_details", "audio_tokens"]));
    usage.input_image = take(&mut left, counts.at(&["prompt_tokens_details", "image_tokens"]));
    usage.input = left;
    let mut left = completion.saturating_add(beside);
    usage.reasoning = take(&mut left, reported.max(beside));
    usage.output_audio = take(
        &mut left,
        counts.at(&["completion_tokens_details", "audio_tokens"]),
    );
    usage.output_image = take(
        &mut left,
        counts.at(&["completion_tokens_details", "image_tokens"]),
    );
    usage.output = left;
    usage
}

fn responses(counts: &impl Counts) -> Usage {
    let mut input = counts.at(&["input_tokens"]);
    let mut output = counts.at(&["output_tokens"]);
    let cache_read = take(&mut input, counts.at(&["input_tokens_details", "cached_tokens"]));
    let cache_write_5m = take(
        &mut input,
        counts.at(&["input_tokens_details", "cache_write_tokens"]),
    );
    let reasoning = take(
        &mut output,
        counts.at(&["output_tokens_details", "reasoning_tokens"]),
    );
    Usage {
        input,
        cache_read,
        cache_write_5m,
        output,
        reasoning,
        ..Usage::default()
    }
}

fn messages(counts: &impl Counts) -> Usage {
    let mut output = counts.at(&["output_tokens"]);
    let reasoning = take(
        &mut output,
        counts.at(&["output_tokens_details", "thinking_tokens"]),
    );
    let hour = counts.at(&["cache_creation", "ephemeral_1h_input_tokens"]);
    let minutes = counts.at(&["cache_creation", "ephemeral_5m_input_tokens"]);
    let mut written = counts
        .at(&["cache_creation_input_tokens"])
        .max(hour.saturating_add(minutes));
    let cache_write_1h = take(&mut written, hour);
    Usage {
        input: counts.at(&["input_tokens"]),
        cache_read: counts.at(&["cache_read_input_tokens"]),
        cache_write_5m: written,
        cache_write_1h,
        output,
        reasoning,
        ..Usage::default()
    }
}

fn generate_content(counts: &Map<String, Value>) -> Usage {
    let modality = |details: &str, wanted: &str| -> u64 {
        let items = counts.get(details).and_then(Value::as_array);
        let of_kind = items
            .into_iter()
            .flatten()
            .filter(|item| item["modality"] == wanted);
        of_kind
            .filter_map(|item| whole(&item["tokenCount"]))
            .fold(0, u64::saturating_add)
    };
    let fresh = |kind: &str| {
        modality("promptTokensDetails", kind).saturating_sub(modality("cacheTokensDetails", kind))
    };
    let mut usage = Usage::default();
    let mut left = counts.at(&["promptTokenCount"]);
    usage.cache_read = take(&mut left, counts.at(&["cachedContentTokenCount"]));
    usage.input_audio = take(&mut left, fresh("AUDIO"));
    usage.input_image = take(&mut left, fresh("IMAGE"));
    usage.input = left.saturating_add(counts.at(&["toolUsePromptTokenCount"]));
    let mut left = counts.at(&["candidatesTokenCount"]);
    usage.output_audio = take(&mut left, modality("candidatesTokensDetails", "AUDIO"));
    usage.output_image = take(&mut left, modality("candidatesTokensDetails", "IMAGE"));
    usage.output = left;
    usage.reasoning = counts.at(&["thoughtsTokenCount"]);
    usage
}

fn converse(counts: &Map<String, Value>) -> Usage {
    let details = counts.get("cacheDetails").and_then(Value::as_array);
    let hours = details.into_iter().flatten().filter(|item| item["ttl"] == "1h");
    let hour = hours
        .filter_map(|item| whole(&item["inputTokens"]))
        .fold(0, u64::saturating_add);
    let mut written = counts.at(&["cacheWriteInputTokens"]).max(hour);
    let cache_write_1h = take(&mut written, hour);
    Usage {
        input: counts.at(&["inputTokens"]),
        cache_read: counts.at(&["cacheReadInputTokens"]),
        cache_write_5m: written,
        cache_write_1h,
        output: counts.at(&["outputTokens"]),
        ..Usage::default()
    }
}

/// Cohere bills fewer tokens than it counts: its own additions to a prompt are free.
fn cohere(counts: &Map<String, Value>) -> Usage {
    let unit = if counts.contains_key("billed_units") {
        "billed_units"
    } else {
        "tokens"
    };
    Usage {
        input: counts.at(&[unit, "input_tokens"]),
        output: counts.at(&[unit, "output_tokens"]),
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(format: Format, events: &[Value], expected: &Usage) {
        let mut meter = Meter::new(format);
        for event in events {
            meter.observe(event);
        }
        assert_eq!(meter.usage().as_ref(), Some(expected));
    }

    fn none() -> Usage {
        Usage::default()
    }

    #[test]
    fn chat_counts_cached_tokens_inside_the_prompt() {
        let usage = json!({"usage": {
            "prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 10, "cache_write_tokens": 5, "image_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 3, "image_tokens": 2},
        }});
        let expected = Usage {
            input: 24,
            cache_read: 60,
            cache_write_5m: 5,
            input_audio: 10,
            input_image: 1,
            output: 25,
            reasoning: 20,
            output_audio: 3,
            output_image: 2,
            ..none()
        };
        check(Format::Chat, &[usage], &expected);
    }

    #[test]
    fn chat_of_other_providers() {
        let deepseek =
            json!({"usage": {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 4}});
        check(
            Format::Chat,
            &[deepseek],
            &Usage {
                input: 5,
                cache_read: 4,
                output: 1,
                ..none()
            },
        );
        let beside = json!({"usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 30,
            "completion_tokens_details": {"reasoning_tokens": 20}}});
        check(
            Format::Chat,
            &[beside],
            &Usage {
                input: 9,
                output: 1,
                reasoning: 20,
                ..none()
            },
        );
        let groq = json!({"choices": [], "x_groq": {"usage": {"prompt_tokens": 2, "completion_tokens": 3}}});
        check(
            Format::Chat,
            &[groq],
            &Usage {
                input: 2,
                output: 3,
                ..none()
            },
        );
    }

    #[test]
    fn parts_never_exceed_their_whole() {
        let odd = json!({"usage": {"prompt_tokens": 10, "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 8},
            "completion_tokens_details": {"reasoning_tokens": 7}}});
        check(
            Format::Chat,
            &[odd],
            &Usage {
                cache_read: 8,
                input_audio: 2,
                reasoning: 1,
                ..none()
            },
        );
        let wrong = json!({"usage": {"prompt_tokens": -3, "completion_tokens": "x", "total_tokens": 4.0}});
        check(
            Format::Chat,
            &[wrong],
            &Usage {
                reasoning: 4,
                ..none()
            },
        );
    }

    #[test]
    fn messages_counts_cached_tokens_beside_the_prompt_and_the_last_count_wins() {
        let events = [
            json!({"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1,
                "cache_read_input_tokens": 40, "cache_creation_input_tokens": 30,
                "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}}}}),
            json!({"type": "message_delta", "usage": {"output_tokens": 5, "input_tokens": null}}),
            json!({"type": "message_delta", "usage": {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}}),
        ];
        let expected = Usage {
            input: 7,
            cache_read: 40,
            cache_write_5m: 10,
            cache_write_1h: 20,
            output: 5,
            reasoning: 4,
            ..none()
        };
        check(Format::Messages, &events, &expected);
        let plain =
            json!({"usage": {"input_tokens": 1, "cache_creation_input_tokens": 3, "output_tokens": 2}});
        check(
            Format::Messages,
            &[plain],
            &Usage {
                input: 1,
                cache_write_5m: 3,
                output: 2,
                ..none()
            },
        );
    }

    #[test]
    fn other_formats() {
        let google = json!({"usageMetadata": {"promptTokenCount": 50, "cachedContentTokenCount": 20,
            "candidatesTokenCount": 8, "thoughtsTokenCount": 5, "toolUsePromptTokenCount": 3,
            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 12}, {"modality": "TEXT", "tokenCount": 38}],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 2}]}});
        let expected = Usage {
            input: 23,
            cache_read: 20,
            input_audio: 10,
            output: 8,
            reasoning: 5,
            ..none()
        };
        check(Format::GenerateContent, &[google], &expected);
        let responses = json!({"type": "response.completed", "response": {"usage": {"input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 6, "output_tokens_details": {"reasoning_tokens": 5}}}});
        check(
            Format::Responses,
            &[responses],
            &Usage {
                input: 6,
                cache_read: 4,
                output: 1,
                reasoning: 5,
                ..none()
            },
        );
        let bedrock = json!({"usage": {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 3,
            "cacheWriteInputTokens": 9, "cacheDetails": [{"ttl": "1h", "inputTokens": 4}, {"ttl": "5m", "inputTokens": 5}]}});
        let expected = Usage {
            input: 1,
            cache_read: 3,
            cache_write_5m: 5,
            cache_write_1h: 4,
            output: 2,
            ..none()
        };
        check(Format::Converse, &[bedrock], &expected);
        let cohere = json!({"delta": {"usage": {"billed_units": {"input_tokens": 5.0, "output_tokens": 2},
            "tokens": {"input_tokens": 70, "output_tokens": 2}}}});
        check(
            Format::Cohere,
            &[cohere],
            &Usage {
                input: 5,
                output: 2,
                ..none()
            },
        );
    }

    #[test]
    fn nothing_reported() {
        for answer in [
            json!({}),
            json!([]),
            json!({"usage": null}),
            json!({"usage": {"cost": 3}}),
        ] {
            assert_eq!(of_response(Format::Chat, &answer), None, "{answer}");
        }
    }

    #[test]
    fn the_chunk_of_counts() {
        assert!(is_usage_only_chunk(
            &json!({"choices": [], "usage": {"prompt_tokens": 1}})
        ));
        assert!(!is_usage_only_chunk(
            &json!({"choices": [{}], "usage": {"prompt_tokens": 1}})
        ));
        assert!(!is_usage_only_chunk(&json!({"choices": [], "usage": null})));
    }
}
