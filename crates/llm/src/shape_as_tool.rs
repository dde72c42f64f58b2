//! The shape of an answer for models that take none: a tool with the schema as its arguments, which the
//! model must call, and whose arguments are then the answer. Most models of Bedrock need this.
//!
//! The caller knows which model does. It hides the shape before it writes the request, and has the answer
//! or the events of its stream shown before it writes those.

use crate::answer::{Answer, Delta, Stop, StreamEvent, StreamPart};
use crate::canonical::{ConvertError, OutputShape, PartKind, Request, Tool, ToolChoice, plain};
use crate::format::Format;
use serde_json::Map;
use std::collections::BTreeSet;

/// The tool; a tool of the client by this name is refused.
const TOOL: &str = "weir_answer";

/// Replaces the shape of a request by a tool. False where there is none to replace.
///
/// # Errors
/// [`ConvertError::Inexpressible`] where a tool does not say the same: a schema of something other than an
/// object, a request that demands other calls, or reasoning, which models do not allow with a demanded call.
pub fn hide(request: &mut Request, format: Format) -> Result<bool, ConvertError> {
    let Some(OutputShape::JsonSchema {
        schema, description, ..
    }) = &request.output
    else {
        return Ok(false);
    };
    let refuse = |field: &str| ConvertError::Inexpressible {
        field: field.to_owned(),
        format,
    };
    if schema["type"] != "object" {
        return Err(refuse("response_format whose schema is not of an object"));
    }
    let is_taken = |tool: &Tool| matches!(tool, Tool::Function { name, .. } if name == TOOL);
    if request.tools.iter().any(is_taken) {
        return Err(refuse(&format!("tool {TOOL}")));
    }
    let reasoning = &request.reasoning;
    let is_off = |word: &Option<String>| matches!(word.as_deref(), None | Some("none" | "disabled"));
    if reasoning.budget_tokens.is_some() || !is_off(&reasoning.effort) || !is_off(&reasoning.mode) {
        return Err(refuse("response_format together with reasoning"));
    }
    let tool = Tool::Function {
        name: TOOL.to_owned(),
        description: Some(
            description
                .clone()
                .unwrap_or_else(|| "Gives the answer. Call this once you have it.".to_owned()),
        ),
        parameters: Some(schema.clone()),
        strict: None,
        cache_control: None,
        other: Map::new(),
    };
    match &request.tool_choice {
        None | Some(ToolChoice::Auto) if !request.tools.is_empty() => {
            request.tool_choice = Some(ToolChoice::Required);
        }
        None | Some(ToolChoice::Auto) => request.tool_choice = Some(ToolChoice::Named(TOOL.to_owned())),
        Some(ToolChoice::None) => {
            request.tools.clear();
            request.tool_choice = Some(ToolChoice::Named(TOOL.to_owned()));
        }
        Some(ToolChoice::Required | ToolChoice::Named(_)) => {
            return Err(refuse("response_format together with a demanded call"));
        }
    }
    request.tools.push(tool);
    request.output = None;
    Ok(true)
}

/// Turns the call into the text of the answer. What the model said beside it is left out: the text is JSON
/// of the shape and nothing else.
pub fn show(answer: &mut Answer) {
    for choice in &mut answer.choices {
        let is_answer = |kind: &PartKind| matches!(kind, PartKind::ToolCall { name, .. } if name == TOOL);
        if !choice.parts.iter().any(|part| is_answer(&part.kind)) {
            continue;
        }
        choice
            .parts
            .retain(|part| !matches!(part.kind, PartKind::Text(_)));
        for part in &mut choice.parts {
            match &mut part.kind {
                PartKind::ToolCall { name, arguments, .. } if name == TOOL => {
                    *part = plain(PartKind::Text(std::mem::take(arguments)));
                }
                _ => {}
            }
        }
        let has_call = choice
            .parts
            .iter()
            .any(|part| matches!(part.kind, PartKind::ToolCall { .. }));
        if choice.stop == Some(Stop::ToolUse) && !has_call {
            choice.stop = Some(Stop::End);
        }
    }
}

/// [`show`] for the events of a stream. Text that the model says before the call has been sent by then and
/// stays; models of which a call is demanded say none.
#[derive(Debug, Default)]
pub struct Shower {
    /// Calls that are the answer, by choice and part.
    answers: BTreeSet<(usize, usize)>,
    /// Choices that call tools of the client.
    callers: BTreeSet<usize>,
}

impl Shower {
    /// The event that the client is to see.
    pub fn show(&mut self, mut event: StreamEvent) -> StreamEvent {
        match &mut event {
            StreamEvent::PartStart { choice, part, kind } => match kind {
                StreamPart::ToolCall { name, .. } if name == TOOL => {
                    self.answers.insert((*choice, *part));
                    *kind = StreamPart::Text;
                }
                StreamPart::ToolCall { .. } => {
                    self.callers.insert(*choice);
                }
                StreamPart::Whole(whole) => match &mut whole.kind {
                    PartKind::ToolCall { name, arguments, .. } if name == TOOL => {
                        let text = std::mem::take(arguments);
                        self.answers.insert((*choice, *part));
                        **whole = plain(PartKind::Text(text));
                    }
                    PartKind::ToolCall { .. } => {
                        self.callers.insert(*choice);
                    }
                    _ => {}
                },
                StreamPart::Text | StreamPart::Reasoning => {}
            },
            StreamEvent::Delta { choice, part, delta } if self.answers.contains(&(*choice, *part)) => {
                if let Delta::Arguments(text) = delta {
                    *delta = Delta::Text(std::mem::take(text));
                }
            }
            StreamEvent::Stop { choice, stop } => {
                let has_answer = self.answers.iter().any(|(of, _)| of == choice);
                if *stop == Stop::ToolUse && has_answer && !self.callers.contains(choice) {
                    *stop = Stop::End;
                }
            }
            _ => {}
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::{PathFacts, WriteOptions, read_answer, read_request, write_request};
    use serde_json::{Value, json};

    fn request(more: &Value) -> Request {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}});
        let more = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        read_request(Format::Chat, body, &PathFacts::default()).unwrap()
    }

    fn check(more: &Value, expected: Result<Value, &str>) {
        let mut request = request(more);
        let hidden = hide(&mut request, Format::Converse);
        let written = hidden
            .and_then(|_| write_request(Format::Converse, &request, &WriteOptions::default()))
            .map(|written| {
                assert_eq!(written.body.get("outputConfig"), None);
                written.body["toolConfig"].clone()
            });
        assert_eq!(
            written.map_err(|error| error.to_string()),
            expected.map_err(str::to_owned)
        );
    }

    #[test]
    fn the_shape_becomes_a_tool() {
        let spec = json!({"toolSpec": {"name": TOOL, "description": "Gives the answer. Call this once you have it.",
            "inputSchema": {"json": {"type": "object"}}}});
        let named = json!({"tools": [spec], "toolChoice": {"tool": {"name": TOOL}}});
        check(&json!({}), Ok(named.clone()));
        let tools =
            json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
        check(&json!({"tools": tools, "tool_choice": "none"}), Ok(named));
        let other = json!({"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}});
        check(
            &json!({"tools": tools}),
            Ok(json!({"tools": [other, spec], "toolChoice": {"any": {}}})),
        );
        check(&json!({"response_format": {"type": "text"}}), Ok(Value::Null));
        let refused = |what: &str| {
            format!("`{what}` cannot be expressed in the format of this model's provider (Converse)")
        };
        check(
            &json!({"tools": tools, "tool_choice": "required"}),
            Err(&refused("response_format together with a demanded call")),
        );
        check(
            &json!({"reasoning_effort": "high"}),
            Err(&refused("response_format together with reasoning")),
        );
        let list = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "array"}}});
        check(
            &json!({"response_format": list}),
            Err(&refused("response_format whose schema is not of an object")),
        );
    }

    fn answer(calls: &[&str]) -> Answer {
        let calls = calls
            .iter()
            .map(|name| json!({"toolUse": {"toolUseId": "a", "name": name, "input": {"x": 1}}}));
        let content: Vec<Value> = std::iter::once(json!({"text": "Here:"})).chain(calls).collect();
        let body = json!({"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "tool_use"});
        read_answer(Format::Converse, body).unwrap()
    }

    #[test]
    fn the_call_becomes_the_answer() {
        let mut shown = answer(&[TOOL]);
        show(&mut shown);
        let choice = &shown.choices[0];
        assert_eq!(choice.parts, [plain(PartKind::Text("{\"x\":1}".to_owned()))]);
        assert_eq!(choice.stop, Some(Stop::End));
        let mut shown = answer(&["f"]);
        show(&mut shown);
        assert_eq!(shown, answer(&["f"]));
        let mut shown = answer(&["f", TOOL]);
        show(&mut shown);
        assert_eq!(
            (shown.choices[0].parts.len(), &shown.choices[0].stop),
            (2, &Some(Stop::ToolUse))
        );
    }

    #[test]
    fn and_so_in_streams() {
        let call = |part: usize, name: &str| StreamEvent::PartStart {
            choice: 0,
            part,
            kind: StreamPart::ToolCall {
                id: "a".to_owned(),
                name: name.to_owned(),
            },
        };
        let delta = |part: usize, delta: Delta| StreamEvent::Delta {
            choice: 0,
            part,
            delta,
        };
        let stop = |stop: Stop| StreamEvent::Stop { choice: 0, stop };
        let arguments = |part: usize| delta(part, Delta::Arguments("{}".to_owned()));
        let check = |events: Vec<StreamEvent>, expected: &[StreamEvent]| {
            let mut shower = Shower::default();
            let shown: Vec<StreamEvent> = events.into_iter().map(|event| shower.show(event)).collect();
            assert_eq!(shown, expected);
        };
        let text = StreamEvent::PartStart {
            choice: 0,
            part: 0,
            kind: StreamPart::Text,
        };
        let said = delta(0, Delta::Text("{}".to_owned()));
        check(
            vec![call(0, TOOL), arguments(0), stop(Stop::ToolUse)],
            &[text.clone(), said.clone(), stop(Stop::End)],
        );
        check(
            vec![
                call(0, TOOL),
                arguments(0),
                call(1, "f"),
                arguments(1),
                stop(Stop::ToolUse),
            ],
            &[text, said, call(1, "f"), arguments(1), stop(Stop::ToolUse)],
        );
        check(
            vec![call(0, TOOL), stop(Stop::MaxTokens)].split_off(1),
            &[stop(Stop::MaxTokens)],
        );
    }
}
