//! The names of the wire formats.

/// The format of a request to a model, and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// OpenAI Chat Completions, and the many that speak it.
    Chat,
    /// OpenAI Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
    /// Google generateContent and streamGenerateContent, of Gemini and Vertex.
    GenerateContent,
    /// AWS Bedrock Converse and ConverseStream.
    Converse,
    /// Cohere Chat, version 2.
    Cohere,
}
