//! What cannot be done is said in one sentence.

use std::process::{Command, Stdio};

use crate::lab::Lab;
use crate::totals::{Start, wait_until_equal};
use crate::weir::Weir;
use crate::{may_run, text};

/// Runs `weir run` to its end and returns its exit code and its words.
#[track_caller]
fn refused(mut command: Command, arguments: &[&str]) -> (Option<i32>, String) {
    let output = command
        .arg("run")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("weir starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "one sentence: {said}");
    assert!(output.stdout.is_empty());
    (output.status.code(), said)
}

fn weir() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weir"))
}

#[test]
fn no_such_interface() {
    let (code, said) = refused(weir(), &["--iface", "nowhere0"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("nowhere0"), "{said}");
}

#[test]
fn not_root() {
    if !may_run() {
        return;
    }
    // The binary may lie where only root can look: run a copy.
    let folder = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .expect("a folder");
    let copy = folder.path().join("weir");
    std::fs::copy(env!("CARGO_BIN_EXE_weir"), &copy).expect("a copy");
    let mut command = Command::new(&copy);
    std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    std::os::unix::process::CommandExt::gid(&mut command, 65_534);
    command.current_dir("/");
    let (code, said) = refused(command, &["--iface", "lo"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("root"), "{said}");
}

#[test]
fn a_second_of_the_same_name() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("sn", &[]);
    let weir = Weir::on(&lab, &[]);
    let again = lab.on_server(env!("CARGO_BIN_EXE_weir"));
    let (code, said) = refused(again, &["--iface", "lab0", "--instance", &weir.instance]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&weir.instance), "{said}");
    assert!(said.contains(&weir.child.id().to_string()), "{said}");
    assert!(weir.get("/healthz").is_ok());
}

/// Counting at XDP gives what counting at TCX gives, each packet once.
#[test]
fn xdp_counts_what_comes_in_once() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("xc", &["--no-offload"]);
    let (weir, mut start) = Start::weir(&lab, &["--xdp", "on"]);
    // A veth with an XDP program counts what comes in without its Ethernet header.
    start.rx_uncounted = 14;
    assert_eq!(
        text(&weir.status(), "/interfaces/0/ingress"),
        "xdp",
        "{:?}",
        weir.said
    );
    let report = lab.run(&["normal", "--seconds", "2"]);
    let (_, flows) = wait_until_equal(&lab, &weir, &start);
    let checked = crate::normal::check_normal(&lab, &flows, &report);
    println!("{checked:?} connections at XDP, {:?}", start.since(&lab));
}

#[test]
fn xdp_where_there_is_none() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("xn", &[]);
    let mut weir = Weir::begin(&lab, &["--iface", "lo"], &["--xdp", "on"]);
    weir.wait_until_it_says("ready after");
    let notes: Vec<_> = weir.said.iter().filter(|line| line.contains("XDP")).collect();
    assert_eq!(notes.len(), 1, "{:?}", weir.said);
    assert_eq!(
        text(&weir.status(), "/interfaces/0/ingress"),
        "tcx",
        "{:?}",
        weir.said
    );
}
