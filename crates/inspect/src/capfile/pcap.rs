//! The classic pcap format: one file header, then records of a fixed header and the packet.

use super::error::CapErrorKind;
use super::time::{TimeScale, pcap_ns};
use super::{Format, Interface, Order, PacketRef, ReaderStats, Step, packet_len_max};

/// Length of the file header in bytes.
const FILE_HEADER_LEN: usize = 24;
/// The IXIA variants state the length of all records after the header.
const IXIA_EXTRA_LEN: usize = 4;
const RECORD_HEADER_LEN: usize = 16;
/// Interface index, protocol and packet type follow the usual fields.
const MODIFIED_RECORD_HEADER_LEN: usize = 24;

const MAGIC_MICRO: u32 = 0xa1b2_c3d4;
const MAGIC_NANO: u32 = 0xa1b2_3c4d;
const MAGIC_MODIFIED: u32 = 0xa1b2_cd34;
const MAGIC_IXIA_HARDWARE: u32 = 0x1c00_01ac;
const MAGIC_IXIA_SOFTWARE: u32 = 0x1c00_01ab;

/// Which of a record's two lengths comes first; programs before pcap 2.4 disagreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LengthOrder {
    CapturedFirst,
    OriginalFirst,
    /// Version 2.3 was written both ways: the smaller is the captured length.
    SmallerIsCaptured,
}

/// What the file header says about every record.
#[derive(Debug)]
pub(super) struct PcapState {
    order: Order,
    format: Format,
    ns_per_fraction: u32,
    record_header_len: usize,
    length_order: LengthOrder,
    linktype: u16,
    packet_len_max: usize,
}

/// What [`PcapState::parse_file_header`] made of the first bytes.
pub(super) enum FileHeader {
    Parsed {
        state: PcapState,
        interface: Interface,
        consumed: usize,
    },
    NeedMore {
        at_least: usize,
    },
}

impl PcapState {
    /// Reads the file header at the front of `input`, which holds at least four bytes.
    pub(super) fn parse_file_header(input: &[u8]) -> Result<FileHeader, CapErrorKind> {
        let Some(&magic) = input.first_chunk::<4>() else {
            return Ok(FileHeader::NeedMore { at_least: 4 });
        };
        let (little, big) = (u32::from_le_bytes(magic), u32::from_be_bytes(magic));
        let recognised = recognise(little)
            .map(|format| (format, false))
            .or_else(|| recognise(big).map(|format| (format, true)));
        let Some(((format, extra_len), big)) = recognised else {
            return Err(CapErrorKind::NotACapture { magic });
        };
        let consumed = FILE_HEADER_LEN + extra_len;
        let Some(header) = input
            .first_chunk::<FILE_HEADER_LEN>()
            .filter(|_| input.len() >= consumed)
        else {
            return Ok(FileHeader::NeedMore { at_least: consumed });
        };
        let [
            ..,
            major_0,
            major_1,
            minor_0,
            minor_1,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            s0,
            s1,
            s2,
            s3,
            n0,
            n1,
            n2,
            n3,
        ] = *header;
        let order = Order { big };
        let major = order.u16([major_0, major_1]);
        let minor = order.u16([minor_0, minor_1]);
        // The upper half holds the FCS length; link types end at 65,535.
        let linktype = (order.u32([n0, n1, n2, n3]) & 0xffff) as u16;
        let snaplen = order.u32([s0, s1, s2, s3]);
        let length_order = match (major, minor) {
            // 543.0 is what old AIX wrote.
            (2, 0..=2) | (543, _) => LengthOrder::OriginalFirst,
            (2, 3) => LengthOrder::SmallerIsCaptured,
            (2, _) => LengthOrder::CapturedFirst,
            _ => {
                return Err(CapErrorKind::Version {
                    format: "pcap",
                    expected: "2.x",
                    major,
                    minor,
                });
            }
        };
        let state = PcapState {
            order,
            format,
            ns_per_fraction: if format == Format::PcapNano { 1 } else { 1000 },
            record_header_len: match format {
                Format::PcapModified => MODIFIED_RECORD_HEADER_LEN,
                _ => RECORD_HEADER_LEN,
            },
            length_order,
            linktype,
            packet_len_max: packet_len_max(linktype),
        };
        let interface = Interface {
            name: String::new(),
            linktype,
            snaplen,
            time: TimeScale::MICROSECONDS,
        };
        Ok(FileHeader::Parsed {
            state,
            interface,
            consumed,
        })
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// The next record. Advances `input` only past a whole one.
    #[inline]
    pub(super) fn next<'a>(
        &self,
        input: &mut &'a [u8],
        stats: &mut ReaderStats,
    ) -> Result<Step<'a>, CapErrorKind> {
        let Some(header) = input.first_chunk::<RECORD_HEADER_LEN>() else {
            return Ok(Step::NeedMore {
                at_least: self.record_header_len,
            });
        };
        let (captured_len, orig_len) = self.lengths(header);
        if captured_len as usize > self.packet_len_max {
            return Err(CapErrorKind::PacketTooLong {
                length: u64::from(captured_len),
                limit: self.packet_len_max as u64,
            });
        }
        let record_len = self.record_header_len + captured_len as usize;
        let Some((record, rest)) = input.split_at_checked(record_len) else {
            return Ok(Step::NeedMore { at_least: record_len });
        };
        let [s0, s1, s2, s3, f0, f1, f2, f3, ..] = *header;
        let seconds = self.order.u32([s0, s1, s2, s3]);
        let fraction = self.order.u32([f0, f1, f2, f3]);
        *input = rest;
        stats.packets += 1;
        Ok(Step::Packet(PacketRef {
            ts_ns: pcap_ns(seconds, fraction, self.ns_per_fraction),
            orig_len,
            linktype: self.linktype,
            interface_id: 0,
            flags: 0,
            data: &record[self.record_header_len..],
            comment: None,
        }))
    }

    /// Captured and original length of a record.
    #[inline(always)]
    fn lengths(&self, header: &[u8; RECORD_HEADER_LEN]) -> (u32, u32) {
        let [.., a0, a1, a2, a3, b0, b1, b2, b3] = *header;
        let first = self.order.u32([a0, a1, a2, a3]);
        let second = self.order.u32([b0, b1, b2, b3]);
        match self.length_order {
            LengthOrder::CapturedFirst => (first, second),
            LengthOrder::OriginalFirst => (second, first),
            LengthOrder::SmallerIsCaptured => (first.min(second), first.max(second)),
        }
    }
}

/// Format and extra header bytes of a magic number already in the reader's byte order.
fn recognise(magic: u32) -> Option<(Format, usize)> {
    match magic {
        MAGIC_MICRO => Some((Format::PcapMicro, 0)),
        MAGIC_NANO => Some((Format::PcapNano, 0)),
        MAGIC_MODIFIED => Some((Format::PcapModified, 0)),
        MAGIC_IXIA_HARDWARE | MAGIC_IXIA_SOFTWARE => Some((Format::PcapMicro, IXIA_EXTRA_LEN)),
        _ => None,
    }
}
