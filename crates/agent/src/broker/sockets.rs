//! Which process holds which socket, for sockets made before Weir watched.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use wire::ip_proto;

use crate::live::SocketOwner;

/// Descriptors looked at in one scan, all processes together.
const DESCRIPTORS_MAX: usize = 1_000_000;

/// Every socket of this network namespace that a process holds.
pub(super) fn owners() -> Vec<SocketOwner> {
    let mut by_inode: HashMap<u64, (u8, IpAddr, u16)> = HashMap::new();
    for (protocol, table) in [
        (ip_proto::TCP, "tcp"),
        (ip_proto::TCP, "tcp6"),
        (ip_proto::UDP, "udp"),
        (ip_proto::UDP, "udp6"),
    ] {
        let text = fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
        by_inode.extend(text.lines().skip(1).filter_map(|line| {
            let (inode, local, port) = socket_line(line)?;
            Some((inode, (protocol, local, port)))
        }));
    }
    let mut found = Vec::new();
    let mut looked_at = 0;
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        for descriptor in fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            looked_at += 1;
            let socket = fs::read_link(descriptor.path())
                .ok()
                .and_then(|link| socket_inode(&link));
            if let Some(&(protocol, local, local_port)) = socket.and_then(|inode| by_inode.get(&inode)) {
                let (comm, uid) = process_facts(&process.path());
                found.push(SocketOwner {
                    protocol,
                    local,
                    local_port,
                    pid,
                    uid,
                    comm,
                });
            }
        }
        if looked_at > DESCRIPTORS_MAX {
            break;
        }
    }
    found
}

/// Inode, local address and port of a line of /proc/net/{tcp,udp}[6].
fn socket_line(line: &str) -> Option<(u64, IpAddr, u16)> {
    let mut columns = line.split_whitespace();
    let (addr, port) = columns.nth(1)?.split_once(':')?;
    let inode = columns.nth(7)?.parse().ok().filter(|inode| *inode != 0)?;
    Some((inode, address(addr)?, u16::from_str_radix(port, 16).ok()?))
}

/// Words of eight digits, each a number in the host's byte order.
fn address(text: &str) -> Option<IpAddr> {
    let mut bytes = [0; 16];
    let n_words = text.len() / 8;
    if !text.is_ascii() || !matches!(n_words, 1 | 4) || !text.len().is_multiple_of(8) {
        return None;
    }
    for (word, to) in bytes.chunks_exact_mut(4).enumerate().take(n_words) {
        let number = u32::from_str_radix(&text[word * 8..word * 8 + 8], 16).ok()?;
        to.copy_from_slice(&number.to_ne_bytes());
    }
    Some(if n_words == 1 {
        IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
    } else {
        IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
    })
}

fn socket_inode(link: &Path) -> Option<u64> {
    link.to_str()?
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn process_facts(process: &Path) -> (String, u32) {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let uid = field("Uid:")
        .and_then(|ids| ids.split_whitespace().next())
        .and_then(|id| id.parse().ok());
    (field("Name:").unwrap_or_default().to_owned(), uid.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_net() {
        let check = |line: &str, expected: Option<(u64, &str, u16)>| {
            let expected = expected
                .map(|(inode, addr, port)| (inode, addr.parse::<IpAddr>().expect("an address"), port));
            assert_eq!(socket_line(line), expected, "{line}");
        };
        check(
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1",
            Some((12345, "127.0.0.1", 8080)),
        );
        check(
            "   1: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1",
            Some((77, "::1", 22)),
        );
        check("  sl  local_address rem_address", None);
        check(
            "   2: 0100007F:1F90 00000000:0000 06 00000000:00000000 03:00000000 00000000 0 0 0 3",
            None,
        );
    }

    #[test]
    fn own_socket_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let port = listener.local_addr().expect("bound").port();
        let found = owners()
            .into_iter()
            .find(|owner| owner.protocol == ip_proto::TCP && owner.local_port == port);
        assert_eq!(found.map(|owner| owner.pid), Some(std::process::id()));
    }
}
