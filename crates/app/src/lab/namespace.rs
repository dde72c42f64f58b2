//! Work inside a network namespace: start programs there, read its counters, set its interfaces.
//!
//! Only the network namespace is entered, never a mount namespace (as `ip netns exec` would), so
//! /sys/fs/bpf stays visible. The price: /sys/class/net keeps showing the caller's interfaces, which is
//! why counters are read from /proc/thread-self/net.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

/// Where iproute2 keeps named namespaces.
pub(crate) const NETNS_DIRECTORY: &str = "/run/netns";

pub(crate) fn path_of(namespace: &str) -> PathBuf {
    PathBuf::from(NETNS_DIRECTORY).join(namespace)
}

fn open(namespace: &str) -> Result<File> {
    File::open(path_of(namespace)).with_context(|| {
        format!("cannot open network namespace `{namespace}`: is the lab up? (`weir lab status`)")
    })
}

/// Device and inode of a namespace: equal for every process inside it.
pub(crate) fn identity(namespace: &str) -> Option<(u64, u64)> {
    let meta = std::fs::metadata(path_of(namespace)).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// Runs `work` on a fresh thread inside the namespace; the caller's own thread never moves.
pub(crate) fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file = open(namespace)?;
    std::thread::scope(|scope| {
        let entered = scope.spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter network namespace `{namespace}`"))?;
            work()
        });
        entered
            .join()
            .unwrap_or_else(|_| Err(anyhow!("work in namespace `{namespace}` panicked")))
    })
}

/// How long a started program may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Killed by the kernel when the starting thread ends, however it ends.
    WithParent,
    /// Goes on by itself, in a session of its own.
    Detached,
}

/// Makes `command` start inside the namespace.
pub(crate) fn start_inside(command: &mut Command, namespace: &str, lifetime: Lifetime) -> Result<()> {
    let file = open(namespace)?;
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec the closure makes system calls on values made before the fork; it
    // neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || {
            setns(&file, CloneFlags::CLONE_NEWNET)?;
            match lifetime {
                Lifetime::WithParent => {
                    if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                    // The parent may have ended before the call above: then no signal would come.
                    if nix::unistd::getppid() != parent {
                        return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
                    }
                }
                Lifetime::Detached => {
                    nix::unistd::setsid()?;
                }
            }
            Ok(())
        });
    }
    Ok(())
}

/// Replaces this process by `command` inside the namespace; returns only on failure.
pub(crate) fn become_inside(namespace: &str, command: &mut Command) -> Result<std::io::Error> {
    let file = open(namespace)?;
    setns(&file, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter network namespace `{namespace}`"))?;
    Ok(command.exec())
}

/// Counters of one interface, as the kernel keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InterfaceCounters {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_dropped: u64,
}

impl InterfaceCounters {
    /// What was added since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        InterfaceCounters {
            rx_bytes: self.rx_bytes.saturating_sub(earlier.rx_bytes),
            rx_packets: self.rx_packets.saturating_sub(earlier.rx_packets),
            rx_dropped: self.rx_dropped.saturating_sub(earlier.rx_dropped),
            tx_bytes: self.tx_bytes.saturating_sub(earlier.tx_bytes),
            tx_packets: self.tx_packets.saturating_sub(earlier.tx_packets),
            tx_dropped: self.tx_dropped.saturating_sub(earlier.tx_dropped),
        }
    }
}

/// Counters of `interface` in the namespace.
pub(crate) fn counters(namespace: &str, interface: &str) -> Result<InterfaceCounters> {
    inside(namespace, || own_counters(interface)).with_context(|| format!("in namespace `{namespace}`"))
}

/// Counters of `interface` in the calling thread's namespace.
pub(crate) fn own_counters(interface: &str) -> Result<InterfaceCounters> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev")
        .context("cannot read /proc/thread-self/net/dev")?;
    parse_counters(&table, interface).ok_or_else(|| anyhow!("no interface `{interface}` here"))
}

/// Finds a line of /proc/net/dev: name, eight receive columns, eight transmit columns.
fn parse_counters(table: &str, interface: &str) -> Option<InterfaceCounters> {
    let rest = table
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    let columns: Vec<u64> = rest
        .split_whitespace()
        .map_while(|column| column.parse().ok())
        .collect();
    Some(InterfaceCounters {
        rx_bytes: *columns.first()?,
        rx_packets: *columns.get(1)?,
        rx_dropped: *columns.get(3)?,
        tx_bytes: *columns.get(8)?,
        tx_packets: *columns.get(9)?,
        tx_dropped: *columns.get(11)?,
    })
}

/// An offload the old ethtool commands can switch (linux/ethtool.h).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Offload {
    /// ETHTOOL_STXCSUM: checksums left to the (virtual) card.
    TransmitChecksum = 0x17,
    /// ETHTOOL_STSO: TCP segmentation by the card.
    TcpSegmentation = 0x1f,
    /// ETHTOOL_SGSO: segmentation just before the driver.
    GenericSegmentation = 0x24,
    /// ETHTOOL_SGRO: frames merged on arrival; on veth it also turns NAPI on.
    GenericReceive = 0x2c,
}

/// struct ethtool_value of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Switches one offload of `interface` in the calling thread's namespace.
pub(crate) fn set_offload(interface: &str, offload: Offload, on: bool) -> Result<()> {
    let mut value = EthtoolValue {
        command: offload as u32,
        data: u32::from(on),
    };
    // SAFETY: an all-zero ifreq is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        bail!("interface name `{interface}` is too long: expected at most 15 bytes");
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *slot = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: plain socket creation; the descriptor is owned at once.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(std::io::Error::last_os_error()).context("cannot open a control socket");
        }
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: `request` and the `value` it points to outlive the call and have the layout
    // SIOCETHTOOL expects for these commands.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 {
        return Err(std::io::Error::last_os_error())
            .with_context(|| format!("cannot switch {offload:?} of `{interface}`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_the_whole_name() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes packets\n\
                     lab01: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n\
                     \x20 lab0:  100 2 0 1 0 0 0 0 300 4 0 5 0 0 0 0\n short: 1 2\n";
        let expected = InterfaceCounters {
            rx_bytes: 100,
            rx_packets: 2,
            rx_dropped: 1,
            tx_bytes: 300,
            tx_packets: 4,
            tx_dropped: 5,
        };
        assert_eq!(parse_counters(table, "lab0"), Some(expected));
        assert_eq!(parse_counters(table, "lab"), None);
        assert_eq!(parse_counters(table, "short"), None);
    }
}
