//! Requests that two readers may read in two ways are refused, byte by byte.

mod common;

use common::{address, echo, raw, serve, settings};

/// The status line of each answer on the connection, which must then be closed.
#[track_caller]
fn check(what: &str, request: &str, expected: &[u16]) {
    let server = serve(settings(), echo);
    let answer = raw(address(&server), request.as_bytes());
    let statuses: Vec<u16> = answer
        .match_indices("HTTP/1.")
        .filter_map(|(at, _)| answer.get(at + 9..at + 12)?.parse().ok())
        .collect();
    assert_eq!(statuses, expected, "{what}: {answer}");
}

#[test]
fn what_is_fine_passes() {
    check(
        "length",
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab",
        &[200],
    );
    check("http/1.0", "GET / HTTP/1.0\r\n\r\n", &[200]);
    check(
        "chunks with an extension and a trailer",
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nab\r\n0\r\nt: v\r\n\r\n",
        &[200],
    );
    check(
        "pipelined",
        "GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        &[200, 200],
    );
}

#[test]
fn two_lengths() {
    let after = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    check(
        "length and chunked",
        &format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{after}"
        ),
        &[400],
    );
    check(
        "chunked and length",
        &format!(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{after}"
        ),
        &[400],
    );
    check(
        "two lengths",
        &format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 5\r\n\r\n{after}"),
        &[400],
    );
    check(
        "twice the same length",
        &format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nab{after}"),
        &[400],
    );
    check(
        "a list of lengths",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2, 2\r\n\r\nab",
        &[400],
    );
    check(
        "a signed length",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +2\r\n\r\nab",
        &[400],
    );
    check(
        "a hex length",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x2\r\n\r\nab",
        &[400],
    );
    check(
        "an empty length",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \r\n\r\nab",
        &[400],
    );
    check(
        "a length beyond numbers",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999999\r\n\r\nab",
        &[400],
    );
}

#[test]
fn transfer_encodings() {
    let body = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for value in [
        "xchunked",
        "chunked, identity",
        "identity",
        "chunked, chunked",
        "gzip, chunked",
        "gzip",
        "\"chunked\"",
        "chunked;q=1",
        "\x0bchunked",
    ] {
        check(
            value,
            &format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: {value}\r\n\r\n{body}"),
            &[400],
        );
    }
    check(
        "two fields",
        &format!(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n{body}"
        ),
        &[400],
    );
    check(
        "in 1.0",
        &format!("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}"),
        &[400],
    );
    check(
        "space before colon",
        &format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n{body}"),
        &[400],
    );
}

#[test]
fn lines() {
    check(
        "folded",
        "GET / HTTP/1.1\r\nhost: a\r\nx: b\r\n c\r\n\r\n",
        &[400],
    );
    check("first field folded", "GET / HTTP/1.1\r\n host: a\r\n\r\n", &[400]);
    check(
        "bare LF between fields",
        "GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n",
        &[400],
    );
    check(
        "bare LF after the request line",
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        &[400],
    );
    check("bare LF at the end", "GET / HTTP/1.1\r\nhost: a\r\n\n", &[400]);
    check("all bare LF", "GET / HTTP/1.1\nhost: a\n\n", &[400]);
    check(
        "bare CR in a value",
        "GET / HTTP/1.1\r\nhost: a\r\nx: b\rc\r\n\r\n",
        &[400],
    );
    check(
        "NUL in a value",
        "GET / HTTP/1.1\r\nhost: a\r\nx: b\0c\r\n\r\n",
        &[400],
    );
    check("no colon", "GET / HTTP/1.1\r\nhost: a\r\nxy\r\n\r\n", &[400]);
    check("no name", "GET / HTTP/1.1\r\nhost: a\r\n: y\r\n\r\n", &[400]);
    check(
        "two spaces in the request line",
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        &[400],
    );
    check("no version", "GET /\r\n\r\n", &[400]);
    check("unknown version", "GET / HTTP/3.7\r\nhost: a\r\n\r\n", &[400]);
    check("no method", " / HTTP/1.1\r\nhost: a\r\n\r\n", &[400]);
    check(
        "TLS on a plain port",
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03",
        &[400],
    );
}

#[test]
fn hosts() {
    check(
        "two hosts",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        &[400],
    );
    check("no host", "GET / HTTP/1.1\r\n\r\n", &[400]);
    check(
        "a host with a path",
        "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
        &[400],
    );
    check(
        "a host with a user",
        "GET / HTTP/1.1\r\nhost: a@b\r\n\r\n",
        &[400],
    );
    check(
        "a host with a space",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        &[400],
    );
    check(
        "a target of another host",
        "GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n",
        &[400],
    );
    check(
        "a target of the same host",
        "GET http://a/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        &[200],
    );
}

#[test]
fn chunks() {
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for (what, body) in [
        ("no size", "\r\nab\r\n0\r\n\r\n"),
        ("a signed size", "+2\r\nab\r\n0\r\n\r\n"),
        ("a prefix", "0x2\r\nab\r\n0\r\n\r\n"),
        ("no hex", "g\r\nab\r\n0\r\n\r\n"),
        ("data longer than said", "2\r\nabc\r\n0\r\n\r\n"),
        ("bare LF after the size", "2\nab\r\n0\r\n\r\n"),
        ("bare LF after the data", "2\r\nab\n0\r\n\r\n"),
        ("LF in an extension", "2;a\nb\r\nab\r\n0\r\n\r\n"),
        ("a size beyond numbers", "ffffffffffffffffff\r\nab\r\n0\r\n\r\n"),
        ("a space before the size", " 2\r\nab\r\n0\r\n\r\n"),
    ] {
        check(
            what,
            &format!("{head}{body}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"),
            &[400],
        );
    }
}

#[test]
fn too_much() {
    let long = "x".repeat(70 * 1024);
    check(
        "a long field",
        &format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n"),
        &[431],
    );
    check(
        "a long target",
        &format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n"),
        &[431],
    );
    let many: String = (0..101).map(|i| format!("x{i}: y\r\n")).collect();
    check(
        "many fields",
        &format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"),
        &[431],
    );
}
