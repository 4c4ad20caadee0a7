//! What the entry says, under its signature (Ed25519).
//!
//! A worker can check it and cannot make it, so a host that was broken into moves no other. Deliberately absent: how old
//! a message may be, and which entry is followed; the reader decides both from what stands in the message.

use nbs_core::id::Epoch;
use nbs_core::name::EnvironmentName;

use crate::security::sign::{Signer, Verifier};
use crate::wire::envelope::{
    Address, EnvelopeError, SignedKind, SignedShape, VERSION, digits, is_entry_id, read, short, write,
};
use crate::wire::hex;

/// A message of the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whom it is for.
    pub to: Address,
    /// What it is about.
    pub kind: SignedKind,
    /// Which entry says it.
    pub entry: String,
    /// The reign of that entry.
    pub epoch: Epoch,
    /// When, by the clock of Redis, in milliseconds since 1970.
    pub issued_ms: u64,
    /// The record, as JSON; secrets in it are sealed.
    pub body: String,
}

/// Signs and wraps a message.
///
/// # Errors
/// It would be larger than an envelope may be, the entry's ID cannot be one, or a message that needs one address has
/// none.
pub fn wrap(signer: &Signer, message: &Message) -> Result<String, EnvelopeError> {
    allowed(message.kind, &message.to, &message.entry)?;
    let mut shape = SignedShape {
        v: VERSION,
        env: message.to.as_str().into(),
        kind: message.kind.as_str().into(),
        epoch: message.epoch.0,
        entry: message.entry.as_str().into(),
        issued_ms: message.issued_ms,
        body: message.body.as_str().into(),
        sig: "".into(),
    };
    shape.sig = hex::encode(&signer.sign(shape.canonical().as_bytes())).into();
    write(&shape)
}

/// Opens an envelope of one of these kinds that is for the worker of this environment; without one, only what is for
/// everybody.
///
/// # Errors
/// It is no such envelope, or its signature does not fit.
pub fn open(
    verifier: &Verifier,
    own: Option<&EnvironmentName>,
    expected: &[SignedKind],
    text: &str,
) -> Result<Message, EnvelopeError> {
    let shape: SignedShape<'_> = read(text)?;
    let kind = SignedKind::expect(&shape.kind, expected)?;
    let to = Address::parse(&shape.env)?;
    if matches!(&to, Address::One(name) if Some(name) != own) {
        return Err(EnvelopeError::Environment { found: short(&shape.env) });
    }
    allowed(kind, &to, &shape.entry)?;
    let signature = digits(&shape.sig).ok_or(EnvelopeError::Shape { field: "sig" })?;
    if !verifier.verify(shape.canonical().as_bytes(), &signature) {
        return Err(EnvelopeError::Forged);
    }
    let (entry, body) = (shape.entry.into_owned(), shape.body.into_owned());
    Ok(Message { to, kind, entry, epoch: Epoch(shape.epoch), issued_ms: shape.issued_ms, body })
}

fn allowed(kind: SignedKind, to: &Address, entry: &str) -> Result<(), EnvelopeError> {
    if !is_entry_id(entry) {
        return Err(EnvelopeError::Shape { field: "entry" });
    }
    if *to == Address::Everybody && !kind.may_be_for_everybody() {
        return Err(EnvelopeError::Environment { found: to.as_str().into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::security::FleetKey;
    use crate::security::secret::Secret;

    fn fleet(byte: u8) -> FleetKey {
        let mut bytes = [byte; 32];
        bytes[0] = 1;
        FleetKey::new(Secret::new(bytes))
    }

    fn name(text: &str) -> EnvironmentName {
        EnvironmentName::parse(text).unwrap()
    }

    fn message() -> Message {
        Message {
            to: Address::One(name("env_a")),
            kind: SignedKind::Order,
            entry: "host-1".into(),
            epoch: Epoch(3),
            issued_ms: 1_800_000_000_000,
            body: "{\"a\":1}".into(),
        }
    }

    fn opened(text: &str) -> Result<Message, EnvelopeError> {
        open(&fleet(7).signer().verifier(), Some(&name("env_a")), SignedKind::ALL, text)
    }

    #[test]
    fn a_change_of_any_field_is_refused() {
        let good: serde_json::Value = serde_json::from_str(&wrap(&fleet(7).signer(), &message()).unwrap()).unwrap();
        assert_eq!(opened(&good.to_string()), Ok(message()));
        let sig = good["sig"].as_str().unwrap();
        let shape = |field| EnvelopeError::Shape { field };
        for (field, value, error) in [
            ("v", serde_json::json!(2), EnvelopeError::Version { found: 2 }),
            ("env", "env_b".into(), EnvelopeError::Environment { found: "env_b".into() }),
            ("env", "*".into(), EnvelopeError::Environment { found: "*".into() }),
            ("env", "".into(), shape("env")),
            ("kind", "intent".into(), EnvelopeError::Forged),
            ("kind", "report".into(), EnvelopeError::Kind { found: "report".into() }),
            ("epoch", 4.into(), EnvelopeError::Forged),
            ("entry", "host-2".into(), EnvelopeError::Forged),
            ("entry", "host-1|3".into(), shape("entry")),
            ("issued_ms", 1_800_000_000_001_u64.into(), EnvelopeError::Forged),
            ("body", "{\"a\":2}".into(), EnvelopeError::Forged),
            ("body", 7.into(), shape("a field")),
            ("sig", sig.to_uppercase().into(), shape("sig")),
            ("sig", sig[2..].into(), shape("sig")),
            ("sig", "00".repeat(64).into(), EnvelopeError::Forged),
        ] {
            let mut bad = good.clone();
            bad[field] = value.clone();
            assert_eq!(opened(&bad.to_string()), Err(error), "{field} = {value}");
        }
        for field in ["env", "kind", "epoch", "entry", "issued_ms", "body", "sig"] {
            let mut bad = good.clone();
            bad.as_object_mut().unwrap().remove(field);
            assert_eq!(opened(&bad.to_string()), Err(shape(field)));
        }
    }

    #[test]
    fn a_key_of_another_fleet_or_of_a_worker_gives_no_orders() {
        let text = wrap(&fleet(8).signer(), &message()).unwrap();
        assert_eq!(opened(&text), Err(EnvelopeError::Forged));
        // What a worker has is not a seed that signs for the entry.
        let keys = fleet(7).environment(&name("env_a"));
        let text = wrap(&Signer::new(keys.hop_key()), &message()).unwrap();
        assert_eq!(opened(&text), Err(EnvelopeError::Forged));
    }

    #[test]
    fn what_moves_an_app_has_one_address_and_a_roll_call_may_be_for_all() {
        let (signer, verifier) = (fleet(7).signer(), fleet(7).signer().verifier());
        for kind in SignedKind::ALL {
            let message = Message { to: Address::Everybody, kind: *kind, ..message() };
            let text = wrap(&signer, &message);
            assert_eq!(text.is_ok(), kind.may_be_for_everybody(), "{kind:?}");
            let Ok(text) = text else { continue };
            for own in [Some(name("env_a")), Some(name("env_b")), None] {
                assert_eq!(open(&verifier, own.as_ref(), SignedKind::ALL, &text), Ok(message.clone()));
            }
        }
        let text = wrap(&signer, &message()).unwrap();
        for own in [Some(name("env_b")), None] {
            let refused = open(&verifier, own.as_ref(), SignedKind::ALL, &text);
            assert_eq!(refused, Err(EnvelopeError::Environment { found: "env_a".into() }));
        }
    }

    #[test]
    fn only_the_expected_kinds_are_opened() {
        let text = wrap(&fleet(7).signer(), &message()).unwrap();
        let kinds = [SignedKind::Intent, SignedKind::Entry];
        let refused = open(&fleet(7).signer().verifier(), Some(&name("env_a")), &kinds, &text);
        assert_eq!(refused, Err(EnvelopeError::Kind { found: "order".into() }));
    }

    #[test]
    fn an_entry_whose_id_could_be_read_in_two_ways_signs_nothing() {
        let bad = Message { entry: "a|b".into(), ..message() };
        assert_eq!(wrap(&fleet(7).signer(), &bad), Err(EnvelopeError::Shape { field: "entry" }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_wrapped_opens_as_it_was(
            body: String, epoch: u64, issued_ms: u64, entry in "[!-{}~]{1,128}", kind in 0..SignedKind::ALL.len(),
        ) {
            let kind = SignedKind::ALL[kind];
            let message = Message { kind, entry, epoch: Epoch(epoch), issued_ms, body, ..message() };
            let text = wrap(&fleet(7).signer(), &message).unwrap();
            prop_assert_eq!(opened(&text), Ok(message));
        }

        #[test]
        fn no_other_byte_anywhere_gives_another_message(at: prop::sample::Index, byte: u8) {
            let mut bytes = wrap(&fleet(7).signer(), &message()).unwrap().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
            if let Ok(opened) = opened(&text) {
                prop_assert_eq!(opened, message());
            }
        }
    }
}
