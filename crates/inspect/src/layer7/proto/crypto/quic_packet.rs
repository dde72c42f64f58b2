//! QUIC packets with a long header (RFC 8999, 9000, 9369, and the drafts), and what hides their insides: keys
//! that anyone can derive from the connection's first packet (RFC 9001, section 5).

use ring::aead::{self, quic::HeaderProtectionKey};
use ring::hkdf;

use crate::layer7::cursor::Cursor;

/// What a long header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Initial,
    /// 0-RTT or handshake: keys are secret.
    Other,
    Retry,
    /// The server names the versions it knows.
    Negotiation,
}

/// One packet of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) kind: Kind,
    pub(super) version: u32,
    pub(super) dcid: &'a [u8],
    pub(super) scid: &'a [u8],
    /// From the first byte to the last of this packet.
    bytes: &'a [u8],
    /// Of the packet number, which is encrypted.
    number_at: usize,
}

/// Longest connection id, in bytes; drafts before the 22nd allow 18.
const CID_MAX: usize = 20;

/// How a version makes its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Secrets {
    salt: [u8; 20],
    labels: [&'static str; 3],
}

const LABELS: [&str; 3] = ["quic key", "quic iv", "quic hp"];
const fn secrets(salt: [u8; 20]) -> Secrets {
    Secrets { salt, labels: LABELS }
}

const V1: Secrets =
    secrets(*b"\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a");
const V2: Secrets = Secrets {
    salt: *b"\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9",
    labels: ["quicv2 key", "quicv2 iv", "quicv2 hp"],
};
const DRAFT_29: Secrets =
    secrets(*b"\xaf\xbf\xec\x28\x99\x93\xd2\x4c\x9e\x97\x86\xf1\x9c\x61\x11\xe0\x43\x90\xa8\x99");
const DRAFT_23: Secrets =
    secrets(*b"\xc3\xee\xf7\x12\xc7\x2e\xbb\x5a\x11\xa7\xd2\x43\x2b\xb4\x63\x65\xbe\xf9\xf5\x02");
const DRAFT_21: Secrets =
    secrets(*b"\x7f\xbc\xdb\x0e\x7c\x66\xbb\xe9\x19\x3a\x96\xcd\x21\x51\x9e\xbd\x7a\x02\x64\x4a");
const DRAFT_17: Secrets =
    secrets(*b"\xef\x4f\xb0\xab\xb4\x74\x70\xc4\x1b\xef\xcf\x80\x31\x33\x4f\xae\x48\x5e\x09\xa0");
const Q050: Secrets =
    secrets(*b"\x50\x45\x74\xef\xd0\x66\xfe\x2f\x9d\x94\x5c\xfc\xdb\xd3\xa7\xf0\xd3\xb5\x6b\x45");
const T050: Secrets =
    secrets(*b"\x7f\xf5\x79\xe5\xac\xd0\x72\x91\x55\x80\x30\x4c\x43\xa2\x36\x7c\x60\x48\x83\x10");
const T051: Secrets =
    secrets(*b"\x7a\x4e\xde\xf4\xe7\xcc\xee\x5f\xa4\x50\x6c\x19\x12\x4f\xc8\xcc\xda\x6e\x03\x3d");

pub(super) const VERSION_2: u32 = 0x6b33_43cf;
/// Of the drafts of version 2.
const VERSION_2_DRAFT: u32 = 0x709a_50c4;

/// Secrets a version may have; of a version that is not known, all.
fn secrets_of(version: u32) -> &'static [Secrets] {
    match version {
        1 | 0xff00_0021..=0xff00_0022 => &[V1],
        VERSION_2 => &[V2],
        0xff00_001d..=0xff00_0020 => &[DRAFT_29],
        0xff00_0017..=0xff00_001c => &[DRAFT_23],
        0xff00_0015..=0xff00_0016 => &[DRAFT_21],
        0xff00_0011..=0xff00_0014 => &[DRAFT_17],
        0x5130_3530..=0x5130_3539 => &[Q050],
        0x5430_3530 => &[T050],
        0x5430_3531 => &[T051],
        // Meta's, which follow one draft or another.
        0xface_b000..=0xface_b0ff => &[V1, DRAFT_29, DRAFT_23, DRAFT_21],
        _ => &[V1, DRAFT_29, V2, DRAFT_23],
    }
}

/// Whether this is a version that somebody uses.
pub(super) const fn is_version(version: u32) -> bool {
    matches!(
        version,
        1 | VERSION_2
            | VERSION_2_DRAFT
            | 0xff00_0001..=0xff00_0022
            | 0xface_b000..=0xface_b0ff
            // Picoquic, and Microsoft's.
            | 0x5043_5130..=0x5043_5131
            | 0xabcd_0000..=0xabcd_000f
    ) || is_google(version)
}

/// `Q024` to `Q059`, `T048` to `T059`.
pub(super) const fn is_google(version: u32) -> bool {
    let [letter, zero, tens, ones] = version.to_be_bytes();
    matches!(letter, b'Q' | b'T') && zero == b'0' && matches!(tens, b'2'..=b'5') && ones.is_ascii_digit()
}

/// Whether the version is one of those that make peers negotiate (RFC 9000, section 15).
pub(super) const fn is_reserved(version: u32) -> bool {
    version & 0x0f0f_0f0f == 0x0a0a_0a0a
}

/// As EVE writes it.
pub(super) fn version_name(version: u32) -> String {
    match version {
        VERSION_2 | VERSION_2_DRAFT => "2".to_owned(),
        0xff00_0001..=0xff00_0022 => format!("draft-{}", version & 0xff),
        _ if is_google(version) => version
            .to_be_bytes()
            .iter()
            .map(|&byte| char::from(byte))
            .collect(),
        _ => format!("{version:x}"),
    }
}

impl<'a> Packet<'a> {
    /// The first packet of what is left of a datagram, and what follows it. `None` if it has no long header,
    /// or one that contradicts itself.
    pub(super) fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut rest = Cursor::new(bytes);
        let first = rest.u8()?;
        if first & 0x80 == 0 {
            return None;
        }
        let version = rest.u32()?;
        let (dcid, scid) = if is_google(version) && version < 0x5130_3439 {
            // Two lengths in a byte, each less 3 unless it is 0.
            let lens = rest.u8()?;
            let len = |bits: u8| usize::from(if bits == 0 { 0 } else { bits + 3 });
            (rest.take(len(lens >> 4))?, rest.take(len(lens & 15))?)
        } else if matches!(version, 0xff00_0001..=0xff00_0015) {
            let lens = rest.u8()?;
            let len = |bits: u8| usize::from(if bits == 0 { 0 } else { bits + 3 });
            (rest.take(len(lens >> 4))?, rest.take(len(lens & 15))?)
        } else {
            (rest.vec8()?, rest.vec8()?)
        };
        let mut packet = Self {
            kind: Kind::Negotiation,
            version,
            dcid,
            scid,
            bytes,
            number_at: bytes.len() - rest.len(),
        };
        if version == 0 {
            return Some((packet, &[]));
        }
        if dcid.len() > CID_MAX || scid.len() > CID_MAX {
            return None;
        }
        let is_v2 = matches!(version, VERSION_2 | VERSION_2_DRAFT);
        packet.kind = match ((first >> 4) & 3, is_v2) {
            (0, false) | (1, true) => Kind::Initial,
            (3, false) | (0, true) => Kind::Retry,
            _ => Kind::Other,
        };
        if packet.kind == Kind::Retry || is_google(version) && version < 0x5130_3439 {
            return Some((packet, &[]));
        }
        if packet.kind == Kind::Initial {
            let token_len = usize::try_from(rest.varint()?).ok()?;
            rest.take(token_len)?;
        }
        let len = usize::try_from(rest.varint()?).ok()?;
        packet.number_at = bytes.len() - rest.len();
        // Cut by the capture: what is there cannot be authenticated, but its header is known.
        let len = len.min(rest.len());
        let (packet_bytes, after) = bytes.split_at(packet.number_at + len);
        packet.bytes = packet_bytes;
        Some((packet, after))
    }

    /// What comes after the header, as it was sent.
    pub(super) fn payload(&self) -> &'a [u8] {
        self.bytes.get(self.number_at..).unwrap_or_default()
    }
}

/// Keys of both directions of a connection's first packets.
pub(super) struct Keys {
    /// By side.
    sides: [OneWay; 2],
}

struct OneWay {
    header: HeaderProtectionKey,
    payload: aead::LessSafeKey,
    iv: [u8; aead::NONCE_LEN],
}

struct Len(usize);

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label of TLS 1.3.
fn expand<const N: usize>(secret: &hkdf::Prk, label: &str) -> Option<[u8; N]> {
    let len = (N as u16).to_be_bytes();
    let label_len = [(label.len() + 6) as u8];
    let info: [&[u8]; 5] = [&len, &label_len, b"tls13 ", label.as_bytes(), &[0]];
    let mut out = [0; N];
    secret.expand(&info, Len(N)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

impl OneWay {
    fn derive(initial: &hkdf::Prk, side_label: &str, labels: [&str; 3]) -> Option<Self> {
        let secret = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &expand::<32>(initial, side_label)?);
        let [key, iv, header] = labels;
        Some(Self {
            header: HeaderProtectionKey::new(&aead::quic::AES_128, &expand::<16>(&secret, header)?).ok()?,
            payload: aead::LessSafeKey::new(
                aead::UnboundKey::new(&aead::AES_128_GCM, &expand::<16>(&secret, key)?).ok()?,
            ),
            iv: expand(&secret, iv)?,
        })
    }

    /// The frames of a packet; `None` if it was not made with this key.
    fn open(&self, packet: &Packet<'_>) -> Option<Vec<u8>> {
        let sample = packet.bytes.get(packet.number_at + 4..packet.number_at + 20)?;
        let mask = self.header.new_mask(sample).ok()?;
        let mut header = packet.bytes[..packet.number_at + 4].to_vec();
        header[0] ^= mask[0] & 0x0f;
        let number_len = usize::from(header[0] & 3) + 1;
        header.truncate(packet.number_at + number_len);
        let mut nonce = self.iv;
        for at in 0..number_len {
            let byte = &mut header[packet.number_at + at];
            *byte ^= mask[1 + at];
            nonce[aead::NONCE_LEN - number_len + at] ^= *byte;
        }
        let mut payload = packet.bytes[packet.number_at + number_len..].to_vec();
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let opened = self
            .payload
            .open_in_place(nonce, aead::Aad::from(&header), &mut payload);
        let len = opened.ok()?.len();
        payload.truncate(len);
        Some(payload)
    }
}

impl Keys {
    fn derive(secrets: &Secrets, dcid: &[u8]) -> Option<Self> {
        let initial = hkdf::Salt::new(hkdf::HKDF_SHA256, &secrets.salt).extract(dcid);
        Some(Self {
            sides: [
                OneWay::derive(&initial, "client in", secrets.labels)?,
                OneWay::derive(&initial, "server in", secrets.labels)?,
            ],
        })
    }

    /// The keys of a connection whose client sent this packet, and the frames in it.
    pub(super) fn of_client(packet: &Packet<'_>) -> Option<(Self, Vec<u8>)> {
        secrets_of(packet.version).iter().find_map(|secrets| {
            let keys = Self::derive(secrets, packet.dcid)?;
            let frames = keys.open(0, packet)?;
            Some((keys, frames))
        })
    }

    /// The frames of a packet of one side.
    pub(super) fn open(&self, side: usize, packet: &Packet<'_>) -> Option<Vec<u8>> {
        self.sides[side].open(packet)
    }
}

/// Calls back with offset and bytes of each CRYPTO frame. False if the frames are none of a first packet.
pub(super) fn crypto_frames(frames: &[u8], mut each: impl FnMut(usize, &[u8])) -> bool {
    let mut rest = Cursor::new(frames);
    let mut read = || -> Option<()> {
        while !rest.is_empty() {
            match rest.u8()? {
                0 | 1 => {}
                kind @ (2 | 3) => {
                    rest.varint()?;
                    rest.varint()?;
                    let n_ranges = rest.varint()?;
                    rest.varint()?;
                    for _ in 0..n_ranges {
                        rest.varint()?;
                        rest.varint()?;
                    }
                    if kind == 3 {
                        for _ in 0..3 {
                            rest.varint()?;
                        }
                    }
                }
                6 => {
                    let offset = usize::try_from(rest.varint()?).ok()?;
                    let len = usize::try_from(rest.varint()?).ok()?;
                    each(offset, rest.take(len)?);
                }
                0x1c => return Some(()),
                _ => return None,
            }
        }
        Some(())
    };
    read().is_some()
}

/// What tests need to speak QUIC.
#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A packet of either side with these frames, protected with the keys of a connection id.
    pub(in super::super) fn initial(
        version: u32,
        side: usize,
        (key_dcid, dcid): (&[u8], &[u8]),
        frames: &[u8],
    ) -> Vec<u8> {
        let keys = Keys::derive(&secrets_of(version)[0], key_dcid).unwrap();
        let way = &keys.sides[side];
        let kind = if version == VERSION_2 { 0xd0 } else { 0xc0 };
        let mut packet = vec![kind];
        packet.extend(version.to_be_bytes());
        packet.push(dcid.len() as u8);
        packet.extend(dcid);
        packet.extend([0, 0]);
        let len = frames.len() + 1 + 16;
        packet.extend((0x4000 | len as u16).to_be_bytes());
        let number_at = packet.len();
        packet.push(1);
        let mut nonce = way.iv;
        nonce[11] ^= 1;
        let mut body = frames.to_vec();
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        way.payload
            .seal_in_place_append_tag(nonce, aead::Aad::from(&packet), &mut body)
            .unwrap();
        packet.extend(body);
        let mask = way
            .header
            .new_mask(&packet[number_at + 4..number_at + 20])
            .unwrap();
        packet[0] ^= mask[0] & 0x0f;
        packet[number_at] ^= mask[1];
        packet
    }

    /// A CRYPTO frame.
    pub(in super::super) fn crypto(offset: u16, bytes: &[u8]) -> Vec<u8> {
        let varint = |n: u16| (0x4000 | n).to_be_bytes();
        [&[6][..], &varint(offset), &varint(bytes.len() as u16), bytes].concat()
    }

    /// RFC 9001, appendix A.1, and RFC 9369, appendix A.1.
    #[test]
    fn published_keys() {
        let check = |secrets: &Secrets, key: &str, iv: &str| {
            let dcid = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
            let initial = hkdf::Salt::new(hkdf::HKDF_SHA256, &secrets.salt).extract(&dcid);
            let secret = expand::<32>(&initial, "client in").unwrap();
            let secret = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &secret);
            let hex = crate::layer7::ja3::hex;
            assert_eq!(hex(&expand::<16>(&secret, secrets.labels[0]).unwrap()), key);
            assert_eq!(hex(&expand::<12>(&secret, secrets.labels[1]).unwrap()), iv);
        };
        check(
            &V1,
            "1f369613dd76d5467730efcbe3b1a22d",
            "fa044b2f42a3fd3b46fb255c",
        );
        check(
            &V2,
            "8b1a0bc121284290a29e0971b5cd045d",
            "91f73e2351d8fa91660e909f",
        );
    }

    #[test]
    fn names_of_versions() {
        let check = |version, expected: &str| assert_eq!(version_name(version), expected);
        check(1, "1");
        check(VERSION_2, "2");
        check(0xff00_001d, "draft-29");
        check(0x5130_3436, "Q046");
        check(0xface_b002, "faceb002");
    }

    #[test]
    fn opens_what_it_sealed() {
        for version in [1, VERSION_2, 0xff00_001d, 0xff00_0017, 0x0a1a_2a3a] {
            let frames = [crypto(0, b"hello"), vec![0; 40]].concat();
            let bytes = initial(version, 0, (&[1; 8], &[1; 8]), &frames);
            let (packet, rest) = Packet::read(&bytes).expect("a packet");
            assert_eq!((packet.kind, rest.len()), (Kind::Initial, 0));
            let (_, opened) = Keys::of_client(&packet).expect("its keys");
            assert_eq!(opened, frames, "{version:x}");
        }
    }
}
