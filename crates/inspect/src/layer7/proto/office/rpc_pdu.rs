//! Protocol data units of connection-oriented DCE/RPC (C706 and [MS-RPCE]), over TCP or in pipes of SMB.

use serde_json::{Map, Value, json};

use super::rpc_names;
use crate::layer7::reader::Reader;

/// What begins each unit.
pub(super) const HEADER_LEN: usize = 16;
/// Calls that may be open at once, and interfaces of one connection.
const CALLS_MAX: usize = 64;
const INTERFACES_MAX: usize = 64;

pub(super) const REQUEST: u8 = 0;
const RESPONSE: u8 = 2;
const FAULT: u8 = 3;
const BIND: u8 = 11;
const BIND_ACK: u8 = 12;
const BIND_NAK: u8 = 13;
const ALTER: u8 = 14;
const ALTER_RESPONSE: u8 = 15;
const LAST_KIND: u8 = 20;

const FIRST_FRAGMENT: u8 = 1;
const LAST_FRAGMENT: u8 = 2;
const HAS_OBJECT: u8 = 0x80;

/// As EVE has them.
pub(super) const NAMES: [&str; 21] = [
    "REQUEST",
    "PING",
    "RESPONSE",
    "FAULT",
    "WORKING",
    "NOCALL",
    "REJECT",
    "ACK",
    "CL_CANCEL",
    "FACK",
    "CANCEL_ACK",
    "BIND",
    "BINDACK",
    "BINDNAK",
    "ALTER_CONTEXT",
    "ALTER_CONTEXT_RESP",
    "AUTH3",
    "SHUTDOWN",
    "CO_CANCEL",
    "ORPHANED",
    "RTS",
];

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) flags: u8,
    is_little: bool,
    /// Of all of it.
    pub(super) len: u16,
    auth_len: u16,
    pub(super) call: u32,
}

impl Header {
    /// `None` if it is none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [5, minor, kind, flags, drep, _, _, _, len @ ..] = *bytes.first_chunk::<HEADER_LEN>()? else {
            return None;
        };
        let is_little = drep & 0xf0 == 0x10;
        let mut numbers = Reader::new(&len);
        let (len, auth_len) = (u16_of(&mut numbers, is_little)?, u16_of(&mut numbers, is_little)?);
        let call = u32_of(&mut numbers, is_little)?;
        let is_ok = minor <= 1 && kind <= LAST_KIND && drep & 0xe0 == 0 && usize::from(len) >= HEADER_LEN;
        (is_ok && auth_len <= len).then_some(Self {
            kind,
            flags,
            is_little,
            len,
            auth_len,
            call,
        })
    }

    /// Whether a server sends such.
    pub(super) const fn is_of_server(self) -> bool {
        matches!(self.kind, RESPONSE | FAULT | BIND_ACK | BIND_NAK | ALTER_RESPONSE)
    }
}

fn u16_of(reader: &mut Reader<'_>, is_little: bool) -> Option<u16> {
    if is_little { reader.le16() } else { reader.be16() }
}

fn u32_of(reader: &mut Reader<'_>, is_little: bool) -> Option<u32> {
    if is_little { reader.le32() } else { reader.be32() }
}

/// A UUID with its first three parts in little endian.
pub(super) fn uuid_text(uuid: &[u8; 16]) -> String {
    let part = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let swapped =
        |range: std::ops::Range<usize>| part(&uuid[range].iter().rev().copied().collect::<Vec<_>>());
    [
        swapped(0..4),
        swapped(4..6),
        swapped(6..8),
        part(&uuid[8..10]),
        part(&uuid[10..]),
    ]
    .join("-")
}

struct Interface {
    context: u16,
    uuid: String,
    version: (u16, u16),
    result: Option<(u16, u16)>,
}

/// One call: what asked and what answered.
struct Call {
    id: u32,
    kind: u8,
    /// What the caller knows of the request.
    base: Map<String, Value>,
    rpc: Map<String, Value>,
    opnum: u16,
    context: u16,
    fragments: [u32; 2],
    stub_bytes: [u64; 2],
    response: Option<u8>,
}

/// A call that is over: what its caller gave with the request, and EVE's `dcerpc`.
pub(super) type Told = (Map<String, Value>, Map<String, Value>);

/// The calls of one connection or pipe.
#[derive(Default)]
pub(super) struct Calls {
    interfaces: Vec<Interface>,
    open: Vec<Call>,
    /// `opnum` stands beside the request as in EVE's `smb.dcerpc`, not in it.
    is_in_smb: bool,
}

impl Calls {
    pub(super) fn in_smb() -> Self {
        Self {
            is_in_smb: true,
            ..Self::default()
        }
    }

    /// Whether an interface was asked for.
    pub(super) fn is_used(&self) -> bool {
        !self.interfaces.is_empty()
    }

    /// A unit of which at least the header and the first bytes are there. What is over is handed to `tell`.
    pub(super) fn unit(
        &mut self,
        bytes: &[u8],
        base: impl FnOnce() -> Map<String, Value>,
        tell: &mut dyn FnMut(Told),
    ) -> Option<()> {
        let header = Header::read(bytes)?;
        let mut reader = Reader::new(&bytes[HEADER_LEN..]);
        match header.kind {
            REQUEST => self.request(header, &mut reader, base, tell)?,
            BIND | ALTER => {
                self.bind(header, &mut reader)?;
                let call = Call::new(&header, base());
                self.push(call, tell);
            }
            RESPONSE => {
                let at = self.find(header.call)?;
                let call = &mut self.open[at];
                call.response = Some(RESPONSE);
                call.fragments[1] += 1;
                call.stub_bytes[1] += stub_len(&header, 8);
                if header.flags & LAST_FRAGMENT != 0 {
                    let call = self.open.remove(at);
                    tell(self.told(call));
                }
            }
            FAULT | BIND_ACK | BIND_NAK | ALTER_RESPONSE => {
                let at = self.find(header.call)?;
                if matches!(header.kind, BIND_ACK | ALTER_RESPONSE) {
                    self.bound(header, &mut reader)?;
                }
                let mut call = self.open.remove(at);
                call.response = Some(header.kind);
                tell(self.told(call));
            }
            _ => {}
        }
        Some(())
    }

    /// Nothing more comes: tells what was not answered.
    pub(super) fn finish(&mut self, tell: &mut dyn FnMut(Told)) {
        for call in std::mem::take(&mut self.open) {
            tell(self.told(call));
        }
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.open.iter().position(|call| call.id == id)
    }

    fn push(&mut self, call: Call, tell: &mut dyn FnMut(Told)) {
        if self.open.len() >= CALLS_MAX {
            let oldest = self.open.remove(0);
            tell(self.told(oldest));
        }
        self.open.push(call);
    }

    fn request(
        &mut self,
        header: Header,
        reader: &mut Reader<'_>,
        base: impl FnOnce() -> Map<String, Value>,
        tell: &mut dyn FnMut(Told),
    ) -> Option<()> {
        let _alloc_hint = u32_of(reader, header.is_little)?;
        let context = u16_of(reader, header.is_little)?;
        let opnum = u16_of(reader, header.is_little)?;
        let fixed_len = if header.flags & HAS_OBJECT != 0 { 24 } else { 8 };
        let earlier = if header.flags & FIRST_FRAGMENT == 0 {
            self.find(header.call)
        } else {
            None
        };
        let mut call = match earlier {
            Some(at) => self.open.remove(at),
            None => Call::new(&header, base()),
        };
        call.opnum = opnum;
        call.context = context;
        call.fragments[0] += 1;
        call.stub_bytes[0] += stub_len(&header, fixed_len);
        self.push(call, tell);
        Some(())
    }

    fn bind(&mut self, header: Header, reader: &mut Reader<'_>) -> Option<()> {
        // Sizes of fragments, association.
        reader.skip(8)?;
        let n = reader.u8()?;
        reader.skip(3)?;
        if header.kind == BIND {
            self.interfaces.clear();
        }
        for _ in 0..n {
            let context = u16_of(reader, header.is_little)?;
            let syntaxes = reader.u8()?;
            reader.skip(1)?;
            let uuid = uuid_text(&reader.array()?);
            let version = (
                u16_of(reader, header.is_little)?,
                u16_of(reader, header.is_little)?,
            );
            reader.skip(20 * usize::from(syntaxes))?;
            if self.interfaces.len() < INTERFACES_MAX {
                self.interfaces.push(Interface {
                    context,
                    uuid,
                    version,
                    result: None,
                });
            }
        }
        Some(())
    }

    fn bound(&mut self, header: Header, reader: &mut Reader<'_>) -> Option<()> {
        reader.skip(8)?;
        let address_len = usize::from(u16_of(reader, header.is_little)?);
        // What follows is aligned to four bytes.
        reader.skip(address_len + (2 + 4 - (address_len + 4) % 4) % 4)?;
        let n = reader.u8()?;
        reader.skip(3)?;
        let unanswered = self
            .interfaces
            .iter_mut()
            .filter(|interface| interface.result.is_none());
        for interface in unanswered.take(n.into()) {
            let result = (
                u16_of(reader, header.is_little)?,
                u16_of(reader, header.is_little)?,
            );
            reader.skip(20)?;
            interface.result = Some(result);
        }
        Some(())
    }

    fn told(&self, mut call: Call) -> Told {
        let mut rpc = std::mem::take(&mut call.rpc);
        rpc.insert("request".into(), NAMES[usize::from(call.kind)].into());
        if call.kind == REQUEST {
            let mut request = json!({"frag_cnt": call.fragments[0], "stub_data_size": call.stub_bytes[0]});
            if self.is_in_smb {
                rpc.insert("opnum".into(), call.opnum.into());
            } else {
                request["opnum"] = call.opnum.into();
            }
            rpc.insert("req".into(), request);
        }
        let mut interfaces = Vec::new();
        for interface in &self.interfaces {
            if call.kind == REQUEST && interface.context != call.context {
                continue;
            }
            let (major, minor) = interface.version;
            let mut told = json!({"uuid": interface.uuid, "version": format!("{major}.{minor}")});
            if let Some((result, reason)) = interface.result.filter(|_| call.kind != REQUEST) {
                told["ack_result"] = result.into();
                told["ack_reason"] = reason.into();
            }
            if let Some(service) = rpc_names::service(&interface.uuid) {
                told["service"] = service.name.into();
                let procedure = service.procedures.get(usize::from(call.opnum));
                if let Some(procedure) = procedure.filter(|name| call.kind == REQUEST && !name.is_empty()) {
                    told["procedure"] = (*procedure).into();
                }
            }
            interfaces.push(told);
        }
        if !interfaces.is_empty() {
            rpc.insert("interfaces".into(), interfaces.into());
        }
        let response = call.response.map_or("UNREPLIED", |kind| NAMES[usize::from(kind)]);
        rpc.insert("response".into(), response.into());
        if call.response == Some(RESPONSE) {
            let response = json!({"frag_cnt": call.fragments[1], "stub_data_size": call.stub_bytes[1]});
            rpc.insert("res".into(), response);
        }
        rpc.insert("call_id".into(), call.id.into());
        (call.base, rpc)
    }
}

/// Bytes of arguments in a unit with so many bytes between them and the header.
fn stub_len(header: &Header, fixed_len: u64) -> u64 {
    let trailer_len = if header.auth_len > 0 {
        u64::from(header.auth_len) + 8
    } else {
        0
    };
    u64::from(header.len).saturating_sub(HEADER_LEN as u64 + fixed_len + trailer_len)
}

impl Call {
    fn new(header: &Header, base: Map<String, Value>) -> Self {
        Self {
            id: header.call,
            kind: header.kind,
            base,
            rpc: Map::new(),
            opnum: 0,
            context: 0,
            fragments: [0; 2],
            stub_bytes: [0; 2],
            response: None,
        }
    }
}
