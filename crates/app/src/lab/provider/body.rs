//! The body of an answer: pieces at a pace, cut where asked, with its entry in the journal.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use clap::ValueEnum;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::journal::Entry;
use super::wire::Piece;
use crate::lab::random::Random;

/// Lets what was written before a cut reach the network.
const BEFORE_CUT: Duration = Duration::from_millis(5);
/// Longest run of bytes with `--chunking random`.
const RANDOM_RUN_MAX: u32 = 48;

/// How bodies are cut into writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Chunking {
    /// An event a write
    #[default]
    Whole,
    /// A byte a write
    Bytes,
    /// At random places, also inside a character or a line end
    Random,
}

/// The connection is closed without an end of the body.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
pub(crate) struct Cut;

impl From<Infallible> for Cut {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    #[default]
    Whole,
    /// An orderly end of something that was not all.
    Broken,
    Cut,
}

#[derive(Debug, Default)]
pub(crate) struct SimBody {
    pieces: VecDeque<Slice>,
    /// For an answer that is not a stream.
    length: Option<u64>,
    drip: Duration,
    ending: Ending,
    pause: Option<Pin<Box<Sleep>>>,
    entry: Option<Entry>,
    is_flushed: bool,
}

#[derive(Debug)]
struct Slice {
    bytes: Bytes,
    /// Where a piece ends: what it carried.
    carries: Option<(u64, u64)>,
}

impl SimBody {
    pub(crate) fn empty() -> Self {
        SimBody::default()
    }

    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        SimBody::whole(Piece::new(bytes), Chunking::Whole, None)
    }

    /// One document.
    pub(crate) fn whole(piece: Piece, chunking: Chunking, entry: Option<Entry>) -> Self {
        let length = piece.bytes.len() as u64;
        SimBody {
            length: Some(length),
            ..SimBody::stream(vec![piece], chunking, entry)
        }
    }

    pub(crate) fn stream(pieces: Vec<Piece>, chunking: Chunking, entry: Option<Entry>) -> Self {
        let mut slices = VecDeque::with_capacity(pieces.len());
        for piece in pieces {
            let mut rest = piece.bytes;
            let mut random = Random::new(rest.len() as u64, "chunks");
            while !rest.is_empty() {
                let wanted = match chunking {
                    Chunking::Whole => rest.len(),
                    Chunking::Bytes => 1,
                    Chunking::Random => 1 + random.below(RANDOM_RUN_MAX) as usize,
                };
                let bytes = rest.split_to(wanted.min(rest.len()));
                let carries = rest.is_empty().then_some((piece.output, piece.reasoning));
                slices.push_back(Slice { bytes, carries });
            }
        }
        SimBody {
            pieces: slices,
            entry,
            ..SimBody::default()
        }
    }

    /// Waits between pieces.
    pub(crate) fn dripping(mut self, drip: Duration) -> Self {
        self.drip = drip;
        self
    }

    pub(crate) fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    /// Declares another length than the body has, as an answer that is cut does.
    pub(crate) fn declaring(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    fn end(&mut self) {
        if let Some(mut entry) = self.entry.take() {
            match self.ending {
                Ending::Whole => entry.done(),
                Ending::Broken | Ending::Cut => entry.broken(),
            }
        }
    }
}

impl Body for SimBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let Some(slice) = self.pieces.pop_front() else {
            if self.ending == Ending::Cut {
                if !self.is_flushed {
                    self.is_flushed = true;
                    let mut pause = Box::pin(sleep(BEFORE_CUT));
                    let waiting = pause.as_mut().poll(context);
                    self.pause = Some(pause);
                    ready!(waiting);
                }
                self.end();
                return Poll::Ready(Some(Err(Cut)));
            }
            self.end();
            return Poll::Ready(None);
        };
        if let Some((output, reasoning)) = slice.carries {
            if let Some(entry) = &mut self.entry {
                entry.sent(output, reasoning);
            }
            if !self.drip.is_zero() && !self.pieces.is_empty() {
                self.pause = Some(Box::pin(sleep(self.drip)));
            }
        }
        if self.pieces.is_empty() && self.ending != Ending::Cut {
            self.end();
        }
        Poll::Ready(Some(Ok(Frame::data(slice.bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.ending != Ending::Cut
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A connection whose writes are cut as well, heads included.
#[derive(Debug)]
pub(crate) struct Choppy {
    stream: TcpStream,
    /// What was read before, and is to be read again.
    before: Bytes,
    chunking: Chunking,
    random: Random,
    /// Whether the runtime had a turn since the last write.
    has_yielded: bool,
}

impl Choppy {
    pub(crate) fn new(stream: TcpStream, before: Vec<u8>, chunking: Chunking, seed: u64) -> TokioIo<Self> {
        TokioIo::new(Choppy {
            stream,
            before: before.into(),
            chunking,
            random: Random::new(seed, "writes"),
            has_yielded: true,
        })
    }
}

impl AsyncRead for Choppy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.before.is_empty() {
            let length = self.before.len().min(buffer.remaining());
            buffer.put_slice(&self.before.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Choppy {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wanted = match self.chunking {
            Chunking::Whole => return Pin::new(&mut self.stream).poll_write(context, bytes),
            Chunking::Bytes => 1,
            Chunking::Random => 1 + self.random.below(RANDOM_RUN_MAX) as usize,
        };
        if !self.has_yielded {
            // The reader gets a chance to read what is there before more comes.
            self.has_yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let written =
            ready!(Pin::new(&mut self.stream).poll_write(context, &bytes[..wanted.min(bytes.len())]));
        self.has_yielded = false;
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
