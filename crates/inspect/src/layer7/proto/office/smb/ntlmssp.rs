//! NTLM's authenticate message ([MS-NLMP]), wherever it stands in a security blob.

use serde_json::{Map, Value};

use crate::layer7::reader::{Reader, eve_text, utf16le};

/// Who logs in, and from where.
#[derive(Debug, PartialEq)]
pub(super) struct Authenticate {
    pub(super) domain: String,
    pub(super) user: String,
    host: String,
    /// `major.minor build N rev N`
    version: Option<String>,
}

/// NTLM's messages begin with this.
const MAGIC: &[u8] = b"NTLMSSP\0";
const NEGOTIATE_UNICODE: u32 = 1;
const NEGOTIATE_VERSION: u32 = 1 << 25;

impl Authenticate {
    /// The message in this blob, if there is one.
    pub(super) fn find(blob: &[u8]) -> Option<Self> {
        let message = &blob[memchr::memmem::find(blob, MAGIC)?..];
        let mut reader = Reader::new(message.get(MAGIC.len()..)?);
        if reader.le32()? != 3 {
            return None;
        }
        // Answers to the challenge, then texts: each a length, the length again, and where it stands.
        let mut field = || {
            let len = usize::from(reader.le16()?);
            reader.skip(2)?;
            let at = usize::try_from(reader.le32()?).ok()?;
            Some(message.get(at..at.checked_add(len)?).unwrap_or_default())
        };
        let (_lm, _nt, domain, user, host, _key) =
            (field()?, field()?, field()?, field()?, field()?, field()?);
        let flags = reader.le32()?;
        let text = |bytes: &[u8]| {
            if flags & NEGOTIATE_UNICODE != 0 {
                utf16le(bytes)
            } else {
                eve_text(bytes)
            }
        };
        let version = if flags & NEGOTIATE_VERSION != 0 {
            let (major, minor, build) = (reader.u8()?, reader.u8()?, reader.le16()?);
            reader.skip(3)?;
            Some(format!("{major}.{minor} build {build} rev {}", reader.u8()?))
        } else {
            None
        };
        Some(Self {
            domain: text(domain),
            user: text(user),
            host: text(host),
            version,
        })
    }

    pub(super) fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        for (name, value) in [
            ("domain", &self.domain),
            ("user", &self.user),
            ("host", &self.host),
        ] {
            fields.insert(name.into(), value.as_str().into());
        }
        if let Some(version) = &self.version {
            fields.insert("version".into(), version.as_str().into());
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_inside_of_a_blob() {
        let mut message = b"xxNTLMSSP\0\x03\0\0\0".to_vec();
        for (len, at) in [(0, 64), (0, 64), (4, 64), (6, 68), (2, 74), (0, 64)] {
            message.extend([len, 0, len, 0, at, 0, 0, 0]);
        }
        message.extend(b"\x01\0\0\0D\0M\0b\0o\0b\0h\0");
        let expected = Authenticate {
            domain: "DM".into(),
            user: "bob".into(),
            host: "h".into(),
            version: None,
        };
        assert_eq!(Authenticate::find(&message), Some(expected));
        for len in 0..60 {
            assert_eq!(Authenticate::find(&message[..len]), None);
        }
        assert_eq!(Authenticate::find(b"NTLMSSP\0\x01\0\0\0"), None);
    }
}
