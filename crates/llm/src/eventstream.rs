//! Framing of AWS event streams (`application/vnd.amazon.eventstream`), which Bedrock answers with.
//!
//! A message is, in big-endian order: its total length (4 bytes), the length of its headers (4), the
//! CRC-32 of these eight bytes, the headers, the payload, and the CRC-32 of all before it. A header is
//! the length of its name (1), the name, a type (1) and a value whose shape the type gives.

const PRELUDE_BYTES: usize = 12;
const MESSAGE_CRC_BYTES: usize = 4;

/// One message of an event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Names and values in the order of the wire.
    pub headers: Vec<(String, HeaderValue)>,
    /// What the headers describe; of Bedrock a JSON document.
    pub payload: Vec<u8>,
}

impl Message {
    /// The text of the first header of this name, if it is text: `:event-type`, `:message-type`,
    /// `:exception-type`.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        match value {
            HeaderValue::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// Types 0 (true) and 1 (false).
    Bool(bool),
    /// Types 2 to 5: signed integers of 1, 2, 4 and 8 bytes.
    Integer(i64),
    /// Type 6.
    Bytes(Vec<u8>),
    /// Type 7, UTF-8.
    Text(String),
    /// Type 8: milliseconds since 1970.
    TimestampMs(i64),
    /// Type 9.
    Uuid([u8; 16]),
}

/// Why a stream cannot be followed any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced length is below the smallest message or above the limit.
    #[error("message of {total_bytes} bytes, expected {} to {limit_bytes}", PRELUDE_BYTES + MESSAGE_CRC_BYTES)]
    Length {
        /// The announced length.
        total_bytes: usize,
        /// The limit given to [`Framer::new`].
        limit_bytes: usize,
    },
    /// A checksum does not match its bytes.
    #[error("checksum of the {part} is {found:08x}, its bytes give {computed:08x}")]
    Checksum {
        /// `prelude` or `message`.
        part: &'static str,
        /// What the stream says.
        found: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// The headers do not fill the length they announce, or one of them cannot be read.
    #[error("headers of a message are malformed: {0}")]
    Header(&'static str),
    /// The stream ended inside a message.
    #[error("stream ended {held_bytes} bytes into a message")]
    Truncated {
        /// How much of the message had come.
        held_bytes: usize,
    },
}

/// Cuts an event stream into messages.
#[derive(Debug)]
pub struct Framer {
    limit_bytes: usize,
    buffer: Vec<u8>,
    failed: Option<FrameError>,
}

impl Framer {
    /// A framer for messages of at most `limit_bytes` in all.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            buffer: Vec::new(),
            failed: None,
        }
    }

    /// Takes the next bytes and appends the messages they complete to `messages`. Besides `bytes` it
    /// holds no more than one incomplete message.
    ///
    /// # Errors
    /// [`FrameError`], after the messages that were complete before; then again on every later call.
    pub fn feed(&mut self, bytes: &[u8], messages: &mut Vec<Message>) -> Result<(), FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.buffer.extend_from_slice(bytes);
        let mut used = 0;
        let result = loop {
            match parse(&self.buffer[used..], self.limit_bytes) {
                Ok(Some((message, n_bytes))) => {
                    messages.push(message);
                    used += n_bytes;
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.buffer.drain(..used);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
            self.buffer = Vec::new();
        }
        result
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] where a message was under way, or the error met before.
    pub fn finish(self) -> Result<(), FrameError> {
        match (self.failed, self.buffer.len()) {
            (Some(error), _) => Err(error),
            (None, 0) => Ok(()),
            (None, held_bytes) => Err(FrameError::Truncated { held_bytes }),
        }
    }
}

/// Appends a message whose headers are all text. A header whose name is longer than 255 bytes, or its
/// value than 65535, has no place in this framing and is left out; so is a message beyond 4 GiB.
pub fn encode(headers: &[(&str, &str)], payload: &[u8], bytes: &mut Vec<u8>) {
    let mut encoded = Vec::new();
    for (name, value) in headers {
        let lengths = (u8::try_from(name.len()), u16::try_from(value.len()));
        let (Ok(name_bytes), Ok(value_bytes)) = lengths else {
            continue;
        };
        encoded.push(name_bytes);
        encoded.extend_from_slice(name.as_bytes());
        encoded.push(7);
        encoded.extend_from_slice(&value_bytes.to_be_bytes());
        encoded.extend_from_slice(value.as_bytes());
    }
    let total = PRELUDE_BYTES + encoded.len() + payload.len() + MESSAGE_CRC_BYTES;
    let (Ok(total), Ok(headers_bytes)) = (u32::try_from(total), u32::try_from(encoded.len())) else {
        return;
    };
    let start = bytes.len();
    bytes.extend(total.to_be_bytes());
    bytes.extend(headers_bytes.to_be_bytes());
    bytes.extend(crc32(&bytes[start..]).to_be_bytes());
    bytes.extend_from_slice(&encoded);
    bytes.extend_from_slice(payload);
    bytes.extend(crc32(&bytes[start..]).to_be_bytes());
}

/// The first message of `bytes` and its length, or `None` where it is not complete.
fn parse(bytes: &[u8], limit_bytes: usize) -> Result<Option<(Message, usize)>, FrameError> {
    let mut prelude = Reader(bytes);
    let (Some(total), Some(headers), Some(prelude_crc)) = (prelude.u32(), prelude.u32(), prelude.u32())
    else {
        return Ok(None);
    };
    check_crc("prelude", &bytes[..PRELUDE_BYTES - 4], prelude_crc)?;
    let (total_bytes, headers_bytes) = (total as usize, headers as usize);
    if total_bytes < PRELUDE_BYTES + MESSAGE_CRC_BYTES || total_bytes > limit_bytes {
        return Err(FrameError::Length {
            total_bytes,
            limit_bytes,
        });
    }
    let body_end = total_bytes - MESSAGE_CRC_BYTES;
    if headers_bytes > body_end - PRELUDE_BYTES {
        return Err(FrameError::Header("they are longer than the message"));
    }
    let Some(message) = bytes.get(..total_bytes) else {
        return Ok(None);
    };
    let (covered, crc) = message.split_at(body_end);
    let crc = Reader(crc).u32().ok_or(FrameError::Header("no checksum"))?;
    check_crc("message", covered, crc)?;
    let (headers, payload) = covered[PRELUDE_BYTES..].split_at(headers_bytes);
    Ok(Some((
        Message {
            headers: parse_headers(headers)?,
            payload: payload.to_vec(),
        },
        total_bytes,
    )))
}

fn parse_headers(bytes: &[u8]) -> Result<Vec<(String, HeaderValue)>, FrameError> {
    let mut reader = Reader(bytes);
    let mut headers = Vec::new();
    while !reader.0.is_empty() {
        headers.push(parse_header(&mut reader).ok_or(FrameError::Header("one cannot be read"))?);
    }
    Ok(headers)
}

fn parse_header(reader: &mut Reader<'_>) -> Option<(String, HeaderValue)> {
    let [name_bytes] = reader.array()?;
    let name = String::from_utf8(reader.take(name_bytes.into())?.to_vec()).ok()?;
    let [kind] = reader.array()?;
    let value = match kind {
        0 => HeaderValue::Bool(true),
        1 => HeaderValue::Bool(false),
        2 => HeaderValue::Integer(i8::from_be_bytes(reader.array()?).into()),
        3 => HeaderValue::Integer(i16::from_be_bytes(reader.array()?).into()),
        4 => HeaderValue::Integer(i32::from_be_bytes(reader.array()?).into()),
        5 => HeaderValue::Integer(i64::from_be_bytes(reader.array()?)),
        6 => HeaderValue::Bytes(reader.sized()?.to_vec()),
        7 => HeaderValue::Text(String::from_utf8(reader.sized()?.to_vec()).ok()?),
        8 => HeaderValue::TimestampMs(i64::from_be_bytes(reader.array()?)),
        9 => HeaderValue::Uuid(reader.array()?),
        _ => return None,
    };
    Some((name, value))
}

/// Bytes not read yet. Every method gives `None` where they do not suffice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n_bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n_bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let n_bytes = u16::from_be_bytes(self.array()?);
        self.take(n_bytes.into())
    }
}

fn check_crc(part: &'static str, bytes: &[u8], found: u32) -> Result<(), FrameError> {
    let computed = crc32(bytes);
    if computed == found {
        Ok(())
    } else {
        Err(FrameError::Checksum {
            part,
            found,
            computed,
        })
    }
}

/// CRC-32 as in Ethernet and gzip (polynomial 0x04c11db7, reflected).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, &byte| {
        CRC_TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8)
    })
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut idx = 0;
    while idx < 256 {
        let mut crc = idx as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[idx] = crc;
        idx += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(headers: &[u8], payload: &[u8]) -> Vec<u8> {
        let total = PRELUDE_BYTES + headers.len() + payload.len() + MESSAGE_CRC_BYTES;
        let mut bytes = u32::try_from(total).unwrap().to_be_bytes().to_vec();
        bytes.extend(u32::try_from(headers.len()).unwrap().to_be_bytes());
        bytes.extend(crc32(&bytes).to_be_bytes());
        bytes.extend(headers);
        bytes.extend(payload);
        bytes.extend(crc32(&bytes).to_be_bytes());
        bytes
    }

    fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Message>, Result<(), FrameError>) {
        let mut framer = Framer::new(4096);
        let mut messages = Vec::new();
        for piece in pieces {
            if let Err(error) = framer.feed(piece, &mut messages) {
                return (messages, Err(error));
            }
        }
        (messages, framer.finish())
    }

    fn check_error(bytes: &[u8], expected: &str) {
        let shown = run([bytes]).1.map_err(|error| error.to_string());
        assert_eq!(shown, Err(expected.to_owned()));
    }

    #[test]
    fn checksum_of_the_field() {
        // The check value of CRC-32/ISO-HDLC in the catalogues.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn every_type_of_header() {
        let headers = b"\x01a\x00\x01b\x01\x01c\x02\xff\x01d\x03\x01\x00\x01e\x04\xff\xff\xff\xfe\
            \x01f\x05\x00\x00\x00\x00\x00\x00\x00\x09\x01g\x06\x00\x02xy\x01h\x07\x00\x03h\xc3\xa9\
            \x01i\x08\x00\x00\x00\x00\x00\x00\x03\xe8\x01j\x090123456789abcdef";
        let (messages, end) = run([&frame(headers, b"{}")[..]]);
        assert_eq!(end, Ok(()));
        let values: Vec<HeaderValue> = messages[0]
            .headers
            .iter()
            .map(|(_, value)| value.clone())
            .collect();
        assert_eq!(
            values,
            [
                HeaderValue::Bool(true),
                HeaderValue::Bool(false),
                HeaderValue::Integer(-1),
                HeaderValue::Integer(256),
                HeaderValue::Integer(-2),
                HeaderValue::Integer(9),
                HeaderValue::Bytes(b"xy".to_vec()),
                HeaderValue::Text("hé".to_owned()),
                HeaderValue::TimestampMs(1000),
                HeaderValue::Uuid(*b"0123456789abcdef"),
            ]
        );
        assert_eq!(messages[0].header("h"), Some("hé"));
        assert_eq!(messages[0].header("a"), None);
        assert_eq!(messages[0].payload, b"{}");
    }

    #[test]
    fn what_is_encoded_reads_the_same() {
        let long = "x".repeat(70_000);
        let headers = [(":event-type", "messageStart"), ("é", ""), ("left out", &long)];
        let mut bytes = Vec::new();
        encode(&headers, b"{}", &mut bytes);
        encode(&[], b"", &mut bytes);
        let (messages, end) = run([&bytes[..]]);
        assert_eq!(end, Ok(()));
        let text = |text: &str| HeaderValue::Text(text.to_owned());
        let expected = [
            (":event-type".to_owned(), text("messageStart")),
            ("é".to_owned(), text("")),
        ];
        assert_eq!(messages[0].headers, expected);
        assert_eq!(messages[0].payload, b"{}");
        assert_eq!((messages[1].headers.len(), messages[1].payload.len()), (0, 0));
        let mut same = Vec::new();
        encode(&[("a", "b")], b"{}", &mut same);
        assert_eq!(same, frame(b"\x01a\x07\x00\x01b", b"{}"));
    }

    #[test]
    fn malformed() {
        check_error(
            &frame(b"\x01a\x07\x00\x09x", b""),
            "headers of a message are malformed: one cannot be read",
        );
        check_error(
            &frame(b"\x01a\x0a", b""),
            "headers of a message are malformed: one cannot be read",
        );
        check_error(&frame(b"", b"abc")[..15], "stream ended 15 bytes into a message");
        check_error(
            &frame(b"", &[0; 5000]),
            "message of 5016 bytes, expected 16 to 4096",
        );
        let mut bad = frame(b"", b"abc");
        bad[13] ^= 1;
        assert!(matches!(
            run([&bad[..]]).1,
            Err(FrameError::Checksum { part: "message", .. })
        ));
        bad[0] ^= 1;
        assert!(matches!(
            run([&bad[..]]).1,
            Err(FrameError::Checksum { part: "prelude", .. })
        ));
    }

    proptest! {
        #[test]
        fn messages_do_not_depend_on_the_cuts(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            damage in prop::option::of((any::<prop::sample::Index>(), 1_u8..)),
            piece_bytes in 1_usize..30,
        ) {
            let mut stream: Vec<u8> = payloads.iter().flat_map(|p| frame(b"\x01a\x00", p)).collect();
            if let (Some((at, change)), false) = (damage, stream.is_empty()) {
                let at = at.index(stream.len());
                stream[at] ^= change;
            }
            let whole = run([&stream[..]]);
            prop_assert_eq!(run(stream.chunks(piece_bytes)), whole.clone());
            prop_assert_eq!(damage.is_none() || stream.is_empty(), whole.1.is_ok());
        }
    }
}
