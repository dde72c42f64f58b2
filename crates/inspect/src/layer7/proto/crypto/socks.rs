//! SOCKS 4, 4a and 5 (RFC 1928, 1929): what is asked for, then whatever is inside.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use crate::layer7::cursor::Cursor;
use crate::layer7::insight::text;
use crate::layer7::protocol::{Login, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(in crate::layer7::proto) struct Socks;

/// Longest user or name of version 4, which end in a zero.
const TEXT_MAX: usize = 512;
const NO_METHOD: u8 = 0xff;
const USER_AND_PASSWORD: u8 = 2;

impl Protocol for Socks {
    fn name(&self) -> &'static str {
        "socks"
    }

    fn ports(&self) -> &'static [u16] {
        &[1080, 9050]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        // A proxy never speaks first; a connection joined after its greeting is not known.
        let (asked, said) = (seen.client(), seen.server());
        match asked.first() {
            Some(4) => match request_4(asked) {
                Read::No => Verdict::No,
                Read::NeedMore => Verdict::NeedMore,
                Read::All(..) => match said {
                    [] if seen.has_port(1080) => Verdict::LIKELY,
                    [] | [0] => Verdict::NeedMore,
                    [0, 90..=93, ..] => Verdict::CERTAIN,
                    _ => Verdict::No,
                },
            },
            Some(5) => match (greeting_5(asked), said) {
                (Read::No, _) => Verdict::No,
                (Read::NeedMore, _) => Verdict::NeedMore,
                (Read::All(..), [] | [5]) => {
                    if seen.has_port(1080) {
                        Verdict::LIKELY
                    } else {
                        Verdict::NeedMore
                    }
                }
                (Read::All(methods, _), [5, method, ..])
                    if *method == NO_METHOD || methods.contains(method) =>
                {
                    Verdict::CERTAIN
                }
                _ => Verdict::No,
            },
            Some(_) => Verdict::No,
            None if said.is_empty() => Verdict::NeedMore,
            None => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(SocksSession::default())
    }
}

enum Read<T> {
    No,
    NeedMore,
    /// With its length.
    All(T, usize),
}

/// The methods a client of version 5 knows.
fn greeting_5(bytes: &[u8]) -> Read<&[u8]> {
    let Some(&n_methods) = bytes.get(1) else {
        return Read::NeedMore;
    };
    let methods = &bytes[2..bytes.len().min(2 + usize::from(n_methods))];
    if n_methods == 0 || methods.iter().any(|&method| (10..0x80).contains(&method)) {
        return Read::No;
    }
    if methods.len() < usize::from(n_methods) {
        return Read::NeedMore;
    }
    Read::All(methods, 2 + methods.len())
}

/// Where somebody wants to go.
struct Request {
    command: u8,
    host: Box<str>,
    port: u16,
    user: Option<Box<str>>,
}

fn request_4(bytes: &[u8]) -> Read<Request> {
    match bytes.get(1) {
        None => return Read::NeedMore,
        Some(1 | 2) => {}
        Some(_) => return Read::No,
    }
    let Some(&[_, command, high, low, a, b, c, d]) = bytes.first_chunk::<8>() else {
        return Read::NeedMore;
    };
    let mut len = 8;
    let mut zero_ended = || -> Read<&[u8]> {
        let rest = &bytes[len..];
        match memchr::memchr(0, &rest[..rest.len().min(TEXT_MAX)]) {
            Some(end) => {
                len += end + 1;
                Read::All(&rest[..end], len)
            }
            None if rest.len() >= TEXT_MAX => Read::No,
            None => Read::NeedMore,
        }
    };
    let is_text = |bytes: &[u8]| bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let user = match zero_ended() {
        Read::All(user, _) if is_text(user) => user,
        Read::NeedMore => return Read::NeedMore,
        _ => return Read::No,
    };
    let host = if [a, b, c] == [0; 3] && d != 0 {
        match zero_ended() {
            Read::All(name, _) if is_text(name) && !name.is_empty() => text(name),
            Read::NeedMore => return Read::NeedMore,
            _ => return Read::No,
        }
    } else {
        Ipv4Addr::new(a, b, c, d).to_string().into()
    };
    let request = Request {
        command,
        host,
        port: u16::from_be_bytes([high, low]),
        user: (!user.is_empty()).then(|| text(user)),
    };
    Read::All(request, len)
}

/// A request or an answer of version 5.
fn message_5(bytes: &[u8]) -> Read<Request> {
    let mut rest = Cursor::new(bytes);
    let mut head = || Some([rest.u8()?, rest.u8()?, rest.u8()?, rest.u8()?]);
    let Some([version, command, _, kind]) = head() else {
        return Read::NeedMore;
    };
    if version != 5 || !matches!(kind, 1 | 3 | 4) {
        return Read::No;
    }
    let mut host = || -> Option<Box<str>> {
        Some(match kind {
            1 => Ipv4Addr::from(rest.array::<4>()?).to_string().into(),
            4 => Ipv6Addr::from(rest.array::<16>()?).to_string().into(),
            _ => text(rest.vec8()?),
        })
    };
    let (Some(host), Some(port)) = (host(), rest.u16()) else {
        return Read::NeedMore;
    };
    let request = Request {
        command,
        host,
        port,
        user: None,
    };
    Read::All(request, bytes.len() - rest.len())
}

#[derive(Default)]
struct SocksSession {
    version: u8,
    state: State,
    request: Option<Request>,
    user: Option<Box<str>>,
}

/// Whose turn it is, and what comes next.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Greeting,
    Method,
    Password,
    PasswordAnswer,
    Request,
    Answer,
}

impl State {
    const fn side(self) -> Side {
        match self {
            Self::Greeting | Self::Password | Self::Request => Side::Client,
            Self::Method | Self::PasswordAnswer | Self::Answer => Side::Server,
        }
    }
}

const BROKEN: Anomaly = Anomaly::parser("invalid_socks_message", Severity::Medium);

impl Session for SocksSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut taken = 0;
        // What comes before its turn waits.
        while self.state.side() == side && taken < bytes.len() {
            match self.message(&bytes[taken..], out) {
                Ok(Next::Took(len)) => taken += len,
                Ok(Next::NeedMore) => break,
                Ok(Next::Inside(len)) => {
                    return Step::Switch {
                        taken: taken + len,
                        to: None,
                    };
                }
                Ok(Next::Over) => return Step::Done,
                Err(anomaly) => return Step::Broken(anomaly),
            }
        }
        Step::Take(taken as u64)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        self.tell(None, out);
    }
}

enum Next {
    Took(usize),
    NeedMore,
    /// The proxy is through.
    Inside(usize),
    Over,
}

impl SocksSession {
    fn message(&mut self, bytes: &[u8], out: &mut Out<'_>) -> Result<Next, Anomaly> {
        match self.state {
            State::Greeting if bytes[0] == 4 => {
                self.version = 4;
                match request_4(bytes) {
                    Read::All(mut request, len) => {
                        self.user = request.user.take();
                        out.insight.user.clone_from(&self.user);
                        return Ok(self.requested(request, len, out));
                    }
                    Read::NeedMore => return Ok(Next::NeedMore),
                    Read::No => return Err(BROKEN),
                }
            }
            State::Greeting => {
                self.version = 5;
                match greeting_5(bytes) {
                    Read::All(_, len) => {
                        self.state = State::Method;
                        return Ok(Next::Took(len));
                    }
                    Read::NeedMore => return Ok(Next::NeedMore),
                    Read::No => return Err(BROKEN),
                }
            }
            State::Method => {
                let Some(&[_, method]) = bytes.first_chunk::<2>() else {
                    return Ok(Next::NeedMore);
                };
                self.state = match method {
                    NO_METHOD => return Ok(Next::Over),
                    USER_AND_PASSWORD => State::Password,
                    0 => State::Request,
                    // GSS-API and private ones are not followed.
                    _ => return Ok(Next::Over),
                };
                return Ok(Next::Took(2));
            }
            State::Password => {
                let mut rest = Cursor::new(bytes);
                let mut read = || {
                    rest.u8()?;
                    Some((rest.vec8()?, rest.vec8()?))
                };
                let Some((user, _)) = read() else {
                    return Ok(Next::NeedMore);
                };
                self.user = Some(text(user));
                out.insight.user.clone_from(&self.user);
                out.insight.has_clear_credential = true;
                out.login(Login::Attempted);
                self.state = State::PasswordAnswer;
                return Ok(Next::Took(bytes.len() - rest.len()));
            }
            State::PasswordAnswer => {
                let Some(&[_, status]) = bytes.first_chunk::<2>() else {
                    return Ok(Next::NeedMore);
                };
                if status != 0 {
                    out.login(Login::Failed);
                    return Ok(Next::Over);
                }
                out.login(Login::Succeeded);
                self.state = State::Request;
                return Ok(Next::Took(2));
            }
            State::Request => match message_5(bytes) {
                Read::All(request, len) => return Ok(self.requested(request, len, out)),
                Read::NeedMore => return Ok(Next::NeedMore),
                Read::No => return Err(BROKEN),
            },
            State::Answer => {}
        }
        let (code, len, is_granted) = if self.version == 4 {
            let Some(&[_, code, ..]) = bytes.first_chunk::<8>() else {
                return Ok(Next::NeedMore);
            };
            (code, 8, code == 90)
        } else {
            match message_5(bytes) {
                Read::All(answer, len) => (answer.command, len, answer.command == 0),
                Read::NeedMore => return Ok(Next::NeedMore),
                Read::No => return Err(BROKEN),
            }
        };
        let is_connect = self.request.as_ref().is_some_and(|request| request.command == 1);
        self.tell(Some(code), out);
        Ok(match (is_granted, is_connect) {
            (true, true) => Next::Inside(len),
            // Somebody is to connect from outside: a second answer says who did.
            (true, false) => Next::Took(len),
            (false, _) => Next::Over,
        })
    }

    fn requested(&mut self, request: Request, len: usize, out: &mut Out<'_>) -> Next {
        out.insight.host = Some(request.host.clone());
        self.request = Some(request);
        self.state = State::Answer;
        Next::Took(len)
    }

    fn tell(&mut self, code: Option<u8>, out: &mut Out<'_>) {
        let Some(request) = self.request.take() else {
            return;
        };
        if !out.wants_records() {
            return;
        }
        let mut fields = Map::new();
        let mut add = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        add("version", self.version.into());
        let command = match request.command {
            1 => "connect",
            2 => "bind",
            3 => "udp_associate",
            _ => "unknown",
        };
        add("command", command.into());
        add("host", String::from(request.host).into());
        add("port", request.port.into());
        if let Some(user) = self.user.take() {
            add("user", String::from(user).into());
        }
        if let Some(code) = code {
            add("reply", code.into());
        }
        out.record_of(Side::Client, Record::fields("socks", fields));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    #[test]
    fn version_5() {
        let said = [
            (0, &[5, 2, 0, 2][..]),
            (1, &[5, 2]),
            (0, b"\x01\x03joe\x06secret"),
            (1, &[1, 0]),
            (0, b"\x05\x01\0\x03\x0bexample.org\x01\xbb"),
            (1, &[5, 0, 0, 1, 10, 0, 0, 1, 4, 0]),
            (0, b"SSH-2.0-x\r\n"),
            (1, b"SSH-2.0-y\r\n"),
        ];
        let socks = json!({
            "version": 5, "command": "connect", "host": "example.org", "port": 443, "user": "joe", "reply": 0,
        });
        let ssh = json!({
            "client": {"proto_version": "2.0", "software_version": "x"},
            "server": {"proto_version": "2.0", "software_version": "y"},
        });
        kit::check_stream(&said, Some("ssh"), &[("socks", socks), ("ssh", ssh)]);
        let insight = kit::stream(&said).insight;
        assert_eq!(insight.app_before, Some("socks"));
        assert_eq!(
            (insight.user.as_deref(), insight.logins_succeeded),
            (Some("joe"), 1)
        );
        assert!(insight.has_clear_credential);
    }

    #[test]
    fn version_4() {
        let said = [
            (0, &b"\x04\x01\0\x50\0\0\0\x01joe\0example.org\0"[..]),
            (1, &[0, 91, 0, 0, 0, 0, 0, 0]),
        ];
        let body = json!({
            "version": 4, "command": "connect", "host": "example.org", "port": 80, "user": "joe", "reply": 91,
        });
        kit::check_stream(&said, Some("socks"), &[("socks", body)]);
        let said = [
            (0, &b"\x04\x01\0\x50\x0a\0\0\x01\0"[..]),
            (1, &[0, 90, 0, 0, 0, 0, 0, 0]),
        ];
        let outcome = kit::stream(&said);
        assert_eq!(outcome.bodies()[0].1["host"], "10.0.0.1");
        assert_eq!(outcome.insight.app_before, Some("socks"));
    }

    #[test]
    fn refused() {
        let said = [
            (0, &[5, 1, 2][..]),
            (1, &[5, 2]),
            (0, b"\x01\x01a\x01b"),
            (1, &[1, 1]),
        ];
        kit::check_stream(&said, Some("socks"), &[]);
        assert_eq!(kit::stream(&said).insight.logins_failed, 1);
    }

    #[test]
    fn others() {
        kit::check_stream(&[(0, &[5, 1, 0]), (1, &[6, 0])], None, &[]);
        kit::check_stream(&[(0, &[5, 1, 0, 9]), (1, b"x")], None, &[]);
        kit::check_stream(&[(0, &[4, 3, 1, 2])], None, &[]);
    }
}
