//! The `bpf(2)` calls that only look: objects by id, their information, who is attached where.
//!
//! aya covers part of this behind types that hide a link's target and the order of attachment, so the
//! few commands needed are called directly. Layouts are those of include/uapi/linux/bpf.h; a field that
//! the running kernel does not know stays zero.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Commands of `enum bpf_cmd`.
mod command {
    pub(super) const MAP_LOOKUP_ELEM: i32 = 1;
    pub(super) const MAP_GET_NEXT_KEY: i32 = 4;
    pub(super) const OBJ_GET: i32 = 7;
    pub(super) const PROG_GET_NEXT_ID: i32 = 11;
    pub(super) const MAP_GET_NEXT_ID: i32 = 12;
    pub(super) const PROG_GET_FD_BY_ID: i32 = 13;
    pub(super) const MAP_GET_FD_BY_ID: i32 = 14;
    pub(super) const OBJ_GET_INFO_BY_FD: i32 = 15;
    pub(super) const PROG_QUERY: i32 = 16;
    pub(super) const BTF_GET_FD_BY_ID: i32 = 19;
    pub(super) const TASK_FD_QUERY: i32 = 20;
    pub(super) const LINK_GET_FD_BY_ID: i32 = 30;
    pub(super) const LINK_GET_NEXT_ID: i32 = 31;
}

/// Most objects of one kind that are looked at; ids are 31 bits, so a bound is needed somewhere.
pub(super) const OBJECTS_MAX: usize = 65_536;
/// Most programs on one hook of one interface or cgroup (`BPF_MPROG_MAX` and
/// `BPF_CGROUP_MAX_PROGS` are both 64).
const QUERY_MAX: usize = 64;
/// Only read through this descriptor (`BPF_F_RDONLY`).
const READ_ONLY: u32 = 1 << 3;

fn bpf<T>(command: i32, attr: &mut T) -> io::Result<i64> {
    // SAFETY: `attr` is one of the repr(C) structs below; the kernel reads and writes within its size,
    // and every address inside it points to memory that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn bpf_fd<T>(command: i32, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The kinds of object that have ids and can be enumerated.
#[derive(Clone, Copy, Debug)]
pub(super) enum Object {
    Program,
    Map,
    Link,
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// All ids of one kind, ascending, and whether there were more than [`OBJECTS_MAX`].
pub(super) fn ids(object: Object) -> io::Result<(Vec<u32>, bool)> {
    let command = match object {
        Object::Program => command::PROG_GET_NEXT_ID,
        Object::Map => command::MAP_GET_NEXT_ID,
        Object::Link => command::LINK_GET_NEXT_ID,
    };
    let mut found = Vec::new();
    while found.len() < OBJECTS_MAX {
        let mut attr = IdAttr {
            id: found.last().copied().unwrap_or(0),
            ..IdAttr::default()
        };
        match bpf(command, &mut attr) {
            Ok(_) => found.push(attr.next_id),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok((found, false)),
            Err(error) => return Err(error),
        }
    }
    Ok((found, true))
}

/// A descriptor of the object; `None` when it has gone meanwhile, or is not yet whole: the kernel answers
/// EAGAIN for a link that is about to be attached.
pub(super) fn open(object: Object, id: u32) -> io::Result<Option<OwnedFd>> {
    let (command, open_flags) = match object {
        Object::Program => (command::PROG_GET_FD_BY_ID, 0),
        Object::Map => (command::MAP_GET_FD_BY_ID, READ_ONLY),
        Object::Link => (command::LINK_GET_FD_BY_ID, 0),
    };
    let mut attr = IdAttr {
        id,
        next_id: 0,
        open_flags,
    };
    match bpf_fd(command, &mut attr) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EAGAIN)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A descriptor of a BTF object.
pub(super) fn open_btf(id: u32) -> io::Result<OwnedFd> {
    bpf_fd(
        command::BTF_GET_FD_BY_ID,
        &mut IdAttr {
            id,
            ..IdAttr::default()
        },
    )
}

#[repr(C)]
struct ObjectAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Opens what is pinned at a path.
pub(super) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjectAttr {
        pathname: path.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    bpf_fd(command::OBJ_GET, &mut attr)
}

#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// Fills `info`; what the kernel does not know of it stays as it was.
fn info<T>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = InfoAttr {
        bpf_fd: fd.as_raw_fd() as u32,
        info_len: size_of::<T>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    bpf(command::OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

/// `struct bpf_prog_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProgramInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) tag: [u8; 8],
    pub(super) jited_len: u32,
    pub(super) xlated_len: u32,
    jited_insns: u64,
    xlated_insns: u64,
    pub(super) load_time_ns: u64,
    pub(super) created_by_uid: u32,
    pub(super) n_map_ids: u32,
    map_ids: u64,
    pub(super) name: [u8; 16],
    pub(super) ifindex: u32,
    pub(super) flags: u32,
    netns_dev: u64,
    netns_ino: u64,
    n_jited_ksyms: u32,
    n_jited_func_lens: u32,
    jited_ksyms: u64,
    jited_func_lens: u64,
    pub(super) btf_id: u32,
    func_info_len: u32,
    func_info: u64,
    n_func_info: u32,
    n_line_info: u32,
    line_info: u64,
    jited_line_info: u64,
    n_jited_line_info: u32,
    line_info_len: u32,
    jited_line_info_len: u32,
    n_program_tags: u32,
    program_tags: u64,
    pub(super) run_time_ns: u64,
    pub(super) run_count: u64,
    pub(super) recursion_misses: u64,
    pub(super) verified_instructions: u32,
    pub(super) attach_btf_object_id: u32,
    pub(super) attach_btf_id: u32,
    padding: u32,
}
const _: () = assert!(size_of::<ProgramInfo>() == 232);

/// What the kernel says of a program, without its lists.
pub(super) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut found = ProgramInfo::default();
    info(program, &mut found)?;
    Ok(found)
}

/// Ids of the maps that a program uses.
pub(super) fn program_map_ids(program: BorrowedFd<'_>, n_map_ids: u32) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; (n_map_ids as usize).min(OBJECTS_MAX)];
    let mut asked = ProgramInfo {
        n_map_ids: ids.len() as u32,
        map_ids: ids.as_mut_ptr() as u64,
        ..ProgramInfo::default()
    };
    info(program, &mut asked)?;
    ids.truncate(asked.n_map_ids as usize);
    Ok(ids)
}

/// BTF type id of the function at which a program starts; `None` without function information.
pub(super) fn program_function_type_id(program: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    /// `struct bpf_func_info`: instruction offset, type id.
    const FUNC_INFO_LEN: u32 = 8;
    let mut first = [0u32; 2];
    let mut asked = ProgramInfo {
        n_func_info: 1,
        func_info_len: FUNC_INFO_LEN,
        func_info: first.as_mut_ptr() as u64,
        ..ProgramInfo::default()
    };
    info(program, &mut asked)?;
    Ok((asked.n_func_info > 0 && first[1] != 0).then_some(first[1]))
}

/// `struct bpf_map_info`, up to the name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MapInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) key_len: u32,
    pub(super) value_len: u32,
    pub(super) entries_max: u32,
    pub(super) flags: u32,
    pub(super) name: [u8; 16],
}

/// Shape of a map.
pub(super) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut found = MapInfo::default();
    info(map, &mut found)?;
    Ok(found)
}

/// `struct bpf_btf_info`.
#[repr(C)]
#[derive(Default)]
struct BtfInfo {
    btf: u64,
    btf_size: u32,
    id: u32,
    name: u64,
    name_len: u32,
    is_kernel: u32,
}

/// Bytes of a BTF object, and its name if it is the kernel's (`vmlinux` or a module), else empty.
pub(super) fn btf(btf: BorrowedFd<'_>, len_max: usize) -> io::Result<(Vec<u8>, String)> {
    let mut asked = BtfInfo::default();
    info(btf, &mut asked)?;
    let len = asked.btf_size as usize;
    if len > len_max {
        return Err(io::Error::other(format!(
            "a BTF object of {len} bytes is over the limit of {len_max}"
        )));
    }
    let mut bytes = vec![0u8; len];
    let mut name = [0u8; 64];
    let mut asked = BtfInfo {
        btf: bytes.as_mut_ptr() as u64,
        btf_size: asked.btf_size,
        name: name.as_mut_ptr() as u64,
        name_len: name.len() as u32,
        ..BtfInfo::default()
    };
    info(btf, &mut asked)?;
    let name = if asked.is_kernel != 0 {
        text(&name)
    } else {
        String::new()
    };
    Ok((bytes, name))
}

/// `struct bpf_link_info`: the head, and the union as bytes, read by offset in `link`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinkInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) program_id: u32,
    padding: u32,
    body: [u64; 8],
}

impl LinkInfo {
    /// The `index`th 32 bits of the union.
    pub(super) fn u32_at(&self, index: usize) -> u32 {
        let word = self.body.get(index / 2).copied().unwrap_or(0).to_ne_bytes();
        let half = if index.is_multiple_of(2) {
            [0, 1, 2, 3]
        } else {
            [4, 5, 6, 7]
        };
        u32::from_ne_bytes(half.map(|at| word[at]))
    }

    /// The `index`th 64 bits of the union.
    pub(super) fn u64_at(&self, index: usize) -> u64 {
        self.body.get(index).copied().unwrap_or(0)
    }
}

/// What the kernel says of a link.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut found = LinkInfo::default();
    info(link, &mut found)?;
    Ok(found)
}

/// The text that a link's union points to, when its address is the 64-bit word `pointer` and its
/// length the 32-bit word `length`; the perf event kind is at word 0 and must be kept (0 elsewhere).
pub(super) fn link_text(link: BorrowedFd<'_>, pointer: usize, length: usize) -> io::Result<String> {
    let mut buffer = [0u8; 256];
    let mut asked = LinkInfo::default();
    asked.body[pointer] = buffer.as_mut_ptr() as u64;
    let length_bytes = (buffer.len() as u32).to_ne_bytes();
    let mut word = asked.body[length / 2].to_ne_bytes();
    let at = if length.is_multiple_of(2) { 0 } else { 4 };
    word[at..at + 4].copy_from_slice(&length_bytes);
    asked.body[length / 2] = u64::from_ne_bytes(word);
    info(link, &mut asked)?;
    Ok(text(&buffer))
}

/// What a hook is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// An interface of the calling thread's network namespace.
    Interface(u32),
    /// A cgroup directory, a network namespace or a map.
    Descriptor(BorrowedFd<'a>),
}

/// One program on a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    pub(super) program_id: u32,
    /// Zero if there is no link, or the hook does not tell.
    pub(super) link_id: u32,
}

/// Programs on one hook, in the order in which they run.
#[derive(Clone, Debug)]
pub(super) struct Hooked {
    pub(super) attached: Vec<Attached>,
    /// `BPF_F_ALLOW_*` of a cgroup hook.
    pub(super) flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    padding: u32,
    program_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// Who is on a hook (`BPF_PROG_QUERY`), in order.
pub(super) fn query(target: Target<'_>, attach_type: u32) -> io::Result<Hooked> {
    let mut program_ids = [0u32; QUERY_MAX];
    let mut link_ids = [0u32; QUERY_MAX];
    // Only the hooks of interfaces give link ids; older kernels refuse the field elsewhere.
    let (target, links) = match target {
        Target::Interface(ifindex) => (ifindex, link_ids.as_mut_ptr() as u64),
        Target::Descriptor(fd) => (fd.as_raw_fd() as u32, 0),
    };
    let mut attr = QueryAttr {
        target,
        attach_type,
        program_ids: program_ids.as_mut_ptr() as u64,
        count: QUERY_MAX as u32,
        link_ids: links,
        ..QueryAttr::default()
    };
    bpf(command::PROG_QUERY, &mut attr)?;
    let attached = program_ids
        .iter()
        .zip(link_ids)
        .take(attr.count as usize)
        .map(|(&program_id, link_id)| Attached { program_id, link_id });
    Ok(Hooked {
        attached: attached.collect(),
        flags: attr.attach_flags,
    })
}

#[repr(C)]
#[derive(Default)]
struct TaskFdAttr {
    pid: u32,
    fd: u32,
    flags: u32,
    buf_len: u32,
    buf: u64,
    program_id: u32,
    kind: u32,
    probe_offset: u64,
    probe_addr: u64,
}

/// The program on a perf event.
#[derive(Clone, Debug)]
pub(super) struct PerfProgram {
    pub(super) program_id: u32,
    /// `enum bpf_task_fd_type`.
    pub(super) kind: u32,
    /// Tracepoint, symbol or file.
    pub(super) name: String,
    pub(super) offset: u64,
}

/// The program that descriptor `fd` of process `pid`, a perf event, runs (`BPF_TASK_FD_QUERY`).
pub(super) fn task_fd(pid: u32, fd: u32) -> io::Result<PerfProgram> {
    let mut name = [0u8; 256];
    let mut attr = TaskFdAttr {
        pid,
        fd,
        buf_len: name.len() as u32,
        buf: name.as_mut_ptr() as u64,
        ..TaskFdAttr::default()
    };
    bpf(command::TASK_FD_QUERY, &mut attr)?;
    Ok(PerfProgram {
        program_id: attr.program_id,
        kind: attr.kind,
        name: text(&name),
        offset: attr.probe_offset,
    })
}

#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Calls a command on one element of a map with 32-bit keys; `None` if there is no such element.
fn element<V: Default>(command: i32, map: BorrowedFd<'_>, key: Option<u32>) -> io::Result<Option<V>> {
    let mut value = V::default();
    let mut attr = ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        padding: 0,
        key: key.as_ref().map_or(0, |key| std::ptr::from_ref(key) as u64),
        value: std::ptr::from_mut(&mut value) as u64,
        flags: 0,
    };
    match bpf(command, &mut attr) {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The program id in slot `index` of a program array; `None` if it is empty.
pub(super) fn program_array_slot(map: BorrowedFd<'_>, index: u32) -> io::Result<Option<u32>> {
    element(command::MAP_LOOKUP_ELEM, map, Some(index))
}

/// The row of a devmap or cpumap whose values are 8 bytes: interface or queue length, program id.
pub(super) fn redirect_slot(map: BorrowedFd<'_>, key: u32) -> io::Result<Option<[u32; 2]>> {
    element(command::MAP_LOOKUP_ELEM, map, Some(key))
}

/// The key after `key`, or the first; `None` at the end.
pub(super) fn next_key(map: BorrowedFd<'_>, key: Option<u32>) -> io::Result<Option<u32>> {
    element(command::MAP_GET_NEXT_KEY, map, key)
}

/// Text up to the first zero byte.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
