//! `weir programs show`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use agent::programs::{self, Attachment, Map, Program};
use anyhow::bail;

use super::fit::{self, Column, paragraph};
use super::{Format, ShowArgs, json_line, place, place_of_unattached, printable, put, say, shown_name};
use crate::cli::text::{Align, Cell, Painter, Tone, bytes, duration_ns, grouped};

const LABEL_WIDTH: usize = 14;
const MAP_COLUMNS: [Column; 8] = [
    Column {
        heading: "  MAP",
        align: Align::Right,
        width_min: 5,
        expendable: 0,
    },
    Column {
        heading: "NAME",
        align: Align::Left,
        width_min: 10,
        expendable: 0,
    },
    Column {
        heading: "TYPE",
        align: Align::Left,
        width_min: 8,
        expendable: 0,
    },
    Column {
        heading: "KEY",
        align: Align::Right,
        width_min: 5,
        expendable: 2,
    },
    Column {
        heading: "VALUE",
        align: Align::Right,
        width_min: 5,
        expendable: 1,
    },
    Column {
        heading: "ENTRIES",
        align: Align::Right,
        width_min: 7,
        expendable: 3,
    },
    Column {
        heading: "MEMORY",
        align: Align::Right,
        width_min: 7,
        expendable: 0,
    },
    Column {
        heading: "PINNED",
        align: Align::Left,
        width_min: 12,
        expendable: 4,
    },
];

pub(super) fn run(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let listing = programs::list()?;
    let found: Vec<_> = listing
        .programs
        .iter()
        .filter(|program| program.id.to_string() == args.program || program.name == args.program)
        .collect();
    say(&listing.missing);
    if found.is_empty() {
        bail!(
            "no loaded BPF program has the id or name `{}`: `weir programs list` shows all",
            args.program
        );
    }
    let painter = Painter::for_stdout();
    let width = fit::terminal_width();
    let texts: Result<Vec<_>, _> = found
        .iter()
        .map(|program| match args.format {
            Format::Json => json_line(program),
            Format::Table => Ok(page(program, painter, width)),
        })
        .collect();
    let between = if args.format == Format::Table { "\n" } else { "" };
    put(&texts?.join(between))?;
    Ok(ExitCode::SUCCESS)
}

fn page(program: &Program, painter: Painter, width: Option<usize>) -> String {
    let title = format!(
        "program {}  {}  {}",
        program.id,
        shown_name(&program.name),
        program.kind
    );
    let mut out = painter.paint(Tone::Heading, &title) + "\n";
    let mut line = |label: &str, text: &str| {
        let label = if label.is_empty() {
            String::new()
        } else {
            format!("  {label}")
        };
        out += &paragraph(&label, LABEL_WIDTH, text, width);
    };
    let mut attached = program.attachments.iter();
    match attached.next() {
        None => line("attached", &place_of_unattached(program)),
        Some(first) => line("attached", &whole_place(first)),
    }
    for attachment in attached {
        line("", &whole_place(attachment));
    }
    for call in &program.tail_called_from {
        let text = format!(
            "from map {} slot {}, used by program {}: runs by tail call are in no statistics, the \
             kernel counts the program entered first",
            call.map_id,
            joined(&call.slots),
            joined(&call.caller_ids)
        );
        line("tail called", &text);
    }
    line("processes", &owners(program));
    line("pinned", &paths(&program.pins));
    line("loaded", &loaded(program));
    line("runs", &runs(program));
    let verified = match program.verified_instructions {
        0 => String::new(),
        n => format!("; the verifier walked {} instructions", grouped(n.into())),
    };
    let size = format!(
        "{} of BPF code, {} of machine code{verified}",
        bytes(program.xlated_bytes.into()),
        bytes(program.jited_bytes.into())
    );
    line("size", &size);
    line("memory", &memory(program));
    let licence = if program.is_gpl_compatible {
        "GPL-compatible"
    } else {
        "not GPL-compatible"
    };
    line("licence", licence);
    let btf = program.btf_id.map(|id| format!(", BTF {id}"));
    line("tag", &format!("{}{}", program.tag, btf.unwrap_or_default()));
    if !program.maps.is_empty() {
        let rows: Vec<_> = program.maps.iter().map(map_row).collect();
        out += &fit::table(painter, &MAP_COLUMNS, &rows, width);
    }
    out
}

fn list_or(items: impl Iterator<Item = String>, separator: &str, none: &str) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() {
        none.to_owned()
    } else {
        items.join(separator)
    }
}

fn joined(numbers: &[u32]) -> String {
    list_or(numbers.iter().map(u32::to_string), ", ", "none")
}

fn owners(program: &Program) -> String {
    let owners = program
        .owners
        .iter()
        .map(|owner| format!("{} (pid {})", printable(&owner.command), owner.pid));
    list_or(owners, ", ", "none holds it")
}

fn paths(paths: &[PathBuf]) -> String {
    let paths = paths.iter().map(|path| printable(&path.display().to_string()));
    list_or(paths, " ", "no")
}

fn whole_place(attachment: &Attachment) -> String {
    let link = match attachment.link_id {
        Some(id) => format!(", link {id}"),
        None => ", without a link".to_owned(),
    };
    let pins = match attachment.link_pins.as_slice() {
        [] => String::new(),
        pins => format!(" pinned at {}", paths(pins)),
    };
    let detail = attachment.detail.as_ref().map(|detail| format!(", {detail}"));
    format!("{}{}{link}{pins}", place(attachment), detail.unwrap_or_default())
}

fn loaded(program: &Program) -> String {
    let by = format!("by user id {}", program.uid);
    let Some(at_ms) = program.loaded_at_unix_ms else {
        return by;
    };
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_millis() as u64);
    let age = duration_ns(now_ms.saturating_sub(at_ms).saturating_mul(1_000_000));
    let at = i64::try_from(at_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match at {
        Some(at) => {
            let at = at.to_zoned(jiff::tz::TimeZone::system());
            format!("{} ({age} ago) {by}", at.strftime("%F %T %:z"))
        }
        None => by,
    }
}

fn runs(program: &Program) -> String {
    if program.run_count == 0 {
        return "none counted: statistics are off but for `weir programs top`".to_owned();
    }
    let mean_ns = program.run_time_ns as f64 / program.run_count as f64;
    let misses = match program.recursion_misses {
        0 => String::new(),
        n => format!(", {} refused as it was running already", grouped(n)),
    };
    format!(
        "{} while statistics were on, {} together, {mean_ns:.0} ns each{misses}",
        grouped(program.run_count),
        duration_ns(program.run_time_ns)
    )
}

fn memory(program: &Program) -> String {
    let own = program.memory_bytes.map_or_else(|| "unknown".to_owned(), bytes);
    let of_maps: u64 = program.maps.iter().filter_map(|map| map.memory_bytes).sum();
    match program.maps.len() {
        0 => own,
        1 => format!("{own}, and {} in its map", bytes(of_maps)),
        n => format!("{own}, and {} in its {n} maps", bytes(of_maps)),
    }
}

fn map_row(map: &Map) -> Vec<Cell> {
    let pins = match map.pins.as_slice() {
        [] => String::new(),
        pins => paths(pins),
    };
    vec![
        Cell::plain(map.id.to_string()),
        Cell::plain(shown_name(&map.name)),
        Cell::plain(map.kind.clone()),
        Cell::plain(format!("{} B", map.key_bytes)),
        Cell::plain(format!("{} B", map.value_bytes)),
        Cell::plain(grouped(map.entries_max.into())),
        Cell::plain(map.memory_bytes.map_or_else(String::new, bytes)),
        Cell(pins, Tone::Quiet),
    ]
}
