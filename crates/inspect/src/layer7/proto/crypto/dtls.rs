//! DTLS 1.0, 1.2 and 1.3 (RFC 4347, 6347, 9147), up to where the handshake goes on encrypted.

use std::collections::BTreeMap;

use crate::layer7::cursor::Cursor;
use crate::layer7::ja4::Carrier;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::record::{Anomaly, Severity};

use super::assemble::Assembler;
use super::handshake::{After, Handshake, MESSAGE_MAX, is_message, message};

#[derive(Debug)]
pub(in crate::layer7::proto) struct Dtls;

const HEADER_LEN: usize = 13;
const RECORD_MAX: u16 = (1 << 14) + 2048;
/// Handshake messages of one side that are put together at once.
const MESSAGES_MAX: usize = 8;
/// Datagrams that are looked at without an end of the handshake.
const DATAGRAMS_MAX: u32 = 64;

impl Protocol for Dtls {
    fn name(&self) -> &'static str {
        "dtls"
    }

    fn ports(&self) -> &'static [u16] {
        &[443, 853, 4433, 5684]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport != Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let bytes = seen.newest();
        let (Some(20..=23), Some((0xfe, 0xff | 0xfd) | (1, 0))) =
            (bytes.first(), bytes.get(1).copied().zip(bytes.get(2).copied()))
        else {
            return Verdict::No;
        };
        let Some(records) = Record::all(bytes, seen.is_whole) else {
            return Verdict::No;
        };
        let Some(first) = records.first() else {
            return Verdict::No;
        };
        let is_hello = first.epoch == 0 && first.kind == 22;
        match first.body.first() {
            Some(&kind) if is_hello && first.body.len() >= 12 && is_fragment(first.body) => match kind {
                message::CLIENT_HELLO => Verdict::certain(seen.side),
                message::SERVER_HELLO | message::HELLO_VERIFY_REQUEST | message::CERTIFICATE => {
                    Verdict::certain(seen.side.other())
                }
                _ => Verdict::LIKELY,
            },
            Some(_) if is_hello => Verdict::No,
            // Joined in the middle.
            _ if first.epoch == 1 || first.epoch == 0 && first.kind != 23 => Verdict::LIKELY,
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(DtlsSession {
            handshake: Handshake::new(Carrier::Dtls),
            messages: Default::default(),
            datagrams: 0,
            is_reversed: false,
        })
    }
}

struct Record<'a> {
    kind: u8,
    epoch: u16,
    body: &'a [u8],
}

impl<'a> Record<'a> {
    /// The records of a datagram; `None` if it holds anything else. The last may be cut by the capture.
    fn all(bytes: &'a [u8], is_whole: bool) -> Option<Vec<Self>> {
        let mut records = Vec::new();
        let mut rest = Cursor::new(bytes);
        while !rest.is_empty() {
            if rest.rest()[0] >> 5 == 1 && !records.is_empty() {
                // From here on the headers of DTLS 1.3 are encrypted.
                break;
            }
            if rest.len() < HEADER_LEN {
                return (!is_whole).then_some(records);
            }
            let kind = rest.u8()?;
            let version = rest.u16()?;
            let epoch = rest.u16()?;
            rest.take(6)?;
            let len = rest.u16()?;
            if !matches!(kind, 20..=26) || !matches!(version, 0xfeff | 0xfefd | 0x0100) || len > RECORD_MAX {
                return None;
            }
            let body = match rest.take(len.into()) {
                Some(body) => body,
                None if is_whole => return None,
                None => rest.take(rest.len())?,
            };
            records.push(Record { kind, epoch, body });
        }
        Some(records)
    }
}

/// Whether a handshake record begins with a fragment that lies within its message.
fn is_fragment(body: &[u8]) -> bool {
    let mut body = Cursor::new(body);
    let mut read = || Some((body.u8()?, body.u24()?, body.u16()?, body.u24()?, body.u24()?));
    read().is_some_and(|(kind, len, _, offset, fragment_len)| {
        is_message(kind) && len as usize <= MESSAGE_MAX && offset.saturating_add(fragment_len) <= len
    })
}

struct DtlsSession {
    handshake: Handshake,
    /// Messages that are not whole, by their number, of each side.
    messages: [BTreeMap<u16, Assembler>; 2],
    datagrams: u32,
    /// The flow's server says the client's hello, as happens where STUN came before.
    is_reversed: bool,
}

impl Session for DtlsSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        self.datagrams += 1;
        if self.datagrams > DATAGRAMS_MAX {
            return Step::Done;
        }
        // Media share the port: what is no record is passed over.
        let records = Record::all(bytes, false).unwrap_or_default();
        if side == Side::Server && !self.handshake.has_client() && !self.handshake.has_server() {
            let is_hello = |record: &Record<'_>| {
                record.kind == 22 && record.body.first() == Some(&message::CLIENT_HELLO)
            };
            self.is_reversed |= records.first().is_some_and(is_hello);
        }
        let side = if self.is_reversed { side.other() } else { side };
        for record in records {
            match self.record(side, &record, out) {
                Ok(After::More) => {}
                Ok(After::Over) => return Step::Done,
                Err(anomaly) => return Step::Broken(anomaly),
            }
        }
        Step::Take(bytes.len() as u64)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        self.handshake.tell(self.is_reversed, out);
    }
}

impl DtlsSession {
    fn record(&mut self, side: Side, record: &Record<'_>, out: &mut Out<'_>) -> Result<After, Anomaly> {
        if record.epoch != 0 {
            let is_over = side == Side::Server || !self.handshake.has_client();
            return Ok(if is_over { After::Over } else { After::More });
        }
        match record.kind {
            20 if side == Side::Server => {
                self.handshake.server_encrypts();
                Ok(After::Over)
            }
            21 => match *record.body {
                [2, description] => {
                    self.handshake.alert(description);
                    Ok(After::Over)
                }
                _ => Ok(After::More),
            },
            22 => self.fragments(side, record.body, out),
            _ => Ok(After::More),
        }
    }

    fn fragments(&mut self, side: Side, body: &[u8], out: &mut Out<'_>) -> Result<After, Anomaly> {
        const BROKEN: Anomaly = Anomaly::parser("invalid_handshake_message", Severity::Medium);
        let mut rest = Cursor::new(body);
        while rest.len() >= 12 {
            if !is_fragment(rest.rest()) {
                return Err(BROKEN);
            }
            let kind = rest.u8().ok_or(BROKEN)?;
            let len = rest.u24().ok_or(BROKEN)? as usize;
            let number = rest.u16().ok_or(BROKEN)?;
            let offset = rest.u24().ok_or(BROKEN)? as usize;
            let fragment_len = rest.u24().ok_or(BROKEN)? as usize;
            let Some(fragment) = rest.take(fragment_len) else {
                // Cut by the capture.
                return Ok(After::More);
            };
            let after = if fragment.len() == len {
                self.handshake.message(side, kind, fragment, out)?
            } else {
                self.fragment(side, (kind, number), len, offset, fragment, out)?
            };
            if after == After::Over {
                return Ok(After::Over);
            }
        }
        Ok(After::More)
    }

    fn fragment(
        &mut self,
        side: Side,
        (kind, number): (u8, u16),
        len: usize,
        offset: usize,
        fragment: &[u8],
        out: &mut Out<'_>,
    ) -> Result<After, Anomaly> {
        let messages = &mut self.messages[side.index()];
        if messages.len() >= MESSAGES_MAX && !messages.contains_key(&number) {
            return Ok(After::More);
        }
        let message = messages.entry(number).or_default();
        if !message.insert(offset, fragment, len) {
            messages.remove(&number);
            return Ok(After::More);
        }
        if message.prefix().len() < len {
            return Ok(After::More);
        }
        let whole = messages.remove(&number).unwrap_or_default();
        self.handshake.message(side, kind, whole.prefix(), out)
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    fn fragment(kind: u8, number: u16, message: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
        let u24 = |n: usize| (n as u32).to_be_bytes()[1..].to_vec();
        let body = [
            vec![kind],
            u24(message.len()),
            number.to_be_bytes().to_vec(),
            u24(range.start),
            u24(range.len()),
            message[range].to_vec(),
        ]
        .concat();
        record(22, 0, &body)
    }

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 1];
        out.extend((body.len() as u16).to_be_bytes());
        out.extend(body);
        out
    }

    /// The hello of the TLS tests with a cookie, as DTLS 1.2 has it.
    fn hello() -> Vec<u8> {
        let tls = crate::layer7::ja4::tests::hello();
        [&[0xfe, 0xfd], &tls[2..35], &[2, 1, 2], &tls[35..]].concat()
    }

    fn server_hello() -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend([9; 32]);
        body.extend([0, 0xc0, 0x2b, 0]);
        body
    }

    #[test]
    fn fragments_in_any_order() {
        let hello = hello();
        let whole = fragment(1, 1, &hello, 0..hello.len());
        let server = [
            fragment(2, 0, &server_hello(), 0..server_hello().len()),
            record(20, 0, &[1]),
        ]
        .concat();
        let expected = kit::datagrams(9, &[(0, &whole), (1, &server)]);
        assert_eq!(expected.insight.app, Some("dtls"));
        assert_eq!(expected.insight.host.as_deref(), Some("example.org"));
        let bodies = expected.bodies();
        assert_eq!(bodies.len(), 1);
        assert_eq!(bodies[0].1["version"], "DTLS 1.2");
        assert_eq!(bodies[0].1["ja4"].as_str().map(|ja4| &ja4[..3]), Some("dd2"));
        let first = fragment(1, 1, &hello, 0..60);
        let last = fragment(1, 1, &hello, 50..hello.len());
        let verify = fragment(3, 0, &[0xfe, 0xff, 2, 1, 2], 0..5);
        for said in [
            &[(0, &first[..]), (0, &last), (1, &server)][..],
            &[(0, &last), (1, &verify), (0, &first), (1, &server)],
        ] {
            kit::check_datagrams(said, Some("dtls"), &bodies);
        }
    }

    #[test]
    fn joined_in_the_middle() {
        let data = record(23, 1, &[7; 40]);
        kit::check_datagrams(&[(0, &data), (1, &data)], Some("dtls"), &[]);
        kit::check_datagrams(&[(0, &record(22, 0, &[1; 30]))], None, &[]);
        kit::check_datagrams(&[(0, &data[..data.len() - 1])], None, &[]);
    }
}
