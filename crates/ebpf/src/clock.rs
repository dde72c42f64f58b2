//! Kernel time, and budgets per window of it.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use wire::Clock;
use wire::rows::{Buckets, Settings};

use crate::maps::{BUCKETS, SETTINGS, load_settings};

/// CLOCK_MONOTONIC: coarse from jiffies (free), exact from ktime (about 30 ns).
#[derive(Clone, Copy)]
pub struct KernelClock;

impl Clock for KernelClock {
    #[inline(always)]
    fn coarse_ns(&self) -> u64 {
        let load = load_settings();
        // SAFETY: a helper without arguments.
        let jiffies = unsafe { bpf_jiffies64() };
        (jiffies.wrapping_mul(load.jiffy_ns as u64)).wrapping_add(load.jiffies_offset_ns as u64)
    }

    #[inline(always)]
    fn exact_ns(&self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_ns() }
    }
}

/// Takes one from a budget ([`wire::rows::budget`]) of this CPU and window; `false` if it is spent.
#[inline(always)]
pub fn admit(class: usize) -> bool {
    let Some(buckets) = BUCKETS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a per-CPU row; programs that hold it are not interrupted by one another's use.
    let buckets: &mut Buckets = unsafe { &mut *buckets };
    // SAFETY: a helper without arguments.
    let window = unsafe { bpf_jiffies64() } >> (load_settings().window_shift & 63);
    if buckets.window != window {
        let Some(settings) = SETTINGS.get(0) else {
            return false;
        };
        let settings: &Settings = settings;
        buckets.window = window;
        buckets.left = settings.per_window;
    }
    let left = &mut buckets.left[class];
    if *left == 0 {
        return false;
    }
    *left -= 1;
    true
}
