//! A small DNS zone (RFC 1035), over UDP and TCP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::super::layout::Host;
use super::{expect_close, unexpected};

/// Longest message over UDP without EDNS.
pub(crate) const UDP_BYTES_MAX: usize = 512;
const HEADER_BYTES: usize = 12;
const CLASS_IN: u16 = 1;
const TTL_SECONDS: u32 = 60;
/// Questions on one TCP connection.
const TCP_QUESTIONS_MAX: u32 = 100;

const CODE_OK: u16 = 0;
const CODE_FORMAT_ERROR: u16 = 1;
const CODE_NO_SUCH_NAME: u16 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    A,
    Txt,
    Aaaa,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Txt => 16,
            Kind::Aaaa => 28,
        }
    }
}

/// Names that exist, and one that does not.
pub(crate) const NAMES: [&str; 4] = [
    "www.lab.test",
    "server.lab.test",
    "client1.lab.test",
    "missing.lab.test",
];

fn lookup(name: &str) -> Option<(Ipv4Addr, Ipv6Addr)> {
    let host = match name.strip_suffix(".lab.test")? {
        "www" | "server" | "ns" => Host::Server,
        "client1" => Host::Client(1),
        "client2" => Host::Client(2),
        "attacker" => Host::Attacker,
        _ => return None,
    };
    Some((host.ipv4(), host.ipv6()))
}

/// A question, ready to send over UDP.
pub(crate) fn question(id: u16, name: &str, kind: Kind) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_BYTES + name.len() + 6);
    // One question, recursion desired.
    for word in [id, 0x0100, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.number().to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message
}

/// The answer to `message`, or `None` for what is too short to be answered.
pub(crate) fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let header = message.get(..HEADER_BYTES)?;
    let Some((name, kind, end)) = parse_question(message) else {
        return Some(reply(header, &[], CODE_FORMAT_ERROR, &[]));
    };
    let asked = message.get(HEADER_BYTES..end)?;
    let Some((v4, v6)) = lookup(&name) else {
        return Some(reply(header, asked, CODE_NO_SUCH_NAME, &[]));
    };
    let data = match kind {
        1 => v4.octets().to_vec(),
        28 => v6.octets().to_vec(),
        16 => b"\x0aweir lab 1".to_vec(),
        _ => Vec::new(),
    };
    let mut record = Vec::new();
    if !data.is_empty() {
        // A pointer to the name in the question.
        record.extend([0xc0, HEADER_BYTES as u8]);
        record.extend(kind.to_be_bytes());
        record.extend(CLASS_IN.to_be_bytes());
        record.extend(TTL_SECONDS.to_be_bytes());
        record.extend((data.len() as u16).to_be_bytes());
        record.extend(data);
    }
    Some(reply(header, asked, CODE_OK, &record))
}

fn reply(header: &[u8], asked: &[u8], code: u16, record: &[u8]) -> Vec<u8> {
    let mut message = header[..2].to_vec();
    // Response, authoritative, recursion desired.
    let flags = 0x8500 | code;
    let questions = u16::from(!asked.is_empty());
    let records = u16::from(!record.is_empty());
    for word in [flags, questions, records, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    message.extend(asked);
    message.extend(record);
    message
}

/// Name in lower case, type, and where the question ends.
fn parse_question(message: &[u8]) -> Option<(String, u16, usize)> {
    let mut name = String::new();
    let mut at = HEADER_BYTES;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = message.get(at..at + length).filter(|_| length < 64)?;
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&std::str::from_utf8(label).ok()?.to_ascii_lowercase());
        at += length;
        if name.len() > 253 {
            return None;
        }
    }
    let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
    message.get(at + 2..at + 4)?;
    Some((name, kind, at + 4))
}

/// Whether `message` answers the question with this id: with a record, or with "no such name".
pub(crate) fn is_answer(message: &[u8], id: u16) -> bool {
    let word = |at: usize| {
        message
            .get(at..at + 2)
            .map_or(0, |two| u16::from_be_bytes([two[0], two[1]]))
    };
    let code = word(2) & 0xf;
    message.len() >= HEADER_BYTES
        && word(0) == id
        && word(2) & 0x8000 != 0
        && (code == CODE_NO_SUCH_NAME || (code == CODE_OK && word(6) == 1))
}

/// Server's side over TCP: messages with two bytes of length before them, until the client closes.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    for _ in 0..TCP_QUESTIONS_MAX {
        let length = match stream.read_u16().await {
            Ok(length) => usize::from(length),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        };
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await?;
        let answer = answer(&message).ok_or_else(|| unexpected("a DNS message"))?;
        stream.write_all(&framed(&answer)).await?;
    }
    stream.shutdown().await
}

/// Client's side over TCP: asks one thing after the other, then closes and waits for the server's close.
pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    questions: &[(u16, &str, Kind)],
) -> io::Result<()> {
    for (id, name, kind) in questions {
        stream.write_all(&framed(&question(*id, name, *kind))).await?;
        let length = usize::from(stream.read_u16().await?);
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await?;
        if !is_answer(&message, *id) {
            return Err(unexpected("a DNS answer"));
        }
    }
    stream.shutdown().await?;
    expect_close(stream).await
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
    framed.extend(message);
    framed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_answered_and_hostile_ones_survived() {
        for (name, kind, expected_end) in [
            ("www.lab.test", Kind::A, &[10, 77, 0, 1][..]),
            ("WWW.lab.test", Kind::Aaaa, &Host::Server.ipv6().octets()[..]),
            ("client1.lab.test", Kind::Txt, b"weir lab 1"),
            ("missing.lab.test", Kind::A, b"\0\x01\0\x01"),
        ] {
            let asked = question(7, name, kind);
            let answered = answer(&asked).expect("an answer");
            assert!(is_answer(&answered, 7), "{name}");
            assert!(!is_answer(&answered, 8), "{name}");
            assert!(answered.ends_with(expected_end), "{name}");
            for end in 0..asked.len() {
                let answered = answer(&asked[..end]);
                assert_eq!(answered.is_some(), end >= HEADER_BYTES);
                assert!(!answered.is_some_and(|message| is_answer(&message, 7)));
            }
        }
    }
}
