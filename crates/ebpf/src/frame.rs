//! Packets where the kernel holds them, as [`wire::Load`] reads them.

use core::arch::asm;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{__sk_buff, bpf_sock, xdp_md};
use aya_ebpf::helpers::generated::bpf_skb_pull_data;
use aya_ebpf::helpers::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use wire::link::VLAN_PRESENT;
use wire::load::{Head, OFFSET_MAX};
use wire::{Load, Packet, Size};

/// Bytes made directly readable when a packet's headers are not.
const HEADERS_MAX: u32 = 512;

/// A packet under way through a program.
pub trait Frame: Load {
    /// Whether the packet leaves the host.
    const EGRESS: bool;

    /// Whether the parser's short way is part of the caller rather than of `account::walk`. It saves
    /// a call, but where the verifier has more ways to follow already (offloaded packets, stripped
    /// tags, a second walk) its work would double.
    const PLAIN_FIRST: bool = false;

    fn ifindex(&self) -> u32;

    /// Bytes of the packet as the program sees it, beyond the linear part too.
    fn len(&self) -> u32;

    /// A VLAN tag that the device took out of the frame, as flow keys hold it.
    fn stripped_vlan(&self) -> u16;

    /// Number of frames the packet stands for, and the payload of a full one.
    fn segments(&self) -> (u32, u32);

    /// Copies `len` bytes from the start of the packet. `len` must be at least 1.
    ///
    /// # Safety
    ///
    /// `to` must be valid for `len` bytes, in a way the verifier can follow.
    unsafe fn copy(&self, to: *mut u8, len: u32) -> bool;

    /// The four bytes that begin here, beyond the linear part too.
    fn peek(&self, at: u32) -> Option<[u8; 4]>;

    /// Makes headers readable that lie outside the directly readable part; `false` if there is
    /// nothing more to be had.
    fn pull(&self) -> bool {
        false
    }

    /// The local socket that sends the packet, or null.
    fn socket(&self) -> *mut bpf_sock {
        core::ptr::null_mut()
    }

    /// What the packet weighs: an offloaded packet counts as the frames it becomes on the wire,
    /// each with all headers.
    #[inline(always)]
    fn size(&self, packet: &Packet) -> Size {
        let tag = if self.stripped_vlan() != 0 { 4 } else { 0 };
        let (frames, segment) = self.segments();
        if frames <= 1 {
            return Size::one(self.len() + tag);
        }
        let headers = packet.payload_at as u32;
        Size {
            bytes: self.len() + (frames - 1) * headers + frames * tag,
            frames,
            frame_len: headers + segment + tag,
        }
    }
}

/// The directly readable part of a packet.
#[derive(Clone, Copy)]
struct Linear {
    data: usize,
    end: usize,
}

impl Linear {
    #[inline(always)]
    fn bytes<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        if at > OFFSET_MAX {
            return None;
        }
        let mut from = self.data;
        let to: usize;
        // Opaque to the optimiser: it would turn `from + N > end` into a comparison that the
        // verifier does not accept as a bounds check, or split the sum differently at each use.
        // SAFETY: register arithmetic only.
        unsafe {
            asm!("{0} += {1}", inout(reg) from, in(reg) at, options(pure, nomem, nostack));
            asm!("{0} = {1}", "{0} += {2}", out(reg) to, in(reg) from, const N, options(pure, nomem, nostack));
        }
        if to > self.end {
            return None;
        }
        // SAFETY: `from..from + N` lies within the packet, as the verifier checks again.
        Some(unsafe { read(from) })
    }

    #[inline(always)]
    fn head<'a, const N: usize>(self) -> Option<Head<'a, N>> {
        let to: usize;
        // SAFETY: register arithmetic only, opaque as in `bytes`.
        unsafe {
            asm!("{0} = {1}", "{0} += {2}", out(reg) to, in(reg) self.data, const N, options(pure, nomem, nostack));
        }
        if to > self.end {
            return None;
        }
        // SAFETY: just checked, and again by the verifier.
        Some(unsafe { Head::at(self.data as *const u8) })
    }
}

/// Reads `N` bytes of packet memory with as few loads as there can be. Packet memory has no
/// alignment, and the target would split an unaligned read into bytes, so the loads are written
/// out.
///
/// # Safety
///
/// `from..from + N` must be checked packet memory.
#[inline(always)]
unsafe fn read<const N: usize>(from: usize) -> [u8; N] {
    let mut bytes = MaybeUninit::<[u8; N]>::uninit();
    let to = bytes.as_mut_ptr().cast::<u8>();
    let mut at = 0;
    // SAFETY: every store stays below N, every load within the checked range.
    unsafe {
        while at + 8 <= N {
            let word: u64;
            asm!("{0} = *(u64 *)({1} + 0)", out(reg) word, in(reg) from + at, options(pure, readonly, nostack));
            to.add(at).cast::<[u8; 8]>().write(word.to_ne_bytes());
            at += 8;
        }
        if at + 4 <= N {
            let word: u64;
            asm!("{0} = *(u32 *)({1} + 0)", out(reg) word, in(reg) from + at, options(pure, readonly, nostack));
            to.add(at).cast::<[u8; 4]>().write((word as u32).to_ne_bytes());
            at += 4;
        }
        if at + 2 <= N {
            let word: u64;
            asm!("{0} = *(u16 *)({1} + 0)", out(reg) word, in(reg) from + at, options(pure, readonly, nostack));
            to.add(at).cast::<[u8; 2]>().write((word as u16).to_ne_bytes());
            at += 2;
        }
        if at < N {
            let word: u64;
            asm!("{0} = *(u8 *)({1} + 0)", out(reg) word, in(reg) from + at, options(pure, readonly, nostack));
            to.add(at).write(word as u8);
        }
        bytes.assume_init()
    }
}

/// Always zero; the verifier cannot know, since programs could write it.
#[unsafe(no_mangle)]
static mut FOG: u64 = 0;

/// A zero that the verifier cannot see through.
#[inline(always)]
fn fog() -> usize {
    // SAFETY: nothing writes it.
    unsafe { (&raw const FOG).read_volatile() as usize }
}

/// A packet in an XDP program.
pub struct XdpFrame<'a> {
    context: &'a XdpContext,
    fog: usize,
}

impl<'a> XdpFrame<'a> {
    #[inline(always)]
    pub fn new(context: &'a XdpContext) -> Self {
        Self { context, fog: fog() }
    }
}

impl XdpFrame<'_> {
    #[inline(always)]
    fn raw(&self) -> *mut xdp_md {
        self.context.as_ptr().cast()
    }
}

impl Load for XdpFrame<'_> {
    #[inline(always)]
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        Linear {
            data: self.context.data(),
            end: self.context.data_end(),
        }
        .bytes(at)
    }

    #[inline(always)]
    fn head<const N: usize>(&self) -> Option<Head<'_, N>> {
        Linear {
            data: self.context.data(),
            end: self.context.data_end(),
        }
        .head()
    }

    #[inline(always)]
    fn forget(&self, number: usize) -> usize {
        number ^ self.fog
    }
}

impl Frame for XdpFrame<'_> {
    const EGRESS: bool = false;
    const PLAIN_FIRST: bool = true;

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { bpf_xdp_get_buff_len(self.raw()) as u32 }
    }

    #[inline(always)]
    fn stripped_vlan(&self) -> u16 {
        0
    }

    #[inline(always)]
    fn segments(&self) -> (u32, u32) {
        (1, 0)
    }

    #[inline(always)]
    unsafe fn copy(&self, to: *mut u8, len: u32) -> bool {
        // SAFETY: by this function's contract.
        unsafe { bpf_xdp_load_bytes(self.raw(), 0, to.cast(), len) == 0 }
    }

    #[inline(always)]
    fn peek(&self, at: u32) -> Option<[u8; 4]> {
        let mut bytes = [0; 4];
        // SAFETY: four bytes of the stack.
        let failed = unsafe { bpf_xdp_load_bytes(self.raw(), at, bytes.as_mut_ptr().cast(), 4) };
        (failed == 0).then_some(bytes)
    }
}

/// A packet in a TCX or tc program.
pub struct SkbFrame<'a, const EGRESS: bool> {
    context: &'a TcContext,
    fog: usize,
}

impl<'a, const EGRESS: bool> SkbFrame<'a, EGRESS> {
    #[inline(always)]
    pub fn new(context: &'a TcContext) -> Self {
        Self { context, fog: fog() }
    }
}

impl<const EGRESS: bool> SkbFrame<'_, EGRESS> {
    #[inline(always)]
    fn skb(&self) -> *mut __sk_buff {
        self.context.as_ptr().cast()
    }
}

impl<const EGRESS: bool> Load for SkbFrame<'_, EGRESS> {
    #[inline(always)]
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        Linear {
            data: self.context.data(),
            end: self.context.data_end(),
        }
        .bytes(at)
    }

    #[inline(always)]
    fn head<const N: usize>(&self) -> Option<Head<'_, N>> {
        Linear {
            data: self.context.data(),
            end: self.context.data_end(),
        }
        .head()
    }

    #[inline(always)]
    fn forget(&self, number: usize) -> usize {
        number ^ self.fog
    }
}

impl<const EGRESS: bool> Frame for SkbFrame<'_, EGRESS> {
    const EGRESS: bool = EGRESS;

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: a field of the program's own context.
        unsafe { (*self.skb()).ifindex }
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        self.context.len()
    }

    #[inline(always)]
    fn stripped_vlan(&self) -> u16 {
        // SAFETY: fields of the program's own context.
        let (present, tag) = unsafe { ((*self.skb()).vlan_present, (*self.skb()).vlan_tci) };
        if present != 0 {
            tag as u16 & 0x0fff | VLAN_PRESENT
        } else {
            0
        }
    }

    #[inline(always)]
    fn segments(&self) -> (u32, u32) {
        // SAFETY: fields of the program's own context.
        unsafe { ((*self.skb()).gso_segs, (*self.skb()).gso_size) }
    }

    #[inline(always)]
    unsafe fn copy(&self, to: *mut u8, len: u32) -> bool {
        // SAFETY: by this function's contract.
        unsafe { bpf_skb_load_bytes(self.skb().cast(), 0, to.cast(), len) == 0 }
    }

    #[inline(always)]
    fn peek(&self, at: u32) -> Option<[u8; 4]> {
        let mut bytes = [0; 4];
        // SAFETY: four bytes of the stack.
        let failed = unsafe { bpf_skb_load_bytes(self.skb().cast(), at, bytes.as_mut_ptr().cast(), 4) };
        (failed == 0).then_some(bytes)
    }

    #[inline(always)]
    fn pull(&self) -> bool {
        let (linear, whole) = (
            (self.context.data_end() - self.context.data()) as u32,
            self.context.len(),
        );
        if linear >= whole || linear >= HEADERS_MAX {
            return false;
        }
        let wanted = if whole < HEADERS_MAX { whole } else { HEADERS_MAX };
        // SAFETY: the context is the program's own; packet pointers are read again afterwards.
        unsafe { bpf_skb_pull_data(self.skb(), wanted) == 0 }
    }

    #[inline(always)]
    fn socket(&self) -> *mut bpf_sock {
        // SAFETY: a field of the program's own context.
        unsafe { (*self.skb()).__bindgen_anon_2.sk }
    }
}
