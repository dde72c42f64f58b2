//! RTMP, by its handshake.

use crate::layer7::protocol::{NameOnly, Protocol, Seen, Session, Transport, Verdict};

#[derive(Debug)]
pub(super) struct Rtmp;

/// Version, and a packet of a time, four bytes and noise.
const HELLO_LEN: usize = 1537;

impl Protocol for Rtmp {
    fn name(&self) -> &'static str {
        "rtmp"
    }

    fn ports(&self) -> &'static [u16] {
        &[1935]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let (client, server) = (seen.client(), seen.server());
        // Version 3 in clear text; what is framed in TPKT begins with 3 too, and its length.
        match *client {
            [] if server.is_empty() => return Verdict::NeedMore,
            [3, high, low_high, low, ..] if is_tpkt([high, low_high, low], client.len()) => {
                return Verdict::No;
            }
            [3, ..] => {}
            _ => return Verdict::No,
        }
        if client.len() < HELLO_LEN {
            return Verdict::NeedMore;
        }
        match *server {
            [] if seen.has_port(1935) => Verdict::LIKELY,
            [] => Verdict::NeedMore,
            [3, ..] => Verdict::CERTAIN,
            _ => Verdict::No,
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

fn is_tpkt([reserved, high, low]: [u8; 3], len: usize) -> bool {
    let framed = usize::from(u16::from_be_bytes([high, low]));
    reserved == 0 && (framed == len || (7..HELLO_LEN).contains(&framed) && framed <= len)
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn by_both_hellos() {
        let mut hello = vec![0x55; 1537];
        hello[..9].copy_from_slice(&[3, 0, 7, 0xaa, 0x57, 0, 0, 0, 0]);
        for cut in [100, 1000, 1537] {
            let app = |said: &[kit::Said<'_>]| {
                let pieces = |_, len| vec![cut; len / cut];
                kit::run(wire::ip_proto::TCP, 9, said, pieces).insight.app
            };
            assert_eq!(app(&[(0, &hello), (1, &[3, 1, 2])]), Some("rtmp"));
            assert_eq!(app(&[(0, &hello), (1, &[4, 1, 2])]), None);
            assert_eq!(app(&[(0, &hello[..1000])]), None);
        }
    }
}
