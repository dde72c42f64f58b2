//! The unprivileged side: drains the ring, reads the maps through read-only descriptors, keeps
//! [`Live`] up to date.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use inspect::geo::Geo;
use inspect::table::EndReason;
use wire::rows::{
    AggregateKey, AggregateRow, DROP_REASONS, INTERFACE_SLOTS, InterfaceCounters, Losses, SocketKey,
    SocketRow, TcpTotals,
};
use wire::{FlowKey, FlowRow};

use crate::broker::Client;
use crate::kernel;
use crate::live::Live;
use crate::maps::Maps;
use crate::ring::EventRing;
use crate::sys::{self, Plain};

/// Time between looks at the ring: an event waits this long at most.
pub const DRAIN_INTERVAL: Duration = Duration::from_millis(20);

/// Time between snapshots of the maps.
pub const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);

/// Events taken before the state is unlocked for readers.
const DRAIN_BATCH: usize = 2_048;

/// Rows expired in one tick.
const EXPIRE_MAX: usize = 16_384;

/// Time between scans of /proc for owners that the kernel did not name, while some are missing.
const OWNERS_INTERVAL: Duration = Duration::from_secs(10);

/// Time between looks at whether the country databases have changed.
const DATABASES_INTERVAL: Duration = Duration::from_secs(10);

/// Kernel TCP_CLOSE.
const TCP_CLOSE: u32 = 7;

/// Descriptors that the worker is given: all read-only but the ring's.
#[derive(Debug)]
pub struct WorkerMaps {
    flows: OwnedFd,
    aggregates: OwnedFd,
    interfaces: OwnedFd,
    losses: OwnedFd,
    sockets: OwnedFd,
    drops: OwnedFd,
    tcp_totals: OwnedFd,
    events: OwnedFd,
}

impl WorkerMaps {
    /// From the broker's own descriptors.
    pub fn of(maps: &Maps) -> io::Result<Self> {
        Ok(Self {
            flows: sys::read_only(maps.flows.as_fd())?,
            aggregates: sys::read_only(maps.aggregates.as_fd())?,
            interfaces: sys::read_only(maps.interfaces.as_fd())?,
            losses: sys::read_only(maps.losses.as_fd())?,
            sockets: sys::read_only(maps.sockets.as_fd())?,
            drops: sys::read_only(maps.drops.as_fd())?,
            tcp_totals: sys::read_only(maps.tcp_totals.as_fd())?,
            events: maps.events.try_clone()?,
        })
    }

    /// The descriptors, for whoever closes all others.
    pub fn descriptors(&self) -> [std::os::fd::BorrowedFd<'_>; 8] {
        [
            self.flows.as_fd(),
            self.aggregates.as_fd(),
            self.interfaces.as_fd(),
            self.losses.as_fd(),
            self.sockets.as_fd(),
            self.drops.as_fd(),
            self.tcp_totals.as_fd(),
            self.events.as_fd(),
        ]
    }
}

/// Counters of an interface, both directions, with rates.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectionTotals {
    pub counters: Totals,
    pub packets_per_s: f64,
    pub bits_per_s: f64,
}

/// Sums over CPUs of [`InterfaceCounters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub packets: u64,
    pub bytes: u64,
    pub in_rows: u64,
    pub attempts: u64,
    pub aggregated: u64,
    pub rejects: [u64; wire::Reject::COUNT],
    pub l4_faults: u64,
    pub inner_in_rows: u64,
    pub inner_without_row: u64,
}

impl Totals {
    /// Packets that are counted nowhere; 0 unless a program has a fault. A snapshot taken between
    /// the two additions of one packet may show 1 a CPU for a moment.
    #[must_use]
    pub fn unaccounted(&self) -> u64 {
        let placed = self.in_rows + self.attempts + self.aggregated + self.rejects.iter().sum::<u64>();
        self.packets.saturating_sub(placed)
    }
}

/// Everything but flows that a snapshot holds.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// By interface index: what came in, what went out.
    pub interfaces: HashMap<u32, [DirectionTotals; 2]>,
    pub losses: Losses,
    pub tcp: TcpTotals,
    /// Packets the kernel dropped, by reason.
    pub drops: HashMap<u32, u64>,
}

/// State shared between the thread that updates it and those that answer questions.
#[derive(Debug)]
pub struct Shared {
    live: Mutex<Live>,
    counters: Mutex<Counters>,
    pub broker: Client,
    maps: WorkerMaps,
}

impl Shared {
    /// State over these descriptors.
    #[must_use]
    pub fn new(live: Live, broker: Client, maps: WorkerMaps) -> Arc<Self> {
        Arc::new(Self {
            live: Mutex::new(live),
            counters: Mutex::default(),
            broker,
            maps,
        })
    }

    /// Flows, attempts and what ended.
    pub fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Interface counters, losses, drops.
    pub fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Packets without a row, by service, as of now.
    pub fn aggregates(&self) -> io::Result<Vec<(AggregateKey, AggregateRow)>> {
        let mut rows = Vec::new();
        sys::for_each(self.maps.aggregates.as_fd(), |key, row| rows.push((*key, *row)))?;
        Ok(rows)
    }
}

/// The loop that keeps the state up to date.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    ring: EventRing,
    interfaces: Vec<u32>,
    n_cpus: usize,
    flow_capacity: u64,
    last_snapshot: Option<Instant>,
    last_owners: Option<Instant>,
    last_databases: Option<Instant>,
    /// Mark of the country databases that were last looked at.
    databases: u64,
    /// What was last wrong with them, so that it is said once.
    databases_fault: Option<String>,
}

impl Worker {
    /// Over the shared state and the indices of the observed interfaces.
    pub fn new(shared: Arc<Shared>, interfaces: Vec<u32>) -> io::Result<Self> {
        Ok(Self {
            ring: EventRing::open(shared.maps.events.try_clone()?)?,
            n_cpus: sys::possible_cpus()?,
            flow_capacity: sys::map_info(shared.maps.flows.as_fd())?.max_entries.into(),
            interfaces,
            shared,
            last_snapshot: None,
            last_owners: None,
            last_databases: None,
            databases: 0,
            databases_fault: None,
        })
    }

    /// Runs until `stop` says so.
    pub fn run(&mut self, stop: impl Fn() -> bool) -> io::Result<()> {
        self.name_cgroups();
        while !stop() {
            self.drain()?;
            if self
                .last_snapshot
                .is_none_or(|last| last.elapsed() >= SNAPSHOT_INTERVAL)
            {
                self.snapshot()?;
            }
            std::thread::sleep(DRAIN_INTERVAL);
        }
        self.drain()?;
        self.snapshot()
    }

    fn drain(&mut self) -> io::Result<()> {
        loop {
            let mut live = self.shared.live();
            let drained = self
                .ring
                .drain(DRAIN_BATCH, |event, frame| live.event(event, frame));
            let orders = live.layer7.take_orders();
            drop(live);
            if !orders.is_empty() {
                self.shared.broker.set_sampling(&orders)?;
            }
            if drained < DRAIN_BATCH {
                return Ok(());
            }
        }
    }

    /// Reads every map once and expires what is over.
    fn snapshot(&mut self) -> io::Result<()> {
        let elapsed_s = self
            .last_snapshot
            .map_or(0.0, |last| last.elapsed().as_secs_f64());
        self.last_snapshot = Some(Instant::now());
        if self
            .last_databases
            .is_none_or(|last| last.elapsed() >= DATABASES_INTERVAL)
        {
            self.last_databases = Some(Instant::now());
            self.read_databases();
        }
        self.read_counters(elapsed_s)?;
        let closed = self.read_sockets()?;
        let maps = &self.shared.maps;
        let mut live = self.shared.live();
        live.epoch_offset_ns = kernel::epoch_offset_ns()?;
        live.now_ns = Some(kernel::monotonic_ns()?.saturating_add_signed(live.epoch_offset_ns));
        sys::for_each::<FlowKey, FlowRow>(maps.flows.as_fd(), |key, row| live.row(key, row, elapsed_s))?;
        let now_ns = kernel::monotonic_ns()?;
        // A table that fills up keeps what is quiet for less long.
        let is_filling = live.len() as u64 * 4 > self.flow_capacity * 3;
        let idle = live.idle(now_ns, if is_filling { 10 } else { 1 }, EXPIRE_MAX);
        let wants_owners = live.wants_owners();
        live.tell();
        drop(live);
        self.expire(&idle, is_filling, now_ns)?;
        if !closed.is_empty() {
            self.shared.broker.remove_sockets(&closed)?;
        }
        if wants_owners
            && self
                .last_owners
                .is_none_or(|last| last.elapsed() >= OWNERS_INTERVAL)
        {
            self.last_owners = Some(Instant::now());
            let found = self.shared.broker.socket_owners()?;
            self.shared.live().owners.set(found);
            self.name_cgroups();
        }
        Ok(())
    }

    /// Takes country databases over that have changed. What cannot be read leaves those in force that were.
    fn read_databases(&mut self) {
        let fault = match self.shared.broker.databases(self.databases) {
            Ok(None) => return,
            Err(error) => Some(error.to_string()),
            Ok(Some(found)) => {
                self.databases = found.mark;
                let mut geo = Geo::default();
                geo.knows_private = found.are_named;
                let read = found.files.into_iter().try_for_each(|file| geo.add(file));
                if read.is_ok() {
                    self.shared.live().geo = geo;
                }
                read.err()
                    .map(|error| format!("no country database, expected MMDB files: {error}"))
            }
        };
        if fault != self.databases_fault {
            if let Some(fault) = &fault {
                let _ = writeln!(io::stderr(), "weir: countries stay as they were: {fault}");
            }
            self.databases_fault = fault;
        }
    }

    fn expire(&self, idle: &[FlowKey], forced: bool, now_ns: u64) -> io::Result<()> {
        let reason = if forced {
            EndReason::Forced
        } else {
            EndReason::Timeout
        };
        let taken = if idle.is_empty() {
            Vec::new()
        } else {
            self.shared.broker.take_flows(idle)?
        };
        let mut live = self.shared.live();
        for (key, row) in &taken {
            live.end(key, row.as_ref(), reason);
        }
        live.end_attempts(now_ns);
        Ok(())
    }

    fn read_counters(&self, elapsed_s: f64) -> io::Result<()> {
        let maps = &self.shared.maps;
        let mut read = Counters {
            losses: self.sum_losses()?,
            tcp: self.sum_tcp()?,
            ..Counters::default()
        };
        for &ifindex in &self.interfaces {
            let previous = self.shared.counters().interfaces.get(&ifindex).copied();
            let mut both = [DirectionTotals::default(); 2];
            for (direction, totals) in both.iter_mut().enumerate() {
                let row = 2 * (ifindex % INTERFACE_SLOTS) + direction as u32;
                let counters = self.sum_interface(row)?;
                let before = previous.map_or(counters, |both| both[direction].counters);
                if elapsed_s > 0.0 {
                    let grown = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed_s;
                    totals.packets_per_s = grown(counters.packets, before.packets);
                    totals.bits_per_s = grown(counters.bytes, before.bytes) * 8.0;
                }
                totals.counters = counters;
            }
            read.interfaces.insert(ifindex, both);
        }
        for reason in 0..DROP_REASONS {
            let count: u64 = sys::lookup_per_cpu::<u64>(maps.drops.as_fd(), reason, self.n_cpus)?
                .iter()
                .sum();
            if count != 0 {
                read.drops.insert(reason, count);
            }
        }
        *self.shared.counters() = read;
        Ok(())
    }

    fn sum_interface(&self, row: u32) -> io::Result<Totals> {
        let per_cpu: Vec<InterfaceCounters> =
            sys::lookup_per_cpu(self.shared.maps.interfaces.as_fd(), row, self.n_cpus)?;
        let mut sum = Totals::default();
        for cpu in &per_cpu {
            sum.packets += cpu.packets;
            sum.bytes += cpu.bytes;
            sum.in_rows += cpu.in_rows;
            sum.attempts += cpu.attempts;
            sum.aggregated += cpu.aggregated;
            sum.l4_faults += cpu.l4_faults;
            sum.inner_in_rows += cpu.inner_in_rows;
            sum.inner_without_row += cpu.inner_without_row;
            for (to, from) in sum.rejects.iter_mut().zip(&cpu.rejects) {
                *to += from;
            }
        }
        Ok(sum)
    }

    fn sum_losses(&self) -> io::Result<Losses> {
        self.sum_words(&self.shared.maps.losses)
    }

    fn sum_tcp(&self) -> io::Result<TcpTotals> {
        self.sum_words(&self.shared.maps.tcp_totals)
    }

    /// Sums a row that consists of 64-bit counters only.
    fn sum_words<T: Plain>(&self, map: &OwnedFd) -> io::Result<T> {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let mut words = vec![0u64; size_of::<T>() / 8];
        for cpu in sys::lookup_per_cpu::<T>(map.as_fd(), 0, self.n_cpus)? {
            for (sum, word) in words.iter_mut().zip(cpu.as_bytes().chunks_exact(8)) {
                *sum += u64::from_bytes(word).unwrap_or(0);
            }
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        T::from_bytes(&bytes).ok_or_else(|| io::Error::other("a row of another size"))
    }

    /// Takes the socket table over and names the rows of connections that have closed.
    fn read_sockets(&self) -> io::Result<Vec<SocketKey>> {
        /// A closed socket's row is kept this long for its flow's record.
        const KEEP_CLOSED_NS: u64 = 15_000_000_000;
        let now_ns = kernel::monotonic_ns()?;
        let mut sockets = HashMap::new();
        let mut closed = Vec::new();
        sys::for_each::<SocketKey, SocketRow>(self.shared.maps.sockets.as_fd(), |key, row| {
            if row.state == TCP_CLOSE && now_ns.saturating_sub(row.last_ns) > KEEP_CLOSED_NS {
                closed.push(*key);
            }
            sockets.insert(*key, *row);
        })?;
        self.shared.live().set_sockets(sockets);
        Ok(closed)
    }

    /// Control groups by inode, which is their id.
    fn name_cgroups(&self) {
        if let Some(root) = kernel::cgroup2_root() {
            let mut names = HashMap::new();
            collect_cgroups(&root, &root, &mut names);
            self.shared.live().cgroups.set(names);
        }
    }
}

/// Control groups named in one walk.
const CGROUPS_MAX: usize = 65_536;

fn collect_cgroups(root: &Path, folder: &Path, names: &mut HashMap<u64, String>) {
    if names.len() >= CGROUPS_MAX {
        return;
    }
    if let Ok(metadata) = folder.metadata() {
        let below = folder.strip_prefix(root).unwrap_or(folder);
        names.insert(metadata.ino(), format!("/{}", below.display()));
    }
    let folders = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders: Vec<PathBuf> = folders
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    for folder in folders {
        collect_cgroups(root, &folder, names);
    }
}
