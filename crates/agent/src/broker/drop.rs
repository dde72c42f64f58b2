//! Giving up privileges, for good.

use std::io;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// A step of giving up privileges that failed. The process must end then.
#[derive(Debug, thiserror::Error)]
#[error("cannot give up privileges: {step}")]
pub struct DropError {
    step: &'static str,
    #[source]
    source: io::Error,
}

/// Linux' overflow id, `nobody` everywhere: owns no file, so the process can read only what
/// everybody can.
pub const NOBODY: u32 = 65_534;

/// Becomes an ordinary user without any capability, and unable to regain one. Only the calling
/// thread is changed for certain, so this must be called before there are others.
pub fn drop_privileges() -> Result<(), DropError> {
    let step = |step: &'static str| {
        move |errno: nix::Error| DropError {
            step,
            source: errno.into(),
        }
    };
    if Uid::effective().is_root() {
        empty_bounding_set().map_err(|source| DropError {
            step: "empty the bounding set of capabilities",
            source,
        })?;
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setgroups(&[]).map_err(step("leave the groups"))?;
        setresgid(gid, gid, gid).map_err(step("change the group"))?;
        setresuid(uid, uid, uid).map_err(step("change the user"))?;
    }
    clear_capabilities().map_err(|source| DropError {
        step: "clear the capabilities",
        source,
    })?;
    nix::sys::prctl::set_no_new_privs().map_err(step("forbid new ones"))
}

/// Takes every capability the kernel knows out of the set that a program could ever gain.
fn empty_bounding_set() -> io::Result<()> {
    /// Numbers that a capability set has room for.
    const CAPABILITIES_MAX: libc::c_ulong = 64;
    for capability in 0..CAPABILITIES_MAX {
        // SAFETY: takes numbers only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            let error = io::Error::last_os_error();
            // The first number that means nothing to this kernel.
            return if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 {
                Ok(())
            } else {
                Err(error)
            };
        }
    }
    Ok(())
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn clear_capabilities() -> io::Result<()> {
    /// _LINUX_CAPABILITY_VERSION_3
    const VERSION_3: u32 = 0x2008_0522;
    let header = CapabilityHeader {
        version: VERSION_3,
        pid: 0,
    };
    let none = [CapabilityData::default(); 2];
    // SAFETY: both structs are as capset(2) wants them and live through the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
