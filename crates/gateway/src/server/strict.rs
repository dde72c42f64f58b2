//! Bytes of HTTP/1 requests, watched before hyper reads them.
//!
//! hyper is lenient where RFC 9112 lets a server be: it takes a bare LF for a line's end, prefers `transfer-encoding`
//! to `content-length` and hides the latter. Each is harmless alone; behind another proxy that reads the other way it
//! lets one client's bytes become another's request. So they are refused here, with 400 and the end of the connection.
//!
//! To know what is a header and what a body this counts bodies too. It can do so without doubt since whatever is in
//! doubt it refuses.

use memchr::memchr;

/// A line that goes on over several reads is kept up to here; hyper's limit of the whole header is below.
const LINE_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(super) struct Strict {
    state: State,
    /// The begin of a line whose end has not come.
    line: Vec<u8>,
    head: Head,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a request's header, at the begin of a line or within one.
    #[default]
    Head,
    /// So many bytes of body are to come.
    Body(u64),
    /// In the line of a chunk's size.
    Size,
    /// So many bytes of chunk, its line end included.
    Chunk(u64),
    /// After the last chunk.
    Trailer,
    /// Left to hyper, which is strict with chunks.
    Passed,
}

/// What the header said so far.
#[derive(Debug, Default, Clone, Copy)]
struct Head {
    has_request_line: bool,
    length: Option<u64>,
    is_chunked: bool,
}

/// Not HTTP, or in doubt.
#[derive(Debug)]
pub(super) struct Doubt;

impl Strict {
    /// Looks at the bytes that come next.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Result<(), Doubt> {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Body(left) | State::Chunk(left) => {
                    let n = left.min((bytes.len() - at) as u64);
                    at += n as usize;
                    self.state = match self.state {
                        State::Body(_) if n == left => State::Head,
                        State::Body(_) => State::Body(left - n),
                        _ if n == left => State::Size,
                        _ => State::Chunk(left - n),
                    };
                }
                State::Head | State::Size | State::Trailer => {
                    let Some(end) = memchr(b'\n', &bytes[at..]) else {
                        if self.line.len() + bytes.len() - at <= LINE_BYTES_MAX {
                            self.line.extend_from_slice(&bytes[at..]);
                            return Ok(());
                        }
                        return Err(Doubt);
                    };
                    let end = at + end;
                    let judged = if self.line.is_empty() {
                        self.judge(&bytes[at..end])
                    } else {
                        let mut line = std::mem::take(&mut self.line);
                        line.extend_from_slice(&bytes[at..end]);
                        let judged = self.judge(&line);
                        line.clear();
                        self.line = line;
                        judged
                    };
                    match judged {
                        Err(Doubt) if self.state == State::Head => return Err(Doubt),
                        Err(Doubt) => self.state = State::Passed,
                        Ok(()) => {}
                    }
                    at = end + 1;
                }
                State::Passed => return Ok(()),
            }
        }
        Ok(())
    }

    /// Judges a line, given without its LF.
    fn judge(&mut self, line: &[u8]) -> Result<(), Doubt> {
        let line = line.strip_suffix(b"\r").ok_or(Doubt)?;
        match self.state {
            State::Head => self.judge_head(line),
            State::Size => {
                let digits = line
                    .split(|&byte| byte == b';' || byte == b' ' || byte == b'\t')
                    .next()
                    .ok_or(Doubt)?;
                let size = number(digits, 16)?;
                // Two for the line end after the data.
                self.state = if size == 0 {
                    State::Trailer
                } else {
                    State::Chunk(size.checked_add(2).ok_or(Doubt)?)
                };
                Ok(())
            }
            _ => {
                if line.is_empty() {
                    self.state = State::Head;
                }
                Ok(())
            }
        }
    }

    fn judge_head(&mut self, line: &[u8]) -> Result<(), Doubt> {
        let head = &mut self.head;
        if !head.has_request_line {
            // Empty lines before a request are nothing (RFC 9112, 2.2).
            head.has_request_line = !line.is_empty();
            return Ok(());
        }
        let Some(&first) = line.first() else {
            self.state = match (self.head.is_chunked, self.head.length) {
                (true, Some(_)) => return Err(Doubt),
                (true, None) => State::Size,
                (false, Some(length)) if length > 0 => State::Body(length),
                _ => State::Head,
            };
            self.head = Head::default();
            return Ok(());
        };
        // Folded lines are obsolete, and read differently.
        if first == b' ' || first == b'\t' {
            return Err(Doubt);
        }
        if let Some(value) = field(line, b"content-length") {
            if head.length.replace(number(value.trim_ascii(), 10)?).is_some() {
                return Err(Doubt);
            }
        } else if let Some(value) = field(line, b"transfer-encoding") {
            if head.is_chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(Doubt);
            }
            head.is_chunked = true;
        }
        Ok(())
    }
}

/// The value, if the line is of this field.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    if !found.eq_ignore_ascii_case(name) {
        return None;
    }
    rest.strip_prefix(b":")
}

fn number(digits: &[u8], radix: u32) -> Result<u64, Doubt> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Doubt);
    }
    let text = std::str::from_utf8(digits).map_err(|_| Doubt)?;
    u64::from_str_radix(text, radix).map_err(|_| Doubt)
}

#[cfg(test)]
mod tests {
    use super::Strict;

    /// Up to where the input passes, whatever the cuts between reads.
    #[track_caller]
    fn check(input: &str, passes: usize) {
        for cut in 0..=input.len() {
            let mut strict = Strict::default();
            let (first, second) = input.as_bytes().split_at(cut);
            let passed = strict.look(first).and_then(|()| strict.look(second));
            assert_eq!(passed.is_ok(), passes == input.len(), "cut at {cut}");
        }
        let mut strict = Strict::default();
        let n_passed = input
            .as_bytes()
            .iter()
            .take_while(|&&byte| strict.look(&[byte]).is_ok())
            .count();
        assert_eq!(n_passed, passes);
    }

    #[test]
    fn requests() {
        let all = |input: &str| check(input, input.len());
        all("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        all("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        // Bodies may hold anything.
        all("POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\na\nb\n\nc\nGET / HTTP/1.1\r\n\r\n");
        all(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\na\nb\r\nA\r\n\n\n\n\n\n\n\n\n\n\n\r\n0\r\nt: v\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        );
        check("GET / HTTP/1.1\nhost: a\r\n\r\n", 14);
        check("GET / HTTP/1.1\r\nhost: a\n\r\n", 23);
        check("GET / HTTP/1.1\r\nhost: a\r\n\n", 25);
        check("GET / HTTP/1.1\r\nhost: a\r\n b\r\n\r\n", 28);
        check(
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            65,
        );
        check(
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
            54,
        );
        // hyper judges chunks.
        all("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxx\r\n");
    }
}
