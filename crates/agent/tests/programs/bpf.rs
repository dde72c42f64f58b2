//! Just enough of bpf(2) to load, attach and run small programs, as any loader would.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `enum bpf_prog_type`.
pub(crate) mod program_type {
    pub(crate) const SCHED_CLS: u32 = 3;
    pub(crate) const XDP: u32 = 6;
    pub(crate) const CGROUP_SKB: u32 = 8;
    pub(crate) const RAW_TRACEPOINT: u32 = 17;
    pub(crate) const SK_LOOKUP: u32 = 30;
}

/// `enum bpf_attach_type`.
pub(crate) mod attach_type {
    pub(crate) const CGROUP_INET_EGRESS: u32 = 1;
    pub(crate) const XDP_DEVMAP: u32 = 33;
    pub(crate) const SK_LOOKUP: u32 = 36;
    pub(crate) const XDP: u32 = 37;
    pub(crate) const TCX_INGRESS: u32 = 46;
}

/// Put before what is attached already (`BPF_F_BEFORE`).
pub(crate) const BEFORE: u32 = 1 << 3;
/// `XDP_FLAGS_SKB_MODE`.
pub(crate) const XDP_GENERIC: u32 = 1 << 1;
/// Programs of cgroups above run as well (`BPF_F_ALLOW_MULTI`).
pub(crate) const ALLOW_MULTI: u32 = 1 << 1;

fn bpf<const N: usize>(command: i32, mut attr: [u32; N]) -> io::Result<(i64, [u32; N])> {
    // SAFETY: the array is as long as said; addresses in it are of memory that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), N * 4) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok((result, attr))
    }
}

fn fd<const N: usize>(command: i32, attr: [u32; N]) -> io::Result<OwnedFd> {
    let (fd, _) = bpf(command, attr)?;
    // SAFETY: the kernel has just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// An address as the two words that it is in an attribute.
fn address<T: ?Sized>(of: *const T) -> [u32; 2] {
    let address = of.cast::<u8>() as u64;
    [address as u32, (address >> 32) as u32]
}

/// One instruction: opcode, registers, immediate.
pub(crate) const fn instruction(opcode: u8, destination: u8, source: u8, immediate: i32) -> u64 {
    opcode as u64 | ((source << 4 | destination) as u64) << 8 | (immediate as u32 as u64) << 32
}

/// A program that returns `value`.
pub(crate) fn returning(value: i32) -> Vec<u64> {
    vec![instruction(0xb7, 0, 0, value), instruction(0x95, 0, 0, 0)]
}

/// A program that tail calls a slot of a program array, and returns 1 if that is empty.
pub(crate) fn tail_calling(array: &OwnedFd, slot: i32) -> Vec<u64> {
    const PSEUDO_MAP_FD: u8 = 1;
    const TAIL_CALL: i32 = 12;
    let mut code = vec![
        instruction(0x18, 2, PSEUDO_MAP_FD, array.as_raw_fd()),
        0,
        instruction(0xb7, 3, 0, slot),
        instruction(0x85, 0, 0, TAIL_CALL),
    ];
    code.extend(returning(1));
    code
}

/// Loads a program.
pub(crate) fn load(kind: u32, attach_type: u32, name: &str, code: &[u64]) -> io::Result<OwnedFd> {
    let mut attr = [0u32; 18];
    attr[0] = kind;
    attr[1] = code.len() as u32;
    attr[2..4].copy_from_slice(&address(code.as_ptr()));
    attr[4..6].copy_from_slice(&address(c"GPL".as_ptr()));
    for (at, byte) in name.bytes().take(15).enumerate() {
        attr[12 + at / 4] |= u32::from(byte) << (8 * (at % 4));
    }
    attr[17] = attach_type;
    fd(5, attr)
}

/// Attaches to an interface index or descriptor; the link's end is the attachment's end.
pub(crate) fn link(program: &OwnedFd, target: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    fd(
        28,
        [program.as_raw_fd() as u32, target, attach_type, flags, 0, 0, 0, 0],
    )
}

/// Attaches to a cgroup without a link.
pub(crate) fn attach(program: &OwnedFd, target: &OwnedFd, attach_type: u32, flags: u32) -> io::Result<()> {
    bpf(
        8,
        [
            target.as_raw_fd() as u32,
            program.as_raw_fd() as u32,
            attach_type,
            flags,
        ],
    )
    .map(drop)
}

pub(crate) fn raw_tracepoint(program: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    let [low, high] = address(name.as_ptr());
    fd(17, [low, high, program.as_raw_fd() as u32, 0])
}

pub(crate) fn pin(object: &OwnedFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let [low, high] = address(path.as_ptr());
    bpf(6, [low, high, object.as_raw_fd() as u32, 0]).map(drop)
}

/// A program array with `n_slots` empty slots.
pub(crate) fn program_array(n_slots: u32) -> io::Result<OwnedFd> {
    const PROG_ARRAY: u32 = 3;
    fd(0, [PROG_ARRAY, 4, 4, n_slots, 0])
}

/// A hashed devmap whose rows name an interface and a program.
pub(crate) fn devmap_hash(entries_max: u32) -> io::Result<OwnedFd> {
    const DEVMAP_HASH: u32 = 25;
    fd(0, [DEVMAP_HASH, 4, 8, entries_max, 0])
}

/// Sets a row of a map; the value is as long as the map's.
pub(crate) fn set_slot<const N: usize>(map: &OwnedFd, key: u32, value: [u32; N]) -> io::Result<()> {
    let (key, value) = (address(&raw const key), address(&raw const value));
    let map = map.as_raw_fd() as u32;
    bpf(2, [map, 0, key[0], key[1], value[0], value[1], 0, 0]).map(drop)
}

/// Runs a packet program `repeat` times on an empty frame; gives what it returned.
pub(crate) fn test_run(program: &OwnedFd, repeat: u32) -> io::Result<u32> {
    let packet = [0u8; 64];
    let mut attr = [0u32; 18];
    attr[0] = program.as_raw_fd() as u32;
    attr[2] = packet.len() as u32;
    attr[4..6].copy_from_slice(&address(packet.as_ptr()));
    attr[8] = repeat;
    bpf(10, attr).map(|(_, attr)| attr[1])
}

/// A number that fdinfo states of an object, as `prog_id`.
pub(crate) fn stated(object: &OwnedFd, name: &str) -> u32 {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", object.as_raw_fd())).expect("fdinfo");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|number| number.trim().parse().ok())
        .expect("the number")
}
