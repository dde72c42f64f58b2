//! What the data plane has counted since its start, by the names of metrics.

use crate::live::Shared;
use crate::server::Counts;
use std::sync::atomic::Ordering::Relaxed;

/// A count, or a state of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Ends in `_total` if it only grows.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Numbers of the same name follow each other and differ in the label's value.
    pub label: Option<(&'static str, &'static str)>,
    /// How many.
    pub value: u64,
}

fn number(name: &'static str, help: &'static str, value: u64) -> Number {
    Number {
        name,
        help,
        label: None,
        value,
    }
}

fn by<const N: usize>(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: [(&'static str, u64); N],
) -> [Number; N] {
    values.map(|(of, value)| Number {
        label: Some((label, of)),
        ..number(name, help, value)
    })
}

/// Of connections and requests.
pub fn of_server(counts: &Counts) -> Vec<Number> {
    let mut all = vec![
        number(
            "weir_gateway_connections",
            "Open connections of clients.",
            counts.open.load(Relaxed) as u64,
        ),
        number(
            "weir_gateway_connections_total",
            "Connections of clients taken.",
            counts.accepted.load(Relaxed),
        ),
    ];
    all.extend(by(
        "weir_gateway_connections_refused_total",
        "Connections closed at once: too many in all, or of one source.",
        "limit",
        [
            ("all", counts.refused_all.load(Relaxed)),
            ("source", counts.refused_source.load(Relaxed)),
        ],
    ));
    all.extend(by(
        "weir_gateway_connections_closed_total",
        "Connections closed by the gateway, by the reason.",
        "reason",
        [
            ("slow_header", counts.slow_headers.load(Relaxed)),
            ("idle", counts.idle_closed.load(Relaxed)),
            ("slow_reader", counts.slow_readers.load(Relaxed)),
            ("tls", counts.tls_failed.load(Relaxed)),
            ("end", counts.cut_connections.load(Relaxed)),
        ],
    ));
    all.extend([
        number(
            "weir_gateway_accept_errors_total",
            "Connections that could not be taken, such as for want of file descriptors.",
            counts.accept_errors.load(Relaxed),
        ),
        number(
            "weir_gateway_requests_total",
            "Requests whose head was read.",
            counts.requests.load(Relaxed),
        ),
        number(
            "weir_gateway_requests_malformed_total",
            "Requests refused since their framing is ambiguous or broken.",
            counts.bad_requests.load(Relaxed),
        ),
        number(
            "weir_gateway_requests_abandoned_total",
            "Requests whose client left before the end of the answer.",
            counts.abandoned.load(Relaxed),
        ),
        number(
            "weir_gateway_requests_cut_total",
            "Requests cut at the end, after the time that open requests have.",
            counts.cut_requests.load(Relaxed),
        ),
    ]);
    all
}

impl Shared {
    /// Of tables that all threads share.
    pub fn numbers(&self) -> Vec<Number> {
        let cache = &self.cache;
        let mut all = Vec::from(by(
            "weir_gateway_cache_lookups_total",
            "Looks for an exact answer in the cache.",
            "result",
            [
                ("hit", cache.hits.load(Relaxed)),
                ("miss", cache.misses.load(Relaxed)),
            ],
        ));
        all.extend(by(
            "weir_gateway_cache_dropped_total",
            "Answers that the cache did not keep, or not to the end of their time, for want of room.",
            "reason",
            [
                ("too_large", cache.too_large.load(Relaxed)),
                ("evicted", cache.evicted.load(Relaxed)),
            ],
        ));
        all.extend([
            number(
                "weir_gateway_cache_bytes",
                "Bytes of answers in the cache.",
                cache.bytes(),
            ),
            number(
                "weir_gateway_wrong_key_sources",
                "Sources of wrong keys that are counted.",
                self.failures.n_sources() as u64,
            ),
            number(
                "weir_gateway_wrong_keys_uncounted_total",
                "Wrong keys of sources for which the table had no room.",
                self.failures.n_uncounted(),
            ),
            number(
                "weir_gateway_limit_rows",
                "Counts of limits that are kept.",
                self.limits.n_rows() as u64,
            ),
            number(
                "weir_gateway_limit_shared_total",
                "Requests that shared a count of a limit with others, since the table was full.",
                self.limits.n_crowded(),
            ),
        ]);
        all
    }
}
