//! EtherNet/IP and what it carries of CIP (ODVA, volumes 1 and 2).

use serde_json::{Map, Value, json};

use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::{Reader, eve_text};
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Enip;

const HEADER_LEN: usize = 24;
const PENDING_MAX: usize = 64;

/// Name of a command as EVE has it.
fn command(code: u16) -> Option<&'static str> {
    Some(match code {
        0x00 => "nop",
        0x04 => "list_services",
        0x63 => "list_identity",
        0x64 => "list_interfaces",
        0x65 => "register_session",
        0x66 => "unregister_session",
        0x6f => "send_rr_data",
        0x70 => "send_unit_data",
        0x72 => "indicate_status",
        0x73 => "cancel",
        _ => return None,
    })
}

struct Header {
    command: u16,
    len: u16,
    session: u32,
    status: u32,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let header = Self {
            command: reader.le16()?,
            len: reader.le16()?,
            session: reader.le32()?,
            status: reader.le32()?,
        };
        reader.skip(8)?;
        let options = reader.le32()?;
        (options == 0 && command(header.command).is_some()).then_some(header)
    }
}

impl Protocol for Enip {
    fn name(&self) -> &'static str {
        "enip"
    }

    fn ports(&self) -> &'static [u16] {
        &[44818, 2222]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Tcp | Transport::Udp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let is_udp = seen.transport == Transport::Udp;
        let has_port = seen.has_port(44818);
        if is_udp && seen.has_port(2222) && is_io(seen.newest()) {
            return Verdict::LIKELY;
        }
        seen.opened_by_either(|bytes| {
            if bytes.len() < 2 {
                return if is_udp || bytes[0] > 0x73 {
                    Verdict::No
                } else {
                    Verdict::NeedMore
                };
            }
            let code = u16::from_le_bytes([bytes[0], bytes[1]]);
            let Some(header) = Header::read(bytes) else {
                let is_short = bytes.len() < HEADER_LEN && command(code).is_some() && !is_udp;
                return if is_short { Verdict::NeedMore } else { Verdict::No };
            };
            let body = &bytes[HEADER_LEN..];
            let len = usize::from(header.len);
            if is_udp && body.len() != len {
                return Verdict::No;
            }
            let is_ok = match code {
                // Version 1, no options.
                0x65 if len == 4 && body.len() < 4 && !is_udp => return Verdict::NeedMore,
                0x65 => len == 4 && body.starts_with(&[1, 0]),
                0x66 => len == 0 && header.session != 0,
                0x04 | 0x63 | 0x64 => header.status == 0 && (len == 0 || len > 2) && header.session == 0,
                // An interface (0 is CIP), a time-out, a list of items.
                0x6f | 0x70 => {
                    let is_cip = (0..4).all(|at| body.get(at).is_none_or(|&byte| byte == 0));
                    len >= 16 && is_cip && header.status == 0
                }
                _ => has_port,
            };
            if !is_ok {
                return Verdict::No;
            }
            if has_port || matches!(code, 0x65 | 0x6f | 0x70) {
                let is_answer = seen.ports[0] == 44818;
                Verdict::certain(if is_answer { Side::Server } else { Side::Client })
            } else {
                Verdict::LIKELY
            }
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Connection>::default()
    }
}

/// A datagram of cyclic data: two items, a connection's address and its data.
fn is_io(bytes: &[u8]) -> bool {
    match *bytes {
        [
            2,
            0,
            2,
            0x80,
            8,
            0,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            0xb1,
            0,
            low,
            high,
            ref data @ ..,
        ]
        | [
            2,
            0,
            0,
            0x80,
            6,
            0,
            _,
            _,
            _,
            _,
            _,
            _,
            0xb1,
            0,
            low,
            high,
            ref data @ ..,
        ] => data.len() == usize::from(u16::from_le_bytes([low, high])),
        _ => false,
    }
}

struct Pending {
    command: u16,
    request: Map<String, Value>,
}

#[derive(Default)]
struct Connection {
    pending: Vec<Pending>,
}

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if out.transport == Transport::Udp && is_io(bytes) {
            // Cyclic data, many times a second.
            return Step::Done;
        }
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| rest.len() >= HEADER_LEN) {
            let Some(header) = Header::read(rest) else {
                return Step::Broken(Anomaly::parser("malformed_packet", Severity::Medium));
            };
            let Some(body) = rest.get(HEADER_LEN..HEADER_LEN + usize::from(header.len)) else {
                break;
            };
            match side {
                Side::Client => self.request(&header, body, out),
                Side::Server => self.response(&header, body, out),
            }
            taken += HEADER_LEN + usize::from(header.len);
        }
        Step::Take(taken as u64)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        for pending in self.pending.drain(..) {
            tell(pending, None, out);
        }
    }
}

fn tell(pending: Pending, response: Option<Map<String, Value>>, out: &mut Out<'_>) {
    let mut fields = Map::new();
    if !pending.request.is_empty() {
        fields.insert("request".into(), pending.request.into());
    }
    if let Some(response) = response {
        fields.insert("response".into(), response.into());
    }
    out.record_of(Side::Client, Record::fields("enip", fields));
}

impl Connection {
    fn request(&mut self, header: &Header, body: &[u8], out: &mut Out<'_>) {
        let mut request = base(header);
        request.remove("status");
        if let Some(cip) = cip(header, body) {
            request.insert("cip".into(), cip);
        }
        let pending = Pending {
            command: header.command,
            request,
        };
        // These are not answered.
        if matches!(header.command, 0x00 | 0x66) {
            tell(pending, None, out);
            return;
        }
        if self.pending.len() >= PENDING_MAX {
            let oldest = self.pending.remove(0);
            tell(oldest, None, out);
        }
        self.pending.push(pending);
    }

    fn response(&mut self, header: &Header, body: &[u8], out: &mut Out<'_>) {
        let mut response = base(header);
        match header.command {
            0x63 => {
                if let Some(identity) = identity(body) {
                    response.insert("identity".into(), identity);
                }
            }
            0x6f | 0x70 => {
                if let Some(cip) = cip(header, body) {
                    response.insert("cip".into(), cip);
                }
            }
            _ => {}
        }
        let at = self
            .pending
            .iter()
            .position(|pending| pending.command == header.command);
        let pending = match at {
            Some(at) => self.pending.remove(at),
            None => Pending {
                command: header.command,
                request: Map::new(),
            },
        };
        tell(pending, Some(response), out);
    }
}

fn base(header: &Header) -> Map<String, Value> {
    let status = match header.status {
        0 => "success",
        1 => "invalid_cmd",
        2 => "no_resources",
        3 => "incorrect_data",
        0x64 => "invalid_session",
        0x65 => "invalid_length",
        0x69 => "unsupported_protocol_revision",
        _ => "unknown",
    };
    let mut fields = Map::new();
    fields.insert("command".into(), command(header.command).into());
    fields.insert("status".into(), status.into());
    if header.session != 0 {
        fields.insert("session".into(), header.session.into());
    }
    fields
}

/// The item of an answer to a request for identities.
fn identity(body: &[u8]) -> Option<Value> {
    let mut reader = Reader::new(body);
    let (n, kind, _len) = (reader.le16()?, reader.le16()?, reader.le16()?);
    if n == 0 || kind != 0x0c {
        return None;
    }
    // The protocol's version, and a socket's address.
    reader.skip(2 + 16)?;
    let (vendor, device, product) = (reader.le16()?, reader.le16()?, reader.le16()?);
    let (major, minor) = (reader.u8()?, reader.u8()?);
    let (status, serial) = (reader.le16()?, reader.le32()?);
    let name = reader.piece8()?;
    Some(json!({
        "protocol_version": 1, "revision": format!("{major}.{minor}"), "vendor_id": vendor_name(vendor),
        "device_type": device_name(device), "product_code": product, "status": status, "serial": serial,
        "product_name": eve_text(name), "state": reader.u8(),
    }))
}

fn vendor_name(vendor: u16) -> String {
    match vendor {
        1 => "Rockwell Automation/Allen-Bradley",
        2 => "Namco Controls Corp.",
        3 => "Honeywell International Inc.",
        4 => "Parker Hannifin Corporation",
        5 => "Rockwell Automation/Reliance Elec.",
        8 => "Molex Incorporated",
        40 => "WAGO Corporation",
        46 => "ABB, Inc.",
        47 => "OMRON Corporation",
        _ => return vendor.to_string(),
    }
    .into()
}

fn device_name(device: u16) -> String {
    match device {
        0x02 => "AC Drive Device",
        0x07 => "General Purpose Discrete I/O",
        0x0c => "Communications Adapter",
        0x0e => "Programmable Logic Controller",
        0x18 => "Human-Machine Interface",
        0x2b => "Generic Device (keyable)",
        0x2c => "Managed Ethernet Switch",
        _ => return device.to_string(),
    }
    .into()
}

/// The CIP message among the items: its service, class, instance and status.
fn cip(header: &Header, body: &[u8]) -> Option<Value> {
    if !matches!(header.command, 0x6f | 0x70) {
        return None;
    }
    let mut reader = Reader::new(body);
    reader.skip(6)?;
    let n = reader.le16()?;
    for _ in 0..n.min(8) {
        let (kind, len) = (reader.le16()?, reader.le16()?);
        let item = reader.take(len.into())?;
        let message = match kind {
            0xb2 => item,
            // Behind a sequence number.
            0xb1 => item.get(2..)?,
            _ => continue,
        };
        let mut message = Reader::new(message);
        let service = message.u8()?;
        let mut told = Map::new();
        told.insert("service".into(), service_name(service & 0x7f).into());
        if service & 0x80 != 0 {
            message.skip(1)?;
            told.insert("status".into(), message.u8()?.into());
            return Some(told.into());
        }
        let words = message.u8()?;
        let mut path = Reader::new(message.take(usize::from(words) * 2)?);
        while let Some(segment) = path.u8() {
            let key = match segment & 0xfc {
                0x20 => "class",
                0x24 => "instance",
                0x30 => "attribute",
                _ => break,
            };
            let value = match segment & 3 {
                0 => path.u8().map(u32::from),
                1 => {
                    path.skip(1);
                    path.le16().map(u32::from)
                }
                _ => None,
            };
            told.insert(key.into(), value.into());
        }
        return Some(told.into());
    }
    None
}

fn service_name(service: u8) -> String {
    match service {
        0x01 => "get_attributes_all",
        0x02 => "set_attributes_all",
        0x03 => "get_attribute_list",
        0x04 => "set_attribute_list",
        0x05 => "reset",
        0x06 => "start",
        0x07 => "stop",
        0x08 => "create",
        0x09 => "delete",
        0x0a => "multiple_service",
        0x0e => "get_attribute_single",
        0x10 => "set_attribute_single",
        0x4c => "read_tag",
        0x4d => "write_tag",
        0x4e => "forward_close",
        0x52 => "unconnected_send",
        0x54 => "forward_open",
        _ => return service.to_string(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    fn packet(command: u8, session: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![command, 0, body.len() as u8, 0, session, 0, 0, 0];
        packet.extend([0; 16]);
        packet.extend_from_slice(body);
        packet
    }

    #[test]
    fn a_session_and_a_call() {
        let call = b"\0\0\0\0\x05\0\x02\0\0\0\0\0\xb2\0\x06\0\x01\x02\x20\x01\x24\x01";
        let answer = b"\0\0\0\0\x05\0\x02\0\0\0\0\0\xb2\0\x04\0\x81\0\0\0";
        let said: &[Said<'_>] = &[
            (0, &packet(0x65, 0, b"\x01\0\0\0")),
            (1, &packet(0x65, 7, b"\x01\0\0\0")),
            (0, &packet(0x6f, 7, call)),
            (1, &packet(0x6f, 7, answer)),
        ];
        let expected = [
            (
                "enip",
                json!({"request": {"command": "register_session"},
                    "response": {"command": "register_session", "status": "success", "session": 7}}),
            ),
            (
                "enip",
                json!({
                    "request": {"command": "send_rr_data", "session": 7,
                        "cip": {"service": "get_attributes_all", "class": 1, "instance": 1}},
                    "response": {"command": "send_rr_data", "status": "success", "session": 7,
                        "cip": {"service": "get_attributes_all", "status": 0}}}),
            ),
        ];
        kit::check_stream(said, Some("enip"), &expected);
    }

    #[test]
    fn not_enip() {
        kit::check_stream(&[(0, &packet(0x65, 0, b"\x02\0\0\0"))], None, &[]);
        kit::check_datagrams(&[(0, &packet(0x99, 0, b""))], None, &[]);
    }
}
