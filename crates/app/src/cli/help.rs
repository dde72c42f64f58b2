//! What helps a shell and a reader: the filter fields, completions, man pages.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::engine::CompletionCandidate;
use policy::filter::{complete, fields};

use super::text::{Align, Cell, Painter, Tone, columns};

/// `weir filter`: every field of the filter language.
pub(crate) fn filter_fields() -> anyhow::Result<ExitCode> {
    let heading = |name: &str| Cell(name.to_owned(), Tone::Heading);
    let mut rows = vec![vec![
        heading("FIELD"),
        heading("TAKES"),
        heading("WHAT IT IS"),
        heading("EXAMPLE"),
    ]];
    for field in fields() {
        rows.push(vec![
            Cell::plain(field.names().collect::<Vec<_>>().join(", ")),
            Cell::plain(field.takes()),
            Cell::plain(field.doc),
            Cell::plain(field.example),
        ]);
    }
    let table = columns(Painter::for_stdout(), &[Align::Left; 4], &rows);
    match io::stdout().lock().write_all(table.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("cannot write to stdout")?,
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to write for
    #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh"])]
    shell: String,
}

/// `weir completions SHELL`: a script to source. It asks `weir` itself at each tab, so that filters
/// are completed as well: that is what this program does when `COMPLETE` is set.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let status = std::process::Command::new(own)
        .env("COMPLETE", &args.shell)
        .status()
        .context("cannot start this program again")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Completions of one word of a filter.
pub(crate) fn complete_filter(word: &OsStr) -> Vec<CompletionCandidate> {
    let Some(word) = word.to_str() else {
        return Vec::new();
    };
    complete(word)
        .into_iter()
        .filter_map(|offer| {
            let kept = word.get(..offer.start)?;
            Some(CompletionCandidate::new(format!("{kept}{}", offer.text)).help(Some(offer.doc.into())))
        })
        .collect()
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder to write the pages to
    folder: PathBuf,
}

/// `weir man FOLDER`: a page for each command.
pub(crate) fn man(args: &ManArgs, command: Command) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.folder)
        .with_context(|| format!("cannot make {}", args.folder.display()))?;
    clap_mangen::generate_to(command, &args.folder)
        .with_context(|| format!("cannot write to {}", args.folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
