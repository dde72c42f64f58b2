//! Programs inside maps: program arrays for tail calls, and the maps of XDP redirects, whose rows may
//! each name a program that runs at the device or CPU redirected to.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use super::names::{self, map_type};
use super::sys::{self, MapInfo, Object};
use super::{Attachment, Error, Found, cannot, note_cut};

/// Slots that are read, all maps of one kind together.
const SLOTS_MAX: u32 = 262_144;

/// Slots by map and program.
pub(super) type ArraySlots = BTreeMap<u32, BTreeMap<u32, Vec<u32>>>;

/// The filled slots of every program array of the host.
pub(super) fn program_arrays(missing: &mut Vec<String>) -> Result<ArraySlots, Error> {
    let mut found = ArraySlots::new();
    for (fd, info) in maps(&[map_type::PROG_ARRAY], missing)? {
        for slot in 0..info.entries_max {
            // A slot that cannot be read is as good as empty: it may be emptied at any time.
            if let Ok(Some(program_id)) = sys::program_array_slot(fd.as_fd(), slot) {
                let slots = found.entry(info.id).or_default();
                slots.entry(program_id).or_default().push(slot);
            }
        }
    }
    Ok(found)
}

/// The programs in devmaps and cpumaps. Those in hashed devmaps have no slots to go through and are
/// found by their keys.
pub(super) fn redirect_maps(found: &mut Vec<Found>, missing: &mut Vec<String>) -> Result<(), Error> {
    /// `struct bpf_devmap_val` and `struct bpf_cpumap_val`: a number, and the program.
    const WITH_PROGRAM_LEN: u32 = 8;
    for (fd, info) in maps(
        &[map_type::DEVMAP, map_type::DEVMAP_HASH, map_type::CPUMAP],
        missing,
    )? {
        if info.value_len != WITH_PROGRAM_LEN {
            continue;
        }
        let mut key = None;
        // Keys that go while we follow them may lead back to the first: hence the bound.
        for _ in 0..info.entries_max {
            let Ok(Some(next)) = sys::next_key(fd.as_fd(), key) else {
                break;
            };
            key = Some(next);
            if let Ok(Some([_, program_id])) = sys::redirect_slot(fd.as_fd(), next)
                && program_id != 0
            {
                let target = format!("map {} slot {next}", info.id);
                found.push((program_id, Attachment::new(&names::map_kind(info.kind), target)));
            }
        }
    }
    Ok(())
}

/// The maps of these kinds, as many as [`SLOTS_MAX`] allows.
fn maps(kinds: &[u32], missing: &mut Vec<String>) -> Result<Vec<(OwnedFd, MapInfo)>, Error> {
    let (ids, is_cut) = sys::ids(Object::Map).map_err(cannot("list BPF maps"))?;
    note_cut(is_cut, "maps", missing);
    let mut slots_left = SLOTS_MAX;
    let mut found = Vec::new();
    for id in ids {
        let Some(fd) = sys::open(Object::Map, id).map_err(cannot("open a BPF map"))? else {
            continue;
        };
        let info = sys::map_info(fd.as_fd()).map_err(cannot("read the information of a BPF map"))?;
        if !kinds.contains(&info.kind) {
            continue;
        }
        match slots_left.checked_sub(info.entries_max) {
            Some(left) => {
                slots_left = left;
                found.push((fd, info));
            }
            None => missing.push(format!("map {id} is too large to look for programs in it")),
        }
    }
    Ok(found)
}
