//! Every BPF program of the host: what it is, who holds it, where it is attached and in what order,
//! and what it costs.
//!
//! The kernel knows programs, links and hooks, each by itself: a link does not name the network
//! namespace of its interface, a hook rarely names its links, and nothing names the processes. So the
//! hooks are walked ([`mod@network`], [`cgroup`]), links are joined to them, and what remains is told from
//! the link alone. [`Listing`] is what the admin API returns.
//!
//! Everything here only looks: nothing is attached, detached or changed, except that a [`Sampler`] turns
//! the kernel's run statistics on while it lives.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use serde::Serialize;

use btf::BtfNames;
use link::{Link, LinkTarget};
use names::{hook, map_type, program_type};
use sys::{Object, ProgramInfo, Target};

mod btf;
mod cgroup;
mod holders;
mod link;
mod mounts;
mod names;
pub(crate) mod netlink;
mod network;
mod sample;
mod slots;
mod sys;

pub use sample::{Cost, Sample, Sampler};

/// Why programs cannot be listed or measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller lacks the capability.
    #[error("reading the BPF programs of the host needs CAP_SYS_ADMIN: run it as root")]
    Privilege,
    /// The kernel refused.
    #[error("cannot {doing}")]
    Kernel {
        /// What was tried, as an infinitive.
        doing: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}

fn cannot(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Error::Privilege,
        _ => Error::Kernel { doing, source },
    }
}

/// The programs of the host.
#[derive(Clone, Debug, Serialize)]
pub struct Listing {
    /// By id, which is the order of loading.
    pub programs: Vec<Program>,
    /// Sentences about what could not be looked at; empty if nothing is missing.
    pub missing: Vec<String>,
}

/// One loaded program.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    /// The kernel's id, never used twice until the numbers wrap.
    pub id: u32,
    /// Name given at loading, whole where BTF has it (the kernel keeps 15 bytes); may be empty.
    pub name: String,
    /// `xdp`, `sched_cls`, `cgroup_skb`, …: bpftool's names.
    #[serde(rename = "type")]
    pub kind: String,
    /// Hash of the instructions, 16 hexadecimal digits.
    pub tag: String,
    /// Milliseconds since 1970 at which it was loaded; `None` before kernel 4.15.
    pub loaded_at_unix_ms: Option<u64>,
    /// User that loaded it.
    pub uid: u32,
    /// Machine code; zero without the JIT compiler.
    pub jited_bytes: u32,
    /// BPF code after the verifier.
    pub xlated_bytes: u32,
    /// Instructions that the verifier walked; zero before kernel 5.16.
    pub verified_instructions: u32,
    /// Kernel memory of the program itself, without its maps.
    pub memory_bytes: Option<u64>,
    /// Whether its licence lets it call GPL-only helpers.
    pub is_gpl_compatible: bool,
    /// Type information, if it has any.
    pub btf_id: Option<u32>,
    /// Time spent in it while run statistics were on, since loading.
    pub run_time_ns: u64,
    /// Runs while run statistics were on.
    pub run_count: u64,
    /// Runs that did not happen because it was running already on that CPU.
    pub recursion_misses: u64,
    /// Maps it uses, by id.
    pub maps: Vec<Map>,
    /// Where it is pinned in bpffs.
    pub pins: Vec<PathBuf>,
    /// Processes that hold it, or a link of it.
    pub owners: Vec<Owner>,
    /// Where it runs; those of one interface in the order in which packets meet them.
    pub attachments: Vec<Attachment>,
    /// Program arrays from which it is tail called. Such runs appear in no statistics: the kernel
    /// counts the program that was entered first.
    pub tail_called_from: Vec<TailCall>,
}

/// A map that a program uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Map {
    /// The kernel's id.
    pub id: u32,
    /// At most 15 bytes; may be empty.
    pub name: String,
    /// `hash`, `percpu_array`, `ringbuf`, …: bpftool's names.
    #[serde(rename = "type")]
    pub kind: String,
    /// Length of a key.
    pub key_bytes: u32,
    /// Length of a value, of one CPU for per-CPU maps.
    pub value_bytes: u32,
    /// Rows it can hold; bytes for a ring buffer.
    pub entries_max: u32,
    /// Kernel memory, as the kernel estimates it.
    pub memory_bytes: Option<u64>,
    /// Where it is pinned in bpffs.
    pub pins: Vec<PathBuf>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// Process id, in the namespace of the asking process.
    pub pid: u32,
    /// Its name, at most 15 bytes.
    pub command: String,
}

/// Where a program runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// `xdp native`, `tcx ingress`, `tc egress`, `cgroup inet_ingress`, `tracepoint`, `kprobe`, …
    pub hook: String,
    /// Interface, cgroup directory, network namespace, function, tracepoint.
    pub target: String,
    /// For interfaces.
    pub ifindex: Option<u32>,
    /// Network namespace of the interface; `None` for our own, and where it does not matter.
    pub namespace: Option<Namespace>,
    /// Place among the programs of this hook; `None` where the kernel has no order.
    pub order: Option<Order>,
    /// The link that holds it; `None` when attached without one.
    pub link_id: Option<u32>,
    /// Where the link is pinned; it then outlives its process.
    pub link_pins: Vec<PathBuf>,
    /// What else the hook tells, in words.
    pub detail: Option<String>,
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Namespace {
    /// Inode of the namespace.
    pub inode: u64,
    /// Its name for iproute2, else `of pid N`.
    pub name: String,
}

/// A place among several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Order {
    /// From 1, which runs first.
    pub position: u32,
    /// How many there are.
    pub count: u32,
}

/// A program array that holds a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TailCall {
    /// Id of the array.
    pub map_id: u32,
    /// Its slots that hold the program.
    pub slots: Vec<u32>,
    /// Ids of the programs that use the array, and so may call.
    pub caller_ids: Vec<u32>,
}

impl Attachment {
    fn new(hook: &str, target: String) -> Self {
        Self {
            hook: hook.to_owned(),
            target,
            ifindex: None,
            namespace: None,
            order: None,
            link_id: None,
            link_pins: Vec::new(),
            detail: None,
        }
    }
}

/// A program's id and where it was found.
type Found = (u32, Attachment);

/// Every program of the host with its attach points.
///
/// Costs a few system calls for each program, link, interface, cgroup and open descriptor of the host:
/// milliseconds on a small one, up to a second on one with thousands of containers. Blocks; call it from
/// a thread that may.
///
/// # Errors
///
/// [`Error::Privilege`] without CAP_SYS_ADMIN. Parts that cannot be looked at are no error: they are named in
/// [`Listing::missing`].
pub fn list() -> Result<Listing, Error> {
    let mut missing = Vec::new();
    // First, so that descriptors opened below do not make this process an owner.
    let holders = holders::holders();
    let pins = holders::pins();
    let mut btf = BtfNames::default();

    let mut maps = BTreeMap::new();
    let mut infos = Vec::new();
    let (ids, is_cut) = sys::ids(Object::Program).map_err(cannot("list BPF programs"))?;
    note_cut(is_cut, "programs", &mut missing);
    let boot_unix_ns = boot_unix_ns();
    let mut programs = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(fd) = sys::open(Object::Program, id).map_err(cannot("open a BPF program"))? else {
            continue;
        };
        let info = sys::program_info(fd.as_fd()).map_err(cannot("read the information of a BPF program"))?;
        let map_ids = sys::program_map_ids(fd.as_fd(), info.n_map_ids)
            .map_err(cannot("read the maps of a BPF program"))?;
        let map_ids: BTreeSet<u32> = map_ids.into_iter().collect();
        let mut program = describe(fd.as_fd(), &info, boot_unix_ns, &mut btf);
        program.pins = pins.programs.get(&id).cloned().unwrap_or_default();
        program.owners = holders.by_program.get(&id).cloned().unwrap_or_default();
        for map_id in map_ids {
            let map = match maps.entry(map_id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(map(map_id, &pins)?),
            };
            program.maps.extend(map.clone());
        }
        infos.push(info);
        programs.push(program);
    }

    let links = link::links(&mut btf, &mut missing).map_err(cannot("list BPF links"))?;
    note_cut(holders.is_cut, "descriptors of processes", &mut missing);
    note_cut(pins.is_cut, "files in bpffs", &mut missing);
    let found = attachments(&infos, &links, &maps, &mut missing)?;
    let owners_of_links = links.iter().filter_map(|link| {
        let owners = holders.by_link.get(&link.id)?;
        Some((link.program_id, owners))
    });
    let index: HashMap<u32, usize> = (0..)
        .zip(&programs)
        .map(|(at, program)| (program.id, at))
        .collect();
    for (program_id, owners) in owners_of_links {
        if let Some(&at) = index.get(&program_id) {
            for owner in owners {
                holders::add(&mut programs[at].owners, owner.clone());
            }
        }
    }
    for (program_id, mut attachment) in found {
        let Some(&at) = index.get(&program_id) else {
            continue;
        };
        let pins = attachment.link_id.and_then(|id| pins.links.get(&id));
        attachment.link_pins = pins.cloned().unwrap_or_default();
        let program = &mut programs[at];
        // The kernel has one kind of link for both ways to a tracepoint.
        if program.kind == "tracing" && attachment.hook == "raw_tracepoint" {
            "tp_btf".clone_into(&mut attachment.hook);
        }
        program.attachments.push(attachment);
    }
    for (program_id, attachment, owner) in holders.perf_events {
        let Some(&at) = index.get(&program_id) else {
            continue;
        };
        let program = &mut programs[at];
        // With a link, the link has told it already.
        let is_known =
            |known: &Attachment| (&known.hook, &known.target) == (&attachment.hook, &attachment.target);
        if !program.attachments.iter().any(is_known) {
            program.attachments.push(attachment);
        }
        holders::add(&mut program.owners, owner);
    }
    let users = users_of_maps(&programs);
    for (map_id, slots) in slots::program_arrays(&mut missing)? {
        for (program_id, slots) in slots {
            if let Some(&at) = index.get(&program_id) {
                programs[at].tail_called_from.push(TailCall {
                    map_id,
                    slots,
                    caller_ids: users.get(&map_id).cloned().unwrap_or_default(),
                });
            }
        }
    }
    Ok(Listing { programs, missing })
}

fn note_cut(is_cut: bool, what: &str, missing: &mut Vec<String>) {
    if is_cut {
        missing.push(format!("there are more {what} than are looked at"));
    }
}

/// All but maps, pins, owners and attach points.
fn describe(fd: BorrowedFd<'_>, info: &ProgramInfo, boot_unix_ns: u64, btf: &mut BtfNames) -> Program {
    Program {
        id: info.id,
        name: full_name(fd, info, btf),
        kind: names::program_kind(info.kind),
        tag: info.tag.iter().map(|byte| format!("{byte:02x}")).collect(),
        loaded_at_unix_ms: (info.load_time_ns > 0).then(|| (boot_unix_ns + info.load_time_ns) / 1_000_000),
        uid: info.created_by_uid,
        jited_bytes: info.jited_len,
        xlated_bytes: info.xlated_len,
        verified_instructions: info.verified_instructions,
        memory_bytes: holders::memory_bytes(fd),
        is_gpl_compatible: info.flags & 1 != 0,
        btf_id: (info.btf_id != 0).then_some(info.btf_id),
        run_time_ns: info.run_time_ns,
        run_count: info.run_count,
        recursion_misses: info.recursion_misses,
        maps: Vec::new(),
        pins: Vec::new(),
        owners: Vec::new(),
        attachments: Vec::new(),
        tail_called_from: Vec::new(),
    }
}

/// The name; where the kernel may have cut it, that of the program's function if it begins alike.
fn full_name(fd: BorrowedFd<'_>, info: &ProgramInfo, btf: &mut BtfNames) -> String {
    const NAME_LEN_MAX: usize = 15;
    let name = sys::text(&info.name);
    if name.len() < NAME_LEN_MAX || info.btf_id == 0 {
        return name;
    }
    let function = sys::program_function_type_id(fd).ok().flatten();
    function
        .and_then(|type_id| btf.type_name(info.btf_id, type_id))
        .filter(|whole| whole.starts_with(&name))
        .unwrap_or(name)
}

fn map(id: u32, pins: &holders::Pins) -> Result<Option<Map>, Error> {
    let Some(fd) = sys::open(Object::Map, id).map_err(cannot("open a BPF map"))? else {
        return Ok(None);
    };
    let info = sys::map_info(fd.as_fd()).map_err(cannot("read the information of a BPF map"))?;
    Ok(Some(Map {
        id,
        name: sys::text(&info.name),
        kind: names::map_kind(info.kind),
        key_bytes: info.key_len,
        value_bytes: info.value_len,
        entries_max: info.entries_max,
        memory_bytes: holders::memory_bytes(fd.as_fd()),
        pins: pins.maps.get(&id).cloned().unwrap_or_default(),
    }))
}

/// Nanoseconds since 1970 at which the clock of load times was zero.
fn boot_unix_ns() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    let ns = |clock| clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec());
    u64::try_from(ns(ClockId::CLOCK_REALTIME) - ns(ClockId::CLOCK_BOOTTIME)).unwrap_or(0)
}

/// Walks the hooks that the types of the loaded programs can be on, then adds what only links tell.
fn attachments(
    infos: &[ProgramInfo],
    links: &[Link],
    maps: &BTreeMap<u32, Option<Map>>,
    missing: &mut Vec<String>,
) -> Result<Vec<Found>, Error> {
    const ON_NETWORK: &[u32] = &[
        program_type::XDP,
        program_type::SCHED_CLS,
        program_type::SCHED_ACT,
        program_type::FLOW_DISSECTOR,
        program_type::SK_LOOKUP,
    ];
    let has_any = |kinds: &[u32]| infos.iter().any(|info| kinds.contains(&info.kind));
    let mut found = Vec::new();
    let mut used_links = HashSet::new();
    if has_any(ON_NETWORK) {
        network::collect(links, &mut used_links, &mut found, missing);
    }
    if has_any(program_type::CGROUP) {
        let is_cut = cgroup::collect(links, &mut used_links, &mut found);
        note_cut(is_cut, "cgroups", missing);
    }
    for link in links.iter().filter(|link| !used_links.contains(&link.id)) {
        let attachment = Attachment {
            link_id: Some(link.id),
            ..by_link_alone(link)
        };
        found.push((link.program_id, attachment));
    }
    if has_any(program_type::SOCKMAP) {
        socket_maps(maps, &mut found);
    }
    if has_any(&[program_type::XDP]) {
        slots::redirect_maps(&mut found, missing)?;
    }
    Ok(found)
}

/// What a link tells of a place that was not found by walking.
fn by_link_alone(link: &Link) -> Attachment {
    match &link.target {
        LinkTarget::Interface { hook, ifindex: 0 } => {
            Attachment::new(hook, "nothing: the interface is gone".to_owned())
        }
        LinkTarget::Interface { hook, ifindex } => Attachment {
            ifindex: Some(*ifindex),
            ..Attachment::new(hook, format!("interface {ifindex} of a namespace out of reach"))
        },
        LinkTarget::Cgroup {
            cgroup_id: 0,
            attach_type,
        } => {
            let hook = format!("cgroup {}", names::attach_type(*attach_type));
            Attachment::new(&hook, "nothing: the cgroup is gone".to_owned())
        }
        LinkTarget::Cgroup {
            cgroup_id,
            attach_type,
        } => {
            let hook = format!("cgroup {}", names::attach_type(*attach_type));
            Attachment::new(&hook, format!("cgroup id {cgroup_id}"))
        }
        LinkTarget::Netns { inode, attach_type } => {
            let hook = names::attach_type(*attach_type);
            Attachment::new(&hook, format!("network namespace with inode {inode}"))
        }
        LinkTarget::Other { hook, target } => Attachment::new(hook, target.clone()),
    }
}

/// Programs on socket maps that were attached without a link.
fn socket_maps(maps: &BTreeMap<u32, Option<Map>>, found: &mut Vec<Found>) {
    let kinds = [map_type::SOCKMAP, map_type::SOCKHASH].map(names::map_kind);
    let socket_maps = maps.values().flatten().filter(|map| kinds.contains(&map.kind));
    for map in socket_maps {
        let Ok(Some(fd)) = sys::open(Object::Map, map.id) else {
            continue;
        };
        for &attach_type in hook::SOCKMAP {
            // Before kernel 5.17 the question is refused.
            let Ok(hooked) = sys::query(Target::Descriptor(fd.as_fd()), attach_type) else {
                continue;
            };
            for attached in hooked.attached {
                let hook = format!("sockmap {}", names::attach_type(attach_type));
                let attachment = Attachment::new(&hook, format!("map {}", map.id));
                let is_known = |(program_id, known): &Found| {
                    *program_id == attached.program_id
                        && (&known.hook, &known.target) == (&attachment.hook, &attachment.target)
                };
                if !found.iter().any(is_known) {
                    found.push((attached.program_id, attachment));
                }
            }
        }
    }
}

/// Ids of the programs that use each map.
fn users_of_maps(programs: &[Program]) -> HashMap<u32, Vec<u32>> {
    let mut users: HashMap<u32, Vec<u32>> = HashMap::new();
    for program in programs {
        for map in &program.maps {
            users.entry(map.id).or_default().push(program.id);
        }
    }
    users
}
