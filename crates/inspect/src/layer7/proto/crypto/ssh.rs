//! SSH (RFC 4253): banners, and the algorithms offered, of which HASSH is made (Salesforce, BSD-3-Clause).

use crate::layer7::cursor::Cursor;
use crate::layer7::insight::text;
use crate::layer7::ja3::md5_hex;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::record::{Anomaly, Hassh, Record, Severity, Ssh as SshRecord, SshSide};

#[derive(Debug)]
pub(in crate::layer7::proto) struct Ssh;

/// Longest banner; the standard allows 255 bytes.
const BANNER_MAX: usize = 1024;
/// Longest packet before keys are there (RFC 4253, section 6.1).
const PACKET_MAX: u32 = 35_000;
/// Packets of a side before its keys; longer key exchanges have 5 or so.
const PACKETS_MAX: u8 = 32;
/// Text of all algorithms of a side at most.
const HASSH_MAX: usize = 8192;

const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;

impl Protocol for Ssh {
    fn name(&self) -> &'static str {
        "ssh"
    }

    fn ports(&self) -> &'static [u16] {
        &[22, 2222]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        const PREFIXES: [&[u8]; 2] = [b"SSH-1.", b"SSH-2."];
        let begins = |bytes: &[u8]| {
            let is_long = bytes.len() >= PREFIXES[0].len();
            PREFIXES.iter().any(|prefix| {
                let len = prefix.len().min(bytes.len());
                bytes[..len] == prefix[..len]
            }) && (is_long || !bytes.is_empty())
        };
        let sides = [seen.client(), seen.server()];
        if sides
            .iter()
            .any(|bytes| bytes.len() >= PREFIXES[0].len() && begins(bytes))
        {
            return Verdict::CERTAIN;
        }
        if sides.iter().all(|bytes| bytes.is_empty() || begins(bytes)) {
            return Verdict::NeedMore;
        }
        Verdict::No
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(SshSession::default())
    }
}

#[derive(Default)]
struct SshSession {
    sides: [OneSide; 2],
    is_told: bool,
}

#[derive(Default)]
struct OneSide {
    banner: Option<SshSide>,
    has_keys: bool,
    packets: u8,
}

const BANNER_BROKEN: Anomaly = Anomaly::parser("invalid_banner", Severity::Medium);
const BANNER_LONG: Anomaly = Anomaly::parser("long_banner", Severity::Medium);
const PACKET_BROKEN: Anomaly = Anomaly::parser("invalid_record", Severity::Medium);

impl Session for SshSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            if rest.is_empty() || self.sides[side.index()].has_keys {
                // What is encrypted is not waited for.
                return Step::Take(bytes.len() as u64);
            }
            let len = if self.sides[side.index()].banner.is_none() {
                match self.banner(side, rest, out) {
                    Ok(len) => len,
                    Err(anomaly) => return Step::Broken(anomaly),
                }
            } else {
                match self.packet(side, rest, out) {
                    Ok(len) => len,
                    Err(anomaly) => return Step::Broken(anomaly),
                }
            };
            let Some(len) = len else {
                return Step::Take(taken as u64);
            };
            taken += len;
            let is_over = |side: &OneSide| side.has_keys || side.banner.is_none();
            let has_any_keys = self.sides.iter().any(|side| side.has_keys);
            // A side that was not heard until the other has its keys will not be.
            if has_any_keys && self.sides.iter().all(is_over) || self.is_version_1() {
                return Step::Done;
            }
        }
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        self.tell(out);
    }
}

impl SshSession {
    /// Both banners are there, and one speaks the old protocol, which offers nothing to read.
    fn is_version_1(&self) -> bool {
        let is_old =
            |banner: &SshSide| banner.proto_version.starts_with("1.") && banner.proto_version != "1.99";
        let banners = self.sides.iter().filter_map(|side| side.banner.as_ref());
        banners.clone().count() == 2 && banners.clone().any(is_old)
    }

    /// Length of the line, if all of it is there.
    fn banner(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Result<Option<usize>, Anomaly> {
        let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(BANNER_MAX)]) else {
            return if bytes.len() >= BANNER_MAX {
                Err(BANNER_LONG)
            } else {
                Ok(None)
            };
        };
        let line = bytes[..end].trim_ascii_end();
        let Some(versions) = line.strip_prefix(b"SSH-") else {
            // A server may greet with other lines before.
            return match side {
                Side::Server => Ok(Some(end + 1)),
                Side::Client => Err(BANNER_BROKEN),
            };
        };
        let at = memchr::memchr(b'-', versions).ok_or(BANNER_BROKEN)?;
        let software = versions[at + 1..].split(|&byte| byte == b' ').next();
        let software = text(software.unwrap_or_default());
        let ssh = out.insight.ssh.get_or_insert_default();
        match side {
            Side::Client => ssh.client = Some(software.clone()),
            Side::Server => ssh.server = Some(software.clone()),
        }
        self.sides[side.index()].banner = Some(SshSide {
            proto_version: text(&versions[..at]).into(),
            software_version: software.into(),
            hassh: None,
        });
        Ok(Some(end + 1))
    }

    /// Length of the packet, if all of it is there.
    fn packet(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Result<Option<usize>, Anomaly> {
        let mut rest = Cursor::new(bytes);
        let Some(len) = rest.u32() else {
            return Ok(None);
        };
        if !(2..=PACKET_MAX).contains(&len) {
            return Err(PACKET_BROKEN);
        }
        let Some(packet) = rest.take(len as usize) else {
            return Ok(None);
        };
        let this = &mut self.sides[side.index()];
        this.packets += 1;
        if this.packets > PACKETS_MAX {
            return Err(PACKET_BROKEN);
        }
        match packet[1] {
            KEXINIT => {
                let offer = offer(side, &packet[2..]).ok_or(PACKET_BROKEN)?;
                self.offered(side, offer, out);
            }
            NEWKEYS => {
                this.has_keys = true;
                if side == Side::Client {
                    // Nobody exchanges keys but to log in.
                    out.login(Login::Attempted);
                }
            }
            _ => {}
        }
        Ok(Some(4 + len as usize))
    }

    fn offered(&mut self, side: Side, string: String, out: &mut Out<'_>) {
        let this = &mut self.sides[side.index()];
        let Some(banner) = this.banner.as_mut().filter(|banner| banner.hassh.is_none()) else {
            return;
        };
        let hash = md5_hex(&string);
        let ssh = out.insight.ssh.get_or_insert_default();
        match side {
            Side::Client => ssh.hassh = Some(hash.as_str().into()),
            Side::Server => ssh.hassh_server = Some(hash.as_str().into()),
        }
        banner.hassh = Some(Hassh { hash, string });
        let has_hassh = |side: &OneSide| side.banner.as_ref().is_some_and(|banner| banner.hassh.is_some());
        if self.sides.iter().all(has_hassh) {
            self.tell(out);
        }
    }

    fn tell(&mut self, out: &mut Out<'_>) {
        let banners = self.sides.each_mut().map(|side| side.banner.clone());
        if std::mem::replace(&mut self.is_told, true) || banners.iter().all(Option::is_none) {
            return;
        }
        let [client, server] = banners;
        out.record_of(Side::Client, Record::Ssh(Box::new(SshRecord { client, server })));
    }
}

/// What HASSH is made of: key exchange, ciphers, MACs and compression of this side's direction.
fn offer(side: Side, body: &[u8]) -> Option<String> {
    let mut body = Cursor::new(body);
    body.take(16)?;
    let mut lists = [&[][..]; 8];
    for list in &mut lists {
        let len = body.u32()?;
        *list = body.take(len as usize)?;
    }
    let way = side.index();
    let parts = [lists[0], lists[2 + way], lists[4 + way], lists[6 + way]].map(String::from_utf8_lossy);
    let string = parts.join(";");
    (string.len() <= HASSH_MAX && !string.contains(char::is_control)).then_some(string)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::layer7::kit;

    fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
        let len = 2 + body.len() + 4;
        [&(len as u32).to_be_bytes()[..], &[4, kind], body, &[0; 4]].concat()
    }

    fn kexinit() -> Vec<u8> {
        let mut body = vec![7; 16];
        for list in [
            "kex-a,kex-b",
            "key",
            "c2s",
            "s2c",
            "mac-c2s",
            "mac-s2c",
            "none",
            "zlib",
            "",
            "",
        ] {
            body.extend((list.len() as u32).to_be_bytes());
            body.extend(list.as_bytes());
        }
        body.extend([0; 5]);
        packet(KEXINIT, &body)
    }

    fn hassh(string: &str) -> serde_json::Value {
        json!({"hash": md5_hex(string), "string": string})
    }

    #[test]
    fn key_exchange() {
        let said = [
            (
                1,
                &[b"SSH-2.0-OpenSSH_7.4 Debian-10\r\n", &kexinit()[..]].concat()[..],
            ),
            (0, &[b"SSH-2.0-PuTTY_0.6\r\n", &kexinit()[..]].concat()),
            (0, &packet(30, &[1; 40])),
            (1, &[packet(31, &[1; 400]), packet(NEWKEYS, &[])].concat()),
            (0, &[packet(NEWKEYS, &[]), vec![0xee; 64]].concat()),
        ];
        let expected = json!({
            "client": {
                "proto_version": "2.0", "software_version": "PuTTY_0.6",
                "hassh": hassh("kex-a,kex-b;c2s;mac-c2s;none"),
            },
            "server": {
                "proto_version": "2.0", "software_version": "OpenSSH_7.4",
                "hassh": hassh("kex-a,kex-b;s2c;mac-s2c;zlib"),
            },
        });
        kit::check_stream(&said, Some("ssh"), &[("ssh", expected)]);
        let insight = kit::stream(&said).insight;
        assert_eq!(insight.logins_attempted, 1);
        let ssh = insight.ssh.expect("SSH");
        assert_eq!(
            (ssh.client.as_deref(), ssh.server.as_deref()),
            (Some("PuTTY_0.6"), Some("OpenSSH_7.4"))
        );
    }

    #[test]
    fn banners_alone() {
        let said = [
            (1, &b"SSH-1.5-1.2.26\n"[..]),
            (0, b"SSH-1.5-x y\n"),
            (0, &[0xff; 20]),
        ];
        let expected = json!({
            "client": {"proto_version": "1.5", "software_version": "x"},
            "server": {"proto_version": "1.5", "software_version": "1.2.26"},
        });
        kit::check_stream(&said, Some("ssh"), &[("ssh", expected)]);
    }

    #[test]
    fn broken() {
        let said = [(0, &b"SSH-2.0-x\r\n\xff\xff\xff\xff"[..])];
        assert_eq!(
            kit::stream(&said).anomalies().collect::<Vec<_>>(),
            [PACKET_BROKEN]
        );
        kit::check_cuts(&said);
        let long = [b"SSH-2.0-".to_vec(), vec![b'x'; 2000]].concat();
        assert_eq!(
            kit::stream(&[(0, &long)]).anomalies().collect::<Vec<_>>(),
            [BANNER_LONG]
        );
        kit::check_stream(&[(0, b"SSL-2.0-x\r\n")], None, &[]);
    }
}
