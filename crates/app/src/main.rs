//! The `weir` command.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[cfg_attr(not(test), expect(dead_code, reason = "used by cli::read, landing next"))]
mod input;
mod lab;

#[derive(Debug, Parser)]
#[command(version, about = "Inspect and control what flows into a host")]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// A private network of namespaces with real traffic
    #[command(subcommand)]
    Lab(lab::LabArgs),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Action::Lab(args) => lab::run(args),
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "weir: {error:#}");
        ExitCode::FAILURE
    })
}
