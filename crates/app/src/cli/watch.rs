//! `weir watch`: what flows now, on a terminal or as records.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use policy::filter::Filter;

use crate::cli::EXIT_USAGE;
use crate::cli::help::complete_filter;
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
    match args.format {
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
    let mut parameters = vec![("format", format)];
    parameters.extend(filter.map(|filter| ("filter", filter)));
    let mut stream = client
        .stream(&with_query("/api/v1/flows/stream", &parameters))
        .await?;
    let mut left = args.count.unwrap_or(u64::MAX);
    if format == "json" {
        for record in active(client, filter).await? {
            if left == 0 || !write_line(record.get()) {
                return Ok(());
            }
            left -= 1;
        }
    }
    while left > 0 {
        let Some(line) = stream.line().await? else {
            anyhow::bail!("weir ended")
        };
        if !write_line(&line) {
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

/// `false` when nobody reads any more.
fn write_line(line: &str) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}
