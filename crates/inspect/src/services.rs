//! Which service a name proves: `api.github.com` is `github`. The names are data, `data/services.txt`.

use std::collections::HashMap;
use std::sync::LazyLock;

static ENDINGS: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    let rows = include_str!("../data/services.txt").lines();
    let rows = rows.filter(|row| !row.starts_with('#'));
    rows.flat_map(|row| {
        let mut words = row.split_whitespace();
        let service = words.next().unwrap_or("");
        words.map(move |ending| (ending, service))
    })
    .collect()
});

/// Longest name looked at: that of DNS.
const NAME_MAX: usize = 253;

/// The service whose ending fits the name best: the longest of whole labels.
#[must_use]
pub fn of_name(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > NAME_MAX {
        return None;
    }
    let mut lower = [0; NAME_MAX];
    let lower = &mut lower[..name.len()];
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    let mut rest = std::str::from_utf8(lower).ok()?;
    loop {
        if let Some(service) = ENDINGS.get(rest) {
            return Some(service);
        }
        (_, rest) = rest.split_once('.')?;
    }
}

/// The service of this name as the table has it, for whoever reads it back.
#[must_use]
pub fn by_name(service: &str) -> Option<&'static str> {
    ENDINGS.values().find(|known| **known == service).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_ending_of_whole_labels_decides() {
        for (name, expected) in [
            ("github.com", Some("github")),
            ("API.GitHub.com.", Some("github")),
            ("notgithub.com", None),
            ("www.google.com", Some("google")),
            ("play.google.com", Some("google-play")),
            ("r3---sn-uxax4vopj5qx-q0n6.googlevideo.com", Some("youtube")),
            ("com", None),
            ("", None),
            (".", None),
            ("1.2.3.4", None),
        ] {
            assert_eq!(of_name(name), expected, "{name}");
        }
        assert_eq!(of_name(&format!("{}.github.com", "a".repeat(300))), None);
        assert_eq!(by_name("github"), Some("github"));
        assert_eq!(by_name("no-such-service"), None);
    }

    #[test]
    fn the_table_is_well_formed() {
        let rows = include_str!("../data/services.txt").lines();
        let mut endings = std::collections::HashSet::new();
        for row in rows.filter(|row| !row.starts_with('#')) {
            let mut words = row.split_whitespace();
            let service = words.next().expect("a service");
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
            assert!(service.chars().all(is_plain), "{service}");
            for ending in words {
                assert!(ending.chars().all(is_plain) && ending.contains('.'), "{ending}");
                assert!(endings.insert(ending), "{ending} twice");
            }
        }
        assert!(endings.len() > 600, "{}", endings.len());
    }
}
