//! A small country database, in MaxMind's format (MaxMind DB File Format Specification 2.0).

use std::net::IpAddr;

/// Record size in bits; 24 holds far more nodes than a test makes.
const RECORD_BITS: u16 = 24;
/// Bits of an address of the tree; IPv4 lies in ::/96.
const DEPTH: usize = 128;
const METADATA_MARK: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// The database in which each network has its country.
pub(crate) fn of(networks: &[(IpAddr, usize, &str)]) -> Vec<u8> {
    // A record is a node, a country (beyond all nodes), or nothing.
    let mut nodes: Vec<[Option<Record>; 2]> = vec![[None, None]];
    for (at, (address, len, _)) in networks.iter().enumerate() {
        let (bits, len) = match address {
            IpAddr::V4(v4) => (u128::from(u32::from(*v4)), len + 96),
            IpAddr::V6(v6) => (u128::from(*v6), *len),
        };
        let mut node = 0;
        for depth in 0..len {
            let bit = (bits >> (DEPTH - 1 - depth) & 1) as usize;
            if depth + 1 == len {
                nodes[node][bit] = Some(Record::Country(at));
            } else if let Some(Record::Node(next)) = nodes[node][bit] {
                node = next;
            } else {
                nodes.push([None, None]);
                nodes[node][bit] = Some(Record::Node(nodes.len() - 1));
                node = nodes.len() - 1;
            }
        }
    }
    let mut data = Vec::new();
    let mut places = Vec::new();
    for (.., country) in networks {
        places.push(data.len());
        map(&mut data, 1);
        text(&mut data, "country");
        map(&mut data, 1);
        text(&mut data, "iso_code");
        text(&mut data, country);
    }
    let mut file = Vec::new();
    for record in nodes.iter().flatten() {
        let number = match record {
            None => nodes.len(),
            Some(Record::Node(node)) => *node,
            Some(Record::Country(at)) => nodes.len() + 16 + places[*at],
        };
        file.extend_from_slice(&(number as u32).to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend_from_slice(METADATA_MARK);
    map(&mut file, 9);
    text(&mut file, "description");
    map(&mut file, 0);
    text(&mut file, "languages");
    // Type 11 is extended: an array of none.
    file.extend([0, 4]);
    text(&mut file, "node_count");
    // Type 6, four bytes.
    file.push(6 << 5 | 4);
    file.extend((nodes.len() as u32).to_be_bytes());
    for (name, number) in [
        ("record_size", RECORD_BITS),
        ("ip_version", 6),
        ("binary_format_major_version", 2),
        ("binary_format_minor_version", 0),
    ] {
        text(&mut file, name);
        // Type 5, two bytes.
        file.push(5 << 5 | 2);
        file.extend(number.to_be_bytes());
    }
    text(&mut file, "database_type");
    text(&mut file, "Lab-Country");
    text(&mut file, "build_epoch");
    // Type 9 is extended: 0 and the type less seven.
    file.extend([8, 2]);
    file.extend(1_700_000_000u64.to_be_bytes());
    file
}

#[derive(Clone, Copy)]
enum Record {
    Node(usize),
    Country(usize),
}

fn map(to: &mut Vec<u8>, entries: u8) {
    to.push(7 << 5 | entries);
}

fn text(to: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 29, "longer texts have another form");
    to.push(2 << 5 | text.len() as u8);
    to.extend(text.bytes());
}

#[test]
fn what_is_written_is_read() {
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let mut geo = inspect::geo::Geo::default();
    geo.knows_private = true;
    geo.add(of(&[
        (address("10.77.0.8"), 29, "CH"),
        (address("fd77::10"), 124, "NO"),
    ]))
    .expect("a sound database");
    for (asked, expected) in [
        ("10.77.0.11", Some("CH")),
        ("10.77.0.1", None),
        ("fd77::12", Some("NO")),
    ] {
        let place = geo.place(address(asked));
        assert_eq!(
            place.country.as_ref().map(inspect::geo::Country::as_str),
            expected,
            "{asked}"
        );
    } // Of private addresses nothing is believed but what the user says.
    geo.knows_private = false;
    assert_eq!(geo.place(address("10.77.0.11")).country, None);
}
