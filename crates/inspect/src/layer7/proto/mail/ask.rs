//! One line asked, a text for an answer: whois (RFC 3912), finger (RFC 1288), Gopher (RFC 1436). Nothing but
//! their ports tells them from other questions.

use super::super::lines;
use crate::layer7::insight::text;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};

#[derive(Debug)]
pub(super) struct Ask {
    name: &'static str,
    ports: &'static [u16],
    /// The question is the name of a host, at least often.
    is_host: bool,
}

pub(super) static WHOIS: Ask = Ask {
    name: "whois",
    ports: &[43],
    is_host: true,
};
pub(super) static FINGER: Ask = Ask {
    name: "finger",
    ports: &[79],
    is_host: false,
};
pub(super) static GOPHER: Ask = Ask {
    name: "gopher",
    ports: &[70],
    is_host: false,
};

const LINE_MAX: usize = 512;

impl Protocol for Ask {
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
        if !self.ports.contains(&seen.ports[1]) {
            return Verdict::No;
        }
        let is_text = |bytes: &[u8]| bytes.iter().all(|&b| b >= b' ' || b == b'\t');
        match lines::first(seen.client(), LINE_MAX) {
            // What follows the line says nothing: it may not have come yet.
            lines::Line::Whole(line, _) if is_text(line) => Verdict::LIKELY,
            lines::Line::More if is_text(seen.client().strip_suffix(b"\r").unwrap_or(seen.client())) => {
                Verdict::NeedMore
            }
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Question {
            is_host: self.is_host,
        })
    }
}

#[derive(Debug)]
struct Question {
    is_host: bool,
}

impl Session for Question {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if side == Side::Server {
            return Step::Take(0);
        }
        let lines::Line::Whole(line, _) = lines::first(bytes, LINE_MAX) else {
            return Step::Take(0);
        };
        let last = line.rsplit(|&b| b == b' ').next().unwrap_or_default();
        if self.is_host && last.contains(&b'.') {
            out.insight.host = Some(text(last));
        } else if !line.is_empty() {
            out.insight.about = Some(text(line));
        }
        Step::Done
    }
}

#[cfg(test)]
mod tests {
    use wire::ip_proto;

    use crate::layer7::kit;

    #[test]
    fn questions() {
        let ask = |port, question: &[u8]| {
            kit::run(ip_proto::TCP, port, &[(0, question)], |_, len| vec![1; len]).insight
        };
        let insight = ask(43, b"example.com\r\n");
        assert_eq!(
            (insight.app, insight.host.as_deref()),
            (Some("whois"), Some("example.com"))
        );
        let insight = ask(79, b"bob\r\n");
        assert_eq!(
            (insight.app, insight.about.as_deref()),
            (Some("finger"), Some("bob"))
        );
        assert_eq!(ask(70, b"/path\r\n").app, Some("gopher"));
        assert_eq!(ask(70, b"\x01\x02\r\n").app, None);
        assert_eq!(ask(9, b"bob\r\n").app, None);
        // Found by the fuzzer: it must not matter what has come behind the line.
        let insight = kit::run(ip_proto::TCP, 43, &[(0, b"ready\r\n\x08\0no")], |_, _| Vec::new()).insight;
        assert_eq!(insight.app, Some("whois"));
    }
}
