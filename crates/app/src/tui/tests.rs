//! The view drawn into a buffer, from fixed data.

use control::status::{Drop, Interface, InterfaceTraffic};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Panel, Sort};
use super::*;

fn flow(id: u64, src: &str, dport: u16, rate_bps: f64) -> LiveFlow {
    let text = serde_json::json!({
        "id": id, "start": "2026-01-02T03:04:05.000000000Z", "end": "2026-01-02T03:04:07.500000000Z",
        "duration": 2500, "src": src, "sport": 40_000 + id, "dst": "10.0.0.2", "dport": dport,
        "proto": "tcp", "family": "ipv4", "iface": "eth0", "packets": 30, "packets_toserver": 10,
        "packets_toclient": 20, "bytes": 31_000, "bytes_toserver": 1_000, "bytes_toclient": 30_000,
        "state": "established", "ttl_toserver": [64, 64], "ttl_toclient": [63, 64],
        "sizes_toserver": [1, 9, 0, 0, 0, 0, 0], "sizes_toclient": [0, 0, 0, 0, 0, 20, 0],
        "tcp": {"state": "established", "flags_toserver": "SAP", "flags_toclient": "SAP", "rtt_us": 1_200 * id,
            "rtt_server_us": 1_000 * id, "rtt_client_us": 200 * id, "retransmits_toserver": id - 1,
            "retransmits_toclient": 0, "out_of_order_toserver": 0, "out_of_order_toclient": 0,
            "zero_window_toserver": 0, "zero_window_toclient": 0, "resets_toserver": 0, "resets_toclient": 0},
        "owner": {"pid": 700, "uid": 33, "comm": "nginx"},
        "community_id": "1:x", "rate_pps": 10.0, "rate_bps": rate_bps,
    });
    serde_json::from_value(text).expect("as the API writes it")
}

fn snapshot() -> Snapshot {
    let traffic = |bits_per_s| InterfaceTraffic {
        bits_per_s,
        packets_per_s: bits_per_s / 8_000.0,
        ..InterfaceTraffic::default()
    };
    Snapshot {
        status: Status {
            hostname: Some("box".into()),
            instance: "default".into(),
            mode: "observe".into(),
            uptime_s: 75.0,
            interfaces: vec![Interface {
                name: "eth0".into(),
                ingress: Some("tcx".into()),
                rx: traffic(12_300_000.0),
                tx: traffic(456_000.0),
                ..Interface::default()
            }],
            drops: vec![Drop {
                reason: "NO_SOCKET".into(),
                count: 3,
            }],
            losses: [
                ("flow_table_full".to_owned(), 0),
                ("over_row_budget".to_owned(), 7),
            ]
            .into(),
            ..Status::default()
        },
        flows: vec![
            flow(1, "192.0.2.1", 443, 0.0),
            flow(2, "192.0.2.2", 80, 5e6),
            flow(3, "192.0.2.1", 22, 1e3),
        ],
        n_matching: 3,
        aggregates: vec![
            serde_json::from_value(serde_json::json!({
                "addr": "10.0.0.2", "port": 80, "proto": "tcp", "direction": "to", "iface": "eth0",
                "packets": 1_234_567, "bytes": 74_074_020, "adopted_packets": 2
            }))
            .expect("as the API writes it"),
        ],
    }
}

fn model() -> Model {
    let mut model = Model::new(None, String::new());
    model.update(Event::Data(Box::new(snapshot())));
    model
}

fn press(model: &mut Model, keys: &[KeyCode]) {
    for code in keys {
        model.update(Event::Key(KeyEvent::new(*code, KeyModifiers::NONE)));
    }
}

fn drawn(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a buffer");
    terminal
        .draw(|frame| view::draw(frame, model))
        .expect("a buffer takes all");
    let buffer = terminal.backend().buffer().clone();
    let lines = buffer.content().chunks(usize::from(width).max(1));
    lines
        .map(|line| line.iter().map(ratatui::buffer::Cell::symbol).collect::<String>() + "\n")
        .collect()
}

#[test]
fn panels_show_what_they_promise() {
    #[track_caller]
    fn check(size: (u16, u16), keys: &[KeyCode], expected: &[&str]) {
        let mut model = model();
        press(&mut model, keys);
        let screen = drawn(&model, size.0, size.1);
        for text in expected {
            assert!(screen.contains(text), "{text:?} is not on\n{screen}");
        }
    }
    use KeyCode::{BackTab, Char, Enter, Tab};
    let wide = (100, 30);
    check(
        wide,
        &[],
        &[
            "weir",
            "box",
            "eth0 (tcx)",
            "up 1m15s",
            "in 12.3 Mbit/s",
            "out 456 kbit/s",
        ],
    );
    check(
        wide,
        &[],
        &[
            "192.0.2.2:40002",
            "10.0.0.2:80",
            "established",
            "nginx 700",
            "5.0 Mbit/s",
            "2.4 ms",
            "3 of 3 flows",
        ],
    );
    check(
        (80, 24),
        &[],
        &["192.0.2.2:40002", "established", "5.0 Mbit/s", "in 12.3 Mbit/s"],
    );
    check((40, 10), &[], &["weir", "tcp"]);
    check(wide, &[Tab], &["host", "192.0.2.1", "10.0.0.2"]);
    check(
        wide,
        &[Char('3')],
        &["flows by state", "handshake round trip", "segments sent again"],
    );
    check(
        wide,
        &[Char('4')],
        &["over row budget", "7", "NO_SOCKET", "packets in no counter"],
    );
    check(wide, &[BackTab], &["1,234,567", "10.0.0.2:80", "later in flows"]);
    check(
        wide,
        &[Enter],
        &[
            "192.0.2.2:40002 → 10.0.0.2:80",
            "TTL 63 to 64",
            "nginx (pid 700, uid 33)",
            "≤1518: 20",
        ],
    );
    check(wide, &[Char('?')], &["completion"]);
    check(wide, &[Char(' ')], &["PAUSED"]);
    check(
        wide,
        &[Char('/'), Char('d'), Char('p')],
        &["filter: enter accepts", "dport"],
    );
}

#[test]
fn rows_stand_in_the_order_asked_for() {
    #[track_caller]
    fn check(sort: Sort, is_reversed: bool, expected: [u64; 3]) {
        let mut model = model();
        while model.sort != sort {
            press(&mut model, &[KeyCode::Char('s')]);
        }
        if is_reversed {
            press(&mut model, &[KeyCode::Char('S')]);
        }
        let shown = model.snapshot.as_ref().expect("data came");
        let ids: Vec<_> = shown.flows.iter().map(|flow| flow.record.id).collect();
        assert_eq!(ids, expected);
    }
    check(Sort::Rate, false, [2, 3, 1]);
    check(Sort::Rate, true, [1, 3, 2]);
    check(Sort::Rtt, false, [3, 2, 1]);
    check(Sort::Retransmits, false, [3, 2, 1]);
}

#[test]
fn filters_are_checked_before_they_are_asked() {
    #[track_caller]
    fn check(typed: &str, in_force: &str, has_error: bool) {
        let mut model = model();
        press(&mut model, &[KeyCode::Char('/')]);
        let keys: Vec<_> = typed.chars().map(KeyCode::Char).collect();
        press(&mut model, &keys);
        press(&mut model, &[KeyCode::Enter]);
        assert_eq!(model.filter, in_force);
        assert_eq!(
            model.input.as_ref().is_some_and(|input| input.error.is_some()),
            has_error
        );
    }
    check("dport == 443", "dport == 443", false);
    check("dport == x", "", true);
    check("", "", false);
    let mut model = Model::new(Some("eth0".into()), "tcp or udp".into());
    assert_eq!(
        model.api_filter().as_deref(),
        Some("iface == \"eth0\" and (tcp or udp)")
    );
    model.filter.clear();
    assert_eq!(model.api_filter().as_deref(), Some("iface == \"eth0\""));
}

#[test]
fn a_held_picture_stays_and_a_lost_weir_is_told() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char(' ')]);
    model.update(Event::Data(Box::default()));
    assert_eq!(model.snapshot.as_ref().map(|shown| shown.flows.len()), Some(3));
    assert_eq!(model.history.len(), 2, "rates go on");
    model.update(Event::Lost("no weir is running here".into()));
    assert!(drawn(&model, 100, 30).contains("reconnecting: no weir is running here"));
    press(&mut model, &[KeyCode::Char(' ')]);
    model.update(Event::Data(Box::new(snapshot())));
    assert!(!drawn(&model, 100, 30).contains("reconnecting"));
}

#[test]
fn selection_stays_within_the_rows() {
    let mut model = model();
    press(&mut model, &[KeyCode::End]);
    assert_eq!((model.panel, model.selected), (Panel::Flows, 2));
    model.update(Event::Data(Box::default()));
    assert_eq!(model.selected, 0);
}

fn any_key() -> impl Strategy<Value = KeyCode> {
    prop_oneof![
        any::<char>().prop_map(KeyCode::Char),
        prop::sample::select("qsS /?12345jk".chars().collect::<Vec<_>>()).prop_map(KeyCode::Char),
        prop::sample::select(vec![
            KeyCode::Enter,
            KeyCode::Esc,
            KeyCode::Tab,
            KeyCode::BackTab,
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::Home,
            KeyCode::End,
            KeyCode::PageDown,
            KeyCode::Backspace,
        ]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_keys_at_any_size(keys in prop::collection::vec(any_key(), 0..40), width in 1u16..130, height in 1u16..50) {
        let mut model = model();
        for key in keys {
            press(&mut model, &[key]);
            drawn(&model, width, height);
        }
    }
}

#[test]
fn a_selected_flow_stays_selected_as_rows_move() {
    let mut model = model();
    model.update(Event::Key(KeyEvent::new(KeyCode::Down, KeyModifiers::NONE)));
    let id_at = |model: &Model| {
        model
            .snapshot
            .as_ref()
            .map(|shown| shown.flows[model.selected].record.id)
    };
    let chosen = id_at(&model);
    let mut next = snapshot();
    for flow in &mut next.flows {
        flow.rate_bps = if Some(flow.record.id) == chosen { 1e9 } else { 0.0 };
    }
    model.update(Event::Data(Box::new(next)));
    assert_eq!((model.selected, id_at(&model)), (0, chosen));
}

#[test]
fn a_filter_of_packets_is_refused_where_it_is_typed() {
    let mut model = model();
    for key in "/len > 5".chars().map(KeyCode::Char).chain([KeyCode::Enter]) {
        model.update(Event::Key(KeyEvent::new(key, KeyModifiers::NONE)));
    }
    let error = model.input.and_then(|input| input.error);
    assert!(error.is_some_and(|error| error.contains("packets")));
    assert!(model.filter.is_empty());
}
