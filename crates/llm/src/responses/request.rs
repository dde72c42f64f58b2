//! OpenAI Responses: requests. Not written yet.

use crate::canonical::{ConvertError, Request, Written};
use crate::convert::WriteOptions;
use crate::format::Format;
use serde_json::Value;

/// Reads a request.
///
/// # Errors
/// See [`crate::convert::read_request`].
pub fn read_request(_body: Value) -> Result<Request, ConvertError> {
    Err(missing())
}

/// Writes a request.
///
/// # Errors
/// See [`crate::convert::write_request`].
pub fn write_request(_request: &Request, _options: &WriteOptions) -> Result<Written, ConvertError> {
    Err(missing())
}

fn missing() -> ConvertError {
    ConvertError::Inexpressible {
        field: "request".to_owned(),
        format: Format::Responses,
    }
}
