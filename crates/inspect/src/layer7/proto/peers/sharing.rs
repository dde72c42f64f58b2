//! Files and music shared: eDonkey, Gnutella, Dropbox and Spotify on the local network.

use memchr::memmem;

use crate::layer7::protocol::{Named, Transport, Verdict};

/// eDonkey and eMule: a marker, the length, and a hello with the size of a hash.
pub(super) const EDONKEY: Named = Named {
    name: "edonkey",
    ports: &[4662, 4661],
    transports: &[Transport::Tcp],
    probe: |seen| {
        let bytes = seen.newest();
        if !matches!(bytes.first(), None | Some(0xe3 | 0xc5 | 0xd4)) {
            return Verdict::No;
        }
        let Some(&[_, a, b, c, d, opcode, next]) = bytes.first_chunk::<7>() else {
            return Verdict::NeedMore;
        };
        let len = u32::from_le_bytes([a, b, c, d]);
        let is_hello = matches!((opcode, next), (0x01, 0x10) | (0x4c, _));
        match (is_hello && (20..8192).contains(&len), seen.has_port(4662)) {
            (true, _) => Verdict::CERTAIN,
            (false, true) if (1..65_536).contains(&len) && bytes[0] == 0xe3 => Verdict::LIKELY,
            _ => Verdict::No,
        }
    },
};

/// Gnutella's handshake.
pub(super) const GNUTELLA: Named = Named {
    name: "gnutella",
    ports: &[6346, 6347],
    transports: &[Transport::Tcp, Transport::Udp],
    probe: |seen| {
        let bytes = seen.newest();
        if seen.transport == Transport::Udp {
            return if bytes.starts_with(b"GND\x02") || bytes.starts_with(b"GND\x01") {
                Verdict::CERTAIN
            } else {
                Verdict::No
            };
        }
        for text in [&b"GNUTELLA CONNECT/0."[..], b"GNUTELLA/0."] {
            let len = bytes.len().min(text.len());
            if bytes[..len] == text[..len] {
                return if len == text.len() {
                    Verdict::CERTAIN
                } else {
                    Verdict::NeedMore
                };
            }
        }
        Verdict::No
    },
};

/// Dropbox looks for others of the same account.
pub(super) const DROPBOX: Named = Named {
    name: "dropbox",
    ports: &[17500],
    transports: &[Transport::Udp],
    probe: |seen| {
        let bytes = seen.newest();
        let is_json = bytes.first() == Some(&b'{');
        if is_json && seen.has_port(17500) && memmem::find(bytes, b"\"host_int\"").is_some() {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    },
};

/// Spotify: looking for others, and the access point's greeting.
pub(super) const SPOTIFY: Named = Named {
    name: "spotify",
    ports: &[57621, 4070],
    transports: &[Transport::Udp, Transport::Tcp],
    probe: |seen| {
        if seen.transport == Transport::Udp {
            return if seen.newest().starts_with(b"SpotUdp") {
                Verdict::CERTAIN
            } else {
                Verdict::No
            };
        }
        // Version, length, and the first field of a client's hello.
        seen.opened_by_either(|bytes| match *bytes {
            [0, 4, 0, 0, _, _, 0x52, _, 0x50, ..] => Verdict::CERTAIN,
            [0, 4, 0, 0, ..] | [0, 4, 0] | [0, 4] | [0] if bytes.len() < 9 && seen.has_port(4070) => {
                Verdict::NeedMore
            }
            _ => Verdict::No,
        })
    },
};

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        kit::check_stream(
            &[(0, b"\xe3\x30\0\0\0\x01\x10abcdefghijklmnop")],
            Some("edonkey"),
            &[],
        );
        kit::check_stream(&[(0, b"GNUTELLA CONNECT/0.6\r\n\r\n")], Some("gnutella"), &[]);
        kit::check_stream(&[(0, b"GNUTELLA LIKES")], None, &[]);
        let found = b"{\"version\": [2, 0], \"port\": 17500, \"host_int\": 7}";
        kit::check_datagrams_to(17500, &[(0, found)], Some("dropbox"), &[]);
        kit::check_datagrams(&[(0, b"SpotUdp0\xa5\x5a")], Some("spotify"), &[]);
        let hello = b"\0\x04\0\0\x01\x49\x52\x0f\x50\x02";
        let outcome = kit::run(6, 4070, &[(0, hello)], |_, len| vec![1; len]);
        assert_eq!(outcome.insight.app, Some("spotify"));
    }
}
