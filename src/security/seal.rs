//! Secrets at rest and on their way: XChaCha20-Poly1305 under the host's key, or an environment's.
//!
//! Nonces are random; 192 bits of them never meet. The place of a text is bound to it, so that whoever can write the
//! file cannot give one app the secret of another.

use std::fmt;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use nbs_core::secret::SecretText;

use crate::security::secret::Secret;
use crate::wire::hex;
use crate::wire::record::{Cipher, RowError};

/// What a sealed text begins with, so that another cipher can follow some day.
const PREFIX: &str = "x1:";
const NONCE: usize = 24;
/// What the key of derived secrets is for. Never changed: the secrets would be others.
const SECRETS: &str = "nbsupervisor/host-secrets/1";

/// Seals and opens texts with one key.
#[derive(Clone)]
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    secrets: Secret,
}

impl Sealer {
    /// Takes the key. It is wiped from memory when the sealer goes.
    pub fn new(key: &[u8; 32]) -> Self {
        let secrets = Secret::of(key).derive(SECRETS);
        Self { cipher: XChaCha20Poly1305::new(key.into()), secrets }
    }

    /// A secret of this host that nobody gave: the same name has the same one for as long as the key is the same.
    pub fn derive(&self, name: &str) -> SecretText {
        SecretText::new(self.secrets.derive(name).to_hex().as_str())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer([secret])")
    }
}

impl Cipher for Sealer {
    fn encrypt(&self, text: &str, place: &str) -> Result<String, RowError> {
        let mut sealed = vec![0; NONCE];
        getrandom::fill(&mut sealed).map_err(|error| RowError::Cipher(format!("no random numbers: {error}")))?;
        let payload = Payload { msg: text.as_bytes(), aad: place.as_bytes() };
        let body = self.cipher.encrypt(XNonce::from_slice(&sealed), payload);
        sealed.extend(body.map_err(|_| RowError::Cipher(format!("{place} cannot be encrypted")))?);
        Ok(format!("{PREFIX}{}", hex::encode(&sealed)))
    }

    fn decrypt(&self, text: &str, place: &str) -> Result<String, RowError> {
        let refused = || RowError::Cipher(format!("{place} cannot be decrypted"));
        let bytes = text.strip_prefix(PREFIX).and_then(hex::decode).ok_or_else(refused)?;
        let (nonce, body) = bytes.split_at_checked(NONCE).ok_or_else(refused)?;
        let payload = Payload { msg: body, aad: place.as_bytes() };
        let plain = self.cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| refused())?;
        String::from_utf8(plain).map_err(|_| refused())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_opens_in_its_place_only(text: String, place in "[a-z/]{0,9}", other in "[A-Z]{1,3}") {
            let sealer = Sealer::new(&[7; 32]);
            let sealed = sealer.encrypt(&text, &place).unwrap();
            prop_assert!(sealed != sealer.encrypt(&text, &place).unwrap());
            prop_assert_eq!(sealer.decrypt(&sealed, &place), Ok(text));
            prop_assert!(sealer.decrypt(&sealed, &other).is_err());
            prop_assert!(Sealer::new(&[8; 32]).decrypt(&sealed, &place).is_err());
        }

        #[test]
        fn what_is_no_sealed_text_is_refused(text in "(x1:)?[0-9a-g]{0,99}") {
            prop_assert!(Sealer::new(&[7; 32]).decrypt(&text, "").is_err());
        }
    }
}
