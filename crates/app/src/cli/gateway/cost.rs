//! `weir cost`: what the money went into.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use serde_json::Value;

use super::super::text::Align::{Left, Right};
use super::reconcile::{ReconcileArgs, reconcile};
use super::times::moment_ms;
use super::{RecordFormat, complete_consumers, csv_line, put, say, table, text_of, told};
use crate::client::{ApiArgs, Client, runtime, with_query};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CostArgs {
    #[command(subcommand)]
    command: Option<CostCommand>,
    #[command(flatten)]
    sums: SumArgs,
}

#[derive(Debug, Subcommand)]
enum CostCommand {
    /// Compare a provider's usage export with our records; ends with 1 if they differ
    Reconcile(ReconcileArgs),
}

#[derive(Debug, Args)]
struct SumArgs {
    /// From then on: 1h or 30d ago, or a time as 2026-11-01
    #[arg(long, value_name = "TIME", value_parser = moment_ms, default_value = "30d")]
    since: i64,
    /// Before then
    #[arg(long, value_name = "TIME", value_parser = moment_ms)]
    until: Option<i64>,
    /// Only of this consumer
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete_consumers))]
    consumer: Option<String>,
    /// Only answered by this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only answered by this provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// One row for each
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    format: RecordFormat,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum By {
    #[default]
    Model,
    Consumer,
    Team,
    Provider,
    Hour,
    Day,
}

/// `weir cost`.
pub(crate) fn cost(args: &CostArgs) -> anyhow::Result<ExitCode> {
    told(match &args.command {
        Some(CostCommand::Reconcile(args)) => reconcile(args),
        None => sums(&args.sums),
    })
}

/// Sums of the API, for the time from `since_ms` to before `until_ms`, of what `only` names.
pub(super) async fn ask(
    client: &Client,
    since_ms: i64,
    until_ms: Option<i64>,
    by: &str,
    only: &[(&str, Option<&str>)],
) -> Result<Value, crate::client::ClientError> {
    let (since, until) = (since_ms.to_string(), until_ms.map(|ms| ms.to_string()));
    let mut parameters = vec![("since_ms", since.as_str()), ("by", by)];
    if let Some(until) = &until {
        parameters.push(("until_ms", until));
    }
    parameters.extend(only.iter().filter_map(|(name, value)| Some((*name, (*value)?))));
    let sums: Value = client.get(&with_query("/api/v1/cost", &parameters)).await?;
    if sums["is_cut"] == true {
        say("there are more rows than are shown: choose a shorter time");
    }
    if let Some(day) = sums["missing_before"].as_str() {
        say(&format!(
            "summing took too long: what was before {day} is missing"
        ));
    }
    for day in sums["unreadable_days"].as_array().into_iter().flatten() {
        say(&format!(
            "the records of {} cannot be read, and are missing",
            text_of(day)
        ));
    }
    Ok(sums)
}

const CSV: [&str; 18] = [
    "of",
    "calls",
    "failed",
    "cache_hits",
    "cost_usd",
    "estimated_usd",
    "assumed_usd",
    "tokens.input",
    "tokens.cache_read",
    "tokens.cache_write_5m",
    "tokens.cache_write_1h",
    "tokens.input_audio",
    "tokens.input_image",
    "tokens.output",
    "tokens.reasoning",
    "tokens.output_audio",
    "tokens.output_image",
    "bytes_out",
];

fn sums(args: &SumArgs) -> anyhow::Result<ExitCode> {
    let by = args
        .by
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned());
    let client = Client::new(&args.api)?;
    let only = [
        ("consumer", args.consumer.as_deref()),
        ("model", args.model.as_deref()),
        ("provider", args.provider.as_deref()),
    ];
    let sums = runtime()?.block_on(ask(&client, args.since, args.until, &by, &only))?;
    let rows: Vec<&Value> = sums["rows"].as_array().into_iter().flatten().collect();
    put(&match args.format {
        RecordFormat::Json => rows.iter().map(|row| format!("{row}\n")).collect(),
        RecordFormat::Csv => {
            let lines = rows.iter().map(|row| {
                let cells = CSV.map(|field| match field.split_once('.') {
                    Some((outer, inner)) => text_of(&row[outer][inner]),
                    None => text_of(&row[field]),
                });
                csv_line(cells.iter().map(String::as_str))
            });
            csv_line(CSV) + &lines.collect::<String>()
        }
        RecordFormat::Table => as_table(&by, &sums),
    })?;
    if let Some(usd) = sums["unattributed_usd"].as_str().filter(|usd| *usd != "0") {
        say(&format!(
            "besides, up to {usd} USD were taken in advance by runs that ended without saying what for"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Tokens of a sum, of prompts or of answers.
pub(super) fn tokens(row: &Value, is_input: bool) -> u64 {
    let buckets: &[&str] = if is_input {
        &[
            "input",
            "cache_read",
            "cache_write_5m",
            "cache_write_1h",
            "input_audio",
            "input_image",
        ]
    } else {
        &["output", "reasoning", "output_audio", "output_image"]
    };
    let counts = buckets.iter().filter_map(|bucket| row["tokens"][bucket].as_u64());
    counts.fold(0, u64::saturating_add)
}

fn as_table(by: &str, sums: &Value) -> String {
    let by = by.to_uppercase();
    let cells = |row: &Value, of: String| {
        vec![
            of,
            text_of(&row["calls"]),
            text_of(&row["failed"]),
            tokens(row, true).to_string(),
            tokens(row, false).to_string(),
            text_of(&row["cost_usd"]),
            text_of(&row["estimated_usd"]),
        ]
    };
    let rows = sums["rows"].as_array().into_iter().flatten();
    let mut rows: Vec<Vec<String>> = rows
        .map(|row| {
            let of = text_of(&row["of"]);
            cells(row, if of.is_empty() { "(none)".to_owned() } else { of })
        })
        .collect();
    rows.push(cells(&sums["total"], "total".to_owned()));
    let heading = [
        (by.as_str(), Left),
        ("CALLS", Right),
        ("FAILED", Right),
        ("TOKENS IN", Right),
        ("TOKENS OUT", Right),
        ("USD", Right),
        ("ESTIMATED", Right),
    ];
    table(&heading, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sums_as_a_table() {
        let row = |of: &str, usd: &str| {
            json!({"of": of, "calls": 2, "failed": 1, "cost_usd": usd, "estimated_usd": "0",
            "tokens": {"input": 1, "cache_read": 2, "output": 4}})
        };
        let sums = json!({"rows": [row("m", "0.1"), row("", "0.2")], "total": row("", "0.3")});
        assert_eq!(
            as_table("model", &sums),
            "MODEL   CALLS  FAILED  TOKENS IN  TOKENS OUT  USD  ESTIMATED\n\
             m           2       1          3           4  0.1          0\n\
             (none)      2       1          3           4  0.2          0\n\
             total       2       1          3           4  0.3          0\n"
        );
    }
}
