//! Names and addresses of a lab.
//!
//! ```text
//!  weir-lab-server      weir-lab-client1 … N      weir-lab-attacker
//!   lab0 10.77.0.1       lab0 10.77.0.11 …         lab0 10.77.0.66
//!     |                     |                         |
//!     +------- bridge `lab` in weir-lab-net, 10.77.0.254 -------+
//! ```
//!
//! Every host has one interface, `lab0`, with 10.77.0.X/24 and fd77::X/64 (the same digits), and a
//! default route to the bridge. The bridge's namespace does not forward and drops what it has no route
//! for without a word, so the answers to spoofed sources end there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The interface of every host; on the server it is the one to observe.
pub(crate) const HOST_INTERFACE: &str = "lab0";
/// The bridge that joins the hosts.
pub(crate) const BRIDGE: &str = "lab";
/// Where labs keep their state: gone after a boot, as the namespaces are.
const RUNTIME_DIRECTORY: &str = "/run/weir";
/// Most client hosts a lab can have.
pub(crate) const CLIENTS_MAX: u8 = 32;

/// TCP and UDP: sends back what it gets (RFC 862).
pub(crate) const ECHO_PORT: u16 = 7;
/// UDP, nobody listens: what floods aim at (RFC 863).
pub(crate) const DISCARD_PORT: u16 = 9;
/// TCP: an SSH banner, a key exchange that is never finished, a refusal.
pub(crate) const SSH_PORT: u16 = 22;
/// TCP and UDP: names under `lab.test`.
pub(crate) const DNS_PORT: u16 = 53;
/// TCP: HTTP/1.1.
pub(crate) const HTTP_PORT: u16 = 80;
/// TCP: HTTP/1.1 within TLS.
pub(crate) const HTTPS_PORT: u16 = 443;
/// TCP: a fixed number of bytes each way.
pub(crate) const BULK_PORT: u16 = 5201;

/// A member of the lab, each in a network namespace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Server,
    /// Counted from 1.
    Client(u8),
    Attacker,
    /// Holds the bridge.
    Net,
}

impl Host {
    /// Every host with an interface of its own, the server first.
    pub(crate) fn observed(clients: u8) -> Vec<Host> {
        let mut hosts = vec![Host::Server];
        hosts.extend((1..=clients).map(Host::Client));
        hosts.push(Host::Attacker);
        hosts
    }

    /// Last part of both addresses, read as decimal in IPv4 and as hexadecimal digits in IPv6.
    fn number(self) -> u8 {
        match self {
            Host::Server => 1,
            Host::Client(index) => 10 + index,
            Host::Attacker => 66,
            Host::Net => 254,
        }
    }

    pub(crate) fn ipv4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number())
    }

    /// fd77::N where N shows the same digits as the last part of the IPv4 address.
    pub(crate) fn ipv6(self) -> Ipv6Addr {
        let n = u16::from(self.number());
        let same_digits = (n / 100) * 0x100 + (n / 10 % 10) * 0x10 + n % 10;
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, same_digits)
    }

    pub(crate) fn address(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.ipv4().into(),
            Family::V6 => self.ipv6().into(),
        }
    }

    /// Locally administered, the same in every lab, so that raw frames need no resolution first.
    pub(crate) fn mac(self) -> [u8; 6] {
        [0x02, 0x77, 0, 0, 0, self.number()]
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Host::Server => f.write_str("server"),
            Host::Client(index) => write!(f, "client{index}"),
            Host::Attacker => f.write_str("attacker"),
            Host::Net => f.write_str("net"),
        }
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "server" => Ok(Host::Server),
            "attacker" => Ok(Host::Attacker),
            "net" => Ok(Host::Net),
            _ => text
                .strip_prefix("client")
                .filter(|digits| !digits.starts_with('0'))
                .and_then(|digits| digits.parse().ok())
                .filter(|index| (1..=CLIENTS_MAX).contains(index))
                .map(Host::Client)
                .ok_or_else(|| format!("`{text}` is no host of the lab: expected server, attacker, net or client1 to client{CLIENTS_MAX}")),
        }
    }
}

/// One IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Which lab: several can be up at a time, told apart by a suffix; addresses repeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lab {
    suffix: Option<LabName>,
}

/// A suffix: 1 to 16 of a-z and 0-9. No hyphen, so that no lab's namespaces look like another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabName(String);

impl FromStr for LabName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (1..=16).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if fits {
            Ok(LabName(text.to_owned()))
        } else {
            Err("expected 1 to 16 of the characters a-z and 0-9".to_owned())
        }
    }
}

impl Lab {
    pub(crate) fn new(suffix: Option<LabName>) -> Self {
        Lab { suffix }
    }

    /// `weir-lab` or `weir-lab-SUFFIX`.
    pub(crate) fn title(&self) -> String {
        match &self.suffix {
            None => "weir-lab".to_owned(),
            Some(name) => format!("weir-lab-{}", name.0),
        }
    }

    /// The option that selects this lab on a command line, with a leading space; empty for the default.
    pub(crate) fn option(&self) -> String {
        match &self.suffix {
            None => String::new(),
            Some(name) => format!(" --name {}", name.0),
        }
    }

    pub(crate) fn namespace(&self, host: Host) -> String {
        format!("{}-{host}", self.title())
    }

    /// The host whose namespace has this name, if it is one of this lab's.
    pub(crate) fn host_of(&self, namespace: &str) -> Option<Host> {
        let rest = namespace.strip_prefix(&self.title())?.strip_prefix('-')?;
        rest.parse().ok()
    }

    /// A file of this lab in the runtime directory: `lab.json`, `lab-SUFFIX.sock`, …
    pub(crate) fn runtime_file(&self, extension: &str) -> PathBuf {
        let stem = self.title();
        let stem = stem.strip_prefix("weir-").unwrap_or(&stem);
        Path::new(RUNTIME_DIRECTORY).join(format!("{stem}.{extension}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_show_the_same_digits_in_both_families() {
        for (host, v4, v6) in [
            (Host::Server, "10.77.0.1", "fd77::1"),
            (Host::Client(2), "10.77.0.12", "fd77::12"),
            (Host::Attacker, "10.77.0.66", "fd77::66"),
            (Host::Net, "10.77.0.254", "fd77::254"),
        ] {
            assert_eq!(host.ipv4().to_string(), v4);
            assert_eq!(host.ipv6().to_string(), v6);
        }
    }

    #[test]
    fn a_lab_knows_its_own_namespaces_only() {
        let plain = Lab::default();
        let named = Lab::new(Some("a1".parse().expect("a name")));
        for (lab, namespace, expected) in [
            (&plain, "weir-lab-server", Some(Host::Server)),
            (&plain, "weir-lab-client12", Some(Host::Client(12))),
            (&plain, "weir-lab-client012", None),
            (&plain, "weir-lab-a1-server", None),
            (&plain, "weir-lab", None),
            (&named, "weir-lab-a1-server", Some(Host::Server)),
            (&named, "weir-lab-a1-client99", None),
            (&named, "weir-lab-server", None),
        ] {
            assert_eq!(lab.host_of(namespace), expected, "{namespace}");
        }
        assert!("a-b".parse::<LabName>().is_err());
        assert!("".parse::<LabName>().is_err());
    }
}
