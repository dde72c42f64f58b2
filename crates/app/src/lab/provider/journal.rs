//! What was really produced, call by call: `GET /sim/calls`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::tokens::Usage;

/// Most calls kept; the oldest goes, and is counted.
const CALLS_MAX: usize = 65_536;

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Call {
    /// In the order of their begin.
    pub(crate) number: u64,
    /// The identifier in the answer.
    pub(crate) id: String,
    /// What the conversation calls it, in a line `mark: X`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) mark: String,
    pub(crate) provider: &'static str,
    pub(crate) wire: &'static str,
    pub(crate) model: String,
    pub(crate) key: String,
    pub(crate) streamed: bool,
    pub(crate) status: u16,
    /// Up to the end, a cut, or the client's leaving.
    pub(crate) usage: Usage,
    pub(crate) chunks: u64,
    /// The client left before the end.
    pub(crate) cancelled: bool,
    /// The simulator cut it, or sent an error in the stream.
    pub(crate) broken: bool,
    pub(crate) started_ms: i64,
    pub(crate) ended_ms: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    inner: Mutex<Inner>,
    is_off: bool,
}

#[derive(Debug, Default)]
struct Inner {
    calls: VecDeque<Call>,
    begun: u64,
    dropped: u64,
}

impl Journal {
    pub(crate) fn new(is_off: bool) -> Self {
        Journal {
            is_off,
            ..Journal::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(self: &Arc<Self>) -> Entry {
        let number = {
            let mut inner = self.lock();
            inner.begun += 1;
            inner.begun
        };
        Entry {
            journal: Arc::clone(self),
            call: Call {
                number,
                started_ms: now_ms(),
                ..Call::default()
            },
            full: Usage::default(),
            sent: (0, 0),
            all: (0, 0),
            is_done: false,
            is_unwanted: false,
        }
    }

    /// JSON lines, and how many calls were dropped before them.
    pub(crate) fn lines(&self) -> (String, u64) {
        let inner = self.lock();
        let mut text = String::new();
        for call in &inner.calls {
            text.push_str(&serde_json::to_string(call).unwrap_or_default());
            text.push('\n');
        }
        (text, inner.dropped)
    }

    /// Calls begun since the start, calls kept, calls dropped.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let inner = self.lock();
        (inner.begun, inner.calls.len() as u64, inner.dropped)
    }

    pub(crate) fn clear(&self) {
        let mut inner = self.lock();
        inner.calls.clear();
        inner.dropped = 0;
    }

    fn add(&self, call: Call) {
        if self.is_off {
            return;
        }
        let mut inner = self.lock();
        if inner.calls.len() >= CALLS_MAX {
            inner.calls.pop_front();
            inner.dropped += 1;
        }
        inner.calls.push_back(call);
    }
}

/// A call under way. It goes to the journal when dropped, which is also what happens when a client leaves.
#[derive(Debug)]
pub(crate) struct Entry {
    journal: Arc<Journal>,
    pub(crate) call: Call,
    /// What the answer says it used.
    full: Usage,
    /// Tokens of output and of reasoning: handed out, and to be handed out.
    sent: (u64, u64),
    all: (u64, u64),
    is_done: bool,
    is_unwanted: bool,
}

impl Entry {
    pub(crate) fn expect(&mut self, usage: Usage, all: (u64, u64)) {
        self.full = usage;
        self.all = all;
    }

    /// The head is about to go out: from now on the prompt was read.
    pub(crate) fn answering(&mut self) {
        self.call.usage = self.full.of_prompt();
    }

    pub(crate) fn sent(&mut self, output: u64, reasoning: u64) {
        self.call.chunks += 1;
        self.sent.0 += output;
        self.sent.1 += reasoning;
    }

    /// Not a call of its own after all.
    pub(crate) fn unwanted(mut self) {
        self.is_unwanted = true;
    }

    /// All was said.
    pub(crate) fn done(&mut self) {
        self.is_done = true;
        self.call.usage = self.full;
    }

    /// Ends on our side before all was said.
    pub(crate) fn broken(&mut self) {
        self.call.broken = true;
        self.is_done = true;
        self.count_part();
    }

    /// Where `usage:` set other counts than the text has, the same part of them.
    fn count_part(&mut self) {
        let part = |full: u64, sent: u64, all: u64| (full * sent.min(all)).checked_div(all).unwrap_or(0);
        self.call.usage.output = part(self.full.output, self.sent.0, self.all.0);
        self.call.usage.reasoning = part(self.full.reasoning, self.sent.1, self.all.1);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.is_unwanted {
            return;
        }
        if !self.is_done {
            self.call.cancelled = true;
            self.count_part();
        }
        self.call.ended_ms = now_ms();
        self.journal.add(std::mem::take(&mut self.call));
    }
}

pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
