//! DCE/RPC (C706, [MS-RPCE]) over TCP and UDP.

use serde_json::{Map, json};

use super::rpc_pdu::{Calls, HEADER_LEN, Header, NAMES, Told, uuid_text};
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::Reader;
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Dcerpc;

/// Bytes of a unit that are looked at; what is behind them is skipped.
const HEAD_LEN_MAX: usize = 4096;
/// Length of what begins each datagram.
const DATAGRAM_HEADER_LEN: usize = 80;
/// Calls over UDP that may be open at once.
const CALLS_MAX: usize = 64;

impl Protocol for Dcerpc {
    fn name(&self) -> &'static str {
        "dcerpc"
    }

    fn ports(&self) -> &'static [u16] {
        &[135]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Tcp | Transport::Udp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        if seen.transport == Transport::Udp {
            return match Datagram::read(seen.newest()) {
                Some(datagram) if datagram.is_of_server() => Verdict::likely(seen.side.other()),
                Some(_) => Verdict::likely(seen.side),
                None => Verdict::No,
            };
        }
        seen.opened_by_either(|bytes| {
            let begun: [u8; 1] = [5];
            if !bytes.starts_with(&begun) || bytes.get(1).is_some_and(|&minor| minor > 1) {
                return Verdict::No;
            }
            // Byte order, characters and floats, and two zeroes.
            let is_drep = |drep: &[u8]| match *drep {
                [order, ref rest @ ..] => matches!(order, 0 | 0x10) && rest.iter().all(|&byte| byte == 0),
                [] => true,
            };
            let drep = bytes.get(4..bytes.len().min(8)).unwrap_or_default();
            if !is_drep(drep) || bytes.get(2).is_some_and(|&kind| kind as usize >= NAMES.len()) {
                return Verdict::No;
            }
            if bytes.len() < HEADER_LEN {
                return Verdict::NeedMore;
            }
            match Header::read(bytes) {
                Some(header) if header.is_of_server() => Verdict::certain(Side::Server),
                Some(_) => Verdict::CERTAIN,
                None => Verdict::No,
            }
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Connection>::default()
    }
}

#[derive(Default)]
struct Connection {
    calls: Calls,
    datagrams: Vec<Exchange>,
}

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if out.transport == Transport::Udp {
            self.datagram(side, bytes, out);
            return Step::Take(bytes.len() as u64);
        }
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| rest.len() >= HEADER_LEN) {
            let Some(header) = Header::read(rest) else {
                return Step::Broken(Anomaly::parser("malformed_unit", Severity::Medium));
            };
            let Some(head) = rest.get(..usize::from(header.len).min(HEAD_LEN_MAX)) else {
                break;
            };
            // What cannot be read is told of by what else is known of the call.
            let _ = self.calls.unit(head, Map::new, &mut |told| tell(told, out));
            taken += usize::from(header.len);
        }
        Step::Take(taken as u64)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        self.calls.finish(&mut |told| tell(told, out));
        for exchange in std::mem::take(&mut self.datagrams) {
            exchange.tell(out);
        }
    }
}

fn tell((_, mut rpc): Told, out: &mut Out<'_>) {
    rpc.insert("rpc_version".into(), "5.0".into());
    out.record_of(Side::Client, Record::fields("dcerpc", rpc));
}

/// What begins a datagram of connectionless RPC.
struct Datagram {
    kind: u8,
    /// More fragments come, or this is the last one.
    is_fragment: bool,
    is_last: bool,
    interface: [u8; 16],
    activity: [u8; 16],
    sequence: u32,
    opnum: u16,
    len: u16,
}

impl Datagram {
    fn read(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<DATAGRAM_HEADER_LEN>()?;
        let [4, kind @ 0..=10, flags, flags2, order, floats, zero, ..] = *head else {
            return None;
        };
        if !matches!(order, 0 | 0x10) || floats > 3 || zero != 0 || flags & 0x81 > 1 || flags2 & !0x02 != 0 {
            return None;
        }
        let mut reader = Reader::new(&head[24..]);
        let (interface, activity) = (reader.array()?, reader.array()?);
        let is_little = order == 0x10;
        let number = |bytes: [u8; 4]| {
            if is_little {
                u32::from_le_bytes(bytes)
            } else {
                u32::from_be_bytes(bytes)
            }
        };
        let short = |bytes: [u8; 2]| {
            if is_little {
                u16::from_le_bytes(bytes)
            } else {
                u16::from_be_bytes(bytes)
            }
        };
        let _boot = reader.be32()?;
        let _interface_version = reader.be32()?;
        let sequence = number(reader.array()?);
        let opnum = short(reader.array()?);
        let _hints = reader.be32()?;
        let len = short(reader.array()?);
        let is_ok = usize::from(len) + DATAGRAM_HEADER_LEN <= bytes.len();
        is_ok.then_some(Self {
            kind,
            is_fragment: flags & 4 != 0,
            is_last: flags & 2 != 0,
            interface,
            activity,
            sequence,
            opnum,
            len,
        })
    }

    const fn is_of_server(&self) -> bool {
        matches!(self.kind, 2..=6 | 10)
    }
}

/// A call over UDP.
struct Exchange {
    first: Datagram,
    fragments: [u32; 2],
    stub_bytes: [u64; 2],
    response: Option<u8>,
}

impl Exchange {
    fn tell(self, out: &mut Out<'_>) {
        let response = self.response.map_or("UNREPLIED", |kind| NAMES[usize::from(kind)]);
        let mut fields = json!({
            "request": NAMES[usize::from(self.first.kind)],
            "req": {"opnum": self.first.opnum, "frag_cnt": self.fragments[0], "stub_data_size": self.stub_bytes[0]},
            "response": response,
            // Byte order as EVE has it, whatever the datagram's own is.
            "activityuuid": uuid_text(&self.first.activity),
            "interfaces": [{"uuid": uuid_text(&self.first.interface)}],
            "seqnum": self.first.sequence,
            "rpc_version": "4.0",
        });
        if self.response == Some(2) {
            fields["res"] = json!({"frag_cnt": self.fragments[1], "stub_data_size": self.stub_bytes[1]});
        }
        if let serde_json::Value::Object(fields) = fields {
            out.record_of(Side::Client, Record::fields("dcerpc", fields));
        }
    }
}

impl Connection {
    fn datagram(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) {
        let Some(datagram) = Datagram::read(bytes) else {
            out.anomaly(Anomaly::parser("malformed_datagram", Severity::Low));
            return;
        };
        let is_of = |exchange: &Exchange| {
            exchange.first.activity == datagram.activity && exchange.first.sequence == datagram.sequence
        };
        let found = self.datagrams.iter().position(is_of);
        let _ = side;
        match (datagram.kind, found) {
            (0, None) => {
                if self.datagrams.len() >= CALLS_MAX {
                    self.datagrams.remove(0).tell(out);
                }
                let len = u64::from(datagram.len);
                self.datagrams.push(Exchange {
                    first: datagram,
                    fragments: [1, 0],
                    stub_bytes: [len, 0],
                    response: None,
                });
            }
            (0, Some(at)) => {
                self.datagrams[at].fragments[0] += 1;
                self.datagrams[at].stub_bytes[0] += u64::from(datagram.len);
            }
            (2 | 3 | 6, Some(at)) => {
                let exchange = &mut self.datagrams[at];
                exchange.response = Some(datagram.kind);
                exchange.fragments[1] += 1;
                exchange.stub_bytes[1] += u64::from(datagram.len);
                if !datagram.is_fragment || datagram.is_last {
                    self.datagrams.remove(at).tell(out);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    const WINREG: &[u8; 16] = b"\x01\xd0\x8c\x33\x44\x22\xf1\x31\xaa\xaa\x90\x00\x38\x00\x10\x03";

    fn unit(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut unit = vec![
            5,
            0,
            kind,
            3,
            0x10,
            0,
            0,
            0,
            16 + body.len() as u8,
            0,
            0,
            0,
            1,
            0,
            0,
            0,
        ];
        unit.extend_from_slice(body);
        unit
    }

    #[test]
    fn a_bound_interface_and_a_call() {
        let bind = [
            &b"\xb8\x10\xb8\x10\0\0\0\0\x01\0\0\0\0\0\x01\0"[..],
            WINREG,
            b"\x01\0\0\0",
            &[7; 20],
        ]
        .concat();
        let ack = [
            &b"\xb8\x10\xb8\x10\0\0\0\0\x04\x00135\0\0\0\x01\0\0\0\0\0\0\0"[..],
            &[7; 20],
        ]
        .concat();
        let said: &[Said<'_>] = &[
            (0, &unit(11, &bind)),
            (1, &unit(12, &ack)),
            (0, &unit(0, b"\0\0\0\0\0\0\x02\0abcd")),
            (1, &unit(2, b"\0\0\0\0\0\0\0\0xyz")),
        ];
        let interface =
            json!({"uuid": "338cd001-2244-31f1-aaaa-900038001003", "version": "1.0", "service": "winreg"});
        let mut bound = interface.clone();
        bound["ack_result"] = 0.into();
        bound["ack_reason"] = 0.into();
        let mut called = interface;
        called["procedure"] = "OpenLocalMachine".into();
        let expected = [
            (
                "dcerpc",
                json!({"request": "BIND", "interfaces": [bound], "response": "BINDACK", "call_id": 1,
                    "rpc_version": "5.0"}),
            ),
            (
                "dcerpc",
                json!({"request": "REQUEST", "req": {"frag_cnt": 1, "stub_data_size": 4, "opnum": 2},
                    "interfaces": [called], "response": "RESPONSE", "res": {"frag_cnt": 1, "stub_data_size": 3},
                    "call_id": 1, "rpc_version": "5.0"}),
            ),
        ];
        kit::check_stream(said, Some("dcerpc"), &expected);
    }

    #[test]
    fn datagrams() {
        let datagram = |kind: u8| {
            let mut bytes = vec![4, kind, 0, 0, 0x10, 0, 0, 0];
            bytes.resize(80, 0);
            bytes[40] = 0xaa;
            bytes[68] = 3;
            bytes[74] = 2;
            bytes.extend(b"ab");
            bytes
        };
        let expected = json!({"request": "REQUEST", "req": {"opnum": 3, "frag_cnt": 1, "stub_data_size": 2},
            "response": "RESPONSE", "res": {"frag_cnt": 1, "stub_data_size": 2}, "seqnum": 0, "rpc_version": "4.0",
            "interfaces": [{"uuid": "00000000-0000-0000-0000-000000000000"}],
            "activityuuid": "000000aa-0000-0000-0000-000000000000"});
        let (request, response) = (datagram(0), datagram(2));
        kit::check_datagrams(
            &[(0, &request), (1, &response)],
            Some("dcerpc"),
            &[("dcerpc", expected)],
        );
        kit::check_datagrams(&[(0, &request[..79])], None, &[]);
    }

    #[test]
    fn not_dcerpc() {
        kit::check_stream(&[(0, b"\x05\x02\0\x02")], None, &[]);
        kit::check_stream(&[(0, b"\x05\0\0\x03\x11\0\0\0\x18\0\0\0\0\0\0\0")], None, &[]);
    }
}
