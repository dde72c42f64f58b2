//! Remote Desktop Protocol ([MS-RDPBCGR]) over TCP, and its transport over UDP by name ([MS-RDPEUDP]).

use serde_json::{Map, Value, json};

use crate::layer7::insight::text;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::{Reader, eve_text, utf16le};
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Rdp;

const CONNECT_REQUEST: u8 = 0xe0;
const CONNECT_CONFIRM: u8 = 0xd0;
const DATA: u8 = 0xf0;

impl Protocol for Rdp {
    fn name(&self) -> &'static str {
        "rdp"
    }

    fn ports(&self) -> &'static [u16] {
        &[3389]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Tcp | Transport::Udp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        if seen.transport == Transport::Udp {
            return match *seen.newest() {
                // SYN: nothing received yet, a window, the flag, a number, sizes for either way.
                [
                    0xff,
                    0xff,
                    0xff,
                    0xff,
                    _,
                    _,
                    _,
                    flags,
                    _,
                    _,
                    _,
                    _,
                    up_high,
                    up_low,
                    down_high,
                    down_low,
                    ..,
                ] if flags & 5 == 1 => {
                    let is_size = |high, low| (1132..=1232).contains(&u16::from_be_bytes([high, low]));
                    if is_size(up_high, up_low) && is_size(down_high, down_low) {
                        Verdict::certain(seen.side)
                    } else {
                        Verdict::No
                    }
                }
                _ => Verdict::No,
            };
        }
        let has_port = seen.has_port(3389);
        seen.opened_by_either(|bytes| {
            let begin: [u8; 2] = [3, 0];
            if !begin.starts_with(&bytes[..bytes.len().min(2)])
                || bytes.get(5).is_some_and(|&kind| kind != CONNECT_REQUEST)
            {
                return Verdict::No;
            }
            let Some(total) = bytes
                .get(2..4)
                .map(|len| usize::from(u16::from_be_bytes([len[0], len[1]])))
            else {
                return Verdict::NeedMore;
            };
            if !(11..=512).contains(&total) {
                return Verdict::No;
            }
            let Some(body) = bytes.get(11..total) else {
                return Verdict::NeedMore;
            };
            match *body {
                [b'C', b'o', b'o', b'k', b'i', b'e', b':', ..] | [1, _, 8, 0, ..] => Verdict::CERTAIN,
                // A token of a load balancer.
                [b't', b's', b'v', b':', ..] => Verdict::CERTAIN,
                [] if has_port => Verdict::LIKELY,
                _ => Verdict::No,
            }
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Connection>::default()
    }
}

#[derive(Default)]
struct Connection {
    told: u64,
}

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if out.transport == Transport::Udp {
            return Step::Done;
        }
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| rest.len() >= 4) {
            // Fast-path output, or TLS that nobody announced: the beginning is over.
            if rest[0] != 3 {
                return Step::Done;
            }
            let len = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
            if len < 7 {
                return Step::Broken(Anomaly::parser("malformed_data", Severity::Medium));
            }
            let Some(message) = rest.get(4..len) else {
                break;
            };
            taken += len;
            let (header_len, kind) = (usize::from(message[0]), message[1]);
            let Some(header) = message.get(..=header_len) else {
                return Step::Broken(Anomaly::parser("malformed_data", Severity::Medium));
            };
            match (side, kind & 0xf0) {
                (Side::Client, CONNECT_REQUEST) => self.request(header.get(7..).unwrap_or_default(), out),
                (Side::Server, CONNECT_CONFIRM) => {
                    let is_tls = self.confirm(header.get(7..).unwrap_or_default(), out);
                    if is_tls {
                        return Step::Switch { taken, to: None };
                    }
                }
                (Side::Client, DATA) => match self.connect(&message[header_len + 1..], out) {
                    Some(()) => {}
                    // No beginning of a conference: it is over.
                    None => return Step::Done,
                },
                (Side::Server, DATA) => {
                    if message[header_len + 1..].starts_with(&[0x7f, 0x66]) {
                        self.tell("connect_response", Map::new(), out);
                    }
                    return Step::Done;
                }
                _ => {}
            }
        }
        Step::Take(taken as u64)
    }
}

const PROTOCOLS: [(u32, &str); 4] = [(1, "ssl"), (2, "hybrid"), (4, "rds_tls"), (8, "hybrid_ex")];

impl Connection {
    fn tell(&mut self, event: &str, mut fields: Map<String, Value>, out: &mut Out<'_>) {
        fields.insert("tx_id".into(), self.told.into());
        fields.insert("event_type".into(), event.into());
        self.told += 1;
        out.record(Record::fields("rdp", fields));
    }

    fn request(&mut self, body: &[u8], out: &mut Out<'_>) {
        let mut fields = Map::new();
        let cookie = body.strip_prefix(b"Cookie: mstshash=").map(|rest| {
            let end = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
            &rest[..end]
        });
        if let Some(cookie) = cookie {
            out.insight.user = Some(text(cookie));
            fields.insert("cookie".into(), eve_text(cookie).into());
        }
        // What it can do stands last, in eight bytes.
        if let Some([1, flags, 8, 0, _, _, _, _]) = body.last_chunk::<8>() {
            let names = [
                (1, "restricted_admin_mode_required"),
                (2, "redirected_authentication_mode_required"),
                (8, "correlation_info_present"),
            ];
            let flags: Vec<_> = names
                .iter()
                .filter(|(bit, _)| flags & bit != 0)
                .map(|(_, name)| *name)
                .collect();
            if !flags.is_empty() {
                fields.insert("flags".into(), flags.into());
            }
        }
        self.tell("initial_request", fields, out);
    }

    /// Whether TLS follows.
    fn confirm(&mut self, body: &[u8], out: &mut Out<'_>) -> bool {
        let mut fields = Map::new();
        let mut is_tls = false;
        match *body {
            [2, flags, 8, 0, a, b, c, d] => {
                let chosen = u32::from_le_bytes([a, b, c, d]);
                let names = [
                    (1, "extended_client_data"),
                    (2, "dynvc_gfx"),
                    (8, "restricted_admin"),
                    (0x10, "restricted_authentication"),
                ];
                let flags: Vec<_> = names
                    .iter()
                    .filter(|(bit, _)| flags & bit != 0)
                    .map(|(_, name)| *name)
                    .collect();
                fields.insert("server_supports".into(), flags.into());
                let name = PROTOCOLS
                    .iter()
                    .find(|(number, _)| *number == chosen)
                    .map_or("rdp", |(_, name)| name);
                fields.insert("protocol".into(), name.into());
                is_tls = chosen != 0;
            }
            [3, _, 8, 0, code, ..] => {
                let name = match code {
                    1 => "ssl_required_by_server",
                    2 => "ssl_not_allowed_by_server",
                    3 => "ssl_cert_not_on_server",
                    4 => "inconsistent_flags",
                    5 => "hybrid_required_by_server",
                    6 => "ssl_with_user_auth_required_by_server",
                    _ => "unknown",
                };
                fields.insert("error_code".into(), code.into());
                fields.insert("reason".into(), name.into());
            }
            _ => {}
        }
        self.tell("initial_response", fields, out);
        is_tls
    }

    /// The client's part of a conference's beginning; `None` if it is none.
    fn connect(&mut self, body: &[u8], out: &mut Out<'_>) -> Option<()> {
        if !body.starts_with(&[0x7f, 0x65]) {
            return None;
        }
        // The client's data stands behind this key and its length in one or two bytes.
        let at = memchr::memmem::find(body, b"Duca")? + 4;
        let len_len = if body.get(at)? & 0x80 != 0 { 2 } else { 1 };
        let mut reader = Reader::new(body.get(at + len_len..)?);
        let mut fields = Map::new();
        while let (Some(kind), Some(len)) = (reader.le16(), reader.le16()) {
            let Some(block) = usize::from(len).checked_sub(4).and_then(|len| reader.take(len)) else {
                break;
            };
            match kind {
                0xc001 => {
                    let mut client = Map::new();
                    // Older clients send less of it.
                    let _ = core(block, &mut client, out);
                    fields.insert("client".into(), client.into());
                }
                0xc003 => {
                    let channels = block.get(4..).unwrap_or_default().chunks_exact(12).take(32);
                    let names: Vec<_> = channels
                        .map(|channel| {
                            eve_text(channel[..8].split(|&byte| byte == 0).next().unwrap_or_default())
                        })
                        .collect();
                    fields.insert("channels".into(), names.into());
                }
                _ => {}
            }
        }
        self.tell("connect_request", fields, out);
        Some(())
    }
}

fn core(block: &[u8], client: &mut Map<String, Value>, out: &mut Out<'_>) -> Option<()> {
    let mut reader = Reader::new(block);
    let mut put = |name: &str, value: Value| {
        client.insert(name.into(), value);
    };
    let version = match reader.le32()? {
        0x0008_0001 => "v4".into(),
        0x0008_0004 => "v5".into(),
        0x0008_0005 => "v10.0".into(),
        0x0008_0006 => "v10.1".into(),
        0x0008_0007 => "v10.2".into(),
        0x0008_0008 => "v10.3".into(),
        0x0008_0009 => "v10.4".into(),
        0x0008_000a => "v10.5".into(),
        0x0008_000b => "v10.6".into(),
        0x0008_000c => "v10.7".into(),
        other => format!("unknown_version-{other:#x}"),
    };
    put("version", version.into());
    put("desktop_width", reader.le16()?.into());
    put("desktop_height", reader.le16()?.into());
    reader.skip(4)?;
    put("keyboard_layout", format!("{:#x}", reader.le32()?).into());
    put("build", build_name(reader.le32()?).into());
    let name = until_nul(&utf16le(reader.take(32)?));
    if !name.is_empty() {
        if out.insight.host.is_none() {
            out.insight.about = Some(text(name.as_bytes()));
        }
        put("client_name", name.into());
    }
    let (_type, _subtype) = (reader.le32()?, reader.le32()?);
    put("function_keys", reader.le32()?.into());
    reader.skip(64)?;
    let (_depth, product, _serial) = (reader.le16()?, reader.le16()?, reader.le32()?);
    put("product_id", product.into());
    reader.skip(4)?;
    let flags = reader.le16()?;
    let names = [
        "support_errinfo_pdf",
        "want_32bpp_session",
        "support_statusinfo_pdu",
        "strong_asymmetric_keys",
        "",
        "valid_connection_type",
        "support_monitor_layout_pdu",
        "support_netchar_autodetect",
        "support_dynvc_gfx_protocol",
        "support_dynamic_time_zone",
        "support_heartbeat_pdu",
    ];
    let named = names
        .iter()
        .enumerate()
        .filter(|(at, name)| flags & 1 << at != 0 && !name.is_empty());
    let capabilities: Vec<_> = named.map(|(_, name)| *name).collect();
    if !capabilities.is_empty() {
        put("capabilities", capabilities.into());
    }
    let id = until_nul(&utf16le(reader.take(64)?));
    if !id.is_empty() {
        put("id", id.into());
    }
    Some(())
}

fn until_nul(text: &str) -> String {
    text.split('\0').next().unwrap_or_default().to_owned()
}

fn build_name(build: u32) -> String {
    match build {
        419 => "NT 4.0 Terminal Server Edition",
        2195 => "Windows 2000",
        2600 => "Windows XP",
        3790 => "Windows Server 2003",
        6000 => "Windows Vista",
        6001 => "Windows Vista SP1",
        6002 => "Windows Vista SP2",
        7600 => "Windows 7",
        7601 => "Windows 7 SP1",
        9200 => "Windows 8",
        9600 => "Windows 8.1",
        10240 => "Windows 10 RTM",
        10586 => "Windows 10 TH2",
        14393 => "Windows 10 RS1",
        15063 => "Windows 10 RS2",
        16299 => "Windows 10 RS3",
        17134 => "Windows 10 RS4",
        17763 => "Windows 10 RS5",
        18362 => "Windows 10 19H1",
        _ => return json!(build).to_string(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    const ASK: Said<'_> = (
        0,
        b"\x03\0\0\x28\x23\xe0\0\0\0\0\0Cookie: mstshash=bob\r\n\x01\0\x08\0\x03\0\0",
    );

    #[test]
    fn the_beginning() {
        let ask = [
            &b"\x03\0\0\x29\x24\xe0\0\0\0\0\0Cookie: mstshash=bob\r\n"[..],
            b"\x01\0\x08\0\x03\0\0\0",
        ]
        .concat();
        let said: &[Said<'_>] = &[
            (0, &ask),
            (1, b"\x03\0\0\x13\x0e\xd0\0\0\x12\x34\0\x02\x01\x08\0\x02\0\0\0"),
        ];
        let expected = [
            (
                "rdp",
                json!({"tx_id": 0, "event_type": "initial_request", "cookie": "bob"}),
            ),
            (
                "rdp",
                json!({"tx_id": 1, "event_type": "initial_response", "server_supports": ["extended_client_data"],
                    "protocol": "hybrid"}),
            ),
        ];
        let outcome = kit::stream(said);
        assert_eq!(outcome.bodies(), expected);
        assert_eq!(outcome.insight.app_before, Some("rdp"));
        assert_eq!(outcome.insight.user.as_deref(), Some("bob"));
        kit::check_cuts(said);
        kit::check_cuts(&[ASK]);
    }

    #[test]
    fn others_over_iso_transport() {
        kit::check_stream(
            &[(
                0,
                b"\x03\0\0\x16\x11\xe0\0\0\0\x07\0\xc1\x02\x01\0\xc2\x02\x01\x02\xc0\x01\x0a",
            )],
            None,
            &[],
        );
    }

    #[test]
    fn over_udp() {
        let syn = b"\xff\xff\xff\xff\0\x40\x18\x01\xbb\xff\x56\x87\x04\xd0\x04\xd0";
        kit::check_datagrams(&[(0, syn)], Some("rdp"), &[]);
        kit::check_datagrams(
            &[(
                0,
                b"\xff\xff\xff\xff\0\x40\x18\x01\xbb\xff\x56\x87\x05\xd0\x04\xd0",
            )],
            None,
            &[],
        );
    }
}
