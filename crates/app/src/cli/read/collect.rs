//! The largest flows by some measure, in order.

use std::cmp::Reverse;
use std::io;

use clap::ValueEnum;
use inspect::record::{FlowRecord, TcpHealth};

use super::{Ended, Outcome, Sink};

/// What flows are sorted by; ties by time and identifier, so that the order is always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    Bytes,
    Packets,
    Duration,
    /// Earliest first
    Start,
    /// Earliest first
    End,
    /// Longest round trip first
    Rtt,
    Retransmits,
}

impl Sort {
    fn rank(self, record: &FlowRecord) -> (Reverse<u64>, u64, u64) {
        let tcp = record.tcp.as_ref();
        let measure = match self {
            Self::Bytes => record.bytes(),
            Self::Packets => record.packets(),
            Self::Duration => record.duration_ns(),
            Self::Start => u64::MAX - record.start_ns,
            Self::End => u64::MAX - record.end_ns,
            Self::Rtt => tcp.and_then(TcpHealth::rtt_us).map_or(0, u64::from),
            Self::Retransmits => tcp.map_or(0, TcpHealth::retransmits),
        };
        (Reverse(measure), record.start_ns, record.id)
    }
}

/// Holds back flows until all are known, then hands on the first `limit` in order. Holds at most
/// twice the limit.
pub(super) struct Collector<S> {
    sort: Sort,
    limit: Option<usize>,
    held: Vec<Ended>,
    inner: S,
}

impl<S: Sink> Collector<S> {
    pub(super) fn new(sort: Sort, limit: Option<usize>, inner: S) -> Self {
        Self {
            sort,
            limit,
            held: Vec::new(),
            inner,
        }
    }

    fn cut(&mut self) {
        let Some(limit) = self.limit else { return };
        if self.held.len() > limit {
            let sort = self.sort;
            self.held
                .select_nth_unstable_by_key(limit, |flow| sort.rank(&flow.record));
            self.held.truncate(limit);
        }
    }
}

impl<S: Sink> Sink for Collector<S> {
    fn flow(&mut self, flow: Ended) -> io::Result<()> {
        self.held.push(flow);
        if self
            .limit
            .is_some_and(|limit| self.held.len() >= 2 * limit.max(64))
        {
            self.cut();
        }
        Ok(())
    }

    fn finish(&mut self, outcome: &Outcome) -> io::Result<()> {
        self.cut();
        let sort = self.sort;
        self.held.sort_by_cached_key(|flow| sort.rank(&flow.record));
        for flow in self.held.drain(..) {
            self.inner.flow(flow)?;
        }
        self.inner.finish(outcome)
    }
}
