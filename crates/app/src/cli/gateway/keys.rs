//! `weir key`: keys of clients.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Map, Value};

use super::super::text::Align;
use super::times::span_s;
use super::{complete_consumers, complete_keys, printable, put, say, segment, table, text_of, told};
use crate::client::{ApiArgs, Client, ClientError, runtime, with_query};

/// Keys of clients of the gateway
#[derive(Debug, Subcommand)]
pub(crate) enum KeyArgs {
    /// Make a key; it is shown once, on stdout
    Create(CreateArgs),
    /// All keys, without their texts
    List(ListArgs),
    /// A new text for a key, shown once; the old one ends now, or after --grace
    Rotate(RotateArgs),
    /// End a key at once
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Whose
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete_consumers))]
    consumer: String,
    /// What it is called in records; by default made up
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Valid for this long, as 12h or 30d; by default for ever
    #[arg(long, value_name = "TIME", value_parser = span_s)]
    expires: Option<u64>,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only of this consumer
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete_consumers))]
    consumer: Option<String>,
    /// How to show them
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// The key's name
    #[arg(value_name = "KEY", add = ArgValueCompleter::new(complete_keys))]
    key: String,
    /// The old text is valid for this much longer, as 24h
    #[arg(long, value_name = "TIME", value_parser = span_s)]
    grace: Option<u64>,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The key's name
    #[arg(value_name = "KEY", add = ArgValueCompleter::new(complete_keys))]
    key: String,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns
    #[default]
    Table,
    /// One object a line
    Json,
}

/// `weir key`.
pub(crate) fn key(args: &KeyArgs) -> anyhow::Result<ExitCode> {
    told(match args {
        KeyArgs::Create(args) => create(args),
        KeyArgs::List(args) => list(args),
        KeyArgs::Rotate(args) => rotate(args),
        KeyArgs::Revoke(args) => revoke(args),
    })
}

fn create(args: &CreateArgs) -> anyhow::Result<ExitCode> {
    let mut body = Map::from_iter([("consumer".to_owned(), args.consumer.as_str().into())]);
    if let Some(name) = &args.name {
        body.insert("name".to_owned(), name.as_str().into());
    }
    if let Some(expires_s) = args.expires {
        body.insert("expires_in_s".to_owned(), expires_s.into());
    }
    let client = Client::new(&args.api)?;
    let made: Value = runtime()?.block_on(client.post_document("/api/v1/keys", &Value::Object(body)))?;
    show_once(&made)
}

/// The key alone on stdout, so that a script can take it; the rest in words.
fn show_once(made: &Value) -> anyhow::Result<ExitCode> {
    put(&format!("{}\n", text_of(&made["key"])))?;
    let until = match &made["expires"] {
        Value::Null => String::new(),
        until => format!(", valid until {}", text_of(until)),
    };
    say(&format!(
        "made key {} of consumer {}{until}; it is not shown again",
        printable(&text_of(&made["id"])),
        printable(&text_of(&made["consumer"]))
    ));
    Ok(ExitCode::SUCCESS)
}

fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let keys = runtime()?.block_on(all(&client, args.consumer.as_deref()))?;
    put(&match args.format {
        Format::Json => keys.iter().map(|key| format!("{key}\n")).collect(),
        Format::Table => table(
            &[
                "NAME", "CONSUMER", "TEAM", "KEY", "STATE", "FROM", "CREATED", "EXPIRES",
            ]
            .map(|name| (name, Align::Left)),
            keys.iter()
                .map(|key| {
                    [
                        "id", "consumer", "team", "shown", "state", "origin", "created", "expires",
                    ]
                    .map(|field| text_of(&key[field]))
                    .into()
                })
                .collect(),
        ),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Every page.
async fn all(client: &Client, consumer: Option<&str>) -> Result<Vec<Value>, ClientError> {
    let mut keys = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let given = [("consumer", consumer), ("cursor", cursor.as_deref())];
        let given: Vec<(&str, &str)> = given
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let mut page: Value = client.get(&with_query("/api/v1/keys", &given)).await?;
        if let Value::Array(more) = page["keys"].take() {
            keys.extend(more);
        }
        match page["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return Ok(keys),
        }
    }
}

fn rotate(args: &RotateArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let path = format!("/api/v1/keys/{}/rotate", segment(&args.key));
    let body = serde_json::json!({ "grace_s": args.grace.unwrap_or(0) });
    let made: Value = runtime()?.block_on(client.post_document(&path, &body))?;
    show_once(&made)
}

fn revoke(args: &RevokeArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    runtime()?.block_on(client.delete(&format!("/api/v1/keys/{}", segment(&args.key))))?;
    say(&format!("revoked key {}", printable(&args.key)));
    Ok(ExitCode::SUCCESS)
}
