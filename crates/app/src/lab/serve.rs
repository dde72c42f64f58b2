//! `weir lab serve`: the programs of the server host, in one process.
//!
//! What each connection carried is kept in a bounded record; whoever connects to the control socket
//! gets the record as one JSON document and empties it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::counted::Counted;
use super::layout::{BULK_PORT, DNS_PORT, ECHO_PORT, Family, HTTP_PORT, HTTPS_PORT, Host, SSH_PORT};
use super::protocol::{bulk, dns, http, ssh, tls};
use super::random::Random;
use super::report::{Protocol, Seen, ServerReport, Service};

/// Most TCP connections served at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 2048;
/// Most records kept until someone asks.
const RECORDS_MAX: usize = 65_536;
/// Longest life of a TCP connection: above the longest scenario.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(90);
const DATAGRAM_BYTES_MAX: usize = 65_535;

const TCP_SERVICES: [(u16, Service); 6] = [
    (HTTP_PORT, Service::Http),
    (HTTPS_PORT, Service::Https),
    (DNS_PORT, Service::Dns),
    (SSH_PORT, Service::Ssh),
    (BULK_PORT, Service::Bulk),
    (ECHO_PORT, Service::Echo),
];
const UDP_SERVICES: [(u16, Service); 2] = [(DNS_PORT, Service::Dns), (ECHO_PORT, Service::Echo)];

/// Serves until ended; says `ready` on standard output once every port listens.
pub(crate) fn serve(socket: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let record = Arc::new(Record::default());
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let acceptor = tls::acceptor().context("cannot make the lab's certificate")?;
        for family in [Family::V4, Family::V6] {
            let address = Host::Server.address(family);
            for (port, service) in TCP_SERVICES {
                let listener = TcpListener::bind((address, port))
                    .await
                    .with_context(|| cannot_listen("TCP", address, port))?;
                tokio::spawn(accept(
                    listener,
                    service,
                    Arc::clone(&record),
                    Arc::clone(&places),
                    acceptor.clone(),
                ));
            }
            for (port, service) in UDP_SERVICES {
                let socket = UdpSocket::bind((address, port))
                    .await
                    .with_context(|| cannot_listen("UDP", address, port))?;
                tokio::spawn(answer_datagrams(socket, service, Arc::clone(&record)));
            }
        }
        let control =
            UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
        let mut output = io::stdout();
        writeln!(output, "ready")
            .and_then(|()| output.flush())
            .context("cannot say that the servers are ready")?;
        loop {
            let (mut asking, _) = control.accept().await?;
            let text = serde_json::to_vec(&record.take()).unwrap_or_default();
            let _ = timeout(Duration::from_secs(5), asking.write_all(&text)).await;
        }
    })
}

fn cannot_listen(protocol: &str, address: IpAddr, port: u16) -> String {
    format!(
        "cannot listen on {protocol} {address} port {port}: expected to run in the lab's server namespace"
    )
}

async fn accept(
    listener: TcpListener,
    service: Service,
    record: Arc<Record>,
    places: Arc<Semaphore>,
    acceptor: TlsAcceptor,
) {
    for number in 0_u64.. {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, client)) => {
                let record = Arc::clone(&record);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    serve_stream(stream, client, service, number, &record, &acceptor).await;
                    drop(place);
                });
            }
            // Out of descriptors, or a client that was gone before its turn: neither ends the service.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve_stream(
    stream: TcpStream,
    client: SocketAddr,
    service: Service,
    number: u64,
    record: &Record,
    acceptor: &TlsAcceptor,
) {
    let Ok(server) = stream.local_addr() else {
        return;
    };
    let _ = stream.set_nodelay(true);
    record.open();
    let mut stream = Counted::new(stream);
    let tally = stream.tally();
    let conversation = async {
        match service {
            Service::Http => http::serve(stream).await,
            Service::Https => tls::serve(acceptor, stream).await,
            Service::Dns => dns::serve(&mut stream).await,
            Service::Ssh => ssh::serve(&mut stream, &mut Random::new(number, "sshd")).await,
            Service::Bulk => bulk::serve(&mut stream).await,
            Service::Echo | Service::Probe => echo(&mut stream).await,
        }
    };
    // A client that breaks off is part of the lab's traffic; the counts tell what came of it.
    let _ = timeout(CONNECTION_TIME_MAX, conversation).await;
    record.close(Seen {
        service,
        protocol: Protocol::Tcp,
        client,
        server,
        received_bytes: tally.received(),
        sent_bytes: tally.sent(),
    });
}

async fn echo(stream: &mut Counted<TcpStream>) -> io::Result<()> {
    use tokio::io::AsyncReadExt;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}

async fn answer_datagrams(socket: UdpSocket, service: Service, record: Arc<Record>) {
    let Ok(server) = socket.local_addr() else {
        return;
    };
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // Errors here are ICMP messages about earlier answers.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let answer = match service {
            Service::Dns => dns::answer(&buffer[..length]),
            _ => Some(buffer[..length].to_vec()),
        };
        let mut sent = 0;
        if let Some(answer) = answer {
            sent = socket.send_to(&answer, client).await.unwrap_or(0);
        }
        record.datagram(service, client, server, length as u64, sent as u64);
    }
}

/// What was served since the last question.
#[derive(Debug, Default)]
struct Record(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    streams: VecDeque<Seen>,
    /// By client and server address: datagrams have no end to wait for.
    datagrams: HashMap<(SocketAddr, SocketAddr), Seen>,
    open: usize,
    lost: u64,
}

impl Record {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) {
        self.entries().open += 1;
    }

    fn close(&self, seen: Seen) {
        let mut entries = self.entries();
        entries.open = entries.open.saturating_sub(1);
        if entries.streams.len() < RECORDS_MAX {
            entries.streams.push_back(seen);
        } else {
            entries.lost += 1;
        }
    }

    fn datagram(
        &self,
        service: Service,
        client: SocketAddr,
        server: SocketAddr,
        received_bytes: u64,
        sent_bytes: u64,
    ) {
        let mut entries = self.entries();
        if let Some(seen) = entries.datagrams.get_mut(&(client, server)) {
            seen.received_bytes += received_bytes;
            seen.sent_bytes += sent_bytes;
        } else if entries.datagrams.len() < RECORDS_MAX {
            let seen = Seen {
                service,
                protocol: Protocol::Udp,
                client,
                server,
                received_bytes,
                sent_bytes,
            };
            entries.datagrams.insert((client, server), seen);
        } else {
            entries.lost += 1;
        }
    }

    fn take(&self) -> ServerReport {
        let mut entries = self.entries();
        let mut seen: Vec<Seen> = entries.streams.drain(..).collect();
        seen.extend(entries.datagrams.drain().map(|(_, one)| one));
        ServerReport {
            seen,
            open: entries.open,
            lost: std::mem::take(&mut entries.lost),
        }
    }
}
