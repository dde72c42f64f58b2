//! Log-ins in HTTP messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::lines;
use crate::layer7::insight::text;

/// Somebody says who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) user: Option<Box<str>>,
    /// The password or token itself is in it, not a proof of knowing it.
    pub(super) is_clear: bool,
    /// The status of the response tells whether it was right.
    pub(super) has_result: bool,
}

/// Of the value of an `Authorization` field (RFC 7235).
pub(super) fn authorization(value: &[u8]) -> Option<Credential> {
    let (scheme, rest) = lines::word(value.trim_ascii());
    if rest.is_empty() {
        return None;
    }
    let is = |name: &str| scheme.eq_ignore_ascii_case(name.as_bytes());
    let user = if is("basic") {
        STANDARD.decode(rest.trim_ascii()).ok().and_then(|pair| {
            let end = pair.iter().position(|&b| b == b':')?;
            (end > 0).then(|| text(&pair[..end]))
        })
    } else if is("digest") {
        parameter(rest, b"username").map(text)
    } else {
        None
    };
    Some(Credential {
        user,
        is_clear: !(is("digest") || is("ntlm") || is("negotiate") || is("hawk") || is("aws4-hmac-sha256")),
        // The first messages of a handshake are refused by design.
        has_result: !(is("ntlm") || is("negotiate")),
    })
}

/// The value of `name="value"` among parameters with commas between.
fn parameter<'a>(parameters: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    parameters.split(|&b| b == b',').find_map(|parameter| {
        let at = parameter.iter().position(|&b| b == b'=')?;
        let value = parameter[at + 1..].trim_ascii();
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        let value = value.strip_suffix(b"\"").unwrap_or(value);
        parameter[..at]
            .trim_ascii()
            .eq_ignore_ascii_case(name)
            .then_some(value)
    })
}

/// Of a form, or the query of a URL: a field for a password that is not empty.
pub(super) fn form(form: &[u8]) -> Option<Credential> {
    let mut credential = Credential::default();
    for field in form.split(|&b| b == b'&').take(FIELDS_MAX) {
        let Some(at) = field.iter().position(|&b| b == b'=') else {
            continue;
        };
        let (name, value) = (&field[..at], &field[at + 1..]);
        if !value.is_empty() {
            credential.field(name, &unescaped(value));
        }
    }
    credential.is_clear.then_some(credential)
}

/// Of a JSON object: the same.
pub(super) fn json(body: &[u8]) -> Option<Credential> {
    let serde_json::Value::Object(object) = serde_json::from_slice(body).ok()? else {
        return None;
    };
    let mut credential = Credential::default();
    for (name, value) in object.iter().take(FIELDS_MAX) {
        if let Some(value) = value.as_str()
            && !value.is_empty()
        {
            credential.field(name.as_bytes(), value.as_bytes());
        }
    }
    credential.is_clear.then_some(credential)
}

const FIELDS_MAX: usize = 64;

impl Credential {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        // `user[password]`, `ctl00$Login$UserName`
        let last = name
            .rsplit(|b| b"[$.:%".contains(b))
            .find(|part| part.iter().any(u8::is_ascii_alphabetic))
            .unwrap_or(name);
        let last = last.strip_suffix(b"]").unwrap_or(last).to_ascii_lowercase();
        let ends = |with: &str| last.ends_with(with.as_bytes());
        if [
            "password",
            "passwd",
            "passwort",
            "passphrase",
            "pwd",
            "pass",
            "passwrd",
        ]
        .iter()
        .any(|name| ends(name))
        {
            self.is_clear = true;
        } else if self.user.is_none()
            && [
                "user",
                "username",
                "user_name",
                "userid",
                "user_id",
                "login",
                "email",
                "uname",
                "log",
            ]
            .iter()
            .any(|name| last == name.as_bytes() || (name.len() > 3 && ends(name)))
        {
            self.user = Some(text(value));
        }
    }
}

/// A value of a form with `+` and `%41` undone.
fn unescaped(value: &[u8]) -> Vec<u8> {
    let digit = |at: usize| value.get(at).and_then(|&b| (b as char).to_digit(16));
    let mut out = Vec::with_capacity(value.len());
    let mut at = 0;
    while at < value.len() {
        match (value[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', ..) => {
                out.push(b' ');
                at += 1;
            }
            (b, ..) => {
                out.push(b);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(got: Option<Credential>, user: Option<&str>, is_clear: Option<bool>) {
        assert_eq!(got.as_ref().and_then(|got| got.user.as_deref()), user);
        assert_eq!(got.map(|got| got.is_clear), is_clear);
    }

    #[test]
    fn of_headers() {
        check(
            authorization(b"Basic YWxpY2U6c2VjcmV0"),
            Some("alice"),
            Some(true),
        );
        check(authorization(b"Bearer abc"), None, Some(true));
        check(
            authorization(b"Digest username=\"bob\", realm=\"x\""),
            Some("bob"),
            Some(false),
        );
        check(authorization(b"NTLM TlRMTVNTUAAB"), None, Some(false));
        check(authorization(b"Basic"), None, None);
    }

    #[test]
    fn of_forms() {
        check(form(b"username=al%69ce&password=x+y"), Some("alice"), Some(true));
        check(
            form(b"log=admin&pwd=1&wp-submit=Log+In"),
            Some("admin"),
            Some(true),
        );
        check(
            form(b"user[email]=a%40b.c&user[password]=p"),
            Some("a@b.c"),
            Some(true),
        );
        check(form(b"username=alice&password="), None, None);
        check(form(b"q=password"), None, None);
        check(
            json(b"{\"email\":\"a@b.c\",\"password\":\"p\"}"),
            Some("a@b.c"),
            Some(true),
        );
        check(json(b"{\"compass\":1}"), None, None);
        check(json(b"[1"), None, None);
    }
}
