//! What a running Weir knows of one flow, in the order it happened. Times are those the kernel keeps: the
//! handshake's; what payloads said has an order and no time.

use inspect::layer7::Insight;
use inspect::record::{FlowRecord, TcpState};
use wire::tcp::flag;

use super::read::table;
use super::text::{Align, Cell, Painter, columns, duration_ns, grouped};

/// The story as it is printed.
pub(super) fn of(record: &FlowRecord, painter: Painter) -> String {
    let mut text = table::render(painter, std::iter::once(record.clone()));
    text.push('\n');
    let rows: Vec<Vec<Cell>> = steps(record)
        .into_iter()
        .map(|(time, way, step)| vec![Cell::plain(time), Cell::plain(way), Cell::plain(step)])
        .collect();
    text += &columns(painter, &[Align::Right, Align::Left, Align::Left], &rows);
    text
}

type Steps = Vec<(String, &'static str, String)>;

fn steps(record: &FlowRecord) -> Steps {
    let mut steps = Steps::new();
    let after = |us: u32| format!("+{}", duration_ns(u64::from(us) * 1000));
    if let Some(tcp) = record.tcp.filter(|tcp| tcp.to_server.has(flag::SYN)) {
        steps.push(("+0s".into(), ">", "SYN: asks for a connection".into()));
        if tcp.to_client.has(flag::SYN) {
            let time = tcp.rtt_server_us.map_or_else(String::new, after);
            steps.push((time, "<", "SYN and ACK: takes it".into()));
        }
        if let Some(us) = tcp.rtt_us() {
            steps.push((after(us), ">", "ACK: the connection is open".into()));
        }
    } else if record.is_partial {
        steps.push((
            String::new(),
            ">",
            "joined in the middle: what was before is not known".into(),
        ));
    } else {
        steps.push(("+0s".into(), ">", "first packet".into()));
    }
    if let Some(insight) = &record.insight {
        said(insight, &mut steps);
    }
    let time = format!("+{}", duration_ns(record.duration_ns()));
    steps.push((time, "", end(record)));
    steps
}

fn said(insight: &Insight, steps: &mut Steps) {
    let mut step = |way, text: String| steps.push((String::new(), way, text));
    let text = |value: &Option<Box<str>>| value.as_deref().unwrap_or("-").to_owned();
    if let Some(tls) = &insight.tls {
        let ech = if tls.has_ech {
            ", the name within is encrypted"
        } else {
            ""
        };
        step(
            ">",
            format!("hello: name {}{ech}, JA4 {}", text(&tls.sni), text(&tls.ja4)),
        );
        if let Some(version) = tls.version {
            step("<", format!("{version}, protocol {}", text(&tls.alpn)));
        }
    }
    if let Some(http) = &insight.http {
        let agent = text(&http.user_agent);
        step(
            ">",
            format!(
                "{} {} of {}, by {agent}",
                text(&http.method),
                text(&http.path),
                text(&http.host)
            ),
        );
        if let Some(status) = http.status {
            let length =
                http.content_length[1].map_or_else(String::new, |n| format!(", {} bytes", grouped(n)));
            step(
                "<",
                format!("status {status}, {}{length}", text(&http.content_type)),
            );
        }
        if http.requests > 1 {
            step("", format!("{} requests in all", grouped(http.requests.into())));
        }
    }
    if let Some(dns) = &insight.dns {
        step(
            ">",
            format!("asks for {}; {} questions in all", text(&dns.query), dns.queries),
        );
        if let Some(rcode) = &dns.rcode {
            step("<", format!("{rcode}; {} answers in all", dns.answers));
        }
    }
    if let Some(ssh) = &insight.ssh {
        step(
            ">",
            format!("SSH client {}, HASSH {}", text(&ssh.client), text(&ssh.hassh)),
        );
        step("<", format!("SSH server {}", text(&ssh.server)));
    }
    if insight.logins_attempted + insight.logins_succeeded + insight.logins_failed > 0 {
        step(
            "",
            format!(
                "log-ins: {} tried, {} succeeded, {} refused, user {}",
                insight.logins_attempted,
                insight.logins_succeeded,
                insight.logins_failed,
                text(&insight.user)
            ),
        );
    }
    if insight.has_clear_credential {
        step("", "a password or token went by in clear text".into());
    }
    if insight.alerts + insight.anomalies > 0 {
        step(
            "",
            format!(
                "{} signatures matched, {} anomalies",
                insight.alerts, insight.anomalies
            ),
        );
    }
}

fn end(record: &FlowRecord) -> String {
    match (record.reason, record.tcp.map(|tcp| tcp.state)) {
        (_, Some(TcpState::Closed)) => "closed".into(),
        (None, _) => "goes on".into(),
        (Some(_), Some(TcpState::SynSent)) => "never answered".into(),
        (Some(reason), _) => format!("over: {}", reason.name()),
    }
}
