//! Signatures of the entry: Ed25519, checked strictly.
//!
//! The seed follows from the fleet key, so an entry that is set up anew from its key file is believed by every worker.
//! Deliberately absent: what is signed (`envelope`).

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::security::secret::Secret;
use crate::wire::hex;

/// Signs for the entry. It is wiped from memory when it goes.
#[derive(Clone)]
pub struct Signer(SigningKey);

impl Signer {
    pub(crate) fn new(seed: &Secret) -> Self {
        Self(SigningKey::from_bytes(seed.bytes()))
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// Who can check what this one signs.
    pub fn verifier(&self) -> Verifier {
        Verifier(self.0.verifying_key())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer([secret])")
    }
}

/// Knows the entry's signatures. Public: whoever has it can sign nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier(VerifyingKey);

impl Verifier {
    /// Reads 64 digits. A key under which anything is signed (of small order) is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 32] = hex::decode(text)?.try_into().ok()?;
        let key = VerifyingKey::from_bytes(&bytes).ok()?;
        (!key.is_weak()).then_some(Self(key))
    }

    /// 64 digits.
    pub(crate) fn to_hex(&self) -> String {
        hex::encode(self.0.as_bytes())
    }

    /// Whether the entry signed exactly this. Strict: of one message there is one signature that counts.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}
