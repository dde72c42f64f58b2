//! `weir bench kernel`: nanoseconds a packet costs in the kernel programs.
//!
//! Programs run on given frames without any device (BPF_PROG_TEST_RUN). Every case runs once in
//! every round, so that a noisy minute hits all of them; the kernel gives whole nanoseconds.

mod cases;
mod frames;
mod report;
mod xdp_filter;

use std::io::Write as _;
use std::process::ExitCode;

use agent::sys;
use anyhow::{Context as _, bail};
use clap::Args;

use super::Format;
use super::statistics::Spread;
use crate::cli::text::Painter;
use cases::Setup;

#[derive(Debug, Args)]
pub(crate) struct KernelArgs {
    /// Runs of a program in a round
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Rounds, each of all cases
    #[arg(long, value_name = "N", default_value_t = 31, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(args: &KernelArgs) -> anyhow::Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("loading kernel programs needs root: run `sudo weir bench kernel`");
    }
    let setup = Setup::load()?;
    let cases = setup.cases()?;
    let mut samples = vec![Vec::new(); cases.len()];
    // One round more: the first fills caches and flow rows and is not counted.
    for round in 0..=args.rounds {
        for (case, samples) in cases.iter().zip(&mut samples) {
            case.prepare()?;
            let frame = case.frame.bytes();
            let ran = sys::test_run(case.program, frame, case.repeat.min(args.repeat))
                .with_context(|| format!("cannot run case `{}`", case.name))?;
            if ran.action != case.expected_action {
                let (expected, found) = (case.expected_action, ran.action);
                bail!(
                    "case `{}` returned {found}, expected {expected}: the figures would mean something else",
                    case.name
                );
            }
            if round > 0 {
                samples.push(f64::from(ran.duration_ns));
            }
        }
    }
    let spreads = samples.into_iter().map(Spread::of).collect::<Option<Vec<_>>>();
    let spreads = spreads.context("no round was run")?;
    let report = report::Report::of(&cases, &spreads, &setup, args);
    let text = match args.format {
        Format::Table => report.table(Painter::for_stdout()),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if report.is_within_bars() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
