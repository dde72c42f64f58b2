//! Games, by the engines and networks under them.

use memchr::memmem;

use crate::layer7::protocol::{Named, Transport, Verdict};
use crate::layer7::reader::Reader;

const UDP: &[Transport] = &[Transport::Udp];

/// RakNet: packets before a connection carry its magic number.
pub(super) const RAKNET: Named = Named {
    name: "raknet",
    ports: &[19132, 19133],
    transports: UDP,
    probe: |seen| {
        const MAGIC: &[u8] = b"\0\xff\xff\0\xfe\xfe\xfe\xfe\xfd\xfd\xfd\xfd\x12\x34\x56\x78";
        let bytes = seen.newest();
        let at = match bytes.first() {
            // Ping, request and reply to open, and refusals; some put two bytes before.
            Some(1 | 2) => 9..10,
            Some(0x1c) => 17..18,
            Some(0x80..=0x8d) if raknet_frames(&bytes[1..]).is_some() => return Verdict::CERTAIN,
            Some(0xa0 | 0xc0) if raknet_numbers(&bytes[1..]).is_some() => return Verdict::CERTAIN,
            Some(5..=8 | 0x60..=0x7f) => 1..4,
            Some(0x11 | 0x12 | 0x14 | 0x17 | 0x19..=0x1b) => 1..10,
            _ => return Verdict::No,
        };
        // The first bytes of the number differ between versions.
        let is_magic = |at: usize| bytes.get(at + 4..at + 16) == Some(&MAGIC[4..]);
        if at.into_iter().any(is_magic) {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    },
};

/// Frames of a connection that fill the datagram.
fn raknet_frames(bytes: &[u8]) -> Option<()> {
    let mut reader = Reader::new(bytes);
    let _number = reader.array::<3>()?;
    loop {
        let flags = reader.u8()?;
        let bits = usize::from(reader.be16()?);
        // Numbers of what is reliable, sequenced and ordered; then of the parts of what was split.
        let numbers_len = match flags >> 5 {
            0 | 5 => 0,
            2 | 6 => 3,
            1 | 3 | 7 => 7,
            _ => 10,
        };
        let split_len = if flags & 0x10 != 0 { 10 } else { 0 };
        if flags & 0x0f > 8 || bits == 0 {
            return None;
        }
        reader.skip(numbers_len + split_len + bits.div_ceil(8))?;
        if reader.is_empty() {
            return Some(());
        }
    }
}

/// Numbers of packets that came, or did not, alone and in ranges, as many as are said.
fn raknet_numbers(bytes: &[u8]) -> Option<()> {
    let mut reader = Reader::new(bytes);
    let count = reader.be16().filter(|count| *count > 0)?;
    for _ in 0..count {
        match reader.u8()? {
            0 => reader.skip(6)?,
            1 => reader.skip(3)?,
            _ => return None,
        }
    }
    reader.is_empty().then_some(())
}

/// Questions to servers of the Source engine, and what they answer (Valve's "Server queries").
pub(super) const SOURCE: Named = Named {
    name: "source-engine",
    ports: &[27015, 27016, 27017, 27018, 27019, 27020],
    transports: UDP,
    probe: |seen| {
        let Some(rest) = seen.newest().strip_prefix(b"\xff\xff\xff\xff") else {
            return Verdict::No;
        };
        let has_port = (27000..=27050).any(|port| seen.has_port(port));
        match *rest {
            [b'T', ref text @ ..] if text.starts_with(b"Source Engine Query\0") => {
                Verdict::certain(seen.side)
            }
            [b'U' | b'V', _, _, _, _] | [b'W' | b'i'] if has_port => Verdict::certain(seen.side),
            [b'A', _, _, _, _] | [b'I', 17, ..] | [b'D' | b'E', _, _, ..] if has_port => {
                Verdict::certain(seen.side.other())
            }
            _ => Verdict::No,
        }
    },
};

/// Steam: clients that look for each other (remote play), and connections to its servers.
pub(super) const STEAM: Named = Named {
    name: "steam",
    ports: &[27036, 27031],
    transports: &[Transport::Udp, Transport::Tcp],
    probe: |seen| {
        let bytes = seen.newest();
        if seen.transport == Transport::Tcp {
            // Length, then the magic number.
            return match bytes.get(4..8) {
                Some(b"VT01") => Verdict::CERTAIN,
                Some(_) => Verdict::No,
                None if bytes.get(2..4).is_none_or(|high| high == [0, 0]) => Verdict::NeedMore,
                None => Verdict::No,
            };
        }
        if bytes.starts_with(b"\xff\xff\xff\xff\x21\x4c\x5f\xa0") || bytes.starts_with(b"VS01") {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    },
};

/// Photon: commands, as many as the header says, fill the packet.
pub(super) const PHOTON: Named = Named {
    name: "photon",
    ports: &[5055, 5056, 5058],
    transports: UDP,
    probe: |seen| {
        let mut reader = Reader::new(seen.newest());
        let head = (|| {
            let _peer = reader.be16()?;
            let checksum = reader.u8()?;
            let commands = reader.u8()?;
            reader.skip(8)?;
            if checksum == 0xcc {
                reader.skip(4)?;
            }
            (matches!(checksum, 0 | 1 | 0xcc) && (1..=64).contains(&commands)).then_some(commands)
        })();
        let Some(commands) = head else {
            return Verdict::No;
        };
        for _ in 0..commands {
            let command = (|| {
                let kind = reader.u8()?;
                reader.skip(3)?;
                let len = reader.be32()? as usize;
                let _number = reader.be32()?;
                let len_min = match kind {
                    1 => 20,
                    2 | 3 => 44,
                    4 | 5 => 12,
                    6..=16 => 12,
                    _ => return None,
                };
                if len < len_min {
                    return None;
                }
                reader.skip(len - 12)
            })();
            if command.is_none() {
                return Verdict::No;
            }
        }
        if reader.is_empty() {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    },
};

/// Nintendo's Pia, between consoles.
pub(super) const NINTENDO: Named = Named {
    name: "nintendo",
    ports: &[],
    transports: UDP,
    probe: |seen| match *seen.newest() {
        [0x32, 0xab, 0x98, 0x64, version, ..] if version & 0x7f <= 16 => Verdict::CERTAIN,
        _ => Verdict::No,
    },
};

/// netcode.io, as yojimbo uses it: a request to connect names the version.
pub(super) const YOJIMBO: Named = Named {
    name: "yojimbo",
    ports: &[40000],
    transports: UDP,
    probe: |seen| {
        if seen.newest().starts_with(b"\0NETCODE 1.0") {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    },
};

/// How World of Warcraft's ends greet, behind the length.
const GREETING: &[u8] = b"WORLD OF WARCRAFT CONNECTION";

/// World of Warcraft: the challenge of the log-in names the game, as the greeting of the world does.
pub(super) const WARCRAFT: Named = Named {
    name: "world-of-warcraft",
    ports: &[3724],
    transports: &[Transport::Tcp],
    probe: |seen| match *seen.client() {
        // The world's server greets first, and the client greets back.
        _ if seen
            .data
            .iter()
            .any(|bytes| bytes.get(2..).is_some_and(|text| text.starts_with(GREETING))) =>
        {
            Verdict::CERTAIN
        }
        [] if seen.has_port(3724) => Verdict::NeedMore,
        [0x30, ..] if seen.client().len() < 2 + GREETING.len() && seen.has_port(3724) => Verdict::NeedMore,
        [0 | 2, ref rest @ ..] if rest.len() < 7 => {
            let name = rest.get(3..).unwrap_or_default();
            if seen.has_port(3724) && b"WoW\0".starts_with(name) {
                Verdict::NeedMore
            } else {
                Verdict::No
            }
        }
        [0 | 2, _, _, _, b'W', b'o', b'W', 0, ..] if seen.has_port(3724) => Verdict::CERTAIN,
        _ => Verdict::No,
    },
};

/// Minecraft's handshake, in the versions since 1.7.
pub(super) const MINECRAFT: Named = Named {
    name: "minecraft",
    ports: &[25565],
    transports: &[Transport::Tcp],
    probe: |seen| {
        let bytes = seen.client();
        if !seen.has_port(25565) {
            return Verdict::No;
        }
        let mut reader = Reader::new(bytes);
        // Length, packet 0, version in one to five bytes, the server's name, its port, what for.
        let (Some(len), Some(kind)) = (reader.u8(), reader.u8()) else {
            return Verdict::NeedMore;
        };
        if kind != 0 || !(8..0x80).contains(&len) {
            return Verdict::No;
        }
        if bytes.len() <= usize::from(len) {
            return Verdict::NeedMore;
        }
        for _ in 0..5 {
            if reader.u8().is_some_and(|byte| byte & 0x80 == 0) {
                break;
            }
        }
        let name = reader.piece8();
        let next = reader.be16().and_then(|_port| reader.u8());
        if name.is_some() && matches!(next, Some(1..=3)) {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    },
};

/// Quake and its heirs: commands as text without a connection.
pub(super) const QUAKE: Named = Named {
    name: "quake",
    ports: &[27960, 27950, 26000],
    transports: UDP,
    probe: |seen| {
        const WORDS: [&[u8]; 8] = [
            b"getinfo",
            b"getstatus",
            b"getchallenge",
            b"statusResponse",
            b"infoResponse",
            b"challengeResponse",
            b"connectResponse",
            b"getservers",
        ];
        let Some(rest) = seen.newest().strip_prefix(b"\xff\xff\xff\xff") else {
            return Verdict::No;
        };
        if WORDS.iter().any(|word| rest.starts_with(word)) && memmem::find(rest, b"HTTP").is_none() {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    },
};

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[track_caller]
    fn check(port: u16, bytes: &[u8], app: Option<&str>) {
        kit::check_datagrams_to(port, &[(0, bytes)], app, &[]);
    }

    #[test]
    fn recognised() {
        check(9, b"\x84\x02\0\0\0\0\x08\x03", Some("raknet"));
        check(9, b"\x84\x02\0\0\0\0\x10\x03", None);
        check(9, b"\xc0\0\x01\x01\0\0\0", Some("raknet"));
        check(9, b"\xc0\0\x02\x01\0\0\0", None);
        check(
            9,
            b"\x05\0\xff\xff\0\xfe\xfe\xfe\xfe\xfd\xfd\xfd\xfd\x12\x34\x56\x78\x06\0\0",
            Some("raknet"),
        );
        check(
            9,
            b"\xff\xff\xff\xffTSource Engine Query\0",
            Some("source-engine"),
        );
        check(9, b"\xff\xff\xff\xffU\0\0\0\0", None);
        check(27015, b"\xff\xff\xff\xffU\0\0\0\0", Some("source-engine"));
        check(9, b"\xff\xff\xff\xff\x21\x4c\x5f\xa0\x16\0\0\0", Some("steam"));
        check(9, b"\xff\xff\xff\xffgetstatus\n", Some("quake"));
        let ping = b"\0\x01\0\x01\0\0\0\x04\x22\xb6\xe6\xba\x05\xff\x01\0\0\0\0\x0c\0\0\0\x01";
        check(9, ping, Some("photon"));
        check(9, &ping[..23], None);
        check(9, b"\x32\xab\x98\x64\x02\x56\x02\x03", Some("nintendo"));
        check(9, b"\0NETCODE 1.02\0\0\0", Some("yojimbo"));
        kit::check_stream(&[(0, b"\0\x03\x1e\0WoW\0\x03\0\0")], None, &[]);
        let outcome = kit::run(6, 3724, &[(0, b"\0\x03\x1e\0WoW\0\x03\0\0")], |_, _| Vec::new());
        assert_eq!(outcome.insight.app, Some("world-of-warcraft"));
        let shake = b"\x10\0\x47\x09localhost\x63\xdd\x01\x01\0";
        let outcome = kit::run(6, 25565, &[(0, shake)], |_, _| Vec::new());
        assert_eq!(outcome.insight.app, Some("minecraft"));
    }
}
