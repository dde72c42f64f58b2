//! Tokens become again what they stand for.

use super::vault::{TOKEN_MAX_BYTES, Vault};

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

/// Restores a stream: the same text as [`Vault::restore`] of the whole. Holds back only what may be the
/// beginning of a token, fewer than 48 bytes.
#[derive(Clone, Debug, Default)]
pub struct StreamRestorer {
    held: String,
}

impl StreamRestorer {
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
                    out.push_str(value);
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
