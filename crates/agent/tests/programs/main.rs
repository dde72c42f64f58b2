//! Programs of the host as the kernel holds them: loaded, attached and run here, seen by the agent.
//!
//! Interfaces are in a network namespace that ends with its thread; what outlives a process (pins,
//! cgroups) is removed by a guard, also when a test fails.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use agent::programs::{self, Attachment, Cost, Error, Order, Program, Sampler};
use nix::sched::{CloneFlags, unshare};

use bpf::{attach_type, program_type};

mod bpf;

/// Whether tests may load programs; without root they say so and pass, unless they must run.
fn may_load() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let is_required = std::env::var_os("WEIR_REQUIRE_CAPS").is_some_and(|value| value == "1");
    assert!(!is_required, "WEIR_REQUIRE_CAPS=1, but this is not root");
    println!("skipped: loading BPF programs needs root");
    false
}

/// Runs `test` in a network namespace of its own that has a pair of interfaces, `left` and `right`.
fn in_namespace(test: impl FnOnce() + Send) {
    if !may_load() {
        return;
    }
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            run(
                "ip",
                &["link", "add", "left", "type", "veth", "peer", "name", "right"],
            );
            for interface in ["left", "right"] {
                run("ip", &["link", "set", interface, "up"]);
            }
            test();
        });
        if let Err(panic) = inside.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
}

fn ifindex(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).expect("the interface")
}

/// The program behind a descriptor, as the agent sees it.
#[track_caller]
fn seen(program: &OwnedFd) -> Program {
    let id = bpf::stated(program, "prog_id");
    let listing = programs::list().expect("root may list");
    assert_eq!(listing.missing, Vec::<String>::new());
    listing
        .programs
        .into_iter()
        .find(|program| program.id == id)
        .expect("it is loaded")
}

/// Hook, target, order and link.
type Place<'a> = (&'a str, &'a str, Option<(u32, u32)>, Option<u32>);

fn places(program: &Program) -> Vec<Place<'_>> {
    let order = |order: Order| (order.position, order.count);
    let place = |attachment: &Attachment| (attachment.order.map(order), attachment.link_id);
    program
        .attachments
        .iter()
        .map(|attachment| {
            let (order, link_id) = place(attachment);
            (
                attachment.hook.as_str(),
                attachment.target.as_str(),
                order,
                link_id,
            )
        })
        .collect()
}

fn load_xdp(name: &str) -> OwnedFd {
    const PASS: i32 = 2;
    bpf::load(program_type::XDP, attach_type::XDP, name, &bpf::returning(PASS)).expect("a valid program")
}

fn load_tcx(name: &str) -> OwnedFd {
    const NEXT: i32 = -1;
    bpf::load(program_type::SCHED_CLS, 0, name, &bpf::returning(NEXT)).expect("a valid program")
}

#[test]
fn programs_on_interfaces_in_their_order() {
    in_namespace(|| {
        let (left, right) = (ifindex("left"), ifindex("right"));
        let xdp = load_xdp("test_xdp");
        let native = bpf::link(&xdp, left, attach_type::XDP, 0).expect("native XDP");
        let generic = bpf::link(&xdp, right, attach_type::XDP, bpf::XDP_GENERIC).expect("generic XDP");
        let second = load_tcx("test_second");
        let second_link = bpf::link(&second, left, attach_type::TCX_INGRESS, 0).expect("TCX");
        let first = load_tcx("test_first");
        let first_link = bpf::link(&first, left, attach_type::TCX_INGRESS, bpf::BEFORE).expect("TCX");
        let link_id = |link: &OwnedFd| Some(bpf::stated(link, "link_id"));

        let program = seen(&xdp);
        let mut found = places(&program);
        found.sort_unstable();
        let expected = [
            ("xdp generic", "right", None, link_id(&generic)),
            ("xdp native", "left", None, link_id(&native)),
        ];
        assert_eq!(found, expected);
        assert_eq!(
            (program.name.as_str(), program.kind.as_str()),
            ("test_xdp", "xdp")
        );
        assert!(program.owners.iter().any(|owner| owner.pid == std::process::id()));
        assert!(program.is_gpl_compatible && program.xlated_bytes == 16 && program.memory_bytes > Some(0));
        assert!(
            program
                .attachments
                .iter()
                .all(|attachment| attachment.namespace.is_none())
        );

        let expect = |program: &OwnedFd, place| assert_eq!(places(&seen(program)), [place]);
        expect(
            &first,
            ("tcx ingress", "left", Some((1, 2)), link_id(&first_link)),
        );
        expect(
            &second,
            ("tcx ingress", "left", Some((2, 2)), link_id(&second_link)),
        );

        drop(first_link);
        assert_eq!(places(&seen(&first)), []);
        expect(
            &second,
            ("tcx ingress", "left", Some((1, 1)), link_id(&second_link)),
        );

        run("ip", &["link", "del", "left"]);
        expect(
            &second,
            (
                "tcx ingress",
                "nothing: the interface is gone",
                None,
                link_id(&second_link),
            ),
        );
    });
}

/// A process that ends with the test.
struct Idle(Child);

impl Drop for Idle {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn programs_in_other_namespaces_are_seen_from_outside() {
    in_namespace(|| {
        let xdp = load_xdp("test_elsewhere");
        let link = bpf::link(&xdp, ifindex("left"), attach_type::XDP, 0).expect("native XDP");
        let process = Idle(Command::new("sleep").arg("60").spawn().expect("a process inside"));
        let program = std::thread::scope(|scope| {
            let outside = scope.spawn(|| {
                let root = File::open("/proc/self/ns/net").expect("our first namespace");
                nix::sched::setns(root, CloneFlags::CLONE_NEWNET).expect("back");
                seen(&xdp)
            });
            outside.join().expect("no panic outside")
        });
        let expected = ("xdp native", "left", None, Some(bpf::stated(&link, "link_id")));
        assert_eq!(places(&program), [expected]);
        let namespace = program.attachments[0]
            .namespace
            .as_ref()
            .expect("another namespace");
        assert_eq!(namespace.name, format!("of pid {}", process.0.id()));
    });
}

#[test]
fn programs_on_namespaces_in_their_order() {
    in_namespace(|| {
        const PASS: i32 = 1;
        let namespace = File::open("/proc/thread-self/ns/net").expect("our namespace");
        let target = namespace.as_raw_fd() as u32;
        let mut links = Vec::new();
        for position in 1..=2 {
            let (kind, hook) = (program_type::SK_LOOKUP, attach_type::SK_LOOKUP);
            let lookup = bpf::load(kind, hook, "test_lookup", &bpf::returning(PASS)).expect("valid");
            let link = bpf::link(&lookup, target, hook, 0).expect("attached");
            let link_id = Some(bpf::stated(&link, "link_id"));
            let expected = (
                "sk_lookup",
                "this network namespace",
                Some((position, position)),
                link_id,
            );
            assert_eq!(places(&seen(&lookup)), [expected]);
            // The first stays attached while the second is looked at.
            links.push(link);
        }
    });
}

#[test]
fn programs_in_redirect_maps() {
    in_namespace(|| {
        let (kind, hook) = (program_type::XDP, attach_type::XDP_DEVMAP);
        let program = bpf::load(kind, hook, "test_redirect", &bpf::returning(2)).expect("valid");
        let map = bpf::devmap_hash(8).expect("a devmap");
        for (key, interface) in [(70, "left"), (9, "right")] {
            let row = [ifindex(interface), program.as_raw_fd() as u32];
            bpf::set_slot(&map, key, row).expect("a row");
        }
        bpf::set_slot(&map, 5, [ifindex("left"), u32::MAX]).expect("a row without a program");
        let map_id = bpf::stated(&map, "map_id");
        let found = seen(&program);
        let mut targets: Vec<_> = found
            .attachments
            .iter()
            .map(|place| (&*place.hook, &*place.target))
            .collect();
        targets.sort_unstable();
        let expected = [70, 9].map(|key| format!("map {map_id} slot {key}"));
        assert_eq!(
            targets,
            expected.each_ref().map(|target| ("devmap_hash", target.as_str()))
        );
    });
}

/// A folder of bpffs, removed with everything in it.
struct PinFolder(PathBuf);

impl PinFolder {
    fn new(tag: &str) -> Self {
        let path = PathBuf::from(format!("/sys/fs/bpf/weir-test-{tag}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a folder in bpffs");
        Self(path)
    }
}

impl Drop for PinFolder {
    fn drop(&mut self) {
        // Nothing is left to do when it is gone already.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn what_other_tools_attach_is_seen_too() {
    in_namespace(|| {
        let folder = PinFolder::new("foreign");
        let (of_tc, of_xdp) = (folder.0.join("tc"), folder.0.join("xdp"));
        let classifier = load_tcx("test_tc");
        bpf::pin(&classifier, &of_tc).expect("a pin");
        run("tc", &["qdisc", "add", "dev", "left", "clsact"]);
        let add = |hook, pref| {
            let what = ["filter", "add", "dev", "left", hook, "pref", pref];
            let program = ["bpf", "direct-action", "object-pinned", text(&of_tc)];
            run("tc", &[&what[..], &program[..]].concat());
        };
        add("ingress", "20");
        add("ingress", "10");
        add("egress", "5");
        let program = seen(&classifier);
        let expected = [
            ("tc ingress", "left", Some((1, 2)), None),
            ("tc ingress", "left", Some((2, 2)), None),
            ("tc egress", "left", Some((1, 1)), None),
        ];
        assert_eq!(places(&program), expected);
        let details: Vec<_> = program
            .attachments
            .iter()
            .filter_map(|attachment| attachment.detail.as_deref())
            .collect();
        let expected = [
            "pref 10 handle 0x1 direct-action",
            "pref 20 handle 0x1 direct-action",
            "pref 5 handle 0x1 direct-action",
        ];
        assert_eq!(details, expected);
        assert_eq!(program.pins, [of_tc]);

        let xdp = load_xdp("test_ip");
        bpf::pin(&xdp, &of_xdp).expect("a pin");
        run(
            "ip",
            &[
                "link",
                "set",
                "dev",
                "right",
                "xdpgeneric",
                "pinned",
                text(&of_xdp),
            ],
        );
        assert_eq!(places(&seen(&xdp)), [("xdp generic", "right", None, None)]);
        let id = bpf::stated(&xdp, "prog_id");
        drop(xdp);
        let listing = programs::list().expect("root may list");
        let program = listing.programs.iter().find(|program| program.id == id);
        let program = program.expect("its pin keeps it");
        assert_eq!(
            (program.owners.as_slice(), program.pins.as_slice()),
            (&[][..], &[of_xdp][..])
        );
    });
}

/// A cgroup, removed with the test. The programs on it go with it.
struct Cgroup(PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Nothing is left to do when it is gone already.
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn programs_on_cgroups_in_their_order() {
    if !may_load() {
        return;
    }
    let table = std::fs::read_to_string("/proc/mounts").expect("the mounts");
    let mount = table
        .lines()
        .find_map(|line| line.split_once(" cgroup2 ")?.0.split(' ').nth(1));
    let mount = PathBuf::from(mount.expect("cgroup v2 is mounted"));
    let cgroup = Cgroup(mount.join(format!("weir-test-{}", std::process::id())));
    std::fs::create_dir(&cgroup.0).expect("a cgroup");
    let directory = OwnedFd::from(File::open(&cgroup.0).expect("its directory"));
    let load = |name| {
        let egress = attach_type::CGROUP_INET_EGRESS;
        bpf::load(program_type::CGROUP_SKB, egress, name, &bpf::returning(1)).expect("a valid program")
    };
    let (by_call, by_link) = (load("test_by_call"), load("test_by_link"));
    bpf::attach(
        &by_call,
        &directory,
        attach_type::CGROUP_INET_EGRESS,
        bpf::ALLOW_MULTI,
    )
    .expect("attached");
    let target = directory.as_raw_fd() as u32;
    let link = bpf::link(&by_link, target, attach_type::CGROUP_INET_EGRESS, 0).expect("a link");

    let check = |program, position, link_id| {
        let expected = (
            "cgroup inet_egress",
            text(&cgroup.0),
            Some((position, 2)),
            link_id,
        );
        assert_eq!(places(&seen(program)), [expected]);
    };
    check(&by_call, 1, None);
    check(&by_link, 2, Some(bpf::stated(&link, "link_id")));
}

#[test]
fn tracepoints_have_their_name() {
    if !may_load() {
        return;
    }
    let code = bpf::returning(0);
    let program = bpf::load(program_type::RAW_TRACEPOINT, 0, "test_tracepoint", &code).expect("valid");
    // One that this host hardly ever passes.
    let link = bpf::raw_tracepoint(&program, "mark_victim").expect("attached");
    let link_id = Some(bpf::stated(&link, "link_id"));
    assert_eq!(
        places(&seen(&program)),
        [("raw_tracepoint", "mark_victim", None, link_id)]
    );
}

#[track_caller]
fn cost(sampler: &mut Sampler, program: &OwnedFd) -> Cost {
    let id = bpf::stated(program, "prog_id");
    let sample = sampler.sample().expect("root may measure");
    assert!(
        sample
            .programs
            .is_sorted_by(|a, b| a.run_time_ns >= b.run_time_ns)
    );
    sample
        .programs
        .into_iter()
        .find(|cost| cost.id == id)
        .expect("it is loaded")
}

#[test]
fn runs_are_counted_while_somebody_measures() {
    const N_RUNS: u32 = 10_000;
    if !may_load() {
        return;
    }
    let program = load_xdp("test_runs");
    let mut sampler = Sampler::start().expect("root may measure");
    let begin = Instant::now();
    bpf::test_run(&program, N_RUNS).expect("a run");
    let found = cost(&mut sampler, &program);
    let wall_ns = begin.elapsed().as_nanos() as u64;

    assert_eq!(found.run_count, u64::from(N_RUNS));
    assert!(found.run_time_ns > 0 && found.run_time_ns <= wall_ns);
    assert!(found.interval_ns >= found.run_time_ns);
    let near = |found: f64, expected: f64| {
        assert!((found / expected - 1.0).abs() < 1e-9, "{found}, not {expected}");
    };
    let (run_time_ns, interval_ns) = (found.run_time_ns as f64, found.interval_ns as f64);
    near(
        found.ns_per_run.expect("there were runs"),
        run_time_ns / f64::from(N_RUNS),
    );
    near(found.runs_per_second * interval_ns / 1e9, f64::from(N_RUNS));
    near(found.cpu_percent, run_time_ns / interval_ns * 100.0);

    // Only what is new counts the next time; the listing has it all.
    bpf::test_run(&program, 10).expect("a run");
    assert_eq!(cost(&mut sampler, &program).run_count, 10);
    let idle = cost(&mut sampler, &program);
    assert_eq!((idle.run_count, idle.ns_per_run), (0, None));
    assert_eq!(seen(&program).run_count, u64::from(N_RUNS) + 10);

    // Other measurements of this host may go on for a while; without any, nothing is counted.
    drop(sampler);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let before = seen(&program).run_count;
        bpf::test_run(&program, 10).expect("a run");
        if seen(&program).run_count == before {
            break;
        }
        assert!(Instant::now() < deadline, "run statistics stay on");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn tail_called_programs_are_marked() {
    if !may_load() {
        return;
    }
    const PASS: u32 = 2;
    let array = bpf::program_array(4).expect("a program array");
    let called = load_xdp("test_called");
    let code = bpf::tail_calling(&array, 3);
    let caller = bpf::load(program_type::XDP, attach_type::XDP, "test_caller", &code).expect("valid");
    let mut sampler = Sampler::start().expect("root may measure");
    bpf::set_slot(&array, 3, [called.as_raw_fd() as u32]).expect("a slot");
    assert_eq!(
        bpf::test_run(&caller, 100).expect("a run"),
        PASS,
        "the called program ran"
    );

    let of_called = cost(&mut sampler, &called);
    assert_eq!((of_called.run_count, of_called.is_tail_called), (0, true));
    bpf::test_run(&caller, 100).expect("a run");
    let of_caller = cost(&mut sampler, &caller);
    assert_eq!((of_caller.run_count, of_caller.is_tail_called), (100, false));

    let program = seen(&called);
    let [call] = program.tail_called_from.as_slice() else {
        panic!("one array, not {:?}", program.tail_called_from);
    };
    let map_id = bpf::stated(&array, "map_id");
    let caller_id = bpf::stated(&caller, "prog_id");
    assert_eq!((call.map_id, call.slots.as_slice()), (map_id, &[3][..]));
    assert_eq!(call.caller_ids, [caller_id]);
    let maps = seen(&caller).maps;
    let shape: Vec<_> = maps
        .iter()
        .map(|map| (map.id, map.kind.as_str(), map.entries_max))
        .collect();
    assert_eq!(shape, [(map_id, "prog_array", 4)]);
}

#[test]
fn without_the_capability_one_sentence() {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    /// `_LINUX_CAPABILITY_VERSION_3`.
    const VERSION: u32 = 0x2008_0522;
    let (listed, measured) = std::thread::scope(|scope| {
        let without = scope.spawn(|| {
            let (header, none) = (
                Header {
                    version: VERSION,
                    pid: 0,
                },
                [0u32; 6],
            );
            // SAFETY: both are of the layout of version 3; only this thread loses its capabilities.
            let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
            assert_eq!(result, 0, "giving up capabilities is always allowed");
            (programs::list().map(drop), Sampler::start().map(drop))
        });
        without.join().expect("no panic")
    });
    for result in [listed, measured] {
        let error = result.expect_err("it is not allowed");
        assert!(matches!(error, Error::Privilege), "{error:?}");
        assert_eq!(
            error.to_string(),
            "reading the BPF programs of the host needs CAP_SYS_ADMIN: run it as root"
        );
    }
}
