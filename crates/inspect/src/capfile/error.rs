//! What can be wrong with a capture file, each with the offset of the header or block at fault.

use thiserror::Error;

/// The one error a broken file ends with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("at byte {offset}: {kind}")]
pub struct CapError {
    /// Offset of the file header, record or block that could not be read (decompressed bytes).
    pub offset: u64,
    /// What was found and what was expected.
    pub kind: CapErrorKind,
}

/// Why reading stopped.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CapErrorKind {
    /// No byte at all.
    #[error("the file is empty; expected a pcap or pcapng header")]
    Empty,
    /// The first bytes are of no format read here.
    #[error("expected a pcap or pcapng header, found {}", describe_magic(*.magic))]
    NotACapture { magic: [u8; 4] },
    /// A version whose layout is not known.
    #[error("expected {format} version {expected}, found {major}.{minor}")]
    Version {
        format: &'static str,
        expected: &'static str,
        major: u16,
        minor: u16,
    },
    /// The input ended inside a header, record or block.
    #[error("the file is cut short: this record needs at least {wanted} bytes, {had} are left")]
    Truncated { wanted: u64, had: u64 },
    /// A packet longer than any real one.
    #[error("expected a packet of at most {limit} bytes, the header says {length}; the file is damaged here")]
    PacketTooLong { length: u64, limit: u64 },
    /// A block length outside what its type allows.
    #[error(
        "expected a length of {min} to {max} bytes for block type {block_type:#x}, found {length}; the file is damaged here"
    )]
    BlockLength {
        block_type: u32,
        length: u32,
        min: u32,
        max: u32,
    },
    /// The two copies of a block's length differ.
    #[error(
        "expected the block to end with its length {first} again, found {second}; the file is damaged here"
    )]
    BlockTrailer { first: u32, second: u32 },
    /// Not the byte-order magic in a section header.
    #[error("expected the byte-order magic 0x1a2b3c4d in the section header, found {found:#x}")]
    ByteOrderMagic { found: u32 },
    /// A packet of an interface that was not described.
    #[error("the packet names interface {interface_id}, but {interfaces} are described before it")]
    UnknownInterface { interface_id: u32, interfaces: u32 },
    /// A packet's data would run past its block.
    #[error("the packet says it holds {length} bytes, but its block has room for {room}")]
    PacketBeyondBlock { length: u32, room: u64 },
    /// More interfaces than [`super::INTERFACES_MAX`].
    #[error("expected at most {limit} interface descriptions in a section")]
    TooManyInterfaces { limit: usize },
}

/// Names files often given by mistake, so that the message says what to do.
fn describe_magic(magic: [u8; 4]) -> String {
    let known = match magic {
        [0x1f, 0x8b, ..] => "gzip data: unpack it first (gzip -d)",
        [0x28, 0xb5, 0x2f, 0xfd] => "zstd data: unpack it first (zstd -d)",
        [0xfd, b'7', b'z', b'X'] => "xz data: unpack it first (xz -d)",
        [0x04, 0x22, 0x4d, 0x18] => "lz4 data: unpack it first (lz4 -d)",
        [b'B', b'Z', b'h', _] => "bzip2 data: unpack it first (bzip2 -d)",
        [b'P', b'K', 3, 4] => "a zip archive: unpack it first (unzip)",
        [b's', b'n', b'o', b'o'] => "a snoop file: convert it first (editcap -F pcapng)",
        [b'G', b'M', b'B', b'U'] | [b'R', b'T', b'S', b'S'] => {
            "a Network Monitor file: convert it first (editcap -F pcapng)"
        }
        [0x7f, b'E', b'L', b'F'] => "an ELF program",
        _ => {
            let [a, b, c, d] = magic;
            return format!("the bytes {a:02x} {b:02x} {c:02x} {d:02x}");
        }
    };
    known.to_owned()
}
