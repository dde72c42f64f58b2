//! Framing of text streams: server-sent events (WHATWG HTML, section 9.2), JSON by lines, and the items
//! of one JSON array.
//!
//! Bytes arrive cut anywhere. The events that come out depend on the bytes alone, never on the cuts:
//! a line that is not complete yet waits in a buffer of limited size.

/// How a text stream is cut into events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `text/event-stream`: fields by line, an empty line ends an event.
    ServerSentEvents,
    /// One JSON document a line; empty lines are skipped.
    JsonLines,
    /// One JSON array, each of its items (objects) an event: Google's streams without `alt=sse`.
    JsonArray,
}

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The `event` field; empty where the stream names none.
    pub name: String,
    /// The `data` fields of the event, joined by line feeds. Invalid UTF-8 is replaced by U+FFFD.
    pub data: String,
    /// The last `id` field of the stream so far, if there was one: it stays until replaced.
    pub id: Option<String>,
    /// The `retry` field of this event, in milliseconds.
    pub retry_ms: Option<u64>,
}

/// An event grew beyond the limit; the stream cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than the limit of {limit_bytes} bytes")]
pub struct EventTooLong {
    /// The limit given to [`Framer::new`].
    pub limit_bytes: usize,
}

/// Where the bytes are in an item of an array.
#[derive(Clone, Copy, Debug, Default)]
struct ItemState {
    /// Brackets and braces not closed yet.
    depth: usize,
    in_text: bool,
    after_backslash: bool,
}

impl ItemState {
    /// Takes a byte of an item; true if it was the last.
    fn ends_with(&mut self, byte: u8) -> bool {
        if self.in_text {
            let escaped = std::mem::take(&mut self.after_backslash);
            match byte {
                b'\\' => self.after_backslash = !escaped,
                b'"' => self.in_text = escaped,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

/// Cuts a stream into events. Feed it bytes as they come, then call [`Framer::finish`].
#[derive(Debug)]
pub struct Framer {
    framing: Framing,
    limit_bytes: usize,
    /// The line under way, without its end; of an array the item.
    line: Vec<u8>,
    item: ItemState,
    /// The event under way.
    event: Event,
    has_data: bool,
    last_id: Option<String>,
    /// The last byte was CR: an LF that follows belongs to the same line end.
    after_cr: bool,
    /// No line was complete yet, so the first may begin with a byte order mark.
    at_start: bool,
    failed: bool,
}

impl Framer {
    /// A framer that holds at most `limit_bytes` of one event (its line under way and its data so far).
    pub fn new(framing: Framing, limit_bytes: usize) -> Self {
        Self {
            framing,
            limit_bytes,
            line: Vec::new(),
            item: ItemState::default(),
            event: Event::default(),
            has_data: false,
            last_id: None,
            after_cr: false,
            at_start: true,
            failed: false,
        }
    }

    /// Takes the next bytes and appends the events they complete to `events`.
    ///
    /// # Errors
    /// [`EventTooLong`], after the events that were complete before; then again on every later call.
    pub fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), EventTooLong> {
        if self.framing == Framing::JsonArray {
            return self.feed_array(bytes, events);
        }
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|&byte| byte == b'\n' || byte == b'\r');
            let piece = &rest[..end.unwrap_or(rest.len())];
            self.admit(piece.len())?;
            self.line.extend_from_slice(piece);
            let Some(end) = end else { break };
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.end_line(&line, events);
            self.line = line;
            self.line.clear();
        }
        if self.failed {
            Err(EventTooLong {
                limit_bytes: self.limit_bytes,
            })
        } else {
            Ok(())
        }
    }

    /// Items begin with the first byte that stands between none: the array's own brackets and commas are
    /// skipped, whatever their order, and what is no object is for the reader of the item to refuse.
    fn feed_array(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), EventTooLong> {
        for &byte in bytes {
            if self.line.is_empty()
                && (byte.is_ascii_whitespace() || matches!(byte, b'[' | b',' | b']' | 0xef | 0xbb | 0xbf))
            {
                continue;
            }
            self.admit(1)?;
            self.line.push(byte);
            if self.item.ends_with(byte) {
                let line = std::mem::take(&mut self.line);
                self.item = ItemState::default();
                self.end_line(&line, events);
            }
        }
        if self.failed {
            Err(EventTooLong {
                limit_bytes: self.limit_bytes,
            })
        } else {
            Ok(())
        }
    }

    /// Ends the stream. An event whose empty line never came is still an event: providers end streams
    /// this way, though the standard would discard it.
    pub fn finish(mut self) -> Option<Event> {
        if self.failed {
            return None;
        }
        let mut events = Vec::new();
        let line = std::mem::take(&mut self.line);
        self.end_line(&line, &mut events);
        if events.is_empty() && self.framing == Framing::ServerSentEvents {
            self.dispatch(&mut events);
        }
        events.pop()
    }

    fn admit(&mut self, n_bytes: usize) -> Result<(), EventTooLong> {
        let held = self.line.len() + self.event.data.len() + self.event.name.len();
        if self.failed || held + n_bytes > self.limit_bytes {
            self.failed = true;
            return Err(EventTooLong {
                limit_bytes: self.limit_bytes,
            });
        }
        Ok(())
    }

    fn end_line(&mut self, line: &[u8], events: &mut Vec<Event>) {
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(after_mark) if self.at_start => after_mark,
            _ => line,
        };
        self.at_start = false;
        match self.framing {
            Framing::JsonLines | Framing::JsonArray => {
                if !line.trim_ascii().is_empty() {
                    let data = String::from_utf8_lossy(line).into_owned();
                    events.push(Event {
                        data,
                        ..Event::default()
                    });
                }
            }
            Framing::ServerSentEvents if line.is_empty() => self.dispatch(events),
            Framing::ServerSentEvents => self.field(line),
        }
    }

    fn field(&mut self, line: &[u8]) {
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let text = String::from_utf8_lossy(value);
        match &line[..colon] {
            b"data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(&text);
                self.has_data = true;
            }
            b"event" => self.event.name = text.into_owned(),
            b"id" if !value.contains(&0) => self.last_id = Some(text.into_owned()),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                self.event.retry_ms = text.parse().ok();
            }
            // An empty name is a comment; of other names the standard says to ignore them.
            _ => {}
        }
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        let mut event = std::mem::take(&mut self.event);
        if std::mem::take(&mut self.has_data) {
            event.id.clone_from(&self.last_id);
            events.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT_BYTES: usize = 64;

    type Outcome = (Vec<Event>, Option<EventTooLong>);

    fn run<'a>(framing: Framing, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
        let mut framer = Framer::new(framing, LIMIT_BYTES);
        let mut events = Vec::new();
        for piece in pieces {
            if let Err(error) = framer.feed(piece, &mut events) {
                return (events, Some(error));
            }
        }
        events.extend(framer.finish());
        (events, None)
    }

    /// Checks the events of a stream as `name|data|id|retry`, whole and cut in two at every byte.
    fn check_framing(framing: Framing, stream: &[u8], expected: &[&str]) {
        let whole = run(framing, [stream]);
        let shown: Vec<String> = whole
            .0
            .iter()
            .map(|e| {
                let retry = e.retry_ms.map_or(String::new(), |ms| ms.to_string());
                format!("{}|{}|{}|{retry}", e.name, e.data, e.id.as_deref().unwrap_or(""))
            })
            .collect();
        assert_eq!(shown, expected);
        for cut in 0..=stream.len() {
            let (left, right) = stream.split_at(cut);
            assert_eq!(run(framing, [left, right]), whole, "cut at {cut}");
        }
        assert_eq!(run(framing, stream.chunks(1)), whole, "byte by byte");
    }

    fn check(stream: &str, expected: &[&str]) {
        check_framing(Framing::ServerSentEvents, stream.as_bytes(), expected);
    }

    #[test]
    fn line_ends() {
        check("data: a\n\ndata: b\n\n", &["|a||", "|b||"]);
        check("data: a\r\rdata: b\r\r", &["|a||", "|b||"]);
        check("data: a\r\n\r\ndata: b\r\n\r\n", &["|a||", "|b||"]);
        check("data: a\r\n\ndata: b\n\r\n\r", &["|a||", "|b||"]);
    }

    #[test]
    fn fields() {
        check(
            "event: x\ndata: 1\ndata:2\ndata:  3\nid: 7\nretry: 250\n\ndata: n\n\n",
            &["x|1\n2\n 3|7|250", "|n|7|"],
        );
        check(
            ": comment\n:\nunknown: y\nid: a\0b\nretry: 1s\ndata: a:b\n\n",
            &["|a:b||"],
        );
        check("data\n\ndata:\ndata:\n\n", &["|||", "|\n||"]);
        check("event: lost\n\ndata: kept\n\n", &["|kept||"]);
    }

    #[test]
    fn byte_order_mark_only_at_the_start() {
        check("\u{feff}data: a\n\n\u{feff}data: b\n\n", &["|a||"]);
    }

    #[test]
    fn end_without_empty_line() {
        check("data: a\n\ndata: b", &["|a||", "|b||"]);
        check("data: a\n\ndata: b\n", &["|a||", "|b||"]);
        check("data: a\n\nevent: only", &["|a||"]);
        check("", &[]);
    }

    #[test]
    fn text_that_is_not_ascii() {
        check("data: héllo 世界 🦀\n\n", &["|héllo 世界 🦀||"]);
        check_framing(Framing::ServerSentEvents, b"data: a\xffb\n\n", &["|a\u{fffd}b||"]);
    }

    #[test]
    fn json_lines() {
        let lines = b"{\"a\":1}\r\n\n  \n{\"b\":2}\n{\"c\":3}";
        check_framing(
            Framing::JsonLines,
            lines,
            &["|{\"a\":1}||", "|{\"b\":2}||", "|{\"c\":3}||"],
        );
    }

    #[test]
    fn array() {
        let check =
            |stream: &str, expected: &[&str]| check_framing(Framing::JsonArray, stream.as_bytes(), expected);
        check(
            "[{\"a\": 1},\r\n{\"b\": [2, {}]}\n]\n",
            &["|{\"a\": 1}||", "|{\"b\": [2, {}]}||"],
        );
        check(r#"[{"a": "}]\"\\"},{}]"#, &[r#"|{"a": "}]\"\\"}||"#, "|{}||"]);
        check("[]", &[]);
        check("[{\"a\":", &["|{\"a\":||"]);
        check("oops", &["|oops||"]);
        check(
            &format!("[{{}},{{\"a\": \"{}", "x".repeat(LIMIT_BYTES)),
            &["|{}||"],
        );
    }

    #[test]
    fn limit() {
        let long = format!("data: a\n\ndata: {}\n\ndata: b\n\n", "x".repeat(LIMIT_BYTES));
        let (events, error) = run(Framing::ServerSentEvents, [long.as_bytes()]);
        assert_eq!(events.len(), 1);
        assert_eq!(
            error,
            Some(EventTooLong {
                limit_bytes: LIMIT_BYTES
            })
        );
        check(&long, &["|a||"]);
        let many = "data: 0123456789\n".repeat(20);
        check(&many, &[]);
        let mut framer = Framer::new(Framing::ServerSentEvents, 4);
        let mut events = Vec::new();
        assert!(framer.feed(b"data: a", &mut events).is_err());
        assert!(framer.feed(b"\n\n", &mut events).is_err());
        assert_eq!(framer.finish(), None);
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_the_cuts(
            parts in prop::collection::vec(prop::sample::select(vec![
                "data: a", "data:", "event: e", "id: 1", "retry: 9", ":c", "\n", "\r", "\r\n", "\n\n",
                "\u{feff}", "é", "🦀", " ", "{}", "data: 0123456789012345678901234567890123456789",
            ]), 0..24),
            cuts in prop::collection::vec(0_usize..400, 0..12),
        ) {
            let stream = parts.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            for framing in [Framing::ServerSentEvents, Framing::JsonLines, Framing::JsonArray] {
                prop_assert_eq!(run(framing, pieces.iter().copied()), run(framing, [&stream[..]]));
            }
        }
    }
}
