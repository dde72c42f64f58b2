//! Secrets at rest, and client keys by keyed hash.
//!
//! A secret is encrypted with XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha), under a key that lives in a file
//! of its own, outside the database: a copy of the database alone tells no secret. A nonce is 24 random
//! bytes, so that it needs no counter that a restored backup would repeat.

use crate::error::StoreError;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// The key that secrets are encrypted with.
#[derive(Clone)]
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    hashing: KeyHasher,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// A sealer with this key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        let hash_key = KeyHasher::new(key).hash(b"weir: hashes of client keys");
        Self {
            cipher: XChaCha20Poly1305::new(key.into()),
            hashing: KeyHasher::new(&hash_key),
        }
    }

    /// Reads the key file, or makes one with a random key.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        read_or_make(path).map(|key| Self::new(&key))
    }

    /// The keyed hash for client keys that goes with this key.
    pub fn key_hasher(&self) -> KeyHasher {
        self.hashing.clone()
    }

    /// Encrypts. `context` must be the same when it is opened: it ties the secret to its place.
    pub fn seal(&self, secret: &[u8], context: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| Unsealable)?;
        let payload = Payload {
            msg: secret,
            aad: context,
        };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| Unsealable)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts what [`Self::seal`] gave.
    pub fn open_sealed(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(Unsealable)?;
        let payload = Payload {
            msg: sealed,
            aad: context,
        };
        self.cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| Unsealable)
    }
}

/// Another key, another place, or changed bytes; or no randomness to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot encrypt or decrypt a secret")]
pub struct Unsealable;

/// The keyed hash (HMAC-SHA256) by which client keys are stored and looked up. A client key has 256 random
/// bits, so a slow hash would add nothing. Look-ups compare these hashes, of which who presents a key can choose
/// nothing, so that a comparison in constant time is not needed either.
#[derive(Clone)]
pub struct KeyHasher(Hmac<Sha256>);

impl std::fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}

impl KeyHasher {
    /// A hasher with this key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        // A key of one block or less is taken as it is; the trait's constructor cannot fail for HMAC, but
        // says it may.
        let mut block = [0; 64];
        block[..KEY_BYTES].copy_from_slice(key);
        Self(<Hmac<Sha256> as KeyInit>::new(&block.into()))
    }

    /// The hash of a client key as presented.
    pub fn hash(&self, presented: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(presented);
        mac.finalize().into_bytes().into()
    }
}

fn read_or_make(path: &Path) -> Result<[u8; KEY_BYTES], StoreError> {
    crate::db::make_folder_of(path)?;
    let failed = |action| {
        move |source| StoreError::File {
            action,
            path: path.to_owned(),
            source,
        }
    };
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(mut file) => {
            let mut key = [0; KEY_BYTES];
            getrandom::fill(&mut key).map_err(|error| failed("make the key file")(error.into()))?;
            file.write_all(&key)
                .and_then(|()| file.sync_all())
                .map_err(failed("write the key file"))?;
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => read_key(path),
        Err(error) => Err(failed("make the key file")(error)),
    }
}

fn read_key(path: &Path) -> Result<[u8; KEY_BYTES], StoreError> {
    let failed = |source| StoreError::File {
        action: "read the key file",
        path: path.to_owned(),
        source,
    };
    let problem = |problem| StoreError::KeyFile {
        path: path.to_owned(),
        problem,
    };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        return Err(problem("others may read it: chmod 600"));
    }
    let mut bytes = Vec::new();
    Read::by_ref(&mut file)
        .take(KEY_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    bytes
        .try_into()
        .map_err(|_| problem("expected exactly 32 bytes: restore it from a backup"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_at_its_place_with_its_key_alone() {
        let sealer = Sealer::new(&[7; 32]);
        let sealed = sealer.seal(b"sk-secret", b"provider/openai").unwrap();
        assert_eq!(
            sealer.open_sealed(&sealed, b"provider/openai").unwrap(),
            b"sk-secret"
        );
        assert!(!sealed.windows(9).any(|part| part == b"sk-secret"));
        assert_ne!(sealed, sealer.seal(b"sk-secret", b"provider/openai").unwrap());
        assert_eq!(sealer.open_sealed(&sealed, b"provider/other"), Err(Unsealable));
        assert_eq!(
            Sealer::new(&[8; 32]).open_sealed(&sealed, b"provider/openai"),
            Err(Unsealable)
        );
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(
                sealer.open_sealed(&changed, b"provider/openai"),
                Err(Unsealable),
                "byte {at}"
            );
            assert_eq!(
                sealer.open_sealed(&sealed[..at], b"provider/openai"),
                Err(Unsealable),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn the_hash_is_hmac_sha256() {
        // RFC 4231 has no key of 32 bytes; zeros after a key of less than a block change nothing (RFC 2104),
        // so its second case serves.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let hash = KeyHasher::new(&key).hash(b"what do ya want for nothing?");
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn the_key_file_is_made_once_and_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/store.key");
        let sealed = Sealer::open(&path).unwrap().seal(b"x", b"").unwrap();
        assert_eq!(
            Sealer::open(&path).unwrap().open_sealed(&sealed, b"").unwrap(),
            b"x"
        );
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(Sealer::open(&path).unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, [1; 31]).unwrap();
        assert!(Sealer::open(&path).unwrap_err().to_string().contains("32 bytes"));
    }

    #[test]
    fn debug_tells_no_key() {
        let sealer = Sealer::new(&[b'k'; 32]);
        let text = format!("{sealer:?} {:?}", sealer.key_hasher());
        assert!(!text.contains("107") && !text.contains('6'), "{text}");
    }
}
