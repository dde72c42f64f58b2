//! Network Time Protocol (RFC 5905; version 3 RFC 1305; control messages RFC 9327).

use serde_json::Map;

use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::record::Record;

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
        Box::new(Control::default())
    }
}

/// Time goes by untold; control is told, as are the lists of clients that amplification attacks ask for.
#[derive(Debug, Default)]
struct Control {
    told: u32,
}

/// Control messages of a flow that are told.
const TOLD_MAX: u32 = 32;

impl Session for Control {
    fn data(&mut self, _: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let taken = Step::Take(bytes.len() as u64);
        let &[first, second, _, fourth, ..] = bytes else {
            return taken;
        };
        let (version, mode) = (first >> 3 & 7, first & 7);
        let (is_response, operation) = match mode {
            6 => {
                let operation = match second & 31 {
                    1 => "read_status",
                    2 => "read_variables",
                    3 => "write_variables",
                    4 => "read_clock_variables",
                    5 => "write_clock_variables",
                    6 => "set_trap",
                    7 => "trap_response",
                    8 => "runtime_configuration",
                    10 => "read_mru",
                    31 => "unset_trap",
                    _ => "other",
                };
                (second & 0x80 != 0, operation)
            }
            7 => {
                let operation = match fourth {
                    20 | 42 => "monlist",
                    0 | 1 => "peer_list",
                    4 => "system_info",
                    5 => "system_stats",
                    _ => "other",
                };
                (first & 0x80 != 0, operation)
            }
            // Where time is asked for, nothing else is.
            _ => return Step::Done,
        };
        self.told += 1;
        if self.told > TOLD_MAX {
            return Step::Done;
        }
        let kind = if is_response { "response" } else { "request" };
        let mut fields = Map::new();
        fields.insert("type".into(), kind.into());
        fields.insert("operation".into(), operation.into());
        fields.insert("version".into(), version.into());
        fields.insert("mode".into(), mode.into());
        out.record(Record::fields("ntp", fields));
        taken
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit;

    #[test]
    fn lists_of_clients_are_told() {
        kit::check_datagrams_to(
            123,
            &[(0, b"\x17\x00\x03\x2a\0\0\0\0")],
            Some("ntp"),
            &[(
                "ntp",
                json!({"type": "request", "operation": "monlist", "version": 2, "mode": 7}),
            )],
        );
    }

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
