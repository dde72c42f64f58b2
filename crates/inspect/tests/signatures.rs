//! The signatures that ship, over every shared capture: attacks are found, ordinary traffic raises none of
//! severity 1 or 2 but where an attack is in it.

#[path = "parity_etherparse/captures.rs"]
mod captures;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use inspect::layer7::{Config, Record};
use inspect::signature::{Ruleset, SHIPPED, parse};
use inspect::table::{self, FlowTable, Frame};
use wire::flow::HashKeys;

/// Captures with attacks, and signatures that must be among those that match.
const EXPECTED: [(&str, &[u32]); 6] = [
    ("WebattackRCE", &[9_000_021]),
    ("WebattackSQLinj", &[9_000_001]),
    ("xss.pcap", &[9_000_010]),
    ("dotenv", &[9_000_050]),
    ("http_dvwa_sqlinjection", &[9_000_002]),
    ("mining.pcapng", &[9_000_209]),
];

/// Other captures in which signatures may match: a request for a password file, sent in a SYN-ACK.
const OTHERS: [&str; 1] = ["tcp__payload-synack"];

#[test]
fn attacks_are_found_and_little_else() {
    let (rules, errors) = parse(SHIPPED, &parse::default_variables());
    assert_eq!(errors, []);
    let ruleset = Arc::new(Ruleset::new(rules).expect("sound rules"));
    let mut found: BTreeMap<String, BTreeMap<u32, (u8, u32)>> = BTreeMap::new();
    let mut current: Option<(PathBuf, FlowTable)> = None;
    let mut end = |table: Option<(PathBuf, FlowTable)>| {
        let Some((path, mut table)) = table else { return };
        table.finish();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let engine = table.layer7().expect("it is on");
        for event in engine.take_events() {
            if let Record::Alert(alert) = event.record {
                let rules = found.entry(name.clone()).or_default();
                rules.entry(alert.signature_id).or_insert((alert.severity, 0)).1 += 1;
            }
        }
    };
    let read = captures::for_each_packet(|path, packet| {
        if current.as_ref().is_none_or(|(known, _)| known != path) {
            end(current.take());
            let mut table = FlowTable::new(table::Config {
                layer7: Some(Config {
                    wants_records: false,
                    ..Config::default()
                }),
                ..table::Config::new(HashKeys([7; 14]))
            });
            table.layer7().expect("it is on").set_signatures(ruleset.clone());
            current = Some((path.to_owned(), table));
        }
        if let Some((_, table)) = &mut current {
            table.add(&Frame {
                ts_ns: packet.ts_ns,
                linktype: packet.linktype.into(),
                interface: packet.interface_id,
                wire_len: packet.orig_len,
                data: packet.data,
            });
        }
    });
    end(current.take());
    if read.is_none() {
        return;
    }
    for (file, rules) in &found {
        println!("{file}: {rules:?}");
        let mut known = EXPECTED.iter().map(|(name, _)| *name).chain(OTHERS);
        let is_known = known.any(|name| file.contains(name));
        assert!(
            is_known || rules.values().all(|(severity, _)| *severity == 3),
            "{file} is ordinary traffic, yet: {rules:?}"
        );
    }
    for (name, sids) in EXPECTED {
        let of: BTreeSet<u32> = found
            .iter()
            .filter(|(file, _)| file.contains(name))
            .flat_map(|(_, rules)| rules.keys().copied())
            .collect();
        for sid in sids {
            assert!(of.contains(sid), "{name}: {sid} is not among {of:?}");
        }
    }
}
