//! `weir get`, `weir delete`, `weir export`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Map, Value};

use super::super::text::Align;
use super::{KINDS, complete_names, put, say, segment, table, text_of, told, yaml};
use crate::client::{ApiArgs, Client, runtime};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(super) enum DocumentKind {
    Providers,
    Models,
    Consumers,
    Services,
    Prompts,
    Guardrails,
}

impl DocumentKind {
    fn as_str(self) -> &'static str {
        KINDS[self as usize]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
enum Shown {
    Providers,
    Models,
    Consumers,
    Services,
    Prompts,
    Guardrails,
    /// Kinds of providers
    Presets,
    /// Models with features and prices
    Catalogue,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns
    #[default]
    Table,
    /// One object a line
    Json,
    /// As in a configuration file
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// What to show
    #[arg(value_enum, value_name = "KIND")]
    kind: Shown,
    /// Only this one
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete_names))]
    name: Option<String>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    api: ApiArgs,
}

/// `weir get KIND [NAME]`.
pub(crate) fn get(args: &GetArgs) -> anyhow::Result<ExitCode> {
    told(show(args))
}

fn show(args: &GetArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let runtime = runtime()?;
    let (kind, rows): (&str, Vec<Value>) = match args.kind {
        Shown::Presets | Shown::Catalogue => {
            let mut answer: Value = runtime.block_on(client.get("/api/v1/catalogue"))?;
            let (kind, field) = if args.kind == Shown::Presets {
                ("presets", "kind")
            } else {
                ("catalogue", "model")
            };
            let rows = answer[if kind == "presets" { kind } else { "models" }].take();
            let mut rows: Vec<Value> = rows.as_array().cloned().unwrap_or_default();
            if let Some(name) = &args.name {
                rows.retain(|row| row[field] == *name);
                if rows.is_empty() {
                    say(&format!("{kind}: nothing is called `{name}`"));
                    return Ok(ExitCode::FAILURE);
                }
            }
            (kind, rows)
        }
        kind => {
            let kind = KINDS[kind as usize];
            let rows = match &args.name {
                Some(name) => {
                    vec![runtime.block_on(client.get(&format!("/api/v1/{kind}/{}", segment(name))))?]
                }
                None => {
                    let mut answer: Value = runtime.block_on(client.get(&format!("/api/v1/{kind}")))?;
                    answer[kind].take().as_array().cloned().unwrap_or_default()
                }
            };
            (kind, rows)
        }
    };
    put(&match args.format {
        Format::Json => rows.iter().map(|row| format!("{row}\n")).collect(),
        Format::Yaml => {
            let bodies = rows.iter().map(|row| {
                if row["body"].is_object() {
                    row["body"].clone()
                } else {
                    row.clone()
                }
            });
            yaml::text(&Value::Object(Map::from_iter([(
                kind.to_owned(),
                bodies.collect(),
            )])))
        }
        Format::Table => rows_table(kind, &rows),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn rows_table(kind: &str, rows: &[Value]) -> String {
    use Align::{Left, Right};
    match kind {
        "presets" => table(
            &[("KIND", Left), ("NAME", Left), ("ADDRESS", Left)],
            rows.iter()
                .map(|row| {
                    ["kind", "title", "base_url"]
                        .map(|field| text_of(&row[field]))
                        .into()
                })
                .collect(),
        ),
        "catalogue" => table(
            &[
                ("PROVIDER", Left),
                ("MODEL", Left),
                ("CONTEXT", Right),
                ("INPUT $/M", Right),
                ("OUTPUT $/M", Right),
                ("PRICES OF", Left),
            ],
            rows.iter()
                .map(|row| {
                    let price = |bucket: &str| text_of(&row["usd_per_million"][bucket]);
                    let taken = match &row["prices_taken"] {
                        Value::Null => "operator".to_owned(),
                        taken => text_of(taken),
                    };
                    vec![
                        text_of(&row["provider"]),
                        text_of(&row["model"]),
                        text_of(&row["context_tokens"]),
                        price("input"),
                        price("output"),
                        taken,
                    ]
                })
                .collect(),
        ),
        _ => table(
            &[("NAME", Left), ("FROM", Left), ("VERSION", Right), ("WHAT", Left)],
            rows.iter()
                .map(|row| {
                    let version = row["version"].as_u64().filter(|version| *version > 0);
                    vec![
                        text_of(&row["name"]),
                        text_of(&row["origin"]),
                        version.map(|version| version.to_string()).unwrap_or_default(),
                        summary(kind, &row["body"]),
                    ]
                })
                .collect(),
        ),
    }
}

/// The gist of a document.
fn summary(kind: &str, body: &Value) -> String {
    let list = |value: &Value, field: &str| {
        let items = value.as_array().into_iter().flatten();
        let texts = items.map(|item| text_of(if field.is_empty() { item } else { &item[field] }));
        texts.collect::<Vec<_>>().join(", ")
    };
    let count = |value: &Value| value.as_array().map_or(0, Vec::len);
    match kind {
        "providers" => {
            let address = text_of(&body["base_url"]);
            format!(
                "{} {address} with {} keys",
                text_of(&body["kind"]),
                count(&body["keys"])
            )
            .replace("  ", " ")
        }
        "models" => list(&body["targets"], "model"),
        "consumers" => {
            let team = body["team"].as_str().unwrap_or("default");
            let budget = match &body["budget"]["usd"] {
                Value::Null => "no budget".to_owned(),
                usd => format!(
                    "{usd} USD a {}",
                    body["budget"]["per"].as_str().unwrap_or("month")
                ),
            };
            format!("team {team}, {budget}")
        }
        "services" => list(&body["routes"], "path"),
        "prompts" => text_of(&body["model"]),
        _ => {
            let (words, patterns, pii) = (
                count(&body["words"]),
                count(&body["patterns"]),
                count(&body["pii"]),
            );
            format!("{words} words, {patterns} patterns, {pii} rules for personal data")
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// What
    #[arg(value_enum, value_name = "KIND")]
    kind: DocumentKind,
    /// Its name
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete_names))]
    name: String,
    /// Say what would happen and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// `weir delete KIND NAME`.
pub(crate) fn delete(args: &DeleteArgs) -> anyhow::Result<ExitCode> {
    told(remove(args))
}

fn remove(args: &DeleteArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let query = if args.dry_run { "?dry_run=true" } else { "" };
    let kind = args.kind.as_str();
    let path = format!("/api/v1/{kind}/{}{query}", segment(&args.name));
    let applied = runtime()?.block_on(client.delete(&path))?;
    let applied: Value = serde_json::from_slice(&applied).unwrap_or_default();
    let would = if args.dry_run { "would remove" } else { "removed" };
    let keys = applied["keys_revoked"].as_array().into_iter().flatten();
    let keys: Vec<String> = keys.map(text_of).collect();
    say(&format!(
        "{would} {kind}/{}{}",
        super::printable(&args.name),
        super::with_keys(&keys)
    ));
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Also what stands in the configuration file of `weir run`
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// `weir export`: the documents of the API as YAML, for `weir apply`.
pub(crate) fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    told(all(args))
}

fn all(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let runtime = runtime()?;
    let mut sections = Map::new();
    let mut has_secrets = false;
    for kind in KINDS {
        let answer: Value = runtime.block_on(client.get(&format!("/api/v1/{kind}")))?;
        let documents = answer[kind].as_array().into_iter().flatten();
        let documents = documents.filter(|document| args.all || document["origin"] == "api");
        let bodies: Vec<Value> = documents.map(|document| document["body"].clone()).collect();
        if !bodies.is_empty() {
            has_secrets |= Value::from(bodies.clone()).to_string().contains("\"***\"");
            sections.insert(kind.to_owned(), bodies.into());
        }
    }
    if !sections.is_empty() {
        put(&yaml::text(&Value::Object(sections)))?;
    }
    if has_secrets {
        say("secrets read *** : applied to this Weir they stay as they are; elsewhere, write them anew");
    }
    Ok(ExitCode::SUCCESS)
}
