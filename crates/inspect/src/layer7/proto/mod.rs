//! Every protocol, a file each, in folders by what they are for.

mod crypto;
mod data;
mod industry;
mod lines;
mod mail;
mod media;
mod names;
mod network;
mod office;
mod peers;
mod web;

use super::protocol::Protocol;

/// Every protocol. The order matters only between two that are equally unsure and have no port in common
/// with the flow: the first is taken.
pub fn all() -> impl Iterator<Item = &'static dyn Protocol> {
    [
        web::ALL,
        crypto::ALL,
        names::ALL,
        mail::ALL,
        network::ALL,
        data::ALL,
        office::ALL,
        media::ALL,
        industry::ALL,
        peers::ALL,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// The protocol of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static dyn Protocol> {
    all().find(|protocol| protocol.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer7::engine::PROTOCOLS_MAX;

    #[test]
    fn names_are_lower_case_and_unique_and_there_is_room_for_all() {
        assert!(all().count() <= PROTOCOLS_MAX);
        let mut names: Vec<_> = all().map(Protocol::name).collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "two parsers of one protocol");
        for protocol in all() {
            let name = protocol.name();
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
            assert!(!name.is_empty() && name.chars().all(is_name), "{name}");
        }
    }
}
