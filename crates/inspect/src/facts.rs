//! What filters can ask of a flow record and of a packet.

use policy::filter::{Facts, Field, FieldType, Value, fields};
use wire::parse::note;
use wire::{Packet, ip_proto, link, tunnel};

use crate::geo::{Country, Place};
use crate::json::TLS_VERSIONS;
use crate::layer7::Insight;
use crate::record::{FlowRecord, TcpHealth};

const MILLISECOND_NS: u64 = 1_000_000;

/// A flow. Rates are means over the flow's own duration, since one record knows no other: who has
/// watched it longer answers `rate_bps` and `rate_pps` itself and asks the record for the rest.
impl Facts for FlowRecord {
    fn get(&self, field: Field) -> Value<'_> {
        let ports = |port: u16| self.has_ports().then_some(port);
        let tcp = |value: fn(&TcpHealth) -> u64| self.tcp.as_ref().map(value);
        let owner = self.owner.as_ref();
        match field {
            Field::Src => self.src.into(),
            Field::Dst => self.dst.into(),
            Field::Sport => ports(self.src_port).into(),
            Field::Dport => ports(self.dst_port).into(),
            Field::Proto => self.protocol.into(),
            Field::Family => self.family().into(),
            Field::Iface => self.interface.as_deref().into(),
            Field::Vlan => self.vlans[0].into(),
            Field::Tunnel => self.tunnel.map(|tunnel| tunnel.kind).into(),
            Field::Vni => self.tunnel.map(|tunnel| tunnel.id).into(),
            Field::Ttl => self.ttl_min().into(),
            Field::Frag => self.has_fragments.into(),
            Field::Flags => tcp(|tcp| tcp.flags().into()).into(),
            Field::TcpState => self.tcp.map(|tcp| tcp.state.name()).into(),
            Field::TcpRttUs => self.tcp.and_then(|tcp| tcp.rtt_us()).into(),
            Field::TcpRetransmits => tcp(TcpHealth::retransmits).into(),
            Field::TcpOutOfOrder => tcp(TcpHealth::out_of_order).into(),
            Field::TcpZeroWindow => tcp(TcpHealth::zero_windows).into(),
            Field::TcpResets => tcp(TcpHealth::resets).into(),
            Field::TcpWindow => self.tcp.and_then(|tcp| tcp.window_unscaled_min()).into(),
            Field::IcmpType => self.icmp.map(|icmp| icmp.request.0).into(),
            Field::IcmpCode => self.icmp.map(|icmp| icmp.request.1).into(),
            Field::Packets => self.packets().into(),
            Field::PacketsToServer => self.to_server.packets.into(),
            Field::PacketsToClient => self.to_client.packets.into(),
            Field::Bytes => self.bytes().into(),
            Field::BytesToServer => self.to_server.bytes.into(),
            Field::BytesToClient => self.to_client.bytes.into(),
            Field::RateBps => self.per_second(self.bytes().saturating_mul(8)).into(),
            Field::RatePps => self.per_second(self.packets()).into(),
            Field::Duration => (self.duration_ns() / MILLISECOND_NS).into(),
            Field::Age => (self.age_ns() / MILLISECOND_NS).into(),
            Field::Incomplete => self.is_partial.into(),
            Field::Pid => owner.map(|owner| owner.pid).into(),
            Field::Comm => owner.map(|owner| owner.comm.as_str()).into(),
            Field::Container => owner.and_then(|owner| owner.container.as_deref()).into(),
            Field::Cgroup => owner.and_then(|owner| owner.cgroup.as_deref()).into(),
            Field::SrcCountry => country(&self.src_place),
            Field::DstCountry => country(&self.dst_place),
            _ => match self.insight.as_deref() {
                Some(insight) => of_insight(insight, field),
                None => Value::Missing,
            },
        }
    }
}

fn country(place: &Place) -> Value<'_> {
    place.country.as_ref().map(Country::as_str).into()
}

/// What payloads said.
fn of_insight(insight: &Insight, field: Field) -> Value<'_> {
    let tls = insight.tls.as_deref();
    let http = insight.http.as_deref();
    let dns = insight.dns.as_deref();
    match field {
        Field::App => insight.app.into(),
        Field::Service => insight.service.into(),
        Field::TlsSni => text(tls.map(|tls| &tls.sni)),
        Field::TlsVersion => tls.and_then(|tls| number_of(TLS_VERSIONS, tls.version?)).into(),
        Field::TlsAlpn => text(tls.map(|tls| &tls.alpn)),
        Field::Ja4 => text(tls.map(|tls| &tls.ja4)),
        Field::HttpHost => text(http.map(|http| &http.host)),
        Field::HttpMethod => text(http.map(|http| &http.method)),
        Field::HttpPath => text(http.map(|http| &http.path)),
        Field::HttpUserAgent => text(http.map(|http| &http.user_agent)),
        Field::HttpStatus => http.and_then(|http| http.status).into(),
        Field::DnsQuery => text(dns.map(|dns| &dns.query)),
        Field::DnsRcode => dns.and_then(|dns| rcode(dns.rcode.as_deref()?)).into(),
        Field::SshClient => text(insight.ssh.as_deref().map(|ssh| &ssh.client)),
        _ => Value::Missing,
    }
}

fn text(text: Option<&Option<Box<str>>>) -> Value<'_> {
    text.and_then(|text| text.as_deref()).into()
}

fn number_of(names: &[(&str, u64)], name: &str) -> Option<u64> {
    let mut names = names.iter();
    names
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, number)| *number)
}

/// The number of a response code by its name, which the filter's table has, or as a number.
fn rcode(name: &str) -> Option<u64> {
    let info = fields().iter().find(|info| info.field == Field::DnsRcode)?;
    let named = match info.field_type {
        FieldType::Number { names, .. } => number_of(names, name),
        _ => None,
    };
    named.or_else(|| name.parse().ok())
}

/// One packet, as `weir capture` looks at it.
#[derive(Clone, Copy, Debug)]
pub struct PacketFacts<'a> {
    pub packet: &'a Packet,
    /// The captured bytes, for what [`Packet`] does not hold.
    pub data: &'a [u8],
    /// Length of the frame on the wire in bytes.
    pub frame_len: u32,
    /// Whether `data` begins with an Ethernet header.
    pub is_ethernet: bool,
    pub interface: Option<&'a str>,
    /// `in` or `out`, where that is known.
    pub direction: Option<&'static str>,
}

impl PacketFacts<'_> {
    /// A link-layer address that begins at `at`.
    fn mac(&self, at: usize) -> Option<[u8; 6]> {
        if !self.is_ethernet {
            return None;
        }
        self.data.get(at..at + 6)?.try_into().ok()
    }

    fn port(&self, port: u16) -> Option<u16> {
        let has_ports = matches!(
            self.packet.protocol,
            ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP | ip_proto::DCCP | ip_proto::UDP_LITE
        );
        (has_ports && self.packet.notes & note::FRAGMENT_LATER == 0).then_some(port)
    }

    fn tcp<T>(&self, value: T) -> Option<T> {
        let unreadable = note::FRAGMENT_LATER | note::L4_SHORT;
        (self.packet.protocol == ip_proto::TCP && self.packet.notes & unreadable == 0).then_some(value)
    }

    fn icmp(&self, value: u8) -> Option<u8> {
        let is_icmp = matches!(self.packet.protocol, ip_proto::ICMP | ip_proto::ICMPV6);
        let unreadable = note::FRAGMENT_LATER | note::L4_SHORT;
        (is_icmp && self.packet.notes & unreadable == 0).then_some(value)
    }
}

impl Facts for PacketFacts<'_> {
    fn get(&self, field: Field) -> Value<'_> {
        let packet = self.packet;
        match field {
            Field::Src => packet.src.to_ip(packet.family).into(),
            Field::Dst => packet.dst.to_ip(packet.family).into(),
            Field::Sport => self.port(packet.src_port).into(),
            Field::Dport => self.port(packet.dst_port).into(),
            Field::Proto => packet.protocol.into(),
            Field::Family => packet.family.into(),
            Field::Iface => self.interface.into(),
            Field::Direction => self.direction.into(),
            Field::SrcMac => self.mac(6).into(),
            Field::DstMac => self.mac(0).into(),
            Field::Vlan => link::vlan_id(packet.vlan).into(),
            Field::Tunnel => tunnel::kind_name(packet.tunnel).into(),
            Field::Vni => (packet.tunnel != tunnel::kind::NONE)
                .then_some(packet.tunnel_id)
                .into(),
            Field::Len => self.frame_len.into(),
            Field::Ttl => packet.ttl.into(),
            Field::Frag => (packet.notes & (note::FRAGMENT_FIRST | note::FRAGMENT_LATER) != 0).into(),
            Field::Flags => self.tcp(packet.tcp_flags).into(),
            Field::TcpWindow => self.tcp(packet.tcp_window).into(),
            Field::IcmpType => self.icmp(packet.icmp_type).into(),
            Field::IcmpCode => self.icmp(packet.icmp_code).into(),
            _ => Value::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use policy::filter::Filter;
    use wire::flow::{Direction, FlowRow, Size, StampedAt};
    use wire::tcp::flag;
    use wire::{Addr, FlowKey};

    use super::*;
    use crate::record::Context;

    const SECOND_NS: u64 = 1_000_000_000;

    fn packet() -> Packet {
        Packet {
            src: Addr::v4([10, 0, 0, 9]),
            dst: Addr::v4([192, 0, 2, 1]),
            src_port: 40_000,
            dst_port: 443,
            family: 4,
            protocol: ip_proto::TCP,
            ttl: 64,
            tcp_flags: flag::SYN,
            tcp_window: 512,
            vlan: link::VLAN_PRESENT | 7,
            ..Packet::default()
        }
    }

    /// A SYN, and a reset two seconds later.
    fn flow() -> FlowRecord {
        let syn = packet();
        let reset = Packet {
            src: syn.dst,
            dst: syn.src,
            src_port: 443,
            dst_port: 40_000,
            tcp_flags: flag::RST | flag::ACK,
            ttl: 50,
            ..syn
        };
        let (key, direction) = FlowKey::of(&syn, 1);
        let mut row = FlowRow::begin(direction, SECOND_NS, 0);
        row.account(direction, &syn, Size::one(78), &StampedAt(SECOND_NS));
        let back: Direction = direction.opposite();
        row.account(back, &reset, Size::one(60), &StampedAt(3 * SECOND_NS));
        let context = Context {
            interface: Some("eth0"),
            epoch_offset_ns: 1000,
            now_ns: Some(5 * SECOND_NS + 1000),
            ..Context::default()
        };
        FlowRecord::from_row(&key, &row, &context)
    }

    #[track_caller]
    fn check(facts: &impl Facts, filters: &[(&str, bool)]) {
        for (text, expected) in filters {
            let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{}", error.render(text)));
            assert_eq!(filter.eval(facts), *expected, "{text}");
        }
    }

    #[test]
    fn flows() {
        check(
            &flow(),
            &[
                ("src == 10.0.0.9 and dst in 192.0.2.0/24", true),
                ("sport == 40000 and dport == 443 and tcp and ip4", true),
                ("host == 192.0.2.1 and not port == 80", true),
                ("iface == eth0 and vlan == 7", true),
                ("tunnel", false),
                ("ttl == 50", true),
                ("flags == SRA", true),
                ("flags.syn and flags.rst and not flags.fin", true),
                ("tcp.state == closed and tcp.resets == 1", true),
                ("rtt", false),
                ("packets == 2 and packets_toserver == 1", true),
                ("bytes == 138 and bytes_toclient == 60", true),
                ("duration == 2s and rate_pps == 1 and age == 4s", true),
                ("rate_bps == 552", true),
                ("incomplete", false),
                ("pid or comm == nginx or icmp.type == 8", false),
            ],
        );
    }

    #[test]
    fn payloads_and_places() {
        let mut flow = flow();
        check(
            &flow,
            &[("app or service or country or tls.version or dns.rcode", false)],
        );
        let text = |text: &str| Some(text.into());
        flow.src_place.country = Country::new("de");
        flow.dst_place.country = Country::new("US");
        flow.insight = Some(Box::new(Insight {
            app: Some("tls"),
            service: Some("github"),
            tls: Some(Box::new(crate::layer7::insight::Tls {
                sni: text("api.github.com"),
                alpn: text("h2"),
                version: Some("TLS 1.3"),
                ja4: text("t13d1516h2_8daaf6152771_e5627efa2ab1"),
                ..Default::default()
            })),
            http: Some(Box::new(crate::layer7::insight::Http {
                host: text("api.github.com"),
                method: text("PUT"),
                path: text("/admin/x"),
                user_agent: text("curl/8"),
                status: Some(503),
                ..Default::default()
            })),
            dns: Some(Box::new(crate::layer7::insight::Dns {
                query: text("x.internal"),
                rcode: text("NXDOMAIN"),
                ..Default::default()
            })),
            ssh: Some(Box::new(crate::layer7::insight::Ssh {
                client: text("libssh_0.9"),
                ..Default::default()
            })),
            ..Insight::default()
        }));
        check(
            &flow,
            &[
                ("app == tls and service == github", true),
                ("tls.sni matches *.github.com and tls.alpn == h2", true),
                ("tls.version == tls1.3 and not tls.version < 1.3", true),
                ("ja4 startswith t13d", true),
                ("http.host endswith .github.com and http.method == PUT", true),
                (
                    "http.path startswith /admin and http.user_agent contains curl",
                    true,
                ),
                ("http.status in 500-599", true),
                ("dns.query endswith .internal and dns.rcode == nxdomain", true),
                ("dns.rcode == 0", false),
                ("ssh.client contains libssh", true),
                ("src.country == DE and dst.country == us and country == US", true),
                ("country == FR", false),
            ],
        );
    }

    #[test]
    fn packets() {
        let packet = packet();
        let data = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let facts = PacketFacts {
            packet: &packet,
            data: &data,
            frame_len: 78,
            is_ethernet: true,
            interface: Some("eth0"),
            direction: Some("in"),
        };
        check(
            &facts,
            &[
                ("src == 10.0.0.9 and dport == 443 and flags == S", true),
                (
                    "dst.mac == 02:00:00:00:00:01 and src.mac == 02:00:00:00:00:02",
                    true,
                ),
                ("len == 78 and direction == in and vlan == 7", true),
                ("tcp.window < 1000 and ttl == 64 and not frag", true),
                ("icmp.type == 0 or vni == 0", false),
            ],
        );
        let later = Packet {
            notes: note::FRAGMENT_LATER,
            ..packet
        };
        let facts = PacketFacts {
            packet: &later,
            is_ethernet: false,
            direction: None,
            ..facts
        };
        check(
            &facts,
            &[
                ("frag", true),
                ("port == 443 or flags or src.mac or direction == in", false),
            ],
        );
    }
}
