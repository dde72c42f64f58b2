//! What is too large, too slow or too many.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use control::Settings;

use crate::fake::{FakeHost, PATIENCE, Server, read_answer};

#[test]
fn large_requests_are_refused() {
    let server = Server::start();
    let large_body = server.unix("POST", "/api/v1/tokens", &"x".repeat(5000));
    assert_eq!(
        (large_body.status, large_body.code().as_str()),
        (413, "body_too_large")
    );

    let long_path = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n", "x".repeat(40_000));
    assert!([414, 431].contains(&server.tcp(&long_path, "").status));
    let many_headers = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n".to_owned() + &"A: b\r\n".repeat(100);
    assert_eq!(server.tcp(&many_headers, "").status, 431);
    assert_eq!(server.tcp("NONSENSE\r\n", "").status, 400);

    let long_filter = format!("/api/v1/flows?filter={}", "x".repeat(5000));
    assert_eq!(server.get(&long_filter).code(), "bad_filter");
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn slow_clients_are_let_go() {
    let short = Duration::from_millis(200);
    let settings = Settings {
        head_timeout: short,
        body_timeout: short,
        stall_timeout: short,
        connections_max: 2,
        ..Settings::default()
    };
    let host = FakeHost {
        record_len: 16 * 1024,
        ..FakeHost::default()
    };
    let server = Server::start_with(host, settings);

    // A head that never ends, and a connection that says nothing.
    let mut slow_head = server.connect();
    slow_head
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: loc")
        .unwrap();
    let mut silent = server.connect();
    for stream in [&mut slow_head, &mut silent] {
        let mut rest = Vec::new();
        // Closed, or reset since something was left unread.
        let _ = stream.read_to_end(&mut rest);
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }

    // Answers of 32 MB that nobody reads: both connections end, so that the third is accepted.
    let request = format!(
        "GET /api/v1/flows?limit=2000 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        server.token
    );
    let unread: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(server.get("/healthz").status, 200);
    drop(unread);

    // A body that does not come.
    let mut slow_body = std::os::unix::net::UnixStream::connect(&server.socket).unwrap();
    slow_body.set_read_timeout(Some(PATIENCE)).unwrap();
    slow_body
        .write_all(
            b"POST /api/v1/tokens HTTP/1.1\r\nHost: weir\r\nContent-Length: 9\r\nConnection: close\r\n\r\nx",
        )
        .unwrap();
    assert_eq!(read_answer(slow_body).code(), "body_timeout");
}

#[test]
fn streams_are_bounded() {
    let settings = Settings {
        streams_max: 1,
        ..Settings::default()
    };
    let server = Server::start_with(FakeHost::default(), settings);
    let mut first = server.connect();
    let head = format!(
        "GET /api/v1/flows/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n",
        server.token
    );
    write!(first, "{head}\r\n").unwrap();
    let mut status = [0; 15];
    first.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
    let second = server.tcp(&head, "");
    assert_eq!((second.status, second.code().as_str()), (503, "busy"));

    // The place is free again once the first has gone.
    drop(first);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut third = server.connect();
        write!(third, "{head}\r\n").unwrap();
        third.read_exact(&mut status).unwrap();
        if &status == b"HTTP/1.1 200 OK" {
            break;
        }
        assert!(Instant::now() < deadline, "the stream's place was not given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn stopping_lets_go_of_idle_connections() {
    let mut server = Server::start();
    let mut idle = server.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = [0; 15];
    idle.read_exact(&mut answer).unwrap();
    let begun = Instant::now();
    server.stop();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(
        TcpStream::connect(server.address).is_err(),
        "nothing listens any more"
    );
}
