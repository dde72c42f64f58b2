//! TLS, QUIC, SSH and other tunnels that hide what they carry.

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[];
