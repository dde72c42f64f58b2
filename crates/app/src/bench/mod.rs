//! `weir bench`: how fast the parts are on this machine, in ratios to something known.
//!
//! Machines differ and virtual ones are noisy, so candidates take turns within a run, medians are
//! compared, and every table says where it was made.

mod gateway;
mod kernel;
mod read;
mod statistics;

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum BenchArgs {
    /// Nanoseconds a packet costs in the kernel programs (BPF_PROG_TEST_RUN)
    Kernel(kernel::KernelArgs),
    /// Packets a second that `weir read` takes from a file, beside ndpiReader and tshark
    Read(read::ReadArgs),
    /// Requests a second, delays, processor time and memory of the gateway, beside nginx and other gateways
    Gateway(gateway::GatewayArgs),
    /// The load of `weir bench gateway`
    #[command(hide = true)]
    GatewayLoad(gateway::load::LoadArgs),
}

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    match args {
        BenchArgs::Kernel(args) => kernel::run(args),
        BenchArgs::Read(args) => read::run(args),
        BenchArgs::Gateway(args) => gateway::run(args),
        BenchArgs::GatewayLoad(args) => gateway::load::run(args),
    }
}

/// How figures are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns
    Table,
    /// One object
    Json,
}

/// Processor, kernel and number of CPUs, on one line.
fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let n_cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{}, {n_cpus} CPUs, Linux {}",
        model.as_deref().unwrap_or("unknown processor"),
        kernel.trim()
    )
}
