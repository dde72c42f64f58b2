//! Counters of the whole host, from tracepoints.

use aya_ebpf::programs::TracePointContext;
use wire::rows::{DROP_REASONS, FIELD_MISSING, TCP_STATES, TracepointFields};

use crate::maps::{DROPS, TCP_TOTALS};

/// Set by user space before loading.
#[unsafe(no_mangle)]
static TRACEPOINT_FIELDS: TracepointFields = TracepointFields {
    kfree_skb_reason: FIELD_MISSING,
    set_state_new: FIELD_MISSING,
    set_state_protocol: FIELD_MISSING,
    retransmit_state: FIELD_MISSING,
};

#[inline(always)]
fn fields() -> &'static TracepointFields {
    let mut pointer = core::ptr::from_ref(&TRACEPOINT_FIELDS);
    // SAFETY: changes nothing; the pointer is to a static.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) pointer, options(pure, nomem, nostack));
        &*pointer
    }
}

#[inline(always)]
fn read<T>(ctx: &TracePointContext, offset: u32) -> Option<T> {
    if offset == FIELD_MISSING {
        return None;
    }
    // SAFETY: the helper reads safely wherever the offset leads.
    unsafe { ctx.read_at(offset as usize).ok() }
}

/// `skb:kfree_skb`: a packet was dropped.
#[inline(always)]
pub fn dropped(ctx: &TracePointContext) {
    let Some(reason) = read::<u32>(ctx, fields().kfree_skb_reason) else {
        return;
    };
    // Reasons of subsystems carry their number in the upper half; they share the last slot.
    let slot = if reason < DROP_REASONS {
        reason
    } else {
        DROP_REASONS - 1
    };
    if let Some(count) = DROPS.get_ptr_mut(slot) {
        // SAFETY: a per-CPU row.
        unsafe { *count += 1 };
    }
}

/// `sock:inet_sock_set_state`: a TCP socket changed state.
#[inline(always)]
pub fn changed_state(ctx: &TracePointContext) {
    const IPPROTO_TCP: u16 = 6;
    if read::<u16>(ctx, fields().set_state_protocol) != Some(IPPROTO_TCP) {
        return;
    }
    let Some(state) = read::<u32>(ctx, fields().set_state_new) else {
        return;
    };
    if let Some(totals) = TCP_TOTALS.get_ptr_mut(0)
        && (state as usize) < TCP_STATES
    {
        // SAFETY: a per-CPU row, the index is checked.
        unsafe { (*totals).entered[state as usize] += 1 };
    }
}

/// `tcp:tcp_retransmit_skb`: a segment was sent again.
#[inline(always)]
pub fn retransmitted(ctx: &TracePointContext) {
    const SYN_SENT: u32 = 2;
    const SYN_RECV: u32 = 3;
    const NEW_SYN_RECV: u32 = 12;
    let state = read::<u32>(ctx, fields().retransmit_state).unwrap_or(0);
    if let Some(totals) = TCP_TOTALS.get_ptr_mut(0) {
        // SAFETY: a per-CPU row.
        let totals = unsafe { &mut *totals };
        if matches!(state, SYN_SENT | SYN_RECV | NEW_SYN_RECV) {
            totals.retransmitted_handshakes += 1;
        } else {
            totals.retransmits += 1;
        }
    }
}
