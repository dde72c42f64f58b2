//! Version control and file copying, by their greetings: Git's own protocol, Subversion's, rsync's.

use memchr::memmem;

use super::super::lines::Fit;
use crate::layer7::insight::text;
use crate::layer7::protocol::{NameOnly, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};

#[derive(Debug)]
pub(super) struct Git;
#[derive(Debug)]
pub(super) struct Svn;
#[derive(Debug)]
pub(super) struct Rsync;

/// Longest first request of Git that is read.
const REQUEST_MAX: usize = 4096;

impl Protocol for Git {
    fn name(&self) -> &'static str {
        "git"
    }

    fn ports(&self) -> &'static [u16] {
        &[9418]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        // Four digits of length, then the command.
        let client = seen.client();
        if !client.iter().take(4).all(u8::is_ascii_hexdigit) {
            return Verdict::No;
        }
        match client.get(4..) {
            None if client.is_empty() && !seen.server().is_empty() => Verdict::No,
            None => Verdict::NeedMore,
            Some(rest) => Fit::begins_any(
                rest,
                &[b"git-upload-pack ", b"git-receive-pack ", b"git-upload-archive "],
            )
            .verdict(),
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(GitSession)
    }
}

#[derive(Debug)]
struct GitSession;

impl Session for GitSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let len = std::str::from_utf8(bytes.get(..4).unwrap_or_default())
            .ok()
            .and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let Some(len) = len.filter(|len| side == Side::Client && *len <= REQUEST_MAX) else {
            return if side == Side::Server {
                Step::Take(0)
            } else {
                Step::Done
            };
        };
        let Some(request) = bytes.get(4..len) else {
            return if len <= 4 { Step::Done } else { Step::Take(0) };
        };
        let mut parts = request.split(|&b| b == 0);
        if let Some(blank) = parts.next().and_then(|command| {
            let at = memchr::memchr(b' ', command)?;
            Some(&command[at + 1..])
        }) {
            out.insight.about = Some(text(blank));
        }
        if let Some(host) = parts.find_map(|part| part.strip_prefix(b"host=")) {
            out.insight.host = Some(text(super::http::split_authority(host).0));
        }
        Step::Done
    }
}

impl Protocol for Svn {
    fn name(&self) -> &'static str {
        "svn"
    }

    fn ports(&self) -> &'static [u16] {
        &[3690]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        // ( success ( 2 2 ( …, and ( 2 ( … svn://
        if !seen.server().is_empty() {
            let fit = Fit::begins_any(seen.server(), &[b"( success ( "]);
            return fit.verdict();
        }
        match Fit::begins_any(seen.client(), &[b"( 2 ( "]) {
            Fit::Certain if memmem::find(seen.client(), b":svn").is_some() => Verdict::CERTAIN,
            Fit::No => Verdict::No,
            _ => Verdict::NeedMore,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

impl Protocol for Rsync {
    fn name(&self) -> &'static str {
        "rsync"
    }

    fn ports(&self) -> &'static [u16] {
        &[873]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let data = if seen.server().is_empty() {
            seen.client()
        } else {
            seen.server()
        };
        Fit::begins_any(data, &[b"@RSYNCD: "]).verdict()
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit::{self, Said};

    #[test]
    fn greetings() {
        let said: [Said<'_>; 1] = [(0, b"0020git-upload-pack /r\0host=h:1\0")];
        kit::check_stream(&said, Some("git"), &[]);
        let insight = kit::stream(&said).insight;
        assert_eq!(
            (insight.about.as_deref(), insight.host.as_deref()),
            (Some("/r"), Some("h"))
        );
        kit::check_stream(&[(0, b"0020get-upload-pack /r")], None, &[]);
        kit::check_stream(&[(1, b"( success ( 2 2 ( ANONYMOUS ) ) ) ")], Some("svn"), &[]);
        kit::check_stream(&[(1, b"@RSYNCD: 31.0\n")], Some("rsync"), &[]);
        kit::check_stream(&[(1, b"@RSYNC: 31.0\n")], None, &[]);
    }
}
