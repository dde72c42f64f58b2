//! Events of the ring buffer: a header, then the first bytes of the frame they are about.
//!
//! User space reads those bytes with the same [`crate::parse`], so an event needs no fields for
//! what the frame itself says.

use crate::FlowKey;

/// Bytes of a frame that an attempt carries: headers and options, for fingerprints.
pub const ATTEMPT_SNAP: usize = 128;

/// Bytes of a frame that a payload sample carries. A post-quantum ClientHello spans two segments,
/// so one full segment a sample is enough.
pub const SAMPLE_SNAP: usize = 2048;

/// What happened.
pub mod kind {
    /// A packet that made no flow row: a SYN, an answer to one, or a reset. It is counted nowhere
    /// else, so whoever drops this event must count it.
    pub const ATTEMPT: u8 = 1;
    /// One of the first payloads of a flow. Already counted in its row.
    pub const SAMPLE: u8 = 2;
}

/// Header of every event. The frame's bytes follow at [`HEADER_LEN`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since boot, suspended time not counted (CLOCK_MONOTONIC).
    pub at_ns: u64,
    /// All frames that this packet stands for, in bytes.
    pub bytes: u32,
    /// Frames that this packet stands for.
    pub frames: u32,
    pub key: FlowKey,
    /// Bytes of the frame that follow.
    pub captured: u16,
    /// VLAN tag that the device took out of the frame, as keys hold it.
    pub vlan: u16,
    /// [`kind`].
    pub kind: u8,
    /// [`crate::Direction`].
    pub direction: u8,
    /// [`crate::Link`] of the frame's first byte.
    pub link: u8,
    /// 1 if the packet left the host, 0 if it came in.
    pub egress: u8,
    /// Length of the whole packet as the program saw it.
    pub packet_len: u32,
    pub padding: [u32; 2],
}

/// Size of [`Event`] in bytes.
pub const HEADER_LEN: usize = 88;

const _: () = assert!(size_of::<Event>() == HEADER_LEN);
