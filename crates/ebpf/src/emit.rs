//! Events to user space.

use wire::event::{ATTEMPT_SNAP, Event, HEADER_LEN, SAMPLE_SNAP, kind};
use wire::{Clock, Direction, FlowKey, Link, Size};

use crate::clock::KernelClock;
use crate::frame::Frame;
use crate::maps::{EVENT_SCRATCH, EVENTS};

/// User space drains on a timer; a reader that sleeps is only woken when much has piled up.
const NO_WAKEUP: u64 = aya_ebpf::bindings::BPF_RB_NO_WAKEUP as u64;

/// Sends the head of the frame; `false` if the ring has no room.
#[inline(always)]
pub fn emit<F: Frame>(frame: &F, what: u8, link: Link, key: &FlowKey, direction: Direction, size: Size) -> bool {
    let Some(scratch) = EVENT_SCRATCH.get_ptr_mut(0) else { return false };
    // SAFETY: a per-CPU row, only used within this function.
    let scratch = unsafe { &mut *scratch };
    let packet_len = frame.len();
    let snap = if what == kind::SAMPLE { SAMPLE_SNAP } else { ATTEMPT_SNAP } as u32;
    let captured = if packet_len < snap { packet_len } else { snap };
    scratch.event = Event {
        at_ns: KernelClock.exact_ns(),
        bytes: size.bytes,
        frames: size.frames,
        key: *key,
        captured: captured as u16,
        vlan: frame.stripped_vlan(),
        kind: what,
        direction: direction as u8,
        link: link as u8,
        egress: F::EGRESS as u8,
        packet_len,
        padding: [0; 2],
    };
    // The verifier wants to see a range that excludes 0.
    let captured = captured & 0xfff;
    if captured == 0 || captured as usize > SAMPLE_SNAP {
        return false;
    }
    // SAFETY: `captured` is within the frame buffer.
    if !unsafe { frame.copy(scratch.frame.as_mut_ptr(), captured) } {
        return false;
    }
    let len = HEADER_LEN + captured as usize;
    // SAFETY: `len` bytes of the scratch row are initialised.
    let bytes = unsafe { core::slice::from_raw_parts(core::ptr::from_ref(scratch).cast::<u8>(), len) };
    EVENTS.output_untyped::<[u8]>(bytes, NO_WAKEUP).is_ok()
}
