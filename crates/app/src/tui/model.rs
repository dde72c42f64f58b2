//! What the terminal view shows and how keys and data change it. No terminal and no network here.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use control::status::{Aggregate, Status};
use policy::filter::{Completion, Filter, Scope, complete};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::flow_json::LiveFlow;

/// Seconds of history kept: one sample each.
const HISTORY_LEN: usize = 600;

/// What one look at the running Weir gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) status: Status,
    pub(crate) flows: Vec<LiveFlow>,
    /// Flows that pass the filter, shown or not.
    pub(crate) n_matching: u64,
    pub(crate) aggregates: Vec<Aggregate>,
}

/// What happens to the view.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Key(KeyEvent),
    Data(Box<Snapshot>),
    /// Weir does not answer; one sentence.
    Lost(String),
    /// Somebody asks the view to end.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Panel {
    Flows,
    Talkers,
    Tcp,
    Losses,
    Services,
}

impl Panel {
    pub(crate) const ALL: [Self; 5] = [
        Self::Flows,
        Self::Talkers,
        Self::Tcp,
        Self::Losses,
        Self::Services,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Flows => "Flows",
            Self::Talkers => "Talkers",
            Self::Tcp => "TCP health",
            Self::Losses => "Losses & drops",
            Self::Services => "Without a flow",
        }
    }
}

/// What flows are sorted by, the largest or latest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Rate,
    Bytes,
    Packets,
    Last,
    Start,
    Rtt,
    Retransmits,
}

impl Sort {
    pub(crate) const ALL: [Self; 7] = [
        Self::Rate,
        Self::Bytes,
        Self::Packets,
        Self::Last,
        Self::Start,
        Self::Rtt,
        Self::Retransmits,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Bytes => "bytes",
            Self::Packets => "packets",
            Self::Last => "last",
            Self::Start => "start",
            Self::Rtt => "rtt",
            Self::Retransmits => "retransmits",
        }
    }

    /// The nearest order that the API knows, so that it sends the right flows.
    pub(crate) fn for_api(self) -> &'static str {
        match self {
            Self::Rtt | Self::Retransmits => "bytes",
            sort => sort.name(),
        }
    }

    fn compare(self, a: &LiveFlow, b: &LiveFlow) -> Ordering {
        let rtt = |flow: &LiveFlow| flow.record.tcp.and_then(|tcp| tcp.rtt_us()).unwrap_or(0);
        let again = |flow: &LiveFlow| flow.record.tcp.map_or(0, |tcp| tcp.retransmits());
        match self {
            Self::Rate => a.rate_bps.total_cmp(&b.rate_bps),
            Self::Bytes => a.record.bytes().cmp(&b.record.bytes()),
            Self::Packets => a.record.packets().cmp(&b.record.packets()),
            Self::Last => a.record.end_ns.cmp(&b.record.end_ns),
            Self::Start => a.record.start_ns.cmp(&b.record.start_ns),
            Self::Rtt => rtt(a).cmp(&rtt(b)),
            Self::Retransmits => again(a).cmp(&again(b)),
        }
    }
}

/// A host and what it moves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Talker {
    pub(crate) host: IpAddr,
    pub(crate) n_flows: u64,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) bits_per_s: f64,
}

/// Rates of one second, all observed interfaces together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) in_bps: f64,
    pub(crate) out_bps: f64,
    pub(crate) in_pps: f64,
    pub(crate) out_pps: f64,
}

/// A filter being typed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Input {
    pub(crate) text: String,
    /// What is wrong with it, with carets, after Enter.
    pub(crate) error: Option<String>,
    pub(crate) completions: Vec<Completion>,
}

/// Completions offered at once.
const COMPLETIONS_MAX: usize = 6;

/// The whole state of the view.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) history: VecDeque<Rates>,
    pub(crate) panel: Panel,
    pub(crate) sort: Sort,
    pub(crate) is_reversed: bool,
    pub(crate) is_paused: bool,
    /// Restricts the view to one interface.
    pub(crate) interface: Option<String>,
    /// The filter in force, as typed.
    pub(crate) filter: String,
    pub(crate) input: Option<Input>,
    pub(crate) selected: usize,
    /// Flow shown in full.
    pub(crate) detail: Option<u64>,
    pub(crate) shows_help: bool,
    /// Why there is no data now.
    pub(crate) lost: Option<String>,
    pub(crate) is_over: bool,
}

impl Model {
    pub(crate) fn new(interface: Option<String>, filter: String) -> Self {
        Self {
            snapshot: None,
            history: VecDeque::new(),
            panel: Panel::Flows,
            sort: Sort::Rate,
            is_reversed: false,
            is_paused: false,
            interface,
            filter,
            input: None,
            selected: 0,
            detail: None,
            shows_help: false,
            lost: None,
            is_over: false,
        }
    }

    /// The filter to ask the API for: what was typed, on the chosen interface.
    pub(crate) fn api_filter(&self) -> Option<String> {
        let typed = (!self.filter.is_empty()).then(|| format!("({})", self.filter));
        let interface = self.interface.as_ref().map(|name| format!("iface == \"{name}\""));
        match (interface, typed) {
            (Some(interface), Some(typed)) => Some(format!("{interface} and {typed}")),
            (one, other) => one.or(other),
        }
    }

    pub(crate) fn update(&mut self, event: Event) {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(key),
            Event::Key(_) => {}
            Event::Data(snapshot) => self.data(*snapshot),
            Event::Lost(why) => self.lost = Some(why),
            Event::Over => self.is_over = true,
        }
    }

    fn data(&mut self, snapshot: Snapshot) {
        self.lost = None;
        let mut rates = Rates::default();
        for interface in &snapshot.status.interfaces {
            if self
                .interface
                .as_ref()
                .is_none_or(|chosen| *chosen == interface.name)
            {
                rates.in_bps += interface.rx.bits_per_s;
                rates.out_bps += interface.tx.bits_per_s;
                rates.in_pps += interface.rx.packets_per_s;
                rates.out_pps += interface.tx.packets_per_s;
            }
        }
        if self.history.len() == HISTORY_LEN {
            self.history.pop_front();
        }
        self.history.push_back(rates);
        if !self.is_paused {
            let followed = self.followed();
            self.snapshot = Some(snapshot);
            self.order();
            self.follow(followed);
        }
    }

    /// The flow under a selection that has left the top: it stays selected as rows move.
    fn followed(&self) -> Option<u64> {
        if self.panel != Panel::Flows || self.selected == 0 {
            return None;
        }
        let flow = self.snapshot.as_ref()?.flows.get(self.selected)?;
        Some(flow.record.id)
    }

    fn follow(&mut self, id: Option<u64>) {
        let flows = self.snapshot.iter().flat_map(|snapshot| &snapshot.flows);
        if let Some(at) = id.and_then(|id| flows.into_iter().position(|flow| flow.record.id == id)) {
            self.selected = at;
        }
    }

    fn order(&mut self) {
        let (sort, is_reversed) = (self.sort, self.is_reversed);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.flows.sort_by(|a, b| {
                let largest_first = sort.compare(b, a).then_with(|| a.record.id.cmp(&b.record.id));
                if is_reversed {
                    largest_first.reverse()
                } else {
                    largest_first
                }
            });
        }
        self.selected = self.selected.min(self.n_rows().saturating_sub(1));
    }

    /// Rows that the present panel can select among.
    pub(crate) fn n_rows(&self) -> usize {
        let Some(snapshot) = &self.snapshot else { return 0 };
        match self.panel {
            Panel::Flows => snapshot.flows.len(),
            Panel::Talkers => self.talkers().len(),
            Panel::Services => snapshot.aggregates.len(),
            Panel::Tcp | Panel::Losses => 0,
        }
    }

    /// Hosts by what they move, the busiest first.
    pub(crate) fn talkers(&self) -> Vec<Talker> {
        let mut by_host: HashMap<IpAddr, Talker> = HashMap::new();
        for flow in self.snapshot.iter().flat_map(|snapshot| &snapshot.flows) {
            for host in [flow.record.src, flow.record.dst] {
                let talker = by_host.entry(host).or_insert(Talker {
                    host,
                    n_flows: 0,
                    packets: 0,
                    bytes: 0,
                    bits_per_s: 0.0,
                });
                talker.n_flows += 1;
                talker.packets += flow.record.packets();
                talker.bytes += flow.record.bytes();
                talker.bits_per_s += flow.rate_bps;
            }
        }
        let mut talkers: Vec<_> = by_host.into_values().collect();
        talkers.sort_by(|a, b| {
            b.bits_per_s
                .total_cmp(&a.bits_per_s)
                .then_with(|| b.bytes.cmp(&a.bytes))
                .then_with(|| a.host.cmp(&b.host))
        });
        talkers
    }

    /// The flow shown in full, if it still is among those sent.
    pub(crate) fn detailed(&self) -> Option<&LiveFlow> {
        let id = self.detail?;
        self.snapshot
            .as_ref()?
            .flows
            .iter()
            .find(|flow| flow.record.id == id)
    }

    fn key(&mut self, key: KeyEvent) {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            self.is_over = true;
        } else if self.input.is_some() {
            self.input_key(key);
        } else if self.shows_help {
            self.shows_help = false;
        } else if self.detail.is_some()
            && matches!(key.code, KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q'))
        {
            self.detail = None;
        } else {
            self.command_key(key.code);
        }
    }

    fn command_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char('q') | KeyCode::Esc => self.is_over = true,
            KeyCode::Char('?' | 'h') => self.shows_help = true,
            KeyCode::Char('/') => {
                let text = self.filter.clone();
                self.input = Some(Input {
                    completions: offers(&text),
                    text,
                    error: None,
                });
            }
            KeyCode::Char('s') => self.next_sort(),
            KeyCode::Char('S') => {
                self.is_reversed = !self.is_reversed;
                self.order();
            }
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Panel::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='5') => self.show(Panel::ALL[digit as usize - '1' as usize]),
            KeyCode::Down | KeyCode::Char('j') => self.select(self.selected.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => self.select(self.selected.saturating_sub(1)),
            KeyCode::PageDown => self.select(self.selected.saturating_add(10)),
            KeyCode::PageUp => self.select(self.selected.saturating_sub(10)),
            KeyCode::Home => self.select(0),
            KeyCode::End => self.select(usize::MAX),
            KeyCode::Enter => self.open(),
            _ => {}
        }
    }

    fn next_sort(&mut self) {
        let at = Sort::ALL.iter().position(|sort| *sort == self.sort).unwrap_or(0);
        self.sort = Sort::ALL[(at + 1) % Sort::ALL.len()];
        self.order();
    }

    fn turn(&mut self, steps: usize) {
        let at = Panel::ALL
            .iter()
            .position(|panel| *panel == self.panel)
            .unwrap_or(0);
        self.show(Panel::ALL[(at + steps) % Panel::ALL.len()]);
    }

    fn show(&mut self, panel: Panel) {
        self.panel = panel;
        self.selected = 0;
        self.detail = None;
    }

    fn select(&mut self, row: usize) {
        self.selected = row.min(self.n_rows().saturating_sub(1));
    }

    fn open(&mut self) {
        if self.panel == Panel::Flows
            && let Some(flow) = self
                .snapshot
                .as_ref()
                .and_then(|snapshot| snapshot.flows.get(self.selected))
        {
            self.detail = Some(flow.record.id);
        }
    }

    fn input_key(&mut self, key: KeyEvent) {
        let Some(input) = &mut self.input else { return };
        match key.code {
            KeyCode::Esc => {
                self.input = None;
                return;
            }
            KeyCode::Enter => return self.accept(),
            KeyCode::Tab => {
                if let Some(first) = input.completions.first() {
                    input.text.truncate(first.start.min(input.text.len()));
                    input.text.push_str(&first.text);
                    input.text.push(' ');
                }
            }
            KeyCode::Backspace => {
                input.text.pop();
            }
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => input.text.clear(),
            KeyCode::Char(letter) if input.text.len() < policy::filter::LENGTH_MAX => input.text.push(letter),
            _ => return,
        }
        input.error = None;
        input.completions = offers(&input.text);
    }

    fn accept(&mut self) {
        let Some(input) = &mut self.input else { return };
        let text = input.text.trim().to_owned();
        if text.is_empty() {
            self.filter.clear();
            self.input = None;
            return;
        }
        let parsed = Filter::parse(&text);
        match parsed.and_then(|filter| filter.check_scope(Scope::Flow)) {
            Ok(_) => {
                self.filter = text;
                self.selected = 0;
                self.input = None;
            }
            Err(error) => input.error = Some(error.render(&text)),
        }
    }
}

fn offers(text: &str) -> Vec<Completion> {
    let mut offers = complete(text);
    offers.truncate(COMPLETIONS_MAX);
    offers
}
