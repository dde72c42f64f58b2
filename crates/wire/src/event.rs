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

/// How many payloads of a direction are still to be sampled: a number that counts down, or one of these.
pub mod sampling {
    /// None.
    pub const OFF: u8 = 0;
    /// Those that look like the start of a message, for as long as the flow lives: see [`super::is_message_start`].
    pub const MESSAGES: u8 = u8::MAX;
}

/// What user space wants of a flow's payloads from now on, both directions. The broker hands it to the
/// kernel program that writes it into the flow's row: a row replaced from user space would lose what is
/// counted meanwhile.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SamplingOrder {
    pub key: FlowKey,
    /// A number of payloads, or one of [`sampling`].
    pub samples: u8,
    pub padding: [u8; 3],
}

const _: () = assert!(size_of::<SamplingOrder>() == 56);

/// Orders that one run of the program takes, and the bytes of a frame before them: what runs a program on
/// bytes wants at least a link header.
pub const SAMPLING_ORDERS_MAX: usize = 64;
pub const SAMPLING_ORDERS_AT: usize = 16;

/// Longest payload that can be a line of a dialogue, in bytes.
const LINE_MAX: u32 = 512;

/// Whether a payload looks like the start of a message of a protocol of text: an HTTP method or status line,
/// or a short piece that begins with a letter or digit, as commands and replies of log-ins do. Datagrams
/// are messages, whatever they look like.
#[inline(always)]
#[must_use]
pub const fn is_message_start(is_stream: bool, first: [u8; 4], payload_len: u32) -> bool {
    if !is_stream {
        return true;
    }
    if payload_len <= LINE_MAX {
        return first[0].is_ascii_alphanumeric() || matches!(first[0], b'+' | b'-' | b'*' | b'$');
    }
    matches!(
        &first,
        b"GET "
            | b"POST"
            | b"PUT "
            | b"HEAD"
            | b"DELE"
            | b"OPTI"
            | b"PATC"
            | b"CONN"
            | b"TRAC"
            | b"PROP"
            | b"HTTP"
    )
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_begin_like_text() {
        let cases: [(bool, &[u8; 4], u32, bool); 8] = [
            (true, b"GET ", 1400, true),
            (true, b"HTTP", 1400, true),
            (true, b"USER", 20, true),
            (true, b"220 ", 40, true),
            (true, b"USER", 1400, false),
            (true, b"\x17\x03\x03\x00", 100, false),
            (true, b"*3\r\n", 40, true),
            (false, b"\x00\x01\x02\x03", 1400, true),
        ];
        for (is_stream, first, len, expected) in cases {
            assert_eq!(
                is_message_start(is_stream, *first, len),
                expected,
                "{first:?} {len}"
            );
        }
    }
}
