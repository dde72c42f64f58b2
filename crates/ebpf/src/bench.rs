//! Programs for benchmarks and tests only.

#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS};
use aya_ebpf::btf_maps::{Array, PerCpuArray, ProgramArray};
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use ebpf::account::{WALKED, walk, walk_plain};
use ebpf::frame::XdpFrame;
use ebpf::maps::PACKET_SCRATCH;
use wire::{Link, Load, Packet};

/// The program that the flood program hands packets to.
#[btf_map]
static NEXT: ProgramArray<1> = ProgramArray::new();

/// What the last parse found: 1 and the packet, or 2 and the reason.
#[btf_map]
static PARSED: Array<Parsed, 1> = Array::new();

#[btf_map]
static COUNT: PerCpuArray<u64, 1> = PerCpuArray::new();

#[repr(C)]
pub struct Parsed {
    outcome: u64,
    packet: Packet,
}

#[xdp(frags)]
pub fn bench_empty(_: XdpContext) -> u32 {
    XDP_PASS
}

/// Parses and counts, nothing else.
#[xdp(frags)]
pub fn bench_parse(ctx: XdpContext) -> u32 {
    let frame = XdpFrame::new(&ctx);
    let Some(scratch) = PACKET_SCRATCH.get_ptr_mut(0) else {
        return XDP_ABORTED;
    };
    // SAFETY: a per-CPU row.
    let scratch = unsafe { &mut *scratch };
    let is_walked =
        walk_plain(&frame, Link::Ethernet, 0, scratch) || walk(&frame, Link::Ethernet, 0, scratch) == WALKED;
    if is_walked && let Some(count) = COUNT.get_ptr_mut(0) {
        // SAFETY: a per-CPU row. The sum keeps the parser from being optimised away.
        unsafe { *count += scratch.packet.payload_at as u64 };
    }
    XDP_PASS
}

/// Leaves what the parser found where the test reads it.
#[xdp(frags)]
pub fn bench_parse_probe(ctx: XdpContext) -> u32 {
    let frame = XdpFrame::new(&ctx);
    let (Some(parsed), Some(scratch)) = (PARSED.get_ptr_mut(0), PACKET_SCRATCH.get_ptr_mut(0)) else {
        return XDP_ABORTED;
    };
    // SAFETY: a per-CPU row, and a row only used by the test that runs this program.
    let (parsed, scratch) = unsafe { (&mut *parsed, &mut *scratch) };
    let outcome = if walk_plain(&frame, Link::Ethernet, 0, scratch) {
        WALKED
    } else {
        walk(&frame, Link::Ethernet, 0, scratch)
    };
    parsed.packet = scratch.packet;
    parsed.outcome = if outcome == WALKED {
        1
    } else {
        2 | (outcome as u64) << 8
    };
    XDP_PASS
}

/// Gives the packet a random IPv4 source and source port, then tail-calls the program under test.
#[xdp(frags)]
pub fn bench_flood(ctx: XdpContext) -> u32 {
    randomise(&ctx);
    // SAFETY: the map holds programs of this type only.
    unsafe { NEXT.tail_call(&ctx, 0) };
    XDP_ABORTED
}

/// The same without the tail call: what the flood program itself costs.
#[xdp(frags)]
pub fn bench_flood_base(ctx: XdpContext) -> u32 {
    randomise(&ctx);
    XDP_PASS
}

/// Moves the packet's TCP sequence number on by its payload, as the next packet of a stream has it,
/// then tail-calls the program under test.
#[xdp(frags)]
pub fn bench_stream(ctx: XdpContext) -> u32 {
    advance(&ctx);
    // SAFETY: the map holds programs of this type only.
    unsafe { NEXT.tail_call(&ctx, 0) };
    XDP_ABORTED
}

/// The same without the tail call.
#[xdp(frags)]
pub fn bench_stream_base(ctx: XdpContext) -> u32 {
    advance(&ctx);
    XDP_PASS
}

/// For Ethernet, IPv4 and TCP without options.
#[inline(always)]
fn advance(ctx: &XdpContext) {
    const SEQUENCE: usize = 14 + 20 + 4;
    const PAYLOAD: usize = 14 + 20 + 20;
    let (data, end) = (ctx.data(), ctx.data_end());
    if data + PAYLOAD > end {
        return;
    }
    let len = (end - data - PAYLOAD) as u32;
    // SAFETY: checked above; the target has no alignment rule for packet memory.
    unsafe {
        let sequence = (data + SEQUENCE) as *mut u32;
        *sequence = u32::from_be(*sequence).wrapping_add(len).to_be();
    }
}

#[inline(always)]
fn randomise(ctx: &XdpContext) {
    const SOURCE: usize = 14 + 12;
    const PORT: usize = 14 + 20;
    let frame = XdpFrame::new(ctx);
    if frame.bytes::<2>(PORT).is_none() {
        return;
    }
    let (data, end) = (ctx.data(), ctx.data_end());
    if data + PORT + 2 > end {
        return;
    }
    // SAFETY: checked above; the target has no alignment rule for packet memory.
    unsafe {
        let random = bpf_get_prandom_u32();
        let [a, b, c, d] = random.to_ne_bytes();
        let source = (data + SOURCE) as *mut u8;
        *source = a | 1;
        *source.add(1) = b;
        *source.add(2) = c;
        *source.add(3) = d;
        let port = (data + PORT) as *mut u8;
        *port = a ^ c;
        *port.add(1) = b ^ d;
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
