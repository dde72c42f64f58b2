//! Packets in packets: the tunnel has a flow, and what it carries has one of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use etherparse::PacketBuilder;
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::lab::Lab;
use crate::totals::{Start, wait_until_equal};
use crate::{may_run, number, text};

const ATTACKER: &str = "10.77.0.66";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Packets sent through each tunnel.
const PACKETS: u64 = 5;

/// A tunnel: how its packets travel, and what comes before the inner packet.
struct Tunnel {
    kind: &'static str,
    /// As flows name the outer protocol.
    outer: &'static str,
    way: Way,
    header: &'static [u8],
    inner: Vec<u8>,
    id: Option<u64>,
    /// Inner addresses.
    src: &'static str,
    dst: &'static str,
}

enum Way {
    /// Right over IP, by protocol number.
    Ip(i32),
    /// Over UDP, by port.
    Udp(u16),
}

/// A UDP packet inside: of the tunnel's number, so that each is told apart.
fn inner_v4(number: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4([10, 99, 0, number], [10, 99, 1, number], 64)
        .udp(4000, 5000)
        .write(&mut packet, b"inside")
        .expect("memory");
    packet
}

fn inner_v6() -> Vec<u8> {
    let mut packet = Vec::new();
    let addr = |last: u8| [0xfd, 0x99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    PacketBuilder::ipv6(addr(1), addr(2), 64)
        .udp(4000, 5000)
        .write(&mut packet, b"inside")
        .expect("memory");
    packet
}

/// The packet in an Ethernet frame.
fn framed(packet: &[u8]) -> Vec<u8> {
    [&[2, 9, 9, 0, 0, 1, 2, 9, 9, 0, 0, 2, 8, 0], packet].concat()
}

fn tunnels() -> [Tunnel; 6] {
    let v4 = |kind, outer, way, header, inner, id, src, dst| Tunnel {
        kind,
        outer,
        way,
        header,
        inner,
        id,
        src,
        dst,
    };
    [
        v4(
            "ipip",
            "ipip",
            Way::Ip(4),
            &[],
            inner_v4(1),
            None,
            "10.99.0.1",
            "10.99.1.1",
        ),
        v4(
            "6in4",
            "ipv6-in-ip",
            Way::Ip(41),
            &[],
            inner_v6(),
            None,
            "fd99::1",
            "fd99::2",
        ),
        v4(
            "gre",
            "gre",
            Way::Ip(47),
            &[0, 0, 8, 0],
            inner_v4(2),
            None,
            "10.99.0.2",
            "10.99.1.2",
        ),
        // With a key (RFC 2890).
        v4(
            "gre",
            "gre",
            Way::Ip(47),
            &[0x20, 0, 8, 0, 0, 0, 0, 42],
            inner_v4(3),
            Some(42),
            "10.99.0.3",
            "10.99.1.3",
        ),
        v4(
            "vxlan",
            "udp",
            Way::Udp(4789),
            &[8, 0, 0, 0, 0, 0, 7, 0],
            framed(&inner_v4(4)),
            Some(7),
            "10.99.0.4",
            "10.99.1.4",
        ),
        v4(
            "geneve",
            "udp",
            Way::Udp(6081),
            &[0, 0, 0x65, 0x58, 0, 0, 9, 0],
            framed(&inner_v4(5)),
            Some(9),
            "10.99.0.5",
            "10.99.1.5",
        ),
    ]
}

fn send(tunnel: &Tunnel) -> io::Result<()> {
    let payload = [tunnel.header, &tunnel.inner].concat();
    match tunnel.way {
        Way::Udp(port) => {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            for _ in 0..PACKETS {
                socket.send_to(&payload, SocketAddrV4::new(SERVER, port))?;
            }
        }
        Way::Ip(protocol) => {
            // SAFETY: the descriptor is owned at once.
            let socket = unsafe {
                let fd = libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol);
                if fd < 0 {
                    return Err(io::Error::last_os_error());
                }
                OwnedFd::from_raw_fd(fd)
            };
            let to = nix::sys::socket::SockaddrIn::from(SocketAddrV4::new(SERVER, 0));
            for _ in 0..PACKETS {
                let flags = nix::sys::socket::MsgFlags::empty();
                nix::sys::socket::sendto(socket.as_raw_fd(), &payload, &to, flags)?;
            }
        }
    }
    Ok(())
}

fn check_tunnel(flows: &[Value], tunnel: &Tunnel) {
    let is_inner = |flow: &&Value| flow.get("tunnel").is_some();
    let inner: Vec<_> = flows
        .iter()
        .filter(is_inner)
        .filter(|flow| text(flow, "/src") == tunnel.src)
        .collect();
    assert_eq!(inner.len(), 1, "{}: {inner:?}", tunnel.kind);
    let inner = inner[0];
    assert_eq!(text(inner, "/tunnel"), tunnel.kind, "{inner}");
    assert_eq!(number(inner, "/vni"), tunnel.id.unwrap_or(0), "{inner}");
    assert_eq!(text(inner, "/dst"), tunnel.dst, "{inner}");
    assert_eq!(text(inner, "/proto"), "udp", "{inner}");
    assert_eq!(
        (number(inner, "/sport"), number(inner, "/dport")),
        (4000, 5000),
        "{inner}"
    );
    assert_eq!(number(inner, "/packets_toserver"), PACKETS, "{inner}");
    assert_eq!(
        number(inner, "/bytes_toserver"),
        PACKETS * tunnel.inner.len() as u64,
        "{inner}"
    );

    let outer: u64 = flows
        .iter()
        .filter(|flow| {
            !is_inner(flow) && text(flow, "/src") == ATTACKER && text(flow, "/proto") == tunnel.outer
        })
        .filter(|flow| match tunnel.way {
            Way::Udp(port) => number(flow, "/dport") == u64::from(port),
            Way::Ip(_) => true,
        })
        .map(|flow| number(flow, "/packets_toserver"))
        .sum();
    let sharers = tunnels()
        .iter()
        .filter(|other| other.outer == "gre" && tunnel.outer == "gre")
        .count();
    assert_eq!(outer, PACKETS * sharers.max(1) as u64, "{}", tunnel.kind);
}

#[test]
fn outer_and_inner() {
    if !may_run() {
        return;
    }
    let lab = Lab::up("tu", &["--no-offload"]);
    let (weir, start) = Start::weir(&lab, &[]);
    let namespace = std::fs::File::open(lab.namespace("attacker")).expect("the attacker's namespace");
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET).expect("root may enter it");
            tunnels().iter().try_for_each(send)
        });
        sender.join().expect("no panic").expect("sent");
    });
    let (status, flows) = wait_until_equal(&lab, &weir, &start);
    let sent = tunnels().len() as u64 * PACKETS;
    // The server answers what it has no use for with an error that quotes it: no tunnel.
    assert_eq!(
        number(&status, "/interfaces/0/rx/inner_in_rows"),
        sent,
        "{status}"
    );
    assert_eq!(
        number(&status, "/interfaces/0/rx/inner_without_row"),
        0,
        "{status}"
    );
    for tunnel in tunnels() {
        check_tunnel(&flows, &tunnel);
    }
}
