//! `--fast`: plain answers at the least cost, for benches of what stands before the simulator.
//!
//! A plain call of chat, Messages or Responses with a right key gets one prebuilt answer, in one write,
//! without a parse of its body. Whatever is not such a call (a stream, a `sim-` model, a wrong key, another
//! path, a fault set by `/sim/fault`) goes to the ordinary server, with the rest of its connection.

use memchr::memmem;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::keys::Key;
use super::serve::{BODY_BYTES_MAX, Server};

const HEAD_BYTES_MAX: usize = 16 * 1024;
const READ_BYTES: usize = 16 * 1024;
/// What makes a body one that needs a real answer.
const NOT_PLAIN: [&[u8]; 3] = [b"\"stream\":true", b"\"stream\": true", b"sim-"];

#[derive(Debug)]
pub(crate) struct Fast {
    routes: Vec<Prebuilt>,
}

#[derive(Debug)]
struct Prebuilt {
    /// The request's first line.
    line: &'static [u8],
    /// Name and value of the header that lets in, one pair for each key.
    lets_in: Vec<(&'static [u8], Vec<u8>)>,
    answer: Vec<u8>,
}

impl Fast {
    pub(crate) fn new(keys: &[Key]) -> Fast {
        let text = "The river is slow and clear below the weir.";
        let keys: Vec<&Key> = keys.iter().filter(|key| key.status.is_none()).collect();
        let bearer = || {
            keys.iter()
                .map(|key| (&b"authorization"[..], format!("Bearer {}", key.text).into_bytes()))
        };
        let api_key = || {
            keys.iter()
                .map(|key| (&b"x-api-key"[..], key.text.clone().into_bytes()))
        };
        let chat = json!({"id": "chatcmpl-fast", "object": "chat.completion", "created": 1_750_000_000,
            "model": "gpt-4o-mini", "choices": [{"index": 0, "message": {"role": "assistant", "content": text,
            "refusal": null, "annotations": []}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 8, "completion_tokens": 11, "total_tokens": 19,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
                    "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}},
            "service_tier": "default", "system_fingerprint": null});
        let messages = json!({"model": "claude-sonnet-4-5", "id": "msg_fast", "type": "message", "role": "assistant",
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 11, "service_tier": "standard"}});
        let responses = json!({"id": "resp_fast", "object": "response", "created_at": 1_750_000_000,
            "status": "completed", "error": null, "incomplete_details": null, "instructions": null,
            "max_output_tokens": null, "model": "gpt-4o-mini", "output": [{"id": "msg_fast", "type": "message",
            "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}]}],
            "parallel_tool_calls": true, "previous_response_id": null, "reasoning": {"effort": null, "summary": null},
            "usage": {"input_tokens": 8, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 11,
                "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 19}, "metadata": {}});
        let route = |line, lets_in, body: serde_json::Value| {
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            Prebuilt {
                line,
                lets_in,
                answer: (head + &body).into_bytes(),
            }
        };
        Fast {
            routes: vec![
                route(
                    b"POST /v1/chat/completions HTTP/1.1\r\n",
                    bearer().collect(),
                    chat,
                ),
                route(
                    b"POST /v1/messages HTTP/1.1\r\n",
                    api_key().chain(bearer()).collect(),
                    messages,
                ),
                route(b"POST /v1/responses HTTP/1.1\r\n", bearer().collect(), responses),
            ],
        }
    }

    /// Serves as long as calls are plain. Returns what was read of the first that is not; `None` at the end.
    pub(crate) async fn serve(&self, stream: &mut TcpStream, server: &Server) -> Option<Vec<u8>> {
        let mut buffer: Vec<u8> = Vec::with_capacity(READ_BYTES);
        let mut answers: Vec<u8> = Vec::new();
        loop {
            let mut used = 0;
            let mut other = false;
            // All that came in one read is answered in one write.
            while used < buffer.len() && !other {
                if server.has_fault() {
                    other = true;
                    break;
                }
                match self.plain(&buffer[used..]) {
                    Plain::Answer(answer, length) => {
                        answers.extend_from_slice(answer);
                        used += length;
                    }
                    Plain::More => break,
                    Plain::Other => other = true,
                }
            }
            if !answers.is_empty() {
                stream.write_all(&answers).await.ok()?;
                answers.clear();
            }
            buffer.drain(..used);
            if other {
                return Some(buffer);
            }
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    fn plain(&self, bytes: &[u8]) -> Plain<'_> {
        let Some(route) = self.routes.iter().find(|route| {
            let common = route.line.len().min(bytes.len());
            bytes[..common] == route.line[..common]
        }) else {
            return Plain::Other;
        };
        let Some(head_end) = memmem::find(bytes, b"\r\n\r\n") else {
            return if bytes.len() > HEAD_BYTES_MAX {
                Plain::Other
            } else {
                Plain::More
            };
        };
        if bytes.len() < route.line.len() {
            return Plain::Other;
        }
        let (mut length, mut is_in) = (None, false);
        for line in bytes[route.line.len()..head_end].split(|byte| *byte == b'\n') {
            let Some(colon) = memchr::memchr(b':', line) else {
                continue;
            };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-length") {
                length = std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse::<usize>().ok());
            } else if ["transfer-encoding", "expect", "connection"]
                .iter()
                .any(|one| name.eq_ignore_ascii_case(one.as_bytes()))
            {
                // `connection: keep-alive` changes nothing; the others need a server that knows them.
                if !value.eq_ignore_ascii_case(b"keep-alive") {
                    return Plain::Other;
                }
            } else if route
                .lets_in
                .iter()
                .any(|(header, key)| name.eq_ignore_ascii_case(header) && value == &key[..])
            {
                is_in = true;
            }
        }
        let Some(length) = length.filter(|length| is_in && *length <= BODY_BYTES_MAX) else {
            return Plain::Other;
        };
        let whole = head_end + 4 + length;
        let Some(body) = bytes.get(head_end + 4..whole) else {
            return Plain::More;
        };
        if NOT_PLAIN.iter().any(|mark| memmem::find(body, mark).is_some()) {
            return Plain::Other;
        }
        Plain::Answer(&route.answer, whole)
    }
}

enum Plain<'a> {
    /// The answer, and how long the request was.
    Answer(&'a [u8], usize),
    /// The request is not whole yet.
    More,
    Other,
}

#[cfg(test)]
mod tests {
    use super::{Fast, Plain};
    use crate::lab::provider::keys::Key;

    #[test]
    fn only_plain_calls_are_answered() {
        let fast = Fast::new(&[Key {
            text: "sk".to_owned(),
            status: None,
        }]);
        let check = |request: &str, expected: &str| {
            let found = match fast.plain(request.as_bytes()) {
                Plain::Answer(_, length) => {
                    assert_eq!(length, request.len());
                    "answer"
                }
                Plain::More => "more",
                Plain::Other => "other",
            };
            assert_eq!(found, expected, "{request}");
        };
        let line = "POST /v1/chat/completions HTTP/1.1\r\n";
        let rest = "Authorization: Bearer sk\r\ncontent-length: 2\r\n\r\n{}";
        check(&format!("{line}{rest}"), "answer");
        check(&format!("{line}Connection: keep-alive\r\n{rest}"), "answer");
        check(&format!("{line}Connection: close\r\n{rest}"), "other");
        check(line, "more");
        check("POST /v1/ch", "more");
        check(&format!("{line}{rest}")[..line.len() + rest.len() - 1], "more");
        check(
            &format!("{line}authorization: Bearer no\r\ncontent-length: 2\r\n\r\n{{}}"),
            "other",
        );
        check(
            &format!("{line}authorization: Bearer sk\r\ncontent-length: 15\r\n\r\n{{\"stream\":true}}"),
            "other",
        );
        check("GET /v1/models HTTP/1.1\r\n\r\n", "other");
    }
}
