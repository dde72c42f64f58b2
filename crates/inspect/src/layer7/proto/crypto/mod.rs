//! TLS, QUIC, SSH and other tunnels that hide what they carry.

mod assemble;
mod dtls;
mod handshake;
mod quic;
mod quic_packet;
mod ssh;
mod tls;
mod x509;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[&tls::Tls, &dtls::Dtls, &quic::Quic, &ssh::Ssh];
