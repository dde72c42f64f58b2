//! What the kernel says of a network interface, in the caller's network namespace.
//!
//! Asked by ioctl, not by sysfs: `/sys/class/net` shows the namespace it was mounted in.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, anyhow, bail};
use nix::net::if_::{if_indextoname, if_nameindex, if_nametoindex};

/// Names that one error message lists.
const LISTED_NAMES_MAX: usize = 20;

// linux/if_arp.h; the ones that wrap IP in nothing.
const ARPHRD_RAWIP: u16 = 519;
const ARPHRD_SIT: u16 = 776;

/// A network interface, as it was when looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) index: i32,
    /// LINKTYPE_ number of the frames a packet socket gives (the tcpdump group's registry).
    pub(crate) linktype: u16,
    /// Hardware address, where the link has six-byte ones.
    pub(crate) mac: Option<[u8; 6]>,
    /// Largest network-layer packet, in bytes.
    pub(crate) mtu_bytes: u32,
    pub(crate) is_up: bool,
    pub(crate) is_loopback: bool,
    /// Whether the host passes frames to and from this interface that are cut or merged elsewhere
    /// (TSO, GSO, GRO), so that captured ones may be larger than the MTU.
    pub(crate) has_large_frames: bool,
}

impl Interface {
    /// Looks up an interface by its name.
    ///
    /// # Errors
    /// There is none of this name (the sentence lists those there are), or its frames are of a kind
    /// that is not captured.
    pub(crate) fn by_name(name: &str) -> Result<Self> {
        let Ok(index) = if_nametoindex(name) else {
            bail!("no interface is named `{name}`: expected {}", listed_names());
        };
        let index =
            i32::try_from(index).map_err(|_| anyhow!("interface `{name}` has an impossible index"))?;
        let control = ControlSocket::open()?;
        let ask = |request| {
            control
                .ask(name, request)
                .with_context(|| format!("cannot ask about interface `{name}`"))
        };
        // SAFETY: which member of the union the kernel filled follows from the request.
        let (hardware, mtu, flags) = unsafe {
            (
                ask(libc::SIOCGIFHWADDR)?.ifr_ifru.ifru_hwaddr,
                ask(libc::SIOCGIFMTU)?.ifr_ifru.ifru_mtu,
                i32::from(ask(libc::SIOCGIFFLAGS)?.ifr_ifru.ifru_flags),
            )
        };
        let linktype = linktype_of(hardware.sa_family).ok_or_else(|| {
            anyhow!(
                "interface `{name}` is of hardware type {} (linux/if_arp.h): expected Ethernet, loopback, \
                 802.11 or one that carries bare IP packets",
                hardware.sa_family
            )
        })?;
        let mac: [u8; 6] = std::array::from_fn(|at| hardware.sa_data[at].cast_unsigned());
        Ok(Self {
            name: name.to_owned(),
            index,
            linktype,
            mac: (linktype != LINKTYPE_RAW && mac != [0; 6]).then_some(mac),
            mtu_bytes: mtu.cast_unsigned(),
            is_up: flags & libc::IFF_UP != 0,
            is_loopback: flags & libc::IFF_LOOPBACK != 0,
            has_large_frames: control.has_large_frames(name),
        })
    }

    /// Every interface that is up and whose frames are captured.
    ///
    /// # Errors
    /// The kernel does not list its interfaces.
    pub(crate) fn all_up() -> Result<Vec<Self>> {
        Ok(names()?
            .iter()
            .filter_map(|name| Self::by_name(name).ok())
            .filter(|interface| interface.is_up)
            .collect())
    }

    /// Whether the kernel still has it, under this index.
    pub(crate) fn is_there(&self) -> bool {
        // nix 0.31 takes the failure of the call for an empty name.
        if_indextoname(self.index.cast_unsigned()).is_ok_and(|name| !name.is_empty())
    }
}

/// LINKTYPE_ numbers (the tcpdump group's registry).
pub(crate) const LINKTYPE_ETHERNET: u16 = 1;
pub(crate) const LINKTYPE_RAW: u16 = 101;
const LINKTYPE_IEEE802_11: u16 = 105;
const LINKTYPE_RADIOTAP: u16 = 127;

/// The link type of an ARPHRD_ number, where packet sockets give it without surprises: PPP and GRE
/// devices, whose headers are there or not by driver, are left out.
fn linktype_of(hardware_type: u16) -> Option<u16> {
    Some(match hardware_type {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => LINKTYPE_ETHERNET,
        libc::ARPHRD_NONE | libc::ARPHRD_TUNNEL | libc::ARPHRD_TUNNEL6 | ARPHRD_RAWIP | ARPHRD_SIT => {
            LINKTYPE_RAW
        }
        libc::ARPHRD_IEEE80211 => LINKTYPE_IEEE802_11,
        libc::ARPHRD_IEEE80211_RADIOTAP => LINKTYPE_RADIOTAP,
        _ => return None,
    })
}

fn names() -> Result<Vec<String>> {
    let table = if_nameindex().context("cannot list the interfaces")?;
    Ok(table
        .iter()
        .map(|interface| interface.name().to_string_lossy().into_owned())
        .collect())
}

/// `eth0, lo`, for an error message.
fn listed_names() -> String {
    match names() {
        Ok(names) if names.len() > LISTED_NAMES_MAX => {
            let (listed, rest) = names.split_at(LISTED_NAMES_MAX);
            format!("{} or one of {} more", listed.join(", "), rest.len())
        }
        Ok(names) if !names.is_empty() => names.join(", "),
        _ => "one that `ip link` lists".to_owned(),
    }
}

/// A socket to ask about interfaces through.
struct ControlSocket(OwnedFd);

impl ControlSocket {
    fn open() -> Result<Self> {
        // SAFETY: plain socket creation; the descriptor is owned at once.
        unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error()).context("cannot open a control socket");
            }
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// `name` is one the kernel has, so it fits.
    fn ask(&self, name: &str, request: libc::Ioctl) -> io::Result<libc::ifreq> {
        let mut answer = request_for(name);
        // SAFETY: these requests read and write one ifreq, which outlives the call.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), request, &raw mut answer) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(answer)
    }

    fn has_large_frames(&self, name: &str) -> bool {
        // linux/ethtool.h: ETHTOOL_GTSO, ETHTOOL_GGSO, ETHTOOL_GGRO.
        [0x1e_u32, 0x23, 0x2b].into_iter().any(|command| {
            let mut value = EthtoolValue { command, data: 0 };
            let mut request = request_for(name);
            request.ifr_ifru.ifru_data = (&raw mut value).cast();
            // SAFETY: `request` and the `value` it points to outlive the call and have the layout
            // SIOCETHTOOL expects for these commands.
            let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
            result == 0 && value.data != 0
        })
    }
}

/// struct ethtool_value of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

fn request_for(name: &str) -> libc::ifreq {
    // SAFETY: an all-zero ifreq is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (slot, byte) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *slot = byte as libc::c_char;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface() {
        let lo = Interface::by_name("lo").expect("every namespace has one");
        assert_eq!(lo.linktype, LINKTYPE_ETHERNET);
        assert!(lo.is_loopback && lo.is_there());
        let gone = Interface {
            index: i32::MAX,
            ..lo.clone()
        };
        assert!(!gone.is_there());
        assert_eq!(lo.mac, None);
        assert!(lo.mtu_bytes >= 1280, "{}", lo.mtu_bytes);
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = Interface::by_name("no-such").expect_err("an error").to_string();
        assert!(
            error.starts_with("no interface is named `no-such`: expected ") && error.contains("lo"),
            "{error}"
        );
    }
}
