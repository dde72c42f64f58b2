//! What is answered: decided by the seed and the conversation, and by directives in the user's text.
//!
//! Directives stand at the start of a line of the last turn's text:
//!
//! | line | effect |
//! | --- | --- |
//! | `say: X` | the text is exactly X, to the end of the part |
//! | `call: NAME {json}` | a tool call; several lines make parallel calls |
//! | `think: X` | the reasoning is exactly X, where reasoning was asked for |
//! | `usage: {json}` | sets counts of tokens, by bucket |
//! | `show system` | the text is the system prompt |
//! | `mark: X` | the call is called X in the journal, whatever becomes of it |

use serde_json::{Value, json};

use super::ask::{Ask, Choice, Format, Part};
use super::schema;
use super::tokens::{SetUsage, Usage, count, first};
use crate::lab::random::Random;

/// Most tokens of one reply, shared by its answers, whatever a request or a model's name asks for.
pub(crate) const ANSWER_TOKENS_MAX: u64 = 65_536;
const REASONING_WORDS: u32 = 12;
const TEXT_WORDS: (u32, u32) = (12, 40);

const WORDS: [&str; 48] = [
    "a", "about", "after", "all", "also", "and", "answer", "before", "below", "between", "bridge", "channel",
    "clear", "current", "deep", "each", "every", "flow", "for", "from", "gate", "in", "is", "known", "lake",
    "level", "light", "measure", "near", "of", "open", "over", "part", "reed", "river", "same", "slow",
    "small", "stone", "that", "the", "their", "through", "to", "under", "water", "weir", "with",
];

#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) reasoning: Option<String>,
    pub(crate) text: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) end: End,
    pub(crate) output: u64,
    pub(crate) reasoning_tokens: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: Value,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum End {
    #[default]
    Stop,
    /// At a stop sequence, which is not part of the text.
    Sequence(String),
    Length,
    Calls,
}

/// All the answers of a call, with what the call used.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// Differs for different conversations; the same for the same.
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) answers: Vec<Answer>,
    pub(crate) usage: Usage,
}

#[derive(Default)]
struct Directives {
    say: Option<String>,
    think: Option<String>,
    calls: Vec<(String, Value)>,
    usage: SetUsage,
    show_system: bool,
    mark: Option<String>,
    wrong: Option<String>,
}

/// Some words in a row.
pub(crate) fn words(random: &mut Random, number: u32) -> String {
    let mut text = String::new();
    for idx in 0..number {
        if idx > 0 {
            text.push(' ');
        }
        text.push_str(WORDS[random.below(WORDS.len() as u32) as usize]);
    }
    text
}

/// Letters and digits, as providers make identifiers.
pub(crate) fn letters(random: &mut Random, number: usize) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    (0..number)
        .map(|_| char::from(ALPHABET[random.below(62) as usize]))
        .collect()
}

/// What a test calls this call.
pub(crate) fn mark(ask: &Ask) -> String {
    directives(ask).mark.unwrap_or_default()
}

pub(crate) fn reply(ask: &Ask, seed: u64, tokens_wanted: Option<u64>, prompt: Usage) -> Reply {
    if !ask.batch.is_empty() {
        // The answers of each, one after the other, under one identifier.
        let share = ANSWER_TOKENS_MAX / (ask.count.max(1) * ask.batch.len() as u64);
        let parts = ask.batch.iter().map(|one| {
            let one = Ask {
                max_tokens: Some(one.max_tokens.unwrap_or(share).min(share)),
                ..one.clone()
            };
            reply(&one, seed, tokens_wanted, Usage::default())
        });
        let mut whole = reply(
            &Ask {
                batch: Vec::new(),
                ..ask.clone()
            },
            seed,
            tokens_wanted,
            prompt,
        );
        whole.answers = parts.flat_map(|part| part.answers).collect();
        whole.usage.output = whole.answers.iter().map(|answer| answer.output).sum();
        return whole;
    }
    let conversation = ask.conversation();
    let mut random = Random::new(seed, &conversation);
    let id = letters(&mut random, 24);
    // Any day will do, as long as it is the same one.
    let created = 1_750_000_000 + u64::from(random.below(86_400));
    let directives = directives(ask);
    let answers: Vec<Answer> = (0..ask.count.max(1))
        .map(|idx| {
            let mut random = Random::new(seed.wrapping_add(idx), &conversation);
            answer(ask, &directives, &mut random, tokens_wanted)
        })
        .collect();
    let mut usage = prompt;
    usage.output = answers.iter().map(|answer| answer.output).sum();
    usage.reasoning = answers.iter().map(|answer| answer.reasoning_tokens).sum();
    directives.usage.apply(&mut usage);
    Reply {
        id,
        created,
        answers,
        usage,
    }
}

fn directives(ask: &Ask) -> Directives {
    let mut found = Directives::default();
    for part in ask.last_parts() {
        let Part::Text(text) = part else { continue };
        let mut rest = text.as_str();
        while !rest.is_empty() {
            if let Some(said) = rest.strip_prefix("say: ") {
                found.say = Some(said.to_owned());
                break;
            }
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            rest = after;
            read_line(line.trim_end(), &mut found);
        }
    }
    found
}

fn read_line(line: &str, found: &mut Directives) {
    if let Some(call) = line.strip_prefix("call: ") {
        let (name, arguments) = call.split_once(' ').unwrap_or((call, "{}"));
        match serde_json::from_str(arguments) {
            Ok(arguments) => found.calls.push((name.to_owned(), arguments)),
            Err(error) => {
                found.wrong = Some(format!("the arguments of `call: {name}` are not JSON: {error}"));
            }
        }
    } else if let Some(usage) = line.strip_prefix("usage: ") {
        match serde_json::from_str(usage) {
            Ok(usage) => found.usage = usage,
            Err(error) => found.wrong = Some(format!("`usage:` is not as expected: {error}")),
        }
    } else if let Some(thought) = line.strip_prefix("think: ") {
        found.think = Some(thought.to_owned());
    } else if let Some(mark) = line.strip_prefix("mark: ") {
        found.mark = Some(mark.to_owned());
    } else if line == "show system" {
        found.show_system = true;
    }
}

fn answer(ask: &Ask, directives: &Directives, random: &mut Random, tokens_wanted: Option<u64>) -> Answer {
    let mut answer = Answer::default();
    if ask.reasoning {
        let thought = || format!("Thinking: {}.", words(&mut random.clone(), REASONING_WORDS));
        answer.reasoning = Some(directives.think.clone().unwrap_or_else(thought));
    }
    let (calls, refused) = calls(ask, directives, random);
    answer.text = match (&directives.say, refused) {
        _ if directives.wrong.is_some() => directives.wrong.clone().unwrap_or_default(),
        (Some(said), _) => said.clone(),
        (None, Some(refused)) => refused,
        (None, None) if !calls.is_empty() => String::new(),
        (None, None) => text(ask, directives, random, tokens_wanted),
    };
    answer.end = if calls.is_empty() { End::Stop } else { End::Calls };
    answer.calls = calls;
    limit(ask, &mut answer);
    answer
}

/// The calls to make, or why a call that was wished for is not made.
fn calls(ask: &Ask, directives: &Directives, random: &mut Random) -> (Vec<Call>, Option<String>) {
    let mut wished = directives.calls.clone();
    if let Some((name, _)) = wished
        .iter()
        .find(|(name, _)| !ask.tools.iter().any(|tool| tool.name == *name))
    {
        return (Vec::new(), Some(format!("no tool named {name} was declared")));
    }
    if ask.choice == Choice::Never && !wished.is_empty() {
        return (Vec::new(), Some("the request allows no tool calls".to_owned()));
    }
    // After a result the model may speak, also where it had to call before.
    let has_result = ask.last_parts().any(|part| matches!(part, Part::Result(_)));
    if wished.is_empty() && !has_result && directives.say.is_none() {
        let forced = match &ask.choice {
            Choice::Named(name) => ask.tools.iter().find(|tool| tool.name == *name),
            Choice::Must => ask.tools.first(),
            Choice::Auto | Choice::Never => None,
        };
        if let Some(tool) = forced {
            wished.push((tool.name.clone(), schema::value(&tool.schema, random)));
        }
    }
    let calls = wished.into_iter().map(|(name, arguments)| Call {
        id: letters(random, 24),
        name,
        arguments,
    });
    (calls.collect(), None)
}

fn text(ask: &Ask, directives: &Directives, random: &mut Random, tokens_wanted: Option<u64>) -> String {
    if directives.show_system {
        return ask.system.join("\n");
    }
    if let Some(wanted) = tokens_wanted {
        let bytes = wanted.min(ANSWER_TOKENS_MAX) as usize * 4;
        let mut text = String::with_capacity(bytes + 16);
        while text.len() < bytes {
            text.push_str(WORDS[random.below(WORDS.len() as u32) as usize]);
            text.push(' ');
        }
        text.truncate(bytes);
        return text;
    }
    match &ask.format {
        Format::Schema(schema) => return schema::value(schema, random).to_string(),
        Format::Json => return json!({"answer": words(random, 6)}).to_string(),
        Format::Text => {}
    }
    let mut lines = Vec::new();
    for part in ask.last_parts() {
        match part {
            Part::Result(result) => lines.push(format!("tool said: {result}")),
            Part::Media(media) => lines.push(format!("{} {}", media.kind.name(), media.said)),
            _ => {}
        }
    }
    if !lines.is_empty() {
        return lines.join("\n");
    }
    let number = TEXT_WORDS.0 + random.below(TEXT_WORDS.1 - TEXT_WORDS.0);
    let mut text = words(random, number);
    text[..1].make_ascii_uppercase();
    text.push('.');
    text
}

/// Stop sequences, then the limit of tokens: reasoning first, then text, then whole calls.
fn limit(ask: &Ask, answer: &mut Answer) {
    let stop = ask
        .stops
        .iter()
        .filter(|stop| !stop.is_empty())
        .filter_map(|stop| Some((answer.text.find(stop.as_str())?, stop)))
        .min_by_key(|(at, _)| *at);
    if let Some((at, stop)) = stop {
        answer.text.truncate(at);
        answer.calls.clear();
        answer.end = End::Sequence(stop.clone());
    }
    let share = ANSWER_TOKENS_MAX / ask.count.max(1);
    let mut left = ask.max_tokens.unwrap_or(share).min(share);
    let mut shorten = |text: &mut String| {
        let tokens = count(text);
        if tokens > left {
            text.truncate(first(text, left).len());
            text.shrink_to_fit();
        }
        let kept = tokens.min(left);
        left -= kept;
        (kept, kept < tokens)
    };
    if let Some(thought) = &mut answer.reasoning {
        let (kept, cut) = shorten(thought);
        answer.reasoning_tokens = kept;
        if cut {
            answer.end = End::Length;
            answer.text.clear();
            answer.calls.clear();
        }
    }
    let (kept, cut) = shorten(&mut answer.text);
    answer.output = kept;
    if cut {
        answer.end = End::Length;
        answer.calls.clear();
    }
    for idx in 0..answer.calls.len() {
        let tokens = answer.calls[idx].tokens();
        if tokens > left {
            answer.calls.truncate(idx);
            answer.end = End::Length;
            break;
        }
        left -= tokens;
        answer.output += tokens;
    }
}

impl Call {
    pub(crate) fn tokens(&self) -> u64 {
        count(&self.name) + count(&self.arguments.to_string())
    }
}
