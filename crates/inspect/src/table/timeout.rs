//! How long a flow may be silent before it is over.
//!
//! The defaults of Suricata's flow engine where it has them, so that records of both programs cut
//! a conversation at the same places.

use wire::flow::{row_flag, seen};
use wire::{FlowKey, FlowRow, ip_proto};

const SECOND_NS: u64 = 1_000_000_000;

/// TCP with packets both ways, or joined in the middle.
pub const TCP_ESTABLISHED_NS: u64 = 600 * SECOND_NS;
/// TCP after a reset or a FIN from both sides: late segments still belong to it.
pub const TCP_CLOSED_NS: u64 = 10 * SECOND_NS;
/// TCP of which only one side was heard.
pub const TCP_HALF_OPEN_NS: u64 = 60 * SECOND_NS;
pub const UDP_NS: u64 = 60 * SECOND_NS;
/// UDP to a name service that was answered: the next question from the port is another flow.
pub const UDP_ANSWERED_NS: u64 = 30 * SECOND_NS;
pub const ICMP_NS: u64 = 30 * SECOND_NS;
/// Everything else.
pub const OTHER_NS: u64 = 60 * SECOND_NS;

/// No flow ends before it was silent for this long: shorter gaps need no look at the flow.
pub const SHORTEST_NS: u64 = TCP_CLOSED_NS;

/// Longest silence within this flow, in nanoseconds.
#[must_use]
pub fn idle_ns(key: &FlowKey, row: &FlowRow) -> u64 {
    let answered = row.sides[0].seen & row.sides[1].seen & seen::ANY != 0;
    match key.protocol {
        ip_proto::TCP if row.flags & row_flag::CLOSED != 0 => TCP_CLOSED_NS,
        ip_proto::TCP if answered || row.flags & row_flag::HANDSHAKE == 0 => TCP_ESTABLISHED_NS,
        ip_proto::TCP => TCP_HALF_OPEN_NS,
        ip_proto::UDP if answered && is_name_service(key) => UDP_ANSWERED_NS,
        ip_proto::UDP => UDP_NS,
        ip_proto::ICMP | ip_proto::ICMPV6 => ICMP_NS,
        _ => OTHER_NS,
    }
}

/// DNS, NetBIOS names, mDNS, LLMNR.
fn is_name_service(key: &FlowKey) -> bool {
    [key.a_port, key.b_port]
        .iter()
        .any(|port| matches!(port, 53 | 137 | 5353 | 5355))
}
