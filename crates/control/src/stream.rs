//! The body of a stream of flow records.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::host::Subscription;
use crate::server::until_stopped;

/// Records that go out in one piece, if as many wait.
const BATCH_MAX: usize = 256;

/// Lines as they come; an empty line after some silence; `{"lost":N}` when N more records did not
/// fit since the last such line. Ends when the host or the server does.
pub(crate) struct RecordStream {
    subscription: Subscription,
    heartbeat: Interval,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    lost_told: u64,
    _slot: OwnedSemaphorePermit,
}

impl RecordStream {
    pub(crate) fn new(
        subscription: Subscription,
        heartbeat: Duration,
        mut stopped: watch::Receiver<bool>,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        let mut interval = tokio::time::interval_at(Instant::now() + heartbeat, heartbeat);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            subscription,
            heartbeat: interval,
            stopped: Box::pin(async move { until_stopped(&mut stopped).await }),
            lost_told: 0,
            _slot: slot,
        }
    }

    fn lost_line(&mut self) -> Option<String> {
        let lost = self.subscription.lost.load(Ordering::Relaxed);
        let more = lost.saturating_sub(self.lost_told);
        self.lost_told = lost;
        (more > 0).then(|| format!("{{\"lost\":{more}}}\n"))
    }
}

impl Body for RecordStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        let mut lines = Vec::new();
        let is_beat = this.heartbeat.poll_tick(context).is_ready();
        let received = this
            .subscription
            .lines
            .poll_recv_many(context, &mut lines, BATCH_MAX);
        let is_over = received == Poll::Ready(0);
        let mut text = String::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        if !lines.is_empty() {
            this.heartbeat.reset();
        }
        if is_beat || !lines.is_empty() || is_over {
            text.extend(this.lost_line());
        }
        if text.is_empty() {
            if is_over {
                return Poll::Ready(None);
            }
            if !is_beat {
                return Poll::Pending;
            }
            text.push('\n');
        }
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}
