//! Who is answered.

use control::Settings;

use crate::fake::{FakeHost, Server};

#[test]
fn tcp_needs_a_token_and_a_right_host() {
    let server = Server::start();
    let address = server.address.to_string();
    let token = server.token.clone();
    let check = |path: &str, host: &str, authorization: &str, expected: (u16, &str)| {
        let line = |name: &str, value: &str| match value {
            "" => String::new(),
            value => format!("{name}: {value}\r\n"),
        };
        let head = format!(
            "GET {path} HTTP/1.1\r\n{}{}",
            line("Host", host),
            line("Authorization", authorization)
        );
        let answer = server.tcp(&head, "");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            expected,
            "{path} {host} {authorization}"
        );
        answer
    };
    let status = "/api/v1/status";
    let right = format!("Bearer {token}");
    check(status, &address, &right, (200, ""));
    check(status, "localhost", &right, (200, ""));
    check(status, "LOCALHOST:9080", &format!("bearer {token}"), (200, ""));
    check(status, "127.8.8.8:1", &right, (200, ""));
    check(status, "[::1]:9080", &right, (200, ""));
    check("/metrics", &address, "", (200, ""));
    check("/healthz", &address, "", (200, ""));
    check("/healthz", &address, "Bearer nonsense", (200, ""));

    let missing = check(status, &address, "", (401, "token_missing"));
    assert!(missing.body.contains("weir token create"), "{missing:?}");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer realm=\"weir\""));
    check("/nowhere", &address, "", (401, "token_missing"));
    check("/metrics/", &address, "", (401, "token_missing"));
    check(
        status,
        &address,
        &format!("Basic {token}"),
        (401, "token_missing"),
    );
    check(status, &address, "Bearer weir_0", (401, "token_wrong"));
    check(status, &address, &format!("{right}0"), (401, "token_wrong"));

    for host in [
        "",
        "evil.example",
        "evil.example:9080",
        "localhost.evil.example",
        "192.0.2.1",
        "user@localhost",
        "weir",
        "local host",
    ] {
        check(status, host, &right, (403, "wrong_host"));
        check("/metrics", host, "", (403, "wrong_host"));
    }
    check(
        "http://evil.example/api/v1/status",
        "localhost",
        &right,
        (403, "wrong_host"),
    );
    let twice = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n";
    assert_eq!(server.tcp(twice, "").code(), "wrong_host");
}

#[test]
fn names_given_in_settings_are_right_hosts() {
    let settings = Settings {
        host_names: vec!["weir.example".into()],
        ..Settings::default()
    };
    let server = Server::start_with(FakeHost::default(), settings);
    let head = |host: &str| format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n");
    assert_eq!(server.tcp(&head("weir.example:9080"), "").status, 200);
    assert_eq!(server.tcp(&head("other.example"), "").status, 403);
}

#[test]
fn wrong_tokens_are_refused_sooner_than_right_ones() {
    let server = Server::start();
    let head = "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n";
    for _ in 0..10 {
        assert_eq!(server.tcp(head, "").code(), "token_wrong");
    }
    let refused = server.tcp(head, "");
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "too_many_failures")
    );
    let retry_after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&retry_after));
    assert_eq!(
        server.get("/api/v1/status").status,
        200,
        "who has a token is heard"
    );
}

#[test]
fn the_socket_trusts_its_user_and_makes_tokens() {
    let server = Server::start();
    assert_eq!(server.unix("GET", "/api/v1/status", "").status, 200);
    let made = server.unix("POST", "/api/v1/tokens", "");
    assert_eq!(made.status, 201);
    assert!(made.json()["token"].as_str().unwrap().starts_with("weir_"));

    let over_tcp = format!(
        "POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\n",
        server.token
    );
    assert_eq!(server.tcp(&over_tcp, "").code(), "socket_only");
}
