//! Frames of HTTP/2 (RFC 9113, section 6).

use crate::layer7::record::Http2Setting;

/// Kind of a frame.
pub(super) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Bits of a frame.
pub(super) mod flag {
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// What each frame begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    /// Bytes of the payload.
    pub(super) len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Header {
    pub(super) const LEN: usize = 9;

    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, s0, s1, s2, s3] = bytes.first_chunk()?;
        Some(Self {
            len: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The first frame of a server.
    pub(super) fn is_first_settings(&self) -> bool {
        self.kind == kind::SETTINGS
            && self.flags == 0
            && self.stream == 0
            && self.len.is_multiple_of(6)
            && self.len <= 120
    }

    /// Whether length and stream are those of its kind.
    pub(super) fn is_plausible(&self) -> bool {
        let is_connection = self.stream == 0;
        match self.kind {
            kind::DATA | kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => !is_connection,
            // PRIORITY
            2 => !is_connection && self.len == 5,
            kind::RST_STREAM => !is_connection && self.len == 4,
            kind::SETTINGS => is_connection && self.len.is_multiple_of(6),
            // PING
            6 => is_connection && self.len == 8,
            kind::GOAWAY => is_connection && self.len >= 8,
            // WINDOW_UPDATE
            8 => self.len == 4,
            // Extensions, as ALTSVC and PRIORITY_UPDATE.
            0x0a..=0x10 => true,
            _ => false,
        }
    }
}

/// Payload of a HEADERS frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Opened<'a> {
    pub(super) block: &'a [u8],
    pub(super) weight: Option<u8>,
}

/// Padding and priority taken off.
pub(super) fn opened<'a>(header: &Header, payload: &'a [u8]) -> Option<Opened<'a>> {
    let mut opened = Opened {
        block: unpadded(header, payload)?,
        weight: None,
    };
    if header.has(flag::PRIORITY) {
        let (priority, block) = opened.block.split_at_checked(5)?;
        opened.weight = Some(priority[4]);
        opened.block = block;
    }
    Some(opened)
}

/// Padding taken off.
pub(super) fn unpadded<'a>(header: &Header, payload: &'a [u8]) -> Option<&'a [u8]> {
    if !header.has(flag::PADDED) {
        return Some(payload);
    }
    let (&pad, rest) = payload.split_first()?;
    let len = rest.len().checked_sub(pad.into())?;
    Some(&rest[..len])
}

/// Parameters of a SETTINGS frame, at most this many.
pub(super) fn settings(payload: &[u8]) -> Vec<Http2Setting> {
    const SETTINGS_MAX: usize = 32;
    payload
        .as_chunks::<6>()
        .0
        .iter()
        .take(SETTINGS_MAX)
        .map(|&[id0, id1, v0, v1, v2, v3]| {
            let id = u16::from_be_bytes([id0, id1]);
            let name = match id {
                1 => "SETTINGSHEADERTABLESIZE",
                2 => "SETTINGSENABLEPUSH",
                3 => "SETTINGSMAXCONCURRENTSTREAMS",
                4 => "SETTINGSINITIALWINDOWSIZE",
                5 => "SETTINGSMAXFRAMESIZE",
                6 => "SETTINGSMAXHEADERLISTSIZE",
                8 => "SETTINGSENABLECONNECTPROTOCOL",
                9 => "SETTINGSNORFC7540PRIORITIES",
                _ => "",
            };
            Http2Setting {
                settings_id: if name.is_empty() {
                    id.to_string()
                } else {
                    name.to_owned()
                },
                settings_value: u32::from_be_bytes([v0, v1, v2, v3]),
            }
        })
        .collect()
}

/// Name of an error, as EVE writes it.
pub(super) fn error_name(code: u32) -> &'static str {
    const NAMES: [&str; 14] = [
        "NOERROR",
        "PROTOCOLERROR",
        "INTERNALERROR",
        "FLOWCONTROLERROR",
        "SETTINGSTIMEOUT",
        "STREAMCLOSED",
        "FRAMESIZEERROR",
        "REFUSEDSTREAM",
        "CANCEL",
        "COMPRESSIONERROR",
        "CONNECTERROR",
        "ENHANCEYOURCALM",
        "INADEQUATESECURITY",
        "HTTP11REQUIRED",
    ];
    NAMES.get(code as usize).copied().unwrap_or("UNKNOWN")
}
