"""Cells of the tables that are not as the others: (format, case, wire)."""

# The gateway refuses these, with this status and these words: the provider has no such thing.
REFUSED = {
    ("openai chat", "embeddings", "anthropic"): (501, "has no embeddings"),
    ("openai chat", "embeddings_base64", "anthropic"): (501, "has no embeddings"),
    ("gemini", "embeddings", "anthropic"): (501, "has no embeddings"),
    ("openai chat", "embeddings", "bedrock"): (400, "`several inputs` cannot be expressed"),
    ("gemini", "embeddings", "bedrock"): (400, "`several inputs` cannot be expressed"),
}

# Not run, and why; `*` is any wire. Each is a line of the output.
LEFT_OUT = {
    ("openai chat", "embeddings", "vertex"): "the simulator has no :predict",
    ("openai chat", "embeddings_base64", "vertex"): "the simulator has no :predict",
    ("gemini", "embeddings", "vertex"): "the simulator has no :predict",
    ("openai chat", "embeddings_base64", "bedrock"): "the simulator has no /invoke",
}
