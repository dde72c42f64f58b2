//! Loads the programs, opens or makes the maps, attaches with the degrade ladder.
//!
//! Native XDP where asked for, else TCX, else tc. Each refusal becomes one sentence in
//! [`Loaded::notes`], and what still works goes on.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::programs::tc::{NlOptions, TcAttachOptions, qdisc_add_clsact, qdisc_detach_program};
use aya::programs::{Program, ProgramError, SchedClassifier, TcAttachType, TracePoint};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use serde::Serialize;
use wire::Link;
use wire::flow::HashKeys;
use wire::rows::{LoadSettings, Settings, TracepointFields, budget};

use crate::error::{AgentError, During};
use crate::instance::Instance;
use crate::interface::Interface;
use crate::kernel::{self, Jiffies};
use crate::sys::{self, Plain, attach_type};
use crate::{maps::Maps, object};

/// What to observe and how much memory to give it.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    pub interfaces: Vec<Interface>,
    /// Count ingress at native XDP instead of TCX.
    pub xdp: bool,
    /// Rows of the flow table.
    pub flow_rows: u32,
    /// Handshakes kept aside; rounded up to a power of two.
    pub pending_cells: u32,
    /// Bytes of the event ring; rounded up to a power of two.
    pub ring_bytes: u32,
    pub budgets: Budgets,
    /// Payloads sampled at the start of each direction of a flow.
    pub samples_per_direction: u8,
    /// Random words that make hashes unpredictable.
    pub hash_keys: [u32; 14],
}

/// Admissions per second, over all CPUs.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    pub attempts_per_s: u32,
    pub handshakes_per_s: u32,
    pub first_packets_per_s: u32,
    pub samples_per_s: u32,
    pub aggregates_per_s: u32,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            attempts_per_s: 10_000,
            handshakes_per_s: 50_000,
            first_packets_per_s: 20_000,
            samples_per_s: 20_000,
            aggregates_per_s: 1_000,
        }
    }
}

/// Where a direction of an interface is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    Xdp,
    Tcx,
    Tc,
    None,
}

/// One interface under observation.
#[derive(Clone, Debug, Serialize)]
pub struct Attached {
    pub name: String,
    pub ifindex: u32,
    pub ingress: Hook,
    pub egress: Hook,
    /// Why a better hook was not used.
    pub notes: Vec<String>,
}

/// Programs in the kernel and what they write to. Links are pinned; dropping this detaches nothing
/// but what could not be pinned.
#[derive(Debug)]
pub struct Loaded {
    pub maps: Maps,
    pub attached: Vec<Attached>,
    /// What this kernel or host refused, one sentence each.
    pub notes: Vec<String>,
    pub jiffies: Jiffies,
    /// The program that takes orders on which payloads to sample.
    pub sampling: OwnedFd,
    /// tc filters, which have no links: (interface, program, direction).
    tc_filters: Vec<(String, &'static str, TcAttachType)>,
    _ebpf: Ebpf,
}

const PINNED_MAPS: [&str; 11] = [
    "FLOWS",
    "PENDING",
    "AGGREGATES",
    "INTERFACES",
    "LOSSES",
    "EVENTS",
    "SOCKETS",
    "DROPS",
    "TCP_TOTALS",
    "OWNERS",
    "SETTINGS",
];

/// Budget windows are this many jiffies, as a power of two.
const WINDOW_SHIFT: u32 = 5;

/// Loads and attaches everything that this kernel and these privileges allow.
pub fn load(instance: &Instance, options: &LoadOptions) -> Result<Loaded, AgentError> {
    let mut notes = Vec::new();
    let jiffies = Jiffies::calibrate().map_err(not_permitted_or("read the kernel's jiffies"))?;
    let tracefs = kernel::tracefs();
    if tracefs.is_none() {
        notes.push(
            "tracefs is not mounted, so kernel drop reasons and TCP totals are missing: run `mount -t tracefs \
             tracefs /sys/kernel/tracing`"
                .to_owned(),
        );
    }
    let fields = tracefs
        .as_deref()
        .map_or_else(no_fields, kernel::tracepoint_fields);
    let hash_keys = kept_hash_keys(instance).unwrap_or(options.hash_keys);
    let mut ebpf = create_maps(instance, options, jiffies, hash_keys, &fields, &mut notes)?;
    let maps = Maps::open(instance)?;
    // Before the first packet: without budgets every new flow would be refused.
    let settings = Settings {
        per_window: per_window(&options.budgets, jiffies.ns),
        samples_per_direction: options.samples_per_direction.into(),
        hash_keys,
    };
    sys::update(maps.settings.as_fd(), &0u32, &settings).during(|| "write the programs' settings".into())?;
    load_packet_programs(&mut ebpf, options)?;
    let sampling = program_fd(&mut ebpf, "weir_sampling")?
        .try_clone_to_owned()
        .during(|| "keep the program that takes sampling orders".into())?;
    let mut loaded_links = LinkKeeper {
        instance,
        notes: &mut notes,
    };
    let mut tc_filters = Vec::new();
    let attached = options
        .interfaces
        .iter()
        .map(|interface| {
            attach_interface(
                &mut ebpf,
                interface,
                options.xdp,
                &mut loaded_links,
                &mut tc_filters,
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    attach_cgroup(&mut ebpf, &mut loaded_links);
    if tracefs.is_some() {
        attach_tracepoints(&mut ebpf, &fields, &mut loaded_links);
    }
    Ok(Loaded {
        maps,
        attached,
        notes,
        jiffies,
        sampling,
        tc_filters,
        _ebpf: ebpf,
    })
}

impl Loaded {
    /// Removes the tc filters, which no pin keeps or removes.
    pub fn remove_tc_filters(&mut self) {
        for (interface, program, direction) in self.tc_filters.drain(..) {
            let _ = qdisc_detach_program(&interface, direction, program);
        }
    }
}

/// Removes the tc filters that an instance without TCX left behind when it was killed.
pub fn remove_leftover_tc_filters() {
    for interface in crate::interface::list().unwrap_or_default() {
        for (program, direction) in [
            ("weir_ingress", TcAttachType::Ingress),
            ("weir_egress", TcAttachType::Egress),
            ("weir_ingress_l3", TcAttachType::Ingress),
            ("weir_egress_l3", TcAttachType::Egress),
        ] {
            let _ = qdisc_detach_program(&interface.name, direction, program);
        }
    }
}

pub(crate) fn no_fields() -> TracepointFields {
    use wire::rows::FIELD_MISSING;
    TracepointFields {
        kfree_skb_reason: FIELD_MISSING,
        set_state_new: FIELD_MISSING,
        set_state_protocol: FIELD_MISSING,
        retransmit_state: FIELD_MISSING,
    }
}

fn not_permitted_or(what: &'static str) -> impl FnOnce(std::io::Error) -> AgentError {
    move |source| match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => AgentError::NotPermitted,
        _ => AgentError::Io {
            what: what.into(),
            source,
        },
    }
}

fn create_maps(
    instance: &Instance,
    options: &LoadOptions,
    jiffies: Jiffies,
    hash_keys: [u32; 14],
    fields: &TracepointFields,
    notes: &mut Vec<String>,
) -> Result<Ebpf, AgentError> {
    let mut sizes = [
        ("FLOWS", options.flow_rows),
        ("PENDING", options.pending_cells.next_power_of_two()),
        ("EVENTS", options.ring_bytes.next_power_of_two()),
    ];
    for (name, size) in &mut sizes {
        if let Some(found) = pinned_size(&instance.maps().join(*name))
            && found != *size
        {
            notes.push(format!(
                "map {name} keeps its {found} entries from before instead of {size}: run `weir detach` first to resize it"
            ));
            *size = found;
        }
    }
    let load_settings = LoadSettings {
        hash_keys: HashKeys(hash_keys),
        pending_mask: sizes[1].1 - 1,
        jiffy_ns: jiffies.ns,
        jiffies_offset_ns: jiffies.offset_ns,
        window_shift: WINDOW_SHIFT,
        netns_cookie: kernel::netns_cookie(),
        loopback_ifindex: crate::interface::list()
            .ok()
            .and_then(|all| all.iter().find(|one| one.is_loopback()).map(|one| one.index))
            .unwrap_or(0),
    };
    let pins: Vec<_> = PINNED_MAPS
        .iter()
        .map(|name| (*name, instance.maps().join(name)))
        .collect();
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::STATS);
    for (name, size) in &sizes {
        loader.map_max_entries(name, *size);
    }
    for (name, path) in &pins {
        loader.map_pin_path(name, path);
    }
    loader.override_global("LOAD_SETTINGS", load_settings.as_bytes(), true);
    loader.override_global("TRACEPOINT_FIELDS", fields.as_bytes(), true);
    loader
        .load(object::WEIR)
        .map_err(|error| AgentError::Load(Box::new(error)))
}

/// Hash keys of the programs that an earlier run left. New ones would not find the handshakes that
/// are under way; and while one direction's program is replaced, the other's is still the old one.
fn kept_hash_keys(instance: &Instance) -> Option<[u32; 14]> {
    let map = sys::open_pinned(&instance.maps().join("SETTINGS")).ok()?;
    let settings: Settings = sys::lookup(map.as_fd(), &0u32).ok()??;
    (settings.hash_keys != [0; 14]).then_some(settings.hash_keys)
}

/// Loads what will be attached to interfaces. The verifier takes its time: all of it before the
/// first attachment, so that both directions of a flow are seen from the same moment on.
fn load_packet_programs(ebpf: &mut Ebpf, options: &LoadOptions) -> Result<(), AgentError> {
    for interface in &options.interfaces {
        if let Ok((ingress, egress)) = packet_programs(interface) {
            program_fd(ebpf, ingress)?;
            program_fd(ebpf, egress)?;
        }
    }
    Ok(())
}

fn pinned_size(path: &Path) -> Option<u32> {
    let map = sys::open_pinned(path).ok()?;
    Some(sys::map_info(map.as_fd()).ok()?.max_entries)
}

fn per_window(budgets: &Budgets, jiffy_ns: u32) -> [u32; budget::COUNT] {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let window_ns = u64::from(jiffy_ns) << WINDOW_SHIFT;
    let share = |per_s: u32| (u64::from(per_s) * window_ns / 1_000_000_000 / cpus).max(1) as u32;
    let mut shares = [0; budget::COUNT];
    shares[budget::ATTEMPT] = share(budgets.attempts_per_s);
    shares[budget::HANDSHAKE] = share(budgets.handshakes_per_s);
    shares[budget::FIRST_PACKET] = share(budgets.first_packets_per_s);
    shares[budget::SAMPLE] = share(budgets.samples_per_s);
    shares[budget::AGGREGATE] = share(budgets.aggregates_per_s);
    shares
}

/// Makes links, or takes over those an earlier run pinned.
struct LinkKeeper<'a> {
    instance: &'a Instance,
    notes: &'a mut Vec<String>,
}

impl LinkKeeper<'_> {
    /// Puts `program` where a pinned link is, or makes that link.
    fn keep(&mut self, name: &str, program: BorrowedFd<'_>, target: u32, kind: u32) -> std::io::Result<()> {
        let path = self.instance.links().join(name);
        if let Ok(link) = sys::open_pinned(&path) {
            if sys::link_update(link.as_fd(), program).is_ok() {
                return Ok(());
            }
            // Its interface is gone: the link holds nothing any more.
            std::fs::remove_file(&path)?;
        }
        let link = create(program, target, kind)?;
        sys::pin(link.as_fd(), &path)
    }

    /// Drops the pin of a hook that is not used any more.
    fn forget(&mut self, name: &str) {
        let path = self.instance.links().join(name);
        if let Ok(link) = sys::open_pinned(&path) {
            let _ = sys::link_detach(link.as_fd());
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Weir observes first at both TCX hooks: a program before it that ends the chain would hide
/// packets from it.
fn create(program: BorrowedFd<'_>, target: u32, kind: u32) -> std::io::Result<OwnedFd> {
    const TCX_BEFORE_ALL: u32 = 1 << 3;
    const XDP_NATIVE: u32 = 1 << 2;
    let flags = match kind {
        attach_type::TCX_INGRESS | attach_type::TCX_EGRESS => TCX_BEFORE_ALL,
        attach_type::XDP => XDP_NATIVE,
        _ => 0,
    };
    sys::link_create(program, target, kind, flags)
}

fn program_fd<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<BorrowedFd<'a>, AgentError> {
    let fail = |error: ProgramError| AgentError::Load(Box::new(error));
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| AgentError::Load(format!("no program {name}").into()))?;
    if program.fd().is_err() {
        match program {
            Program::Xdp(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            Program::SockOps(program) => program.load(),
            Program::CgroupSock(program) => program.load(),
            Program::TracePoint(program) => program.load(),
            _ => return Err(AgentError::Load(format!("{name} is of no known kind").into())),
        }
        .map_err(fail)?;
    }
    program.fd().map(AsFd::as_fd).map_err(fail)
}

/// Names of the packet programs for a link layer: ingress, egress.
fn packet_programs(interface: &Interface) -> Result<(&'static str, &'static str), String> {
    match interface.link {
        Some(Link::Ethernet) => Ok(("weir_ingress", "weir_egress")),
        Some(_) => Ok(("weir_ingress_l3", "weir_egress_l3")),
        None => Err(format!(
            "{} has hardware type {}, whose frames Weir cannot read: it is not observed",
            interface.name, interface.hardware
        )),
    }
}

fn attach_interface(
    ebpf: &mut Ebpf,
    interface: &Interface,
    xdp: bool,
    links: &mut LinkKeeper<'_>,
    tc_filters: &mut Vec<(String, &'static str, TcAttachType)>,
) -> Result<Attached, AgentError> {
    let mut attached = Attached {
        name: interface.name.clone(),
        ifindex: interface.index,
        ingress: Hook::None,
        egress: Hook::None,
        notes: Vec::new(),
    };
    let (ingress, egress) = match packet_programs(interface) {
        Ok(programs) => programs,
        Err(note) => {
            attached.notes.push(note);
            return Ok(attached);
        }
    };
    let pin = |direction: &str| format!("{}-{direction}", interface.index);
    if xdp {
        match attach_xdp(ebpf, interface, links, &pin("xdp")) {
            Ok(()) => {
                attached.ingress = Hook::Xdp;
                links.forget(&pin("ingress"));
            }
            Err(note) => attached.notes.push(note),
        }
    } else {
        links.forget(&pin("xdp"));
    }
    if attached.ingress == Hook::None {
        let program = program_fd(ebpf, ingress)?;
        let made = links.keep(
            &pin("ingress"),
            program,
            interface.index,
            attach_type::TCX_INGRESS,
        );
        attached.ingress = match made {
            Ok(()) => Hook::Tcx,
            Err(error) => fall_to_tc(
                ebpf,
                &mut attached,
                ingress,
                TcAttachType::Ingress,
                &error,
                tc_filters,
            ),
        };
    }
    let program = program_fd(ebpf, egress)?;
    let made = links.keep(&pin("egress"), program, interface.index, attach_type::TCX_EGRESS);
    attached.egress = match made {
        Ok(()) => Hook::Tcx,
        Err(error) => fall_to_tc(
            ebpf,
            &mut attached,
            egress,
            TcAttachType::Egress,
            &error,
            tc_filters,
        ),
    };
    links.notes.extend(attached.notes.iter().cloned());
    Ok(attached)
}

/// Native XDP or a sentence why not.
fn attach_xdp(
    ebpf: &mut Ebpf,
    interface: &Interface,
    links: &mut LinkKeeper<'_>,
    pin: &str,
) -> Result<(), String> {
    let name = &interface.name;
    if interface.is_loopback() {
        return Err(format!("{name} has no native XDP: its ingress is counted at TCX"));
    }
    if interface.link != Some(Link::Ethernet) {
        return Err(format!(
            "{name} has no Ethernet header, so no XDP: its ingress is counted at TCX"
        ));
    }
    let program = program_fd(ebpf, "weir_xdp").map_err(|error| format!("{name}: XDP program: {error}"))?;
    links
        .keep(pin, program, interface.index, attach_type::XDP)
        .map_err(|error| {
            let why = match error.raw_os_error() {
                Some(libc::EBUSY | libc::EEXIST) => {
                    "another XDP program is attached there and keeps its place".into()
                }
                Some(libc::EOPNOTSUPP) => "its driver has no native XDP".into(),
                Some(libc::EINVAL | libc::ERANGE) => {
                    "its driver refuses (MTU, LRO or queue settings may be the reason)".into()
                }
                _ => error.to_string(),
            };
            format!("{name}: no XDP, {why}: its ingress is counted at TCX")
        })
}

fn fall_to_tc(
    ebpf: &mut Ebpf,
    attached: &mut Attached,
    program: &'static str,
    direction: TcAttachType,
    why: &std::io::Error,
    tc_filters: &mut Vec<(String, &'static str, TcAttachType)>,
) -> Hook {
    let interface = attached.name.clone();
    let words = if direction == TcAttachType::Ingress {
        "ingress"
    } else {
        "egress"
    };
    let done = attach_tc(ebpf, &interface, program, direction);
    match done {
        Ok(()) => {
            attached.notes.push(format!(
                "{interface} {words}: no TCX ({why}), a tc filter is used"
            ));
            tc_filters.push((interface, program, direction));
            Hook::Tc
        }
        Err(error) => {
            attached.notes.push(format!(
                "{interface} {words} is not observed: neither TCX ({why}) nor tc ({error}) took the program"
            ));
            Hook::None
        }
    }
}

fn attach_tc(
    ebpf: &mut Ebpf,
    interface: &str,
    program: &str,
    direction: TcAttachType,
) -> Result<(), ProgramError> {
    // An earlier run that was killed may have left its own.
    let _ = qdisc_detach_program(interface, direction, program);
    let _ = qdisc_add_clsact(interface);
    let program: &mut SchedClassifier = ebpf
        .program_mut(program)
        .ok_or(ProgramError::NotLoaded)?
        .try_into()?;
    let options = TcAttachOptions::Netlink(NlOptions::default());
    program
        .attach_with_options(interface, direction, options)
        .map(drop)
}

fn attach_cgroup(ebpf: &mut Ebpf, links: &mut LinkKeeper<'_>) {
    let Some(root) = kernel::cgroup2_root() else {
        links.notes.push(
            "cgroup v2 is not mounted, so processes and the kernel's own round trips are missing".to_owned(),
        );
        return;
    };
    let folder = match std::fs::File::open(&root) {
        Ok(folder) => folder,
        Err(error) => {
            links
                .notes
                .push(format!("cannot open {}: {error}", root.display()));
            return;
        }
    };
    let hooks = [
        (
            "weir_sock_create",
            attach_type::CGROUP_INET_SOCK_CREATE,
            "owners of new sockets",
        ),
        (
            "weir_post_bind4",
            attach_type::CGROUP_INET4_POST_BIND,
            "owners of bound IPv4 sockets",
        ),
        (
            "weir_post_bind6",
            attach_type::CGROUP_INET6_POST_BIND,
            "owners of bound IPv6 sockets",
        ),
        (
            "weir_sockops",
            attach_type::CGROUP_SOCK_OPS,
            "the kernel's own round trips",
        ),
    ];
    for (name, kind, what) in hooks {
        let done = program_fd(ebpf, name)
            .map_err(|error| crate::error::chain(&error))
            .and_then(|program| {
                links
                    .keep(name, program, folder.as_raw_fd() as u32, kind)
                    .map_err(|error| error.to_string())
            });
        if let Err(error) = done {
            links.notes.push(format!("{what} are missing: {error}"));
        }
    }
}

fn attach_tracepoints(ebpf: &mut Ebpf, fields: &TracepointFields, links: &mut LinkKeeper<'_>) {
    use wire::rows::FIELD_MISSING;
    let points = [
        (
            "weir_kfree_skb",
            "skb",
            "kfree_skb",
            fields.kfree_skb_reason,
            "drop reasons",
        ),
        (
            "weir_set_state",
            "sock",
            "inet_sock_set_state",
            fields.set_state_new,
            "TCP state totals",
        ),
        (
            "weir_retransmit",
            "tcp",
            "tcp_retransmit_skb",
            fields.retransmit_state,
            "retransmit totals",
        ),
    ];
    for (name, category, event, field, what) in points {
        if field == FIELD_MISSING {
            links.notes.push(format!(
                "{what} are missing: this kernel's {category}:{event} has no such field"
            ));
            continue;
        }
        let path = links.instance.links().join(name);
        // A perf event cannot be given another program: the old one goes, this one comes.
        links.forget(name);
        if let Err(error) = attach_tracepoint(ebpf, name, category, event, &path) {
            links.notes.push(format!("{what} are missing: {error}"));
        }
    }
}

fn attach_tracepoint(
    ebpf: &mut Ebpf,
    name: &str,
    category: &str,
    event: &str,
    pin: &Path,
) -> Result<(), String> {
    use aya::programs::links::FdLink;
    let text = |error: &dyn std::error::Error| crate::error::chain(error);
    program_fd(ebpf, name).map_err(|error| text(&error))?;
    let program: &mut TracePoint = ebpf
        .program_mut(name)
        .ok_or("not in the object")?
        .try_into()
        .map_err(|error: ProgramError| text(&error))?;
    let id = program.attach(category, event).map_err(|error| text(&error))?;
    let link = program.take_link(id).map_err(|error| text(&error))?;
    let link: FdLink = link
        .try_into()
        .map_err(|error: aya::programs::links::LinkError| text(&error))?;
    link.pin(pin).map(drop).map_err(|error| text(&error))
}
