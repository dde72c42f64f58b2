//! The kernel's parse of every Ethernet packet of the shared captures is the host's, to the byte.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use agent::sys::{self, Plain};
use agent::trial::Trial;
use wire::{Link, Packet, Start, parse};

/// What `bench_parse_probe` leaves: 1, or 2 and the reject's number above it; then the packet.
#[repr(C)]
#[derive(Clone, Copy)]
struct Parsed {
    outcome: u64,
    packet: Packet,
}

// SAFETY: repr(C), integers only.
unsafe impl Plain for Parsed {}

/// Shortest frame that a test run takes (ETH_HLEN).
const FRAME_LEN_MIN: usize = 14;

#[derive(Default)]
struct Tally {
    compared: u64,
    rejected: u64,
    other_link: u64,
    too_short: u64,
    /// Frames that the kernel refused to run, by error.
    refused: BTreeMap<String, u64>,
    n_different: u64,
    differences: Vec<String>,
}

#[test]
fn kernel_and_host_parse_every_packet_alike() {
    if !super::may_load() {
        return;
    }
    let trial = Trial::load_bench(&["bench_parse_probe"]).expect("the program loads");
    let program = trial.program("bench_parse_probe").expect("loaded");
    let parsed = trial.map("PARSED").expect("a map");
    let mut tally = Tally::default();
    let captures = super::captures::for_each_packet(|file, packet| {
        if Link::from_linktype(u32::from(packet.linktype)) == Some(Link::Ethernet) {
            tally.compare(program, parsed, &file.display().to_string(), packet.data);
        } else {
            tally.other_link += 1;
        }
    });
    let Some(captures) = captures else { return };
    println!(
        "{captures} captures: {} packets compared, {} of them rejected by both; left out: {} not Ethernet, {} \
         shorter than the {FRAME_LEN_MIN} bytes a test run takes, refused by the kernel: {:?}",
        tally.compared, tally.rejected, tally.other_link, tally.too_short, tally.refused
    );
    for difference in &tally.differences {
        println!("{difference}");
    }
    assert_eq!(tally.n_different, 0, "kernel and host disagree, see above");
    assert!(tally.compared > 0);
}

impl Tally {
    fn compare(&mut self, program: BorrowedFd<'_>, parsed: BorrowedFd<'_>, name: &str, frame: &[u8]) {
        if frame.len() < FRAME_LEN_MIN {
            self.too_short += 1;
            return;
        }
        if let Err(error) = sys::test_run(program, frame, 1) {
            *self.refused.entry(error.to_string()).or_default() += 1;
            return;
        }
        self.compared += 1;
        let kernel: Parsed = sys::lookup(parsed, &0u32)
            .expect("a look-up")
            .expect("an array row");
        let len = u32::try_from(frame.len()).expect("bounded by the reader");
        let host = parse(frame, Start::of(Link::Ethernet, len));
        let agree = match host {
            Ok(packet) => kernel.outcome == 1 && kernel.packet == packet,
            Err(reject) => {
                self.rejected += 1;
                kernel.outcome == 2 | (reject as u64) << 8
            }
        };
        if !agree {
            self.n_different += 1;
            if self.differences.len() < 10 {
                self.differences.push(format!(
                    "{name}, {len} bytes:\n  kernel {:#x} {:?}\n  host   {host:?}",
                    kernel.outcome, kernel.packet
                ));
            }
        }
    }
}
