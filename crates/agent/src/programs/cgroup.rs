//! Programs on cgroups, in order.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::link::{Link, LinkTarget};
use super::names::{self, hook};
use super::sys::{self, Target};
use super::{Attachment, Found, Order, mounts};

/// Most cgroups that are asked.
const CGROUPS_MAX: usize = 16_384;

/// Asks every hook of every cgroup v2, parents before children. Returns whether there were more than
/// [`CGROUPS_MAX`].
pub(super) fn collect(links: &[Link], used_links: &mut HashSet<u32>, found: &mut Vec<Found>) -> bool {
    let mut folders: Vec<PathBuf> = mounts::of_type("cgroup2");
    let mut n_cgroups = 0;
    while let Some(folder) = folders.pop() {
        n_cgroups += 1;
        if n_cgroups > CGROUPS_MAX {
            return true;
        }
        one(&folder, links, used_links, found);
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut children: Vec<_> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        children.sort_unstable_by(|a, b| b.cmp(a));
        folders.append(&mut children);
    }
    false
}

fn one(folder: &Path, links: &[Link], used_links: &mut HashSet<u32>, found: &mut Vec<Found>) {
    let Ok(directory) = File::open(folder) else {
        return;
    };
    // A cgroup's id is the inode of its directory.
    let Ok(id) = directory.metadata().map(|meta| meta.ino()) else {
        return;
    };
    for &attach_type in hook::CGROUP {
        // Hooks that this kernel does not know are refused; so is a cgroup that is going.
        let Ok(hooked) = sys::query(Target::Descriptor(directory.as_fd()), attach_type) else {
            continue;
        };
        let count = hooked.attached.len() as u32;
        for (position, attached) in (1..).zip(&hooked.attached) {
            let of_this = LinkTarget::Cgroup {
                cgroup_id: id,
                attach_type,
            };
            let link = links.iter().find(|link| {
                link.program_id == attached.program_id
                    && link.target == of_this
                    && !used_links.contains(&link.id)
            });
            used_links.extend(link.map(|link| link.id));
            let hook = format!("cgroup {}", names::attach_type(attach_type));
            let attachment = Attachment {
                order: Some(Order { position, count }),
                link_id: link.map(|link| link.id),
                detail: inheritance(hooked.flags).map(str::to_owned),
                ..Attachment::new(&hook, folder.display().to_string())
            };
            found.push((attached.program_id, attachment));
        }
    }
}

/// What `BPF_F_ALLOW_OVERRIDE` and `BPF_F_ALLOW_MULTI` mean for the cgroups below.
fn inheritance(flags: u32) -> Option<&'static str> {
    match flags {
        flags if flags & 2 != 0 => Some("runs for cgroups below too"),
        flags if flags & 1 != 0 => Some("cgroups below may replace it"),
        _ => None,
    }
}
