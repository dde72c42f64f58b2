//! Peer to peer, games and other applications.

mod bencode;
mod bittorrent;
mod dht;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[&dht::Dht, &bittorrent::BitTorrent];
