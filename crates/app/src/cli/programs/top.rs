//! `weir programs top`.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use agent::programs::{Cost, Sample, Sampler};
use anyhow::Context as _;
use ratatui::crossterm::cursor::{Hide, MoveTo, Show};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use super::fit::{self, Column};
use super::{Format, TopArgs, json_line, put, shown_name};
use crate::cli::text::{Align, Cell, Painter, Tone, duration_ns, grouped};

const COLUMNS: [Column; 6] = [
    Column {
        heading: "ID",
        align: Align::Right,
        width_min: 4,
        expendable: 1,
    },
    Column {
        heading: "NAME",
        align: Align::Left,
        width_min: 12,
        expendable: 0,
    },
    Column {
        heading: "TYPE",
        align: Align::Left,
        width_min: 10,
        expendable: 2,
    },
    Column {
        heading: "RUNS/S",
        align: Align::Right,
        width_min: 9,
        expendable: 0,
    },
    Column {
        heading: "NS/RUN",
        align: Align::Right,
        width_min: 6,
        expendable: 0,
    },
    Column {
        heading: "% OF A CPU",
        align: Align::Right,
        width_min: 10,
        expendable: 0,
    },
];

pub(super) fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let mut sampler = Sampler::start()?;
    let count = if args.once { Some(1) } else { args.count };
    if count.is_none() && args.format == Format::Table && io::stdout().is_terminal() {
        live(&mut sampler, args.interval)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut n_done = 0;
    while count.is_none_or(|count| n_done < count) {
        std::thread::sleep(args.interval);
        let sample = sampler.sample()?;
        let text = match args.format {
            Format::Json => json_line(&sample)?,
            Format::Table => {
                let blank = if n_done > 0 { "\n" } else { "" };
                let page = page(&sample, Painter::for_stdout(), fit::terminal_width(), usize::MAX);
                format!("{blank}{page}")
            }
        };
        if !put(&text)? {
            break;
        }
        n_done += 1;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lines of a page that are no program: two of words, a heading, and a blank one.
const FRAME_LINES: usize = 5;

fn page(sample: &Sample, painter: Painter, width: Option<usize>, lines_max: usize) -> String {
    let n_all = sample.programs.len();
    let n_shown = n_all.min(lines_max.saturating_sub(FRAME_LINES));
    let rows: Vec<_> = sample.programs[..n_shown].iter().map(row).collect();
    let cpu_percent: f64 = sample.programs.iter().map(|cost| cost.cpu_percent).sum();
    let mut summary = format!(
        "{n_all} programs, {cpu_percent:.2} % of a CPU in {}",
        duration_ns(sample.interval_ns)
    );
    if n_shown < n_all {
        summary += &format!("; {} more below", n_all - n_shown);
    }
    let mut text = fit::table(painter, &COLUMNS, &rows, width);
    let mut note = |words: &str| {
        let words = width.map_or_else(|| words.to_owned(), |width| fit::cut(words, width));
        text += &(painter.paint(Tone::Quiet, &words) + "\n");
    };
    note(&summary);
    if sample.programs.iter().any(|cost| cost.is_tail_called) {
        note("* also tail called; such runs count for the program entered first");
    }
    text
}

fn row(cost: &Cost) -> Vec<Cell> {
    /// From here a program is worth a look.
    const WARNING_PERCENT: f64 = 5.0;
    let tone = match cost.cpu_percent {
        _ if cost.run_count == 0 => Tone::Quiet,
        percent if percent >= WARNING_PERCENT => Tone::Warning,
        _ => Tone::Plain,
    };
    let mark = if cost.is_tail_called { "*" } else { "" };
    let ns_per_run = cost
        .ns_per_run
        .map_or_else(|| "-".to_owned(), |ns| format!("{ns:.0}"));
    let cells = [
        cost.id.to_string(),
        shown_name(&cost.name) + mark,
        cost.kind.clone(),
        rate(cost.runs_per_second),
        ns_per_run,
        format!("{:.2}", cost.cpu_percent),
    ];
    cells.map(|text| Cell(text, tone)).to_vec()
}

/// Runs a second: whole from ten on, so that a rare program is not shown as none.
fn rate(runs_per_second: f64) -> String {
    if runs_per_second > 0.0 && runs_per_second < 10.0 {
        format!("{runs_per_second:.1}")
    } else {
        grouped(runs_per_second.round() as u64)
    }
}

/// The terminal as a page; made normal again however this ends.
struct Screen;

impl Screen {
    fn open() -> anyhow::Result<Self> {
        enable_raw_mode().context("cannot set up the terminal")?;
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide).context("cannot write to the terminal")?;
        Ok(screen)
    }

    fn draw(&mut self, page: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        execute!(out, MoveTo(0, 0), Clear(ClearType::All)).context("cannot write to the terminal")?;
        // A raw terminal does not return to the first column by itself.
        out.write_all(page.replace('\n', "\r\n").as_bytes())
            .and_then(|()| out.flush())
            .context("cannot write to the terminal")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing left to restore.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

fn live(sampler: &mut Sampler, interval: Duration) -> anyhow::Result<()> {
    let painter = Painter::for_stdout();
    let mut screen = Screen::open()?;
    screen.draw("measuring; q ends\n")?;
    let mut latest: Option<Sample> = None;
    let mut next_at = Instant::now() + interval;
    loop {
        let wait = next_at.saturating_duration_since(Instant::now());
        let is_event = event::poll(wait).context("cannot read the terminal")?;
        if is_event {
            match event::read().context("cannot read the terminal")? {
                Event::Key(key) if key.kind == KeyEventKind::Press => {
                    let is_ctrl_c =
                        key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                    if is_ctrl_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                        return Ok(());
                    }
                    continue;
                }
                Event::Resize(..) => {}
                _ => continue,
            }
        } else {
            latest = Some(sampler.sample()?);
            next_at = Instant::now() + interval;
        }
        if let Some(sample) = &latest {
            let (_, height) = terminal::size().context("cannot read the terminal's size")?;
            let page = page(sample, painter, fit::terminal_width(), height.into());
            screen.draw(&page)?;
        }
    }
}
