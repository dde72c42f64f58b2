//! Any bytes as what two sides say to each other over TCP or UDP: no parser panics, and of a stream the
//! same comes out however it is cut into segments.
//!
//! The first byte chooses the transport and the length of the pieces, two more are the server's port.
//! Then turns: a byte of which the highest bit is the side, two of length, the bytes.

#![no_main]

use inspect::layer7::kit::{Outcome, Said, run};
use libfuzzer_sys::fuzz_target;
use wire::ip_proto;

/// Turns of one input; what follows belongs to the last.
const TURNS_MAX: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[how, port_high, port_low], rest)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    let port = u16::from_be_bytes([port_high, port_low]);
    let said = turns(rest);
    if how & 1 == 1 {
        let first = run(ip_proto::UDP, port, &said, |_, _| Vec::new());
        assert_same(&first, &run(ip_proto::UDP, port, &said, |_, _| Vec::new()));
        return;
    }
    let whole = run(ip_proto::TCP, port, &said, |_, _| Vec::new());
    let piece = usize::from(how >> 1) + 1;
    let cut = run(ip_proto::TCP, port, &said, |_, len| vec![piece; len / piece]);
    assert_same(&whole, &cut);
});

fn turns(mut rest: &[u8]) -> Vec<Said<'_>> {
    let mut said = Vec::new();
    while let Some((&[side, high, low], after)) = rest.split_first_chunk::<3>() {
        let len = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (text, next) = after.split_at(if said.len() + 1 == TURNS_MAX {
            after.len()
        } else {
            len
        });
        said.push((usize::from(side >> 7), text));
        rest = next;
    }
    said
}

fn assert_same(one: &Outcome, other: &Outcome) {
    assert_eq!(one.bodies(), other.bodies());
    assert_eq!(one.insight, other.insight);
}
