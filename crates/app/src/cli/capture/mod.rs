//! `weir capture --iface IF -w OUT.pcapng [FILTER]`: packets of interfaces into a pcapng file.
//!
//! [`plan`] checks what was asked for, [`session`] takes packets off the sockets until told to stop,
//! [`matching`] decides which to keep, [`annotate`] says what is known of them, [`output`] writes.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::EXIT_USAGE;
use crate::cli::help::complete_filter;
use crate::packet_socket::Directions;

mod annotate;
mod matching;
mod output;
mod plan;
mod session;
mod signals;

/// Longest packet that capture files hold, and so the largest snap length that means something.
const SNAPLEN_MAX: u32 = inspect::capfile::PACKET_LEN_MAX as u32;
/// Most memory for packets that wait, all interfaces together.
const RING_MIB_MAX: u32 = 4096;

#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    /// Interface to capture from; repeat it for several, `any` is all that are up now
    #[arg(short, long = "iface", value_name = "IF", required = true)]
    iface: Vec<String>,
    /// pcapng file to write, gzipped if its name ends in .gz; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    write: PathBuf,
    /// Only packets for which this holds, as: proto == udp and port == 53
    #[arg(value_name = "FILTER", add = ArgValueCompleter::new(complete_filter))]
    filter: Vec<String>,
    /// Which way the packets go
    #[arg(short = 'Q', long, value_enum, default_value_t)]
    direction: Directions,
    /// Bytes to keep of each packet
    #[arg(short, long, value_name = "BYTES", default_value_t = SNAPLEN_MAX, value_parser = clap::value_parser!(u32).range(1..=i64::from(SNAPLEN_MAX)))]
    snaplen: u32,
    /// Stop after so many packets
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after so many seconds
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// Stop before the file (before compression) is longer, as 500MB or 2GiB
    #[arg(long, value_name = "SIZE", value_parser = plan::parse_size)]
    max_bytes: Option<u64>,
    /// Memory for packets that wait to be written, all interfaces together
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=i64::from(RING_MIB_MAX)))]
    ring_mib: u32,
    /// Also take frames that are addressed to others
    #[arg(short, long)]
    promiscuous: bool,
    /// Put this text into the file
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    comment: String,
    /// Put a comment to each packet of which Weir knows something: openings, retransmissions, faults
    #[arg(long)]
    annotate: bool,
}

/// Does what `weir capture …` asks for.
pub(crate) fn run(args: CaptureArgs) -> Result<ExitCode> {
    let plan = match plan::Plan::check(args) {
        Ok(plan) => plan,
        Err(sentence) => {
            say(&format!("weir: {sentence}"));
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    session::capture(&plan)
}

/// A sentence for the reader, on standard error.
fn say(text: &str) {
    // When nobody can read it, nothing is lost.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
