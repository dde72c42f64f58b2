//! Listeners, bound while there are privileges.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, bail};

use super::handover::Handover;

/// The admin API's listeners.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) tcp: Vec<TcpListener>,
    pub(super) unix: Vec<UnixListener>,
}

impl Listeners {
    /// The sockets by their names, for the next image.
    pub(super) fn named(&self, listen: SocketAddr, socket: &Path) -> Vec<(String, BorrowedFd<'_>)> {
        let tcp = self.tcp.iter().map(|one| (tcp_name(listen), one.as_fd()));
        let unix = self.unix.iter().map(|one| (unix_name(socket), one.as_fd()));
        tcp.chain(unix).collect()
    }
}

fn tcp_name(listen: SocketAddr) -> String {
    format!("admin {listen}")
}

fn unix_name(socket: &Path) -> String {
    format!("admin {}", socket.display())
}

/// Binds what can be bound; the local socket must be, the TCP address need not.
pub(super) fn bind(
    listen: SocketAddr,
    socket: &Path,
    handover: &mut Handover,
    notes: &mut Vec<String>,
) -> anyhow::Result<Listeners> {
    let bound = match handover.listener(&tcp_name(listen)) {
        Some(inherited) => Ok(TcpListener::from(inherited)),
        None => TcpListener::bind(listen),
    };
    let tcp = match bound {
        Ok(listener) => vec![listener],
        Err(error) => {
            notes.push(format!(
                "the admin API does not listen on {listen} ({error}): clients on this host use {}",
                socket.display()
            ));
            Vec::new()
        }
    };
    let unix = match handover.listener(&unix_name(socket)) {
        Some(inherited) => UnixListener::from(inherited),
        None => bind_unix(socket)?,
    };
    Ok(Listeners {
        tcp,
        unix: vec![unix],
    })
}

fn bind_unix(path: &Path) -> anyhow::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    if UnixStream::connect(path).is_ok() {
        bail!(
            "another process answers at {}: stop it, or choose another path with --socket",
            path.display()
        );
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove the old socket {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot bind {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot restrict {}", path.display()))?;
    Ok(listener)
}
