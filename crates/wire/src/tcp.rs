//! TCP header and options (RFC 9293, RFC 7323, RFC 2018).

use crate::Load;

/// Length of the header without options, in bytes.
pub const HEADER_LEN: usize = 20;

/// Options walked in one header: 40 bytes hold at most 40 one-byte options, real stacks send
/// about eight.
pub const OPTIONS_MAX: usize = 16;

/// The control bits, as they stand in the header's 14th byte.
pub mod flag {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
    pub const ECE: u8 = 0x40;
    pub const CWR: u8 = 0x80;
}

/// View over the fixed part of a TCP header.
#[derive(Clone, Copy, Debug)]
pub struct View([u8; HEADER_LEN]);

impl View {
    /// `None` if the 20 bytes are not there.
    #[inline(always)]
    pub fn load(load: &(impl Load + ?Sized), at: usize) -> Option<Self> {
        load.bytes(at).map(Self)
    }

    #[inline(always)]
    #[must_use]
    pub const fn src_port(&self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    #[inline(always)]
    #[must_use]
    pub const fn dst_port(&self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    #[inline(always)]
    #[must_use]
    pub const fn seq(&self) -> u32 {
        u32::from_be_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    #[inline(always)]
    #[must_use]
    pub const fn ack(&self) -> u32 {
        u32::from_be_bytes([self.0[8], self.0[9], self.0[10], self.0[11]])
    }

    /// Header length with options, in bytes: 0 to 60.
    #[inline(always)]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        (self.0[12] >> 4) as usize * 4
    }

    /// Control bits, see [`flag`].
    #[inline(always)]
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.0[13]
    }

    /// The window field, unscaled.
    #[inline(always)]
    #[must_use]
    pub const fn window(&self) -> u16 {
        u16::from_be_bytes([self.0[14], self.0[15]])
    }
}

/// The options Weir reads. Zero means absent, but for `window_scale`, which is
/// [`NO_WINDOW_SCALE`] then.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Timestamp value and echo (RFC 7323), 0 if absent.
    pub ts_value: u32,
    pub ts_echo: u32,
    /// Maximum segment size, only in SYN segments.
    pub mss: u16,
    /// Shift count 0 to 14, or [`NO_WINDOW_SCALE`].
    pub window_scale: u8,
    /// Bits of [`seen`].
    pub seen: u8,
}

/// `window_scale` of a segment without that option.
pub const NO_WINDOW_SCALE: u8 = 0xff;

/// Which options were there.
pub mod seen {
    pub const MSS: u8 = 1;
    pub const WINDOW_SCALE: u8 = 2;
    pub const SACK_PERMITTED: u8 = 4;
    pub const SACK: u8 = 8;
    pub const TIMESTAMPS: u8 = 16;
    /// The list ended in the middle of an option or an option lied about its length.
    pub const MALFORMED: u8 = 128;
}

impl Default for Options {
    #[inline(always)]
    fn default() -> Self {
        Self {
            ts_value: 0,
            ts_echo: 0,
            mss: 0,
            window_scale: NO_WINDOW_SCALE,
            seen: 0,
        }
    }
}

impl Options {
    /// Walks the options between `at` and `end` (offsets into the frame).
    #[inline(always)]
    pub fn load(load: &(impl Load + ?Sized), mut at: usize, end: usize) -> Self {
        let mut options = Self::default();
        for _ in 0..OPTIONS_MAX {
            at = load.forget(at);
            options.seen = load.forget(options.seen as usize) as u8;
            if at >= end {
                break;
            }
            let Some(kind) = load.byte(at) else { break };
            if kind == 0 {
                break;
            }
            if kind == 1 {
                at += 1;
                continue;
            }
            // A short capture ends the list without a judgement.
            let Some(len) = load.byte(at + 1) else { break };
            let len = len as usize;
            if len < 2 || at + len > end {
                options.seen |= seen::MALFORMED;
                break;
            }
            options.take(load, at, kind, len);
            at += len;
        }
        options
    }

    #[inline(always)]
    fn take(&mut self, load: &(impl Load + ?Sized), at: usize, kind: u8, len: usize) {
        match (kind, len) {
            (2, 4) => {
                if let Some(mss) = load.be16(at + 2) {
                    self.mss = mss;
                    self.seen |= seen::MSS;
                }
            }
            (3, 3) => {
                if let Some(shift) = load.byte(at + 2) {
                    self.window_scale = if shift > 14 { 14 } else { shift };
                    self.seen |= seen::WINDOW_SCALE;
                }
            }
            (4, 2) => self.seen |= seen::SACK_PERMITTED,
            (5, _) => self.seen |= seen::SACK,
            (8, 10) => {
                if let Some(b) = load.bytes::<8>(at + 2) {
                    self.ts_value = u32::from_be_bytes([b[0], b[1], b[2], b[3]]);
                    self.ts_echo = u32::from_be_bytes([b[4], b[5], b[6], b[7]]);
                    self.seen |= seen::TIMESTAMPS;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{IP4_TCP_SYN, hex};

    #[test]
    fn fields() {
        let view = View::load(hex(IP4_TCP_SYN).as_slice(), 20).unwrap();
        assert_eq!((view.src_port(), view.dst_port()), (11001, 23));
        assert_eq!((view.seq(), view.ack()), (0x9832_0ffb, 0));
        assert_eq!(
            (view.header_len(), view.flags(), view.window()),
            (24, flag::SYN, 4128)
        );
        assert!(View::load(&hex(IP4_TCP_SYN)[..39], 20).is_none());
    }

    fn check(digits: &str, expected: Options) {
        let bytes = hex(digits);
        assert_eq!(Options::load(bytes.as_slice(), 0, bytes.len()), expected);
    }

    #[test]
    fn options_of_a_linux_syn() {
        check(
            "020405b40402080a0e7fe5a00000000701030307",
            Options {
                ts_value: 0x0e7f_e5a0,
                ts_echo: 7,
                mss: 1460,
                window_scale: 7,
                seen: seen::MSS | seen::SACK_PERMITTED | seen::TIMESTAMPS | seen::WINDOW_SCALE,
            },
        );
    }

    #[test]
    fn options_stop_at_the_end_of_the_list() {
        let mss = Options {
            mss: 536,
            seen: seen::MSS,
            ..Options::default()
        };
        check("02040218", mss);
        check("010102040218", mss);
        check("0204021800030307", mss);
        check("", Options::default());
    }

    #[test]
    fn shift_counts_above_14_are_14() {
        let expected = Options {
            window_scale: 14,
            seen: seen::WINDOW_SCALE,
            ..Options::default()
        };
        check("0303ff", expected);
    }

    #[test]
    fn options_that_lie_about_their_length() {
        let malformed = Options {
            seen: seen::MALFORMED,
            ..Options::default()
        };
        check("0200", malformed);
        check("0201", malformed);
        check("020405", malformed);
        check("fe28", malformed);
        // A known kind with another length is stepped over.
        check(
            "02030003030101",
            Options {
                window_scale: 1,
                seen: seen::WINDOW_SCALE,
                ..Options::default()
            },
        );
        check(
            "0506000000010000",
            Options {
                seen: seen::SACK,
                ..Options::default()
            },
        );
    }

    #[test]
    fn options_that_the_capture_cuts_are_not_malformed() {
        let bytes = hex("0204021803");
        let mss = Options {
            mss: 536,
            seen: seen::MSS,
            ..Options::default()
        };
        assert_eq!(Options::load(bytes.as_slice(), 0, 12), mss);
        assert_eq!(Options::load(&bytes[..3], 0, 12), Options::default());
    }

    #[test]
    fn the_walk_is_bounded() {
        let mut bytes = [1u8; 40];
        bytes[OPTIONS_MAX..OPTIONS_MAX + 4].copy_from_slice(&[2, 4, 5, 0xb4]);
        assert_eq!(Options::load(&bytes[..], 0, 40), Options::default());
    }
}
