//! Certificates, written as EVE writes them.

use sha1::{Digest, Sha1};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::layer7::record::Certificate;

/// Text of a name at most, in bytes.
const NAME_MAX: usize = 2048;

/// What EVE tells of a certificate in DER.
pub(super) fn certificate(der: &[u8]) -> Option<Certificate> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let name = |name: String| cut(&name);
    Some(Certificate {
        subject: name(parsed.subject().to_string()),
        issuerdn: name(parsed.issuer().to_string()),
        serial: pairs(parsed.raw_serial(), |byte| format!("{byte:02X}")),
        fingerprint: pairs(&Sha1::digest(der), |byte| format!("{byte:02x}")),
        notbefore: time(&parsed.validity().not_before),
        notafter: time(&parsed.validity().not_after),
    })
}

fn cut(text: &str) -> String {
    let mut kept = String::new();
    for c in text.chars() {
        if kept.len() >= NAME_MAX {
            kept.push('…');
            break;
        }
        if c.is_control() {
            kept.extend(c.escape_default());
        } else {
            kept.push(c);
        }
    }
    kept
}

fn pairs(bytes: &[u8], digits: impl Fn(&u8) -> String) -> String {
    let pairs: Vec<String> = bytes.iter().map(digits).collect();
    pairs.join(":")
}

fn time(time: &ASN1Time) -> String {
    let at = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        let mut out = vec![tag];
        match body.len() {
            len @ 0..=127 => out.push(len as u8),
            len @ 128..=255 => out.extend([0x81, len as u8]),
            len => out.extend([0x82, (len >> 8) as u8, len as u8]),
        }
        out.extend(body);
        out
    }

    fn name(country: &str, common: &str) -> Vec<u8> {
        let part = |kind: u8, tag: u8, value: &str| {
            let kind = der(6, &[&[0x55, 4, kind]]);
            der(0x31, &[&der(0x30, &[&kind, &der(tag, &[value.as_bytes()])])])
        };
        der(0x30, &[&part(6, 0x13, country), &part(3, 0x0c, common)])
    }

    /// A certificate for `example.org`, with a key and a signature that mean nothing.
    pub(in crate::layer7::proto::crypto) fn example() -> Vec<u8> {
        let algorithm = der(0x30, &[&der(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]])]);
        let key_kind = der(
            0x30,
            &[
                &der(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]]),
                &der(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]]),
            ],
        );
        let validity = der(
            0x30,
            &[&der(0x17, &[b"170323000000Z"]), &der(0x18, &[b"20550513120000Z"])],
        );
        let tbs = der(
            0x30,
            &[
                &der(0xa0, &[&der(2, &[&[2]])]),
                &der(2, &[&[0, 0x83, 0x0a]]),
                &algorithm,
                &name("IT", "An issuer"),
                &validity,
                &name("DE", "example.org"),
                &der(0x30, &[&key_kind, &der(3, &[&[0, 4, 1, 2]])]),
            ],
        );
        der(0x30, &[&tbs, &algorithm, &der(3, &[&[0, 1, 2, 3]])])
    }

    #[test]
    fn as_eve_writes_them() {
        let der = example();
        let got = certificate(&der).expect("a certificate");
        assert_eq!(got.subject, "C=DE, CN=example.org");
        assert_eq!(got.issuerdn, "C=IT, CN=An issuer");
        assert_eq!(got.serial, "00:83:0A");
        assert_eq!(got.notbefore, "2017-03-23T00:00:00");
        assert_eq!(got.notafter, "2055-05-13T12:00:00");
        assert_eq!(got.fingerprint.len(), 59);
        for len in 0..der.len() {
            assert_eq!(certificate(&der[..len]), None);
        }
    }
}
