//! Writing capture files into memory: the caller takes the bytes, writes them out and clears.

use super::PACKET_LEN_MAX;

/// Which way a packet went, as in the two low bits of `epb_flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// The file does not say.
    #[default]
    Unknown,
    /// Towards the host.
    Inbound,
    /// From the host.
    Outbound,
}

impl Direction {
    /// The direction in an `epb_flags` word.
    pub fn from_flags(flags: u32) -> Self {
        match flags & 3 {
            1 => Direction::Inbound,
            2 => Direction::Outbound,
            _ => Direction::Unknown,
        }
    }

    fn to_flags(self) -> u32 {
        match self {
            Direction::Unknown => 0,
            Direction::Inbound => 1,
            Direction::Outbound => 2,
        }
    }
}

/// The section header's options; empty ones are left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct SectionInfo<'a> {
    /// `shb_hardware`, such as the processor.
    pub hardware: &'a str,
    /// `shb_os`, such as the kernel.
    pub os: &'a str,
    /// `shb_userappl`, the program that wrote the file.
    pub application: &'a str,
    /// `opt_comment` of the whole file.
    pub comment: &'a str,
}

/// An interface description; empty texts and `None` are left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct InterfaceInfo<'a> {
    /// `if_name`.
    pub name: &'a str,
    /// `if_description`.
    pub description: &'a str,
    /// LINKTYPE_ number of its packets.
    pub linktype: u16,
    /// Longest captured length in bytes, 0 for no limit.
    pub snaplen: u32,
    /// `if_MACaddr`.
    pub mac: Option<[u8; 6]>,
    /// `if_filter`, the capture filter as the user wrote it.
    pub filter: &'a str,
    /// `if_os`.
    pub os: &'a str,
}

/// An interface of the [`PcapngWriter`] that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceId(u32);

/// One packet to write.
#[derive(Debug, Clone, Copy)]
pub struct PacketInfo<'a> {
    /// Nanoseconds since 1970-01-01 UTC.
    pub ts_ns: u64,
    /// Length on the wire in bytes.
    pub orig_len: u32,
    /// `epb_flags`' direction.
    pub direction: Direction,
    /// `opt_comment`, left out where empty.
    pub comment: &'a str,
    /// Captured bytes; beyond [`PACKET_LEN_MAX`] they are cut.
    pub data: &'a [u8],
}

/// `isb_*` counts at the end of a capture.
#[derive(Debug, Clone, Copy, Default)]
pub struct InterfaceStatistics {
    /// Time of the counts, nanoseconds since 1970-01-01 UTC.
    pub ts_ns: u64,
    /// `isb_starttime`, same unit.
    pub start_ns: u64,
    /// `isb_endtime`, same unit.
    pub end_ns: u64,
    /// `isb_ifrecv`: packets the interface received.
    pub received: u64,
    /// `isb_ifdrop`: packets lost for lack of room before the capture saw them.
    pub dropped: u64,
    /// `isb_filteraccept`: packets the filter accepted.
    pub accepted: u64,
    /// `isb_usrdeliv`: packets written.
    pub delivered: u64,
}

/// Writes pcapng with nanosecond time stamps, little-endian, one section.
///
/// Texts longer than an option's 65,535 bytes are cut. The writer grows its buffer until
/// [`PcapngWriter::clear`]: write out and clear every megabyte or so.
#[derive(Debug)]
pub struct PcapngWriter {
    out: Vec<u8>,
    interfaces: u32,
}

impl PcapngWriter {
    /// Begins a file with its section header.
    pub fn new(section: &SectionInfo<'_>) -> Self {
        let mut writer = Self {
            out: Vec::with_capacity(64 * 1024),
            interfaces: 0,
        };
        writer.block(0x0a0d_0d0a, |out| {
            put_u32(out, 0x1a2b_3c4d);
            out.extend_from_slice(&[1, 0, 0, 0]);
            // Section length: unknown.
            out.extend_from_slice(&u64::MAX.to_le_bytes());
            put_text(out, 1, section.comment);
            put_text(out, 2, section.hardware);
            put_text(out, 3, section.os);
            put_text(out, 4, section.application);
            put_end(out);
        });
        writer
    }

    /// Describes an interface. Its packets may follow.
    pub fn add_interface(&mut self, interface: &InterfaceInfo<'_>) -> InterfaceId {
        self.block(1, |out| {
            out.extend_from_slice(&interface.linktype.to_le_bytes());
            out.extend_from_slice(&[0, 0]);
            put_u32(out, interface.snaplen);
            put_text(out, 2, interface.name);
            put_text(out, 3, interface.description);
            if let Some(mac) = interface.mac {
                put_option(out, 6, &mac);
            }
            // Nanoseconds.
            put_option(out, 9, &[9]);
            if !interface.filter.is_empty() {
                // The first byte says: a text, not BPF code.
                put_option(
                    out,
                    11,
                    &[&[0], cut(interface.filter, 0xfffe).as_bytes()].concat(),
                );
            }
            put_text(out, 12, interface.os);
            put_end(out);
        });
        let id = InterfaceId(self.interfaces);
        self.interfaces += 1;
        id
    }

    /// Appends a packet.
    pub fn packet(&mut self, interface: InterfaceId, packet: &PacketInfo<'_>) {
        let data = &packet.data[..packet.data.len().min(PACKET_LEN_MAX)];
        self.block(6, |out| {
            put_u32(out, interface.0);
            put_time(out, packet.ts_ns);
            put_u32(out, data.len() as u32);
            put_u32(out, packet.orig_len);
            out.extend_from_slice(data);
            put_padding(out, data.len());
            let flags = packet.direction.to_flags();
            put_text(out, 1, packet.comment);
            if flags != 0 {
                put_option(out, 2, &flags.to_le_bytes());
            }
            if flags != 0 || !packet.comment.is_empty() {
                put_end(out);
            }
        });
    }

    /// Appends an interface's counts, as a rule once at the end.
    pub fn statistics(&mut self, interface: InterfaceId, counts: &InterfaceStatistics) {
        self.block(5, |out| {
            put_u32(out, interface.0);
            put_time(out, counts.ts_ns);
            for (code, ns) in [(2, counts.start_ns), (3, counts.end_ns)] {
                let mut time = Vec::with_capacity(8);
                put_time(&mut time, ns);
                put_option(out, code, &time);
            }
            put_option(out, 4, &counts.received.to_le_bytes());
            put_option(out, 5, &counts.dropped.to_le_bytes());
            put_option(out, 6, &counts.accepted.to_le_bytes());
            put_option(out, 8, &counts.delivered.to_le_bytes());
            put_end(out);
        });
    }

    /// What is to be written out, whole blocks only.
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Forgets the bytes once they are written out; the file goes on.
    pub fn clear(&mut self) {
        self.out.clear();
    }

    fn block(&mut self, block_type: u32, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        put_u32(&mut self.out, block_type);
        put_u32(&mut self.out, 0);
        body(&mut self.out);
        // A body is at most one packet and a few options of 64 KiB.
        let length = (self.out.len() - start + 4) as u32;
        self.out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
        put_u32(&mut self.out, length);
    }
}

/// Writes classic pcap with nanosecond time stamps, little-endian.
#[derive(Debug)]
pub struct PcapWriter {
    out: Vec<u8>,
}

impl PcapWriter {
    /// Begins a file of one link type; `snaplen` in bytes.
    pub fn new(linktype: u16, snaplen: u32) -> Self {
        let mut out = Vec::with_capacity(64 * 1024);
        put_u32(&mut out, 0xa1b2_3c4d);
        out.extend_from_slice(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        put_u32(&mut out, snaplen);
        put_u32(&mut out, u32::from(linktype));
        Self { out }
    }

    /// Appends a packet. Times past 2106 become the last second the format can hold; data beyond
    /// [`PACKET_LEN_MAX`] is cut.
    pub fn packet(&mut self, ts_ns: u64, orig_len: u32, data: &[u8]) {
        let data = &data[..data.len().min(PACKET_LEN_MAX)];
        put_u32(
            &mut self.out,
            u32::try_from(ts_ns / 1_000_000_000).unwrap_or(u32::MAX),
        );
        put_u32(&mut self.out, (ts_ns % 1_000_000_000) as u32);
        put_u32(&mut self.out, data.len() as u32);
        put_u32(&mut self.out, orig_len);
        self.out.extend_from_slice(data);
    }

    /// What is to be written out, whole records only.
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Forgets the bytes once they are written out; the file goes on.
    pub fn clear(&mut self) {
        self.out.clear();
    }
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A pcapng time: the upper half first, each half in the file's order.
fn put_time(out: &mut Vec<u8>, ns: u64) {
    put_u32(out, (ns >> 32) as u32);
    put_u32(out, ns as u32);
}

fn put_padding(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&[0; 3][..length.next_multiple_of(4) - length]);
}

/// `value` is at most 65,535 bytes.
fn put_option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    put_padding(out, value.len());
}

fn put_text(out: &mut Vec<u8>, code: u16, text: &str) {
    if !text.is_empty() {
        put_option(out, code, cut(text, 0xffff).as_bytes());
    }
}

fn put_end(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
}

fn cut(text: &str, length_max: usize) -> &str {
    &text[..text.floor_char_boundary(length_max)]
}
