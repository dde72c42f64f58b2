//! ARP for IPv4 over Ethernet (RFC 826).

use crate::Load;

/// View over a 28-byte ARP packet.
#[derive(Clone, Copy, Debug)]
pub struct View([u8; 28]);

/// What an ARP packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// 1 request, 2 reply; others as sent.
    pub operation: u16,
    pub sender_mac: [u8; 6],
    pub sender_ip: [u8; 4],
    pub target_mac: [u8; 6],
    pub target_ip: [u8; 4],
}

impl View {
    /// `None` if the 28 bytes are not there.
    pub fn load(load: &(impl Load + ?Sized), at: usize) -> Option<Self> {
        load.bytes(at).map(Self)
    }

    /// The meaning, or `None` if this is not IPv4 over Ethernet.
    #[must_use]
    pub fn repr(&self) -> Option<Repr> {
        let b = &self.0;
        if b[..6] != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        Some(Repr {
            operation: u16::from_be_bytes([b[6], b[7]]),
            sender_mac: [b[8], b[9], b[10], b[11], b[12], b[13]],
            sender_ip: [b[14], b[15], b[16], b[17]],
            target_mac: [b[18], b[19], b[20], b[21], b[22], b[23]],
            target_ip: [b[24], b[25], b[26], b[27]],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::hex;

    const REQUEST: &str = "0001080006040001ba092b6ef8be0a0000010000000000000a000002";

    #[test]
    fn request() {
        let view = View::load(hex(REQUEST).as_slice(), 0).unwrap();
        let expected = Repr {
            operation: 1,
            sender_mac: [0xba, 0x09, 0x2b, 0x6e, 0xf8, 0xbe],
            sender_ip: [10, 0, 0, 1],
            target_mac: [0; 6],
            target_ip: [10, 0, 0, 2],
        };
        assert_eq!(view.repr(), Some(expected));
    }

    #[test]
    fn other_hardware_and_short_packets_have_no_meaning() {
        let frame_relay = REQUEST.replacen("0001", "000f", 1);
        assert_eq!(View::load(hex(&frame_relay).as_slice(), 0).unwrap().repr(), None);
        assert!(View::load(&hex(REQUEST)[..27], 0).is_none());
    }
}
