//! The same facts from etherparse.

use std::net::IpAddr;

use etherparse::{
    EtherType, Icmpv4Slice, Icmpv6Slice, Ipv6ExtensionSlice, LaxIpv4Slice, LaxIpv6Slice, LaxLinkExtSlice,
    LaxNetSlice, LaxSlicedPacket, LinuxSllProtocolType, LinuxSllSlice, TcpHeaderSlice, TcpOptionElement,
    UdpHeaderSlice,
};
use wire::{Link, ip_proto};

use crate::facts::{Facts, Tcp};

/// How far etherparse came.
#[derive(Debug)]
pub(crate) enum Theirs {
    /// To an IP packet.
    Ip(Box<Facts>),
    /// To something that is not IP, or cannot be read; the last EtherType it met, if any.
    NoIp { last_ethertype: Option<u16> },
    /// It has no way to start from this link layer.
    NoStart,
}

/// Walks a frame from its first byte.
pub(crate) fn walk(link: Link, frame: &[u8]) -> Theirs {
    const NOTHING: Theirs = Theirs::NoIp { last_ethertype: None };
    match link {
        Link::Ethernet => match LaxSlicedPacket::from_ethernet(frame) {
            Ok(sliced) => {
                let ethertype = u16::from_be_bytes([frame[12], frame[13]]);
                facts(&sliced, frame, Some(ethertype))
            }
            Err(_) => NOTHING,
        },
        Link::Raw => from_ip(frame, 0),
        Link::Ipv4 => from_ethertype(EtherType::IPV4, frame, 0),
        Link::Ipv6 => from_ethertype(EtherType::IPV6, frame, 0),
        Link::Sll => match LinuxSllSlice::from_slice(frame) {
            Ok(sll) => match sll.protocol_type() {
                LinuxSllProtocolType::EtherType(ethertype) => from_ethertype(ethertype, frame, 16),
                _ => NOTHING,
            },
            Err(_) if frame.len() < 16 => NOTHING,
            // A kind of device whose protocol field it does not read.
            Err(_) => Theirs::NoStart,
        },
        _ => Theirs::NoStart,
    }
}

/// Walks the IP packet that begins at `at`, as what follows a link layer that etherparse lacks.
pub(crate) fn from_ip(frame: &[u8], at: usize) -> Theirs {
    match LaxSlicedPacket::from_ip(&frame[at.min(frame.len())..]) {
        Ok(sliced) => facts(&sliced, frame, None),
        Err(_) => Theirs::NoIp { last_ethertype: None },
    }
}

fn from_ethertype(ethertype: EtherType, frame: &[u8], at: usize) -> Theirs {
    let sliced = LaxSlicedPacket::from_ether_type(ethertype, &frame[at..]);
    facts(&sliced, frame, Some(ethertype.0))
}

fn facts(sliced: &LaxSlicedPacket<'_>, frame: &[u8], first_ethertype: Option<u16>) -> Theirs {
    let mut last_ethertype = first_ethertype;
    let mut tags = Vec::new();
    for extension in &sliced.link_exts {
        if let LaxLinkExtSlice::Vlan(tag) = extension {
            last_ethertype = Some(tag.ether_type().0);
            tags.push(tag.vlan_identifier().value());
        }
    }
    let found = match &sliced.net {
        Some(LaxNetSlice::Ipv4(ip)) => ip4(ip, frame),
        Some(LaxNetSlice::Ipv6(ip)) => ip6(ip, frame),
        Some(LaxNetSlice::Arp(_)) | None => return Theirs::NoIp { last_ethertype },
    };
    let inner = if tags.len() > 1 {
        tags.last().copied()
    } else {
        None
    };
    Theirs::Ip(Box::new(Facts {
        vlans: [tags.first().copied(), inner],
        ..found
    }))
}

fn ip4(ip: &LaxIpv4Slice<'_>, frame: &[u8]) -> Facts {
    let (header, payload) = (ip.header(), ip.payload());
    let l3_at = offset(frame, header.slice());
    let end = l3_at + usize::from(header.total_len());
    let states_length = usize::from(header.total_len()) >= header.slice().len();
    let network = Facts {
        l3_at,
        l3_end: (states_length && end <= frame.len()).then_some(end),
        src: IpAddr::V4(header.source_addr()),
        dst: IpAddr::V4(header.destination_addr()),
        ttl: header.ttl(),
        tos: header.slice()[1],
        vlans: [None; 2],
        fragment_offset: header.fragments_offset().value() << 3,
        is_fragment: header.is_fragmenting_payload(),
        protocol: payload.ip_number.0,
        l4_at: offset(frame, payload.payload),
        ports: None,
        tcp: None,
        icmp: None,
        payload_at: None,
    };
    transport(network, payload.payload)
}

fn ip6(ip: &LaxIpv6Slice<'_>, frame: &[u8]) -> Facts {
    let (header, payload) = (ip.header(), ip.payload());
    let l3_at = offset(frame, header.slice());
    let end = l3_at + 40 + usize::from(header.payload_length());
    let mut fragment = (0, false);
    for extension in ip.extensions().clone() {
        if let Ipv6ExtensionSlice::Fragment(header) = extension {
            fragment = (
                header.fragment_offset().value() << 3,
                header.is_fragmenting_payload(),
            );
        }
    }
    let network = Facts {
        l3_at,
        l3_end: (header.payload_length() != 0 && end <= frame.len()).then_some(end),
        src: IpAddr::V6(header.source_addr()),
        dst: IpAddr::V6(header.destination_addr()),
        ttl: header.hop_limit(),
        tos: header.traffic_class(),
        vlans: [None; 2],
        fragment_offset: fragment.0,
        is_fragment: fragment.1,
        protocol: payload.ip_number.0,
        l4_at: offset(frame, payload.payload),
        ports: None,
        tcp: None,
        icmp: None,
        payload_at: None,
    };
    transport(network, payload.payload)
}

/// Adds the transport header. The sliced packet has none for a first fragment, so its header is
/// read here.
fn transport(mut facts: Facts, payload: &[u8]) -> Facts {
    if facts.fragment_offset != 0 {
        return facts;
    }
    match facts.protocol {
        ip_proto::TCP => {
            if let Ok(header) = TcpHeaderSlice::from_slice(payload) {
                facts.ports = Some((header.source_port(), header.destination_port()));
                facts.payload_at = Some(facts.l4_at + header.slice().len());
                facts.tcp = Some(tcp(&header));
            }
        }
        ip_proto::UDP => {
            if let Ok(header) = UdpHeaderSlice::from_slice(payload) {
                facts.ports = Some((header.source_port(), header.destination_port()));
                facts.payload_at = Some(facts.l4_at + 8);
            }
        }
        ip_proto::ICMP => {
            if let Ok(header) = Icmpv4Slice::from_slice(payload) {
                facts.icmp = Some((header.type_u8(), header.code_u8()));
                facts.payload_at = Some(facts.l4_at + 8);
            }
        }
        ip_proto::ICMPV6 => {
            if let Ok(header) = Icmpv6Slice::from_slice(payload) {
                facts.icmp = Some((header.type_u8(), header.code_u8()));
                facts.payload_at = Some(facts.l4_at + 8);
            }
        }
        _ => {}
    }
    facts
}

fn tcp(header: &TcpHeaderSlice<'_>) -> Tcp {
    let bits = [
        header.fin(),
        header.syn(),
        header.rst(),
        header.psh(),
        header.ack(),
        header.urg(),
        header.ece(),
        header.cwr(),
    ];
    let mut tcp = Tcp {
        seq: header.sequence_number(),
        ack: header.acknowledgment_number(),
        flags: bits
            .iter()
            .rev()
            .fold(0, |flags, &bit| flags << 1 | u8::from(bit)),
        window: header.window_size(),
        mss: None,
        window_scale: None,
    };
    if header.syn() {
        for option in header.options_iterator().flatten() {
            match option {
                TcpOptionElement::MaximumSegmentSize(mss) => tcp.mss = Some(mss),
                TcpOptionElement::WindowScale(shift) => tcp.window_scale = Some(shift),
                _ => {}
            }
        }
    }
    tcp
}

/// Where `part`, a slice of `frame`, begins in it.
fn offset(frame: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - frame.as_ptr() as usize
}
