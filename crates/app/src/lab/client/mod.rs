//! `weir lab client`: the programs of the clients and of the attacker, one scenario each.
//!
//! What they do follows from the seed; when each thing happens follows from the clock.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::attack;
use super::counted::Counted;
use super::layout::{Family, Host};
use super::random::Random;
use super::report::{Connection, Outcome, ProgramReport, Protocol, Service};
use super::scenario::{Intensity, Scenario};

mod hostile;
mod normal;

/// Most connections of one program at a time.
const AT_A_TIME_MAX: usize = 256;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may go on after the time for beginning new ones is up.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// What one program is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub scenario: Scenario,
    /// Where it runs.
    pub host: Host,
    pub seconds: u32,
    pub intensity: Intensity,
    pub seed: u64,
    pub families: Families,
    /// Most raw packets, below the built-in maximum.
    pub packets_max: Option<u64>,
}

/// Which IP versions to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Families {
    #[value(name = "4")]
    V4,
    #[value(name = "6")]
    V6,
    Both,
}

impl Families {
    /// The family of the `index`th thing: with `both`, in turn.
    pub(crate) fn nth(self, index: usize) -> Family {
        match self {
            Families::V4 => Family::V4,
            Families::V6 => Family::V6,
            Families::Both if index.is_multiple_of(2) => Family::V4,
            Families::Both => Family::V6,
        }
    }

    /// The word on a command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Families::V4 => "4",
            Families::V6 => "6",
            Families::Both => "both",
        }
    }

    pub(crate) fn list(self) -> &'static [Family] {
        match self {
            Families::V4 => &[Family::V4],
            Families::V6 => &[Family::V6],
            Families::Both => &[Family::V4, Family::V6],
        }
    }
}

impl Task {
    pub(crate) fn random(&self) -> Random {
        Random::new(self.seed, &format!("{}/{}", self.scenario.name(), self.host))
    }

    /// The time to begin things in, so that the last of them can end within the duration.
    pub(crate) fn begin_within(&self) -> Duration {
        self.duration().mul_f64(0.8)
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs(u64::from(self.seconds))
    }
}

/// Does the task in the calling process's namespace.
pub(crate) fn run(task: Task) -> Result<ProgramReport> {
    match task.scenario {
        Scenario::SynFlood => return attack::flood(&task, attack::Flood::TcpSyn),
        Scenario::UdpFlood => return attack::flood(&task, attack::Flood::Udp),
        Scenario::IcmpFlood => return attack::flood(&task, attack::Flood::IcmpEcho),
        Scenario::Normal | Scenario::PortScan | Scenario::BruteForce | Scenario::SlowClient => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    LocalSet::new().block_on(&runtime, async {
        match task.scenario {
            Scenario::PortScan => hostile::scan_ports(task).await,
            Scenario::BruteForce => hostile::guess_passwords(task).await,
            Scenario::SlowClient => hostile::hold_connections(task).await,
            _ => normal::run(task).await,
        }
    })
}

/// Begins the actions evenly over the first part of the time, a bounded number at once, and waits for
/// all. An action that could not begin before the time was up is counted as skipped.
async fn spread<A, F>(
    task: Task,
    begin_within: Duration,
    actions: Vec<A>,
    act: impl Fn(A) -> F,
) -> ProgramReport
where
    F: Future<Output = Vec<Connection>> + 'static,
{
    let begin = Instant::now();
    let end = begin + task.duration();
    let step = begin_within / (actions.len().max(1) as u32);
    let places = Arc::new(Semaphore::new(AT_A_TIME_MAX));
    let mut running = JoinSet::new();
    let mut report = ProgramReport::default();
    for (index, action) in actions.into_iter().enumerate() {
        sleep_until(begin + step * index as u32).await;
        let place = timeout_at(end, Arc::clone(&places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            report.skipped += 1;
            continue;
        };
        let acted = act(action);
        running.spawn_local(async move {
            let connections = acted.await;
            drop(place);
            connections
        });
        while let Some(Ok(connections)) = running.try_join_next() {
            report.connections.extend(connections);
        }
    }
    while let Some(done) = running.join_next().await {
        report.connections.extend(done.unwrap_or_default());
    }
    report
}

/// How a conversation went: questions answered, and the end.
type Conversed = io::Result<(u32, Outcome)>;

/// Which connection to make.
#[derive(Clone, Copy, Debug)]
struct Dial {
    task: Task,
    service: Service,
    port: u16,
    family: Family,
    /// Asks for a small window.
    receive_buffer_bytes: Option<u32>,
    /// When the conversation is broken off.
    limit: Duration,
}

impl Dial {
    fn new(task: Task, service: Service, port: u16, family: Family) -> Dial {
        Dial {
            task,
            service,
            port,
            family,
            receive_buffer_bytes: None,
            limit: task.duration() + GRACE,
        }
    }

    fn server(&self) -> SocketAddr {
        SocketAddr::new(Host::Server.address(self.family), self.port)
    }

    fn connection(&self, protocol: Protocol, client: SocketAddr) -> Connection {
        Connection {
            scenario: self.task.scenario,
            service: self.service,
            protocol,
            client: client.ip(),
            client_port: client.port(),
            server: self.server().ip(),
            server_port: self.port,
            sent_bytes: 0,
            received_bytes: 0,
            requests: 0,
            outcome: Outcome::Failed,
            detail: None,
            server_received_bytes: None,
            server_sent_bytes: None,
        }
    }

    /// A socket bound to the host's address and a port, so that even a refused connection has both.
    fn socket(&self) -> io::Result<(TcpSocket, SocketAddr)> {
        let socket = match self.family {
            Family::V4 => TcpSocket::new_v4()?,
            Family::V6 => TcpSocket::new_v6()?,
        };
        if let Some(bytes) = self.receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(SocketAddr::new(self.task.host.address(self.family), 0))?;
        let client = socket.local_addr()?;
        Ok((socket, client))
    }

    /// Connects, converses and tells what came of it.
    async fn converse(
        self,
        conversation: impl AsyncFnOnce(Counted<TcpStream>) -> Conversed,
    ) -> Vec<Connection> {
        let nowhere = SocketAddr::new(self.task.host.address(self.family), 0);
        let (socket, client) = match self.socket() {
            Ok(bound) => bound,
            Err(error) => {
                let mut connection = self.connection(Protocol::Tcp, nowhere);
                connection.fail(&error);
                return vec![connection];
            }
        };
        let mut connection = self.connection(Protocol::Tcp, client);
        match timeout(CONNECT_TIME_MAX, socket.connect(self.server())).await {
            Err(_) => connection.outcome = Outcome::TimedOut,
            Ok(Err(error)) => connection.fail(&error),
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                let stream = Counted::new(stream);
                let tally = stream.tally();
                match timeout(self.limit, conversation(stream)).await {
                    Err(_) => connection.outcome = Outcome::TimedOut,
                    Ok(Err(error)) => connection.fail(&error),
                    Ok(Ok((requests, outcome))) => {
                        connection.requests = requests;
                        connection.outcome = outcome;
                    }
                }
                connection.sent_bytes = tally.sent();
                connection.received_bytes = tally.received();
            }
        }
        vec![connection]
    }
}

impl Connection {
    fn fail(&mut self, error: &io::Error) {
        self.outcome = match error.kind() {
            io::ErrorKind::ConnectionRefused => Outcome::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                Outcome::ClosedByServer
            }
            _ => Outcome::Failed,
        };
        if self.outcome == Outcome::Failed {
            self.detail = Some(error.to_string());
        }
    }
}
