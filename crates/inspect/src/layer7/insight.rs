//! What is known of one flow at layer 7, small enough to keep for every flow.

/// Longest text kept of a name, in bytes; longer ones are cut and end in an ellipsis.
pub const TEXT_MAX: usize = 256;

/// What a flow was found to be. Boxed parts are empty for most flows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Insight {
    /// The protocol, as `app_proto` has it; `None` while it is not known.
    pub app: Option<&'static str>,
    /// What it was before it changed (STARTTLS, an upgrade, a tunnel).
    pub app_before: Option<&'static str>,
    /// The service that a name proves (`google`, `github`).
    pub service: Option<&'static str>,
    /// The server's name: SNI, HTTP host, question, banner.
    pub host: Option<Box<str>>,
    /// The server's name by a DNS answer that was seen, where the flow itself has none.
    pub resolved_name: Option<Box<str>>,
    pub tls: Option<Box<Tls>>,
    pub http: Option<Box<Http>>,
    pub dns: Option<Box<Dns>>,
    pub ssh: Option<Box<Ssh>>,
    /// The name of the user who logged in, where it is sent in clear text.
    pub user: Option<Box<str>>,
    /// What the flow that announced this one said of it, as a file's name.
    pub about: Option<Box<str>>,
    /// A password or token went by in clear text.
    pub has_clear_credential: bool,
    pub logins_attempted: u16,
    pub logins_succeeded: u16,
    pub logins_failed: u16,
    pub anomalies: u16,
    /// Records made, where they are wanted; anomalies are not among them.
    pub transactions: u32,
    /// Some payload was there to be looked at.
    pub has_payload: bool,
    /// Signatures that matched.
    pub alerts: u16,
}

/// Of TLS, DTLS and QUIC.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    pub sni: Option<Box<str>>,
    /// The protocol the server chose, else the client's first.
    pub alpn: Option<Box<str>>,
    /// As EVE writes it: `TLS 1.3`.
    pub version: Option<&'static str>,
    pub ja4: Option<Box<str>>,
    /// The client offered encrypted client hello with a payload; `sni` is then the outer name.
    pub has_ech: bool,
}

/// Of the first transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Http {
    pub host: Option<Box<str>>,
    pub method: Option<Box<str>>,
    pub path: Option<Box<str>>,
    pub user_agent: Option<Box<str>>,
    pub status: Option<u16>,
    pub content_type: Option<Box<str>>,
    /// Of the request, and of the response, in bytes.
    pub content_length: [Option<u64>; 2],
    pub referer: Option<Box<str>>,
    /// Requests so far.
    pub requests: u32,
    /// Responses of status 401 and 403, as log-ins that fail give them.
    pub refused: u32,
}

/// Of the last question and answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dns {
    pub query: Option<Box<str>>,
    /// As EVE writes it: `NXDOMAIN`.
    pub rcode: Option<Box<str>>,
    pub queries: u32,
    pub answers: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ssh {
    /// Software of either end, as its banner says.
    pub client: Option<Box<str>>,
    pub server: Option<Box<str>>,
    pub hassh: Option<Box<str>>,
    pub hassh_server: Option<Box<str>>,
}

/// Bytes from outside as text to keep: not UTF-8 is replaced, control characters are escaped, what is
/// longer than [`TEXT_MAX`] is cut.
#[must_use]
pub fn text(bytes: &[u8]) -> Box<str> {
    text_within(bytes, TEXT_MAX).into_boxed_str()
}

/// The same with another bound.
#[must_use]
pub fn text_within(bytes: &[u8], max: usize) -> String {
    let is_long = bytes.len() > max;
    let kept = &bytes[..bytes.len().min(max)];
    let decoded = String::from_utf8_lossy(kept);
    let mut text = String::with_capacity(decoded.len());
    for c in decoded.chars() {
        if c.is_control() {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    if is_long {
        text.push('…');
    }
    text
}
