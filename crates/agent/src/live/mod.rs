//! What the kernel counts, as the worker knows it: flows with their rates, attempts that made no
//! row, the flows that ended lately.
//!
//! Pure but for what is passed in: snapshots of maps, events, times.

mod attempts;
mod ended;
mod layer7;
mod owners;
mod sightings;

use std::collections::HashMap;
use std::sync::Arc;

use inspect::geo::Geo;
use inspect::record::{Context, FlowRecord};
use inspect::table::{EndReason, timeout};
use wire::event::{Event, kind};
use wire::flow::row_flag;
use wire::rows::{SocketKey, SocketRow};
use wire::{FlowKey, FlowRow};

pub use attempts::Attempts;
pub use ended::{Ended, Subscription, Told};
pub use layer7::Layer7;
pub use owners::{CgroupNames, SocketOwner, SocketOwners};

/// A flow that has a row in the kernel.
#[derive(Clone, Debug)]
pub struct LiveFlow {
    pub row: FlowRow,
    /// Packets and bytes at the previous tick, for the rates.
    previous: (u64, u64),
    pub packets_per_s: f64,
    pub bits_per_s: f64,
}

/// The worker's state. Bounded: flows by the kernel's table, the rest by the constants of its parts.
#[derive(Debug, Default)]
pub struct Live {
    flows: HashMap<FlowKey, LiveFlow>,
    pub attempts: Attempts,
    pub ended: Ended,
    pub owners: SocketOwners,
    pub cgroups: CgroupNames,
    sockets: HashMap<SocketKey, SocketRow>,
    interfaces: HashMap<u32, String>,
    waiting: sightings::Waiting,
    /// Added to kernel times, gives nanoseconds since 1970.
    pub epoch_offset_ns: i64,
    /// The time of the last snapshot, nanoseconds since 1970.
    pub now_ns: Option<u64>,
    /// Countries and networks of addresses.
    pub geo: Geo,
    /// What payload samples told.
    pub layer7: Layer7,
    /// Records of layer 7 whose flow has no row here yet, and how many snapshots they have waited.
    told: Vec<(inspect::layer7::Event, u8)>,
    /// Records of layer 7 whose flow never came.
    pub told_without_flow: u64,
}

/// A flow as it is reported, with its rates.
#[derive(Clone, Debug)]
pub struct Reported {
    pub record: Arc<FlowRecord>,
    pub packets_per_s: f64,
    pub bits_per_s: f64,
}

impl Live {
    /// State for interfaces of these indices and names.
    #[must_use]
    pub fn new(interfaces: impl IntoIterator<Item = (u32, String)>) -> Self {
        Self {
            interfaces: interfaces.into_iter().collect(),
            ..Self::default()
        }
    }

    /// One event of the ring.
    pub fn event(&mut self, event: &Event, frame: &[u8]) {
        match event.kind {
            kind::ATTEMPT => self.attempts.note(event, frame),
            kind::SAMPLE => {
                let row = self.flows.get(&event.key).map(|flow| &flow.row);
                let row = row.or_else(|| self.attempts.get(&event.key));
                self.layer7.sample(event, frame, row, self.epoch_offset_ns);
            }
            _ => {}
        }
    }

    /// A row of a snapshot taken `elapsed_s` after the one before.
    pub fn row(&mut self, key: &FlowKey, row: &FlowRow, elapsed_s: f64) {
        let now = totals(row);
        let flow = self.flows.entry(*key).or_insert_with(|| LiveFlow {
            row: *row,
            previous: (0, 0),
            packets_per_s: 0.0,
            bits_per_s: 0.0,
        });
        if elapsed_s > 0.0 {
            flow.packets_per_s = now.0.saturating_sub(flow.previous.0) as f64 / elapsed_s;
            flow.bits_per_s = now.1.saturating_sub(flow.previous.1) as f64 * 8.0 / elapsed_s;
        }
        flow.previous = now;
        flow.row = *row;
        self.attempts.settle(key, row);
    }

    /// Replaces what is known of local sockets.
    pub fn set_sockets(&mut self, sockets: HashMap<SocketKey, SocketRow>) {
        self.sockets = sockets;
    }

    /// Rows in the last snapshot.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Keys of rows that have been silent for longer than their protocol allows. `hurry` divides
    /// the time allowed, for a table that fills up.
    #[must_use]
    pub fn idle(&self, now_ns: u64, hurry: u64, max: usize) -> Vec<FlowKey> {
        self.flows
            .iter()
            .filter(|(key, flow)| {
                now_ns.saturating_sub(flow.row.last_ns) > timeout::idle_ns(key, &flow.row) / hurry
            })
            .map(|(key, _)| *key)
            .take(max)
            .collect()
    }

    /// A row that the broker took out of the kernel's table, with its final counts.
    pub fn end(&mut self, key: &FlowKey, row: Option<&FlowRow>, reason: EndReason) {
        let known = self.flows.remove(key).map(|flow| flow.row);
        let last_ns = row.or(known.as_ref()).map_or(0, |row| row.last_ns);
        self.layer7
            .end(key, last_ns.saturating_add_signed(self.epoch_offset_ns));
        if let Some(row) = row.or(known.as_ref()) {
            let row = self.with_attempt(key, row);
            self.tell_of(Some((key, &row)));
            self.attempts.remove(key);
            self.finish(vec![(*key, row, reason)]);
        }
    }

    /// Hands records of layer 7 to those who listen, each with its flow as it stands. A record waits for its
    /// flow's row, which comes with the next snapshot.
    pub fn tell(&mut self) {
        self.tell_of(None);
    }

    /// The same, `ended` being a flow that has left the table.
    fn tell_of(&mut self, ended: Option<(&FlowKey, &FlowRow)>) {
        /// Snapshots that a record waits for.
        const PATIENCE: u8 = 3;
        let new = self.layer7.take_events();
        self.told.extend(new.into_iter().map(|event| (event, 0)));
        if self.told.is_empty() {
            return;
        }
        let is_heard = self.ended.has_listeners();
        let mut waiting = Vec::new();
        for (mut event, waited) in std::mem::take(&mut self.told) {
            let row = match ended {
                Some((key, row)) if *key == event.key => Some(*row),
                Some(_) => None,
                None => self.sighting_row(&event.key),
            };
            match row {
                Some(row) if is_heard => {
                    let record = self.live_record(&event.key, &row);
                    event.flow_id = record.id;
                    self.ended.tell(Arc::new(event), Arc::new(record));
                }
                Some(_) => {}
                None if ended.is_some() => waiting.push((event, waited)),
                None if waited < PATIENCE => waiting.push((event, waited + 1)),
                None => self.told_without_flow += 1,
            }
        }
        self.told = waiting;
    }

    /// Ends the attempts that nothing came of.
    pub fn end_attempts(&mut self, now_ns: u64) {
        let stale = self.attempts.take_stale(now_ns).into_iter();
        self.finish(stale.map(|(key, row)| (key, row, EndReason::Timeout)).collect());
    }

    /// Every flow in progress, attempts among them; one that is seen on several interfaces comes once.
    pub fn active(&self) -> impl Iterator<Item = Reported> + '_ {
        let flows = self.flows.iter().map(|(key, flow)| {
            let row = self.with_attempt(key, &flow.row);
            (key, row, flow.packets_per_s, flow.bits_per_s)
        });
        let attempts = self
            .attempts
            .iter()
            .filter(|(key, _)| !self.flows.contains_key(*key))
            .map(|(key, row)| (key, *row, 0.0, 0.0));
        flows
            .chain(attempts)
            .filter(|(key, row, ..)| self.is_principal(key, row))
            .map(|(key, row, packets_per_s, bits_per_s)| Reported {
                record: Arc::new(self.live_record(key, &row)),
                packets_per_s,
                bits_per_s,
            })
    }

    /// Rows that became records of their own since too many waited for another sighting of their flow.
    #[must_use]
    pub fn sightings_over_capacity(&self) -> u64 {
        self.waiting.over_capacity
    }

    /// TCP connections by state's name.
    pub fn tcp_states(&self) -> HashMap<&'static str, u64> {
        let mut states = HashMap::new();
        for (key, flow) in &self.flows {
            if let Some(state) = FlowRecord::tcp_state(key, &flow.row)
                && self.is_principal(key, &self.with_attempt(key, &flow.row))
            {
                *states.entry(state.name()).or_default() += 1;
            }
        }
        states
    }

    /// Whether some flow lacks an owner although one end may be local.
    #[must_use]
    pub fn wants_owners(&self) -> bool {
        self.flows.values().any(|flow| flow.row.owner.pid == 0)
    }

    /// The row with the packets of an attempt on the same key that the kernel did not move into it.
    fn with_attempt(&self, key: &FlowKey, row: &FlowRow) -> FlowRow {
        let mut row = *row;
        if let Some(attempt) = self.attempts.get(key)
            && row.adopted_packets == 0
        {
            add_counts(&mut row, attempt);
        }
        row
    }

    fn record(&self, key: &FlowKey, row: &FlowRow, reason: Option<EndReason>) -> FlowRecord {
        let mut row = *row;
        let socket = self.socket(key);
        if row.owner.pid == 0 {
            row.owner = socket
                .map(|socket| socket.owner)
                .filter(|owner| owner.pid != 0)
                .or_else(|| self.owners.owner(key))
                .unwrap_or_default();
        }
        let cgroup = self.cgroups.path(row.owner.cgroup_id);
        let container = cgroup.and_then(owners::container_of);
        let mut record = FlowRecord::from_row(
            key,
            &row,
            &Context {
                interface: self.interfaces.get(&key.ifindex).map(String::as_str),
                reason,
                epoch_offset_ns: self.epoch_offset_ns,
                cgroup,
                container,
                socket,
                now_ns: self.now_ns,
            },
        );
        record.locate(&self.geo);
        record.insight = self.layer7.insight(key).map(|insight| Box::new(insight.clone()));
        record
    }

    /// The local socket of a flow, whichever end it is.
    fn socket(&self, key: &FlowKey) -> Option<&SocketRow> {
        if key.protocol != wire::ip_proto::TCP || key.tunnel != 0 {
            return None;
        }
        let ends = |local, local_port, remote, remote_port| SocketKey {
            local,
            remote,
            local_port,
            remote_port,
            family: key.family,
            protocol: key.protocol,
            ..SocketKey::default()
        };
        let a_is_local = ends(key.a, key.a_port, key.b, key.b_port);
        let b_is_local = ends(key.b, key.b_port, key.a, key.a_port);
        match (self.sockets.get(&a_is_local), self.sockets.get(&b_is_local)) {
            (Some(one), None) | (None, Some(one)) => Some(one),
            // Both ends live on this host: the side that was asked is the one worth naming.
            (Some(one), Some(other)) => Some(if other.active == 0 { other } else { one }),
            (None, None) => None,
        }
    }
}

fn totals(row: &FlowRow) -> (u64, u64) {
    let [a, b] = &row.counts;
    (a.packets() + b.packets(), a.bytes + b.bytes)
}

/// Adds the packets of an attempt that the row did not adopt.
fn add_counts(row: &mut FlowRow, attempt: &FlowRow) {
    for (to, from) in row.counts.iter_mut().zip(&attempt.counts) {
        to.bytes += from.bytes;
        for (to, from) in to.sizes.iter_mut().zip(&from.sizes) {
            *to += from;
        }
    }
    for (to, from) in row.sides.iter_mut().zip(&attempt.sides) {
        to.flags |= from.flags;
    }
    row.first_ns = row.first_ns.min(attempt.first_ns);
    if attempt.flags & row_flag::HANDSHAKE != 0 {
        row.client = attempt.client;
        row.flags |= row_flag::HANDSHAKE;
    }
}

#[cfg(test)]
mod tests;
