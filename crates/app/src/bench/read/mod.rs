//! `weir bench read`: packets per second and memory of `weir read`, beside ndpiReader and tshark.
//!
//! Every program reads the same file in every round, in turn; the file is in the page cache.

mod joined;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

use super::statistics::Spread;
use super::{Format, machine};
use crate::cli::text::{Align, Cell, Painter, Tone, bytes, columns, grouped};

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// Captures to join; only their Ethernet packets are taken
    #[arg(value_name = "FILE", conflicts_with = "shared")]
    files: Vec<PathBuf>,
    /// Join the captures of the shared test data (WEIR_SHARED, else ../shared); so it is without FILE
    #[arg(long)]
    shared: bool,
    /// Size of the joined capture: the packets are repeated until it is reached
    #[arg(long, value_name = "N", default_value_t = 0.2)]
    gib: f64,
    /// Rounds, each of all programs
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Runs one program in place of this one, then says on stderr what it took. For `bench read` itself
    #[arg(long, hide = true, num_args = 1.., allow_hyphen_values = true)]
    measure: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: String,
    packets: u64,
    file_bytes: u64,
    rounds: u32,
    readers: Vec<Row>,
    missing: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    packets_per_s: Spread,
    peak_resident_bytes: u64,
    /// Packets per second of `weir read`, times this program's.
    weir_is_faster_by: f64,
}

/// A program and its arguments before the file's name.
const READERS: [(&str, &[&str]); 2] = [
    ("ndpiReader", &["-q", "-i"]),
    ("tshark", &["-n", "-q", "-z", "conv,tcp", "-z", "conv,udp", "-r"]),
];

pub(super) fn run(args: &ReadArgs) -> anyhow::Result<ExitCode> {
    if !args.measure.is_empty() {
        return measure(&args.measure);
    }
    let joined = joined::Joined::write(&args.files, (args.gib * f64::from(1 << 30)) as u64)?;
    let file = joined
        .path
        .to_str()
        .context("the temporary folder's name is not UTF-8")?;
    let own = std::env::current_exe().context("cannot find the running program")?;
    let own = own.to_str().context("the program's name is not UTF-8")?;
    let mut commands = vec![("weir read", vec![own, "read", "--format", "summary", file])];
    let mut missing = Vec::new();
    for (name, arguments) in READERS {
        if is_installed(name) {
            let mut command = vec![name];
            command.extend(arguments);
            command.push(file);
            commands.push((name, command));
        } else {
            missing.push(name);
        }
    }
    let mut rates = vec![Vec::new(); commands.len()];
    let mut peaks = vec![0; commands.len()];
    for _ in 0..args.rounds {
        for (at, (name, command)) in commands.iter().enumerate() {
            let took = spawn(own, command).with_context(|| format!("{name} did not read the capture"))?;
            rates[at].push(joined.packets as f64 / took.seconds);
            peaks[at] = peaks[at].max(took.peak_bytes);
        }
    }
    let spreads: Option<Vec<_>> = rates.into_iter().map(Spread::of).collect();
    let spreads = spreads.context("no round was run")?;
    let own_rate = spreads[0].median;
    let rows = commands.iter().zip(&spreads).zip(&peaks);
    let report = Report {
        machine: machine(),
        packets: joined.packets,
        file_bytes: joined.bytes,
        rounds: args.rounds,
        readers: rows
            .map(|((command, rate), peak)| Row {
                name: command.0,
                packets_per_s: *rate,
                peak_resident_bytes: *peak,
                weir_is_faster_by: own_rate / rate.median,
            })
            .collect(),
        missing,
    };
    let text = match args.format {
        Format::Table => report.table(Painter::for_stdout()),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

struct Took {
    seconds: f64,
    peak_bytes: u64,
}

/// Runs a command by way of this program, which can then tell what that child alone took.
fn spawn(own: &str, command: &[&str]) -> anyhow::Result<Took> {
    let output = Command::new(own)
        .args(["bench", "read", "--measure"])
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.trim().lines().next_back().unwrap_or_default();
    if !output.status.success() {
        bail!("{}: {last}", output.status);
    }
    let mut numbers = last.split_whitespace();
    let (seconds, peak) = (numbers.next(), numbers.next());
    Ok(Took {
        seconds: seconds
            .and_then(|text| text.parse().ok())
            .context("no time was stated")?,
        peak_bytes: peak
            .and_then(|text| text.parse().ok())
            .context("no memory was stated")?,
    })
}

fn measure(command: &[String]) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let status = Command::new(&command[0]).args(&command[1..]).status()?;
    let seconds = begun.elapsed().as_secs_f64();
    // In kilobytes on Linux (getrusage(2)).
    let peak_bytes = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss().unsigned_abs() * 1024;
    if !status.success() {
        bail!("{} ended with {status}", command[0]);
    }
    writeln!(std::io::stderr(), "\n{seconds} {peak_bytes}")?;
    Ok(ExitCode::SUCCESS)
}

impl Report {
    fn table(&self, painter: Painter) -> String {
        let heading = |text: &str| Cell(text.to_owned(), Tone::Heading);
        let mut rows = vec![
            ["reader", "packets/s", "min", "max", "peak memory", "weir is"]
                .map(heading)
                .to_vec(),
        ];
        rows.extend(self.readers.iter().map(|row| {
            vec![
                Cell::plain(row.name),
                Cell::plain(grouped(row.packets_per_s.median as u64)),
                Cell(grouped(row.packets_per_s.min as u64), Tone::Quiet),
                Cell(grouped(row.packets_per_s.max as u64), Tone::Quiet),
                Cell::plain(bytes(row.peak_resident_bytes)),
                Cell::plain(format!("{:.1} × as fast", row.weir_is_faster_by)),
            ]
        }));
        let aligns = [
            Align::Left,
            Align::Right,
            Align::Right,
            Align::Right,
            Align::Right,
            Align::Right,
        ];
        let mut text = format!(
            "{}\n{} packets, {}, median of {} rounds\n\n{}",
            self.machine,
            grouped(self.packets),
            bytes(self.file_bytes),
            self.rounds,
            columns(painter, &aligns, &rows)
        );
        for name in &self.missing {
            text.push_str(&format!("\n{name} is not installed\n"));
        }
        text
    }
}
