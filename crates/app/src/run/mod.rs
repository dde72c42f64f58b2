//! `weir run`: the broker loads and attaches, then forks the worker, which gives up its privileges
//! and reads, counts and answers.
//!
//! The broker outlives the worker: one that dies is started again and finds every row in the
//! kernel. When the broker itself is killed, its worker goes too, the pins stay, programs go on
//! counting, and the next `weir run` takes over.

mod broker;
mod draining;
mod gateway;
mod handover;
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
use clap::Args;

use crate::cli::EXIT_USAGE;
use crate::config::{self, Config, ConfigError, Switch};
use broker::PreparedGateway;
use draining::Draining;
use handover::{Handover, Report};
pub(crate) use handover::{RestartArgs, restart};

/// Observe interfaces and answer questions about them
///
/// What is given here wins over the configuration file.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Configuration file; `weir config example` shows one
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface to observe; may be given several times [default: that of the default route]
    #[arg(long, short = 'i', value_name = "IF")]
    iface: Vec<String>,
    /// Count what comes in at native XDP instead of TCX [default: off]
    #[arg(long, value_enum, value_name = "on|off")]
    xdp: Option<Switch>,
    /// Name of this instance, for several on one host
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Where the admin API listens besides its local socket [default: 127.0.0.1:9080]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Path of the local socket [default: /run/weir/weir.sock, or of the instance's name]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Leave programs and rows in the kernel at the end; `weir detach` removes them
    #[arg(long)]
    persist: bool,
    /// Rows of the kernel's flow table [default: 131072]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
    flow_rows: Option<u32>,
    /// New flows admitted per second besides completed handshakes [default: 20000]
    #[arg(long, value_name = "N")]
    new_flows_per_s: Option<u32>,
    /// Country or network database in MaxMind's format (MMDB), may be given more than once; without it
    /// those that are found are used. A file that changes is read again
    #[arg(long, value_name = "FILE", env = "WEIR_GEOIP", value_delimiter = ':')]
    geoip: Vec<PathBuf>,
}

impl RunArgs {
    /// The configuration file, if any, under what was given on the command line.
    fn settings(&self) -> Result<Settings, ConfigError> {
        let file = match &self.config {
            Some(path) => config::read_and_compile(path)?,
            None => Config::default(),
        };
        let interfaces = if self.iface.is_empty() {
            file.agent.interfaces
        } else {
            self.iface.clone()
        };
        let told_by = self.config.as_ref().map(|path| path.display().to_string());
        let name = self
            .instance
            .clone()
            .or(file.agent.instance)
            .unwrap_or_else(instance::default_name);
        Ok(Settings {
            interfaces,
            xdp: self.xdp.unwrap_or(file.agent.xdp) == Switch::On,
            listen: self.listen.unwrap_or(file.control.listen),
            socket: self
                .socket
                .clone()
                .or(file.control.socket)
                .unwrap_or_else(|| instance::socket_path(&name)),
            name,
            data: file.data.unwrap_or_else(tokens::data_folder),
            gateway: told_by.zip(file.gateway),
            persist: self.persist || file.agent.persist,
            flow_rows: self.flow_rows.unwrap_or(file.agent.flow_rows),
            new_flows_per_s: self.new_flows_per_s.unwrap_or(file.agent.new_flows_per_s),
            geoip: if self.geoip.is_empty() {
                file.agent.geoip
            } else {
                self.geoip.clone()
            },
        })
    }
}

/// What one run does.
#[derive(Debug, PartialEq)]
struct Settings {
    /// Empty for that of the default route.
    interfaces: Vec<String>,
    xdp: bool,
    name: String,
    listen: SocketAddr,
    socket: PathBuf,
    persist: bool,
    flow_rows: u32,
    new_flows_per_s: u32,
    /// Country databases; empty for those that are found.
    geoip: Vec<PathBuf>,
    /// Where data is kept.
    data: PathBuf,
    /// The file, and what it tells the gateway; `None`: the gateway is off.
    gateway: Option<(String, policy::gateway::document::Documents)>,
}

/// Bytes of the event ring.
const RING_BYTES: u32 = 8 << 20;

/// Handshakes kept aside. One MiB of them stays in a processor's own cache, so that a flood, which
/// touches a random cell with each SYN, does not wait for memory; as many handshakes can be under way
/// as come in a third of a second at the budget of 50,000 a second.
const PENDING_CELLS: u32 = 16_384;

/// Payloads sampled at the start of each direction of a flow.
const SAMPLES_PER_DIRECTION: u8 = 4;

/// Runs until told to stop.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let mut handover = Handover::take();
    let mut old = Draining::new(&handover.workers);
    let report = std::mem::take(&mut handover.report);
    let outcome = run_after(args, handover, &mut old, &report);
    // Whatever became of this image, those that the one before left end what they have begun.
    old.end();
    let why = match &outcome {
        Ok(_) => "it has ended: its log says why".to_owned(),
        Err(error) => format!("it has ended: {error:#}"),
    };
    report.failed(&why);
    outcome
}

/// The same, beside the workers of the image before this.
fn run_after(
    args: &RunArgs,
    mut handover: Handover,
    old: &mut Draining,
    report: &Report,
) -> anyhow::Result<ExitCode> {
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let interfaces = match chosen_interfaces(&settings.interfaces) {
        Ok(interfaces) => interfaces,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "weir: {error}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let instance = Instance::open(&settings.name)?;
    for swept in instance::sweep_dead(&settings.name) {
        let _ = writeln!(
            std::io::stderr(),
            "removed what instance {swept} had left, whose namespace is gone"
        );
    }
    let options = LoadOptions {
        interfaces,
        xdp: settings.xdp,
        flow_rows: settings.flow_rows,
        pending_cells: PENDING_CELLS,
        ring_bytes: RING_BYTES,
        budgets: Budgets {
            first_packets_per_s: settings.new_flows_per_s,
            ..Budgets::default()
        },
        samples_per_direction: SAMPLES_PER_DIRECTION,
        hash_keys: hash_keys()?,
    };
    let gateway = settings
        .gateway
        .map_or(PreparedGateway::None, |(file, documents)| {
            let owner = nix::unistd::Uid::effective()
                .is_root()
                .then_some(agent::broker::NOBODY);
            let told = gateway::role::Told::new(documents);
            let prepared = told.and_then(|told| {
                gateway::role::Prepared::new(
                    told,
                    &file,
                    &settings.name,
                    &settings.data,
                    owner,
                    &mut handover,
                )
            });
            match prepared {
                Ok(prepared) => PreparedGateway::Ready(Box::new(prepared)),
                Err(error) => {
                    let words = format!("the gateway is off: {error:#}");
                    broker::say(&words);
                    PreparedGateway::Failed(words)
                }
            }
        });
    if let PreparedGateway::Ready(prepared) = &gateway {
        old.timeout = broker::STOP_TIMEOUT + prepared.drain();
    }
    broker::run(
        &instance,
        &options,
        crate::geo::files(&settings.geoip),
        settings.listen,
        &settings.socket,
        settings.persist,
        gateway,
        handover,
        old,
        report,
        &|| check(args),
    )
}

/// Whether a restart would find its program and configuration in order.
fn check(args: &RunArgs) -> anyhow::Result<()> {
    handover::check(args.config.as_deref())?;
    let settings = args.settings()?;
    chosen_interfaces(&settings.interfaces)?;
    if let Some((_, documents)) = settings.gateway {
        gateway::role::Told::new(documents)?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    /// The command line wins over the file, which wins over what is built in.
    #[test]
    fn settings_of_file_and_flags() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weir.yaml");
        let check = |file: &str, flags: &[&str], expected: Settings| {
            std::fs::write(&path, file).expect("written");
            let path = path.to_str().expect("UTF-8");
            let line = ["run", "-c", path].into_iter().chain(flags.iter().copied());
            let settings = Line::parse_from(line).run.settings().expect("valid");
            assert_eq!(settings, expected);
        };
        let built_in = || Settings {
            interfaces: Vec::new(),
            xdp: false,
            name: instance::default_name(),
            listen: "127.0.0.1:9080".parse().expect("an address"),
            socket: instance::socket_path(&instance::default_name()),
            persist: false,
            flow_rows: 131_072,
            geoip: Vec::new(),
            new_flows_per_s: Budgets::default().first_packets_per_s,
            data: tokens::data_folder(),
            gateway: None,
        };
        check("", &[], built_in());
        let file = "agent: { interfaces: [eth1], xdp: on, instance: a, persist: true, flow_rows: 4096 }\n\
                    control: { listen: \"[::1]:90\" }\n";
        let of_file = || Settings {
            interfaces: vec!["eth1".to_owned()],
            xdp: true,
            name: "a".to_owned(),
            listen: "[::1]:90".parse().expect("an address"),
            socket: "/run/weir/a.sock".into(),
            persist: true,
            flow_rows: 4096,
            geoip: Vec::new(),
            ..built_in()
        };
        check(file, &[], of_file());
        let flags = [
            "--iface",
            "lo",
            "--xdp",
            "off",
            "--instance",
            "b",
            "--flow-rows",
            "2048",
            "--listen",
            "127.0.0.1:1",
            "--new-flows-per-s",
            "7",
        ];
        check(
            file,
            &flags,
            Settings {
                interfaces: vec!["lo".to_owned()],
                xdp: false,
                name: "b".to_owned(),
                listen: "127.0.0.1:1".parse().expect("an address"),
                socket: "/run/weir/b.sock".into(),
                flow_rows: 2048,
                geoip: Vec::new(),
                new_flows_per_s: 7,
                ..of_file()
            },
        );
    }
}
