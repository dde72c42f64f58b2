//! The hellos of TLS, DTLS and QUIC: what both ends say before anything is encrypted (RFC 8446, section 4.1).

use super::cursor::{Cursor, u16s};

/// Numbers of TLS extensions that are read.
pub mod extension {
    pub const SERVER_NAME: u16 = 0;
    pub const SUPPORTED_GROUPS: u16 = 10;
    pub const EC_POINT_FORMATS: u16 = 11;
    pub const SIGNATURE_ALGORITHMS: u16 = 13;
    pub const ALPN: u16 = 16;
    pub const PRE_SHARED_KEY: u16 = 41;
    pub const SUPPORTED_VERSIONS: u16 = 43;
    pub const QUIC_TRANSPORT_PARAMETERS: u16 = 57;
    /// Before QUIC was a standard.
    pub const QUIC_TRANSPORT_PARAMETERS_DRAFT: u16 = 0xffa5;
    pub const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
}

/// QUIC transport parameter in which Chrome names itself.
const GOOGLE_USER_AGENT: u64 = 0x3129;

/// First message of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The version field; since TLS 1.3 it says 1.2.
    pub version: u16,
    pub session_id: Box<[u8]>,
    /// Of DTLS: what the server wanted to hear again.
    pub has_cookie: bool,
    pub ciphers: Vec<u16>,
    /// Types in the order they came.
    pub extensions: Vec<u16>,
    pub sni: Option<Box<[u8]>>,
    pub alpns: Vec<Box<[u8]>>,
    pub supported_versions: Vec<u16>,
    pub groups: Vec<u16>,
    pub point_formats: Vec<u8>,
    pub signature_algorithms: Vec<u16>,
    /// An encrypted hello with a payload is in it; `sni` is then the outer name.
    pub has_ech: bool,
    /// Named in QUIC's transport parameters.
    pub user_agent: Option<Box<[u8]>>,
}

/// First message of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerHello {
    /// The version chosen, wherever it stands.
    pub version: u16,
    /// The version field.
    pub legacy_version: u16,
    pub session_id: Box<[u8]>,
    pub cipher: u16,
    pub extensions: Vec<u16>,
    pub alpn: Option<Box<[u8]>>,
    /// It asks for another client hello.
    pub is_retry: bool,
}

/// SHA-256 of "HelloRetryRequest": the random number of a hello that asks for another.
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Values that mean nothing and are sent to keep peers tolerant (RFC 8701).
#[must_use]
pub const fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

impl ClientHello {
    /// From the body of a handshake message of type 1.
    #[must_use]
    pub fn parse(body: &[u8], is_dtls: bool) -> Option<Self> {
        let mut body = Cursor::new(body);
        let version = body.u16()?;
        body.take(32)?;
        let mut hello = Self {
            version,
            session_id: body.vec8()?.into(),
            ..Self::default()
        };
        if is_dtls {
            hello.has_cookie = !body.vec8()?.is_empty();
        }
        hello.ciphers = u16s(body.vec16()?);
        body.vec8()?;
        if !body.is_empty() {
            let mut extensions = Cursor::new(body.vec16()?);
            while !extensions.is_empty() {
                let kind = extensions.u16()?;
                let value = extensions.vec16()?;
                hello.extensions.push(kind);
                // An extension that is not as it should be is as good as empty.
                let _ = hello.extension(kind, Cursor::new(value));
            }
        }
        Some(hello)
    }

    fn extension(&mut self, kind: u16, mut value: Cursor<'_>) -> Option<()> {
        match kind {
            extension::SERVER_NAME if !value.is_empty() => {
                let mut names = Cursor::new(value.vec16()?);
                while !names.is_empty() {
                    let kind = names.u8()?;
                    let name = names.vec16()?;
                    if kind == 0 && self.sni.is_none() {
                        self.sni = Some(name.into());
                    }
                }
            }
            extension::ALPN => {
                let mut names = Cursor::new(value.vec16()?);
                while !names.is_empty() {
                    self.alpns.push(names.vec8()?.into());
                }
            }
            extension::SUPPORTED_VERSIONS => self.supported_versions = u16s(value.vec8()?),
            extension::SUPPORTED_GROUPS => self.groups = u16s(value.vec16()?),
            extension::EC_POINT_FORMATS => self.point_formats = value.vec8()?.to_vec(),
            extension::SIGNATURE_ALGORITHMS => self.signature_algorithms = u16s(value.vec16()?),
            extension::ENCRYPTED_CLIENT_HELLO => {
                let is_outer = value.u8()? == 0;
                // Suite, configuration, key.
                value.take(5)?;
                value.vec16()?;
                self.has_ech = is_outer && !value.vec16()?.is_empty();
            }
            extension::QUIC_TRANSPORT_PARAMETERS | extension::QUIC_TRANSPORT_PARAMETERS_DRAFT => {
                while !value.is_empty() {
                    let kind = value.varint()?;
                    let len = usize::try_from(value.varint()?).ok()?;
                    let parameter = value.take(len)?;
                    if kind == GOOGLE_USER_AGENT {
                        self.user_agent = Some(parameter.into());
                    }
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Of the versions offered the highest that means something.
    #[must_use]
    pub fn version_max(&self) -> u16 {
        let offered = self.supported_versions.iter().copied().filter(|&v| !is_grease(v));
        if self.version >> 8 == 0xfe {
            // DTLS counts down.
            let of_dtls = offered.filter(|version| version >> 8 == 0xfe);
            return of_dtls.min().unwrap_or(self.version);
        }
        offered.max().unwrap_or(self.version)
    }
}

impl ServerHello {
    /// From the body of a handshake message of type 2.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut body = Cursor::new(body);
        let version = body.u16()?;
        let is_retry = body.take(32)? == RETRY_RANDOM;
        let mut hello = Self {
            version,
            legacy_version: version,
            is_retry,
            ..Self::default()
        };
        // Drafts of TLS 1.3 before the 22nd have neither session nor compression; those before the 16th say that
        // they are the standard, which says it in an extension.
        let is_earliest_draft = version == 0x0304;
        let is_early_draft = is_earliest_draft || (0x7f00..0x7f16).contains(&version);
        if is_earliest_draft {
            hello.version = 0x7f0f;
        }
        if !is_early_draft {
            hello.session_id = body.vec8()?.into();
        }
        hello.cipher = body.u16()?;
        if !is_early_draft {
            body.u8()?;
        }
        if !body.is_empty() {
            let mut extensions = Cursor::new(body.vec16()?);
            while !extensions.is_empty() {
                let kind = extensions.u16()?;
                let mut value = Cursor::new(extensions.vec16()?);
                hello.extensions.push(kind);
                match kind {
                    extension::SUPPORTED_VERSIONS => hello.version = value.u16().unwrap_or(version),
                    extension::ALPN => {
                        let mut names = Cursor::new(value.vec16().unwrap_or_default());
                        hello.alpn = names.vec8().map(Into::into);
                    }
                    _ => {}
                }
            }
        }
        Some(hello)
    }

    /// Whether what follows is encrypted, as from TLS 1.3 on.
    #[must_use]
    pub fn is_tls13(&self) -> bool {
        matches!(self.version, 0x0304 | 0x7f00..=0x7fff | 0xfb17 | 0xfb1a | 0xfefc)
    }
}

/// A version as EVE writes it.
#[must_use]
pub fn version_name(version: u16) -> Option<&'static str> {
    /// From the 16th draft on.
    const DRAFTS: [&str; 13] = [
        "TLS 1.3 draft-16",
        "TLS 1.3 draft-17",
        "TLS 1.3 draft-18",
        "TLS 1.3 draft-19",
        "TLS 1.3 draft-20",
        "TLS 1.3 draft-21",
        "TLS 1.3 draft-22",
        "TLS 1.3 draft-23",
        "TLS 1.3 draft-24",
        "TLS 1.3 draft-25",
        "TLS 1.3 draft-26",
        "TLS 1.3 draft-27",
        "TLS 1.3 draft-28",
    ];
    Some(match version {
        0x0002 => "SSLv2",
        0x0300 => "SSLv3",
        0x0301 => "TLSv1",
        0x0302 => "TLS 1.1",
        0x0303 => "TLS 1.2",
        0x0304 => "TLS 1.3",
        0x7f00..=0x7f0f => "TLS 1.3 draft-<16",
        0x7f10..=0x7f1c => DRAFTS[usize::from(version - 0x7f10)],
        0xfb17 => "TLS 1.3 draft-23-fb",
        0xfb1a => "TLS 1.3 draft-26-fb",
        // OpenSSL's own before the standard.
        0xfeff | 0x0100 => "DTLS 1.0",
        0xfefd => "DTLS 1.2",
        0xfefc => "DTLS 1.3",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let check = |version, expected| assert_eq!(version_name(version), expected, "{version:#x}");
        check(0x0301, Some("TLSv1"));
        check(0x0304, Some("TLS 1.3"));
        check(0x7f0e, Some("TLS 1.3 draft-<16"));
        check(0x7f1c, Some("TLS 1.3 draft-28"));
        check(0x7f1d, None);
        check(0xfefd, Some("DTLS 1.2"));
    }

    /// The hello of the tests of JA4 with one more extension.
    fn with(kind: u16, value: &[u8]) -> ClientHello {
        const EXTENSIONS_AT: usize = 47;
        let mut bytes = crate::layer7::ja4::tests::hello();
        bytes.extend(kind.to_be_bytes());
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(value);
        let len = (bytes.len() - EXTENSIONS_AT - 2) as u16;
        bytes[EXTENSIONS_AT..EXTENSIONS_AT + 2].copy_from_slice(&len.to_be_bytes());
        ClientHello::parse(&bytes, false).expect("a hello")
    }

    #[test]
    fn encrypted_client_hello() {
        let outer = [0, 0, 1, 0, 1, 7, 0, 2, 9, 9, 0, 3, 8, 8, 8];
        let hello = with(extension::ENCRYPTED_CLIENT_HELLO, &outer);
        assert!(hello.has_ech);
        assert_eq!(hello.sni.as_deref(), Some(&b"example.org"[..]));
        // The inner one, an empty one, one that is cut.
        for value in [&[1][..], &[0, 0, 1, 0, 1, 7, 0, 0, 0, 0], &outer[..14]] {
            assert!(
                !with(extension::ENCRYPTED_CLIENT_HELLO, value).has_ech,
                "{value:?}"
            );
        }
    }

    #[test]
    fn user_agent_of_quic() {
        let parameters = [&[1, 2, 0x40, 0x64, 0x71, 0x29, 6][..], b"Chrome", &[4, 1, 9]].concat();
        for kind in [
            extension::QUIC_TRANSPORT_PARAMETERS,
            extension::QUIC_TRANSPORT_PARAMETERS_DRAFT,
        ] {
            assert_eq!(
                with(kind, &parameters).user_agent.as_deref(),
                Some(&b"Chrome"[..])
            );
        }
        assert_eq!(
            with(extension::QUIC_TRANSPORT_PARAMETERS, &parameters[..9]).user_agent,
            None
        );
    }

    #[test]
    fn server_of_an_early_draft() {
        let body = [&[3, 4][..], &[7; 32], &[0xc0, 0x2b, 0, 4, 0, 40, 0, 0]].concat();
        let hello = ServerHello::parse(&body).expect("a hello");
        assert_eq!(
            (hello.cipher, version_name(hello.version)),
            (0xc02b, Some("TLS 1.3 draft-<16"))
        );
        assert!(hello.is_tls13());
    }

    #[test]
    fn grease() {
        assert!(is_grease(0x0a0a) && is_grease(0xfafa));
        assert!(!is_grease(0x0a1a) && !is_grease(0x1301));
    }

    #[test]
    fn no_prefix_of_a_hello_is_one() {
        let hello = crate::layer7::ja4::tests::hello();
        assert!(ClientHello::parse(&hello, false).is_some());
        for len in 0..hello.len() {
            // Without its extensions a hello is whole, as before TLS 1.2.
            let is_bare = ClientHello::parse(&hello[..len], false).is_some_and(|h| h.extensions.is_empty());
            assert!(
                is_bare || ClientHello::parse(&hello[..len], false).is_none(),
                "{len}"
            );
        }
    }
}
