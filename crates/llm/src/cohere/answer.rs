//! Cohere Chat: answers, whole and as streams. Not written yet.

use crate::answer::{Answer, StreamEvent};
use crate::canonical::{ConvertError, Written};
use crate::convert::{ReadStream, StreamOptions, WriteStream};
use crate::format::Format;
use serde_json::Value;

/// Reads a whole answer.
///
/// # Errors
/// See [`crate::convert::read_answer`].
pub fn read_answer(_body: Value) -> Result<Answer, ConvertError> {
    Err(missing())
}

/// Writes a whole answer.
///
/// # Errors
/// See [`crate::convert::write_answer`].
pub fn write_answer(_answer: &Answer) -> Result<Written, ConvertError> {
    Err(missing())
}

fn missing() -> ConvertError {
    ConvertError::Inexpressible {
        field: "answer".to_owned(),
        format: Format::Cohere,
    }
}

/// Reads a stream.
#[derive(Debug, Default)]
pub struct StreamReader {}

impl ReadStream for StreamReader {
    fn read(&mut self, _name: &str, _data: &str, _events: &mut Vec<StreamEvent>) -> Result<(), ConvertError> {
        Err(missing())
    }

    fn finish(&mut self, _events: &mut Vec<StreamEvent>) {}
}

/// Writes a stream.
#[derive(Debug)]
pub struct StreamWriter {}

impl StreamWriter {
    /// A writer at the start of a stream.
    pub fn new(_options: StreamOptions) -> Self {
        Self {}
    }
}

impl WriteStream for StreamWriter {
    fn write(&mut self, _event: &StreamEvent, _bytes: &mut Vec<u8>) {}
}
