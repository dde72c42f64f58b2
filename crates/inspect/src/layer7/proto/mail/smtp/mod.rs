//! SMTP and LMTP (RFC 5321, RFC 2033), with CHUNKING (RFC 3030), AUTH (RFC 4954) and STARTTLS (RFC 3207).

mod session;
#[cfg(test)]
mod tests;

use super::super::lines::{self, Fit};
use crate::layer7::protocol::{Protocol, Seen, Session, Transport, Verdict};

#[derive(Debug)]
pub(super) struct Smtp;

const PORTS: [u16; 4] = [25, 587, 465, 2525];
/// What only a client of SMTP says.
const COMMANDS: [&[u8]; 5] = [b"EHLO ", b"HELO ", b"LHLO ", b"MAIL FROM:", b"RCPT TO:"];

impl Protocol for Smtp {
    fn name(&self) -> &'static str {
        "smtp"
    }

    fn ports(&self) -> &'static [u16] {
        &PORTS
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let has_port = PORTS.iter().any(|&port| seen.has_port(port));
        let client = match seen.client() {
            [] => Fit::More,
            bytes => match Fit::begins_any(bytes, &COMMANDS) {
                Fit::Certain => Fit::Certain,
                // Others say so too.
                fit if has_port => match Fit::begins_any(bytes, &[b"QUIT\r\n", b"RSET\r\n", b"STARTTLS\r\n"])
                {
                    Fit::Certain => Fit::Likely,
                    other => fit.max(other),
                },
                fit => fit,
            },
        };
        let server = match seen.server() {
            [] => Fit::More,
            bytes => greeting(bytes, has_port),
        };
        let fit = match (client, server) {
            (Fit::Certain, _) | (_, Fit::Certain) => Fit::Certain,
            (_, Fit::No) => Fit::No,
            (Fit::No, Fit::More) => Fit::No,
            (client, server) => client.min(Fit::Likely).max(server),
        };
        fit.verdict()
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<session::SmtpSession>::default()
    }
}

/// What a server says first.
fn greeting(bytes: &[u8], has_port: bool) -> Fit {
    let is_begun = Fit::begins_any(bytes, &[b"220 ", b"220-"]);
    if is_begun != Fit::Certain {
        let is_refusal = has_port && Fit::begins_any(bytes, &[b"554 ", b"554-", b"421 "]) == Fit::Certain;
        return if is_refusal { Fit::Likely } else { is_begun };
    }
    match lines::first(bytes, 512) {
        lines::Line::Whole(line, _) if lines::has(line, b"smtp") || lines::has(line, b"lmtp") => Fit::Certain,
        lines::Line::Whole(line, _) if lines::has(line, b"ftp") => Fit::No,
        lines::Line::Long(_) => Fit::No,
        _ if has_port => Fit::Likely,
        _ => Fit::More,
    }
}
