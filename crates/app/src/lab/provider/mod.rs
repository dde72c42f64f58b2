//! `weir lab provider`: stands in for model providers, in tests, benches and demonstrations.
//!
//! One server answers every provider's wire on its own path ([`route`]). A request is read strictly
//! ([`fields`], [`wire`]) into what it means ([`ask`]), answered from the seed and the conversation
//! ([`answer`]), counted by a stated rule ([`tokens`]), and written down ([`journal`]). Trouble comes by
//! the model's name or for all calls ([`fault`]).
//!
//! It shares no type with crate `llm`, which it is there to check.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;

use body::Chunking;
use fast::Fast;
use journal::Journal;
use keys::{Key, Rate};
use replay::Replay;
use serve::Server;
use sigv4::Credentials;

use super::Format;

mod answer;
mod ask;
mod body;
mod cache;
mod control;
mod errors;
mod event_stream;
mod fast;
mod fault;
mod fields;
mod journal;
mod keys;
mod replay;
mod rest;
mod route;
mod schema;
mod serve;
mod sigv4;
mod tokens;
mod websocket;
mod wire;

const KEY_DEFAULT: &str = "sk-sim";
const AWS_KEY_DEFAULT: (&str, &str) = ("AKIDSIM", "secret");

#[derive(Debug, Args)]
pub(crate) struct ProviderArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9100")]
    listen: SocketAddr,
    /// A key that is let in, or KEY=STATUS for one that always gets that status [default: sk-sim]
    #[arg(long, value_name = "KEY[=STATUS]")]
    key: Vec<Key>,
    /// An access key that Bedrock's signatures are checked with [default: AKIDSIM:secret]
    #[arg(long, value_name = "ID:SECRET")]
    aws_key: Vec<Credentials>,
    /// The same seed gives the same answers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests a minute of each key; more get a 429
    #[arg(long, value_name = "N")]
    rpm: Option<u64>,
    /// Where answers are cut into writes
    #[arg(long, value_enum, default_value_t)]
    chunking: Chunking,
    /// Prebuilt answers to plain calls, at the least cost; nothing is written down
    #[arg(long, conflicts_with_all = ["rpm", "replay"])]
    fast: bool,
    /// Keep the journal also with --fast, which then costs more
    #[arg(long, requires = "fast")]
    journal: bool,
    /// Answer with recorded interactions, from JSON files under a folder
    #[arg(long, value_name = "DIR")]
    replay: Option<PathBuf>,
    /// Threads that serve
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// How the address is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Serves until ended.
pub(crate) fn run(args: ProviderArgs) -> Result<ExitCode> {
    let runtime = match args.threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        threads => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(usize::from(threads))
            .enable_all()
            .build(),
    };
    runtime.context("cannot start the runtime")?.block_on(serve(args))
}

async fn serve(args: ProviderArgs) -> Result<ExitCode> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr().context("cannot tell the address")?;
    let keys = if args.key.is_empty() {
        vec![Key {
            text: KEY_DEFAULT.to_owned(),
            status: None,
        }]
    } else {
        args.key
    };
    let credentials = if args.aws_key.is_empty() {
        vec![Credentials {
            id: AWS_KEY_DEFAULT.0.to_owned(),
            secret: AWS_KEY_DEFAULT.1.to_owned(),
        }]
    } else {
        args.aws_key
    };
    let replay = args.replay.as_deref().map(Replay::load).transpose()?;
    if let Some(replay) = &replay {
        super::say(&format!("{} recorded interactions", replay.len()));
    }
    // With a journal every call has to go the ordinary way.
    let fast = (args.fast && !args.journal).then(|| Fast::new(&keys));
    let server = Arc::new(Server {
        seed: args.seed,
        chunking: args.chunking,
        keys,
        credentials,
        rate: args.rpm.map(Rate::new),
        journal: Arc::new(Journal::new(args.fast && !args.journal)),
        fault: std::sync::Mutex::default(),
        is_faulty: AtomicBool::new(false),
        fast,
        replay,
        cache: cache::PromptCache::default(),
        flips: AtomicU64::new(0),
        connections: AtomicU64::new(0),
    });
    let ready = match args.format {
        Format::Table => format!("listening on {address}\n"),
        Format::Json => format!("{}\n", json!({"listening": address})),
    };
    let mut output = std::io::stdout();
    output
        .write_all(ready.as_bytes())
        .and_then(|()| output.flush())
        .context("cannot write to standard output")?;
    serve::accept(listener, server).await;
    Ok(ExitCode::SUCCESS)
}
