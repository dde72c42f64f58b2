//! Connections: who is slow, who leaves, who is too many, and how a server ends.

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{
    Answer, address, bind, connect, echo, local, origin, proxy, raw, read_to_end, read_until, serve,
    serve_on, settings, text, wait_until,
};
use gateway::body::{Body, Patience};
use gateway::server::tls::{CertificatePem, Certificates};
use gateway::server::{DrainReport, Listener, Server, ServerSettings};
use gateway::upstream::trust::Trust;
use gateway::upstream::{Client, ClientSettings, EgressRule, Origin, Protocol, Timeouts};
use hyper::body::{Bytes, Frame};
use hyper::{Request, StatusCode};

const SHORT: Duration = Duration::from_millis(150);

/// Sends this and nothing more; says what comes until the server closes.
#[track_caller]
fn check_slow(
    what: &str,
    settings: ServerSettings,
    sends: &str,
    expected: &str,
    counter: fn(&Server) -> u64,
) {
    let server = serve(settings, echo);
    let mut stream = connect(address(&server));
    stream.write_all(sends.as_bytes()).expect("written");
    let answer = read_to_end(&mut stream);
    assert!(
        answer.contains(expected) && answer.is_empty() == expected.is_empty(),
        "{what}: {answer}"
    );
    assert_eq!(counter(&server), 1, "{what}");
    wait_until("closed", || server.counts().open.load(Relaxed) == 0);
}

#[test]
fn the_slow_are_closed() {
    let header = ServerSettings {
        header_timeout: SHORT,
        ..settings()
    };
    let slow_headers = |server: &Server| server.counts().slow_headers.load(Relaxed);
    check_slow("silent", header.clone(), "", "", slow_headers);
    check_slow(
        "half a header",
        header.clone(),
        "GET / HTTP/1.1\r\nhost: a\r\n",
        "",
        slow_headers,
    );
    let second = "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nho";
    check_slow(
        "half a second header",
        ServerSettings {
            header_timeout: SHORT,
            idle_timeout: SHORT,
            ..settings()
        },
        second,
        "200 OK",
        |server| server.counts().slow_headers.load(Relaxed) + server.counts().idle_closed.load(Relaxed),
    );
    check_slow(
        "idle",
        ServerSettings {
            idle_timeout: SHORT,
            ..settings()
        },
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "200 OK",
        |server| server.counts().idle_closed.load(Relaxed),
    );
    let body = ServerSettings {
        body_patience: Patience {
            grace: SHORT,
            min_bytes_per_s: 100_000,
        },
        idle_timeout: SHORT,
        ..settings()
    };
    check_slow(
        "half a body",
        body,
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc",
        "too slowly",
        |server| server.counts().requests.load(Relaxed),
    );
}

#[test]
fn who_takes_nothing_is_closed() {
    let settings = ServerSettings {
        write_timeout: SHORT,
        ..settings()
    };
    let server = serve(settings, |_, _| -> Answer {
        Box::pin(async { text(StatusCode::OK, "x".repeat(64 << 20)) })
    });
    let mut stream = connect(address(&server));
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .expect("written");
    wait_until("closed", || server.counts().slow_readers.load(Relaxed) == 1);
    wait_until("gone", || server.counts().open.load(Relaxed) == 0);
}

#[test]
fn connections_have_a_limit() {
    let check = |settings: ServerSettings, counter: fn(&Server) -> u64| {
        let server = serve(settings, echo);
        let mut kept: Vec<TcpStream> = (0..3).map(|_| connect(address(&server))).collect();
        wait_until("three taken", || server.counts().open.load(Relaxed) == 3);
        assert_eq!(raw(address(&server), b""), "", "the fourth is closed at once");
        assert_eq!(counter(&server), 1);
        kept.pop();
        wait_until("one left", || server.counts().open.load(Relaxed) == 2);
        let answer = raw(
            address(&server),
            b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        );
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    check(
        ServerSettings {
            connections_max: 3,
            ..settings()
        },
        |server| server.counts().refused_all.load(Relaxed),
    );
    check(
        ServerSettings {
            connections_per_source_max: 3,
            ..settings()
        },
        |server| server.counts().refused_source.load(Relaxed),
    );
}

/// Counts itself down when it is dropped.
struct Present(Arc<AtomicUsize>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[test]
fn a_client_that_leaves_cancels_all_behind_it() {
    for streams in [false, true] {
        let present = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&present);
        let upstream = serve(settings(), move |_, _| -> Answer {
            counting.fetch_add(1, Relaxed);
            let present = Present(Arc::clone(&counting));
            Box::pin(async move {
                if !streams {
                    std::future::pending::<()>().await;
                }
                let (sender, body) = Body::channel(1);
                tokio::task::spawn_local(async move {
                    let _present = present;
                    let _ = sender.send(Ok(Frame::data(Bytes::from_static(b"first")))).await;
                    sender.closed().await;
                });
                hyper::Response::new(body)
            })
        });
        let to = origin(address(&upstream), Protocol::Http1);
        let proxy = proxy(settings(), ClientSettings::default(), to, Timeouts::default());
        let mut stream = connect(address(&proxy));
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .expect("written");
        if streams {
            read_until(&mut stream, "first");
        }
        wait_until("asked", || present.load(Relaxed) == 1);
        drop(stream);
        wait_until("cancelled", || present.load(Relaxed) == 0);
        wait_until("counted", || proxy.counts().abandoned.load(Relaxed) == 1);
    }
}

#[test]
fn a_drain_lets_requests_finish_and_says_what_it_cut() {
    let gate = Arc::new(AtomicBool::new(false));
    let waiting = Arc::clone(&gate);
    let server = serve(settings(), move |request, _| -> Answer {
        let waiting = Arc::clone(&waiting);
        Box::pin(async move {
            let is_for_ever = request.uri().path() == "/for-ever";
            while is_for_ever || !waiting.load(Relaxed) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            text(StatusCode::OK, "finished")
        })
    });
    let to = address(&server);
    let mut finishing = connect(to);
    finishing
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .expect("written");
    let mut cut = connect(to);
    cut.write_all(b"GET /for-ever HTTP/1.1\r\nhost: a\r\n\r\n")
        .expect("written");
    let mut late = connect(to);
    wait_until("both asked", || server.counts().requests.load(Relaxed) == 2);
    wait_until("all taken", || server.counts().open.load(Relaxed) == 3);
    server.begin_drain();
    // One that is idle may still ask, and is told to go.
    late.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .expect("written");
    wait_until("asked late", || server.counts().requests.load(Relaxed) == 3);
    gate.store(true, Relaxed);
    for stream in [&mut finishing, &mut late] {
        let answer = read_to_end(stream);
        assert!(
            answer.contains("connection: close") && answer.ends_with("finished"),
            "{answer}"
        );
    }
    let report = server.shutdown(SHORT);
    assert_eq!(
        report,
        DrainReport {
            cut_requests: 1,
            cut_connections: 1
        }
    );
    assert_eq!(read_to_end(&mut cut), "");
    assert!(TcpStream::connect(to).is_err(), "nobody listens any more");
}

#[test]
fn another_server_takes_over_under_load() {
    let seen: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let counting = Arc::clone(&seen);
    let app = move |request: Request<gateway::body::Received>, _| -> Answer {
        *counting
            .lock()
            .expect("not poisoned")
            .entry(request.uri().path().to_owned())
            .or_insert(0) += 1;
        Box::pin(async { text(StatusCode::OK, "ok") })
    };
    let socket = bind();
    let to = socket.local_addr().expect("an address");
    let listener = || Listener {
        socket: socket.try_clone().expect("a second handle"),
        tls: None,
    };
    let mut old = serve_on(listener(), settings(), app.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let n_done = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (stop, n_done) = (Arc::clone(&stop), Arc::clone(&n_done));
            std::thread::spawn(move || {
                let mut sent = 0;
                let mut stream: Option<TcpStream> = None;
                while !stop.load(Relaxed) {
                    let mut this = stream.take().unwrap_or_else(|| connect(to));
                    let request = format!("GET /{client}/{sent} HTTP/1.1\r\nhost: a\r\n\r\n");
                    this.write_all(request.as_bytes()).expect("written");
                    let answer = read_until(&mut this, "\r\n\r\nok");
                    sent += 1;
                    n_done.fetch_add(1, Relaxed);
                    if !answer.contains("connection: close") {
                        stream = Some(this);
                    }
                }
                sent
            })
        })
        .collect();
    for _ in 0..4 {
        let before = n_done.load(Relaxed);
        wait_until("some requests", || n_done.load(Relaxed) > before + 50);
        let new = serve_on(listener(), settings(), app.clone());
        let report = std::mem::replace(&mut old, new).shutdown(common::PATIENCE);
        assert_eq!(
            report,
            DrainReport {
                cut_requests: 0,
                cut_connections: 0
            }
        );
    }
    stop.store(true, Relaxed);
    let sent: u64 = clients
        .into_iter()
        .map(|client| client.join().expect("no request lost"))
        .sum();
    let seen = seen.lock().expect("not poisoned");
    assert_eq!(seen.len() as u64, sent);
    assert!(seen.values().all(|&n| n == 1), "a request came twice");
}

fn certificate(name: &str, hosts: &[&str]) -> (CertificatePem, String) {
    let names: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names.clone()).expect("a certificate");
    let chain = made.cert.pem();
    let key = made.signing_key.serialize_pem().into_bytes();
    (
        CertificatePem {
            name: name.into(),
            hosts: names,
            chain: chain.clone().into_bytes(),
            key,
        },
        chain,
    )
}

/// Asks `host` over TLS; the answer, or the error.
async fn ask_tls(
    client: &Client,
    to: std::net::SocketAddr,
    host: &str,
    ca: &str,
    protocol: Protocol,
) -> Result<String, String> {
    let trust = Trust::new(Some(ca.as_bytes())).map_err(|error| error.to_string())?;
    let rule = EgressRule { allow_literal: true };
    let origin =
        Origin::new(&format!("https://{to}"), protocol, rule, trust).map_err(|error| error.to_string())?;
    let origin = Arc::new(origin.with_tls_name(host));
    let request = Request::builder()
        .uri("/")
        .header("host", host)
        .body(Body::Empty)
        .expect("a request");
    let reply = client
        .call(&origin, request, &Timeouts::default())
        .await
        .map_err(|error| error.to_string())?;
    let body = reply
        .response
        .into_body()
        .collect(1 << 20)
        .await
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

#[test]
fn certificates_by_name_and_exchanged_under_load() {
    let (exact, exact_ca) = certificate("exact", &["a.example"]);
    let (wild, wild_ca) = certificate("wild", &["*.wild.example"]);
    let certificates = Arc::new(Certificates::new(&[exact.clone(), wild.clone()]).expect("certificates"));
    let listener = Listener {
        socket: bind(),
        tls: Some(Arc::clone(&certificates)),
    };
    let server = serve_on(listener, settings(), |request, conn| -> Answer {
        let tls = conn.tls.clone().expect("TLS");
        let said = format!(
            "{} {} {:?} {:?}",
            tls.sni.as_deref().unwrap_or("-"),
            tls.version,
            tls.alpn,
            request.version()
        );
        Box::pin(async move { text(StatusCode::OK, said) })
    });
    let to = address(&server);
    local(async {
        let client = Client::new(ClientSettings::default());
        let ask = |host: &'static str, ca: String, protocol| {
            let client = client.clone();
            async move { ask_tls(&client, to, host, &ca, protocol).await }
        };
        let said = ask("a.example", exact_ca.clone(), Protocol::Auto)
            .await
            .expect("an answer");
        assert_eq!(said, "a.example TLSv1.3 Some(\"h2\") HTTP/2.0");
        let said = ask("b.wild.example", wild_ca.clone(), Protocol::Http1)
            .await
            .expect("an answer");
        assert_eq!(said, "b.wild.example TLSv1.3 Some(\"http/1.1\") HTTP/1.1");
        for (host, ca) in [("a.b.wild.example", &wild_ca), ("other.example", &exact_ca)] {
            assert!(
                ask(host, ca.clone(), Protocol::Auto).await.is_err(),
                "{host} has no certificate"
            );
        }
        // The new one serves new handshakes; the old connection goes on.
        let (new, new_ca) = certificate("new", &["a.example"]);
        certificates
            .replace(std::slice::from_ref(&new))
            .expect("exchanged");
        let said = ask("a.example", new_ca.clone(), Protocol::Auto)
            .await
            .expect("an answer");
        assert!(said.starts_with("a.example"), "{said}");
        let fresh = Client::new(ClientSettings::default());
        assert!(
            ask_tls(&fresh, to, "a.example", &exact_ca, Protocol::Auto)
                .await
                .is_err(),
            "the old one is gone"
        );
        // Nothing is taken from a set with a fault in it.
        let broken = CertificatePem {
            key: b"no key".to_vec(),
            ..exact.clone()
        };
        let error = certificates
            .replace(&[new.clone(), broken])
            .expect_err("refused")
            .to_string();
        assert!(error.contains("`exact`") && error.contains("key"), "{error}");
        assert!(
            certificates.replace(&[new.clone(), new]).is_err(),
            "two for one name"
        );
        assert!(
            ask_tls(&fresh, to, "a.example", &new_ca, Protocol::Auto)
                .await
                .is_ok()
        );
    });
}

/// An upstream of bytes: for each connection a function of the connection and its number.
fn byte_server(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> std::net::SocketAddr {
    let socket = bind();
    let to = socket.local_addr().expect("an address");
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for (n, stream) in socket.incoming().enumerate() {
            let (Ok(stream), serve) = (stream, Arc::clone(&serve)) else {
                return;
            };
            std::thread::spawn(move || serve(stream, n));
        }
    });
    to
}

#[test]
fn a_kept_connection_that_was_closed() {
    // Answers one request on each connection, then reads the next and closes without a word.
    let check = |method: &str, body: &'static str, expected: Result<usize, ()>| {
        let n_requests = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&n_requests);
        let to = byte_server(move |mut stream, _| {
            for turn in 0..2 {
                let mut buf = [0u8; 1024];
                if stream.read(&mut buf).unwrap_or(0) == 0 {
                    return;
                }
                counting.fetch_add(1, Relaxed);
                if turn == 0 {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                }
            }
        });
        let to = Arc::new(origin(to, Protocol::Http1));
        let second = local(async {
            let client = Client::new(ClientSettings::default());
            let mut last = None;
            for _ in 0..2 {
                let request = Request::builder()
                    .method(method)
                    .uri("/")
                    .body(Body::full(body))
                    .expect("a request");
                last = Some(match client.call(&to, request, &Timeouts::default()).await {
                    Ok(reply) => reply
                        .response
                        .into_body()
                        .collect(10)
                        .await
                        .map(|_| ())
                        .map_err(|_| ()),
                    Err(_) => Err(()),
                });
            }
            last.expect("two turns")
        });
        assert_eq!(second.map(|()| n_requests.load(Relaxed)), expected, "{method}");
    };
    check("GET", "", Ok(3));
    check("PUT", "whole", Ok(3));
    // It arrived: it may have been acted on.
    check("POST", "whole", Err(()));
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let check = |answer: &'static str| {
        let upstream = byte_server(move |mut stream, _| {
            let _ = stream.read(&mut [0u8; 1024]);
            let _ = stream.write_all(answer.as_bytes());
        });
        let to = origin(upstream, Protocol::Http1);
        let proxy = proxy(settings(), ClientSettings::default(), to, Timeouts::default());
        let got = raw(address(&proxy), b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(got.starts_with("HTTP/1.1 200"), "{got}");
        assert!(
            !got.ends_with("0\r\n\r\n") && !got.ends_with("0123456789"),
            "{got}"
        );
    };
    check("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234");
    check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n");
    check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\nzz\r\n");
}

#[test]
fn streams_are_not_held_back() {
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    let released = Mutex::new(released);
    let upstream = byte_server(move |mut stream, _| {
        let _ = stream.read(&mut [0u8; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n");
        // The next is sent only when the client has the first.
        let _ = released.lock().map(|released| released.recv());
        let _ = stream.write_all(b"9\r\ndata: 2\n\n\r\n0\r\nx-sum: 3\r\n\r\n");
    });
    let to = origin(upstream, Protocol::Http1);
    let proxy = proxy(settings(), ClientSettings::default(), to, Timeouts::default());
    let mut stream = connect(address(&proxy));
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close\r\n\r\n")
        .expect("written");
    read_until(&mut stream, "data: 1\n\n");
    release.send(()).expect("waiting");
    let rest = read_to_end(&mut stream);
    assert!(rest.contains("data: 2\n\n"), "{rest}");
}

#[test]
fn upstreams_have_timeouts_and_bounds() {
    use gateway::upstream::{CallPhase, Fault};
    let check = |answer: &'static str, expected: (CallPhase, Fault)| {
        let upstream = byte_server(move |mut stream, _| {
            let _ = stream.read(&mut [0u8; 1024]);
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.read(&mut [0u8; 1024]);
        });
        let to = Arc::new(origin(upstream, Protocol::Http1));
        let timeouts = Timeouts {
            connect: SHORT,
            first_byte: SHORT,
            idle: SHORT,
        };
        let got = local(async {
            let client = Client::new(ClientSettings::default());
            match client.call(&to, Request::new(Body::Empty), &timeouts).await {
                Err(error) => (error.phase, error.fault),
                Ok(reply) => match reply.response.into_body().collect(1 << 20).await {
                    Err(gateway::body::BodyError::Upstream(error)) => (error.phase, error.fault),
                    other => panic!("{other:?}"),
                },
            }
        });
        assert_eq!(got, expected, "{answer}");
    };
    check("", (CallPhase::FirstByte, Fault::Timeout));
    check("HTTP/1.1 200 OK\r\nx: ", (CallPhase::FirstByte, Fault::Timeout));
    check(
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
        (CallPhase::Body, Fault::Timeout),
    );
    check("SMTP ready\r\n\r\n", (CallPhase::FirstByte, Fault::Protocol));

    // As many connections as allowed are busy: the next waits, then gives up.
    let busy = byte_server(|mut stream, _| {
        let _ = stream.read(&mut [0u8; 1024]);
        let _ = stream.read(&mut [0u8; 1024]);
    });
    let to = Arc::new(origin(busy, Protocol::Http1));
    let error = local(async {
        let client = Client::new(ClientSettings {
            connections_max: 1,
            ..ClientSettings::default()
        });
        let (first, at) = (client.clone(), Arc::clone(&to));
        tokio::task::spawn_local(async move {
            let _ = first
                .call(&at, Request::new(Body::Empty), &Timeouts::default())
                .await;
        });
        while client.open_connections(&to) == 0 {
            tokio::task::yield_now().await;
        }
        let timeouts = Timeouts {
            connect: SHORT,
            ..Timeouts::default()
        };
        client
            .call(&to, Request::new(Body::Empty), &timeouts)
            .await
            .expect_err("no room")
    });
    assert_eq!((error.phase, error.fault), (CallPhase::Queue, Fault::Timeout));
}
