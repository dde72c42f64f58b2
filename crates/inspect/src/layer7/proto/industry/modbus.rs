//! Modbus over TCP (Modbus Messaging Implementation Guide), with Schneider's UMAS inside of it.

use serde_json::{Map, Value, json};

use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::reader::Reader;
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(super) struct Modbus;

/// Transaction, protocol (0), length; then unit and function.
const HEADER_LEN: usize = 6;
const PDU_LEN_MAX: u16 = 254;
const PENDING_MAX: usize = 64;

/// Category and name of a function.
fn function(code: u8) -> Option<(&'static str, &'static str)> {
    Some(match code {
        1 => ("read", "read_coils"),
        2 => ("read", "read_discrete_inputs"),
        3 => ("read", "read_holding_registers"),
        4 => ("read", "read_input_registers"),
        5 => ("write", "write_single_coil"),
        6 => ("write", "write_single_register"),
        7 => ("diagnostic", "read_exception_status"),
        8 => ("diagnostic", "diagnostics"),
        11 => ("diagnostic", "get_comm_event_counter"),
        12 => ("diagnostic", "get_comm_event_log"),
        15 => ("write", "write_multiple_coils"),
        16 => ("write", "write_multiple_registers"),
        17 => ("diagnostic", "report_server_id"),
        20 => ("read", "read_file_record"),
        21 => ("write", "write_file_record"),
        22 => ("write", "mask_write_register"),
        23 => ("read_write", "read_write_multiple_registers"),
        24 => ("read", "read_fifo_queue"),
        43 => ("diagnostic", "encapsulated_interface_transport"),
        90 => ("vendor", "umas"),
        _ => return None,
    })
}

impl Protocol for Modbus {
    fn name(&self) -> &'static str {
        "modbus"
    }

    fn ports(&self) -> &'static [u16] {
        &[502]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Tcp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let has_port = seen.has_port(502);
        // Whether both sides' first messages are of one transaction, unit and function.
        let pair = match (seen.client().first_chunk::<8>(), seen.server().first_chunk::<8>()) {
            (Some(one), Some(other)) => Some(one[..4] == other[..4] && one[6..] == other[6..]),
            _ => None,
        };
        seen.opened_by_either(|bytes| {
            let is_begun = match *bytes {
                [_, _, protocol, ..] if protocol != 0 => false,
                [_, _, _, protocol, ..] if protocol != 0 => false,
                [_, _, _, _, high, ..] if high != 0 => false,
                _ => true,
            };
            let Some(&[_, _, _, _, _, len, _, code]) = bytes.first_chunk() else {
                return if is_begun { Verdict::NeedMore } else { Verdict::No };
            };
            if !is_begun || function(code & 0x7f).is_none() || !(2..=PDU_LEN_MAX).contains(&len.into()) {
                return Verdict::No;
            }
            let data = &bytes[8..bytes.len().min(HEADER_LEN + usize::from(len))];
            // Requests and answers of the common functions have a length that follows from what they hold.
            let is_request = match code {
                1..=6 => len == 6,
                15 | 16 => match data.get(4) {
                    Some(&n) => u16::from(len) == 7 + u16::from(n),
                    None if data.len() + 2 < len.into() => return Verdict::NeedMore,
                    None => false,
                },
                _ => has_port,
            };
            let is_answer = match code {
                1..=4 => match data.first() {
                    Some(&n) => u16::from(len) == 3 + u16::from(n),
                    None => return Verdict::NeedMore,
                },
                15 | 16 => len == 6,
                0x81.. => len == 3,
                _ => false,
            };
            let client = if is_answer && (!is_request || seen.ports[0] == 502) {
                Side::Server
            } else {
                Side::Client
            };
            match is_request || is_answer {
                true if has_port => Verdict::likely(client),
                // Without its port an answer with the same numbers has to prove it.
                true if (1..=6).contains(&code) => match pair {
                    Some(true) => Verdict::likely(client),
                    Some(false) => Verdict::No,
                    None => Verdict::NeedMore,
                },
                _ => Verdict::No,
            }
        })
    }

    fn session(&self) -> Box<dyn Session> {
        Box::<Connection>::default()
    }
}

struct Pending {
    transaction: u16,
    request: Value,
}

#[derive(Default)]
struct Connection {
    pending: Vec<Pending>,
    told: u64,
}

impl Session for Connection {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| rest.len() >= HEADER_LEN) {
            let mut reader = Reader::new(rest);
            let (transaction, protocol, len) =
                (reader.be16(), reader.be16(), reader.be16().unwrap_or_default());
            // Some systems have longer ones than the specification.
            if protocol != Some(0) || !(2..=2048).contains(&len) {
                return Step::Broken(Anomaly::parser("invalid_length", Severity::Medium));
            }
            let Some(unit) = reader.take(len.into()) else {
                break;
            };
            let transaction = transaction.unwrap_or_default();
            match side {
                Side::Client => self.request(transaction, unit, out),
                Side::Server => self.response(transaction, unit, out),
            }
            taken += HEADER_LEN + usize::from(len);
        }
        Step::Take(taken as u64)
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        for pending in std::mem::take(&mut self.pending) {
            self.tell(pending.request, None, out);
        }
    }
}

impl Connection {
    fn request(&mut self, transaction: u16, unit: &[u8], out: &mut Out<'_>) {
        let mut request = base(transaction, unit);
        let mut reader = Reader::new(&unit[2..]);
        match unit[1] {
            1..=6 | 15 | 16 => {
                request["address"] = reader.be16().into();
                let key = if matches!(unit[1], 5 | 6) {
                    "value"
                } else {
                    "quantity"
                };
                request[key] = reader.be16().into();
            }
            90 => request["umas_function"] = unit.get(3).copied().into(),
            _ => {}
        }
        if self.pending.len() >= PENDING_MAX {
            let oldest = self.pending.remove(0);
            self.tell(oldest.request, None, out);
        }
        self.pending.push(Pending { transaction, request });
    }

    fn response(&mut self, transaction: u16, unit: &[u8], out: &mut Out<'_>) {
        let mut response = base(transaction, unit);
        if unit[1] & 0x80 != 0 {
            response["exception"] = unit.get(2).copied().map(exception).into();
        }
        let at = self
            .pending
            .iter()
            .position(|pending| pending.transaction == transaction);
        let request = at.map_or(Value::Null, |at| self.pending.remove(at).request);
        self.tell(request, Some(response), out);
    }

    fn tell(&mut self, request: Value, response: Option<Value>, out: &mut Out<'_>) {
        self.told += 1;
        let mut fields = Map::new();
        fields.insert("id".into(), self.told.into());
        if !request.is_null() {
            fields.insert("request".into(), request);
        }
        if let Some(response) = response {
            fields.insert("response".into(), response);
        }
        out.record_of(Side::Client, Record::fields("modbus", fields));
    }
}

fn base(transaction: u16, unit: &[u8]) -> Value {
    let code = unit[1] & 0x7f;
    let (category, name) = function(code).unwrap_or(("unknown", "unknown"));
    json!({"transaction_id": transaction, "unit_id": unit[0], "function_raw": code, "function_code": name,
        "category": category, "error": unit[1] & 0x80 != 0})
}

fn exception(code: u8) -> &'static str {
    match code {
        1 => "illegal_function",
        2 => "illegal_data_address",
        3 => "illegal_data_value",
        4 => "server_device_failure",
        5 => "acknowledge",
        6 => "server_device_busy",
        8 => "memory_parity_error",
        10 => "gateway_path_unavailable",
        11 => "gateway_target_failed_to_respond",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layer7::kit::{self, Said};

    #[test]
    fn a_request_and_its_exception() {
        let said: &[Said<'_>] = &[
            (0, b"\0\x07\0\0\0\x06\x01\x03\0\x10\0\x02"),
            (1, b"\0\x07\0\0\0\x03\x01\x83\x02"),
        ];
        let outcome = kit::run(6, 502, said, |_, _| Vec::new());
        assert_eq!(outcome.insight.app, Some("modbus"));
        let base = |is_error: bool| {
            json!({"transaction_id": 7, "unit_id": 1, "function_raw": 3, "function_code": "read_holding_registers",
                "category": "read", "error": is_error})
        };
        let (mut request, mut response) = (base(false), base(true));
        request["address"] = 16.into();
        request["quantity"] = 2.into();
        response["exception"] = "illegal_data_address".into();
        let expected = json!({"id": 1, "request": request, "response": response});
        assert_eq!(outcome.bodies(), [("modbus", expected)]);
    }

    #[test]
    fn without_its_port_an_answer_proves_it() {
        let ask: Said<'_> = (0, b"\0\x07\0\0\0\x06\x01\x03\0\x10\0\x01");
        let answer: Said<'_> = (1, b"\0\x07\0\0\0\x05\x01\x03\x02\0\x01");
        assert_eq!(kit::stream(&[ask, answer]).insight.app, Some("modbus"));
        assert_eq!(
            kit::stream(&[ask, (1, b"\0\x08\0\0\0\x05\x01\x03\x02\0\x01")])
                .insight
                .app,
            None
        );
        kit::check_cuts(&[ask, answer]);
    }
}
