//! Error answers: read from any provider, written in the format of the client.

use crate::format::Format;
use serde_json::{Value, json};

/// What went wrong, as the HTTP status tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request cannot be served as it is: 400, 422 and every other 4xx not named below.
    InvalidRequest,
    /// 401.
    Authentication,
    /// 403, and 402 of providers that want to be paid first.
    Permission,
    /// 404: mostly an unknown model.
    NotFound,
    /// 413.
    TooLarge,
    /// 429.
    RateLimit,
    /// 408 and 504.
    Timeout,
    /// 503, and 529 of Anthropic.
    Overloaded,
    /// Every other status.
    Server,
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorAnswer {
    /// The HTTP status.
    pub status: u16,
    /// What it says.
    pub message: String,
    /// A short word of the provider for programs, such as `model_not_found`.
    pub code: Option<String>,
    /// The field at fault.
    pub param: Option<String>,
}

impl ErrorAnswer {
    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self.status {
            401 => ErrorKind::Authentication,
            402 | 403 => ErrorKind::Permission,
            404 => ErrorKind::NotFound,
            413 => ErrorKind::TooLarge,
            429 => ErrorKind::RateLimit,
            408 | 504 => ErrorKind::Timeout,
            503 | 529 => ErrorKind::Overloaded,
            400..500 => ErrorKind::InvalidRequest,
            _ => ErrorKind::Server,
        }
    }
}

/// Reads the error answer of a provider of any format: they differ in where the message is, and some
/// send none.
pub fn read_error(status: u16, body: &Value) -> ErrorAnswer {
    // Google's compatible endpoint puts the object in an array.
    let body = body.get(0).unwrap_or(body);
    let error = body.get("error").unwrap_or(body);
    let text = |key: &str| error.get(key).and_then(Value::as_str).map(str::to_owned);
    let bare = || error.as_str().map(str::to_owned);
    let message = text("message").or_else(|| text("Message")).or_else(bare);
    let code = text("code").or_else(|| text("status")).or_else(|| text("type"));
    ErrorAnswer {
        status,
        message: message
            .unwrap_or_else(|| format!("the provider answered with status {status} and no message")),
        code,
        param: text("param"),
    }
}

/// Writes an error answer in the format of the client. Only Anthropic's has a place for the request id;
/// in every format it belongs into a header too.
pub fn write_error(format: Format, error: &ErrorAnswer, request_id: &str) -> Value {
    let message = &error.message;
    match format {
        Format::Chat | Format::Responses => json!({"error": {
            "message": message, "type": openai_type(error.kind()), "param": error.param, "code": error.code,
        }}),
        Format::Messages => json!({
            "type": "error",
            "error": {"type": anthropic_type(error.kind()), "message": message},
            "request_id": request_id,
        }),
        Format::GenerateContent => json!({"error": {
            "code": error.status, "message": message, "status": google_status(error.kind()),
        }}),
        Format::Converse | Format::Cohere => json!({"message": message}),
    }
}

/// Reads an error that came inside a stream, whose HTTP status was 200: its own words tell the status.
pub fn read_stream_error(body: &Value) -> ErrorAnswer {
    let error = body.get("error").unwrap_or(body);
    let number = |key: &str| {
        let value = error.get(key)?;
        value
            .as_u64()
            .or_else(|| value.as_str()?.parse().ok())
            .and_then(|status| u16::try_from(status).ok())
            .filter(|status| (400..600).contains(status))
    };
    let word = |key: &str| error.get(key).and_then(Value::as_str).and_then(status_of_word);
    let status = number("status_code")
        .or_else(|| number("code"))
        .or_else(|| ["type", "code", "status"].into_iter().find_map(word));
    // A provider that gives up without a reason is at fault itself.
    let mut answer = read_error(status.unwrap_or(502), body);
    if answer.message.contains("and no message") {
        "the provider ended its stream with an error and no message".clone_into(&mut answer.message);
    }
    answer
}

/// The status that a provider gives with a word of its errors.
fn status_of_word(word: &str) -> Option<u16> {
    Some(match word {
        "invalid_request_error" | "invalid_prompt" | "INVALID_ARGUMENT" | "validationException" => 400,
        "authentication_error" | "invalid_api_key" | "UNAUTHENTICATED" => 401,
        "billing_error" => 402,
        "permission_error" | "PERMISSION_DENIED" => 403,
        "not_found_error" | "model_not_found" | "NOT_FOUND" => 404,
        "request_too_large" | "context_length_exceeded" => 413,
        "rate_limit_error"
        | "rate_limit_exceeded"
        | "insufficient_quota"
        | "RESOURCE_EXHAUSTED"
        | "throttlingException" => 429,
        "api_error" | "server_error" | "INTERNAL" | "internalServerException" => 500,
        "UNAVAILABLE" | "serviceUnavailableException" => 503,
        "timeout_error" | "DEADLINE_EXCEEDED" | "modelTimeoutException" => 504,
        "overloaded_error" => 529,
        _ => return None,
    })
}

/// Writes an error as an event of a stream in the format of the client, framing included. Converse
/// frames its streams in binary, so its own writer does that; here it gets none.
pub fn write_stream_error(format: Format, error: &ErrorAnswer, request_id: &str) -> Vec<u8> {
    let mut body = write_error(format, error, request_id);
    let name = match format {
        Format::Chat | Format::GenerateContent => "",
        Format::Messages => "event: error\n",
        Format::Responses => {
            body = json!({"type": "error", "code": error.code, "message": error.message,
                "param": error.param, "sequence_number": 0});
            "event: error\n"
        }
        Format::Cohere => {
            body =
                json!({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": error.message}});
            "event: message-end\n"
        }
        Format::Converse => return Vec::new(),
    };
    format!("{name}data: {body}\n\n").into_bytes()
}

fn openai_type(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::NotFound | ErrorKind::TooLarge => "invalid_request_error",
        ErrorKind::Authentication => "authentication_error",
        ErrorKind::Permission => "permission_error",
        ErrorKind::RateLimit => "rate_limit_error",
        ErrorKind::Timeout => "timeout_error",
        ErrorKind::Overloaded | ErrorKind::Server => "server_error",
    }
}

fn anthropic_type(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest => "invalid_request_error",
        ErrorKind::Authentication => "authentication_error",
        ErrorKind::Permission => "permission_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::RateLimit => "rate_limit_error",
        ErrorKind::Timeout => "timeout_error",
        ErrorKind::Overloaded => "overloaded_error",
        ErrorKind::Server => "api_error",
    }
}

/// The names of google.rpc.Code.
fn google_status(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::TooLarge => "INVALID_ARGUMENT",
        ErrorKind::Authentication => "UNAUTHENTICATED",
        ErrorKind::Permission => "PERMISSION_DENIED",
        ErrorKind::NotFound => "NOT_FOUND",
        ErrorKind::RateLimit => "RESOURCE_EXHAUSTED",
        ErrorKind::Timeout => "DEADLINE_EXCEEDED",
        ErrorKind::Overloaded => "UNAVAILABLE",
        ErrorKind::Server => "INTERNAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_read(status: u16, body: &Value, kind: ErrorKind, message: &str, code: Option<&str>) {
        let error = read_error(status, body);
        assert_eq!(
            (error.kind(), error.message.as_str(), error.code.as_deref()),
            (kind, message, code)
        );
    }

    #[test]
    fn reads_every_shape() {
        let openai = json!({"error": {"message": "no such model", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}});
        check_read(
            404,
            &openai,
            ErrorKind::NotFound,
            "no such model",
            Some("model_not_found"),
        );
        assert_eq!(read_error(404, &openai).param.as_deref(), Some("model"));
        let anthropic = json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}});
        check_read(
            529,
            &anthropic,
            ErrorKind::Overloaded,
            "busy",
            Some("overloaded_error"),
        );
        let google =
            json!([{"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}]);
        check_read(
            429,
            &google,
            ErrorKind::RateLimit,
            "slow down",
            Some("RESOURCE_EXHAUSTED"),
        );
        check_read(
            400,
            &json!({"message": "bad"}),
            ErrorKind::InvalidRequest,
            "bad",
            None,
        );
        check_read(
            403,
            &json!({"Message": "denied"}),
            ErrorKind::Permission,
            "denied",
            None,
        );
        check_read(
            500,
            &json!({"error": "broken"}),
            ErrorKind::Server,
            "broken",
            None,
        );
        let silent = "the provider answered with status 504 and no message";
        check_read(504, &Value::Null, ErrorKind::Timeout, silent, None);
    }

    #[test]
    fn errors_in_streams_tell_their_status() {
        for (body, status) in [
            (json!({"error": {"code": 400, "message": "m"}}), 400),
            (json!({"error": {"code": "429", "message": "m"}}), 429),
            (
                json!({"error": {"code": "tool_use_failed", "status_code": 422, "message": "m"}}),
                422,
            ),
            (
                json!({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}),
                529,
            ),
            (
                json!({"type": "error", "code": "server_error", "message": "m"}),
                500,
            ),
            (json!({"error": {"code": 200, "message": "m"}}), 502),
            (json!({"error": "m"}), 502),
        ] {
            let error = read_stream_error(&body);
            assert_eq!((error.status, error.message.as_str()), (status, "m"), "{body}");
        }
        let silent = read_stream_error(&json!({"error": {}})).message;
        assert_eq!(
            silent,
            "the provider ended its stream with an error and no message"
        );
    }

    #[test]
    fn errors_as_events() {
        let error = ErrorAnswer {
            status: 429,
            message: "slow\ndown".to_owned(),
            code: None,
            param: None,
        };
        let check = |format: Format, expected: &str| {
            let bytes = write_stream_error(format, &error, "r1");
            assert_eq!(String::from_utf8(bytes).unwrap(), expected, "{format:?}");
        };
        check(
            Format::Chat,
            "data: {\"error\":{\"message\":\"slow\\ndown\",\"type\":\"rate_limit_error\",\"param\":null,\"code\":null}}\n\n",
        );
        check(
            Format::Messages,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow\\ndown\"},\"request_id\":\"r1\"}\n\n",
        );
        check(
            Format::GenerateContent,
            "data: {\"error\":{\"code\":429,\"message\":\"slow\\ndown\",\"status\":\"RESOURCE_EXHAUSTED\"}}\n\n",
        );
        check(
            Format::Responses,
            "event: error\ndata: {\"type\":\"error\",\"code\":null,\"message\":\"slow\\ndown\",\"param\":null,\"sequence_number\":0}\n\n",
        );
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for status in [400, 401, 403, 404, 413, 429, 500, 503, 504] {
            let error = ErrorAnswer {
                status,
                message: "why".to_owned(),
                code: None,
                param: None,
            };
            for format in [
                Format::Chat,
                Format::Responses,
                Format::Messages,
                Format::GenerateContent,
                Format::Converse,
                Format::Cohere,
            ] {
                let back = read_error(status, &write_error(format, &error, "r1"));
                assert_eq!(
                    (back.status, back.message),
                    (status, "why".to_owned()),
                    "{format:?}"
                );
            }
        }
        let error = ErrorAnswer {
            status: 429,
            message: "why".to_owned(),
            code: None,
            param: None,
        };
        assert_eq!(
            write_error(Format::Messages, &error, "r1"),
            json!({"type": "error", "error": {"type": "rate_limit_error", "message": "why"}, "request_id": "r1"})
        );
        assert_eq!(
            write_error(Format::Chat, &error, "r1"),
            json!({"error": {"message": "why", "type": "rate_limit_error", "param": null, "code": null}})
        );
        assert_eq!(
            write_error(Format::GenerateContent, &error, "r1"),
            json!({"error": {"code": 429, "message": "why", "status": "RESOURCE_EXHAUSTED"}})
        );
    }
}
