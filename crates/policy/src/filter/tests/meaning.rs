use super::super::{FieldType, Scope, Source, fields};
use super::*;

/// A TLS connection of an IPv4 client, tunnel and VLAN missing.
fn https() -> Known<'static> {
    Known(vec![
        (Field::Src, address("10.1.2.3")),
        (Field::Dst, address("198.51.100.7")),
        (Field::Sport, Value::Int(50000)),
        (Field::Dport, Value::Int(443)),
        (Field::Proto, Value::Int(6)),
        (Field::Family, Value::Int(4)),
        (Field::Iface, Value::Str("eth0")),
        (Field::Direction, Value::Str("in")),
        (Field::SrcMac, Value::Mac([2, 0, 0, 0, 0, 0xa1])),
        (Field::Flags, Value::Int(0x12)),
        (Field::Ttl, Value::Int(63)),
        (Field::Frag, Value::Bool(false)),
        (Field::TcpState, Value::Str("established")),
        (Field::TcpRttUs, Value::Int(12_000)),
        (Field::TcpRetransmits, Value::Int(0)),
        (Field::Packets, Value::Int(12_000)),
        (Field::Bytes, Value::Int(1_500_000_000)),
        (Field::RateBps, Value::Int(10_000_000)),
        (Field::Duration, Value::Int(5_000)),
        (Field::Comm, Value::Str("nginx")),
        (Field::App, Value::Str("tls")),
        (Field::TlsSni, Value::Str("www.Example.com")),
        (Field::TlsVersion, Value::Int(0x0303)),
        (Field::TlsAlpn, Value::Str("")),
        (Field::HttpPath, Value::Str("/Ä/index.html?a=b c")),
        (Field::SrcCountry, Value::Str("DE")),
    ])
}

/// ICMPv6 with neither ports nor owner.
fn ping6() -> Known<'static> {
    Known(vec![
        (Field::Src, address("2001:db8::1")),
        (Field::Dst, address("::ffff:192.0.2.9")),
        (Field::Proto, Value::Int(58)),
        (Field::Family, Value::Int(6)),
        (Field::Vlan, Value::Int(0)),
        (Field::IcmpType, Value::Int(128)),
        (Field::IcmpCode, Value::Int(0)),
        (Field::Incomplete, Value::Bool(true)),
        (Field::Frag, Value::Bool(true)),
        (Field::Dport, Value::Str("a value of the wrong type")),
    ])
}

fn check(facts: &Known<'_>, source: &str, expected: bool) {
    let parsed = filter(source);
    assert_eq!(parsed.eval(facts), expected, "{source}\n= {parsed}");
    let canonical = parsed.to_string();
    assert_eq!(filter(&canonical), parsed, "{source} is shown as {canonical}");
    assert_eq!(filter(&canonical).to_string(), canonical);
}

#[test]
fn tests_of_one_field() {
    let https = https();
    for (source, expected) in [
        // numbers
        ("dport == 443", true),
        ("dport = 443", true),
        ("dport eq 443", true),
        ("dport==443", true),
        ("DPORT==0x1bb", true),
        ("dport != 443", false),
        ("dport < 443", false),
        ("dport <= 443", true),
        ("dport > 442", true),
        ("dport >= 444", false),
        (
            "dport lt 444 and dport gt 442 and dport le 443 and dport ge 443 and dport ne 1",
            true,
        ),
        ("dport in {80, 443, 8000-8100}", true),
        ("dport in {80 443}", true),
        ("dport in {80, 443,}", true),
        ("dport in 400-450", true),
        ("dport == 400-450", true),
        ("dport not in 400-450", false),
        ("dport not in {80, 8000-8100}", true),
        ("dport ! in {80}", true),
        ("dst.port in {1-10, 5-500, 440}", true),
        // units
        ("bytes == 1.5GB", true),
        ("bytes == 1500M", true),
        ("bytes > 1.4GiB", false),
        ("bytes > 1GiB", true),
        ("packets == 12k", true),
        ("packets in 10k-20k", true),
        ("rate_bps == 10Mbit", true),
        ("rate == 10Mbps", true),
        ("rtt == 12ms", true),
        ("rtt == 12000", true),
        ("rtt < 0.0125s", true),
        ("tcp.rtt_us in 10ms-20ms", true),
        ("duration == 5s", true),
        ("duration < 1m", true),
        ("duration == 5000", true),
        // names
        ("proto == tcp", true),
        ("proto == TCP", true),
        ("proto in {udp, icmp}", false),
        ("proto == 6", true),
        ("tcp", true),
        ("udp", false),
        ("ip4 and not ip6", true),
        ("family == ipv4", true),
        ("tls.version < 1.3", true),
        ("tls.version == tls1.2", true),
        ("tls.version in 1.0-1.2", true),
        // flags
        ("flags == SA", true),
        ("flags == as", true),
        ("flags == syn+ack", true),
        ("flags == 18", true),
        ("flags == syn", false),
        ("flags contains syn", true),
        ("flags contains SR", false),
        ("flags in {S, SA}", true),
        ("flags != none", true),
        ("flags.syn and flags.ack", true),
        ("flags.syn == true", true),
        ("flags.rst", false),
        ("flags.rst == false", true),
        ("flags.rst != true", true),
        // text
        ("app == TLS", true),
        ("app in {http, tls}", true),
        ("app not in {http, tls}", false),
        ("comm == nginx", true),
        ("comm == NGINX", false),
        ("comm == \"nginx\"", true),
        ("comm == 'nginx'", true),
        ("tls.sni contains EXAMPLE", true),
        ("tls.sni startswith {mail., www.}", true),
        ("tls.sni endswith .example.com", true),
        ("tls.sni matches *.example.com", true),
        ("tls.sni ~ *.example.com", true),
        ("tls.sni matches ???.example.*", true),
        ("tls.sni matches {*.net, w*w*e*m}", true),
        ("tls.sni matches ??.example.com", false),
        ("tls.sni matches *.example.co", false),
        ("tls.sni matches *", true),
        ("tls.alpn matches *", true),
        ("tls.alpn == ''", true),
        ("http.path matches '/?/index.html?a=b *'", true),
        ("http.path matches '/??/index*'", false),
        ("http.path endswith \"b\\u{20}c\"", true),
        ("http.path contains ''", true),
        ("direction == in", true),
        ("direction in {in}", true),
        // MAC
        ("src.mac == 02:00:00:00:00:a1", true),
        ("src.mac in {02-00-00-00-00-A1}", true),
        ("src.mac != 02:00:00:00:00:a2", true),
        // there or not
        ("tls.sni", true),
        ("tls.alpn", false),
        ("tunnel", false),
        ("pid", false),
        ("vlan", false),
        ("tcp.retransmits", false),
        ("packets", true),
        ("frag", false),
        ("frag == false", true),
    ] {
        check(&https, source, expected);
    }
}

#[test]
fn addresses() {
    let (https, ping6) = (https(), ping6());
    for (facts, source, expected) in [
        (&https, "src == 10.1.2.3", true),
        (&https, "src == ::ffff:10.1.2.3", true),
        (&https, "src in 10.0.0.0/8", true),
        (&https, "src in 10.1.2.3/8", true),
        (&https, "src == 10.0.0.0/8", true),
        (&https, "src != 10.0.0.0/8", false),
        (&https, "src not in 10.0.0.0/8", false),
        (&https, "src in ::ffff:10.0.0.0/104", true),
        (&https, "src in 0.0.0.0/0", true),
        (&https, "src in ::/0", false),
        (&https, "src in 10.1.2.3/32", true),
        (&https, "src in 10.1.2.1-10.1.2.3", true),
        (&https, "src in 10.1.2.4-10.1.2.9", false),
        (&https, "src in {192.0.2.0/24, 2001:db8::/32, 10.1.0.0/16}", true),
        (&https, "src in {192.0.2.0/24, 10.1.2.4-10.255.255.255}", false),
        (&ping6, "src == 2001:db8::1", true),
        (&ping6, "src == 2001:0DB8:0::0001", true),
        (&ping6, "src in 2001:db8::/32", true),
        (&ping6, "src in ::/0", true),
        (&ping6, "src in 0.0.0.0/0", false),
        (&ping6, "src in 2001:db8::1-2001:db8::f", true),
        (&ping6, "src in ::-::ffff:1.2.3.4", false),
        (&ping6, "dst in 192.0.2.0/24", true),
        (&ping6, "dst in ::/0", false),
        // either side
        (&https, "host == 198.51.100.7", true),
        (&https, "host == 10.1.2.3", true),
        (&https, "net in 10.0.0.0/8", true),
        (&https, "host != 10.1.2.3", false),
        (&https, "host != 10.1.2.4", true),
        (&https, "host not in {10.0.0.0/8, 192.0.2.0/24}", false),
        (&https, "port == 443", true),
        (&https, "port == 50000", true),
        (&https, "port != 50000", false),
        (&https, "port > 49999", true),
        (&https, "port not in 1-1024", false),
        (&https, "country == de", true),
        (&https, "country != de", false),
        (&https, "country != FR", true),
        (&https, "country", true),
        (&ping6, "country", false),
        (&ping6, "country != FR", false),
        (&ping6, "not country == FR", true),
    ] {
        check(facts, source, expected);
    }
}

#[test]
fn what_is_missing_is_neither_equal_nor_unequal() {
    let ping6 = ping6();
    for (source, expected) in [
        ("sport == 1", false),
        ("sport != 1", false),
        ("sport not in {1}", false),
        ("not sport == 1", true),
        ("not sport != 1", true),
        ("port != 1", false),
        ("flags.syn", false),
        ("flags.syn == false", false),
        ("not flags.syn", true),
        ("flags != S", false),
        ("tls.sni matches *", false),
        ("tls.sni != x", false),
        ("pid >= 0", false),
        ("dport != 1", false),
        ("dport", true),
        ("vlan", true),
        ("icmp.code", true),
        ("incomplete", true),
        ("not incomplete", false),
    ] {
        check(&ping6, source, expected);
    }
}

#[test]
fn precedence() {
    // f and t stand for tests that fail and hold.
    let facts = Known(vec![(Field::Dport, Value::Int(1))]);
    for (source, expected, canonical) in [
        ("t or t and f", true, "t or t and f"),
        ("(t or t) and f", false, "(t or t) and f"),
        ("f and f or t", true, "f and f or t"),
        ("f and (f or t)", false, "f and (f or t)"),
        ("not f and f", false, "not f and f"),
        ("not (f and f)", true, "not (f and f)"),
        ("not f or t", true, "not f or t"),
        ("not (t or t)", false, "not (t or t)"),
        ("! f && ! f || f", true, "not f and not f or f"),
        ("not not t", true, "not not t"),
        ("(((t)))", true, "t"),
        ("(t and t) and (t and f)", false, "t and t and t and f"),
        ("f or (f or t)", true, "f or f or t"),
        ("t AND NOT f Or f", true, "t and not f or f"),
    ] {
        let spell = |text: &str| {
            let words = text.split_inclusive([' ', '(', ')']);
            let spelt = words.map(|word| match word.trim_end_matches([' ', '(', ')']) {
                "t" => word.replace('t', "dport == 1"),
                "f" => word.replace('f', "dport == 2"),
                _ => word.to_owned(),
            });
            spelt.collect::<String>()
        };
        check(&facts, &spell(source), expected);
        assert_eq!(filter(&spell(source)).to_string(), spell(canonical), "{source}");
    }
}

#[test]
fn canonical_text() {
    for (source, expected) in [
        ("ip.src=10.1.2.3/8&&tcp", "src in 10.0.0.0/8 and proto == tcp"),
        (
            "sni ~ *.x or rtt>50ms",
            "tls.sni matches *.x or tcp.rtt_us > 50000",
        ),
        (
            "dport in {8000-8100, 443, 80, 443, 8050-8200}",
            "dport in {80, 443, 8000-8200}",
        ),
        ("dport in {443}", "dport == 443"),
        ("dport not in {443}", "dport != 443"),
        ("src in {10.0.0.1}", "src == 10.0.0.1"),
        ("src in 10.0.0.0-10.0.0.255", "src in 10.0.0.0/24"),
        ("src in 10.0.0.1-10.0.0.9", "src in 10.0.0.1-10.0.0.9"),
        (
            "src in {2001:db8::/32, 10.0.0.0/8}",
            "src in {10.0.0.0/8, 2001:db8::/32}",
        ),
        ("src in {10.0.0.0/9, 10.64.0.0/10}", "src in 10.0.0.0/9"),
        (
            "src in {::fffe:0:0/95, ::1-::fffe:1:0}",
            "src in ::1-::ffff:255.255.255.255",
        ),
        ("flags in {syn+ack, AS, S}", "flags in {SA, S}"),
        ("flags == 0", "flags == none"),
        ("flags.syn != false", "flags.syn"),
        ("tcp.zero_window", "tcp.zero_window > 0"),
        (
            "comm in {a, a, 'b c', \"and\", '*'}",
            r#"comm in {a, "b c", "and", "*"}"#,
        ),
        (
            r#"comm == "tab\t quote\" back\\ bell\u{7}""#,
            r#"comm == "tab\t quote\" back\\ bell\u{7}""#,
        ),
        ("comm == ''", r#"comm == """#),
        ("comm == grün", r#"comm == "grün""#),
        ("icmp.type == 8", "icmp.type == echo-request"),
        ("icmp.type in {echo-reply, 8-9}", "icmp.type in {echo-reply, 8-9}"),
        ("src.mac == 02-00-00-00-00-A1", "src.mac == 02:00:00:00:00:a1"),
    ] {
        assert_eq!(filter(source).to_string(), expected, "{source}");
        assert_eq!(filter(expected), filter(source), "{source}");
    }
}

#[test]
fn the_table_is_in_the_order_of_the_enum_and_its_examples_hold_water() {
    let mut names = Vec::new();
    for (index, info) in fields().iter().enumerate() {
        assert_eq!(info.field as usize, index, "{}", info.name);
        assert!(
            info.doc.ends_with('.') && !info.scopes.is_empty(),
            "{}",
            info.name
        );
        for name in info.names() {
            assert_eq!(Field::by_name(name), Some(info.field), "{name} names two fields");
            names.push(name);
        }
        let example = filter(info.example);
        assert!(example.fields_used().contains(&info.field), "{}", info.example);
        assert_eq!(filter(&example.to_string()), example);
        let source_type = match info.field.source() {
            Source::Itself => info.field_type,
            Source::FlagBit(_) => FieldType::Bool,
            Source::Either(one, other) => {
                assert_eq!(one.info().field_type, other.info().field_type);
                one.info().field_type
            }
        };
        assert_eq!(info.field_type, source_type, "{}", info.name);
    }
    assert!(names.len() > fields().len());
}

#[test]
fn fields_used_and_scope() {
    let mixed = filter("bytes > 1 and host == 10.0.0.1 or rtt > 1 and bytes < 2");
    assert_eq!(mixed.fields_used(), [Field::Host, Field::TcpRttUs, Field::Bytes]);
    assert!(mixed.check_scope(Scope::Flow).is_ok());
    assert!(
        filter("src in 10.0.0.0/8 and dport == 443 and not flags.syn")
            .check_scope(Scope::Packet)
            .is_ok()
    );
    assert!(filter("len > 1").check_scope(Scope::Packet).is_ok());
}

#[test]
fn serde_keeps_a_filter_as_its_text() {
    let text = String::from(filter("tcp and rtt>1s"));
    assert_eq!(text, "proto == tcp and tcp.rtt_us > 1000000");
    assert_eq!(Filter::try_from(text), Ok(filter("tcp and rtt > 1s")));
}
