//! Why a request is not served: one type for both halves of the gateway, told in the client's format.

use hyper::http::StatusCode;
use llm::error::ErrorAnswer;
use store::outcome::Outcome;

/// A request that is not served.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// For log, metric and record.
    pub outcome: Outcome,
    /// The HTTP status.
    pub status: StatusCode,
    /// One sentence for the client: never a secret, an internal name or an address.
    pub message: String,
    /// A word for programs.
    pub code: &'static str,
    /// The field at fault.
    pub param: Option<String>,
    /// When to come again, in seconds.
    pub retry_after_s: Option<u64>,
}

impl Refusal {
    /// A refusal without more than its reason.
    pub fn new(outcome: Outcome, status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            outcome,
            status,
            message: message.into(),
            code,
            param: None,
            retry_after_s: None,
        }
    }

    /// The client's request is at fault.
    pub fn bad_request(message: impl Into<String>, param: Option<String>) -> Self {
        Self {
            param,
            ..Self::new(
                Outcome::ClientError,
                StatusCode::BAD_REQUEST,
                "invalid_request",
                message,
            )
        }
    }

    /// Only POST is understood there.
    pub fn wrong_method(message: &str) -> Self {
        Self::new(
            Outcome::ClientError,
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message,
        )
    }

    /// Names the field at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// In the words of the AI formats.
    pub fn to_answer(&self) -> ErrorAnswer {
        ErrorAnswer {
            status: self.status.as_u16(),
            message: self.message.clone(),
            code: Some(self.code.to_owned()),
            param: self.param.clone(),
        }
    }
}
