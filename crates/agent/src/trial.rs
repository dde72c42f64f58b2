//! Programs loaded only to be run on given packets: attached nowhere, maps of their own, all gone
//! when dropped. For benchmarks and tests.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use aya::maps::{Map, PerCpuHashMap, PerCpuValues, RingBuf};
use aya::programs::Program;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use wire::flow::HashKeys;
use wire::rows::{LoadSettings, Settings, budget};

use crate::sys::{self, Plain};

/// Why programs could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error("cannot read the object or make its maps")]
    Object(#[source] Box<aya::EbpfError>),
    #[error("the kernel does not take program `{name}`")]
    Program {
        name: String,
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    #[error("the object has no packet program `{0}`")]
    NoProgram(String),
    #[error("the object has no map `{0}`, or not of the kind expected")]
    NoMap(String),
    #[error("cannot set map `{name}`")]
    Map {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot make the directory {path} for pins, expected a bpf file system there")]
    Pins {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Handshakes kept aside by [`Trial::load_weir`].
const PENDING_CELLS: u32 = 16_384;

/// Admissions without end, nothing sampled.
pub const UNLIMITED: Settings = Settings {
    per_window: [u32::MAX; budget::COUNT],
    samples_per_direction: 0,
    hash_keys: [0; 14],
};

/// A loaded object.
#[derive(Debug)]
pub struct Trial {
    ebpf: Ebpf,
}

impl Trial {
    /// Weir's own programs, with `flow_rows` rows in the flow table and a fixed hash.
    pub fn load_weir(programs: &[&str], flow_rows: u32, settings: &Settings) -> Result<Self, TrialError> {
        let load_settings = LoadSettings {
            hash_keys: HashKeys([0x9e37_79b9; 14]),
            pending_mask: PENDING_CELLS - 1,
            jiffy_ns: 4_000_000,
            jiffies_offset_ns: 0,
            window_shift: 5,
            // Test runs take place on the loopback device, whose egress would be left out.
            loopback_ifindex: 0,
            netns_cookie: 0,
        };
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries("FLOWS", flow_rows)
            .map_max_entries("PENDING", PENDING_CELLS)
            .override_global("LOAD_SETTINGS", load_settings.as_bytes(), true);
        let trial = Self::load(&mut loader, crate::object::WEIR, programs)?;
        trial.set("SETTINGS", &0u32, settings)?;
        Ok(trial)
    }

    /// The programs of [`crate::object::BENCH`].
    pub fn load_bench(programs: &[&str]) -> Result<Self, TrialError> {
        let mut loader = EbpfLoader::new();
        Self::load(&mut loader, crate::object::BENCH, programs)
    }

    /// Programs of somebody else's object. Maps that it wants shared by name are pinned in a
    /// directory made for that, which is removed again; the maps go on without it.
    pub fn load_foreign(object: &[u8], programs: &[&str]) -> Result<Self, TrialError> {
        let pins = PathBuf::from(format!("/sys/fs/bpf/weir-trial-{}", std::process::id()));
        std::fs::create_dir_all(&pins).map_err(|source| TrialError::Pins {
            path: pins.clone(),
            source,
        })?;
        let mut loader = EbpfLoader::new();
        loader.default_map_pin_directory(&pins);
        let trial = Self::load(&mut loader, object, programs);
        // Nobody else knows this directory; what cannot be removed is only a name.
        let _ = std::fs::remove_dir_all(&pins);
        trial
    }

    fn load(loader: &mut EbpfLoader<'_>, object: &[u8], programs: &[&str]) -> Result<Self, TrialError> {
        // The log makes verification slower and only says more if it fails.
        loader.verifier_log_level(VerifierLogLevel::STATS);
        let mut ebpf = loader
            .load(object)
            .map_err(|error| TrialError::Object(Box::new(error)))?;
        for &name in programs {
            let loaded = match ebpf.program_mut(name) {
                Some(Program::Xdp(program)) => program.load(),
                Some(Program::SchedClassifier(program)) => program.load(),
                Some(Program::SockOps(program)) => program.load(),
                Some(Program::CgroupSock(program)) => program.load(),
                Some(Program::TracePoint(program)) => program.load(),
                _ => return Err(TrialError::NoProgram(name.to_owned())),
            };
            loaded.map_err(|source| TrialError::Program {
                name: name.to_owned(),
                source: Box::new(source),
            })?;
        }
        Ok(Self { ebpf })
    }

    /// A loaded program.
    pub fn program(&self, name: &str) -> Result<BorrowedFd<'_>, TrialError> {
        let program = self
            .ebpf
            .program(name)
            .ok_or_else(|| TrialError::NoProgram(name.to_owned()))?;
        let fd = program.fd().map_err(|source| TrialError::Program {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        Ok(fd.as_fd())
    }

    /// A map of the object.
    pub fn map(&self, name: &str) -> Result<BorrowedFd<'_>, TrialError> {
        match self.ebpf.map(name) {
            Some(
                Map::Array(data)
                | Map::HashMap(data)
                | Map::PerCpuArray(data)
                | Map::PerCpuHashMap(data)
                | Map::ProgramArray(data)
                | Map::RingBuf(data),
            ) => Ok(data.fd().as_fd()),
            _ => Err(TrialError::NoMap(name.to_owned())),
        }
    }

    /// Sets a row of a map.
    pub fn set<K: Plain, V: Plain>(&self, map: &str, key: &K, value: &V) -> Result<(), TrialError> {
        sys::update(self.map(map)?, key, value).map_err(|source| TrialError::Map {
            name: map.to_owned(),
            source,
        })
    }

    /// Sets a number on every CPU.
    pub fn set_per_cpu(&mut self, name: &str, key: u32, value: u64) -> Result<(), TrialError> {
        let map = self
            .ebpf
            .map_mut(name)
            .ok_or_else(|| TrialError::NoMap(name.to_owned()))?;
        let fail = |source: std::io::Error| TrialError::Map {
            name: name.to_owned(),
            source,
        };
        let mut map =
            PerCpuHashMap::<_, u32, u64>::try_from(map).map_err(|_| TrialError::NoMap(name.to_owned()))?;
        let values = vec![value; sys::possible_cpus().map_err(fail)?];
        let values = PerCpuValues::try_from(values).map_err(fail)?;
        map.insert(key, values, 0)
            .map_err(|error| fail(std::io::Error::other(error)))
    }

    /// The reading end of a ring. Only once for each ring.
    pub fn take_ring(&mut self, name: &str) -> Result<RingBuf<aya::maps::MapData>, TrialError> {
        self.ebpf
            .take_map(name)
            .and_then(|map| RingBuf::try_from(map).ok())
            .ok_or_else(|| TrialError::NoMap(name.to_owned()))
    }

    /// Instructions that the verifier followed to accept a program.
    pub fn verified_instructions(&self, name: &str) -> Option<u32> {
        self.ebpf.program(name)?.info().ok()?.verified_instruction_count()
    }
}
