//! A host that answers from memory, a server over it, and a client that writes what it is told to.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use control::host::{FlowPage, FlowQuery, Host, RecordFormat, Subscription};
use control::status::{Aggregate, AggregateDirection, Status};
use control::token::{Token, TokenHash};
use control::{Settings, serve};
use policy::filter::Filter;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

/// Longest that any answer may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const FLOW_ID: u64 = 4711;

/// What the server asked for, and what it is told.
pub(crate) struct FakeHost {
    pub(crate) status: Status,
    pub(crate) queries: Mutex<Vec<FlowQuery>>,
    pub(crate) hashes: Mutex<Vec<TokenHash>>,
    pub(crate) subscribers: Mutex<Vec<Subscriber>>,
    pub(crate) programs: Result<Value, String>,
    /// Bytes of each flow record.
    pub(crate) record_len: usize,
}

pub(crate) struct Subscriber {
    pub(crate) lines: mpsc::Sender<String>,
    pub(crate) lost: Arc<AtomicU64>,
    pub(crate) filter: Option<Filter>,
    pub(crate) format: RecordFormat,
}

impl Default for FakeHost {
    fn default() -> Self {
        Self {
            status: Status {
                version: "0.1.0".into(),
                instance: "default".into(),
                ..Status::default()
            },
            queries: Mutex::default(),
            hashes: Mutex::default(),
            subscribers: Mutex::default(),
            programs: Ok(json!([{ "name": "weir_ingress" }])),
            record_len: 0,
        }
    }
}

impl Host for FakeHost {
    fn status(&self) -> Status {
        self.status.clone()
    }

    fn flows(&self, query: &FlowQuery) -> FlowPage {
        self.queries.lock().unwrap().push(query.clone());
        let filling = "x".repeat(self.record_len);
        let record = json!({ "id": FLOW_ID, "proto": "tcp", "filling": filling }).to_string();
        FlowPage {
            flows: vec![record; query.limit.min(2000)],
            total_matching: 123_456,
            incomplete: Some("the table was full".into()),
        }
    }

    fn flow(&self, id: u64) -> Option<String> {
        (id == FLOW_ID).then(|| json!({ "id": id }).to_string())
    }

    fn aggregates(&self) -> Vec<Aggregate> {
        vec![Aggregate {
            addr: [192, 0, 2, 1].into(),
            port: 80,
            proto: "tcp".into(),
            direction: AggregateDirection::To,
            iface: Some("eth0".into()),
            packets: 5,
            bytes: 300,
            adopted_packets: 1,
        }]
    }

    fn programs(&self) -> Result<Value, String> {
        self.programs.clone()
    }

    fn subscribe(&self, filter: Option<Filter>, format: RecordFormat) -> Subscription {
        let (sender, lines) = mpsc::channel(64);
        let lost = Arc::new(AtomicU64::new(0));
        self.subscribers.lock().unwrap().push(Subscriber {
            lines: sender,
            lost: Arc::clone(&lost),
            filter,
            format,
        });
        Subscription { lines, lost }
    }

    fn token_hashes(&self) -> Vec<TokenHash> {
        self.hashes.lock().unwrap().clone()
    }

    fn create_token(&self) -> Result<String, String> {
        let token = Token::new([42; 32]);
        self.hashes.lock().unwrap().push(token.hash());
        Ok(token.to_string())
    }
}

/// A server on a free port of loopback and on a Unix socket. Stops when dropped.
pub(crate) struct Server {
    pub(crate) host: Arc<FakeHost>,
    pub(crate) address: SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) token: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(FakeHost::default(), Settings::default())
    }

    pub(crate) fn start_with(host: FakeHost, mut settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("weir.sock");
        let unix = UnixListener::bind(&socket).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let host = Arc::new(host);
        let token = host.create_token().unwrap();
        settings.uid_trusted = settings.uid_trusted.or(Some(own_uid(&unix)));
        let (stop, stopped) = oneshot::channel();
        let served: Arc<dyn Host> = host.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let stopped = async { drop(stopped.await) };
            let served = serve(vec![tcp], vec![unix], served, settings, stopped);
            runtime.block_on(served).unwrap();
        });
        Self {
            host,
            address,
            socket,
            token,
            stop: Some(stop),
            thread: Some(thread),
            _folder: folder,
        }
    }

    /// Tells the server to stop, and waits until it has.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What TCP answers to a head (without its last empty line) and a body.
    pub(crate) fn tcp(&self, head: &str, body: &str) -> Answer {
        exchange(self.connect(), head, body)
    }

    /// What TCP answers to `GET path` with a right host and token.
    pub(crate) fn get(&self, path: &str) -> Answer {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n",
            self.address, self.token
        );
        self.tcp(&head, "")
    }

    /// What the Unix socket answers.
    pub(crate) fn unix(&self, method: &str, path: &str, body: &str) -> Answer {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: weir\r\nContent-Length: {}\r\n",
            body.len()
        );
        exchange(stream, &head, body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

fn own_uid(listener: &UnixListener) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    let path = listener.local_addr().unwrap();
    std::fs::metadata(path.as_pathname().unwrap()).unwrap().uid()
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of the error, or nothing.
    pub(crate) fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

fn exchange<S: std::io::Read + std::io::Write>(mut stream: S, head: &str, body: &str) -> Answer {
    let request = format!("{head}Connection: close\r\n\r\n{body}");
    // The server may answer and hang up before it has read all.
    let _ = stream.write_all(request.as_bytes());
    read_answer(stream)
}

pub(crate) fn read_answer(mut stream: impl std::io::Read) -> Answer {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        panic!("no answer: {read:?}, {text:?}");
    };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => unchunk(body),
        false => body.to_owned(),
    };
    Answer {
        status: status.unwrap(),
        head: head.to_owned(),
        body,
    }
}

/// The data of chunks (RFC 9112, section 7.1), as far as they go.
fn unchunk(mut text: &str) -> String {
    let mut data = String::new();
    while let Some((len, rest)) = text.split_once("\r\n") {
        let len = usize::from_str_radix(len, 16).unwrap();
        let Some(chunk) = rest.get(..len) else { break };
        data.push_str(chunk);
        text = rest.get(len + 2..).unwrap_or_default();
    }
    data
}
