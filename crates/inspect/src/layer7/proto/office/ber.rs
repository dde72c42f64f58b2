//! Basic Encoding Rules (X.690), as far as LDAP and Kerberos use them: tags of one byte, definite lengths.

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) body: &'a [u8],
}

/// How far the bytes of an element go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Extent {
    No,
    NeedMore,
    /// Bytes of the tag and the length, and of what follows.
    Known {
        head: usize,
        body: usize,
    },
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;

/// Of the element that begins here.
pub(super) fn extent(bytes: &[u8]) -> Extent {
    match *bytes {
        [] | [_] => Extent::NeedMore,
        [_, len @ 0..=0x7f, ..] => Extent::Known {
            head: 2,
            body: len.into(),
        },
        [_, n @ 0x81..=0x84, ref rest @ ..] => {
            let n = usize::from(n & 0x7f);
            match rest.get(..n) {
                Some(len) => Extent::Known {
                    head: 2 + n,
                    body: len.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)),
                },
                None => Extent::NeedMore,
            }
        }
        _ => Extent::No,
    }
}

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let Extent::Known { head, body } = extent(self.0) else {
            return None;
        };
        let element = Element {
            tag: self.0[0],
            body: self.0.get(head..head.checked_add(body)?)?,
        };
        self.0 = &self.0[head + body..];
        Some(element)
    }
}

impl<'a> Elements<'a> {
    /// The next one, if it has this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let element = ahead.next().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element.body)
    }

    pub(super) fn integer(&mut self) -> Option<i64> {
        integer(self.expect(INTEGER)?)
    }
}

impl<'a> Element<'a> {
    /// What is inside of it.
    pub(super) const fn inner(&self) -> Elements<'a> {
        Elements(self.body)
    }
}

/// An integer of at most eight bytes.
pub(super) fn integer(body: &[u8]) -> Option<i64> {
    let first = *body.first().filter(|_| body.len() <= 8)?;
    let begin = if first & 0x80 != 0 { -1 } else { 0 };
    Some(body.iter().fold(begin, |sum, &byte| sum << 8 | i64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_and_numbers() {
        let check = |bytes: &[u8], expected: Extent| assert_eq!(extent(bytes), expected);
        check(b"\x30", Extent::NeedMore);
        check(b"\x30\x05", Extent::Known { head: 2, body: 5 });
        check(b"\x30\x82\x01", Extent::NeedMore);
        check(b"\x30\x82\x01\x02", Extent::Known { head: 4, body: 258 });
        check(b"\x30\x80", Extent::No);
        check(b"\x30\x85\x01\x01\x01\x01\x01", Extent::No);
        assert_eq!(integer(b"\x01\0"), Some(256));
        assert_eq!(integer(b"\xff"), Some(-1));
        assert_eq!(integer(b""), None);
        assert_eq!(Elements(b"\x02\x05\x01").next().map(|element| element.tag), None);
    }
}
