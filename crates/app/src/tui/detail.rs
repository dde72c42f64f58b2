//! One flow in full.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph, Wrap};
use wire::flow::SIZE_CLASSES;

use super::view::{bits, protocol, state_name};
use crate::cli::text::{bytes, duration_ns, endpoint, grouped};
use crate::flow_json::LiveFlow;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, flow: &LiveFlow) {
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .title(format!(" flow {} ", flow.record.id))
        .title(Line::from(" esc leaves ").right_aligned());
    frame.render_widget(
        Paragraph::new(lines(flow))
            .block(block)
            .wrap(Wrap { trim: false }),
        area,
    );
}

fn fact(name: &str, value: impl Into<String>) -> Line<'static> {
    Line::from(vec![
        Span::styled(format!("{name:<14}"), Style::new().add_modifier(Modifier::DIM)),
        Span::raw(value.into()),
    ])
}

fn lines(flow: &LiveFlow) -> Vec<Line<'static>> {
    let record = &flow.record;
    let port = |port: u16| (port != 0).then_some(port);
    let mut lines = vec![
        fact(
            "who",
            format!(
                "{}  {} → {}",
                protocol(record),
                endpoint(record.src, port(record.src_port)),
                endpoint(record.dst, port(record.dst_port))
            ),
        ),
        fact("state", state_name(record)),
        fact(
            "when",
            format!(
                "{}, for {}",
                inspect::time::Rfc3339(record.start_ns),
                duration_ns(record.duration_ns())
            ),
        ),
        fact("now", bits(flow.rate_bps)),
    ];
    for (name, traffic) in [("to server", &record.to_server), ("to client", &record.to_client)] {
        let ttl = match traffic.ttl {
            Some((least, most)) if least == most => format!(", TTL {least}"),
            Some((least, most)) => format!(", TTL {least} to {most}"),
            None => String::new(),
        };
        lines.push(fact(
            name,
            format!(
                "{} packets, {}{ttl}",
                grouped(traffic.packets),
                bytes(traffic.bytes)
            ),
        ));
        lines.push(fact("  frame sizes", sizes(&traffic.sizes)));
    }
    if let Some(tcp) = &record.tcp {
        lines.extend(tcp_lines(tcp));
    }
    if let Some(icmp) = &record.icmp {
        lines.push(fact(
            "icmp",
            format!("type {}, code {}", icmp.request.0, icmp.request.1),
        ));
    }
    if let Some(owner) = &record.owner {
        let place = owner.container.as_ref().or(owner.cgroup.as_ref());
        let place = place.map_or_else(String::new, |place| format!(", in {place}"));
        lines.push(fact(
            "process",
            format!("{} (pid {}, uid {}){place}", owner.comm, owner.pid, owner.uid),
        ));
    }
    if let Some(interface) = &record.interface {
        lines.push(fact("seen on", interface.clone()));
    }
    if let Some(tunnel) = &record.tunnel {
        lines.push(fact("inside", format!("{} {}", tunnel.kind, tunnel.id)));
    }
    for vlan in record.vlans.iter().flatten() {
        lines.push(fact("vlan", vlan.to_string()));
    }
    if record.is_partial {
        lines.push(fact(
            "",
            "joined in the middle: earlier packets are not counted here",
        ));
    }
    lines
}

fn tcp_lines(tcp: &inspect::record::TcpHealth) -> Vec<Line<'static>> {
    let span =
        |us: Option<u32>| us.map_or_else(|| "not seen".to_owned(), |us| duration_ns(u64::from(us) * 1000));
    vec![
        fact(
            "handshake",
            format!(
                "{} to the server, {} to the client",
                span(tcp.rtt_server_us),
                span(tcp.rtt_client_us)
            ),
        ),
        fact(
            "flags",
            format!(
                "{} from the client, {} from the server",
                inspect::record::tcp_flag_letters(tcp.to_server.flags),
                inspect::record::tcp_flag_letters(tcp.to_client.flags)
            ),
        ),
        fact(
            "troubles",
            format!(
                "{} sent again, {} out of order, {} closed windows, {} resets",
                tcp.retransmits(),
                tcp.out_of_order(),
                tcp.zero_windows(),
                tcp.resets()
            ),
        ),
    ]
}

fn sizes(classes: &[u64; 7]) -> String {
    let mut parts = Vec::new();
    for (index, count) in classes.iter().enumerate().filter(|(_, count)| **count != 0) {
        let label = match SIZE_CLASSES.get(index) {
            Some(bound) => format!("≤{bound}"),
            None => format!(">{}", SIZE_CLASSES[SIZE_CLASSES.len() - 1]),
        };
        parts.push(format!("{label}: {}", grouped(*count)));
    }
    parts.join("  ")
}
