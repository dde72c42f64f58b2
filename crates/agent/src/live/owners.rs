//! Who owns sockets that are older than Weir, and what control groups are called.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use wire::flow::Owner;
use wire::{Addr, FlowKey, ip_proto};

/// A local socket and the process that holds it, as the broker found it in /proc.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOwner {
    pub protocol: u8,
    pub local: IpAddr,
    pub local_port: u16,
    pub pid: u32,
    pub uid: u32,
    pub comm: String,
}

/// Owners by local address and port. Only asked where the kernel itself named nobody.
#[derive(Debug, Default)]
pub struct SocketOwners(HashMap<(u8, IpAddr, u16), Owner>);

impl SocketOwners {
    /// Replaces what is known.
    pub fn set(&mut self, found: Vec<SocketOwner>) {
        self.0 = found
            .into_iter()
            .map(|socket| {
                let mut owner = Owner {
                    pid: socket.pid,
                    uid: socket.uid,
                    ..Owner::default()
                };
                for (to, from) in owner.comm.iter_mut().zip(socket.comm.bytes().take(15)) {
                    *to = from;
                }
                (
                    (socket.protocol, socket.local.to_canonical(), socket.local_port),
                    owner,
                )
            })
            .collect();
    }

    /// The owner of either end of a flow.
    #[must_use]
    pub fn owner(&self, key: &FlowKey) -> Option<Owner> {
        if self.0.is_empty() || !matches!(key.protocol, ip_proto::TCP | ip_proto::UDP) {
            return None;
        }
        let of = |addr: Addr, port: u16| {
            let any = if key.family == 4 {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED)
            } else {
                IpAddr::V6(Ipv6Addr::UNSPECIFIED)
            };
            let both = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            [addr.to_ip(key.family), any, both]
                .into_iter()
                .find_map(|ip| self.0.get(&(key.protocol, ip, port)).copied())
        };
        of(key.a, key.a_port).or_else(|| of(key.b, key.b_port))
    }
}

/// Paths of control groups by the number the kernel gives.
#[derive(Debug, Default)]
pub struct CgroupNames(HashMap<u64, String>);

impl CgroupNames {
    /// Replaces what is known.
    pub fn set(&mut self, found: HashMap<u64, String>) {
        self.0 = found;
    }

    /// Path below the root of cgroup v2.
    #[must_use]
    pub fn path(&self, id: u64) -> Option<&str> {
        self.0.get(&id).map(String::as_str)
    }
}

/// The container that a control group's path names: what container engines write there is a
/// 64-digit hexadecimal id, with prefixes and suffixes of their own.
pub(super) fn container_of(path: &str) -> Option<&str> {
    const ID_LEN: usize = 64;
    path.rsplit('/').find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let id = part.rsplit(['-', ':']).next()?;
        (id.len() == ID_LEN && id.bytes().all(|digit| digit.is_ascii_hexdigit())).then(|| &id[..12])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers() {
        let id = "0123456789abcdef".repeat(4);
        let check =
            |path: String, expected: Option<&str>| assert_eq!(container_of(&path), expected, "{path}");
        check(format!("/system.slice/docker-{id}.scope"), Some("0123456789ab"));
        check(format!("/docker/{id}"), Some("0123456789ab"));
        check(
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            Some("0123456789ab"),
        );
        check(
            format!("/machine.slice/libpod-{id}.scope/container"),
            Some("0123456789ab"),
        );
        check("/user.slice/user-1000.slice/session-2.scope".into(), None);
        check("/".into(), None);
    }
}
