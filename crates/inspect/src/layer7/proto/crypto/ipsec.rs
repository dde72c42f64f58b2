//! ESP and AH (RFC 4302, 4303): of themselves, and ESP in UDP (RFC 3948).

use super::ike::Ike;
use crate::layer7::protocol::{NameOnly, Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};

#[derive(Debug)]
pub(in crate::layer7::proto) struct Esp;

#[derive(Debug)]
pub(in crate::layer7::proto) struct Ah;

/// Numbers above IP.
const ESP: u8 = 50;
const AH: u8 = 51;
/// Smaller ones are reserved (RFC 4303, section 2.1).
const SPI_MIN: u32 = 256;
/// Index, number, a block, and what proves it.
const ESP_LEN_MIN: usize = 28;
/// Sequence numbers begin at 1; a flow that has come so far is not taken for ESP by its first packet.
const SEQUENCE_MAX: u32 = 1 << 24;

impl Protocol for Esp {
    fn name(&self) -> &'static str {
        "esp"
    }

    fn ports(&self) -> &'static [u16] {
        &[4500]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        matches!(transport, Transport::Other(ESP) | Transport::Udp)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        if seen.transport == Transport::Other(ESP) {
            return Verdict::CERTAIN;
        }
        if !seen.has_port(4500) {
            return Verdict::No;
        }
        match seen.newest() {
            // A keep-alive.
            [0xff] => Verdict::NeedMore,
            bytes => match bytes.first_chunk::<8>() {
                Some(&[a, b, c, d, e, f, g, h]) if bytes.len() >= ESP_LEN_MIN => {
                    let spi = u32::from_be_bytes([a, b, c, d]);
                    let sequence = u32::from_be_bytes([e, f, g, h]);
                    if spi >= SPI_MIN && (1..SEQUENCE_MAX).contains(&sequence) {
                        Verdict::LIKELY
                    } else {
                        Verdict::No
                    }
                }
                _ => Verdict::No,
            },
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(EspSession::default())
    }
}

/// Datagrams among which IKE is looked for.
const DATAGRAMS_MAX: u32 = 64;

/// In UDP, IKE may come between.
#[derive(Default)]
struct EspSession {
    datagrams: u32,
    ike: Option<Box<dyn Session>>,
}

impl Session for EspSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        if out.transport != Transport::Udp {
            return Step::Done;
        }
        self.datagrams += 1;
        if self.ike.is_none() && Ike::is_message(bytes) {
            out.insight.app_before = out.insight.app;
            out.insight.app = Some(Ike.name());
            self.ike = Some(Ike.session());
        }
        match &mut self.ike {
            Some(ike) => ike.data(side, bytes, out),
            None if self.datagrams > DATAGRAMS_MAX => Step::Done,
            None => Step::Take(bytes.len() as u64),
        }
    }
}

impl Protocol for Ah {
    fn name(&self) -> &'static str {
        "ah"
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Other(AH)
    }

    fn probe(&self, _: &Seen<'_>) -> Verdict {
        Verdict::CERTAIN
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        let app = |protocol: u8, payload: &[u8]| {
            kit::run(protocol, 0, &[(0, payload)], |_, _| Vec::new())
                .insight
                .app
        };
        assert_eq!(app(ESP, &[9; 40]), Some("esp"));
        assert_eq!(app(AH, &[9; 40]), Some("ah"));
        let esp = [&[0xc1, 2, 3, 4, 0, 0, 0, 1][..], &[0xee; 40]].concat();
        kit::check_datagrams_to(4500, &[(0, &[0xff]), (0, &esp)], Some("esp"), &[]);
        let ike = [&[0; 4][..], &[1; 16], &[0, 0x10, 2, 0, 0, 0, 0, 0, 0, 0, 0, 28]].concat();
        let outcome = kit::datagrams(4500, &[(0, &esp), (0, &ike)]);
        assert_eq!(
            (outcome.insight.app, outcome.insight.app_before),
            (Some("ike"), Some("esp"))
        );
        assert_eq!(outcome.records.len(), 1);
        kit::check_datagrams_to(4501, &[(0, &esp)], None, &[]);
        kit::check_datagrams_to(4500, &[(0, &[9; 12])], None, &[]);
    }
}
