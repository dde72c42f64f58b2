//! DNP3 (IEEE 1815): link frames with checksums, segments, application messages.

mod objects;

use serde_json::{Map, json};

use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::Reader;
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Dnp3;

/// Length of a frame's header with its checksum; what follows is in blocks with a checksum each.
const HEADER_LEN: usize = 10;
const BLOCK_LEN: usize = 16;
const CRC_LEN: usize = 2;
/// Longest application message put together.
const MESSAGE_MAX: usize = 64 * 1024;

impl Protocol for Dnp3 {
    fn name(&self) -> &'static str {
        "dnp3"
    }

    fn ports(&self) -> &'static [u16] {
        &[20000]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Tcp | Transport::Udp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        seen.opened_by_either(|bytes| {
            let begin: [u8; 2] = [5, 0x64];
            if !begin.starts_with(&bytes[..bytes.len().min(2)]) || bytes.get(2).is_some_and(|&len| len < 5) {
                return Verdict::No;
            }
            let Some(header) = bytes.get(..HEADER_LEN) else {
                return if seen.transport == Transport::Tcp {
                    Verdict::NeedMore
                } else {
                    Verdict::No
                };
            };
            // The bit that says who is the master.
            let client = if header[3] & 0x80 != 0 {
                Side::Client
            } else {
                Side::Server
            };
            let is_right = crc(&header[..8]).to_le_bytes() == header[8..10];
            if is_right {
                Verdict::certain(client)
            } else {
                Verdict::likely(client)
            }
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Connection>::default()
    }
}

/// The checksum of the link layer.
fn crc(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    for &byte in bytes {
        crc ^= u16::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0xa6bc } else { crc >> 1 };
        }
    }
    !crc
}

#[derive(Default)]
struct Connection {
    /// By [`Side::index`]: the segments so far.
    segments: [Vec<u8>; 2],
}

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let begin: [u8; 2] = [5, 0x64];
            if !begin.starts_with(&rest[..rest.len().min(2)]) || rest.get(2).is_some_and(|&len| len < 5) {
                return Step::Broken(Anomaly::parser("malformed_frame", Severity::Medium));
            }
            let Some(header) = rest.first_chunk::<HEADER_LEN>() else {
                break;
            };
            let user_len = usize::from(header[2]) - 5;
            let frame_len = HEADER_LEN + user_len + user_len.div_ceil(BLOCK_LEN) * CRC_LEN;
            let Some(blocks) = rest.get(HEADER_LEN..frame_len) else {
                break;
            };
            self.frame(side, header, blocks, user_len, out);
            taken += frame_len;
        }
        Step::Take(taken as u64)
    }
}

impl Connection {
    fn frame(
        &mut self,
        side: Side,
        header: &[u8; HEADER_LEN],
        blocks: &[u8],
        user_len: usize,
        out: &mut Out<'_>,
    ) {
        let mut is_right = crc(&header[..8]).to_le_bytes() == header[8..];
        let mut user = Vec::with_capacity(user_len);
        for block in blocks.chunks(BLOCK_LEN + CRC_LEN) {
            let (data, sum) = block.split_at(block.len().saturating_sub(CRC_LEN));
            is_right &= crc(data).to_le_bytes() == *sum;
            user.extend_from_slice(data);
        }
        if !is_right {
            out.anomaly(Anomaly::parser("bad_link_crc", Severity::Medium));
        }
        let Some((&transport, segment)) = user.split_first() else {
            return;
        };
        let (is_first, is_last) = (transport & 0x40 != 0, transport & 0x80 != 0);
        let message = &mut self.segments[side.index()];
        if is_first {
            message.clear();
        } else if message.is_empty() {
            // Its beginning was not seen.
            return;
        }
        if message.len() + segment.len() > MESSAGE_MAX {
            out.anomaly(Anomaly::parser("message_too_long", Severity::Medium));
            message.clear();
            return;
        }
        message.extend_from_slice(segment);
        if is_last {
            let message = std::mem::take(message);
            if tell(header, &message, out).is_none() {
                out.anomaly(Anomaly::parser("malformed_message", Severity::Medium));
            }
        }
    }
}

fn tell(header: &[u8; HEADER_LEN], message: &[u8], out: &mut Out<'_>) -> Option<()> {
    let mut reader = Reader::new(message);
    let (control, function) = (reader.u8()?, reader.u8()?);
    let kind = match function {
        129 | 131 => "response",
        130 => "unsolicited_response",
        _ => "request",
    };
    let indications = if kind == "request" {
        None
    } else {
        Some(reader.array::<2>()?)
    };
    if !out.wants_records() {
        return Some(());
    }
    let (objects, is_complete) = objects::objects(function, reader.rest());
    let link = header[3];
    let mut fields = Map::new();
    fields.insert("type".into(), kind.into());
    fields.insert(
        "control".into(),
        json!({"dir": link & 0x80 != 0, "pri": link & 0x40 != 0, "fcb": link & 0x20 != 0, "fcv": link & 0x10 != 0,
            "function_code": link & 0x0f}),
    );
    fields.insert("dst".into(), u16::from_le_bytes([header[4], header[5]]).into());
    fields.insert("src".into(), u16::from_le_bytes([header[6], header[7]]).into());
    let bit = |mask: u8| control & mask != 0;
    fields.insert(
        "application".into(),
        json!({
            "control": {"fir": bit(0x80), "fin": bit(0x40), "con": bit(0x20), "uns": bit(0x10),
                "sequence": control & 0x0f},
            "function_code": function, "objects": objects, "complete": is_complete,
        }),
    );
    if let Some(indications) = indications {
        fields.insert("iin".into(), json!({"indicators": indicators(indications)}));
    }
    out.record_of(Side::Client, Record::fields("dnp3", fields));
    Some(())
}

/// Names of internal indications, of either byte from the highest bit on.
const INDICATIONS: [[&str; 8]; 2] = [
    [
        "device_restart",
        "device_trouble",
        "local_control",
        "need_time",
        "class_3_events",
        "class_2_events",
        "class_1_events",
        "all_stations",
    ],
    [
        "reserved_1",
        "reserved_2",
        "config_corrupt",
        "already_executing",
        "event_buffer_overflow",
        "parameter_error",
        "object_unknown",
        "no_function_code_support",
    ],
];

fn indicators(bytes: [u8; 2]) -> Vec<&'static str> {
    let mut told = Vec::new();
    for (byte, names) in bytes.into_iter().zip(INDICATIONS) {
        for (at, name) in names.into_iter().enumerate() {
            if byte & 0x80 >> at != 0 {
                told.push(name);
            }
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::crc;
    use crate::layer7::kit::{self, Said};

    /// A frame around a message in one segment.
    fn frame(control: u8, message: &[u8]) -> Vec<u8> {
        let mut header = vec![5, 0x64, 6 + message.len() as u8, control, 4, 0, 3, 0];
        header.extend(crc(&header).to_le_bytes());
        let user = [&[0xc0], message].concat();
        for block in user.chunks(16) {
            header.extend_from_slice(block);
            header.extend(crc(block).to_le_bytes());
        }
        header
    }

    #[test]
    fn select_and_answer() {
        let crob = b"\x0c\x01\x17\x01\x01\x03\x01\x64\0\0\0\x64\0\0\0\0";
        let ask = frame(0xc4, &[b"\xc7\x03", &crob[..]].concat());
        let answer = frame(0x44, &[b"\xc7\x81\x10\0", &crob[..]].concat());
        let control =
            |dir: bool| json!({"dir": dir, "pri": true, "fcb": false, "fcv": false, "function_code": 4});
        let application = |function: u8| {
            json!({
                "control": {"fir": true, "fin": true, "con": false, "uns": false, "sequence": 7},
                "function_code": function, "complete": true,
                "objects": [{"group": 12, "variation": 1, "qualifier": 23, "prefix_code": 1, "range_code": 7,
                    "start": 0, "stop": 0, "count": 1,
                    "points": [{"prefix": 1, "index": 1, "op_type": 3, "qu": 0, "cr": 0, "tcc": 0, "count": 1,
                        "ontime": 100, "offtime": 100, "status_code": 0, "reserved": 0}]}],
            })
        };
        let expected = [
            (
                "dnp3",
                json!({"type": "request", "control": control(true), "dst": 4, "src": 3, "application": application(3)}),
            ),
            (
                "dnp3",
                json!({"type": "response", "control": control(false), "dst": 4, "src": 3,
                    "application": application(129), "iin": {"indicators": ["need_time"]}}),
            ),
        ];
        let said: &[Said<'_>] = &[(0, &ask), (1, &answer)];
        kit::check_stream(said, Some("dnp3"), &expected);
        kit::check_datagrams(said, Some("dnp3"), &expected);
    }

    #[test]
    fn a_wrong_checksum_is_told() {
        let mut frame = frame(0xc4, b"\xc7\x01\x3c\x02\x06");
        let last = frame.len() - 1;
        frame[last] ^= 1;
        let outcome = kit::stream(&[(0, &frame)]);
        assert_eq!(
            outcome
                .anomalies()
                .map(|anomaly| anomaly.event)
                .collect::<Vec<_>>(),
            ["bad_link_crc"]
        );
    }

    #[test]
    fn not_dnp3() {
        kit::check_stream(&[(0, b"\x05\x64\x04\xc4\0\0\0\0\0\0")], None, &[]);
    }
}
