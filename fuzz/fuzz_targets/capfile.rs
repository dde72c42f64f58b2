//! Any bytes as a capture file: reading ends, never panics, and does not depend on how the bytes
//! arrive. The last byte chooses the length of the pieces, so that every capture is a seed as it is.

#![no_main]

use inspect::capfile::{CapError, PacketRef, Reader, ReaderStats, Step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, bytes.len().max(1));
    let piece_len = usize::from(bytes.last().copied().unwrap_or(0)) + 1;
    assert_eq!(read(bytes, piece_len), whole);
});

/// A digest of all packets, the counts, and the end.
type Outcome = (u64, ReaderStats, Result<(), CapError>);

fn read(bytes: &[u8], piece_len: usize) -> Outcome {
    let mut reader = Reader::new();
    let (mut consumed, mut available, mut digest) = (0, 0, 0u64);
    while available < bytes.len() {
        available = (available + piece_len).min(bytes.len());
        let mut rest = &bytes[consumed..available];
        loop {
            let before = rest.len();
            match reader.next(&mut rest) {
                Ok(Step::Packet(packet)) => {
                    assert!(rest.len() < before);
                    digest = digest.wrapping_mul(0x0100_0000_01b3) ^ weigh(&packet);
                }
                Ok(Step::NeedMore { at_least }) => {
                    assert!(at_least > rest.len());
                    break;
                }
                Err(error) => return (digest, reader.stats(), Err(error)),
            }
        }
        consumed = available - rest.len();
        assert_eq!(reader.offset(), consumed as u64);
    }
    let end = reader.finish(&bytes[consumed..]);
    (digest, reader.stats(), end)
}

/// A number that depends on every field of the packet.
fn weigh(packet: &PacketRef<'_>) -> u64 {
    let comment = packet.comment.unwrap_or_default().as_bytes();
    let bytes = packet.data.iter().chain(comment);
    let sum = bytes.fold(0u64, |sum, &byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    sum ^ packet.ts_ns
        ^ u64::from(packet.orig_len) << 7
        ^ u64::from(packet.interface_id) << 17
        ^ u64::from(packet.flags) << 23
        ^ u64::from(packet.linktype) << 40
}
