//! Weir's maps made and its programs loaded, attached to nothing of the host's.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use aya::maps::{Map, MapData};
use aya::programs::Program;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use serde::Serialize;
use wire::flow::HashKeys;
use wire::rows::{FIELD_MISSING, LoadSettings};
use wire::{FlowKey, FlowRow};

use super::host::Capabilities;
use super::sandbox::{self, Hooks};
use super::{Check, Verdict, size_words};
use crate::error::chain;
use crate::kernel::{self, Jiffies};
use crate::load::no_fields;
use crate::sys::{self, Plain};
use crate::{instance, object};

const KERNEL: &str = "kernel";
const PROGRAMS: &str = "programs";
const MEMORY: &str = "memory";

/// One of Weir's programs, loaded for a try.
#[derive(Clone, Debug, Serialize)]
pub struct ProgramLoad {
    pub name: String,
    /// Instructions that the verifier followed; `None` if it was not accepted, or before kernel 5.16.
    pub verified_instructions: Option<u32>,
    /// Time that loading took, most of it in the verifier.
    pub load_us: u64,
    /// Why it was not accepted.
    pub error: Option<String>,
}

/// Kernel memory of one map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapSize {
    pub name: String,
    pub bytes: u64,
    /// Rows; bytes for a ring.
    pub max_entries: u32,
}

/// Tries everything that needs privileges.
pub(super) fn examine(
    capabilities: Capabilities,
    checks: &mut Vec<Check>,
) -> (Vec<ProgramLoad>, Vec<MapSize>, Hooks) {
    if !capabilities.lacking().is_empty() {
        let words = "not tried: loading programs and making maps needs root";
        for (group, name) in [
            (KERNEL, "maps and hooks"),
            (PROGRAMS, "Weir's programs"),
            (MEMORY, "maps at default sizes"),
        ] {
            checks.push(Check::new(group, name, Verdict::Unknown, words));
        }
        return (Vec::new(), Vec::new(), Hooks::default());
    }
    let mut ebpf = match make_maps() {
        Ok(ebpf) => ebpf,
        Err(reason) => {
            let words = format!("the kernel refuses a map that Weir needs: {reason}");
            checks.push(Check::new(KERNEL, "maps", Verdict::Missing, words).needed());
            return (Vec::new(), Vec::new(), Hooks::default());
        }
    };
    let sizes = map_sizes(&ebpf);
    examine_maps(&ebpf, checks);
    let programs = load_programs(&mut ebpf);
    let hooks = sandbox::examine(&mut ebpf, checks);
    describe_programs(&programs, checks);
    (programs, sizes, hooks)
}

/// Reads the object and makes its maps as `weir run` does by default, but pins nothing.
fn make_maps() -> Result<Ebpf, String> {
    let jiffies = Jiffies::calibrate().map_err(|error| format!("the jiffies cannot be read: {error}"))?;
    let settings = LoadSettings {
        hash_keys: HashKeys([0x9e37_79b9; 14]),
        pending_mask: 0,
        jiffy_ns: jiffies.ns,
        jiffies_offset_ns: jiffies.offset_ns,
        window_shift: 5,
        loopback_ifindex: 0,
        netns_cookie: 0,
    };
    let fields = kernel::tracefs().map_or_else(no_fields, |path| kernel::tracepoint_fields(&path));
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::STATS);
    loader.override_global("LOAD_SETTINGS", settings.as_bytes(), true);
    loader.override_global("TRACEPOINT_FIELDS", fields.as_bytes(), true);
    loader.load(object::WEIR).map_err(|error| chain(&error))
}

fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::RingBuf(data)
        | Map::SkStorage(data)
        | Map::Unsupported(data) => Some(data),
        _ => None,
    }
}

fn find<'a>(ebpf: &'a Ebpf, name: &str) -> Option<BorrowedFd<'a>> {
    ebpf.map(name).and_then(data).map(|data| data.fd().as_fd())
}

fn map_sizes(ebpf: &Ebpf) -> Vec<MapSize> {
    let mut sizes: Vec<_> = ebpf
        .maps()
        // Sections of constants are maps, too; nobody sizes them.
        .filter(|(name, _)| !name.starts_with('.'))
        .filter_map(|(name, map)| size_of_map(name, data(map)?.fd().as_fd()))
        .collect();
    sizes.sort_by_key(|map| std::cmp::Reverse(map.bytes));
    sizes
}

/// Name, memory and capacity of an open map.
pub(super) fn size_of_map(name: &str, map: BorrowedFd<'_>) -> Option<MapSize> {
    Some(MapSize {
        name: name.to_owned(),
        bytes: sys::map_memory_bytes(map).ok()?,
        max_entries: sys::map_info(map).ok()?.max_entries,
    })
}

fn examine_maps(ebpf: &Ebpf, checks: &mut Vec<Check>) {
    let ring = find(ebpf, "EVENTS").map(drop).ok_or("the map was not made");
    checks.push(
        Check::of(
            KERNEL,
            "ring buffer",
            &ring,
            "made; attempts and first payloads come through it",
            (Verdict::Missing, "cannot be made"),
        )
        .needed(),
    );
    let batch = find(ebpf, "FLOWS")
        .ok_or_else(|| "the map was not made".to_owned())
        .and_then(|map| sys::for_each::<FlowKey, FlowRow>(map, |_, _| {}).map_err(|error| error.to_string()));
    checks.push(
        Check::of(
            KERNEL,
            "batch reading of maps",
            &batch,
            "works; the flow table is read thousands of rows a call",
            (Verdict::Missing, "does not work, so flow rows cannot be read"),
        )
        .needed(),
    );
    let storage = find(ebpf, "OWNERS").map(drop).ok_or("the map was not made");
    checks.push(Check::of(
        KERNEL,
        "socket storage",
        &storage,
        "made; keeps the owning process of each socket",
        (Verdict::Limited, "cannot be made, so owners come from /proc only"),
    ));
}

/// Loads every program that this host could use, as many at a time as there are CPUs: the verifier
/// takes its time. Those for frames without a link header need an interface that has such.
fn load_programs(ebpf: &mut Ebpf) -> Vec<ProgramLoad> {
    let has_raw = crate::interface::list().is_ok_and(|all| {
        all.iter()
            .any(|one| one.link.is_some_and(|link| link != wire::Link::Ethernet))
    });
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let waiting = Mutex::new(
        ebpf.programs_mut()
            .filter(|(name, _)| has_raw || !name.ends_with("_l3")),
    );
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                while let Some((name, program)) = next() {
                    let load = load_program(name, program);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(load);
                }
            });
        }
    });
    let mut loads = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    loads.sort_by(|a, b| a.name.cmp(&b.name));
    loads
}

fn load_program(name: &str, program: &mut Program) -> ProgramLoad {
    let begin = Instant::now();
    let loaded = match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::TracePoint(program) => program.load(),
        _ => Err(aya::programs::ProgramError::UnexpectedProgramType),
    };
    ProgramLoad {
        name: name.to_owned(),
        load_us: begin.elapsed().as_micros() as u64,
        verified_instructions: program
            .info()
            .ok()
            .and_then(|info| info.verified_instruction_count()),
        error: loaded.err().map(|error| chain(&error)),
    }
}

fn describe_programs(programs: &[ProgramLoad], checks: &mut Vec<Check>) {
    for program in programs {
        let load_ms = program.load_us as f64 / 1000.0;
        // Verifier logs have many lines; the first says what is wrong.
        let error = program.error.as_deref().and_then(|text| text.lines().next());
        let is_needed = matches!(program.name.as_str(), "weir_ingress" | "weir_egress");
        let mut check = match (error, program.verified_instructions) {
            (Some(error), _) => {
                let verdict = if is_needed {
                    Verdict::Missing
                } else {
                    Verdict::Limited
                };
                Check::new(PROGRAMS, &program.name, verdict, format!("not accepted: {error}"))
            }
            (None, Some(count)) => {
                let words = format!("accepted after {count} instructions in {load_ms:.1} ms");
                Check::new(PROGRAMS, &program.name, Verdict::Ok, words)
            }
            (None, None) => {
                let words = format!("accepted in {load_ms:.1} ms");
                Check::new(PROGRAMS, &program.name, Verdict::Ok, words)
            }
        };
        check.needed = is_needed;
        checks.push(check);
    }
}

/// One line on the maps of a Weir that is not configured otherwise.
pub(super) fn examine_memory(maps: &[MapSize], checks: &mut Vec<Check>) {
    if !maps.is_empty() {
        let words = format!("{} in the kernel: {}", total_words(maps), largest_words(maps));
        checks.push(Check::new(MEMORY, "maps at default sizes", Verdict::Ok, words));
    }
}

pub(super) fn total_words(maps: &[MapSize]) -> String {
    size_words(maps.iter().map(|map| map.bytes).sum())
}

/// `FLOWS 55.6 MB, SOCKETS 10.1 MB, …, others 1.2 MB`.
pub(super) fn largest_words(maps: &[MapSize]) -> String {
    const NAMED: usize = 4;
    let (named, others) = maps.split_at(maps.len().min(NAMED));
    let mut words: Vec<_> = named
        .iter()
        .map(|map| format!("{} {}", map.name, size_words(map.bytes)))
        .collect();
    if !others.is_empty() {
        words.push(format!("{} others {}", others.len(), total_words(others)));
    }
    words.join(", ")
}

/// Tracepoints that Weir reads, the program for each, and whether this kernel's has the field.
pub(super) fn tracepoints() -> [(&'static str, &'static str, &'static str, &'static str, bool); 3] {
    let fields = kernel::tracefs().map_or_else(no_fields, |path| kernel::tracepoint_fields(&path));
    let has = |offset: u32| offset != FIELD_MISSING;
    [
        (
            "weir_kfree_skb",
            "skb",
            "kfree_skb",
            "drop reasons",
            has(fields.kfree_skb_reason),
        ),
        (
            "weir_set_state",
            "sock",
            "inet_sock_set_state",
            "TCP state totals",
            has(fields.set_state_new) && has(fields.set_state_protocol),
        ),
        (
            "weir_retransmit",
            "tcp",
            "tcp_retransmit_skb",
            "retransmit totals",
            has(fields.retransmit_state),
        ),
    ]
}

/// Where a probe may pin for a moment.
pub(super) fn probe_pin() -> std::path::PathBuf {
    std::path::Path::new(instance::BPFFS).join(format!("weir-doctor-{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_words() {
        let maps = |sizes: &[u64]| -> Vec<MapSize> {
            let one = |(at, bytes): (usize, &u64)| MapSize {
                name: format!("M{at}"),
                bytes: *bytes,
                max_entries: 1,
            };
            sizes.iter().enumerate().map(one).collect()
        };
        let check = |sizes: &[u64], total: &str, largest: &str| {
            assert_eq!(total_words(&maps(sizes)), total);
            assert_eq!(largest_words(&maps(sizes)), largest);
        };
        check(&[], "0 B", "");
        check(&[1_500, 20], "1.5 kB", "M0 1.5 kB, M1 20 B");
        check(
            &[55_600_000, 9, 8, 7, 6, 5],
            "55.6 MB",
            "M0 55.6 MB, M1 9 B, M2 8 B, M3 7 B, 2 others 11 B",
        );
    }

    #[test]
    fn a_refused_program_is_one_line() {
        let load = |name: &str, error: Option<&str>| ProgramLoad {
            name: name.to_owned(),
            verified_instructions: error.is_none().then_some(7),
            load_us: 1_250,
            error: error.map(str::to_owned),
        };
        let check = |load: ProgramLoad, verdict: Verdict, words: &str| {
            let mut checks = Vec::new();
            describe_programs(&[load], &mut checks);
            assert_eq!((checks[0].verdict, checks[0].words.as_str()), (verdict, words));
        };
        check(
            load("weir_xdp", None),
            Verdict::Ok,
            "accepted after 7 instructions in 1.2 ms",
        );
        check(
            load("weir_xdp", Some("refused\n0: (b7) r0 = 0")),
            Verdict::Limited,
            "not accepted: refused",
        );
        check(
            load("weir_egress", Some("no")),
            Verdict::Missing,
            "not accepted: no",
        );
    }
}
