//! What programs cost while they are looked at.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use serde::Serialize;

use super::btf::BtfNames;
use super::sys::{self, Object};
use super::{Error, cannot, full_name, names, slots};

/// Holds the kernel's run statistics on (`BPF_ENABLE_STATS`) and takes differences.
///
/// The kernel measures only while somebody wants it to, since two clock readings cost each run some
/// tens of nanoseconds; dropping the sampler turns it off again, unless sysctl `kernel.bpf_stats_enabled` or
/// another process keeps it on.
#[derive(Debug)]
pub struct Sampler {
    previous: HashMap<u32, Reading>,
    labels: HashMap<u32, Label>,
    tail_called: HashSet<u32>,
    started_at: Instant,
    _stats: OwnedFd,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    run_time_ns: u64,
    run_count: u64,
    recursion_misses: u64,
}

#[derive(Clone, Debug)]
struct Label {
    name: String,
    kind: String,
}

/// What ran in one interval.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// From the sample before, or the start, to this one.
    pub interval_ns: u64,
    /// Every loaded program, dearest first.
    pub programs: Vec<Cost>,
}

/// What one program cost in an interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// The kernel's id.
    pub id: u32,
    /// As in `Program`.
    pub name: String,
    /// As in `Program`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Time between this program's two readings, of which the rates below are.
    pub interval_ns: u64,
    /// Runs in the interval.
    pub run_count: u64,
    /// Time spent in them.
    pub run_time_ns: u64,
    /// Runs that were refused because it was running already on that CPU.
    pub recursion_misses: u64,
    /// Runs a second.
    pub runs_per_second: f64,
    /// Mean of one run; `None` if there was none.
    pub ns_per_run: Option<f64>,
    /// Share of one CPU, percent; above 100 when several are busy with it.
    pub cpu_percent: f64,
    /// A program array holds it: runs by tail call are not in these numbers, but in those of the
    /// program that was entered first.
    pub is_tail_called: bool,
}

impl Sampler {
    /// Turns run statistics on and takes the first readings.
    ///
    /// # Errors
    ///
    /// [`Error::Privilege`] without CAP_SYS_ADMIN; [`Error::Kernel`] before kernel 5.8.
    pub fn start() -> Result<Self, Error> {
        let stats = aya::sys::enable_stats(aya::sys::Stats::RunTime).map_err(|error| {
            cannot("turn on run statistics (kernel 5.8 or later is needed)")(error.io_error)
        })?;
        let mut sampler = Self {
            previous: HashMap::new(),
            labels: HashMap::new(),
            tail_called: HashSet::new(),
            started_at: Instant::now(),
            _stats: stats,
        };
        sampler.sample()?;
        Ok(sampler)
    }

    /// What ran since the last call, or since the start. The caller waits in between.
    ///
    /// Programs loaded meanwhile count from their loading; those unloaded meanwhile are left out.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn sample(&mut self) -> Result<Sample, Error> {
        let begin = self.started_at;
        let now = Instant::now();
        let readings = self.read()?;
        let mut programs: Vec<_> = readings
            .iter()
            .map(|(&id, reading)| self.cost(id, reading, begin))
            .collect();
        programs.sort_by_key(|cost| (Reverse(cost.run_time_ns), Reverse(cost.run_count), cost.id));
        self.previous = readings;
        self.started_at = now;
        Ok(Sample {
            interval_ns: now.duration_since(begin).as_nanos() as u64,
            programs,
        })
    }

    fn cost(&self, id: u32, reading: &Reading, begin: Instant) -> Cost {
        let since = self.previous.get(&id).copied().unwrap_or(Reading {
            at: begin,
            run_time_ns: 0,
            run_count: 0,
            recursion_misses: 0,
        });
        let label = self.labels.get(&id);
        let interval_ns = reading.at.saturating_duration_since(since.at).as_nanos() as u64;
        let run_count = reading.run_count.saturating_sub(since.run_count);
        let run_time_ns = reading.run_time_ns.saturating_sub(since.run_time_ns);
        let of_interval = |amount: u64| amount as f64 / interval_ns.max(1) as f64;
        Cost {
            id,
            name: label.map(|label| label.name.clone()).unwrap_or_default(),
            kind: label.map(|label| label.kind.clone()).unwrap_or_default(),
            interval_ns,
            run_count,
            run_time_ns,
            recursion_misses: reading.recursion_misses.saturating_sub(since.recursion_misses),
            runs_per_second: of_interval(run_count) * 1e9,
            ns_per_run: (run_count > 0).then(|| run_time_ns as f64 / run_count as f64),
            cpu_percent: of_interval(run_time_ns) * 100.0,
            is_tail_called: self.tail_called.contains(&id),
        }
    }

    fn read(&mut self) -> Result<HashMap<u32, Reading>, Error> {
        let (ids, _) = sys::ids(Object::Program).map_err(cannot("list BPF programs"))?;
        let mut btf = BtfNames::default();
        let mut readings = HashMap::with_capacity(ids.len());
        for id in ids {
            let Some(fd) = sys::open(Object::Program, id).map_err(cannot("open a BPF program"))? else {
                continue;
            };
            let info =
                sys::program_info(fd.as_fd()).map_err(cannot("read the information of a BPF program"))?;
            let reading = Reading {
                at: Instant::now(),
                run_time_ns: info.run_time_ns,
                run_count: info.run_count,
                recursion_misses: info.recursion_misses,
            };
            readings.insert(id, reading);
            self.labels.entry(id).or_insert_with(|| Label {
                name: full_name(fd.as_fd(), &info, &mut btf),
                kind: names::program_kind(info.kind),
            });
        }
        self.labels.retain(|id, _| readings.contains_key(id));
        let arrays = slots::program_arrays(&mut Vec::new())?;
        self.tail_called = arrays.into_values().flat_map(BTreeMap::into_keys).collect();
        Ok(readings)
    }
}
