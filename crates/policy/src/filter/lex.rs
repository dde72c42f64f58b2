//! Text to tokens. A word is any run of characters that no operator uses, so that addresses, ranges,
//! globs and numbers with units are one token each; what a word means is decided by the field beside it.

use super::error::{FilterError, Span};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A bare word: field, keyword or value.
    Word(String),
    /// Text in quotes, escapes resolved.
    Quoted(String),
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Tilde,
    Not,
    And,
    Or,
    Open,
    Close,
    OpenBrace,
    CloseBrace,
    Comma,
    End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Span,
}

/// Whether `c` may stand in a word without quotes.
pub(super) fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '/' | '*' | '?' | '%' | '@' | '+')
}

/// All tokens of `source`, closed by one `End` with an empty span.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, FilterError> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = source[at..].chars().next() {
        let start = at;
        let next = source[at + c.len_utf8()..].chars().next();
        let (kind, len) = match (c, next) {
            (c, _) if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            (c, _) if is_word_char(c) => {
                let len = source[at..]
                    .find(|c| !is_word_char(c))
                    .unwrap_or(source.len() - at);
                (TokenKind::Word(source[at..at + len].to_owned()), len)
            }
            ('"' | '\'', _) => quoted(source, at, c)?,
            ('=', Some('=')) => (TokenKind::Equal, 2),
            ('=', _) => (TokenKind::Equal, 1),
            ('!', Some('=')) => (TokenKind::NotEqual, 2),
            ('!', _) => (TokenKind::Not, 1),
            ('<', Some('=')) => (TokenKind::LessEqual, 2),
            ('<', _) => (TokenKind::Less, 1),
            ('>', Some('=')) => (TokenKind::GreaterEqual, 2),
            ('>', _) => (TokenKind::Greater, 1),
            ('~', _) => (TokenKind::Tilde, 1),
            ('&', Some('&')) => (TokenKind::And, 2),
            ('|', Some('|')) => (TokenKind::Or, 2),
            ('(', _) => (TokenKind::Open, 1),
            (')', _) => (TokenKind::Close, 1),
            ('{', _) => (TokenKind::OpenBrace, 1),
            ('}', _) => (TokenKind::CloseBrace, 1),
            (',', _) => (TokenKind::Comma, 1),
            ('&' | '|', _) => {
                let word = if c == '&' { "and" } else { "or" };
                return Err(FilterError::new(
                    start..start + 1,
                    format!("a single `{c}` is no operator"),
                    format!("write `{word}` or `{c}{c}`"),
                ));
            }
            _ => {
                return Err(FilterError::new(
                    start..start + c.len_utf8(),
                    format!("the character {c:?} has no meaning here"),
                    "put text with special characters in quotes",
                ));
            }
        };
        at += len;
        out.push(Token {
            kind,
            span: start..at,
        });
    }
    out.push(Token {
        kind: TokenKind::End,
        span: at..at,
    });
    Ok(out)
}

/// The quoted text that begins at `start`, and its length in the source with both quotes.
fn quoted(source: &str, start: usize, quote: char) -> Result<(TokenKind, usize), FilterError> {
    let mut text = String::new();
    let mut chars = source[start..].char_indices().skip(1);
    while let Some((offset, c)) = chars.next() {
        if c == quote {
            return Ok((TokenKind::Quoted(text), offset + 1));
        }
        if c != '\\' {
            text.push(c);
            continue;
        }
        let Some((_, escaped)) = chars.next() else {
            break;
        };
        let resolved = match escaped {
            '\\' | '"' | '\'' => Some(escaped),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'u' => unicode_escape(&mut chars),
            _ => None,
        };
        let Some(resolved) = resolved else {
            let at = start + offset;
            return Err(FilterError::new(
                at..at + 1 + escaped.len_utf8(),
                "this escape is not known",
                r#"escapes are \\ \" \' \n \r \t and \u{1f30a}; write \\ for a backslash"#,
            ));
        };
        text.push(resolved);
    }
    Err(FilterError::new(
        start..start + 1,
        "this quote is never closed",
        format!("add {quote} where the text ends"),
    ))
}

/// `{1f30a}` behind `\u`: one to six hexadecimal digits that name a character.
fn unicode_escape(chars: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    if chars.next()?.1 != '{' {
        return None;
    }
    let mut code = 0_u32;
    for n_digits in 0..=6 {
        let c = chars.next()?.1;
        if c == '}' {
            return if n_digits == 0 { None } else { char::from_u32(code) };
        }
        code = code.checked_mul(16)?.checked_add(c.to_digit(16)?)?;
    }
    None
}
