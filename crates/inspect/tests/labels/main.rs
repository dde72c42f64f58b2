//! What layer 7 says of the shared captures, against what their labels and tshark say.
//!
//! `WEIR_LABELS_FILTER=mqtt` reads only files whose name has that in it, `WEIR_LABELS_MISSES=1` prints
//! each miss: `cargo test -p inspect --test labels -- --nocapture`.

mod captures;
mod score;
mod truth;

use std::collections::{BTreeSet, HashMap};

use inspect::layer7::proto;
use serde_json::Value;

use captures::{Ends, Ours};
use score::{Score, Share};
use truth::{Fields, Names};

/// Floors in percent, a little below what was reached: whoever falls below has broken something.
const FLOORS: &[(&str, f64)] = &[
    ("flows", 97.0),
    ("mean over files", 93.5),
    ("sni", 99.0),
    ("ja4", 98.5),
    ("http host", 99.0),
    ("http user agent", 99.0),
    ("http request", 97.5),
    ("http response", 95.0),
    ("dns name", 99.0),
    ("ssh banner", 97.0),
];

#[test]
fn flows_are_what_their_labels_say() {
    let Some(data) = captures::data() else { return };
    let filter = std::env::var("WEIR_LABELS_FILTER").unwrap_or_default();
    let tshark: HashMap<String, Value> = captures::lines(&data.join("expected/tshark_flows.jsonl"))
        .into_iter()
        .filter_map(|file| Some((file["file"].as_str()?.to_owned(), file)))
        .collect();
    let names = Names::new();
    let mut score = Score::default();
    for label in captures::lines(&data.join("labels.jsonl")) {
        let file = label["file"].as_str().expect("a file name");
        if file.contains(&filter) {
            let ours = captures::read(&data.join(file));
            add(&mut score, file, &label, tshark.get(file), &ours, &names);
        }
    }
    let totals = print(&score);
    if std::env::var_os("WEIR_LABELS_MISSES").is_some() {
        for miss in &score.misses {
            println!("{miss}");
        }
    }
    if filter.is_empty() {
        for (name, floor) in FLOORS {
            let reached = totals.get(name).copied().unwrap_or_default();
            assert!(
                reached >= *floor,
                "{name}: {reached:.2} %, expected {floor} % at least"
            );
        }
    }
}

fn add(
    score: &mut Score,
    file: &str,
    label: &Value,
    tshark: Option<&Value>,
    ours: &HashMap<Ends, Ours>,
    names: &Names,
) {
    let source = label["label_source"].as_str().unwrap_or("");
    let mut flows = by_ends(label);
    for (ends, flow) in &flows {
        let expected = names.of(source, flow);
        if !expected.is_empty() {
            let is_covered = |name: &str| proto::by_name(name).is_some();
            score.protocol(file, ends, &expected, ours.get(ends), is_covered);
        }
    }
    let mut tshark = tshark.map(by_ends).unwrap_or_default();
    // One field is judged once, though a label may list the flow twice.
    let all: BTreeSet<Ends> = flows
        .iter()
        .chain(&tshark)
        .map(|(ends, _)| ends.clone())
        .collect();
    for ends in all {
        let take = |list: &mut Vec<(Ends, Value)>| {
            let at = list.iter().position(|(other, _)| *other == ends)?;
            Some(list.swap_remove(at).1)
        };
        let fields = Fields::of(source, take(&mut flows).as_ref(), take(&mut tshark).as_ref());
        score.fields(file, &ends, &fields, ours.get(&ends));
    }
}

fn by_ends(label: &Value) -> Vec<(Ends, Value)> {
    let flows = label["flows"].as_array().into_iter().flatten();
    flows
        .filter_map(|flow| Some((Ends::of_label(flow)?, flow.clone())))
        .collect()
}

/// Prints the tables; the totals by name.
fn print(score: &Score) -> HashMap<&'static str, f64> {
    println!(
        "{:24} {:>6} {:>6} {:>8} {:>10} {:>8}",
        "protocol", "flows", "right", "recall", "precision", "parser"
    );
    for (name, row) in &score.protocols {
        let recall = Share {
            right: row.right,
            all: row.flows,
        };
        let precision = Share {
            right: row.right,
            all: row.right + row.taken_wrongly,
        };
        let parser = if proto::by_name(name).is_some() {
            "yes"
        } else {
            "-"
        };
        println!(
            "{name:24} {:6} {:6} {:8.2} {:10.2} {parser:>8}",
            row.flows,
            row.right,
            recall.percent(),
            precision.percent()
        );
    }
    let mut flows = Share::default();
    for share in score.files.values() {
        flows.right += share.right;
        flows.all += share.all;
    }
    let mean = if score.files.is_empty() {
        100.0
    } else {
        score.files.values().map(|share| share.percent()).sum::<f64>() / score.files.len() as f64
    };
    let n_covered: u64 = score.protocols.values().map(|row| row.flows).sum();
    println!();
    println!(
        "flows      {:.2} % of {} judged ({n_covered} labelled), {:.2} % as the mean of {} files",
        flows.percent(),
        flows.all,
        mean,
        score.files.len()
    );
    let mut totals = HashMap::from([("flows", flows.percent()), ("mean over files", mean)]);
    for (field, share) in &score.fields {
        println!(
            "{field:20} {:6} {:6} {:8.2} %",
            share.all,
            share.right,
            share.percent()
        );
        totals.insert(*field, share.percent());
    }
    totals
}
