//! Memcached, text and binary, over TCP and UDP (`protocol.txt` and `protocol_binary` of its documentation).

use crate::layer7::protocol::{Named, Seen, Side, Transport, Verdict};

pub(super) static MEMCACHED: Named = Named {
    name: "memcached",
    ports: &[11211],
    transports: &[Transport::Tcp, Transport::Udp],
    probe,
};

/// What a command or a reply in text begins with; those with a blank have arguments.
const COMMANDS: [&[u8]; 16] = [
    b"get ",
    b"gets ",
    b"gat ",
    b"gats ",
    b"set ",
    b"add ",
    b"replace ",
    b"append ",
    b"prepend ",
    b"cas ",
    b"delete ",
    b"incr ",
    b"decr ",
    b"touch ",
    b"stats",
    b"flush_all",
];
const REPLIES: [&[u8]; 8] = [
    b"STORED\r\n",
    b"NOT_STORED\r\n",
    b"VALUE ",
    b"STAT ",
    b"END\r\n",
    b"EXISTS\r\n",
    b"DELETED\r\n",
    b"SERVER_ERROR ",
];
/// Longest line that is waited for.
const LINE_MAX: usize = 300;

fn probe(seen: &Seen<'_>) -> Verdict {
    let has_port = seen.has_port(11211);
    let is_udp = seen.transport == Transport::Udp;
    seen.opened_by_either(|bytes| {
        if matches!(bytes[0], 0x80 | 0x81) && !is_udp {
            return binary(bytes, has_port);
        }
        // A request's number, its part and how many parts there are, and a zero.
        let text = if is_udp {
            match *bytes {
                [
                    _,
                    _,
                    part_high,
                    part_low,
                    parts_high,
                    parts_low,
                    0,
                    0,
                    ref text @ ..,
                ] if [parts_high, parts_low] > [part_high, part_low] => text,
                _ => return Verdict::No,
            }
        } else {
            bytes
        };
        let line = line(text, &COMMANDS, has_port, Side::Client);
        if line == Verdict::No {
            self::line(text, &REPLIES, has_port, Side::Server)
        } else {
            line
        }
    })
}

fn line(text: &[u8], words: &[&[u8]], has_port: bool, speaker: Side) -> Verdict {
    if words
        .iter()
        .any(|word| text.len() < word.len() && word.starts_with(text))
    {
        return Verdict::NeedMore;
    }
    let Some(word) = words.iter().find(|word| text.starts_with(word)) else {
        return Verdict::No;
    };
    let Some(end) = memchr::memchr(b'\n', &text[..text.len().min(LINE_MAX)]) else {
        return if text.len() < LINE_MAX {
            Verdict::NeedMore
        } else {
            Verdict::No
        };
    };
    let Some(rest) = text[..end]
        .strip_suffix(b"\r")
        .and_then(|line| line.get(word.len()..))
    else {
        return if speaker == Side::Server {
            Verdict::likely(Side::Server)
        } else {
            Verdict::No
        };
    };
    let words: Vec<&[u8]> = rest
        .split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty())
        .collect();
    let are_numbers = |range: std::ops::Range<usize>| {
        words
            .get(range)
            .is_some_and(|words| words.iter().all(|word| word.iter().all(u8::is_ascii_digit)))
    };
    let is_printable = rest.iter().all(|byte| (b' '..=b'~').contains(byte));
    let is_certain = match *word {
        b"set " | b"add " | b"replace " | b"append " | b"prepend " | b"cas " | b"VALUE " => {
            let from = usize::from(speaker == Side::Client);
            if !are_numbers(1..3 + from) {
                return Verdict::No;
            }
            true
        }
        b"stats" => rest.is_empty() || rest.starts_with(b" "),
        b"STAT " => words.len() >= 2,
        b"STORED\r\n" | b"NOT_STORED\r\n" => true,
        _ => false,
    };
    match is_printable {
        false => Verdict::No,
        // Over UDP the frame header says it too.
        true if is_certain => Verdict::certain(speaker),
        true if has_port => Verdict::likely(speaker),
        true => Verdict::No,
    }
}

fn binary(bytes: &[u8], has_port: bool) -> Verdict {
    let Some(head) = bytes.first_chunk::<24>() else {
        return Verdict::NeedMore;
    };
    let [magic, op, key_high, key_low, extras, kind, ..] = *head;
    let body_len = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
    let key_len = u16::from_be_bytes([key_high, key_low]);
    let is_ok = op <= 0x48 && kind == 0 && key_len <= 250 && extras <= 20;
    if !is_ok || body_len < u32::from(key_len) + u32::from(extras) || body_len > 1 << 20 || !has_port {
        return Verdict::No;
    }
    let speaker = if magic == 0x80 { Side::Client } else { Side::Server };
    Verdict::likely(speaker)
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        let check = |said: &[kit::Said<'_>], app: Option<&str>| kit::check_stream(said, app, &[]);
        check(&[(0, b"set k 0 60 2\r\nhi\r\n")], Some("memcached"));
        check(&[(0, b"stats\r\n")], Some("memcached"));
        check(&[(0, b"set a b c d\r\n")], None);
        check(&[(0, b"get k\r\n")], None);
        check(&[(0, b"set sail for the harbour\r\n")], None);
        let udp = |datagram: &[u8], app| kit::check_datagrams(&[(0, datagram)], app, &[]);
        udp(b"\0\x01\0\0\0\x01\0\0stats\r\n", Some("memcached"));
        udp(b"\0\x01\0\0\0\0\0\0stats\r\n", None);
    }
}
