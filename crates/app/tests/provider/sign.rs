//! Signs requests as AWS asks, written apart from what checks them, and opens frames of its event streams.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::net::SocketAddr;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::common::http::{self, Answer};

const REGION: &str = "eu-west-1";

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let pad = |with: u8| -> Vec<u8> {
        (0..64)
            .map(|idx| key.get(idx).copied().unwrap_or(0) ^ with)
            .collect()
    };
    let inner = Sha256::digest([&pad(0x36), text.as_bytes()].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

/// Posts to `/model/MODEL/ACTION`, the model already encoded as it stands in the path.
#[track_caller]
pub(crate) fn converse(addr: SocketAddr, secret: &str, model: &str, action: &str, body: &Value) -> Answer {
    let path = format!("/model/{model}/{action}");
    let body = body.to_string();
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = &now[..8];
    let request = format!(
        "POST\n{}\n\nhost:{addr}\nx-amz-date:{now}\n\nhost;x-amz-date\n{}",
        path.replace('%', "%25"),
        hex(Sha256::digest(&body))
    );
    let scope = format!("{day}/{REGION}/bedrock/aws4_request");
    let text = format!(
        "AWS4-HMAC-SHA256\n{now}\n{scope}\n{}",
        hex(Sha256::digest(request))
    );
    let parts = [day, REGION, "bedrock", "aws4_request"];
    let key = parts
        .iter()
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| mac(&key, part));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDSIM/{scope}, SignedHeaders=host;x-amz-date, Signature={}",
        hex(mac(&key, &text))
    );
    let headers = [("authorization", authorization.as_str()), ("x-amz-date", &now)];
    http::call(addr, "POST", &path, &headers, body.as_bytes())
}

/// The frames of a stream: the kind of each and its document. Panics where a checksum is wrong.
#[track_caller]
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<(String, Value)> {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
    let crc = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    };
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let total = number(bytes) as usize;
        let headers = number(&bytes[4..]) as usize;
        assert_eq!(number(&bytes[8..]), crc(&bytes[..8]), "the CRC of the lengths");
        assert_eq!(
            number(&bytes[total - 4..]),
            crc(&bytes[..total - 4]),
            "the CRC of the frame"
        );
        let mut head = &bytes[12..12 + headers];
        let mut kind = String::new();
        while !head.is_empty() {
            let (name, rest) = head[1..].split_at(usize::from(head[0]));
            assert_eq!(rest[0], 7, "a header of text");
            let length = usize::from(u16::from_be_bytes([rest[1], rest[2]]));
            if name == b":event-type" || name == b":exception-type" {
                kind = String::from_utf8(rest[3..3 + length].to_vec()).unwrap();
            }
            head = &rest[3 + length..];
        }
        let payload = &bytes[12 + headers..total - 4];
        found.push((kind, serde_json::from_slice(payload).unwrap()));
        bytes = &bytes[total..];
    }
    found
}
