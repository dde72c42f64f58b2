//! Voice and video of applications with a protocol of their own.

use crate::layer7::protocol::{Named, Transport, Verdict};

const UDP: &[Transport] = &[Transport::Udp];

/// Discord's voice: finding one's own address, and keeping the way open.
pub(super) const DISCORD: Named = Named {
    name: "discord",
    ports: &[],
    transports: UDP,
    probe: |seen| {
        const DISCOVERY_LEN: usize = 74;
        match *seen.newest() {
            [0x13, 0x37, 0xca, 0xfe, _, 0, 0, 0] => Verdict::CERTAIN,
            // Request and answer: type, length, source, address as text, port.
            [0, 1 | 2, 0, 70, ..] if seen.newest().len() == DISCOVERY_LEN => Verdict::CERTAIN,
            _ => Verdict::No,
        }
    },
};

/// TeamSpeak 3: the handshake's packets say so.
pub(super) const TEAMSPEAK: Named = Named {
    name: "teamspeak",
    ports: &[9987],
    transports: UDP,
    probe: |seen| {
        if seen.newest().starts_with(b"TS3INIT1") {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    },
};

/// Zoom: packets of its servers, which wrap RTP.
pub(super) const ZOOM: Named = Named {
    name: "zoom",
    ports: &[8801, 8802, 8803, 8804, 8805, 8806, 8807, 8808, 8809, 8810],
    transports: UDP,
    probe: |seen| {
        if !(8801..=8810).any(|port| seen.has_port(port)) || seen.newest().len() < 16 {
            return Verdict::No;
        }
        let bytes = seen.newest();
        match bytes[0] {
            // Joining, and its answer.
            1 | 2 if bytes[1..3] == [0, 3] || bytes[1..3] == [0, 2] => Verdict::CERTAIN,
            // Media: screen, sound, video, and reports.
            5 if matches!(bytes[8], 13 | 15 | 16 | 21 | 30 | 33 | 34 | 35) => Verdict::CERTAIN,
            5 if bytes[8] <= 4 => Verdict::LIKELY,
            _ => Verdict::No,
        }
    },
};

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        kit::check_datagrams(&[(0, b"\x13\x37\xca\xfe\x0e\0\0\0")], Some("discord"), &[]);
        kit::check_datagrams(&[(0, b"\x13\x37\xca\xfe\x0e")], None, &[]);
        kit::check_datagrams(&[(0, b"TS3INIT1\0\x65\0\0\x88")], Some("teamspeak"), &[]);
        let join = b"\x01\0\x03\xc8\x4a\xc4\x52\x87\x18\xcd\xa2\xb8\x47\x7a\x1b\x89\x9f";
        kit::check_datagrams_to(8801, &[(0, join)], Some("zoom"), &[]);
        kit::check_datagrams(&[(0, join)], None, &[]);
    }
}
