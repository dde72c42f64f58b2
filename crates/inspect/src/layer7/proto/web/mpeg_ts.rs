//! MPEG transport streams (ISO 13818-1) in datagrams.

use crate::layer7::protocol::{NameOnly, Protocol, Seen, Session, Transport, Verdict};

#[derive(Debug)]
pub(super) struct MpegTs;

const PACKET_LEN: usize = 188;
const SYNC: u8 = 0x47;

impl Protocol for MpegTs {
    fn name(&self) -> &'static str {
        "mpeg-ts"
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let newest = seen.newest();
        let is_whole = !newest.is_empty() && newest.len().is_multiple_of(PACKET_LEN);
        if !is_whole
            || newest
                .chunks(PACKET_LEN)
                .any(|packet| packet[0] != SYNC || packet[3] & 0x30 == 0)
        {
            return Verdict::No;
        }
        if newest.len() > 2 * PACKET_LEN {
            Verdict::certain(seen.side)
        } else {
            Verdict::likely(seen.side)
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn by_the_marks_of_its_packets() {
        let mut packet = [0u8; 188];
        packet[..4].copy_from_slice(&[0x47, 0x40, 0, 0x10]);
        kit::check_datagrams(&[(0, &packet.repeat(7))], Some("mpeg-ts"), &[]);
        kit::check_datagrams(&[(0, &packet[..187])], None, &[]);
        kit::check_datagrams(&[(0, &[0x47; 100].repeat(2))], None, &[]);
    }
}
