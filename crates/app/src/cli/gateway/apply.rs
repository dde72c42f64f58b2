//! `weir apply` and `weir diff`: documents of files, against those of the running gateway.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use control::gateway::Kind;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::EXIT_USAGE;
use super::super::text::{Painter, Tone};
use super::{KINDS, printable, put, say, told};
use crate::client::{ApiArgs, Client, runtime};
use crate::config::{gateway, secrets};

/// Files of one call.
const FILES_MAX: usize = 10_000;

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// File of documents in the form of the configuration file (YAML or JSON), or a folder of them; may be
    /// given several times
    #[arg(short, long = "file", value_name = "FILE|DIR", required = true, num_args = 1..)]
    file: Vec<PathBuf>,
    /// Say what would happen and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove documents of the API that are in none of the files
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// File or folder, as for `weir apply`
    #[arg(short, long = "file", value_name = "FILE|DIR", required = true, num_args = 1..)]
    file: Vec<PathBuf>,
    /// Also what `--prune` would remove
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// `weir apply`: makes the documents of the API those of the files.
pub(crate) fn apply(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    told(run(&args.file, args.prune, args.dry_run, &args.api).map(|(code, _)| code))
}

/// `weir diff`: what `weir apply` would change; ends with 1 if something.
pub(crate) fn diff(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    told(
        run(&args.file, args.prune, true, &args.api).map(|(code, differs)| match differs {
            true => ExitCode::FAILURE,
            false => code,
        }),
    )
}

#[derive(Deserialize)]
struct Applied {
    generation: u64,
    created: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
    keys_revoked: Vec<String>,
    unchanged: Vec<String>,
}

/// Answers the exit code, and whether anything differs.
fn run(paths: &[PathBuf], prune: bool, dry_run: bool, api: &ApiArgs) -> anyhow::Result<(ExitCode, bool)> {
    let usage = Ok((ExitCode::from(EXIT_USAGE), false));
    let files = match files_of(paths) {
        Ok(files) => files,
        Err(words) => {
            say(&words);
            return usage;
        }
    };
    let mut sections: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let mut is_faulty = false;
    for file in &files {
        match gateway::read_sections(file) {
            Ok(mut read) => {
                for kind in KINDS {
                    if let Value::Array(documents) = read[kind].take() {
                        sections.entry(kind).or_default().extend(documents);
                    }
                }
            }
            Err(error) => {
                eprintln_all(&error);
                is_faulty = true;
            }
        }
    }
    if is_faulty {
        return usage;
    }
    let client = Client::new(api)?;
    let runtime = runtime()?;
    let before = runtime.block_on(documents(&client))?;
    let mut body = Map::new();
    for (kind, documents) in &sections {
        body.insert((*kind).to_owned(), documents.clone().into());
    }
    body.insert("prune".to_owned(), prune.into());
    body.insert("dry_run".to_owned(), true.into());
    // First as a plan, so that it can be shown with what it changes.
    let plan: Applied =
        runtime.block_on(client.post_document("/api/v1/apply", &Value::Object(body.clone())))?;
    put(&shown(&plan, &before, &sections))?;
    let differs = !(plan.created.is_empty() && plan.changed.is_empty() && plan.removed.is_empty());
    let counts = format!(
        "{} to create, {} to change, {} to remove, {} unchanged{}",
        plan.created.len(),
        plan.changed.len(),
        plan.removed.len(),
        plan.unchanged.len(),
        super::with_keys(&plan.keys_revoked)
    );
    if dry_run || !differs {
        say(&counts);
        return Ok((ExitCode::SUCCESS, differs));
    }
    body.insert("dry_run".to_owned(), false.into());
    let done: Applied = runtime.block_on(client.post_document("/api/v1/apply", &Value::Object(body)))?;
    say(&format!(
        "created {}, changed {}, removed {}{}; generation {} is in force",
        done.created.len(),
        done.changed.len(),
        done.removed.len(),
        super::with_keys(&done.keys_revoked),
        done.generation
    ));
    Ok((ExitCode::SUCCESS, differs))
}

fn eprintln_all(error: &dyn std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{error}");
}

/// The files, those of folders in the order of their names. Folders in folders are not looked into.
fn files_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let failed = |error: std::io::Error| format!("{}: cannot be read: {error}", path.display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            let is_document = file
                .extension()
                .is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known));
            if is_document && file.is_file() {
                found.push(file);
            }
        }
        if found.is_empty() {
            return Err(format!(
                "{}: expected files that end in .yaml, .yml or .json, found none",
                path.display()
            ));
        }
        found.sort();
        files.extend(found);
    }
    if files.len() > FILES_MAX {
        return Err(format!("{} files: expected {FILES_MAX} or less", files.len()));
    }
    Ok(files)
}

/// Bodies by `kind/name`.
async fn documents(client: &Client) -> Result<BTreeMap<String, Value>, crate::client::ClientError> {
    let mut out = BTreeMap::new();
    for kind in KINDS {
        let mut answer: Value = client.get(&format!("/api/v1/{kind}")).await?;
        for document in answer[kind].as_array_mut().into_iter().flatten() {
            let name = document["name"].as_str().unwrap_or_default().to_owned();
            out.insert(format!("{kind}/{name}"), document["body"].take());
        }
    }
    Ok(out)
}

/// A plan: `+` for what is created, `~` with its fields for what is changed, `-` for what is removed.
fn shown(plan: &Applied, before: &BTreeMap<String, Value>, sections: &BTreeMap<&str, Vec<Value>>) -> String {
    let painter = Painter::for_stdout();
    let mut out = String::new();
    let mut line = |tone, text: &str| {
        out.push_str(&painter.paint(tone, &printable(text)));
        out.push('\n');
    };
    for name in &plan.created {
        line(Tone::Good, &format!("+ {name}"));
    }
    for name in &plan.changed {
        line(Tone::Warning, &format!("~ {name}"));
        let after = new_body(name, sections);
        let (before, after) = (
            before.get(name).cloned().unwrap_or_default(),
            after.unwrap_or_default(),
        );
        let changes = field_changes(&before, &after);
        if changes.is_empty() {
            line(Tone::Plain, "    a secret");
        }
        for change in changes {
            line(Tone::Plain, &format!("    {change}"));
        }
    }
    for name in &plan.removed {
        line(Tone::Bad, &format!("- {name}"));
    }
    out
}

/// What a file says of `kind/name`, without its secrets.
fn new_body(name: &str, sections: &BTreeMap<&str, Vec<Value>>) -> Option<Value> {
    let (section, name) = name.split_once('/')?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == section)?;
    let body = sections.get(section)?.iter().find(|body| body["name"] == name)?;
    Some(secrets::hidden(kind, body))
}

/// `limits[0].requests: "10/s" -> "20/s"`, in the order of fields.
fn field_changes(before: &Value, after: &Value) -> Vec<String> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    flatten(before, String::new(), &mut old);
    flatten(after, String::new(), &mut new);
    let mut out = Vec::new();
    let fields: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for field in fields {
        match (old.get(field), new.get(field)) {
            (Some(before), Some(after)) if before != after => {
                out.push(format!("{field}: {before} -> {after}"));
            }
            (None, Some(after)) => out.push(format!("{field}: + {after}")),
            (Some(before), None) => out.push(format!("{field}: - {before}")),
            _ => {}
        }
    }
    out
}

fn flatten(value: &Value, path: String, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let below = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                flatten(value, below, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (at, value) in items.iter().enumerate() {
                flatten(value, format!("{path}[{at}]"), out);
            }
        }
        flat => {
            out.insert(path, flat.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_by_field() {
        let before = json!({"a": 1, "b": [{"c": "x"}], "d": {}, "same": true});
        let after = json!({"a": 2, "b": [{"c": "x"}, "y"], "e": "z", "same": true});
        assert_eq!(
            field_changes(&before, &after),
            ["a: 1 -> 2", "b[1]: + \"y\"", "d: - {}", "e: + \"z\""]
        );
    }

    #[test]
    fn a_plan_shows_no_secret() {
        let plan = Applied {
            generation: 1,
            created: vec!["models/m".to_owned()],
            changed: vec!["providers/p".to_owned(), "providers/q".to_owned()],
            removed: vec!["prompts/x".to_owned()],
            keys_revoked: Vec::new(),
            unchanged: Vec::new(),
        };
        let body =
            |name: &str, more: &str| json!({"name": name, "keys": [{"value": more}], "kind": "openai"});
        let before = BTreeMap::from([
            ("providers/p".to_owned(), body("p", "***")),
            ("providers/q".to_owned(), json!({"name": "q", "kind": "openai"})),
        ]);
        let sections = BTreeMap::from([("providers", vec![body("p", "sk-new"), body("q", "sk-other")])]);
        assert_eq!(
            shown(&plan, &before, &sections),
            "+ models/m\n~ providers/p\n    a secret\n~ providers/q\n    keys[0].value: + \"***\"\n- prompts/x\n"
        );
    }

    #[test]
    fn files_of_folders() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        assert!(files_of(&[folder.path().to_owned()]).is_err());
        for name in ["b.yaml", "a.json", "c.txt"] {
            std::fs::write(path(name), "{}").expect("written");
        }
        assert_eq!(
            files_of(&[folder.path().to_owned()]),
            Ok(vec![path("a.json"), path("b.yaml")])
        );
        assert_eq!(files_of(&[path("c.txt")]), Ok(vec![path("c.txt")]));
    }
}
