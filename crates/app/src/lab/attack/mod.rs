//! Traffic below the TCP/IP stack: floods from spoofed sources and scans by bare SYNs.
//!
//! Frames leave through the attacker's `lab0` and nowhere else, at a set pace, and never more than the
//! built-in maximum of packets and seconds.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::client::Task;
use super::layout::{DISCARD_PORT, Family, HOST_INTERFACE, HTTP_PORT, Host};
use super::namespace::{InterfaceCounters, own_counters};
use super::random::Random;
use super::report::{ProgramReport, RawTraffic};
use super::scenario::{RAW_PACKETS_MAX, SECONDS_MAX};
use packet::{Payload, build};
use socket::{BATCH_MAX, Direction, FrameSocket};

mod packet;
mod socket;

/// Room for the headers that matter of a received frame.
const RECEIVE_BYTES: usize = 256;
const UDP_PAYLOAD_BYTES: u16 = 470;
const ICMP_PAYLOAD_BYTES: u16 = 56;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    TcpSyn,
    Udp,
    IcmpEcho,
}

impl Flood {
    fn kind(self) -> &'static str {
        match self {
            Flood::TcpSyn => "tcp-syn",
            Flood::Udp => "udp",
            Flood::IcmpEcho => "icmp-echo",
        }
    }

    fn port(self) -> Option<u16> {
        match self {
            Flood::TcpSyn => Some(HTTP_PORT),
            Flood::Udp => Some(DISCARD_PORT),
            Flood::IcmpEcho => None,
        }
    }

    fn payload(self, random: &mut Random) -> Payload {
        let source_port = 1024 + random.below(u32::from(u16::MAX) - 1023) as u16;
        match self {
            Flood::TcpSyn => Payload::TcpSyn {
                source_port,
                port: HTTP_PORT,
                sequence: random.next_u32(),
            },
            Flood::Udp => Payload::Udp {
                source_port,
                port: DISCARD_PORT,
                bytes: UDP_PAYLOAD_BYTES,
            },
            Flood::IcmpEcho => Payload::IcmpEcho {
                id: source_port,
                sequence: 1,
                bytes: ICMP_PAYLOAD_BYTES,
            },
        }
    }
}

/// Sends a flood at the task's pace until its packets or its time are used up.
pub(crate) fn flood(task: &Task, flood: Flood) -> Result<ProgramReport> {
    let rate = u64::from(task.scenario.amount(task.intensity));
    let seconds = task.seconds.min(SECONDS_MAX);
    let planned = (rate * u64::from(seconds))
        .min(task.packets_max.unwrap_or(RAW_PACKETS_MAX))
        .min(RAW_PACKETS_MAX);
    let mut random = task.random();
    let mut made = 0;
    let mut next = |frame: &mut Vec<u8>| {
        let family = task.families.nth(made);
        made += 1;
        build(
            frame,
            (Host::Attacker.mac(), Host::Server.mac()),
            (spoofed_source(family, &mut random), Host::Server.address(family)),
            random.next_u32() as u16,
            flood.payload(&mut random),
        );
    };
    let pace = Pace {
        packets: planned,
        per_second: rate,
        // A little slack, so that the planned number gets out although the last batch is due at the end.
        limit: Duration::from_millis(u64::from(seconds) * 1000 + 500),
    };
    let sent = send_paced(pace, Direction::SendOnly, &mut next, &mut |_| {})?;
    Ok(ProgramReport {
        raw: vec![raw_traffic(task, flood.kind(), flood.port(), true, sent)],
        ..ProgramReport::default()
    })
}

/// Probes each port by one SYN from the attacker's own address and listens for answers.
pub(crate) fn scan(task: &Task, ports: &[u16]) -> Result<RawTraffic> {
    let mut random = task.random();
    let source_port = 50_000 + random.below(10_000) as u16;
    let mut open = BTreeSet::new();
    let mut index = 0;
    let mut next = |frame: &mut Vec<u8>| {
        let family = task.families.nth(index);
        let port = ports.get(index).copied().unwrap_or(HTTP_PORT);
        index += 1;
        build(
            frame,
            (Host::Attacker.mac(), Host::Server.mac()),
            (Host::Attacker.address(family), Host::Server.address(family)),
            random.next_u32() as u16,
            Payload::TcpSyn {
                source_port,
                port,
                sequence: random.next_u32(),
            },
        );
    };
    let time = task.begin_within();
    let pace = Pace {
        packets: (ports.len() as u64).min(task.packets_max.unwrap_or(RAW_PACKETS_MAX)),
        per_second: (ports.len() as f64 / time.as_secs_f64().max(0.1)).ceil() as u64,
        limit: task.duration(),
    };
    let sent = send_paced(pace, Direction::Both, &mut next, &mut |frame| {
        if let Some((local, port)) = packet::syn_ack(frame, Host::Attacker.mac())
            && local == source_port
        {
            open.insert(port);
        }
    })?;
    let mut traffic = raw_traffic(task, "tcp-syn", None, false, sent);
    traffic.open_ports = open.into_iter().collect();
    Ok(traffic)
}

fn raw_traffic(task: &Task, kind: &str, port: Option<u16>, spoofed: bool, sent: Sent) -> RawTraffic {
    RawTraffic {
        scenario: task.scenario,
        kind: kind.to_owned(),
        targets: task
            .families
            .list()
            .iter()
            .map(|family| Host::Server.address(*family))
            .collect(),
        port,
        spoofed,
        packets_sent: sent.packets,
        bytes_sent: sent.bytes,
        packets_refused: sent.refused,
        interface: sent.interface,
        open_ports: Vec::new(),
    }
}

/// Any unicast address outside the lab's own and the special ranges (RFC 6890), so that the answer
/// takes the default route to its end.
fn spoofed_source(family: Family, random: &mut Random) -> IpAddr {
    match family {
        Family::V4 => loop {
            let address = Ipv4Addr::from_bits(random.next_u32());
            let special = matches!(address.octets()[0], 0 | 10 | 127 | 224..) || address.is_link_local();
            if !special {
                return address.into();
            }
        },
        Family::V6 => {
            let bits = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
            // Global unicast: 2000::/3.
            Ipv6Addr::from_bits(bits >> 3 | 1 << 125).into()
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    packets: u64,
    per_second: u64,
    limit: Duration,
}

impl Pace {
    /// Packets that should be out after this time.
    fn due(self, elapsed: Duration) -> u64 {
        let due = elapsed.as_micros() as u64 * self.per_second / 1_000_000;
        due.saturating_add(1).min(self.packets)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    packets: u64,
    bytes: u64,
    refused: u64,
    interface: InterfaceCounters,
}

/// Sends frames in small batches at a pace; `heard` gets what arrives meanwhile.
fn send_paced(
    pace: Pace,
    direction: Direction,
    next: &mut dyn FnMut(&mut Vec<u8>),
    heard: &mut dyn FnMut(&[u8]),
) -> Result<Sent> {
    let socket = FrameSocket::open(HOST_INTERFACE, direction)
        .with_context(|| format!("cannot open a packet socket on `{HOST_INTERFACE}`"))?;
    let before = own_counters(HOST_INTERFACE)?;
    let mut frames = vec![Vec::new(); BATCH_MAX];
    let mut buffer = [0; RECEIVE_BYTES];
    let mut sent = Sent::default();
    let start = Instant::now();
    let mut listen = |heard: &mut dyn FnMut(&[u8])| -> Result<()> {
        if direction == Direction::Both {
            while let Some(length) = socket.receive(&mut buffer)? {
                heard(&buffer[..length]);
            }
        }
        Ok(())
    };
    while sent.packets + sent.refused < pace.packets && start.elapsed() < pace.limit {
        let done = sent.packets + sent.refused;
        let batch = (pace.due(start.elapsed()) - done).min(BATCH_MAX as u64) as usize;
        if batch == 0 {
            sleep(Duration::from_millis(1));
            listen(heard)?;
            continue;
        }
        for frame in &mut frames[..batch] {
            next(frame);
        }
        let taken = socket.send(&frames[..batch]).context("cannot send frames")?;
        sent.packets += taken as u64;
        sent.refused += (batch - taken) as u64;
        sent.bytes += frames[..taken]
            .iter()
            .map(|frame| frame.len() as u64)
            .sum::<u64>();
        listen(heard)?;
    }
    // The peer counts veth frames when it takes them from its queue, a moment later.
    let settled = Instant::now() + Duration::from_secs(1);
    loop {
        sent.interface = own_counters(HOST_INTERFACE)?.since(before);
        listen(heard)?;
        let counted = sent.interface.tx_packets + sent.interface.tx_dropped;
        if counted >= sent.packets || Instant::now() > settled {
            break;
        }
        sleep(Duration::from_millis(5));
    }
    if direction == Direction::Both {
        // The last answers take a round trip.
        sleep(Duration::from_millis(50));
        listen(heard)?;
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_never_asks_for_more_than_its_packets() {
        let pace = Pace {
            packets: 100,
            per_second: 50,
            limit: Duration::from_secs(9),
        };
        for (millis, expected) in [(0, 1), (1000, 51), (1990, 100), (60_000, 100)] {
            assert_eq!(pace.due(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn spoofed_sources_are_foreign() {
        let mut random = Random::new(3, "sources");
        for _ in 0..10_000 {
            match spoofed_source(Family::V4, &mut random) {
                IpAddr::V4(v4) => assert!(
                    v4.octets()[0] != 10 && !v4.is_multicast() && !v4.is_loopback(),
                    "{v4}"
                ),
                IpAddr::V6(v6) => panic!("{v6}"),
            }
            let IpAddr::V6(v6) = spoofed_source(Family::V6, &mut random) else {
                panic!("expected IPv6");
            };
            assert_eq!(v6.segments()[0] >> 13, 1, "{v6}");
        }
    }
}
