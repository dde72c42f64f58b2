//! Remote Framebuffer Protocol of VNC (RFC 6143).

use serde_json::{Map, Value, json};

use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::{Reader, eve_text};
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Rfb;

const VERSION_LEN: usize = 12;
const TEXT_LEN_MAX: u32 = 4096;

const NONE: u32 = 1;
const VNC: u32 = 2;

impl Protocol for Rfb {
    fn name(&self) -> &'static str {
        "rfb"
    }

    fn ports(&self) -> &'static [u16] {
        &[5900, 5901]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        // The server speaks first; the client says the same.
        let server = seen.server();
        let client = if server.is_empty() {
            Side::Server
        } else {
            Side::Client
        };
        let spoke = if server.is_empty() { seen.client() } else { server };
        Verdict::magic(spoke, b"RFB 00").with_client(client)
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Connection>::default()
    }
}

#[derive(Default, PartialEq, Clone, Copy)]
enum Phase {
    #[default]
    ServerVersion,
    ClientVersion,
    Types,
    Choice,
    Challenge,
    Response,
    Result,
    ClientInit,
    ServerInit,
}

#[derive(Default)]
struct Connection {
    phase: Phase,
    minor: u32,
    kind: u32,
    fields: Map<String, Value>,
    authentication: Map<String, Value>,
}

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut reader = Reader::new(bytes);
        loop {
            let speaker = match self.phase {
                Phase::ClientVersion | Phase::Choice | Phase::Response | Phase::ClientInit => Side::Client,
                _ => Side::Server,
            };
            let before = reader;
            if speaker != side || reader.is_empty() {
                break;
            }
            match self.step(&mut reader, out) {
                Stepped::On => {}
                Stepped::NeedMore => {
                    reader = before;
                    break;
                }
                Stepped::Over => {
                    self.tell(out);
                    return Step::Done;
                }
                Stepped::Broken => {
                    return Step::Broken(Anomaly::parser("malformed_message", Severity::Medium));
                }
            }
        }
        Step::Take((bytes.len() - reader.len()) as u64)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        self.tell(out);
    }
}

enum Stepped {
    On,
    NeedMore,
    Over,
    Broken,
}

impl Connection {
    fn tell(&mut self, out: &mut Out<'_>) {
        let mut fields = std::mem::take(&mut self.fields);
        if fields.is_empty() {
            return;
        }
        let authentication = std::mem::take(&mut self.authentication);
        if !authentication.is_empty() {
            fields.insert("authentication".into(), authentication.into());
        }
        out.record_of(Side::Client, Record::fields("rfb", fields));
    }

    fn step(&mut self, reader: &mut Reader<'_>, out: &mut Out<'_>) -> Stepped {
        self.next(reader, out).unwrap_or(Stepped::NeedMore)
    }

    fn next(&mut self, reader: &mut Reader<'_>, out: &mut Out<'_>) -> Option<Stepped> {
        match self.phase {
            Phase::ServerVersion | Phase::ClientVersion => {
                let version = reader.take(VERSION_LEN)?;
                let [b'R', b'F', b'B', b' ', major @ .., b'.', _, _, _, b'\n'] = version else {
                    return Some(Stepped::Broken);
                };
                let minor = &version[8..11];
                let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u32>().ok();
                let Some(number) = number(minor) else {
                    return Some(Stepped::Broken);
                };
                let told = json!({"major": eve_text(major), "minor": eve_text(minor)});
                if self.phase == Phase::ServerVersion {
                    self.fields.insert("server_protocol_version".into(), told);
                    self.phase = Phase::ClientVersion;
                } else {
                    // The client's is the one that counts.
                    self.minor = number;
                    self.fields.insert("client_protocol_version".into(), told);
                    self.phase = Phase::Types;
                }
            }
            Phase::Types if self.minor < 7 => {
                self.kind = reader.be32()?;
                if self.kind == 0 {
                    return self.refused(reader);
                }
                self.chosen();
            }
            Phase::Types => {
                let n = reader.u8()?;
                if n == 0 {
                    return self.refused(reader);
                }
                reader.skip(n.into())?;
                self.phase = Phase::Choice;
            }
            Phase::Choice => {
                self.kind = reader.u8()?.into();
                self.chosen();
            }
            Phase::Challenge => {
                let challenge = hex(reader.take(16)?);
                self.authentication
                    .insert("vnc".into(), json!({ "challenge": challenge }));
                self.phase = Phase::Response;
            }
            Phase::Response => {
                let response = hex(reader.take(16)?);
                if let Some(vnc) = self.authentication.get_mut("vnc") {
                    vnc["response"] = response.into();
                }
                out.login(Login::Attempted);
                self.phase = Phase::Result;
            }
            Phase::Result => return self.result(reader, out),
            Phase::ClientInit => {
                self.fields
                    .insert("screen_shared".into(), (reader.u8()? != 0).into());
                self.phase = Phase::ServerInit;
            }
            Phase::ServerInit => {
                let (width, height) = (reader.be16()?, reader.be16()?);
                reader.skip(16)?;
                let len = reader.be32()?;
                if len > TEXT_LEN_MAX {
                    return Some(Stepped::Broken);
                }
                let name = eve_text(reader.take(len as usize)?);
                let framebuffer = json!({"width": width, "height": height, "name": name});
                self.fields.insert("framebuffer".into(), framebuffer);
                return Some(Stepped::Over);
            }
        }
        // What follows other types is theirs alone.
        let is_known = matches!(self.kind, 0..=VNC);
        Some(if is_known { Stepped::On } else { Stepped::Over })
    }

    fn chosen(&mut self) {
        self.authentication
            .insert("security_type".into(), self.kind.into());
        self.phase = match self.kind {
            VNC => Phase::Challenge,
            NONE if self.minor < 8 => Phase::ClientInit,
            _ => Phase::Result,
        };
    }

    fn result(&mut self, reader: &mut Reader<'_>, out: &mut Out<'_>) -> Option<Stepped> {
        let code = reader.be32()?;
        let name = match code {
            0 => "OK",
            1 => "FAIL",
            2 => "TOOMANY",
            _ => "UNKNOWN",
        };
        let step = if code == 0 {
            self.phase = Phase::ClientInit;
            Stepped::On
        } else if self.minor >= 8 {
            self.refused(reader)?
        } else {
            Stepped::Over
        };
        self.authentication.insert("security_result".into(), name.into());
        if self.kind == VNC {
            out.login(if code == 0 {
                Login::Succeeded
            } else {
                Login::Failed
            });
        }
        Some(step)
    }

    /// The server says why it ends the connection.
    fn refused(&mut self, reader: &mut Reader<'_>) -> Option<Stepped> {
        let len = reader.be32()?;
        if len > TEXT_LEN_MAX {
            return Some(Stepped::Broken);
        }
        let reason = eve_text(reader.take(len as usize)?);
        self.fields
            .insert("server_security_failure_reason".into(), reason.into());
        Some(Stepped::Over)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    const BEGIN: [Said<'_>; 5] = [
        (1, b"RFB 003.008\n"),
        (0, b"RFB 003.008\n"),
        (1, b"\x01\x02"),
        (0, b"\x02"),
        (1, b"0123456789abcdef"),
    ];

    #[test]
    fn log_ins() {
        let check =
            |after: &[Said<'_>], expected: [u16; 3], result: &str, more: (&str, serde_json::Value)| {
                let said = [&BEGIN[..], &[(0, b"fedcba9876543210")], after].concat();
                let insight = kit::stream(&said).insight;
                assert_eq!(
                    [
                        insight.logins_attempted,
                        insight.logins_succeeded,
                        insight.logins_failed
                    ],
                    expected
                );
                let version = json!({"major": "003", "minor": "008"});
                let mut record = json!({
                    "server_protocol_version": version, "client_protocol_version": version,
                    "authentication": {"security_type": 2, "security_result": result,
                        "vnc": {"challenge": "30313233343536373839616263646566",
                            "response": "66656463626139383736353433323130"}},
                });
                record[more.0] = more.1;
                kit::check_stream(&said, Some("rfb"), &[("rfb", record)]);
            };
        let reason = ("server_security_failure_reason", json!("no"));
        check(&[(1, b"\0\0\0\x01\0\0\0\x02no")], [1, 0, 1], "FAIL", reason);
        check(
            &[(1, b"\0\0\0\0"), (0, b"\x01")],
            [1, 1, 0],
            "OK",
            ("screen_shared", json!(true)),
        );
    }

    #[test]
    fn not_rfb() {
        kit::check_stream(&[(1, b"RFC 003.008\n")], None, &[]);
    }
}
