//! SMB 1 to 3 ([MS-CIFS], [MS-SMB2]) over TCP and over NetBIOS sessions (RFC 1002), with calls in pipes.

mod names;
mod ntlmssp;
mod version1;
mod version2;

use serde_json::{Map, Value};

use super::rpc_pdu::Told;
use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::Reader;
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Smb;

/// Length of what frames a message.
const FRAME_LEN: usize = 4;
/// Bytes of a message that are looked at; what is behind them is skipped.
const HEAD_LEN_MAX: usize = 16 * 1024;
/// Requests that may wait for their answers.
const PENDING_MAX: usize = 128;
/// Open files whose names are known, and shares.
const FILES_MAX: usize = 512;

impl Protocol for Smb {
    fn name(&self) -> &'static str {
        "smb"
    }

    fn ports(&self) -> &'static [u16] {
        &[445, 139]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        seen.opened_by_either(|bytes| match bytes[0] {
            // A message.
            0 => {
                let Some(body) = bytes.get(FRAME_LEN..) else {
                    return Verdict::NeedMore;
                };
                match *body {
                    [0xff, b'S', b'M', b'B', ..] => {
                        // Bit 7 of its flags marks an answer.
                        match body.get(9) {
                            Some(flags) if flags & 0x80 != 0 => Verdict::certain(Side::Server),
                            Some(_) => Verdict::CERTAIN,
                            None => Verdict::NeedMore,
                        }
                    }
                    [0xfe, b'S', b'M', b'B', ..] => match body.get(16) {
                        Some(flags) if flags & 1 != 0 => Verdict::certain(Side::Server),
                        Some(_) => Verdict::CERTAIN,
                        None => Verdict::NeedMore,
                    },
                    [0xfc | 0xfd, b'S', b'M', b'B', ..] => Verdict::CERTAIN,
                    [] | [0xfc..=0xff] => Verdict::NeedMore,
                    [0xfc..=0xff, ref magic @ ..] if b"SMB".starts_with(magic) => Verdict::NeedMore,
                    _ => Verdict::No,
                }
            }
            _ => Verdict::No,
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Connection {
            common: Common {
                dialect: "unknown".into(),
                ..Common::default()
            },
            version1: version1::State::default(),
            version2: version2::State::default(),
        })
    }
}

/// What both versions share.
#[derive(Default)]
struct Common {
    dialect: String,
    /// Records so far.
    told: u64,
    is_logging_in: bool,
}

struct Connection {
    common: Common,
    version1: version1::State,
    version2: version2::State,
}

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut taken = 0u64;
        while let Some(rest) = bytes.get(taken as usize..).filter(|rest| rest.len() >= FRAME_LEN) {
            let mut reader = Reader::new(rest);
            let Some([kind, high, middle, low]) = reader.array() else {
                break;
            };
            let len = u32::from_be_bytes([0, high, middle, low]);
            let head_len = (len as usize).min(HEAD_LEN_MAX);
            let Some(head) = reader.take(head_len) else {
                break;
            };
            if kind == 0 && len > 0 {
                match head {
                    [0xff, b'S', b'M', b'B', ..] => self.version1.message(head, &mut self.common, out),
                    [0xfe, b'S', b'M', b'B', ..] => self.version2.message(head, &mut self.common, out),
                    // Encrypted or compressed.
                    [0xfd | 0xfc, b'S', b'M', b'B', ..] => {}
                    _ => return Step::Broken(Anomaly::parser("malformed_data", Severity::Medium)),
                }
            } else if !matches!(kind, 0 | 0x81..=0x85) {
                return Step::Broken(Anomaly::parser("malformed_data", Severity::Medium));
            }
            let _ = side;
            taken += FRAME_LEN as u64 + u64::from(len);
        }
        Step::Take(taken)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        self.version1.finish(&mut self.common, out);
        self.version2.finish(&mut self.common, out);
    }
}

impl Common {
    fn tell(&mut self, mut fields: Map<String, Value>, out: &mut Out<'_>) {
        self.told += 1;
        fields.insert("id".into(), self.told.into());
        fields.insert("dialect".into(), self.dialect.as_str().into());
        out.record_of(Side::Client, Record::fields("smb", fields));
    }

    fn tell_call(&mut self, (mut fields, rpc): Told, out: &mut Out<'_>) {
        fields.insert("dcerpc".into(), rpc.into());
        self.tell(fields, out);
    }

    /// A security blob of a client that logs in.
    fn logs_in(&mut self, blob: &[u8], fields: &mut Map<String, Value>, out: &mut Out<'_>) {
        if let Some(ntlm) = ntlmssp::Authenticate::find(blob) {
            if !ntlm.user.is_empty() {
                out.insight.user = Some(text(ntlm.user.as_bytes()));
                out.login(Login::Attempted);
                self.is_logging_in = true;
            }
            fields.insert("ntlmssp".into(), ntlm.fields().into());
        }
    }

    /// The server's answer to it.
    fn logged_in(&mut self, status: u32, out: &mut Out<'_>) {
        if status != names::MORE_PROCESSING && std::mem::take(&mut self.is_logging_in) {
            out.login(if status == 0 {
                Login::Succeeded
            } else {
                Login::Failed
            });
        }
    }
}

/// Puts `status` and `status_code` in.
fn set_status(fields: &mut Map<String, Value>, status: u32) {
    let name = names::status(status).map_or_else(|| format!("{status:#x}"), str::to_owned);
    fields.insert("status".into(), name.into());
    fields.insert("status_code".into(), format!("{status:#x}").into());
}

/// A GUID of a server or a file, as EVE writes it.
fn guid_text(guid: &[u8; 16]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 9, 8, 11, 10, 15, 14, 13, 12];
    let mut text = String::with_capacity(36);
    for (at, &byte) in order.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", guid[byte]));
    }
    text
}

/// A time of Windows (100 ns since 1601) in seconds since 1970; 0 stays 0.
fn unix_s(time: u64) -> u64 {
    (time / 10_000_000).saturating_sub(11_644_473_600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let guid = *b"ts412\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08";
        assert_eq!(guid_text(&guid), "31347374-0032-0000-0201-040308070605");
        assert_eq!(unix_s(0), 0);
        assert_eq!(unix_s(116_444_736_000_000_000 + 50_000_000), 5);
    }

    #[test]
    fn recognised() {
        use crate::layer7::kit;
        let app = |bytes: &[u8]| kit::stream(&[(0, bytes)]).insight.app;
        assert_eq!(app(b"\0\0\0\x20\xfdSMBxxxxxxxxxxxx"), Some("smb"));
        assert_eq!(app(b"\0\0\0\x20\xfbSMBxxxxxxxxxxxx"), None);
    }
}
