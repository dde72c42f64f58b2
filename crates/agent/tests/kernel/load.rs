//! Every program loads, and the verifier's work on it, which delays the start, stays bounded.

use agent::trial::{Trial, UNLIMITED};

/// Instructions followed for a packet program; a million is the kernel's own limit.
const PACKET_PROGRAM_MAX: u32 = 200_000;
const SMALL_PROGRAM_MAX: u32 = 2_000;
/// It takes one order after another.
const SAMPLING_PROGRAM_MAX: u32 = 5_000;

const PROGRAMS: [(&str, u32); 13] = [
    ("weir_ingress", PACKET_PROGRAM_MAX),
    ("weir_egress", PACKET_PROGRAM_MAX),
    ("weir_ingress_l3", PACKET_PROGRAM_MAX),
    ("weir_egress_l3", PACKET_PROGRAM_MAX),
    ("weir_xdp", PACKET_PROGRAM_MAX),
    ("weir_sampling", SAMPLING_PROGRAM_MAX),
    ("weir_sockops", SMALL_PROGRAM_MAX),
    ("weir_sock_create", SMALL_PROGRAM_MAX),
    ("weir_post_bind4", SMALL_PROGRAM_MAX),
    ("weir_post_bind6", SMALL_PROGRAM_MAX),
    ("weir_kfree_skb", SMALL_PROGRAM_MAX),
    ("weir_set_state", SMALL_PROGRAM_MAX),
    ("weir_retransmit", SMALL_PROGRAM_MAX),
];

#[test]
fn every_program_loads_within_its_bound() {
    if !super::may_load() {
        return;
    }
    let names = PROGRAMS.map(|(name, _)| name);
    let trial = Trial::load_weir(&names, 1024, &UNLIMITED).expect("programs load");
    for (name, max) in PROGRAMS {
        let n_instructions = trial
            .verified_instructions(name)
            .expect("the kernel states the number");
        println!("{name}: {n_instructions} instructions verified, {max} at most");
        assert!(
            n_instructions <= max,
            "{name}: {n_instructions} instructions verified, expected at most {max}"
        );
    }
}
