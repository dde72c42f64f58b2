//! Link layers: from the first byte of a frame to the network header.

use crate::{Load, Reject, ethertype, ieee80211, ppp};

/// Tags, labels and encapsulations unwrapped in one frame (VLAN, MPLS, PPPoE, LLC together).
pub const TAGS_MAX: usize = 8;

/// Frame sizes up to this number are lengths, above it EtherTypes (IEEE 802.3, 3.2.6).
const LENGTH_MAX: u16 = 1500;

/// Length of an Ethernet header in bytes.
pub const ETHERNET_LEN: usize = 14;

/// The link layers Weir reads. Numbers are ours; [`Link::from_linktype`] knows the registry's.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Ethernet = 1,
    /// IPv4 or IPv6 by the version nibble.
    Raw = 2,
    Ipv4 = 3,
    Ipv6 = 4,
    /// BSD loopback: the address family in the capturing host's byte order.
    Null = 5,
    /// OpenBSD loopback: the address family in network order.
    Loop = 6,
    /// Linux "cooked" capture.
    Sll = 7,
    Sll2 = 8,
    Ppp = 9,
    /// PPPoE without Ethernet.
    PppEther = 10,
    CiscoHdlc = 11,
    Ieee80211 = 12,
    Radiotap = 13,
    /// AVS or Prism header before 802.11.
    Prism = 14,
    /// Per-packet information header.
    Ppi = 15,
    Fddi = 16,
    FrameRelay = 17,
    /// Netfilter log.
    Nflog = 18,
    /// 802.3br preamble before Ethernet.
    EthernetMpacket = 19,
}

impl Link {
    /// From a LINKTYPE_ number of a capture file (the tcpdump group's registry; 12 and 14 are the
    /// DLT_RAW that some writers leave in files).
    #[must_use]
    pub const fn from_linktype(linktype: u32) -> Option<Self> {
        Some(match linktype {
            0 => Self::Null,
            1 => Self::Ethernet,
            9 | 50 => Self::Ppp,
            10 => Self::Fddi,
            12 | 14 | 101 => Self::Raw,
            51 => Self::PppEther,
            104 => Self::CiscoHdlc,
            105 => Self::Ieee80211,
            107 => Self::FrameRelay,
            108 => Self::Loop,
            113 => Self::Sll,
            119 | 163 => Self::Prism,
            127 => Self::Radiotap,
            192 => Self::Ppi,
            228 => Self::Ipv4,
            229 => Self::Ipv6,
            239 => Self::Nflog,
            274 => Self::EthernetMpacket,
            276 => Self::Sll2,
            _ => return None,
        })
    }
}

/// VLAN tags as keys hold them: the 12-bit id with this bit set, or 0 where there is no tag.
pub const VLAN_PRESENT: u16 = 0x1000;

/// The VLAN id held in a key field.
#[must_use]
pub const fn vlan_id(field: u16) -> Option<u16> {
    if field & VLAN_PRESENT != 0 {
        Some(field & 0x0fff)
    } else {
        None
    }
}

/// Where the network header begins and what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    pub(crate) at: usize,
    pub(crate) ethertype: u16,
    pub(crate) vlan: u16,
    pub(crate) vlan_inner: u16,
}

impl Network {
    #[inline(always)]
    fn push_vlan(&mut self, tag_control: u16) {
        let field = tag_control & 0x0fff | VLAN_PRESENT;
        if self.vlan == 0 {
            self.vlan = field;
        } else {
            self.vlan_inner = field;
        }
    }
}

/// Finds the network header of a frame. `vlan` is a tag that the receiving device took out of it.
#[inline(always)]
pub(crate) fn find_network(
    load: &(impl Load + ?Sized),
    link: Link,
    at: usize,
    vlan: u16,
) -> Result<Network, Reject> {
    let (at, ethertype) = enter(load, link, at)?;
    let mut network = Network {
        at,
        ethertype,
        vlan,
        vlan_inner: 0,
    };
    // One round more than there may be tags: it returns what the last tag led to.
    for _ in 0..=TAGS_MAX {
        network.at = load.forget(network.at);
        network.ethertype = load.forget(network.ethertype as usize) as u16;
        match network.ethertype {
            ethertype::IPV4 | ethertype::IPV6 => return Ok(network),
            ethertype::VLAN | ethertype::QINQ | ethertype::QINQ_OLD => {
                let b = load.bytes::<4>(network.at).ok_or(Reject::LinkShort)?;
                network.push_vlan(u16::from_be_bytes([b[0], b[1]]));
                network.ethertype = u16::from_be_bytes([b[2], b[3]]);
                network.at += 4;
            }
            ethertype::MPLS | ethertype::MPLS_MULTICAST => pop_label(load, &mut network)?,
            ethertype::PPPOE_SESSION => {
                network.ethertype = ethertype::PPP;
                network.at += 6;
            }
            ethertype::PPP => (network.at, network.ethertype) = ppp::enter(load, network.at)?,
            length if length <= LENGTH_MAX => (network.at, network.ethertype) = llc(load, network.at)?,
            _ => return Ok(network),
        }
    }
    Err(Reject::TagsTooMany)
}

/// From the frame's first byte to an EtherType and what follows it.
#[inline(always)]
fn enter(load: &(impl Load + ?Sized), link: Link, at: usize) -> Result<(usize, u16), Reject> {
    match link {
        Link::Ethernet => ethernet(load, at),
        Link::Raw => raw(load, at),
        Link::Ipv4 => Ok((at, ethertype::IPV4)),
        Link::Ipv6 => Ok((at, ethertype::IPV6)),
        Link::Null | Link::Loop => loopback(load, at),
        Link::Sll => Ok((at + 16, load.be16(at + 14).ok_or(Reject::LinkShort)?)),
        Link::Sll2 => Ok((at + 20, load.be16(at).ok_or(Reject::LinkShort)?)),
        Link::Ppp => ppp::enter_hdlc(load, at),
        Link::PppEther => ppp::enter(load, at + 6),
        Link::CiscoHdlc => Ok((at + 4, load.be16(at + 2).ok_or(Reject::LinkShort)?)),
        Link::Ieee80211 => ieee80211::enter(load, at),
        Link::Radiotap => ieee80211::enter_radiotap(load, at),
        Link::Prism => ieee80211::enter_prism(load, at),
        Link::Ppi => ieee80211::enter_ppi(load, at),
        Link::Fddi => llc(load, at + 13),
        Link::FrameRelay => frame_relay(load, at),
        Link::Nflog => nflog(load, at),
        Link::EthernetMpacket => mpacket(load, at),
    }
}

#[inline(always)]
fn ethernet(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    match load.be16(at + 12) {
        Some(ethertype) => Ok((at + ETHERNET_LEN, ethertype)),
        None => Err(Reject::LinkShort),
    }
}

/// Seven bytes 0x55 and a delimiter that says whether a frame begins here (802.3br, 99.3): an
/// express frame or the first fragment of a preemptable one. Later fragments have a shorter
/// preamble, so that their fragment count, whose codes are the same, stands in the delimiter's place.
fn mpacket(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    match load.bytes::<8>(at).ok_or(Reject::LinkShort)? {
        [.., 0x55, 0xd5 | 0xe6 | 0x4c | 0x7f | 0xb3] => ethernet(load, at + 8),
        _ => Err(Reject::NotIp),
    }
}

#[inline(always)]
pub(crate) fn raw(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    match load.byte(at).ok_or(Reject::LinkShort)? >> 4 {
        4 => Ok((at, ethertype::IPV4)),
        6 => Ok((at, ethertype::IPV6)),
        _ => Err(Reject::NotIp),
    }
}

/// BSD writes its own AF_ numbers, in its own byte order: 2 is IPv4 everywhere, IPv6 is 10
/// (Linux), 24 (NetBSD, OpenBSD), 28 (FreeBSD) or 30 (Darwin).
fn loopback(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    let bytes = load.bytes::<4>(at).ok_or(Reject::LinkShort)?;
    let number = u32::from_le_bytes(bytes);
    let family = if number > 0xffff {
        number.swap_bytes()
    } else {
        number
    };
    match family {
        2 => Ok((at + 4, ethertype::IPV4)),
        10 | 24 | 28 | 30 => Ok((at + 4, ethertype::IPV6)),
        _ => Err(Reject::NotIp),
    }
}

/// 802.2 LLC, with SNAP or with the SAP of IP (0x06).
pub(crate) fn llc(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    let [dsap, ssap, control] = load.bytes::<3>(at).ok_or(Reject::LinkShort)?;
    match (dsap & 0xfe, ssap & 0xfe, control) {
        (0xaa, 0xaa, 3) => {
            let b = load.bytes::<5>(at + 3).ok_or(Reject::LinkShort)?;
            let protocol = u16::from_be_bytes([b[3], b[4]]);
            match [b[0], b[1], b[2]] {
                // Encapsulated Ethernet, and the bridge-tunnel encoding of it.
                [0, 0, 0] | [0, 0, 0xf8] if protocol > LENGTH_MAX => Ok((at + 8, protocol)),
                _ => Err(Reject::NotIp),
            }
        }
        (0x06, 0x06, 3) => Ok((at + 3, ethertype::IPV4)),
        _ => Err(Reject::NotIp),
    }
}

/// RFC 2427: two address bytes, control 3, an optional pad, NLPID.
fn frame_relay(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    let b = load.bytes::<4>(at).ok_or(Reject::LinkShort)?;
    match (b[2], b[3]) {
        (3, 0xcc) => Ok((at + 4, ethertype::IPV4)),
        (3, 0x8e) => Ok((at + 4, ethertype::IPV6)),
        (3, 0x80) => llc_snap_body(load, at + 4),
        (3, 0) if load.byte(at + 4) == Some(0x80) => llc_snap_body(load, at + 5),
        // Cisco's own encapsulation: an EtherType right after the address.
        (8, 0) => Ok((at + 4, ethertype::IPV4)),
        (0x86, 0xdd) => Ok((at + 4, ethertype::IPV6)),
        _ => Err(Reject::NotIp),
    }
}

fn llc_snap_body(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    let b = load.bytes::<5>(at).ok_or(Reject::LinkShort)?;
    if b[..3] == [0, 0, 0] {
        Ok((at + 5, u16::from_be_bytes([b[3], b[4]])))
    } else {
        Err(Reject::NotIp)
    }
}

/// Attributes read before the payload of a netfilter log record is given up.
const NFLOG_ATTRIBUTES_MAX: usize = 32;

fn nflog(load: &(impl Load + ?Sized), at: usize) -> Result<(usize, u16), Reject> {
    let [family, _version] = load.bytes::<2>(at).ok_or(Reject::LinkShort)?;
    let mut at = at + 4;
    for _ in 0..NFLOG_ATTRIBUTES_MAX {
        let b = load.bytes::<4>(at).ok_or(Reject::LinkShort)?;
        let len = u16::from_le_bytes([b[0], b[1]]) as usize;
        let kind = u16::from_le_bytes([b[2], b[3]]) & 0x7fff;
        const PAYLOAD: u16 = 9;
        if kind == PAYLOAD {
            return match family {
                2 => Ok((at + 4, ethertype::IPV4)),
                10 => Ok((at + 4, ethertype::IPV6)),
                _ => Err(Reject::NotIp),
            };
        }
        if len < 4 {
            return Err(Reject::LinkShort);
        }
        at += len.next_multiple_of(4);
    }
    Err(Reject::TagsTooMany)
}

/// One MPLS label (RFC 3032). The payload's type is not stated; the first nibble tells, and 0 is a
/// pseudowire control word before Ethernet (RFC 4385, RFC 4448).
#[inline(always)]
fn pop_label(load: &(impl Load + ?Sized), network: &mut Network) -> Result<(), Reject> {
    let label = load.bytes::<4>(network.at).ok_or(Reject::LinkShort)?;
    network.at += 4;
    let bottom_of_stack = label[2] & 1 != 0;
    if !bottom_of_stack {
        return Ok(());
    }
    let nibble = load.byte(network.at).ok_or(Reject::LinkShort)? >> 4;
    match nibble {
        4 => network.ethertype = ethertype::IPV4,
        6 => network.ethertype = ethertype::IPV6,
        0 => (network.at, network.ethertype) = ethernet(load, network.at + 4)?,
        _ => return Err(Reject::NotIp),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
