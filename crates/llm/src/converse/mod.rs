//! AWS Bedrock Converse and ConverseStream.
//!
//! Source: the reference of the Bedrock runtime API (`Converse`, `ContentBlock`, `ConverseStreamOutput`).
//!
//! What is read and written again in this format may be spelled in another way, never mean another thing:
//! a tool's result in `json` is written as its `text`, which is what the model sees of it; the `type` that
//! every call and result has is left out.

mod answer;
mod blocks;
mod request;
mod stream;

pub use answer::{read_answer, write_answer};
pub use request::{read_request, write_request};
pub use stream::{StreamReader, StreamWriter};

use serde_json::{Map, Value};

/// An object of one field.
fn one(key: &str, value: impl Into<Value>) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value.into())])
}
