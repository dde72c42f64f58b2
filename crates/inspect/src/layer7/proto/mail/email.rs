//! Mails as they go over the wire (RFC 5322, MIME of RFC 2045 to 2049), line by line.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::super::lines;
use crate::layer7::insight::text_within;
use crate::layer7::record::Email;

/// Longest field, with what continues it.
const FIELD_MAX: usize = 16 * 1024;
/// Longest name of a file.
const NAME_MAX: usize = 255;
const URL_MAX: usize = 2048;
/// Most of anything a mail has several of.
const LIST_MAX: usize = 64;
/// Parts in parts.
const DEPTH_MAX: usize = 8;
const TEXT_MAX: usize = 4096;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A mail that is read.
#[derive(Debug, Default)]
pub(super) struct Mail {
    email: Email,
    /// Of the parts that the current one is in, the outermost first.
    boundaries: Vec<Vec<u8>>,
    is_in_body: bool,
    is_broken: bool,
    /// The part is not the mail itself.
    is_inner: bool,
    field: Vec<u8>,
    part: Part,
    /// Of a text: what may be part of a link that goes on.
    text: Vec<u8>,
}

#[derive(Debug, Default)]
struct Part {
    name: Option<String>,
    encoding: Encoding,
    is_other: bool,
    is_message: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Encoding {
    #[default]
    Plain,
    Base64,
    QuotedPrintable,
}

impl Mail {
    /// The next line, without its end.
    pub(super) fn line(&mut self, line: &[u8]) {
        if self.at_boundary(line) {
            return;
        }
        if self.is_in_body {
            self.body(line);
        } else if line.is_empty() {
            self.end_field();
            self.is_in_body = !self.part.is_message;
            self.is_inner |= self.part.is_message;
            self.part.is_message = false;
            if let Some(name) = self.part.name.take() {
                push(&mut self.email.attachment, name);
            }
        } else if line.starts_with(b" ") || line.starts_with(b"\t") {
            if self.field.len() + line.len() <= FIELD_MAX {
                self.field.push(b' ');
                self.field.extend_from_slice(line.trim_ascii());
            }
        } else {
            self.end_field();
            self.field.extend_from_slice(&line[..line.len().min(FIELD_MAX)]);
        }
    }

    /// What was read; `is_whole` if that is all of it.
    pub(super) fn end(mut self, is_whole: bool) -> Email {
        self.end_field();
        self.end_text();
        self.email.status = if self.is_broken {
            "PARSE_ERROR"
        } else if is_whole {
            "PARSE_DONE"
        } else if self.is_in_body {
            "BODY_STARTED"
        } else {
            "HEADER_STARTED"
        };
        self.email
    }

    fn at_boundary(&mut self, line: &[u8]) -> bool {
        let Some(after) = line.strip_prefix(b"--") else {
            return false;
        };
        let found = self
            .boundaries
            .iter()
            .enumerate()
            .rev()
            .find_map(|(at, boundary)| Some((at, after.strip_prefix(&boundary[..])?)));
        let Some((at, rest)) = found else {
            return false;
        };
        let is_end = rest.starts_with(b"--");
        if !is_end && !rest.trim_ascii().is_empty() {
            return false;
        }
        self.end_field();
        self.end_text();
        self.boundaries.truncate(if is_end { at } else { at + 1 });
        self.is_inner = true;
        self.is_in_body = is_end;
        self.part = Part {
            // What is between the parts is for nobody.
            is_other: is_end,
            ..Part::default()
        };
        true
    }

    fn end_field(&mut self) {
        let field = std::mem::take(&mut self.field);
        let Some(colon) = memchr::memchr(b':', &field) else {
            return;
        };
        let name = field[..colon].trim_ascii().to_ascii_lowercase();
        let value = field[colon + 1..].trim_ascii();
        match &name[..] {
            b"content-type" => self.content_type(value),
            b"content-disposition" => {
                if let Some(name) = file_name(value, b"filename") {
                    self.part.name = Some(name);
                }
            }
            b"content-transfer-encoding" => {
                self.part.encoding = if value.eq_ignore_ascii_case(b"base64") {
                    Encoding::Base64
                } else if value.eq_ignore_ascii_case(b"quoted-printable") {
                    Encoding::QuotedPrintable
                } else {
                    Encoding::Plain
                };
            }
            _ if !self.is_inner => self.outer_field(&name, value),
            _ => {}
        }
    }

    fn outer_field(&mut self, name: &[u8], value: &[u8]) {
        let email = &mut self.email;
        let text = || Some(text_within(value, FIELD_MAX));
        match name {
            b"from" => email.from = text(),
            b"subject" => email.subject = text(),
            b"message-id" => email.message_id = text(),
            b"date" => email.date = text(),
            b"x-mailer" => email.x_mailer = text(),
            b"to" => addresses(value, &mut email.to),
            b"cc" => addresses(value, &mut email.cc),
            b"received" => push(&mut email.received, text_within(value, FIELD_MAX)),
            _ => {}
        }
    }

    fn content_type(&mut self, value: &[u8]) {
        let begins = |with: &str| lines::begins(value, with.as_bytes()) == Some(true);
        if begins("multipart/") {
            match parameter(value, b"boundary") {
                Some(Ok(boundary)) if !boundary.is_empty() && self.boundaries.len() < DEPTH_MAX => {
                    self.boundaries.push(boundary.to_vec());
                }
                Some(Err(())) => self.is_broken = true,
                _ => {}
            }
        }
        self.part.is_message = begins("message/rfc822");
        self.part.is_other = !begins("text/");
        if self.part.name.is_none() {
            self.part.name = file_name(value, b"name");
        }
    }

    fn body(&mut self, line: &[u8]) {
        if self.part.is_other {
            return;
        }
        match self.part.encoding {
            Encoding::Plain => {
                self.text.extend_from_slice(line);
                self.text.push(b'\n');
            }
            Encoding::Base64 => {
                let line = line.trim_ascii();
                let whole = line.len() - line.len() % 4;
                if let Ok(text) = BASE64.decode(&line[..whole]) {
                    self.text.extend_from_slice(&text);
                }
            }
            Encoding::QuotedPrintable => unquote(line, &mut self.text),
        }
        // Up to the last blank all links are whole.
        let whole = match self.text.iter().rposition(u8::is_ascii_whitespace) {
            Some(blank) => blank + 1,
            None if self.text.len() > TEXT_MAX => self.text.len(),
            None => 0,
        };
        links(&self.text[..whole], &mut self.email.url);
        self.text.drain(..whole);
    }

    fn end_text(&mut self) {
        let text = std::mem::take(&mut self.text);
        links(&text, &mut self.email.url);
    }
}

fn push(list: &mut Vec<String>, one: String) {
    if list.len() < LIST_MAX {
        list.push(one);
    }
}

/// Addresses with commas between, as they stand.
fn addresses(value: &[u8], list: &mut Vec<String>) {
    let (mut is_quoted, mut from) = (false, 0);
    for (at, &b) in value.iter().enumerate().chain([(value.len(), &b',')]) {
        match b {
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted || at == value.len() => {
                let one = value[from..at].trim_ascii();
                if !one.is_empty() {
                    push(list, text_within(one, 1024));
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// A parameter of a field; `Err` if its quotes do not end.
fn parameter<'a>(value: &'a [u8], name: &[u8]) -> Option<Result<&'a [u8], ()>> {
    let mut rest = value;
    loop {
        let at = memchr::memchr(b';', rest)?;
        rest = rest[at + 1..].trim_ascii_start();
        let Some(equals) = memchr::memchr(b'=', rest) else {
            continue;
        };
        if !rest[..equals].trim_ascii().eq_ignore_ascii_case(name) {
            continue;
        }
        let value = rest[equals + 1..].trim_ascii_start();
        return Some(match value.strip_prefix(b"\"") {
            Some(quoted) => memchr::memchr(b'"', quoted).map(|end| &quoted[..end]).ok_or(()),
            None => {
                let end = value.iter().position(|b| b"; \t".contains(b));
                Ok(&value[..end.unwrap_or(value.len())])
            }
        });
    }
}

/// The name of a file: plain, or coded as RFC 2231 has it, in one piece or several.
fn file_name(value: &[u8], name: &[u8]) -> Option<String> {
    if let Some(Ok(plain)) = parameter(value, name) {
        return (!plain.is_empty()).then(|| cut(plain));
    }
    let mut whole = Vec::new();
    let with = |end: &str| [name, end.as_bytes()].concat();
    if let Some(Ok(coded)) = parameter(value, &with("*")) {
        let text = coded.splitn(3, |&b| b == b'\'').last().unwrap_or_default();
        unescape(text, &mut whole);
    } else {
        for at in 0..LIST_MAX {
            match (
                parameter(value, &with(&format!("*{at}"))),
                parameter(value, &with(&format!("*{at}*"))),
            ) {
                (Some(Ok(plain)), _) => whole.extend_from_slice(plain),
                (_, Some(Ok(coded))) if at == 0 => {
                    unescape(
                        coded.splitn(3, |&b| b == b'\'').last().unwrap_or_default(),
                        &mut whole,
                    );
                }
                (_, Some(Ok(coded))) => unescape(coded, &mut whole),
                _ => break,
            }
        }
    }
    (!whole.is_empty()).then(|| cut(&whole))
}

fn cut(name: &[u8]) -> String {
    text_within(&name[..name.len().min(NAME_MAX)], NAME_MAX)
}

fn hex(at: usize, text: &[u8]) -> Option<u8> {
    let digit = |at: usize| text.get(at).and_then(|&b| (b as char).to_digit(16));
    Some((digit(at)? * 16 + digit(at + 1)?) as u8)
}

/// `%41` undone.
fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < text.len() {
        match hex(at + 1, text) {
            Some(byte) if text[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
}

/// A line of quoted-printable.
fn unquote(line: &[u8], out: &mut Vec<u8>) {
    let line = line.trim_ascii_end();
    let (text, is_soft) = match line.strip_suffix(b"=") {
        Some(text) => (text, true),
        None => (line, false),
    };
    let mut at = 0;
    while at < text.len() {
        match hex(at + 1, text) {
            Some(byte) if text[at] == b'=' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    if !is_soft {
        out.push(b'\n');
    }
}

/// Links in a text.
fn links(text: &[u8], urls: &mut Vec<String>) {
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, b"://") {
        let scheme = &rest[..at];
        let is_link = [&b"http"[..], b"https", b"ftp"].iter().any(|name| {
            scheme.len() >= name.len() && scheme[scheme.len() - name.len()..].eq_ignore_ascii_case(name)
        });
        rest = &rest[at + 3..];
        let is_end = |b: &u8| *b <= b' ' || *b >= 0x7f || b"\"'<>()[]{}|\\^`".contains(b);
        let end = rest.iter().position(is_end).unwrap_or(rest.len());
        if is_link && end > 0 {
            push(urls, text_within(&rest[..end.min(URL_MAX)], URL_MAX));
        }
        rest = &rest[end..];
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(mail: &str, expected: &Value) {
        let mut parsed = Mail::default();
        for line in mail.lines() {
            parsed.line(line.as_bytes());
        }
        assert_eq!(&serde_json::to_value(parsed.end(true)).expect("JSON"), expected);
    }

    #[test]
    fn fields_of_the_mail_itself() {
        check(
            "Received: from a\n\tby b\nReceived: from c\nFrom: \"A, B\" <a@x>\nTo: \"C, D\" <c@x>,\n e@x\nCc: f@x\n\
             Date: today\nMessage-ID: <1@x>\nX-Mailer: m\nSubject: Hi\n\nsee HTTPS://x.y/z?a=b. ok\n",
            &json!({
                "status": "PARSE_DONE", "from": "\"A, B\" <a@x>", "to": ["\"C, D\" <c@x>", "e@x"], "cc": ["f@x"],
                "subject": "Hi", "message_id": "<1@x>", "date": "today", "x_mailer": "m",
                "received": ["from a by b", "from c"], "url": ["x.y/z?a=b."],
            }),
        );
    }

    #[test]
    fn files_and_links_of_its_parts() {
        check(
            "Subject: s\nContent-Type: multipart/mixed; boundary=\"B\"\n\nno http://preamble\n--B\n\
             Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\nSubject: inner\n\n\
             go to http://a.b/=\nc=3Dd now\n--B\nContent-Type: multipart/alternative; boundary=I\n\n--I\n\
             Content-Type: text/html\nContent-Transfer-Encoding: base64\n\nPGEgaHJlZj0iaHR0\ncDovL2UuZi9nIj4=\n\
             --I--\n--B\nContent-Type: application/zip; name=n.zip\n\nhttp://not.text/\n--B\n\
             Content-Disposition: attachment; filename*0*=utf-8''a%20; filename*1=\"b.exe\"\n\nx\n--B--\n",
            &json!({
                "status": "PARSE_DONE", "subject": "s", "attachment": ["n.zip", "a b.exe"],
                "url": ["a.b/c=d", "e.f/g"],
            }),
        );
    }

    #[test]
    fn a_boundary_without_an_end() {
        check(
            "Content-Type: multipart/mixed; boundary=\"AAA\n\nx\n",
            &json!({"status": "PARSE_ERROR"}),
        );
    }
}
