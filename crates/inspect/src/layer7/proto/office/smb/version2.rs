//! SMB 2 and 3.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::names::{self, PENDING};
use super::{Common, FILES_MAX, PENDING_MAX, guid_text, set_status, unix_s};
use crate::layer7::proto::office::rpc_pdu::Calls;
use crate::layer7::protocol::Out;
use crate::layer7::reader::{Reader, utf16le};
use crate::layer7::record::{Anomaly, Severity};

const HEADER_LEN: usize = 64;

const NEGOTIATE: u16 = 0;
const SESSION_SETUP: u16 = 1;
const TREE_CONNECT: u16 = 3;
const CREATE: u16 = 5;
const CLOSE: u16 = 6;
const READ: u16 = 8;
const WRITE: u16 = 9;
const IOCTL: u16 = 11;
const GET_INFO: u16 = 16;
const SET_INFO: u16 = 17;

const FLAG_RESPONSE: u32 = 1;
const FLAG_ASYNC: u32 = 2;
const OPTION_DIRECTORY: u32 = 1;
const OPTION_DELETE_ON_CLOSE: u32 = 0x1000;
const INFO_FILE: u8 = 1;
const CLASS_RENAME: u8 = 10;
const CLASS_DISPOSITION: u8 = 13;
const SHARE_PIPE: u8 = 2;

struct Header {
    status: u32,
    command: u16,
    flags: u32,
    next: u32,
    message: u64,
    tree: u32,
    session: u64,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        reader.skip(8)?;
        let status = reader.le32()?;
        let command = reader.le16()?;
        reader.skip(2)?;
        let (flags, next, message) = (reader.le32()?, reader.le32()?, reader.le64()?);
        let (_process, tree) = (reader.le32()?, reader.le32()?);
        let session = reader.le64()?;
        reader.skip(16)?;
        Some(Self {
            status,
            command,
            flags,
            next,
            message,
            tree,
            session,
        })
    }
}

/// Stands for the file that an earlier one of several messages in one opens.
const RELATED: [u8; 16] = [0xff; 16];

/// What earlier ones of several messages in one said.
#[derive(Default)]
struct Compound {
    /// The file they opened, once that is answered, and its name.
    file: Option<[u8; 16]>,
    name: String,
}

/// A request that waits for its answer.
struct Pending {
    message: u64,
    command: u16,
    fields: Map<String, Value>,
    /// Told when the answer comes.
    is_told: bool,
    /// The file it is about.
    file: Option<[u8; 16]>,
}

struct File {
    name: String,
    calls: Calls,
    /// Reading and writing were told.
    is_told: [bool; 2],
}

#[derive(Default)]
pub(super) struct State {
    pending: Vec<Pending>,
    files: HashMap<[u8; 16], File>,
    /// Names of shares, and whether they are for pipes.
    shares: HashMap<u32, (String, bool)>,
}

impl State {
    /// A message, or several in one.
    pub(super) fn message(&mut self, mut bytes: &[u8], common: &mut Common, out: &mut Out<'_>) {
        let mut compound = Compound::default();
        loop {
            let (Some(header), Some(body)) = (Header::read(bytes), bytes.get(HEADER_LEN..)) else {
                out.anomaly(Anomaly::parser("malformed_data", Severity::Low));
                return;
            };
            let next = header.next as usize;
            let body = if (HEADER_LEN..bytes.len()).contains(&next) {
                &body[..next - HEADER_LEN]
            } else {
                body
            };
            let understood = if header.flags & FLAG_RESPONSE != 0 {
                self.response(&header, body, &mut compound, common, out)
            } else {
                self.request(&header, body, &mut compound, common, out)
            };
            if understood.is_none() && header.status == 0 && next == 0 && body.len() > 1 {
                out.anomaly(Anomaly::parser("malformed_data", Severity::Low));
            }
            match bytes.get(next..) {
                Some(rest) if next >= HEADER_LEN && rest.len() >= HEADER_LEN => bytes = rest,
                _ => return,
            }
        }
    }

    pub(super) fn finish(&mut self, common: &mut Common, out: &mut Out<'_>) {
        for pending in std::mem::take(&mut self.pending) {
            if pending.is_told {
                common.tell(pending.fields, out);
            }
        }
        for (_, mut file) in std::mem::take(&mut self.files) {
            file.calls.finish(&mut |told| common.tell_call(told, out));
        }
    }

    fn base(header: &Header) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("command".into(), names::command2(header.command).into());
        fields.insert("session_id".into(), header.session.into());
        fields.insert("tree_id".into(), header.tree.into());
        fields
    }

    fn request(
        &mut self,
        header: &Header,
        body: &[u8],
        compound: &mut Compound,
        common: &mut Common,
        out: &mut Out<'_>,
    ) -> Option<()> {
        let mut fields = Self::base(header);
        let mut file = None;
        // Reading and writing are told once for a file, what is asked of files not at all.
        let mut is_told = !matches!(header.command, READ | WRITE | GET_INFO | SET_INFO);
        let mut reader = Reader::new(body);
        let understood = (|| {
            let _size = reader.le16()?;
            match header.command {
                NEGOTIATE => {
                    let n = usize::from(reader.le16()?);
                    reader.skip(8)?;
                    let guid = reader.array()?;
                    reader.skip(8)?;
                    let mut dialects = Vec::new();
                    for _ in 0..n.min(64) {
                        dialects.push(names::dialect2(reader.le16()?));
                    }
                    fields.insert("client_dialects".into(), dialects.into());
                    fields.insert("client_guid".into(), guid_text(&guid).into());
                }
                SESSION_SETUP => {
                    reader.skip(10)?;
                    let (at, len) = (usize::from(reader.le16()?), usize::from(reader.le16()?));
                    let blob = body.get(at.checked_sub(HEADER_LEN)?..)?;
                    common.logs_in(&blob[..len.min(blob.len())], &mut fields, out);
                }
                TREE_CONNECT => {
                    reader.skip(2)?;
                    let (at, len) = (usize::from(reader.le16()?), usize::from(reader.le16()?));
                    let at = at.checked_sub(HEADER_LEN)?;
                    fields.insert("share".into(), utf16le(body.get(at..at + len)?).into());
                }
                CREATE => {
                    reader.skip(34)?;
                    let (disposition, options) = (reader.le32()?, reader.le32()?);
                    let (at, len) = (usize::from(reader.le16()?), usize::from(reader.le16()?));
                    let name: String = match len {
                        0 => "<share_root>".into(),
                        _ => {
                            let at = at.checked_sub(HEADER_LEN)?;
                            utf16le(body.get(at..at + len)?)
                        }
                    };
                    let key = if options & OPTION_DIRECTORY != 0 {
                        "directory"
                    } else {
                        "filename"
                    };
                    compound.name.clone_from(&name);
                    fields.insert(key.into(), name.into());
                    fields.insert("disposition".into(), names::disposition(disposition).into());
                    let is_deleted = options & OPTION_DELETE_ON_CLOSE != 0;
                    let access = if is_deleted { "delete on close" } else { "normal" };
                    fields.insert("access".into(), access.into());
                }
                CLOSE => {
                    reader.skip(6)?;
                    file = Some(reader.array()?);
                }
                READ => {
                    reader.skip(14)?;
                    file = Some(reader.array()?);
                }
                WRITE => {
                    let at = usize::from(reader.le16()?).checked_sub(HEADER_LEN)?;
                    let len = reader.le32()? as usize;
                    reader.skip(8)?;
                    let id = reader.array()?;
                    file = Some(id);
                    let data = body.get(at..)?;
                    self.pipe(id, &data[..len.min(data.len())], header, common, out);
                }
                IOCTL => {
                    reader.skip(2)?;
                    let function = reader.le32()?;
                    let id = reader.array()?;
                    file = Some(id);
                    let (at, len) = (reader.le32()? as usize, reader.le32()? as usize);
                    fields.insert("function".into(), function_name(function).into());
                    if function == FSCTL_PIPE_TRANSCEIVE {
                        let data = body.get(at.checked_sub(HEADER_LEN)?..)?;
                        is_told = !self.pipe(id, &data[..len.min(data.len())], header, common, out);
                    }
                }
                SET_INFO => {
                    let (kind, class) = (reader.u8()?, reader.u8()?);
                    let len = reader.le32()? as usize;
                    let at = usize::from(reader.le16()?).checked_sub(HEADER_LEN)?;
                    reader.skip(6)?;
                    let id = reader.array()?;
                    file = Some(id);
                    let data = body.get(at..)?;
                    let data = &data[..len.min(data.len())];
                    if kind == INFO_FILE {
                        is_told = self.set_info(class, id, data, compound, &mut fields)?;
                    }
                }
                _ => {}
            }
            Some(())
        })();
        if self.pending.len() >= PENDING_MAX {
            let oldest = self.pending.remove(0);
            if oldest.is_told {
                common.tell(oldest.fields, out);
            }
        }
        self.pending.push(Pending {
            message: header.message,
            command: header.command,
            fields,
            is_told,
            file,
        });
        understood
    }

    /// Whether a change of a file is told of.
    fn set_info(
        &mut self,
        class: u8,
        file: [u8; 16],
        data: &[u8],
        compound: &Compound,
        fields: &mut Map<String, Value>,
    ) -> Option<bool> {
        let name = match self.files.get(&file) {
            Some(file) => file.name.as_str(),
            None if file == RELATED && !compound.name.is_empty() => &compound.name,
            None => "<unknown>",
        };
        let mut reader = Reader::new(data);
        match class {
            CLASS_RENAME => {
                // Whether to replace, padding, the folder it is in, the name.
                reader.skip(16)?;
                let len = reader.le32()? as usize;
                let to = utf16le(reader.take(len)?);
                fields.insert("rename".into(), json!({"from": name, "to": to}));
            }
            CLASS_DISPOSITION => {
                let class = "SMB2_FILE_DISPOSITION_INFO";
                fields.insert(
                    "set_info".into(),
                    json!({"class": "FILE_INFO", "info_level": class}),
                );
                fields.insert("filename".into(), name.into());
                if reader.u8()? != 0 {
                    fields.insert("access".into(), "delete on close".into());
                }
            }
            _ => return Some(false),
        }
        if file != RELATED {
            fields.insert("fuid".into(), guid_text(&file).into());
        }
        Some(true)
    }

    /// What goes through a pipe; false if it is no call.
    fn pipe(
        &mut self,
        file: [u8; 16],
        data: &[u8],
        header: &Header,
        common: &mut Common,
        out: &mut Out<'_>,
    ) -> bool {
        let is_pipe = self.shares.get(&header.tree).is_none_or(|(_, is_pipe)| *is_pipe);
        if !is_pipe || data.first() != Some(&5) {
            return false;
        }
        if self.files.len() >= FILES_MAX && !self.files.contains_key(&file) {
            return false;
        }
        let file = self.files.entry(file).or_insert_with(|| File::of(String::new()));
        let base = || {
            let mut fields = Self::base(header);
            set_status(&mut fields, 0);
            fields
        };
        file.calls
            .unit(data, base, &mut |told| common.tell_call(told, out))
            .is_some()
    }

    fn response(
        &mut self,
        header: &Header,
        body: &[u8],
        compound: &mut Compound,
        common: &mut Common,
        out: &mut Out<'_>,
    ) -> Option<()> {
        if header.status == PENDING && header.flags & FLAG_ASYNC != 0 {
            return Some(());
        }
        let is_of =
            |pending: &Pending| pending.message == header.message && pending.command == header.command;
        let at = self.pending.iter().position(is_of);
        let Some(mut pending) = at.map(|at| self.pending.remove(at)) else {
            if header.command == NEGOTIATE {
                self.negotiated(&mut Map::new(), body, common);
            }
            return Some(());
        };
        if pending.file == Some(RELATED) {
            pending.file = compound.file;
        }
        let fields = &mut pending.fields;
        set_status(fields, header.status);
        // An answer says which they are.
        if header.command == SESSION_SETUP || header.command == TREE_CONNECT {
            fields.insert("session_id".into(), header.session.into());
            fields.insert("tree_id".into(), header.tree.into());
        }
        let mut is_told = pending.is_told;
        let understood = match header.command {
            NEGOTIATE if header.status == 0 => self.negotiated(fields, body, common),
            SESSION_SETUP => {
                common.logged_in(header.status, out);
                Some(())
            }
            TREE_CONNECT if header.status == 0 => {
                let kind = body.get(2).copied()?;
                let kind_name = match kind {
                    1 => "FILE",
                    SHARE_PIPE => "PIPE",
                    3 => "PRINT",
                    _ => "UNKNOWN",
                };
                fields.insert("share_type".into(), kind_name.into());
                let share = fields.get("share").and_then(Value::as_str).unwrap_or_default();
                if self.shares.len() < FILES_MAX {
                    self.shares
                        .insert(header.tree, (share.to_owned(), kind == SHARE_PIPE));
                }
                Some(())
            }
            CREATE if header.status == 0 => {
                compound.file = self.created(fields, body);
                compound.file.map(|_| ())
            }
            CLOSE => {
                if let Some(mut file) = pending.file.and_then(|file| self.files.remove(&file)) {
                    file.calls.finish(&mut |told| common.tell_call(told, out));
                }
                Some(())
            }
            READ | IOCTL => self.answered(&pending, body, header, &mut is_told, common, out),
            WRITE => {
                is_told = self.moved(pending.file, 1);
                Some(())
            }
            _ => Some(()),
        };
        if is_told {
            if matches!(header.command, READ | WRITE)
                && let Some((id, file)) = pending.file.and_then(|id| Some((id, self.files.get(&id)?)))
            {
                pending
                    .fields
                    .insert("filename".into(), file.name.as_str().into());
                pending.fields.insert("fuid".into(), guid_text(&id).into());
            }
            common.tell(pending.fields, out);
        }
        understood
    }

    fn negotiated(&self, fields: &mut Map<String, Value>, body: &[u8], common: &mut Common) -> Option<()> {
        let mut reader = Reader::new(body);
        reader.skip(4)?;
        let dialect = reader.le16()?;
        reader.skip(2)?;
        common.dialect = names::dialect2(dialect);
        fields.insert("server_guid".into(), guid_text(&reader.array()?).into());
        Some(())
    }

    fn created(&mut self, fields: &mut Map<String, Value>, body: &[u8]) -> Option<[u8; 16]> {
        let mut reader = Reader::new(body);
        reader.skip(8)?;
        for name in ["created", "accessed", "modified", "changed"] {
            fields.insert(name.into(), unix_s(reader.le64()?).into());
        }
        let _allocated = reader.le64()?;
        fields.insert("size".into(), reader.le64()?.into());
        let _attributes = reader.le64()?;
        let id: [u8; 16] = reader.array()?;
        fields.insert("fuid".into(), guid_text(&id).into());
        let name = fields.get("filename").or_else(|| fields.get("directory"));
        let name = name.and_then(Value::as_str).unwrap_or_default().to_owned();
        if self.files.len() < FILES_MAX {
            self.files.insert(id, File::of(name));
        }
        Some(id)
    }

    /// What was read, or came back from a pipe.
    fn answered(
        &mut self,
        pending: &Pending,
        body: &[u8],
        header: &Header,
        is_told: &mut bool,
        common: &mut Common,
        out: &mut Out<'_>,
    ) -> Option<()> {
        // A pipe may have more than fits.
        let has_data = matches!(
            names::status(header.status),
            Some("STATUS_SUCCESS" | "STATUS_BUFFER_OVERFLOW")
        );
        if !has_data {
            return Some(());
        }
        let mut reader = Reader::new(body);
        let (at, len) = if header.command == READ {
            reader.skip(2)?;
            let at = usize::from(reader.u8()?);
            reader.skip(1)?;
            (at, reader.le32()? as usize)
        } else {
            reader.skip(32)?;
            (reader.le32()? as usize, reader.le32()? as usize)
        };
        let data = body.get(at.checked_sub(HEADER_LEN)?..)?;
        let data = &data[..len.min(data.len())];
        let file = pending.file.and_then(|file| self.files.get_mut(&file));
        let is_call = data.first() == Some(&5)
            && file.is_some_and(|file| {
                let tell = &mut |told| common.tell_call(told, out);
                file.calls.unit(data, Map::new, tell).is_some()
            });
        if header.command == READ && !is_call {
            *is_told = self.moved(pending.file, 0);
        }
        Some(())
    }

    /// A file was read (0) or written (1): true at the first time.
    fn moved(&mut self, file: Option<[u8; 16]>, way: usize) -> bool {
        let file = file.and_then(|file| self.files.get_mut(&file));
        file.is_some_and(|file| {
            let is_call = file.name.is_empty() || file.calls.is_used();
            !is_call && !std::mem::replace(&mut file.is_told[way], true)
        })
    }
}

impl File {
    fn of(name: String) -> Self {
        Self {
            name,
            calls: Calls::in_smb(),
            is_told: [false; 2],
        }
    }
}

const FSCTL_PIPE_TRANSCEIVE: u32 = 0x0011_c017;

fn function_name(function: u32) -> String {
    match function {
        0x0006_0194 => "FSCTL_DFS_GET_REFERRALS",
        0x0006_01b0 => "FSCTL_DFS_GET_REFERRALS_EX",
        0x0009_0000 => "FSCTL_REQUEST_OPLOCK_LEVEL_1",
        0x0009_00a4 => "FSCTL_SET_REPARSE_POINT",
        0x0009_00a8 => "FSCTL_GET_REPARSE_POINT",
        0x0009_00c0 => "FSCTL_CREATE_OR_GET_OBJECT_ID",
        0x0011_0018 => "FSCTL_PIPE_WAIT",
        0x0011_400c => "FSCTL_PIPE_PEEK",
        FSCTL_PIPE_TRANSCEIVE => "FSCTL_PIPE_TRANSCEIVE",
        0x0014_0078 => "FSCTL_SRV_REQUEST_RESUME_KEY",
        0x0014_01bb => "FSCTL_SRV_READ_HASH",
        0x0014_01d4 => "FSCTL_LMR_REQUEST_RESILIENCY",
        0x0014_01fc => "FSCTL_QUERY_NETWORK_INTERFACE_INFO",
        0x0014_0204 => "FSCTL_VALIDATE_NEGOTIATE_INFO",
        0x0014_40f2 => "FSCTL_SRV_COPYCHUNK",
        0x0014_4064 => "FSCTL_SRV_ENUMERATE_SNAPSHOTS",
        _ => return format!("UNKNOWN({function:#x})"),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    fn message(command: u8, status: u32, is_answer: bool, body: &[u8]) -> Vec<u8> {
        let mut message = vec![
            0,
            0,
            0,
            (64 + body.len()) as u8,
            0xfe,
            b'S',
            b'M',
            b'B',
            64,
            0,
            0,
            0,
        ];
        message.extend(status.to_le_bytes());
        message.extend([command, 0, 0, 0, u8::from(is_answer), 0, 0, 0, 0, 0, 0, 0]);
        // Each command has its number as that of the message.
        message.extend([
            command, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,
        ]);
        message.extend([0; 16]);
        message.extend_from_slice(body);
        message
    }

    fn session_setup() -> Vec<u8> {
        let mut blob = b"NTLMSSP\0\x03\0\0\0".to_vec();
        for (len, at) in [(0, 64), (0, 64), (0, 64), (3, 64), (0, 67), (0, 67)] {
            blob.extend([len, 0, len, 0, at, 0, 0, 0]);
        }
        blob.extend(b"\0\0\0\0bob");
        let mut body = vec![25, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 88, 0, blob.len() as u8, 0];
        body.resize(24, 0);
        body.extend(blob);
        message(1, 0, false, &body)
    }

    #[test]
    fn log_ins() {
        let check = |status: u32, expected: [u16; 3]| {
            let answer = message(1, status, true, &[9, 0, 0, 0, 0, 0, 0, 0]);
            let said: &[Said<'_>] = &[(0, &session_setup()), (1, &answer)];
            let insight = kit::stream(said).insight;
            assert_eq!(insight.user.as_deref(), Some("bob"));
            assert_eq!(
                [
                    insight.logins_attempted,
                    insight.logins_succeeded,
                    insight.logins_failed
                ],
                expected
            );
            kit::check_cuts(said);
        };
        check(0, [1, 1, 0]);
        check(0xc000_006d, [1, 0, 1]);
        check(super::names::MORE_PROCESSING, [1, 0, 0]);
    }

    #[test]
    fn a_file_is_opened_and_deleted() {
        let mut create = vec![0; 56];
        create[36] = 1;
        create[44] = 120;
        create[46] = 4;
        create.extend(b"a\0b\0");
        let mut created = vec![0; 88];
        created[48] = 5;
        created[64..80].copy_from_slice(b"0123456789abcdef");
        let mut delete = vec![33, 0, 1, 13, 1, 0, 0, 0, 96, 0, 0, 0, 0, 0, 0, 0];
        delete.extend(b"0123456789abcdef\x01");
        let said: &[Said<'_>] = &[
            (0, &message(5, 0, false, &create)),
            (1, &message(5, 0, true, &created)),
            (0, &message(17, 0, false, &delete)),
            (1, &message(17, 0xc000_0022, true, &[2, 0])),
        ];
        let fuid = "33323130-3534-3736-3938-626166656463";
        let expected = [
            (
                "smb",
                json!({"id": 1, "dialect": "unknown", "command": "SMB2_COMMAND_CREATE", "session_id": 9, "tree_id": 7,
                    "filename": "ab", "disposition": "FILE_OPEN", "access": "normal", "status": "STATUS_SUCCESS",
                    "status_code": "0x0", "created": 0, "accessed": 0, "modified": 0, "changed": 0, "size": 5,
                    "fuid": fuid}),
            ),
            (
                "smb",
                json!({"id": 2, "dialect": "unknown", "command": "SMB2_COMMAND_SET_INFO", "session_id": 9, "tree_id": 7,
                    "set_info": {"class": "FILE_INFO", "info_level": "SMB2_FILE_DISPOSITION_INFO"}, "filename": "ab",
                    "access": "delete on close", "fuid": fuid, "status": "STATUS_ACCESS_DENIED",
                    "status_code": "0xc0000022"}),
            ),
        ];
        kit::check_stream(said, Some("smb"), &expected);
    }
}
