//! `weir run`: the broker loads and attaches, then forks the worker, which gives up its privileges
//! and reads, counts and answers.
//!
//! The broker outlives the worker: one that dies is started again and finds every row in the
//! kernel. When the broker itself is killed, its worker goes too, the pins stay, programs go on
//! counting, and the next `weir run` takes over.

mod broker;
mod host;
mod report;
mod sockets;
mod tokens;
mod worker;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use agent::instance::{self, Instance};
use agent::interface::{self, Interface};
use agent::load::{Budgets, LoadOptions};
use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::cli::EXIT_USAGE;

/// Observe interfaces and answer questions about them
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Interface to observe; may be given several times [default: that of the default route]
    #[arg(long, short = 'i', value_name = "IF")]
    iface: Vec<String>,
    /// Count what comes in at native XDP instead of TCX
    #[arg(long, value_enum, default_value_t = Switch::Off, value_name = "on|off")]
    xdp: Switch,
    /// Name of this instance, for several on one host
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Where the admin API listens besides its local socket
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9080")]
    listen: SocketAddr,
    /// Path of the local socket [default: /run/weir/weir.sock, or of the instance's name]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Leave programs and rows in the kernel at the end; `weir detach` removes them
    #[arg(long)]
    persist: bool,
    /// Rows of the kernel's flow table
    #[arg(long, value_name = "N", default_value_t = 131_072, value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
    flow_rows: u32,
    /// New flows admitted per second besides completed handshakes
    #[arg(long, value_name = "N", default_value_t = Budgets::default().first_packets_per_s)]
    new_flows_per_s: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// Bytes of the event ring.
const RING_BYTES: u32 = 8 << 20;

/// Handshakes kept aside.
const PENDING_CELLS: u32 = 65_536;

/// Payloads sampled at the start of each direction of a flow.
const SAMPLES_PER_DIRECTION: u8 = 4;

/// Runs until told to stop.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let interfaces = match chosen_interfaces(&args.iface) {
        Ok(interfaces) => interfaces,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "weir: {error}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let name = args.instance.clone().unwrap_or_else(instance::default_name);
    let instance = Instance::open(&name)?;
    for swept in instance::sweep_dead(&name) {
        let _ = writeln!(
            std::io::stderr(),
            "removed what instance {swept} had left, whose namespace is gone"
        );
    }
    let options = LoadOptions {
        interfaces,
        xdp: args.xdp == Switch::On,
        flow_rows: args.flow_rows,
        pending_cells: PENDING_CELLS,
        ring_bytes: RING_BYTES,
        budgets: Budgets {
            first_packets_per_s: args.new_flows_per_s,
            ..Budgets::default()
        },
        samples_per_direction: SAMPLES_PER_DIRECTION,
        hash_keys: hash_keys()?,
    };
    let socket = args
        .socket
        .clone()
        .unwrap_or_else(|| instance::socket_path(&name));
    broker::run(&instance, &options, args.listen, &socket, args.persist)
}

/// `weir detach`: removes what a `persist` or a kill left in the kernel.
#[derive(Debug, Args)]
pub(crate) struct DetachArgs {
    /// Name of the instance
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
}

/// Detaches every program of an instance that does not run.
pub(crate) fn detach(args: &DetachArgs) -> anyhow::Result<ExitCode> {
    let name = args.instance.clone().unwrap_or_else(instance::default_name);
    let instance = Instance::open(&name)?;
    instance.remove_pins()?;
    agent::load::remove_leftover_tc_filters();
    let _ = writeln!(
        std::io::stderr(),
        "detached: instance {name} has nothing left in the kernel"
    );
    Ok(ExitCode::SUCCESS)
}

fn chosen_interfaces(names: &[String]) -> Result<Vec<Interface>, agent::AgentError> {
    if names.is_empty() {
        return Ok(vec![interface::of_default_route()?]);
    }
    let mut chosen: Vec<Interface> = Vec::new();
    for name in names {
        let interface = interface::by_name(name)?;
        if !chosen.contains(&interface) {
            chosen.push(interface);
        }
    }
    Ok(chosen)
}

fn hash_keys() -> anyhow::Result<[u32; 14]> {
    let mut bytes = [0; 56];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| std::io::Read::read_exact(&mut random, &mut bytes))
        .context("cannot read /dev/urandom")?;
    let mut keys = [0; 14];
    for (key, chunk) in keys.iter_mut().zip(bytes.chunks_exact(4)) {
        *key = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
    }
    Ok(keys)
}
