//! A packet socket: whole frames out of one interface, many at a time.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Most frames in one system call.
pub(super) const BATCH_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct FrameSocket(OwnedFd);

/// Whether frames that arrive are wanted as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    SendOnly,
    Both,
}

impl FrameSocket {
    /// Opens a socket on an interface of the calling thread's namespace.
    pub(super) fn open(interface: &str, direction: Direction) -> io::Result<FrameSocket> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        // Protocol 0 receives nothing.
        let protocol = match direction {
            Direction::SendOnly => 0,
            Direction::Both => (libc::ETH_P_ALL as u16).to_be(),
        };
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain socket creation; the descriptor is owned at once.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_PACKET, kind, i32::from(protocol));
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        // SAFETY: an all-zero sockaddr_ll is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index as i32;
        // SAFETY: the address is a sockaddr_ll of the length given and outlives the call.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(FrameSocket(socket))
    }

    /// Sends up to `BATCH_MAX` frames; how many the kernel took. None when it has no room now.
    pub(super) fn send(&self, frames: &[Vec<u8>]) -> io::Result<usize> {
        let frames = &frames[..frames.len().min(BATCH_MAX)];
        // SAFETY: all-zero iovec and mmsghdr are valid values.
        let (mut parts, mut messages): ([libc::iovec; BATCH_MAX], [libc::mmsghdr; BATCH_MAX]) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        for ((frame, part), message) in frames.iter().zip(&mut parts).zip(&mut messages) {
            part.iov_base = frame.as_ptr().cast_mut().cast();
            part.iov_len = frame.len();
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the first `frames.len()` headers point to parts, these to frames, and all of them
        // outlive the call; the kernel only reads what they point to.
        let taken =
            unsafe { libc::sendmmsg(self.0.as_raw_fd(), messages.as_mut_ptr(), frames.len() as u32, 0) };
        if taken >= 0 {
            return Ok(taken as usize);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR) => Ok(0),
            _ => Err(error),
        }
    }

    /// The next frame that waits, cut to the buffer; `None` when there is none.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        // SAFETY: the kernel writes at most `buffer.len()` bytes into the buffer.
        let length = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if length >= 0 {
            return Ok(Some(length as usize));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        }
    }
}
