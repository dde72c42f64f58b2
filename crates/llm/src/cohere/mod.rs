//! Cohere Chat, version 2 (`POST /v2/chat` and its stream in Cohere's API reference).

mod answer;
mod request;
mod stream;

pub use answer::{read_answer, write_answer};
pub use request::{read_request, write_request};
pub use stream::{StreamReader, StreamWriter};
