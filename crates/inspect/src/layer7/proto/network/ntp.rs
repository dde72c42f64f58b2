//! Network Time Protocol (RFC 5905; version 3 RFC 1305; control messages RFC 9327).

use crate::layer7::protocol::{NameOnly, Protocol, Seen, Session, Side, Transport, Verdict};

#[derive(Debug)]
pub(super) struct Ntp;

/// Header of a time message; extensions and a digest may follow.
const HEADER_LEN: usize = 48;

impl Protocol for Ntp {
    fn name(&self) -> &'static str {
        "ntp"
    }

    fn ports(&self) -> &'static [u16] {
        &[123]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let Some(&[first, stratum, poll, precision]) = seen.newest().first_chunk::<4>() else {
            return Verdict::No;
        };
        let (version, mode) = ((first >> 3) & 7, first & 7);
        let is_long = seen.newest().len() >= HEADER_LEN;
        let client = match mode {
            // A server answers.
            4 => seen.side.other(),
            _ => seen.side,
        };
        match mode {
            1..=5 if (1..=4).contains(&version) && is_long && stratum <= 16 => {
                // Intervals are powers of two from a second to some days, clocks tick faster than that.
                let is_plausible = poll <= 17 && (precision == 0 || precision >= 0xe0);
                if seen.has_port(123) && is_plausible {
                    Verdict::certain(client)
                } else if seen.has_port(123) || (is_plausible && seen.newest().len() == HEADER_LEN) {
                    Verdict::likely(client)
                } else {
                    Verdict::No
                }
            }
            // Control, and the implementation's own (`monlist`).
            6 | 7 if seen.has_port(123) && (1..=4).contains(&version) => Verdict::likely(Side::Client),
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        let mut request = [0; 48];
        request[..4].copy_from_slice(&[0x23, 0, 6, 0xec]);
        kit::check_datagrams(&[(0, &request)], Some("ntp"), &[]);
        let mut answer = request;
        answer[0] = 0x24;
        kit::check_datagrams(&[(0, &request), (1, &answer)], Some("ntp"), &[]);
        kit::check_datagrams(&[(0, b"GET / HTTP/1.1\r\n\r\n")], None, &[]);
    }
}
