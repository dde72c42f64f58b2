//! Hooks tried in places made for it: a network namespace that ends with its thread, an empty control
//! group, a tracepoint for a moment.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use aya::Ebpf;
use aya::programs::tc::{NlOptions, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{Program, SchedClassifier, TcAttachType, TracePoint};
use nix::sched::{CloneFlags, unshare};

use super::kernel_side::{probe_pin, tracepoints};
use super::{Check, Verdict};
use crate::error::chain;
use crate::kernel;
use crate::programs::netlink::Netlink;
use crate::sys::{self, attach_type};

const GROUP: &str = "kernel";

/// How packets can be observed here; `None` where it was not tried.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hooks {
    pub(super) tcx: Option<bool>,
    pub(super) tc: Option<bool>,
}

pub(super) fn examine(ebpf: &mut Ebpf, checks: &mut Vec<Check>) -> Hooks {
    let hooks = examine_network(ebpf, checks);
    examine_cgroup(ebpf, checks);
    examine_tracepoints(ebpf, checks);
    hooks
}

/// What was tried in the network namespace.
struct Network {
    tcx: Result<(), String>,
    tc: Result<(), String>,
    xdp: Result<(), String>,
    pin: Result<(), String>,
}

fn examine_network(ebpf: &mut Ebpf, checks: &mut Vec<Check>) -> Hooks {
    // The namespace lives as long as the one thread in it.
    let tried = std::thread::scope(|scope| scope.spawn(|| try_network(ebpf)).join());
    let network = match tried {
        Ok(Ok(network)) => network,
        Ok(Err(reason)) => {
            let words = format!("not tried, since there is no network namespace to try it in: {reason}");
            checks.push(Check::new(GROUP, "TCX, tc, XDP", Verdict::Unknown, words));
            return Hooks::default();
        }
        Err(_) => {
            let words = "not tried: the thread of the probe ended early";
            checks.push(Check::new(GROUP, "TCX, tc, XDP", Verdict::Unknown, words));
            return Hooks::default();
        }
    };
    let (tcx, tc) = (network.tcx.is_ok(), network.tc.is_ok());
    let mut check = Check::of(
        GROUP,
        "TCX",
        &network.tcx,
        "attaches in both directions; what Weir observes with",
        (Verdict::Limited, "does not attach, so tc filters are used"),
    );
    check.needed = !tc;
    if !tcx && !tc {
        check.verdict = Verdict::Missing;
    }
    checks.push(check);
    checks.push(Check::of(
        GROUP,
        "tc clsact",
        &network.tc,
        "attaches; not needed where TCX is",
        (Verdict::Limited, "does not attach; not needed where TCX is"),
    ));
    checks.push(Check::of(
        GROUP,
        "XDP native",
        &network.xdp,
        "attaches to a veth; by interface see below",
        (
            Verdict::Limited,
            "does not attach to a veth, so `--xdp on` falls back",
        ),
    ));
    checks.push(Check::of(
        GROUP,
        "pinned links",
        &network.pin,
        "work; a restart loses no packet",
        (
            Verdict::Missing,
            "cannot be made, so programs end with the process",
        ),
    ));
    Hooks {
        tcx: Some(tcx),
        tc: Some(tc),
    }
}

fn try_network(ebpf: &mut Ebpf) -> Result<Network, String> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())?;
    let veth = make_veth().map_err(|error| format!("no veth pair: {error}"))?;
    let tc = try_tc(ebpf, &veth.0);
    let attach = |name: &str, kind: u32, flags: u32| {
        let program = ebpf.program(name).ok_or("no such program")?;
        let program = program.fd().map_err(|error| chain(&error))?;
        sys::link_create(program.as_fd(), veth.1, kind, flags).map_err(|error| error.to_string())
    };
    let ingress = attach("weir_ingress", attach_type::TCX_INGRESS, 0);
    let pin = match &ingress {
        Ok(link) => {
            let path = probe_pin();
            let pinned = sys::pin(link.as_fd(), &path).map_err(|error| error.to_string());
            let _ = fs::remove_file(path);
            pinned
        }
        Err(_) => Err("there is no TCX link to pin".to_owned()),
    };
    const XDP_NATIVE: u32 = 1 << 2;
    Ok(Network {
        tcx: ingress
            .and_then(|_| attach("weir_egress", attach_type::TCX_EGRESS, 0))
            .map(drop),
        tc,
        xdp: attach("weir_xdp", attach_type::XDP, XDP_NATIVE).map(drop),
        pin,
    })
}

/// Makes a veth pair in this namespace; gives name and index of one end.
fn make_veth() -> io::Result<(String, u32)> {
    const RTM_NEWLINK: u16 = 16;
    const IFINFO_LEN: usize = 16;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    let attribute = |kind: u16, value: &[u8]| {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let mut body = vec![0; IFINFO_LEN];
    body.extend(attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"veth")));
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK;
    Netlink::open()?.ask(RTM_NEWLINK, flags, RTM_NEWLINK, &body)?;
    crate::interface::list()?
        .into_iter()
        .find(|interface| !interface.is_loopback() && interface.name.starts_with("veth"))
        .map(|interface| (interface.name, interface.index))
        .ok_or_else(|| io::Error::other("it was made, but is not listed"))
}

fn try_tc(ebpf: &mut Ebpf, interface: &str) -> Result<(), String> {
    qdisc_add_clsact(interface).map_err(|error| chain(&error))?;
    let program: &mut SchedClassifier = ebpf
        .program_mut("weir_ingress")
        .and_then(|program| program.try_into().ok())
        .ok_or("no such program")?;
    let options = TcAttachOptions::Netlink(NlOptions::default());
    let id = program
        .attach_with_options(interface, TcAttachType::Ingress, options)
        .map_err(|error| chain(&error))?;
    program.detach(id).map_err(|error| chain(&error))
}

/// An empty control group, removed when dropped.
struct ProbeCgroup(PathBuf);

impl Drop for ProbeCgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn examine_cgroup(ebpf: &Ebpf, checks: &mut Vec<Check>) {
    let names = ["sock_ops", "cgroup socket hooks"];
    let Some(root) = kernel::cgroup2_root() else {
        for name in names {
            let words = "cgroup v2 is not mounted";
            checks.push(Check::new(GROUP, name, Verdict::Limited, words));
        }
        return;
    };
    let cgroup = ProbeCgroup(root.join(format!("weir-doctor-{}", std::process::id())));
    let folder = match fs::create_dir(&cgroup.0).and_then(|()| fs::File::open(&cgroup.0)) {
        Ok(folder) => folder,
        Err(error) => {
            for name in names {
                let words = format!("not tried: cannot make {}: {error}", cgroup.0.display());
                checks.push(Check::new(GROUP, name, Verdict::Unknown, words));
            }
            return;
        }
    };
    let attach = |name: &str, kind: u32| {
        let program = ebpf.program(name).ok_or("no such program")?;
        let program = program.fd().map_err(|error| chain(&error))?;
        sys::link_create(program.as_fd(), folder.as_raw_fd() as u32, kind, 0)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    checks.push(Check::of(
        GROUP,
        names[0],
        &attach("weir_sockops", attach_type::CGROUP_SOCK_OPS),
        "attaches; the kernel's own round trips and retransmits",
        (
            Verdict::Limited,
            "does not attach, so the kernel's own round trips are missing",
        ),
    ));
    let sockets = attach("weir_sock_create", attach_type::CGROUP_INET_SOCK_CREATE)
        .and_then(|()| attach("weir_post_bind4", attach_type::CGROUP_INET4_POST_BIND))
        .and_then(|()| attach("weir_post_bind6", attach_type::CGROUP_INET6_POST_BIND));
    checks.push(Check::of(
        GROUP,
        names[1],
        &sockets,
        "attach; owners of new sockets",
        (Verdict::Limited, "do not attach, so owners come from /proc only"),
    ));
}

fn examine_tracepoints(ebpf: &mut Ebpf, checks: &mut Vec<Check>) {
    let has_tracefs = kernel::tracefs().is_some();
    for (program, category, event, what, has_field) in tracepoints() {
        let result = if !has_tracefs {
            Err("tracefs is not mounted".to_owned())
        } else if !has_field {
            Err("the field wanted is not in this kernel's tracepoint".to_owned())
        } else {
            try_tracepoint(ebpf, program, category, event)
        };
        checks.push(Check::of(
            GROUP,
            &format!("tracepoint {category}:{event}"),
            &result,
            &format!("attaches and has the fields wanted; {what}"),
            (Verdict::Limited, &format!("not usable, so {what} are missing")),
        ));
    }
}

fn try_tracepoint(ebpf: &mut Ebpf, name: &str, category: &str, event: &str) -> Result<(), String> {
    let program: &mut TracePoint = ebpf
        .program_mut(name)
        .and_then(|program: &mut Program| program.try_into().ok())
        .ok_or("no such program")?;
    let id = program.attach(category, event).map_err(|error| chain(&error))?;
    program.detach(id).map_err(|error| chain(&error))
}
