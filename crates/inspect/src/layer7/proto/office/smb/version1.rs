//! SMB 1.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::names::{self, MORE_PROCESSING};
use super::{Common, FILES_MAX, PENDING_MAX, guid_text, set_status, unix_s};
use crate::layer7::proto::office::rpc_pdu::Calls;
use crate::layer7::protocol::{Login, Out};
use crate::layer7::reader::{Reader, eve_text, utf16le};

const HEADER_LEN: usize = 32;

const TRANS: u8 = 0x25;
const READ_ANDX: u8 = 0x2e;
const WRITE_ANDX: u8 = 0x2f;
const TRANS2: u8 = 0x32;
const TREE_CONNECT_ANDX: u8 = 0x75;
const NEGOTIATE: u8 = 0x72;
const SESSION_SETUP: u8 = 0x73;
const NT_CREATE: u8 = 0xa2;
const CLOSE: u8 = 0x04;

const FLAG_REPLY: u8 = 0x80;
const FLAG2_UNICODE: u16 = 0x8000;
const FLAG2_NT_STATUS: u16 = 0x4000;
const FLAG2_EXTENDED_SECURITY: u16 = 0x0800;

struct Message<'a> {
    command: u8,
    status: u32,
    flags: u8,
    flags2: u16,
    tree: u16,
    user: u16,
    multiplex: u16,
    /// Parameters, and the bytes behind them.
    words: &'a [u8],
    bytes: &'a [u8],
    /// Everything from the header's first byte on, which offsets count from.
    whole: &'a [u8],
}

impl<'a> Message<'a> {
    fn read(whole: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(whole);
        reader.skip(4)?;
        let (command, status, flags, flags2) = (reader.u8()?, reader.le32()?, reader.u8()?, reader.le16()?);
        reader.skip(12)?;
        let (tree, _process, user, multiplex) =
            (reader.le16()?, reader.le16()?, reader.le16()?, reader.le16()?);
        debug_assert_eq!(whole.len() - reader.len(), HEADER_LEN);
        let n = usize::from(reader.u8()?);
        let words = reader.take(2 * n)?;
        let len = usize::from(reader.le16().unwrap_or(0));
        let rest = reader.rest();
        Some(Self {
            command,
            status,
            flags,
            flags2,
            tree,
            user,
            multiplex,
            words,
            bytes: &rest[..len.min(rest.len())],
            whole,
        })
    }

    fn is_unicode(&self) -> bool {
        self.flags2 & FLAG2_UNICODE != 0
    }

    fn is_reply(&self) -> bool {
        self.flags & FLAG_REPLY != 0
    }

    /// Texts among these bytes, which are the end of the message's: UTF-16 is aligned to the message.
    fn texts(&self, bytes: &'a [u8]) -> Texts<'a> {
        // They are the end of `self.bytes`, before which there are an odd header and its words.
        let bytes_at = HEADER_LEN + 1 + self.words.len() + 2;
        let at = bytes_at + (self.bytes.len() - bytes.len().min(self.bytes.len()));
        let skipped = usize::from(self.is_unicode() && at % 2 == 1).min(bytes.len());
        Texts {
            rest: &bytes[skipped..],
            is_unicode: self.is_unicode(),
        }
    }
}

/// Texts that end in NUL.
struct Texts<'a> {
    rest: &'a [u8],
    is_unicode: bool,
}

impl Iterator for Texts<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if self.rest.is_empty() {
            return None;
        }
        if !self.is_unicode {
            let end = memchr::memchr(0, self.rest).unwrap_or(self.rest.len());
            let text = eve_text(&self.rest[..end]);
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            return Some(text);
        }
        let end = self.rest.chunks(2).position(|unit| unit == [0, 0]);
        let end = end.map_or(self.rest.len(), |at| at * 2);
        let text = utf16le(&self.rest[..end]);
        self.rest = self.rest.get(end + 2..).unwrap_or_default();
        Some(text)
    }
}

struct Pending {
    multiplex: u16,
    command: u8,
    fields: Map<String, Value>,
    is_told: bool,
    dialects: Vec<String>,
    file: Option<u16>,
}

#[derive(Default)]
pub(super) struct State {
    pending: Vec<Pending>,
    /// Names of open files, by their number, and the calls through those that are pipes.
    files: HashMap<u16, (String, Calls)>,
}

impl State {
    pub(super) fn message(&mut self, bytes: &[u8], common: &mut Common, out: &mut Out<'_>) {
        // A message cut short tells nothing.
        let Some(message) = Message::read(bytes) else {
            return;
        };
        if message.is_reply() {
            self.response(&message, common, out);
        } else {
            self.request(&message, common, out);
        }
    }

    pub(super) fn finish(&mut self, common: &mut Common, out: &mut Out<'_>) {
        for pending in std::mem::take(&mut self.pending) {
            if pending.is_told {
                common.tell(pending.fields, out);
            }
        }
        for (_, (_, mut calls)) in std::mem::take(&mut self.files) {
            calls.finish(&mut |told| common.tell_call(told, out));
        }
    }

    fn base(message: &Message<'_>) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("command".into(), names::command1(message.command).into());
        fields.insert("session_id".into(), message.user.into());
        fields.insert("tree_id".into(), message.tree.into());
        fields
    }

    fn request(&mut self, message: &Message<'_>, common: &mut Common, out: &mut Out<'_>) {
        let mut pending = Pending {
            multiplex: message.multiplex,
            command: message.command,
            fields: Self::base(message),
            is_told: !matches!(message.command, READ_ANDX | WRITE_ANDX | TRANS | TRANS2),
            dialects: Vec::new(),
            file: None,
        };
        // What cannot be read is told of without it.
        let _ = self.read_request(message, &mut pending, common, out);
        if self.pending.len() >= PENDING_MAX {
            let oldest = self.pending.remove(0);
            if oldest.is_told {
                common.tell(oldest.fields, out);
            }
        }
        self.pending.push(pending);
    }

    fn read_request(
        &mut self,
        message: &Message<'_>,
        pending: &mut Pending,
        common: &mut Common,
        out: &mut Out<'_>,
    ) -> Option<()> {
        let fields = &mut pending.fields;
        let mut words = Reader::new(message.words);
        match message.command {
            NEGOTIATE => {
                let names = message
                    .bytes
                    .split(|&byte| byte == 0)
                    .filter(|name| !name.is_empty());
                for name in names.take(64) {
                    pending
                        .dialects
                        .push(eve_text(name.strip_prefix(b"\x02").unwrap_or(name)));
                }
                fields.insert("client_dialects".into(), pending.dialects.clone().into());
            }
            SESSION_SETUP => {
                words.skip(14)?;
                let mut rest = message.bytes;
                if message.flags2 & FLAG2_EXTENDED_SECURITY != 0 && message.words.len() == 24 {
                    let len = usize::from(words.le16()?);
                    let (blob, after) = rest.split_at_checked(len)?;
                    common.logs_in(blob, fields, out);
                    rest = after;
                    let mut texts = message.texts(rest);
                    fields.insert("request".into(), native(&mut texts));
                } else {
                    // Passwords in either encoding, then who and from where.
                    let (ascii, unicode) = (usize::from(words.le16()?), usize::from(words.le16()?));
                    rest = rest.get(ascii + unicode..)?;
                    let mut texts = message.texts(rest);
                    let (user, domain) = (texts.next()?, texts.next()?);
                    if !user.is_empty() {
                        out.insight.user = Some(crate::layer7::insight::text(user.as_bytes()));
                        out.login(Login::Attempted);
                        common.is_logging_in = true;
                        fields.insert("user".into(), user.into());
                        fields.insert("domain".into(), domain.into());
                    }
                    fields.insert("request".into(), native(&mut texts));
                }
            }
            TREE_CONNECT_ANDX => {
                words.skip(6)?;
                let len = usize::from(words.le16()?);
                let mut texts = message.texts(message.bytes.get(len..)?);
                fields.insert("share".into(), texts.next()?.into());
                let service = eve_text(texts.rest.split(|&byte| byte == 0).next().unwrap_or_default());
                fields.insert("service".into(), json!({"request": service}));
            }
            NT_CREATE => {
                words.skip(5)?;
                let len = usize::from(words.le16()?);
                words.skip(28)?;
                let (disposition, options) = (words.le32()?, words.le32()?);
                let name = message.texts(message.bytes).rest;
                let name = &name[..len.min(name.len())];
                let name = if message.is_unicode() {
                    utf16le(name)
                } else {
                    eve_text(name)
                };
                let name = name.trim_end_matches('\0').to_owned();
                let key = if options & 1 != 0 { "directory" } else { "filename" };
                let name = if name.is_empty() {
                    "<share_root>".into()
                } else {
                    name
                };
                fields.insert(key.into(), name.into());
                fields.insert("disposition".into(), names::disposition(disposition).into());
                let access = if options & 0x1000 != 0 {
                    "delete on close"
                } else {
                    "normal"
                };
                fields.insert("access".into(), access.into());
            }
            CLOSE => pending.file = Some(words.le16()?),
            READ_ANDX => {
                words.skip(4)?;
                pending.file = Some(words.le16()?);
            }
            WRITE_ANDX => {
                words.skip(4)?;
                let file = words.le16()?;
                pending.file = Some(file);
                words.skip(14)?;
                let (len, at) = (usize::from(words.le16()?), usize::from(words.le16()?));
                let data = message.whole.get(at..)?;
                self.pipe(file, &data[..len.min(data.len())], message, common, out);
            }
            TRANS => {
                words.skip(22)?;
                let (len, at) = (usize::from(words.le16()?), usize::from(words.le16()?));
                let n = words.u8()?;
                words.skip(1)?;
                // TransactNmPipe, and the pipe's number.
                if n == 2 && words.le16()? == 0x26 {
                    let file = words.le16()?;
                    pending.file = Some(file);
                    let data = message.whole.get(at..)?;
                    self.pipe(file, &data[..len.min(data.len())], message, common, out);
                }
            }
            _ => {}
        }
        Some(())
    }

    fn pipe(
        &mut self,
        file: u16,
        data: &[u8],
        message: &Message<'_>,
        common: &mut Common,
        out: &mut Out<'_>,
    ) {
        if data.first() != Some(&5) || (self.files.len() >= FILES_MAX && !self.files.contains_key(&file)) {
            return;
        }
        let entry = self.files.entry(file);
        let (_, calls) = entry.or_insert_with(|| (String::new(), Calls::in_smb()));
        let base = || {
            let mut fields = Self::base(message);
            set_status(&mut fields, 0);
            fields
        };
        // Not a call: a pipe may carry anything.
        let _ = calls.unit(data, base, &mut |told| common.tell_call(told, out));
    }

    fn response(&mut self, message: &Message<'_>, common: &mut Common, out: &mut Out<'_>) {
        let is_of =
            |pending: &Pending| pending.multiplex == message.multiplex && pending.command == message.command;
        let Some(at) = self.pending.iter().position(is_of) else {
            return;
        };
        let mut pending = self.pending.remove(at);
        let status = if message.flags2 & FLAG2_NT_STATUS != 0 || message.status == 0 {
            set_status(&mut pending.fields, message.status);
            message.status
        } else {
            let [class, _, low, high] = message.status.to_le_bytes();
            let code = u16::from_le_bytes([low, high]);
            let name = names::dos_status(class, code).map_or_else(|| "UNKNOWN".to_owned(), str::to_owned);
            pending.fields.insert("status".into(), name.into());
            pending
                .fields
                .insert("status_code".into(), format!("{code:#06x}").into());
            1
        };
        for (key, value) in [("session_id", message.user), ("tree_id", message.tree)] {
            if matches!(message.command, SESSION_SETUP | TREE_CONNECT_ANDX) {
                pending.fields.insert(key.into(), value.into());
            }
        }
        let _ = self.read_response(message, status, &mut pending, common, out);
        if pending.is_told {
            common.tell(pending.fields, out);
        }
    }

    fn read_response(
        &mut self,
        message: &Message<'_>,
        status: u32,
        pending: &mut Pending,
        common: &mut Common,
        out: &mut Out<'_>,
    ) -> Option<()> {
        let fields = &mut pending.fields;
        let mut words = Reader::new(message.words);
        match message.command {
            NEGOTIATE => {
                let chosen = usize::from(words.le16()?);
                common.dialect = pending
                    .dialects
                    .get(chosen)
                    .cloned()
                    .unwrap_or_else(|| "unknown".into());
                if message.flags2 & FLAG2_EXTENDED_SECURITY != 0 {
                    let guid = message.bytes.first_chunk::<16>()?;
                    fields.insert("server_guid".into(), guid_text(guid).into());
                }
            }
            SESSION_SETUP => {
                common.logged_in(status, out);
                if status == 0 || status == MORE_PROCESSING {
                    words.skip(6)?;
                    let len = if message.words.len() >= 8 {
                        usize::from(words.le16()?)
                    } else {
                        0
                    };
                    let mut texts = message.texts(message.bytes.get(len..)?);
                    fields.insert("response".into(), native(&mut texts));
                }
            }
            TREE_CONNECT_ANDX if status == 0 => {
                let service = eve_text(message.bytes.split(|&byte| byte == 0).next().unwrap_or_default());
                fields.get_mut("service")?["response"] = service.into();
            }
            NT_CREATE if status == 0 => {
                words.skip(5)?;
                let file = words.le16()?;
                let _action = words.le32()?;
                for name in ["created", "accessed", "modified", "changed"] {
                    fields.insert(name.into(), unix_s(words.le64()?).into());
                }
                words.skip(12)?;
                fields.insert("size".into(), words.le64()?.into());
                let name = fields
                    .get("filename")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                if self.files.len() < FILES_MAX {
                    self.files.insert(file, (name, Calls::in_smb()));
                }
            }
            CLOSE => {
                if let Some((_, mut calls)) = pending.file.and_then(|file| self.files.remove(&file)) {
                    calls.finish(&mut |told| common.tell_call(told, out));
                }
            }
            READ_ANDX | TRANS => {
                let (len, at) = if message.command == READ_ANDX {
                    words.skip(10)?;
                    (usize::from(words.le16()?), usize::from(words.le16()?))
                } else {
                    words.skip(12)?;
                    (usize::from(words.le16()?), usize::from(words.le16()?))
                };
                let data = message.whole.get(at..)?;
                let data = &data[..len.min(data.len())];
                if data.first() == Some(&5)
                    && let Some((_, calls)) = pending.file.and_then(|file| self.files.get_mut(&file))
                {
                    let _ = calls.unit(data, Map::new, &mut |told| common.tell_call(told, out));
                }
            }
            _ => {}
        }
        Some(())
    }
}

/// The system and the software of one end.
fn native(texts: &mut Texts<'_>) -> Value {
    let (os, lm) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
    json!({"native_os": os, "native_lm": lm})
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit::{self, Said};

    fn message(
        command: u8,
        status: u32,
        is_answer: bool,
        flags2: u16,
        words: &[u8],
        bytes: &[u8],
    ) -> Vec<u8> {
        let len = 32 + 1 + words.len() + 2 + bytes.len();
        let mut message = vec![0, 0, 0, len as u8, 0xff, b'S', b'M', b'B', command];
        message.extend(status.to_le_bytes());
        message.push(if is_answer { 0x80 } else { 0 });
        message.extend(flags2.to_le_bytes());
        message.extend([0; 12]);
        message.extend([0xff, 0xff, 1, 0, 2, 0, 3, 0]);
        message.push((words.len() / 2) as u8);
        message.extend_from_slice(words);
        message.extend((bytes.len() as u16).to_le_bytes());
        message.extend_from_slice(bytes);
        message
    }

    #[test]
    fn a_log_in_that_fails() {
        let negotiate = message(
            0x72,
            0,
            false,
            0,
            &[],
            b"\x02PC NETWORK PROGRAM 1.0\0\x02NT LM 0.12\0",
        );
        let chosen = message(0x72, 0, true, 0, &[1, 0], &[]);
        let mut words = [0; 26];
        words[14] = 2;
        let setup = message(0x73, 0, false, 0, &words, b"pwbob\0DM\0Unix\0Samba\0");
        // Class 2 (server), code 2 (bad password).
        let refused = message(0x73, 0x0002_0002, true, 0, &[], &[]);
        let said: &[Said<'_>] = &[(0, &negotiate), (1, &chosen), (0, &setup), (1, &refused)];
        let outcome = kit::stream(said);
        let insight = &outcome.insight;
        assert_eq!(insight.user.as_deref(), Some("bob"));
        assert_eq!(
            [
                insight.logins_attempted,
                insight.logins_succeeded,
                insight.logins_failed
            ],
            [1, 0, 1]
        );
        let bodies = outcome.bodies();
        assert_eq!(bodies[0].1["dialect"], "NT LM 0.12");
        assert_eq!(bodies[1].1["status"], "SRV_BADPW");
        assert_eq!(bodies[1].1["status_code"], "0x0002");
        assert_eq!(bodies[1].1["request"]["native_lm"], "Samba");
        kit::check_cuts(said);
    }

    #[test]
    fn unicode_is_aligned_to_the_message() {
        let mut words = [0; 48];
        words[5] = 6;
        words[35] = 1;
        let create = message(0xa2, 0, false, 0xc000, &words, b"\0a\0b\0c\0\0\0");
        let outcome = kit::stream(&[(0, &create)]);
        assert_eq!(outcome.bodies()[0].1["filename"], "abc");
        assert_eq!(outcome.bodies()[0].1["disposition"], "FILE_OPEN");
    }
}
