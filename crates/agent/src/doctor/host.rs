//! The kernel, the privileges of this process, settings and mounts.

use std::fs;

use super::{Check, Verdict};
use crate::{instance, kernel};

const GROUP: &str = "host";

/// Capabilities in effect, one bit each (include/uapi/linux/capability.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities(u64);

impl Capabilities {
    pub(super) const NET_ADMIN: u32 = 12;
    pub(super) const SYS_ADMIN: u32 = 21;
    pub(super) const PERFMON: u32 = 38;
    pub(super) const BPF: u32 = 39;

    pub(super) fn has(self, number: u32) -> bool {
        // CAP_SYS_ADMIN was all of these before kernel 5.8, and still stands for both.
        let stands_for = matches!(number, Self::BPF | Self::PERFMON) && self.0 >> Self::SYS_ADMIN & 1 == 1;
        self.0 >> number & 1 == 1 || stands_for
    }

    /// Of the three that loading and attaching need, those that are not there.
    pub(super) fn lacking(self) -> Vec<&'static str> {
        [
            (Self::BPF, "CAP_BPF"),
            (Self::NET_ADMIN, "CAP_NET_ADMIN"),
            (Self::PERFMON, "CAP_PERFMON"),
        ]
        .into_iter()
        .filter(|(number, _)| !self.has(*number))
        .map(|(_, name)| name)
        .collect()
    }

    /// From the text of /proc/PID/status.
    fn parse(status: &str) -> Option<Self> {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok().map(Self)
    }
}

pub(super) fn own_capabilities() -> Capabilities {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| Capabilities::parse(&status))
        .unwrap_or(Capabilities(0))
}

pub(super) fn examine(capabilities: Capabilities, checks: &mut Vec<Check>) {
    checks.push(kernel_version());
    checks.push(privileges(capabilities));
    let setting = |path: &str| fs::read_to_string(path).ok();
    checks.push(unprivileged_bpf(
        setting("/proc/sys/kernel/unprivileged_bpf_disabled").as_deref(),
    ));
    checks.push(jit(setting("/proc/sys/net/core/bpf_jit_enable").as_deref()));
    checks.push(btf());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    checks.push(bpffs());
    checks.push(tracefs(kernel::tracefs().is_some(), &mounts));
    checks.push(cgroup2(&mounts));
}

fn kernel_version() -> Check {
    match nix::sys::utsname::uname() {
        Ok(name) => {
            let (release, machine) = (name.release().to_string_lossy(), name.machine().to_string_lossy());
            let words = format!("Linux {release} on {machine}; what it allows is tried below");
            Check::new(GROUP, "kernel", Verdict::Ok, words)
        }
        Err(error) => {
            let words = format!("uname gives no answer: {error}");
            Check::new(GROUP, "kernel", Verdict::Unknown, words)
        }
    }
}

fn privileges(capabilities: Capabilities) -> Check {
    let lacking = capabilities.lacking();
    let check = if !lacking.is_empty() {
        let words = format!(
            "{} not held, so nothing can be loaded or attached: run as root",
            lacking.join(", ")
        );
        Check::new(GROUP, "privileges", Verdict::Missing, words)
    } else if !capabilities.has(Capabilities::SYS_ADMIN) {
        let words =
            "enough to observe; without CAP_SYS_ADMIN programs of others and other namespaces are not seen";
        Check::new(GROUP, "privileges", Verdict::Limited, words)
    } else {
        let words =
            "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON held; the process that parses packets gives them up";
        Check::new(GROUP, "privileges", Verdict::Ok, words)
    };
    check.needed()
}

fn unprivileged_bpf(setting: Option<&str>) -> Check {
    let (verdict, words) = match setting.map(str::trim) {
        Some("0") => (
            Verdict::Limited,
            "0: every user may load BPF programs; Weir does not need that: `sysctl kernel.unprivileged_bpf_disabled=2`",
        ),
        Some("1") => (
            Verdict::Ok,
            "1: only privileged processes may load programs, until the next boot",
        ),
        Some("2") => (
            Verdict::Ok,
            "2: only privileged processes may load programs; root can change that",
        ),
        _ => (
            Verdict::Unknown,
            "kernel.unprivileged_bpf_disabled cannot be read here",
        ),
    };
    Check::new(GROUP, "unprivileged BPF", verdict, words)
}

fn jit(setting: Option<&str>) -> Check {
    let (verdict, words) = match setting.map(str::trim) {
        Some("1" | "2") => (Verdict::Ok, "on: programs run as machine code"),
        Some("0") => (
            Verdict::Limited,
            "off: programs are interpreted and cost several times as much: `sysctl net.core.bpf_jit_enable=1`",
        ),
        _ => (
            Verdict::Unknown,
            "net.core.bpf_jit_enable cannot be read here: run as root",
        ),
    };
    Check::new(GROUP, "JIT compiler", verdict, words)
}

fn btf() -> Check {
    match fs::metadata("/sys/kernel/btf/vmlinux") {
        Ok(file) => {
            let words = format!(
                "type information of the kernel is there, {} kB",
                file.len() / 1000
            );
            Check::new(GROUP, "BTF", Verdict::Ok, words)
        }
        Err(_) => Check::new(
            GROUP,
            "BTF",
            Verdict::Limited,
            "/sys/kernel/btf/vmlinux is missing, so owners of sockets may be: use a kernel built with \
             CONFIG_DEBUG_INFO_BTF",
        ),
    }
}

fn bpffs() -> Check {
    let check = if instance::has_bpffs() {
        let words = format!(
            "mounted at {}; rows and programs survive a restart there",
            instance::BPFFS
        );
        Check::new(GROUP, "bpffs", Verdict::Ok, words)
    } else {
        let words = format!("not mounted: run `mount -t bpf bpf {}`", instance::BPFFS);
        Check::new(GROUP, "bpffs", Verdict::Missing, words)
    };
    check.needed()
}

fn tracefs(is_readable: bool, mounts: &str) -> Check {
    let is_mounted = mounts
        .lines()
        .any(|line| line.split(' ').nth(2) == Some("tracefs"));
    let (verdict, words) = if is_readable {
        (
            Verdict::Ok,
            "mounted; drop reasons and TCP totals are named from it",
        )
    } else if is_mounted {
        (Verdict::Unknown, "mounted, but not readable here: run as root")
    } else {
        (
            Verdict::Limited,
            "not mounted, so drop reasons and TCP totals are missing: run `mount -t tracefs tracefs \
             /sys/kernel/tracing`",
        )
    };
    Check::new(GROUP, "tracefs", verdict, words)
}

fn cgroup2(mounts: &str) -> Check {
    match kernel::cgroup2_in(mounts) {
        Some(path) => Check::new(
            GROUP,
            "cgroup v2",
            Verdict::Ok,
            format!("mounted at {}", path.display()),
        ),
        None => Check::new(
            GROUP,
            "cgroup v2",
            Verdict::Limited,
            "not mounted, so processes and the kernel's round trips are missing: run `mount -t cgroup2 cgroup2 \
             /sys/fs/cgroup`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_of_a_status() {
        let check = |status: &str, expected: Option<&[&str]>| {
            let found = Capabilities::parse(status).map(Capabilities::lacking);
            assert_eq!(found.as_deref(), expected, "{status}");
        };
        check("Name:\tweir\nCapEff:\t000001ffffffffff\n", Some(&[]));
        check(
            "CapInh:\t000001ffffffffff\nCapEff:\t0000000000000000\n",
            Some(&["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]),
        );
        // CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN alone; then CAP_SYS_ADMIN alone.
        check("CapEff:\t000000c000001000\n", Some(&[]));
        check("CapEff:\t0000000000200000\n", Some(&["CAP_NET_ADMIN"]));
        check("CapEff:\tnot a number\n", None);
        check("Name:\tweir\n", None);
    }

    #[test]
    fn settings_and_mounts() {
        let check = |found: Check, expected: Verdict| assert_eq!(found.verdict, expected, "{}", found.words);
        check(unprivileged_bpf(Some("0\n")), Verdict::Limited);
        check(unprivileged_bpf(Some("2\n")), Verdict::Ok);
        check(unprivileged_bpf(None), Verdict::Unknown);
        check(jit(Some("1\n")), Verdict::Ok);
        check(jit(Some("0\n")), Verdict::Limited);
        check(jit(None), Verdict::Unknown);
        check(jit(Some("")), Verdict::Unknown);
        let mounted = "tracefs /sys/kernel/tracing tracefs rw 0 0\n";
        check(tracefs(true, mounted), Verdict::Ok);
        check(tracefs(false, mounted), Verdict::Unknown);
        check(tracefs(false, "tracefs /t tmpfs rw 0 0\n"), Verdict::Limited);
        check(cgroup2("cgroup2 /c cgroup2 rw 0 0\n"), Verdict::Ok);
        check(cgroup2(""), Verdict::Limited);
        check(privileges(Capabilities(0)), Verdict::Missing);
        check(privileges(Capabilities(0xc0_0000_1000)), Verdict::Limited);
        check(privileges(Capabilities(u64::MAX)), Verdict::Ok);
    }
}
