//! Guardrails over the parts of a multipart body (RFC 2046, RFC 7578): fields and files that are text or JSON.
//! Other files pass as they are. What two readers could take apart differently cannot be looked at.

use policy::gateway::document::GuardOn;
use serde_json::Value;

use super::{Kind, Stop, json, kind_named, text_body};
use crate::guards::Guards;

/// Parts of a body; more cannot be looked at.
const PARTS_MAX: usize = 1_000;
/// The longest boundary (RFC 2046).
const BOUNDARY_MAX_BYTES: usize = 70;

const INVALID: Stop = Stop::Unreadable("it is not valid multipart");

/// A part: its head with the empty line, and its content.
struct Part<'a> {
    head: &'a [u8],
    content: &'a [u8],
}

/// Looks at every part. `None`: the body goes on as it is.
pub(super) fn look(
    guards: &Guards,
    content_type: &[u8],
    body: &[u8],
    on: GuardOn,
) -> Result<Option<Vec<u8>>, Stop> {
    let content_type = std::str::from_utf8(content_type).map_err(|_| INVALID)?;
    let boundary = parameter(content_type, "boundary").ok_or(INVALID)?;
    if boundary.is_empty() || boundary.len() > BOUNDARY_MAX_BYTES {
        return Err(INVALID);
    }
    let parts = split(body, &boundary).ok_or(INVALID)?;
    let mut is_changed = false;
    let mut out = Vec::with_capacity(body.len());
    for part in &parts {
        out.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        match look_at(guards, part, on)? {
            Some(content) => {
                is_changed = true;
                for line in lines(part.head).filter(|line| !is_header(line, "content-length")) {
                    out.extend_from_slice(line);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(&content);
            }
            None => {
                out.extend_from_slice(part.head);
                out.extend_from_slice(part.content);
            }
        }
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Ok(is_changed.then_some(out))
}

fn look_at(guards: &Guards, part: &Part<'_>, on: GuardOn) -> Result<Option<Vec<u8>>, Stop> {
    let head = std::str::from_utf8(part.head).map_err(|_| INVALID)?;
    let header = |name: &str| {
        let mut found = head.split("\r\n").filter_map(|line| line.split_once(':'));
        found.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim()))
    };
    let kind = header("content-type").map_or(Kind::Unknown, kind_named);
    if kind == Kind::Other {
        return Ok(None);
    }
    let encoding = header("content-transfer-encoding").unwrap_or("binary");
    let is_plain = ["binary", "7bit", "8bit"]
        .iter()
        .any(|plain| encoding.eq_ignore_ascii_case(plain));
    if kind == Kind::Multipart || kind == Kind::Charset || !is_plain {
        return Err(Stop::Unreadable("a part of it is not plain UTF-8"));
    }
    let disposition = header("content-disposition").unwrap_or_default();
    let is_file = parameter(disposition, "filename").is_some() || disposition.contains("filename*");
    let name = parameter(disposition, "name");
    // A field is looked at as a document of one field, so that rules by name hold.
    if let (Some(name), false, Kind::Unknown | Kind::Text) = (name, is_file, kind)
        && let Ok(text) = std::str::from_utf8(part.content)
        && !text.trim_start().starts_with(['{', '['])
    {
        let mut field = Value::Object([(name.clone(), Value::from(text))].into_iter().collect());
        guards.document(&mut field, on)?;
        let looked = field.get(&name).and_then(Value::as_str);
        // Its name is in the head, which stays: if that must change it cannot pass.
        let looked = looked.ok_or(Stop::Unreadable(
            "a field of it has a name that guardrails change",
        ))?;
        return Ok((looked != text).then(|| looked.as_bytes().to_vec()));
    }
    let changed = match kind {
        Kind::Json => json(
            guards,
            std::str::from_utf8(part.content).map_err(|_| INVALID)?,
            on,
        )?,
        kind => text_body(guards, kind, part.content, on)?,
    };
    Ok(changed.map(String::into_bytes))
}

/// Takes a body apart: delimiters at the beginnings of lines, nothing before the first or after the last.
fn split<'a>(body: &'a [u8], boundary: &str) -> Option<Vec<Part<'a>>> {
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(&delimiter.as_bytes()[2..])?;
    let mut parts = Vec::new();
    loop {
        if let Some(end) = rest.strip_prefix(b"--") {
            return (end.is_empty() || end == b"\r\n").then_some(parts);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        if parts.len() == PARTS_MAX {
            return None;
        }
        // A part without headers begins with the empty line.
        let head_bytes = if rest.starts_with(b"\r\n") {
            2
        } else {
            memchr::memmem::find(rest, b"\r\n\r\n")? + 4
        };
        let (head, after) = rest.split_at(head_bytes);
        let is_strict = !head.contains(&0)
            && lines(head).all(|line| !line.starts_with(b" ") && !line.starts_with(b"\t"))
            && memchr::memmem::find(head, &delimiter.as_bytes()[2..]).is_none();
        let content_bytes = memchr::memmem::find(after, delimiter.as_bytes())?;
        if !is_strict || after.starts_with(&delimiter.as_bytes()[2..]) {
            return None;
        }
        parts.push(Part {
            head,
            content: &after[..content_bytes],
        });
        rest = &after[content_bytes + delimiter.len()..];
    }
}

/// The headers of a head, without the empty line.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    std::iter::from_fn(move || {
        let end = memchr::memmem::find(rest, b"\r\n")?;
        let line = &rest[..end];
        rest = &rest[end + 2..];
        Some(line)
    })
    .filter(|line| !line.is_empty())
}

fn is_header(line: &[u8], name: &str) -> bool {
    let colon = line.iter().position(|&byte| byte == b':');
    colon.is_some_and(|colon| line[..colon].eq_ignore_ascii_case(name.as_bytes()))
}

/// A parameter of a header, quoted or not.
fn parameter(header: &str, name: &str) -> Option<String> {
    let mut rest = header;
    while let Some(at) = rest.find(';') {
        rest = rest[at + 1..].trim_start();
        let (key, value) = rest.split_once('=')?;
        let is_it = key.trim().eq_ignore_ascii_case(name);
        if let Some(quoted) = value.strip_prefix('"') {
            let mut text = String::new();
            let mut letters = quoted.char_indices();
            let end = loop {
                match letters.next()? {
                    (at, '"') => break at,
                    (_, '\\') => text.push(letters.next()?.1),
                    (_, letter) => text.push(letter),
                }
            };
            if is_it {
                return Some(text);
            }
            rest = &quoted[end + 1..];
        } else {
            let end = value.find(';').unwrap_or(value.len());
            if is_it {
                return Some(value[..end].trim().to_owned());
            }
            rest = &value[end..];
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_headers() {
        let check = |header: &str, name: &str, expected: Option<&str>| {
            assert_eq!(parameter(header, name).as_deref(), expected, "{header}");
        };
        check("multipart/form-data; boundary=aBc", "boundary", Some("aBc"));
        check(
            "multipart/form-data; charset=x ; Boundary=\"a;b\"",
            "boundary",
            Some("a;b"),
        );
        check("form-data; name=\"a\\\"b\"; filename=\"x\"", "name", Some("a\"b"));
        check("form-data; filename=\"; name=y\"; name=z", "name", Some("z"));
        check("form-data; name=\"open", "name", None);
        check("form-data", "name", None);
    }

    #[test]
    fn bodies_are_taken_apart_in_one_way() {
        let check = |body: &str, expected: Option<&[&str]>| {
            let parts = split(body.as_bytes(), "b");
            let contents = parts.map(|parts| {
                let contents = parts
                    .iter()
                    .map(|part| String::from_utf8_lossy(part.content).into_owned());
                contents.collect::<Vec<_>>()
            });
            let expected = expected.map(|all| all.iter().map(|&one| one.to_owned()).collect());
            assert_eq!(contents, expected, "{body:?}");
        };
        check(
            "--b\r\nA: x\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n",
            Some(&["one", "two"]),
        );
        check("--b--", Some(&[]));
        check("--b\r\n\r\n\r\n--b--", Some(&[""]));
        check("before\r\n--b\r\n\r\nx\r\n--b--", None);
        check("--b\r\n\r\nx\r\n--b--after", None);
        check("--b\r\n\r\nx", None);
        check("--b\n\nx\n--b--", None);
        check("--b\r\nA: x\r\n folded\r\n\r\nx\r\n--b--", None);
        // To some a part ends here, to others it does not.
        check("--b\r\nA: x\r\n\r\n--b\r\n\r\nx\r\n--b--", None);
        check("--b \r\n\r\nx\r\n--b--", None);
        check("", None);
    }
}
