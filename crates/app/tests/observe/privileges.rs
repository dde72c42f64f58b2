//! What the process that reads untrusted bytes may do: nothing but read.

use std::collections::BTreeMap;

use crate::lab::Lab;
use crate::weir::Weir;
use crate::{may_run, wait_for};

/// `NAME: VALUE` lines.
fn fields(text: &str) -> BTreeMap<&str, &str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name, value.trim())).collect()
}

#[test]
fn the_worker_may_only_read() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("wp", &[]);
    let weir = Weir::on(&lab, &[]);
    wait_for("the worker answers", || weir.get("/healthz"));
    let worker = weir.worker();
    // Every thread: privileges belong to threads.
    let tasks = std::fs::read_dir(format!("/proc/{worker}/task")).expect("threads");
    let mut threads = 0;
    for task in tasks.flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).expect("its status");
        let status = fields(&status);
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set}: {status:?}");
        }
        assert_eq!(status["NoNewPrivs"], "1");
        for ids in ["Uid", "Gid"] {
            assert_eq!(status[ids], "65534\t65534\t65534\t65534");
        }
        assert_eq!(status["Groups"], "");
        threads += 1;
    }
    assert!(threads > 1);

    // Descriptors: no program, no link, and of the maps only the ring may be written.
    const RING_BUFFER: &str = "27";
    let mut kinds = BTreeMap::<String, u32>::new();
    let descriptors = std::fs::read_dir(format!("/proc/{worker}/fd")).expect("descriptors");
    for descriptor in descriptors.flatten() {
        let target = std::fs::read_link(descriptor.path()).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        assert!(
            !target.contains("bpf-prog") && !target.contains("bpf-link") && !target.contains("bpf_link"),
            "{target}"
        );
        if !target.contains("bpf-map") {
            continue;
        }
        let number = descriptor.file_name().into_string().expect("a number");
        let info = std::fs::read_to_string(format!("/proc/{worker}/fdinfo/{number}")).expect("its facts");
        let info = fields(&info);
        let flags = u32::from_str_radix(info["flags"], 8).expect("octal flags");
        let access = flags & libc::O_ACCMODE as u32;
        let expected = if info["map_type"] == RING_BUFFER {
            libc::O_RDWR
        } else {
            libc::O_RDONLY
        };
        assert_eq!(access, expected as u32, "{info:?}");
        *kinds.entry(info["map_type"].to_owned()).or_default() += 1;
    }
    assert!(kinds.len() > 1, "{kinds:?}");

    for (name, pid) in [("broker", weir.broker()), ("worker", worker)] {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        println!("{name}: {} resident", fields(&status)["VmRSS"]);
    }
    println!("{}", weir.said.join("; "));
}
