//! A thread that owns something that blocks, and does what it is sent, in order.

use crate::error::StoreError;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Pieces of work that may wait for one worker; what comes on top is refused with [`StoreError::Busy`].
pub const QUEUE_MAX: usize = 1_024;

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// A handle to such a thread. When it is dropped, the thread does what is queued and ends.
pub struct Worker<T: ?Sized + 'static> {
    jobs: Option<SyncSender<Job<T>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: ?Sized + Send + 'static> Worker<T> {
    /// Starts the thread. `name` is what a debugger shows, at most 15 bytes of it.
    pub fn start(name: &str, mut owned: Box<T>) -> Result<Self, StoreError> {
        let (jobs, inbox) = sync_channel::<Job<T>>(QUEUE_MAX);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for job in inbox {
                job(&mut owned);
            }
        });
        let thread = thread.map_err(|source| StoreError::File {
            action: "start a thread for",
            path: name.into(),
            source,
        })?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    fn send<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<oneshot::Receiver<R>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job<T> = Box::new(move |owned| {
            // Who asked may have gone; the work is done all the same.
            let _ = reply.send(work(owned));
        });
        let jobs = self.jobs.as_ref().ok_or(StoreError::Busy)?;
        match jobs.try_send(job) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(StoreError::Busy),
        }
    }

    /// Does `work` on the thread and awaits its result. The work is done even if the caller stops waiting.
    pub async fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, StoreError> {
        self.send(work)?.await.map_err(|_| StoreError::Busy)
    }

    /// The same for code outside a runtime. Blocks.
    pub fn call_blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, StoreError> {
        self.send(work)?.blocking_recv().map_err(|_| StoreError::Busy)
    }
}

impl<T: ?Sized> Drop for Worker<T> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed there.
            let _ = thread.join();
        }
    }
}

impl<T: ?Sized> std::fmt::Debug for Worker<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_in_order_and_also_when_the_handle_goes() {
        let (seen, all) = sync_channel(QUEUE_MAX);
        let worker = Worker::start("test", Box::new(0_u32)).unwrap();
        for _ in 0..100 {
            let seen = seen.clone();
            drop(worker.send(move |n| {
                *n += 1;
                seen.send(*n).unwrap();
            }));
        }
        assert_eq!(worker.call_blocking(|n| *n).unwrap(), 100);
        drop(worker);
        drop(seen);
        assert_eq!(all.iter().collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_queue_refuses() {
        let worker = Worker::start("test", Box::new(())).unwrap();
        // Dropped before the worker, which otherwise would wait for ever where an assertion fails.
        let (go, wait) = sync_channel::<()>(0);
        let first = worker.send(move |()| wait.recv().is_ok()).unwrap();
        let mut refused = 0;
        for _ in 0..QUEUE_MAX + 10 {
            refused += u32::from(worker.send(|()| ()).is_err());
        }
        assert!((10..=11).contains(&refused), "{refused}");
        go.send(()).unwrap();
        assert!(first.blocking_recv().unwrap());
    }
}
