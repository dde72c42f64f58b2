//! `weir watch`: what flows now, on a terminal or as records.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use policy::filter::Filter;

use crate::cli::EXIT_USAGE;
use crate::cli::help::complete_filter;
use crate::cli::rotate::{Lines, Rotated};
use crate::client::{ApiArgs, Client, ClientError, with_query};
use crate::tui;

/// Watch what flows, live
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Only what is seen on this interface
    #[arg(long, short = 'i', value_name = "IF")]
    iface: Option<String>,
    /// `tui` draws a view; `json` and `eve` write one record a line: flows in progress first (json),
    /// then each as it ends
    #[arg(long, value_enum, default_value_t = Format::Tui)]
    format: Format,
    /// Write records to this file instead, at its end if it is there
    #[arg(long, short = 'w', value_name = "FILE")]
    write: Option<PathBuf>,
    /// Begin the file anew when it would grow beyond this many bytes (as 100000000); the full one becomes FILE.1
    #[arg(long, value_name = "BYTES", requires = "write", value_parser = clap::value_parser!(u64).range(1..))]
    rotate_bytes: Option<u64>,
    /// Full files to keep
    #[arg(long, value_name = "N", requires = "rotate_bytes", default_value_t = 5)]
    keep: u32,
    /// End after this many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after this many seconds
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Which flows, as `dport == 443 and not src in 10.0.0.0/8`
    #[arg(value_name = "FILTER", trailing_var_arg = true, add = ArgValueCompleter::new(complete_filter))]
    filter: Vec<String>,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Tui,
    Json,
    Eve,
}

pub(crate) fn run(args: &WatchArgs) -> anyhow::Result<ExitCode> {
    let filter = (!args.filter.is_empty()).then(|| args.filter.join(" "));
    if let Some(text) = &filter
        && let Err(error) = Filter::parse(text)
    {
        let _ = writeln!(std::io::stderr(), "{}", error.render(text));
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let client = match Client::new(&args.api) {
        Err(error) if error.is_usage() => {
            let _ = writeln!(std::io::stderr(), "weir: {error}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
        client => client?,
    };
    if args.iface.as_ref().is_some_and(|name| name.contains(['"', '\\'])) {
        let _ = writeln!(
            std::io::stderr(),
            "weir: --iface: expected the name of an interface, without quotes and backslashes"
        );
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    match args.format {
        Format::Tui if args.write.is_some() => {
            let _ = writeln!(
                std::io::stderr(),
                "weir: --write: expected with --format json or eve"
            );
            return Ok(ExitCode::from(EXIT_USAGE));
        }
        Format::Tui => tui::run(client, args.iface.clone(), filter)?,
        Format::Json => records(args, &client, filter, "json")?,
        Format::Eve => records(args, &client, filter, "eve")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes records until the limit, a signal, or the end of the pipe.
fn records(args: &WatchArgs, client: &Client, filter: Option<String>, format: &str) -> anyhow::Result<()> {
    let interface = args.iface.as_ref().map(|name| format!("iface == \"{name}\""));
    let filter = match (interface, filter) {
        (Some(interface), Some(filter)) => Some(format!("{interface} and ({filter})")),
        (one, other) => one.or(other),
    };
    let runtime = crate::client::runtime().context("cannot start the runtime")?;
    runtime.block_on(async {
        let limit = Duration::from_secs(args.seconds.unwrap_or(u64::MAX / 2));
        tokio::select! {
            ended = write_records(args, client, filter.as_deref(), format) => ended,
            () = tokio::time::sleep(limit) => Ok(()),
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
}

async fn write_records(
    args: &WatchArgs,
    client: &Client,
    filter: Option<&str>,
    format: &str,
) -> anyhow::Result<()> {
    let mut out = match &args.write {
        None => Lines::Stdout,
        Some(path) => Lines::File(Rotated::open(path, args.rotate_bytes.unwrap_or(0), args.keep)?),
    };
    let mut parameters = vec![("format", format)];
    parameters.extend(filter.map(|filter| ("filter", filter)));
    let mut stream = client
        .stream(&with_query("/api/v1/flows/stream", &parameters))
        .await?;
    let mut left = args.count.unwrap_or(u64::MAX);
    if format == "json" {
        for record in active(client, filter).await? {
            if left == 0 || !out.write(record.get())? {
                return Ok(());
            }
            left -= 1;
        }
    }
    while left > 0 {
        let Some(line) = stream.line().await? else {
            anyhow::bail!("weir ended")
        };
        if !out.write(&line)? {
            return Ok(());
        }
        left -= 1;
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct Active {
    flows: Vec<Box<serde_json::value::RawValue>>,
}

/// Flows in progress, the oldest last.
async fn active(
    client: &Client,
    filter: Option<&str>,
) -> Result<Vec<Box<serde_json::value::RawValue>>, ClientError> {
    let mut parameters = vec![("state", "active"), ("sort", "start"), ("limit", "10000")];
    parameters.extend(filter.map(|filter| ("filter", filter)));
    let body: Active = client.get(&with_query("/api/v1/flows", &parameters)).await?;
    Ok(body.flows)
}
