//! Bencode, BitTorrent's encoding (BEP 3).

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Number(i64),
    Text(&'a [u8]),
    List(Vec<Value<'a>>),
    Dict(Vec<(&'a [u8], Value<'a>)>),
}

/// Depth of lists and dictionaries, and values of one message.
const DEPTH_MAX: usize = 8;
const VALUES_MAX: usize = 1024;

impl<'a> Value<'a> {
    /// The value that the bytes are, all of them.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        let mut parser = Parser {
            rest: bytes,
            left: VALUES_MAX,
        };
        let value = parser.value(DEPTH_MAX)?;
        parser.rest.is_empty().then_some(value)
    }

    /// What a dictionary has under this key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Dict(entries) => entries
                .iter()
                .find(|(name, _)| *name == key.as_bytes())
                .map(|(_, value)| value),
            _ => None,
        }
    }

    pub(super) const fn text(&self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) const fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }
}

struct Parser<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        match *self.rest {
            [b'i', ref rest @ ..] => {
                let end = rest.iter().take(21).position(|&byte| byte == b'e')?;
                let number = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
                self.rest = &rest[end + 1..];
                Some(Value::Number(number))
            }
            [b'0'..=b'9', ..] => self.text().map(Value::Text),
            [b'l', ref rest @ ..] if depth > 0 => {
                self.rest = rest;
                let mut list = Vec::new();
                while !self.is_end()? {
                    list.push(self.value(depth - 1)?);
                }
                Some(Value::List(list))
            }
            [b'd', ref rest @ ..] if depth > 0 => {
                self.rest = rest;
                let mut entries = Vec::new();
                while !self.is_end()? {
                    let key = self.text()?;
                    entries.push((key, self.value(depth - 1)?));
                }
                Some(Value::Dict(entries))
            }
            _ => None,
        }
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().take(7).position(|&byte| byte == b':')?;
        let len: usize = std::str::from_utf8(&self.rest[..end]).ok()?.parse().ok()?;
        let (text, rest) = self.rest[end + 1..].split_at_checked(len)?;
        self.rest = rest;
        Some(text)
    }

    /// Passes the end of a list or dictionary, if it is there; `None` if the bytes are at an end.
    fn is_end(&mut self) -> Option<bool> {
        let (first, rest) = self.rest.split_first()?;
        let is_end = *first == b'e';
        if is_end {
            self.rest = rest;
        }
        Some(is_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let value = Value::of(b"d1:ai-7e1:bl2:xyi0ee1:cdee").expect("a value");
        assert_eq!(value.get("a").and_then(Value::number), Some(-7));
        assert_eq!(
            value.get("b").and_then(Value::list),
            Some(&[Value::Text(b"xy"), Value::Number(0)][..])
        );
        for wrong in [
            &b"d1:a"[..],
            b"i7",
            b"3:ab",
            b"i1ei2e",
            b"",
            b"llllllllllllleeeeeeeeeeeee",
        ] {
            assert_eq!(Value::of(wrong), None, "{wrong:?}");
        }
    }
}
