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

    /// Whether a bare acknowledgement was filled up with zeros that its IP header counts. Whoever sends that
    /// few bytes pushes them; the true bytes come with the same sequence number.
    pub(super) fn is_padding(&self) -> bool {
        use wire::tcp::flag;
        let is_bare = self.flags & (flag::ACK | flag::PSH | flag::FIN | flag::URG) == flag::ACK;
        is_bare && matches!(self.payload, [0, 0] | [0, 0, 0, 0] | [0, 0, 0, 0, 0, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::tcp::flag;

    #[test]
    fn padding() {
        let check = |flags, payload: &[u8], expected| {
            let segment = Segment {
                ts_ns: 0,
                direction: Direction::AToB,
                seq: 1,
                ack: 1,
                flags,
                payload,
                wire_len: payload.len() as u32,
            };
            assert_eq!(segment.is_padding(), expected, "{flags:x} {payload:?}");
        };
        check(flag::ACK, &[0, 0], true);
        check(flag::ACK, &[0; 6], true);
        check(flag::ACK | flag::SYN, &[0, 0], true);
        check(flag::ACK | flag::PSH, &[0, 0], false);
        check(flag::ACK, &[0, 1], false);
        check(flag::ACK, &[0], false);
        check(flag::ACK, &[0; 8], false);
        check(flag::ACK | flag::FIN, &[0, 0], false);
    }
}
