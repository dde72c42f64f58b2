//! Flows that ended: the last of them, and a copy to everyone who listens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use inspect::record::FlowRecord;

/// Ended flows kept for questions.
const KEPT_MAX: usize = 10_000;

/// Records that wait for one listener before they are dropped and counted.
const QUEUE_MAX: usize = 4_096;

/// Flows that ended.
#[derive(Debug, Default)]
pub struct Ended {
    kept: VecDeque<Arc<FlowRecord>>,
    listeners: Vec<(SyncSender<Arc<FlowRecord>>, Arc<AtomicU64>)>,
    /// Flows ended since the start.
    pub total: u64,
    /// Records that a listener was too slow for.
    pub dropped: u64,
}

/// A listener's end.
#[derive(Debug)]
pub struct Subscription {
    pub records: Receiver<Arc<FlowRecord>>,
    /// Records lost because this listener was too slow.
    pub lost: Arc<AtomicU64>,
}

impl Ended {
    /// Adds a record and hands it to every listener; none can make this wait.
    pub fn push(&mut self, record: FlowRecord) {
        let record = Arc::new(record);
        self.total += 1;
        let dropped = &mut self.dropped;
        self.listeners
            .retain(|(listener, lost)| match listener.try_send(record.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    lost.fetch_add(1, Ordering::Relaxed);
                    *dropped += 1;
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            });
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(record);
    }

    /// Records of flows that end from now on.
    pub fn subscribe(&mut self) -> Subscription {
        let (sender, records) = sync_channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        self.listeners.push((sender, lost.clone()));
        Subscription { records, lost }
    }

    /// The last ended flows, latest first.
    pub fn latest(&self) -> impl Iterator<Item = &Arc<FlowRecord>> {
        self.kept.iter().rev()
    }
}
