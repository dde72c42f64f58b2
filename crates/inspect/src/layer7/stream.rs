//! The bytes of one direction of a TCP connection, put in order.
//!
//! Bytes that come in order and are taken at once are never copied. What a session does not take yet, and
//! what came too early, is kept within bounds. Of overlapping segments the bytes that came first count.
//! A hole is given up when what waits behind it fills its bound or the other side acknowledges it.

use std::collections::VecDeque;

/// Bytes that came too early, and the pieces they came in, per direction.
const EARLY_BYTES_MAX: usize = 128 * 1024;
const EARLY_PIECES_MAX: usize = 64;
/// Segments further ahead than this are of another time: a window is at most 1 GiB (RFC 7323).
const AHEAD_MAX: u32 = 1 << 30;

/// One direction.
#[derive(Debug, Default)]
pub struct Stream {
    /// Sequence number of the next byte in order; valid if `is_begun`.
    next: u32,
    is_begun: bool,
    /// In order, and not taken.
    kept: Vec<u8>,
    /// Bytes to come that nobody wants.
    skip: u64,
    /// Not adjoining, in the order of their sequence numbers, without overlap.
    early: VecDeque<Piece>,
    early_bytes: usize,
}

#[derive(Debug)]
struct Piece {
    seq: u32,
    bytes: Box<[u8]>,
}

/// What the reader of a stream is to do next.
#[derive(Debug)]
pub enum Ready {
    /// Bytes in order wait in [`Stream::kept`].
    Kept,
    /// So many bytes are missing for good.
    Gap(u64),
    Nothing,
}

impl Stream {
    /// A SYN with this sequence number: the first byte has the next one.
    pub fn begin(&mut self, seq: u32) {
        if !self.is_begun {
            self.is_begun = true;
            self.next = seq.wrapping_add(1);
        }
    }

    /// In order, and not taken.
    #[must_use]
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Whether something came too early.
    #[must_use]
    pub fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Bytes held in all.
    #[must_use]
    pub fn held(&self) -> usize {
        self.kept.len() + self.early_bytes
    }

    /// Drops what is held, for a connection nobody looks at any more.
    pub fn clear(&mut self) {
        self.kept = Vec::new();
        self.early = VecDeque::new();
        self.early_bytes = 0;
    }

    /// `taken` bytes are done with: first those kept, then those to come.
    pub fn take(&mut self, taken: u64) {
        let from_kept = taken.min(self.kept.len() as u64) as usize;
        if from_kept == self.kept.len() {
            self.kept.clear();
            if self.kept.capacity() > 16 * 1024 {
                self.kept = Vec::new();
            }
        } else {
            self.kept.drain(..from_kept);
        }
        self.skip += taken - from_kept as u64;
    }

    /// The new bytes of a segment if they come in order and nothing waits: the caller may look at them
    /// where they are, and tells by [`Self::keep`] what it did not take.
    #[must_use]
    pub fn in_order<'a>(&mut self, seq: u32, payload: &'a [u8]) -> Option<&'a [u8]> {
        if !self.is_begun {
            self.is_begun = true;
            self.next = seq;
        }
        if !self.early.is_empty() || !self.kept.is_empty() {
            return None;
        }
        let old = self.next.wrapping_sub(seq);
        if old as usize >= payload.len() {
            return None;
        }
        let new = &payload[old as usize..];
        self.next = self.next.wrapping_add(new.len() as u32);
        let skipped = self.skip.min(new.len() as u64);
        self.skip -= skipped;
        Some(&new[skipped as usize..])
    }

    /// Keeps bytes that were given by [`Self::in_order`] and not taken.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// A segment that [`Self::in_order`] did not take. Returns the number of its bytes that were refused
    /// for want of room.
    pub fn insert(&mut self, seq: u32, payload: &[u8]) -> usize {
        let ahead = seq.wrapping_sub(self.next);
        if (ahead as i32) < 0 {
            // It begins in the past: what is new of it is in order.
            let old = self.next.wrapping_sub(seq) as usize;
            if let Some(new) = payload.get(old..) {
                self.append(new);
                self.adopt_early();
            }
            return 0;
        }
        if ahead == 0 {
            self.append(payload);
            self.adopt_early();
            return 0;
        }
        if ahead > AHEAD_MAX {
            return payload.len();
        }
        self.insert_early(seq, payload)
    }

    /// What is to be done now. `acked`: what the other side has acknowledged.
    #[must_use]
    pub fn ready(&mut self, acked: Option<u32>) -> Ready {
        if self.kept.is_empty() {
            self.hole(acked)
        } else {
            Ready::Kept
        }
    }

    /// The first hole if it will not be filled. What was kept before it is then gone: it waited for what
    /// is missing.
    #[must_use]
    pub fn hole(&mut self, acked: Option<u32>) -> Ready {
        let Some(first) = self.early.front() else {
            return Ready::Nothing;
        };
        let missing = first.seq.wrapping_sub(self.next);
        let is_acked = acked.is_some_and(|acked| (acked.wrapping_sub(first.seq) as i32) >= 0);
        let is_full = self.early_bytes >= EARLY_BYTES_MAX || self.early.len() >= EARLY_PIECES_MAX;
        if !is_acked && !is_full {
            return Ready::Nothing;
        }
        self.jump(missing)
    }

    /// Gives up the first hole, if there is one, for a connection that is over.
    #[must_use]
    pub fn give_up(&mut self) -> Ready {
        if self.kept.is_empty() {
            self.give_up_hole()
        } else {
            Ready::Kept
        }
    }

    /// Gives up the first hole and what was kept before it.
    #[must_use]
    pub fn give_up_hole(&mut self) -> Ready {
        match self.early.front() {
            Some(first) => {
                let missing = first.seq.wrapping_sub(self.next);
                self.jump(missing)
            }
            None => Ready::Nothing,
        }
    }

    /// `len` bytes after the newest in order were never captured.
    pub fn lose(&mut self, len: u32) -> Ready {
        let gap = self.jump(len);
        self.adopt_early();
        gap
    }

    fn jump(&mut self, missing: u32) -> Ready {
        self.next = self.next.wrapping_add(missing);
        let skipped = self.skip.min(missing.into());
        self.skip -= skipped;
        if u64::from(missing) > skipped {
            self.kept.clear();
        }
        self.adopt_early();
        match u64::from(missing) - skipped {
            0 if self.kept.is_empty() => Ready::Nothing,
            0 => Ready::Kept,
            gap => Ready::Gap(gap),
        }
    }

    fn append(&mut self, new: &[u8]) {
        self.next = self.next.wrapping_add(new.len() as u32);
        let skipped = self.skip.min(new.len() as u64);
        self.skip -= skipped;
        self.kept.extend_from_slice(&new[skipped as usize..]);
    }

    fn adopt_early(&mut self) {
        while let Some(first) = self.early.front() {
            let old = self.next.wrapping_sub(first.seq);
            if (old as i32) < 0 {
                return;
            }
            let Some(piece) = self.early.pop_front() else {
                return;
            };
            self.early_bytes -= piece.bytes.len();
            if let Some(new) = piece.bytes.get(old as usize..) {
                self.append(new);
            }
        }
    }

    /// Puts a piece among the early ones; where it overlaps them, what was there stays.
    fn insert_early(&mut self, seq: u32, payload: &[u8]) -> usize {
        let (mut seq, mut payload) = (seq, payload);
        let distance = |of: u32, base: u32| of.wrapping_sub(base);
        let base = self.next;
        let mut at = 0;
        while !payload.is_empty() {
            let Some(piece) = self.early.get(at) else { break };
            let (piece_at, piece_len) = (distance(piece.seq, base), piece.bytes.len() as u32);
            let own = distance(seq, base);
            if own >= piece_at + piece_len {
                at += 1;
                continue;
            }
            if own < piece_at {
                let fits = ((piece_at - own) as usize).min(payload.len());
                if !self.put(at, seq, &payload[..fits]) {
                    return payload.len();
                }
                at += 1;
                seq = seq.wrapping_add(fits as u32);
                payload = &payload[fits..];
                continue;
            }
            let covered = ((piece_at + piece_len - own) as usize).min(payload.len());
            seq = seq.wrapping_add(covered as u32);
            payload = &payload[covered..];
            at += 1;
        }
        if payload.is_empty() || self.put(at, seq, payload) {
            0
        } else {
            payload.len()
        }
    }

    fn put(&mut self, at: usize, seq: u32, bytes: &[u8]) -> bool {
        if self.early.len() >= EARLY_PIECES_MAX || self.early_bytes + bytes.len() > 2 * EARLY_BYTES_MAX {
            return false;
        }
        self.early_bytes += bytes.len();
        self.early.insert(
            at,
            Piece {
                seq,
                bytes: bytes.into(),
            },
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Segments as (offset, bytes) of a stream that begins at 1000; what comes out in order, gaps as `_`.
    fn check(segments: &[(u32, &str)], expected: &str) {
        let mut stream = Stream::default();
        stream.begin(999);
        let mut got = String::new();
        for (offset, bytes) in segments {
            feed(
                &mut stream,
                1000u32.wrapping_add(*offset),
                bytes.as_bytes(),
                &mut got,
            );
        }
        loop {
            match stream.give_up() {
                Ready::Gap(n) => got.push_str(&format!("<{n}>")),
                Ready::Kept => drain(&mut stream, &mut got),
                Ready::Nothing => break,
            }
        }
        assert_eq!(got, expected, "{segments:?}");
    }

    #[test]
    fn what_was_kept_before_a_hole_goes_with_it() {
        let mut stream = Stream::default();
        stream.begin(999);
        assert_eq!(stream.in_order(1000, b"ab"), Some(&b"ab"[..]));
        stream.keep(b"ab");
        assert_eq!(stream.insert(1005, b"fg"), 0);
        assert!(matches!(stream.ready(Some(1002)), Ready::Kept));
        assert!(matches!(stream.hole(Some(1002)), Ready::Nothing));
        assert!(matches!(stream.hole(Some(1007)), Ready::Gap(3)));
        assert_eq!(stream.kept(), b"fg");
    }

    fn feed(stream: &mut Stream, seq: u32, bytes: &[u8], got: &mut String) {
        match stream.in_order(seq, bytes) {
            Some(new) => got.push_str(std::str::from_utf8(new).expect("text")),
            None => {
                assert_eq!(stream.insert(seq, bytes), 0);
                drain(stream, got);
            }
        }
    }

    fn drain(stream: &mut Stream, got: &mut String) {
        got.push_str(std::str::from_utf8(stream.kept()).expect("text"));
        stream.take(stream.kept().len() as u64);
    }

    #[test]
    fn order_is_restored() {
        check(&[(0, "ab"), (2, "cd")], "abcd");
        check(&[(2, "cd"), (0, "ab")], "abcd");
        check(&[(0, "ab"), (0, "ab"), (2, "c")], "abc");
        check(&[(0, "abcd"), (2, "XYef")], "abcdef");
        check(&[(2, "cd"), (0, "abXX"), (4, "e")], "abXXe");
        check(&[(6, "gh"), (2, "cd"), (0, "abYYef")], "abYYefgh");
        check(&[(4, "ef"), (2, "cdXXgh"), (0, "ab")], "abcdefgh");
        check(&[(2, "cd")], "<2>cd");
        check(&[(0, "a"), (3, "d"), (6, "g")], "a<2>d<2>g");
    }

    #[test]
    fn what_is_skipped_is_not_kept() {
        let mut stream = Stream::default();
        assert_eq!(stream.in_order(5, b"abc"), Some(&b"abc"[..]));
        stream.take(4);
        assert_eq!(stream.in_order(8, b"defghi"), Some(&b"hi"[..]));
    }

    proptest! {
        /// Any cut of a text into overlapping segments in any order gives the text.
        #[test]
        fn any_order_gives_the_text(
            cuts in prop::collection::vec((0usize..60, 1usize..20), 1..20),
            start in any::<u32>(),
        ) {
            let text: Vec<u8> = (0..80u8).map(|n| b'0' + n % 64).collect();
            let mut stream = Stream::default();
            stream.begin(start.wrapping_sub(1));
            let mut got = String::new();
            let covering = (0..8).rev().map(|n| (n * 10, 10));
            for (at, len) in cuts.into_iter().chain(covering) {
                feed(&mut stream, start.wrapping_add(at as u32), &text[at..(at + len).min(80)], &mut got);
            }
            prop_assert_eq!(got.as_bytes(), &text[..]);
        }
    }
}
