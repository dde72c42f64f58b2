//! Chains of blocks: Ethereum's peers, Bitcoin's, and miners with their pools.

use memchr::memmem;

use crate::layer7::protocol::{Named, Seen, Side, Transport, Verdict};
use crate::layer7::reader::Reader;

/// Ethereum: finding peers (discv4, discv5's handshake aside) and their encrypted transport (RLPx, EIP-8).
pub(super) const ETHEREUM: Named = Named {
    name: "ethereum",
    ports: &[30303, 30301, 30304],
    transports: &[Transport::Udp, Transport::Tcp],
    probe: |seen| match seen.transport {
        Transport::Udp => discovery(seen.newest()),
        _ => rlpx(seen),
    },
};

/// Digest, signature, kind, and a list as RLP has it.
fn discovery(bytes: &[u8]) -> Verdict {
    const SIGNATURE_END: usize = 32 + 65;
    let Some(&[recovery, kind, list, ..]) = bytes.get(SIGNATURE_END - 1..) else {
        return Verdict::No;
    };
    let rest = bytes.len() - SIGNATURE_END - 2;
    let list_len = match list {
        0xc0..=0xf7 => usize::from(list - 0xc0),
        0xf8 => match bytes.get(SIGNATURE_END + 2) {
            Some(&len) => usize::from(len) + 1,
            None => return Verdict::No,
        },
        0xf9 => match bytes.get(SIGNATURE_END + 2..SIGNATURE_END + 4) {
            Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])) + 2,
            _ => return Verdict::No,
        },
        _ => return Verdict::No,
    };
    if recovery <= 1 && (1..=6).contains(&kind) && list_len > 0 && list_len <= rest {
        Verdict::CERTAIN
    } else {
        Verdict::No
    }
}

/// The opening of a connection: its length, and a public key in the clear that begins with 4.
fn rlpx(seen: &Seen<'_>) -> Verdict {
    let is_hello = |bytes: &[u8]| match *bytes {
        [high, low, mark, ..] => {
            let len = usize::from(u16::from_be_bytes([high, low]));
            Some((194..=1024).contains(&len) && mark == 4)
        }
        [high, ..] => (high > 4).then_some(false),
        [] => None,
    };
    match (is_hello(seen.client()), is_hello(seen.server())) {
        (Some(false), _) | (_, Some(false)) => Verdict::No,
        (Some(true), Some(true)) => Verdict::CERTAIN,
        (Some(true), None) | (None, Some(true)) if seen.has_port(30303) => Verdict::CERTAIN,
        (None, None) | (Some(true), None) | (None, Some(true)) => Verdict::NeedMore,
    }
}

/// Miners and their pools, JSON in lines (Stratum), also as Ethereum's pools speak it.
pub(super) const STRATUM: Named = Named {
    name: "stratum",
    ports: &[3333, 3334, 4444, 14444, 9999],
    transports: &[Transport::Tcp],
    probe: |seen| {
        const METHODS: [&[u8]; 10] = [
            b"\"mining.",
            b"\"eth_submitLogin\"",
            b"\"eth_submitWork\"",
            b"\"eth_getWork\"",
            b"\"eth_submitHashrate\"",
            b"\"eth_login\"",
            b"\"getjob\"",
            b"\"keepalived\"",
            b"\"job_id\"",
            b"\"agent\":\"",
        ];
        let (client, server) = (seen.client(), seen.server());
        let could_be = |bytes: &[u8]| matches!(bytes.first(), None | Some(b'{'));
        if !could_be(client) || !could_be(server) {
            return Verdict::No;
        }
        let has_method = METHODS
            .iter()
            .any(|method| memmem::find(client, method).is_some() || memmem::find(server, method).is_some());
        let is_login =
            memmem::find(client, b"\"login\"").is_some() && memmem::find(client, b"\"pass\"").is_some();
        if has_method || is_login {
            return Verdict::certain(if client.is_empty() {
                Side::Server
            } else {
                Side::Client
            });
        }
        if memchr::memchr(b'\n', client).is_some() || client.len() > 1024 || server.len() > 1024 {
            return Verdict::No;
        }
        Verdict::NeedMore
    },
};

/// Bitcoin: the magic number of a network, a command's name, zeros up to twelve bytes.
pub(super) const BITCOIN: Named = Named {
    name: "bitcoin",
    ports: &[8333, 18333],
    transports: &[Transport::Tcp],
    probe: |seen| {
        const MAGICS: [[u8; 4]; 4] = [
            [0xf9, 0xbe, 0xb4, 0xd9],
            [0x0b, 0x11, 0x09, 0x07],
            [0xfa, 0xbf, 0xb5, 0xda],
            [0x1c, 0x16, 0x3f, 0x28],
        ];
        let bytes = seen.newest();
        let len = bytes.len().min(4);
        if !MAGICS.iter().any(|magic| magic[..len] == bytes[..len]) {
            return Verdict::No;
        }
        let mut reader = Reader::new(bytes);
        let Some(command) = reader.skip(4).and_then(|()| reader.array::<12>()) else {
            return Verdict::NeedMore;
        };
        let name_len = command.iter().position(|&byte| byte == 0).unwrap_or(12);
        let (name, padding) = command.split_at(name_len);
        if name_len > 0 && name.iter().all(u8::is_ascii_lowercase) && padding.iter().all(|&byte| byte == 0) {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    },
};

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        let ping = [&[7; 32][..], &[8; 64], b"\x01\x01\xc4\x01\x02\x03\x04"].concat();
        kit::check_datagrams(&[(0, &ping)], Some("ethereum"), &[]);
        kit::check_datagrams(&[(0, &ping[..100])], None, &[]);
        let hello = [b"\x01\xed\x04", &[9; 490][..]].concat();
        kit::check_stream(&[(0, &hello), (1, &hello)], Some("ethereum"), &[]);
        let subscribe = b"{\"id\": 1, \"method\": \"mining.subscribe\", \"params\": []}\n";
        kit::check_stream(&[(0, subscribe)], Some("stratum"), &[]);
        kit::check_stream(&[(0, b"{\"id\": 1, \"a\": \"b\"}\n")], None, &[]);
        kit::check_stream(
            &[(0, b"\xf9\xbe\xb4\xd9version\0\0\0\0\0\x64\0\0\0")],
            Some("bitcoin"),
            &[],
        );
    }
}
