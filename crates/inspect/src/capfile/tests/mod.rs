//! Tests of reading and writing, by what feeds them.

mod broken;
mod formats;
mod round_trip;
mod shared_captures;

use std::path::PathBuf;
use std::process::Command;

use super::*;

/// A packet that outlives its buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OwnedPacket {
    ts_ns: u64,
    orig_len: u32,
    linktype: u16,
    interface_id: u32,
    flags: u32,
    data: Vec<u8>,
    comment: Option<String>,
}

impl From<&PacketRef<'_>> for OwnedPacket {
    fn from(packet: &PacketRef<'_>) -> Self {
        Self {
            ts_ns: packet.ts_ns,
            orig_len: packet.orig_len,
            linktype: packet.linktype,
            interface_id: packet.interface_id,
            flags: packet.flags,
            data: packet.data.to_vec(),
            comment: packet.comment.map(str::to_owned),
        }
    }
}

/// All that reading a file gave.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    packets: Vec<OwnedPacket>,
    interfaces: Vec<Interface>,
    stats: ReaderStats,
    end: Result<(), CapError>,
}

/// Reads a file that arrives in the pieces that end at `cuts` (ascending).
fn read_in_pieces(bytes: &[u8], cuts: &[usize]) -> Outcome {
    let mut reader = Reader::new();
    let mut packets = Vec::new();
    let mut consumed = 0;
    let mut end = None;
    for &cut in cuts.iter().chain([&bytes.len()]) {
        let mut rest = &bytes[consumed..cut];
        loop {
            let left = rest.len();
            match reader.next(&mut rest) {
                Ok(Step::Packet(packet)) => {
                    assert!(
                        rest.len() < left,
                        "a packet must consume bytes, or reading never ends"
                    );
                    packets.push(OwnedPacket::from(&packet));
                }
                Ok(Step::NeedMore { at_least }) => {
                    assert!(at_least > rest.len(), "asked for bytes it already had");
                    break;
                }
                Err(error) => {
                    assert_eq!(
                        reader.next(&mut rest),
                        Err(error.clone()),
                        "one and the same error"
                    );
                    end = Some(Err(error));
                    break;
                }
            }
        }
        consumed = cut - rest.len();
        assert!(end.is_some() || reader.offset() == consumed as u64);
        if end.is_some() {
            break;
        }
    }
    let end = end.unwrap_or_else(|| reader.finish(&bytes[consumed..]));
    Outcome {
        packets,
        interfaces: reader.interfaces().to_vec(),
        stats: reader.stats(),
        end,
    }
}

fn read(bytes: &[u8]) -> Outcome {
    read_in_pieces(bytes, &[])
}

/// Reads a file that must have no error.
#[track_caller]
fn read_well(bytes: &[u8]) -> Outcome {
    let outcome = read(bytes);
    assert_eq!(outcome.end, Ok(()));
    outcome
}

/// Builds files field by field, in either byte order, also wrong ones.
struct FileBuilder {
    big: bool,
    bytes: Vec<u8>,
}

impl FileBuilder {
    fn new(big: bool) -> Self {
        Self {
            big,
            bytes: Vec::new(),
        }
    }

    fn u16(mut self, value: u16) -> Self {
        let bytes = if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.bytes.extend_from_slice(&bytes);
        self
    }

    fn u32(mut self, value: u32) -> Self {
        let bytes = if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.bytes.extend_from_slice(&bytes);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn padded(self, bytes: &[u8]) -> Self {
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        self.raw(bytes).raw(&[0; 3][..padding])
    }

    fn option(self, code: u16, value: &[u8]) -> Self {
        self.u16(code).u16(value.len() as u16).padded(value)
    }

    /// A block whose body `body` writes.
    fn block(self, block_type: u32, body: impl FnOnce(FileBuilder) -> FileBuilder) -> Self {
        let content = body(FileBuilder::new(self.big)).bytes;
        let length = content.len() as u32 + 12;
        self.u32(block_type).u32(length).padded(&content).u32(length)
    }

    fn section(self) -> Self {
        self.block(0x0a0d_0d0a, |b| {
            b.u32(0x1a2b_3c4d).u16(1).u16(0).u32(u32::MAX).u32(u32::MAX)
        })
    }

    fn interface(self, linktype: u16, snaplen: u32) -> Self {
        self.block(1, |b| b.u16(linktype).u16(0).u32(snaplen))
    }

    fn enhanced(self, interface_id: u32, ticks: u64, data: &[u8]) -> Self {
        self.block(6, |b| {
            b.u32(interface_id)
                .u32((ticks >> 32) as u32)
                .u32(ticks as u32)
                .u32(data.len() as u32)
                .u32(data.len() as u32 + 100)
                .padded(data)
        })
    }

    fn pcap_header(self, magic: u32, minor: u16, linktype: u32) -> Self {
        self.u32(magic)
            .u16(2)
            .u16(minor)
            .u32(0)
            .u32(0)
            .u32(65_535)
            .u32(linktype)
    }

    fn record(self, seconds: u32, fraction: u32, data: &[u8], orig_len: u32) -> Self {
        self.u32(seconds)
            .u32(fraction)
            .u32(data.len() as u32)
            .u32(orig_len)
            .raw(data)
    }
}

/// A pcapng file with every kind of block, two sections, comments and flags.
fn every_block(big: bool) -> Vec<u8> {
    FileBuilder::new(big)
        .section()
        .block(1, |b| {
            b.u16(1)
                .u16(0)
                .u32(0)
                .option(2, b"eth0")
                .option(9, &[9])
                .option(0, b"")
        })
        .interface(101, 4)
        .enhanced(0, 1_700_000_000_123_456_789, b"first packet")
        .block(4, |b| b.u32(0).raw(&[0; 8]))
        .block(6, |b| {
            b.u32(1)
                .u32(0)
                .u32(5)
                .u32(3)
                .u32(3)
                .padded(b"abc")
                .option(2, &[0, 0, 0, 2])
                .option(1, b"a comment")
                .option(1, b"another")
                .option(0, b"")
        })
        .block(2, |b| {
            b.u16(1).u16(9).u32(0).u32(77).u32(5).u32(64).padded(b"older")
        })
        .block(5, |b| b.u32(0).raw(&[1; 8]))
        .section()
        .interface(1, 6)
        .block(3, |b| b.u32(1500).padded(b"simple"))
        .block(10, |b| b.padded(b"secret"))
        .block(0xbad, |b| b.padded(b"a custom or later block"))
        .enhanced(0, 42, b"last")
        .bytes
}

/// A pcap file of three records.
fn plain_pcap(big: bool) -> Vec<u8> {
    FileBuilder::new(big)
        .pcap_header(0xa1b2_c3d4, 4, 1)
        .record(1, 2, b"one", 60)
        .record(3, 999_999, b"", 0)
        .record(u32::MAX, u32::MAX, b"three", 5)
        .bytes
}

/// Where the shared test data is, or `None` where it may be missing.
fn shared_data() -> Option<PathBuf> {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")),
        PathBuf::from,
    );
    let data = shared.join("data");
    if data.is_dir() {
        return Some(data);
    }
    assert!(
        !required(),
        "expected test data in {}; set WEIR_SHARED",
        data.display()
    );
    None
}

/// The output of a Wireshark program, or `None` where it may be missing.
fn run_tool(program: &str, args: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(args).output() {
        Ok(output) => output,
        Err(error) => {
            assert!(!required(), "cannot run {program}: {error}; install it");
            return None;
        }
    };
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether missing tools and data fail a test instead of passing it by.
fn required() -> bool {
    std::env::var_os("WEIR_REQUIRE_CAPS").is_some_and(|value| value == "1")
}
