//! IEEE 802.11 frames and the headers that monitors put before them.

use crate::{Load, Reject, link};

/// LINKTYPE_IEEE802_11, as PPI names what follows it.
const LINKTYPE_80211: u32 = 105;

/// From a MAC header to the LLC payload. Only unprotected data frames carry readable packets.
pub(crate) fn enter(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    enter_aligned(load, at, 1)
}

/// As [`enter`], for a device that pads the MAC header to a multiple of `align` bytes.
fn enter_aligned(load: &(impl Load + ?Sized), at: usize, align: usize) -> Result<(usize, u16), Reject> {
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
    let mut len = 24usize;
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
    link::llc(load, at + len.next_multiple_of(align))
}

/// Words of the presence bit map walked in a radiotap header; real ones have up to four.
const RADIOTAP_WORDS_MAX: usize = 16;

/// Radiotap states its own length (little-endian, bytes 2 and 3).
pub(crate) fn enter_radiotap(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    let b = load.bytes::<4>(at).ok_or(Reject::LinkShort)?;
    let len = u16::from_le_bytes([b[2], b[3]]) as usize;
    if len < 8 {
        return Err(Reject::LinkShort);
    }
    const DATA_PADDED: u8 = 0x20;
    let is_padded = radiotap_flags(load, at).is_some_and(|flags| flags & DATA_PADDED != 0);
    enter_aligned(load, at + len, if is_padded { 4 } else { 1 })
}

/// The "flags" field: the second one, after the time stamp (8 bytes, aligned to 8), if both are
/// there by the first word of the bit map. Bit 31 of each word says that another follows.
fn radiotap_flags(load: &(impl Load + ?Sized), at: usize) -> Option<u8> {
    let first_word = load.bytes::<4>(at + 4)?[0];
    const TIME_STAMP: u8 = 1;
    const FLAGS: u8 = 2;
    if first_word & FLAGS == 0 {
        return None;
    }
    let mut offset = 4;
    for _ in 0..RADIOTAP_WORDS_MAX {
        let is_last = load.bytes::<4>(at + offset)?[3] & 0x80 == 0;
        offset += 4;
        if is_last {
            if first_word & TIME_STAMP != 0 {
                offset = offset.next_multiple_of(8) + 8;
            }
            return load.byte(at + offset);
        }
    }
    None
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
    if len < 8 {
        return Err(Reject::LinkShort);
    }
    if u32::from_le_bytes([b[4], b[5], b[6], b[7]]) != LINKTYPE_80211 {
        return Err(Reject::NotIp);
    }
    enter(load, at + len)
}
