//! OpenAI Responses (`POST /v1/responses` and its streaming events in OpenAI's API reference).

mod answer;
mod items;
mod request;
mod stream_read;
mod stream_write;

pub use answer::{read_answer, write_answer};
pub use request::{read_request, write_request};
pub use stream_read::StreamReader;
pub use stream_write::StreamWriter;
