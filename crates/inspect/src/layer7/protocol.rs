//! What a protocol's parser is: how it tells that a flow is its own, and how it follows one.

use std::net::IpAddr;

use super::engine::Shared;
use super::insight::Insight;
use super::record::{Anomaly, Event, Record};
use crate::signature::matcher::Facts;
use crate::signature::{self, Scan};

/// One end of a flow: who opened it, or who was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    Client = 0,
    Server = 1,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// Index into what is kept for each side.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What carries the bytes: a stream, or datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Tcp,
    Udp,
    /// Number of another protocol above IP; its packets are datagrams.
    Other(u8),
}

impl Transport {
    /// Of this number above IP. UDP-Lite counts as UDP.
    #[must_use]
    pub const fn of(number: u8) -> Self {
        match number {
            wire::ip_proto::TCP => Self::Tcp,
            wire::ip_proto::UDP | wire::ip_proto::UDP_LITE => Self::Udp,
            other => Self::Other(other),
        }
    }
}

/// An earlier datagram of a flow that is still probed.
#[derive(Clone, Copy, Debug)]
pub struct Earlier {
    pub side: Side,
    /// Bytes of its payload, and the first of them.
    pub len: u32,
    pub head: [u8; Earlier::HEAD_LEN],
}

impl Earlier {
    /// Bytes of each datagram that are kept.
    pub const HEAD_LEN: usize = 32;
    /// Datagrams of a flow that are kept.
    pub const MAX: usize = 8;

    /// A datagram of this side.
    #[must_use]
    pub fn of(side: Side, payload: &[u8]) -> Self {
        let mut head = [0; Self::HEAD_LEN];
        let len = payload.len().min(Self::HEAD_LEN);
        head[..len].copy_from_slice(&payload[..len]);
        Self {
            side,
            len: payload.len() as u32,
            head,
        }
    }

    /// The bytes kept of it.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head[..Self::HEAD_LEN.min(self.len as usize)]
    }
}

/// What is known of a flow that is still probed.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub transport: Transport,
    /// Addresses and ports of client and server, by [`Side::index`].
    pub addresses: [IpAddr; 2],
    pub ports: [u16; 2],
    /// By [`Side::index`]. TCP: all bytes of the side so far, in order. Datagrams: the newest one, in
    /// the place of the side that sent it; the other is empty.
    pub data: [&'a [u8]; 2],
    /// Who sent the newest bytes.
    pub side: Side,
    /// False for a TCP connection that was joined in the middle: its first bytes may be the middle of a
    /// message.
    pub is_from_start: bool,
    /// The newest bytes are all that the packet held (a capture may cut it short).
    pub is_whole: bool,
    /// Datagrams before the newest one, the oldest first; none for TCP.
    pub earlier: &'a [Earlier],
}

impl<'a> Seen<'a> {
    /// Bytes of the client.
    #[must_use]
    pub const fn client(&self) -> &'a [u8] {
        self.data[0]
    }

    /// Bytes of the server.
    #[must_use]
    pub const fn server(&self) -> &'a [u8] {
        self.data[1]
    }

    /// The newest bytes: of TCP all of the side that sent last.
    #[must_use]
    pub const fn newest(&self) -> &'a [u8] {
        self.data[self.side.index()]
    }

    /// For a protocol of which one side speaks first: what `fits` says of that side's bytes, with the speaker
    /// as client. Either side may be the speaker, since a flow joined in the middle may be the wrong way
    /// around.
    #[must_use]
    pub fn opened_by_either(&self, fits: impl Fn(&'a [u8]) -> Verdict) -> Verdict {
        let mut is_waiting = false;
        for side in [Side::Client, Side::Server] {
            let bytes = self.data[side.index()];
            if bytes.is_empty() {
                continue;
            }
            match fits(bytes) {
                Verdict::No => {}
                Verdict::NeedMore => is_waiting = true,
                Verdict::Match { sure, client } => {
                    let client = if client == Side::Client {
                        side
                    } else {
                        side.other()
                    };
                    return Verdict::Match { sure, client };
                }
            }
        }
        if is_waiting {
            Verdict::NeedMore
        } else {
            Verdict::No
        }
    }

    /// Whether either end has this port. For ties only: say [`Verdict::likely`] with it, never `sure`.
    #[must_use]
    pub const fn has_port(&self, port: u16) -> bool {
        self.ports[0] == port || self.ports[1] == port
    }
}

/// How sure a parser is that a flow is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sure {
    /// The bytes fit, and could fit another protocol: taken if no other is surer.
    Likely,
    /// The bytes can hardly be anything else: taken at once.
    Certain,
}

/// What a parser says of the first bytes of a flow.
///
/// It must not depend on how the bytes were cut into packets: a TCP parser that says `No` to some bytes
/// says so to all that begin with them, and one that says `Match` never says `No` to more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not this protocol, whatever follows.
    No,
    /// Too little to tell.
    NeedMore,
    Match {
        sure: Sure,
        /// Which side of the flow plays the client, since a flow that was joined in the middle may have
        /// been taken the wrong way around.
        client: Side,
    },
}

impl Verdict {
    /// Can hardly be anything else; the flow's client is the protocol's.
    pub const CERTAIN: Self = Self::certain(Side::Client);
    /// Could be something else; the flow's client is the protocol's.
    pub const LIKELY: Self = Self::likely(Side::Client);

    /// Certain, with this side as the protocol's client.
    #[must_use]
    pub const fn certain(client: Side) -> Self {
        Self::Match {
            sure: Sure::Certain,
            client,
        }
    }

    /// Certain if `bytes` begin with `magic`, as far as they go.
    #[must_use]
    pub fn magic(bytes: &[u8], magic: &[u8]) -> Self {
        if bytes.starts_with(magic) {
            Self::CERTAIN
        } else if magic.starts_with(bytes) {
            Self::NeedMore
        } else {
            Self::No
        }
    }

    /// The one of both that says more than no.
    #[must_use]
    pub fn or(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::No => other(),
            Self::NeedMore => match other() {
                Self::No => Self::NeedMore,
                other => other,
            },
            found @ Self::Match { .. } => found,
        }
    }

    /// The same, with this side as the protocol's client.
    #[must_use]
    pub const fn with_client(self, client: Side) -> Self {
        match self {
            Self::Match { sure, .. } => Self::Match { sure, client },
            other => other,
        }
    }

    /// Likely, with this side as the protocol's client.
    #[must_use]
    pub const fn likely(client: Side) -> Self {
        Self::Match {
            sure: Sure::Likely,
            client,
        }
    }
}

/// What a session wants after it was given bytes.
#[derive(Debug)]
pub enum Step {
    /// So many bytes are done with; what is left comes again with more behind it. More than were given:
    /// the bytes that follow are skipped without being looked at (the body of a message).
    /// Of a datagram nothing comes again.
    Take(u64),
    /// Nothing that follows is of interest: the flow is not looked at any more.
    Done,
    /// The bytes are none of this protocol: an anomaly record says so, and the flow is not looked at any more.
    Broken(Anomaly),
    /// So many bytes are done with; what follows is another protocol: this one, or whichever is found.
    Switch {
        taken: usize,
        to: Option<&'static dyn Protocol>,
    },
}

/// One protocol. Stateless: a row of the registry.
pub trait Protocol: Sync {
    /// As `app_proto` has it: Suricata's spelling, else the plain lower-case name.
    fn name(&self) -> &'static str;

    /// Ports it is known by. They order the probing and break ties, nothing else.
    fn ports(&self) -> &'static [u16] {
        &[]
    }

    /// Whether it runs over this transport at all.
    fn runs_over(&self, transport: Transport) -> bool;

    /// Whether a flow that begins like this is its own. Called again with more bytes after `NeedMore`.
    fn probe(&self, seen: &Seen<'_>) -> Verdict;

    /// A session for a flow that is its own. It gets all bytes from the beginning.
    fn session(&self) -> Box<dyn Session>;
}

/// A flow of one protocol.
///
/// Given the same bytes cut in any way it makes the same records: bytes that it cannot use yet it does
/// not take.
pub trait Session: Send {
    /// Bytes of one side in order: of TCP all that were not taken, of others one datagram.
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step;

    /// `len` bytes of one side were never seen (lost, or cut off by the capture). What came before and
    /// was not taken is gone. TCP only.
    fn gap(&mut self, side: Side, len: u64, out: &mut Out<'_>) -> Step {
        let _ = (side, len, out);
        Step::Done
    }

    /// The flow has ended; what is half done can be told now.
    fn finish(&mut self, out: &mut Out<'_>) {
        let _ = out;
    }
}

/// For protocols of which only the name is told.
#[derive(Debug)]
pub struct NameOnly;

impl Session for NameOnly {
    fn data(&mut self, _: Side, _: &[u8], _: &mut Out<'_>) -> Step {
        Step::Done
    }
}

/// A protocol of which only the name is told.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    pub name: &'static str,
    pub ports: &'static [u16],
    pub transports: &'static [Transport],
    pub probe: fn(&Seen<'_>) -> Verdict,
}

impl Protocol for Named {
    fn name(&self) -> &'static str {
        self.name
    }

    fn ports(&self) -> &'static [u16] {
        self.ports
    }

    fn runs_over(&self, transport: Transport) -> bool {
        self.transports.contains(&transport)
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        (self.probe)(seen)
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(NameOnly)
    }
}

/// How an attempt to log in ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    Attempted,
    Succeeded,
    Failed,
}

/// The flow that a record is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of {
    pub(super) key: wire::FlowKey,
    pub(super) flow_id: u64,
    /// The way the packets of the protocol's client go.
    pub(super) client: wire::Direction,
}

/// Where a session tells what it found.
#[derive(Debug)]
pub struct Out<'a> {
    /// Time of the packet, in nanoseconds since 1970.
    pub ts_ns: u64,
    /// Who sent it.
    pub side: Side,
    pub transport: Transport,
    /// Addresses and ports of client and server, by [`Side::index`].
    pub addresses: [IpAddr; 2],
    pub ports: [u16; 2],
    /// The packet holds all that was sent with it: a datagram may be cut by the capture, or be the first of
    /// fragments.
    pub is_whole: bool,
    /// What is known of the flow; it outlives the session.
    pub insight: &'a mut Insight,
    pub(super) flow: Of,
    pub(super) scan: &'a mut Option<Box<Scan>>,
    pub(super) shared: &'a mut Shared,
}

impl Out<'_> {
    /// Whether anybody reads records: if not, a session need not put them together. What concerns
    /// [`Insight`] is always wanted.
    #[must_use]
    pub const fn wants_records(&self) -> bool {
        self.shared.wants_records
    }

    /// One record, which happened with this packet.
    pub fn record(&mut self, record: Record) {
        let side = self.side;
        self.record_of(side, record);
    }

    /// One record that belongs to what this side sent.
    pub fn record_of(&mut self, side: Side, record: Record) {
        if !self.shared.wants_records {
            return;
        }
        let mut alerts = Vec::new();
        if let (Some(scanner), Some(scan)) = (&mut self.shared.scanner, self.scan.as_deref_mut()) {
            let facts = facts_of(
                side,
                self.ts_ns,
                self.transport,
                self.insight.app,
                self.addresses,
                self.ports,
            );
            scanner.record(scan, &facts, &record, &mut alerts);
        }
        self.push(side, record);
        self.alerts(side, alerts);
    }

    /// Tells of signatures that matched what this side sent.
    pub(super) fn alerts(&mut self, side: Side, alerts: Vec<signature::Alert>) {
        for alert in alerts {
            self.insight.alerts = self.insight.alerts.saturating_add(1);
            self.push(side, Record::Alert(Box::new(alert.into())));
        }
    }

    fn push(&mut self, side: Side, record: Record) {
        let is_transaction = !matches!(record, Record::Anomaly(_) | Record::Alert(_));
        let tx_id = is_transaction.then_some(self.insight.transactions);
        self.insight.transactions += u32::from(is_transaction);
        self.shared.push(Event {
            ts_ns: self.ts_ns,
            key: self.flow.key,
            flow_id: self.flow.flow_id,
            client: self.flow.client,
            side,
            tx_id,
            app: self.insight.app,
            record,
        });
    }

    /// Something in the flow is not as it should be, and it goes on. Counted, and a record; nothing of a
    /// datagram that is not whole.
    pub fn anomaly(&mut self, anomaly: Anomaly) {
        // A datagram that was cut short here was right where it came from.
        if !self.is_whole && self.transport != Transport::Tcp {
            return;
        }
        self.shared.counters.anomalies += 1;
        self.insight.anomalies = self.insight.anomalies.saturating_add(1);
        self.record(Record::Anomaly(anomaly));
    }

    /// Somebody tried to log in.
    pub fn login(&mut self, login: Login) {
        let insight = &mut *self.insight;
        let count = match login {
            Login::Attempted => &mut insight.logins_attempted,
            Login::Succeeded => &mut insight.logins_succeeded,
            Login::Failed => &mut insight.logins_failed,
        };
        *count = count.saturating_add(1);
    }

    /// A name server said that this name has this address.
    pub fn resolved(&mut self, address: IpAddr, name: &str) {
        self.shared.names.learn(address, name, self.ts_ns);
    }

    /// A flow to this address and port will be of this protocol, with what its session should know.
    /// Held for a minute of the packets' time.
    pub fn expect(&mut self, transport: Transport, address: IpAddr, port: u16, expected: Expected) {
        self.shared.expect(transport, address, port, expected, self.ts_ns);
    }
}

/// What signatures ask of what this side sent.
pub(super) fn facts_of(
    side: Side,
    ts_ns: u64,
    transport: Transport,
    app: Option<&'static str>,
    addresses: [IpAddr; 2],
    ports: [u16; 2],
) -> Facts {
    let end = |side: Side| (addresses[side.index()], ports[side.index()]);
    Facts {
        ts_ns,
        transport,
        app,
        src: end(side),
        dst: end(side.other()),
        is_to_server: side == Side::Client,
        is_established: true,
    }
}

/// A flow that another one announced.
#[derive(Clone, Debug)]
pub struct Expected {
    pub protocol: &'static dyn Protocol,
    /// Named in the flow's insight, as the file of an FTP transfer.
    pub about: Option<Box<str>>,
}

impl std::fmt::Debug for dyn Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
