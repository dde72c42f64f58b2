//! BitTorrent between peers (BEP 3, 29), to trackers over UDP (BEP 15), and on the local network (BEP 14).

use serde_json::Map;

use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::eve_text;
use crate::layer7::record::Record;

#[derive(Debug)]
pub(super) struct BitTorrent;

const HANDSHAKE: &[u8; 20] = b"\x13BitTorrent protocol";
/// Handshake with reserved bits, hash of the torrent, and the peer's name.
const HANDSHAKE_LEN: usize = 68;
/// First number of a request to a tracker.
const TRACKER_MAGIC: [u8; 8] = [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80];

/// The header of uTP: type and version, extensions that end, and what each type has.
fn utp(bytes: &[u8]) -> Option<u8> {
    let head = bytes.first_chunk::<20>()?;
    let (kind, version, mut extension) = (head[0] >> 4, head[0] & 15, head[1]);
    if kind > 4 || version != 1 {
        return None;
    }
    let mut rest = &bytes[20..];
    for _ in 0..4 {
        if extension == 0 {
            break;
        }
        let [next, len, after @ ..] = rest else {
            return None;
        };
        let (_, after) = after.split_at_checked(usize::from(*len))?;
        (extension, rest) = (*next, after);
    }
    if extension != 0 {
        return None;
    }
    let number = u16::from_be_bytes([head[16], head[17]]);
    let window = u32::from_be_bytes([head[12], head[13], head[14], head[15]]);
    let is_right = match kind {
        // Data, end, state, reset, opening.
        0 => !rest.is_empty(),
        4 => rest.is_empty() && number == 1 && head[18..20] == [0, 0] && window > 0,
        _ => rest.is_empty(),
    };
    is_right.then_some(kind)
}

impl Protocol for BitTorrent {
    fn name(&self) -> &'static str {
        "bittorrent"
    }

    fn ports(&self) -> &'static [u16] {
        &[6881, 6882, 6883, 6889, 51413]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Udp | Transport::Tcp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let bytes = seen.newest();
        if seen.transport == Transport::Tcp {
            let len = bytes.len().min(HANDSHAKE.len());
            return match bytes[..len] == HANDSHAKE[..len] {
                false => Verdict::No,
                true if len == HANDSHAKE.len() => Verdict::certain(Side::Client),
                true => Verdict::NeedMore,
            };
        }
        let is_announce = bytes.starts_with(b"BT-SEARCH * HTTP/1.1\r\n");
        let is_tracker = bytes.len() == 16 && bytes.starts_with(&TRACKER_MAGIC) && bytes[8..12] == [0; 4];
        let has_handshake = bytes.get(20..).is_some_and(|rest| rest.starts_with(HANDSHAKE));
        if is_announce || is_tracker || has_handshake {
            return Verdict::certain(seen.side);
        }
        match utp(bytes) {
            Some(4) => Verdict::certain(seen.side),
            // The other side answers with the same connection.
            Some(_)
                if seen.earlier.iter().any(|earlier| {
                    is_answered(earlier.head(), bytes)
                        || earlier.side == seen.side && is_next(earlier.head(), bytes)
                }) =>
            {
                Verdict::CERTAIN
            }
            Some(_) if seen.earlier.len() < 4 => Verdict::NeedMore,
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Handshakes::default())
    }
}

/// Whether two packets of uTP are of one connection: the numbers of its two ways differ by one.
fn is_answered(one: &[u8], other: &[u8]) -> bool {
    let id = |bytes: &[u8]| utp_header(bytes).map(|head| u16::from_be_bytes([head[2], head[3]]));
    match (id(one), id(other)) {
        (Some(one), Some(other)) => one.wrapping_sub(other) == 1 || other.wrapping_sub(one) == 1,
        _ => false,
    }
}

/// Whether a packet follows another of the same way: connection, window, number and time in microseconds.
fn is_next(one: &[u8], other: &[u8]) -> bool {
    let (Some(one), Some(other)) = (utp_header(one), utp_header(other)) else {
        return false;
    };
    let number =
        |head: &[u8; 20], at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let later = number(other, 4).wrapping_sub(number(one, 4));
    let window = number(other, 12);
    let ahead = (number(other, 16) >> 16).wrapping_sub(number(one, 16) >> 16) & 0xffff;
    one[2..4] == other[2..4]
        && one[1] <= 4
        && (1..60_000_000).contains(&later)
        && (1024..1 << 26).contains(&window)
        && ahead <= 64
}

fn utp_header(bytes: &[u8]) -> Option<&[u8; 20]> {
    bytes
        .first_chunk::<20>()
        .filter(|head| head[0] & 15 == 1 && head[0] >> 4 <= 4)
}

#[derive(Debug, Default)]
struct Handshakes {
    told: [bool; 2],
}

impl Session for Handshakes {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if out.transport == Transport::Udp {
            return Step::Done;
        }
        if self.told[side.index()] {
            return Step::Take(bytes.len() as u64);
        }
        if !bytes.starts_with(&HANDSHAKE[..bytes.len().min(HANDSHAKE.len())]) {
            return Step::Done;
        }
        let Some(handshake) = bytes.first_chunk::<HANDSHAKE_LEN>() else {
            return Step::Take(0);
        };
        let mut fields = Map::new();
        let hash: String = handshake[28..48]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        fields.insert("info_hash".into(), hash.into());
        fields.insert("peer_id".into(), eve_text(&handshake[48..]).into());
        out.record(Record::fields("bittorrent", fields));
        self.told[side.index()] = true;
        if self.told == [true; 2] {
            return Step::Done;
        }
        Step::Take(bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    #[test]
    fn handshakes() {
        let handshake = [
            &super::HANDSHAKE[..],
            &[0; 8],
            &[0xab; 20],
            b"-XX0001-abcdefghijkl",
        ]
        .concat();
        let body = json!({"info_hash": "ab".repeat(20), "peer_id": "-XX0001-abcdefghijkl"});
        kit::check_stream(
            &[(0, &handshake), (1, &handshake)],
            Some("bittorrent"),
            &[("bittorrent", body.clone()), ("bittorrent", body)],
        );
        kit::check_stream(&[(0, b"\x13BitTorrent protest")], None, &[]);
    }

    #[test]
    fn over_udp() {
        let open = b"\x41\0\x12\x34\0\0\0\x01\0\0\0\0\0\x0f\0\0\0\x01\0\0";
        kit::check_datagrams(&[(0, open)], Some("bittorrent"), &[]);
        let connect = b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0\x12\x34\x56\x78";
        kit::check_datagrams(&[(0, connect)], Some("bittorrent"), &[]);
        let data = b"\x01\0\x12\x35\0\0\0\x01\0\0\0\0\0\x0f\0\0\x12\x34\0\x07x";
        let state = b"\x21\0\x12\x34\0\0\0\x01\0\0\0\0\0\x0f\0\0\0\x07\x12\x34";
        kit::check_datagrams(&[(0, data)], None, &[]);
        let next = b"\x01\0\x12\x35\0\0\x01\x01\0\0\0\0\0\x0f\0\0\x12\x35\0\x07x";
        kit::check_datagrams(&[(0, data), (0, next)], Some("bittorrent"), &[]);
        kit::check_datagrams(&[(0, data), (1, state)], Some("bittorrent"), &[]);
    }
}
