//! TFTP (RFC 1350), with options (RFC 2347).

use serde_json::{Map, Value};

use crate::layer7::insight::text_within;
use crate::layer7::protocol::{
    Expected, NameOnly, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict,
};
use crate::layer7::record::Record;

#[derive(Debug)]
pub(super) struct Tftp;

/// The transfer, which goes on from another port of the server.
#[derive(Debug)]
struct Transfer;

const TEXT_MAX: usize = 512;

/// A request.
struct Request<'a> {
    packet: &'static str,
    file: &'a [u8],
    mode: String,
}

impl<'a> Request<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (code, rest) = bytes.split_first_chunk::<2>()?;
        let packet = match code {
            [0, 1] => "read",
            [0, 2] => "write",
            _ => return None,
        };
        let mut texts = rest.split(|&b| b == 0);
        let file = texts.next()?;
        let mode = texts.next()?.to_ascii_lowercase();
        // The text after the mode's NUL may be empty, but must be there.
        texts.next()?;
        let is_mode = matches!(&mode[..], b"netascii" | b"octet" | b"mail");
        (is_mode && !file.is_empty() && file.len() <= TEXT_MAX).then(|| Self {
            packet,
            file,
            mode: String::from_utf8_lossy(&mode).into_owned(),
        })
    }
}

/// Number of a block and whether it is data, of a packet that could be data or an acknowledgement.
fn block(bytes: &[u8], len: usize) -> Option<(u16, bool)> {
    match *bytes.first_chunk::<4>()? {
        [0, 3, high, low] if len <= 4 + 65464 => Some((u16::from_be_bytes([high, low]), true)),
        [0, 4, high, low] if len == 4 => Some((u16::from_be_bytes([high, low]), false)),
        _ => None,
    }
}

impl Protocol for Tftp {
    fn name(&self) -> &'static str {
        "tftp"
    }

    fn ports(&self) -> &'static [u16] {
        &[69]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let newest = seen.newest();
        if Request::of(newest).is_some() {
            return Verdict::certain(seen.side);
        }
        // A transfer of which the request went by another flow: data one way, its number back.
        let Some((number, is_data)) = block(newest, newest.len()) else {
            return Verdict::No;
        };
        let Some(earlier) = seen.earlier.last() else {
            return if number <= 1 {
                Verdict::NeedMore
            } else {
                Verdict::No
            };
        };
        match block(earlier.head(), earlier.len as usize) {
            Some((before, was_data)) if earlier.side != seen.side && was_data != is_data => {
                let is_next = number == before || is_data && number == before.wrapping_add(1);
                if is_next { Verdict::CERTAIN } else { Verdict::No }
            }
            // Sent once more.
            Some((before, _)) if before == number => Verdict::NeedMore,
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Requests)
    }
}

impl Protocol for Transfer {
    fn name(&self) -> &'static str {
        "tftp"
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, _: &Seen<'_>) -> Verdict {
        Verdict::No
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

#[derive(Debug)]
struct Requests;

impl Session for Requests {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let Some(request) = Request::of(bytes) else {
            return Step::Take(bytes.len() as u64);
        };
        let expected = Expected {
            protocol: &Transfer,
            about: Some(text_within(request.file, TEXT_MAX).into()),
        };
        let at = side.index();
        out.expect(Transport::Udp, out.addresses[at], out.ports[at], expected);
        if out.wants_records() {
            let mut fields = Map::new();
            fields.insert("packet".into(), request.packet.into());
            fields.insert("file".into(), text_within(request.file, TEXT_MAX).into());
            fields.insert("mode".into(), Value::from(request.mode));
            out.record_of(side, Record::fields("tftp", fields));
        }
        Step::Take(bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    #[test]
    fn requests() {
        kit::check_datagrams(
            &[(0, b"\0\x01a.txt\0Octet\0"), (1, b"\0\x05\0\x01no\0")],
            Some("tftp"),
            &[(
                "tftp",
                json!({"packet": "read", "file": "a.txt", "mode": "octet"}),
            )],
        );
        kit::check_datagrams(
            &[(0, b"\0\x02a.txt\0netascii\0blksize\x00512\0")],
            Some("tftp"),
            &[(
                "tftp",
                json!({"packet": "write", "file": "a.txt", "mode": "netascii"}),
            )],
        );
        kit::check_datagrams(&[(0, b"\0\x01a.txt\0other\0")], None, &[]);
    }

    #[test]
    fn transfers() {
        let data = [&b"\0\x03\0\x01"[..], &[7; 512]].concat();
        kit::check_datagrams(&[(0, &data), (1, b"\0\x04\0\x01")], Some("tftp"), &[]);
        kit::check_datagrams(&[(0, b"\0\x04\0\0"), (1, &data)], Some("tftp"), &[]);
        kit::check_datagrams(&[(0, &data), (1, b"\0\x04\0\x09")], None, &[]);
    }
}
