//! Killed, restarted, ended, detached: what stays in the kernel, what goes, what goes on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::lab::Lab;
use crate::normal::check_normal;
use crate::totals::{Start, observed, wait_until_equal};
use crate::weir::{Weir, detach};
use crate::{may_run, number, text, wait_for};

/// Names of the programs that use an instance's maps, with where they are attached.
fn programs(lab: &Lab) -> BTreeSet<String> {
    let pins = format!("/sys/fs/bpf/weir/{}/", lab.name);
    let list = lab.exec(
        "server",
        &[env!("CARGO_BIN_EXE_weir"), "programs", "list", "--format", "json"],
    );
    let programs = list
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let uses_ours = |program: &Value| program["maps"].to_string().contains(&pins);
    programs
        .filter(uses_ours)
        .flat_map(|program| {
            let hooks = program["attachments"].as_array().expect("attachments").clone();
            let name = text(&program, "/name").to_owned();
            hooks
                .into_iter()
                .map(move |hook| format!("{name} at {} {}", text(&hook, "/hook"), text(&hook, "/target")))
        })
        .collect()
}

/// What an observer of one interface attaches.
#[track_caller]
fn assert_attached(lab: &Lab) {
    let programs = programs(lab);
    for expected in [
        "weir_ingress at tcx ingress lab0",
        "weir_egress at tcx egress lab0",
    ] {
        assert!(programs.contains(expected), "{programs:?}");
    }
    let others = [
        "weir_sockops",
        "weir_sock_create",
        "weir_post_bind4",
        "weir_post_bind6",
        "weir_kfree_skb",
        "weir_set_state",
        "weir_retransmit",
    ];
    for name in others {
        assert!(
            programs.iter().any(|program| program.starts_with(name)),
            "{name}: {programs:?}"
        );
    }
}

#[track_caller]
fn assert_gone(lab: &Lab) {
    wait_for("no program is left", || {
        let left = programs(lab);
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    assert!(!pins(lab).exists());
}

fn pins(lab: &Lab) -> PathBuf {
    PathBuf::from(format!("/sys/fs/bpf/weir/{}", lab.name))
}

#[track_caller]
fn wait_until_counted(weir: &Weir, packets: u64) {
    wait_for("traffic is counted", || {
        let [(rx, _), _] = observed(&weir.status());
        if rx > packets {
            Ok(())
        } else {
            Err(format!("{rx} packets"))
        }
    });
}

#[track_caller]
fn wait_until_gone(pid: nix::unistd::Pid) {
    wait_for("the process ends", || {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if line.is_empty() {
            Ok(())
        } else {
            Err(format!("{pid} runs"))
        }
    });
}

/// The kernel goes on counting while nobody looks, and who looks next finds everything.
#[test]
fn killed_under_traffic_and_started_again() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("kb", &["--no-offload"]);
    let (mut weir, start) = Start::weir(&lab, &[]);
    let traffic = lab.start(&["normal", "--seconds", "4"]);
    wait_until_counted(&weir, 100);
    let worker = weir.worker();
    weir.end(Signal::SIGKILL);
    wait_until_gone(worker);
    assert_attached(&lab);
    let alone = start.since(&lab).rx_packets;
    wait_for("packets come while nobody looks", || {
        let now = start.since(&lab).rx_packets;
        if now > alone + 100 {
            Ok(())
        } else {
            Err(format!("{alone}, {now}"))
        }
    });
    let again = Weir::on(&lab, &[]);
    let report = traffic.report();
    let (status, _) = wait_until_equal(&lab, &again, &start);
    assert_eq!(status["incomplete"], Value::Null, "{status}");
    assert_attached(&lab);
    let flows = wait_for("owners are known again", || {
        let flows = again.flows("proto == tcp or proto == udp");
        let unknown = flows.iter().find(|flow| text(flow, "/owner/comm").is_empty());
        unknown.map_or(Ok(flows.clone()), |flow| Err(flow.to_string()))
    });
    let checked = check_normal(&lab, &flows, &report);
    println!("{checked:?} connections over a kill, {:?}", start.since(&lab));
}

/// The broker starts its worker again; nothing is counted twice or lost.
#[test]
fn worker_killed_under_traffic() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("kw", &["--no-offload"]);
    let (mut weir, start) = Start::weir(&lab, &[]);
    let traffic = lab.start(&["normal", "--seconds", "2"]);
    wait_until_counted(&weir, 100);
    let killed = weir.worker();
    kill(killed, Signal::SIGKILL).expect("a signal");
    let begin = Instant::now();
    weir.wait_until_it_says("is started again");
    wait_for("the API answers again", || weir.get("/healthz"));
    let took = begin.elapsed();
    assert_ne!(weir.worker(), killed);
    let report = traffic.report();
    let (_, flows) = wait_until_equal(&lab, &weir, &start);
    let checked = check_normal(&lab, &flows, &report);
    println!("{checked:?} connections over the end of a worker, back after {took:?}");
}

#[test]
fn the_end_takes_everything_along() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("et", &["--no-offload"]);
    let (mut weir, _) = Start::weir(&lab, &[]);
    assert_attached(&lab);
    let worker = weir.worker();
    assert_eq!(weir.end(Signal::SIGTERM), Some(0), "{:?}", weir.said);
    wait_until_gone(worker);
    assert_gone(&lab);
    // Ctrl-C is an end like any other.
    let (mut weir, _) = Start::weir(&lab, &[]);
    assert_eq!(weir.end(Signal::SIGINT), Some(0), "{:?}", weir.said);
    assert_gone(&lab);
}

#[test]
fn persist_keeps_everything_until_detach() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("pd", &["--no-offload"]);
    let (mut weir, start) = Start::weir(&lab, &["--persist"]);
    lab.run(&["normal", "--seconds", "1"]);
    wait_until_equal(&lab, &weir, &start);
    // Detaching under a running Weir is refused.
    let refused = detach(&weir.instance);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("another weir runs") && said.lines().count() == 1,
        "{said}"
    );
    assert_eq!(weir.end(Signal::SIGTERM), Some(0), "{:?}", weir.said);
    assert_attached(&lab);
    let mut again = Weir::on(&lab, &["--persist"]);
    lab.run(&["normal", "--seconds", "1"]);
    let (status, _) = wait_until_equal(&lab, &again, &start);
    assert!(number(&status, "/flows/rows") > 50, "{status}");
    assert_eq!(again.end(Signal::SIGTERM), Some(0), "{:?}", again.said);
    let detached = detach(&again.instance);
    assert!(detached.status.success(), "{detached:?}");
    assert_gone(&lab);
}
