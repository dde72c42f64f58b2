//! Each link layer, up to the network header.

use std::borrow::ToOwned;

use super::*;
use crate::samples::hex;

/// (offset, EtherType, first tag, last tag) of the network header.
type Found = (usize, u16, Option<u16>, Option<u16>);

fn check(link: Link, digits: &str, expected: Result<Found, Reject>) {
    let frame = hex(digits);
    let found = find_network(frame.as_slice(), link, 0, 0)
        .map(|n| (n.at, n.ethertype, vlan_id(n.vlan), vlan_id(n.vlan_inner)));
    assert_eq!(found, expected, "{link:?} {digits}");
    if expected.is_ok() {
        // The same in the middle of a buffer.
        let mut moved = hex("ffffffffffff");
        moved.extend(&frame);
        let found = find_network(moved.as_slice(), link, 6, 0).map(|n| (n.at, n.ethertype));
        assert_eq!(found, expected.map(|(at, ethertype, ..)| (at + 6, ethertype)));
    }
}

const MACS: &str = "c500000082c400121ef2613d";

fn ethernet(rest: &str) -> std::string::String {
    std::format!("{MACS}{rest}")
}

#[test]
fn ethernet_frames() {
    check(Link::Ethernet, &ethernet("0800 45"), Ok((14, 0x0800, None, None)));
    check(Link::Ethernet, &ethernet("86dd 60"), Ok((14, 0x86dd, None, None)));
    check(
        Link::Ethernet,
        &ethernet("0806 0001"),
        Ok((14, 0x0806, None, None)),
    );
    check(
        Link::Ethernet,
        &ethernet("05ff 0001"),
        Ok((14, 0x05ff, None, None)),
    );
    check(Link::Ethernet, &ethernet("08"), Err(Reject::LinkShort));
    check(Link::Ethernet, "", Err(Reject::LinkShort));
}

#[test]
fn vlan_tags() {
    check(
        Link::Ethernet,
        &ethernet("8100 0064 86dd"),
        Ok((18, 0x86dd, Some(100), None)),
    );
    check(
        Link::Ethernet,
        &ethernet("8100 c981 0800"),
        Ok((18, 0x0800, Some(0x981), None)),
    );
    check(
        Link::Ethernet,
        &ethernet("8100 0000 0800"),
        Ok((18, 0x0800, Some(0), None)),
    );
    check(
        Link::Ethernet,
        &ethernet("88a8 0001 8100 0090 0800"),
        Ok((22, 0x0800, Some(1), Some(0x90))),
    );
    check(
        Link::Ethernet,
        &ethernet("9100 0001 8100 0002 8100 0003 0800"),
        Ok((26, 0x0800, Some(1), Some(3))),
    );
    check(Link::Ethernet, &ethernet("8100 00"), Err(Reject::LinkShort));
    check(Link::Ethernet, &ethernet("8100 0064 08"), Err(Reject::LinkShort));
}

#[test]
fn a_tag_that_the_device_took_out_is_the_first() {
    let frame = hex(&ethernet("8100 0002 0800"));
    let network = find_network(frame.as_slice(), Link::Ethernet, 0, 7 | VLAN_PRESENT).unwrap();
    assert_eq!(
        (vlan_id(network.vlan), vlan_id(network.vlan_inner)),
        (Some(7), Some(2))
    );
}

#[test]
fn as_many_tags_as_stated_and_no_more() {
    let tags = |count: usize| ethernet(&("8100 0001".repeat(count) + "0800"));
    check(
        Link::Ethernet,
        &tags(TAGS_MAX),
        Ok((14 + 4 * TAGS_MAX, 0x0800, Some(1), Some(1))),
    );
    check(Link::Ethernet, &tags(TAGS_MAX + 1), Err(Reject::TagsTooMany));
}

#[test]
fn mpls_labels() {
    check(
        Link::Ethernet,
        &ethernet("8847 0001ddff 45"),
        Ok((18, 0x0800, None, None)),
    );
    check(
        Link::Ethernet,
        &ethernet("8847 0001d0fe 0001d1ff 60"),
        Ok((22, 0x86dd, None, None)),
    );
    check(
        Link::Ethernet,
        &ethernet("8848 0001ddff 45"),
        Ok((18, 0x0800, None, None)),
    );
    check(
        Link::Ethernet,
        &ethernet("8100 0007 8847 0001ddff 45"),
        Ok((22, 0x0800, Some(7), None)),
    );
    // A pseudowire: control word, then Ethernet.
    check(
        Link::Ethernet,
        &ethernet(&std::format!("8847 0001ddff 00000000 {MACS} 8100 0005 0800")),
        Ok((40, 0x0800, Some(5), None)),
    );
    check(
        Link::Ethernet,
        &ethernet("8847 0001ddff 10000021"),
        Err(Reject::NotIp),
    );
    check(Link::Ethernet, &ethernet("8847 0001ddff"), Err(Reject::LinkShort));
    check(
        Link::Ethernet,
        &ethernet(&("8847".to_owned() + &"0001d0fe".repeat(20))),
        Err(Reject::TagsTooMany),
    );
}

#[test]
fn pppoe() {
    check(
        Link::Ethernet,
        &ethernet("8864 1100069d0032 0021 45"),
        Ok((22, 0x0800, None, None)),
    );
    check(
        Link::Ethernet,
        &ethernet("8100 0002 8864 1100069d0032 0057 60"),
        Ok((26, 0x86dd, Some(2), None)),
    );
    check(
        Link::Ethernet,
        &ethernet("8864 1100069d0032 c021 01"),
        Err(Reject::NotIp),
    );
    check(
        Link::Ethernet,
        &ethernet("8863 11090000"),
        Ok((14, 0x8863, None, None)),
    );
    check(
        Link::Ethernet,
        &ethernet("8864 1100069d00"),
        Err(Reject::LinkShort),
    );
    check(
        Link::PppEther,
        "1100069d0032 0021 45",
        Ok((8, 0x0800, None, None)),
    );
}

#[test]
fn llc_and_snap() {
    check(
        Link::Ethernet,
        &ethernet("0024 aaaa03 000000 0806 0001"),
        Ok((22, 0x0806, None, None)),
    );
    check(
        Link::Ethernet,
        &ethernet("0024 aaaa03 0000f8 0800 45"),
        Ok((22, 0x0800, None, None)),
    );
    check(
        Link::Ethernet,
        &ethernet("0024 060603 45"),
        Ok((17, 0x0800, None, None)),
    );
    check(
        Link::Ethernet,
        &ethernet("0024 aaaa03 00000c 2000 02"),
        Err(Reject::NotIp),
    );
    check(
        Link::Ethernet,
        &ethernet("0024 aaaa03 000000 0024 02"),
        Err(Reject::NotIp),
    );
    // Spanning tree; NetWare without LLC.
    check(Link::Ethernet, &ethernet("0026 424203 0000"), Err(Reject::NotIp));
    check(Link::Ethernet, &ethernet("0026 ffff00 22"), Err(Reject::NotIp));
    check(
        Link::Ethernet,
        &ethernet("0024 aaaa03 0000"),
        Err(Reject::LinkShort),
    );
    check(Link::Ethernet, &ethernet("0024 aa"), Err(Reject::LinkShort));
    check(
        Link::Fddi,
        "511000d4cd596f00074a016e00 aaaa03 000000 0800 45",
        Ok((21, 0x0800, None, None)),
    );
}

#[test]
fn raw_ip() {
    check(Link::Raw, "45", Ok((0, 0x0800, None, None)));
    check(Link::Raw, "60", Ok((0, 0x86dd, None, None)));
    check(Link::Raw, "00", Err(Reject::NotIp));
    check(Link::Raw, "", Err(Reject::LinkShort));
    check(Link::Ipv4, "60", Ok((0, 0x0800, None, None)));
    check(Link::Ipv6, "45", Ok((0, 0x86dd, None, None)));
}

#[test]
fn loopback_in_both_byte_orders() {
    for link in [Link::Null, Link::Loop] {
        check(link, "02000000 45", Ok((4, 0x0800, None, None)));
        check(link, "00000002 45", Ok((4, 0x0800, None, None)));
        for family in ["0a", "18", "1c", "1e"] {
            check(
                link,
                &std::format!("{family}000000 60"),
                Ok((4, 0x86dd, None, None)),
            );
            check(
                link,
                &std::format!("000000{family} 60"),
                Ok((4, 0x86dd, None, None)),
            );
        }
        check(link, "07000000 45", Err(Reject::NotIp));
        check(link, "0200", Err(Reject::LinkShort));
    }
}

#[test]
fn linux_cooked() {
    check(
        Link::Sll,
        "000402120000000000000000000008 00 45",
        Ok((16, 0x0800, None, None)),
    );
    check(
        Link::Sll,
        "000003040006000000000000ffff 8100 0064 0800",
        Ok((20, 0x0800, Some(100), None)),
    );
    check(
        Link::Sll,
        "000003040006000000000000ffff 0004 424203",
        Err(Reject::NotIp),
    );
    check(
        Link::Sll,
        "000003040006000000000000ffff 08",
        Err(Reject::LinkShort),
    );
    check(
        Link::Sll2,
        "0800000000000001030404060000000000000000 45",
        Ok((20, 0x0800, None, None)),
    );
    check(Link::Sll2, "86dd", Ok((20, 0x86dd, None, None)));
    check(Link::Sll2, "08", Err(Reject::LinkShort));
}

#[test]
fn serial_lines() {
    check(Link::Ppp, "ff03 0021 45", Ok((4, 0x0800, None, None)));
    check(Link::Ppp, "0f00 0800 45c0", Ok((4, 0x0800, None, None)));
    check(Link::CiscoHdlc, "0f00 0800 45c0", Ok((4, 0x0800, None, None)));
    check(Link::CiscoHdlc, "8f00 8035 0000", Ok((4, 0x8035, None, None)));
    check(Link::CiscoHdlc, "0f00 08", Err(Reject::LinkShort));
}

#[test]
fn frame_relay() {
    check(Link::FrameRelay, "1861 0800 4500", Ok((4, 0x0800, None, None)));
    check(Link::FrameRelay, "1861 86dd 6000", Ok((4, 0x86dd, None, None)));
    check(Link::FrameRelay, "1861 03cc 4500", Ok((4, 0x0800, None, None)));
    check(Link::FrameRelay, "1861 038e 6000", Ok((4, 0x86dd, None, None)));
    check(
        Link::FrameRelay,
        "1841 0300 80 000000 0806 000f",
        Ok((10, 0x0806, None, None)),
    );
    check(
        Link::FrameRelay,
        "1841 0380 000000 0800 45",
        Ok((9, 0x0800, None, None)),
    );
    check(Link::FrameRelay, "1841 0300 80 0080c2 0007", Err(Reject::NotIp));
    check(Link::FrameRelay, "1841 0308 0000", Err(Reject::NotIp));
    check(Link::FrameRelay, "1841 03", Err(Reject::LinkShort));
}

#[test]
fn netfilter_log() {
    check(
        Link::Nflog,
        "02000028 0800 0100 00000316 0500 0a00 00000000 0800 0500 00000002 4000 0900 45",
        Ok((32, 0x0800, None, None)),
    );
    check(Link::Nflog, "0a000028 2c00 0900 60", Ok((8, 0x86dd, None, None)));
    check(Link::Nflog, "07000028 2c00 0900 60", Err(Reject::NotIp));
    // An attribute shorter than its own header.
    check(Link::Nflog, "02000000 0001 0100 00000000", Err(Reject::LinkShort));
    check(Link::Nflog, "02000000 0300 0100 00000000", Err(Reject::LinkShort));
    check(
        Link::Nflog,
        &("02000028".to_owned() + &"0400 0100".repeat(40)),
        Err(Reject::TagsTooMany),
    );
}

#[test]
fn attributes_beyond_the_bound_are_not_followed() {
    let mut frame = hex("02000028 fcff 0100");
    frame.resize(4 + 0xfffc, 0);
    frame.extend(hex("4000 0900 45"));
    let found = find_network(frame.as_slice(), Link::Nflog, 0, 0);
    assert_eq!(found.unwrap_err(), Reject::LinkShort);
}

#[test]
fn mpackets() {
    let frame = |preamble: &str| std::format!("{preamble} {MACS} 0800 45");
    for start in ["d5", "e6", "4c", "7f", "b3"] {
        check(
            Link::EthernetMpacket,
            &frame(&("55".repeat(7) + start)),
            Ok((22, 0x0800, None, None)),
        );
    }
    // Verify; a later fragment with its count.
    check(
        Link::EthernetMpacket,
        &frame(&("55".repeat(7) + "07")),
        Err(Reject::NotIp),
    );
    check(
        Link::EthernetMpacket,
        &frame("55555555555561 e6"),
        Err(Reject::NotIp),
    );
    check(Link::EthernetMpacket, "55555555", Err(Reject::LinkShort));
}

const ADDRESSES: &str = "0000 020000000100 020000000000 020000000000 7001";
const SNAP_IP4: &str = "aaaa03 000000 0800 45";

#[test]
fn wireless_data_frames() {
    let frame = |start: &str, between: &str| std::format!("{start}{ADDRESSES}{between}{SNAP_IP4}");
    check(Link::Ieee80211, &frame("0801", ""), Ok((32, 0x0800, None, None)));
    check(Link::Ieee80211, &frame("0802", ""), Ok((32, 0x0800, None, None)));
    check(
        Link::Ieee80211,
        &frame("8802", "0000"),
        Ok((34, 0x0800, None, None)),
    );
    check(
        Link::Ieee80211,
        &frame("8882", "0000 00000000"),
        Ok((38, 0x0800, None, None)),
    );
    check(
        Link::Ieee80211,
        &frame("0803", "020000000300"),
        Ok((38, 0x0800, None, None)),
    );
    check(
        Link::Ieee80211,
        &frame("8803", "020000000300 0000"),
        Ok((40, 0x0800, None, None)),
    );
    check(Link::Ieee80211, &frame("0841", ""), Err(Reject::Encrypted));
    // Null data, a beacon, an acknowledgement, another kind of LLC.
    check(Link::Ieee80211, &frame("4801", ""), Err(Reject::NotIp));
    check(Link::Ieee80211, &frame("8000", ""), Err(Reject::NotIp));
    check(Link::Ieee80211, "d4000000020000000100", Err(Reject::NotIp));
    check(
        Link::Ieee80211,
        &std::format!("0801{ADDRESSES}424203"),
        Err(Reject::NotIp),
    );
    check(Link::Ieee80211, "08", Err(Reject::LinkShort));
    check(
        Link::Ieee80211,
        &std::format!("0801{ADDRESSES}"),
        Err(Reject::LinkShort),
    );
}

#[test]
fn radiotap() {
    let behind = |header: &str| std::format!("{header} 0801{ADDRESSES}{SNAP_IP4}");
    let qos_padded = |header: &str| std::format!("{header} 8801{ADDRESSES}0000 0000{SNAP_IP4}");
    check(
        Link::Radiotap,
        &behind("00000800 00000000"),
        Ok((40, 0x0800, None, None)),
    );
    check(
        Link::Radiotap,
        &behind("00000d00 04800200 0200000000"),
        Ok((45, 0x0800, None, None)),
    );
    // Flags alone; flags after a time stamp; a second word of the bit map before both.
    check(
        Link::Radiotap,
        &qos_padded("00000900 02000000 20"),
        Ok((45, 0x0800, None, None)),
    );
    check(
        Link::Radiotap,
        &qos_padded("00001900 03000000 0102030405060708 20 00000000 00000000"),
        Ok((61, 0x0800, None, None)),
    );
    check(
        Link::Radiotap,
        &qos_padded("00001900 03000080 00000000 00000000 0102030405060708 20"),
        Ok((61, 0x0800, None, None)),
    );
    check(
        Link::Radiotap,
        &behind("00000900 02000000 10"),
        Ok((41, 0x0800, None, None)),
    );
    check(Link::Radiotap, "00000700 000000", Err(Reject::LinkShort));
    check(Link::Radiotap, "0000ff7f 00000000", Err(Reject::LinkShort));
}

#[test]
fn headers_of_monitors() {
    let wireless = std::format!("0801{ADDRESSES}{SNAP_IP4}");
    check(
        Link::Prism,
        &("00".repeat(144) + &wireless),
        Ok((176, 0x0800, None, None)),
    );
    let avs = std::format!("80211001 00000040 {} {wireless}", "00".repeat(56));
    check(Link::Prism, &avs, Ok((96, 0x0800, None, None)));
    check(Link::Prism, "8021", Err(Reject::LinkShort));
    check(
        Link::Ppi,
        &std::format!("00000800 69000000 {wireless}"),
        Ok((40, 0x0800, None, None)),
    );
    check(Link::Ppi, "00000800 01000000", Err(Reject::NotIp));
    check(Link::Ppi, "00000700 69000000", Err(Reject::LinkShort));
}

#[test]
fn numbers_of_the_registry() {
    let known: std::vec::Vec<u32> = (0..300).filter(|&n| Link::from_linktype(n).is_some()).collect();
    let expected = [
        0, 1, 9, 10, 12, 14, 50, 51, 101, 104, 105, 107, 108, 113, 119, 127, 163, 192, 228, 229, 239, 274,
        276,
    ];
    assert_eq!(known, expected);
}
