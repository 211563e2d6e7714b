//! Sealing and opening values.
//!
//! **Layout** of a sealed value, [`SEALED_BYTES_EXTRA`] bytes longer than the plain one:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | version, `e1`: no plain record begins with it |
//! | 1 | 4 | id of the key, big-endian |
//! | 5 | 24 | nonce, random |
//! | 29 | n | ciphertext |
//! | 29 + n | 16 | tag |
//!
//! The tag also covers where the value belongs: version and key id as above, then the length of the store id (8 bytes,
//! big-endian), the store id, the length of the map's key (the same), the key.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, Bytes};
use chacha20poly1305::{AeadInPlace, KeyInit, XChaCha20Poly1305};

use super::ring::{KeyId, Keys, Secret};
use crate::model::fill_random;
use crate::store::{Corrupt, StoreError, keys};

/// The only version so far.
const VERSION: u8 = 0xe1;

/// Whether a stored value is sealed.
pub(crate) fn is_sealed(value: &[u8]) -> bool {
    value.first() == Some(&VERSION)
}

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// Version, id, nonce: what stands before the ciphertext.
const HEAD_BYTES: usize = 1 + 4 + NONCE_BYTES;

/// How many bytes a sealed value has more than the plain one.
pub(crate) const SEALED_BYTES_EXTRA: usize = HEAD_BYTES + TAG_BYTES;

/// What tells one store from every other: 16 random bytes, no secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreId([u8; 16]);

impl StoreId {
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({:032x})", u128::from_be_bytes(self.0))
    }
}

/// The keys of one store, ready for use: seals values under the newest, opens those under any.
pub(crate) struct Sealer {
    store: StoreId,
    newest: Cipher,
    older: Vec<Cipher>,
    /// Whether a plain value is one that has yet to be sealed, not damage.
    takes_plain: AtomicBool,
}

struct Cipher {
    id: KeyId,
    /// Wiped when it is dropped.
    cipher: XChaCha20Poly1305,
}

impl Cipher {
    fn new(id: KeyId, secret: &Secret) -> Self {
        let cipher = XChaCha20Poly1305::new(secret.expose().into());
        Self { id, cipher }
    }
}

impl Sealer {
    /// Whoever has no proof that these are the keys of the store calls [`Check::verify`](super::Check::verify) instead.
    pub(super) fn new(store: StoreId, keys: &Keys) -> Self {
        let older = keys.older_secrets().iter();
        Self {
            store,
            newest: Cipher::new(keys.newest(), keys.newest_secret()),
            older: older.map(|(id, key)| Cipher::new(*id, key)).collect(),
            takes_plain: AtomicBool::new(false),
        }
    }

    /// The same for a store that is being sealed: values that are plain still open, as they are.
    pub(super) const fn taking_plain(mut self) -> Self {
        self.takes_plain = AtomicBool::new(true);
        self
    }

    /// Every value is sealed: a plain one is damage from here on.
    pub(crate) fn refuse_plain(&self) {
        self.takes_plain.store(false, Ordering::Release);
    }

    /// The key that seals.
    pub(crate) const fn newest(&self) -> KeyId {
        self.newest.id
    }

    pub(crate) const fn store(&self) -> StoreId {
        self.store
    }

    /// Seals the value of `key`. Two seals of one value share nothing but their length and the key's id.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the system gives no random bytes, or when the value has more than 256 GiB.
    pub(crate) fn seal(&self, key: &[u8], value: &[u8]) -> Result<Bytes, StoreError> {
        const ACTION: &str = "seal a value";
        let mut nonce = [0; NONCE_BYTES];
        let drawn = fill_random(&mut nonce);
        drawn.map_err(|error| StoreError::io(ACTION, io::Error::other(error)))?;
        let Cipher { id, cipher } = &self.newest;
        let mut sealed = Vec::with_capacity(value.len() + SEALED_BYTES_EXTRA);
        sealed.put_u8(VERSION);
        sealed.put_u32(id.get());
        sealed.put_slice(&nonce);
        sealed.put_slice(value);
        let belongs = associated(*id, self.store, key);
        let Some(tag) = encrypt(cipher, &nonce, &belongs, &mut sealed[HEAD_BYTES..]) else {
            return Err(StoreError::io(ACTION, io::ErrorKind::InvalidInput.into()));
        };
        sealed.put_slice(&tag);
        Ok(sealed.into())
    }

    /// Opens the value of `key`.
    ///
    /// # Errors
    /// [`Corrupt`] for whatever was not sealed for this key in this store: a changed value, one of another key, and a plain
    /// one, unless the store is being sealed.
    pub(crate) fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Bytes, Corrupt> {
        let is_plain = sealed.first().is_some_and(|version| *version != VERSION);
        if is_plain && self.takes_plain.load(Ordering::Acquire) {
            return Ok(Bytes::copy_from_slice(sealed));
        }
        let damaged = |reason: String| Corrupt::new(keys::describe(key), reason);
        let parts = Parts::of(sealed).map_err(|reason| damaged(reason.to_owned()))?;
        let mut ring = [&self.newest].into_iter().chain(&self.older);
        let Some(Cipher { id, cipher }) = ring.find(|own| own.id == parts.id) else {
            let id = parts.id;
            return Err(damaged(format!(
                "it is sealed under key {id}, which the key file lacks"
            )));
        };
        let belongs = associated(*id, self.store, key);
        let mut value = parts.ciphertext.to_vec();
        if !decrypt(cipher, parts.nonce, &belongs, &mut value, parts.tag) {
            return Err(damaged("its seal does not hold".to_owned()));
        }
        Ok(value.into())
    }

    /// Whether a value has still to be sealed under the newest key. Of bytes that are no sealed value this is so, too:
    /// [`reseal`](Self::reseal) says what is wrong with them.
    pub(crate) fn needs_reseal(&self, sealed: &[u8]) -> bool {
        !Parts::of(sealed).is_ok_and(|parts| parts.id == self.newest.id)
    }

    /// The same value under the newest key; `None` when it is under that already, which is not checked further.
    ///
    /// Whoever stores the answer makes sure that `sealed` still stands there: a value written meanwhile must not be undone.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) and [`seal`](Self::seal).
    pub(crate) fn reseal(&self, key: &[u8], sealed: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if !self.needs_reseal(sealed) {
            return Ok(None);
        }
        let value = self.open(key, sealed)?;
        self.seal(key, &value).map(Some)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let older: Vec<u32> = self.older.iter().map(|own| own.id.get()).collect();
        f.debug_struct("Sealer")
            .field("store", &self.store)
            .field("newest", &self.newest.id.get())
            .field("older", &older)
            .finish_non_exhaustive()
    }
}

/// The id of the key that some bytes say they are sealed under.
pub(super) fn key_of(sealed: &[u8]) -> Option<KeyId> {
    Parts::of(sealed).ok().map(|parts| parts.id)
}

/// A sealed value, taken apart.
struct Parts<'s> {
    id: KeyId,
    nonce: &'s [u8; NONCE_BYTES],
    ciphertext: &'s [u8],
    tag: &'s [u8; TAG_BYTES],
}

impl<'s> Parts<'s> {
    fn of(sealed: &'s [u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "it ends before its seal does";
        let Some((&VERSION, rest)) = sealed.split_first() else {
            return Err("it is not sealed");
        };
        let (id, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let (nonce, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let (ciphertext, tag) = rest.split_last_chunk().ok_or(SHORT)?;
        Ok(Self {
            id: KeyId::new(u32::from_be_bytes(*id)).ok_or("its key has id 0")?,
            nonce,
            ciphertext,
            tag,
        })
    }
}

/// What a seal is bound to.
fn associated(id: KeyId, store: StoreId, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + 8 + 16 + 8 + key.len());
    bytes.put_u8(VERSION);
    bytes.put_u32(id.get());
    for part in [store.as_bytes().as_slice(), key] {
        bytes.put_u64(part.len() as u64);
        bytes.put_slice(part);
    }
    bytes
}

/// Encrypts in place, and gives the tag; `None` when there are more bytes than the cipher takes.
fn encrypt(
    cipher: &XChaCha20Poly1305,
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    bytes: &mut [u8],
) -> Option<[u8; TAG_BYTES]> {
    let tag = cipher.encrypt_in_place_detached(nonce.into(), associated, bytes);
    tag.ok().map(Into::into)
}

/// Decrypts in place; `false` when the tag does not fit, and then leaves the bytes as they were.
fn decrypt(
    cipher: &XChaCha20Poly1305,
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    bytes: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> bool {
    let opened = cipher.decrypt_in_place_detached(nonce.into(), associated, bytes, tag.into());
    opened.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that these digits write.
    fn hex(digits: &str) -> Vec<u8> {
        let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pairs = digits.chunks(2).map(|pair| str::from_utf8(pair).unwrap());
        pairs
            .map(|pair| u8::from_str_radix(pair, 16).unwrap())
            .collect()
    }

    /// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    #[test]
    fn the_published_vector_comes_out() {
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let key: [u8; 32] = std::array::from_fn(|i| 0x80 + i as u8);
        let nonce: [u8; 24] = std::array::from_fn(|i| 0x40 + i as u8);
        let associated = hex("50515253c0c1c2c3c4c5c6c7");
        let ciphertext = hex(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb
             731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452
             2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9
             21f9664c97637da9768812f615c68b13b52e",
        );
        let tag: [u8; 16] = hex("c0875924c1c7987947deafd8780acf49").try_into().unwrap();

        let cipher = XChaCha20Poly1305::new(&key.into());
        let mut bytes = plain.to_vec();
        assert_eq!(encrypt(&cipher, &nonce, &associated, &mut bytes), Some(tag));
        assert_eq!(bytes, ciphertext);
        assert!(decrypt(&cipher, &nonce, &associated, &mut bytes, &tag));
        assert_eq!(bytes, plain);
    }

    #[test]
    fn a_tag_that_does_not_fit_shows_no_plain_byte() {
        let cipher = XChaCha20Poly1305::new(&[7; 32].into());
        let mut bytes = *b"hidden";
        let mut tag = encrypt(&cipher, &[1; 24], b"", &mut bytes).unwrap();
        let ciphertext = bytes;
        tag[0] ^= 1;
        assert!(!decrypt(&cipher, &[1; 24], b"", &mut bytes, &tag));
        assert_eq!(bytes, ciphertext);
    }

    #[test]
    fn what_a_seal_is_bound_to_is_framed() {
        let id = KeyId::new(258).unwrap();
        let bytes = associated(id, StoreId([0xaa; 16]), b"key");
        assert_eq!(
            bytes,
            hex(
                "e1 00000102 0000000000000010 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0000000000000003 6b6579"
            )
        );
    }
}
