//! What a request means, whichever wire it came on.
//!
//! The simulator's own reading: it knows only what its answers depend on.

use serde_json::Value;

use crate::lab::random::Random;

use super::tokens::{AUDIO_TOKENS, FILE_TOKENS, IMAGE_TOKENS, Usage, count};

#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) system: Vec<String>,
    pub(crate) turns: Vec<Turn>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) choice: Choice,
    pub(crate) format: Format,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) stops: Vec<String>,
    /// Whether reasoning was asked for.
    pub(crate) reasoning: bool,
    /// Alternatives per token.
    pub(crate) logprobs: Option<u64>,
    /// How many answers.
    pub(crate) count: u64,
    /// Marks in the prompt up to which it is to be cached, in order.
    pub(crate) cached: Vec<CacheMark>,
    /// Where one request asks several things, each of them; else empty.
    pub(crate) batch: Vec<Ask>,
}

/// The prompt as read so far, for marks of caching.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prefix {
    state: u64,
    tokens: u64,
    pub(crate) marks: Vec<CacheMark>,
}

impl Prefix {
    /// Adds a part of the prompt, in a form that is the same for the same part.
    pub(crate) fn add(&mut self, part: &str, tokens: u64) {
        self.state = Random::new(self.state, part).next_u64();
        self.tokens += tokens;
    }

    pub(crate) fn mark(&mut self, one_hour: bool) {
        self.marks.push(CacheMark {
            prefix: self.state,
            tokens: self.tokens,
            one_hour,
        });
    }
}

#[derive(Clone, Debug)]
pub(crate) struct CacheMark {
    /// Everything before the mark, in some form that is the same for the same prompt.
    pub(crate) prefix: u64,
    pub(crate) tokens: u64,
    pub(crate) one_hour: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    User,
    Assistant,
    Tool,
}

#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) role: Role,
    pub(crate) parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub(crate) enum Part {
    Text(String),
    Media(Media),
    Call { name: String, arguments: String },
    Result(String),
    Reasoning(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Media {
    pub(crate) kind: Kind,
    /// `image/png 68 bytes`, or where it would be fetched from.
    pub(crate) said: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Image,
    Audio,
    Video,
    File,
}

impl Kind {
    pub(crate) fn of(media_type: &str) -> Kind {
        match media_type.split('/').next() {
            Some("image") => Kind::Image,
            Some("audio") => Kind::Audio,
            Some("video") => Kind::Video,
            _ => Kind::File,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Image => "image",
            Kind::Audio => "audio",
            Kind::Video => "video",
            Kind::File => "file",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) schema: Value,
    /// Tokens of the declaration.
    pub(crate) tokens: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Choice {
    #[default]
    Auto,
    Never,
    Must,
    Named(String),
}

#[derive(Clone, Debug, Default)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
    Schema(Value),
}

impl Part {
    /// Adds this part to the counts of a prompt.
    pub(crate) fn add_to(&self, usage: &mut Usage) {
        match self {
            Part::Text(text) | Part::Result(text) | Part::Reasoning(text) => usage.input += count(text),
            Part::Call { name, arguments } => usage.input += count(name) + count(arguments),
            Part::Media(Media { kind, .. }) => match kind {
                Kind::Image => usage.image += IMAGE_TOKENS,
                Kind::Audio | Kind::Video => usage.audio += AUDIO_TOKENS,
                Kind::File => usage.input += FILE_TOKENS,
            },
        }
    }
}

impl Part {
    pub(crate) fn tokens(&self) -> u64 {
        let mut usage = Usage::default();
        self.add_to(&mut usage);
        usage.uncached()
    }
}

impl Ask {
    /// The prompt's tokens, as if no cache were there.
    pub(crate) fn prompt(&self) -> Usage {
        let mut usage = Usage::default();
        usage.input += self.system.iter().map(|text| count(text)).sum::<u64>();
        usage.input += self.tools.iter().map(|tool| tool.tokens).sum::<u64>();
        for part in self.turns.iter().flat_map(|turn| &turn.parts) {
            part.add_to(&mut usage);
        }
        usage
    }

    /// Parts since the assistant spoke last, which the answer is about.
    pub(crate) fn last_parts(&self) -> impl Iterator<Item = &Part> {
        let spoken = self.turns.iter().rposition(|turn| turn.role == Role::Assistant);
        self.turns[spoken.map_or(0, |idx| idx + 1)..]
            .iter()
            .flat_map(|turn| &turn.parts)
    }

    /// A text that is the same for the same conversation, whichever wire it came on.
    pub(crate) fn conversation(&self) -> String {
        let mut text = self.system.join("\n");
        for turn in &self.turns {
            for part in &turn.parts {
                text.push('\u{1}');
                match part {
                    Part::Text(more) | Part::Result(more) | Part::Reasoning(more) => text.push_str(more),
                    Part::Call { name, arguments } => {
                        text.push_str(name);
                        text.push_str(arguments);
                    }
                    Part::Media(media) => text.push_str(&media.said),
                }
            }
        }
        text
    }
}

/// Media of base64 text: names its type and decoded length.
pub(crate) fn decoded_media(media_type: &str, data: &str) -> Option<Media> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(data.trim())
        .ok()?;
    let media_type = media_type.split(';').next().unwrap_or_default();
    Some(Media {
        kind: Kind::of(media_type),
        said: format!("{media_type} {} bytes", bytes.len()),
    })
}

/// Media of a URL, which may be a `data:` URL; `None` when that cannot be decoded.
pub(crate) fn linked_media(kind: Kind, url: &str) -> Option<Media> {
    let Some(data) = url.strip_prefix("data:") else {
        return Some(Media {
            kind,
            said: format!("at {url}"),
        });
    };
    let (head, body) = data.split_once(',')?;
    decoded_media(head.strip_suffix(";base64")?, body).map(|media| Media { kind, ..media })
}
