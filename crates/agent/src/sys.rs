//! The `bpf(2)` calls that are made directly: batch reading, links, pins, read-only descriptors.
//!
//! aya loads objects; what it has no call for, or hides behind types of its own, is here, over
//! plain descriptors and plain rows.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Commands of `enum bpf_cmd` (include/uapi/linux/bpf.h).
mod command {
    pub(super) const MAP_LOOKUP_ELEM: i32 = 1;
    pub(super) const MAP_UPDATE_ELEM: i32 = 2;
    pub(super) const MAP_DELETE_ELEM: i32 = 3;
    pub(super) const PROG_LOAD: i32 = 5;
    pub(super) const OBJ_PIN: i32 = 6;
    pub(super) const OBJ_GET: i32 = 7;
    pub(super) const PROG_TEST_RUN: i32 = 10;
    pub(super) const MAP_GET_FD_BY_ID: i32 = 14;
    pub(super) const OBJ_GET_INFO_BY_FD: i32 = 15;
    pub(super) const MAP_LOOKUP_AND_DELETE_ELEM: i32 = 21;
    pub(super) const MAP_LOOKUP_BATCH: i32 = 24;
    pub(super) const LINK_CREATE: i32 = 28;
    pub(super) const LINK_UPDATE: i32 = 29;
    pub(super) const LINK_DETACH: i32 = 34;
}

/// Attach types of `enum bpf_attach_type`.
pub mod attach_type {
    pub const CGROUP_INET_SOCK_CREATE: u32 = 2;
    pub const CGROUP_SOCK_OPS: u32 = 3;
    pub const CGROUP_INET4_POST_BIND: u32 = 12;
    pub const CGROUP_INET6_POST_BIND: u32 = 13;
    pub const XDP: u32 = 37;
    pub const PERF_EVENT: u32 = 41;
    pub const TCX_INGRESS: u32 = 46;
    pub const TCX_EGRESS: u32 = 47;
}

/// Only read through this descriptor (BPF_F_RDONLY).
const READ_ONLY: u32 = 1 << 3;

/// Calls bpf(2) with the bytes of `attr`.
fn bpf<T>(command: i32, attr: &mut T) -> io::Result<i64> {
    // SAFETY: `attr` is one of the repr(C) structs below; the kernel reads and writes within its
    // size, and the pointers inside are valid for the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn bpf_fd<T>(command: i32, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Rows and keys that are plain bytes: `repr(C)`, no padding that matters, every pattern valid.
///
/// # Safety
///
/// The type must have no invalid bit patterns and no pointers.
pub unsafe trait Plain: Copy {
    /// A value of zero bytes.
    #[must_use]
    fn zeroed() -> Self {
        // SAFETY: by the trait's contract.
        unsafe { std::mem::zeroed() }
    }

    /// The value's bytes.
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: `self` is readable for its size.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }

    /// A value from the first bytes of a slice; `None` if it is too short.
    #[must_use]
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < size_of::<Self>() {
            return None;
        }
        // SAFETY: long enough, and by the trait's contract any bytes will do.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }
}

macro_rules! plain {
    ($($t:ty),* $(,)?) => {
        // SAFETY: repr(C) rows of integers.
        $(unsafe impl Plain for $t {})*
    };
}

plain!(
    u8,
    u32,
    u64,
    wire::FlowKey,
    wire::FlowRow,
    wire::event::Event,
    wire::event::SamplingOrder,
    wire::flow::Owner,
    wire::rows::Pending,
    wire::rows::AggregateKey,
    wire::rows::AggregateRow,
    wire::rows::InterfaceCounters,
    wire::rows::Losses,
    wire::rows::Buckets,
    wire::rows::Settings,
    wire::rows::LoadSettings,
    wire::rows::TracepointFields,
    wire::rows::SocketKey,
    wire::rows::SocketRow,
    wire::rows::TcpTotals,
    wire::Packet,
);

#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn element(map: BorrowedFd<'_>, key: *const u8, value: *mut u8, flags: u64) -> ElementAttr {
    ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        padding: 0,
        key: key as u64,
        value: value as u64,
        flags,
    }
}

/// The value of a key; `None` if there is none.
pub fn lookup<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    let to = std::ptr::from_mut(&mut value).cast();
    let mut attr = element(map, key.as_bytes().as_ptr(), to, 0);
    found(bpf(command::MAP_LOOKUP_ELEM, &mut attr)).map(|found| found.then_some(value))
}

/// Takes a row out of a hash map, in one step, so that nothing counted in between is lost.
pub fn lookup_and_delete<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    let to = std::ptr::from_mut(&mut value).cast();
    let mut attr = element(map, key.as_bytes().as_ptr(), to, 0);
    found(bpf(command::MAP_LOOKUP_AND_DELETE_ELEM, &mut attr)).map(|found| found.then_some(value))
}

fn found(result: io::Result<i64>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The rows of all CPUs of a per-CPU map. `n_possible_cpus` as [`possible_cpus`] gives it.
pub fn lookup_per_cpu<V: Plain>(
    map: BorrowedFd<'_>,
    index: u32,
    n_possible_cpus: usize,
) -> io::Result<Vec<V>> {
    let stride = size_of::<V>().next_multiple_of(8);
    let mut bytes = vec![0u8; stride * n_possible_cpus];
    let mut attr = element(map, index.as_bytes().as_ptr(), bytes.as_mut_ptr(), 0);
    bpf(command::MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(bytes.chunks_exact(stride).filter_map(V::from_bytes).collect())
}

/// Sets the value of a key.
pub fn update<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let from = value.as_bytes().as_ptr().cast_mut();
    let mut attr = element(map, key.as_bytes().as_ptr(), from, 0);
    bpf(command::MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Removes a key; no error if it was not there.
pub fn delete<K: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    let mut attr = element(map, key.as_bytes().as_ptr(), std::ptr::null_mut(), 0);
    found(bpf(command::MAP_DELETE_ELEM, &mut attr)).map(drop)
}

#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Rows fetched by one call of [`for_each`].
const BATCH_LEN: usize = 4096;

/// Calls `each` with every row of a hash map. Rows inserted or removed meanwhile may or may not be
/// seen; no row is seen twice.
pub fn for_each<K: Plain, V: Plain>(map: BorrowedFd<'_>, mut each: impl FnMut(&K, &V)) -> io::Result<()> {
    let mut capacity = BATCH_LEN;
    let mut keys = vec![K::zeroed(); capacity];
    let mut values = vec![V::zeroed(); capacity];
    let (mut position, mut next) = (0u64, 0u64);
    let mut first = true;
    loop {
        let mut attr = BatchAttr {
            in_batch: if first {
                0
            } else {
                std::ptr::from_mut(&mut position) as u64
            },
            out_batch: std::ptr::from_mut(&mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: capacity as u32,
            map_fd: map.as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        let result = bpf(command::MAP_LOOKUP_BATCH, &mut attr);
        let n_rows = (attr.count as usize).min(capacity);
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                // One bucket holds more than the buffer.
                capacity *= 2;
                keys.resize(capacity, K::zeroed());
                values.resize(capacity, V::zeroed());
                continue;
            }
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => {}
        }
        for (key, value) in keys[..n_rows].iter().zip(&values[..n_rows]) {
            each(key, value);
        }
        if result.is_err() {
            return Ok(());
        }
        position = next;
        first = false;
    }
}

#[repr(C)]
struct LinkCreateAttr {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    expected_revision: u64,
}

/// Attaches a program and returns the link that keeps it attached. `target` is an interface index
/// or a descriptor, as the attach type wants it.
pub fn link_create(
    program: BorrowedFd<'_>,
    target: u32,
    attach_type: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr {
        prog_fd: program.as_raw_fd() as u32,
        target,
        attach_type,
        flags,
        relative: 0,
        padding: 0,
        expected_revision: 0,
    };
    bpf_fd(command::LINK_CREATE, &mut attr)
}

#[repr(C)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// Replaces the program of a link, without a packet in between.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr {
        link_fd: link.as_raw_fd() as u32,
        new_prog_fd: program.as_raw_fd() as u32,
        flags: 0,
        old_prog_fd: 0,
    };
    bpf(command::LINK_UPDATE, &mut attr).map(drop)
}

/// Detaches a link although descriptors of it are open. Fails for what is no link.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr {
        link_fd: link.as_raw_fd() as u32,
        new_prog_fd: 0,
        flags: 0,
        old_prog_fd: 0,
    };
    // Only the first field belongs to this command; the kernel accepts zeros after it.
    bpf(command::LINK_DETACH, &mut attr).map(drop)
}

#[repr(C)]
struct ObjectAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Pins a map, program or link at a path in bpffs.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = ObjectAttr {
        pathname: path.as_ptr() as u64,
        bpf_fd: object.as_raw_fd() as u32,
        file_flags: 0,
    };
    bpf(command::OBJ_PIN, &mut attr).map(drop)
}

/// Opens a pinned object.
pub fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = ObjectAttr {
        pathname: path.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    bpf_fd(command::OBJ_GET, &mut attr)
}

#[repr(C)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// A second descriptor of a map through which it can only be read.
pub fn read_only(map: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let info = map_info(map)?;
    let mut attr = IdAttr {
        id: info.id,
        next_id: 0,
        open_flags: READ_ONLY,
    };
    bpf_fd(command::MAP_GET_FD_BY_ID, &mut attr)
}

#[repr(C)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

/// The beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MapInfo {
    pub map_type: u32,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
}

/// Shape of a map.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    let mut attr = InfoAttr {
        fd: map.as_raw_fd() as u32,
        len: size_of::<MapInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(command::OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// Kernel memory that a map takes, in bytes, as its fdinfo states it.
pub fn map_memory_bytes(map: BorrowedFd<'_>) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()))?;
    let stated = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    stated
        .and_then(|number| number.trim().parse().ok())
        .ok_or_else(|| io::Error::other("fdinfo of the map states no memlock"))
}

#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// What a test run gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// What the program returned.
    pub action: u32,
    /// Mean duration of one run, ns.
    pub duration_ns: u32,
}

/// Runs a packet program on `packet`, `repeat` times, without any device (BPF_PROG_TEST_RUN).
pub fn test_run(program: BorrowedFd<'_>, packet: &[u8], repeat: u32) -> io::Result<TestRun> {
    let mut attr = TestRunAttr {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: packet.len() as u32,
        data_in: packet.as_ptr() as u64,
        repeat,
        ..TestRunAttr::default()
    };
    bpf(command::PROG_TEST_RUN, &mut attr)?;
    Ok(TestRun {
        action: attr.retval,
        duration_ns: attr.duration,
    })
}

/// Number of CPUs that per-CPU rows exist for.
pub fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text
        .trim()
        .rsplit(['-', ','])
        .next()
        .and_then(|number| number.parse::<usize>().ok());
    last.map(|last| last + 1).ok_or_else(|| {
        io::Error::other(format!(
            "/sys/devices/system/cpu/possible reads `{}`",
            text.trim()
        ))
    })
}

#[repr(C)]
#[derive(Default)]
struct ProgLoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// A program that returns 32 bits of the jiffies counter: `jiffies >> shift`.
pub fn load_jiffies_reader(shift: i32) -> io::Result<OwnedFd> {
    const XDP: u32 = 6;
    const HELPER_JIFFIES64: i32 = 118;
    let instruction = |code: u8, registers: u8, immediate: i32| {
        u64::from(code) | u64::from(registers) << 8 | (immediate as u32 as u64) << 32
    };
    const CALL: u8 = 0x85;
    const SHIFT_RIGHT_64: u8 = 0x77;
    const EXIT: u8 = 0x95;
    let program = [
        instruction(CALL, 0, HELPER_JIFFIES64),
        instruction(SHIFT_RIGHT_64, 0, shift),
        instruction(EXIT, 0, 0),
    ];
    let mut attr = ProgLoadAttr {
        prog_type: XDP,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        prog_name: *b"weir_jiffies\0\0\0\0",
        ..ProgLoadAttr::default()
    };
    bpf_fd(command::PROG_LOAD, &mut attr)
}
