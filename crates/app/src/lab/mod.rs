//! `weir lab`: a private network of namespaces in which real programs talk.
//!
//! [`layout`] says who is who, [`network`] makes and removes it, [`scenario`] is the table of what can
//! happen, [`serve`], [`client`] and [`attack`] are the programs, [`run`] joins their reports.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};

use client::{Families, Task};
use layout::{CLIENTS_MAX, Host, Lab, LabName};
use network::{Up, UpOptions};
use run::{Progress, RunOptions};
use scenario::{Intensity, RAW_PACKETS_MAX, SCENARIOS, SECONDS_MAX, Scenario};

mod attack;
mod client;
mod counted;
mod layout;
mod namespace;
mod network;
mod protocol;
mod provider;
pub(crate) mod random;
mod report;
mod run;
mod scenario;
mod serve;
mod show;
mod state;
mod xdp_pass;

const CLIENTS_DEFAULT: u8 = 2;

/// A private network of namespaces with real traffic.
#[derive(Debug, Subcommand)]
pub(crate) enum LabArgs {
    /// Make the network and start its servers
    Up {
        #[command(flatten)]
        which: Which,
        /// Number of client hosts
        #[arg(long, default_value_t = CLIENTS_DEFAULT, value_parser = clap::value_parser!(u8).range(1..=i64::from(CLIENTS_MAX)))]
        clients: u8,
        /// Turn segmentation, merging and checksum offload off: every frame as on a wire, exact counts
        #[arg(long)]
        no_offload: bool,
        /// Let frames that an XDP program on the server sends back (XDP_TX) arrive; slows TCP down
        #[arg(long)]
        xdp_tx: bool,
    },
    /// List the scenarios
    List {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Run a scenario; brings the lab up first when it is not
    Run(RunArgs),
    /// Show the hosts, their counters and who runs in them
    Status {
        #[command(flatten)]
        which: Which,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Run a command on a host of the lab
    Exec {
        #[command(flatten)]
        which: Which,
        /// server, attacker, net, client1, client2, …
        host: Host,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Remove the network and end its programs
    Down {
        #[command(flatten)]
        which: Which,
    },
    /// A stand-in for model providers, every wire on its own path; needs no lab and no root
    Provider(provider::ProviderArgs),
    /// The servers of the server host
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        socket: PathBuf,
    },
    /// One program of a scenario, on the host it is started on
    #[command(hide = true)]
    Client {
        scenario: Scenario,
        #[arg(long)]
        host: Host,
        #[command(flatten)]
        pace: PaceArgs,
        #[arg(long)]
        report: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Which lab, when several are up at a time
    #[arg(long, value_name = "NAME")]
    name: Option<LabName>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// What is to happen
    scenario: Scenario,
    /// More scenarios at the same time
    #[arg(long, value_name = "SCENARIO")]
    with: Vec<Scenario>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    pace: PaceArgs,
    /// Write the whole report to a file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How much traffic.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct PaceArgs {
    /// How long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(SECONDS_MAX)))]
    seconds: u32,
    #[arg(long, value_enum, default_value = "low")]
    intensity: Intensity,
    /// The same seed gives the same traffic
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// IP version
    #[arg(long, value_enum, default_value = "both")]
    family: Families,
    /// Most raw packets of a flood or scan
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=RAW_PACKETS_MAX))]
    packets: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
}

/// Does what `weir lab …` asks for.
///
/// Blocks, and builds runtimes of its own: not to be called from within one.
pub(crate) fn run(args: LabArgs) -> Result<ExitCode> {
    if !matches!(args, LabArgs::List { .. } | LabArgs::Provider(_)) && !nix::unistd::geteuid().is_root() {
        bail!("the lab works in network namespaces, which needs root: run it with sudo");
    }
    match args {
        LabArgs::Up {
            which,
            clients,
            no_offload,
            xdp_tx,
        } => {
            let options = UpOptions {
                clients,
                offload: !no_offload,
                xdp_tx,
            };
            up(&which.lab(), options)
        }
        LabArgs::List { format } => list(format),
        LabArgs::Run(args) => run_scenarios(&args),
        LabArgs::Status { which, format } => status(&which.lab(), format),
        LabArgs::Exec { which, host, command } => exec(&which.lab(), host, &command),
        LabArgs::Down { which } => down(&which.lab()),
        LabArgs::Provider(args) => provider::run(args),
        LabArgs::Serve { socket } => {
            name_process(c"lab-serve");
            serve::serve(&socket).map(|()| ExitCode::SUCCESS)
        }
        LabArgs::Client {
            scenario,
            host,
            pace,
            report,
        } => run_client(scenario, host, pace, report),
    }
}

impl Which {
    fn lab(&self) -> Lab {
        Lab::new(self.name.clone())
    }
}

/// What /proc/PID/comm says, so that flows show the lab's programs apart from the weir that observes.
fn name_process(name: &std::ffi::CStr) {
    // Only a name: without it, the program works as well.
    let _ = nix::sys::prctl::set_name(name);
}

/// A sentence for the reader, on standard error.
fn say(text: &str) {
    // When nobody can read it, nothing is lost.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Data, on standard output.
fn put(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        // The reader has seen enough (`| head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

fn put_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot encode the result")?;
    put(&format!("{text}\n"))
}

fn up(lab: &Lab, options: UpOptions) -> Result<ExitCode> {
    match network::up(lab, options)? {
        Up::Made(state) => {
            say(&format!("{} is up.", lab.title()));
            put(&show::network(lab, &state))?;
            Ok(ExitCode::SUCCESS)
        }
        Up::Already(state) if state.options == options => {
            say(&format!("{} is already up.", lab.title()));
            put(&show::network(lab, &state))?;
            Ok(ExitCode::SUCCESS)
        }
        Up::Already(state) => {
            say(&format!(
                "{} is already up with {}: to change that, `weir lab down{}` first.",
                lab.title(),
                state.options,
                lab.option()
            ));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn list(format: Format) -> Result<ExitCode> {
    match format {
        Format::Table => put(&show::scenarios())?,
        Format::Json => {
            let rows: Vec<_> = SCENARIOS
                .iter()
                .map(|facts| {
                    let [low, medium, high] = facts.amount;
                    serde_json::json!({
                        "name": facts.scenario.name(),
                        "shows": facts.shows,
                        "low": low, "medium": medium, "high": high,
                        "counted": facts.counted,
                    })
                })
                .collect();
            put_json(&rows)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_scenarios(args: &RunArgs) -> Result<ExitCode> {
    let lab = args.which.lab();
    let defaults = UpOptions {
        clients: CLIENTS_DEFAULT,
        offload: true,
        xdp_tx: false,
    };
    let clients = match network::up(&lab, defaults)? {
        Up::Already(state) => state.options.clients,
        Up::Made(state) => {
            say(&format!(
                "{} was not up: it is now, and stays so until `weir lab down{}`.",
                lab.title(),
                lab.option()
            ));
            state.options.clients
        }
    };
    let mut scenarios = vec![args.scenario];
    scenarios.extend(&args.with);
    scenarios.sort_unstable();
    scenarios.dedup();
    let options = RunOptions {
        scenarios,
        seconds: args.pace.seconds,
        intensity: args.pace.intensity,
        seed: args.pace.seed,
        families: args.pace.family,
        packets_max: args.pace.packets,
    };
    for scenario in &options.scenarios {
        say(&format!(
            "{}: {} ({}, {} s)",
            scenario.name(),
            scenario.facts().shows,
            options.intensity.name(),
            options.seconds
        ));
    }
    let on_terminal = io::stderr().is_terminal();
    let report = run::run(&lab, clients, &options, &mut |progress| {
        if on_terminal {
            show_progress(progress, options.seconds);
        }
    });
    if on_terminal {
        // Clears the progress line.
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    let report = report?;
    for problem in &report.problems {
        say(&format!("problem: {problem}"));
    }
    if let Some(path) = &args.report {
        let text = serde_json::to_vec(&report).context("cannot encode the report")?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match args.format {
        Format::Table => put(&show::run(&report))?,
        Format::Json => put_json(&report)?,
    }
    Ok(if report.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn show_progress(progress: Progress, seconds: u32) {
    let _ = write!(
        io::stderr(),
        "\r\x1b[K  {:>2} of {seconds} s; at the server: {} packets in, {} out",
        progress.elapsed.as_secs(),
        show::grouped(progress.server.rx_packets),
        show::grouped(progress.server.tx_packets),
    );
}

fn status(lab: &Lab, format: Format) -> Result<ExitCode> {
    let namespaces = network::present_namespaces(lab);
    let Some(state) = network::running(lab) else {
        match format {
            Format::Json => {
                put_json(&serde_json::json!({
                    "lab": lab.title(),
                    "up": false,
                    "leftovers": namespaces,
                }))?;
            }
            Format::Table if namespaces.is_empty() => say(&format!(
                "{} is not up: `weir lab up{}` makes it.",
                lab.title(),
                lab.option()
            )),
            Format::Table => say(&format!(
                "{} is not whole; left over: {}. `weir lab down{}` removes it.",
                lab.title(),
                namespaces.join(", "),
                lab.option()
            )),
        }
        return Ok(ExitCode::FAILURE);
    };
    let counters = run::read_counters(lab, &Host::observed(state.options.clients))?;
    let state::Inhabitants { ours, others } = network::inhabitants(lab);
    let programs: Vec<i32> = ours.iter().map(|process| process.pid).collect();
    match format {
        Format::Json => {
            let hosts: Vec<_> = counters
                .iter()
                .map(|(host, counters)| {
                    serde_json::json!({
                        "host": host.to_string(),
                        "namespace": lab.namespace(*host),
                        "interface": layout::HOST_INTERFACE,
                        "ipv4": host.ipv4(),
                        "ipv6": host.ipv6(),
                        "counters": counters,
                    })
                })
                .collect();
            put_json(&serde_json::json!({
                "lab": lab.title(),
                "up": true,
                "offload": state.options.offload,
                "xdp_tx": state.options.xdp_tx,
                "hosts": hosts,
                "programs": programs,
                "other_processes": others,
            }))?;
        }
        Format::Table => {
            say(&format!("{} is up.", lab.title()));
            put(&show::status(&counters))?;
            put(&format!("  programs of the lab: {}\n", numbers(&programs)))?;
            if !others.is_empty() {
                put(&format!("  other processes inside: {}\n", numbers(&others)))?;
            }
            put(&format!("\n{}", show::network(lab, &state)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn numbers(pids: &[i32]) -> String {
    let texts: Vec<String> = pids.iter().map(i32::to_string).collect();
    texts.join(", ")
}

fn exec(lab: &Lab, host: Host, command: &[String]) -> Result<ExitCode> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("no command given: expected one after the host");
    };
    // This very program, also where it is not in the PATH.
    let path = match program.as_str() {
        "weir" => std::env::current_exe().context("cannot find this program")?,
        other => PathBuf::from(other),
    };
    let error = namespace::become_inside(&lab.namespace(host), Command::new(path).args(arguments))?;
    Err(error).with_context(|| format!("cannot run `{program}` on {host}"))
}

fn down(lab: &Lab) -> Result<ExitCode> {
    let removed = network::down(lab)?;
    if removed.namespaces.is_empty() && removed.processes == 0 {
        say(&format!("{} was not up; nothing to remove.", lab.title()));
    } else {
        say(&format!(
            "{} is down: {} namespaces removed, {} programs ended.",
            lab.title(),
            removed.namespaces.len(),
            removed.processes
        ));
    }
    if !removed.others.is_empty() {
        say(&format!(
            "Still running in its network, which goes when they end: processes {}.",
            numbers(&removed.others)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn run_client(scenario: Scenario, host: Host, pace: PaceArgs, path: Option<PathBuf>) -> Result<ExitCode> {
    name_process(c"lab-client");
    let report = client::run(Task {
        scenario,
        host,
        seconds: pace.seconds,
        intensity: pace.intensity,
        seed: pace.seed,
        families: pace.family,
        packets_max: pace.packets,
    })?;
    match path {
        Some(path) => {
            let text = serde_json::to_vec(&report).context("cannot encode the report")?;
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => put_json(&report)?,
    }
    Ok(ExitCode::SUCCESS)
}
