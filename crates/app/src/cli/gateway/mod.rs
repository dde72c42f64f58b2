//! What manages the gateway of a running Weir: documents, keys, calls, cost. Speaks only the admin API.

mod apply;
mod calls;
mod cost;
mod documents;
mod keys;
mod reconcile;
mod state;
mod times;
mod yaml;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;
use clap_complete::engine::CompletionCandidate;
use serde_json::Value;

use super::EXIT_USAGE;
use super::text::{Align, Cell, Painter, Tone, columns};
use crate::client::{ApiArgs, Client, ClientError, runtime};

pub(crate) use apply::{ApplyArgs, DiffArgs, apply, diff};
pub(crate) use calls::{CallsArgs, calls};
pub(crate) use cost::{CostArgs, cost};
pub(crate) use documents::{DeleteArgs, ExportArgs, GetArgs, delete, export, get};
pub(crate) use keys::{KeyArgs, key};
pub(crate) use state::{GatewayArgs, state};

/// The kinds of documents.
const KINDS: [&str; 6] = [
    "providers",
    "models",
    "consumers",
    "services",
    "prompts",
    "guardrails",
];

/// How records are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum RecordFormat {
    /// Aligned columns
    #[default]
    Table,
    /// One object a line
    Json,
    /// Comma separated, with a header
    Csv,
}

/// Prints why the API refused, everything at once; other errors go on.
fn told(result: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let error = match result {
        Ok(code) => return Ok(code),
        Err(error) => error,
    };
    let Some(api) = error.downcast_ref::<ClientError>() else {
        return Err(error);
    };
    let mut err = io::stderr().lock();
    match api {
        ClientError::Api { faults, .. } if !faults.is_empty() => {
            for fault in faults {
                let colon = if fault.field.is_empty() { "" } else { ": " };
                let _ = writeln!(
                    err,
                    "weir: {}{colon}{}",
                    printable(&fault.field),
                    printable(&fault.message)
                );
            }
        }
        _ => {
            let _ = writeln!(err, "weir: {error:#}");
        }
    }
    Ok(if api.is_usage() {
        ExitCode::from(EXIT_USAGE)
    } else {
        ExitCode::FAILURE
    })
}

/// Writes data to stdout; a reader that has seen enough, as `head`, is no error. `false`: it has.
fn put(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("cannot write to stdout"),
    }
}

/// Words for the reader, on stderr.
fn say(words: &str) {
    // When nobody can read it, nothing is lost.
    let _ = writeln!(io::stderr(), "weir: {words}");
}

/// A name as it may be printed on a terminal: whoever gave it need not mean well.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// A table with a heading.
fn table(heading: &[(&str, Align)], rows: Vec<Vec<String>>) -> String {
    let aligns: Vec<Align> = heading.iter().map(|(_, align)| *align).collect();
    let heading = heading
        .iter()
        .map(|(name, _)| Cell((*name).to_owned(), Tone::Heading));
    let mut cells = vec![heading.collect::<Vec<_>>()];
    cells.extend(rows.into_iter().map(|row| {
        row.into_iter()
            .map(|text| Cell::plain(printable(&text)))
            .collect()
    }));
    columns(Painter::for_stdout(), &aligns, &cells)
}

/// One line of CSV (RFC 4180).
fn csv_line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let cells = cells.into_iter().map(|cell| {
        if cell.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.to_owned()
        }
    });
    cells.collect::<Vec<_>>().join(",") + "\n"
}

/// A field as text: texts without quotes, nothing for null.
fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A segment of a path, percent-encoded but for `/`, which names of models may have.
fn segment(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Names of documents and kinds of a running Weir, for a shell; nothing if there is none.
/// Words on keys that end with their consumer.
fn with_keys(ids: &[String]) -> String {
    match ids {
        [] => String::new(),
        ids => format!(", with its keys {}", printable(&ids.join(", "))),
    }
}

fn complete_names(word: &OsStr) -> Vec<CompletionCandidate> {
    offers(word, &KINDS)
}

fn complete_consumers(word: &OsStr) -> Vec<CompletionCandidate> {
    offers(word, &["consumers"])
}

fn complete_keys(word: &OsStr) -> Vec<CompletionCandidate> {
    let ask =
        |client: &Client| -> Option<Value> { runtime().ok()?.block_on(client.get("/api/v1/keys")).ok() };
    let keys = Client::new(&ApiArgs::default())
        .ok()
        .and_then(|client| ask(&client));
    let keys = keys.unwrap_or_default();
    let ids = keys["keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|key| key["id"].as_str());
    beginning(word, ids)
}

fn offers(word: &OsStr, kinds: &[&str]) -> Vec<CompletionCandidate> {
    let (Ok(client), Ok(runtime)) = (Client::new(&ApiArgs::default()), runtime()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for kind in kinds {
        let answer: Result<Value, _> = runtime.block_on(client.get(&format!("/api/v1/{kind}")));
        let Ok(answer) = answer else { break };
        let documents = answer[*kind].as_array().into_iter().flatten();
        found.extend(beginning(
            word,
            documents.filter_map(|document| document["name"].as_str()),
        ));
    }
    found
}

fn beginning<'a>(word: &OsStr, names: impl Iterator<Item = &'a str>) -> Vec<CompletionCandidate> {
    let word = word.to_str().unwrap_or_default();
    names
        .filter(|name| name.starts_with(word))
        .map(CompletionCandidate::new)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_csv() {
        assert_eq!(csv_line(["a", "b,c", "d\"e", ""]), "a,\"b,c\",\"d\"\"e\",\n");
    }

    #[test]
    fn segments_of_paths() {
        assert_eq!(segment("meta/llama 3?"), "meta/llama%203%3F");
    }
}
