//! Rules, what they read, and whether they match.

use std::net::IpAddr;
use std::sync::Arc;

use super::matcher::Facts;
use super::parse::default_variables;
use super::*;
use crate::layer7::Transport;
use crate::layer7::record::{Dns, DnsQuestion, Http, Record};

fn ruleset(rules: &[&str]) -> Ruleset {
    let (rules, errors) = parse(&rules.join("\n"), &default_variables());
    assert_eq!(errors, []);
    Ruleset::new(rules).expect("rules that fit together")
}

fn facts(app: Option<&'static str>, is_to_server: bool, second: u64) -> Facts {
    let client = (IpAddr::from([192, 0, 2, 1]), 40_000);
    let server = (IpAddr::from([198, 51, 100, 2]), 80);
    let (src, dst) = if is_to_server {
        (client, server)
    } else {
        (server, client)
    };
    Facts {
        ts_ns: second * 1_000_000_000,
        transport: Transport::Tcp,
        app,
        src,
        dst,
        is_to_server,
        is_established: true,
    }
}

/// Whether a rule with these options matches a payload of a client over TCP.
#[track_caller]
fn check(options: &str, payload: &[u8], expected: bool) {
    let rule = format!("alert tcp any any -> any any (msg:\"m\"; {options} sid:1;)");
    let mut scanner = Scanner::new(Arc::new(ruleset(&[&rule])));
    let mut alerts = Vec::new();
    scanner.payload(
        &mut Scan::default(),
        &facts(None, true, 0),
        1,
        payload,
        &mut alerts,
    );
    assert_eq!(
        alerts.len() == 1,
        expected,
        "{options} {:?}",
        String::from_utf8_lossy(payload)
    );
}

#[test]
fn contents_are_found_where_they_may_be() {
    check("content:\"abc\";", b"xxabcxx", true);
    check("content:\"abc\";", b"xxABCxx", false);
    check("content:\"aBc\"; nocase;", b"xxAbCxx", true);
    check("content:\"a|62 63|d\";", b"abcd", true);
    check("content:\"a\\;b\\\"c\";", b"a;b\"c", true);
    check("content:\"abc\"; offset:2;", b"xxabc", true);
    check("content:\"abc\"; offset:3;", b"xxabc", false);
    check("content:\"abc\"; depth:4;", b"xxabc", false);
    check("content:\"abc\"; offset:2; depth:3;", b"xxabc", true);
    check("content:\"abc\"; startswith;", b"abcd", true);
    check("content:\"bcd\"; startswith;", b"abcd", false);
    check("content:\"bcd\"; endswith;", b"abcd", true);
    check("content:\"abc\"; endswith;", b"abcd", false);
    check("content:\"a\"; content:\"c\"; distance:1;", b"abc", true);
    check("content:\"a\"; content:\"b\"; distance:1;", b"abc", false);
    check("content:\"a\"; content:\"d\"; within:2;", b"a_d", true);
    check("content:\"a\"; content:\"d\"; within:2;", b"a__d", false);
    // The first `a` is not the one, the second is.
    check(
        "content:\"a\"; content:\"d\"; distance:0; within:1;",
        b"a_ad",
        true,
    );
    check("content:\"a\"; content:!\"b\";", b"ac", true);
    check("content:\"a\"; content:!\"b\";", b"ab", false);
    check(
        "content:\"a\"; content:!\"b\"; distance:0; within:1;",
        b"acb",
        true,
    );
    check("pcre:\"/a.c/\";", b"xabc", true);
    check("pcre:\"/A.C/i\";", b"xabc", true);
    check("content:\"x\"; pcre:\"/^abc/R\";", b"abc", false);
    check("content:\"x\"; pcre:\"/abc/R\";", b"abcx", false);
    check("dsize:>3; content:\"a\";", b"aaaa", true);
    check("dsize:1<>3; content:\"a\";", b"aaa", false);
    check("flow:to_client; content:\"a\";", b"a", false);
    check("flow:to_server,established; content:\"a\";", b"a", true);
}

#[test]
fn a_content_may_lie_over_two_segments_but_is_told_once() {
    let rules = ruleset(&["alert tcp any any -> any any (msg:\"m\"; content:\"attack\"; sid:1;)"]);
    let mut scanner = Scanner::new(Arc::new(rules));
    let mut scan = Scan::default();
    let mut alerts = Vec::new();
    let facts = facts(None, true, 0);
    for (seq, payload) in [(1, &b"xxatt"[..]), (6, b"ackxx"), (11, b"attack")] {
        scanner.payload(&mut scan, &facts, seq, payload, &mut alerts);
    }
    assert_eq!(alerts.len(), 1);
    // Not where a segment between them is missing.
    let mut scan = Scan::default();
    for (seq, payload) in [(1, &b"xxatt"[..]), (7, b"ackxx")] {
        scanner.payload(&mut scan, &facts, seq, payload, &mut alerts);
    }
    assert_eq!(alerts.len(), 1);
}

#[test]
fn records_fill_buffers_of_their_own() {
    let rules = ruleset(&[
        "alert http any any -> any 80 (msg:\"path\"; http.uri; content:\"/admin\"; http.user_agent; content:\"curl\"; sid:1;)",
        "alert http any any -> any !80 (msg:\"port\"; http.uri; content:\"/admin\"; sid:2;)",
        "alert dns any any -> any any (msg:\"name\"; dns.query; content:\"EVIL.example\"; endswith; sid:3;)",
        "alert http [192.0.2.0/24,!192.0.2.1] any -> any any (msg:\"source\"; http.uri; content:\"/admin\"; sid:4;)",
    ]);
    let mut scanner = Scanner::new(Arc::new(rules));
    let mut check = |app, record: Record, expected: &[u32]| {
        let mut alerts = Vec::new();
        scanner.record(
            &mut Scan::default(),
            &facts(Some(app), true, 0),
            &record,
            &mut alerts,
        );
        let sids: Vec<u32> = alerts.iter().map(|alert| alert.sid).collect();
        assert_eq!(sids, expected, "{record:?}");
    };
    let http = |url: &str, agent: &str| {
        Record::Http(Box::new(Http {
            url: Some(url.into()),
            http_user_agent: Some(agent.into()),
            ..Http::default()
        }))
    };
    check("http", http("/admin/x", "curl/8"), &[1]);
    check("http", http("/admin/x", "wget"), &[]);
    check("http", http("/", "curl/8"), &[]);
    check("ftp", http("/admin/x", "curl/8"), &[]);
    let dns = |name: &str| {
        Record::Dns(Box::new(Dns {
            queries: vec![DnsQuestion {
                rrname: name.into(),
                ..DnsQuestion::default()
            }],
            ..Dns::default()
        }))
    };
    check("dns", dns("www.Evil.example"), &[3]);
    check("dns", dns("evil.example.org"), &[]);
}

#[test]
fn thresholds_hold_alerts_back() {
    /// Seconds at which a new flow matches; at which of them an alert is raised.
    #[track_caller]
    fn check(threshold: &str, seconds: &[u64], expected: &[u64]) {
        let rule =
            format!("alert tcp any any -> any any (msg:\"m\"; content:\"a\"; threshold:{threshold}; sid:1;)");
        let mut scanner = Scanner::new(Arc::new(ruleset(&[&rule])));
        let mut raised = Vec::new();
        for &second in seconds {
            let mut alerts = Vec::new();
            scanner.payload(
                &mut Scan::default(),
                &facts(None, true, second),
                1,
                b"a",
                &mut alerts,
            );
            raised.extend(alerts.iter().map(|_| second));
        }
        assert_eq!(raised, expected, "{threshold}");
        assert_eq!(scanner.held_back as usize, seconds.len() - expected.len());
    }
    let seconds = [0, 1, 2, 3, 61, 62, 63];
    check(
        "type limit, track by_src, count 1, seconds 60",
        &seconds,
        &[0, 61],
    );
    check(
        "type limit, track by_dst, count 2, seconds 60",
        &seconds,
        &[0, 1, 61, 62],
    );
    check(
        "type threshold, track by_src, count 2, seconds 60",
        &seconds,
        &[1, 3, 62],
    );
    check("type both, track by_src, count 3, seconds 60", &seconds, &[2, 63]);
}

#[test]
fn what_is_wrong_is_said() {
    #[track_caller]
    fn check(rule: &str, expected: &str) {
        let (rules, errors) = parse(rule, &default_variables());
        assert!(rules.is_empty(), "{rule}");
        let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(said.join("\n").contains(expected), "{rule}: {said:?}");
    }
    let rule = |options: &str| format!("\nalert tcp any any -> any any (msg:\"m\"; {options})");
    check(
        "alert tcp any any -> any (sid:1;)",
        "line 1: expected seven words",
    );
    check("drop tcp any any -> any any (sid:1;)", "action `drop`");
    check(
        "alert nonsense any any -> any any (sid:1;)",
        "protocol `nonsense`",
    );
    check(
        "alert tcp $NOBODY any -> any any (sid:1;)",
        "`$NOBODY` has no value",
    );
    check("alert tcp 10.0.0.0/33 any -> any any (sid:1;)", "`10.0.0.0/33`");
    check("alert tcp any 1:x -> any any (sid:1;)", "`1:x`");
    check("alert tcp any any -> any any (sid:1", "expected `)`");
    check(&rule("content:\"a\";"), "line 2: expected `sid:NUMBER;`");
    check(&rule("sid:1;"), "expected a `content`");
    check(
        &rule("content:\"a\"; byte_test:1,>,2,3; sid:1;"),
        "option `byte_test`: is not known here",
    );
    check(&rule("content:\"|0|\"; sid:1;"), "pairs of hexadecimal digits");
    check(&rule("nocase; sid:1;"), "expected a `content` before it");
    check(&rule("pcre:\"/a(?=b)/\"; sid:1;"), "look-around");
    check(&rule("pcre:\"/(a)\\1/\"; sid:1;"), "option `pcre`");
    check(
        &rule("content:\"a\"; threshold:type limit; sid:1;"),
        "expected type, track, count and seconds",
    );
    check(&rule("content:\"a\"; sid:1"), "expected `;`");
    let twice = rule("content:\"a\"; sid:1;");
    let (rules, errors) = parse(&format!("{twice}\n{twice}"), &default_variables());
    assert_eq!((rules.len(), errors[0].line), (1, 4));
    let mixed = rule("content:\"a\"; http.uri; content:\"b\"; sid:7;");
    let (rules, _) = parse(&mixed, &default_variables());
    assert!(Ruleset::new(rules).is_err_and(|error| error.what.contains("rule 7")));
}

#[test]
fn the_rules_that_ship_are_sound() {
    let (rules, errors) = parse(SHIPPED, &default_variables());
    assert_eq!(errors, []);
    assert!(rules.len() >= 40, "{}", rules.len());
    assert!(
        rules
            .iter()
            .all(|rule| rule.classtype.is_some() && rule.category() != "other" || rule.severity == 3)
    );
    Ruleset::new(rules).expect("they fit together");
}
