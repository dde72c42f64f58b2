//! What all flows share: limits, counters, and what one flow says of others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::conn::Candidates;
use super::names::Names;
use super::proto;
use super::protocol::{Expected, Protocol, Transport};
use super::record::{Event, Record};
use crate::signature::{Ruleset, Scanner};

/// Bounds of an [`Engine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether records are wanted; without them only [`super::Insight`] is filled.
    pub wants_records: bool,
    /// Bytes of streams held at once over all flows. A flow that would need more is not followed on.
    pub bytes_max: usize,
    /// Whether streams come with holes that nothing will fill, since only some packets are seen: bytes
    /// behind a hole are then looked at at once.
    pub gives_up_holes: bool,
}

impl Default for Config {
    /// Records, and 256 MiB.
    fn default() -> Self {
        Self {
            wants_records: true,
            bytes_max: 256 << 20,
            gives_up_holes: false,
        }
    }
}

/// What was not looked at, and what was found wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Flows of which some payload was looked at, and those that were recognised.
    pub flows: u64,
    pub recognised: u64,
    /// Flows given up since all flows together held [`Config::bytes_max`].
    pub over_bytes_max: u64,
    /// Flows given up since a session did not take what one side sent: see [`super::conn::KEPT_MAX`].
    pub over_kept_max: u64,
    /// Bytes of streams that came too early and were refused.
    pub early_bytes_refused: u64,
    /// Zeros that some network cards append to acknowledgements, where the next byte of the stream will be.
    pub padding_bytes: u64,
    /// Holes in streams that were followed, and their bytes.
    pub gaps: u64,
    pub gap_bytes: u64,
    /// Announcements of flows that found no room.
    pub expectations_refused: u64,
    /// Records thrown away since nobody took them.
    pub records_lost: u64,
    pub anomalies: u64,
}

/// Most protocols there may be.
pub const PROTOCOLS_MAX: usize = 256;
/// Announced flows held at once, and for how long.
const EXPECTED_MAX: usize = 10_000;
const EXPECTED_NS: u64 = 60_000_000_000;
/// Records that may wait to be taken.
const RECORDS_MAX: usize = 1 << 20;

/// The shared part of looking at flows.
#[derive(Debug)]
pub struct Engine {
    pub(super) config: Config,
    pub(super) protocols: Vec<&'static dyn Protocol>,
    /// Those over TCP, and those over UDP: asked for with every flow.
    candidates: [Candidates; 2],
    pub(super) shared: Shared,
    /// Bytes held by all streams.
    pub(super) held: usize,
}

/// What sessions reach through [`super::Out`].
#[derive(Debug)]
pub(super) struct Shared {
    /// Whether somebody reads records: listeners, or signatures.
    pub(super) wants_records: bool,
    /// Whether records other than alerts are handed out.
    hands_out: bool,
    pub(super) scanner: Option<Scanner>,
    pub(super) names: Names,
    pub(super) counters: Counters,
    expected: HashMap<(Transport, IpAddr, u16), (Expected, u64)>,
    events: Vec<Event>,
}

impl Engine {
    /// An engine that knows every protocol of [`proto::ALL`].
    #[must_use]
    pub fn new(config: Config) -> Self {
        let protocols: Vec<_> = proto::all().collect();
        Self {
            candidates: [Transport::Tcp, Transport::Udp]
                .map(|transport| Candidates::over(&protocols, transport)),
            protocols,
            config,
            held: 0,
            shared: Shared {
                wants_records: config.wants_records,
                hands_out: config.wants_records,
                scanner: None,
                names: Names::default(),
                counters: Counters::default(),
                expected: HashMap::new(),
                events: Vec::new(),
            },
        }
    }

    /// Protocols that run over this transport.
    pub(super) fn candidates(&self, transport: Transport) -> Candidates {
        match transport {
            Transport::Tcp => self.candidates[0],
            Transport::Udp => self.candidates[1],
            other @ Transport::Other(_) => Candidates::over(&self.protocols, other),
        }
    }

    /// Holds these rules against everything from now on.
    pub fn set_signatures(&mut self, ruleset: Arc<Ruleset>) {
        let scanner = Scanner::new(ruleset);
        self.shared.wants_records = self.config.wants_records || scanner.wants_records();
        self.shared.scanner = Some(scanner);
    }

    /// Signatures at work, with what they held back.
    #[must_use]
    pub fn signatures(&self) -> Option<&Scanner> {
        self.shared.scanner.as_ref()
    }

    /// Records since the last call, in the order they happened.
    pub fn take_events(&mut self) -> std::vec::Drain<'_, Event> {
        self.shared.events.drain(..)
    }

    /// Whether [`Self::take_events`] has something to give.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.shared.events.is_empty()
    }

    /// A record of no flow, as of an ARP packet.
    pub fn record(&mut self, event: impl FnOnce() -> Option<Event>) {
        if self.shared.wants_records
            && let Some(event) = event()
        {
            self.shared.push(event);
        }
    }

    /// What was not looked at, and what was found wrong.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The last name a name server gave for this address.
    #[must_use]
    pub fn name_of(&self, address: IpAddr) -> Option<&str> {
        self.shared.names.of(address)
    }
}

impl Shared {
    pub(super) fn push(&mut self, event: Event) {
        if !self.hands_out && !matches!(event.record, Record::Alert(_)) {
            return;
        }
        if self.events.len() < RECORDS_MAX {
            self.events.push(event);
        } else {
            self.counters.records_lost += 1;
        }
    }

    pub(super) fn expect(
        &mut self,
        transport: Transport,
        address: IpAddr,
        port: u16,
        expected: Expected,
        now_ns: u64,
    ) {
        if self.expected.len() >= EXPECTED_MAX {
            self.expected
                .retain(|_, (_, since_ns)| now_ns.saturating_sub(*since_ns) < EXPECTED_NS);
        }
        if self.expected.len() >= EXPECTED_MAX {
            self.counters.expectations_refused += 1;
            return;
        }
        self.expected
            .insert((transport, address, port), (expected, now_ns));
    }

    /// What was announced for a flow between these endpoints.
    pub(super) fn expected(
        &mut self,
        transport: Transport,
        ends: [(IpAddr, u16); 2],
        now_ns: u64,
    ) -> Option<Expected> {
        if self.expected.is_empty() {
            return None;
        }
        let (expected, since_ns) = ends
            .into_iter()
            .rev()
            .find_map(|(address, port)| self.expected.remove(&(transport, address, port)))?;
        (now_ns.saturating_sub(since_ns) < EXPECTED_NS).then_some(expected)
    }
}
