//! Peer to peer, games and other applications.

mod apps;
mod bencode;
mod bittorrent;
mod chains;
mod dht;
mod games;
mod sharing;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[
    &dht::Dht,
    &bittorrent::BitTorrent,
    &apps::AVAST,
    &apps::DLEP,
    &apps::EAQ,
    &apps::MERAKI,
    &apps::NEST,
    &apps::OOKLA,
    &apps::RIPE_ATLAS,
    &apps::TEAMVIEWER,
    &apps::TIVO,
    &apps::WHATSAPP,
    &chains::BITCOIN,
    &chains::ETHEREUM,
    &chains::STRATUM,
    &games::MINECRAFT,
    &games::NINTENDO,
    &games::PHOTON,
    &games::QUAKE,
    &games::RAKNET,
    &games::SOURCE,
    &games::STEAM,
    &games::WARCRAFT,
    &games::YOJIMBO,
    &sharing::DROPBOX,
    &sharing::EDONKEY,
    &sharing::GNUTELLA,
    &sharing::SPOTIFY,
];
