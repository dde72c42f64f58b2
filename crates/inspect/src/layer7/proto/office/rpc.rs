//! ONC RPC (RFC 5531) and NFS 2 to 4 (RFC 1094, 1813, 7530) over UDP and TCP.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use crate::layer7::insight::text;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::{Reader, eve_text};
use crate::layer7::record::{Anomaly, Record, Severity};

/// Calls of any program, or those of NFS.
#[derive(Debug)]
pub(super) enum Rpc {
    Any,
    Nfs,
}

const NFS: u32 = 100_003;
/// Bytes of a message that are looked at; what is behind them is skipped.
const HEAD_LEN_MAX: usize = 2048;
const FRAGMENT_LEN_MAX: u32 = 4 << 20;
/// Calls that may wait for their replies.
const PENDING_MAX: usize = 128;

impl Protocol for Rpc {
    fn name(&self) -> &'static str {
        match self {
            Self::Any => "rpc",
            Self::Nfs => "nfs",
        }
    }

    fn ports(&self) -> &'static [u16] {
        match self {
            Self::Any => &[111],
            Self::Nfs => &[2049],
        }
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Tcp | Transport::Udp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let is_udp = seen.transport == Transport::Udp;
        seen.opened_by_either(|bytes| {
            let message = if is_udp {
                bytes
            } else {
                // The last fragment's mark, and a length below 16 MiB.
                if bytes[0] != 0x80 {
                    return Verdict::No;
                }
                bytes.get(4..).unwrap_or_default()
            };
            let is_zero = |at: usize| message.get(at).is_none_or(|&byte| byte == 0);
            if ![4, 5, 6, 8, 9, 10].into_iter().all(is_zero) {
                return Verdict::No;
            }
            let mut reader = Reader::new(message);
            let head = (|| Some((reader.be32()?, reader.be32()?, reader.be32()?, reader.be32()?)))();
            let Some((_, kind, version, program)) = head else {
                return if is_udp { Verdict::No } else { Verdict::NeedMore };
            };
            match kind {
                0 if version == 2 => {
                    // Programs are given out from 100,000 on; those of users are from 0x2000_0000 on.
                    let is_program = matches!(program, 100_000..=400_000 | 0x2000_0000..=0x5fff_ffff);
                    if !is_program || (program == NFS) != matches!(self, Self::Nfs) {
                        return Verdict::No;
                    }
                    match (reader.be32(), reader.be32(), reader.be32(), reader.be32()) {
                        (Some(0..=20), Some(0..=100), Some(0..=6), Some(0..=400)) => Verdict::CERTAIN,
                        (Some(_), Some(_), Some(_), Some(_)) => Verdict::No,
                        _ if is_udp => Verdict::No,
                        _ => Verdict::NeedMore,
                    }
                }
                // A reply says nothing of its program.
                1 if version <= 1 && self.ports().iter().any(|&port| seen.has_port(port)) => {
                    Verdict::likely(Side::Server)
                }
                _ => Verdict::No,
            }
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Connection>::default()
    }
}

struct Call {
    xid: u32,
    fields: Option<Map<String, Value>>,
}

#[derive(Default)]
struct Connection {
    pending: VecDeque<Call>,
    /// By [`Side::index`]: the next fragment goes on with a message.
    is_inside: [bool; 2],
}

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if out.transport == Transport::Udp {
            self.message(bytes, out);
            return Step::Take(bytes.len() as u64);
        }
        let mut taken = 0u64;
        while let Some(rest) = bytes.get(taken as usize..) {
            let mut reader = Reader::new(rest);
            let Some(mark) = reader.be32() else {
                break;
            };
            let (is_last, len) = (mark & 1 << 31 != 0, mark & !(1 << 31));
            if len > FRAGMENT_LEN_MAX {
                return Step::Broken(Anomaly::parser("malformed_data", Severity::Medium));
            }
            let Some(head) = reader.take((len as usize).min(HEAD_LEN_MAX)) else {
                break;
            };
            if !std::mem::replace(&mut self.is_inside[side.index()], !is_last) {
                self.message(head, out);
            }
            taken += 4 + u64::from(len);
        }
        Step::Take(taken)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        for call in self.pending.drain(..) {
            tell(call.fields, None, out);
        }
    }
}

fn tell(fields: Option<Map<String, Value>>, status: Option<u32>, out: &mut Out<'_>) {
    let Some(mut fields) = fields else {
        return;
    };
    if let Some(status) = status {
        fields.insert("type".into(), "response".into());
        fields.insert("status".into(), status_name(status).into());
    } else {
        fields.insert("type".into(), "request".into());
    }
    out.record_of(Side::Client, Record::fields("nfs", fields));
}

impl Connection {
    fn message(&mut self, bytes: &[u8], out: &mut Out<'_>) {
        let mut reader = Reader::new(bytes);
        let (Some(xid), Some(kind)) = (reader.be32(), reader.be32()) else {
            return;
        };
        if kind == 1 {
            let Some(at) = self.pending.iter().position(|call| call.xid == xid) else {
                return;
            };
            if let Some(call) = self.pending.remove(at) {
                tell(
                    call.fields,
                    Some(reply_status(&mut reader).unwrap_or(u32::MAX)),
                    out,
                );
            }
        } else if let Some(fields) = call(&mut reader, out) {
            if self.pending.len() >= PENDING_MAX
                && let Some(oldest) = self.pending.pop_front()
            {
                tell(oldest.fields, None, out);
            }
            self.pending.push_back(Call { xid, fields });
        }
    }
}

/// First number of a reply's results, which is NFS's status.
fn reply_status(reader: &mut Reader<'_>) -> Option<u32> {
    let denied = reader.be32()?;
    let _verifier = (reader.be32()?, opaque(reader)?);
    let not_done = reader.be32()?;
    if denied != 0 || not_done != 0 {
        return None;
    }
    // The null procedure has no results.
    Some(if reader.is_empty() { 0 } else { reader.be32()? })
}

/// Bytes behind their length, padded to four.
fn opaque<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let len = reader.be32()? as usize;
    let bytes = reader.take(len)?;
    // The end may be cut off.
    let _ = reader.skip((4 - len % 4) % 4);
    Some(bytes)
}

/// What a call asks, if it is one of NFS; `None` if it cannot be read.
fn call(reader: &mut Reader<'_>, out: &mut Out<'_>) -> Option<Option<Map<String, Value>>> {
    let (_version, program, version, procedure) =
        (reader.be32()?, reader.be32()?, reader.be32()?, reader.be32()?);
    let flavor = reader.be32()?;
    let credentials = opaque(reader)?;
    let _verifier = (reader.be32()?, opaque(reader)?);
    if flavor == 1 && out.insight.user.is_none() {
        // A stamp, the machine's name, the user's number.
        let mut credentials = Reader::new(credentials);
        credentials.skip(4)?;
        opaque(&mut credentials)?;
        out.insight.user = Some(text(credentials.be32()?.to_string().as_bytes()));
    }
    if program != NFS {
        return Some(None);
    }
    let mut fields = Map::new();
    fields.insert("version".into(), version.into());
    fields.insert("procedure".into(), procedure_name(version, procedure).into());
    // What cannot be read is told of without its names.
    let _ = names(version, procedure, reader, &mut fields);
    Some(Some(fields))
}

fn names(
    version: u32,
    procedure: u32,
    reader: &mut Reader<'_>,
    fields: &mut Map<String, Value>,
) -> Option<()> {
    let handle = |reader: &mut Reader<'_>| match version {
        2 => reader.skip(32),
        _ => opaque(reader).map(|_| ()),
    };
    let has_name = matches!(
        (version, procedure),
        (2, 4 | 9 | 10 | 11 | 13 | 14 | 15) | (3, 3 | 8 | 9 | 10 | 11 | 12 | 13 | 14)
    );
    if !has_name {
        return Some(());
    }
    handle(reader)?;
    let name = eve_text(opaque(reader)?);
    if matches!((version, procedure), (2, 11) | (3, 14)) {
        handle(reader)?;
        fields.insert(
            "rename".into(),
            json!({"from": name, "to": eve_text(opaque(reader)?)}),
        );
    }
    fields.insert("filename".into(), name.into());
    Some(())
}

fn procedure_name(version: u32, procedure: u32) -> String {
    const VERSION2: [&str; 18] = [
        "NULL",
        "GETATTR",
        "SETATTR",
        "ROOT",
        "LOOKUP",
        "READLINK",
        "READ",
        "WRITECACHE",
        "WRITE",
        "CREATE",
        "REMOVE",
        "RENAME",
        "LINK",
        "SYMLINK",
        "MKDIR",
        "RMDIR",
        "READDIR",
        "STATFS",
    ];
    const VERSION3: [&str; 22] = [
        "NULL",
        "GETATTR",
        "SETATTR",
        "LOOKUP",
        "ACCESS",
        "READLINK",
        "READ",
        "WRITE",
        "CREATE",
        "MKDIR",
        "SYMLINK",
        "MKNOD",
        "REMOVE",
        "RMDIR",
        "RENAME",
        "LINK",
        "READDIR",
        "READDIRPLUS",
        "FSSTAT",
        "FSINFO",
        "PATHCONF",
        "COMMIT",
    ];
    let names: &[&str] = match version {
        2 => &VERSION2,
        3 => &VERSION3,
        4 => &["NULL", "COMPOUND"],
        _ => &[],
    };
    match names.get(procedure as usize) {
        Some(name) => (*name).into(),
        None => procedure.to_string(),
    }
}

fn status_name(status: u32) -> String {
    match status {
        0 => "OK",
        1 => "ERR_PERM",
        2 => "ERR_NOENT",
        5 => "ERR_IO",
        6 => "ERR_NXIO",
        13 => "ERR_ACCESS",
        17 => "ERR_EXIST",
        18 => "ERR_XDEV",
        20 => "ERR_NOTDIR",
        21 => "ERR_ISDIR",
        22 => "ERR_INVAL",
        27 => "ERR_FBIG",
        28 => "ERR_NOSPC",
        30 => "ERR_ROFS",
        63 => "ERR_NAMETOOLONG",
        66 => "ERR_NOTEMPTY",
        69 => "ERR_DQUOT",
        70 => "ERR_STALE",
        u32::MAX => "ERR_RPC",
        _ => return status.to_string(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    fn call(program: u32, version: u8, procedure: u8, arguments: &[u8]) -> Vec<u8> {
        let mut call = b"\0\0\0\x07\0\0\0\0\0\0\0\x02".to_vec();
        call.extend(program.to_be_bytes());
        call.extend([0, 0, 0, version, 0, 0, 0, procedure]);
        call.extend([0; 16]);
        call.extend_from_slice(arguments);
        call
    }

    const REPLY: &[u8] = b"\0\0\0\x07\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02";

    fn marked(message: &[u8]) -> Vec<u8> {
        [&[0x80, 0, 0, message.len() as u8][..], message].concat()
    }

    #[test]
    fn a_file_is_looked_for() {
        let lookup = call(100_003, 3, 3, b"\0\0\0\x02fh\0\0\0\0\0\x03abc\0");
        let expected = json!({"version": 3, "procedure": "LOOKUP", "filename": "abc", "type": "response",
            "status": "ERR_NOENT"});
        kit::check_datagrams(
            &[(0, &lookup), (1, REPLY)],
            Some("nfs"),
            &[("nfs", expected.clone())],
        );
        let said = [(0, &marked(&lookup)[..]), (1, &marked(REPLY))];
        kit::check_stream(&said, Some("nfs"), &[("nfs", expected)]);
    }

    #[test]
    fn other_programs() {
        kit::check_datagrams(&[(0, &call(100_000, 2, 3, b""))], Some("rpc"), &[]);
        kit::check_datagrams(&[(0, &call(7, 2, 3, b""))], None, &[]);
    }
}
