//! Where a flow stands, in Suricata's words.

use wire::flow::{FlowRow, Side, row_flag, seen};
use wire::tcp::flag;

/// State of any flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowState {
    /// Only one side was heard, or the handshake is not done.
    New,
    Established,
    Closed,
}

impl FlowState {
    /// The word EVE has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Closed => "closed",
        }
    }

    pub(super) fn of(row: &FlowRow, tcp: Option<TcpState>) -> Self {
        match tcp {
            Some(TcpState::None | TcpState::SynSent | TcpState::SynRecv) => Self::New,
            Some(TcpState::Closed) => Self::Closed,
            Some(_) => Self::Established,
            None if row.flags & row_flag::CLOSED != 0 => Self::Closed,
            None if row.sides.iter().all(|side| side.seen & seen::ANY != 0) => Self::Established,
            None => Self::New,
        }
    }
}

/// State of a TCP connection as far as the flags of both sides tell. The names are the server's
/// point of view, as Suricata has it: a client that closes first makes it `close_wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpState {
    /// No segment with a readable header.
    None,
    SynSent,
    SynRecv,
    Established,
    /// The server has sent its last byte.
    FinWait1,
    /// The client has sent its last byte.
    CloseWait,
    /// A reset, or a FIN from both sides.
    Closed,
}

impl TcpState {
    /// The word EVE and the filter language have for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SynSent => "syn_sent",
            Self::SynRecv => "syn_recv",
            Self::Established => "established",
            Self::FinWait1 => "fin_wait1",
            Self::CloseWait => "close_wait",
            Self::Closed => "closed",
        }
    }

    pub(super) fn of(client: &Side, server: &Side) -> Self {
        let both = client.flags & server.flags;
        let either = client.flags | server.flags;
        if either & flag::RST != 0 || both & flag::FIN != 0 {
            Self::Closed
        } else if server.flags & flag::FIN != 0 {
            Self::FinWait1
        } else if client.flags & flag::FIN != 0 {
            Self::CloseWait
        } else if either & flag::SYN == 0 {
            if either == 0 {
                Self::None
            } else {
                Self::Established
            }
        } else if client.flags & flag::ACK != 0 {
            Self::Established
        } else if server.flags & flag::SYN != 0 {
            Self::SynRecv
        } else if server.flags & flag::ACK != 0 {
            // The server talks on: the client's answer to its SYN went another way.
            Self::Established
        } else {
            Self::SynSent
        }
    }
}
