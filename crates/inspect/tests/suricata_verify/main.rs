//! Events of `weir read --format eve` against what suricata-verify expects of Suricata.
//!
//! The checks come with the labels of the shared captures; `WEIR_SURICATA_VERIFY=FOLDER` takes those of
//! the `test.yaml` files under a folder instead. `WEIR_EVE_FILTER=dns` reads only tests whose name has
//! that in it, `WEIR_EVE_MISSES=1` prints each check that does not hold:
//! `cargo test -p inspect --test suricata_verify -- --nocapture`.

#[path = "../labels/captures.rs"]
#[expect(dead_code, reason = "the flows by their ends are for the labels' scorer")]
mod captures;
mod check;
mod events;
mod left_out;
mod tests;

use std::collections::BTreeMap;

/// Share of the checks that hold, in percent, by event type: whoever falls below has broken something.
const FLOORS: &[(&str, f64)] = &[
    ("arp", 75.0),
    ("dcerpc", 100.0),
    ("dhcp", 100.0),
    ("dnp3", 100.0),
    ("dns", 97.0),
    ("flow", 77.0),
    ("ftp", 100.0),
    ("ftp_data", 100.0),
    ("http", 90.0),
    ("ike", 100.0),
    ("ldap", 100.0),
    ("mdns", 100.0),
    ("mqtt", 97.0),
    ("pgsql", 88.0),
    ("quic", 84.0),
    ("smb", 100.0),
    ("sip", 100.0),
    ("smtp", 85.0),
    ("snmp", 100.0),
    ("ssh", 100.0),
    ("tftp", 100.0),
    ("tls", 93.0),
    ("websocket", 100.0),
];

#[derive(Default)]
struct Row {
    n: u64,
    n_hold: u64,
}

#[test]
fn events_are_those_of_suricata() {
    let folder = std::env::var_os("WEIR_SURICATA_VERIFY");
    let tests = match &folder {
        Some(folder) => tests::of_folder(folder.as_ref()),
        None => match captures::data() {
            Some(data) => tests::of_labels(&data),
            None => return,
        },
    };
    let filter = std::env::var("WEIR_EVE_FILTER").unwrap_or_default();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut left_out: BTreeMap<&str, u64> = BTreeMap::new();
    let mut misses = Vec::new();
    for (capture, tests) in tests::by_capture(tests.iter().filter(|test| test.name.contains(&filter))) {
        let events = events::of(capture);
        for (test, check) in tests {
            if let Some(reason) = left_out::reason(test, check) {
                *left_out.entry(reason).or_default() += 1;
                continue;
            }
            let row = rows.entry(check.event_type().to_owned()).or_default();
            row.n += 1;
            match check.holds(&events) {
                Ok(()) => row.n_hold += 1,
                Err(why) => misses.push(format!("{}: {why}", test.name)),
            }
        }
    }
    let mut all = Row::default();
    println!("{:16} {:>6} {:>6} {:>8}", "event type", "checks", "hold", "share");
    for (event_type, row) in &rows {
        println!(
            "{event_type:16} {:6} {:6} {:8.2}",
            row.n,
            row.n_hold,
            row.percent()
        );
        all.n += row.n;
        all.n_hold += row.n_hold;
    }
    println!("{:16} {:6} {:6} {:8.2}", "all", all.n, all.n_hold, all.percent());
    for (reason, n) in left_out {
        println!("{n} left out: {reason}");
    }
    if std::env::var_os("WEIR_EVE_MISSES").is_some() {
        for miss in misses {
            println!("{miss}");
        }
    }
    if folder.is_none() && filter.is_empty() {
        for (event_type, floor) in FLOORS {
            let reached = rows.get(*event_type).map_or(0.0, Row::percent);
            assert!(
                reached >= *floor,
                "{event_type}: {reached:.2} %, expected {floor} % at least"
            );
        }
    }
}

impl Row {
    fn percent(&self) -> f64 {
        if self.n == 0 {
            return 100.0;
        }
        self.n_hold as f64 * 100.0 / self.n as f64
    }
}
