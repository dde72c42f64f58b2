//! The body of a request on its way out, with what must be known of it: whether it has been sent.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};

use crate::body::{Body, BodyError};

/// How far a streamed body is.
#[derive(Default)]
pub(super) struct Progress {
    moved: Cell<u64>,
    is_done: Cell<bool>,
    failed: Cell<bool>,
}

impl Progress {
    /// Grows with every frame.
    pub(super) fn moved(&self) -> u64 {
        self.moved.get()
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done.get()
    }

    pub(super) fn failed(&self) -> bool {
        self.failed.get()
    }
}

pub(super) struct Outgoing {
    body: Body,
    progress: Option<Rc<Progress>>,
}

impl Outgoing {
    /// Bodies at hand need no watching: they are sent with the header.
    pub(super) fn new(body: Body) -> (Outgoing, Option<Rc<Progress>>) {
        let progress = match body {
            Body::Empty | Body::Full(_) => None,
            _ => Some(Rc::<Progress>::default()),
        };
        (
            Outgoing {
                body,
                progress: progress.clone(),
            },
            progress,
        )
    }

    pub(super) fn into_body(self) -> Body {
        self.body
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Some(progress) = &this.progress {
            match &polled {
                Poll::Ready(Some(Ok(_))) => {
                    progress.moved.set(progress.moved.get() + 1);
                    progress.is_done.set(this.body.is_end_stream());
                }
                Poll::Ready(Some(Err(_))) => progress.failed.set(true),
                Poll::Ready(None) => {
                    progress.moved.set(progress.moved.get() + 1);
                    progress.is_done.set(true);
                }
                Poll::Pending => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
