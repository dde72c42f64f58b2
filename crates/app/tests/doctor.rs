//! `weir doctor` as a whole: as root in a network namespace of its own, and as nobody.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest time that a look may take; the tests of other packages may run beside it.
const LONGEST: Duration = Duration::from_secs(20);

fn weir(arguments: &[&str], prepare: fn() -> nix::Result<()>) -> Output {
    // The build folder may be one that other users cannot look into.
    let folder = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("a temporary folder");
    let program = folder.path().join("weir");
    std::fs::copy(env!("CARGO_BIN_EXE_weir"), &program).expect("weir is copied");
    let mut command = Command::new(&program);
    command.arg("doctor").args(arguments);
    // SAFETY: only system calls between fork and exec.
    unsafe { command.pre_exec(move || prepare().map_err(Into::into)) };
    command.output().expect("weir starts")
}

fn in_own_network() -> nix::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
}

fn as_nobody() -> nix::Result<()> {
    let nobody = 65534;
    nix::unistd::setgroups(&[])?;
    nix::unistd::setgid(nobody.into())?;
    nix::unistd::setuid(nobody.into())
}

fn is_root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let is_required = std::env::var_os("WEIR_REQUIRE_CAPS").is_some_and(|value| value == "1");
    assert!(!is_required, "WEIR_REQUIRE_CAPS=1, but this is not root");
    println!("skipped: namespaces and other users need root");
    false
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn check_of<'a>(report: &'a Value, group: &str, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("checks");
    checks
        .iter()
        .find(|check| check["group"] == group && check["name"] == name)
        .unwrap_or_else(|| panic!("no check {group}/{name} in {report:#}"))
}

/// Every group is there, every line whole, and what weir needs was really tried.
#[test]
fn root_is_told_everything() {
    if !is_root() {
        return;
    }
    let begin = Instant::now();
    let output = weir(&["--format", "json"], in_own_network);
    assert!(begin.elapsed() < LONGEST, "{:?}", begin.elapsed());
    let report = report(&output);
    let can_observe = report["can_observe"].as_bool().expect("a boolean");
    assert_eq!(output.status.code(), Some(i32::from(!can_observe)));
    for (group, name) in [
        ("host", "kernel"),
        ("host", "privileges"),
        ("host", "unprivileged BPF"),
        ("host", "JIT compiler"),
        ("host", "BTF"),
        ("host", "bpffs"),
        ("host", "tracefs"),
        ("host", "cgroup v2"),
        ("kernel", "ring buffer"),
        ("kernel", "batch reading of maps"),
        ("kernel", "socket storage"),
        ("kernel", "TCX"),
        ("kernel", "tc clsact"),
        ("kernel", "XDP native"),
        ("kernel", "pinned links"),
        ("kernel", "sock_ops"),
        ("kernel", "cgroup socket hooks"),
        ("kernel", "tracepoint skb:kfree_skb"),
        ("kernel", "tracepoint sock:inet_sock_set_state"),
        ("kernel", "tracepoint tcp:tcp_retransmit_skb"),
        ("programs", "weir_ingress"),
        ("programs", "weir_egress"),
        ("programs", "weir_xdp"),
        ("interfaces", "lo"),
        ("memory", "maps at default sizes"),
        ("tools", "tshark"),
    ] {
        let check = check_of(&report, group, name);
        assert!(
            ["ok", "limited", "missing", "unknown"].contains(&check["verdict"].as_str().expect("text")),
            "{check}"
        );
        assert!(!check["words"].as_str().expect("text").is_empty());
    }
    // What the tests of the programs hold on this kernel, the doctor must find, too.
    assert!(can_observe, "{report:#}");
    assert_eq!(check_of(&report, "programs", "weir_ingress")["verdict"], "ok");
    for program in report["programs"].as_array().expect("programs") {
        assert!(program["load_us"].as_u64() > Some(0), "{program}");
    }
    let flows = report["maps"]
        .as_array()
        .and_then(|maps| maps.iter().find(|map| map["name"] == "FLOWS"))
        .expect("the flow table");
    assert_eq!(flows["max_entries"], 131_072);
    assert!(flows["bytes"].as_u64() > Some(131_072 * 200), "{flows}");
    let interfaces = report["interfaces"].as_array().expect("interfaces");
    assert_eq!(interfaces.len(), 1, "a new namespace has only lo: {interfaces:?}");
    assert_eq!(interfaces[0]["attached"], Value::Array(Vec::new()));
}

/// Nothing of the probes stays: no pin, no control group.
#[test]
fn nothing_stays_behind() {
    if !is_root() {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("doctor").stdout(std::process::Stdio::null());
    // SAFETY: only a system call between fork and exec.
    unsafe { command.pre_exec(|| in_own_network().map_err(Into::into)) };
    let mut child = command.spawn().expect("weir starts");
    let name = format!("weir-doctor-{}", child.id());
    child.wait().expect("weir ends");
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    let left: Vec<_> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(|mount| std::path::Path::new(mount).join(&name))
        .filter(|path| path.exists())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Without privileges: what could not be tried is said, and that observing does not work.
#[test]
fn nobody_is_told_what_is_missing() {
    // As another user already when this is not root.
    let prepare = if nix::unistd::geteuid().is_root() {
        as_nobody
    } else {
        || Ok(())
    };
    let output = weir(&["--format", "json"], prepare);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report = report(&output);
    assert_eq!(report["can_observe"], false);
    let check = |group: &str, name: &str, verdict: &str, part: &str| {
        let found = check_of(&report, group, name);
        assert_eq!(found["verdict"], verdict, "{found}");
        assert!(
            found["words"].as_str().is_some_and(|words| words.contains(part)),
            "{found}"
        );
    };
    check("host", "privileges", "missing", "CAP_BPF");
    check("kernel", "maps and hooks", "unknown", "needs root");
    check("programs", "Weir's programs", "unknown", "needs root");
    check("memory", "maps at default sizes", "unknown", "needs root");
    check("interfaces", "lo", "unknown", "MTU 65536");
    let text = String::from_utf8(weir(&[], prepare).stdout).expect("UTF-8");
    assert!(
        text.ends_with("Observing does not work here; needed: privileges.\n") && !text.contains('\x1b'),
        "{text}"
    );
}
