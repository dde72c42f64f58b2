//! The attacker's programs that use real connections.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout_at};

use super::{Conversed, Dial, Task, spread};
use crate::lab::attack;
use crate::lab::counted::Counted;
use crate::lab::layout::{BULK_PORT, HTTP_PORT, SSH_PORT};
use crate::lab::protocol::http::Ask;
use crate::lab::protocol::{http, ssh};
use crate::lab::random::Random;
use crate::lab::report::{Outcome, ProgramReport, Service};

/// Pause between the drips and sips of slow clients.
const DRIP: Duration = Duration::from_millis(500);
const SIP_BYTES: usize = 512;
const SMALL_WINDOW_BYTES: u32 = 4096;

/// Ports from 1 on in a shuffled order; every second one by a whole connection, the others by bare SYNs.
pub(super) async fn scan_ports(task: Task) -> Result<ProgramReport> {
    let ports = shuffled_ports(task);
    let (whole, bare): (Vec<_>, Vec<_>) = ports
        .into_iter()
        .enumerate()
        .partition(|(index, _)| index % 2 == 0);
    let bare: Vec<u16> = bare.into_iter().map(|(_, port)| port).collect();
    // Raw sending blocks its thread; the connections go on here meanwhile.
    let probing = tokio::task::spawn_blocking(move || attack::scan(&task, &bare));
    let whole: Vec<_> = whole.into_iter().map(|(_, port)| port).enumerate().collect();
    let mut report = spread(task, task.begin_within(), whole, |(index, port)| {
        Dial::new(task, Service::Probe, port, task.families.nth(index))
            .converse(async |_| Ok((0, Outcome::Complete)))
    })
    .await;
    report.raw.push(probing.await.context("the SYN scan panicked")??);
    Ok(report)
}

fn shuffled_ports(task: Task) -> Vec<u16> {
    let mut random = task.random();
    let amount = task.scenario.amount(task.intensity).min(u16::MAX.into()) as u16;
    let mut ports: Vec<u16> = (1..=amount).collect();
    if amount < BULK_PORT {
        ports.push(BULK_PORT);
    }
    for index in (1..ports.len()).rev() {
        ports.swap(index, random.below(index as u32 + 1) as usize);
    }
    ports
}

/// SSH and web log-ins by turns.
pub(super) async fn guess_passwords(task: Task) -> Result<ProgramReport> {
    let amount = task.scenario.amount(task.intensity) as usize;
    Ok(spread(task, task.begin_within(), (0..amount).collect(), |index| {
        let mut random = Random::new(task.seed, &format!("guess {index}"));
        // Two by two, so that each service meets both families.
        let family = task.families.nth(index / 2);
        async move {
            if index % 2 == 0 {
                return Dial::new(task, Service::Ssh, SSH_PORT, family)
                    .converse(async |mut stream| {
                        let refused = ssh::try_passwords(&mut stream, &mut random).await?;
                        Ok((refused, Outcome::AuthFailed))
                    })
                    .await;
            }
            let asks: Vec<Ask> = (0..=random.below(3))
                .map(|_| Ask::LogIn {
                    password: random.next_u64(),
                })
                .collect();
            Dial::new(task, Service::Http, HTTP_PORT, family)
                .converse(async |stream| {
                    let refused = http::browse(stream, "www.lab.test", &asks).await?;
                    Ok((refused, Outcome::AuthFailed))
                })
                .await
        }
    })
    .await)
}

/// Slow heads and slow readers by turns, held until the time is up.
pub(super) async fn hold_connections(task: Task) -> Result<ProgramReport> {
    let amount = task.scenario.amount(task.intensity) as usize;
    let end = Instant::now() + task.duration();
    Ok(
        spread(task, task.duration() / 10, (0..amount).collect(), |index| {
            let mut dial = Dial::new(task, Service::Http, HTTP_PORT, task.families.nth(index / 2));
            async move {
                if index % 2 == 0 {
                    dial.converse(async |stream| drip_head(stream, end).await).await
                } else {
                    dial.receive_buffer_bytes = Some(SMALL_WINDOW_BYTES);
                    dial.converse(async |stream| sip_body(stream, end).await).await
                }
            }
        })
        .await,
    )
}

/// A request whose head never ends.
async fn drip_head(mut stream: Counted<TcpStream>, end: Instant) -> Conversed {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: www.lab.test\r\n")
        .await?;
    let mut ticks = interval(DRIP);
    let mut answer = [0; 512];
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(end) => return Ok((0, Outcome::Held)),
            read = stream.read(&mut answer) => match read? {
                0 => return Ok((0, Outcome::ClosedByServer)),
                _ => continue,
            },
            _ = ticks.tick() => {}
        }
        stream.write_all(b"X-Drip: drop\r\n").await?;
    }
}

/// A large answer, read so slowly that the window stays closed most of the time.
async fn sip_body(mut stream: Counted<TcpStream>, end: Instant) -> Conversed {
    stream
        .write_all(b"GET /bytes/10000000 HTTP/1.1\r\nHost: www.lab.test\r\n\r\n")
        .await?;
    let mut ticks = interval(DRIP);
    let mut sip = [0; SIP_BYTES];
    loop {
        if timeout_at(end, ticks.tick()).await.is_err() {
            return Ok((1, Outcome::Held));
        }
        match timeout_at(end, stream.read(&mut sip)).await {
            Err(_) => return Ok((1, Outcome::Held)),
            Ok(Ok(0)) => return Ok((1, Outcome::ClosedByServer)),
            Ok(read) => read?,
        };
    }
}
