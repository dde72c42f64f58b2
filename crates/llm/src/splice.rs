//! Changes named fields in the bytes of a JSON document (RFC 8259) and leaves all others as they are.
//!
//! A request that leaves in the format it came in is not parsed and printed again: that would change
//! numbers, escapes, order and white space. Instead the place of a field is found in the bytes.

use std::ops::Range;

/// How deep arrays and objects may nest; the limit of serde_json.
pub const DEPTH_MAX: usize = 127;

/// Why a document cannot be spliced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    /// The bytes are not JSON.
    #[error("not JSON at byte {at_byte}: expected {expected}")]
    Syntax {
        /// Offset into the document.
        at_byte: usize,
        /// What should have been there.
        expected: &'static str,
    },
    /// A field that has to hold the field named is neither an object nor null.
    #[error("`{field}` is not an object")]
    NotAnObject {
        /// The outer field; empty for the document itself.
        field: String,
    },
}

/// The places of the value of the field that `path` names, in the order of the document: several where
/// a key is repeated, none where it is absent. A path names keys of nested objects, outermost first.
///
/// # Errors
/// [`SpliceError::Syntax`] if the document, read as a whole, is not JSON.
pub fn find(json: &[u8], path: &[&str]) -> Result<Vec<Range<usize>>, SpliceError> {
    let mut scanner = Scanner::new(json)?;
    let mut found = Vec::new();
    scanner.document(path, &mut found)?;
    Ok(found
        .into_iter()
        .filter(|place| place.depth == path.len())
        .map(|place| place.value)
        .collect())
}

/// Replaces the value of the field that `path` names by `value`, which must be JSON, and adds the field
/// at the end of its object where it is absent. A repeated key is replaced everywhere, since readers
/// differ in which they believe. An outer field that is absent or null becomes an object.
///
/// # Errors
/// [`SpliceError::Syntax`] if the document is not JSON; [`SpliceError::NotAnObject`] if there is no
/// object to add the field to.
pub fn set(json: &[u8], path: &[&str], value: &str) -> Result<Vec<u8>, SpliceError> {
    let mut scanner = Scanner::new(json)?;
    let mut found = Vec::new();
    scanner.document(path, &mut found)?;
    let mut out = Vec::with_capacity(json.len() + value.len() + 32);
    let mut copied = 0;
    // A value that holds none deeper is where the path ends or breaks off; such values do not overlap.
    for place in found.iter().filter(|place| place.last) {
        let missing = &path[place.depth..];
        let (at, text) = match place.kind {
            _ if missing.is_empty() => (place.value.clone(), value.to_owned()),
            Kind::Object { empty } => {
                let end = place.value.end - 1;
                let comma = if empty { "" } else { "," };
                (end..end, format!("{comma}{}", member(missing, value)))
            }
            Kind::Null if place.depth > 0 => (place.value.clone(), format!("{{{}}}", member(missing, value))),
            Kind::Null | Kind::Other => {
                return Err(SpliceError::NotAnObject {
                    field: path[..place.depth].join("."),
                });
            }
        };
        out.extend_from_slice(&json[copied..at.start]);
        out.extend_from_slice(text.as_bytes());
        copied = at.end;
    }
    out.extend_from_slice(&json[copied..]);
    Ok(out)
}

/// `"a":{"b":value}` for the path a, b.
fn member(path: &[&str], value: &str) -> String {
    let mut text = value.to_owned();
    for (idx, key) in path.iter().enumerate().rev() {
        let quoted = serde_json::Value::from(*key);
        text = if idx == 0 {
            format!("{quoted}:{text}")
        } else {
            format!("{{{quoted}:{text}}}")
        };
    }
    text
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Object { empty: bool },
    Null,
    Other,
}

/// A value on the path.
#[derive(Debug)]
struct Place {
    /// How many keys of the path lead here.
    depth: usize,
    value: Range<usize>,
    kind: Kind,
    /// No value deeper on the path lies in this one.
    last: bool,
}

/// Reads a document once, checking it, and notes the values on one path.
struct Scanner<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(json: &'a [u8]) -> Result<Self, SpliceError> {
        match std::str::from_utf8(json) {
            Ok(_) => Ok(Self { json, at: 0 }),
            Err(error) => Err(SpliceError::Syntax {
                at_byte: error.valid_up_to(),
                expected: "UTF-8",
            }),
        }
    }

    fn document(&mut self, path: &[&str], found: &mut Vec<Place>) -> Result<(), SpliceError> {
        self.value(Some((path, 0)), 0, found)?;
        self.space();
        if self.at == self.json.len() {
            Ok(())
        } else {
            Err(self.wrong("the end"))
        }
    }

    /// Reads a value. `path` is what is left of the path, and how much of it was followed, if this
    /// value is on it.
    fn value(
        &mut self,
        path: Option<(&[&str], usize)>,
        nesting: usize,
        found: &mut Vec<Place>,
    ) -> Result<(), SpliceError> {
        self.space();
        let start = self.at;
        let n_found = found.len();
        let kind = match self.peek() {
            Some(b'{') => Kind::Object {
                empty: self.object(path, nesting, found)?,
            },
            Some(b'[') => self.array(nesting, found).map(|()| Kind::Other)?,
            Some(b'"') => self.string().map(|_| Kind::Other)?,
            Some(b't') => self.word("true").map(|()| Kind::Other)?,
            Some(b'f') => self.word("false").map(|()| Kind::Other)?,
            Some(b'n') => self.word("null").map(|()| Kind::Null)?,
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| Kind::Other)?,
            _ => return Err(self.wrong("a value")),
        };
        if let Some((_, depth)) = path {
            let last = found.len() == n_found;
            found.push(Place {
                depth,
                value: start..self.at,
                kind,
                last,
            });
        }
        Ok(())
    }

    /// Reads an object and says whether it is empty.
    fn object(
        &mut self,
        path: Option<(&[&str], usize)>,
        nesting: usize,
        found: &mut Vec<Place>,
    ) -> Result<bool, SpliceError> {
        self.enter(nesting)?;
        if self.skip(b'}') {
            return Ok(true);
        }
        loop {
            self.space();
            let key = self.string()?;
            let inner = path.and_then(|(keys, depth)| {
                let (wanted, rest) = keys.split_first()?;
                self.key_is(key, wanted).then_some((rest, depth + 1))
            });
            if !self.skip(b':') {
                return Err(self.wrong("`:`"));
            }
            self.value(inner, nesting + 1, found)?;
            if self.skip(b'}') {
                return Ok(false);
            }
            if !self.skip(b',') {
                return Err(self.wrong("`,` or `}`"));
            }
        }
    }

    fn array(&mut self, nesting: usize, found: &mut Vec<Place>) -> Result<(), SpliceError> {
        self.enter(nesting)?;
        if self.skip(b']') {
            return Ok(());
        }
        loop {
            self.value(None, nesting + 1, found)?;
            if self.skip(b']') {
                return Ok(());
            }
            if !self.skip(b',') {
                return Err(self.wrong("`,` or `]`"));
            }
        }
    }

    fn enter(&mut self, nesting: usize) -> Result<(), SpliceError> {
        if nesting >= DEPTH_MAX {
            return Err(self.wrong("fewer levels of nesting"));
        }
        self.at += 1;
        Ok(())
    }

    /// Reads a string and gives its bytes between the quotes, and whether they hold escapes.
    fn string(&mut self) -> Result<(&'a [u8], bool), SpliceError> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("a string"));
        }
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                        Some(b'u') => {
                            self.at += 1;
                            for _ in 0..4 {
                                if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                                    return Err(self.wrong("a hexadecimal digit"));
                                }
                                self.at += 1;
                            }
                        }
                        _ => return Err(self.wrong("an escape")),
                    }
                }
                Some(0x20..) => self.at += 1,
                _ => return Err(self.wrong("the end of a string")),
            }
        }
        self.at += 1;
        Ok((&self.json[start..self.at - 1], escaped))
    }

    fn key_is(&self, (raw, escaped): (&[u8], bool), wanted: &str) -> bool {
        if !escaped {
            return raw == wanted.as_bytes();
        }
        let quoted = [b"\"", raw, b"\""].concat();
        serde_json::from_slice::<String>(&quoted).is_ok_and(|key| key == wanted)
    }

    fn number(&mut self) -> Result<(), SpliceError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), SpliceError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.wrong("a digit"))
        } else {
            Ok(())
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), SpliceError> {
        if !self.json[self.at..].starts_with(word.as_bytes()) {
            return Err(self.wrong(word));
        }
        self.at += word.len();
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Skips white space and this byte, if it is next.
    fn skip(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn wrong(&self, expected: &'static str) -> SpliceError {
        SpliceError::Syntax {
            at_byte: self.at,
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn check(json: &str, path: &str, expected: &str) {
        let path: Vec<&str> = path.split('.').collect();
        let shown = match set(json.as_bytes(), &path, "9") {
            Ok(bytes) => String::from_utf8(bytes).unwrap(),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn replaces() {
        check(
            r#" { "a" : 1e2 , "model" :"x" }"#,
            "model",
            r#" { "a" : 1e2 , "model" :9 }"#,
        );
        check(
            r#"{"m\u006fdel":"x","model\n":1}"#,
            "model",
            r#"{"m\u006fdel":9,"model\n":1}"#,
        );
        check(
            r#"{"model":"a","model":{"model":1}}"#,
            "model",
            r#"{"model":9,"model":9}"#,
        );
        check(
            r#"{"x":{"model":"a"},"model":[]}"#,
            "model",
            r#"{"x":{"model":"a"},"model":9}"#,
        );
        check(
            "{\"é\":\"\\\"}\",\"model\":\"世界\"}",
            "model",
            "{\"é\":\"\\\"}\",\"model\":9}",
        );
    }

    #[test]
    fn adds() {
        check("{}", "model", r#"{"model":9}"#);
        check("{ \"a\":1 }\n", "model", "{ \"a\":1 ,\"model\":9}\n");
        check("{}", "a.b", r#"{"a":{"b":9}}"#);
        check(r#"{"a":null}"#, "a.b", r#"{"a":{"b":9}}"#);
        check(r#"{"a":{"c":1}}"#, "a.b", r#"{"a":{"c":1,"b":9}}"#);
        check(r#"{"a":{"b":1},"a":{}}"#, "a.b", r#"{"a":{"b":9},"a":{"b":9}}"#);
    }

    #[test]
    fn refuses() {
        check(r#"{"a":3}"#, "a.b", "`a` is not an object");
        check("[]", "a", "`` is not an object");
        check("null", "a", "`` is not an object");
        check(r#"{"a":01}"#, "a", "not JSON at byte 6: expected `,` or `}`");
        check(r#"{"a":1} x"#, "a", "not JSON at byte 8: expected the end");
        check(
            &"[".repeat(200),
            "a",
            "not JSON at byte 127: expected fewer levels of nesting",
        );
        assert_eq!(
            set(b"{\"a\":\"\xff\"}", &["a"], "9"),
            Err(SpliceError::Syntax {
                at_byte: 6,
                expected: "UTF-8"
            })
        );
    }

    #[test]
    fn finds() {
        let json = br#"{"model":"a","s":{"model":2},"model" : "b"}"#;
        let found: Vec<&[u8]> = find(json, &["model"])
            .unwrap()
            .into_iter()
            .map(|at| &json[at])
            .collect();
        assert_eq!(found, [br#""a""#, br#""b""#]);
        assert_eq!(find(json, &["none"]), Ok(vec![]));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ a\"\\\\\n{}é🦀]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec(("a|b|model|\\\\|\"|é", inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn only_the_value_changes(value in any_json(), pretty: bool) {
            let json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let spliced = set(json.as_bytes(), &["model"], "\"new\"");
            let Value::Object(mut expected) = value else {
                prop_assert!(spliced.is_err());
                return Ok(());
            };
            let spliced = spliced.unwrap();
            if let [at] = &find(json.as_bytes(), &["model"]).unwrap()[..] {
                prop_assert_eq!(&spliced[..at.start], &json.as_bytes()[..at.start]);
                prop_assert_eq!(&spliced[at.start..at.start + 5], b"\"new\"");
                prop_assert_eq!(&spliced[at.start + 5..], &json.as_bytes()[at.end..]);
            }
            expected.insert("model".to_owned(), "new".into());
            prop_assert_eq!(serde_json::from_slice::<Value>(&spliced).unwrap(), Value::Object(expected));
        }

        #[test]
        fn accepts_what_serde_json_accepts(value in any_json(), changes in prop::collection::vec((any::<prop::sample::Index>(), "[\"\\\\{}:,0-9eE+. ntu\\[\\]-]"), 0..3)) {
            let mut json: Vec<char> = serde_json::to_string(&value).unwrap().chars().collect();
            for (at, with) in changes {
                let at = at.index(json.len());
                json[at] = with.chars().next().unwrap();
            }
            let json: String = json.into_iter().collect();
            let known = serde_json::from_str::<serde::de::IgnoredAny>(&json).is_ok();
            prop_assert_eq!(find(json.as_bytes(), &["model"]).is_ok(), known, "{}", json);
        }
    }
}
