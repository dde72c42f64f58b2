//! The programs that `weir run` loads. Each only hands its context on.

#![no_std]
#![no_main]

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action::XDP_PASS};
use aya_ebpf::macros::{cgroup_sock, classifier, sock_ops, tracepoint, xdp};
use aya_ebpf::programs::{SockContext, SockOpsContext, TcContext, TracePointContext, XdpContext};
use ebpf::account::observe;
use ebpf::frame::{SkbFrame, XdpFrame};
use ebpf::{sockets, tracepoints};
use wire::Link;

/// "Next program, please": what TCX calls TCX_NEXT.
const NEXT: i32 = TC_ACT_UNSPEC;

#[classifier]
pub fn weir_ingress(ctx: TcContext) -> i32 {
    observe(&SkbFrame::<false>::new(&ctx), Link::Ethernet);
    NEXT
}

#[classifier]
pub fn weir_egress(ctx: TcContext) -> i32 {
    observe(&SkbFrame::<true>::new(&ctx), Link::Ethernet);
    NEXT
}

/// Attached nowhere: the broker runs it on bytes that hold orders.
#[classifier]
pub fn weir_sampling(ctx: TcContext) -> i32 {
    ebpf::sampling::carry_out(&ctx)
}

/// For devices without a link header (tun, WireGuard).
#[classifier]
pub fn weir_ingress_l3(ctx: TcContext) -> i32 {
    observe(&SkbFrame::<false>::new(&ctx), Link::Raw);
    NEXT
}

#[classifier]
pub fn weir_egress_l3(ctx: TcContext) -> i32 {
    observe(&SkbFrame::<true>::new(&ctx), Link::Raw);
    NEXT
}

#[xdp(frags)]
pub fn weir_xdp(ctx: XdpContext) -> u32 {
    observe(&XdpFrame::new(&ctx), Link::Ethernet);
    XDP_PASS
}

#[sock_ops]
pub fn weir_sockops(ctx: SockOpsContext) -> u32 {
    // SAFETY: the context is this program's own.
    unsafe { sockets::socket_operation(ctx.as_ptr().cast()) };
    1
}

#[cgroup_sock(sock_create)]
pub fn weir_sock_create(ctx: SockContext) -> i32 {
    // SAFETY: the context is this program's own.
    unsafe { sockets::remember_owner(ctx.as_ptr().cast()) };
    1
}

#[cgroup_sock(post_bind4)]
pub fn weir_post_bind4(ctx: SockContext) -> i32 {
    // SAFETY: the context is this program's own.
    unsafe { sockets::remember_owner(ctx.as_ptr().cast()) };
    1
}

#[cgroup_sock(post_bind6)]
pub fn weir_post_bind6(ctx: SockContext) -> i32 {
    // SAFETY: the context is this program's own.
    unsafe { sockets::remember_owner(ctx.as_ptr().cast()) };
    1
}

#[tracepoint]
pub fn weir_kfree_skb(ctx: TracePointContext) -> u32 {
    tracepoints::dropped(&ctx);
    0
}

#[tracepoint]
pub fn weir_set_state(ctx: TracePointContext) -> u32 {
    tracepoints::changed_state(&ctx);
    0
}

#[tracepoint]
pub fn weir_retransmit(ctx: TracePointContext) -> u32 {
    tracepoints::retransmitted(&ctx);
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here can panic; a call that could would not link, or not load.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
