//! What a worker tells, under the MAC of its environment (HMAC-SHA256 with the report key).
//!
//! Entry and worker share that key, so a MAC says: this environment, not: this host.

use crate::security::keys::EnvironmentKeys;
use crate::wire::envelope::{
    EnvelopeError, MacKind, MacShape, Session, VERSION, digits, environment, read, short, write,
};
use crate::wire::hex;

/// A message of the worker of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is about.
    pub kind: MacKind,
    /// Grows with every message of one life of the worker.
    pub n: u64,
    /// The entry's session that the worker knew when it wrote.
    pub session: Session,
    /// The record, as JSON.
    pub body: String,
}

/// Wraps a message of the environment that the keys are of.
///
/// # Errors
/// It would be larger than an envelope may be.
pub fn wrap(keys: &EnvironmentKeys, message: &Message) -> Result<String, EnvelopeError> {
    let mut shape = MacShape {
        v: VERSION,
        env: keys.environment_name().as_str().into(),
        kind: message.kind.as_str().into(),
        n: message.n,
        session: message.session.to_string().into(),
        body: message.body.as_str().into(),
        mac: "".into(),
    };
    shape.mac = hex::encode(&keys.mac(shape.canonical().as_bytes())).into();
    write(&shape)
}

/// Opens an envelope that should be of this environment and of one of these kinds.
///
/// # Errors
/// It is no such envelope, or its MAC does not fit.
pub fn open(keys: &EnvironmentKeys, expected: &[MacKind], text: &str) -> Result<Message, EnvelopeError> {
    let shape: MacShape<'_> = read(text)?;
    let kind = MacKind::expect(&shape.kind, expected)?;
    if environment(&shape.env)? != *keys.environment_name() {
        return Err(EnvelopeError::Environment { found: short(&shape.env) });
    }
    let session = Session::parse(&shape.session).ok_or(EnvelopeError::Shape { field: "session" })?;
    let mac = digits(&shape.mac).ok_or(EnvelopeError::Shape { field: "mac" })?;
    if !keys.check_mac(shape.canonical().as_bytes(), &mac) {
        return Err(EnvelopeError::Forged);
    }
    Ok(Message { kind, n: shape.n, session, body: shape.body.into_owned() })
}

#[cfg(test)]
mod tests {
    use nbs_core::name::EnvironmentName;
    use proptest::prelude::*;

    use super::*;
    use crate::security::FleetKey;
    use crate::security::secret::Secret;
    use crate::wire::envelope::LIMIT;

    fn keys(environment: &str) -> EnvironmentKeys {
        let mut fleet = [7; 32];
        fleet[0] = 1;
        FleetKey::new(Secret::new(fleet)).environment(&EnvironmentName::parse(environment).unwrap())
    }

    fn message(body: &str) -> Message {
        Message { kind: MacKind::Report, n: 7, session: Session(255), body: body.into() }
    }

    #[test]
    fn a_change_of_any_field_is_refused() {
        let good: serde_json::Value =
            serde_json::from_str(&wrap(&keys("env_a"), &message("{\"a\":1}")).unwrap()).unwrap();
        let opened = |value: &serde_json::Value| open(&keys("env_a"), MacKind::ALL, &value.to_string());
        assert_eq!(opened(&good), Ok(message("{\"a\":1}")));
        let mac = good["mac"].as_str().unwrap();
        let shape = |field| EnvelopeError::Shape { field };
        for (field, value, error) in [
            ("v", serde_json::json!(2), EnvelopeError::Version { found: 2 }),
            ("v", serde_json::json!(0), EnvelopeError::Version { found: 0 }),
            ("env", "env_b".into(), EnvelopeError::Environment { found: "env_b".into() }),
            ("env", "env|a".into(), shape("env")),
            ("env", "*".into(), shape("env")),
            ("kind", "beat".into(), EnvelopeError::Forged),
            ("kind", "order".into(), EnvelopeError::Kind { found: "order".into() }),
            ("n", 8.into(), EnvelopeError::Forged),
            ("n", (-7).into(), shape("a field")),
            ("n", 7.5.into(), shape("a field")),
            ("session", "000000000000000000000000000000fe".into(), EnvelopeError::Forged),
            ("session", "000000000000000000000000000000FF".into(), shape("session")),
            ("body", "{\"a\":2}".into(), EnvelopeError::Forged),
            ("body", "{\"a\":1} ".into(), EnvelopeError::Forged),
            ("body", serde_json::json!({"a": 1}), shape("a field")),
            ("mac", mac.to_uppercase().into(), shape("mac")),
            ("mac", mac[2..].into(), shape("mac")),
            ("mac", "00".repeat(32).into(), EnvelopeError::Forged),
        ] {
            let mut bad = good.clone();
            bad[field] = value.clone();
            assert_eq!(opened(&bad), Err(error), "{field} = {value}");
        }
        for field in ["env", "kind", "n", "session", "body", "mac"] {
            let mut bad = good.clone();
            bad.as_object_mut().unwrap().remove(field);
            assert_eq!(opened(&bad), Err(shape(field)));
        }
        let mut more = good.clone();
        more["later"] = 1.into();
        assert!(opened(&more).is_ok(), "what a later version adds is passed over");
    }

    #[test]
    fn only_the_expected_kinds_are_opened() {
        let text = wrap(&keys("env_a"), &message("")).unwrap();
        let refused = Err(EnvelopeError::Kind { found: "report".into() });
        assert_eq!(open(&keys("env_a"), &[MacKind::Beat, MacKind::Usage], &text), refused);
        assert!(open(&keys("env_a"), &[MacKind::Beat, MacKind::Report], &text).is_ok());
    }

    #[test]
    fn another_environments_worker_is_not_believed_even_if_it_says_that_it_is_this_one() {
        let text = wrap(&keys("env_b"), &message("")).unwrap();
        let lie = text.replace("env_b", "env_a");
        assert!(matches!(open(&keys("env_a"), MacKind::ALL, &text), Err(EnvelopeError::Environment { .. })));
        assert_eq!(open(&keys("env_a"), MacKind::ALL, &lie), Err(EnvelopeError::Forged));
    }

    #[test]
    fn what_would_be_too_large_is_not_made() {
        let room = LIMIT - wrap(&keys("env_a"), &message("")).unwrap().len();
        assert_eq!(wrap(&keys("env_a"), &message(&"x".repeat(room))).unwrap().len(), LIMIT);
        let refused = wrap(&keys("env_a"), &message(&"x".repeat(room + 1)));
        assert_eq!(refused, Err(EnvelopeError::TooLarge { bytes: LIMIT + 1 }));
    }

    proptest! {
        #[test]
        fn what_is_wrapped_opens_as_it_was(body: String, n: u64, session: u128, kind in 0..MacKind::ALL.len()) {
            let message = Message { kind: MacKind::ALL[kind], n, session: Session(session), body };
            let text = wrap(&keys("env_a"), &message).unwrap();
            prop_assert_eq!(open(&keys("env_a"), MacKind::ALL, &text), Ok(message));
        }

        #[test]
        fn no_other_byte_anywhere_gives_another_message(at: prop::sample::Index, byte: u8) {
            let good = wrap(&keys("env_a"), &message("{\"a\":1}")).unwrap();
            let mut bytes = good.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
            if let Ok(opened) = open(&keys("env_a"), MacKind::ALL, &text) {
                prop_assert_eq!(opened, message("{\"a\":1}"));
            }
        }
    }
}
