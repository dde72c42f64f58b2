//! The pcapng format: blocks of type, length, body, options and the length again.

use super::error::CapErrorKind;
use super::time::TimeScale;
use super::{
    INTERFACE_NAME_LEN_MAX, INTERFACES_MAX, Interface, OPTIONS_LEN_MAX, Order, PacketRef, ReaderStats, Step,
    packet_len_max,
};

/// The type of a Section Header Block reads the same in both byte orders.
pub(super) const SECTION_HEADER_BYTES: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
/// Obsolete, still met in files of Wireshark 1.0's time.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

const OPT_END: u16 = 0;
const OPT_COMMENT: u16 = 1;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;
/// `epb_flags` and `pack_flags` have the same number.
const PACKET_FLAGS: u16 = 2;

/// Type and length.
const BLOCK_HEADER_LEN: usize = 8;
/// The length again.
const TRAILER_LEN: usize = 4;
/// Bytes before the data of an Enhanced Packet Block, and of the obsolete Packet Block.
const PACKET_FIXED_LEN: usize = BLOCK_HEADER_LEN + 20;
/// Bytes before the data of a Simple Packet Block.
const SIMPLE_FIXED_LEN: usize = BLOCK_HEADER_LEN + 4;

/// Where in the block structure the reader is.
#[derive(Debug)]
pub(super) struct PcapngState {
    order: Order,
    /// Bytes of the current block still to step over, its trailer not included.
    skip_len: usize,
    /// The length whose copy must follow once `skip_len` is 0; 0 outside a skipped block.
    skipped_block_len: u32,
    /// For packets without a time of their own.
    last_ns: u64,
}

/// A block that is wholly in the buffer.
struct Block<'a> {
    order: Order,
    /// From the type up to, not with, the trailing length.
    bytes: &'a [u8],
}

impl PcapngState {
    pub(super) fn new() -> Self {
        Self {
            order: Order { big: false },
            skip_len: 0,
            skipped_block_len: 0,
            last_ns: 0,
        }
    }

    /// Whether a block is being stepped over, so that the input must not end here.
    pub(super) fn inside_block(&self) -> bool {
        self.skipped_block_len != 0
    }

    /// Bytes of the skipped block still to come, its trailer included.
    pub(super) fn skip_remaining(&self) -> usize {
        self.skip_len + TRAILER_LEN
    }

    /// The next packet. Advances `input` past every whole block on the way.
    #[inline]
    pub(super) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
        stats: &mut ReaderStats,
        interfaces: &mut Vec<Interface>,
    ) -> Result<Step<'a>, CapErrorKind> {
        loop {
            if self.inside_block() {
                if let Some(at_least) = self.skip(input)? {
                    return Ok(Step::NeedMore { at_least });
                }
                stats.skipped_blocks += 1;
            }
            let Some(header) = input.first_chunk::<BLOCK_HEADER_LEN>() else {
                return Ok(Step::NeedMore {
                    at_least: BLOCK_HEADER_LEN,
                });
            };
            let [t0, t1, t2, t3, l0, l1, l2, l3] = *header;
            let block_type = self.order.u32([t0, t1, t2, t3]);
            if block_type == SECTION_HEADER {
                let Some(magic) = input.get(8..12).and_then(|bytes| bytes.first_chunk()) else {
                    return Ok(Step::NeedMore { at_least: 12 });
                };
                self.order = byte_order(*magic)?;
            }
            let length = self.order.u32([l0, l1, l2, l3]);
            let block_len = checked_block_len(block_type, length, interfaces)?;
            if !matches!(
                block_type,
                SECTION_HEADER | INTERFACE_DESCRIPTION | ENHANCED_PACKET | SIMPLE_PACKET | PACKET
            ) {
                *input = &input[BLOCK_HEADER_LEN..];
                self.skip_len = block_len - BLOCK_HEADER_LEN - TRAILER_LEN;
                self.skipped_block_len = length;
                continue;
            }
            let Some((whole, rest)) = input.split_at_checked(block_len) else {
                return Ok(Step::NeedMore { at_least: block_len });
            };
            let (bytes, trailer) = whole.split_at(block_len - TRAILER_LEN);
            self.check_trailer(length, trailer)?;
            let block = Block {
                order: self.order,
                bytes,
            };
            let packet = match block_type {
                SECTION_HEADER => {
                    block.check_section_version()?;
                    stats.sections += 1;
                    interfaces.clear();
                    None
                }
                INTERFACE_DESCRIPTION => {
                    if interfaces.len() >= INTERFACES_MAX {
                        return Err(CapErrorKind::TooManyInterfaces {
                            limit: INTERFACES_MAX,
                        });
                    }
                    interfaces.push(block.interface(stats));
                    None
                }
                SIMPLE_PACKET => Some(block.simple_packet(self.last_ns, stats, interfaces)?),
                _ => Some(block.packet(block_type, stats, interfaces)?),
            };
            *input = rest;
            if let Some(packet) = packet {
                self.last_ns = packet.ts_ns;
                stats.packets += 1;
                return Ok(Step::Packet(packet));
            }
        }
    }

    /// Steps over what is here of a skipped block; `Some(bytes)` where more must come.
    fn skip(&mut self, input: &mut &[u8]) -> Result<Option<usize>, CapErrorKind> {
        let here = self.skip_len.min(input.len());
        self.skip_len -= here;
        *input = &input[here..];
        if self.skip_len > 0 {
            return Ok(Some(1));
        }
        let Some((trailer, rest)) = input.split_at_checked(TRAILER_LEN) else {
            return Ok(Some(TRAILER_LEN));
        };
        self.check_trailer(self.skipped_block_len, trailer)?;
        *input = rest;
        self.skipped_block_len = 0;
        Ok(None)
    }

    #[inline(always)]
    fn check_trailer(&self, first: u32, trailer: &[u8]) -> Result<(), CapErrorKind> {
        let second = self.order.u32_at(trailer, 0).unwrap_or(0);
        if first == second {
            Ok(())
        } else {
            Err(CapErrorKind::BlockTrailer { first, second })
        }
    }
}

fn byte_order(magic: [u8; 4]) -> Result<Order, CapErrorKind> {
    if u32::from_le_bytes(magic) == BYTE_ORDER_MAGIC {
        Ok(Order { big: false })
    } else if u32::from_be_bytes(magic) == BYTE_ORDER_MAGIC {
        Ok(Order { big: true })
    } else {
        Err(CapErrorKind::ByteOrderMagic {
            found: u32::from_be_bytes(magic),
        })
    }
}

/// The bytes a block takes: its length rounded up to four, which some writers forget to do.
#[inline(always)]
fn checked_block_len(block_type: u32, length: u32, interfaces: &[Interface]) -> Result<usize, CapErrorKind> {
    let (min, max) = match block_type {
        ENHANCED_PACKET | PACKET => (PACKET_FIXED_LEN + TRAILER_LEN, packet_block_len_max(interfaces)),
        SIMPLE_PACKET => (SIMPLE_FIXED_LEN + TRAILER_LEN, packet_block_len_max(interfaces)),
        SECTION_HEADER => (28, OPTIONS_LEN_MAX),
        INTERFACE_DESCRIPTION => (20, OPTIONS_LEN_MAX),
        _ => (BLOCK_HEADER_LEN + TRAILER_LEN, super::BLOCK_LEN_MAX),
    };
    if (min..=max).contains(&(length as usize)) {
        Ok((length as usize).next_multiple_of(4))
    } else {
        Err(CapErrorKind::BlockLength {
            block_type,
            length,
            min: min as u32,
            max: max as u32,
        })
    }
}

/// The block's interface is not known before the block is read, so the widest of all counts.
#[inline(always)]
fn packet_block_len_max(interfaces: &[Interface]) -> usize {
    // One interface is the rule; a scan over many costs less than the packet's copy from disk.
    let longest = match interfaces {
        [only] => packet_len_max(only.linktype),
        _ => widest_packet(interfaces),
    };
    longest + OPTIONS_LEN_MAX
}

#[inline(never)]
fn widest_packet(interfaces: &[Interface]) -> usize {
    interfaces
        .iter()
        .map(|interface| packet_len_max(interface.linktype))
        .max()
        .unwrap_or(0)
}

impl<'a> Block<'a> {
    fn check_section_version(&self) -> Result<(), CapErrorKind> {
        let major = self.order.u16_at(self.bytes, 12).unwrap_or(0);
        let minor = self.order.u16_at(self.bytes, 14).unwrap_or(0);
        // 1.2 was written by mistake for 1.0 (draft-ietf-opsawg-pcapng, section 4.1).
        match (major, minor) {
            (1, 0 | 2) => Ok(()),
            _ => Err(CapErrorKind::Version {
                format: "pcapng",
                expected: "1.0",
                major,
                minor,
            }),
        }
    }

    fn interface(&self, stats: &mut ReaderStats) -> Interface {
        let mut interface = Interface {
            name: String::new(),
            linktype: self.order.u16_at(self.bytes, 8).unwrap_or(0),
            snaplen: self.order.u32_at(self.bytes, 12).unwrap_or(0),
            time: TimeScale::MICROSECONDS,
        };
        let (mut tsresol, mut tsoffset_s) = (6, 0);
        let mut options = self.options(16);
        for (code, value) in &mut options {
            match code {
                IF_NAME => {
                    let cut = &value[..value.len().min(INTERFACE_NAME_LEN_MAX)];
                    interface.name = utf8_prefix(cut).to_owned();
                }
                IF_TSRESOL => tsresol = value.first().copied().unwrap_or(tsresol),
                IF_TSOFFSET => {
                    if let Some(bytes) = value.first_chunk::<8>() {
                        let seconds = if self.order.big {
                            i64::from_be_bytes(*bytes)
                        } else {
                            i64::from_le_bytes(*bytes)
                        };
                        tsoffset_s = seconds;
                    }
                }
                _ => {}
            }
        }
        stats.bad_options += u64::from(options.ran_past_the_end);
        interface.time = TimeScale::new(tsresol, tsoffset_s);
        interface
    }

    /// An Enhanced Packet Block or the obsolete Packet Block. They differ in the first four bytes:
    /// a 32-bit interface against a 16-bit one and a 16-bit count of drops.
    #[inline]
    fn packet(
        &self,
        block_type: u32,
        stats: &mut ReaderStats,
        interfaces: &[Interface],
    ) -> Result<PacketRef<'a>, CapErrorKind> {
        // The block length was checked against PACKET_FIXED_LEN, so this always holds.
        let Some(fixed) = self.bytes.first_chunk::<PACKET_FIXED_LEN>() else {
            return Err(CapErrorKind::PacketBeyondBlock { length: 0, room: 0 });
        };
        let [_, _, _, _, _, _, _, _, i0, i1, i2, i3, h0, h1, h2, h3, rest @ ..] = *fixed;
        let [l0, l1, l2, l3, c0, c1, c2, c3, o0, o1, o2, o3] = rest;
        let interface_id = if block_type == PACKET {
            u32::from(self.order.u16([i0, i1]))
        } else {
            self.order.u32([i0, i1, i2, i3])
        };
        let interface = find_interface(interfaces, interface_id)?;
        let captured_len = self.order.u32([c0, c1, c2, c3]);
        let data = self.data(PACKET_FIXED_LEN, captured_len, interface)?;
        let ticks =
            u64::from(self.order.u32([h0, h1, h2, h3])) << 32 | u64::from(self.order.u32([l0, l1, l2, l3]));
        let (ts_ns, fits) = interface.time.to_ns(ticks);
        stats.times_out_of_range += u64::from(!fits);
        let mut packet = PacketRef {
            ts_ns,
            orig_len: self.order.u32([o0, o1, o2, o3]),
            linktype: interface.linktype,
            interface_id,
            flags: 0,
            data,
            comment: None,
        };
        let options_at = PACKET_FIXED_LEN + data.len().next_multiple_of(4);
        if options_at < self.bytes.len() {
            self.packet_options(options_at, &mut packet, stats);
        }
        Ok(packet)
    }

    fn packet_options(&self, at: usize, packet: &mut PacketRef<'a>, stats: &mut ReaderStats) {
        let mut options = self.options(at);
        for (code, value) in &mut options {
            match code {
                OPT_COMMENT if packet.comment.is_none() => {
                    packet.comment = Some(utf8_prefix(value));
                }
                PACKET_FLAGS => packet.flags = self.order.u32_at(value, 0).unwrap_or(0),
                _ => {}
            }
        }
        stats.bad_options += u64::from(options.ran_past_the_end);
    }

    /// A Simple Packet Block: no time, no captured length, the first interface.
    fn simple_packet(
        &self,
        last_ns: u64,
        stats: &mut ReaderStats,
        interfaces: &[Interface],
    ) -> Result<PacketRef<'a>, CapErrorKind> {
        let interface = find_interface(interfaces, 0)?;
        let orig_len = self.order.u32_at(self.bytes, 8).unwrap_or(0);
        let captured_len = match interface.snaplen {
            0 => orig_len,
            snaplen => orig_len.min(snaplen),
        };
        let data = self.data(SIMPLE_FIXED_LEN, captured_len, interface)?;
        stats.packets_without_time += 1;
        Ok(PacketRef {
            ts_ns: last_ns,
            orig_len,
            linktype: interface.linktype,
            interface_id: 0,
            flags: 0,
            data,
            comment: None,
        })
    }

    #[inline(always)]
    fn data(&self, at: usize, length: u32, interface: &Interface) -> Result<&'a [u8], CapErrorKind> {
        let limit = packet_len_max(interface.linktype);
        if length as usize > limit {
            return Err(CapErrorKind::PacketTooLong {
                length: u64::from(length),
                limit: limit as u64,
            });
        }
        self.bytes
            .get(at..at + length as usize)
            .ok_or_else(|| CapErrorKind::PacketBeyondBlock {
                length,
                room: self.bytes.len().saturating_sub(at) as u64,
            })
    }

    fn options(&self, at: usize) -> Options<'a> {
        Options {
            order: self.order,
            rest: self.bytes.get(at..).unwrap_or(&[]),
            ran_past_the_end: false,
        }
    }
}

#[inline(always)]
fn find_interface(interfaces: &[Interface], interface_id: u32) -> Result<&Interface, CapErrorKind> {
    interfaces
        .get(interface_id as usize)
        .ok_or(CapErrorKind::UnknownInterface {
            interface_id,
            interfaces: interfaces.len() as u32,
        })
}

/// Code and value of each option, up to the end mark or the end of the block.
struct Options<'a> {
    order: Order,
    rest: &'a [u8],
    ran_past_the_end: bool,
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let code = self.order.u16_at(self.rest, 0)?;
        let length = usize::from(self.order.u16_at(self.rest, 2)?);
        if code == OPT_END {
            return None;
        }
        let Some(value) = self.rest.get(4..4 + length) else {
            self.ran_past_the_end = true;
            self.rest = &[];
            return None;
        };
        // The last option's padding may be missing.
        self.rest = self.rest.get(4 + length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((code, value))
    }
}

/// The bytes up to the first that is not UTF-8, or to a terminating NUL some writers leave.
fn utf8_prefix(bytes: &[u8]) -> &str {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = &bytes[..error.valid_up_to()];
            std::str::from_utf8(valid).unwrap_or_default()
        }
    };
    text.trim_end_matches('\0')
}
