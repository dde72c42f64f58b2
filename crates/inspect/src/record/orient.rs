//! Who opened a flow.

use wire::flow::row_flag;
use wire::{Direction, FlowKey, FlowRow, ip_proto};

/// Ports below this need a privilege to listen on, so whoever has one is the server.
const WELL_KNOWN_END: u16 = 1024;
/// Where Linux begins to give ports to clients; the IANA's range begins later.
const EPHEMERAL_BEGIN: u16 = 32_768;

/// Direction of the opener's packets.
///
/// A handshake tells. Without one it is the sender of the first packet, which is right if the flow
/// was seen from its beginning. A row that began in the middle goes by its ports: the only one
/// that is well known, else the only one not given out to clients, is the server's; if neither
/// tells, the first sender stays.
pub(super) fn client(key: &FlowKey, row: &FlowRow) -> Direction {
    let first_sender = Direction::from_bit(row.client);
    if row.flags & row_flag::HANDSHAKE != 0 || row.flags & row_flag::PARTIAL == 0 {
        return first_sender;
    }
    let has_ports = matches!(key.protocol, ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP);
    if !has_ports {
        return first_sender;
    }
    for limit in [WELL_KNOWN_END, EPHEMERAL_BEGIN] {
        match (key.a_port < limit, key.b_port < limit) {
            (true, false) => return Direction::BToA,
            (false, true) => return Direction::AToB,
            _ => {}
        }
    }
    first_sender
}
