//! The one parser against etherparse, over every packet of the shared captures.

mod captures;
mod facts;
mod rules;
mod theirs;

use std::collections::BTreeMap;
use std::path::Path;

use inspect::capfile::PacketRef;
use wire::parse::parse_inner;
use wire::{Link, Packet, Reject, Start, parse};

use facts::Facts;
use rules::{Case, RULES};
use theirs::Theirs;

#[derive(Default)]
struct Tally {
    packets: u64,
    unknown_link: u64,
    /// Compared from the frame's first byte, or from the network header that we found.
    compared_whole: u64,
    compared_from_ip: u64,
    inner: u64,
    both_without_ip: u64,
    ours_without_ip: u64,
    agreed: u64,
    by_rule: BTreeMap<&'static str, u64>,
    /// Frames without an IP packet for us, by reason.
    by_reject: BTreeMap<&'static str, u64>,
    /// By the facts that differ: how often, and the first packet.
    unexplained: BTreeMap<Vec<&'static str>, (u64, String)>,
}

#[test]
fn agrees_with_etherparse_on_every_shared_capture() {
    let mut tally = Tally::default();
    let Some(captures) = captures::for_each_packet(|file, packet| tally.compare(file, packet)) else {
        return;
    };
    println!(
        "{captures} captures, {} packets, {} of a link type neither reads; compared {} from the first \
         byte, {} from the network header, {} inner packets; {} agreed, {} have no IP for either, {} \
         none for us on a link etherparse lacks",
        tally.packets,
        tally.unknown_link,
        tally.compared_whole,
        tally.compared_from_ip,
        tally.inner,
        tally.agreed,
        tally.both_without_ip,
        tally.ours_without_ip,
    );
    println!("without an IP packet for us: {:?}", tally.by_reject);
    for rule in RULES {
        let count = tally.by_rule.get(rule.name).copied().unwrap_or(0);
        println!("{count:>8}  {}: {}", rule.name, rule.reason);
    }
    assert!(tally.compared_whole > 0 && tally.inner > 0);
    for (differences, (count, example)) in &tally.unexplained {
        println!("{count:>8}  UNEXPLAINED {differences:?}, first in {example}");
    }
    assert!(
        tally.unexplained.is_empty(),
        "differences that no rule explains, see above"
    );
}

impl Tally {
    fn compare(&mut self, file: &Path, packet: &PacketRef<'_>) {
        self.packets += 1;
        let Some(link) = Link::from_linktype(u32::from(packet.linktype)) else {
            self.unknown_link += 1;
            return;
        };
        // The wire length of a few captures is less than the bytes they hold; etherparse goes by
        // the bytes, so both do here.
        let frame = packet.data;
        let start = Start::of(link, u32::try_from(frame.len()).expect("bounded by the reader"));
        let ours = parse(frame, start);
        if let Err(reject) = ours {
            *self.by_reject.entry(reject.name()).or_default() += 1;
        }
        let name = format!("{} packet {} ({link:?})", file.display(), self.packets);
        match (&ours, theirs::walk(link, frame)) {
            (Ok(packet), Theirs::NoStart) => self.judge_from_ip(&name, packet, frame),
            (Err(_), Theirs::NoStart) => self.ours_without_ip += 1,
            (_, theirs) => {
                self.compared_whole += 1;
                self.judge(&name, &ours, &theirs, frame);
            }
        }
        if let Ok(outer) = &ours {
            self.compare_inner(&name, outer, frame);
        }
    }

    fn compare_inner(&mut self, name: &str, outer: &Packet, frame: &[u8]) {
        let end = frame.len().min(outer.l3_end as usize);
        if let Some(Ok((inner, _))) = parse_inner(&frame[..end], outer) {
            self.inner += 1;
            self.judge_from_ip(&format!("{name} inner"), &inner, &frame[..end]);
        }
    }

    /// Compares from the network header on, where etherparse cannot come to it.
    fn judge_from_ip(&mut self, name: &str, packet: &Packet, frame: &[u8]) {
        self.compared_from_ip += 1;
        let theirs = match theirs::from_ip(frame, usize::from(packet.l3_at)) {
            Theirs::Ip(mut facts) => {
                facts.vlans = Facts::of(packet, frame.len()).vlans;
                Theirs::Ip(facts)
            }
            other => other,
        };
        self.judge(name, &Ok(*packet), &theirs, frame);
    }

    fn judge(&mut self, name: &str, ours: &Result<Packet, Reject>, theirs: &Theirs, frame: &[u8]) {
        let facts = ours.as_ref().map(|packet| Facts::of(packet, frame.len()));
        let mut differences = match (&facts, theirs) {
            (Err(_), Theirs::NoIp { .. } | Theirs::NoStart) => {
                self.both_without_ip += 1;
                return;
            }
            (Ok(ours), Theirs::Ip(theirs)) => ours.differences(theirs),
            _ => vec!["ip"],
        };
        if differences.is_empty() {
            self.agreed += 1;
            return;
        }
        let case = Case {
            ours,
            facts: facts.as_ref().ok(),
            theirs,
            frame,
        };
        for rule in RULES {
            let before = differences.len();
            if (rule.applies)(&case) {
                differences.retain(|difference| !rule.excuses.contains(difference));
            }
            if differences.len() < before {
                *self.by_rule.entry(rule.name).or_default() += 1;
            }
        }
        if !differences.is_empty() {
            let example = || (0, format!("{name}\n  ours {ours:?}\n  theirs {theirs:?}"));
            self.unexplained.entry(differences).or_insert_with(example).0 += 1;
        } else if let (Ok(packet), Theirs::NoIp { .. }) = (ours, theirs) {
            // A link layer that etherparse does not unwrap; the rest is compared all the same.
            if !matches!(
                theirs::from_ip(frame, usize::from(packet.l3_at)),
                Theirs::NoIp { .. }
            ) {
                self.judge_from_ip(name, packet, frame);
            }
        }
    }
}
