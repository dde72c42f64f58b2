//! Live flows say what they are: application, names, client, country, process.

use serde_json::Value;

use crate::lab::{Lab, connections};
use crate::normal::flows_of;
use crate::weir::Weir;
use crate::{may_run, mmdb, text, wait_for};

/// What the flow of a connection to this service must say, and what is wrong with it if it does not.
fn wrong_with(flow: &Value, service: &str) -> Option<String> {
    let is = |path: &str, expected: &dyn Fn(&Value) -> bool| {
        let found = flow.pointer(path).unwrap_or(&Value::Null);
        (!expected(found)).then(|| format!("{service}{path}: {found}"))
    };
    let word = |expected: &'static str| move |found: &Value| found == expected;
    let begins = |expected: &'static str| {
        move |found: &Value| found.as_str().is_some_and(|found| found.starts_with(expected))
    };
    let some = |found: &Value| !found.is_null();
    match service {
        "http" => is("/app", &word("http"))
            .or_else(|| is("/http/host", &word("www.lab.test")))
            .or_else(|| is("/http/method", &word("GET")))
            .or_else(|| is("/http/user_agent", &begins("weir-lab/")))
            .or_else(|| is("/http/content_length", &some))
            .or_else(|| is("/http/status", &some)),
        "https" => is("/app", &word("tls"))
            .or_else(|| is("/tls/sni", &word("www.lab.test")))
            .or_else(|| is("/tls/alpn", &word("http/1.1")))
            .or_else(|| is("/tls/version", &word("TLS 1.3")))
            .or_else(|| is("/tls/ja4", &begins("t13d"))),
        "dns" => is("/app", &word("dns")).or_else(|| {
            is("/dns/query", &|query: &Value| {
                query.as_str().is_some_and(|query| query.ends_with(".lab.test"))
            })
        }),
        "ssh" => is("/app", &word("ssh")),
        _ => None,
    }
}

#[test]
fn every_flow_says_what_it_is() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("l7", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("lab.mmdb");
    let networks = |clients: &'static str| {
        [
            ("10.77.0.1".parse().expect("an address"), 32, "SE"),
            ("10.77.0.8".parse().expect("an address"), 29, clients),
            ("fd77::1".parse().expect("an address"), 128, "SE"),
            ("fd77::10".parse().expect("an address"), 124, clients),
        ]
    };
    std::fs::write(&database, mmdb::of(&networks("CH"))).expect("a file");
    let named = database.to_str().expect("text");
    let weir = Weir::on(&lab, &["--geoip", named]);
    let report = lab.run(&["normal", "--seconds", "2"]);
    let connections = connections(&report, "normal");
    // Clients may take a port again: the flow of a name service is then of several conversations.
    let check = |country: &str| -> Result<usize, String> {
        let flows = weir.flows("");
        let mut checked = 0;
        for connection in &connections {
            let service = text(connection, "/service");
            let found = flows_of(&flows, connection);
            let [flow] = found[..] else {
                return Err(format!("{} flows of {connection}", found.len()));
            };
            if let Some(wrong) = wrong_with(flow, service) {
                return Err(format!("{wrong} in {flow}"));
            }
            let places = (&flow["src_country"], &flow["dst_country"]);
            if places != (&Value::from(country), &Value::from("SE")) {
                return Err(format!("countries {places:?} in {flow}"));
            }
            if flow["owner"]["comm"] != "lab-serve" {
                return Err(format!("owner in {flow}"));
            }
            checked += usize::from(matches!(service, "http" | "https" | "dns" | "ssh"));
        }
        Ok(checked)
    };
    let checked = wait_for("every flow says what it is", || check("CH"));
    assert!(checked >= 30, "{checked}");
    for service in ["http", "https", "dns", "ssh"] {
        let of = connections.iter().filter(|one| text(one, "/service") == service);
        assert!(of.count() >= 2, "no {service} in the lab's traffic");
    }
    println!("{checked} flows of {} say what they are", connections.len());
    // One flow's story, in order.
    let flows = weir.flows("app == http and src.country == CH");
    let id = crate::number(&flows[0], "/id").to_string();
    let story = weir.told(&["flows", "show", &id]);
    println!("{story}");
    let mut rest = story.as_str();
    for step in [
        "SYN: asks",
        "SYN and ACK",
        "the connection is open",
        "GET /",
        "status ",
        "closed",
    ] {
        let at = rest
            .find(step)
            .unwrap_or_else(|| panic!("no `{step}` in {rest} of {story}"));
        rest = &rest[at..];
    }
    // Another database takes its place while Weir runs.
    let next = folder.path().join("next");
    std::fs::write(&next, mmdb::of(&networks("NO"))).expect("a file");
    std::fs::rename(&next, &database).expect("renamed");
    lab.run(&["normal", "--seconds", "1"]);
    wait_for("the new database is in force", || {
        let flows = weir.flows("src.country == NO");
        if flows.is_empty() {
            Err("no flow from NO".to_owned())
        } else {
            Ok(())
        }
    });
}
