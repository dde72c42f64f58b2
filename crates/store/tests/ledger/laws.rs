//! Whatever happens in whatever order: the books balance, and a hard limit holds.

use crate::common::{NOW, account, info, key, options};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use store::ledger::{Batch, Change, Ledger, LedgerReader, Posting, PostingInfo, SqliteLedger};

const LIMIT: i64 = 10_000;

#[derive(Clone, Debug)]
enum Step {
    /// A run asks for a lease.
    Ask { run: usize, need: i64 },
    /// It settles so many percent of what it has, under one of some names.
    Settle { run: usize, percent: i64, name: u8 },
    /// It gives back so many percent.
    Return { run: usize, percent: i64 },
    /// Its last batch is sent again.
    Repeat { run: usize },
    /// It ends without a word, and another of the same name starts.
    Crash { run: usize },
    /// It is replaced while it still lives, and settles afterwards.
    Overlap { run: usize, percent: i64 },
    /// It ends in order.
    Close { run: usize },
    /// Time goes by; who does not renew expires.
    Wait { minutes: i64, renews: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let run = 0..2_usize;
    let percent = 0..=100_i64;
    let step = prop_oneof![
        4 => (run.clone(), 1..4_000_i64).prop_map(|(run, need)| Step::Ask { run, need }),
        4 => (run.clone(), percent.clone(), 0..3_u8)
            .prop_map(|(run, percent, name)| Step::Settle { run, percent, name }),
        2 => (run.clone(), percent.clone()).prop_map(|(run, percent)| Step::Return { run, percent }),
        1 => run.clone().prop_map(|run| Step::Repeat { run }),
        1 => run.clone().prop_map(|run| Step::Crash { run }),
        1 => (run.clone(), percent).prop_map(|(run, percent)| Step::Overlap { run, percent }),
        1 => run.clone().prop_map(|run| Step::Close { run }),
        1 => (0..3_i64, run).prop_map(|(minutes, renews)| Step::Wait { minutes, renews }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// A run, as its process remembers it.
struct Run {
    ledger: SqliteLedger,
    has_pusd: i64,
    last: Batch,
}

struct World {
    folder: tempfile::TempDir,
    runs: Vec<Run>,
    now_ms: i64,
    /// What was settled under each name.
    settled: HashMap<u8, i64>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut world = Self {
            folder,
            runs: Vec::new(),
            now_ms: NOW,
            settled: HashMap::new(),
        };
        for run in 0..2 {
            let new = world.open(run);
            world.runs.push(new);
        }
        world
    }

    fn open(&self, run: usize) -> Run {
        let options = options(self.folder.path(), ["a", "b"][run]);
        let ledger = SqliteLedger::open(&options, self.now_ms).unwrap();
        Run {
            ledger,
            has_pusd: 0,
            last: Batch::default(),
        }
    }

    /// Sends one change of run `at`; it settles, gives back and asks for what is named.
    fn send(&mut self, at: usize, settled: (i64, u8), returned_pusd: i64, need_pusd: Option<i64>) {
        let now_ms = self.now_ms;
        let run = &mut self.runs[at];
        let (amount_pusd, name) = settled;
        let info = PostingInfo {
            model: format!("m{name}").into(),
            ..info("")
        };
        let postings = if amount_pusd > 0 {
            vec![Posting {
                info,
                amount_pusd,
                calls: 1,
            }]
        } else {
            Vec::new()
        };
        let change = Change {
            account: Arc::new(account("a", LIMIT, true)),
            window_ms: 0,
            postings,
            used_pusd: amount_pusd,
            returned_pusd,
            need_pusd,
            free_pusd: run.has_pusd - amount_pusd - returned_pusd,
        };
        run.last = Batch {
            number: run.last.number + 1,
            changes: vec![change],
        };
        let grants = run.ledger.commit(&run.last, now_ms).unwrap();
        run.has_pusd += grants[0].granted_pusd - amount_pusd - returned_pusd;
        *self.settled.entry(name).or_default() += amount_pusd;
    }

    fn step(&mut self, step: &Step) {
        let part = |run: &Run, percent: i64| run.has_pusd * percent / 100;
        match *step {
            Step::Ask { run, need } => self.send(run, (0, 0), 0, Some(need)),
            Step::Settle { run, percent, name } => {
                self.send(run, (part(&self.runs[run], percent), name), 0, None);
            }
            Step::Return { run, percent } => self.send(run, (0, 0), part(&self.runs[run], percent), None),
            Step::Repeat { run } => {
                // As after a commit of which the answer was lost: nothing is booked twice. It asks for nothing.
                let run = &mut self.runs[run];
                run.last
                    .changes
                    .iter_mut()
                    .for_each(|change| change.need_pusd = None);
                run.ledger.commit(&run.last, self.now_ms).unwrap();
            }
            Step::Crash { run } => self.runs[run] = self.open(run),
            Step::Overlap { run, percent } => {
                let new = self.open(run);
                let amount = part(&self.runs[run], percent);
                let rest = self.runs[run].has_pusd - amount;
                self.send(run, (amount, 0), rest, None);
                self.runs[run].ledger.close(self.now_ms).unwrap();
                self.runs[run] = new;
            }
            Step::Close { run } => {
                let rest = self.runs[run].has_pusd;
                self.send(run, (0, 0), rest, None);
                self.runs[run].ledger.close(self.now_ms).unwrap();
                self.runs[run] = self.open(run);
            }
            Step::Wait { minutes, renews } => {
                self.now_ms += minutes * 60_000;
                self.runs[renews].ledger.renew(self.now_ms).unwrap();
            }
        }
    }

    fn check(&self, reader: &LedgerReader, runtime: &tokio::runtime::Runtime, after: &Step) {
        let balances = runtime.block_on(reader.all_balances()).unwrap();
        let Some(balance) = balances.first() else { return };
        assert_eq!(balance.key, key("a"));
        assert!(balance.is_balanced(), "after {after:?}: {balance:?}");
        assert!(balance.debited_pusd <= LIMIT, "after {after:?}: {balance:?}");
        assert!(balance.unattributed_pusd >= 0, "after {after:?}: {balance:?}");
        let named: i64 = self.settled.values().sum();
        assert_eq!(
            balance.settled_pusd - balance.unattributed_pusd,
            named,
            "after {after:?}: {balance:?}"
        );
        let held: i64 = self.runs.iter().map(|run| run.has_pusd).sum();
        let accounted = balance.leased_pusd + balance.unattributed_pusd;
        assert!(
            held <= accounted,
            "what runs hold is debited, after {after:?}: {held}, {balance:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_books_balance_after_every_step(steps in steps()) {
        let mut world = World::new();
        let reader = LedgerReader::open(&world.folder.path().join("ledger.sqlite")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for step in &steps {
            world.step(step);
            world.check(&reader, &runtime, step);
        }
    }
}
