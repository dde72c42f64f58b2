use super::super::{LENGTH_MAX, NESTING_MAX, Scope};
use super::*;

fn check_error(source: &str, expected: &str) {
    let error = Filter::parse(source).expect_err(source);
    assert_eq!(error.render(source), expected.trim_matches('\n'), "{source}");
    assert!(!error.hint.is_empty() && !error.message.ends_with('.'));
}

/// `message` and `hint` only, and what is marked.
fn check_place(source: &str, marked: &str, message: &str, hint: &str) {
    let error = Filter::parse(source).expect_err(source);
    let found = (
        &source[error.span.clone()],
        error.message.as_str(),
        error.hint.as_str(),
    );
    assert_eq!(found, (marked, message, hint), "{source}");
}

#[test]
fn errors_point_at_the_place() {
    check_error(
        "src in 10.0.0.0/8 and dprt == 443",
        "
error: unknown field `dprt`
  src in 10.0.0.0/8 and dprt == 443
                        ^^^^
hint: did you mean `dport`?
",
    );
    check_error(
        "dport == http and tcp",
        "
error: dport takes a number from 0 to 65535, not `http`
  dport == http and tcp
           ^^^^
hint: for example `dport in {80, 443, 8000-8100}`
",
    );
    check_error(
        "tcp and (dport == 80 or dport == 443",
        "
error: this parenthesis is never closed
  tcp and (dport == 80 or dport == 443
          ^
hint: add `)` where the group ends
",
    );
    check_error(
        "dport in {}",
        "
error: the list is empty, so nothing could be in it
  dport in {}
           ^^
hint: write the values between the braces, as `{80, 443}`
",
    );
    check_error(
        "src in 10.0.0.0/33",
        "
error: the prefix length of an IPv4 network is a number from 0 to 32, not `33`
  src in 10.0.0.0/33
         ^^^^^^^^^^^
hint: `10.0.0.0/32` is the address alone; a smaller number is a larger network
",
    );
    check_error(
        "tcp and",
        "
error: expected a test, and the filter ends
  tcp and
         ^
hint: write one, as `dport == 443`, or remove the word before
",
    );
    check_error(
        "tcp\nand\tgrün == 1",
        "
error: unknown field `grün`
  and grün == 1
      ^^^^
hint: fields are src, dst, sport, dport, proto, app, comm, country and more
",
    );
    check_error(
        "comm == \"\u{1b}[31m",
        "
error: this quote is never closed
  comm == \"\u{fffd}[31m
          ^
hint: add \" where the text ends
",
    );
}

#[test]
fn each_mistake_has_its_message() {
    for (source, marked, message, hint) in [
        (
            "",
            "",
            "the filter is empty",
            "leave it out to see everything, or write a test, as `proto == tcp`",
        ),
        (
            "  ",
            "",
            "the filter is empty",
            "leave it out to see everything, or write a test, as `proto == tcp`",
        ),
        ("dns", "dns", "unknown field `dns`", "write `app == dns`"),
        (
            "80 < dport",
            "80",
            "unknown field `80`",
            "a test begins with a field, as `dport == 443` or `src == 192.0.2.7`",
        ),
        (
            "tls.snii == a",
            "tls.snii",
            "unknown field `tls.snii`",
            "did you mean `tls.sni`?",
        ),
        ("http == a", "http", "unknown field `http`", "write `app == http`"),
        (
            "icmp.kind == 3",
            "icmp.kind",
            "unknown field `icmp.kind`",
            "fields are src, dst, sport, dport, proto, app, comm, country and more",
        ),
        (
            "tcp == 3",
            "tcp",
            "unknown field `tcp`",
            "did you mean one of tcp.state, tcp.rtt_us, tcp.retransmits, tcp.out_of_order, tcp.zero_window, tcp.resets, tcp.window?",
        ),
        (
            "port 443",
            "443",
            "expected an operator after `port`",
            "write `port == 443`; operators here are == != < <= > >= in not in",
        ),
        (
            "tls.sni contain a",
            "contain",
            "expected an operator after `tls.sni`",
            "did you mean `contains`?",
        ),
        (
            "dport not 443",
            "not",
            "after `dport`, `not` is only known in `not in`",
            "write `not` in front of the test, as `not dport in {80, 443, 8000-8100}`",
        ),
        (
            "dport == and tcp",
            "and",
            "expected a value",
            "put it in quotes if it is the value: \"and\"",
        ),
        (
            "dport ==",
            "",
            "expected a value",
            "write the value to compare with",
        ),
        (
            "dport == == 3",
            "==",
            "expected a value",
            "write a value; put text with special characters in quotes",
        ),
        (
            "dport == 80 443",
            "443",
            "expected `and`, `or` or the end of the filter",
            "join two tests with `and` or `or`; put text with spaces in quotes",
        ),
        (
            "dport == 80, 443",
            ",",
            "expected `and`, `or` or the end of the filter",
            "commas part the items of a list, as `dport in {80, 443}`",
        ),
        (
            "(dport == 80 tcp)",
            "tcp",
            "expected `and`, `or` or the end of the filter",
            "join two tests with `and` or `or`; put text with spaces in quotes",
        ),
        (
            "tcp)",
            ")",
            "this parenthesis closes none",
            "remove it, or add `(` where the group begins",
        ),
        (
            "()",
            ")",
            "expected a test before this parenthesis",
            "write one, as `(dport == 443)`",
        ),
        (
            "and tcp",
            "and",
            "expected a test",
            "a test begins with a field, as `dport == 443`",
        ),
        (
            "'src' == 1",
            "'src'",
            "expected a field, not text",
            "a test begins with a field, as `app == \"tls\"`",
        ),
        (
            "dport in {80",
            "{",
            "this list is never closed",
            "add `}` where the list ends",
        ),
        (
            "dport in {80, )",
            ")",
            "expected a value",
            "write a value; put text with special characters in quotes",
        ),
        (
            "dport > {80}",
            "> {",
            "a list cannot be compared this way",
            "write `in {…}` or `not in {…}`",
        ),
        (
            "dport == {80}",
            "== {",
            "a list cannot be compared this way",
            "write `in {…}` or `not in {…}`",
        ),
        (
            "tcp & udp",
            "&",
            "a single `&` is no operator",
            "write `and` or `&&`",
        ),
        (
            "tcp | udp",
            "|",
            "a single `|` is no operator",
            "write `or` or `||`",
        ),
        (
            "comm == a;b",
            ";",
            "the character ';' has no meaning here",
            "put text with special characters in quotes",
        ),
        (
            "comm == 'a\\x'",
            "\\x",
            "this escape is not known",
            r#"escapes are \\ \" \' \n \r \t and \u{1f30a}; write \\ for a backslash"#,
        ),
        (
            "comm == 'a\\u{d800}'",
            "\\u",
            "this escape is not known",
            r#"escapes are \\ \" \' \n \r \t and \u{1f30a}; write \\ for a backslash"#,
        ),
        (
            "dport == 65536",
            "65536",
            "dport takes a number from 0 to 65535, and `65536` is more",
            "the largest value is 65535",
        ),
        (
            "dport == 99999999999999999999999",
            "99999999999999999999999",
            "dport takes a number from 0 to 65535, and `99999999999999999999999` is more",
            "the largest value is 65535",
        ),
        (
            "dport == -1",
            "-1",
            "dport takes a number from 0 to 65535, not `-1`",
            "for example `dport in {80, 443, 8000-8100}`",
        ),
        (
            "dport == 8k",
            "8k",
            "`8k` has a unit that dport does not take",
            "write the plain number",
        ),
        (
            "dport == 80.5",
            "80.5",
            "`80.5` is not a whole number of the unit of dport",
            "write a whole number",
        ),
        (
            "dport in 90-80",
            "90-80",
            "the range `90-80` ends before it begins",
            "write the smaller end first",
        ),
        (
            "dport contains 4",
            "contains",
            "dport is a number, not text",
            "operators here are == != < <= > >= in not in",
        ),
        (
            "proto == tpc",
            "tpc",
            "proto takes a number from 0 to 255, or a name, not `tpc`",
            "did you mean `tcp`?",
        ),
        (
            "bytes > 5X",
            "5X",
            "`5X` has a unit that bytes does not take",
            "B, kB, MB, GB, TB are known, and KiB, MiB, GiB, TiB",
        ),
        (
            "bytes > 1.5",
            "1.5",
            "`1.5` is not a whole number of the unit of bytes",
            "bytes is held in whole bytes",
        ),
        (
            "bytes > much",
            "much",
            "bytes takes a number of bytes, as 1500, 64KiB or 1.5GB, not `much`",
            "for example `bytes > 1.5GB`",
        ),
        (
            "bytes > 99999999TB",
            "99999999TB",
            "bytes takes a number of bytes, as 1500, 64KiB or 1.5GB, and `99999999TB` is more",
            "the largest value is 18446744073709551615",
        ),
        (
            "duration > 10us",
            "10us",
            "`10us` is not a whole number of the unit of duration",
            "duration is held in whole ms",
        ),
        (
            "duration > 5M",
            "5M",
            "`5M` has a unit that duration does not take",
            "ns, us, ms, s, m, h and d are known",
        ),
        (
            "src == example.com",
            "example.com",
            "src takes an address, a network or a range of addresses, not `example.com`",
            "names are not looked up: write the address, or test `tls.sni`, `http.host` or `dns.query`",
        ),
        (
            "src in 10/8",
            "10/8",
            "src takes an address, a network or a range of addresses, not `10/8`",
            "write all four numbers, as `10.0.0.0/8`",
        ),
        (
            "src in 10.1",
            "10.1",
            "src takes an address, a network or a range of addresses, not `10.1`",
            "write all four numbers, as `10.1.0.0/16`",
        ),
        (
            "src in ::/129",
            "::/129",
            "the prefix length of an IPv6 network is a number from 0 to 128, not `129`",
            "`::/128` is the address alone; a smaller number is a larger network",
        ),
        (
            "src in 10.0.0.0/+8",
            "10.0.0.0/+8",
            "the prefix length of an IPv4 network is a number from 0 to 32, not `+8`",
            "`10.0.0.0/32` is the address alone; a smaller number is a larger network",
        ),
        (
            "src in 10.0.0.1-2001:db8::1",
            "10.0.0.1-2001:db8::1",
            "the range `10.0.0.1-2001:db8::1` mixes IPv4 and IPv6",
            "write one range for each family: `in {10.0.0.1-10.0.0.9, 2001:db8::1-2001:db8::9}`",
        ),
        (
            "src in 10.0.0.9-10.0.0.1",
            "10.0.0.9-10.0.0.1",
            "the range `10.0.0.9-10.0.0.1` ends before it begins",
            "write the smaller end first",
        ),
        (
            "src > 10.0.0.1",
            ">",
            "src is an address, and is not compared this way",
            "operators here are == != in not in",
        ),
        (
            "src.mac == 02:00",
            "02:00",
            "src.mac takes a MAC address, not `02:00`",
            "for example `src.mac == 02:00:00:00:00:01`",
        ),
        (
            "src.mac matches 02*",
            "matches",
            "src.mac is a MAC address, and is not compared this way",
            "operators here are == != in not in",
        ),
        (
            "flags == SYNC",
            "SYNC",
            "`SYNC` are no TCP flags",
            "flags are letters of FSRPAUEC, as `SA`, or names, as `syn+ack`, or `none`",
        ),
        (
            "flags > S",
            ">",
            "flags holds TCP flags, and is not compared this way",
            "operators here are == != contains in not in",
        ),
        (
            "flags.syn == maybe",
            "maybe",
            "flags.syn takes true or false, not `maybe`",
            "write `flags.syn` or `not flags.syn`",
        ),
        (
            "flags.syn > 0",
            ">",
            "flags.syn is true or false, and is not compared this way",
            "operators here are == !=",
        ),
        (
            "tls.sni < a",
            "<",
            "tls.sni is text, which has no order",
            "operators here are == != in not in contains startswith endswith matches",
        ),
        (
            "tls.sni == *.x",
            "*.x",
            "`*` and `?` are patterns only after `matches`, and `*.x` would be compared as it is",
            "write `tls.sni matches *.x`, or put the text in quotes",
        ),
        (
            "tcp.state == open",
            "open",
            "tcp.state takes one of none, syn_sent, syn_recv, established, fin_wait1, fin_wait2, time_wait, last_ack, close_wait, closing, listen, closed, not `open`",
            "for example `tcp.state == established`",
        ),
        (
            "tcp.state == establish",
            "establish",
            "tcp.state takes one of none, syn_sent, syn_recv, established, fin_wait1, fin_wait2, time_wait, last_ack, close_wait, closing, listen, closed, not `establish`",
            "did you mean `established`?",
        ),
        (
            "country == Germany",
            "Germany",
            "country takes a country code of two letters, not `Germany`",
            "codes are those of ISO 3166-1, as `DE` or `US`",
        ),
    ] {
        check_place(source, marked, message, hint);
    }
}

#[test]
fn length_and_nesting_are_bounded() {
    let tests = |n: usize| vec!["dport == 1"; n].join(" or ");
    let longest = tests(LENGTH_MAX / 14);
    assert!(longest.len() <= LENGTH_MAX);
    filter(&longest);
    let error = Filter::parse(&tests(LENGTH_MAX / 14 + 2)).expect_err("too long");
    assert!(error.message.contains("at most 4096"), "{error}");

    for (open, close) in [("(", ")"), ("not ", ""), ("not (", ")")] {
        let per_level = open.matches(['n', '(']).count();
        let nested = |n: usize| format!("{}tcp{}", open.repeat(n), close.repeat(n));
        filter(&nested(NESTING_MAX / per_level));
        let error = Filter::parse(&nested(NESTING_MAX / per_level + 1)).expect_err("too deep");
        assert_eq!(error.message, "more than 64 parentheses and `not` are nested");
    }
    let error = Filter::parse(&"(".repeat(LENGTH_MAX)).expect_err("too deep");
    assert_eq!(error.span, NESTING_MAX + 1..NESTING_MAX + 2);
}

#[test]
fn fields_out_of_scope_are_refused_at_their_place() {
    for (source, scope, expected) in [
        (
            "dport == 443 and rtt > 10ms",
            Scope::Packet,
            "
error: `tcp.rtt_us` is known of flows, not of single packets
  dport == 443 and rtt > 10ms
                   ^^^
hint: packets have addresses, ports, proto, flags, ttl, len, vlan, tunnel and the like; use `weir flows` or `weir watch` for this field
",
        ),
        (
            "len > 1000",
            Scope::Flow,
            "
error: `len` is known of single packets, not of flows
  len > 1000
  ^^^
hint: flows have bytes, packets and rates; use `weir capture` for this field
",
        ),
    ] {
        let error = filter(source).check_scope(scope).expect_err(source);
        assert_eq!(error.render(source), expected.trim_matches('\n'));
    }
}

#[test]
fn long_lines_are_cut_around_the_place() {
    let source = format!(
        "{}dprt == 1 or {}",
        "dport == 1 or ".repeat(20),
        "dport == 2 or ".repeat(20)
    );
    let error = Filter::parse(&source).expect_err("unknown field");
    let lines: Vec<String> = error.render(&source).lines().map(str::to_owned).collect();
    let [_, text, carets, _] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    let at = carets.chars().position(|c| c == '^').expect("a caret");
    let marked: String = text.chars().skip(at).take(carets.trim().len()).collect();
    assert_eq!(marked, "dprt");
    assert!(text.chars().count() <= 104, "{text}");
}
