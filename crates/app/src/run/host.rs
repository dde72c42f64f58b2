//! The admin API's questions, answered from the worker's state.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;

use agent::live::{Reported, Told};
use agent::worker::{DirectionTotals, Shared};
use control::host::{FlowPage, FlowQuery, RecordFormat, Sort, StateChoice, Subscription};
use control::status::{
    Aggregate, AggregateDirection, Counts, Drop, Flows, Interface, InterfaceTraffic, Status, Tcp,
};
use control::token::TokenHash;
use inspect::eve::{FlowEvent, RecordEvent};
use inspect::json::JsonFlow;
use inspect::names::protocol_name;
use inspect::record::FlowRecord;
use inspect::time::Rfc3339;
use policy::filter::{Field, Filter, Value};
use serde::Serialize;
use wire::{ABI_VERSION, Reject};

use super::gateway::admin::GatewayAdmin;
use super::report::{Facts, hook_name};
use super::tokens::TokenFile;

/// Records that wait for one API client.
const STREAM_QUEUE_MAX: usize = 1_024;

/// Seed of the community ids that records carry.
const COMMUNITY_SEED: u16 = 0;

/// The running Weir.
pub(super) struct RunningHost {
    shared: Arc<Shared>,
    facts: Arc<Facts>,
    tokens: Arc<TokenFile>,
    gateway: Option<Arc<GatewayAdmin>>,
}

impl RunningHost {
    pub(super) fn new(
        facts: Arc<Facts>,
        tokens: Arc<TokenFile>,
        shared: Arc<Shared>,
        gateway: Option<Arc<GatewayAdmin>>,
    ) -> Self {
        Self {
            shared,
            facts,
            tokens,
            gateway,
        }
    }

    fn interface(&self, ifindex: u32) -> Option<&str> {
        self.facts
            .attached
            .iter()
            .find(|one| one.ifindex == ifindex)
            .map(|one| one.name.as_str())
    }
}

impl control::Host for RunningHost {
    fn gateway(&self) -> Option<&dyn control::gateway::GatewayHost> {
        self.gateway.as_deref().map(|gateway| gateway as _)
    }

    fn status(&self) -> Status {
        let counters = self.shared.counters().clone();
        let (flows, states, lost_here) = {
            let live = self.shared.live();
            let flows = Flows {
                rows: live.len() as u64,
                capacity: self.facts.flow_capacity,
                attempts: live.attempts.len() as u64,
                ended_total: live.ended.total,
            };
            let lost_here = [
                ("attempts_over_capacity", live.attempts.over_capacity),
                ("attempts_unparsable", live.attempts.unparsable),
                ("record_listener_too_slow", live.ended.dropped),
                ("sightings_over_capacity", live.sightings_over_capacity()),
                ("samples_unparsable", live.layer7.unparsable),
                ("samples_over_capacity", live.layer7.over_capacity),
                ("sampling_orders_refused", live.layer7.orders_refused),
                ("layer7_over_bytes_max", live.layer7.counters().over_bytes_max),
                ("layer7_records_lost", live.layer7.counters().records_lost),
                ("layer7_records_without_flow", live.told_without_flow),
            ];
            (flows, live.tcp_states(), lost_here)
        };
        let mut losses = loss_counts(&counters.losses);
        losses.extend(lost_here.map(|(name, count)| (name.to_owned(), count)));
        let interfaces: Vec<_> = self
            .facts
            .attached
            .iter()
            .zip(&self.facts.interfaces)
            .map(|(attached, interface)| {
                let [rx, tx] = counters
                    .interfaces
                    .get(&attached.ifindex)
                    .copied()
                    .unwrap_or_default();
                Interface {
                    name: attached.name.clone(),
                    ifindex: attached.ifindex,
                    link: match interface.link {
                        Some(wire::Link::Ethernet) => "ethernet",
                        Some(_) => "raw",
                        None => "unknown",
                    }
                    .to_owned(),
                    ingress: Some(hook_name(attached.ingress).to_owned()),
                    egress: Some(hook_name(attached.egress).to_owned()),
                    notes: attached.notes.clone(),
                    rx: traffic(&rx),
                    tx: traffic(&tx),
                }
            })
            .collect();
        let unaccounted = counters
            .interfaces
            .values()
            .flatten()
            .map(|one| one.counters.unaccounted())
            .sum();
        let mut drops: Vec<_> = counters
            .drops
            .iter()
            .map(|(reason, count)| Drop {
                reason: self.drop_reason(*reason),
                count: *count,
            })
            .collect();
        drops.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
        const ESTABLISHED: usize = 1;
        const CLOSED: usize = 7;
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: ABI_VERSION,
            instance: self.facts.instance.clone(),
            hostname: nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok()),
            mode: "observe".to_owned(),
            started_at: Rfc3339(epoch_ns(self.facts.started)).to_string(),
            uptime_s: self.facts.begin.elapsed().as_secs_f64(),
            interfaces,
            flows,
            tcp: Tcp {
                established_total: counters.tcp.entered[ESTABLISHED],
                closed_total: counters.tcp.entered[CLOSED],
                retransmits: counters.tcp.retransmits,
                retransmitted_handshakes: counters.tcp.retransmitted_handshakes,
                states: states
                    .into_iter()
                    .map(|(name, count)| (name.to_owned(), count))
                    .collect(),
            },
            drops,
            incomplete: incomplete(&losses),
            losses,
            kernel_memory_bytes: self.facts.kernel_memory_bytes,
            resident_bytes: resident_bytes(),
            degraded: self.facts.notes.clone(),
            unaccounted_packets: unaccounted,
        }
    }

    fn flows(&self, query: &FlowQuery) -> FlowPage {
        let mut found = Vec::new();
        {
            let live = self.shared.live();
            let mut take = |reported: Reported| {
                let passes = query
                    .filter
                    .as_ref()
                    .is_none_or(|filter| filter.eval(&WithRates(&reported)));
                if passes {
                    found.push(reported);
                }
            };
            if query.state != StateChoice::Ended {
                live.active().for_each(&mut take);
            }
            if query.state != StateChoice::Active {
                live.ended.latest().for_each(|record| take(over(record)));
            }
        }
        let total_matching = found.len() as u64;
        found.sort_by(|a, b| sort_key(query.sort, b).total_cmp(&sort_key(query.sort, a)));
        found.truncate(query.limit);
        FlowPage {
            flows: found.iter().map(write_json).collect(),
            total_matching,
            incomplete: incomplete(&loss_counts(&self.shared.counters().losses)),
        }
    }

    fn flow(&self, id: u64) -> Option<String> {
        let live = self.shared.live();
        let active = live.active().find(|reported| reported.record.id == id);
        active
            .or_else(|| live.ended.latest().find(|record| record.id == id).map(over))
            .map(|reported| write_json(&reported))
    }

    fn aggregates(&self) -> Vec<Aggregate> {
        let mut rows = self.shared.aggregates().unwrap_or_default();
        rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.packets));
        rows.iter()
            .map(|(key, row)| Aggregate {
                addr: key.addr.to_ip(key.family),
                port: key.port,
                proto: protocol_name(key.protocol).map_or_else(|| key.protocol.to_string(), str::to_owned),
                direction: if key.from == 0 {
                    AggregateDirection::To
                } else {
                    AggregateDirection::From
                },
                iface: self.interface(key.ifindex).map(str::to_owned),
                packets: row.packets,
                bytes: row.bytes,
                adopted_packets: row.adopted_packets,
            })
            .collect()
    }

    fn programs(&self) -> Result<serde_json::Value, String> {
        self.shared.broker.programs().map_err(|error| error.to_string())
    }

    fn subscribe(&self, filter: Option<Filter>, format: RecordFormat) -> Subscription {
        let records = self.shared.live().ended.subscribe();
        let (sender, lines) = tokio::sync::mpsc::channel(STREAM_QUEUE_MAX);
        let lost = Arc::clone(&records.lost);
        // A thread a stream: their number is bounded by the server. It ends with its listener.
        std::thread::spawn(move || {
            while !sender.is_closed() {
                let told = match records.records.recv_timeout(std::time::Duration::from_secs(1)) {
                    Ok(told) => told,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                let (Told::Flow(record) | Told::Event(_, record)) = &told;
                if filter.as_ref().is_some_and(|filter| !filter.eval(&**record)) {
                    continue;
                }
                let line = match (&told, format) {
                    (Told::Flow(record), RecordFormat::Json) => write_json(&over(record)),
                    (Told::Flow(record), RecordFormat::Eve) => {
                        to_json(&FlowEvent::of(record, COMMUNITY_SEED))
                    }
                    // Plain records are of flows alone.
                    (Told::Event(..), RecordFormat::Json) => continue,
                    (Told::Event(event, record), RecordFormat::Eve) => to_json(&RecordEvent {
                        event,
                        interface: record.interface.as_deref(),
                        seed: COMMUNITY_SEED,
                    }),
                };
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Subscription { lines, lost }
    }

    fn token_hashes(&self) -> Vec<TokenHash> {
        self.tokens.hashes()
    }

    fn create_token(&self) -> Result<String, String> {
        self.tokens.create()
    }
}

impl RunningHost {
    fn drop_reason(&self, number: u32) -> String {
        self.facts
            .drop_reasons
            .get(&number)
            .cloned()
            .unwrap_or_else(|| format!("reason_{number}"))
    }
}

/// A flow with its present rates, as filters ask it.
struct WithRates<'a>(&'a Reported);

impl policy::filter::Facts for WithRates<'_> {
    fn get(&self, field: Field) -> Value<'_> {
        match field {
            Field::RateBps => (self.0.bits_per_s as u64).into(),
            Field::RatePps => (self.0.packets_per_s as u64).into(),
            field => self.0.record.get(field),
        }
    }
}

/// A record as the API gives it.
#[derive(Serialize)]
struct ApiFlow<'a> {
    #[serde(flatten)]
    flow: JsonFlow<'a>,
    rate_pps: f64,
    rate_bps: f64,
}

fn write_json(reported: &Reported) -> String {
    to_json(&ApiFlow {
        flow: JsonFlow::of(&reported.record, COMMUNITY_SEED),
        rate_pps: reported.packets_per_s,
        rate_bps: reported.bits_per_s,
    })
}

/// Records hold nothing that JSON cannot: the error is unreachable, and would be an empty object.
fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

fn over(record: &Arc<FlowRecord>) -> Reported {
    Reported {
        record: Arc::clone(record),
        packets_per_s: 0.0,
        bits_per_s: 0.0,
    }
}

fn sort_key(sort: Sort, reported: &Reported) -> f64 {
    let record = &reported.record;
    match sort {
        Sort::Bytes => record.bytes() as f64,
        Sort::Packets => record.packets() as f64,
        Sort::Rate => reported.bits_per_s,
        Sort::Last => record.end_ns as f64,
        Sort::Start => record.start_ns as f64,
        Sort::Duration => record.duration_ns() as f64,
    }
}

fn traffic(totals: &DirectionTotals) -> InterfaceTraffic {
    let counters = &totals.counters;
    InterfaceTraffic {
        packets: counters.packets,
        bytes: counters.bytes,
        in_rows: counters.in_rows,
        attempts: counters.attempts,
        aggregated: counters.aggregated,
        rejects: Reject::ALL
            .iter()
            .zip(counters.rejects)
            .filter(|(_, count)| *count != 0)
            .map(|(reject, count)| (reject.name().to_owned(), count))
            .collect(),
        l4_faults: counters.l4_faults,
        inner_in_rows: counters.inner_in_rows,
        inner_without_row: counters.inner_without_row,
        packets_per_s: totals.packets_per_s,
        bits_per_s: totals.bits_per_s,
    }
}

fn loss_counts(losses: &wire::rows::Losses) -> Counts {
    [
        ("flow_table_full", losses.flow_table_full),
        ("over_row_budget", losses.over_row_budget),
        ("over_attempt_budget", losses.over_attempt_budget),
        ("over_sample_budget", losses.over_sample_budget),
        ("ring_full_attempt", losses.ring_full_attempt),
        ("ring_full_sample", losses.ring_full_sample),
        ("aggregate_overflow_packets", losses.aggregate_overflow_packets),
        ("aggregate_overflow_bytes", losses.aggregate_overflow_bytes),
        ("pending_overwritten", losses.pending_overwritten),
        ("socket_table_full", losses.socket_table_full),
    ]
    .map(|(name, count)| (name.to_owned(), count))
    .into()
}

/// What flows may be missing, if anything was refused a row since the programs were attached.
fn incomplete(losses: &Counts) -> Option<String> {
    let count = |name: &str| losses.get(name).copied().unwrap_or(0);
    let without_row = count("flow_table_full") + count("over_row_budget") + count("over_attempt_budget");
    (without_row != 0).then(|| {
        format!(
            "{without_row} packets got no flow of their own (budget or table full) and are counted by service: see \
             the aggregates"
        )
    })
}

/// Resident memory of this process and, with it, the pages it shares with the broker.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    let page_size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .unwrap_or(4096);
    pages * page_size as u64
}

fn epoch_ns(time: std::time::SystemTime) -> u64 {
    time.duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}
