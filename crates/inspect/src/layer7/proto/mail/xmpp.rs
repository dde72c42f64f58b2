//! XMPP (RFC 6120), with SASL and STARTTLS.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

use super::super::lines::Fit;
use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};

#[derive(Debug)]
pub(super) struct Xmpp;

/// Longest tag, and longest answer to a challenge, that is waited for.
const TAG_MAX: usize = 8192;

impl Protocol for Xmpp {
    fn name(&self) -> &'static str {
        "xmpp"
    }

    fn ports(&self) -> &'static [u16] {
        &[5222, 5269]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let fits = seen
            .data
            .map(|data| if data.is_empty() { Fit::More } else { fit(data) });
        let fit = match fits {
            [Fit::Certain, _] | [_, Fit::Certain] => Fit::Certain,
            [Fit::No, _] | [_, Fit::No] => Fit::No,
            _ => Fit::More,
        };
        fit.verdict()
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<XmppSession>::default()
    }
}

fn fit(bytes: &[u8]) -> Fit {
    let bytes = bytes.trim_ascii_start();
    // Stanzas, of a stream that was joined in the middle.
    const STANZAS: [&[u8]; 6] = [
        b"<presence ",
        b"<presence/>",
        b"<message ",
        b"<iq ",
        b"<stream:",
        b"</stream:stream>",
    ];
    let has_stream = memmem::find(bytes, b"<stream:stream").is_some();
    match Fit::begins_any(bytes, &STANZAS) {
        Fit::Certain => return Fit::Certain,
        fit if Fit::begins_any(bytes, &[b"<?xml"]) == Fit::No => return fit,
        _ => {}
    }
    if has_stream {
        return Fit::Certain;
    }
    // Only the declaration so far, or the beginning of the tag.
    match memmem::find(bytes, b"?>") {
        Some(end) => {
            let rest = bytes[end + 2..].trim_ascii_start();
            Fit::begins_any(rest, &[b"<stream:stream"])
        }
        None if bytes.len() < 256 => Fit::More,
        None => Fit::No,
    }
}

#[derive(Debug, Default)]
struct XmppSession {
    is_login: bool,
    is_plain: bool,
}

impl Session for XmppSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let Some(open) = memchr::memchr(b'<', rest) else {
                at = bytes.len();
                break;
            };
            let Some(close) = memchr::memchr(b'>', &rest[open..]) else {
                // A tag that does not end is text of something else.
                at += if rest.len() - open > TAG_MAX {
                    rest.len()
                } else {
                    open
                };
                break;
            };
            let tag = &rest[open + 1..open + close];
            let name_len = tag
                .iter()
                .position(|b| b.is_ascii_whitespace() || *b == b'/')
                .unwrap_or(tag.len());
            let (name, attributes) = tag.split_at(name_len);
            let end = open + close + 1;
            if side == Side::Client && matches!(name, b"auth" | b"response") && !tag.ends_with(b"/") {
                // The text behind it is the answer to a challenge.
                let Some(len) = memchr::memchr(b'<', &rest[end..]) else {
                    if rest.len() - open > TAG_MAX {
                        at = bytes.len();
                    } else {
                        at += open;
                    }
                    break;
                };
                let answer = rest[end..end + len].to_vec();
                self.client(name, attributes, &answer, out);
                at += end + len;
                continue;
            }
            at += end;
            match side {
                Side::Client => self.client(name, attributes, &[], out),
                Side::Server => {
                    if self.server(name, attributes, out) {
                        return Step::Switch { taken: at, to: None };
                    }
                }
            }
        }
        Step::Take(at as u64)
    }

    fn gap(&mut self, _: Side, _: u64, _: &mut Out<'_>) -> Step {
        Step::Take(0)
    }
}

impl XmppSession {
    fn client(&mut self, name: &[u8], attributes: &[u8], answer: &[u8], out: &mut Out<'_>) {
        match name {
            b"stream:stream" => {
                if let Some(host) = attribute(attributes, b"to")
                    && out.insight.host.is_none()
                {
                    out.insight.host = Some(text(host));
                }
            }
            b"auth" => {
                out.login(Login::Attempted);
                self.is_login = true;
                self.is_plain = attribute(attributes, b"mechanism") == Some(b"PLAIN");
                self.answer(answer, out);
            }
            b"response" => self.answer(answer, out),
            _ => {}
        }
    }

    fn answer(&mut self, answer: &[u8], out: &mut Out<'_>) {
        let answer = STANDARD.decode(answer.trim_ascii()).unwrap_or_default();
        if self.is_plain {
            if let Some(user) = answer.split(|&b| b == 0).nth(1) {
                out.insight.user = Some(text(user));
                out.insight.has_clear_credential = true;
            }
            return;
        }
        // SCRAM: `n,,n=user,r=…`; DIGEST-MD5: `username="user",…`.
        let user = answer.split(|&b| b == b',').find_map(|part| {
            let user = part
                .strip_prefix(b"n=")
                .or_else(|| part.strip_prefix(b"username="))?;
            Some(
                user.strip_prefix(b"\"")
                    .and_then(|user| user.strip_suffix(b"\""))
                    .unwrap_or(user),
            )
        });
        if let Some(user) = user.filter(|user| !user.is_empty()) {
            out.insight.user = Some(text(user));
        }
    }

    /// True if TLS begins after it.
    fn server(&mut self, name: &[u8], attributes: &[u8], out: &mut Out<'_>) -> bool {
        match name {
            b"stream:stream" => {
                if let Some(host) = attribute(attributes, b"from")
                    && out.insight.host.is_none()
                {
                    out.insight.host = Some(text(host));
                }
            }
            b"success" | b"failure" if self.is_login => {
                self.is_login = false;
                out.login(if name == b"success" {
                    Login::Succeeded
                } else {
                    Login::Failed
                });
            }
            b"proceed" => return memmem::find(attributes, b"xmpp-tls").is_some(),
            _ => {}
        }
        false
    }
}

/// The value of an attribute.
fn attribute<'a>(attributes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut from = 0;
    loop {
        let at = from + memmem::find(&attributes[from..], name)?;
        from = at + name.len();
        let is_start = at
            .checked_sub(1)
            .is_none_or(|before| attributes[before].is_ascii_whitespace());
        let rest = attributes[from..].trim_ascii_start();
        if let (true, Some(rest)) = (is_start, rest.strip_prefix(b"=")) {
            let (&quote, value) = rest.trim_ascii_start().split_first()?;
            return Some(&value[..memchr::memchr(quote, value)?]);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit::{self, Said};

    #[test]
    fn log_ins_and_tls() {
        let said: [Said<'_>; 7] = [
            (0, b"<?xml version='1.0' ?>"),
            (0, b"<stream:stream to='example.org' xmlns='jabber:client'>"),
            (
                1,
                b"<?xml version='1.0'?><stream:stream from='example.org'><stream:features/>",
            ),
            (
                0,
                b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHVzZXIAcGFzcw==</auth>",
            ),
            (1, b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"),
            (0, b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
            (1, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
        ];
        kit::check_cuts(&said);
        let insight = kit::stream(&said).insight;
        assert_eq!(
            (insight.app_before, insight.user.as_deref()),
            (Some("xmpp"), Some("user"))
        );
        assert_eq!(
            (insight.host.as_deref(), insight.logins_succeeded),
            (Some("example.org"), 1)
        );
        assert!(insight.has_clear_credential);
        kit::check_stream(&[(0, b"<?xml version='1.0'?><html>")], None, &[]);
        kit::check_stream(&[(0, b"<iq type='get' id='1'>")], Some("xmpp"), &[]);
    }
}
