//! Names of addresses, as answers of name servers on the wire gave them.

use std::collections::HashMap;
use std::net::IpAddr;

/// Addresses with a name. Two generations: when the newer one is full it becomes the older one, so what
/// was used lately stays, and there are never more than twice this many.
const NAMES_MAX: usize = 100_000;

/// The last name that a name server gave for each address.
#[derive(Debug, Default)]
pub struct Names {
    newer: HashMap<IpAddr, Box<str>>,
    older: HashMap<IpAddr, Box<str>>,
}

impl Names {
    /// Notes an answer. Later ones win.
    pub fn learn(&mut self, address: IpAddr, name: &str, _ts_ns: u64) {
        if self.newer.len() >= NAMES_MAX {
            self.older = std::mem::take(&mut self.newer);
        }
        match self.newer.get_mut(&address) {
            Some(known) if &**known == name => {}
            Some(known) => *known = name.into(),
            None => {
                self.newer.insert(address, name.into());
            }
        }
    }

    /// The last name given for this address.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<&str> {
        let found = self.newer.get(&address).or_else(|| self.older.get(&address));
        found.map(|name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_wins_and_memory_is_bounded() {
        let address = |n: usize| IpAddr::from((n as u128).to_be_bytes());
        let mut names = Names::default();
        for n in 0..NAMES_MAX + 1 {
            names.learn(address(n), "old.example", 0);
        }
        names.learn(address(0), "new.example", 0);
        assert_eq!(names.of(address(0)), Some("new.example"));
        assert_eq!(names.of(address(1)), Some("old.example"));
        for n in 0..2 * NAMES_MAX {
            names.learn(address(n + 10 * NAMES_MAX), "other.example", 0);
        }
        assert_eq!(names.of(address(1)), None);
        assert!(names.newer.len() + names.older.len() <= 2 * NAMES_MAX);
    }
}
