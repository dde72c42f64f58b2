//! A packet, as layer 7 looks at it.

use wire::{Direction, Packet};

/// One packet of a flow: with payload, or of TCP also without, since those open, acknowledge and close.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Nanoseconds since 1970.
    pub ts_ns: u64,
    pub direction: Direction,
    /// Valid for TCP.
    pub seq: u32,
    pub ack: u32,
    /// Bits of [`wire::tcp::flag`]; 0 for others.
    pub flags: u8,
    pub payload: &'a [u8],
    /// Bytes the payload had on the wire, at least `payload.len()`.
    pub wire_len: u32,
}

impl<'a> Segment<'a> {
    /// Of a packet that is no later fragment, captured in `data` from the frame's first byte on.
    #[must_use]
    pub fn of(packet: &Packet, direction: Direction, data: &'a [u8], ts_ns: u64) -> Self {
        let at = usize::from(packet.payload_at);
        let captured = data.get(at..).unwrap_or_default();
        let payload = &captured[..captured.len().min(packet.payload_len as usize)];
        Self {
            ts_ns,
            direction,
            seq: packet.tcp_seq,
            ack: packet.tcp_ack,
            flags: packet.tcp_flags,
            payload: if at == 0 { &[] } else { payload },
            wire_len: match at {
                0 => 0,
                // How much is in the fragments to come is not known: more than is here.
                _ => packet.payload_len + u32::from(packet.notes & wire::parse::note::FRAGMENT_FIRST != 0),
            },
        }
    }
}
