//! The figures of `weir bench gateway`, and which bars of DESIGN, section 12, they meet.

use serde::Serialize;

use super::load::Found;
use super::{Case, GatewayArgs, Measured};
use crate::bench::machine;
use crate::bench::statistics::Spread;
use crate::cli::text::{Align, Cell, Painter, Tone, bytes, columns, grouped};

#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: String,
    /// Work that waited for a processor when the bench ended, of the last minutes.
    load_average: String,
    slices: u32,
    seconds: f64,
    rows: Vec<Row>,
    bars: Vec<Bar>,
    missing: Vec<String>,
}

/// Medians of the slices.
#[derive(Debug, Serialize)]
struct Row {
    case: String,
    server: &'static str,
    requests_per_s: Option<Spread>,
    requests_of_nginx: Option<f64>,
    cpu_us_per_request: Option<Spread>,
    cpu_of_nginx: Option<f64>,
    p50_us: Option<Spread>,
    p99_us: Option<Spread>,
    p99_over_nginx_us: Option<f64>,
    first_p50_us: Option<Spread>,
    /// Beyond what the provider itself takes.
    first_added_us: Option<f64>,
    gap_p50_us: Option<Spread>,
    gap_p99_us: Option<Spread>,
    resident_bytes: u64,
    open_streams: u64,
    errors: u64,
    not_sent: u64,
}

#[derive(Debug, Serialize)]
struct Bar {
    what: &'static str,
    found: f64,
    limit: f64,
    unit: &'static str,
    is_met: bool,
}

fn spread(found: &[Found], of: impl Fn(&Found) -> Option<f64>) -> Option<Spread> {
    Spread::of(found.iter().filter_map(of).collect())
}

/// Requests a second.
pub(super) fn rate(found: &[Found]) -> Option<Spread> {
    spread(found, |one| Some(one.requests as f64 / one.seconds))
}

fn cpu_us(found: &[Found]) -> Option<Spread> {
    spread(found, |one| {
        (one.requests > 0).then(|| one.cpu_seconds * 1e6 / one.requests as f64)
    })
}

/// The difference or ratio of medians.
fn beside(one: Option<Spread>, other: Option<Spread>, compare: fn(f64, f64) -> f64) -> Option<f64> {
    Some(compare(one?.median, other?.median)).filter(|result| result.is_finite())
}

impl Row {
    fn of(measured: &Measured, all: &[Measured]) -> Self {
        let found = &measured.found[..];
        let same_case = |name: &str| {
            let other = all
                .iter()
                .find(|one| one.case == measured.case && one.server == name);
            other.map_or(&[][..], |one| &one.found)
        };
        let (nginx, direct) = (same_case("nginx"), same_case("direct"));
        let is_stream = matches!(measured.case, Case::Streams { .. } | Case::Memory);
        let p99 = |found: &[Found]| spread(found, |one| (!is_stream).then_some(one.latency_us.p99));
        let first = |found: &[Found]| {
            spread(found, |one| {
                (is_stream && one.first_us.samples > 0).then_some(one.first_us.p50)
            })
        };
        let gap = |of: fn(&Found) -> f64| {
            spread(found, |one| {
                (is_stream && one.gap_us.samples > 0).then(|| of(one))
            })
        };
        let is_memory = measured.case == Case::Memory;
        let (requests, cpu) = if is_memory {
            (None, None)
        } else {
            (rate(found), cpu_us(found))
        };
        Self {
            case: measured.case.name(),
            server: measured.server,
            requests_of_nginx: beside(requests, rate(nginx), |one, other| one / other),
            requests_per_s: requests,
            cpu_of_nginx: beside(cpu, cpu_us(nginx), |one, other| one / other),
            cpu_us_per_request: cpu,
            p50_us: spread(found, |one| (!is_stream).then_some(one.latency_us.p50)),
            p99_over_nginx_us: beside(p99(found), p99(nginx), |one, other| one - other),
            p99_us: p99(found),
            first_added_us: beside(first(found), first(direct), |one, other| one - other),
            first_p50_us: first(found),
            gap_p50_us: gap(|one| one.gap_us.p50),
            gap_p99_us: gap(|one| one.gap_us.p99),
            resident_bytes: found.iter().map(|one| one.resident_bytes).max().unwrap_or(0),
            open_streams: found.iter().map(|one| one.open_streams).max().unwrap_or(0),
            errors: found.iter().map(|one| one.errors).sum(),
            not_sent: found.iter().map(|one| one.not_sent).sum(),
        }
    }
}

impl Report {
    pub(super) fn of(measured: &[Measured], args: &GatewayArgs, missing: Vec<String>) -> Self {
        let rows: Vec<Row> = measured.iter().map(|one| Row::of(one, measured)).collect();
        Self {
            machine: machine(),
            load_average: std::fs::read_to_string("/proc/loadavg")
                .unwrap_or_default()
                .split_whitespace()
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
            slices: args.slices,
            seconds: args.seconds,
            bars: bars(measured, &rows),
            rows,
            missing,
        }
    }

    pub(super) fn is_within_bars(&self) -> bool {
        self.bars.iter().all(|bar| bar.is_met)
    }

    pub(super) fn table(&self, painter: Painter) -> String {
        let heading = |text: &str| Cell(text.to_owned(), Tone::Heading);
        let titles = [
            "case",
            "server",
            "req/s",
            "× nginx",
            "CPU µs",
            "× nginx",
            "p50 µs",
            "p99 µs",
            "first µs",
            "added",
            "gap µs",
            "p99",
            "memory",
            "errors",
        ];
        let mut rows = vec![titles.map(heading).to_vec()];
        rows.extend(self.rows.iter().map(Row::cells));
        let mut aligns = vec![Align::Left, Align::Left];
        aligns.resize(titles.len(), Align::Right);
        let mut text = format!(
            "{}, load average {}\nmedians of {} slices of {} s each\n\n{}\n",
            self.machine,
            self.load_average,
            self.slices,
            self.seconds,
            columns(painter, &aligns, &rows)
        );
        let bars: Vec<Vec<Cell>> = self.bars.iter().map(Bar::cells).collect();
        text.push_str(&columns(
            painter,
            &[Align::Left, Align::Right, Align::Right, Align::Left],
            &bars,
        ));
        for missing in &self.missing {
            text.push_str(&format!("\n{missing}\n"));
        }
        text
    }
}

impl Row {
    fn cells(&self) -> Vec<Cell> {
        let number = |spread: Option<Spread>| {
            Cell::plain(spread.map_or(String::new(), |spread| grouped(spread.median.round() as u64)))
        };
        let small = |spread: Option<Spread>| {
            Cell::plain(spread.map_or(String::new(), |spread| format!("{:.1}", spread.median)))
        };
        let ratio =
            |ratio: Option<f64>| Cell::plain(ratio.map_or(String::new(), |ratio| format!("{ratio:.3}")));
        let lost = self.errors + self.not_sent;
        vec![
            Cell::plain(self.case.as_str()),
            Cell::plain(self.server),
            number(self.requests_per_s),
            ratio(self.requests_of_nginx),
            small(self.cpu_us_per_request),
            ratio(self.cpu_of_nginx),
            number(self.p50_us),
            number(self.p99_us),
            number(self.first_p50_us),
            Cell::plain(
                self.first_added_us
                    .map_or(String::new(), |us| format!("{us:+.0}")),
            ),
            number(self.gap_p50_us),
            number(self.gap_p99_us),
            Cell(bytes(self.resident_bytes), Tone::Quiet),
            Cell(lost.to_string(), if lost == 0 { Tone::Quiet } else { Tone::Bad }),
        ]
    }
}

impl Bar {
    fn at_least(what: &'static str, found: f64, limit: f64, unit: &'static str) -> Self {
        let is_met = found >= limit;
        Self {
            what,
            found,
            limit,
            unit,
            is_met,
        }
    }

    fn at_most(what: &'static str, found: f64, limit: f64, unit: &'static str) -> Self {
        let is_met = found <= limit;
        Self {
            what,
            found,
            limit,
            unit,
            is_met,
        }
    }

    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::plain(self.what),
            Cell::plain(format!("{:.2}", self.found)),
            Cell(format!("{} {}", self.limit, self.unit), Tone::Quiet),
            if self.is_met {
                Cell("ok".to_owned(), Tone::Good)
            } else {
                Cell("over".to_owned(), Tone::Bad)
            },
        ]
    }
}

/// The bars of which there are figures.
fn bars(measured: &[Measured], rows: &[Row]) -> Vec<Bar> {
    let mut bars = Vec::new();
    let weir = measured.iter().zip(rows).filter(|(one, _)| one.server == "weir");
    for (one, row) in weir {
        match one.case {
            Case::Closed { connections: 32 } => {
                let of_nginx = row.requests_of_nginx.map(|found| {
                    Bar::at_least(
                        "requests a second at 32 connections, at least",
                        found,
                        0.65,
                        "× nginx",
                    )
                });
                let cpu = row.cpu_of_nginx.map(|found| {
                    Bar::at_most("CPU a request at 32 connections, at most", found, 2.0, "× nginx")
                });
                let portkey = measured
                    .iter()
                    .find(|other| other.case == one.case && other.server == "portkey");
                let portkey = portkey
                    .and_then(|other| beside(rate(&one.found), rate(&other.found), |one, other| one / other));
                let portkey = portkey.map(|found| {
                    Bar::at_least(
                        "requests a second at 32 connections, at least",
                        found,
                        20.0,
                        "× Portkey",
                    )
                });
                bars.extend([of_nginx, cpu, portkey].into_iter().flatten());
            }
            Case::Open { .. } => bars.extend(row.p99_over_nginx_us.map(|found| {
                Bar::at_most("p99 of the open loop beyond nginx's, at most", found, 200.0, "µs")
            })),
            Case::Streams { connections: 1 } => bars.extend(
                row.first_added_us
                    .map(|found| Bar::at_most("first token added, 1 stream, at most", found, 200.0, "µs")),
            ),
            Case::Streams { .. } => bars
                .extend(row.first_added_us.map(|found| {
                    Bar::at_most("first token added, 100 streams, at most", found, 200.0, "µs")
                })),
            Case::Memory => {
                bars.push(Bar::at_least(
                    "slow streams open at once, at least",
                    row.open_streams as f64,
                    super::SLOW_STREAMS as f64,
                    "streams",
                ));
                let mib = row.resident_bytes as f64 / f64::from(1 << 20);
                bars.push(Bar::at_most(
                    "memory with 1,000 slow streams, at most",
                    mib,
                    128.0,
                    "MiB",
                ));
            }
            Case::Closed { .. } => {}
        }
        if row.errors + row.not_sent > 0 {
            bars.push(Bar::at_most(
                "requests that failed, at most",
                (row.errors + row.not_sent) as f64,
                0.0,
                "requests",
            ));
        }
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::super::load::Percentiles;
    use super::*;

    fn measured(case: Case, server: &'static str, requests: u64, cpu_seconds: f64, p50: f64) -> Measured {
        let times = Percentiles {
            p50,
            p99: p50 * 2.0,
            samples: requests,
        };
        Measured {
            case,
            server,
            found: vec![Found {
                seconds: 1.0,
                requests,
                cpu_seconds,
                latency_us: times,
                first_us: times,
                gap_us: times,
                resident_bytes: 100 << 20,
                open_streams: 1000,
                ..Found::default()
            }],
        }
    }

    #[test]
    fn bars_are_judged() {
        let closed = Case::Closed { connections: 32 };
        let open = Case::Open { rate: 300.0 };
        let streams = Case::Streams { connections: 100 };
        let all = [
            measured(closed, "nginx", 1000, 0.010, 100.0),
            measured(closed, "weir", 700, 0.021, 100.0),
            measured(closed, "portkey", 35, 1.0, 100.0),
            measured(open, "nginx", 1000, 0.010, 100.0),
            measured(open, "weir", 1000, 0.010, 201.0),
            measured(streams, "direct", 100, 0.010, 100.0),
            measured(streams, "weir", 100, 0.010, 250.0),
            measured(Case::Memory, "weir", 0, 0.0, 100.0),
        ];
        let rows: Vec<Row> = all.iter().map(|one| Row::of(one, &all)).collect();
        let found: Vec<(f64, bool)> = bars(&all, &rows)
            .iter()
            .map(|bar| ((bar.found * 100.0).round() / 100.0, bar.is_met))
            .collect();
        let expected = [
            (0.7, true),
            (3.0, false),
            (20.0, true),
            (202.0, false),
            (150.0, true),
            (1000.0, true),
            (100.0, true),
        ];
        assert_eq!(found, expected);
    }
}
