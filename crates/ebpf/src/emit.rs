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
pub fn emit<F: Frame>(
    frame: &F,
    what: u8,
    link: Link,
    key: &FlowKey,
    direction: Direction,
    size: Size,
) -> bool {
    let Some(scratch) = EVENT_SCRATCH.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a per-CPU row, only used within this function.
    let scratch = unsafe { &mut *scratch };
    let packet_len = frame.len();
    let snap = if what == kind::SAMPLE {
        SAMPLE_SNAP
    } else {
        ATTEMPT_SNAP
    } as u32;
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
    let captured = within_snap(captured);
    // SAFETY: `captured` is within the frame buffer.
    if !unsafe { frame.copy(scratch.frame.as_mut_ptr(), captured) } {
        return false;
    }
    let len = HEADER_LEN + captured as usize;
    // SAFETY: `len` bytes of the scratch row are initialised.
    let bytes = unsafe { core::slice::from_raw_parts(core::ptr::from_ref(scratch).cast::<u8>(), len) };
    EVENTS.output_untyped::<[u8]>(bytes, NO_WAKEUP).is_ok()
}

/// The same number, 1 to [`SAMPLE_SNAP`], as the verifier can see from the instructions alone; the
/// compiler would fold comparisons into a form that tells it nothing.
#[inline(always)]
fn within_snap(captured: u32) -> u32 {
    const { assert!(SAMPLE_SNAP == 2048) };
    let mut number = captured as u64;
    // SAFETY: register arithmetic only.
    unsafe {
        core::arch::asm!("{0} += -1", "{0} &= 2047", "{0} += 1", inout(reg) number, options(pure, nomem, nostack));
    }
    number as u32
}
