//! OpenAI Chat Completions.

mod answer;
mod request;
mod stream_read;
mod stream_write;

pub(crate) use answer::{names, write_stop};
pub use answer::{read_answer, write_answer};
pub use request::{read_request, write_request};
pub use stream_read::StreamReader;
pub use stream_write::StreamWriter;
