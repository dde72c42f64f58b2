//! The queue and the one thread that writes what is in it.

use super::day::{self, DayWriter};
use super::lines::{LineTarget, LineWriter};
use super::record::{AuditRecord, CallRecord, CallSink};
use crate::SetAside;
use crate::civil;
use crate::error::StoreError;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long records are gathered for one transaction.
const GATHER: Duration = Duration::from_millis(50);
/// Records that end the gathering early.
const BATCH: usize = 4_096;
/// Bytes of bodies that may wait for the writer.
const BODIES_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How often retention looks for files to drop.
const RETENTION_EVERY: Duration = Duration::from_secs(60);
/// Files that are open for writing: today's, and yesterday's for calls that began before midnight.
const FILES_OPEN_MAX: usize = 2;
/// Damaged files that the status names.
const SET_ASIDE_TOLD_MAX: usize = 16;

/// Where calls are recorded, and how much of them.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// The folder of the files of days; `None`: no history.
    pub history: Option<PathBuf>,
    /// Days that are kept besides the current one.
    pub days_kept: u32,
    /// Bytes that all files may have together; the oldest days go first, today never does.
    pub bytes_kept: u64,
    /// Records that may wait for the writer; what comes on top is lost, and counted.
    pub queue: usize,
    /// Where JSON lines go.
    pub lines: Option<LineTarget>,
    /// Bytes of a body that the audit trail keeps; `None`: it is off.
    pub audit_bytes_max: Option<usize>,
}

impl CallOptions {
    /// The usual: 30 days, 10 GiB, no lines, no bodies.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            history: Some(folder.into()),
            days_kept: 30,
            bytes_kept: 10 * 1024 * 1024 * 1024,
            queue: 65_536,
            lines: None,
            audit_bytes_max: None,
        }
    }
}

/// What has happened to records since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallStatus {
    /// Taken into the queue.
    pub taken: u64,
    /// Lost because the queue was full.
    pub lost_queue: u64,
    /// Not in the history because writing failed.
    pub lost_history: u64,
    /// Not in the JSON lines because writing failed.
    pub lost_lines: u64,
    /// Bodies lost, for either reason.
    pub lost_bodies: u64,
    /// Bodies cut to the limit.
    pub cut_bodies: u64,
    /// Days dropped by retention.
    pub days_dropped: u64,
    /// The last fault, in words.
    pub last_error: Option<String>,
    /// Damaged files that were renamed.
    pub set_aside: Vec<SetAside>,
}

#[derive(Debug, Default)]
struct Counters {
    taken: AtomicU64,
    lost_queue: AtomicU64,
    lost_history: AtomicU64,
    lost_lines: AtomicU64,
    lost_bodies: AtomicU64,
    cut_bodies: AtomicU64,
    days_dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    calls: Vec<CallRecord>,
    bodies: Vec<AuditRecord>,
    bodies_bytes: usize,
    flushes: Vec<oneshot::Sender<()>>,
    is_stopping: bool,
}

#[derive(Debug, Default)]
struct Faults {
    last_error: Option<String>,
    set_aside: Vec<SetAside>,
}

#[derive(Debug)]
struct Shared {
    options: CallOptions,
    queue: Mutex<Queue>,
    wake: Condvar,
    counters: Counters,
    faults: Mutex<Faults>,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, error: &StoreError) {
        let text = match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        self.faults().last_error = Some(text);
    }
}

/// The records of calls. Dropping it writes what is in the queue and ends the thread.
#[derive(Debug)]
pub struct Calls {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Calls {
    /// Starts the writer. `clock` tells the milliseconds since 1970; retention goes by it.
    pub fn start(
        options: CallOptions,
        clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            options,
            queue: Mutex::default(),
            wake: Condvar::new(),
            counters: Counters::default(),
            faults: Mutex::default(),
        });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("weir-calls".to_owned())
            .spawn(move || Writer::new(&of_thread, &*clock).run())
            .map_err(|source| StoreError::File {
                action: "start a thread for",
                path: "weir-calls".into(),
                source,
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Waits until what was recorded before is written, or counted as lost.
    pub async fn flush(&self) {
        let (done, answer) = oneshot::channel();
        self.shared.queue().flushes.push(done);
        self.shared.wake.notify_one();
        // An error means that the writer has ended, and then everything is written.
        let _ = answer.await;
    }

    /// What has happened so far.
    pub fn status(&self) -> CallStatus {
        let counters = &self.shared.counters;
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let faults = self.shared.faults();
        CallStatus {
            taken: count(&counters.taken),
            lost_queue: count(&counters.lost_queue),
            lost_history: count(&counters.lost_history),
            lost_lines: count(&counters.lost_lines),
            lost_bodies: count(&counters.lost_bodies),
            cut_bodies: count(&counters.cut_bodies),
            days_dropped: count(&counters.days_dropped),
            last_error: faults.last_error.clone(),
            set_aside: faults.set_aside.clone(),
        }
    }
}

impl CallSink for Calls {
    fn record(&self, call: CallRecord) {
        let mut queue = self.shared.queue();
        if queue.calls.len() >= self.shared.options.queue {
            drop(queue);
            self.shared.counters.lost_queue.fetch_add(1, Relaxed);
            return;
        }
        queue.calls.push(call);
        let n_waiting = queue.calls.len();
        drop(queue);
        self.shared.counters.taken.fetch_add(1, Relaxed);
        if n_waiting == 1 || n_waiting == BATCH {
            self.shared.wake.notify_one();
        }
    }

    fn audit(&self, bodies: AuditRecord) {
        if !self.wants_audit() {
            return;
        }
        let bytes = bodies.request.len() + bodies.response.len() + size_of::<AuditRecord>();
        let mut queue = self.shared.queue();
        if queue.bodies_bytes + bytes > BODIES_QUEUE_BYTES_MAX {
            drop(queue);
            self.shared.counters.lost_bodies.fetch_add(1, Relaxed);
            return;
        }
        queue.bodies_bytes += bytes;
        queue.bodies.push(bodies);
        let is_first = queue.bodies.len() == 1;
        drop(queue);
        if is_first {
            self.shared.wake.notify_one();
        }
    }

    fn wants_audit(&self) -> bool {
        self.shared.options.audit_bytes_max.is_some() && self.shared.options.history.is_some()
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.shared.queue().is_stopping = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed there.
            let _ = thread.join();
        }
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    clock: &'a (dyn Fn() -> i64 + Send + Sync),
    lines: Option<LineWriter>,
    /// The last used first.
    days: Vec<DayWriter>,
    number: u32,
    retain_at: Instant,
    /// Taken from the queue; its room is used again.
    calls: Vec<CallRecord>,
    bodies: Vec<AuditRecord>,
}

impl<'a> Writer<'a> {
    fn new(shared: &'a Shared, clock: &'a (dyn Fn() -> i64 + Send + Sync)) -> Self {
        Self {
            shared,
            clock,
            lines: shared.options.lines.clone().map(LineWriter::new),
            days: Vec::new(),
            // Two processes that write to one file begin at different numbers.
            number: std::process::id().wrapping_mul(40_503),
            retain_at: Instant::now(),
            calls: Vec::new(),
            bodies: Vec::new(),
        }
    }

    fn run(mut self) {
        loop {
            let (flushes, is_stopping) = self.gather();
            if let Some(lines) = &mut self.lines
                && !self.calls.is_empty()
                && let Err(error) = lines.write(&self.calls)
            {
                self.shared
                    .counters
                    .lost_lines
                    .fetch_add(self.calls.len() as u64, Relaxed);
                self.shared.note(&error);
            }
            if let Some(folder) = &self.shared.options.history {
                self.write_history(folder);
                if Instant::now() >= self.retain_at {
                    self.retain_at = Instant::now() + RETENTION_EVERY;
                    self.retain(folder);
                }
            }
            // After a burst the room goes back.
            self.calls.clear();
            self.calls.shrink_to(BATCH);
            self.bodies = Vec::new();
            for flush in flushes {
                // Who awaited it may have gone.
                let _ = flush.send(());
            }
            if is_stopping && self.shared.queue().calls.is_empty() {
                return;
            }
        }
    }

    /// Waits for records, and a little longer for more of them.
    fn gather(&mut self) -> (Vec<oneshot::Sender<()>>, bool) {
        let mut queue = self.shared.queue();
        let is_urgent =
            |queue: &Queue| queue.is_stopping || !queue.flushes.is_empty() || queue.calls.len() >= BATCH;
        loop {
            let now = Instant::now();
            if is_urgent(&queue)
                || !queue.calls.is_empty()
                || !queue.bodies.is_empty()
                || now >= self.retain_at
            {
                break;
            }
            let waited = self.shared.wake.wait_timeout(queue, self.retain_at - now);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let waited = self
            .shared
            .wake
            .wait_timeout_while(queue, GATHER, |queue| !is_urgent(queue));
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::swap(&mut queue.calls, &mut self.calls);
        std::mem::swap(&mut queue.bodies, &mut self.bodies);
        queue.bodies_bytes = 0;
        (std::mem::take(&mut queue.flushes), queue.is_stopping)
    }

    fn write_history(&mut self, folder: &Path) {
        let calls = std::mem::take(&mut self.calls);
        let bodies = std::mem::take(&mut self.bodies);
        let cut_at = self.shared.options.audit_bytes_max.unwrap_or(0);
        let mut days: Vec<i64> = calls.iter().map(|call| day::day_of(call.at_ms)).collect();
        days.extend(bodies.iter().map(|bodies| day::day_of(bodies.at_ms)));
        days.sort_unstable();
        days.dedup();
        for day in days {
            let calls: Vec<_> = calls
                .iter()
                .filter(|call| day::day_of(call.at_ms) == day)
                .collect();
            let bodies: Vec<_> = bodies
                .iter()
                .filter(|bodies| day::day_of(bodies.at_ms) == day)
                .collect();
            let n_cut = bodies
                .iter()
                .flat_map(|bodies| [&bodies.request, &bodies.response]);
            let n_cut = n_cut.filter(|body| body.len() > cut_at).count() as u64;
            let counters = &self.shared.counters;
            match self.write_day(folder, day, &calls, &bodies, cut_at) {
                Ok(n_refused) => {
                    counters.lost_history.fetch_add(n_refused, Relaxed);
                    counters.cut_bodies.fetch_add(n_cut, Relaxed);
                }
                Err(error) => {
                    counters.lost_history.fetch_add(calls.len() as u64, Relaxed);
                    counters.lost_bodies.fetch_add(bodies.len() as u64, Relaxed);
                    self.shared.note(&error);
                    // Opened again for the next batch: a damaged file is then found and set aside.
                    self.days.retain(|open| open.day != day);
                }
            }
        }
        self.calls = calls;
    }

    fn write_day(
        &mut self,
        folder: &Path,
        day: i64,
        calls: &[&CallRecord],
        bodies: &[&AuditRecord],
        cut_at: usize,
    ) -> Result<u64, StoreError> {
        self.days.retain(|open| open.day != day || !open.is_gone());
        if let Some(at) = self.days.iter().position(|open| open.day == day) {
            self.days[..=at].rotate_right(1);
        } else {
            let (opened, set_aside) = DayWriter::open(folder, day)?;
            let mut faults = self.shared.faults();
            let room = SET_ASIDE_TOLD_MAX.saturating_sub(faults.set_aside.len());
            faults.set_aside.extend(set_aside.into_iter().take(room));
            drop(faults);
            self.days.insert(0, opened);
            self.days.truncate(FILES_OPEN_MAX);
        }
        self.days[0].write(calls, bodies, cut_at, &mut self.number)
    }

    /// Drops whole days: those too old, and the oldest while all together are too large. Never today.
    fn retain(&mut self, folder: &Path) {
        let today = civil::day_of((self.clock)());
        let Shared {
            options, counters, ..
        } = self.shared;
        let days = match day::days(folder) {
            Ok(days) => days,
            // Nothing has been written yet.
            Err(StoreError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.shared.note(&error),
        };
        let sizes: Vec<(i64, u64)> = days
            .into_iter()
            .map(|day| (day, day::bytes_of(folder, day)))
            .collect();
        let mut total: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
        for (day, bytes) in sizes {
            let is_old = day < today.saturating_sub(i64::from(options.days_kept));
            if day >= today || !(is_old || total > options.bytes_kept) {
                continue;
            }
            self.days.retain(|open| open.day != day);
            match day::remove(folder, day) {
                Ok(()) => {
                    total -= bytes;
                    counters.days_dropped.fetch_add(1, Relaxed);
                }
                Err(error) => self.shared.note(&error),
            }
        }
    }
}
