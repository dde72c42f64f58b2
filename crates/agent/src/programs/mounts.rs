//! Mount points of a file system type.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Where file systems of this type are mounted, in order, each place once; empty when
/// /proc/self/mountinfo cannot be read.
pub(super) fn of_type(file_system: &str) -> Vec<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut found = parse(&String::from_utf8_lossy(&table), file_system);
    found.dedup();
    found
}

/// Lines of proc_pid_mountinfo(5): the mount point is the fifth field, the type follows ` - `.
fn parse(table: &str, file_system: &str) -> Vec<PathBuf> {
    let mount_point = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let is_wanted = after.split(' ').next() == Some(file_system);
        let field = before.split(' ').nth(4)?;
        is_wanted.then(|| PathBuf::from(OsString::from_vec(unescape(field))))
    };
    table.lines().filter_map(mount_point).collect()
}

/// Blanks and backslashes are written as `\` and three octal digits.
fn unescape(field: &str) -> Vec<u8> {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_by_type() {
        let table = "24 1 0:21 / /sys/fs/bpf rw,relatime shared:3 - bpf bpf rw,mode=700\n\
                     25 1 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                     a line that is cut\n\
                     26 1 0:23 / /mnt/with\\040blank\\134 rw - bpf none rw\n";
        let check = |kind: &str, expected: &[&str]| {
            let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(parse(table, kind), expected);
        };
        check("bpf", &["/sys/fs/bpf", "/mnt/with blank\\"]);
        check("cgroup2", &["/sys/fs/cgroup"]);
        check("ext4", &[]);
    }
}
