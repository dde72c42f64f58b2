use super::super::complete;

/// `expected` are the first choices, joined by blanks; `…` at its end says that more may follow.
fn check(input: &str, start: usize, expected: &str) {
    let found = complete(input);
    assert!(
        found.iter().all(|choice| choice.start == start),
        "{input}: {found:?}"
    );
    let found: Vec<&str> = found.iter().map(|choice| choice.text.as_str()).collect();
    let found = found.join(" ");
    match expected.strip_suffix(" …") {
        Some(first) => assert!(found.starts_with(first), "{input}: {found}"),
        None => assert_eq!(found, expected, "{input}"),
    }
}

#[test]
fn completions() {
    check("", 0, "src dst host sport dport port proto …");
    check("dp", 0, "dport");
    check("tls.", 0, "tls.sni tls.version tls.alpn tls.ja4");
    check("no", 0, "not");
    check("rt", 0, "rtt");
    check("flags.s", 0, "flags.syn");
    check("dport == 443 and sr", 17, "src src.port src.mac src.country");
    check("not (vl", 5, "vlan");
    check("(tcp ", 5, "and or )");
    check("dport ", 6, "== != < <= > >= in not in and or");
    check("tls.sni con", 8, "contains");
    check("(frag ", 6, "== != and or )");
    check("frag == ", 8, "true false");
    check("dport not ", 10, "in");
    check("dport not in ", 13, "{");
    check("proto == ", 9, "icmp igmp ipip tcp …");
    check("proto == t", 9, "tcp");
    check("proto==u", 7, "udp udplite");
    check("tcp.state == est", 13, "established");
    check("tcp.state in {est", 14, "established");
    check("tcp.state in {closed, fin", 22, "fin_wait1 fin_wait2");
    check("tcp.state in {closed} ", 22, "and or");
    check("http.method == de", 15, "DELETE");
    check("dport == 443 ", 13, "and or");
    check("dport == 443 a", 13, "and");
    for nothing_fits in [
        "src == ",
        "dprt ",
        "dport == 443 443 ",
        "tls.sni == \"a",
        "= ",
        ") ",
        "a;",
        "dport == 1 ) ",
    ] {
        check(nothing_fits, 0, "");
    }
}
