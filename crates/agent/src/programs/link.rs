//! What a bpf link is attached to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::btf::BtfNames;
use super::names;
use super::sys::{self, LinkInfo, Object};

/// A link and its target. Interfaces, cgroups and namespaces get their name, and their place in the
/// order, from those who walk them.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) id: u32,
    pub(super) program_id: u32,
    pub(super) target: LinkTarget,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LinkTarget {
    /// Index in a network namespace that the kernel does not tell; zero once the interface is gone.
    Interface {
        hook: String,
        ifindex: u32,
    },
    Cgroup {
        cgroup_id: u64,
        attach_type: u32,
    },
    /// Inode of a network namespace; zero once it is gone.
    Netns {
        inode: u32,
        attach_type: u32,
    },
    Other {
        hook: String,
        target: String,
    },
}

/// Every link of the host that has a program. Sentences about what could not be looked at go to `missing`.
pub(super) fn links(btf: &mut BtfNames, missing: &mut Vec<String>) -> io::Result<Vec<Link>> {
    let (ids, is_cut) = match sys::ids(Object::Link) {
        Ok(found) => found,
        // Before kernel 5.8 links have no ids.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    super::note_cut(is_cut, "links", missing);
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(fd) = sys::open(Object::Link, id)? else {
            continue;
        };
        let info = match sys::link_info(fd.as_fd()) {
            Ok(info) => info,
            Err(error) => {
                missing.push(format!("cannot read the information of BPF link {id}: {error}"));
                continue;
            }
        };
        if info.program_id != 0 {
            let target = target(fd.as_fd(), &info, btf);
            found.push(Link {
                id,
                program_id: info.program_id,
                target,
            });
        }
    }
    Ok(found)
}

fn target(fd: BorrowedFd<'_>, info: &LinkInfo, btf: &mut BtfNames) -> LinkTarget {
    let text = |pointer, length| sys::link_text(fd, pointer, length).unwrap_or_default();
    let other = |hook: &str, target: String| LinkTarget::Other {
        hook: hook.to_owned(),
        target,
    };
    let interface = |hook: String| LinkTarget::Interface {
        hook,
        ifindex: info.u32_at(0),
    };
    // By `enum bpf_link_type`; indices are those of 32-bit words in the union of that type.
    match info.kind {
        1 => other("raw_tracepoint", text(0, 2)),
        2 => traced(info, btf),
        3 => LinkTarget::Cgroup {
            cgroup_id: info.u64_at(0),
            attach_type: info.u32_at(2),
        },
        4 => other("iter", text(0, 2)),
        5 => LinkTarget::Netns {
            inode: info.u32_at(0),
            attach_type: info.u32_at(1),
        },
        6 => interface("xdp".to_owned()),
        7 => perf_event(info, &text(1, 4)),
        8 => {
            let hook = if info.u32_at(3) & 1 == 0 {
                "kprobe"
            } else {
                "kretprobe"
            };
            other(hook, format!("{} functions", info.u32_at(2)))
        }
        9 => other("struct_ops", format!("map {}", info.u32_at(0))),
        10 => {
            let (family, hook, priority) = (info.u32_at(0), info.u32_at(1), info.u32_at(2).cast_signed());
            other("netfilter", netfilter(family, hook, priority))
        }
        11 => interface(format!("tcx {}", names::attach_type(info.u32_at(1)))),
        12 => {
            let path = text(0, 8);
            other("uprobe", format!("{path}, {} places", info.u32_at(9)))
        }
        13 => interface(format!("netkit {}", names::attach_type(info.u32_at(1)))),
        14 => {
            let hook = format!("sockmap {}", names::attach_type(info.u32_at(1)));
            other(&hook, format!("map {}", info.u32_at(0)))
        }
        kind => other(&format!("link type {kind}"), String::new()),
    }
}

/// The function or tracepoint that a tracing link names by BTF, or the program it replaces.
fn traced(info: &LinkInfo, btf: &mut BtfNames) -> LinkTarget {
    /// Programs that replace functions of others (`BPF_PROG_TYPE_EXT`) have no attach type.
    const NONE: u32 = 0;
    let (attach_type, object_id, type_id) = (info.u32_at(0), info.u32_at(1), info.u32_at(2));
    if attach_type == NONE {
        return LinkTarget::Other {
            hook: "freplace".to_owned(),
            target: format!("program {object_id}"),
        };
    }
    let name = btf.type_name(object_id, type_id);
    LinkTarget::Other {
        hook: names::attach_type(attach_type),
        target: name.unwrap_or_else(|| format!("BTF object {object_id} type {type_id}")),
    }
}

fn perf_event(info: &LinkInfo, name: &str) -> LinkTarget {
    // By `enum bpf_perf_event_type`: hook, and the word with the offset into function or file.
    let (hook, offset) = match info.u32_at(0) {
        1 => ("uprobe", Some(5)),
        2 => ("uretprobe", Some(5)),
        3 => ("kprobe", Some(5)),
        4 => ("kretprobe", Some(5)),
        5 => ("tracepoint", None),
        _ => ("perf_event", None),
    };
    let target = match offset.map(|word| info.u32_at(word)) {
        Some(offset) if offset != 0 => format!("{name}+{offset:#x}"),
        _ => name.to_owned(),
    };
    LinkTarget::Other {
        hook: hook.to_owned(),
        target,
    }
}

fn netfilter(family: u32, hook: u32, priority: i32) -> String {
    const HOOKS: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];
    let family = match family {
        2 => "ipv4".to_owned(),
        10 => "ipv6".to_owned(),
        other => format!("family {other}"),
    };
    let hook = HOOKS
        .get(hook as usize)
        .map_or_else(|| format!("hook {hook}"), |&hook| hook.to_owned());
    format!("{family} {hook} priority {priority}")
}
