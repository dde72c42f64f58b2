//! `weir programs list`.

use std::process::ExitCode;

use agent::programs::{self, Attachment, Program};

use super::fit::{self, Column};
use super::{Format, ListArgs, json_line, place, place_of_unattached, put, say, shown_name};
use crate::cli::text::{Align, Cell, Painter, Tone};

/// Attach points of one program that the table shows; `show` has all.
const PLACES_MAX: usize = 6;

const COLUMNS: [Column; 5] = [
    Column {
        heading: "ID",
        align: Align::Right,
        width_min: 4,
        expendable: 0,
    },
    Column {
        heading: "NAME",
        align: Align::Left,
        width_min: 14,
        expendable: 0,
    },
    Column {
        heading: "TYPE",
        align: Align::Left,
        width_min: 10,
        expendable: 1,
    },
    Column {
        heading: "ATTACHED",
        align: Align::Left,
        width_min: 34,
        expendable: 0,
    },
    Column {
        heading: "HELD BY",
        align: Align::Left,
        width_min: 12,
        expendable: 2,
    },
];

pub(super) fn run(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let listing = programs::list()?;
    let rows = chosen(&listing.programs, args);
    say(&listing.missing);
    let text = match args.format {
        Format::Json => {
            let mut text = String::new();
            for (program, places) in &rows {
                // What was asked for: with --iface only the attach points of that interface.
                let program = Program {
                    attachments: places.iter().map(|&place| place.clone()).collect(),
                    ..(*program).clone()
                };
                text += &json_line(&program)?;
            }
            text
        }
        Format::Table if rows.is_empty() => {
            say(&[nothing(args)]);
            String::new()
        }
        Format::Table => {
            let cells: Vec<_> = rows
                .iter()
                .flat_map(|(program, places)| cells(program, places))
                .collect();
            fit::table(Painter::for_stdout(), &COLUMNS, &cells, fit::terminal_width())
        }
    };
    put(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn nothing(args: &ListArgs) -> String {
    match (&args.iface, &args.kind) {
        (Some(iface), _) => format!("no BPF program is attached to interface `{iface}`"),
        (None, Some(kind)) => format!("no BPF program of type `{kind}` is loaded"),
        (None, None) => "no BPF program is loaded".to_owned(),
    }
}

/// Programs to show, each with the attach points to show.
fn chosen<'a>(programs: &'a [Program], args: &ListArgs) -> Vec<(&'a Program, Vec<&'a Attachment>)> {
    let of_kind = programs
        .iter()
        .filter(|program| args.kind.as_ref().is_none_or(|kind| *kind == program.kind));
    let Some(iface) = &args.iface else {
        return of_kind
            .map(|program| (program, program.attachments.iter().collect()))
            .collect();
    };
    let mut rows: Vec<_> = of_kind
        .flat_map(|program| {
            program
                .attachments
                .iter()
                .map(move |attachment| (program, attachment))
        })
        .filter(|(_, attachment)| attachment.ifindex.is_some() && attachment.target == *iface)
        .collect();
    rows.sort_by_key(|(_, attachment)| {
        let namespace = attachment.namespace.as_ref().map(|namespace| namespace.inode);
        let position = attachment.order.map(|order| order.position);
        (namespace, step(&attachment.hook), position)
    });
    rows.into_iter()
        .map(|(program, attachment)| (program, vec![attachment]))
        .collect()
}

/// When a packet meets the hook: in, then out.
fn step(hook: &str) -> usize {
    const STEPS: [&str; 9] = [
        "xdp offload",
        "xdp native",
        "xdp generic",
        "tcx ingress",
        "tc ingress",
        "netkit primary",
        "netkit peer",
        "tcx egress",
        "tc egress",
    ];
    STEPS.iter().position(|&step| step == hook).unwrap_or(STEPS.len())
}

fn cells(program: &Program, places: &[&Attachment]) -> Vec<Vec<Cell>> {
    let mut lines: Vec<Cell> = places
        .iter()
        .take(PLACES_MAX)
        .map(|attachment| Cell::plain(place(attachment)))
        .collect();
    if places.len() > PLACES_MAX {
        let more = format!(
            "and {} more: weir programs show {}",
            places.len() - PLACES_MAX,
            program.id
        );
        lines.push(Cell(more, Tone::Quiet));
    }
    if lines.is_empty() {
        lines.push(Cell(place_of_unattached(program), Tone::Quiet));
    }
    let row = |(at, line)| {
        let mut row = vec![Cell::plain(""), Cell::plain(""), Cell::plain(""), line];
        if at == 0 {
            row[0] = Cell::plain(program.id.to_string());
            row[1] = Cell::plain(shown_name(&program.name));
            row[2] = Cell::plain(program.kind.clone());
            row.push(Cell(holder(program), Tone::Quiet));
        }
        row
    };
    (0..).zip(lines).map(row).collect()
}

/// Who keeps the program loaded: processes, else a pin, else only its hook.
fn holder(program: &Program) -> String {
    if let Some(owner) = program.owners.first() {
        let more = match program.owners.len() - 1 {
            0 => String::new(),
            more => format!(" +{more}"),
        };
        return format!("{}[{}]{more}", super::printable(&owner.command), owner.pid);
    }
    let of_links = program
        .attachments
        .iter()
        .flat_map(|attachment| &attachment.link_pins);
    match program.pins.iter().chain(of_links).next() {
        Some(_) => "pin".to_owned(),
        None if program.attachments.is_empty() => String::new(),
        None => "its hook".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packets_way() {
        let way = [
            "xdp native",
            "tcx ingress",
            "tc ingress",
            "tcx egress",
            "tc egress",
            "tc htb 1:",
        ];
        assert!(way.is_sorted_by_key(|hook| step(hook)));
    }
}
