//! `weir flows`, `weir status`, `weir token`: questions to a running Weir, answered once.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use control::status::Status;
use inspect::eve::FlowEvent;
use policy::filter::Filter;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::read::{csv::Csv, table};
use super::text::{Painter, Tone, bytes, duration_ns, grouped};
use crate::cli::EXIT_USAGE;
use crate::cli::help::complete_filter;
use crate::client::{ApiArgs, Client, with_query};
use crate::flow_json::LiveFlow;

/// Seed of the community id in EVE and CSV, as the API uses it.
const COMMUNITY_SEED: u16 = 0;

#[derive(Debug, Args)]
pub(crate) struct FlowsArgs {
    /// Flows in progress, those that ended lately, or both
    #[arg(long, value_enum, default_value_t = StateChoice::Active)]
    state: StateChoice,
    /// Order, largest or latest first
    #[arg(short, long, value_enum, default_value_t = Sort::Bytes)]
    sort: Sort,
    /// Most flows to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// How to show them
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Which flows, as `dport == 443 and not src in 10.0.0.0/8`; `weir filter` lists the fields. Or `show ID`:
    /// one flow's story, step by step
    #[arg(value_name = "FILTER", trailing_var_arg = true, add = ArgValueCompleter::new(complete_filter))]
    filter: Vec<String>,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StateChoice {
    Active,
    Ended,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    Bytes,
    Packets,
    Rate,
    Last,
    Start,
    Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns
    Table,
    /// One object a line, with the names filters use
    Json,
    /// Suricata's EVE JSON, one event a line
    Eve,
    /// One line a flow, comma separated, with a header
    Csv,
}

/// The word that stands for a choice on the command line and in the API.
fn word(choice: &impl ValueEnum) -> String {
    choice
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

#[derive(Deserialize)]
struct Page {
    flows: Vec<Box<RawValue>>,
    total: u64,
    incomplete: Option<String>,
}

/// One flow's story.
fn show(args: &FlowsArgs, rest: &[String]) -> anyhow::Result<ExitCode> {
    let [id] = rest else {
        writeln!(
            io::stderr(),
            "weir: expected `weir flows show ID`, the identifier as `--format json` gives it"
        )?;
        return Ok(ExitCode::from(EXIT_USAGE));
    };
    let Ok(id) = id.parse::<u64>() else {
        writeln!(
            io::stderr(),
            "weir: flow `{id}`: expected a whole number, as `--format json` gives it in `id`"
        )?;
        return Ok(ExitCode::from(EXIT_USAGE));
    };
    let client = Client::new(&args.api)?;
    let found: Box<RawValue> =
        crate::client::runtime()?.block_on(client.get(&format!("/api/v1/flows/{id}")))?;
    let mut out = io::stdout().lock();
    if args.format == Format::Table {
        let flow: LiveFlow =
            serde_json::from_str(found.get()).context("the answer is no flow this version can read")?;
        out.write_all(super::flow_story::of(&flow.record, Painter::for_stdout()).as_bytes())?;
    } else {
        writeln!(out, "{}", found.get())?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn flows(args: &FlowsArgs) -> anyhow::Result<ExitCode> {
    if let Some((word, rest)) = args.filter.split_first()
        && word == "show"
    {
        return show(args, rest);
    }
    let filter = args.filter.join(" ");
    if !filter.is_empty()
        && let Err(error) = Filter::parse(&filter)
    {
        writeln!(io::stderr(), "{}", error.render(&filter))?;
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let (state, sort, limit) = (word(&args.state), word(&args.sort), args.limit.to_string());
    let mut parameters = vec![("state", state.as_str()), ("sort", &sort), ("limit", &limit)];
    if !filter.is_empty() {
        parameters.push(("filter", &filter));
    }
    let client = Client::new(&args.api)?;
    let page: Page =
        crate::client::runtime()?.block_on(client.get(&with_query("/api/v1/flows", &parameters)))?;
    let written = write_flows(args.format, &page);
    if let Some(incomplete) = &page.incomplete {
        writeln!(io::stderr(), "note: {incomplete}")?;
    }
    written
}

fn write_flows(format: Format, page: &Page) -> anyhow::Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match format {
        Format::Json => page.flows.iter().try_for_each(|flow| writeln!(out, "{flow}")),
        Format::Table => {
            let flows = read_flows(page)?;
            let painter = Painter::for_stdout();
            let shown = grouped(flows.len() as u64);
            let line = format!("{shown} of {} flows", grouped(page.total));
            let text = table::render(painter, flows.into_iter().map(|flow| flow.record));
            write!(out, "{text}").and_then(|()| writeln!(out, "{}", painter.paint(Tone::Quiet, &line)))
        }
        Format::Eve => read_flows(page)?.iter().try_for_each(|flow| {
            serde_json::to_writer(&mut out, &FlowEvent::of(&flow.record, COMMUNITY_SEED))?;
            writeln!(out)
        }),
        Format::Csv => {
            let mut csv = Csv::new(COMMUNITY_SEED);
            read_flows(page)?
                .iter()
                .try_for_each(|flow| csv.write(&mut out, &flow.record))
        }
    };
    match written.and_then(|()| out.flush()) {
        // The reader of our output has seen enough, as `head` has.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => written
            .map(|()| ExitCode::SUCCESS)
            .context("cannot write to stdout"),
    }
}

fn read_flows(page: &Page) -> anyhow::Result<Vec<LiveFlow>> {
    let flows = page.flows.iter().map(|flow| serde_json::from_str(flow.get()));
    flows
        .collect::<Result<_, _>>()
        .context("weir answers with a flow that this version cannot read")
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = StatusFormat::Text)]
    format: StatusFormat,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StatusFormat {
    Text,
    Json,
}

pub(crate) fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let status: Status = crate::client::runtime()?.block_on(client.get("/api/v1/status"))?;
    let mut out = io::stdout().lock();
    match args.format {
        StatusFormat::Json => writeln!(out, "{}", serde_json::to_string(&status)?)?,
        StatusFormat::Text => write!(out, "{}", status_text(&status))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn status_text(status: &Status) -> String {
    let mut lines = vec![format!(
        "weir {} observes as instance {}, up {}",
        status.version,
        status.instance,
        duration_ns((status.uptime_s * 1e9) as u64)
    )];
    for interface in &status.interfaces {
        for (direction, traffic, hook) in [
            ("in ", &interface.rx, &interface.ingress),
            ("out", &interface.tx, &interface.egress),
        ] {
            lines.push(format!(
                "{:<12} {direction} {:<4} {:>14} packets {:>10}   {:>10.1} Mbit/s {:>10.0} packets/s",
                interface.name,
                hook.as_deref().unwrap_or("none"),
                grouped(traffic.packets),
                bytes(traffic.bytes),
                traffic.bits_per_s / 1e6,
                traffic.packets_per_s,
            ));
        }
    }
    lines.push(format!(
        "{} of {} flow rows, {} attempts, {} flows ended; {} of kernel memory, {} resident",
        grouped(status.flows.rows),
        grouped(status.flows.capacity),
        grouped(status.flows.attempts),
        grouped(status.flows.ended_total),
        bytes(status.kernel_memory_bytes),
        bytes(status.resident_bytes),
    ));
    let lost: Vec<_> = status
        .losses
        .iter()
        .filter(|(_, count)| **count != 0)
        .map(|(name, count)| format!("{} {}", name.replace('_', " "), grouped(*count)))
        .collect();
    lines.push(if lost.is_empty() {
        "nothing lost".to_owned()
    } else {
        format!("lost or refused: {}", lost.join(", "))
    });
    lines.push(format!(
        "{} packets in no counter",
        grouped(status.unaccounted_packets)
    ));
    lines.extend(
        status
            .incomplete
            .iter()
            .chain(&status.degraded)
            .map(|words| format!("note: {words}")),
    );
    lines.join("\n") + "\n"
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenArgs {
    /// Make a token for the admin API over TCP; it is shown once. Only through the local socket
    Create {
        #[command(flatten)]
        api: ApiArgs,
    },
}

#[derive(Deserialize)]
struct NewToken {
    token: String,
}

pub(crate) fn token(args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let TokenArgs::Create { api } = args;
    let client = Client::new(api)?;
    let made: NewToken = crate::client::runtime()?.block_on(client.post("/api/v1/tokens"))?;
    writeln!(io::stdout(), "{}", made.token)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_in_words() {
        let text = |status: &str| status_text(&serde_json::from_str(status).expect("a status"));
        let quiet =
            text(r#"{"version":"0.1.0","instance":"default","uptime_s":75.0,"losses":{"ring_full":0}}"#);
        assert!(
            quiet.starts_with("weir 0.1.0 observes as instance default, up 1m15s\n"),
            "{quiet}"
        );
        assert!(
            quiet.contains("nothing lost\n0 packets in no counter\n"),
            "{quiet}"
        );
        let lossy = text(r#"{"losses":{"ring_full_sample":12},"incomplete":"some are missing"}"#);
        assert!(
            lossy.contains("lost or refused: ring full sample 12\n"),
            "{lossy}"
        );
        assert!(lossy.ends_with("note: some are missing\n"), "{lossy}");
    }
}
