//! Connections of clients over what may happen to the gateway: restart, new certificates, the end. All kinds
//! of them under load, and no request is lost or made twice.

use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio_rustls::rustls::pki_types::CertificateDer;

mod common;
use common::gateway::{CLIENT_KEY, Gateway, PROVIDER_KEY, own_network, wait_for};
use common::http;
use common::lines::{Caller, LINES, Line, Pair};
use common::simulator::Simulator;

const CALLERS_PER_LINE: usize = 3;

struct Site {
    simulator: Simulator,
    weir: Gateway,
    pair: Pair,
    certificate: CertificateDer<'static>,
    _folder: tempfile::TempDir,
}

fn start() -> Site {
    let simulator = Simulator::start(&["--key", PROVIDER_KEY]);
    let folder = tempfile::tempdir().expect("a folder");
    let pair = Pair::of(folder.path());
    let certificate = pair.renew();
    let weir = Gateway::start(&format!(
        "gateway:\n  listen: [\"127.0.0.1:8080\"]\n  drain_ms: 20000\n  \
         tls: [{{ listen: \"127.0.0.1:8443\", certificates: [{{ chain: {}, key: {} }}] }}]\n\
         providers: [{{ name: sim, kind: openai_compatible, base_url: \"http://{}/v1\", keys: [{{ value: {PROVIDER_KEY} }}] }}]\n\
         models:\n\
         - {{ name: plain, targets: [{{ model: sim/gpt-4o-mini }}] }}\n\
         - {{ name: slow, targets: [{{ model: sim/sim-drip-10 }}] }}\n\
         consumers: [{{ name: load, keys: [{{ value: {CLIENT_KEY} }}] }}]\n",
        pair.chain.display(),
        pair.key.display(),
        simulator.addr
    ));
    Site {
        simulator,
        weir,
        pair,
        certificate,
        _folder: folder,
    }
}

fn addr_of(line: Line) -> SocketAddr {
    let port = if line.is_tls { 8443 } else { 8080 };
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// What a caller has to say at its end.
struct Told {
    line: Line,
    n_connections: usize,
    marks: Vec<String>,
    wrong: Option<String>,
}

/// Callers of each line that ask one after the other; every fourth answer is a stream that lasts.
struct Load {
    is_over: Arc<AtomicBool>,
    /// Answers so far, by caller.
    n_done: Arc<Vec<AtomicUsize>>,
    callers: Vec<JoinHandle<Told>>,
}

impl Load {
    fn start(trusted: &[CertificateDer<'static>]) -> Load {
        let lines: Vec<Line> = LINES.iter().flat_map(|line| [*line; CALLERS_PER_LINE]).collect();
        let is_over = Arc::<AtomicBool>::default();
        let n_done: Arc<Vec<AtomicUsize>> = Arc::new(lines.iter().map(|_| AtomicUsize::new(0)).collect());
        let callers = lines.into_iter().enumerate().map(|(number, line)| {
            let mut caller = Caller::new(line, addr_of(line), CLIENT_KEY, trusted);
            let (is_over, n_done) = (Arc::clone(&is_over), Arc::clone(&n_done));
            std::thread::spawn(move || {
                let (mut marks, mut wrong) = (Vec::new(), None);
                while !is_over.load(Relaxed) && wrong.is_none() {
                    let mark = format!("{number}-{}", marks.len());
                    wrong = ask(&mut caller, &mark, marks.len() % 4 == 3).err();
                    marks.push(mark);
                    n_done[number].fetch_add(1, Relaxed);
                }
                Told {
                    line,
                    n_connections: caller.n_connections(),
                    marks,
                    wrong,
                }
            })
        });
        let callers = callers.collect();
        Load {
            is_over,
            n_done,
            callers,
        }
    }

    /// Waits until each caller has got so many answers more.
    #[track_caller]
    fn wait_for_more(&self, n_more: usize) {
        let count = || self.n_done.iter().map(|n| n.load(Relaxed)).collect::<Vec<_>>();
        let before = count();
        wait_for("each caller goes on", || {
            let now = count();
            self.callers.iter().any(JoinHandle::is_finished)
                || now
                    .iter()
                    .zip(&before)
                    .all(|(now, before)| *now >= before + n_more)
        });
    }

    fn stop(self) -> Vec<Told> {
        self.is_over.store(true, Relaxed);
        let callers = self.callers.into_iter();
        callers.map(|caller| caller.join().expect("a caller")).collect()
    }
}

/// One request that must be answered with its mark.
fn ask(caller: &mut Caller, mark: &str, is_long: bool) -> Result<(), String> {
    let text = format!(
        "mark: {mark}\nsay: {mark} {}",
        "and so on ".repeat(if is_long { 10 } else { 0 })
    );
    let body = json!({"model": if is_long { "slow" } else { "plain" }, "stream": is_long,
        "messages": [{"role": "user", "content": text}]});
    let answer = caller.post("/v1/chat/completions", &body);
    let (status, text) = answer.map_err(|error| format!("{:?} {mark}: {error}", caller.line))?;
    let is_whole = if is_long {
        text.trim_end().ends_with("[DONE]")
    } else {
        text.contains(&format!("\"{mark} \""))
    };
    if status == 200 && is_whole {
        Ok(())
    } else {
        Err(format!("{:?} {mark}: {status} {text}", caller.line))
    }
}

/// Every request was answered, and made once.
#[track_caller]
fn check(told: &[Told], simulator: &Simulator, weir: &Gateway) -> usize {
    let wrong: Vec<&String> = told.iter().filter_map(|one| one.wrong.as_ref()).collect();
    assert!(wrong.is_empty(), "{wrong:#?} {}", weir.log());
    let asked: BTreeSet<&str> = told
        .iter()
        .flat_map(|one| one.marks.iter().map(String::as_str))
        .collect();
    let mut made: HashMap<String, usize> = HashMap::new();
    for call in simulator.calls(asked.len()) {
        *made
            .entry(call["mark"].as_str().expect("a mark").to_owned())
            .or_default() += 1;
    }
    let twice: Vec<_> = made.iter().filter(|(_, n)| **n != 1).collect();
    assert!(twice.is_empty(), "made twice: {twice:?}");
    assert_eq!(made.len(), asked.len());
    asked.len()
}

#[test]
fn kept_connections_live_through_restarts() {
    if !own_network() {
        return;
    }
    const RESTARTS: usize = 3;
    let site = start();
    let load = Load::start(std::slice::from_ref(&site.certificate));
    for _ in 0..RESTARTS {
        load.wait_for_more(10);
        let (old, n_said) = (site.weir.workers(), site.weir.n_said("gateway: http://"));
        let asked = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["restart", "--instance", &site.weir.instance])
            .status()
            .expect("weir starts");
        assert!(asked.success());
        site.weir.wait_to_say("gateway: http://", n_said);
        wait_for("one new worker is left", || {
            let now = site.weir.workers();
            now.len() == 1 && now.is_disjoint(&old)
        });
    }
    load.wait_for_more(10);
    let told = load.stop();
    let n_asked = check(&told, &site.simulator, &site.weir);
    for one in &told {
        assert_eq!(
            one.n_connections,
            1 + RESTARTS,
            "{:?}: a connection of each worker",
            one.line
        );
    }
    println!("{n_asked} requests on kept connections over {RESTARTS} restarts");
}

#[test]
fn new_certificates_are_shown_to_new_connections() {
    if !own_network() {
        return;
    }
    let Site {
        simulator,
        weir,
        pair,
        certificate,
        _folder,
    } = start();
    // Both are made before: the clients trust either.
    let next_folder = tempfile::tempdir().expect("a folder");
    let next = Pair::of(next_folder.path());
    let new = next.renew();
    let trusted = [certificate.clone(), new.clone()];
    let load = Load::start(&trusted);
    // Who connects anew for each request, and what it was shown, with the number of the phase before and after.
    let (phase, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::<AtomicBool>::default());
    let seen: Arc<Mutex<Vec<(usize, usize, CertificateDer<'static>)>>> = Arc::default();
    let fresh: Vec<_> = LINES
        .iter()
        .filter(|line| line.is_tls)
        .map(|&line| {
            let mut caller = Caller::new(line, addr_of(line), CLIENT_KEY, &trusted);
            let (phase, is_over, seen) = (Arc::clone(&phase), Arc::clone(&is_over), Arc::clone(&seen));
            std::thread::spawn(move || {
                let (mut marks, mut wrong) = (Vec::new(), None);
                while !is_over.load(Relaxed) && wrong.is_none() {
                    let mark = format!("fresh {line:?} {}", marks.len());
                    let before = phase.load(Relaxed);
                    wrong = ask(&mut caller, &mark, false).err();
                    let shown = caller.shown().expect("a certificate");
                    seen.lock()
                        .expect("a lock")
                        .push((before, phase.load(Relaxed), shown));
                    caller.hang_up();
                    marks.push(mark);
                }
                Told {
                    line,
                    n_connections: caller.n_connections(),
                    marks,
                    wrong,
                }
            })
        })
        .collect();
    let wait_for_fresh = |number: usize| {
        let in_phase = || {
            let now = phase.load(Relaxed);
            let seen = seen.lock().expect("a lock");
            seen.iter().filter(|(before, ..)| *before == now).count()
        };
        wait_for("new connections are made", || {
            in_phase() >= number || fresh.iter().any(JoinHandle::is_finished)
        });
    };
    load.wait_for_more(5);
    wait_for_fresh(10);
    // A file that is none changes nothing.
    let old_text = std::fs::read(&pair.chain).expect("read");
    std::fs::write(&pair.chain, "no certificate").expect("written");
    weir.signal(Signal::SIGHUP);
    weir.wait_to_say("not taken", 0);
    std::fs::write(&pair.chain, old_text).expect("written");
    wait_for_fresh(20);

    std::fs::copy(&next.chain, &pair.chain).expect("copied");
    std::fs::copy(&next.key, &pair.key).expect("copied");
    phase.store(1, Relaxed);
    weir.signal(Signal::SIGHUP);
    weir.wait_to_say("is in force", 0);
    phase.store(2, Relaxed);
    wait_for_fresh(20);
    load.wait_for_more(5);
    is_over.store(true, Relaxed);
    let mut told = load.stop();
    for one in &told {
        assert_eq!(
            one.n_connections, 1,
            "{:?}: connections that are open go on",
            one.line
        );
    }
    told.extend(fresh.into_iter().map(|caller| caller.join().expect("a caller")));
    let n_asked = check(&told, &simulator, &weir);
    let seen = seen.lock().expect("a lock");
    for (before, after, shown) in seen.iter() {
        let is_new = *shown == new;
        assert!(is_new || *shown == certificate);
        match (before, after) {
            (_, 0) => assert!(!is_new, "shown before it was there"),
            (2, _) => assert!(is_new, "the old one was shown after the new one was in force"),
            _ => {}
        }
    }
    println!("{n_asked} requests, {} new TLS connections", seen.len());
}

/// At the end what is open is answered, on every line; what comes later is refused a connection and nothing else,
/// so that its client knows that it was not made.
#[test]
fn the_end_answers_what_is_open() {
    if !own_network() {
        return;
    }
    let mut site = start();
    let load = Load::start(std::slice::from_ref(&site.certificate));
    load.wait_for_more(10);
    wait_for("long answers are open", || {
        let stats = http::get(site.simulator.addr, "/sim/stats").json();
        stats["calls"].as_u64() >= stats["kept"].as_u64().map(|kept| kept + 3)
    });
    site.weir.signal(Signal::SIGTERM);
    wait_for("each caller has been refused", || {
        load.callers.iter().all(JoinHandle::is_finished)
    });
    let mut told = load.stop();
    for one in &mut told {
        let wrong = one.wrong.take().unwrap_or_default();
        assert!(
            wrong.contains("no connection: Connection refused"),
            "{wrong} {}",
            site.weir.log()
        );
        one.marks.pop();
    }
    let n_asked = check(&told, &site.simulator, &site.weir);
    let status = site.weir.child.wait().expect("an end");
    assert!(status.success(), "{}", site.weir.log());
    println!("{n_asked} requests on kept connections before the end");
}

/// The next frame of an HTTP/2 connection: its type, its stream and its payload; `None` at the end.
fn frame(stream: &mut TcpStream) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let [a, b, c, kind, _, id @ ..] = head;
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).expect("small")];
    stream.read_exact(&mut payload).ok()?;
    Some((kind, u32::from_be_bytes(id) & 0x7fff_ffff, payload))
}

/// A client of HTTP/2 that asks nothing is told by GOAWAY, without an error, and then left.
#[test]
fn an_idle_http2_client_is_told_to_go() {
    if !own_network() {
        return;
    }
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: u8 = 7;
    const PING: u8 = 6;
    let mut site = start();
    let mut stream = TcpStream::connect(site.weir.addr).expect("connected");
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .expect("sent");
    stream.write_all(&SETTINGS).expect("sent");
    let (kind, ..) = frame(&mut stream).expect("its settings");
    assert_eq!(kind, 4);
    site.weir.signal(Signal::SIGTERM);
    let mut told = Vec::new();
    while let Some((kind, _, payload)) = frame(&mut stream) {
        if kind == PING && told.len() == 1 {
            // It waits for an answer before it names the last stream that it has taken.
            stream.write_all(&[0, 0, 8, PING, 1, 0, 0, 0, 0]).expect("sent");
            stream.write_all(&payload).expect("sent");
        }
        if kind == GOAWAY {
            let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
            told.push((number(0), number(4)));
        }
    }
    // First that there is to be no more, then the last that was taken: none.
    assert_eq!(told, [(0x7fff_ffff, 0), (0, 0)]);
    assert!(site.weir.child.wait().expect("an end").success());
}
