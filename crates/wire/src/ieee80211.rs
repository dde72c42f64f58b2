//! IEEE 802.11 frames and the headers that monitors put before them.

use crate::{Load, Reject, link};

/// LINKTYPE_IEEE802_11, as PPI names what follows it.
const LINKTYPE_80211: u32 = 105;

/// From a MAC header to the LLC payload. Only unprotected data frames carry readable packets.
pub(crate) fn enter(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    let [control, flags] = load.bytes::<2>(at).ok_or(Reject::LinkShort)?;
    let (kind, subtype) = (control >> 2 & 3, control >> 4);
    const DATA: u8 = 2;
    let has_no_payload = subtype & 4 != 0;
    if kind != DATA || has_no_payload {
        return Err(Reject::NotIp);
    }
    const PROTECTED: u8 = 0x40;
    if flags & PROTECTED != 0 {
        return Err(Reject::Encrypted);
    }
    let mut len = 24;
    let between_stations = flags & 3 == 3;
    if between_stations {
        len += 6;
    }
    let quality_of_service = subtype & 8 != 0;
    if quality_of_service {
        len += 2;
        const ORDER: u8 = 0x80;
        if flags & ORDER != 0 {
            len += 4;
        }
    }
    link::llc(load, at + len)
}

/// Radiotap states its own length (little-endian, bytes 2 and 3); bits of its first word say
/// whether the MAC header is padded to four bytes.
pub(crate) fn enter_radiotap(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    let b = load.bytes::<4>(at).ok_or(Reject::LinkShort)?;
    let len = u16::from_le_bytes([b[2], b[3]]) as usize;
    if len < 8 {
        return Err(Reject::LinkShort);
    }
    enter(load, at + len)
}

/// AVS states its length at byte 4 (big-endian); a Prism header is always 144 bytes.
pub(crate) fn enter_prism(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    let b = load.bytes::<8>(at).ok_or(Reject::LinkShort)?;
    const AVS_MAGIC: [u8; 2] = [0x80, 0x21];
    let len = if b[..2] == AVS_MAGIC {
        u32::from_be_bytes([b[4], b[5], b[6], b[7]]) as usize & 0xffff
    } else {
        144
    };
    enter(load, at + len)
}

/// PPI: length at byte 2, link type at byte 4, both little-endian.
pub(crate) fn enter_ppi(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    let b = load.bytes::<8>(at).ok_or(Reject::LinkShort)?;
    let len = u16::from_le_bytes([b[2], b[3]]) as usize;
    if u32::from_le_bytes([b[4], b[5], b[6], b[7]]) != LINKTYPE_80211 {
        return Err(Reject::NotIp);
    }
    enter(load, at + len)
}
