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

impl Format {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Chat,
        Self::Responses,
        Self::Messages,
        Self::GenerateContent,
        Self::Converse,
        Self::Cohere,
    ];

    /// Its name in configuration, logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::GenerateContent => "generate_content",
            Self::Converse => "converse",
            Self::Cohere => "cohere",
        }
    }
}
