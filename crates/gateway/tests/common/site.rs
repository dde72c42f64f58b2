//! A gateway made of documents, with an upstream that says what it got.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::common::{Answer, bind, raw, settings, text, trust};
use gateway::body::Received;
use gateway::front::Front;
use gateway::live::Shared;
use gateway::server::{ConnInfo, Listener, Server};
use hyper::{Request, StatusCode};
use llm::catalogue::Catalogue;
use policy::gateway::compile::{Outside, compile};
use policy::gateway::document::Documents;
use policy::gateway::snapshot::Snapshot;
use serde_json::Value;
use store::calls::{AuditRecord, CallRecord, CallSink};
use store::identity::{Identities, Identity};
use store::seal::KeyHasher;

/// No files and no environment but these files.
pub struct Files(pub Vec<(&'static str, String)>);

impl Outside for Files {
    fn env(&self, _: &str) -> Result<String, String> {
        Err("not set".to_owned())
    }

    fn file(&self, path: &str) -> Result<String, String> {
        let found = self.0.iter().find(|(name, _)| *name == path);
        found
            .map(|(_, text)| text.clone())
            .ok_or_else(|| "no such file".to_owned())
    }
}

#[derive(Default)]
pub struct Calls(pub Mutex<Vec<CallRecord>>);

impl CallSink for Calls {
    fn record(&self, record: CallRecord) {
        self.0.lock().expect("not poisoned").push(record);
    }

    fn audit(&self, _: AuditRecord) {}

    fn wants_audit(&self) -> bool {
        false
    }
}

pub struct Site {
    pub server: Server,
    pub shared: Arc<Shared>,
    pub calls: Arc<Calls>,
    _folder: tempfile::TempDir,
}

pub fn snapshot(documents: Value, files: Vec<(&'static str, String)>) -> Snapshot {
    let documents: Documents = serde_json::from_value(documents).expect("documents");
    compile(&documents, &Files(files), Catalogue::shipped(), 1).expect("compiles")
}

pub fn site(documents: Value) -> Site {
    site_with(documents, Vec::new())
}

pub fn site_with(documents: Value, files: Vec<(&'static str, String)>) -> Site {
    let snapshot = Arc::new(snapshot(documents, files));
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
    let calls = Arc::<Calls>::default();
    let catalogue = Arc::new(Catalogue::shipped().clone());
    let sink = Arc::clone(&calls) as Arc<dyn CallSink>;
    let shared = Shared::new(
        snapshot,
        catalogue,
        Arc::new(identities),
        hasher,
        None,
        sink,
        trust(),
    );
    let shared = Arc::new(shared);
    let for_threads = Arc::clone(&shared);
    let listener = Listener {
        socket: bind(),
        tls: None,
    };
    let make = move || Front::new(Arc::clone(&for_threads), 1);
    let server = Server::start(vec![listener], settings(), make).expect("a server");
    Site {
        server,
        shared,
        calls,
        _folder: folder,
    }
}

/// Says what came: method and target, then each header, then the body.
pub fn mirror(request: Request<Received>, _: Rc<ConnInfo>) -> Answer {
    Box::pin(async move {
        let (parts, body) = request.into_parts();
        let mut out = format!(
            "{} {}\n",
            parts.method,
            parts.uri.path_and_query().map_or("", |path| path.as_str())
        );
        for (name, value) in &parts.headers {
            out.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("?")));
        }
        match body.collect(1 << 20).await {
            Ok(body) => out.push_str(&format!("\n{}", String::from_utf8_lossy(&body))),
            Err(error) => out.push_str(&format!("\nbroken: {error}")),
        }
        let mut response = text(StatusCode::OK, out);
        response
            .headers_mut()
            .insert("x-from", "upstream".parse().expect("a value"));
        response
    })
}

/// Sends one request and gives status, headers and body.
pub fn ask(to: SocketAddr, request: &str) -> (u16, String, String) {
    let request = request.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    let answer = raw(to, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, head.to_lowercase(), body.to_owned())
}

pub fn get(to: SocketAddr, host: &str, path: &str, headers: &str) -> (u16, String, String) {
    ask(
        to,
        &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n"),
    )
}
