//! Captures and what is said of them, and what we say of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use inspect::capfile::{Reader, Step};
use inspect::layer7::{self, Event, Insight};
use inspect::table::{Config, FlowTable, Frame};
use serde_json::Value;
use wire::flow::HashKeys;

/// Folder of the shared data, or `None` with a word of it. With `WEIR_REQUIRE_CAPS=1` it must be there.
pub(crate) fn data() -> Option<PathBuf> {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let data = shared.join("data");
    if data.join("labels.jsonl").is_file() {
        return Some(data);
    }
    let required = std::env::var_os("WEIR_REQUIRE_CAPS").is_some_and(|value| value == "1");
    assert!(
        !required,
        "expected labels in {}; set WEIR_SHARED",
        data.display()
    );
    println!(
        "no labels in {}: nothing checked; set WEIR_SHARED",
        data.display()
    );
    None
}

/// The objects of a file of JSON lines.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("a readable file");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// The two ends of a flow, in an order that says nothing, and what is above IP.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ends {
    ends: [(IpAddr, u16); 2],
    l4: u8,
}

impl Ends {
    fn new(one: (IpAddr, u16), other: (IpAddr, u16), l4: u8) -> Self {
        let mut ends = [one, other];
        ends.sort();
        Self { ends, l4 }
    }

    /// Of a flow as labels write it; `None` of flows without ports.
    pub(crate) fn of_label(flow: &Value) -> Option<Self> {
        let l4 = match flow["l4"].as_str()? {
            "tcp" => wire::ip_proto::TCP,
            "udp" => wire::ip_proto::UDP,
            "sctp" => wire::ip_proto::SCTP,
            _ => return None,
        };
        let end = |address: &str, port: &str| {
            let port = u16::try_from(flow[port].as_u64()?).ok()?;
            Some((flow[address].as_str()?.parse().ok()?, port))
        };
        Some(Self::new(end("src", "sport")?, end("dst", "dport")?, l4))
    }

    fn of_key(key: &wire::FlowKey) -> Self {
        let end = |(address, port): (wire::Addr, u16)| (address.to_ip(key.family), port);
        let (one, other) = (
            key.source(wire::Direction::AToB),
            key.source(wire::Direction::BToA),
        );
        Self::new(end(one), end(other), key.protocol)
    }
}

impl std::fmt::Display for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [(one, one_port), (other, other_port)] = self.ends;
        let l4 = inspect::names::protocol_name(self.l4).unwrap_or("?");
        write!(f, "{l4} {one}:{one_port} {other}:{other_port}")
    }
}

/// What we say of all flows between two ends.
#[derive(Default)]
pub(crate) struct Ours {
    /// In the order the flows ended.
    pub(crate) insights: Vec<Insight>,
    pub(crate) events: Vec<Event>,
}

impl Ours {
    /// Protocols the flows are or were, the present ones first.
    pub(crate) fn apps(&self) -> impl Iterator<Item = &'static str> + '_ {
        let now = self.insights.iter().filter_map(|insight| insight.app);
        now.chain(self.insights.iter().filter_map(|insight| insight.app_before))
    }
}

/// Reads a capture with layer 7 on.
pub(crate) fn read(path: &Path) -> HashMap<Ends, Ours> {
    let bytes = std::fs::read(path).expect("a readable capture");
    let mut table = FlowTable::new(Config {
        layer7: Some(layer7::Config::default()),
        ..Config::new(HashKeys([7; 14]))
    });
    let mut rest = bytes.as_slice();
    let mut reader = Reader::new();
    while let Ok(Step::Packet(packet)) = reader.next(&mut rest) {
        table.add(&Frame {
            ts_ns: packet.ts_ns,
            linktype: packet.linktype.into(),
            interface: packet.interface_id,
            wire_len: packet.orig_len,
            data: packet.data,
        });
    }
    table.finish();
    let mut ours: HashMap<Ends, Ours> = HashMap::new();
    let ended: Vec<_> = table.take_ended().collect();
    for flow in ended {
        let entry = ours.entry(Ends::of_key(&flow.key)).or_default();
        entry
            .insights
            .push(flow.insight.map(|insight| *insight).unwrap_or_default());
    }
    let engine = table.layer7().expect("layer 7 is on");
    for event in engine.take_events() {
        ours.entry(Ends::of_key(&event.key))
            .or_default()
            .events
            .push(event);
    }
    ours
}
