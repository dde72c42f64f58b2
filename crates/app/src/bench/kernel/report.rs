//! The figures of `weir bench kernel` as a table or an object.

use serde::Serialize;

use super::cases::{Bar, Case, EMPTY, PASS, Setup};
use super::{KernelArgs, Spread};
use crate::bench::machine;
use crate::cli::text::{Align, Cell, Painter, Tone, columns};

#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: String,
    rounds: u32,
    repeat: u32,
    /// Why ratios to xdp-filter are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    xdp_filter_missing: Option<String>,
    cases: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    /// Bytes of the frame.
    frame_len: usize,
    ns: Spread,
    over_empty_ns: f64,
    of_xdp_filter_pass: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bar: Option<Judged>,
}

#[derive(Debug, Serialize)]
struct Judged {
    text: String,
    is_met: bool,
}

impl Report {
    pub(super) fn of(cases: &[Case<'_>], spreads: &[Spread], setup: &Setup, args: &KernelArgs) -> Self {
        let median_of = |name: &str| {
            let found = cases.iter().zip(spreads).find(|(case, _)| case.name == name);
            found.map(|(_, spread)| spread.median)
        };
        let empty = median_of(EMPTY).unwrap_or(0.0);
        let pass = median_of(PASS).filter(|&pass| pass > 0.0);
        let row = |(case, spread): (&Case<'_>, &Spread)| {
            let over_empty_ns = spread.median - empty;
            let of_pass = pass.map(|pass| spread.median / pass);
            let bar = match case.bar {
                Bar::None => None,
                Bar::OverEmpty(limit) => Some(Judged {
                    text: format!("≤ empty + {limit:.0} ns"),
                    is_met: over_empty_ns <= limit,
                }),
                Bar::OfPass(limit) => of_pass.map(|of_pass| Judged {
                    text: format!("≤ {limit} × pass"),
                    is_met: of_pass <= limit,
                }),
            };
            Row {
                name: case.name,
                frame_len: case.frame.bytes().len(),
                ns: *spread,
                over_empty_ns,
                of_xdp_filter_pass: of_pass,
                bar,
            }
        };
        Self {
            machine: machine(),
            rounds: args.rounds,
            repeat: args.repeat,
            xdp_filter_missing: setup.pass_missing().map(str::to_owned),
            cases: cases.iter().zip(spreads).map(row).collect(),
        }
    }

    pub(super) fn is_within_bars(&self) -> bool {
        let mut bars = self.cases.iter().filter_map(|row| row.bar.as_ref());
        bars.all(|bar| bar.is_met)
    }

    pub(super) fn table(&self, painter: Painter) -> String {
        let heading = |text: &str| Cell(text.to_owned(), Tone::Heading);
        let mut rows = vec![
            [
                "case",
                "bytes",
                "ns",
                "min",
                "max",
                "− empty",
                "× pass",
                "bar",
                "",
            ]
            .map(heading)
            .to_vec(),
        ];
        rows.extend(self.cases.iter().map(Row::cells));
        let aligns = [
            Align::Left,
            Align::Right,
            Align::Right,
            Align::Right,
            Align::Right,
            Align::Right,
            Align::Right,
            Align::Left,
            Align::Left,
        ];
        let mut text = format!(
            "{}\nmedian of {} rounds of {} runs, ns a packet\n\n{}",
            self.machine,
            self.rounds,
            self.repeat,
            columns(painter, &aligns, &rows)
        );
        if let Some(why) = &self.xdp_filter_missing {
            text.push_str(&format!("\nno ratios to xdp-filter: {why}\n"));
        }
        text
    }
}

impl Row {
    fn cells(&self) -> Vec<Cell> {
        let mut cells = vec![
            Cell::plain(self.name),
            Cell::plain(self.frame_len.to_string()),
            Cell::plain(format!("{:.1}", self.ns.median)),
            Cell(format!("{:.0}", self.ns.min), Tone::Quiet),
            Cell(format!("{:.0}", self.ns.max), Tone::Quiet),
            Cell::plain(format!("{:.1}", self.over_empty_ns)),
            Cell::plain(
                self.of_xdp_filter_pass
                    .map_or(String::new(), |ratio| format!("{ratio:.2}")),
            ),
        ];
        if let Some(bar) = &self.bar {
            cells.push(Cell::plain(bar.text.as_str()));
            cells.push(if bar.is_met {
                Cell("ok".to_owned(), Tone::Good)
            } else {
                Cell("over".to_owned(), Tone::Bad)
            });
        }
        cells
    }
}
