//! One flow at layer 7: probing, following, over.

use std::net::IpAddr;

use wire::{Direction, FlowKey};

use super::engine::{Engine, PROTOCOLS_MAX};
use super::insight::Insight;
use super::protocol::{
    Earlier, Of, Out, Protocol, Seen, Session, Side, Step, Sure, Transport, Verdict, facts_of,
};
use super::segment::Segment;
use super::stream::{Ready, Stream};
use crate::services;
use crate::signature::Scan;

/// Bytes of one side that are shown to probing parsers before the flow counts as unknown.
pub const PROBE_BYTES_MAX: usize = 4096;
/// Datagrams that are shown to them.
pub const PROBE_PACKETS_MAX: u32 = 16;
/// Pieces of a stream that are shown to them: more, since a sender may cut as small as it likes.
pub const PROBE_SEGMENTS_MAX: u32 = 512;
/// Bytes of one side that a session may leave untaken: a TLS certificate chain fits.
pub const KEPT_MAX: usize = 128 * 1024;

/// One flow.
pub struct Conn {
    state: State,
    key: FlowKey,
    /// The way the opener's packets go.
    client: Direction,
    /// As flow records have it.
    flow_id: u64,
    /// What is known of it.
    pub insight: Insight,
    /// Of TCP, by [`Side::index`] of the flow; dropped when the flow is over.
    streams: Option<Box<[Stream; 2]>>,
    /// The protocol's client is the flow's server.
    is_swapped: bool,
    /// Its service was looked up by a name of its own.
    is_labelled: bool,
    /// The opening of the TCP connection was seen.
    is_from_start: bool,
    /// What signatures remember of it, if there are any.
    scan: Option<Box<Scan>>,
}

enum State {
    Probing(Box<Probing>),
    Following(Box<dyn Session>),
    Over,
}

struct Probing {
    candidates: Candidates,
    /// The surest so far.
    best: Option<(usize, Side)>,
    packets: u32,
    earlier: Vec<Earlier>,
    /// Who spoke first.
    first: Option<Direction>,
}

/// Those that have not said no: a bit by position in the engine's protocols.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Candidates([u64; Self::WORDS]);

impl Candidates {
    const WORDS: usize = PROTOCOLS_MAX / 64;

    /// Those that run over this transport.
    pub(super) fn over(protocols: &[&dyn Protocol], transport: Transport) -> Self {
        let mut candidates = Self::default();
        for (at, protocol) in protocols.iter().enumerate() {
            if protocol.runs_over(transport) {
                candidates.set(at);
            }
        }
        candidates
    }

    fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn clear(&mut self, at: usize) {
        self.0[at / 64] &= !(1 << (at % 64));
    }
}

impl Probing {
    fn new(engine: &Engine, transport: Transport) -> Self {
        Self {
            candidates: engine.candidates(transport),
            best: None,
            packets: 0,
            earlier: Vec::new(),
            first: None,
        }
    }
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            State::Probing(_) => "probing",
            State::Following(_) => "following",
            State::Over => "over",
        };
        f.debug_struct("Conn")
            .field("state", &state)
            .field("insight", &self.insight)
            .finish_non_exhaustive()
    }
}

impl Conn {
    /// A flow of which nothing was looked at yet. `client` is the way the opener's packets go, `flow_id`
    /// as flow records have it.
    #[must_use]
    pub fn new(engine: &mut Engine, key: FlowKey, client: Direction, flow_id: u64, now_ns: u64) -> Self {
        engine.shared.counters.flows += 1;
        let transport = Transport::of(key.protocol);
        let mut conn = Self {
            state: State::Probing(Box::new(Probing::new(engine, transport))),
            key,
            client,
            flow_id,
            insight: Insight::default(),
            streams: (transport == Transport::Tcp).then(Box::default),
            is_swapped: false,
            is_labelled: false,
            is_from_start: transport != Transport::Tcp,
            scan: engine.shared.scanner.is_some().then(Box::default),
        };
        // A connection waits for its first payload: what a transfer is of is said after its SYN.
        if transport != Transport::Tcp {
            conn.follow_expected(engine, now_ns);
        }
        conn
    }

    /// The way the opener's packets go.
    #[must_use]
    pub const fn client(&self) -> Direction {
        self.client
    }

    /// The connection was seen from its opening, as whoever gives no SYN knows.
    pub fn set_from_start(&mut self) {
        self.is_from_start = true;
    }

    /// Whether the protocol tells no more.
    #[inline]
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether nothing is looked at any more, by signatures either.
    #[inline]
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.is_over() && self.scan.is_none()
    }

    /// Whether the protocol is known and what follows is of interest.
    #[must_use]
    pub const fn is_followed(&self) -> bool {
        matches!(self.state, State::Following(_))
    }

    /// One more packet.
    #[inline]
    pub fn packet(&mut self, engine: &mut Engine, segment: &Segment<'_>) {
        self.look(engine, segment);
        if self.scan.is_some() && !segment.payload.is_empty() {
            self.scan(engine, segment);
        }
    }

    #[inline]
    fn look(&mut self, engine: &mut Engine, segment: &Segment<'_>) {
        if self.is_over() {
            return;
        }
        self.insight.has_payload |= !segment.payload.is_empty();
        if !segment.payload.is_empty()
            && let State::Probing(probing) = &mut self.state
            && probing.packets == 0
        {
            probing.first.get_or_insert(segment.direction);
            if self.streams.is_some() {
                self.follow_expected(engine, segment.ts_ns);
            }
        }
        if self.streams.is_none() {
            if !segment.payload.is_empty() {
                self.datagram(engine, segment);
            }
            self.label();
            return;
        }
        let before = self.held();
        self.tcp(engine, segment);
        let held = self.held();
        engine.held = (engine.held + held).saturating_sub(before);
        if engine.held > engine.config.bytes_max && held > 0 {
            engine.shared.counters.over_bytes_max += 1;
            engine.held -= held;
            self.close();
        }
        self.label();
    }

    /// Finds the service by the flow's name, as soon as it has one.
    fn label(&mut self) {
        if !self.is_labelled
            && let Some(host) = &self.insight.host
        {
            self.is_labelled = true;
            self.insight.service = services::of_name(host);
        }
    }

    /// Finds it by what DNS called the server, for flows without a name of their own.
    pub fn label_by_address(&mut self, engine: &Engine) {
        self.label();
        if self.insight.host.is_none() && self.insight.has_payload {
            let ([client, server], _) = self.ends();
            let server = if self.is_swapped { client } else { server };
            if let Some(name) = engine.name_of(server) {
                self.insight.service = services::of_name(name);
                self.insight.resolved_name = Some(name.into());
            }
        }
    }

    /// Takes the flow for what another one announced.
    fn follow_expected(&mut self, engine: &mut Engine, now_ns: u64) {
        let transport = Transport::of(self.key.protocol);
        let (addresses, ports) = self.ends();
        let ends = [0, 1].map(|end| (addresses[end], ports[end]));
        if let Some(expected) = engine.shared.expected(transport, ends, now_ns) {
            self.insight.about = expected.about;
            self.follow(engine, expected.protocol);
        }
    }

    /// The flow has ended: what was held back is told, with the time of its last packet.
    pub fn finish(&mut self, engine: &mut Engine, ts_ns: u64) {
        let before = self.held();
        let last = Segment {
            ts_ns,
            direction: self.client,
            seq: 0,
            ack: 0,
            flags: 0,
            payload: &[],
            wire_len: 0,
        };
        for direction in [self.client, self.client.opposite()] {
            self.drain_all(engine, &Segment { direction, ..last });
        }
        self.settle_best(engine, &last);
        if let State::Following(mut session) = std::mem::replace(&mut self.state, State::Over) {
            session.finish(&mut self.out(engine, &last));
        }
        self.close();
        engine.held = engine.held.saturating_sub(before);
    }

    /// Bytes of streams held.
    fn held(&self) -> usize {
        self.streams
            .as_ref()
            .map_or(0, |streams| streams.iter().map(Stream::held).sum())
    }

    fn close(&mut self) {
        self.streams = None;
        self.state = State::Over;
    }

    /// Addresses and ports of the flow's client and server.
    fn ends(&self) -> ([IpAddr; 2], [u16; 2]) {
        let (client, client_port) = self.key.source(self.client);
        let (server, server_port) = self.key.source(self.client.opposite());
        let addresses = [client, server].map(|address| address.to_ip(self.key.family));
        (addresses, [client_port, server_port])
    }

    fn side(&self, segment: &Segment<'_>) -> Side {
        if segment.direction == self.client {
            Side::Client
        } else {
            Side::Server
        }
    }

    fn out<'a>(&'a mut self, engine: &'a mut Engine, segment: &Segment<'_>) -> Out<'a> {
        let (mut addresses, mut ports) = self.ends();
        if self.is_swapped {
            addresses.swap(0, 1);
            ports.swap(0, 1);
        }
        Out {
            ts_ns: segment.ts_ns,
            side: side_of(self.side(segment), self.is_swapped),
            transport: Transport::of(self.key.protocol),
            addresses,
            ports,
            is_whole: segment.payload.len() >= segment.wire_len as usize,
            insight: &mut self.insight,
            flow: Of {
                key: self.key,
                flow_id: self.flow_id,
                client: if self.is_swapped {
                    self.client.opposite()
                } else {
                    self.client
                },
            },
            scan: &mut self.scan,
            shared: &mut engine.shared,
        }
    }

    /// Holds signatures against a packet's payload, once its protocol is known if it ever will be.
    #[cold]
    fn scan(&mut self, engine: &mut Engine, segment: &Segment<'_>) {
        let Some(mut scan) = self.scan.take() else {
            return;
        };
        if scan.is_done(self.insight.app) {
            if self.is_over() {
                return;
            }
        } else if let Some(mut scanner) = engine.shared.scanner.take() {
            let mut alerts = Vec::new();
            let side = side_of(self.side(segment), self.is_swapped);
            let mut out = self.out(engine, segment);
            let facts = facts_of(
                side,
                out.ts_ns,
                out.transport,
                out.insight.app,
                out.addresses,
                out.ports,
            );
            scanner.payload(&mut scan, &facts, segment.seq, segment.payload, &mut alerts);
            out.alerts(side, alerts);
            engine.shared.scanner = Some(scanner);
        }
        self.scan = Some(scan);
    }

    fn tcp(&mut self, engine: &mut Engine, segment: &Segment<'_>) {
        use wire::tcp::flag;
        let side = self.side(segment).index();
        let Some(streams) = self.streams.as_mut() else {
            return;
        };
        let mut seq = segment.seq;
        if segment.flags & flag::SYN != 0 {
            self.is_from_start = true;
            streams[side].begin(seq);
            seq = seq.wrapping_add(1);
        }
        if segment.flags & flag::ACK != 0 && segment.flags & flag::RST == 0 {
            // What the other side has in hand, but we have not, will not come.
            let other = Segment {
                direction: segment.direction.opposite(),
                ..*segment
            };
            self.drain(engine, &other, Some(segment.ack));
        }
        if segment.payload.is_empty() || segment.flags & flag::RST != 0 {
            return;
        }
        if segment.is_padding() {
            engine.shared.counters.padding_bytes += segment.payload.len() as u64;
            return;
        }
        let Some(streams) = self.streams.as_mut() else {
            return;
        };
        match streams[side].in_order(seq, segment.payload) {
            Some(new) => {
                if !new.is_empty() {
                    self.in_order(engine, segment, new);
                }
            }
            None => {
                engine.shared.counters.early_bytes_refused +=
                    streams[side].insert(seq, segment.payload) as u64;
                if engine.config.gives_up_holes && self.is_followed() {
                    self.drain_all(engine, segment);
                } else {
                    self.drain(engine, segment, None);
                }
            }
        }
        let cut = segment.wire_len.saturating_sub(segment.payload.len() as u32);
        if cut > 0 {
            self.settle_best(engine, segment);
        }
        if cut > 0
            && let Some(streams) = self.streams.as_mut()
            && let Ready::Gap(len) = streams[side].lose(cut)
        {
            self.gap(engine, segment, len);
            self.drain(engine, segment, None);
        }
    }

    /// Bytes that came in order while nothing was kept: looked at where they are.
    fn in_order(&mut self, engine: &mut Engine, segment: &Segment<'_>, new: &[u8]) {
        let side = self.side(segment).index();
        let taken = match &self.state {
            State::Following(_) => {
                let Some(taken) = self.give(engine, segment, new) else {
                    return;
                };
                taken
            }
            _ => 0,
        };
        let rest = new.get(taken as usize..).unwrap_or_default();
        if let Some(streams) = self.streams.as_mut() {
            streams[side].keep(rest);
            streams[side].take(taken.saturating_sub(new.len() as u64));
        }
        // Also after a change of the protocol: the rest is for the new one.
        if matches!(self.state, State::Probing(_)) || taken > 0 && !rest.is_empty() {
            while self.has_kept(self.side(segment)) && self.kept(engine, segment) {}
        }
    }

    /// Hands on what waits in order.
    fn drain(&mut self, engine: &mut Engine, segment: &Segment<'_>, acked: Option<u32>) {
        let side = self.side(segment).index();
        while let Some(streams) = self.streams.as_mut() {
            let stream = &mut streams[side];
            let held = stream.held();
            if held == 0 {
                return;
            }
            match stream.ready(acked) {
                Ready::Nothing => return,
                Ready::Gap(len) => self.gap(engine, segment, len),
                // An acknowledgement brings nothing new to those that probe.
                Ready::Kept if acked.is_some() && matches!(self.state, State::Probing(_)) => return,
                Ready::Kept => {
                    if !self.kept(engine, segment) && !self.hole(engine, segment, |of| of.hole(acked)) {
                        return;
                    }
                }
            }
        }
    }

    /// Passes a hole behind bytes that were not taken; false if there is none to give up.
    fn hole(
        &mut self,
        engine: &mut Engine,
        segment: &Segment<'_>,
        hole: impl Fn(&mut Stream) -> Ready,
    ) -> bool {
        let side = self.side(segment).index();
        let Some(streams) = self.streams.as_mut() else {
            return false;
        };
        if !streams[side].has_early() {
            return false;
        }
        if self.settle_best(engine, segment) {
            return true;
        }
        match self.streams.as_mut().map(|streams| hole(&mut streams[side])) {
            Some(Ready::Gap(len)) => {
                self.gap(engine, segment, len);
                true
            }
            _ => false,
        }
    }

    /// Hands on what waits, holes or not, of a connection that is over.
    fn drain_all(&mut self, engine: &mut Engine, segment: &Segment<'_>) {
        let side = self.side(segment).index();
        while let Some(streams) = self.streams.as_mut() {
            match streams[side].give_up() {
                Ready::Nothing => return,
                Ready::Gap(len) => self.gap(engine, segment, len),
                Ready::Kept => {
                    if !self.kept(engine, segment) && !self.hole(engine, segment, Stream::give_up_hole) {
                        return;
                    }
                }
            }
        }
    }

    /// Hands on the bytes kept; false if none of them was taken.
    fn kept(&mut self, engine: &mut Engine, segment: &Segment<'_>) -> bool {
        if matches!(self.state, State::Probing(_)) {
            return self.probe_streams(engine, segment);
        }
        let side = self.side(segment).index();
        let Some(mut streams) = self.streams.take() else {
            return false;
        };
        let Some(taken) = self.give(engine, segment, streams[side].kept()) else {
            return false;
        };
        streams[side].take(taken);
        let is_over = streams[side].kept().len() > KEPT_MAX;
        self.streams = Some(streams);
        if is_over {
            engine.shared.counters.over_kept_max += 1;
            self.close();
        }
        taken > 0
    }

    fn gap(&mut self, engine: &mut Engine, segment: &Segment<'_>, len: u64) {
        engine.shared.counters.gaps += 1;
        engine.shared.counters.gap_bytes += len;
        let State::Following(mut session) = std::mem::replace(&mut self.state, State::Over) else {
            // What is after a hole begins somewhere inside a message.
            self.close();
            return;
        };
        let side = side_of(self.side(segment), self.is_swapped);
        let step = session.gap(side, len, &mut self.out(engine, segment));
        self.state = State::Following(session);
        if let Some(taken) = self.settle_step(engine, segment, &step, 0)
            && let Some(streams) = self.streams.as_mut()
        {
            streams[side_of(side, self.is_swapped).index()].take(taken);
        }
    }

    fn datagram(&mut self, engine: &mut Engine, segment: &Segment<'_>) {
        if let State::Probing(_) = self.state {
            self.probe_datagram(engine, segment);
            return;
        }
        let before = self.insight.app_before;
        let Some(taken) = self.give(engine, segment, segment.payload) else {
            return;
        };
        // What a protocol leaves to the next one it gets at once.
        let rest = segment.payload.get(taken as usize..).unwrap_or_default();
        if self.insight.app_before != before && !rest.is_empty() {
            let segment = Segment {
                payload: rest,
                wire_len: segment.wire_len.saturating_sub(taken as u32),
                ..*segment
            };
            match self.state {
                State::Probing(_) => self.probe_datagram(engine, &segment),
                _ => {
                    let _ = self.give(engine, &segment, rest);
                }
            }
        }
    }

    /// Gives bytes to the session; how many it took, or `None` if the flow is not followed on.
    fn give(&mut self, engine: &mut Engine, segment: &Segment<'_>, bytes: &[u8]) -> Option<u64> {
        let State::Following(mut session) = std::mem::replace(&mut self.state, State::Over) else {
            return None;
        };
        let side = side_of(self.side(segment), self.is_swapped);
        let step = session.data(side, bytes, &mut self.out(engine, segment));
        self.state = State::Following(session);
        self.settle_step(engine, segment, &step, bytes.len())
    }

    fn settle_step(
        &mut self,
        engine: &mut Engine,
        segment: &Segment<'_>,
        step: &Step,
        len: usize,
    ) -> Option<u64> {
        match *step {
            Step::Take(taken) => Some(taken),
            Step::Done => {
                self.end_session(engine, segment);
                None
            }
            Step::Broken(anomaly) => {
                self.end_session(engine, segment);
                self.out(engine, segment).anomaly(anomaly);
                None
            }
            Step::Switch { taken, to } => {
                self.insight.app_before = self.insight.app.take();
                match to {
                    Some(protocol) => self.follow(engine, protocol),
                    None => {
                        let transport = Transport::of(self.key.protocol);
                        self.state = State::Probing(Box::new(Probing::new(engine, transport)));
                    }
                }
                Some((taken.min(len)) as u64)
            }
        }
    }

    fn end_session(&mut self, engine: &mut Engine, segment: &Segment<'_>) {
        if let State::Following(mut session) = std::mem::replace(&mut self.state, State::Over) {
            session.finish(&mut self.out(engine, segment));
        }
        self.close();
    }

    fn follow(&mut self, engine: &mut Engine, protocol: &'static dyn Protocol) {
        if self.insight.app_before.is_none() && self.insight.app.is_none() {
            engine.shared.counters.recognised += 1;
        }
        self.insight.app = Some(protocol.name());
        self.state = State::Following(protocol.session());
    }

    /// Shows probing parsers what came so far. True if the flow is now known and its bytes were given on.
    fn probe_streams(&mut self, engine: &mut Engine, segment: &Segment<'_>) -> bool {
        let Some(streams) = self.streams.take() else {
            return false;
        };
        let data = [streams[0].kept(), streams[1].kept()];
        let is_last = data.iter().any(|data| data.len() >= PROBE_BYTES_MAX);
        let found = self.probe(engine, segment, data, &[], is_last);
        self.streams = Some(streams);
        match found {
            Probed::NotYet => false,
            Probed::Unknown => {
                self.close();
                false
            }
            Probed::Found(at, client) => {
                self.settle(engine, segment, at, client);
                true
            }
        }
    }

    fn probe_datagram(&mut self, engine: &mut Engine, segment: &Segment<'_>) {
        let side = self.side(segment);
        let mut data: [&[u8]; 2] = [&[], &[]];
        data[side.index()] = segment.payload;
        let mut earlier = match &mut self.state {
            State::Probing(probing) => std::mem::take(&mut probing.earlier),
            _ => return,
        };
        match self.probe(engine, segment, data, &earlier, false) {
            Probed::NotYet => {
                if earlier.len() < Earlier::MAX {
                    earlier.push(Earlier::of(side, segment.payload));
                }
                if let State::Probing(probing) = &mut self.state {
                    probing.earlier = earlier;
                }
            }
            Probed::Unknown => self.close(),
            Probed::Found(at, client) => {
                self.settle(engine, segment, at, client);
                self.datagram(engine, segment);
            }
        }
    }

    /// Asks everyone who has not said no.
    fn probe(
        &mut self,
        engine: &Engine,
        segment: &Segment<'_>,
        data: [&[u8]; 2],
        earlier: &[Earlier],
        is_last: bool,
    ) -> Probed {
        let (addresses, ports) = self.ends();
        let seen = Seen {
            transport: Transport::of(self.key.protocol),
            addresses,
            ports,
            data,
            side: self.side(segment),
            is_from_start: self.is_from_start,
            is_whole: segment.payload.len() == segment.wire_len as usize,
            earlier,
        };
        let State::Probing(probing) = &mut self.state else {
            return Probed::Unknown;
        };
        probing.packets += 1;
        let packets_max = match seen.transport {
            Transport::Tcp => PROBE_SEGMENTS_MAX,
            _ => PROBE_PACKETS_MAX,
        };
        let is_last = is_last || probing.packets >= packets_max;
        let mut best: Option<(usize, Side, bool)> = None;
        let mut is_waiting = false;
        for word in 0..Candidates::WORDS {
            let mut left = probing.candidates.0[word];
            while left != 0 {
                let at = word * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                let protocol = engine.protocols[at];
                match protocol.probe(&seen) {
                    Verdict::No => probing.candidates.clear(at),
                    Verdict::NeedMore => is_waiting = true,
                    Verdict::Match {
                        sure: Sure::Certain,
                        client,
                    } => return Probed::Found(at, client),
                    Verdict::Match {
                        sure: Sure::Likely,
                        client,
                    } => {
                        let has_port = protocol.ports().iter().any(|&port| seen.has_port(port));
                        if best.is_none_or(|(_, _, best_has)| has_port && !best_has) {
                            best = Some((at, client, has_port));
                        }
                    }
                }
            }
        }
        probing.best = best.map(|(at, client, _)| (at, client));
        match best {
            Some((at, client, has_port)) if !is_waiting || has_port || is_last => Probed::Found(at, client),
            None if !is_waiting || is_last => Probed::Unknown,
            _ => Probed::NotYet,
        }
    }

    /// The flow is of this protocol: a session gets all bytes so far.
    fn settle(&mut self, engine: &mut Engine, segment: &Segment<'_>, at: usize, client: Side) {
        let first = match &self.state {
            State::Probing(probing) => probing.first.unwrap_or(self.client),
            _ => self.client,
        };
        self.is_swapped = client == Side::Server;
        self.follow(engine, engine.protocols[at]);
        for direction in [first, first.opposite()] {
            let segment = Segment {
                direction,
                ..*segment
            };
            while self.is_followed() && self.has_kept(self.side(&segment)) && self.kept(engine, &segment) {}
        }
    }

    /// No more will come to tell from: takes the likeliest protocol, if any is likely.
    fn settle_best(&mut self, engine: &mut Engine, segment: &Segment<'_>) -> bool {
        let State::Probing(probing) = &self.state else {
            return false;
        };
        let Some((at, client)) = probing.best else {
            return false;
        };
        self.settle(engine, segment, at, client);
        true
    }

    fn has_kept(&self, side: Side) -> bool {
        self.streams
            .as_ref()
            .is_some_and(|streams| !streams[side.index()].kept().is_empty())
    }
}

enum Probed {
    NotYet,
    Unknown,
    /// Position in the engine's protocols, and who plays the client.
    Found(usize, Side),
}

const fn side_of(side: Side, is_swapped: bool) -> Side {
    if is_swapped { side.other() } else { side }
}
