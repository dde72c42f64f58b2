//! Anthropic Messages.

mod answer;
mod request;

pub use answer::{StreamReader, StreamWriter, read_answer, write_answer};
pub use request::{read_request, write_request};
