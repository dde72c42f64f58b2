//! `weir programs`: every BPF program of the host, whoever loaded it.
//!
//! Asks the kernel itself, so it works without a running Weir.

mod fit;
mod list;
mod show;
mod top;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use agent::programs::{Attachment, Program};
use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};

/// Every BPF program of the host
#[derive(Debug, Subcommand)]
pub(crate) enum ProgramsArgs {
    /// One row a program, with where it is attached and in what order
    List(ListArgs),
    /// What programs cost: runs a second, time of a run, share of a CPU
    ///
    /// Turns the kernel's run statistics on while it measures, and off again when it ends.
    Top(TopArgs),
    /// Everything about one program: attach points, owners, pins, maps
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only what is attached to this interface, in the order in which packets meet it
    #[arg(short, long, value_name = "IF")]
    iface: Option<String>,
    /// Only programs of this type, as `xdp` or `sched_cls`
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Time between tables, as 500ms, 2s or 1m
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    /// End after this many tables; without it, a terminal is refreshed until `q`
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// One table: the same as --count 1
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Id or name; all programs of that name are shown
    #[arg(value_name = "ID|NAME")]
    program: String,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Table,
    /// One object a line: a program, or for `top` a table
    Json,
}

pub(crate) fn run(args: &ProgramsArgs) -> anyhow::Result<ExitCode> {
    match args {
        ProgramsArgs::List(args) => list::run(args),
        ProgramsArgs::Top(args) => top::run(args),
        ProgramsArgs::Show(args) => show::run(args),
    }
}

const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// `500ms`, `2s`, `1m`, or seconds without a unit.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let (number, unit_ms) = match text {
        _ if text.ends_with("ms") => (&text[..text.len() - 2], 1),
        _ if text.ends_with('s') => (&text[..text.len() - 1], 1000),
        _ if text.ends_with('m') => (&text[..text.len() - 1], 60_000),
        _ => (text, 1000),
    };
    let interval = number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * f64::from(unit_ms) / 1000.0).ok())
        .ok_or("expected a time as 500ms, 2s or 1m")?;
    if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        return Err("expected between 100ms and 60m".to_owned());
    }
    Ok(interval)
}

/// Writes data to stdout; `false` when its reader has seen enough, as `head` has.
fn put(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).context("cannot write to stdout"),
    }
}

fn json_line(value: &impl serde::Serialize) -> anyhow::Result<String> {
    let mut text = serde_json::to_string(value).context("cannot encode the result")?;
    text.push('\n');
    Ok(text)
}

/// Sentences for the reader, on stderr.
fn say(sentences: &[String]) {
    for sentence in sentences {
        // When nobody can read it, nothing is lost.
        let _ = writeln!(io::stderr(), "weir: {sentence}");
    }
}

/// The name as it may be printed: names are given by whoever loads, who need not mean well.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() { '?' } else { character })
        .collect()
}

fn shown_name(name: &str) -> String {
    if name.is_empty() {
        "(no name)".to_owned()
    } else {
        printable(name)
    }
}

/// `tcx ingress 1/2 eth0 in lab-server`. The order stands before the target, which may be long.
fn place(attachment: &Attachment) -> String {
    let order = attachment
        .order
        .filter(|order| order.count > 1)
        .map(|order| format!(" {}/{}", order.position, order.count));
    let namespace = attachment
        .namespace
        .as_ref()
        // Other targets than interfaces have the namespace in them.
        .filter(|_| attachment.ifindex.is_some())
        .map(|namespace| format!(" in netns {}", namespace.name));
    printable(&format!(
        "{}{} {}{}",
        attachment.hook,
        order.unwrap_or_default(),
        attachment.target,
        namespace.unwrap_or_default()
    ))
}

/// Types whose hook the kernel tells nobody: sockets, routes, structures of functions.
const HOOK_NOT_TOLD: &[&str] = &[
    "socket_filter",
    "sched_act",
    "lwt_in",
    "lwt_out",
    "lwt_xmit",
    "lwt_seg6local",
    "lirc_mode2",
    "sk_reuseport",
    "struct_ops",
];

/// Where a program runs that has no attach point, in words.
fn place_of_unattached(program: &Program) -> String {
    if let Some(call) = program.tail_called_from.first() {
        let slots: Vec<_> = call.slots.iter().map(u32::to_string).collect();
        return format!("tail call: map {} slot {}", call.map_id, slots.join(", "));
    }
    let is_untold = HOOK_NOT_TOLD.contains(&program.kind.as_str());
    if is_untold {
        "not told by the kernel"
    } else {
        "no attach point found"
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        let check = |text: &str, expected: Option<u64>| {
            let found = parse_interval(text)
                .ok()
                .map(|interval| interval.as_millis() as u64);
            assert_eq!(found, expected, "{text}");
        };
        check("500ms", Some(500));
        check("2s", Some(2000));
        check("1.5", Some(1500));
        check("1m", Some(60_000));
        check("99ms", None);
        check("2h", None);
        check("-1s", None);
        check("NaN", None);
        check("", None);
        check("ms", None);
    }
}
