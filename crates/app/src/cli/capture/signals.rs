//! SIGINT, SIGTERM and SIGHUP ask the capture to end; it then drains, writes and closes.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static IS_STOP_ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn ask_to_stop(_signal: libc::c_int) {
    IS_STOP_ASKED.store(true, Ordering::Relaxed);
}

/// Whether a signal has come.
pub(super) fn is_stop_asked() -> bool {
    IS_STOP_ASKED.load(Ordering::Relaxed)
}

/// Begins to listen. System calls that wait are interrupted, so that a signal is noticed at once.
pub(super) fn listen() -> Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(ask_to_stop),
        SaFlags::empty(),
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic, which is safe at any moment.
        let before = unsafe { sigaction(signal, &action) }.context("cannot handle signals")?;
        if signal == Signal::SIGHUP && matches!(before.handler(), SigHandler::SigIgn) {
            // Started by nohup: stays so.
            // SAFETY: the action that was there before.
            unsafe { sigaction(signal, &before) }.context("cannot handle signals")?;
        }
    }
    Ok(())
}
