//! Workers of an image before, or set aside for another: they go on with what they have, then end.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::broker::{POLL_MS, STOP_TIMEOUT, say};
use super::gateway::role;

/// Workers whose successor serves or is about to: they end what they have begun.
#[derive(Debug)]
pub(super) struct Draining {
    workers: Vec<(Pid, Option<Instant>)>,
    /// Time that each has, once it is told.
    pub(super) timeout: Duration,
}

impl Draining {
    /// Those that another image has left.
    pub(super) fn new(workers: &[Pid]) -> Self {
        Self {
            workers: workers.iter().map(|&pid| (pid, None)).collect(),
            timeout: STOP_TIMEOUT + role::DRAIN_DEFAULT,
        }
    }

    /// One that serves until [`Draining::begin`].
    pub(super) fn add(&mut self, pid: Pid) {
        self.workers.push((pid, None));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    pub(super) fn pids(&self) -> Vec<Pid> {
        self.workers.iter().map(|&(pid, _)| pid).collect()
    }

    /// Tells those that serve to take no more.
    pub(super) fn begin(&mut self) {
        for (pid, deadline) in &mut self.workers {
            if deadline.is_none() {
                let _ = kill(*pid, Signal::SIGTERM);
                *deadline = Some(Instant::now() + self.timeout);
            }
        }
    }

    /// Forgets those that have ended, and kills those whose time is over. Whether none is left.
    pub(super) fn reap(&mut self) -> bool {
        self.workers.retain(|&(pid, deadline)| {
            if !matches!(
                waitpid(pid, Some(WaitPidFlag::WNOHANG)),
                Ok(WaitStatus::StillAlive)
            ) {
                return false;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                say("a worker does not end by itself: it is killed");
                let _ = kill(pid, Signal::SIGKILL);
            }
            true
        });
        self.workers.is_empty()
    }

    /// Waits until all have ended.
    pub(super) fn end(&mut self) {
        self.begin();
        while !self.reap() {
            std::thread::sleep(Duration::from_millis(POLL_MS.into()));
        }
    }
}
