//! Against the signatures that AWS publishes: its test suite for version 4, and the worked example of its
//! guide.

use super::*;
use proptest::prelude::*;

/// 2015-08-30 12:36:00 UTC.
const THEN_S: u64 = 1_440_938_160;
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

fn credentials(session_token: Option<&str>) -> Credentials {
    Credentials {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
        session_token: session_token.map(str::to_owned),
    }
}

/// A request of the suite: to `service` in us-east-1, with these headers beside `host`.
fn check(
    request: (&str, &str, &str),
    headers: &[(&str, &str)],
    body: &str,
    token: Option<&str>,
    expected: (&str, &str),
) {
    let (method, path, query) = request;
    let mut all = vec![("Host", "example.amazonaws.com")];
    all.extend(headers);
    let request = Request {
        method,
        path,
        query,
        headers: &all,
        payload_sha256: &sha256_hex(body.as_bytes()),
    };
    let scope = Scope {
        region: "us-east-1",
        service: "service",
    };
    let added = sign(&credentials(token), scope, &request, THEN_S);
    let (names, signature) = expected;
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={names}, Signature={signature}"
    );
    assert_eq!(
        added.last().unwrap(),
        &("authorization", authorization),
        "{method} {path}?{query}"
    );
    assert_eq!(added[0], ("x-amz-date", "20150830T123600Z".to_owned()));
}

#[test]
fn the_suite() {
    let plain = |method, path, query, signature| {
        check(
            (method, path, query),
            &[],
            "",
            None,
            ("host;x-amz-date", signature),
        );
    };
    plain(
        "GET",
        "/",
        "",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    );
    plain(
        "GET",
        "",
        "",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    );
    plain(
        "POST",
        "/",
        "",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    );
    plain(
        "GET",
        "/",
        "Param2=value2&Param1=value1",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    );
    plain(
        "GET",
        "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        "",
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    );
    plain(
        "GET",
        "/ሴ",
        "",
        "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
    );
    plain(
        "GET",
        "/",
        "ሴ=bar",
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    );
    plain(
        "GET",
        "/",
        "%E1%88%b4=bar",
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    );
    plain(
        "GET",
        "/example space/",
        "",
        "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
    );
}

#[test]
fn headers_of_the_suite() {
    check(
        ("GET", "/", ""),
        &[("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
        "",
        None,
        (
            "host;my-header1;my-header2;x-amz-date",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
    );
    check(
        ("GET", "/", ""),
        &[
            ("My-Header1", "value2"),
            ("My-Header1", "value2"),
            ("My-Header1", "value1"),
        ],
        "",
        None,
        (
            "host;my-header1;x-amz-date",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
    );
    check(
        ("POST", "/", ""),
        &[("Content-Type", "application/x-www-form-urlencoded")],
        "Param1=value1",
        None,
        (
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    );
    check(
        ("POST", "/", ""),
        &[],
        "",
        Some(TOKEN),
        (
            "host;x-amz-date;x-amz-security-token",
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        ),
    );
}

#[test]
fn the_worked_example() {
    let request = Request {
        method: "GET",
        path: "/",
        query: "Action=ListUsers&Version=2010-05-08",
        headers: &[
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("host", "iam.amazonaws.com"),
        ],
        payload_sha256: EMPTY,
    };
    let scope = Scope {
        region: "us-east-1",
        service: "iam",
    };
    let added = sign(&credentials(None), scope, &request, THEN_S);
    let signature = "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
    assert!(added[1].1.ends_with(signature), "{added:?}");
}

#[test]
fn a_path_is_encoded_once_more_than_it_is_sent() {
    let request = Request {
        method: "POST",
        path: "/model/us.amazon.nova-lite-v1%3A0/converse",
        query: "",
        headers: &[],
        payload_sha256: EMPTY,
    };
    let canonical = canonical_request(&request, &BTreeMap::new(), "");
    assert!(
        canonical.contains("/model/us.amazon.nova-lite-v1%253A0/converse"),
        "{canonical}"
    );
}

#[test]
fn times() {
    for (epoch_s, expected) in [
        (0, "19700101T000000Z"),
        (THEN_S, "20150830T123600Z"),
        (951_782_399, "20000228T235959Z"),
        (951_782_400, "20000229T000000Z"),
        (4_107_542_399, "21000228T235959Z"),
        (4_107_542_400, "21000301T000000Z"),
    ] {
        assert_eq!(basic_time(epoch_s), expected);
    }
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?}", credentials(Some("token")));
    assert_eq!(shown, "Credentials { access_key_id: \"AKIDEXAMPLE\", .. }");
}

proptest! {
    #[test]
    fn no_request_panics(path in ".{0,40}", query in ".{0,40}", header in ".{0,20}", epoch_s in any::<u64>()) {
        let headers = [(header.as_str(), header.as_str())];
        let request = Request { method: "GET", path: &path, query: &query, headers: &headers, payload_sha256: "" };
        let scope = Scope { region: &path, service: &query };
        prop_assert_eq!(sign(&credentials(None), scope, &request, epoch_s).len(), 2);
    }

    #[test]
    fn encoding_is_undone(text in ".{0,40}") {
        prop_assert_eq!(decode(&encode(text.as_bytes())), text.into_bytes());
    }
}
