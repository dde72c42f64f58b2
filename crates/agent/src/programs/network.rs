//! Programs on interfaces and network namespaces, in the order in which a packet meets them.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

use super::link::{Link, LinkTarget};
use super::names::{self, hook};
use super::netlink::{BpfFilter, Interface, Netlink, Qdisc};
use super::sys::{self, Target};
use super::{Attachment, Found, Namespace, Order};

/// Most network namespaces that are visited.
const NAMESPACES_MAX: usize = 4096;
/// Where iproute2 keeps named namespaces.
const NAMED_NAMESPACES: &str = "/run/netns";

/// A network namespace and a path by which it can be entered.
#[derive(Clone, Debug)]
struct Place {
    inode: u64,
    path: PathBuf,
    name: String,
}

/// Asks every interface of every network namespace that this process can enter. Sentences about what
/// could not be looked at go to `missing`.
pub(super) fn collect(
    links: &[Link],
    used_links: &mut HashSet<u32>,
    found: &mut Vec<Found>,
    missing: &mut Vec<String>,
) {
    match visit(None) {
        Ok((spots, inode)) => join(spots, inode, None, links, used_links, found),
        Err(error) => missing.push(format!("cannot look at this network namespace: {error}")),
    }
    let places = places();
    if places.len() > NAMESPACES_MAX {
        missing.push(format!(
            "only {NAMESPACES_MAX} of {} network namespaces were looked at",
            places.len()
        ));
    }
    for place in places.iter().take(NAMESPACES_MAX) {
        let namespace = Namespace {
            inode: place.inode,
            name: place.name.clone(),
        };
        match visit(Some(place)) {
            Ok((spots, inode)) => join(spots, inode, Some(&namespace), links, used_links, found),
            // Gone meanwhile, with its name or its process.
            Err(_) if inode_of(&place.path) != Some(place.inode) => {}
            Err(error) => missing.push(format!(
                "cannot look into network namespace {}: {error}",
                place.name
            )),
        }
    }
}

/// Inode of the namespace behind a path, if there still is one.
fn inode_of(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|meta| meta.ino())
}

/// Network namespaces other than our own: those with a name first, then those of processes.
fn places() -> Vec<Place> {
    let own = inode_of(Path::new("/proc/thread-self/ns/net"));
    let mut seen: HashSet<u64> = own.into_iter().collect();
    let mut found = Vec::new();
    let mut add = |path: PathBuf, name: String| {
        if let Some(inode) = inode_of(&path)
            && seen.insert(inode)
        {
            found.push(Place { inode, path, name });
        }
    };
    for entry in std::fs::read_dir(NAMED_NAMESPACES)
        .into_iter()
        .flatten()
        .flatten()
    {
        add(entry.path(), entry.file_name().to_string_lossy().into_owned());
    }
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            add(entry.path().join("ns/net"), format!("of pid {name}"));
        }
    }
    found
}

/// A program as a namespace tells of it.
struct Spot {
    program_id: u32,
    /// Zero if the hook does not tell.
    link_id: u32,
    attachment: Attachment,
}

/// Looks at a namespace (`None`: our own) from inside, on a thread of its own, so that the caller
/// never moves. Gives what was seen and the namespace's inode.
fn visit(place: Option<&Place>) -> std::io::Result<(Vec<Spot>, u64)> {
    let own = Path::new("/proc/thread-self/ns/net");
    let file = File::open(place.map_or(own, |place| &place.path))?;
    let inode = file.metadata()?.ino();
    let Some(place) = place else {
        return Ok((look(&file, "this network namespace")?, inode));
    };
    let spots = std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET)?;
            look(&file, &format!("netns {}", place.name))
        });
        inside
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the visit panicked")))
    })?;
    Ok((spots, inode))
}

/// `target` is what hooks of the whole namespace have as their target.
fn look(namespace: &File, target: &str) -> std::io::Result<Vec<Spot>> {
    let netlink = Netlink::open()?;
    let mut spots = Vec::new();
    let mut qdiscs: HashMap<u32, Vec<Qdisc>> = HashMap::new();
    for qdisc in netlink.qdiscs()? {
        qdiscs.entry(qdisc.ifindex).or_default().push(qdisc);
    }
    for interface in netlink.interfaces()? {
        spots.extend(interface.xdp.iter().map(|xdp| Spot {
            program_id: xdp.program_id,
            link_id: 0,
            attachment: on(&interface, &format!("xdp {}", xdp.mode)),
        }));
        multi_hook(&interface, "tcx ingress", hook::TCX_INGRESS, &mut spots);
        multi_hook(&interface, "netkit primary", hook::NETKIT_PRIMARY, &mut spots);
        let qdiscs = qdiscs.get(&interface.ifindex).map_or(&[][..], Vec::as_slice);
        classic(&netlink, &interface, qdiscs, true, &mut spots);
        multi_hook(&interface, "tcx egress", hook::TCX_EGRESS, &mut spots);
        multi_hook(&interface, "netkit peer", hook::NETKIT_PEER, &mut spots);
        classic(&netlink, &interface, qdiscs, false, &mut spots);
    }
    for attach_type in [hook::FLOW_DISSECTOR, hook::SK_LOOKUP] {
        // A kernel without the hook refuses the question.
        let Ok(hooked) = sys::query(Target::Descriptor(namespace.as_fd()), attach_type) else {
            continue;
        };
        let count = hooked.attached.len() as u32;
        for (position, attached) in (1..).zip(&hooked.attached) {
            let attachment = Attachment {
                order: Some(Order { position, count }),
                ..Attachment::new(&names::attach_type(attach_type), target.to_owned())
            };
            spots.push(Spot {
                program_id: attached.program_id,
                link_id: 0,
                attachment,
            });
        }
    }
    Ok(spots)
}

fn on(interface: &Interface, hook: &str) -> Attachment {
    Attachment {
        ifindex: Some(interface.ifindex),
        ..Attachment::new(hook, interface.name.clone())
    }
}

/// TCX and netkit keep their own order and tell it. Kernels and devices without them refuse.
fn multi_hook(interface: &Interface, hook: &str, attach_type: u32, spots: &mut Vec<Spot>) {
    let Ok(hooked) = sys::query(Target::Interface(interface.ifindex), attach_type) else {
        return;
    };
    let count = hooked.attached.len() as u32;
    for (position, attached) in (1..).zip(&hooked.attached) {
        spots.push(Spot {
            program_id: attached.program_id,
            link_id: attached.link_id,
            attachment: Attachment {
                order: Some(Order { position, count }),
                ..on(interface, hook)
            },
        });
    }
}

/// `bpf` filters of clsact, ingress and classful qdiscs.
fn classic(netlink: &Netlink, interface: &Interface, qdiscs: &[Qdisc], ingress: bool, spots: &mut Vec<Spot>) {
    /// Minor numbers of clsact's two halves below `ffff:` (TC_H_MIN_INGRESS, TC_H_MIN_EGRESS).
    const CLSACT_INGRESS: u32 = 0xffff_fff2;
    const CLSACT_EGRESS: u32 = 0xffff_fff3;
    for qdisc in qdiscs {
        let (parent, hook) = match (qdisc.kind.as_str(), ingress) {
            ("clsact", true) => (CLSACT_INGRESS, "tc ingress".to_owned()),
            ("clsact", false) => (CLSACT_EGRESS, "tc egress".to_owned()),
            ("ingress", true) => (qdisc.handle, "tc ingress".to_owned()),
            // Other qdiscs classify on the way out. Without a handle they cannot have filters.
            (kind, false) if kind != "ingress" && qdisc.handle != 0 => {
                (qdisc.handle, format!("tc {kind} {:x}:", qdisc.handle >> 16))
            }
            _ => continue,
        };
        // Classless qdiscs refuse the question.
        let Ok(filters) = netlink.bpf_filters(interface.ifindex, parent) else {
            continue;
        };
        let count = filters.len() as u32;
        spots.extend((1..).zip(&filters).map(|(position, filter)| Spot {
            program_id: filter.program_id,
            link_id: 0,
            attachment: Attachment {
                order: Some(Order { position, count }),
                detail: Some(detail(filter)),
                ..on(interface, &hook)
            },
        }));
    }
}

fn detail(filter: &BpfFilter) -> String {
    let chain = match filter.chain {
        0 => String::new(),
        chain => format!("chain {chain} "),
    };
    let action = if filter.is_direct_action {
        " direct-action"
    } else {
        ""
    };
    format!(
        "{chain}pref {} handle {:#x}{action}",
        filter.priority, filter.handle
    )
}

/// Puts spots and links together: a link knows no namespace, a namespace knows few links.
fn join(
    spots: Vec<Spot>,
    inode: u64,
    namespace: Option<&Namespace>,
    links: &[Link],
    used_links: &mut HashSet<u32>,
    found: &mut Vec<Found>,
) {
    for spot in spots {
        let is_link_of_spot = |link: &&Link| {
            let is_same_place = match &link.target {
                LinkTarget::Interface { hook, ifindex } => {
                    Some(*ifindex) == spot.attachment.ifindex && spot.attachment.hook.starts_with(hook)
                }
                LinkTarget::Netns {
                    inode: of_link,
                    attach_type,
                } => u64::from(*of_link) == inode && spot.attachment.hook == names::attach_type(*attach_type),
                _ => false,
            };
            is_same_place && link.program_id == spot.program_id && !used_links.contains(&link.id)
        };
        let link_id = match spot.link_id {
            0 => links.iter().find(is_link_of_spot).map(|link| link.id),
            id => Some(id),
        };
        used_links.extend(link_id);
        let attachment = Attachment {
            link_id,
            namespace: namespace.cloned(),
            ..spot.attachment
        };
        found.push((spot.program_id, attachment));
    }
}
