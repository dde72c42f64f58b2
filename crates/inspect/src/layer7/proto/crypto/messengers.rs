//! Messengers with a transport of their own: Telegram's MTProto and calls, Viber.

use crate::layer7::cursor::Cursor;
use crate::layer7::protocol::{NameOnly, Protocol, Seen, Session, Transport, Verdict};

#[derive(Debug)]
pub(in crate::layer7::proto) struct Telegram;

/// Of a message to or from a relay, behind the tag of the call; then its kind: a request, `udpReflectorSelfInfo`,
/// `udpReflectorPeerInfo`. (Silence in a telephone call is 0xff too.)
const RELAY_MARK: [u8; 12] = [0xff; 12];
const RELAY_KINDS: [u32; 3] = [0xffff_fffe, 0xc015_72c7, 0x27d9_371c];
const RELAY_TAG_LEN: usize = 16;
/// What a connection without keys begins with: `req_pq`, `req_pq_multi`, and the answer `resPQ`.
const FIRST_REQUESTS: [u32; 3] = [0x6046_9778, 0xbe7e_8ef1, 0x0516_2463];

impl Protocol for Telegram {
    fn name(&self) -> &'static str {
        "telegram"
    }

    fn ports(&self) -> &'static [u16] {
        &[443, 80, 5222]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Tcp | Transport::Udp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        if seen.transport == Transport::Udp {
            let bytes = seen.newest();
            let mut rest = Cursor::new(bytes);
            let mut read = || {
                rest.take(RELAY_TAG_LEN)?;
                Some((rest.array()?, u32::from_le_bytes(rest.array()?)))
            };
            let is_relayed = read().is_some_and(|(mark, kind): ([u8; 12], u32)| {
                mark == RELAY_MARK && RELAY_KINDS.contains(&kind)
            });
            return if is_relayed { Verdict::CERTAIN } else { Verdict::No };
        }
        probe_mtproto(seen.client())
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

/// The first message of a client that does not hide the protocol: it has no key yet, so that it is in clear.
fn probe_mtproto(bytes: &[u8]) -> Verdict {
    let header_len = match bytes {
        [] | [0xee] | [0xee, 0xee] | [0xee, 0xee, 0xee] => return Verdict::NeedMore,
        // Abridged: length in words.
        [0xef, ..] => 2,
        // Intermediate.
        [0xee, 0xee, 0xee, 0xee, ..] => 8,
        _ => return Verdict::No,
    };
    let Some(message) = bytes.get(header_len..) else {
        return Verdict::NeedMore;
    };
    let mut message = Cursor::new(message);
    // Key, message id, length, what is asked.
    let key_len = message.len().min(8);
    if message.rest()[..key_len].iter().any(|&byte| byte != 0) {
        return Verdict::No;
    }
    let request = message.take(20).and_then(|_| message.array::<4>());
    match request.map(u32::from_le_bytes) {
        None => Verdict::NeedMore,
        Some(request) if FIRST_REQUESTS.contains(&request) => Verdict::CERTAIN,
        Some(_) => Verdict::No,
    }
}

#[derive(Debug)]
pub(in crate::layer7::proto) struct Viber;

const VIBER_TCP: [u16; 2] = [4244, 5242];
const VIBER_UDP: [u16; 4] = [5243, 7985, 7987, 9785];

impl Protocol for Viber {
    fn name(&self) -> &'static str {
        "viber"
    }

    fn ports(&self) -> &'static [u16] {
        &[4244, 5242, 5243, 7985, 7987, 9785]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Tcp | Transport::Udp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let on_any = |ports: &[u16]| ports.iter().any(|&port| seen.has_port(port));
        if seen.transport == Transport::Udp {
            // A number of the call, then a type of the low ones, in the order of x86.
            let is_type = |bytes: &[u8]| matches!(bytes, [_, _, 1..=0x2f, 0, ..] if bytes.len() >= 12);
            return if on_any(&VIBER_UDP) && is_type(seen.newest()) {
                Verdict::LIKELY
            } else {
                Verdict::No
            };
        }
        if !on_any(&VIBER_TCP) {
            return Verdict::No;
        }
        if let Some([_, _, _, _, _, _, 0xfc, 0xff, 3, 0x80, ..]) = seen.client().first_chunk::<12>() {
            return Verdict::LIKELY;
        }
        // Length with itself, then a counter that began small, in the order of x86.
        let mut verdict = Verdict::NeedMore;
        for bytes in seen.data {
            let Some(&[low, high, _, _, 0, 0]) = bytes.first_chunk::<6>() else {
                if bytes.len() >= 6 {
                    return Verdict::No;
                }
                continue;
            };
            let len = usize::from(u16::from_le_bytes([low, high]));
            if len < 8 {
                return Verdict::No;
            }
            if bytes.len() >= len {
                verdict = Verdict::LIKELY;
            }
        }
        verdict
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn telegram() {
        let call = [&[0xdc; 16][..], &[0xff; 12], &[0xfe, 0xff, 0xff, 0xff], &[1; 8]].concat();
        kit::check_datagrams(&[(0, &call)], Some("telegram"), &[]);
        let silence = [&b"\x80\0\0\x01\0\0\0\0abcd"[..], &[0xff; 160]].concat();
        kit::check_datagrams(&[(0, &silence)], None, &[]);
        let message = [
            &[0; 8][..],
            &[7; 8],
            &[20, 0, 0, 0],
            &[0xf1, 0x8e, 0x7e, 0xbe],
            &[3; 16],
        ]
        .concat();
        kit::check_stream(
            &[(0, &[&[0xef, 10][..], &message].concat())],
            Some("telegram"),
            &[],
        );
        let intermediate = [&[0xee, 0xee, 0xee, 0xee, 40, 0, 0, 0][..], &message].concat();
        kit::check_stream(&[(0, &intermediate)], Some("telegram"), &[]);
        kit::check_stream(&[(0, &[0xef, 10, 1, 2, 3])], None, &[]);
    }

    #[test]
    fn viber() {
        let call = [&[0xed, 0xf6, 9, 0][..], &[0xb3; 16]].concat();
        kit::check_datagrams_to(7985, &[(0, &call)], Some("viber"), &[]);
        kit::check_datagrams(&[(0, &call)], None, &[]);
        let said = [(0, &[12, 0, 10, 0, 0, 0, 1, 2, 3, 4, 5, 6][..])];
        let run = |port| {
            kit::run(wire::ip_proto::TCP, port, &said, |_, _| Vec::new())
                .insight
                .app
        };
        assert_eq!((run(4244), run(4245)), (Some("viber"), None));
    }
}
