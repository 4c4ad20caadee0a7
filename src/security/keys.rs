//! Which key follows from which: the fleet's, an environment's, and the three that an environment works with.
//!
//! Decides what each host can do with what it has. Deliberately absent: files (`file`), and messages (`envelope`, `hop`).

use std::fmt;

use nbs_core::name::EnvironmentName;
use zeroize::Zeroizing;

use crate::security::seal::Sealer;
use crate::security::secret::Secret;
use crate::security::sign::{Signer, Verifier};
use crate::wire::record::{Cipher, RowError};

/// The key at the entry, from which all others follow. Whoever has it is the entry, for every worker.
#[derive(Clone)]
pub struct FleetKey(Secret);

impl FleetKey {
    /// Makes a new one of random numbers.
    ///
    /// # Errors
    /// The kernel gives no random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Secret::random().map(Self)
    }

    pub(crate) fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// The keys of an environment. Those of two environments tell nothing of each other.
    pub fn environment(&self, name: &EnvironmentName) -> EnvironmentKeys {
        EnvironmentKeys::new(name, &self.environment_key(name))
    }

    /// What the entry signs with.
    pub fn signer(&self) -> Signer {
        Signer::new(&self.0.derive("nbs:v1:sign"))
    }

    /// What the worker of an environment needs, and no more.
    pub fn worker(&self, name: &EnvironmentName) -> WorkerKey {
        WorkerKey { environment: name.clone(), verifier: self.signer().verifier(), key: self.environment_key(name) }
    }

    /// The text of the key file for the worker of an environment.
    pub fn export(&self, name: &EnvironmentName) -> Zeroizing<String> {
        self.worker(name).to_text()
    }

    /// The text of the entry's key file.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "# nbsupervisor: the fleet key. It belongs on the entry alone. Whoever has it can give orders to every worker.\n\
             fleet = \"{}\"\n",
            *self.0.to_hex()
        ))
    }

    fn environment_key(&self, name: &EnvironmentName) -> Secret {
        self.0.derive(&format!("nbs:v1:environment:{name}"))
    }
}

impl fmt::Debug for FleetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FleetKey([secret])")
    }
}

/// What a worker has: the key of its environment, and the means to know the entry by.
#[derive(Clone)]
pub struct WorkerKey {
    environment: EnvironmentName,
    verifier: Verifier,
    key: Secret,
}

impl WorkerKey {
    pub(crate) fn new(environment: EnvironmentName, verifier: Verifier, key: Secret) -> Self {
        Self { environment, verifier, key }
    }

    /// Which environment it speaks for.
    pub fn environment_name(&self) -> &EnvironmentName {
        &self.environment
    }

    /// The environment's keys.
    pub fn keys(&self) -> EnvironmentKeys {
        EnvironmentKeys::new(&self.environment, &self.key)
    }

    /// Who the entry is.
    pub fn verifier(&self) -> Verifier {
        self.verifier.clone()
    }

    /// The text of the key file.
    pub fn to_text(&self) -> Zeroizing<String> {
        let Self { environment, verifier, key } = self;
        Zeroizing::new(format!(
            "# nbsupervisor: the key of the worker of one environment. It belongs on that host alone.\n\
             environment = \"{environment}\"\n\
             entry = \"{}\"\n\
             key = \"{}\"\n",
            verifier.to_hex(),
            *key.to_hex()
        ))
    }
}

impl fmt::Debug for WorkerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerKey({}, [secret])", self.environment)
    }
}

/// What entry and worker of one environment share, one key per purpose. As a `Cipher` it seals secrets on their way.
#[derive(Clone)]
pub struct EnvironmentKeys {
    environment: EnvironmentName,
    report: Secret,
    hop: Secret,
    seal: Sealer,
}

impl EnvironmentKeys {
    fn new(environment: &EnvironmentName, key: &Secret) -> Self {
        Self {
            environment: environment.clone(),
            report: key.derive("nbs:v1:report"),
            hop: key.derive("nbs:v1:hop"),
            seal: Sealer::new(key.derive("nbs:v1:seal").bytes()),
        }
    }

    /// Whose keys these are.
    pub fn environment_name(&self) -> &EnvironmentName {
        &self.environment
    }

    /// The MAC of a worker's message (HMAC-SHA256).
    pub fn mac(&self, message: &[u8]) -> [u8; 32] {
        self.report.mac(message)
    }

    /// Whether a MAC fits, in a time that does not tell where it differs.
    pub fn check_mac(&self, message: &[u8], mac: &[u8; 32]) -> bool {
        self.report.check_mac(message, mac)
    }

    pub(crate) fn hop_key(&self) -> &Secret {
        &self.hop
    }
}

impl Cipher for EnvironmentKeys {
    fn encrypt(&self, text: &str, place: &str) -> Result<String, RowError> {
        self.seal.encrypt(text, place)
    }

    fn decrypt(&self, text: &str, place: &str) -> Result<String, RowError> {
        self.seal.decrypt(text, place)
    }
}

impl fmt::Debug for EnvironmentKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnvironmentKeys({}, [secret])", self.environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> EnvironmentName {
        EnvironmentName::parse(text).unwrap()
    }

    fn fleet(byte: u8) -> FleetKey {
        let mut bytes = [byte; 32];
        bytes[0] = 1;
        FleetKey::new(Secret::new(bytes))
    }

    #[test]
    fn entry_and_worker_come_to_the_same_keys() {
        let fleet = FleetKey::generate().unwrap();
        let (env, worker) = (name("env_a"), fleet.worker(&name("env_a")));
        let (at_entry, at_worker) = (fleet.environment(&env), worker.keys());
        assert!(at_entry.check_mac(b"m", &at_worker.mac(b"m")));
        let sealed = at_entry.encrypt("pass word", "order/crm/jwt").unwrap();
        assert_eq!(at_worker.decrypt(&sealed, "order/crm/jwt").unwrap(), "pass word");
        assert!(worker.verifier().verify(b"m", &fleet.signer().sign(b"m")));
        assert_eq!(worker.environment_name(), &env);
    }

    #[test]
    fn environments_cannot_read_or_speak_for_each_other() {
        let fleet = fleet(7);
        // One name begins with the other, and one differs in case alone.
        for (a, b) in [("env_a", "env_b"), ("env", "env_a"), ("env", "Env")] {
            let (a, b) = (fleet.environment(&name(a)), fleet.environment(&name(b)));
            assert!(a.mac(b"m") != b.mac(b"m") && !a.check_mac(b"m", &b.mac(b"m")));
            assert!(a.hop_key().bytes() != b.hop_key().bytes());
            assert!(b.decrypt(&a.encrypt("text", "place").unwrap(), "place").is_err());
        }
    }

    #[test]
    fn fleets_have_nothing_in_common() {
        let (one, two, env) = (fleet(7), fleet(8), name("env_a"));
        assert!(!one.environment(&env).check_mac(b"m", &two.environment(&env).mac(b"m")));
        assert!(!one.signer().verifier().verify(b"m", &two.signer().sign(b"m")));
        assert!(FleetKey::generate().unwrap().to_text() != FleetKey::generate().unwrap().to_text());
    }

    #[test]
    fn a_key_has_one_purpose() {
        let keys = fleet(7).environment(&name("env_a"));
        assert!(keys.report.bytes() != keys.hop.bytes());
        assert!(!keys.check_mac(b"m", &keys.hop.mac(b"m")));
    }

    #[test]
    fn nothing_that_is_printed_shows_a_key() {
        let (fleet, env) = (fleet(0xab), name("env_a"));
        let (worker, keys, signer) = (fleet.worker(&env), fleet.environment(&env), fleet.signer());
        let verifier = signer.verifier();
        let whole = format!("{fleet:?} {worker:?} {keys:?} {signer:?} {verifier:?} {:?} {:?}", fleet.0, keys.seal);
        for shown in [whole, format!("{fleet:#?} {worker:#?} {keys:#?} {signer:#?}")] {
            for secret in [fleet.0.to_hex(), worker.key.to_hex(), keys.report.to_hex(), keys.hop.to_hex()] {
                assert!(!shown.contains(&secret[8..16]), "{shown}");
            }
            // 171 is 0xab, as the bytes of an array would be written.
            assert!(!shown.contains("171") && !shown.contains(", 1"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn a_mac_fits_one_message_only(message: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let keys = fleet(7).environment(&name("env_a"));
            let mac = keys.mac(&message);
            prop_assert!(keys.check_mac(&message, &mac));
            let mut other = mac;
            other[at.index(32)] ^= 1 << bit;
            prop_assert!(!keys.check_mac(&message, &other));
            let mut longer = message.clone();
            longer.push(0);
            prop_assert!(!keys.check_mac(&longer, &mac));
        }

        #[test]
        fn a_signature_fits_one_message_only(message: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let signer = fleet(7).signer();
            let signature = signer.sign(&message);
            prop_assert!(signer.verifier().verify(&message, &signature));
            let mut other = signature;
            other[at.index(64)] ^= 1 << bit;
            prop_assert!(!signer.verifier().verify(&message, &other));
            let mut longer = message.clone();
            longer.push(0);
            prop_assert!(!signer.verifier().verify(&longer, &signature));
        }
    }
}
