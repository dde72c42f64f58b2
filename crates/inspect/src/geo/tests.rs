use super::*;

/// A database of one field, written by hand: a tree of one node whose sides both lead to the record.
/// See the MaxMind DB file format specification, version 2.0.
fn database(record: &[u8]) -> Vec<u8> {
    let node_count = 1u32;
    // Records of a node are 24 bits; a value above the count of nodes points into the data, 16 further on.
    let pointer = node_count + 16;
    let side = &pointer.to_be_bytes()[1..];
    let mut bytes = [side, side].concat();
    bytes.extend([0; 16]);
    bytes.extend(record);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    let number = |name: &str, control: u8, value: &[u8]| [text(name), vec![control], value.to_vec()].concat();
    bytes.push(0xe0 | 9);
    bytes.extend([text("description"), map(&[])].concat());
    // An array, type 11, of nothing.
    bytes.extend([text("languages"), vec![0x00, 0x04]].concat());
    bytes.extend(number("binary_format_major_version", 0xa1, &[2]));
    bytes.extend(number("binary_format_minor_version", 0xa0, &[]));
    // 0 in the first three bits: the type follows, less 7. 9 is a 64-bit number.
    bytes.extend([text("build_epoch"), vec![0x01, 0x02, 1]].concat());
    bytes.extend([text("database_type"), text("Test")].concat());
    bytes.extend(number("ip_version", 0xa1, &[4]));
    bytes.extend(number("node_count", 0xc1, &[1]));
    bytes.extend(number("record_size", 0xa1, &[24]));
    bytes
}

fn text(text: &str) -> Vec<u8> {
    // From 29 on the length has a byte of its own.
    let head = match text.len() {
        len @ 0..29 => vec![0x40 | len as u8],
        len => vec![0x40 | 29, len as u8 - 29],
    };
    [&head, text.as_bytes()].concat()
}

fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0xe0 | pairs.len() as u8];
    for (name, value) in pairs {
        bytes.extend([text(name), value.clone()].concat());
    }
    bytes
}

#[track_caller]
fn check(record: &[u8], country: Option<&str>, asn: Option<u32>, organisation: Option<&str>) {
    let mut geo = Geo::default();
    assert!(geo.is_empty());
    geo.add(database(record)).expect("a database");
    let place = geo.place([192, 0, 2, 1].into());
    assert_eq!(place.country.as_ref().map(Country::as_str), country);
    assert_eq!(place.asn, asn);
    assert_eq!(place.organisation.as_deref(), organisation);
}

#[test]
fn both_layouts_and_systems() {
    check(&map(&[("country_code", text("de"))]), Some("DE"), None, None);
    let nested = |code: &str| map(&[("iso_code", text(code)), ("names", map(&[("en", text("X"))]))]);
    check(&map(&[("country", nested("FR"))]), Some("FR"), None, None);
    check(
        &map(&[("registered_country", nested("SE"))]),
        Some("SE"),
        None,
        None,
    );
    let system = map(&[
        ("autonomous_system_number", vec![0xc2, 0x10, 0x00]),
        ("autonomous_system_organization", text("Example")),
    ]);
    check(&system, None, Some(4096), Some("Example"));
    check(&map(&[("country_code", text("xyz"))]), None, None, None);
    check(&map(&[("country_code", vec![0xa1, 5])]), None, None, None);
}

#[test]
fn what_is_no_database_is_refused() {
    for bytes in [&b""[..], b"not a database", b"\xab\xcd\xefMaxMind.com"] {
        assert!(Geo::default().add(bytes.to_vec()).is_err());
    }
}

#[test]
fn look_ups_of_the_shared_databases() {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        std::path::PathBuf::from,
    );
    let folder = shared.join("data/geo");
    let Ok(expected) = std::fs::read_to_string(folder.join("expected_lookups.json")) else {
        let required = std::env::var_os("WEIR_REQUIRE_CAPS").is_some_and(|value| value == "1");
        assert!(
            !required,
            "expected look-ups in {}; set WEIR_SHARED",
            folder.display()
        );
        return;
    };
    let expected: Vec<serde_json::Value> = serde_json::from_str(&expected).expect("JSON");
    let mut n = 0;
    for row in &expected {
        let (Some(db), Some(ip)) = (row["db"].as_str(), row["ip"].as_str()) else {
            continue;
        };
        if !row.as_object().is_some_and(|row| row.contains_key("country")) {
            continue;
        }
        let mut geo = Geo {
            knows_private: true,
            ..Geo::default()
        };
        geo.add(std::fs::read(folder.join(db)).expect("a readable database"))
            .expect("a database");
        let place = geo.place(ip.parse().expect("an address"));
        assert_eq!(
            place.country.as_ref().map(Country::as_str),
            row["country"].as_str(),
            "{db} {ip}"
        );
        n += 1;
    }
    assert!(n >= 10, "{n}");
}
