//! All events of a capture, in the order `weir read --format eve` writes them.

use std::path::Path;

use inspect::capfile::{Reader, Step};
use inspect::eve::{FlowEvent, RecordEvent};
use inspect::layer7;
use inspect::record::{Context, FlowRecord};
use inspect::table::{Config, FlowTable, Frame};
use serde_json::Value;
use wire::flow::HashKeys;

pub(crate) fn of(capture: &Path) -> Vec<Value> {
    let bytes = std::fs::read(capture).expect("a readable capture");
    let mut table = FlowTable::new(Config {
        layer7: Some(layer7::Config::default()),
        ..Config::new(HashKeys([7; 14]))
    });
    let mut events = Vec::new();
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
        take(&mut table, &mut events);
    }
    table.finish();
    take(&mut table, &mut events);
    events
}

fn take(table: &mut FlowTable, events: &mut Vec<Value>) {
    let engine = table.layer7().expect("layer 7 is on");
    for event in engine.take_events() {
        let event = RecordEvent {
            event: &event,
            interface: None,
            seed: 0,
        };
        events.push(serde_json::to_value(event).expect("an event"));
    }
    for flow in table.take_ended() {
        let context = Context {
            reason: Some(flow.reason),
            ..Context::default()
        };
        let mut record = FlowRecord::from_row(&flow.key, &flow.row, &context);
        record.insight = flow.insight;
        events.push(serde_json::to_value(FlowEvent::of(&record, 0)).expect("an event"));
    }
}
