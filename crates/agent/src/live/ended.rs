//! Flows that ended: the last of them, and a copy to everyone who listens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use inspect::layer7::Event;
use inspect::record::FlowRecord;

/// Ended flows kept for questions.
const KEPT_MAX: usize = 10_000;

/// Records that wait for one listener before they are dropped and counted.
const QUEUE_MAX: usize = 4_096;

/// Flows that ended.
#[derive(Debug, Default)]
pub struct Ended {
    kept: VecDeque<Arc<FlowRecord>>,
    listeners: Vec<(SyncSender<Told>, Arc<AtomicU64>)>,
    /// Flows ended since the start.
    pub total: u64,
    /// Records that a listener was too slow for.
    pub dropped: u64,
}

/// What listeners hear of.
#[derive(Clone, Debug)]
pub enum Told {
    /// A flow has ended.
    Flow(Arc<FlowRecord>),
    /// Something happened in a flow, here as it stood then.
    Event(Arc<Event>, Arc<FlowRecord>),
}

/// A listener's end.
#[derive(Debug)]
pub struct Subscription {
    pub records: Receiver<Told>,
    /// Records lost because this listener was too slow.
    pub lost: Arc<AtomicU64>,
}

impl Ended {
    /// Adds a record and hands it to every listener; none can make this wait.
    pub fn push(&mut self, record: FlowRecord) {
        let record = Arc::new(record);
        self.total += 1;
        self.hand_out(&Told::Flow(record.clone()));
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(record);
    }

    /// Hands a record of layer 7 to every listener, with its flow as it stands.
    pub fn tell(&mut self, event: Arc<Event>, flow: Arc<FlowRecord>) {
        self.hand_out(&Told::Event(event, flow));
    }

    /// Whether anybody listens.
    #[must_use]
    pub fn has_listeners(&self) -> bool {
        !self.listeners.is_empty()
    }

    fn hand_out(&mut self, told: &Told) {
        let dropped = &mut self.dropped;
        self.listeners
            .retain(|(listener, lost)| match listener.try_send(told.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    lost.fetch_add(1, Ordering::Relaxed);
                    *dropped += 1;
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            });
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
