//! Numbers for the interfaces of all captures of one reading.

use inspect::capfile::Interface;

/// Gives each interface a number that stays the same over sections and files: packets of the same
/// name belong together, as those of a rotated capture do; an interface without a name goes by its
/// place in the file.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    /// By number. The name is empty where the file gives none.
    known: Vec<(u32, String)>,
    /// Number of the interface with this place in the file, when last seen.
    by_place: Vec<u32>,
}

impl Interfaces {
    /// Number of the interface at `place` in its file.
    #[inline]
    pub(super) fn number(&mut self, place: u32, interface: Option<&Interface>) -> u32 {
        let name = interface.map_or("", |interface| interface.name.as_str());
        if let Some(&number) = self.by_place.get(place as usize)
            && let Some(known) = self.known.get(number as usize)
            && is_same(known, place, name)
        {
            return number;
        }
        self.look_up(place, name)
    }

    #[cold]
    fn look_up(&mut self, place: u32, name: &str) -> u32 {
        let found = self.known.iter().position(|known| is_same(known, place, name));
        let number = found.unwrap_or_else(|| {
            self.known.push((place, name.to_owned()));
            self.known.len() - 1
        }) as u32;
        // Readers bound the number of interfaces, so this is bounded too.
        let at = place as usize;
        if self.by_place.len() <= at {
            self.by_place.resize(at + 1, u32::MAX);
        }
        self.by_place[at] = number;
        number
    }

    /// Name of the interface with this number, if it has one.
    pub(super) fn name(&self, number: u32) -> Option<&str> {
        let (_, name) = self.known.get(number as usize)?;
        (!name.is_empty()).then_some(name.as_str())
    }
}

/// Empty names are never compared as text: comparing nothing at the address an empty string has
/// costs a processor with masked loads as much as counting the packet (measured with AVX-512).
#[inline]
fn is_same((known_place, known_name): &(u32, String), place: u32, name: &str) -> bool {
    if name.is_empty() {
        known_name.is_empty() && *known_place == place
    } else {
        known_name == name
    }
}

#[cfg(test)]
mod tests {
    use inspect::capfile::{PcapngWriter, Reader, Step};

    use super::*;

    /// Interfaces of these names, as a reader gives them.
    fn interfaces(names: &[&str]) -> Vec<Interface> {
        let mut writer = PcapngWriter::new(&Default::default());
        for name in names {
            let info = inspect::capfile::InterfaceInfo {
                name,
                ..Default::default()
            };
            writer.add_interface(&info);
        }
        let bytes = writer.bytes().to_vec();
        let mut reader = Reader::new();
        let step = reader.next(&mut bytes.as_slice());
        assert!(matches!(step, Ok(Step::NeedMore { .. })));
        reader.interfaces().to_vec()
    }

    #[test]
    fn the_same_name_is_the_same_interface_and_no_name_goes_by_place() {
        let first = interfaces(&["eth0", "", "wlan0"]);
        let second = interfaces(&["wlan0", "eth0", ""]);
        let seen = [
            (0, first.first()),
            (1, first.get(1)),
            (2, first.get(2)),
            (0, second.first()),
            (1, second.get(1)),
            (2, second.get(2)),
            (1, first.get(1)),
            (0, None),
        ];
        let mut known = Interfaces::default();
        let numbers = seen.map(|(place, interface)| known.number(place, interface));
        assert_eq!(numbers, [0, 1, 2, 2, 0, 3, 1, 4]);
        assert_eq!(known.name(2), Some("wlan0"));
        assert_eq!(known.name(1), None);
    }
}
