//! Decoding of HPACK (RFC 7541), within bounds.

use std::collections::VecDeque;

use super::huffman;

/// Largest table that is followed; peers ask for 4096 or 65536.
const TABLE_MAX: usize = 64 * 1024;
/// Most fields of a block, and longest name or value that is kept.
const FIELDS_MAX: usize = 256;
const TEXT_MAX: usize = 16 * 1024;
/// What an entry counts for beside its texts.
const ENTRY_OVERHEAD: usize = 32;

pub(super) type Field = (Box<[u8]>, Box<[u8]>);

/// One direction.
#[derive(Debug)]
pub(super) struct Decoder {
    table: VecDeque<Field>,
    size: usize,
    max: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            max: 4096,
        }
    }
}

impl Decoder {
    /// The fields of a header block; `None` if it is not coded as it should be, and the table with it.
    pub(super) fn block(&mut self, mut bytes: &[u8]) -> Option<Vec<Field>> {
        let mut fields = Vec::new();
        while let Some(&first) = bytes.first() {
            let field = if first & 0x80 != 0 {
                self.indexed(integer(&mut bytes, 0x7f)?)?
            } else if first & 0xc0 == 0x40 {
                let field = self.literal(&mut bytes, 0x3f)?;
                self.insert(field.clone());
                field
            } else if first & 0xe0 == 0x20 {
                self.resize(integer(&mut bytes, 0x1f)?)?;
                continue;
            } else {
                self.literal(&mut bytes, 0x0f)?
            };
            if fields.len() < FIELDS_MAX {
                fields.push(field);
            }
        }
        Some(fields)
    }

    fn literal(&self, bytes: &mut &[u8], mask: u8) -> Option<Field> {
        let name = match integer(bytes, mask)? {
            0 => text(bytes)?,
            index => self.indexed(index)?.0,
        };
        Some((name, text(bytes)?))
    }

    fn indexed(&self, index: usize) -> Option<Field> {
        let index = index.checked_sub(1)?;
        match STATIC.get(index) {
            Some(&(name, value)) => Some((name.as_bytes().into(), value.as_bytes().into())),
            None => self.table.get(index - STATIC.len()).cloned(),
        }
    }

    fn insert(&mut self, field: Field) {
        self.size += size_of_entry(&field);
        self.table.push_front(field);
        self.evict();
    }

    fn resize(&mut self, max: usize) -> Option<()> {
        if max > TABLE_MAX {
            return None;
        }
        self.max = max;
        self.evict();
        Some(())
    }

    fn evict(&mut self) {
        while self.size > self.max {
            match self.table.pop_back() {
                Some(oldest) => self.size -= size_of_entry(&oldest),
                None => return,
            }
        }
    }
}

fn size_of_entry(field: &Field) -> usize {
    field.0.len() + field.1.len() + ENTRY_OVERHEAD
}

/// A number that begins in the bits of `mask` of the first byte.
fn integer(bytes: &mut &[u8], mask: u8) -> Option<usize> {
    let (&first, mut rest) = bytes.split_first()?;
    let mut number = usize::from(first & mask);
    if first & mask == mask {
        let mut shift = 0;
        loop {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            if shift > 21 {
                return None;
            }
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
    }
    *bytes = rest;
    Some(number)
}

fn text(bytes: &mut &[u8]) -> Option<Box<[u8]>> {
    let is_huffman = bytes.first()? & 0x80 != 0;
    let len = integer(bytes, 0x7f)?;
    let (text, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(if is_huffman {
        huffman::decode(text, TEXT_MAX)?.into()
    } else {
        text[..text.len().min(TEXT_MAX)].into()
    })
}

/// RFC 7541, appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let digit = |b: u8| (b as char).to_digit(16).expect("digit") as u8;
        digits
            .chunks(2)
            .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
            .collect()
    }

    fn check(decoder: &mut Decoder, block: &str, expected: Option<&str>) {
        let got = decoder.block(&hex(block)).map(|fields| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{}={}", text(name), text(value)))
                .collect();
            fields.join("|")
        });
        assert_eq!(got.as_deref(), expected, "{block}");
    }

    /// RFC 7541, C.4.
    #[test]
    fn requests_with_huffman_coding() {
        let mut decoder = Decoder::default();
        let first = ":method=GET|:scheme=http|:path=/|:authority=www.example.com";
        check(&mut decoder, "828684418cf1e3c2e5f23a6ba0ab90f4ff", Some(first));
        let second = format!("{first}|cache-control=no-cache");
        check(&mut decoder, "828684be5886a8eb10649cbf", Some(&second));
        let third =
            ":method=GET|:scheme=https|:path=/index.html|:authority=www.example.com|custom-key=custom-value";
        check(
            &mut decoder,
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
            Some(third),
        );
        assert_eq!(decoder.size, 164);
    }

    #[test]
    fn what_is_not_hpack_is_refused() {
        for block in ["80", "ff", "bf", "3fe2ff7f", "ffffffffffff", "4005", "4101"] {
            check(&mut Decoder::default(), block, None);
        }
    }
}
