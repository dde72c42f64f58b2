//! Payload samples of the ring, looked at by the same parsers that read captures.
//!
//! The kernel samples the first payloads of each direction. Once a flow is recognised and nothing more of it is
//! of interest, its sampling is turned off; of protocols whose every message tells something, message starts go
//! on being sampled. So the bytes of a direction come with holes, which is why holes are given up at once.

use std::collections::HashMap;

use inspect::layer7::{Config, Conn, Counters, Engine, Event as Told, Insight, Segment};
use inspect::record::FlowRecord;
use wire::event::{Event, SamplingOrder, sampling};
use wire::flow::row_flag;
use wire::parse::{Start, note, parse_inner};
use wire::{Direction, FlowKey, FlowRow, Packet, ip_proto, parse};

use super::attempts::link_of;

/// Flows that are looked at at once. Beyond, samples of new ones are counted only.
const CONNS_MAX: usize = 131_072;

/// Orders that may wait for the broker; beyond, flows go on being sampled as they are.
const ORDERS_MAX: usize = 16_384;

/// Bytes of streams held over all flows.
const BYTES_MAX: usize = 64 << 20;

/// Protocols whose messages go on telling something after the first.
const DIALOGUES: [&str; 12] = [
    "http", "dns", "mdns", "llmnr", "ftp", "smtp", "pop3", "imap", "telnet", "sip", "redis", "mqtt",
];

/// A flow that is looked at.
#[derive(Debug)]
struct Watched {
    conn: Conn,
    /// How it is sampled, where user space has said so.
    ordered: Option<u8>,
}

/// What samples told.
#[derive(Debug)]
pub struct Layer7 {
    engine: Engine,
    conns: HashMap<FlowKey, Watched>,
    /// Of flows that ended and have no record yet.
    over: HashMap<FlowKey, Insight>,
    orders: Vec<SamplingOrder>,
    /// Samples received.
    pub samples: u64,
    /// Samples whose frame did not parse, or not as the flow they are said to be of.
    pub unparsable: u64,
    /// Samples of flows that found no room here.
    pub over_capacity: u64,
    /// Orders that found no room.
    pub orders_refused: u64,
}

impl Default for Layer7 {
    fn default() -> Self {
        Self {
            engine: Engine::new(Config {
                bytes_max: BYTES_MAX,
                gives_up_holes: true,
                ..Config::default()
            }),
            conns: HashMap::new(),
            over: HashMap::new(),
            orders: Vec::new(),
            samples: 0,
            unparsable: 0,
            over_capacity: 0,
            orders_refused: 0,
        }
    }
}

impl Layer7 {
    /// Looks at one sample. `row` is what is known of its flow, an attempt's row included.
    pub fn sample(&mut self, event: &Event, frame: &[u8], row: Option<&FlowRow>, epoch_offset_ns: i64) {
        self.samples += 1;
        let Some((packet, direction)) = packet_of(event, frame) else {
            self.unparsable += 1;
            return;
        };
        let ts_ns = event.at_ns.saturating_add_signed(epoch_offset_ns);
        if !self.conns.contains_key(&event.key) {
            if self.conns.len() >= CONNS_MAX {
                self.over_capacity += 1;
                return;
            }
            let client = row.map_or_else(
                || {
                    let mut row = FlowRow::begin(direction, event.at_ns, 0);
                    if event.key.protocol == ip_proto::TCP {
                        row.flags |= row_flag::PARTIAL;
                    }
                    FlowRecord::client_of(&event.key, &row)
                },
                |row| FlowRecord::client_of(&event.key, row),
            );
            let mut conn = Conn::new(&mut self.engine, event.key, client, 0, ts_ns);
            if row.is_some_and(|row| row.flags & row_flag::PARTIAL == 0) {
                conn.set_from_start();
            }
            self.conns.insert(event.key, Watched { conn, ordered: None });
        }
        let Some(watched) = self.conns.get_mut(&event.key) else {
            return;
        };
        let segment = Segment::of(&packet, direction, frame, ts_ns);
        watched.conn.packet(&mut self.engine, &segment);
        let wanted = if watched.conn.is_over() {
            Some(sampling::OFF)
        } else if watched.conn.is_followed()
            && watched
                .conn
                .insight
                .app
                .is_some_and(|app| DIALOGUES.contains(&app))
        {
            Some(sampling::MESSAGES)
        } else {
            None
        };
        if let Some(samples) = wanted
            && watched.ordered != wanted
        {
            if self.orders.len() >= ORDERS_MAX {
                self.orders_refused += 1;
                return;
            }
            watched.ordered = wanted;
            self.orders.push(SamplingOrder {
                key: event.key,
                samples,
                ..SamplingOrder::default()
            });
        }
    }

    /// What user space wants of flows' payloads, since the last call.
    pub fn take_orders(&mut self) -> Vec<SamplingOrder> {
        std::mem::take(&mut self.orders)
    }

    /// Records since the last call, in the order they happened.
    pub fn take_events(&mut self) -> Vec<Told> {
        self.engine.take_events().collect()
    }

    /// What is known of a flow.
    #[must_use]
    pub fn insight(&self, key: &FlowKey) -> Option<&Insight> {
        match self.conns.get(key) {
            Some(watched) => Some(&watched.conn.insight),
            None => self.over.get(key),
        }
    }

    /// The flow has ended: no more of it will be looked at, and its insight stays until [`Self::forget`].
    pub fn end(&mut self, key: &FlowKey, last_ns: u64) {
        let Some(mut watched) = self.conns.remove(key) else {
            return;
        };
        if !watched.conn.is_over() {
            watched.conn.finish(&mut self.engine, last_ns);
        }
        watched.conn.label_by_address(&self.engine);
        self.over.insert(*key, watched.conn.insight);
    }

    /// The record of an ended flow was made.
    pub fn forget(&mut self, key: &FlowKey) {
        self.over.remove(key);
    }

    /// Flows that are looked at.
    #[must_use]
    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// What was not looked at, and what was found wrong.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        self.engine.counters()
    }

    /// The last name a name server gave for this address.
    #[must_use]
    pub fn name_of(&self, address: std::net::IpAddr) -> Option<&str> {
        self.engine.name_of(address)
    }
}

/// The packet that an event's flow is of, the frame's own or one inside it.
fn packet_of(event: &Event, frame: &[u8]) -> Option<(Packet, Direction)> {
    const UNREADABLE: u16 = note::FRAGMENT_FIRST | note::FRAGMENT_LATER | note::L4_SHORT | note::L4_BAD;
    let start = Start {
        link: link_of(event.link)?,
        at: 0,
        vlan: event.vlan,
        frame_len: event.packet_len,
    };
    let mut packet = parse(frame, start).ok()?;
    for _ in 0..=inspect::table::INNER_LEVELS_MAX {
        let (key, direction) = FlowKey::of(&packet, event.key.ifindex);
        if key == event.key {
            return (packet.notes & UNREADABLE == 0).then_some((packet, direction));
        }
        packet = parse_inner(frame, &packet)?.ok()?.0;
    }
    None
}
