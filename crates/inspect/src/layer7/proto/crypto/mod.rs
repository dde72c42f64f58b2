//! TLS, QUIC, SSH and other tunnels that hide what they carry.

mod assemble;
mod dtls;
mod handshake;
mod ike;
mod ipsec;
mod messengers;
mod openvpn;
mod quic;
mod quic_packet;
mod socks;
mod ssh;
mod tls;
mod tunnels;
mod wireguard;
mod x509;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[
    &tls::Tls,
    &dtls::Dtls,
    &quic::Quic,
    &ssh::Ssh,
    &socks::Socks,
    &openvpn::OpenVpn,
    &wireguard::WireGuard,
    &wireguard::CloudflareWarp,
    &wireguard::TAILSCALE,
    &wireguard::NEBULA,
    &ike::Ike,
    &ipsec::Esp,
    &ipsec::Ah,
    &tunnels::Pptp,
    &tunnels::L2tp,
    &tunnels::Tinc,
    &tunnels::SoftEther,
    &messengers::Telegram,
    &messengers::Viber,
];
