//! `weir bench gateway`: requests a second, delays, processor time and memory of the gateway, beside other programs.
//!
//! A simulator of a provider, nginx as a plain proxy, Weir with key, limits, metering and records of calls, and the
//! AI gateways that are installed ([`peers`]) each run as processes of their own in one network namespace; the load
//! ([`load`]) is another. In each slice every program takes its turn, so that a noisy moment hits all; medians of
//! the slices are compared, as ratios to nginx in the same run.

mod answer;
pub(super) mod load;
mod peers;
mod process;
mod report;
mod servers;

use std::io::Write as _;
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::Format;
use crate::cli::text::Painter;
use load::Found;
use report::Report;
use servers::{MODEL, Place, Server};

/// The model of streams: a piece of the answer each 20 ms, 40 of them.
const STREAM_MODEL: &str = "sim-drip-20+sim-tokens-40";
/// The model of one stream at a time: short, so that a slice has more than a few first tokens.
const SHORT_STREAM_MODEL: &str = "sim-drip-20+sim-tokens-5";
/// The model of slow streams, which last longer than they are watched (200 s).
const SLOW_MODEL: &str = "sim-drip-500+sim-tokens-400";
const SLOW_STREAMS: usize = 1000;
/// Time for all slow streams to open and have pieces; it goes on while some are not open.
const SLOW_SECONDS: f64 = 5.0;
/// Connections that the open loop may use.
const OPEN_CONNECTIONS: usize = 256;
/// Of nginx's most requests a second.
const OPEN_SHARE: f64 = 0.3;
const OPEN_FILES: u64 = 16_384;
/// Other AI gateways.
const PEERS: [&str; 2] = ["portkey", "litellm"];
/// How long a peer is asked before it is measured: it imports and compiles at its first requests.
const PEER_WARM_UP_SECONDS: f64 = 10.0;
/// A peer's turn at least: some answer a few requests a second.
const PEER_SECONDS_MIN: f64 = 5.0;

#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// Slices, each of all programs
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    slices: u32,
    /// Seconds of each program in a slice
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,
    /// Connections of the closed loop, several with commas; the bars are about 32
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 32, 512])]
    connections: Vec<usize>,
    /// What is left out; several with commas
    #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',')]
    skip: Vec<Part>,
    /// Install Portkey and LiteLLM with npm and pip into ~/.cache/weir/bench, then end
    #[arg(long)]
    install_peers: bool,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Requests a second
    Closed,
    /// Delays at 30 % of what nginx can
    Open,
    /// Time to first token, time between pieces
    Streams,
    /// Memory with 1,000 open streams
    Memory,
    /// Portkey and LiteLLM
    Peers,
}

/// One thing that is measured of each program.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Case {
    Closed { connections: usize },
    Open { rate: f64 },
    Streams { connections: usize },
    Memory,
}

impl Case {
    fn name(self) -> String {
        match self {
            Case::Closed { connections } => format!("closed, {connections} conn"),
            Case::Open { rate } => format!("open, {rate:.0}/s"),
            Case::Streams { connections } => format!("{connections} streams"),
            Case::Memory => format!("{SLOW_STREAMS} slow streams"),
        }
    }

    /// Whether it is measured of this program; the slow ones would only say again that they are slow.
    fn is_for(self, server: &str) -> bool {
        match self {
            Case::Closed { .. } => true,
            Case::Open { .. } | Case::Streams { .. } => ["direct", "nginx", "weir"].contains(&server),
            Case::Memory => server == "weir",
        }
    }
}

/// What the slices of one case found of one program.
struct Measured {
    case: Case,
    server: &'static str,
    found: Vec<Found>,
}

pub(super) fn run(args: &GatewayArgs) -> anyhow::Result<ExitCode> {
    let cache = peers::folder()?;
    if args.install_peers {
        peers::install(&cache)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !(args.seconds.is_finite() && args.seconds >= 0.1) || args.connections.contains(&0) {
        bail!("expected at least 0.1 seconds, and connections of at least 1");
    }
    raise_open_files()?;
    let place = Place::enter()?;
    let mock = place.mock()?;
    let at = mock.address;
    let mut servers = vec![mock];
    let mut missing = Vec::new();
    let mut take = |name: &'static str, started: anyhow::Result<Option<Server>>| match started {
        Ok(Some(server)) => servers.push(server),
        Ok(None) => missing.push(format!("{name} is not installed")),
        Err(error) => missing.push(format!("{name}: {error:#}")),
    };
    take("nginx", place.nginx(at));
    take("weir", Ok(Some(place.weir(at)?)));
    if !args.skip.contains(&Part::Peers) {
        for (name, started) in [
            ("portkey", place.portkey(at, &cache)),
            ("litellm", place.litellm(at, &cache)),
        ] {
            let warm = |server: Server| warm_up(&place, &server).map(|()| server);
            take(name, started.and_then(|server| server.map(warm).transpose()));
        }
    }
    let measured = measure(args, &place, &mut servers, &mut missing)?;
    let report = Report::of(&measured, args, missing);
    let text = match args.format {
        Format::Table => report.table(Painter::for_stdout()),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if report.is_within_bars() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn measure(
    args: &GatewayArgs,
    place: &Place,
    servers: &mut Vec<Server>,
    missing: &mut Vec<String>,
) -> anyhow::Result<Vec<Measured>> {
    let is_wanted = |part| !args.skip.contains(&part);
    let mut measured = Vec::new();
    if is_wanted(Part::Closed) {
        for &connections in &args.connections {
            slices(
                args,
                place,
                servers,
                missing,
                Case::Closed { connections },
                &mut measured,
            )?;
        }
    }
    if is_wanted(Part::Open) {
        match most_of_nginx(&measured) {
            Some(most) => {
                let rate = (most * OPEN_SHARE).max(1.0);
                slices(args, place, servers, missing, Case::Open { rate }, &mut measured)?;
            }
            None => missing
                .push("no open loop: its rate is a share of what nginx can, which is not known".to_owned()),
        }
    }
    if is_wanted(Part::Streams) {
        for connections in [1, 100] {
            slices(
                args,
                place,
                servers,
                missing,
                Case::Streams { connections },
                &mut measured,
            )?;
        }
    }
    if is_wanted(Part::Memory) {
        slices(args, place, servers, missing, Case::Memory, &mut measured)?;
    }
    Ok(measured)
}

fn most_of_nginx(measured: &[Measured]) -> Option<f64> {
    let of_nginx = measured.iter().filter(|one| one.server == "nginx");
    let rates = of_nginx.filter_map(|one| report::rate(&one.found));
    rates.map(|rate| rate.median).max_by(f64::total_cmp)
}

/// All slices of a case; in each, every program in turn.
fn slices(
    args: &GatewayArgs,
    place: &Place,
    servers: &mut Vec<Server>,
    missing: &mut Vec<String>,
    case: Case,
    measured: &mut Vec<Measured>,
) -> anyhow::Result<()> {
    let first = measured.len();
    let of_case = servers.iter().filter(|server| case.is_for(server.name));
    measured.extend(of_case.map(|server| Measured {
        case,
        server: server.name,
        found: Vec::new(),
    }));
    // Memory is no matter of moments.
    let n_slices = if case == Case::Memory { 1 } else { args.slices };
    for slice in 0..n_slices {
        for one in &mut measured[first..] {
            let Some(server) = servers.iter_mut().find(|server| server.name == one.server) else {
                continue;
            };
            let _ = write!(
                std::io::stderr(),
                "\r{}, slice {} of {n_slices}, {}          ",
                case.name(),
                slice + 1,
                one.server
            );
            let seconds = match case {
                Case::Memory => SLOW_SECONDS,
                _ if PEERS.contains(&one.server) => args.seconds.max(PEER_SECONDS_MIN),
                _ => args.seconds,
            };
            match server.check().and_then(|()| ask(place, server, case, seconds)) {
                Ok(found) => one.found.push(found),
                // A peer that fails is told and left; a bench without Weir or the simulator is none.
                Err(error) if PEERS.contains(&one.server) => {
                    missing.push(format!("{}: {error:#}", one.server));
                    servers.retain(|server| server.name != one.server);
                }
                Err(error) => return Err(error.context(format!("{} of {}", case.name(), one.server))),
            }
        }
    }
    let _ = write!(std::io::stderr(), "\r{:60}\r", "");
    Ok(())
}

/// Asks a peer for a while.
///
/// # Errors
/// It answers nothing.
fn warm_up(place: &Place, server: &Server) -> anyhow::Result<()> {
    let case = Case::Closed { connections: 1 };
    let found = ask(place, server, case, PEER_WARM_UP_SECONDS)?;
    if found.requests == 0 {
        bail!("answers nothing within {PEER_WARM_UP_SECONDS} s");
    }
    Ok(())
}

/// One slice of one program.
fn ask(place: &Place, server: &Server, case: Case, seconds: f64) -> anyhow::Result<Found> {
    let (connections, model) = match case {
        Case::Closed { connections } => (connections, MODEL),
        Case::Open { .. } => (OPEN_CONNECTIONS, MODEL),
        Case::Streams { connections: 1 } => (1, SHORT_STREAM_MODEL),
        Case::Streams { connections } => (connections, STREAM_MODEL),
        Case::Memory => (SLOW_STREAMS, SLOW_MODEL),
    };
    let mut command = place.own();
    command
        .args(["bench", "gateway-load", "--target", &server.address.to_string()])
        .args(["--key", &server.key, "--model", &server.model(model)])
        .args(["--connections", &connections.to_string()])
        .args(["--seconds", &seconds.to_string()]);
    for header in &server.headers {
        command.args(["--header", header]);
    }
    for pid in &server.pids {
        command.args(["--pid", &pid.to_string()]);
    }
    match case {
        Case::Closed { .. } => {}
        Case::Open { rate } => {
            command.args(["--rate", &rate.to_string()]);
        }
        Case::Streams { .. } => {
            command.arg("--stream");
        }
        Case::Memory => {
            command.args(["--stream", "--until-open"]);
        }
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("cannot start the load")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}", said.trim());
    }
    serde_json::from_slice(&output.stdout).context("the load said something else than figures")
}

/// A thousand streams need two descriptors each; programs that are started have the same bound.
fn raise_open_files() -> anyhow::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = OPEN_FILES.min(hard);
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(())
}
