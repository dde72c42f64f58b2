//! A gateway in this process, a provider that does what a test says, and a client that sees bytes.
#![allow(unreachable_pub, reason = "a module of tests")]

use super::common::{bind, connect, settings, trust, wait_until};
use gateway::front::Front;
use gateway::live::Shared;
use gateway::server::{Listener, Server};
use llm::catalogue::Catalogue;
use policy::gateway::compile::{Outside, compile};
use policy::gateway::document::Documents;
use policy::gateway::snapshot::Snapshot;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use store::calls::{AuditRecord, CallRecord, CallSink};
use store::identity::{Identities, Identity};
use store::ledger::{Budgets, BudgetsConfig, LedgerOptions, SqliteLedger, system_clock};
use store::seal::KeyHasher;

/// A request as the provider got it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `POST /v1/chat/completions`.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// What the provider does next.
#[derive(Clone, Debug)]
pub enum Step {
    Bytes(Vec<u8>),
    /// Nothing until the other side leaves.
    Hold,
}

/// A status, headers, and a body with its length.
pub fn reply(status: u16, headers: &str, body: impl AsRef<str>) -> Vec<Step> {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status} S\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    vec![Step::Bytes([head.as_bytes(), body.as_bytes()].concat())]
}

/// A stream of pieces, each a chunk of its own. `ends`: with the last chunk, else cut off.
pub fn stream(pieces: &[impl AsRef<[u8]>], ends: bool) -> Vec<Step> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let mut steps = vec![Step::Bytes(head.into())];
    for piece in pieces {
        let piece = piece.as_ref();
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        steps.push(Step::Bytes(chunk));
    }
    if ends {
        steps.push(Step::Bytes(b"0\r\n\r\n".to_vec()));
    }
    steps
}

type Behaviour = Box<dyn FnMut(&Seen) -> Vec<Step> + Send>;

/// A provider on loopback.
pub struct Fake {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    behaviour: Arc<Mutex<Behaviour>>,
    left: Arc<AtomicUsize>,
}

impl Fake {
    pub fn new(behaviour: impl FnMut(&Seen) -> Vec<Step> + Send + 'static) -> Self {
        let listener = bind();
        let fake = Self {
            address: listener.local_addr().expect("an address"),
            seen: Arc::default(),
            behaviour: Arc::new(Mutex::new(Box::new(behaviour))),
            left: Arc::default(),
        };
        let (seen, behaviour, left) = (
            Arc::clone(&fake.seen),
            Arc::clone(&fake.behaviour),
            Arc::clone(&fake.left),
        );
        std::thread::spawn(move || accept(&listener, &seen, &behaviour, &left));
        fake
    }

    /// What it does from now on.
    pub fn does(&self, behaviour: impl FnMut(&Seen) -> Vec<Step> + Send + 'static) {
        *self.behaviour.lock().expect("not poisoned") = Box::new(behaviour);
    }

    /// The same to all.
    pub fn says(&self, steps: Vec<Step>) {
        self.does(move |_| steps.clone());
    }

    /// What came since the last time this was asked.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().expect("not poisoned"))
    }

    /// The next `n` requests: one that was given up may be read later than its answer is known.
    #[track_caller]
    pub fn wait(&self, n: usize) -> Vec<Seen> {
        wait_until("requests", || self.seen.lock().expect("not poisoned").len() >= n);
        self.take()
    }

    /// The only request since.
    #[track_caller]
    pub fn one(&self) -> Seen {
        let mut all = self.wait(1);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// How many connections were closed by the other side during [`Step::Hold`].
    pub fn n_left(&self) -> usize {
        self.left.load(SeqCst)
    }
}

fn accept(
    listener: &TcpListener,
    seen: &Arc<Mutex<Vec<Seen>>>,
    behaviour: &Arc<Mutex<Behaviour>>,
    left: &Arc<AtomicUsize>,
) {
    for socket in listener.incoming() {
        let Ok(mut socket) = socket else { return };
        let (seen, behaviour, left) = (Arc::clone(seen), Arc::clone(behaviour), Arc::clone(left));
        std::thread::spawn(move || {
            let Some(request) = read_request(&mut socket) else {
                return;
            };
            let steps = {
                let mut behaviour = behaviour.lock().expect("not poisoned");
                seen.lock().expect("not poisoned").push(request.clone());
                behaviour(&request)
            };
            for step in steps {
                match step {
                    Step::Bytes(bytes) => {
                        if socket.write_all(&bytes).is_err() {
                            return;
                        }
                    }
                    Step::Hold => {
                        let mut byte = [0];
                        while matches!(socket.read(&mut byte), Ok(1..)) {}
                        left.fetch_add(1, SeqCst);
                    }
                }
            }
        });
    }
}

fn read_request(socket: &mut TcpStream) -> Option<Seen> {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(b"\r\n\r\n") {
        if socket.read(&mut byte).ok()? == 0 {
            return None;
        }
        all.push(byte[0]);
    }
    let text = String::from_utf8(all).ok()?;
    let mut lines = text.trim_end().lines();
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, n)| n.parse().unwrap_or(0))];
    socket.read_exact(&mut body).ok()?;
    Some(Seen {
        line,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

#[derive(Default)]
pub struct Sink {
    calls: Mutex<Vec<CallRecord>>,
    audits: Mutex<Vec<AuditRecord>>,
    wants_audit: bool,
}

impl CallSink for Sink {
    fn record(&self, record: CallRecord) {
        self.calls.lock().expect("not poisoned").push(record);
    }

    fn audit(&self, bodies: AuditRecord) {
        self.audits.lock().expect("not poisoned").push(bodies);
    }

    fn wants_audit(&self) -> bool {
        self.wants_audit
    }
}

/// A gateway in front of the providers of its documents.
pub struct Site {
    pub server: Server,
    pub shared: Arc<Shared>,
    sink: Arc<Sink>,
    _folder: tempfile::TempDir,
}

struct Nothing;

impl Outside for Nothing {
    fn env(&self, _: &str) -> Result<String, String> {
        Err("not set".to_owned())
    }

    fn file(&self, _: &str) -> Result<String, String> {
        Err("no such file".to_owned())
    }
}

fn compiled(documents: Value, generation: u64) -> (Arc<Snapshot>, Catalogue) {
    let documents: Documents = serde_json::from_value(documents).expect("documents");
    let overrides = documents
        .gateway
        .iter()
        .flat_map(|gateway| gateway.catalogue.clone());
    let overrides = overrides.map(|one| serde_json::from_value(one.into()).expect("a model"));
    let catalogue = Catalogue::with_overrides(overrides.collect()).expect("a catalogue");
    let snapshot = compile(&documents, &Nothing, &catalogue, generation).expect("compiles");
    (Arc::new(snapshot), catalogue)
}

impl Site {
    pub fn new(documents: Value) -> Self {
        let (snapshot, catalogue) = compiled(documents, 1);
        let folder = tempfile::tempdir().expect("a folder");
        let identities = Identities::open(&folder.path().join("keys.db")).expect("identities");
        let hasher = KeyHasher::new(&[7; 32]);
        let keys = snapshot.keys.iter().map(|key| {
            let consumer = &snapshot.consumers[&key.consumer];
            let identity = Identity {
                id: Arc::clone(&key.id),
                organisation: Arc::clone(&consumer.organisation),
                team: Arc::clone(&consumer.team),
                consumer: Arc::clone(&key.consumer),
                shown: "".into(),
                created_ms: 0,
                expires_ms: None,
                revoked_ms: None,
                is_from_file: true,
            };
            (identity, hasher.hash(key.secret.expose().as_bytes()))
        });
        identities.set_from_files(keys.collect());
        let options = LedgerOptions::new(folder.path().join("ledger.db"), "test");
        let clock = system_clock();
        let ledger = SqliteLedger::open(&options, clock()).expect("a ledger");
        let budgets = Budgets::start(
            Box::new(ledger),
            BudgetsConfig {
                wait_ms: 5_000,
                ..BudgetsConfig::default()
            },
            clock,
        );
        let sink = Arc::new(Sink {
            wants_audit: snapshot.settings.audit_bodies,
            ..Sink::default()
        });
        let shared = Arc::new(Shared::new(
            snapshot,
            Arc::new(catalogue),
            Arc::new(identities),
            hasher,
            Some(Arc::new(budgets.expect("budgets"))),
            Arc::clone(&sink) as Arc<dyn CallSink>,
            trust(),
        ));
        let for_threads = Arc::clone(&shared);
        let listener = Listener {
            socket: bind(),
            tls: None,
        };
        let make = move || Front::new(Arc::clone(&for_threads), 1);
        let server = Server::start(vec![listener], settings(), make).expect("a server");
        Self {
            server,
            shared,
            sink,
            _folder: folder,
        }
    }

    /// Providers of each format, all of them `fake`, a consumer of the key `ck`, and `more` on top.
    pub fn before(fake: &Fake, more: Value) -> Self {
        Self::new(documents(fake, more))
    }

    /// Puts other documents in force; keys of clients stay.
    pub fn publish(&self, documents: Value, generation: u64) {
        let (snapshot, catalogue) = compiled(documents, generation);
        self.shared.publish(snapshot, Arc::new(catalogue));
    }

    pub fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    /// `POST` with the key `ck`.
    pub fn post(&self, path: &str, body: impl AsRef<str>) -> Got {
        self.post_with(path, "authorization: Bearer ck\r\n", body)
    }

    pub fn post_with(&self, path: &str, headers: &str, body: impl AsRef<str>) -> Got {
        self.send("POST", path, headers, body.as_ref().as_bytes())
    }

    #[allow(dead_code, reason = "by the next tests")]
    pub fn get(&self, path: &str) -> Got {
        self.send("GET", path, "authorization: Bearer ck\r\n", b"")
    }

    pub fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Got {
        let mut request = head(method, path, headers, body.len());
        request.extend_from_slice(body);
        let mut socket = connect(self.address());
        socket.write_all(&request).expect("written");
        Got::rest_of(&mut socket)
    }

    /// A connection that has sent its request and read nothing.
    pub fn open(&self, path: &str, body: &str) -> TcpStream {
        let mut socket = connect(self.address());
        let mut request = head("POST", path, "authorization: Bearer ck\r\n", body.len());
        request.extend_from_slice(body.as_bytes());
        socket.write_all(&request).expect("written");
        socket
    }

    /// The next `n` records, in the order the calls ended.
    #[track_caller]
    pub fn records(&self, n: usize) -> Vec<CallRecord> {
        wait_until("records", || {
            self.sink.calls.lock().expect("not poisoned").len() >= n
        });
        std::mem::take(&mut self.sink.calls.lock().expect("not poisoned"))
    }

    /// What was kept for audit since; a record comes after it.
    pub fn audits(&self) -> Vec<AuditRecord> {
        std::mem::take(&mut self.sink.audits.lock().expect("not poisoned"))
    }

    /// The only record since.
    #[track_caller]
    pub fn record(&self) -> CallRecord {
        let mut all = self.records(1);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
}

fn head(method: &str, path: &str, headers: &str, n_bytes: usize) -> Vec<u8> {
    let kind = if headers.contains("content-type") {
        ""
    } else {
        "content-type: application/json\r\n"
    };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: gateway.example\r\nconnection: close\r\ncontent-length: {n_bytes}\r\n{kind}{headers}\r\n"
    )
    .into_bytes()
}

/// Documents of [`Site::before`].
pub fn documents(fake: &Fake, more: Value) -> Value {
    let at = |path: &str| format!("http://{}{path}", fake.address);
    let mut all = json!({
        "providers": [
            { "name": "oa", "kind": "openai", "base_url": at("/v1"), "keys": [{ "value": PROVIDER_KEY }], "models": ["gpt-4o-mini", "text-embedding-3-small", "twice"] },
            { "name": "an", "kind": "anthropic", "base_url": at("/v1"), "keys": [{ "value": PROVIDER_KEY }], "models": ["claude-haiku-4-5"] },
            { "name": "ge", "kind": "gemini", "base_url": at("/v1beta"), "keys": [{ "value": PROVIDER_KEY }], "models": ["gemini-2.5-flash", "gemini-embedding-001"] },
            { "name": "co", "kind": "cohere", "base_url": at(""), "keys": [{ "value": PROVIDER_KEY }], "models": ["command-r", "rerank-v3.5", "embed-v4.0"] },
            { "name": "any", "kind": "openai_compatible", "base_url": at("/x/v1"), "keys": [{ "value": PROVIDER_KEY }], "models": ["free", "twice"] },
        ],
        "models": [{ "name": "fast", "targets": [{ "model": "oa/gpt-4o-mini" }], "retries": 0 }],
        "consumers": [{ "name": "app", "keys": [{ "value": "ck" }] }],
    });
    let fields = all.as_object_mut().expect("an object");
    for (name, value) in more.as_object().expect("an object") {
        match (fields.get_mut(name), value) {
            // Lists grow, but for an element of the same name, which is replaced.
            (Some(Value::Array(old)), Value::Array(new)) => {
                old.retain(|old| new.iter().all(|new| new["name"] != old["name"]));
                old.extend(new.iter().cloned());
            }
            _ => {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
    all
}

/// The gateway's key at each provider.
pub const PROVIDER_KEY: &str = "sk-provider-0123456789abcdef";

/// An answer as the client got it.
#[derive(Clone, Debug)]
pub struct Got {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Got {
    /// What comes until the other side closes.
    pub fn rest_of(socket: &mut TcpStream) -> Self {
        let mut all = Vec::new();
        if let Err(error) = socket.read_to_end(&mut all) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
        let end = all.windows(4).position(|four| four == b"\r\n\r\n");
        let body = all.split_off(end.map_or(all.len(), |end| end + 4));
        let head = String::from_utf8_lossy(&all).to_lowercase();
        let body = if head.contains("transfer-encoding: chunked") {
            unchunk(&body)
        } else {
            body
        };
        Self {
            status: head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0),
            head,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// The pieces of a chunked body, as far as they came.
fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).expect("a size");
        let n_bytes = usize::from_str_radix(size, 16).expect("a size");
        let rest = &body[end + 2..];
        out.extend_from_slice(rest.get(..n_bytes).unwrap_or(rest));
        if n_bytes == 0 {
            break;
        }
        body = rest.get(n_bytes + 2..).unwrap_or_default();
    }
    out
}

/// A chat request for `model`.
pub fn chat(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#)
}

/// The same, streamed.
pub fn chat_stream(model: &str) -> String {
    format!(r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"hi"}}]}}"#)
}

/// A whole answer of OpenAI, with peculiar spaces that must come through.
pub const ANSWER: &str = r#"{ "id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-mini-x", "choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18},"odd":[1, 2]}"#;

/// A chunk of OpenAI's stream.
pub fn delta(text: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"g\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{}}},\"finish_reason\":null}}]}}\n\n",
        Value::from(text)
    )
}

pub const STOP: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"g\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
pub const USAGE: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"g\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":18}}\n\n";
pub const DONE: &str = "data: [DONE]\n\n";

/// A stream of OpenAI with these texts, whole.
pub fn deltas(texts: &[&str]) -> Vec<Step> {
    let mut pieces: Vec<String> = texts.iter().map(|text| delta(text)).collect();
    pieces.extend([STOP.to_owned(), USAGE.to_owned(), DONE.to_owned()]);
    stream(&pieces, true)
}

/// The texts of a chat stream, put together.
pub fn said(body: &str) -> String {
    let events = body.lines().filter_map(|line| line.strip_prefix("data: "));
    let values = events.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    let texts =
        values.filter_map(|value| Some(value.pointer("/choices/0/delta/content")?.as_str()?.to_owned()));
    texts.collect()
}
