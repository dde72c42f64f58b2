//! IKE versions 1 and 2 (RFC 2408, 2409, 7296), on its own port and between ESP packets.

use serde_json::{Map, Value, json};

use crate::layer7::cursor::Cursor;
use crate::layer7::ja3::hex;
use crate::layer7::protocol::{Out, Protocol, Seen, Session, Side, Step, Transport, Verdict};
use crate::layer7::record::{Anomaly, Record, Severity};

#[derive(Debug)]
pub(in crate::layer7::proto) struct Ike;

const HEADER_LEN: usize = 28;
/// Stands before IKE where ESP shares the port (RFC 3948).
const NON_ESP_MARKER: [u8; 4] = [0; 4];
/// Messages of a flow that are told; keep-alives go on for days.
const MESSAGES_MAX: u32 = 256;
const PAYLOADS_MAX: usize = 64;
const ATTRIBUTES_MAX: usize = 64;

impl Protocol for Ike {
    fn name(&self) -> &'static str {
        "ike"
    }

    fn ports(&self) -> &'static [u16] {
        &[500, 4500]
    }

    fn runs_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp
    }

    fn probe(&self, seen: &Seen<'_>) -> Verdict {
        let Some(header) = Header::read(seen.newest()) else {
            return Verdict::No;
        };
        let is_first = header.responder_spi == [0; 8];
        let client = match header.is_from_initiator(seen.side == Side::Client) {
            true => seen.side,
            false => seen.side.other(),
        };
        // Lengths that agree, a known exchange and payload: little else looks like this.
        if seen.is_whole || is_first || seen.has_port(500) {
            Verdict::certain(client)
        } else {
            Verdict::likely(client)
        }
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(IkeSession::default())
    }
}

impl Ike {
    /// Whether a datagram is IKE.
    pub(super) fn is_message(bytes: &[u8]) -> bool {
        Header::read(bytes).is_some()
    }
}

#[derive(Clone, Copy)]
struct Header<'a> {
    initiator_spi: [u8; 8],
    responder_spi: [u8; 8],
    next: u8,
    major: u8,
    minor: u8,
    exchange: u8,
    flags: u8,
    message_id: u32,
    body: &'a [u8],
}

const FLAG_ENCRYPTED_V1: u8 = 1;
const FLAG_INITIATOR_V2: u8 = 8;

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix(&NON_ESP_MARKER).unwrap_or(bytes);
        let mut rest = Cursor::new(bytes);
        let initiator_spi = rest.array()?;
        let responder_spi = rest.array()?;
        let next = rest.u8()?;
        let version = rest.u8()?;
        let header = Self {
            initiator_spi,
            responder_spi,
            next,
            major: version >> 4,
            minor: version & 15,
            exchange: rest.u8()?,
            flags: rest.u8()?,
            message_id: rest.u32()?,
            body: {
                let len = rest.u32()? as usize;
                let body = rest.take(len.checked_sub(HEADER_LEN)?.min(rest.len()))?;
                // What is promised is there, but for padding that some add.
                (len <= bytes.len() && bytes.len() - len < 16).then_some(body)?
            },
        };
        let fits = match header.major {
            1 => {
                matches!(header.exchange, 1 | 2 | 4..=6 | 32 | 33)
                    && matches!(next, 0..=13 | 15..=21 | 130..=132)
            }
            2 => {
                matches!(header.exchange, 34..=43) && matches!(next, 0 | 33..=54) && header.flags & 0xc7 == 0
            }
            _ => false,
        };
        (fits && header.minor == 0 && initiator_spi != [0; 8]).then_some(header)
    }

    fn is_from_initiator(&self, is_client: bool) -> bool {
        match self.major {
            2 => self.flags & FLAG_INITIATOR_V2 != 0,
            _ => self.responder_spi == [0; 8] || is_client,
        }
    }
}

#[derive(Default)]
struct IkeSession {
    messages: u32,
    sides: [OneSide; 2],
    doi: Option<u32>,
}

/// What one side said so far.
#[derive(Default)]
struct OneSide {
    key_exchange: Box<[u8]>,
    nonce: Box<[u8]>,
    vendors: Vec<String>,
    /// Of the first proposal's first transform: type and value.
    attributes: Vec<(u16, u64)>,
}

/// What a message has in it.
#[derive(Default)]
struct Payloads {
    kinds: Vec<u8>,
    notifies: Vec<u16>,
    is_broken: bool,
}

const BROKEN: Anomaly = Anomaly::parser("malformed_data", Severity::Medium);

impl Session for IkeSession {
    fn data(&mut self, side: Side, bytes: &[u8], out: &mut Out<'_>) -> Step {
        let Some(header) = Header::read(bytes) else {
            // ESP, or a keep-alive.
            return Step::Take(bytes.len() as u64);
        };
        self.messages += 1;
        if self.messages > MESSAGES_MAX {
            return Step::Done;
        }
        let is_encrypted = header.major == 1 && header.flags & FLAG_ENCRYPTED_V1 != 0;
        let payloads = if is_encrypted {
            Payloads {
                kinds: vec![header.next],
                ..Payloads::default()
            }
        } else {
            self.payloads(side, &header)
        };
        if payloads.is_broken {
            out.anomaly(BROKEN);
        }
        if out.wants_records() {
            let record = self.record(&header, is_encrypted, &payloads);
            out.record_of(side, Record::fields("ike", record));
        }
        Step::Take(bytes.len() as u64)
    }
}

impl IkeSession {
    fn payloads(&mut self, side: Side, header: &Header<'_>) -> Payloads {
        let mut payloads = Payloads::default();
        let mut rest = Cursor::new(header.body);
        let mut next = header.next;
        payloads.kinds.push(next);
        while next != 0 && payloads.kinds.len() < PAYLOADS_MAX {
            // Encrypted: the type inside is none of a chain.
            if header.major == 2 && matches!(next, 46 | 53) {
                break;
            }
            let mut read = || {
                let following = rest.u8()?;
                rest.u8()?;
                let len = usize::from(rest.u16()?).checked_sub(4)?;
                Some((following, rest.take(len)?))
            };
            let Some((following, body)) = read() else {
                payloads.is_broken = true;
                break;
            };
            self.payload(side, header.major, next, body, &mut payloads);
            next = following;
            payloads.kinds.push(next);
        }
        payloads
    }

    fn payload(&mut self, side: Side, major: u8, kind: u8, body: &[u8], payloads: &mut Payloads) {
        let this = &mut self.sides[side.index()];
        match (major, kind) {
            (1, 1) => {
                let mut body = Cursor::new(body);
                self.doi = body.u32().or(self.doi);
                body.u32();
                this.attributes = proposal(body, 1).unwrap_or_default();
            }
            (2, 33) => this.attributes = proposal(Cursor::new(body), 2).unwrap_or_default(),
            (1, 4) => this.key_exchange = body.into(),
            (2, 34) => this.key_exchange = body.get(4..).unwrap_or_default().into(),
            (1, 10) | (2, 40) => this.nonce = body.into(),
            (1, 13) | (2, 43) if this.vendors.len() < PAYLOADS_MAX => this.vendors.push(hex(body)),
            (1, 11) => payloads.notifies.extend(notify(body, 4)),
            (2, 41) => payloads.notifies.extend(notify(body, 0)),
            _ => {}
        }
    }

    fn record(&self, header: &Header<'_>, is_encrypted: bool, payloads: &Payloads) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut add = |name: &str, value: Value| {
            fields.entry(name.to_owned()).or_insert(value);
        };
        add("version_major", header.major.into());
        add("version_minor", header.minor.into());
        add("init_spi", hex(&header.initiator_spi).into());
        add("resp_spi", hex(&header.responder_spi).into());
        add("message_id", header.message_id.into());
        add("exchange_type", header.exchange.into());
        // The server's choice.
        let chosen = &self.sides[1].attributes;
        if !chosen.is_empty() {
            let attribute = |&(kind, value): &(u16, u64)| {
                let (key, name) = attribute_names(header.major, kind, value);
                json!({"key": key, "value": name, "raw": value})
            };
            add("_v", 2.into());
            add("attributes", chosen.iter().map(attribute).collect());
            for &(kind, value) in chosen {
                let (key, name) = attribute_names(header.major, kind, value);
                add(key, name.into());
                add(&format!("{key}_raw"), value.into());
            }
        }
        if header.major == 2 {
            let is_initiator = header.flags & FLAG_INITIATOR_V2 != 0;
            add(
                "role",
                if is_initiator { "initiator" } else { "responder" }.into(),
            );
            let names = payloads.kinds.iter().map(|&kind| payload_name_2(kind));
            add("payload", names.collect());
            let notifies: Value = payloads.notifies.iter().map(|&kind| notify_name(kind)).collect();
            // Below this number they are errors.
            let errors = payloads.notifies.iter().filter(|&&kind| kind < 16_384).count();
            add("ikev2", json!({"errors": errors, "notify": notifies}));
            return fields;
        }
        let mut ikev1 = Map::new();
        if let Some(doi) = self.doi {
            ikev1.insert("doi".to_owned(), doi.into());
        }
        ikev1.insert("encrypted_payloads".to_owned(), is_encrypted.into());
        if !is_encrypted {
            for (name, side) in ["client", "server"].into_iter().zip(&self.sides) {
                ikev1.insert(name.to_owned(), side.fields().into());
            }
        }
        add("ikev1", ikev1.into());
        fields
    }
}

impl OneSide {
    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        for (name, bytes) in [("key_exchange", &self.key_exchange), ("nonce", &self.nonce)] {
            if !bytes.is_empty() {
                fields.insert(format!("{name}_payload"), hex(bytes).into());
                fields.insert(format!("{name}_payload_length"), bytes.len().into());
            }
        }
        if !self.vendors.is_empty() {
            fields.insert("vendors".to_owned(), self.vendors.clone().into());
        }
        fields
    }
}

/// Attributes of the first transform (version 1), or types and numbers of all transforms (version 2), of the first
/// proposal.
fn proposal(mut body: Cursor<'_>, major: u8) -> Option<Vec<(u16, u64)>> {
    body.take(2)?;
    let len = usize::from(body.u16()?).checked_sub(4)?;
    let mut proposal = Cursor::new(body.take(len)?);
    proposal.take(2)?;
    let spi_len = usize::from(proposal.u8()?);
    let n_transforms = proposal.u8()?;
    proposal.take(spi_len)?;
    let mut found = Vec::new();
    for _ in 0..n_transforms {
        proposal.take(2)?;
        let len = usize::from(proposal.u16()?).checked_sub(4)?;
        let mut transform = Cursor::new(proposal.take(len)?);
        let kind = transform.u8()?;
        transform.u8()?;
        let id = transform.u16()?;
        if major == 2 {
            found.push((kind.into(), id.into()));
            if found.len() >= ATTRIBUTES_MAX {
                break;
            }
            continue;
        }
        while !transform.is_empty() && found.len() < ATTRIBUTES_MAX {
            let kind = transform.u16()?;
            let value = if kind & 0x8000 != 0 {
                transform.u16()?.into()
            } else {
                let bytes = transform.vec16()?;
                let last = &bytes[bytes.len().saturating_sub(8)..];
                last.iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
            };
            found.push((kind & 0x7fff, value));
        }
        break;
    }
    Some(found)
}

/// Type of a notification behind what stands before it.
fn notify(body: &[u8], skip: usize) -> Option<u16> {
    Cursor::new(body.get(skip + 2..)?).u16()
}

/// Key and value as EVE has them: of version 1 attributes, of version 2 transforms.
fn attribute_names(major: u8, kind: u16, value: u64) -> (&'static str, &'static str) {
    let one_of = |names: &[&'static str]| -> &'static str {
        let at = usize::try_from(value).ok().and_then(|value| value.checked_sub(1));
        at.and_then(|at| names.get(at).copied()).unwrap_or("Unknown")
    };
    if major == 2 {
        return match kind {
            1 => ("alg_enc", encryption_2(value)),
            2 => (
                "alg_prf",
                one_of(&[
                    "PRF_HMAC_MD5",
                    "PRF_HMAC_SHA1",
                    "PRF_HMAC_TIGER",
                    "PRF_AES128_XCBC",
                    "PRF_HMAC_SHA2_256",
                    "PRF_HMAC_SHA2_384",
                    "PRF_HMAC_SHA2_512",
                    "PRF_AES128_CMAC",
                ]),
            ),
            3 => (
                "alg_auth",
                one_of(&[
                    "AUTH_HMAC_MD5_96",
                    "AUTH_HMAC_SHA1_96",
                    "AUTH_DES_MAC",
                    "AUTH_KPDK_MD5",
                    "AUTH_AES_XCBC_96",
                    "AUTH_HMAC_MD5_128",
                    "AUTH_HMAC_SHA1_160",
                    "AUTH_AES_CMAC_96",
                    "AUTH_AES_128_GMAC",
                    "AUTH_AES_192_GMAC",
                    "AUTH_AES_256_GMAC",
                    "AUTH_HMAC_SHA2_256_128",
                    "AUTH_HMAC_SHA2_384_192",
                    "AUTH_HMAC_SHA2_512_256",
                ]),
            ),
            4 => ("alg_dh", group(value)),
            5 => ("alg_esn", if value == 1 { "ESN" } else { "NoESN" }),
            _ => ("unknown", "Unknown"),
        };
    }
    match kind {
        1 => (
            "alg_enc",
            one_of(&[
                "EncDesCbc",
                "EncIdeaCbc",
                "EncBlowfishCbc",
                "EncRc5R16B64Cbc",
                "EncTripleDesCbc",
                "EncCastCbc",
                "EncAesCbc",
                "EncCamelliaCbc",
            ]),
        ),
        2 => (
            "alg_hash",
            one_of(&[
                "HashMd5",
                "HashSha",
                "HashTiger",
                "HashSha2_256",
                "HashSha2_384",
                "HashSha2_512",
            ]),
        ),
        3 => (
            "alg_auth",
            one_of(&[
                "AuthPreSharedKey",
                "AuthDssSignatures",
                "AuthRsaSignatures",
                "AuthEncryptionWithRsa",
                "AuthRevisedEncryptionWithRsa",
            ]),
        ),
        4 => ("alg_dh", group(value)),
        5 => ("sa_group_type", one_of(&["Modp", "Ecp", "Ec2n"])),
        11 => ("sa_life_type", one_of(&["LifeTypeSeconds", "LifeTypeKilobytes"])),
        12 => ("sa_life_duration", "Unknown"),
        13 => ("alg_prf", "Unknown"),
        14 => ("sa_key_length", "Unknown"),
        15 => ("sa_field_size", "Unknown"),
        16 => ("sa_group_order", "Unknown"),
        _ => ("unknown", "Unknown"),
    }
}

/// IANA's numbers of groups are one list for both versions.
const fn group(number: u64) -> &'static str {
    match number {
        1 => "GroupDefault768BitModpGroup",
        2 => "GroupAlternate1024BitModpGroup",
        3 => "GroupEc2nOnGp2p155",
        4 => "GroupEc2nOnGp2p185",
        5 => "Group1536BitModpGroup",
        14 => "Group2048BitModpGroup",
        15 => "Group3072BitModpGroup",
        16 => "Group4096BitModpGroup",
        17 => "Group6144BitModpGroup",
        18 => "Group8192BitModpGroup",
        19 => "Group256BitRandomEcpGroup",
        20 => "Group384BitRandomEcpGroup",
        21 => "Group521BitRandomEcpGroup",
        31 => "GroupCurve25519",
        _ => "Unknown",
    }
}

const fn encryption_2(number: u64) -> &'static str {
    match number {
        2 => "ENCR_DES",
        3 => "ENCR_3DES",
        5 => "ENCR_CAST",
        7 => "ENCR_BLOWFISH",
        11 => "ENCR_NULL",
        12 => "ENCR_AES_CBC",
        13 => "ENCR_AES_CTR",
        14 => "ENCR_AES_CCM_8",
        15 => "ENCR_AES_CCM_12",
        16 => "ENCR_AES_CCM_16",
        18 => "ENCR_AES_GCM_8",
        19 => "ENCR_AES_GCM_12",
        20 => "ENCR_AES_GCM_16",
        28 => "ENCR_CHACHA20_POLY1305",
        _ => "Unknown",
    }
}

const fn payload_name_2(kind: u8) -> &'static str {
    match kind {
        0 => "NoNextPayload",
        33 => "SecurityAssociation",
        34 => "KeyExchange",
        35 => "IdentInitiator",
        36 => "IdentResponder",
        37 => "Certificate",
        38 => "CertificateRequest",
        39 => "Authentication",
        40 => "Nonce",
        41 => "Notify",
        42 => "Delete",
        43 => "VendorID",
        44 => "TrafficSelectorInitiator",
        45 => "TrafficSelectorResponder",
        46 => "EncryptedAndAuthenticated",
        47 => "Configuration",
        48 => "ExtensibleAuthentication",
        53 => "EncryptedFragment",
        _ => "Unknown",
    }
}

fn notify_name(kind: u16) -> Value {
    let name = match kind {
        1 => "UNSUPPORTED_CRITICAL_PAYLOAD",
        4 => "INVALID_IKE_SPI",
        5 => "INVALID_MAJOR_VERSION",
        7 => "INVALID_SYNTAX",
        9 => "INVALID_MESSAGE_ID",
        11 => "INVALID_SPI",
        14 => "NO_PROPOSAL_CHOSEN",
        17 => "INVALID_KE_PAYLOAD",
        24 => "AUTHENTICATION_FAILED",
        34 => "SINGLE_PAIR_REQUIRED",
        35 => "NO_ADDITIONAL_SAS",
        38 => "TS_UNACCEPTABLE",
        43 => "TEMPORARY_FAILURE",
        44 => "CHILD_SA_NOT_FOUND",
        16384 => "INITIAL_CONTACT",
        16388 => "NAT_DETECTION_SOURCE_IP",
        16389 => "NAT_DETECTION_DESTINATION_IP",
        16390 => "COOKIE",
        16391 => "USE_TRANSPORT_MODE",
        16393 => "REKEY_SA",
        16404 => "MULTIPLE_AUTH_SUPPORTED",
        16406 => "REDIRECT_SUPPORTED",
        16430 => "IKEV2_FRAGMENTATION_SUPPORTED",
        16431 => "SIGNATURE_HASH_ALGORITHMS",
        _ => return kind.to_string().into(),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer7::kit;

    fn payload(next: u8, body: &[u8]) -> Vec<u8> {
        [&[next, 0][..], &(body.len() as u16 + 4).to_be_bytes(), body].concat()
    }

    fn message(responder: u8, next: u8, version: u8, exchange: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        let len = (HEADER_LEN + body.len()) as u32;
        [
            &[1; 8][..],
            &[responder; 8],
            &[next, version, exchange, flags],
            &[0; 4],
            &len.to_be_bytes(),
            body,
        ]
        .concat()
    }

    fn sa_1() -> Vec<u8> {
        let attributes = [
            0x80, 1, 0, 7, 0x80, 14, 0, 128, 0x80, 2, 0, 2, 0x80, 4, 0, 2, 0x80, 3, 0, 1, 0x80, 11, 0, 1, 0,
            12, 0, 4, 0, 1, 0x51, 0x80,
        ];
        let transform = payload(0, &[&[1, 1, 0, 0][..], &attributes].concat());
        let proposal = payload(0, &[&[1, 1, 0, 1][..], &transform].concat());
        [&[0, 0, 0, 1, 0, 0, 0, 1][..], &proposal].concat()
    }

    #[test]
    fn version_1() {
        let keys = |nonce: u8| [payload(10, &[5; 6]), payload(0, &[nonce; 4])].concat();
        let said = [
            (0, message(0, 1, 0x10, 2, 0, &payload(0, &sa_1()))),
            (1, message(2, 1, 0x10, 2, 0, &payload(0, &sa_1()))),
            (0, message(2, 4, 0x10, 2, 0, &keys(7))),
            (1, message(2, 4, 0x10, 2, 0, &keys(8))),
            (0, message(2, 5, 0x10, 2, 1, &[0xee; 40])),
        ];
        let said: Vec<(usize, &[u8])> = said.iter().map(|(side, bytes)| (*side, &bytes[..])).collect();
        let outcome = kit::datagrams(500, &said);
        assert_eq!(outcome.insight.app, Some("ike"));
        let bodies = outcome.bodies();
        assert_eq!(bodies.len(), 5);
        let (kind, fourth) = &bodies[3];
        assert_eq!((*kind, &fourth["exchange_type"]), ("ike", &json!(2)));
        assert_eq!(fourth["alg_enc"], "EncAesCbc");
        assert_eq!(fourth["alg_hash"], "HashSha");
        assert_eq!(fourth["alg_dh"], "GroupAlternate1024BitModpGroup");
        assert_eq!(fourth["alg_auth"], "AuthPreSharedKey");
        let duration = json!({"key": "sa_life_duration", "value": "Unknown", "raw": 86_400});
        assert_eq!(fourth["attributes"][6], duration);
        assert_eq!(fourth["ikev1"]["client"]["nonce_payload"], "07070707");
        assert_eq!(fourth["ikev1"]["server"]["nonce_payload"], "08080808");
        assert_eq!(
            bodies[4].1["ikev1"],
            json!({"doi": 1, "encrypted_payloads": true})
        );
        kit::check_datagrams_to(500, &said, Some("ike"), &bodies);
    }

    #[test]
    fn version_2() {
        let transforms = [payload(3, &[1, 0, 0, 12]), payload(0, &[4, 0, 0, 14])].concat();
        let sa = payload(0, &[&[1, 1, 0, 2][..], &transforms].concat());
        let notify = [0, 0, 0x40, 4];
        let body = [
            payload(34, &sa),
            payload(40, &[0, 14, 0, 0, 9, 9]),
            payload(41, &[7; 4]),
            payload(0, &notify),
        ];
        let first = message(0, 33, 0x20, 34, 8, &body.concat());
        let answer = message(2, 33, 0x20, 34, 0x20, &body.concat());
        let marked = [
            &[0; 4][..],
            &message(2, 46, 0x20, 35, 8, &payload(35, &[0xee; 40])),
        ]
        .concat();
        let said = [(0, &first[..]), (1, &answer), (0, &marked)];
        let outcome = kit::datagrams(500, &said);
        let bodies = outcome.bodies();
        assert_eq!(bodies.len(), 3);
        let first = &bodies[0].1;
        assert_eq!(
            (&first["role"], &first["resp_spi"]),
            (&json!("initiator"), &json!("0000000000000000"))
        );
        assert_eq!(
            first["payload"],
            json!([
                "SecurityAssociation",
                "KeyExchange",
                "Nonce",
                "Notify",
                "NoNextPayload"
            ])
        );
        assert_eq!(
            first["ikev2"],
            json!({"errors": 0, "notify": ["NAT_DETECTION_SOURCE_IP"]})
        );
        assert_eq!(bodies[1].1["alg_enc"], "ENCR_AES_CBC");
        assert_eq!(bodies[2].1["payload"], json!(["EncryptedAndAuthenticated"]));
        kit::check_datagrams_to(4500, &said, Some("ike"), &bodies);
    }

    #[test]
    fn others() {
        kit::check_datagrams_to(500, &[(0, &message(0, 1, 0x10, 2, 0, &[])[..27])], None, &[]);
        kit::check_datagrams_to(500, &[(0, &message(0, 99, 0x20, 34, 8, &[]))], None, &[]);
        kit::check_datagrams_to(500, &[(0, &[7; 60])], None, &[]);
    }
}
