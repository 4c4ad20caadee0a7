//! Thirty-two bytes that nobody may see, and the two things that are made of them: other keys, and MACs.
//!
//! Deliberately absent: any way to print them but the one for key files.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::wire::hex;

/// A secret key. It is wiped from memory when it goes.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// Random bytes of the kernel.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice())?;
        Ok(Self(bytes))
    }

    /// A key that is kept elsewhere.
    pub(crate) fn of(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// A key that a test knows.
    #[cfg(test)]
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// 64 digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(hex::decode(text)?);
        let mut key = Zeroizing::new([0; 32]);
        (bytes.len() == key.len()).then(|| key.copy_from_slice(&bytes))?;
        Some(Self(key))
    }

    /// For key files, and nothing else.
    pub(crate) fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0.as_slice()))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether every byte is the same: somebody's placeholder, and no key.
    pub(crate) fn is_placeholder(&self) -> bool {
        self.0.iter().all(|byte| *byte == self.0[0])
    }

    /// HKDF-SHA256 without salt: the key for one purpose. Keys of different purposes tell nothing of each other.
    pub(crate) fn derive(&self, purpose: &str) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        let expanded = Hkdf::<Sha256>::new(None, self.0.as_slice()).expand(purpose.as_bytes(), key.as_mut_slice());
        expanded.expect("32 bytes are fewer than the 255 * 32 that HKDF-SHA256 gives");
        Self(key)
    }

    pub(crate) fn mac(&self, message: &[u8]) -> [u8; 32] {
        self.hmac(message).finalize().into_bytes().into()
    }

    /// Takes the same time wherever the two differ.
    pub(crate) fn check_mac(&self, message: &[u8], mac: &[u8; 32]) -> bool {
        self.hmac(message).verify_slice(mac).is_ok()
    }

    fn hmac(&self, message: &[u8]) -> Hmac<Sha256> {
        let mut hmac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes keys of every length");
        hmac.update(message);
        hmac
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}
