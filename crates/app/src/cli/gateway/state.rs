//! `weir gateway`: what is in force, and how providers and budgets are.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::super::text::Align::{Left, Right};
use super::{printable, put, table, text_of, told};
use crate::client::{ApiArgs, Client, runtime};

#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

/// `weir gateway`; ends with 1 if what is configured is not in force.
pub(crate) fn state(args: &GatewayArgs) -> anyhow::Result<ExitCode> {
    told(show(args))
}

fn show(args: &GatewayArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let status: Value = runtime()?.block_on(client.get("/api/v1/gateway"))?;
    put(&match args.format {
        Format::Json => format!("{status}\n"),
        Format::Text => text(&status),
    })?;
    let has_faults = status["faults"]
        .as_array()
        .is_some_and(|faults| !faults.is_empty());
    Ok(if has_faults {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(status: &Value) -> String {
    let mut out = format!(
        "generation {} is in force, with {} keys of clients\n",
        text_of(&status["generation"]),
        text_of(&status["keys"])
    );
    for fault in rows(&status["faults"]) {
        let words = format!(
            "fault: {}: {}\n",
            text_of(&fault["field"]),
            text_of(&fault["message"])
        );
        out.push_str(&printable(words.trim_end()));
        out.push('\n');
    }
    let documents = status["documents"].as_object().into_iter().flatten();
    let documents =
        documents.map(|(kind, counts)| vec![kind.clone(), text_of(&counts["file"]), text_of(&counts["api"])]);
    let file = text_of(&status["file"]);
    out.push('\n');
    out.push_str(&table(
        &[
            ("DOCUMENTS", Left),
            (&format!("OF {file}"), Right),
            ("OF THE API", Right),
        ],
        documents.collect(),
    ));
    let providers = rows(&status["providers"]).map(|provider| {
        let keys =
            rows(&provider["keys"]).map(|key| format!("{} {}", text_of(&key["id"]), text_of(&key["state"])));
        let first_byte = provider["first_byte_us"].as_u64();
        vec![
            text_of(&provider["name"]),
            if provider["is_open"] == true {
                "passed over"
            } else {
                "in use"
            }
            .to_owned(),
            first_byte
                .map(|us| super::super::text::duration_ns(us * 1000))
                .unwrap_or_default(),
            keys.collect::<Vec<_>>().join(", "),
        ]
    });
    let providers: Vec<Vec<String>> = providers.collect();
    if !providers.is_empty() {
        out.push('\n');
        out.push_str(&table(
            &[
                ("PROVIDER", Left),
                ("STATE", Left),
                ("FIRST BYTE", Right),
                ("KEYS", Left),
            ],
            providers,
        ));
    }
    let budgets = rows(&status["budgets"]).map(|budget| {
        let hard = if budget["hard"] == true { "hard" } else { "soft" };
        vec![
            text_of(&budget["of"]),
            text_of(&budget["per"]),
            hard.to_owned(),
            text_of(&budget["limit_usd"]),
            text_of(&budget["remaining_usd"]),
        ]
    });
    let budgets: Vec<Vec<String>> = budgets.collect();
    if !budgets.is_empty() {
        out.push('\n');
        let heading = [
            ("BUDGET", Left),
            ("PER", Left),
            ("KIND", Left),
            ("USD", Right),
            ("LEFT", Right),
        ];
        out.push_str(&table(&heading, budgets));
    }
    let outcomes = status["calls"]["outcomes"].as_object().into_iter().flatten();
    let outcomes: Vec<String> = outcomes.map(|(name, count)| format!("{name} {count}")).collect();
    out.push_str(&format!(
        "\ncalls since the start: {}\n",
        if outcomes.is_empty() {
            "none".to_owned()
        } else {
            outcomes.join(", ")
        }
    ));
    let lost = status["calls"]["lost"].as_object().into_iter().flatten();
    let lost: Vec<String> = lost
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(of, count)| format!("{of} {count}"))
        .collect();
    if !lost.is_empty() {
        out.push_str(&format!("records lost: {}\n", lost.join(", ")));
    }
    if status["ledger"]["is_available"] == false {
        out.push_str(&format!(
            "the ledger does not answer: {}\n",
            printable(&text_of(&status["ledger"]["last_error"]))
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn state_in_words() {
        let status = json!({"generation": 3, "keys": 2, "file": "weir.yaml",
            "documents": {"providers": {"file": 1, "api": 0}},
            "faults": [{"field": "models/m", "message": "no\nprovider"}],
            "providers": [{"name": "p", "is_open": true, "first_byte_us": 1500, "keys": [{"id": "p#0", "state": "limited"}]}],
            "budgets": [{"of": "consumer/shop", "per": "month", "hard": true, "limit_usd": "100", "remaining_usd": "99.5"}],
            "calls": {"outcomes": {"ok": 5}, "lost": {"queue": 1, "lines": 0}},
            "ledger": {"is_available": false, "last_error": "full"}});
        assert_eq!(
            text(&status),
            "generation 3 is in force, with 2 keys of clients\n\
             fault: models/m: no?provider\n\n\
             DOCUMENTS  OF weir.yaml  OF THE API\n\
             providers             1           0\n\n\
             PROVIDER  STATE        FIRST BYTE  KEYS\n\
             p         passed over      1.5 ms  p#0 limited\n\n\
             BUDGET         PER    KIND  USD  LEFT\n\
             consumer/shop  month  hard  100  99.5\n\n\
             calls since the start: ok 5\n\
             records lost: queue 1\n\
             the ledger does not answer: full\n"
        );
    }
}
