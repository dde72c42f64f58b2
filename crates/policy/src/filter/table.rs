//! The table of fields, and the names numbers and texts go by. Rows are in the order of [`Field`].

use super::fields::{Field, FieldInfo, FieldType, NamedNumber, Scope, Unit};

const PACKET: &[Scope] = &[Scope::Packet];
const FLOW: &[Scope] = &[Scope::Flow];
const BOTH: &[Scope] = &[Scope::Packet, Scope::Flow];

/// IANA protocol numbers that are met in practice, by their IANA keywords in lower case.
pub(super) const PROTOCOLS: &[NamedNumber] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6-in-ip", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("icmp6", 58),
    ("ipv6-icmp", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

pub(super) const FAMILIES: &[NamedNumber] = &[("ipv4", 4), ("ip4", 4), ("ipv6", 6), ("ip6", 6)];

/// ICMP types (RFC 792), and those of ICMPv6 (RFC 4443, 4861), which do not collide but for `echo`.
const ICMP_TYPES: &[NamedNumber] = &[
    ("echo-reply", 0),
    ("unreachable", 3),
    ("redirect", 5),
    ("echo-request", 8),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp", 13),
    ("timestamp-reply", 14),
    ("echo-request6", 128),
    ("echo-reply6", 129),
    ("router-solicitation", 133),
    ("router-advertisement", 134),
    ("neighbor-solicitation", 135),
    ("neighbor-advertisement", 136),
];

/// TLS versions by the number on the wire (RFC 8446, 4.2.1), so that `tls.version < 1.2` holds for older.
const TLS_VERSIONS: &[NamedNumber] = &[
    ("1.0", 0x0301),
    ("1.1", 0x0302),
    ("1.2", 0x0303),
    ("1.3", 0x0304),
    ("ssl3", 0x0300),
    ("tls1.0", 0x0301),
    ("tls1.1", 0x0302),
    ("tls1.2", 0x0303),
    ("tls1.3", 0x0304),
];

/// DNS response codes (RFC 6895, 2.3).
const DNS_RCODES: &[NamedNumber] = &[
    ("noerror", 0),
    ("formerr", 1),
    ("servfail", 2),
    ("nxdomain", 3),
    ("notimp", 4),
    ("refused", 5),
    ("yxdomain", 6),
    ("yxrrset", 7),
    ("nxrrset", 8),
    ("notauth", 9),
    ("notzone", 10),
];

/// As Suricata's EVE writes them.
const TCP_STATES: &[&str] = &[
    "none",
    "syn_sent",
    "syn_recv",
    "established",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "last_ack",
    "close_wait",
    "closing",
    "listen",
    "closed",
];

pub(super) const APPS: &[&str] = &[
    "tls",
    "http",
    "http2",
    "dns",
    "quic",
    "ssh",
    "smtp",
    "imap",
    "pop3",
    "ftp",
    "smb",
    "rdp",
    "ntp",
    "dhcp",
    "mdns",
    "snmp",
    "sip",
    "mqtt",
    "ldap",
    "postgresql",
    "mysql",
    "redis",
    "mongodb",
];

const TUNNELS: &[&str] = &["vxlan", "geneve", "gre", "ipip", "6in4"];
const METHODS: &[&str] = &[
    "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT",
];
const VERDICTS: &[&str] = &["pass", "drop", "reject", "ban", "limit", "shape"];

const fn row(
    field: Field,
    name: &'static str,
    field_type: FieldType,
    scopes: &'static [Scope],
    doc: &'static str,
    example: &'static str,
) -> FieldInfo {
    FieldInfo {
        field,
        name,
        aliases: &[],
        field_type,
        scopes,
        doc,
        example,
    }
}

const fn alias(row: FieldInfo, aliases: &'static [&'static str]) -> FieldInfo {
    FieldInfo { aliases, ..row }
}

const fn number(max: u64) -> FieldType {
    FieldType::Number {
        max,
        unit: Unit::None,
        names: &[],
    }
}

const fn named(max: u64, names: &'static [NamedNumber]) -> FieldType {
    FieldType::Number {
        max,
        unit: Unit::None,
        names,
    }
}

const fn amount(unit: Unit) -> FieldType {
    FieldType::Number {
        max: u64::MAX,
        unit,
        names: &[],
    }
}

/// Text in which case matters.
const fn exact(known: &'static [&'static str]) -> FieldType {
    FieldType::Text {
        ignore_case: false,
        known,
        only_known: false,
    }
}

/// Text in which case does not matter: host names, protocol names, country codes.
const fn folded(known: &'static [&'static str]) -> FieldType {
    FieldType::Text {
        ignore_case: true,
        known,
        only_known: false,
    }
}

const fn one_of(known: &'static [&'static str]) -> FieldType {
    FieldType::Text {
        ignore_case: true,
        known,
        only_known: true,
    }
}

use FieldType::{Address, Bool, Mac, TcpFlags};

#[rustfmt::skip]
pub(super) const FIELDS: &[FieldInfo] = &[
    // Addresses and ports
    alias(row(Field::Src, "src", Address, BOTH, "Source address; of a flow, the side that opened it.", "src in 10.0.0.0/8"), &["ip.src", "saddr", "src_ip"]),
    alias(row(Field::Dst, "dst", Address, BOTH, "Destination address; of a flow, the side that was asked.", "dst == 2001:db8::1"), &["ip.dst", "daddr", "dest_ip"]),
    alias(row(Field::Host, "host", Address, BOTH, "Either address; `!=` means that neither is.", "host == 192.0.2.7"), &["net", "addr", "ip.addr"]),
    alias(row(Field::Sport, "sport", number(65535), BOTH, "Source port of TCP, UDP or SCTP.", "sport >= 1024"), &["src.port", "src_port"]),
    alias(row(Field::Dport, "dport", number(65535), BOTH, "Destination port of TCP, UDP or SCTP.", "dport in {80, 443, 8000-8100}"), &["dst.port", "dest_port"]),
    row(Field::Port, "port", number(65535), BOTH, "Either port; `!=` means that neither is.", "port == 53"),
    alias(row(Field::Proto, "proto", named(255, PROTOCOLS), BOTH, "Protocol above IP, by IANA name or number.", "proto == udp"), &["ip.proto"]),
    row(Field::Family, "family", named(6, FAMILIES), BOTH, "Address family: 4 or 6.", "family == 6"),
    alias(row(Field::Iface, "iface", exact(&[]), BOTH, "Name of the interface the packet was seen on.", "iface == eth0"), &["interface", "in_iface"]),
    row(Field::Direction, "direction", one_of(&["in", "out"]), BOTH, "Whether it came in or went out; of a flow, its first packet.", "direction == in"),
    alias(row(Field::SrcMac, "src.mac", Mac, PACKET, "Link-layer source address.", "src.mac == 02:00:00:00:00:01"), &["eth.src"]),
    alias(row(Field::DstMac, "dst.mac", Mac, PACKET, "Link-layer destination address.", "dst.mac != ff:ff:ff:ff:ff:ff"), &["eth.dst"]),
    alias(row(Field::Vlan, "vlan", number(4095), BOTH, "Outermost VLAN identifier (802.1Q); missing without a tag.", "vlan in 100-199"), &["vlan.id"]),
    row(Field::Tunnel, "tunnel", folded(TUNNELS), BOTH, "Kind of tunnel the packet came in.", "tunnel == vxlan"),
    row(Field::Vni, "vni", number(0x00ff_ffff), BOTH, "Tunnel identifier: VNI of VXLAN and GENEVE.", "vni == 42"),
    // Headers
    alias(row(Field::Len, "len", amount(Unit::Bytes), PACKET, "Length of the frame with its link header.", "len > 1500"), &["length", "frame.len"]),
    alias(row(Field::Ttl, "ttl", number(255), BOTH, "TTL or hop limit; of a flow, the smallest seen.", "ttl < 5"), &["ip.ttl", "hop_limit"]),
    row(Field::Frag, "frag", Bool, BOTH, "A fragment of an IP packet; of a flow, any of its packets.", "frag and proto == udp"),
    alias(row(Field::Flags, "flags", TcpFlags, BOTH, "TCP flags, exactly these; of a flow, all that were seen in either direction.", "flags == SA"), &["tcp.flags"]),
    alias(row(Field::FlagsFin, "flags.fin", Bool, BOTH, "TCP FIN: a side has sent its last byte.", "flags.fin"), &["tcp.flags.fin"]),
    alias(row(Field::FlagsSyn, "flags.syn", Bool, BOTH, "TCP SYN: a side opens the connection.", "flags.syn and not flags.ack"), &["tcp.flags.syn"]),
    alias(row(Field::FlagsRst, "flags.rst", Bool, BOTH, "TCP RST: the connection is refused or torn down.", "flags.rst"), &["tcp.flags.rst"]),
    alias(row(Field::FlagsPsh, "flags.psh", Bool, BOTH, "TCP PSH: the receiver should not wait for more.", "flags.psh"), &["tcp.flags.psh"]),
    alias(row(Field::FlagsAck, "flags.ack", Bool, BOTH, "TCP ACK: the acknowledgement number counts.", "not flags.ack"), &["tcp.flags.ack"]),
    alias(row(Field::FlagsUrg, "flags.urg", Bool, BOTH, "TCP URG: the urgent pointer counts.", "flags.urg"), &["tcp.flags.urg"]),
    alias(row(Field::FlagsEce, "flags.ece", Bool, BOTH, "TCP ECE: congestion was seen on the way (RFC 3168).", "flags.ece"), &["tcp.flags.ece"]),
    alias(row(Field::FlagsCwr, "flags.cwr", Bool, BOTH, "TCP CWR: the sender slowed down (RFC 3168).", "flags.cwr"), &["tcp.flags.cwr"]),
    // TCP health
    row(Field::TcpState, "tcp.state", one_of(TCP_STATES), FLOW, "State of the connection.", "tcp.state == established"),
    alias(row(Field::TcpRttUs, "tcp.rtt_us", amount(Unit::Microseconds), FLOW, "Round-trip time; a bare number is microseconds.", "rtt > 50ms"), &["rtt", "tcp.rtt"]),
    alias(row(Field::TcpRetransmits, "tcp.retransmits", amount(Unit::Count), FLOW, "Segments sent again.", "tcp.retransmits > 10"), &["retransmits"]),
    row(Field::TcpOutOfOrder, "tcp.out_of_order", amount(Unit::Count), FLOW, "Segments that arrived after later ones.", "tcp.out_of_order"),
    row(Field::TcpZeroWindow, "tcp.zero_window", amount(Unit::Count), FLOW, "Times a side advertised a full receive buffer.", "tcp.zero_window"),
    row(Field::TcpResets, "tcp.resets", amount(Unit::Count), FLOW, "Segments with RST.", "tcp.resets and dport == 22"),
    row(Field::TcpWindow, "tcp.window", amount(Unit::Bytes), BOTH, "Receive window as sent, not scaled; of a flow, the smallest seen.", "tcp.window < 1000"),
    row(Field::IcmpType, "icmp.type", named(255, ICMP_TYPES), BOTH, "Type of ICMP or ICMPv6, by name or number.", "icmp.type == unreachable"),
    row(Field::IcmpCode, "icmp.code", number(255), BOTH, "Code of ICMP or ICMPv6.", "icmp.type == 3 and icmp.code == 1"),
    // Volume and time
    alias(row(Field::Packets, "packets", amount(Unit::Count), FLOW, "Packets in both directions.", "packets > 10k"), &["pkts"]),
    alias(row(Field::PacketsToServer, "packets_toserver", amount(Unit::Count), FLOW, "Packets from the opener.", "packets_toserver > 100"), &["pkts_toserver"]),
    alias(row(Field::PacketsToClient, "packets_toclient", amount(Unit::Count), FLOW, "Packets to the opener.", "packets_toclient == 0"), &["pkts_toclient"]),
    row(Field::Bytes, "bytes", amount(Unit::Bytes), FLOW, "Frame bytes in both directions.", "bytes > 1.5GB"),
    row(Field::BytesToServer, "bytes_toserver", amount(Unit::Bytes), FLOW, "Frame bytes from the opener.", "bytes_toserver > 10MiB"),
    row(Field::BytesToClient, "bytes_toclient", amount(Unit::Bytes), FLOW, "Frame bytes to the opener.", "bytes_toclient > 10MiB"),
    alias(row(Field::RateBps, "rate_bps", amount(Unit::BitsPerSecond), FLOW, "Present rate in bits per second.", "rate_bps > 100M"), &["rate"]),
    row(Field::RatePps, "rate_pps", amount(Unit::PacketsPerSecond), FLOW, "Present rate in packets per second.", "rate_pps > 10k"),
    row(Field::Duration, "duration", amount(Unit::Milliseconds), FLOW, "Time from the first packet to the last; a bare number is milliseconds.", "duration > 5m"),
    row(Field::Age, "age", amount(Unit::Milliseconds), FLOW, "Time since the first packet; a bare number is milliseconds.", "age < 10s"),
    row(Field::Incomplete, "incomplete", Bool, FLOW, "Something of the flow was not seen: its start, or packets that were lost.", "not incomplete"),
    row(Field::Verdict, "verdict", folded(VERDICTS), FLOW, "What the policy in force does with the flow.", "verdict == drop"),
    // Owner
    row(Field::Pid, "pid", number(u32::MAX as u64), FLOW, "Process that owns the local socket.", "pid == 4711"),
    alias(row(Field::Comm, "comm", exact(&[]), FLOW, "Name of the process that owns the local socket.", "comm == nginx"), &["process"]),
    row(Field::Container, "container", exact(&[]), FLOW, "Container of that process.", "container startswith web-"),
    row(Field::Cgroup, "cgroup", exact(&[]), FLOW, "Control group of that process.", "cgroup contains system.slice"),
    // Application
    alias(row(Field::App, "app", folded(APPS), FLOW, "Application protocol, from the payload.", "app == tls"), &["app_proto"]),
    row(Field::Service, "service", folded(&[]), FLOW, "Whose service it is, as the server's name proves.", "service == github"),
    alias(row(Field::TlsSni, "tls.sni", folded(&[]), FLOW, "Server name the TLS client asked for.", "tls.sni matches *.example.com"), &["sni"]),
    row(Field::TlsVersion, "tls.version", named(65535, TLS_VERSIONS), FLOW, "TLS version agreed on.", "tls.version < 1.2"),
    alias(row(Field::TlsAlpn, "tls.alpn", exact(&["h2", "http/1.1", "h3"]), FLOW, "Application protocol agreed in TLS.", "tls.alpn == h2"), &["alpn"]),
    alias(row(Field::Ja4, "ja4", exact(&[]), FLOW, "JA4 fingerprint of the TLS or QUIC client.", "ja4 startswith t13d"), &["tls.ja4"]),
    row(Field::HttpHost, "http.host", folded(&[]), FLOW, "Host of the HTTP request.", "http.host endswith .example.com"),
    row(Field::HttpMethod, "http.method", exact(METHODS), FLOW, "Method of the HTTP request.", "http.method in {PUT, DELETE}"),
    alias(row(Field::HttpPath, "http.path", exact(&[]), FLOW, "Path of the HTTP request.", "http.path startswith /admin"), &["http.url"]),
    row(Field::HttpUserAgent, "http.user_agent", folded(&[]), FLOW, "User agent of the HTTP request.", "http.user_agent contains curl"),
    row(Field::HttpStatus, "http.status", number(999), FLOW, "Status of the HTTP response.", "http.status in 500-599"),
    row(Field::DnsQuery, "dns.query", folded(&[]), FLOW, "Name that was asked for.", "dns.query endswith .internal"),
    row(Field::DnsRcode, "dns.rcode", named(4095, DNS_RCODES), FLOW, "Response code of the DNS answer, by name or number.", "dns.rcode == nxdomain"),
    row(Field::SshClient, "ssh.client", folded(&[]), FLOW, "Software the SSH client names.", "ssh.client contains libssh"),
    // Place
    row(Field::Country, "country", folded(&[]), BOTH, "Country of either address, as two letters; `!=` means that neither is.", "country == DE"),
    row(Field::SrcCountry, "src.country", folded(&[]), BOTH, "Country of the source address, as two letters (ISO 3166-1).", "src.country not in {DE, FR}"),
    row(Field::DstCountry, "dst.country", folded(&[]), BOTH, "Country of the destination address, as two letters (ISO 3166-1).", "dst.country == US"),
];
