//! The maps. Sizes here are defaults; user space sets the real ones when it loads.

use aya_ebpf::bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use wire::event::{Event, SAMPLE_SNAP};
use wire::flow::{HashKeys, Owner};
use wire::rows::{
    AggregateKey, AggregateRow, Buckets, DROP_REASONS, INTERFACE_SLOTS, InterfaceCounters, LoadSettings,
    Losses, Pending, Settings, SocketKey, SocketRow, TcpTotals,
};
use wire::{FlowKey, FlowRow, Packet};

/// Flows in progress.
#[btf_map]
pub static FLOWS: HashMap<FlowKey, FlowRow, 131_072> = HashMap::new();

/// Handshakes that have not completed.
#[btf_map]
pub static PENDING: Array<Pending, 65_536> = Array::new();

/// Packets without a row, by service.
#[btf_map]
pub static AGGREGATES: HashMap<AggregateKey, AggregateRow, 4_096> = HashMap::new();

/// Counters by interface and direction: row `2 × slot + egress`.
#[btf_map]
pub static INTERFACES: PerCpuArray<InterfaceCounters, { 2 * INTERFACE_SLOTS as usize }> = PerCpuArray::new();

#[btf_map]
pub static LOSSES: PerCpuArray<Losses, 1> = PerCpuArray::new();

#[btf_map]
pub static BUCKETS: PerCpuArray<Buckets, 1> = PerCpuArray::new();

#[btf_map]
pub static SETTINGS: Array<Settings, 1> = Array::new();

/// Attempts and samples on their way to user space.
#[btf_map]
pub static EVENTS: RingBuf<Event, { 8 << 20 }> = RingBuf::new();

/// Where an event is put together: too large for the stack.
#[btf_map]
pub static EVENT_SCRATCH: PerCpuArray<EventScratch, 1> = PerCpuArray::new();

/// Where a packet's headers are put: the verifier does not follow what is in a map, so the ways
/// through the parser meet here and are not multiplied by those that follow.
#[btf_map]
pub static PACKET_SCRATCH: PerCpuArray<PacketScratch, 1> = PerCpuArray::new();

/// Where a flow row is put together.
#[btf_map]
pub static ROW_SCRATCH: PerCpuArray<FlowRow, 1> = PerCpuArray::new();

/// Local TCP connections.
#[btf_map]
pub static SOCKETS: HashMap<SocketKey, SocketRow, 65_536> = HashMap::new();

/// Packets dropped by the kernel, by reason.
#[btf_map]
pub static DROPS: PerCpuArray<u64, { DROP_REASONS as usize }> = PerCpuArray::new();

/// TCP of the whole host.
#[btf_map]
pub static TCP_TOTALS: PerCpuArray<TcpTotals, 1> = PerCpuArray::new();

/// Who made a socket; copied to the sockets that a listener accepts.
#[btf_map]
pub static OWNERS: SocketStorage = SocketStorage::new();

#[repr(C)]
pub struct PacketScratch {
    pub packet: Packet,
    pub inner: Packet,
    pub key: FlowKey,
    pub inner_key: FlowKey,
    /// [`wire::Direction`] of the packet in the flow of `key`.
    pub direction: u32,
    pub inner_direction: u32,
}

#[repr(C)]
pub struct EventScratch {
    pub event: Event,
    pub frame: [u8; SAMPLE_SNAP],
}

/// Socket storage whose values are cloned to accepted sockets; aya's own type fixes the flags
/// without that one.
#[repr(C)]
pub struct SocketStorage {
    r#type: *const [i32; aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const Owner,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: the pointers are placeholders for type information; nothing reads through them.
unsafe impl Sync for SocketStorage {}

impl SocketStorage {
    #[expect(
        clippy::new_without_default,
        reason = "a map definition, made once, in a static"
    )]
    pub const fn new() -> Self {
        use core::ptr::null;
        Self {
            r#type: null(),
            key: null(),
            value: null(),
            max_entries: null(),
            map_flags: null(),
        }
    }

    pub fn as_ptr(&self) -> *mut core::ffi::c_void {
        core::ptr::from_ref(self).cast_mut().cast()
    }
}

/// Set by user space before loading.
#[unsafe(no_mangle)]
static LOAD_SETTINGS: LoadSettings = LoadSettings {
    hash_keys: HashKeys([0; 14]),
    pending_mask: 0,
    jiffy_ns: 4_000_000,
    jiffies_offset_ns: 0,
    window_shift: 5,
    loopback_ifindex: 1,
    netns_cookie: 0,
};

#[inline(always)]
pub fn load_settings() -> &'static LoadSettings {
    // Hidden from the optimiser, which would otherwise fold the placeholder values in.
    let mut pointer = core::ptr::from_ref(&LOAD_SETTINGS);
    // SAFETY: changes nothing; the pointer is to a static.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) pointer, options(pure, nomem, nostack));
        &*pointer
    }
}

/// Adds to this CPU's loss counters.
#[inline(always)]
pub fn lost(count: impl FnOnce(&mut Losses)) {
    if let Some(losses) = LOSSES.get_ptr_mut(0) {
        // SAFETY: a per-CPU row.
        count(unsafe { &mut *losses });
    }
}
