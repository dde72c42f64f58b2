//! Signatures of AWS, version 4, in the `Authorization` header: what Bedrock wants where there is no
//! bearer key.
//!
//! Source: "AWS Signature Version 4 for API requests", docs.aws.amazon.com/IAM/latest/UserGuide. The rules
//! are those of all services but S3: a path is encoded once more than it is sent. A path with `.` or `..`
//! is not brought into shape; presets do not make such paths.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SECONDS_PER_DAY: u64 = 86_400;

/// Who signs.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Which key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: String,
    /// What makes a temporary key valid.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    /// Without the secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = &self.access_key_id;
        formatter
            .debug_struct("Credentials")
            .field("access_key_id", id)
            .finish_non_exhaustive()
    }
}

/// A request to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// In capitals.
    pub method: &'a str,
    /// As it is sent, percent-encoded.
    pub path: &'a str,
    /// As it is sent, without the question mark.
    pub query: &'a str,
    /// The headers to sign: `host` must be among them, others may. Not those that [`sign`] gives.
    pub headers: &'a [(&'a str, &'a str)],
    /// [`sha256_hex`] of the body.
    pub payload_sha256: &'a str,
}

/// Where the signature is valid.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `eu-west-1`.
    pub region: &'a str,
    /// `bedrock`.
    pub service: &'a str,
}

/// The headers that make a request a signed one: `x-amz-date`, `x-amz-security-token` if there is one,
/// and `authorization`. Time is in seconds since 1970.
pub fn sign(
    credentials: &Credentials,
    scope: Scope<'_>,
    request: &Request<'_>,
    epoch_s: u64,
) -> Vec<(&'static str, String)> {
    let time = basic_time(epoch_s);
    let date = time.split('T').next().unwrap_or_default();
    let mut added = vec![("x-amz-date", time.clone())];
    if let Some(token) = &credentials.session_token {
        added.push(("x-amz-security-token", token.clone()));
    }
    let given = request.headers.iter().copied();
    let headers = canonical_headers(given.chain(added.iter().map(|(name, value)| (*name, value.as_str()))));
    let names = headers.keys().map(String::as_str).collect::<Vec<_>>().join(";");
    let canonical = canonical_request(request, &headers, &names);

    let Scope { region, service } = scope;
    let place = format!("{date}/{region}/{service}/aws4_request");
    let to_sign = format!(
        "{ALGORITHM}\n{time}\n{place}\n{}",
        sha256_hex(canonical.as_bytes())
    );
    let secret = format!("AWS4{}", credentials.secret_access_key);
    let parts = [date, region, service, "aws4_request"];
    let key = parts
        .iter()
        .fold(secret.into_bytes(), |key, part| hmac(&key, part).to_vec());
    let signature = hex(&hmac(&key, &to_sign));
    let id = &credentials.access_key_id;
    let authorization =
        format!("{ALGORITHM} Credential={id}/{place}, SignedHeaders={names}, Signature={signature}");
    added.push(("authorization", authorization));
    added
}

/// The hash of a body, in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn canonical_request(request: &Request<'_>, headers: &BTreeMap<String, String>, names: &str) -> String {
    let Request {
        method,
        path,
        query,
        payload_sha256,
        ..
    } = request;
    let path = if path.is_empty() { "/" } else { path };
    let segments: Vec<String> = path
        .split('/')
        .map(|segment| encode(segment.as_bytes()))
        .collect();
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let (path, query) = (segments.join("/"), canonical_query(query));
    format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{payload_sha256}")
}

/// By name, in lower case; several values of one name in the order they are sent; white space trimmed, and
/// one space where there were more.
fn canonical_headers<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    let mut canonical: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        canonical
            .entry(name.to_ascii_lowercase())
            .and_modify(|all| {
                all.push(',');
                all.push_str(&value);
            })
            .or_insert(value);
    }
    canonical
}

/// Encoded in the one way of AWS, and ordered by name and value.
fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encode(&decode(name)), encode(&decode(value)))
        })
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Undoes percent-encoding; what is none stays.
fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |index: usize| tail.get(index).and_then(|&byte| char::from(byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                // Two digits of sixteen fit a byte.
                out.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

fn hmac(key: &[u8], message: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
}

/// `20150830T123600Z`, by Howard Hinnant's "civil from days" (years begin in March).
fn basic_time(epoch_s: u64) -> String {
    let (days, second) = (epoch_s / SECONDS_PER_DAY, epoch_s % SECONDS_PER_DAY);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1_460 + day_of_era / 146_096;
    let year_of_era = (day_of_era + day_of_era / 36_524 - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests;
