//! Errors as each provider words and shapes them.
//!
//! After the error pages of the providers' API references and the recorded errors.

use serde_json::{Value, json};

use super::fields::{Problem, What};
use super::route::Provider;

#[derive(Debug)]
pub(crate) enum Refusal {
    Problem(Problem),
    NotJson(String),
    NoKey,
    WrongKey(String),
    /// A signature or its headers; the sentence says what.
    Signature {
        kind: &'static str,
        message: String,
    },
    /// A header that the API requires.
    Header(&'static str),
    NoModel(String),
    NoRoute(String),
    TooLarge(usize),
    Limited {
        retry_after_s: u64,
    },
    /// As it comes from a fault or a key's behaviour; 429 is then a quota that is used up, for good.
    Status(u16),
}

impl Refusal {
    /// What a fault of this status looks like: a 429 passes.
    pub(crate) fn of_fault(status: u16) -> Refusal {
        match status {
            429 => Refusal::Limited { retry_after_s: 1 },
            status => Refusal::Status(status),
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Refusal::Problem(problem)
    }
}

#[derive(Debug)]
pub(crate) struct ErrorAnswer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Value,
}

pub(crate) fn answer(provider: Provider, refusal: &Refusal, request_id: &str) -> ErrorAnswer {
    let mut headers = Vec::new();
    if let Refusal::Limited { retry_after_s } = refusal {
        headers.push(("retry-after", retry_after_s.to_string()));
    }
    let status = status(provider, refusal);
    let body = match provider {
        Provider::OpenAi => openai(refusal, status),
        Provider::Azure => azure(refusal, status),
        Provider::Anthropic => anthropic(refusal, status, request_id),
        Provider::Gemini | Provider::Vertex => gemini(provider, refusal, status),
        Provider::Bedrock => {
            let (kind, message) = bedrock(refusal, status);
            headers.push((
                "x-amzn-errortype",
                format!("{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"),
            ));
            json!({"message": message})
        }
        Provider::Cohere => json!({"id": request_id, "message": cohere(refusal, status)}),
    };
    ErrorAnswer {
        status,
        headers,
        body,
    }
}

fn status(provider: Provider, refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::Problem(_) | Refusal::NotJson(_) | Refusal::Header(_) => 400,
        Refusal::NoKey if matches!(provider, Provider::Gemini | Provider::Bedrock) => 403,
        // Gemini calls a wrong key a bad request.
        Refusal::WrongKey(_) if provider == Provider::Gemini => 400,
        Refusal::WrongKey(_) if provider == Provider::Bedrock => 403,
        Refusal::NoKey | Refusal::WrongKey(_) => 401,
        Refusal::Signature { .. } => 403,
        Refusal::NoModel(_) if provider == Provider::Bedrock => 400,
        Refusal::NoModel(_) | Refusal::NoRoute(_) => 404,
        Refusal::TooLarge(_) => 413,
        Refusal::Limited { .. } => 429,
        Refusal::Status(status) => *status,
    }
}

/// What is wrong with a field, in the words that most providers would use.
fn plain_words(problem: &Problem) -> String {
    let path = &problem.path;
    match &problem.what {
        What::Unknown => format!("unknown field '{path}'"),
        What::Missing => format!("field '{path}' is required"),
        What::Type { expected, got } => format!("field '{path}': expected {expected}, got {got}"),
        What::Value { got, allowed } => format!("field '{path}': '{got}' is none of {allowed}"),
        What::Other { message, .. } => message.clone(),
    }
}

fn openai(refusal: &Refusal, status: u16) -> Value {
    let shape = |message: String, kind: &str, param: Option<&str>, code: Option<&str>| json!({"error": {"message": message, "type": kind, "param": param, "code": code}});
    let invalid = "invalid_request_error";
    match refusal {
        Refusal::Problem(problem) => {
            let path = &problem.path;
            let (message, code) = match &problem.what {
                What::Unknown => (format!("Unknown parameter: '{path}'."), Some("unknown_parameter")),
                What::Missing => (
                    format!("Missing required parameter: '{path}'."),
                    Some("missing_required_parameter"),
                ),
                What::Type { expected, got } => (
                    format!("Invalid type for '{path}': expected {expected}, but got {got} instead."),
                    Some("invalid_type"),
                ),
                What::Value { got, allowed } => (
                    format!("Invalid value: '{got}'. Supported values are: {allowed}."),
                    Some("invalid_value"),
                ),
                What::Other { message, code } => (message.clone(), *code),
            };
            shape(message, invalid, Some(path), code)
        }
        Refusal::NotJson(error) => shape(
            format!("We could not parse the JSON body of your request: {error}"),
            invalid,
            None,
            None,
        ),
        Refusal::NoKey => shape(
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).".to_owned(),
            invalid,
            None,
            None,
        ),
        Refusal::WrongKey(key) => shape(
            format!("Incorrect API key provided: {}.", hidden(key)),
            invalid,
            None,
            Some("invalid_api_key"),
        ),
        Refusal::NoModel(model) => shape(
            format!("The model `{model}` does not exist or you do not have access to it."),
            invalid,
            None,
            Some("model_not_found"),
        ),
        Refusal::NoRoute(path) => shape(format!("Invalid URL (POST {path})"), invalid, None, None),
        Refusal::TooLarge(most) => shape(
            format!("Maximum content size limit ({most}) exceeded"),
            "server_error",
            None,
            None,
        ),
        Refusal::Limited { .. } => shape(
            "Rate limit reached for requests. Please try again later.".to_owned(),
            "requests",
            None,
            Some("rate_limit_exceeded"),
        ),
        Refusal::Header(name) => shape(format!("missing header {name}"), invalid, None, None),
        Refusal::Signature { message, .. } => shape(message.clone(), invalid, None, None),
        Refusal::Status(_) => {
            let (message, kind, code) = match status {
                401 => ("Your authentication token has expired.", invalid, Some("token_expired")),
                402 => ("Insufficient Balance", "unknown_error", Some("invalid_request_error")),
                403 => ("You are not allowed to do this.", invalid, Some("permission_denied")),
                404 => ("The model does not exist or you do not have access to it.", invalid, Some("model_not_found")),
                429 => (
                    "You exceeded your current quota, please check your plan and billing details.",
                    "insufficient_quota",
                    Some("insufficient_quota"),
                ),
                503 => (
                    "The engine is currently overloaded, please try again later.",
                    "server_error",
                    None,
                ),
                500.. => (
                    "The server had an error while processing your request. Sorry about that!",
                    "server_error",
                    None,
                ),
                _ => ("The request was refused.", invalid, None),
            };
            shape(message.to_owned(), kind, None, code)
        }
    }
}

fn azure(refusal: &Refusal, status: u16) -> Value {
    let shape = |code: &str, message: &str| json!({"error": {"code": code, "message": message}});
    match refusal {
        Refusal::NoKey | Refusal::WrongKey(_) | Refusal::Status(401) => shape(
            "401",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource.",
        ),
        Refusal::NoModel(_) => shape(
            "DeploymentNotFound",
            "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again.",
        ),
        Refusal::NoRoute(_) | Refusal::Status(404) => shape("404", "Resource not found"),
        Refusal::Limited { retry_after_s } => shape(
            "429",
            &format!(
                "Requests to the ChatCompletions_Create Operation have exceeded call rate limit of your current pricing tier. Please retry after {retry_after_s} seconds."
            ),
        ),
        Refusal::Status(429) => shape(
            "429",
            "Requests have exceeded token rate limit of your current pricing tier. Please retry after 1 second.",
        ),
        other => openai(other, status),
    }
}

fn anthropic(refusal: &Refusal, status: u16, request_id: &str) -> Value {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let message = match refusal {
        Refusal::Problem(problem) => {
            let path = problem.path.replace('[', ".").replace(']', "");
            match &problem.what {
                What::Unknown => format!("{path}: Extra inputs are not permitted"),
                What::Missing => format!("{path}: Field required"),
                What::Type { expected, .. } => {
                    let pydantic = match *expected {
                        "a string" => "Input should be a valid string",
                        "an integer" => "Input should be a valid integer",
                        "a decimal" => "Input should be a valid number",
                        "a boolean" => "Input should be a valid boolean",
                        "an array" => "Input should be a valid array",
                        _ => "Input should be a valid dictionary",
                    };
                    format!("{path}: {pydantic}")
                }
                What::Value { allowed, .. } => format!("{path}: Input should be {allowed}"),
                What::Other { message, .. } => message.clone(),
            }
        }
        Refusal::NotJson(error) => format!("The request body is not valid JSON: {error}"),
        Refusal::NoKey => "x-api-key header is required".to_owned(),
        Refusal::WrongKey(_) => "invalid x-api-key".to_owned(),
        Refusal::Header(name) => format!("{name}: header is required"),
        Refusal::NoModel(model) => format!("model: {model}"),
        Refusal::NoRoute(_) => "Not Found".to_owned(),
        Refusal::TooLarge(_) => "Request exceeds the maximum size".to_owned(),
        Refusal::Limited { .. } => "This request would exceed the rate limit for your organization. Please reduce the number of requests, or try again later.".to_owned(),
        Refusal::Signature { message, .. } => message.clone(),
        Refusal::Status(_) => match status {
            402 => "Your credit balance is too low to access the Anthropic API.",
            429 => "This request would exceed your organization's rate limit.",
            503 | 529 => "Overloaded",
            500.. => "Internal server error",
            _ => "The request was refused.",
        }
        .to_owned(),
    };
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})
}

fn gemini(provider: Provider, refusal: &Refusal, status: u16) -> Value {
    let name = match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        402 | 403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        413 => "INVALID_ARGUMENT",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "FAILED_PRECONDITION",
    };
    let mut details = Vec::new();
    let message = match refusal {
        Refusal::Problem(problem) => {
            let message = match &problem.what {
                What::Unknown => {
                    let (at, field) = problem.path.rsplit_once('.').unwrap_or(("", &problem.path));
                    let place = if at.is_empty() { String::new() } else { format!(" at '{at}'") };
                    format!("Invalid JSON payload received. Unknown name \"{field}\"{place}: Cannot find field.")
                }
                What::Missing => format!("* {}: is not specified", problem.path),
                What::Type { got, .. } => format!("Invalid value at '{}', {got}", problem.path),
                What::Value { got, .. } => format!("Invalid value at '{}', \"{got}\"", problem.path),
                What::Other { message, .. } => message.clone(),
            };
            details.push(json!({"@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": problem.path, "description": message}]}));
            message
        }
        Refusal::NotJson(error) => format!("Invalid JSON payload received. {error}"),
        Refusal::NoKey if provider == Provider::Gemini => "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API consumer identity to call this API.".to_owned(),
        Refusal::WrongKey(_) if provider == Provider::Gemini => {
            details.push(json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
                "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"}}));
            "API key not valid. Please pass a valid API key.".to_owned()
        }
        Refusal::NoKey | Refusal::WrongKey(_) => "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.".to_owned(),
        Refusal::NoModel(model) => format!(
            "models/{model} is not found for API version v1beta, or is not supported for generateContent. Call ListModels to see the list of available models and their supported methods."
        ),
        Refusal::NoRoute(path) => format!("The requested URL {path} was not found on this server."),
        Refusal::TooLarge(most) => format!("Request payload size exceeds the limit: {most} bytes."),
        Refusal::Header(header) => format!("missing header {header}"),
        Refusal::Signature { message, .. } => message.clone(),
        Refusal::Limited { retry_after_s } => {
            details.push(json!({"@type": "type.googleapis.com/google.rpc.RetryInfo",
                "retryDelay": format!("{retry_after_s}s")}));
            "You exceeded your current quota, please check your plan and billing details.".to_owned()
        }
        Refusal::Status(_) => match status {
            429 => "Resource has been exhausted (e.g. check quota).",
            503 => "The model is overloaded. Please try again later.",
            500.. => "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting",
            _ => "The request was refused.",
        }
        .to_owned(),
    };
    let mut error = json!({"code": status, "message": message, "status": name});
    if !details.is_empty() {
        error["details"] = Value::Array(details);
    }
    json!({"error": error})
}

fn bedrock(refusal: &Refusal, status: u16) -> (&'static str, String) {
    let kind = match status {
        400 => "ValidationException",
        401..=403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 => "ModelTimeoutException",
        424 => "ModelErrorException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        500.. => "InternalServerException",
        _ => "ValidationException",
    };
    match refusal {
        Refusal::Problem(problem) => (kind, plain_words(problem)),
        Refusal::NotJson(error) => ("SerializationException", error.clone()),
        Refusal::NoKey => (
            "MissingAuthenticationTokenException",
            "Missing Authentication Token".to_owned(),
        ),
        Refusal::WrongKey(_) => (
            "UnrecognizedClientException",
            "The security token included in the request is invalid.".to_owned(),
        ),
        Refusal::Signature { kind, message } => (kind, message.clone()),
        Refusal::NoModel(_) => (kind, "The provided model identifier is invalid.".to_owned()),
        Refusal::NoRoute(_) => ("UnknownOperationException", "unknown operation".to_owned()),
        Refusal::TooLarge(most) => (kind, format!("the body is above {most} bytes")),
        Refusal::Header(name) => (kind, format!("missing header {name}")),
        Refusal::Limited { .. } | Refusal::Status(429) => (
            kind,
            "Too many requests, please wait before trying again.".to_owned(),
        ),
        Refusal::Status(_) => (
            kind,
            match status {
                503 => "Bedrock is unable to process your request.",
                500.. => {
                    "The system encountered an unexpected error during processing. Try your request again."
                }
                _ => "The request was refused.",
            }
            .to_owned(),
        ),
    }
}

fn cohere(refusal: &Refusal, status: u16) -> String {
    match refusal {
        Refusal::Problem(problem) => format!("invalid request: {}", plain_words(problem)),
        Refusal::NotJson(error) => format!("invalid json: {error}"),
        Refusal::NoKey => "no api key supplied".to_owned(),
        Refusal::WrongKey(_) => "invalid api token".to_owned(),
        Refusal::NoModel(model) => format!(
            "model '{model}' not found, make sure the correct model ID was used and that you have access to the model."
        ),
        Refusal::NoRoute(path) => format!("invalid path {path}"),
        Refusal::TooLarge(most) => format!("the body is above {most} bytes"),
        Refusal::Header(name) => format!("missing header {name}"),
        Refusal::Signature { message, .. } => message.clone(),
        Refusal::Limited { .. } | Refusal::Status(429) => {
            "You are using a rate limited key. Please wait and try again later.".to_owned()
        }
        Refusal::Status(_) => match status {
            402 => "Please add or update your payment method to continue.",
            503 => "The service is temporarily unavailable.",
            500.. => "internal server error",
            _ => "the request was refused",
        }
        .to_owned(),
    }
}

/// The first letters of a key, as providers show it in the error.
fn hidden(key: &str) -> String {
    let shown: String = key.chars().take(3).collect();
    format!("{shown}****")
}
