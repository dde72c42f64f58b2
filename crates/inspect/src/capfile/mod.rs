//! Capture files, pcap and pcapng: bytes in, packets out, and back. No files, clocks or sockets.
//!
//! [`Reader::next`] is a cursor over whatever bytes the caller holds: it takes one packet off the
//! front of the slice, without copying, or says how many bytes it must see first. So the same code
//! reads a whole file in memory, a pipe in pieces, and a decompressor's output.
//!
//! What is read:
//! - pcap, µs and ns, both byte orders; versions before 2.4 whose two lengths are swapped; the
//!   "modified" format of Alexey Kuznetzov's libpcap patches (magic `a1b2cd34`, 24-byte record
//!   headers); the two IXIA `lcap` magics (a length field after the header).
//! - pcapng, both byte orders, any number of sections: Section Header, Interface Description
//!   (name, link type, snap length, `if_tsresol`, `if_tsoffset`), Enhanced Packet, Simple Packet
//!   and the obsolete Packet Block. Name resolution, statistics, secrets, custom and unknown
//!   blocks are stepped over without being buffered, and counted.
//!
//! A broken file gives every packet before the break, then one [`CapError`] with the offset.
//!
//! Why own framing and not the `pcap-parser` crate: over a 115 MB file read through a 1 MiB buffer
//! both wait for memory (18 against 16 million packets a second for pcap, 14 against 11 for pcapng,
//! one EPYC core, medians of nine), over cached bytes this module frames pcapng twice as fast. So
//! speed would allow either; but the crate neither gives the file offset of an error nor caps
//! lengths nor steps over a large block unbuffered, and it leaves swapped lengths, time scales
//! and interface look-up to its caller, so what remained of it would be the field offsets.
//!
//! Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng (names of blocks and options are
//! theirs), and how Wireshark 4.0 reads files these drafts are silent about.

mod error;
mod pcap;
mod pcapng;
mod time;
mod writer;

#[cfg(test)]
mod tests;

pub use error::{CapError, CapErrorKind};
pub use writer::{Direction, InterfaceId, InterfaceInfo, InterfaceStatistics, PacketInfo};
pub use writer::{PcapWriter, PcapngWriter, SectionInfo};

/// Longest packet accepted from (and written to) a file, in bytes: libpcap's and Wireshark's limit.
pub const PACKET_LEN_MAX: usize = 256 * 1024;
/// The same for the link types whose packets are longer by nature (USBPcap, D-Bus, EBHSCR).
pub const LARGE_PACKET_LEN_MAX: usize = 128 * 1024 * 1024;
/// Longest pcapng block stepped over, in bytes. A longer one is taken for damage.
pub const BLOCK_LEN_MAX: usize = 256 * 1024 * 1024;
/// Room for options in a packet block, and for a whole header block, in bytes.
pub const OPTIONS_LEN_MAX: usize = 1024 * 1024;
/// Most interfaces in one section. More is taken for an attempt to fill memory.
pub const INTERFACES_MAX: usize = 65_536;
/// Interface names are cut to this many bytes.
pub const INTERFACE_NAME_LEN_MAX: usize = 256;

/// The longest packet a file of this link type may hold, in bytes.
pub fn packet_len_max(linktype: u16) -> usize {
    const USBPCAP: u16 = 249;
    const DBUS: u16 = 231;
    const EBHSCR: u16 = 279;
    match linktype {
        USBPCAP | DBUS | EBHSCR => LARGE_PACKET_LEN_MAX,
        _ => PACKET_LEN_MAX,
    }
}

/// One packet, borrowed from the bytes given to [`Reader::next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketRef<'a> {
    /// Time stamp in nanoseconds since 1970-01-01 UTC. Times before that read 0, times past the
    /// year 2554 `u64::MAX`. A Simple Packet Block has no time: it takes that of the packet before.
    pub ts_ns: u64,
    /// Length on the wire in bytes, as the file states it (it may lie, also below `data.len()`).
    pub orig_len: u32,
    /// LINKTYPE_ number of `data`, upper bits (FCS length) removed.
    pub linktype: u16,
    /// Index into [`Reader::interfaces`] (always 0 in a pcap file).
    pub interface_id: u32,
    /// `epb_flags` (or those of a Packet Block) as stored, 0 where absent. See [`Direction`].
    pub flags: u32,
    /// The captured bytes.
    pub data: &'a [u8],
    /// The first `opt_comment`, cut before the first byte that is not UTF-8.
    pub comment: Option<&'a str>,
}

impl PacketRef<'_> {
    /// Which way the packet went, where the file says so.
    pub fn direction(&self) -> Direction {
        Direction::from_flags(self.flags)
    }
}

/// What [`Reader::next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// A packet; it has been taken off the slice.
    Packet(PacketRef<'a>),
    /// The slice must hold at least this many bytes before there is progress. At the end of the
    /// input call [`Reader::finish`].
    NeedMore { at_least: usize },
}

/// An interface of the current section (pcapng), or the one a pcap file implies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// `if_name`, empty where absent.
    pub name: String,
    /// LINKTYPE_ number.
    pub linktype: u16,
    /// Snap length in bytes, 0 for no limit.
    pub snaplen: u32,
    time: time::TimeScale,
}

/// Which format a file turned out to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// pcap with µs time stamps.
    PcapMicro,
    /// pcap with ns time stamps.
    PcapNano,
    /// pcap with the longer record header of Kuznetzov's patches.
    PcapModified,
    /// pcapng.
    Pcapng,
}

/// What a reader has seen so far besides what it returned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReaderStats {
    /// Packets returned.
    pub packets: u64,
    /// Sections begun (pcapng).
    pub sections: u64,
    /// Blocks stepped over: statistics, names, secrets, custom and unknown ones.
    pub skipped_blocks: u64,
    /// Packets and interfaces whose options ran past their block; the packet itself was kept.
    pub bad_options: u64,
    /// Packets without a time stamp of their own (Simple Packet Blocks).
    pub packets_without_time: u64,
    /// Packets whose time does not fit `ts_ns` and was moved to its nearest end.
    pub times_out_of_range: u64,
}

/// Reads one capture file from pieces of bytes. One `Reader` a file.
#[derive(Debug)]
pub struct Reader {
    /// Bytes taken off all slices so far: the file offset of the slice's front.
    offset: u64,
    /// What the last `NeedMore` asked for, to say so if the file ends there.
    needed: usize,
    stats: ReaderStats,
    interfaces: Vec<Interface>,
    state: State,
}

#[derive(Debug)]
enum State {
    Start,
    Pcap(pcap::PcapState),
    Pcapng(pcapng::PcapngState),
    Failed(CapError),
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// A reader at the start of a file.
    pub fn new() -> Self {
        Self {
            offset: 0,
            needed: 0,
            stats: ReaderStats::default(),
            interfaces: Vec::new(),
            state: State::Start,
        }
    }

    /// Takes the next packet off the front of `input`, or says how many bytes it needs.
    ///
    /// `input` is advanced past everything consumed, also when more is needed (headers and skipped
    /// blocks); what is left must be at the front of the next call's slice.
    ///
    /// # Errors
    /// The file is not a capture or is damaged here. Every later call gives the same error.
    #[inline]
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, CapError> {
        let before = input.len();
        let stepped = match &mut self.state {
            State::Pcap(state) => state.next(input, &mut self.stats),
            State::Pcapng(state) => state.next(input, &mut self.stats, &mut self.interfaces),
            State::Start => return self.start(input),
            State::Failed(error) => return Err(error.clone()),
        };
        self.offset += (before - input.len()) as u64;
        match stepped {
            Ok(Step::Packet(packet)) => Ok(Step::Packet(packet)),
            Ok(Step::NeedMore { at_least }) => Ok(self.need_more(at_least)),
            Err(kind) => Err(self.fail(kind)),
        }
    }

    /// States that the input ended with `rest` left over, after [`Reader::next`] asked for more,
    /// and tells whether that is a good end.
    ///
    /// # Errors
    /// The input is empty, or ends in the middle of something; or [`Reader::next`] failed before.
    pub fn finish(&mut self, rest: &[u8]) -> Result<(), CapError> {
        let had = rest.len() as u64;
        let wanted = match &self.state {
            State::Failed(error) => return Err(error.clone()),
            State::Start if rest.is_empty() => return Err(self.fail(CapErrorKind::Empty)),
            State::Pcapng(state) if state.inside_block() => state.skip_remaining() as u64,
            State::Pcap(_) | State::Pcapng(_) if rest.is_empty() => return Ok(()),
            State::Start | State::Pcap(_) | State::Pcapng(_) => self.needed as u64,
        };
        Err(self.fail(CapErrorKind::Truncated {
            wanted: wanted.max(had + 1),
            had,
        }))
    }

    /// The file offset of the front of the slice, in bytes (of the decompressed data).
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Counts of what has been read.
    pub fn stats(&self) -> ReaderStats {
        self.stats
    }

    /// The interfaces declared so far in the current section; a new section starts afresh.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The format, once the first bytes have been seen.
    pub fn format(&self) -> Option<Format> {
        match &self.state {
            State::Pcap(state) => Some(state.format()),
            State::Pcapng(_) => Some(Format::Pcapng),
            State::Start | State::Failed(_) => None,
        }
    }

    #[cold]
    fn start<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, CapError> {
        let Some(magic) = input.first_chunk::<4>() else {
            return Ok(self.need_more(4));
        };
        if *magic == pcapng::SECTION_HEADER_BYTES {
            self.state = State::Pcapng(pcapng::PcapngState::new());
            return self.next(input);
        }
        let (state, interface, consumed) = match pcap::PcapState::parse_file_header(input) {
            Ok(pcap::FileHeader::Parsed {
                state,
                interface,
                consumed,
            }) => (state, interface, consumed),
            Ok(pcap::FileHeader::NeedMore { at_least }) => return Ok(self.need_more(at_least)),
            Err(kind) => return Err(self.fail(kind)),
        };
        self.state = State::Pcap(state);
        self.interfaces.push(interface);
        self.offset += consumed as u64;
        *input = &input[consumed..];
        self.next(input)
    }

    #[cold]
    fn need_more<'a>(&mut self, at_least: usize) -> Step<'a> {
        self.needed = at_least;
        Step::NeedMore { at_least }
    }

    #[cold]
    fn fail(&mut self, kind: CapErrorKind) -> CapError {
        let error = CapError {
            offset: self.offset,
            kind,
        };
        self.state = State::Failed(error.clone());
        error
    }
}

/// The file's byte order, to read integers with.
#[derive(Debug, Clone, Copy)]
struct Order {
    big: bool,
}

impl Order {
    #[inline(always)]
    fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.big {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    }

    #[inline(always)]
    fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }

    /// The four bytes at `at`, or `None` past the end.
    #[inline(always)]
    fn u32_at(self, bytes: &[u8], at: usize) -> Option<u32> {
        Some(self.u32(*bytes.get(at..)?.first_chunk()?))
    }

    /// The two bytes at `at`, or `None` past the end.
    #[inline(always)]
    fn u16_at(self, bytes: &[u8], at: usize) -> Option<u16> {
        Some(self.u16(*bytes.get(at..)?.first_chunk()?))
    }
}
