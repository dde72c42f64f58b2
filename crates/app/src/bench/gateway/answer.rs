//! How the load reads answers: as far as servers of a bench speak HTTP/1.1 and Chat Completions.

use memchr::memmem;

/// How far an answer is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Part,
    /// The head, and so many bytes of the body.
    Head {
        body: usize,
    },
    Whole,
}

/// Looks at the bytes of one answer (RFC 9112, as far as servers of a bench use it).
pub(super) fn whole(bytes: &[u8]) -> Result<Read, String> {
    let Some(head) = memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(Read::Part);
    };
    let (head, body) = (&bytes[..head], &bytes[head + 4..]);
    if !head.starts_with(b"HTTP/1.1 200") {
        let text = String::from_utf8_lossy(bytes);
        let said: String = text.chars().take(600).collect();
        return Err(format!("expected status 200, found: {said}"));
    }
    let fields = || {
        head.split(|&byte| byte == b'\n').filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    };
    let length = fields().find(|(name, _)| name.eq_ignore_ascii_case(b"content-length"));
    let Some((_, length)) = length else {
        // Chunked.
        return Ok(if body.ends_with(b"\r\n0\r\n\r\n") {
            Read::Whole
        } else {
            Read::Head { body: body.len() }
        });
    };
    let length: Option<usize> = std::str::from_utf8(length)
        .ok()
        .and_then(|text| text.parse().ok());
    let length = length.ok_or("content-length is not a number")?;
    match body.len().cmp(&length) {
        std::cmp::Ordering::Less => Ok(Read::Head { body: body.len() }),
        std::cmp::Ordering::Equal => Ok(Read::Whole),
        std::cmp::Ordering::Greater => Err("an answer is longer than its content-length".to_owned()),
    }
}

/// Whether a stream of Chat Completions has a delta with text in it. The first chunk tells the role alone, with an
/// empty text; some send it long before the first token.
pub(super) fn holds_token(stream: &[u8]) -> bool {
    const FIELD: &[u8] = b"\"content\":";
    memmem::find_iter(stream, FIELD).any(|at| {
        let value = stream[at + FIELD.len()..].trim_ascii_start();
        matches!(value, [b'"', first, ..] if *first != b'"')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_text_not_a_role() {
        let check = |stream: &str, expected: bool| {
            assert_eq!(holds_token(stream.as_bytes()), expected, "{stream}");
        };
        let role = r#"data: {"choices":[{"delta":{"role":"assistant","content":""}}]}"#;
        check(role, false);
        check(&format!("{role}\n\ndata: {{\"delta\":{{\"content\":"), false);
        check(&format!("{role}\n\ndata: {{\"delta\":{{\"content\":\""), false);
        check(&format!("{role}\n\ndata: {{\"delta\":{{\"content\":\"A"), true);
        check(r#"{"delta":{"content": "A"}}"#, true);
        check(r#"{"delta":{"content":null}}"#, false);
    }

    #[test]
    fn answers_end_where_they_say() {
        let check = |text: &str, expected: Result<Read, &str>| match (whole(text.as_bytes()), expected) {
            (Err(found), Err(words)) => assert!(found.contains(words), "{found}"),
            (found, expected) => assert_eq!(found, expected.map_err(str::to_owned), "{text}"),
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
        check("HTTP/1.1 200 OK\r\n", Ok(Read::Part));
        check(head, Ok(Read::Head { body: 0 }));
        check(&format!("{head}abc"), Ok(Read::Head { body: 3 }));
        check(&format!("{head}abcd"), Ok(Read::Whole));
        check(&format!("{head}abcde"), Err("longer"));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
        check(chunked, Ok(Read::Head { body: 8 }));
        check(&format!("{chunked}0\r\n\r\n"), Ok(Read::Whole));
        check("HTTP/1.1 429 Slow\r\n\r\nlater", Err("later"));
    }
}
