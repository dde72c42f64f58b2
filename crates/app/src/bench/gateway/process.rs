//! What processes took, as /proc tells.

use std::fs::read_to_string;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// Processor time of processes that are still there, in user and kernel, to the tick (10 ms mostly).
pub(super) fn cpu_seconds(pids: &[u32]) -> f64 {
    let ticks_per_s = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .unwrap_or(100);
    let ticks: u64 = pids.iter().filter_map(|pid| ticks(*pid)).sum();
    ticks as f64 / ticks_per_s as f64
}

fn ticks(pid: u32) -> Option<u64> {
    parse_ticks(&read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 14 and 15 of proc_pid_stat(5); the name, in brackets, may hold anything.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some(user + kernel)
}

pub(super) fn own_cpu_seconds() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
    })
}

/// Resident memory of processes, together. Pages that they share, as those of the program itself, count once.
pub(super) fn resident_bytes(pids: &[u32]) -> u64 {
    let of = |pid: &u32| parse_resident(&read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?);
    pids.iter().filter_map(of).sum()
}

fn parse_resident(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// A process and all below it.
pub(super) fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while at < all.len() {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", all[at]));
        for task in tasks.into_iter().flatten().flatten() {
            let children = read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(
                children
                    .split_ascii_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        at += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 1 0 12 1 1";
        assert_eq!(parse_ticks(stat), Some(281));
        assert_eq!(parse_ticks("7 (a"), None);
        assert_eq!(
            parse_resident("Rss:  40 kB\nPss:    12 kB\nPss_Dirty: 3 kB\n"),
            Some(12 * 1024)
        );
        assert_eq!(parse_resident("Pss: x kB\n"), None);
    }

    #[test]
    fn a_family_begins_with_the_process() {
        let own = std::process::id();
        assert_eq!(family(own).first(), Some(&own));
    }
}
