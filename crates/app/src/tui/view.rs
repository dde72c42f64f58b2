//! The view drawn from the model. Colours are the terminal's own sixteen, so that it follows the
//! user's theme, light or dark.

use control::status::{AggregateDirection, Counts};
use inspect::record::FlowRecord;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Cell, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::detail;
use super::graph;
use super::model::{Input, Model, Panel, Rates, Snapshot};
use crate::cli::text::{bytes, duration_ns, endpoint, grouped};
use crate::flow_json::LiveFlow;

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws everything. Works at any size; what does not fit is left out.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    let chart_height = if area.height >= 24 {
        6
    } else if area.height >= 16 {
        4
    } else {
        0
    };
    let [title, charts, tabs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(chart_height),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_title(frame, title, model);
    draw_charts(frame, charts, model);
    draw_tabs(frame, tabs, model);
    match (&model.snapshot, model.detailed()) {
        (None, _) => draw_waiting(frame, body, model),
        (Some(_), Some(flow)) => detail::draw(frame, body, flow),
        (Some(snapshot), None) => draw_panel(frame, body, model, snapshot),
    }
    draw_foot(frame, foot, model);
    if let Some(input) = &model.input {
        draw_input(frame, area, input);
    }
    if model.shows_help {
        draw_help(frame, area);
    }
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let mut spans = vec![" weir ".bold().reversed(), " ".into()];
    if let Some(snapshot) = &model.snapshot {
        let status = &snapshot.status;
        if let Some(host) = &status.hostname {
            spans.push(host.clone().bold());
            spans.push("  ".into());
        }
        let observed: Vec<_> = status
            .interfaces
            .iter()
            .filter(|one| model.interface.as_ref().is_none_or(|chosen| *chosen == one.name))
            .map(|one| match &one.ingress {
                Some(hook) => format!("{} ({hook})", one.name),
                None => one.name.clone(),
            })
            .collect();
        spans.push(Span::raw(observed.join(", ")).cyan());
        spans.push(Span::styled(
            format!("  {}  {}", status.mode, status.instance),
            DIM,
        ));
        spans.push(Span::styled(
            format!("  up {}", duration_ns((status.uptime_s * 1e9) as u64)),
            DIM,
        ));
    }
    if let Some(why) = &model.lost {
        spans.push(Span::raw(format!("  reconnecting: {why}")).red().bold());
    } else if model.is_paused {
        spans.push("  PAUSED".yellow().bold());
    }
    frame.render_widget(Line::from(spans), area);
}

fn draw_charts(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    if area.height < 3 {
        return;
    }
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
    let last = model.history.back().copied().unwrap_or_default();
    let peak = |value: fn(&Rates) -> f64| model.history.iter().map(value).fold(0.0, f64::max);
    let has_room = left.width >= 44;
    let chart = |name: &str, now_bps: f64, now_pps: f64, peak_bps: f64| {
        let peak = if has_room {
            format!(" peak {} ", bits(peak_bps))
        } else {
            String::new()
        };
        Block::bordered()
            .border_type(BorderType::Rounded)
            .border_style(DIM)
            .title(Line::from(vec![
                Span::styled(format!(" {name} "), BOLD),
                Span::styled(format!("{} ", bits(now_bps)), BOLD),
                Span::raw(format!("{} ", packets(now_pps))),
            ]))
            .title(Line::from(Span::styled(peak, DIM)).right_aligned())
    };
    let draw =
        |frame: &mut Frame<'_>, area: Rect, block: Block<'_>, value: fn(&Rates) -> f64, colour: Color| {
            let inner = block.inner(area);
            let samples: Vec<f64> = model.history.iter().map(value).collect();
            let drawn = Paragraph::new(graph::lines(&samples, inner)).style(colour);
            frame.render_widget(drawn.block(block), area);
        };
    let into = chart("in", last.in_bps, last.in_pps, peak(|rates| rates.in_bps));
    let out = chart("out", last.out_bps, last.out_pps, peak(|rates| rates.out_bps));
    draw(frame, left, into, |rates| rates.in_bps, Color::Green);
    draw(frame, right, out, |rates| rates.out_bps, Color::Blue);
}

fn draw_tabs(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let mut spans = Vec::new();
    for (index, panel) in Panel::ALL.into_iter().enumerate() {
        let label = format!(" {} {} ", index + 1, panel.title());
        let alarm = panel == Panel::Losses && model.snapshot.as_ref().is_some_and(has_losses);
        spans.push(match (panel == model.panel, alarm) {
            (true, _) => Span::raw(label).reversed().bold(),
            (false, true) => Span::raw(label).yellow().bold(),
            (false, false) => Span::styled(label, DIM),
        });
        if panel == Panel::Losses && !alarm && model.snapshot.is_some() {
            spans.push("✓".green());
        }
    }
    if model.panel == Panel::Flows {
        let order = if model.is_reversed { "reversed" } else { "" };
        spans.push(Span::styled(format!("  by {} {order}", model.sort.name()), DIM));
    }
    frame.render_widget(Line::from(spans), area);
}

fn draw_waiting(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let words = model.lost.as_deref().unwrap_or("asking the running weir …");
    frame.render_widget(Paragraph::new(words).centered().wrap(Wrap { trim: true }), area);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let mut spans = Vec::new();
    if !model.filter.is_empty() {
        spans.push(Span::raw(format!(" filter: {} ", model.filter)).yellow());
    }
    for (key, what) in [
        ("?", "help"),
        ("/", "filter"),
        ("s", "sort"),
        ("space", "pause"),
        ("enter", "detail"),
        ("tab", "next"),
        ("q", "quit"),
    ] {
        spans.push(Span::styled(format!(" {key}"), BOLD));
        spans.push(Span::styled(format!(" {what} "), DIM));
    }
    frame.render_widget(Line::from(spans), area);
}

fn draw_panel(frame: &mut Frame<'_>, area: Rect, model: &Model, snapshot: &Snapshot) {
    match model.panel {
        Panel::Flows => draw_flows(frame, area, model, snapshot),
        Panel::Talkers => draw_talkers(frame, area, model),
        Panel::Tcp => draw_tcp(frame, area, snapshot),
        Panel::Losses => draw_losses(frame, area, snapshot),
        Panel::Services => draw_services(frame, area, model, snapshot),
    }
}

/// A table whose selected row is marked and kept in sight.
fn draw_table<'a>(
    frame: &mut Frame<'_>,
    area: Rect,
    selected: usize,
    head: impl IntoIterator<Item = Cell<'a>>,
    widths: impl IntoIterator<Item = Constraint>,
    rows: impl Iterator<Item = Row<'a>>,
) {
    let table = Table::new(rows, widths)
        .header(Row::new(head).style(DIM.add_modifier(Modifier::UNDERLINED)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .column_spacing(1);
    let mut state = TableState::default().with_selected(selected);
    frame.render_stateful_widget(table, area, &mut state);
}

fn right(text: impl Into<String>) -> Cell<'static> {
    Cell::from(Line::from(text.into()).right_aligned())
}

/// A column of the flow table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Proto,
    Client,
    Server,
    State,
    Process,
    Rate,
    Bytes,
    Rtt,
    Again,
}

impl Column {
    /// What fits a screen of this width.
    fn fitting(width: u16) -> &'static [Self] {
        use Column::{Again, Bytes, Client, Process, Proto, Rate, Rtt, Server, State};
        match width {
            120.. => &[Proto, Client, Server, State, Process, Rate, Bytes, Rtt, Again],
            96.. => &[Proto, Client, Server, State, Process, Rate, Bytes, Rtt],
            _ => &[Proto, Client, Server, State, Rate, Bytes],
        }
    }

    /// Width, but of the two ends, which share what is left.
    fn width(self, screen: u16) -> u16 {
        match self {
            Self::Client | Self::Server => 0,
            Self::Proto => 6,
            Self::Again => 5,
            Self::State => 11,
            Self::Process => {
                if screen >= 120 {
                    18
                } else {
                    10
                }
            }
            Self::Rate => 11,
            Self::Bytes => 9,
            Self::Rtt => 8,
        }
    }

    fn head(self) -> Cell<'static> {
        match self {
            Self::Proto => "proto".into(),
            Self::Client => "client".into(),
            Self::Server => "server".into(),
            Self::State => "state".into(),
            Self::Process => "process".into(),
            Self::Rate => right("rate"),
            Self::Bytes => right("bytes"),
            Self::Rtt => right("rtt"),
            Self::Again => right("again"),
        }
    }

    fn cell(self, flow: &LiveFlow, width: usize) -> Cell<'static> {
        let record = &flow.record;
        let port = |port: u16| (port != 0).then_some(port);
        match self {
            Self::Proto => Cell::from(protocol(record)).style(Color::Cyan),
            Self::Client => shorten(&endpoint(record.src, port(record.src_port)), width).into(),
            Self::Server => shorten(&endpoint(record.dst, port(record.dst_port)), width).into(),
            Self::State => {
                let state = state_name(record);
                Cell::from(state).style(state_colour(state))
            }
            Self::Process => process(record, width).into(),
            Self::Rate if flow.rate_bps == 0.0 => Cell::default(),
            Self::Rate => right(bits(flow.rate_bps)),
            Self::Bytes => right(bytes(record.bytes())),
            Self::Rtt => match record.tcp.and_then(|tcp| tcp.rtt_us()) {
                Some(us) => right(duration_ns(u64::from(us) * 1000)),
                None => Cell::default(),
            },
            Self::Again => match record.tcp.map_or(0, |tcp| tcp.retransmits()) {
                0 => Cell::default(),
                again => right(again.to_string()).style(Color::Yellow),
            },
        }
    }
}

fn draw_flows(frame: &mut Frame<'_>, area: Rect, model: &Model, snapshot: &Snapshot) {
    let (body, note) = with_note(area, snapshot);
    let columns = Column::fitting(area.width);
    let taken: u16 = columns.iter().map(|column| column.width(area.width)).sum();
    let gaps = columns.len() as u16 - 1;
    let end_width = area.width.saturating_sub(taken + gaps) / 2;
    let width = |column: &Column| match column.width(area.width) {
        0 => end_width,
        width => width,
    };
    let rows = snapshot.flows.iter().map(|flow| {
        let cells = columns
            .iter()
            .map(|column| column.cell(flow, width(column).into()));
        Row::new(cells).style(if flow.rate_bps == 0.0 { DIM } else { Style::new() })
    });
    let widths = columns.iter().map(|column| Constraint::Length(width(column)));
    draw_table(
        frame,
        body,
        model.selected,
        columns.iter().map(|column| column.head()),
        widths,
        rows,
    );
    if let Some((area, words)) = note {
        frame.render_widget(Line::from(words), area);
    }
}

/// Leaves a line below for how much is shown and what may be missing.
fn with_note(area: Rect, snapshot: &Snapshot) -> (Rect, Option<(Rect, Vec<Span<'static>>)>) {
    if area.height < 4 {
        return (area, None);
    }
    let [body, note] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(area);
    let mut words = vec![Span::styled(
        format!(
            "{} of {} flows",
            grouped(snapshot.flows.len() as u64),
            grouped(snapshot.n_matching)
        ),
        DIM,
    )];
    if let Some(missing) = &snapshot.status.incomplete {
        words.push(Span::raw(format!("  {missing}")).yellow());
    }
    (body, Some((note, words)))
}

pub(super) fn protocol(record: &FlowRecord) -> String {
    inspect::names::protocol_name(record.protocol).map_or_else(|| record.protocol.to_string(), str::to_owned)
}

pub(super) fn state_name(record: &FlowRecord) -> &'static str {
    record
        .tcp
        .map_or_else(|| record.state.name(), |tcp| tcp.state.name())
}

fn state_colour(state: &str) -> Style {
    match state {
        "established" => Style::new().fg(Color::Green),
        "closed" => DIM,
        "syn_sent" | "syn_recv" | "new" => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}

/// Name and, where it fits, number of the owning process.
fn process(record: &FlowRecord, width: usize) -> String {
    let Some(owner) = &record.owner else {
        return String::new();
    };
    let whole = format!("{} {}", owner.comm, owner.pid);
    if whole.len() <= width {
        whole.trim_start().to_owned()
    } else if owner.comm.is_empty() {
        owner.pid.to_string()
    } else {
        shorten(&owner.comm, width)
    }
}

fn draw_talkers(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let talkers = model.talkers();
    let most = talkers
        .iter()
        .map(|talker| talker.bytes)
        .max()
        .unwrap_or(1)
        .max(1);
    let bar_width = usize::from(area.width.saturating_sub(40 + 7 + 11 + 11 + 12 + 4));
    let rows = talkers.iter().map(|talker| {
        let filled = (talker.bytes as f64 / most as f64 * bar_width as f64).ceil() as usize;
        Row::new([
            Cell::from(shorten(&talker.host.to_string(), 40)),
            right(grouped(talker.n_flows)),
            right(grouped(talker.packets)),
            right(bytes(talker.bytes)),
            right(bits(talker.bits_per_s)),
            Cell::from("▇".repeat(filled.min(bar_width))).style(Color::Blue),
        ])
    });
    draw_table(
        frame,
        area,
        model.selected,
        [
            "host".into(),
            right("flows"),
            right("packets"),
            right("bytes"),
            right("rate"),
            Cell::default(),
        ],
        [
            Constraint::Length(40),
            Constraint::Length(7),
            Constraint::Length(11),
            Constraint::Length(11),
            Constraint::Length(12),
            Constraint::Fill(1),
        ],
        rows,
    );
}

fn draw_services(frame: &mut Frame<'_>, area: Rect, model: &Model, snapshot: &Snapshot) {
    if snapshot.aggregates.is_empty() {
        let words = "Every packet has a flow of its own. Floods, and what exceeds the budget of new flows, show here by service.";
        return frame.render_widget(Paragraph::new(words).style(DIM).wrap(Wrap { trim: true }), area);
    }
    let rows = snapshot.aggregates.iter().map(|service| {
        let direction = match service.direction {
            AggregateDirection::To => "to",
            AggregateDirection::From => "from",
        };
        Row::new([
            Cell::from(direction),
            Cell::from(service.proto.clone()).style(Color::Cyan),
            Cell::from(endpoint(
                service.addr,
                (service.port != 0).then_some(service.port),
            )),
            Cell::from(service.iface.clone().unwrap_or_default()),
            right(grouped(service.packets)),
            right(bytes(service.bytes)),
            right(grouped(service.adopted_packets)),
        ])
    });
    draw_table(
        frame,
        area,
        model.selected,
        [
            Cell::default(),
            "proto".into(),
            "service".into(),
            "iface".into(),
            right("packets"),
            right("bytes"),
            right("later in flows"),
        ],
        [
            Constraint::Length(4),
            Constraint::Length(6),
            Constraint::Fill(1),
            Constraint::Length(10),
            Constraint::Length(11),
            Constraint::Length(10),
            Constraint::Length(14),
        ],
        rows,
    );
}

/// Upper bounds of the round-trip classes, µs.
const RTT_CLASSES_US: [u32; 7] = [200, 1_000, 5_000, 20_000, 50_000, 100_000, 300_000];

fn draw_tcp(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let [left, right_side] = Layout::horizontal([Constraint::Length(34), Constraint::Fill(1)]).areas(area);
    let tcp = &snapshot.status.tcp;
    let mut lines = vec![Line::styled("flows by state", BOLD)];
    let most = tcp.states.values().copied().max().unwrap_or(1).max(1);
    for (state, count) in &tcp.states {
        let bar = "▇".repeat((count * 10).div_ceil(most).min(10) as usize);
        lines.push(Line::from(vec![
            Span::styled(format!("{state:<12}"), state_colour(state)),
            format!("{:>8} ", grouped(*count)).into(),
            bar.blue(),
        ]));
    }
    if tcp.states.is_empty() {
        lines.push(Line::styled("none", DIM));
    }
    lines.push(Line::default());
    lines.push(Line::styled("whole host, since the start", BOLD));
    for (name, count) in [
        ("connections established", tcp.established_total),
        ("connections closed", tcp.closed_total),
        ("segments sent again", tcp.retransmits),
        ("handshakes sent again", tcp.retransmitted_handshakes),
    ] {
        lines.push(Line::from(format!("{name:<24}{:>8}", grouped(count))));
    }
    frame.render_widget(Paragraph::new(lines), left);
    frame.render_widget(Paragraph::new(tcp_flows(snapshot, right_side.width)), right_side);
}

/// Round trips and troubles of the flows shown.
fn tcp_flows(snapshot: &Snapshot, width: u16) -> Vec<Line<'static>> {
    let of_tcp = || snapshot.flows.iter().filter_map(|flow| flow.record.tcp);
    let mut classes = [0u64; RTT_CLASSES_US.len() + 1];
    for us in of_tcp().filter_map(|tcp| tcp.rtt_us()) {
        classes[RTT_CLASSES_US.iter().take_while(|bound| us > **bound).count()] += 1;
    }
    let most = classes.iter().copied().max().unwrap_or(1).max(1);
    let bar_width = u64::from(width.saturating_sub(26).clamp(1, 40));
    let mut lines = vec![Line::styled("handshake round trip", BOLD)];
    for (index, count) in classes.into_iter().enumerate() {
        let label = match RTT_CLASSES_US.get(index) {
            Some(bound) => format!("≤ {}", duration_ns(u64::from(*bound) * 1000)),
            None => format!(
                "> {}",
                duration_ns(u64::from(RTT_CLASSES_US[RTT_CLASSES_US.len() - 1]) * 1000)
            ),
        };
        let colour = if index < 4 { Color::Green } else { Color::Yellow };
        lines.push(Line::from(vec![
            format!("{label:>11} ").into(),
            Span::styled(
                "▇".repeat((count * bar_width).div_ceil(most) as usize),
                Style::new().fg(colour),
            ),
            format!(" {}", grouped(count)).into(),
        ]));
    }
    lines.push(Line::default());
    lines.push(Line::styled("troubles in these flows", BOLD));
    for (name, count) in [
        (
            "segments sent again",
            of_tcp().map(|tcp| tcp.retransmits()).sum::<u64>(),
        ),
        (
            "segments out of order",
            of_tcp().map(|tcp| tcp.out_of_order()).sum(),
        ),
        (
            "windows closed to zero",
            of_tcp().map(|tcp| tcp.zero_windows()).sum(),
        ),
        ("resets", of_tcp().map(|tcp| tcp.resets()).sum()),
    ] {
        let style = if count == 0 {
            DIM
        } else {
            Style::new().fg(Color::Yellow)
        };
        lines.push(Line::styled(format!("{name:<24}{:>8}", grouped(count)), style));
    }
    lines
}

fn has_losses(snapshot: &Snapshot) -> bool {
    snapshot.status.unaccounted_packets != 0 || snapshot.status.losses.values().any(|count| *count != 0)
}

fn draw_losses(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let [left, right_side] = Layout::horizontal([Constraint::Length(44), Constraint::Fill(1)]).areas(area);
    let status = &snapshot.status;
    let mut lines = vec![Line::styled("refused or lost on the way", BOLD)];
    lines.push(check("packets in no counter", status.unaccounted_packets));
    lines.extend(counts(&status.losses));
    frame.render_widget(Paragraph::new(lines), left);
    let mut lines = vec![Line::styled("dropped by the kernel, by its reason", BOLD)];
    for drop in &status.drops {
        lines.push(Line::from(format!(
            "{:<24}{:>10}",
            shorten(&drop.reason, 23),
            grouped(drop.count)
        )));
    }
    if status.drops.is_empty() {
        lines.push(Line::styled("nothing", DIM));
    }
    lines.push(Line::default());
    for interface in &status.interfaces {
        for (reason, count) in &interface.rx.rejects {
            lines.push(Line::styled(
                format!(
                    "{:<24}{:>10}",
                    shorten(&format!("{} {reason}", interface.name), 23),
                    grouped(*count)
                ),
                DIM,
            ));
        }
    }
    for sentence in &status.degraded {
        lines.push(Line::from(sentence.clone()).yellow());
    }
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), right_side);
}

fn counts(losses: &Counts) -> Vec<Line<'static>> {
    losses
        .iter()
        .map(|(name, count)| check(&name.replace('_', " "), *count))
        .collect()
}

fn check(name: &str, count: u64) -> Line<'static> {
    if count == 0 {
        Line::from(vec![
            "✓ ".green(),
            Span::styled(format!("{name:<28}{:>10}", "0"), DIM),
        ])
    } else {
        Line::from(vec![
            "! ".yellow().bold(),
            Span::raw(format!("{name:<28}{:>10}", grouped(count))).yellow(),
        ])
    }
}

fn draw_input(frame: &mut Frame<'_>, area: Rect, input: &Input) {
    let mut lines = vec![Line::from(vec![input.text.clone().into(), "▏".slow_blink()])];
    match &input.error {
        Some(error) => lines.extend(error.lines().map(|line| Line::from(line.to_owned()).red())),
        None => {
            lines.extend(input.completions.iter().enumerate().map(|(index, offer)| {
                let key = if index == 0 { "tab " } else { "    " };
                Line::from(vec![
                    Span::styled(key, DIM),
                    Span::raw(format!("{:<16}", offer.text)).cyan(),
                    Span::styled(offer.doc, DIM),
                ])
            }));
        }
    }
    let height = (lines.len() as u16 + 2).min(area.height);
    let popup = centred(area, area.width.saturating_sub(4).min(90), height);
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .title(" filter: enter accepts, esc leaves, empty shows all ");
    frame.render_widget(Clear, popup);
    frame.render_widget(Paragraph::new(lines).block(block), popup);
}

const HELP: &str = "\
1 … 5, tab, ← →   panels
↑ ↓ PgUp PgDn     select a row, also j and k, Home and End
enter             the selected flow in full; enter or esc leaves it
s, S              sort by the next column; the other way round
/                 filter, with completion: dport == 443 and not src in 10.0.0.0/8
space             hold the picture; counting goes on
q, esc, Ctrl-C    quit

Rates are of the last second. Grey rows were silent in it. \"again\" counts
segments sent again. \"Without a flow\" shows packets that got no row, by service.";

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let popup = centred(area, 82, HELP.lines().count() as u16 + 2);
    let block = Block::bordered().border_type(BorderType::Rounded).title(" keys ");
    frame.render_widget(Clear, popup);
    frame.render_widget(
        Paragraph::new(HELP).block(block).wrap(Wrap { trim: false }),
        popup,
    );
}

fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect::new(
        area.x + (area.width - width) / 2,
        area.y + (area.height - height) / 2,
        width,
        height,
    )
}

/// Bits per second in decimal units.
pub(super) fn bits(per_s: f64) -> String {
    const UNITS: [&str; 5] = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];
    let (mut value, mut unit) = (per_s, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.95 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

fn packets(per_s: f64) -> String {
    if per_s >= 10_000.0 {
        format!("{:.1} kpps", per_s / 1000.0)
    } else {
        format!("{per_s:.0} pps")
    }
}

/// Cuts the middle out: the end of an address and its port tell more.
fn shorten(text: &str, width: usize) -> String {
    let n_letters = text.chars().count();
    if n_letters <= width {
        return text.to_owned();
    }
    if width < 3 {
        return text.chars().take(width).collect();
    }
    let head = (width - 1) / 2;
    let tail = width - 1 - head;
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(n_letters - tail).collect();
    format!("{start}…{end}")
}
