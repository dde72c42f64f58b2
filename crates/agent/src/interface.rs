//! Interfaces of the network namespace this process is in.
//!
//! Asked through sockets and /proc/self, never through /sys/class/net, which shows the namespace
//! its mount was made in.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;

use wire::Link;

use crate::error::AgentError;

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    /// What frames begin with there; `None` if it is a kind Weir does not read.
    pub link: Option<Link>,
    /// Hardware type, ARPHRD_*.
    pub hardware: u16,
}

impl Interface {
    /// The loopback device, whose traffic is counted as it comes in only.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.hardware == libc::ARPHRD_LOOPBACK
    }
}

/// Every interface, by index.
pub fn list() -> io::Result<Vec<Interface>> {
    let mut found: Vec<_> = nix::net::if_::if_nameindex()?
        .iter()
        .filter_map(|entry| {
            let name = entry.name().to_str().ok()?.to_owned();
            Some((name, entry.index()))
        })
        .collect();
    found.sort_by_key(|(_, index)| *index);
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    found
        .into_iter()
        .map(|(name, index)| {
            let hardware = hardware_type(&socket, &name)?;
            Ok(Interface {
                link: link_of(hardware),
                name,
                index,
                hardware,
            })
        })
        .collect()
}

/// The interface of this name.
pub fn by_name(name: &str) -> Result<Interface, AgentError> {
    let all = list().map_err(|source| AgentError::Io {
        what: "list the interfaces".into(),
        source,
    })?;
    all.iter()
        .find(|interface| interface.name == name)
        .cloned()
        .ok_or_else(|| AgentError::NoInterface {
            name: name.to_owned(),
            known: all
                .iter()
                .map(|interface| interface.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })
}

/// The interface of the default route, IPv4 first.
pub fn of_default_route() -> Result<Interface, AgentError> {
    let v4 = std::fs::read_to_string("/proc/self/net/route").unwrap_or_default();
    let v6 = std::fs::read_to_string("/proc/self/net/ipv6_route").unwrap_or_default();
    let name = default_route_v4(&v4)
        .or_else(|| default_route_v6(&v6))
        .ok_or(AgentError::NoDefaultRoute)?;
    by_name(name)
}

fn default_route_v4(table: &str) -> Option<&str> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace();
        let (name, destination) = (columns.next()?, columns.next()?);
        let mask = columns.nth(5)?;
        (destination == "00000000" && mask == "00000000").then_some(name)
    })
}

fn default_route_v6(table: &str) -> Option<&str> {
    table.lines().find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let is_default = columns.get(1)? == &"00" && columns.first()?.bytes().all(|digit| digit == b'0');
        let name = *columns.last()?;
        (is_default && name != "lo").then_some(name)
    })
}

fn hardware_type(socket: &impl AsRawFd, name: &str) -> io::Result<u16> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = *from as libc::c_char;
    }
    // SAFETY: the kernel fills the request, whose hardware address is then valid.
    unsafe {
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(request.ifr_ifru.ifru_hwaddr.sa_family)
    }
}

/// Raw IP, as modems report it; missing from libc.
const ARPHRD_RAWIP: u16 = 519;

fn link_of(hardware: u16) -> Option<Link> {
    match hardware {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Some(Link::Ethernet),
        libc::ARPHRD_NONE
        | ARPHRD_RAWIP
        | libc::ARPHRD_TUNNEL
        | libc::ARPHRD_TUNNEL6
        | libc::ARPHRD_SIT
        | libc::ARPHRD_PPP
        | libc::ARPHRD_IPGRE => Some(Link::Raw),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes() {
        let check = |v4: &str, v6: &str, expected: Option<&str>| {
            assert_eq!(default_route_v4(v4).or_else(|| default_route_v6(v6)), expected);
        };
        let head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
        let direct = "eth1\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let default = "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        check(&format!("{head}{direct}{default}"), "", Some("eth0"));
        check(&format!("{head}{direct}"), "", None);
        let zero = "0".repeat(32);
        let v6 = format!("{zero} 00 {zero} 00 fe8000 00000400 00000001 00000000 00000003     eth2\n");
        check(head, &v6, Some("eth2"));
        let unreachable =
            format!("{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n");
        check(head, &unreachable, None);
    }
}
