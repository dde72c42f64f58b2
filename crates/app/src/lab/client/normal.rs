//! Everyday traffic: what a client of a small site does.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{Conversed, Dial, Task, spread};
use crate::lab::layout::{BULK_PORT, DNS_PORT, ECHO_PORT, HTTP_PORT, HTTPS_PORT, SSH_PORT};
use crate::lab::protocol::http::{Ask, PATHS, SLOW_PATH};
use crate::lab::protocol::{bulk, dns, http, ssh, tls};
use crate::lab::random::Random;
use crate::lab::report::{Connection, Outcome, ProgramReport, Protocol, Service};
use crate::lab::scenario::Intensity;

const DATAGRAM_TIME_MAX: Duration = Duration::from_secs(3);

/// One connection or conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// Indexes into the HTTP paths, asked one after the other on one connection.
    Http {
        paths: Vec<usize>,
    },
    HttpSlow,
    /// As `Http`, within TLS.
    Https {
        paths: Vec<usize>,
    },
    /// Indexes of names.
    DnsDatagram {
        names: Vec<usize>,
    },
    DnsStream {
        names: Vec<usize>,
    },
    SshLook,
    EchoDatagram {
        sizes: Vec<u16>,
    },
    Bulk {
        up: u64,
        down: u64,
    },
}

pub(super) async fn run(task: Task) -> Result<ProgramReport> {
    let actions: Vec<(usize, Action)> = plan(
        task.intensity,
        &mut task.random(),
        task.scenario.amount(task.intensity),
    )
    .into_iter()
    .enumerate()
    .collect();
    Ok(spread(task, task.begin_within(), actions, |(index, action)| {
        act(task, index, action)
    })
    .await)
}

/// First one of each kind, twice (so that `both` shows each over both families); then at random.
fn plan(intensity: Intensity, random: &mut Random, count: u32) -> Vec<Action> {
    (0..count)
        .map(|index| {
            let kind = match index {
                0..16 => index / 2,
                // Weights of 64: browsing and names are most of it, bulk is rare.
                _ => match random.below(64) {
                    0..20 => 0,
                    20..26 => 7,
                    26..28 => 1,
                    28..48 => 2,
                    48..54 => 3,
                    54..58 => 4,
                    58..62 => 5,
                    _ => 6,
                },
            };
            action(kind, intensity, random)
        })
        .collect()
}

fn action(kind: u32, intensity: Intensity, random: &mut Random) -> Action {
    let mut several = |most: u32, choices: usize| -> Vec<usize> {
        (0..=random.below(most))
            .map(|_| random.below(choices as u32) as usize)
            .collect()
    };
    match kind {
        0 => Action::Http {
            paths: several(8, PATHS.len()),
        },
        1 => Action::HttpSlow,
        2 => Action::DnsDatagram {
            names: several(4, dns::NAMES.len()),
        },
        3 => Action::DnsStream {
            names: several(4, dns::NAMES.len()),
        },
        4 => Action::SshLook,
        7 => Action::Https {
            paths: several(4, PATHS.len()),
        },
        5 => Action::EchoDatagram {
            sizes: several(8, 1200).into_iter().map(|n| n as u16 + 1).collect(),
        },
        _ => {
            let most = match intensity {
                Intensity::Low => 256 * 1024,
                Intensity::Medium => 4 * 1024 * 1024,
                Intensity::High => 32 * 1024 * 1024,
            };
            Action::Bulk {
                up: u64::from(most / 2 + random.below(most / 2)),
                down: u64::from(most / 2 + random.below(most / 2)),
            }
        }
    }
}

async fn act(task: Task, index: usize, action: Action) -> Vec<Connection> {
    let family = task.families.nth(index);
    let dial = |service, port| Dial::new(task, service, port, family);
    match action {
        Action::Http { paths } => browse(dial(Service::Http, HTTP_PORT), asks(&paths)).await,
        Action::Https { paths } => {
            let asks = asks(&paths);
            dial(Service::Https, HTTPS_PORT)
                .converse(async |stream| {
                    let answered = tls::browse(stream, &asks).await?;
                    Ok((answered, Outcome::Complete))
                })
                .await
        }
        Action::HttpSlow => {
            let asks = vec![Ask::Get {
                path: SLOW_PATH,
                status: 200,
            }];
            browse(dial(Service::Http, HTTP_PORT), asks).await
        }
        Action::DnsStream { names } => {
            let questions = questions(&names);
            dial(Service::Dns, DNS_PORT)
                .converse(async |mut stream| {
                    dns::ask(&mut stream, &questions).await?;
                    Ok((questions.len() as u32, Outcome::Complete))
                })
                .await
        }
        Action::DnsDatagram { names } => {
            let messages = questions(&names)
                .into_iter()
                .map(|(id, name, kind)| (id, dns::question(id, name, kind)))
                .collect();
            datagrams(dial(Service::Dns, DNS_PORT), messages).await
        }
        Action::EchoDatagram { sizes } => {
            let messages = (0..)
                .zip(sizes)
                .map(|(id, size)| (id, vec![b'e'; usize::from(size)]))
                .collect();
            datagrams(dial(Service::Echo, ECHO_PORT), messages).await
        }
        Action::SshLook => {
            let mut random = Random::new(task.seed, &format!("ssh {index}"));
            dial(Service::Ssh, SSH_PORT)
                .converse(async |mut stream| {
                    ssh::look(&mut stream, &mut random).await?;
                    Ok((1, Outcome::Complete))
                })
                .await
        }
        Action::Bulk { up, down } => {
            dial(Service::Bulk, BULK_PORT)
                .converse(async |mut stream| {
                    bulk::transfer(&mut stream, up, down).await?;
                    Ok((1, Outcome::Complete))
                })
                .await
        }
    }
}

fn asks(paths: &[usize]) -> Vec<Ask> {
    let of = |index: &usize| PATHS[*index];
    paths
        .iter()
        .map(of)
        .map(|(path, status)| Ask::Get { path, status })
        .collect()
}

async fn browse(dial: Dial, asks: Vec<Ask>) -> Vec<Connection> {
    dial.converse(async |stream| {
        let answered = http::browse(stream, "www.lab.test", &asks).await?;
        Ok((answered, Outcome::Complete))
    })
    .await
}

fn questions(names: &[usize]) -> Vec<(u16, &'static str, dns::Kind)> {
    const KINDS: [dns::Kind; 3] = [dns::Kind::A, dns::Kind::Aaaa, dns::Kind::Txt];
    (1..)
        .zip(names)
        .map(|(id, index)| (id, dns::NAMES[*index], KINDS[usize::from(id) % 3]))
        .collect()
}

/// Sends each message from one port and waits for its answer.
async fn datagrams(dial: Dial, messages: Vec<(u16, Vec<u8>)>) -> Vec<Connection> {
    let own = SocketAddr::new(dial.task.host.address(dial.family), 0);
    let mut connection = dial.connection(Protocol::Udp, own);
    let conversed = converse_datagrams(&dial, own, &messages, &mut connection).await;
    match conversed {
        Ok((requests, outcome)) => {
            connection.requests = requests;
            connection.outcome = outcome;
        }
        Err(error) => connection.fail(&error),
    }
    vec![connection]
}

async fn converse_datagrams(
    dial: &Dial,
    own: SocketAddr,
    messages: &[(u16, Vec<u8>)],
    connection: &mut Connection,
) -> Conversed {
    let socket = UdpSocket::bind(own).await?;
    connection.client_port = socket.local_addr()?.port();
    socket.connect(dial.server()).await?;
    let mut buffer = vec![0; 2048];
    let mut answered = 0;
    for (id, message) in messages {
        connection.sent_bytes += socket.send(message).await? as u64;
        let Ok(received) = timeout(DATAGRAM_TIME_MAX, socket.recv(&mut buffer)).await else {
            return Ok((answered, Outcome::TimedOut));
        };
        let length = received?;
        connection.received_bytes += length as u64;
        let right = match dial.service {
            Service::Dns => length <= dns::UDP_BYTES_MAX && dns::is_answer(&buffer[..length], *id),
            _ => buffer[..length] == message[..],
        };
        if !right {
            return Err(std::io::Error::other("an answer to another question"));
        }
        answered += 1;
    }
    Ok((answered, Outcome::Complete))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_follows_from_its_seed_and_holds_every_kind() {
        let make = |seed| plan(Intensity::Low, &mut Random::new(seed, "plan"), 24);
        let first = make(1);
        assert_eq!(first, make(1));
        assert_ne!(first, make(2));
        let kinds: std::collections::HashSet<_> = first.iter().map(std::mem::discriminant).collect();
        assert_eq!(kinds.len(), 8);
    }
}
