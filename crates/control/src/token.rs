//! Tokens of the admin API: 256 random bits. Only their hashes are kept.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Every token begins with this, so that scanners for leaked secrets know it.
pub const PREFIX: &str = "weir_";
/// Random bytes in a token.
pub const RANDOM_LEN: usize = 32;

/// SHA-256 of a token's text. A token has 256 random bits, so no slower hash is needed.
pub type TokenHash = [u8; 32];

/// A new token. `Display` shows it, `Debug` does not.
#[derive(Clone)]
pub struct Token {
    text: String,
}

impl Token {
    /// Makes a token of bytes nobody can know.
    #[must_use]
    pub fn new(random: [u8; RANDOM_LEN]) -> Self {
        Self {
            text: format!("{PREFIX}{}", hex(&random)),
        }
    }

    /// What to keep of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        hash(&self.text)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The hash of what a caller presented.
#[must_use]
pub fn hash(text: &str) -> TokenHash {
    Sha256::digest(text.as_bytes()).into()
}

/// Lower-case hexadecimal digits, for files that keep hashes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

/// Reads what [`hex`] wrote; `None` for anything else.
#[must_use]
pub fn hash_from_hex(text: &str) -> Option<TokenHash> {
    let mut hash = TokenHash::default();
    if text.len() != hash.len() * 2 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = (value(digits[0])? << 4 | value(digits[1])?) as u8;
    }
    Some(hash)
}

/// Whether `presented` is among `known`. Takes as long whether and wherever they differ.
#[must_use]
pub(crate) fn is_among(presented: &TokenHash, known: &[TokenHash]) -> bool {
    let is_same = |hash: &TokenHash| {
        let difference = presented
            .iter()
            .zip(hash)
            .fold(0, |all, (one, other)| all | (one ^ other));
        std::hint::black_box(difference) == 0
    };
    // No short cut: `any` would stop at the first.
    known.iter().fold(false, |found, hash| found | is_same(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash() {
        let token = Token::new([7; RANDOM_LEN]);
        let text = token.to_string();
        assert_eq!(text.len(), PREFIX.len() + 64);
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert_eq!(hash_from_hex(&hex(&token.hash())), Some(hash(&text)));
        assert!(is_among(&hash(&text), &[hash("other"), token.hash()]));
        assert!(!is_among(&hash("weir_"), &[hash("other"), token.hash()]));
        assert!(!is_among(&hash(&text), &[]));
    }

    #[test]
    fn published_vector_of_sha_256() {
        // FIPS 180-4 example: "abc".
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&hash("abc")), expected);
        for wrong in [
            "",
            "ab",
            &expected[1..],
            &expected.replace('b', "x"),
            &"é".repeat(32),
        ] {
            assert_eq!(hash_from_hex(wrong), None, "{wrong}");
        }
    }
}
