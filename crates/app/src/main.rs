//! The `weir` command.

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod bench;
mod cli;
mod client;
mod config;
mod flow_json;
mod geo;
mod input;
mod lab;
mod packet_socket;
mod run;
mod signatures;
mod tui;

#[derive(Debug, Parser)]
#[command(name = "weir", version, about = "Inspect and control what flows into a host")]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Observe interfaces and answer questions about them
    Run(run::RunArgs),
    /// Make a running weir take its program and configuration anew, without losing a connection
    Restart(run::RestartArgs),
    /// Remove what an earlier run left in the kernel
    Detach(run::DetachArgs),
    /// What flows now, on a terminal or as records
    Watch(cli::watch::WatchArgs),
    /// Flows of a running weir
    Flows(cli::flows::FlowsArgs),
    /// What a running weir observes, and what it lost
    Status(cli::flows::StatusArgs),
    /// Tokens for the admin API
    #[command(subcommand)]
    Token(cli::flows::TokenArgs),
    /// Documents of the gateway: providers, models, consumers, services, prompts, guardrails
    Get(cli::gateway::GetArgs),
    /// Make the gateway's documents those of files; shows what changes
    Apply(cli::gateway::ApplyArgs),
    /// What `weir apply` would change; ends with 1 if something
    Diff(cli::gateway::DiffArgs),
    /// Remove a document of the gateway
    Delete(cli::gateway::DeleteArgs),
    /// The gateway's documents as YAML, without their secrets
    Export(cli::gateway::ExportArgs),
    /// Keys of clients of the gateway
    #[command(subcommand)]
    Key(cli::gateway::KeyArgs),
    /// Records of calls through the gateway
    Calls(cli::gateway::CallsArgs),
    /// What the gateway's calls cost
    Cost(cli::gateway::CostArgs),
    /// What the gateway has in force, and how providers and budgets are
    Gateway(cli::gateway::GatewayArgs),
    /// What is in capture files, by flow
    Read(cli::read::ReadArgs),
    /// Every BPF program of the host: where it is attached, what it costs
    #[command(subcommand)]
    Programs(cli::programs::ProgramsArgs),
    /// Packets of an interface into a pcapng file
    Capture(cli::capture::CaptureArgs),
    /// What this kernel and host allow, and why not
    Doctor(cli::doctor::DoctorArgs),
    /// The configuration file: an example, a check, its schema
    #[command(subcommand)]
    Config(cli::config::ConfigArgs),
    /// A private network of namespaces with real traffic
    #[command(subcommand)]
    Lab(lab::LabArgs),
    /// Speed of the kernel programs, of reading and of the gateway on this machine, beside other programs
    #[command(subcommand)]
    Bench(bench::BenchArgs),
    /// Every field of the filter language
    Filter,
    /// A completion script for your shell
    Completions(cli::help::CompletionsArgs),
    /// Manual pages
    Man(cli::help::ManArgs),
}

fn main() -> ExitCode {
    // Answers a shell that completes a command line, and ends; else does nothing.
    clap_complete::CompleteEnv::with_factory(Arguments::command).complete();
    let result = match Arguments::parse().command {
        Action::Run(args) => run::run(&args),
        Action::Restart(args) => run::restart(&args),
        Action::Detach(args) => run::detach(&args),
        Action::Watch(args) => cli::watch::run(&args),
        Action::Flows(args) => cli::flows::flows(&args),
        Action::Status(args) => cli::flows::status(&args),
        Action::Token(args) => cli::flows::token(&args),
        Action::Get(args) => cli::gateway::get(&args),
        Action::Apply(args) => cli::gateway::apply(&args),
        Action::Diff(args) => cli::gateway::diff(&args),
        Action::Delete(args) => cli::gateway::delete(&args),
        Action::Export(args) => cli::gateway::export(&args),
        Action::Key(args) => cli::gateway::key(&args),
        Action::Calls(args) => cli::gateway::calls(&args),
        Action::Cost(args) => cli::gateway::cost(&args),
        Action::Gateway(args) => cli::gateway::state(&args),
        Action::Filter => cli::help::filter_fields(),
        Action::Completions(args) => cli::help::completions(&args),
        Action::Man(args) => cli::help::man(&args, Arguments::command()),
        Action::Read(args) => cli::read::run(&args),
        Action::Programs(args) => cli::programs::run(&args),
        Action::Capture(args) => cli::capture::run(args),
        Action::Doctor(args) => cli::doctor::run(&args),
        Action::Config(args) => cli::config::run(&args),
        Action::Lab(args) => lab::run(args),
        Action::Bench(args) => bench::run(&args),
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "weir: {error:#}");
        ExitCode::FAILURE
    })
}
