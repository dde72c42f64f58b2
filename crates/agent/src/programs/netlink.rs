//! Netlink: requests as bytes, and the three route dumps that tell where programs are: interfaces,
//! qdiscs and filters.
//!
//! Four attributes are wanted of each. The netlink crates bring an executor and a type for every
//! message; a dump is one request and a walk over lengths, so it is written here.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER_LEN: usize = 16;
const IFINFO_LEN: usize = 16;
const TCMSG_LEN: usize = 20;
/// The kernel fills at most 32 KiB of a dump at a time.
const BUFFER_LEN: usize = 64 << 10;
/// Most messages of one dump; a host has tens to thousands of interfaces.
const MESSAGES_MAX: usize = 65_536;

/// A programs on XDP, as its interface tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct XdpProgram {
    /// `native`, `generic` or `offload`.
    pub(super) mode: &'static str,
    pub(super) program_id: u32,
}

/// An interface and its XDP programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) ifindex: u32,
    pub(super) name: String,
    pub(super) xdp: Vec<XdpProgram>,
}

/// Where filters may hang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Qdisc {
    pub(super) ifindex: u32,
    pub(super) handle: u32,
    pub(super) kind: String,
}

/// A `bpf` filter of tc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BpfFilter {
    pub(super) program_id: u32,
    pub(super) chain: u32,
    pub(super) priority: u32,
    pub(super) handle: u32,
    pub(super) is_direct_action: bool,
}

/// A route netlink socket of the network namespace in which the calling thread is.
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        Self::open_protocol(SockProtocol::NetlinkRoute)
    }

    /// A socket of another netlink family, such as the generic one.
    pub(crate) fn open_protocol(protocol: SockProtocol) -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        // The kernel answers at once or not at all; this keeps a lost end of dump from blocking us.
        let timeout = nix::sys::time::TimeVal::new(5, 0);
        nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::ReceiveTimeout, &timeout)?;
        Ok(Self(fd))
    }

    pub(super) fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let messages = self.dump(RTM_GETLINK, RTM_NEWLINK, &[0; IFINFO_LEN])?;
        Ok(messages.iter().filter_map(|body| interface(body)).collect())
    }

    pub(super) fn qdiscs(&self) -> io::Result<Vec<Qdisc>> {
        let messages = self.dump(RTM_GETQDISC, RTM_NEWQDISC, &[0; TCMSG_LEN])?;
        Ok(messages.iter().filter_map(|body| qdisc(body)).collect())
    }

    /// The `bpf` filters below `parent`, in the order in which they are tried within a chain.
    pub(super) fn bpf_filters(&self, ifindex: u32, parent: u32) -> io::Result<Vec<BpfFilter>> {
        let mut request = [0u8; TCMSG_LEN];
        request[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        request[12..16].copy_from_slice(&parent.to_ne_bytes());
        let messages = self.dump(RTM_GETTFILTER, RTM_NEWTFILTER, &request)?;
        let mut filters: Vec<_> = messages.iter().filter_map(|body| bpf_filter(body)).collect();
        filters.sort_by_key(|filter| (filter.chain, filter.priority));
        Ok(filters)
    }

    /// Bodies of every message of kind `answer` that a dump gives.
    pub(crate) fn dump(&self, request: u16, answer: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.ask(request, libc::NLM_F_DUMP, answer, body)
    }

    /// Bodies of the messages of kind `answer` before the kernel's acknowledgement. `flags` are added
    /// to NLM_F_REQUEST; without NLM_F_DUMP they must hold NLM_F_ACK, which ends the answer.
    pub(crate) fn ask(&self, request: u16, flags: i32, answer: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut message = ((HEADER_LEN + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend(request.to_ne_bytes());
        message.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;

        let mut buffer = vec![0u8; BUFFER_LEN];
        let mut found = Vec::new();
        loop {
            let len = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for (kind, body) in messages(&buffer[..len]) {
                match kind {
                    NLMSG_DONE => return Ok(found),
                    NLMSG_ERROR => {
                        let code = i32_at(body, 0).unwrap_or(-libc::EPROTO);
                        if code == 0 {
                            return Ok(found);
                        }
                        return Err(io::Error::from_raw_os_error(-code));
                    }
                    kind if kind == answer && found.len() < MESSAGES_MAX => found.push(body.to_vec()),
                    _ => {}
                }
            }
        }
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    u32_at(bytes, at).map(u32::cast_signed)
}

/// Type and body of each message in a datagram; ends at the first that does not fit.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = u32_at(bytes, 0)? as usize;
        let kind = u16_at(bytes, 4)?;
        let body = bytes.get(HEADER_LEN..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, body))
    })
}

/// Type and value of each attribute; ends at the first that does not fit.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// Two flag bits lie above the type.
    const TYPE_MASK: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let len = u16_at(bytes, 0)? as usize;
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

pub(crate) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(kind, value)| (kind == wanted).then_some(value))
}

fn interface(body: &[u8]) -> Option<Interface> {
    const IFLA_IFNAME: u16 = 3;
    const IFLA_XDP: u16 = 43;
    /// Attributes within IFLA_XDP: `IFLA_XDP_{DRV,SKB,HW}_PROG_ID`.
    const MODES: [(u16, &str); 3] = [(5, "native"), (6, "generic"), (7, "offload")];
    let attrs = body.get(IFINFO_LEN..)?;
    let nested = attribute(attrs, IFLA_XDP).unwrap_or(&[]);
    let xdp = MODES.iter().filter_map(|&(kind, mode)| {
        let program_id = u32_at(attribute(nested, kind)?, 0)?;
        (program_id != 0).then_some(XdpProgram { mode, program_id })
    });
    Some(Interface {
        ifindex: u32_at(body, 4)?,
        name: super::sys::text(attribute(attrs, IFLA_IFNAME)?),
        xdp: xdp.collect(),
    })
}

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;

fn qdisc(body: &[u8]) -> Option<Qdisc> {
    Some(Qdisc {
        ifindex: u32_at(body, 4)?,
        handle: u32_at(body, 8)?,
        kind: super::sys::text(attribute(body.get(TCMSG_LEN..)?, TCA_KIND)?),
    })
}

fn bpf_filter(body: &[u8]) -> Option<BpfFilter> {
    const TCA_BPF_FLAGS: u16 = 8;
    const TCA_BPF_ID: u16 = 11;
    const FLAG_DIRECT_ACTION: u32 = 1;
    let attrs = body.get(TCMSG_LEN..)?;
    if super::sys::text(attribute(attrs, TCA_KIND)?) != "bpf" {
        return None;
    }
    // A filter's priority has a first message without options: the head of its chain.
    let options = attribute(attrs, TCA_OPTIONS)?;
    let flags = attribute(options, TCA_BPF_FLAGS).and_then(|value| u32_at(value, 0));
    Some(BpfFilter {
        program_id: u32_at(attribute(options, TCA_BPF_ID)?, 0)?,
        chain: attribute(attrs, TCA_CHAIN)
            .and_then(|value| u32_at(value, 0))
            .unwrap_or(0),
        priority: u32_at(body, 16)? >> 16,
        handle: u32_at(body, 8)?,
        is_direct_action: flags.unwrap_or(0) & FLAG_DIRECT_ACTION != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// The interface message, cut anywhere, gives nothing or less, never a panic.
    #[test]
    fn interface_of_bytes() {
        let mut body = vec![0; IFINFO_LEN];
        body[4..8].copy_from_slice(&7u32.to_ne_bytes());
        body.extend(attr(3, b"veth0\0"));
        let xdp = [
            attr(2, &[1]),
            attr(5, &42u32.to_ne_bytes()),
            attr(6, &0u32.to_ne_bytes()),
        ];
        body.extend(attr(43 | 0x8000, &xdp.concat()));
        let found = interface(&body).expect("well formed");
        let native = XdpProgram {
            mode: "native",
            program_id: 42,
        };
        assert_eq!(
            found,
            Interface {
                ifindex: 7,
                name: "veth0".to_owned(),
                xdp: vec![native]
            }
        );
        for len in 0..body.len() {
            let cut = interface(&body[..len]);
            assert!(cut.is_none_or(|cut| cut.ifindex == 7 && cut.xdp.len() <= 1));
        }
    }

    #[test]
    fn filter_of_bytes() {
        let mut body = vec![0; TCMSG_LEN];
        body[8..12].copy_from_slice(&1u32.to_ne_bytes());
        body[16..20].copy_from_slice(&(49152u32 << 16 | 3).to_ne_bytes());
        let options = [attr(8, &1u32.to_ne_bytes()), attr(11, &9u32.to_ne_bytes())];
        let of_kind = |kind: &[u8]| [body.clone(), attr(1, kind), attr(2, &options.concat())].concat();
        let expected = BpfFilter {
            program_id: 9,
            chain: 0,
            priority: 49152,
            handle: 1,
            is_direct_action: true,
        };
        assert_eq!(bpf_filter(&of_kind(b"bpf\0")), Some(expected));
        assert_eq!(bpf_filter(&of_kind(b"u32\0")), None);
    }

    #[test]
    fn lengths_that_lie_end_the_walk() {
        assert_eq!(messages(&[0; 64]).count(), 0, "a length of zero");
        assert_eq!(attributes(&[0; 64]).count(), 0, "a length of zero");
        assert_eq!(attributes(&[200, 0, 1, 0, 5]).count(), 0, "past the end");
    }
}
