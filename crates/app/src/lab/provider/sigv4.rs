//! Checks AWS Signature Version 4.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::fmt::Write;

use hyper::HeaderMap;
use sha2::{Digest, Sha256};

use super::errors::Refusal;
use super::route::percent_decoded;

/// How far the date of a request may be from ours.
const SKEW_S_MAX: i64 = 300;

/// What a request is signed over.
#[derive(Debug)]
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    /// As it came, still encoded.
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// An access key and its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl std::str::FromStr for Credentials {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((id, secret)) if !id.is_empty() && !secret.is_empty() => Ok(Credentials {
                id: id.to_owned(),
                secret: secret.to_owned(),
            }),
            _ => Err("expected ACCESS_KEY_ID:SECRET".to_owned()),
        }
    }
}

/// The parts of the `Authorization` header.
struct Authorization<'a> {
    id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    headers: Vec<&'a str>,
    signature: &'a str,
}

/// The access key that signed, when the signature is right.
pub(crate) fn verify(
    signed: &Signed,
    known: &[Credentials],
    service: &str,
    now_s: i64,
) -> Result<String, Refusal> {
    let header = |name: &str| signed.headers.get(name).and_then(|value| value.to_str().ok());
    let Some(value) = header("authorization") else {
        return Err(Refusal::NoKey);
    };
    let incomplete = || {
        refusal(
            "IncompleteSignatureException",
            "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters, and a scope of five parts.",
        )
    };
    let parts = parse(value).ok_or_else(incomplete)?;
    let Some(credentials) = known.iter().find(|one| one.id == parts.id) else {
        return Err(Refusal::WrongKey(parts.id.to_owned()));
    };
    if parts.service != service {
        return Err(refusal(
            "InvalidSignatureException",
            &format!("Credential should be scoped to correct service: '{service}'."),
        ));
    }
    let Some(when) = header("x-amz-date").filter(|when| when.starts_with(parts.date)) else {
        return Err(refusal(
            "InvalidSignatureException",
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP",
        ));
    };
    let signed_at = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", when)
        .and_then(|time| time.to_datetime())
        .and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC))
        .map_err(|_| incomplete())?;
    if (signed_at.timestamp().as_second() - now_s).abs() > SKEW_S_MAX {
        return Err(refusal(
            "InvalidSignatureException",
            &format!("Signature expired: {when} is too far from the time of this server."),
        ));
    }
    let must = ["host", "x-amz-date"];
    if must.iter().any(|name| !parts.headers.contains(name)) {
        return Err(refusal(
            "InvalidSignatureException",
            "'Host' and 'X-Amz-Date' must be in SignedHeaders.",
        ));
    }
    let hash = hex(&Sha256::digest(signed.body));
    let payload = match header("x-amz-content-sha256") {
        Some("UNSIGNED-PAYLOAD") => "UNSIGNED-PAYLOAD",
        Some(stated) if stated != hash => {
            return Err(refusal(
                "InvalidSignatureException",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            ));
        }
        _ => &hash,
    };
    let expected = signature(signed, &parts, credentials, when, payload).ok_or_else(incomplete)?;
    if expected != parts.signature {
        return Err(refusal(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
        ));
    }
    Ok(parts.id.to_owned())
}

fn refusal(kind: &'static str, message: &str) -> Refusal {
    Refusal::Signature {
        kind,
        message: message.to_owned(),
    }
}

fn parse(value: &str) -> Option<Authorization<'_>> {
    let rest = value.strip_prefix("AWS4-HMAC-SHA256")?;
    let (mut scope, mut headers, mut signature) = (None, None, None);
    for pair in rest.split(',') {
        let (name, value) = pair.trim().split_once('=')?;
        match name {
            "Credential" => scope = Some(value),
            "SignedHeaders" => headers = Some(value),
            "Signature" => signature = Some(value),
            _ => return None,
        }
    }
    // The identifier may have slashes; the scope behind it has none.
    let mut scope = scope?.rsplitn(5, '/');
    (scope.next()? == "aws4_request").then_some(())?;
    Some(Authorization {
        service: scope.next()?,
        region: scope.next()?,
        date: scope.next()?,
        id: scope.next()?,
        headers: headers?.split(';').collect(),
        signature: signature?,
    })
}

/// `None` when a header that is said to be signed is not there.
fn signature(
    signed: &Signed,
    parts: &Authorization,
    credentials: &Credentials,
    when: &str,
    payload: &str,
) -> Option<String> {
    let mut canonical = format!(
        "{}\n{}\n{}\n",
        signed.method,
        encoded(signed.path, true),
        canonical_query(signed.query)
    );
    for name in &parts.headers {
        let mut values = signed
            .headers
            .get_all(*name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .peekable();
        values.peek()?;
        let trimmed: Vec<String> = values
            .map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let _ = writeln!(canonical, "{name}:{}", trimmed.join(","));
    }
    let _ = write!(canonical, "\n{}\n{payload}", parts.headers.join(";"));
    let scope = format!("{}/{}/{}/aws4_request", parts.date, parts.region, parts.service);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{when}\n{scope}\n{}",
        hex(&Sha256::digest(&canonical))
    );
    let key = [parts.date, parts.region, parts.service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{}", credentials.secret).into_bytes(), |key, part| {
            hmac(&key, part.as_bytes()).to_vec()
        });
    Some(hex(&hmac(&key, to_sign.as_bytes())))
}

/// Sorted by name, then value, each encoded.
fn canonical_query(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (
            encoded(&percent_decoded(name), false),
            encoded(&percent_decoded(value), false),
        )
    });
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort();
    pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("&")
}

/// A path that came encoded is encoded once more; only S3 does not do so.
fn encoded(text: &str, keeps_slash: bool) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            b'/' if keeps_slash => encoded.push('/'),
            byte => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// HMAC-SHA256, RFC 2104.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut block = [0_u8; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x36))
        .chain_update(text)
        .finalize();
    Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{Credentials, Signed, verify};
    use hyper::HeaderMap;

    /// The request of Amazon's own worked example.
    fn example(query: &str, signature: &str, now_s: i64) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature={signature}"
        );
        for (name, value) in [
            ("authorization", authorization.as_str()),
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("host", "iam.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
        ] {
            headers.insert(
                hyper::header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        let known = [Credentials {
            id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
        }];
        let signed = Signed {
            method: "GET",
            path: "/",
            query,
            headers: &headers,
            body: b"",
        };
        verify(&signed, &known, "iam", now_s).map_err(|refusal| format!("{refusal:?}"))
    }

    #[test]
    fn the_documented_example_has_the_documented_signature() {
        const QUERY: &str = "Version=2010-05-08&Action=ListUsers";
        const RIGHT: &str = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        const NOW_S: i64 = 1_440_938_160;
        assert_eq!(example(QUERY, RIGHT, NOW_S), Ok("AKIDEXAMPLE".to_owned()));
        assert!(example("Version=2010-05-08&Action=ListRoles", RIGHT, NOW_S).is_err());
        assert!(example(QUERY, &RIGHT.replace('5', "6"), NOW_S).is_err());
        assert!(
            example(QUERY, RIGHT, NOW_S + 301)
                .unwrap_err()
                .contains("expired")
        );
    }
}
