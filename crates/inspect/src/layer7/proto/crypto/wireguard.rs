//! WireGuard, Cloudflare's WARP, which writes a client's number where WireGuard has zeros, and what finds the peers
//! of Tailscale and Nebula.

use crate::layer7::protocol::{NameOnly, Named, Protocol, Seen, Session, Transport, Verdict};

#[derive(Debug)]
pub(in crate::layer7::proto) struct WireGuard;

#[derive(Debug)]
pub(in crate::layer7::proto) struct CloudflareWarp;

/// Lengths of initiation, response and cookie reply; transport data has at least the last.
const LENS: [usize; 3] = [148, 92, 64];
const DATA_LEN_MIN: usize = 32;

impl Protocol for WireGuard {
    fn name(&self) -> &'static str {
        "wireguard"
    }

    fn ports(&self) -> &'static [u16] {
        &[51820]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        probe(seen, |reserved| reserved == [0; 3])
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

impl Protocol for CloudflareWarp {
    fn name(&self) -> &'static str {
        "cloudflare-warp"
    }

    fn ports(&self) -> &'static [u16] {
        &[2408]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        // Less is certain in the bytes, so the port has its say.
        if !seen.has_port(2408) {
            return Verdict::No;
        }
        match probe(seen, |_| true) {
            Verdict::Match { client, .. } => Verdict::likely(client),
            other => other,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

fn probe(seen: &Seen<'_>, is_reserved: impl Fn([u8; 3]) -> bool) -> Verdict {
    let bytes = seen.newest();
    let Some(&[kind, a, b, c]) = bytes.first_chunk::<4>() else {
        return Verdict::No;
    };
    if !is_reserved([a, b, c]) {
        return Verdict::No;
    }
    match (kind, bytes.len()) {
        (1, len) if len == LENS[0] => Verdict::certain(seen.side),
        (2, len) if len == LENS[1] => Verdict::certain(seen.side.other()),
        (3, len) if len == LENS[2] => Verdict::likely(seen.side.other()),
        (4, len) if len >= DATA_LEN_MIN && len.is_multiple_of(16) => probe_data(bytes, seen),
        _ => Verdict::No,
    }
}

/// Joined in the middle: data for one receiver, with a counter that grows a little each time.
fn probe_data(bytes: &[u8], seen: &Seen<'_>) -> Verdict {
    const PACKETS: usize = 3;
    const STEP_MAX: u64 = 1 << 16;
    let counter = |head: &[u8]| -> Option<u64> { head.get(8..16)?.try_into().ok().map(u64::from_le_bytes) };
    let is_data = |head: &[u8]| head.first() == Some(&4);
    if !seen.earlier.iter().all(|earlier| is_data(earlier.head())) {
        return Verdict::No;
    }
    let same_side = seen.earlier.iter().filter(|earlier| earlier.side == seen.side);
    let follows = |earlier: &[u8]| {
        let step = counter(bytes)?.abs_diff(counter(earlier)?);
        (earlier.get(..8) == bytes.get(..8) && (1..STEP_MAX).contains(&step)).then_some(())
    };
    let n_followed = same_side
        .filter(|earlier| follows(earlier.head()).is_some())
        .count();
    if n_followed + 1 >= PACKETS {
        Verdict::LIKELY
    } else {
        Verdict::NeedMore
    }
}

/// Messages by which Tailscale's peers find a way to each other, between their WireGuard packets.
pub(in crate::layer7::proto) const TAILSCALE: Named = Named {
    name: "tailscale",
    ports: &[41641],
    transports: &[Transport::Udp],
    probe: |seen| {
        // Then the sender's key, a nonce, and what is sealed with them.
        let is_disco =
            seen.newest().starts_with("TS\u{1f4ac}".as_bytes()) && seen.newest().len() >= 6 + 32 + 24 + 16;
        if is_disco { Verdict::CERTAIN } else { Verdict::No }
    },
};

/// Nebula: a handshake has no index of the receiver yet, and counts from 1.
pub(in crate::layer7::proto) const NEBULA: Named = Named {
    name: "nebula",
    ports: &[4242],
    transports: &[Transport::Udp],
    probe: |seen| match seen.newest().first_chunk::<16>() {
        Some([0x10, 0, 0, 0, index @ .., 0, 0, 0, 0, 0, 0, 0, counter @ (1 | 2)])
            if (*index == [0; 4]) == (*counter == 1) && seen.newest().len() >= 64 =>
        {
            Verdict::certain(if *counter == 1 {
                seen.side
            } else {
                seen.side.other()
            })
        }
        _ => Verdict::No,
    },
};

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    fn message(kind: u8, reserved: u8, len: usize) -> Vec<u8> {
        let mut message = vec![0x77; len];
        message[..4].copy_from_slice(&[kind, reserved, reserved, reserved]);
        message
    }

    fn data(counter: u8) -> Vec<u8> {
        let mut data = message(4, 0, 96);
        data[8..16].copy_from_slice(&[counter, 0, 0, 0, 0, 0, 0, 0]);
        data
    }

    #[test]
    fn handshakes() {
        kit::check_datagrams(
            &[(0, &message(1, 0, 148)), (1, &message(2, 0, 92))],
            Some("wireguard"),
            &[],
        );
        kit::check_datagrams(&[(1, &message(2, 0, 92))], Some("wireguard"), &[]);
        kit::check_datagrams(&[(0, &message(1, 0, 147))], None, &[]);
        kit::check_datagrams(&[(0, &message(1, 9, 148))], None, &[]);
        kit::check_datagrams_to(2408, &[(0, &message(1, 9, 148))], Some("cloudflare-warp"), &[]);
    }

    #[test]
    fn finding_peers() {
        let disco = ["TS\u{1f4ac}".as_bytes(), &[7; 90]].concat();
        kit::check_datagrams(&[(0, &disco)], Some("tailscale"), &[]);
        kit::check_datagrams(&[(0, &disco[..40])], None, &[]);
        let first = [
            &[0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..],
            &[7; 200],
        ]
        .concat();
        kit::check_datagrams(&[(0, &first)], Some("nebula"), &[]);
        kit::check_datagrams(&[(0, &[&[0x10, 0, 0, 1], &first[4..]].concat())], None, &[]);
    }

    #[test]
    fn joined_in_the_middle() {
        kit::check_datagrams(
            &[(0, &data(1)), (1, &data(9)), (0, &data(2)), (0, &data(3))],
            Some("wireguard"),
            &[],
        );
        kit::check_datagrams(&[(0, &data(1)), (0, &data(1)), (0, &data(1))], None, &[]);
        kit::check_datagrams(&[(0, &data(1)), (0, &data(2))], None, &[]);
    }
}
