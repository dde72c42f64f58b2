//! What has to be asked of the running kernel before programs are loaded: how long a jiffy is,
//! where tracepoints keep their fields, what drop reasons are called.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::time::{ClockId, clock_gettime};
use wire::rows::{FIELD_MISSING, TracepointFields};

use crate::sys;

/// How jiffies relate to CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jiffies {
    /// Length of one, ns.
    pub ns: u32,
    /// Added to jiffies × `ns`, gives CLOCK_MONOTONIC.
    pub offset_ns: i64,
}

/// Frequencies a kernel can be built with, Hz.
const FREQUENCIES_HZ: [u64; 4] = [100, 250, 300, 1000];

impl Jiffies {
    /// Reads the counter through a three-instruction program and compares it with the clock.
    pub fn calibrate() -> io::Result<Self> {
        let low = sys::load_jiffies_reader(0)?;
        let high = sys::load_jiffies_reader(32)?;
        // Five minutes after the boot every frequency fits the reading; wait that moment out.
        while monotonic_ns()?.abs_diff(300_000_000_000) < 500_000_000 {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        // The counter lags the clock by up to a tick: the smallest difference is nearest to none.
        let mut best = None;
        for _ in 0..8 {
            let before_ns = monotonic_ns()?;
            let jiffies = u64::from(sys::test_run(high.as_fd(), &[0; 64], 1)?.action) << 32
                | u64::from(sys::test_run(low.as_fd(), &[0; 64], 1)?.action);
            let found = Self::from_reading(jiffies, before_ns);
            if best.is_none_or(|best: Self| found.offset_ns < best.offset_ns) {
                best = Some(found);
            }
        }
        best.ok_or_else(|| io::Error::other("no reading"))
    }

    /// The counter starts five minutes before it wraps 32 bits (INITIAL_JIFFIES), so one reading
    /// and the uptime tell the frequency.
    fn from_reading(jiffies: u64, now_ns: u64) -> Self {
        let uptime_error_ns = |hz: &u64| {
            let since_start = jiffies.wrapping_sub((1u64 << 32) - 300 * hz);
            since_start.saturating_mul(1_000_000_000 / hz).abs_diff(now_ns)
        };
        let hz = FREQUENCIES_HZ
            .into_iter()
            .min_by_key(uptime_error_ns)
            .unwrap_or(250);
        let ns = 1_000_000_000 / hz;
        Self {
            ns: ns as u32,
            offset_ns: now_ns.wrapping_sub(jiffies.wrapping_mul(ns)) as i64,
        }
    }
}

/// The kernel's number for this process's network namespace; 0 where it has none (before 5.14).
#[must_use]
pub fn netns_cookie() -> u64 {
    let Ok(socket) =
        std::net::UdpSocket::bind("127.0.0.1:0").or_else(|_| std::net::UdpSocket::bind("[::]:0"))
    else {
        return 0;
    };
    const SO_NETNS_COOKIE: i32 = 71;
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the buffer is a u64 and its length is given.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result == 0 { cookie } else { 0 }
}

/// CLOCK_MONOTONIC in nanoseconds: the time line of the kernel programs.
pub fn monotonic_ns() -> io::Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// Nanoseconds to add to CLOCK_MONOTONIC to get the time since 1970.
pub fn epoch_offset_ns() -> io::Result<i64> {
    let wall = clock_gettime(ClockId::CLOCK_REALTIME)?;
    let wall_ns = wall.tv_sec() * 1_000_000_000 + wall.tv_nsec();
    Ok(wall_ns - monotonic_ns()? as i64)
}

/// Where tracefs is mounted, if it is.
#[must_use]
pub fn tracefs() -> Option<PathBuf> {
    ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.join("events").is_dir())
}

/// Where cgroup v2 is mounted, from a mount table.
#[must_use]
pub fn cgroup2_root() -> Option<PathBuf> {
    cgroup2_in(&fs::read_to_string("/proc/self/mounts").ok()?)
}

pub(crate) fn cgroup2_in(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut columns = line.split(' ');
        let (path, kind) = (columns.nth(1)?, columns.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

/// Offsets of the tracepoint fields the programs read.
#[must_use]
pub fn tracepoint_fields(tracefs: &Path) -> TracepointFields {
    let offset = |event: &str, field: &str| {
        fs::read_to_string(tracefs.join("events").join(event).join("format"))
            .ok()
            .and_then(|format| field_offset(&format, field))
            .unwrap_or(FIELD_MISSING)
    };
    TracepointFields {
        kfree_skb_reason: offset("skb/kfree_skb", "reason"),
        set_state_new: offset("sock/inet_sock_set_state", "newstate"),
        set_state_protocol: offset("sock/inet_sock_set_state", "protocol"),
        retransmit_state: offset("tcp/tcp_retransmit_skb", "state"),
    }
}

/// `field:int newstate;\toffset:20;\tsize:4;\tsigned:1;` gives 20 for `newstate`.
fn field_offset(format: &str, field: &str) -> Option<u32> {
    format.lines().find_map(|line| {
        let mut parts = line.trim().split(';');
        let name = parts.next()?.strip_prefix("field:")?.rsplit([' ', '*']).next()?;
        let offset = parts.next()?.trim().strip_prefix("offset:")?;
        if name == field { offset.parse().ok() } else { None }
    })
}

/// Names of the kernel's drop reasons, from the tracepoint's own description.
#[must_use]
pub fn drop_reasons(tracefs: &Path) -> BTreeMap<u32, String> {
    fs::read_to_string(tracefs.join("events/skb/kfree_skb/format"))
        .map(|format| reason_names(&format))
        .unwrap_or_default()
}

/// Reads the `{ 2, "NOT_SPECIFIED" }` pairs of a `print fmt`.
fn reason_names(format: &str) -> BTreeMap<u32, String> {
    format
        .split('{')
        .filter_map(|pair| {
            let (number, rest) = pair.split_once(',')?;
            let name = rest.split('"').nth(1)?;
            Some((number.trim().parse().ok()?, name.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jiffies_tell_their_frequency() {
        let check = |hz: u64, uptime_s: u64| {
            let jiffies = (1u64 << 32) - 300 * hz + uptime_s * hz;
            let found = Jiffies::from_reading(jiffies, uptime_s * 1_000_000_000 + 1_500_000);
            assert_eq!(u64::from(found.ns), 1_000_000_000 / hz, "{hz} Hz up {uptime_s} s");
            let now = jiffies * u64::from(found.ns);
            assert_eq!(
                now.wrapping_add(found.offset_ns as u64),
                uptime_s * 1_000_000_000 + 1_500_000
            );
        };
        for hz in FREQUENCIES_HZ {
            for uptime_s in [1, 299, 301, 86_400, 40_000_000] {
                check(hz, uptime_s);
            }
        }
    }

    #[test]
    fn fields_of_tracepoints() {
        let format = "name: kfree_skb\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \n\tfield:void * skbaddr;\toffset:8;\tsize:8;\tsigned:0;\n\tfield:enum skb_drop_reason reason;\toffset:36;\tsize:4;\tsigned:0;\n\
            print fmt: \"reason=%s\", __print_symbolic(REC->reason, { 1, \"NOT_DROPPED_YET\" }, { 2, \"NO_SOCKET\" })";
        assert_eq!(field_offset(format, "reason"), Some(36));
        assert_eq!(field_offset(format, "skbaddr"), Some(8));
        assert_eq!(field_offset(format, "nothing"), None);
        let names: Vec<_> = reason_names(format).into_iter().collect();
        assert_eq!(names, [(1, "NOT_DROPPED_YET".into()), (2, "NO_SOCKET".into())]);
    }

    #[test]
    fn cgroup2_among_mounts() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup2_in(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup2_in("tmpfs / tmpfs rw 0 0\n"), None);
    }
}
