//! JA4: the fingerprint of a TLS, DTLS or QUIC client, by FoxIO's published algorithm (BSD-3-Clause).
//!
//! `t13d1516h2_8daaf6152771_e5627efa2ab1`: transport, version, whether a name is asked for, numbers of ciphers
//! and extensions, first and last character of the first ALPN; a hash of the sorted ciphers; a hash of the sorted
//! extensions and of the signature algorithms as they came. Nothing else of JA4+ is here: its licence forbids it.

use ring::digest;

use super::hello::{ClientHello, extension, is_grease};
use super::ja3::hex;

/// What carries the hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Tls,
    Dtls,
    Quic,
}

/// The fingerprint of a hello.
#[must_use]
pub fn ja4(hello: &ClientHello, carrier: Carrier) -> String {
    let mut ciphers = without_grease(&hello.ciphers);
    let mut extensions = without_grease(&hello.extensions);
    let has_name = extensions.contains(&extension::SERVER_NAME);
    let (n_ciphers, n_extensions) = (ciphers.len().min(99), extensions.len().min(99));
    ciphers.sort_unstable();
    extensions.retain(|kind| !matches!(*kind, extension::SERVER_NAME | extension::ALPN));
    extensions.sort_unstable();
    let mut last = listed(&extensions);
    let algorithms = without_grease(&hello.signature_algorithms);
    if !algorithms.is_empty() {
        last.push('_');
        last.push_str(&listed(&algorithms));
    }
    format!(
        "{}{}{}{n_ciphers:02}{n_extensions:02}{}_{}_{}",
        match carrier {
            Carrier::Tls => 't',
            Carrier::Dtls => 'd',
            Carrier::Quic => 'q',
        },
        version(hello.version_max()),
        if has_name { 'd' } else { 'i' },
        alpn(hello.alpns.first().map_or(&[], |name| name)),
        hash(&listed(&ciphers)),
        hash(&last),
    )
}

fn without_grease(numbers: &[u16]) -> Vec<u16> {
    numbers
        .iter()
        .copied()
        .filter(|&number| !is_grease(number))
        .collect()
}

const fn version(version: u16) -> &'static str {
    match version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        0xfeff => "d1",
        0xfefd => "d2",
        0xfefc => "d3",
        _ => "00",
    }
}

/// First and last character; of its hexadecimal digits if either is no letter or digit.
fn alpn(name: &[u8]) -> String {
    match (name.first(), name.last()) {
        (Some(first), Some(last)) if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() => {
            [char::from(*first), char::from(*last)].into_iter().collect()
        }
        (Some(first), Some(last)) => hex(&[*first])[..1].to_owned() + &hex(&[*last])[1..],
        _ => "00".to_owned(),
    }
}

fn listed(numbers: &[u16]) -> String {
    let mut text = String::with_capacity(numbers.len() * 5);
    for number in numbers {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&hex(&number.to_be_bytes()));
    }
    text
}

fn hash(text: &str) -> String {
    if text.is_empty() {
        return "000000000000".to_owned();
    }
    hex(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..6])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A hello with grease, a name, ALPN, versions, signature algorithms, groups and point formats.
    pub(in crate::layer7) fn hello() -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend([0, 8, 0x1a, 0x1a, 0x13, 1, 0x13, 2, 0xc0, 0x2b, 1, 0]);
        let mut extensions = Vec::new();
        let mut add = |kind: u16, value: &[u8]| {
            extensions.extend(kind.to_be_bytes());
            extensions.extend((value.len() as u16).to_be_bytes());
            extensions.extend(value);
        };
        add(0x2a2a, &[]);
        add(extension::SERVER_NAME, b"\0\x0e\0\0\x0bexample.org");
        add(extension::ALPN, b"\0\x0c\x02h2\x08http/1.1");
        add(extension::SUPPORTED_VERSIONS, &[6, 0x3a, 0x3a, 3, 4, 3, 3]);
        add(extension::SIGNATURE_ALGORITHMS, &[0, 4, 4, 3, 8, 4]);
        add(extension::SUPPORTED_GROUPS, &[0, 4, 0, 29, 0, 23]);
        add(extension::EC_POINT_FORMATS, &[1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        body
    }

    #[test]
    fn of_a_hello() {
        let hello = ClientHello::parse(&hello(), false).expect("a hello");
        let expected = format!(
            "t13d0306h2_{}_{}",
            hash("1301,1302,c02b"),
            hash("000a,000b,000d,002b_0403,0804")
        );
        assert_eq!(ja4(&hello, Carrier::Tls), expected);
        assert_eq!(ja4(&hello, Carrier::Quic)[..1], *"q");
    }

    /// The example of FoxIO's specification: Chrome's lists, and their hashes.
    #[test]
    fn published() {
        let hello = ClientHello {
            version: 0x0303,
            ciphers: vec![
                0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014,
                0x009c, 0x009d, 0x002f, 0x0035,
            ],
            extensions: vec![
                0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012,
                0x002b, 0xff01, 0x000b, 0x000a, 0x0015,
            ],
            alpns: vec![b"h2"[..].into()],
            supported_versions: vec![0x0304, 0x0303],
            signature_algorithms: vec![0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
            ..ClientHello::default()
        };
        assert_eq!(ja4(&hello, Carrier::Tls), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn alpns() {
        let check = |name: &[u8], expected| assert_eq!(alpn(name), expected, "{name:?}");
        check(b"h2", "h2");
        check(b"http/1.1", "h1");
        check(b"h3-29", "h9");
        check(b"h", "hh");
        check(b"", "00");
        check(&[0xab], "ab");
        check(&[0x30, 0xab], "3b");
        check(&[0x30, 0x31, 0xab, 0xcd], "3d");
    }
}
