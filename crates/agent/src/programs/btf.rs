//! Names of types in BTF objects: full names of programs, and the kernel functions that are traced.
//!
//! Only names are wanted, so the types are walked by their lengths
//! (Documentation/bpf/btf.rst) and nothing is built of them.

use std::collections::HashMap;
use std::os::fd::AsFd;

use super::sys;

/// Longest BTF object that is read; that of a kernel is 4 to 12 MB.
const BTF_LEN_MAX: usize = 64 << 20;
const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;
/// Where the running kernel keeps its own BTF, to which those of modules are relative.
const VMLINUX_PATH: &str = "/sys/kernel/btf/vmlinux";

/// A BTF object whose types can be asked for their name.
struct Btf {
    bytes: Vec<u8>,
    types: std::ops::Range<usize>,
    strings: std::ops::Range<usize>,
    /// What a module's BTF is relative to.
    base: Option<Box<Btf>>,
}

impl Btf {
    fn parse(bytes: Vec<u8>, base: Option<Box<Btf>>) -> Option<Self> {
        if u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let header_len = u32_at(&bytes, 4)? as usize;
        let section = |offset: usize, length: usize| -> Option<std::ops::Range<usize>> {
            let start = header_len.checked_add(u32_at(&bytes, offset)? as usize)?;
            let end = start.checked_add(u32_at(&bytes, length)? as usize)?;
            (header_len >= HEADER_LEN && end <= bytes.len()).then_some(start..end)
        };
        let (types, strings) = (section(8, 12)?, section(16, 20)?);
        Some(Self {
            bytes,
            types,
            strings,
            base,
        })
    }

    /// Position and id of each type of this object, without those of its base.
    fn positions(&self) -> impl Iterator<Item = usize> {
        let mut at = self.types.start;
        std::iter::from_fn(move || {
            let here = at;
            if here + 12 > self.types.end {
                return None;
            }
            let info = u32_at(&self.bytes, here + 4)?;
            at = here + 12 + tail_len(info);
            Some(here)
        })
    }

    /// Ids that this object and its base hold, id 0 (void) included.
    fn n_types(&self) -> usize {
        self.base.as_ref().map_or(1, |base| base.n_types()) + self.positions().count()
    }

    fn strings_len(&self) -> usize {
        self.strings.len() + self.base.as_ref().map_or(0, |base| base.strings_len())
    }

    fn type_name(&self, type_id: u32) -> Option<String> {
        let first_id = self.base.as_ref().map_or(1, |base| base.n_types());
        let Some(index) = (type_id as usize).checked_sub(first_id) else {
            return self.base.as_ref()?.type_name(type_id);
        };
        let at = self.positions().nth(index)?;
        self.string(u32_at(&self.bytes, at)? as usize)
    }

    fn string(&self, offset: usize) -> Option<String> {
        let own_start = self.base.as_ref().map_or(0, |base| base.strings_len());
        let Some(offset) = offset.checked_sub(own_start) else {
            return self.base.as_ref()?.string(offset);
        };
        let bytes = self.bytes.get(self.strings.clone())?.get(offset..)?;
        Some(sys::text(bytes)).filter(|name| !name.is_empty())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Bytes that follow the 12 common ones of a type, from its `info` word.
fn tail_len(info: u32) -> usize {
    let n_members = (info & 0xffff) as usize;
    match (info >> 24) & 0x1f {
        // int, var, decl_tag
        1 | 14 | 17 => 4,
        // array
        3 => 12,
        // struct, union, datasec, enum64
        4 | 5 | 15 | 19 => 12 * n_members,
        // enum, func_proto
        6 | 13 => 8 * n_members,
        _ => 0,
    }
}

/// Reads names out of BTF objects by id, each object once.
#[derive(Default)]
pub(super) struct BtfNames {
    objects: HashMap<u32, Option<Btf>>,
}

impl BtfNames {
    /// Name of a type; `None` when the object cannot be read or has no such type.
    pub(super) fn type_name(&mut self, object_id: u32, type_id: u32) -> Option<String> {
        let object = self.objects.entry(object_id).or_insert_with(|| read(object_id));
        object.as_ref()?.type_name(type_id)
    }
}

fn read(object_id: u32) -> Option<Btf> {
    let fd = sys::open_btf(object_id).ok()?;
    let (bytes, name) = sys::btf(fd.as_fd(), BTF_LEN_MAX).ok()?;
    let base = match name.as_str() {
        "" | "vmlinux" => None,
        _module => Some(Box::new(Btf::parse(std::fs::read(VMLINUX_PATH).ok()?, None)?)),
    };
    Btf::parse(bytes, base)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A BTF object of these types, each `(name offset, info, tail)`.
    fn object(types: &[(u32, u32, &[u32])], strings: &[u8]) -> Vec<u8> {
        let types: Vec<u8> = types
            .iter()
            .flat_map(|(name, info, tail)| [&[*name, *info, 0], *tail].concat())
            .flat_map(u32::to_ne_bytes)
            .collect();
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        let lengths = [
            24,
            0,
            types.len() as u32,
            types.len() as u32,
            strings.len() as u32,
        ];
        bytes.extend(lengths.iter().flat_map(|length| length.to_ne_bytes()));
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    const FUNC: u32 = 12 << 24;
    const INT: u32 = 1 << 24;
    const ENUM_OF_2: u32 = 6 << 24 | 2;

    #[test]
    fn names_by_type_id() {
        let types: [(u32, u32, &[u32]); 3] = [(1, INT, &[0]), (5, ENUM_OF_2, &[0; 4]), (7, FUNC, &[])];
        let base = Btf::parse(object(&types, b"\0int\0e\0func_of_kernel\0"), None).expect("well formed");
        let check = |btf: &Btf, id: u32, expected: Option<&str>| {
            assert_eq!(btf.type_name(id).as_deref(), expected, "type {id}");
        };
        check(&base, 0, None);
        check(&base, 1, Some("int"));
        check(&base, 2, Some("e"));
        check(&base, 3, Some("func_of_kernel"));
        check(&base, 4, None);

        let own_start = base.strings_len() as u32;
        let types: [(u32, u32, &[u32]); 2] = [(own_start + 1, FUNC, &[]), (1, FUNC, &[])];
        let module = Btf::parse(object(&types, b"\0of_module\0"), Some(Box::new(base))).expect("well formed");
        check(&module, 2, Some("e"));
        check(&module, 4, Some("of_module"));
        check(&module, 5, Some("int"));
    }

    #[test]
    fn cut_objects_have_no_names() {
        let whole = object(&[(1, FUNC, &[])], b"\0f\0");
        for len in 0..whole.len() {
            assert!(Btf::parse(whole[..len].to_vec(), None).is_none(), "{len} bytes");
        }
        // Members that are said to go on past the end.
        let lying = Btf::parse(object(&[(1, ENUM_OF_2, &[])], b"\0f\0"), None).expect("well formed");
        assert_eq!(lying.type_name(2), None);
    }
}
