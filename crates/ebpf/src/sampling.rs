//! Orders of user space on which payloads of a flow to sample.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::programs::TcContext;
use wire::event::{SAMPLING_ORDERS_AT, SAMPLING_ORDERS_MAX, SamplingOrder};

use crate::maps::FLOWS;

/// Carries out the orders that the bytes of this "packet" hold. Returns how many found their row.
#[inline(always)]
pub fn carry_out(ctx: &TcContext) -> i32 {
    const LEN: u32 = size_of::<SamplingOrder>() as u32;
    let mut found = 0;
    for n in 0..SAMPLING_ORDERS_MAX as u32 {
        let mut order = MaybeUninit::<SamplingOrder>::uninit();
        let at = SAMPLING_ORDERS_AT as u32 + n * LEN;
        // SAFETY: the buffer is as long as what is asked for.
        let failed = unsafe { bpf_skb_load_bytes(ctx.as_ptr().cast(), at, order.as_mut_ptr().cast(), LEN) };
        if failed != 0 {
            return found;
        }
        // SAFETY: all its bytes were written, and any bytes are an order.
        let order = unsafe { order.assume_init_ref() };
        if let Some(row) = FLOWS.get_ptr_mut(&order.key) {
            // SAFETY: map values live as long as the program runs; one byte each is stored whole.
            unsafe { (*row).samples_left = [order.samples; 2] };
            found += 1;
        }
    }
    found
}
