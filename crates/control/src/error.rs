//! Every error the API answers with, in one table.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use policy::filter::FilterError;
use serde_json::json;

/// Why a request was not answered. `Display` is the message; `hint` says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The filter does not parse, or names what flows do not have; with its text.
    #[error("the filter is wrong: {}", .0.message)]
    BadFilter(FilterError, String),
    /// A parameter is unknown or has a value it cannot have.
    #[error("the query is wrong: {0}")]
    BadQuery(String),
    #[error("this needs a token")]
    TokenMissing,
    #[error("the token is not valid")]
    TokenWrong,
    #[error("too many wrong tokens from this address")]
    TooManyFailures {
        /// Seconds until the next try is heard.
        retry_after_s: u64,
    },
    #[error("the Host header does not name this machine")]
    WrongHost,
    #[error("user {uid} may not use this socket")]
    WrongUser { uid: u32 },
    #[error("this is answered on the Unix socket only")]
    SocketOnly,
    #[error("there is no flow {0}")]
    NoSuchFlow(String),
    #[error("there is nothing at {0}")]
    NotFound(String),
    #[error("this path does not take {0}")]
    WrongMethod(String),
    #[error("the body is larger than {limit_bytes} bytes")]
    BodyTooLarge { limit_bytes: usize },
    #[error("the body did not come within {seconds} s")]
    BodyTimeout { seconds: u64 },
    /// What was sent is wrong: fields, and what was expected of them.
    #[error("what was sent is wrong: {}", said(.0))]
    Invalid(Vec<(String, String)>),
    /// It was changed meanwhile, or belongs to a file.
    #[error("{0}")]
    Conflict(String),
    #[error("the gateway is off")]
    GatewayOff,
    /// A bound on work at once is reached.
    #[error("{0}")]
    Busy(&'static str),
    /// The host could not do it; the sentence is for the caller.
    #[error("{0}")]
    Unavailable(String),
    /// Something broke that the caller cannot help; details are in the log.
    #[error("something went wrong inside")]
    Internal,
}

impl ApiError {
    /// Status, code and hint of each error.
    fn row(&self) -> (StatusCode, &'static str, &str) {
        match self {
            Self::BadFilter(error, _) => (StatusCode::BAD_REQUEST, "bad_filter", &error.hint),
            Self::BadQuery(_) => (
                StatusCode::BAD_REQUEST,
                "bad_query",
                "parameters and their values are listed in /api/v1/openapi.json",
            ),
            Self::TokenMissing => (
                StatusCode::UNAUTHORIZED,
                "token_missing",
                "make one on that host with `weir token create`, and send it as `Authorization: Bearer weir_…`",
            ),
            Self::TokenWrong => (
                StatusCode::UNAUTHORIZED,
                "token_wrong",
                "make a new one on that host with `weir token create`",
            ),
            Self::TooManyFailures { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_failures",
                "wait as long as Retry-After says, or send a valid token",
            ),
            Self::WrongHost => (
                StatusCode::FORBIDDEN,
                "wrong_host",
                "ask for localhost, a loopback address, or the address it listens on",
            ),
            Self::WrongUser { .. } => (
                StatusCode::FORBIDDEN,
                "wrong_user",
                "be root or the user who started weir, or use TCP with a token",
            ),
            Self::SocketOnly => (
                StatusCode::FORBIDDEN,
                "socket_only",
                "run this as root on that host: `weir token create` does it",
            ),
            Self::NoSuchFlow(_) => (
                StatusCode::NOT_FOUND,
                "no_such_flow",
                "it may have ended too long ago: list flows with /api/v1/flows?state=all",
            ),
            Self::NotFound(_) => (
                StatusCode::NOT_FOUND,
                "not_found",
                "all paths are listed in /api/v1/openapi.json",
            ),
            Self::WrongMethod(_) => (
                StatusCode::METHOD_NOT_ALLOWED,
                "wrong_method",
                "all paths and their methods are listed in /api/v1/openapi.json",
            ),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "send less"),
            Self::BodyTimeout { .. } => (
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                "send the body at once",
            ),
            Self::Invalid(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "nothing has changed: mend the fields that are named and send it again",
            ),
            Self::Conflict(_) => (
                StatusCode::CONFLICT,
                "conflict",
                "nothing has changed: read it again, or change the file that it comes from",
            ),
            Self::GatewayOff => (
                StatusCode::NOT_FOUND,
                "gateway_off",
                "give `weir run -c FILE` a section `gateway` to turn it on",
            ),
            Self::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy", "try again in a moment"),
            Self::Unavailable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "`weir doctor` says what this host allows",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the log of weir says more",
            ),
        }
    }

    /// The HTTP status it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.row().0
    }

    /// The name programs know it by.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.row().1
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code, hint) = self.row();
        let mut error = json!({ "code": code, "message": self.to_string(), "hint": hint });
        if let Self::BadFilter(fault, source) = &self {
            error["span"] = json!([fault.span.start, fault.span.end]);
            error["shown"] = fault.render(source).into();
        }
        if let Self::Invalid(faults) = &self {
            let faults = faults.iter();
            let faults = faults.map(|(field, words)| json!({ "field": field, "message": words }));
            error["faults"] = faults.collect();
        }
        let mut response = (status, Json(json!({ "error": error }))).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"weir\""),
            );
        }
        if let Self::TooManyFailures { retry_after_s } = self {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
        }
        response
    }
}

/// Fields and what is wrong with them, in one line.
fn said(faults: &[(String, String)]) -> String {
    let said = faults.iter().map(|(field, words)| {
        if field.is_empty() {
            words.clone()
        } else {
            format!("{field}: {words}")
        }
    });
    said.collect::<Vec<_>>().join("; ")
}
