//! The remote commands of BSD: rsh, rexec, and rlogin (RFC 1282). They look alike but for their ports.

use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};

/// A command: texts with NUL behind each, the first of them the port for errors, in digits.
#[derive(Debug)]
pub(super) struct Remote {
    name: &'static str,
    ports: &'static [u16],
    /// The second text is the password, not the user there.
    has_password: bool,
}

pub(super) static RSH: Remote = Remote {
    name: "rsh",
    ports: &[514],
    has_password: false,
};
pub(super) static REXEC: Remote = Remote {
    name: "rexec",
    ports: &[512],
    has_password: true,
};

/// A terminal: a NUL, the user here, the user there, and the terminal's kind and speed.
#[derive(Debug)]
pub(super) struct Rlogin;

const TEXT_MAX: usize = 1024;

/// So many texts with NUL behind each; `Err` if these bytes hold something else.
fn texts<const N: usize>(bytes: &[u8]) -> Result<Option<[&[u8]; N]>, ()> {
    let mut texts: [&[u8]; N] = [&[]; N];
    let mut rest = bytes;
    for slot in &mut texts {
        let end = memchr::memchr(0, rest);
        let text = &rest[..end.unwrap_or(rest.len())];
        if text.len() > TEXT_MAX || text.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
            return Err(());
        }
        let Some(end) = end else { return Ok(None) };
        *slot = text;
        rest = &rest[end + 1..];
    }
    Ok(Some(texts))
}

fn verdict(fits: Option<bool>) -> Verdict {
    match fits {
        None => Verdict::NeedMore,
        Some(true) => Verdict::LIKELY,
        Some(false) => Verdict::No,
    }
}

impl Protocol for Remote {
    fn name(&self) -> &'static str {
        self.name
    }

    fn ports(&self) -> &'static [u16] {
        self.ports
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        if !self.ports.iter().any(|&port| seen.has_port(port)) {
            return Verdict::No;
        }
        if seen.client().is_empty() && seen.server().is_empty() {
            return Verdict::NeedMore;
        }
        let is_digit = |b: &&u8| b.is_ascii_digit();
        let port = seen.client().iter().take(6).take_while(is_digit).count();
        match seen.client().get(port) {
            Some(0) => {}
            None if port < 6 => return Verdict::NeedMore,
            _ => return Verdict::No,
        }
        verdict(match texts::<4>(seen.client()) {
            Ok(Some([_, user, second, _])) => Some(!user.is_empty() && !second.is_empty()),
            Ok(None) => None,
            Err(()) => Some(false),
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(RemoteSession {
            has_password: self.has_password,
            is_asked: false,
        })
    }
}

#[derive(Debug)]
struct RemoteSession {
    has_password: bool,
    is_asked: bool,
}

impl Session for RemoteSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        match side {
            Side::Client if !self.is_asked => {
                let Ok(Some([port, first, second, command])) = texts::<4>(bytes) else {
                    return Step::Take(0);
                };
                self.is_asked = true;
                // rsh: the user here, the user there.
                let user = if self.has_password { first } else { second };
                out.insight.user = Some(text(user));
                out.insight.about = Some(text(command));
                out.insight.has_clear_credential |= self.has_password;
                out.login(Login::Attempted);
                let taken = port.len() + first.len() + second.len() + command.len() + 4;
                Step::Take(taken as u64)
            }
            Side::Client => Step::Take(bytes.len() as u64),
            Side::Server if !self.is_asked => Step::Take(0),
            Side::Server => {
                out.login(if bytes.first() == Some(&0) {
                    refused(&bytes[1..])
                } else {
                    Login::Failed
                });
                Step::Done
            }
        }
    }
}

/// Some servers say with a NUL before it that the password was wrong.
fn refused(bytes: &[u8]) -> Login {
    if super::super::lines::has(bytes, b"incorrect") {
        Login::Failed
    } else {
        Login::Succeeded
    }
}

impl Protocol for Rlogin {
    fn name(&self) -> &'static str {
        "rlogin"
    }

    fn ports(&self) -> &'static [u16] {
        &[513]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        match seen.client() {
            [] => Verdict::NeedMore,
            [0] => Verdict::NeedMore,
            [0, rest @ ..] if rest[0] != 0 => verdict(match texts::<3>(rest) {
                Ok(Some([_, _, terminal])) => Some(
                    memchr::memchr(b'/', terminal)
                        .is_some_and(|at| terminal[at + 1..].first().is_some_and(u8::is_ascii_digit)),
                ),
                Ok(None) => None,
                Err(()) => Some(false),
            }),
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(RloginSession)
    }
}

#[derive(Debug)]
struct RloginSession;

impl Session for RloginSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if side == Side::Client
            && let Some((0, rest)) = bytes.split_first()
            && let Ok(Some([_, there, _])) = texts::<3>(rest)
        {
            out.insight.user = Some(text(there));
            out.login(Login::Attempted);
            return Step::Done;
        }
        Step::Take(0)
    }
}

#[cfg(test)]
mod tests {
    use wire::ip_proto;

    use crate::layer7::kit::{self, Said};

    #[track_caller]
    fn check(port: u16, said: &[Said<'_>], app: Option<&str>, user: Option<&str>, logins: [u16; 3]) {
        for piece in [1, 2, 1000] {
            let insight = kit::run(ip_proto::TCP, port, said, |_, len| vec![piece; len / piece]).insight;
            let counts = [
                insight.logins_attempted,
                insight.logins_succeeded,
                insight.logins_failed,
            ];
            assert_eq!(
                (insight.app, insight.user.as_deref(), counts),
                (app, user, logins)
            );
        }
    }

    #[test]
    fn commands_and_terminals() {
        let rsh: Said<'_> = (0, b"1023\0bob\0root\0ls -l\0");
        check(514, &[rsh, (1, b"\0")], Some("rsh"), Some("root"), [1, 1, 0]);
        check(
            514,
            &[rsh, (1, b"\x01Login incorrect.\n")],
            Some("rsh"),
            Some("root"),
            [1, 0, 1],
        );
        check(512, &[rsh, (1, b"\0")], Some("rexec"), Some("bob"), [1, 1, 0]);
        check(9, &[rsh], None, None, [0; 3]);
        let rlogin: Said<'_> = (0, b"\0bob\0root\0xterm/38400\0");
        check(513, &[rlogin], Some("rlogin"), Some("root"), [1, 0, 0]);
        check(513, &[(0, b"\0bob\0root\0\x01\0")], None, None, [0; 3]);
    }
}
