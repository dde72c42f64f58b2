//! JA3 and JA3S: MD5 of the numbers in a hello, as Salesforce published them (BSD-3-Clause).

use md5::{Digest, Md5};

use super::hello::{ClientHello, ServerHello, is_grease};

/// Of a client: version, ciphers, extensions, groups, point formats.
#[must_use]
pub fn client(hello: &ClientHello) -> String {
    let points: Vec<u16> = hello.point_formats.iter().map(|&format| format.into()).collect();
    format!(
        "{},{},{},{},{}",
        hello.version,
        joined(&hello.ciphers),
        joined(&hello.extensions),
        joined(&hello.groups),
        joined(&points)
    )
}

/// Of a server: version, cipher, extensions.
#[must_use]
pub fn server(hello: &ServerHello) -> String {
    let extensions = joined(&hello.extensions);
    format!("{},{},{extensions}", hello.legacy_version, hello.cipher)
}

/// MD5 in hexadecimal.
#[must_use]
pub fn md5_hex(text: &str) -> String {
    hex(&Md5::digest(text.as_bytes()))
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn joined(numbers: &[u16]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(numbers.len() * 6);
    for number in numbers.iter().filter(|&&number| !is_grease(number)) {
        if !text.is_empty() {
            text.push('-');
        }
        let _ = write!(text, "{number}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_client() {
        let hello = ClientHello::parse(&crate::layer7::ja4::tests::hello(), false).expect("a hello");
        let text = client(&hello);
        assert_eq!(text, "771,4865-4866-49195,0-16-43-13-10-11,29-23,0");
        assert_eq!(md5_hex(&text).len(), 32);
    }

    /// The example that JA3's authors give.
    #[test]
    fn published() {
        let text = "769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0";
        assert_eq!(md5_hex(text), "ada70206e40642a3e4461f35503241d5");
    }
}
