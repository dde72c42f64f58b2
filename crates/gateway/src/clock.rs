//! Timeouts that cost nothing when they do not fire.
//!
//! Nearly every timeout of a proxy is armed and disarmed thousands of times a second and never fires. Here arming is
//! an entry in a list of the thread, and one task looks through the list every [`TICK`]. A timeout fires up to one
//! tick late, never early.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

/// How often overdue timeouts are looked for.
pub const TICK: Duration = Duration::from_millis(25);

/// Milliseconds since this process first asked: small, monotonic, fit for an atomic.
#[must_use]
pub fn now_ms() -> u64 {
    start().elapsed().as_millis() as u64
}

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// Nanoseconds since this process first asked: monotonic, for limits.
#[must_use]
pub fn now_ns() -> u64 {
    start().elapsed().as_nanos() as u64
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}

/// Nanoseconds of the kernel's monotonic clock, the one that kernel programs stamp packets with.
#[must_use]
pub fn monotonic_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

struct Armed {
    at_ms: u64,
    waker: Waker,
}

#[derive(Default)]
struct List {
    armed: Vec<Option<Armed>>,
    free: Vec<usize>,
    idle: Option<Waker>,
}

thread_local! {
    static LIST: RefCell<List> = RefCell::default();
    static TICKING: Cell<bool> = const { Cell::new(false) };
}

/// A timeout: pending until its time has come.
#[derive(Debug)]
pub struct Alarm {
    at_ms: u64,
    slot: Option<usize>,
}

impl Alarm {
    /// Due `after` from now. Nothing is registered before the first poll.
    #[must_use]
    pub fn after(after: Duration) -> Alarm {
        Alarm {
            at_ms: now_ms()
                .saturating_add(after.as_millis() as u64)
                .saturating_add(1),
            slot: None,
        }
    }

    /// Sets the time anew; one that is registered stays so.
    pub fn reset(&mut self, after: Duration) {
        self.at_ms = now_ms()
            .saturating_add(after.as_millis() as u64)
            .saturating_add(1);
        if let Some(slot) = self.slot {
            LIST.with_borrow_mut(|list| match &mut list.armed[slot] {
                Some(armed) => armed.at_ms = self.at_ms,
                // It fired, but nobody asked: as if never registered.
                None => {
                    list.free.push(slot);
                    self.slot = None;
                }
            });
        }
    }

    /// Ready when the time has come. Must be polled on the thread where it was polled first.
    pub fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(slot) = self.slot {
            return LIST.with_borrow_mut(|list| match &mut list.armed[slot] {
                // Due is decided by the ticker alone, so that a poll does not read the clock.
                Some(armed) => {
                    armed.waker.clone_from(cx.waker());
                    Poll::Pending
                }
                None => {
                    list.free.push(slot);
                    self.slot = None;
                    Poll::Ready(())
                }
            });
        }
        if now_ms() >= self.at_ms {
            return Poll::Ready(());
        }
        ensure_ticker();
        LIST.with_borrow_mut(|list| {
            let armed = Some(Armed {
                at_ms: self.at_ms,
                waker: cx.waker().clone(),
            });
            let slot = list.free.pop().unwrap_or(list.armed.len());
            if slot == list.armed.len() {
                list.armed.push(armed);
            } else {
                list.armed[slot] = armed;
            }
            self.slot = Some(slot);
            if let Some(waker) = list.idle.take() {
                waker.wake();
            }
        });
        Poll::Pending
    }

    /// Runs `future`, or gives `None` when the time comes first.
    pub async fn bound<F: Future>(mut self, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            self.poll_due(cx).map(|()| None)
        })
        .await
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            // The thread may be ending, its list gone.
            let _ = LIST.try_with(|list| {
                let mut list = list.borrow_mut();
                list.armed[slot] = None;
                list.free.push(slot);
            });
        }
    }
}

/// Starts the thread's ticker unless it runs. Needs a `LocalSet`.
fn ensure_ticker() {
    struct Running;
    impl Drop for Running {
        fn drop(&mut self) {
            let _ = TICKING.try_with(|ticking| ticking.set(false));
        }
    }
    if TICKING.replace(true) {
        return;
    }
    let running = Running;
    tokio::task::spawn_local(async move {
        let _running = running;
        let due: Rc<RefCell<Vec<Waker>>> = Rc::default();
        loop {
            wait_for_armed().await;
            tokio::time::sleep(TICK).await;
            let now = now_ms();
            LIST.with_borrow_mut(|list| {
                for slot in &mut list.armed {
                    if slot.as_ref().is_some_and(|armed| armed.at_ms <= now)
                        && let Some(armed) = slot.take()
                    {
                        due.borrow_mut().push(armed.waker);
                    }
                }
            });
            // Outside of the borrow: a waker may run code of ours.
            for waker in due.borrow_mut().drain(..) {
                waker.wake();
            }
        }
    });
}

/// Ready when anything is armed, so that an idle thread sleeps.
async fn wait_for_armed() {
    std::future::poll_fn(|cx: &mut Context<'_>| {
        LIST.with_borrow_mut(|list| {
            if list.armed.len() > list.free.len() {
                return Poll::Ready(());
            }
            list.idle = Some(cx.waker().clone());
            Poll::Pending
        })
    })
    .await;
}

/// A future of one alarm.
pub async fn sleep(after: Duration) {
    let mut alarm = Alarm::after(after);
    std::future::poll_fn(move |cx| alarm.poll_due(cx)).await;
}
