//! An XDP program that lets everything pass, for one end of a cable.
//!
//! What an XDP program sends back (XDP_TX) on one end of a veth pair sits in a queue at the other end
//! until that end has an XDP program as well: receive merging makes the queue, but only a program there
//! has it emptied (`veth_xdp_flush` in the kernel's veth driver). It takes two instructions, so it is
//! written here as such, and the lab needs neither a compiler nor a loader.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

// linux/bpf.h and linux/if_link.h.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// `r0 = XDP_PASS; exit`, as struct bpf_insn in memory: opcode, registers, offset, immediate.
const PASS: [[u8; 8]; 2] = [
    #[cfg(target_endian = "little")]
    [0xb7, 0, 0, 0, 2, 0, 0, 0],
    #[cfg(target_endian = "big")]
    [0xb7, 0, 0, 0, 0, 0, 0, 2],
    [0x95, 0, 0, 0, 0, 0, 0, 0],
];

/// The head of union bpf_attr for BPF_PROG_LOAD.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface_index: u32,
    expected_attach_type: u32,
}
const _: () = assert!(size_of::<ProgramLoad>() == 72);

/// The head of union bpf_attr for BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    program: u32,
    interface_index: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches the program to an interface of the calling thread's namespace, in the driver. It stays as
/// long as somebody has the descriptor open.
pub(crate) fn attach(interface: &str) -> Result<OwnedFd> {
    let index =
        nix::net::if_::if_nametoindex(interface).with_context(|| format!("no interface `{interface}`"))?;
    let load = ProgramLoad {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: PASS.len() as u32,
        instructions: PASS.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"weir_lab_pass\0\0\0",
        interface_index: 0,
        expected_attach_type: BPF_XDP,
    };
    let program = bpf(BPF_PROG_LOAD, &load).context("cannot load the lab's XDP program")?;
    let link = LinkCreate {
        program: program.as_raw_fd() as u32,
        interface_index: index,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    bpf(BPF_LINK_CREATE, &link)
        .with_context(|| format!("cannot attach the lab's XDP program to `{interface}`"))
}

/// One bpf() command that makes a descriptor.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attributes` is one of the structs above, laid out as the kernel expects it for the
    // command and valid for the call, as is everything it points to; both commands only read it.
    unsafe {
        let fd = libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        );
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}
