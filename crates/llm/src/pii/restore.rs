//! Tokens become again what they stand for.

use super::json::DEPTH_MAX;
use super::vault::{TOKEN_MAX_BYTES, Vault};
use serde_json::Value;
use std::fmt;

impl Vault {
    /// `text` with every token of this vault replaced by its value. What is put back is not looked at
    /// again. Tokens are looked for exactly as they were made; brackets of no token stay.
    pub fn restore(&self, text: &str) -> String {
        let mut restorer = StreamRestorer::default();
        let mut out = restorer.push(text, self);
        out.push_str(&restorer.finish());
        out
    }
}

impl Vault {
    /// Restores the tokens in every string of `value`, keys included, and in strings that are JSON
    /// themselves.
    pub fn restore_json(&self, value: &mut Value) {
        if !self.is_empty() {
            self.restore_within(value, 0);
        }
    }

    fn restore_within(&self, value: &mut Value, depth: usize) {
        match value {
            Value::String(text) if text.contains('[') => {
                let json = text.trim_start().starts_with(['{', '[']);
                let json = json && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
                let mut restorer = if json {
                    StreamRestorer::json()
                } else {
                    StreamRestorer::default()
                };
                let mut out = restorer.push(text, self);
                out.push_str(&restorer.finish());
                *text = out;
            }
            Value::Array(items) if depth < DEPTH_MAX => {
                for item in items {
                    self.restore_within(item, depth + 1);
                }
            }
            Value::Object(fields) if depth < DEPTH_MAX => {
                for value in fields.values_mut() {
                    self.restore_within(value, depth + 1);
                }
                if fields.keys().any(|key| key.contains('[')) {
                    let restored = std::mem::take(fields).into_iter();
                    fields.extend(restored.map(|(key, value)| (self.restore(&key), value)));
                }
            }
            _ => {}
        }
    }
}

/// Restores a stream: the same text as [`Vault::restore`] of the whole. Holds back only what may be the
/// beginning of a token, fewer than 48 bytes.
#[derive(Clone, Default)]
pub struct StreamRestorer {
    held: String,
    /// The text is JSON, and tokens are within its strings.
    json: bool,
}

/// Without the text, which is nobody's to log.
impl fmt::Debug for StreamRestorer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamRestorer")
            .field("held_bytes", &self.held_bytes())
            .finish_non_exhaustive()
    }
}

impl StreamRestorer {
    /// For text that is JSON itself, such as the arguments of a tool's call: what is put back is escaped.
    pub fn json() -> Self {
        Self {
            held: String::new(),
            json: true,
        }
    }

    /// Takes the next piece; gives what can go out.
    pub fn push(&mut self, piece: &str, vault: &Vault) -> String {
        if vault.is_empty() && self.held.is_empty() {
            return piece.to_owned();
        }
        self.held.push_str(piece);
        let mut out = String::with_capacity(self.held.len());
        let text = std::mem::take(&mut self.held);
        let mut rest = text.as_str();
        while let Some(open) = rest.find('[') {
            out.push_str(&rest[..open]);
            rest = &rest[open..];
            let inside = rest[1..].bytes().take_while(|&byte| is_token_byte(byte)).count();
            let end = 1 + inside;
            if end < rest.len() || end > TOKEN_MAX_BYTES {
                let token = rest.get(..=end).unwrap_or_default();
                if let Some(value) = vault.value(token) {
                    if self.json {
                        let quoted = Value::from(value).to_string();
                        out.push_str(&quoted[1..quoted.len() - 1]);
                    } else {
                        out.push_str(value);
                    }
                    rest = &rest[token.len()..];
                } else {
                    out.push('[');
                    rest = &rest[1..];
                }
                continue;
            }
            rest.clone_into(&mut self.held);
            return out;
        }
        out.push_str(rest);
        out
    }

    /// The stream has ended: what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// How many bytes wait.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'
}
