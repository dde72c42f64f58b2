//! Counts of the gateway, for the status and for `/metrics`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gateway::numbers::Number;
use llm::usage::Usage;
use serde::Serialize;
use serde_json::{Map, Value, json};
use store::calls::{AuditRecord, CallRecord, CallSink, Calls, usd_text};
use store::ledger::Budgets;
use store::outcome::Outcome;

const N_BUCKETS: usize = 10;
/// What a provider's key may be.
const KEY_STATES: [&str; 4] = ["ok", "expired", "exhausted", "limited"];

/// What is known of a provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct ProviderNumbers {
    pub(crate) name: String,
    pub(crate) kind: String,
    /// It is passed over, since it failed too often.
    pub(crate) is_open: bool,
    /// Mean time to the first byte lately.
    pub(crate) first_byte_us: Option<u64>,
    pub(crate) keys: Vec<KeyNumbers>,
}

/// What is known of a provider's key.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct KeyNumbers {
    pub(crate) id: String,
    /// `ok`, `expired`, `exhausted` or `limited`.
    pub(crate) state: String,
}

/// Counts calls on their way to the records.
#[derive(Debug)]
pub(crate) struct CountedCalls {
    calls: Calls,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    tokens: [AtomicU64; N_BUCKETS],
    /// Whole dollars and the rest apart: 10^-12 dollars alone would be too many after 18 million of them.
    cost_usd: AtomicU64,
    cost_pusd: AtomicU64,
}

/// Tokens by bucket, by the names of the records.
pub(super) fn buckets(usage: &Usage) -> [(&'static str, u64); N_BUCKETS] {
    [
        ("input", usage.input),
        ("cache_read", usage.cache_read),
        ("cache_write_5m", usage.cache_write_5m),
        ("cache_write_1h", usage.cache_write_1h),
        ("input_audio", usage.input_audio),
        ("input_image", usage.input_image),
        ("output", usage.output),
        ("reasoning", usage.reasoning),
        ("output_audio", usage.output_audio),
        ("output_image", usage.output_image),
    ]
}

const PUSD: u64 = 1_000_000_000_000;

impl CountedCalls {
    pub(crate) fn new(calls: Calls) -> Self {
        Self {
            calls,
            outcomes: std::array::from_fn(|_| AtomicU64::new(0)),
            tokens: std::array::from_fn(|_| AtomicU64::new(0)),
            cost_usd: AtomicU64::new(0),
            cost_pusd: AtomicU64::new(0),
        }
    }

    /// Waits until what was recorded is written.
    #[cfg(test)]
    pub(super) async fn flush(&self) {
        self.calls.flush().await;
    }

    fn cost_pusd(&self) -> i128 {
        i128::from(self.cost_usd.load(Relaxed)) * i128::from(PUSD) + i128::from(self.cost_pusd.load(Relaxed))
    }

    /// Counts since the start.
    pub(super) fn json(&self) -> Value {
        let outcomes = Outcome::ALL.iter().zip(&self.outcomes);
        let outcomes = outcomes.map(|(outcome, count)| (outcome.as_str().to_owned(), count.load(Relaxed)));
        let outcomes = outcomes
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name, count.into()));
        let status = self.calls.status();
        json!({
            "outcomes": outcomes.collect::<Map<_, _>>(),
            "cost_usd": usd_text(self.cost_pusd()),
            "lost": {
                "queue": status.lost_queue,
                "history": status.lost_history,
                "lines": status.lost_lines,
                "bodies": status.lost_bodies,
            },
            "last_error": status.last_error,
        })
    }
}

impl CallSink for CountedCalls {
    fn record(&self, call: CallRecord) {
        self.outcomes[call.outcome as usize].fetch_add(1, Relaxed);
        for (sum, (_, count)) in self.tokens.iter().zip(buckets(&call.usage)) {
            if count > 0 {
                sum.fetch_add(count, Relaxed);
            }
        }
        if let Ok(cost) = u64::try_from(call.cost_pusd)
            && cost > 0
        {
            self.cost_usd.fetch_add(cost / PUSD, Relaxed);
            self.cost_pusd.fetch_add(cost % PUSD, Relaxed);
        }
        self.calls.record(call);
    }

    fn audit(&self, bodies: AuditRecord) {
        self.calls.audit(bodies);
    }

    fn wants_audit(&self) -> bool {
        self.calls.wants_audit()
    }
}

/// What the data plane counted, by the names of metrics without what all of them begin with.
pub(super) fn traffic_json(traffic: &[Number]) -> Value {
    let mut all = Map::new();
    for number in traffic {
        let name = number.name.trim_start_matches("weir_gateway_").to_owned();
        match number.label {
            None => {
                all.insert(name, number.value.into());
            }
            Some((_, of)) => {
                let of_name = all.entry(name).or_insert_with(|| json!({}));
                of_name[of] = number.value.into();
            }
        }
    }
    all.into()
}

/// The state of the ledger in this process.
pub(super) fn ledger_json(budgets: Option<&Budgets>) -> Value {
    let Some(budgets) = budgets else {
        return Value::Null;
    };
    let status = budgets.status();
    json!({
        "is_available": !status.unavailable,
        "last_error": status.last_error,
        "holds": status.holds,
        "refused": {
            "spent": status.refused_spent,
            "unavailable": status.refused_unavailable,
            "busy": status.refused_busy,
        },
        "passed_unchecked": status.passed_unchecked,
        "overshoots": status.overshoots,
        "overshoot_usd": usd_text(status.overshoot_pusd.into()),
        "unattributed_usd": usd_text(status.unattributed_pusd.into()),
        "failures": status.failures,
    })
}

/// One page of Prometheus text (exposition format 0.0.4).
struct Page(String);

impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if at == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.metric(name, kind, help);
        self.value(name, &[], value);
    }
}

pub(super) fn metrics(
    generation: u64,
    n_keys: usize,
    providers: &[ProviderNumbers],
    traffic: &[Number],
    counted: &CountedCalls,
    budgets: Option<&Budgets>,
) -> String {
    let mut page = Page(String::new());
    page.single(
        "weir_gateway_generation",
        "gauge",
        "Generation of the configuration in force.",
        generation,
    );
    page.single(
        "weir_gateway_client_keys",
        "gauge",
        "Keys of clients in force.",
        n_keys,
    );
    let name = "weir_gateway_calls_total";
    page.metric(name, "counter", "Calls by how they ended.");
    for (outcome, count) in Outcome::ALL.iter().zip(&counted.outcomes) {
        page.value(name, &[("outcome", outcome.as_str())], count.load(Relaxed));
    }
    let name = "weir_gateway_tokens_total";
    page.metric(name, "counter", "Tokens by bucket; each token is in one.");
    for ((bucket, _), count) in buckets(&Usage::default()).iter().zip(&counted.tokens) {
        page.value(name, &[("bucket", bucket)], count.load(Relaxed));
    }
    page.single(
        "weir_gateway_cost_usd_total",
        "counter",
        "What calls cost, in US dollars.",
        usd_text(counted.cost_pusd()),
    );
    let mut before = "";
    for number in traffic {
        if number.name != before {
            let is_count = number.name.ends_with("_total");
            page.metric(
                number.name,
                if is_count { "counter" } else { "gauge" },
                number.help,
            );
            before = number.name;
        }
        page.value(number.name, number.label.as_slice(), number.value);
    }
    let name = "weir_gateway_provider_passed_over";
    page.metric(
        name,
        "gauge",
        "1 while a provider is passed over, since it failed too often.",
    );
    for provider in providers {
        page.value(name, &[("provider", &provider.name)], u8::from(provider.is_open));
    }
    let name = "weir_gateway_provider_keys";
    page.metric(name, "gauge", "Keys of providers by state.");
    for provider in providers {
        for state in KEY_STATES {
            let n_keys = provider.keys.iter().filter(|key| key.state == state).count();
            page.value(name, &[("provider", &provider.name), ("state", state)], n_keys);
        }
    }
    let status = counted.calls.status();
    let name = "weir_gateway_records_lost_total";
    page.metric(
        name,
        "counter",
        "Records of calls that were lost: no room in the queue, or writing failed.",
    );
    for (of, count) in [
        ("queue", status.lost_queue),
        ("history", status.lost_history),
        ("lines", status.lost_lines),
        ("bodies", status.lost_bodies),
    ] {
        page.value(name, &[("of", of)], count);
    }
    if let Some(budgets) = budgets {
        let status = budgets.status();
        page.single(
            "weir_gateway_ledger_up",
            "gauge",
            "1 while the ledger answers.",
            u8::from(!status.unavailable),
        );
        page.single(
            "weir_gateway_ledger_failures_total",
            "counter",
            "Commits that failed; they are tried again.",
            status.failures,
        );
        let name = "weir_gateway_budget_refused_total";
        page.metric(name, "counter", "Calls refused for their budget.");
        for (reason, count) in [
            ("spent", status.refused_spent),
            ("unavailable", status.refused_unavailable),
            ("busy", status.refused_busy),
        ] {
            page.value(name, &[("reason", reason)], count);
        }
        page.single(
            "weir_gateway_budget_unchecked_total",
            "counter",
            "Calls that passed a soft budget without the ledger.",
            status.passed_unchecked,
        );
        page.single(
            "weir_gateway_unattributed_usd",
            "gauge",
            "Money that earlier runs had taken in advance and never settled.",
            usd_text(status.unattributed_pusd.into()),
        );
    }
    page.0
}
