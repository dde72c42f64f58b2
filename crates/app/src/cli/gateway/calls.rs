//! `weir calls`: records of calls.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::Value;

use super::super::text::{Align, duration_ns};
use super::times::{moment_ms, now_ms};
use super::{RecordFormat, complete_consumers, csv_line, put, say, table, text_of, told};
use crate::client::{ApiArgs, Client, runtime, with_query};

/// Calls of one question to the API.
const PAGE: usize = 1_000;
/// How often `--follow` asks.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How far back `--follow` looks: records stand at the time at which their call began.
const FOLLOW_BACK_MS: i64 = 120_000;

const CSV: [&str; 21] = [
    "time",
    "request_id",
    "outcome",
    "status",
    "organisation",
    "team",
    "consumer",
    "key_id",
    "user",
    "service",
    "model_asked",
    "model",
    "provider",
    "cost_usd",
    "estimated",
    "usage.input",
    "usage.output",
    "latency_us.first_byte",
    "latency_us.total",
    "attempts",
    "cache_hit",
];

#[derive(Debug, Args)]
pub(crate) struct CallsArgs {
    /// From then on: 1h or 30d ago, or a time as 2026-11-20
    #[arg(long, value_name = "TIME", value_parser = moment_ms, default_value = "1h")]
    since: i64,
    /// Before then
    #[arg(long, value_name = "TIME", value_parser = moment_ms, conflicts_with = "follow")]
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
    /// Only those that ended so, as ok or rate_limited
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// Only with this status
    #[arg(long, value_name = "STATUS")]
    status: Option<u16>,
    /// Only those that cost this many US dollars or more
    #[arg(long, value_name = "USD")]
    cost_min: Option<String>,
    /// Most calls to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on with those that end from now on, until Ctrl-C. Calls that took more than two minutes are missed
    #[arg(short = 'F', long)]
    follow: bool,
    /// How to show them
    #[arg(short, long, value_enum, default_value_t)]
    format: RecordFormat,
    #[command(flatten)]
    api: ApiArgs,
}

/// `weir calls`.
pub(crate) fn calls(args: &CallsArgs) -> anyhow::Result<ExitCode> {
    told(if args.follow { follow(args) } else { list(args) })
}

impl CallsArgs {
    fn path(&self, since_ms: i64, limit: usize, cursor: Option<&str>) -> String {
        let (since, limit) = (since_ms.to_string(), limit.to_string());
        let (until, status) = (
            self.until.map(|ms| ms.to_string()),
            self.status.map(|n| n.to_string()),
        );
        let mut parameters = vec![("since_ms", since.as_str()), ("limit", &limit)];
        let optional = [
            ("until_ms", until.as_deref()),
            ("consumer", self.consumer.as_deref()),
            ("model", self.model.as_deref()),
            ("provider", self.provider.as_deref()),
            ("outcome", self.outcome.as_deref()),
            ("status", status.as_deref()),
            ("cost_min_usd", self.cost_min.as_deref()),
            ("cursor", cursor),
        ];
        parameters.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        with_query("/api/v1/calls", &parameters)
    }

    /// At most `limit` calls, the newest first.
    async fn ask(&self, client: &Client, since_ms: i64, limit: usize) -> anyhow::Result<Vec<Value>> {
        let mut calls = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let wanted = (limit - calls.len()).min(PAGE);
            let mut page: Value = client
                .get(&self.path(since_ms, wanted, cursor.as_deref()))
                .await?;
            if let Value::Array(more) = page["calls"].take() {
                calls.extend(more);
            }
            for day in page["unreadable_days"].as_array().into_iter().flatten() {
                say(&format!("the records of {} cannot be read", text_of(day)));
            }
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() || calls.len() >= limit {
                return Ok(calls);
            }
        }
    }
}

fn list(args: &CallsArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let calls = runtime()?.block_on(args.ask(&client, args.since, args.limit as usize))?;
    put(&match args.format {
        RecordFormat::Json => calls.iter().map(|call| format!("{call}\n")).collect(),
        RecordFormat::Csv => csv_line(CSV) + &calls.iter().map(csv).collect::<String>(),
        RecordFormat::Table => table(&HEADING, calls.iter().map(row).collect()),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn follow(args: &CallsArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    runtime()?.block_on(async {
        let mut seen: HashMap<String, i64> = HashMap::new();
        let begun_ms = now_ms();
        // One for all the time: what comes while the API is asked is not missed.
        let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        if args.format == RecordFormat::Csv && !put(&csv_line(CSV))? {
            return Ok(ExitCode::SUCCESS);
        }
        loop {
            let since_ms = begun_ms.max(now_ms() - FOLLOW_BACK_MS);
            let mut calls = args.ask(&client, since_ms, usize::MAX).await?;
            calls.reverse();
            let mut out = String::new();
            for call in calls {
                let at_ms = moment_ms(&text_of(&call["time"])).unwrap_or(since_ms);
                if seen.insert(text_of(&call["request_id"]), at_ms).is_some() {
                    continue;
                }
                match args.format {
                    RecordFormat::Json => out.push_str(&format!("{call}\n")),
                    RecordFormat::Csv => out.push_str(&csv(&call)),
                    RecordFormat::Table => {
                        out.push_str(&super::printable(&row(&call).join("  ")));
                        out.push('\n');
                    }
                }
            }
            seen.retain(|_, at_ms| *at_ms >= since_ms);
            if !out.is_empty() && !put(&out)? {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::select! {
                _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
                () = tokio::time::sleep(FOLLOW_EVERY) => {}
            }
        }
    })
}

const HEADING: [(&str, Align); 9] = [
    ("TIME", Align::Left),
    ("CONSUMER", Align::Left),
    ("MODEL", Align::Left),
    ("STATUS", Align::Right),
    ("OUTCOME", Align::Left),
    ("IN", Align::Right),
    ("OUT", Align::Right),
    ("USD", Align::Right),
    ("TOOK", Align::Right),
];

fn row(call: &Value) -> Vec<String> {
    let sum = |buckets: &[&str]| {
        let counts = buckets.iter().filter_map(|bucket| call["usage"][bucket].as_u64());
        counts.fold(0, u64::saturating_add).to_string()
    };
    // What was asked for, or the service where it was none of the models.
    let names = ["model", "model_asked", "service"].map(|field| text_of(&call[field]));
    let model = names
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_default();
    let model = match call["provider"].as_str() {
        Some(provider) => format!("{provider}/{model}"),
        None => model,
    };
    vec![
        text_of(&call["time"]),
        text_of(&call["consumer"]),
        model,
        text_of(&call["status"]),
        text_of(&call["outcome"]),
        sum(&[
            "input",
            "cache_read",
            "cache_write_5m",
            "cache_write_1h",
            "input_audio",
            "input_image",
        ]),
        sum(&["output", "reasoning", "output_audio", "output_image"]),
        text_of(&call["cost_usd"]),
        duration_ns(
            call["latency_us"]["total"]
                .as_u64()
                .unwrap_or(0)
                .saturating_mul(1000),
        ),
    ]
}

fn csv(call: &Value) -> String {
    let cells = CSV.map(|field| match field.split_once('.') {
        Some((outer, inner)) => text_of(&call[outer][inner]),
        None => text_of(&call[field]),
    });
    csv_line(cells.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_as_row_and_as_csv() {
        let call = json!({"time": "2026-11-20T00:00:00.000Z", "request_id": "ab", "outcome": "ok", "status": 200,
            "consumer": "a,b", "model": "m", "provider": "p", "cost_usd": "0.000123", "attempts": 1,
            "usage": {"input": 3, "cache_read": 4, "output": 5, "reasoning": 6}, "latency_us": {"total": 1500, "first_byte": 9}});
        assert_eq!(
            row(&call),
            [
                "2026-11-20T00:00:00.000Z",
                "a,b",
                "p/m",
                "200",
                "ok",
                "7",
                "11",
                "0.000123",
                "1.5 ms"
            ]
        );
        assert_eq!(
            csv(&call),
            "2026-11-20T00:00:00.000Z,ab,ok,200,,,\"a,b\",,,,,m,p,0.000123,,3,5,9,1500,1,\n"
        );
    }
}
