//! Packets of an interface, both directions, by a packet socket with a memory-mapped ring.
//!
//! [`PacketSocket::open`], then [`PacketSocket::next`] until it gives `None`, then wait until the
//! descriptor is readable. Packets that came while the ring was full are lost and counted
//! ([`PacketSocket::counts`]).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, anyhow};

mod interface;
mod ring;

pub(crate) use interface::{Interface, LINKTYPE_ETHERNET};
use ring::Ring;

/// Least memory of a ring in bytes: two blocks.
pub(crate) const RING_LEN_MIN: usize = 2 * ring::BLOCK_LEN;

/// Length of the two addresses before a VLAN tag, and of the tag, in bytes.
const MAC_ADDRESSES_LEN: usize = 12;
const TAG_LEN: usize = 4;
const ETHERTYPE_VLAN: u16 = 0x8100;

/// Which way packets go, seen from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Directions {
    /// Only packets that come in
    In,
    /// Only packets that go out
    Out,
    /// Both; of the loopback interface, where each packet goes out and comes in, each once
    #[default]
    Both,
}

/// How to capture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketOptions {
    pub(crate) directions: Directions,
    /// Bytes of each packet that the kernel copies into the ring, 0 for all that fit a block.
    pub(crate) snaplen: u32,
    /// Memory of the ring in bytes, at least [`RING_LEN_MIN`].
    pub(crate) ring_len: usize,
    /// Also frames that are addressed to others.
    pub(crate) promiscuous: bool,
}

/// A captured packet, valid until the next one is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// Nanoseconds since 1970-01-01 UTC.
    pub(crate) ts_ns: u64,
    /// Length of the frame in bytes; `data` may hold fewer.
    pub(crate) wire_len: u32,
    /// From the link header on, with any VLAN tag in its place.
    pub(crate) data: &'a [u8],
    pub(crate) is_outgoing: bool,
    /// The device (or the kernel for it) had taken a VLAN tag out, which was put back.
    pub(crate) is_tag_restored: bool,
}

/// Packets since the socket was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SocketCounts {
    /// Packets that were to be captured, the dropped ones included.
    pub(crate) received: u64,
    /// Lost for lack of room in the ring.
    pub(crate) dropped: u64,
}

/// A packet socket bound to one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    ring: Ring,
    socket: OwnedFd,
    is_ethernet: bool,
    counts: SocketCounts,
    /// Frames taken off the ring.
    taken: u64,
    /// A frame whose VLAN tag was put back.
    retagged: Vec<u8>,
}

impl PacketSocket {
    /// Begins to capture from `interface`.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, without memory for the ring, or when the interface has just gone.
    pub(crate) fn open(interface: &Interface, options: SocketOptions) -> Result<Self> {
        let socket = open_socket()?;
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        set_option(&socket, libc::PACKET_VERSION, &version)
            .context("this kernel has no packet rings of version 3 (Linux 3.2 and later have)")?;
        let ring = Ring::map(&socket, options.ring_len).with_context(|| {
            format!(
                "cannot get a ring of {} MiB for `{}`: ask for less memory",
                options.ring_len >> 20,
                interface.name
            )
        })?;
        let directions = match options.directions {
            Directions::Both if interface.is_loopback => Directions::In,
            other => other,
        };
        attach_program(&socket, &program(directions, options.snaplen))
            .with_context(|| format!("cannot attach the direction filter to `{}`", interface.name))?;
        if options.promiscuous {
            join_promiscuous(&socket, interface)
                .with_context(|| format!("cannot make `{}` promiscuous", interface.name))?;
        }
        // Last, so that no packet comes before the ring and its filter are there.
        bind(&socket, interface).with_context(|| format!("cannot capture from `{}`", interface.name))?;
        Ok(Self {
            ring,
            socket,
            is_ethernet: interface.linktype == LINKTYPE_ETHERNET,
            counts: SocketCounts::default(),
            taken: 0,
            retagged: Vec::new(),
        })
    }

    /// The next packet, or `None` if there is none yet: wait until the descriptor is readable.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Frame<'_>> {
        let raw = self.ring.next()?;
        self.taken += 1;
        let header = &raw.header;
        let is_tagged = header.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
        let mut frame = Frame {
            ts_ns: u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec),
            wire_len: header.tp_len,
            data: raw.data,
            is_outgoing: raw.packet_type == libc::PACKET_OUTGOING,
            is_tag_restored: false,
        };
        if is_tagged && self.is_ethernet && raw.data.len() >= MAC_ADDRESSES_LEN {
            let has_tpid = header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            let tpid = if has_tpid {
                header.hv1.tp_vlan_tpid
            } else {
                ETHERTYPE_VLAN
            };
            // The upper half of the field is unused.
            let tci = header.hv1.tp_vlan_tci as u16;
            put_tag_back(raw.data, tpid, tci, &mut self.retagged);
            frame.data = &self.retagged;
            frame.wire_len = frame.wire_len.saturating_add(TAG_LEN as u32);
            frame.is_tag_restored = true;
        }
        Some(frame)
    }

    /// Packets received and lost so far. Call it now and then: the kernel counts in 32 bits.
    ///
    /// # Errors
    /// Those of getsockopt, which for this option are none.
    pub(crate) fn counts(&mut self) -> io::Result<SocketCounts> {
        let mut since_last = libc::tpacket_stats_v3 {
            tp_packets: 0,
            tp_drops: 0,
            tp_freeze_q_cnt: 0,
        };
        let mut length = size_of_val(&since_last) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to the structure, which outlives the call.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut since_last).cast(),
                &raw mut length,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        self.counts.received += u64::from(since_last.tp_packets);
        self.counts.dropped += u64::from(since_last.tp_drops);
        Ok(self.counts)
    }

    /// Lets no more packets into the ring; those in it can still be taken.
    ///
    /// # Errors
    /// Those of setsockopt.
    pub(crate) fn stop(&self) -> io::Result<()> {
        attach_program(&self.socket, &[instruction(RETURN, 0)])
    }

    /// Whether every packet that was received, and not lost, has been taken. Certain after
    /// [`PacketSocket::stop`].
    ///
    /// # Errors
    /// Those of [`PacketSocket::counts`].
    pub(crate) fn is_drained(&mut self) -> io::Result<bool> {
        let counts = self.counts()?;
        Ok(self.taken >= counts.received - counts.dropped.min(counts.received))
    }

    /// The error that made the descriptor report one, as ENETDOWN; taken by asking.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        let error =
            nix::sys::socket::getsockopt(&self.socket, nix::sys::socket::sockopt::SocketError).ok()?;
        (error != 0).then(|| io::Error::from_raw_os_error(error))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// `data` with the tag between its addresses and the rest (IEEE 802.1Q, 9).
fn put_tag_back(data: &[u8], tpid: u16, tci: u16, out: &mut Vec<u8>) {
    let (addresses, rest) = data.split_at(MAC_ADDRESSES_LEN);
    out.clear();
    out.extend_from_slice(addresses);
    out.extend_from_slice(&tpid.to_be_bytes());
    out.extend_from_slice(&tci.to_be_bytes());
    out.extend_from_slice(rest);
}

fn open_socket() -> Result<OwnedFd> {
    // Protocol 0: no packet comes before the socket is bound to its interface.
    // SAFETY: plain socket creation; the descriptor is owned at once.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if fd >= 0 {
            return Ok(OwnedFd::from_raw_fd(fd));
        }
    }
    let error = io::Error::last_os_error();
    Err(match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => anyhow!(
            "capturing needs the capability CAP_NET_RAW, which this process does not have: run it as root"
        ),
        Some(libc::EAFNOSUPPORT) => anyhow!("this kernel has no packet sockets (CONFIG_PACKET)"),
        _ => anyhow::Error::new(error).context("cannot open a packet socket"),
    })
}

/// Sets an option of level SOL_PACKET.
fn set_option<T>(socket: &OwnedFd, name: libc::c_int, value: &T) -> io::Result<()> {
    set_option_of(socket, libc::SOL_PACKET, name, value)
}

fn set_option_of<T>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `value`; callers give the structure that the
    // option is documented to take.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn join_promiscuous(socket: &OwnedFd, interface: &Interface) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: interface.index,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    // Ends with the socket.
    set_option(socket, libc::PACKET_ADD_MEMBERSHIP, &request)
}

fn bind(socket: &OwnedFd, interface: &Interface) -> io::Result<()> {
    // SAFETY: an all-zero sockaddr_ll is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = interface.index;
    // SAFETY: the address outlives the call and its length is given.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

// Classic BPF (linux/filter.h): BPF_RET | BPF_K, BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K.
const RETURN: u16 = 0x06;
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
/// SKF_AD_OFF + SKF_AD_PKTTYPE: the packet's type instead of its bytes.
const PACKET_TYPE: u32 = (-0x1000_i32 + 4).cast_unsigned();

/// Tells the kernel which packets to take and how much of them, so that others cost nothing and are
/// not counted.
fn program(directions: Directions, snaplen: u32) -> Vec<libc::sock_filter> {
    let snaplen = if snaplen == 0 { u32::MAX } else { snaplen };
    let (outgoing, other) = match directions {
        Directions::Both => return vec![instruction(RETURN, snaplen)],
        Directions::In => (0, snaplen),
        Directions::Out => (snaplen, 0),
    };
    let is_outgoing = libc::sock_filter {
        // To the next instruction if equal, over one otherwise.
        jt: 0,
        jf: 1,
        ..instruction(JUMP_IF_EQUAL, u32::from(libc::PACKET_OUTGOING))
    };
    vec![
        instruction(LOAD_WORD, PACKET_TYPE),
        is_outgoing,
        instruction(RETURN, outgoing),
        instruction(RETURN, other),
    ]
}

const fn instruction(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

fn attach_program(socket: &OwnedFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        // The kernel only reads it.
        filter: program.as_ptr().cast_mut(),
    };
    set_option_of(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_between_addresses_and_type() {
        let frame: Vec<u8> = (0..20).collect();
        let mut out = vec![9; 3];
        put_tag_back(&frame, 0x88a8, 0x2064, &mut out);
        assert_eq!(out[..12], frame[..12]);
        assert_eq!(out[12..16], [0x88, 0xa8, 0x20, 0x64]);
        assert_eq!(out[16..], frame[12..]);
        put_tag_back(&frame[..12], 0x8100, 1, &mut out);
        assert_eq!(out[12..], [0x81, 0, 0, 1]);
    }
}
