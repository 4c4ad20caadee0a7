//! Known answers: made once by other programs (Python's `hashlib`, `hmac` and `cryptography`, with HChaCha20 by its
//! definition), so that no format can change unnoticed. A change here parts hosts of different versions.

use nbs_core::id::Epoch;
use nbs_core::name::{AppId, EnvironmentName};

use crate::security::envelope::{Address, MacKind, Session, SignedKind, mac, signed};
use crate::security::hop::Hop;
use crate::security::secret::Secret;
use crate::security::{EnvironmentKeys, FleetKey};
use crate::wire::hex;
use crate::wire::record::Cipher as _;

const FLEET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const ENVIRONMENT: &str = "87a88e8452747e797da5087bf59ad598e462f6e9f3afe9c5614cc16822263695";
const REPORT: &str = "9176f046e1b785d8c16c0c24261787787fbd524f7016373a0d0a16b6941e9420";
const SEAL: &str = "01add43a2c9d5774153e9091acf92fb8496a41c322f155cd472e22b5f64b9a9c";
const HOP: &str = "917b272f4b9c490d8ba0a2ac37cb3fa8750fade0e9496080c67a0f005635bb3d";
const SEED: &str = "3ebd67673f65bdc846977b16ab692dc7d0cedbda72f219d8bd5fe614f603358a";
const PUBLIC: &str = "159a2f82a40546153716050e73936b383a6983500523861703748dc653f999ce";
const BODY: &str = "{\"a\":\"é|1\"}";
const MAC_ENVELOPE: &str = concat!(
    r#"{"v":1,"env":"env_a","kind":"report","n":7,"session":"000102030405060708090a0b0c0d0e0f","#,
    r#""body":"{\"a\":\"é|1\"}","mac":"08398eaf6d50f249f48c7305ab2b74437a471a26fa40c24f3d8d6c08adf77e0c"}"#,
);
const SIGNED_ENVELOPE: &str = concat!(
    r#"{"v":1,"env":"env_a","kind":"order","epoch":3,"entry":"host-1","issued_ms":1800000000000,"#,
    r#""body":"{\"a\":\"é|1\"}","sig":"b235d90435bf122a43f131cbb48858458d8d0b7cf85347b4d28f95f8239c3299"#,
    r#"020241afb002efb3daf0e9792e3f5f6a13c3c03294e0ba9b9d69e70da221a40b"}"#,
);
const HOP_HEADER: &str = "v1 crm 1800000000000 8c1f5105e95b37aa85ae888c4b4a29c4e172ab1f6a4795760346bc2c6e7cddcc";
const SEALED: &str =
    "x1:000102030405060708090a0b0c0d0e0f10111213141516176f5b8e36d13a7391715511ef50cb1dcbfc2037aa5159ce39254d";
const NOW: u64 = 1_800_000_000_000;

fn fleet() -> FleetKey {
    FleetKey::new(Secret::parse(FLEET).unwrap())
}

fn name() -> EnvironmentName {
    EnvironmentName::parse("env_a").unwrap()
}

fn keys() -> EnvironmentKeys {
    fleet().environment(&name())
}

#[test]
fn keys_follow_from_the_fleet_key_as_ever() {
    let key = |text: &str| Secret::parse(text).unwrap();
    assert_eq!(*key(FLEET).derive("nbs:v1:environment:env_a").to_hex(), ENVIRONMENT);
    assert_eq!(*key(FLEET).derive("nbs:v1:sign").to_hex(), SEED);
    for (purpose, expected) in [("nbs:v1:report", REPORT), ("nbs:v1:seal", SEAL), ("nbs:v1:hop", HOP)] {
        assert_eq!(*key(ENVIRONMENT).derive(purpose).to_hex(), expected, "{purpose}");
    }
    assert_eq!(*keys().hop_key().to_hex(), HOP);
    assert_eq!(keys().mac(b"m"), key(REPORT).mac(b"m"));
    assert_eq!(fleet().signer().verifier().to_hex(), PUBLIC);
}

#[test]
fn a_workers_file_is_written_as_ever() {
    let lines: Vec<String> = fleet().export(&name()).lines().skip(1).map(str::to_owned).collect();
    let expected =
        ["environment = \"env_a\"".to_owned(), format!("entry = \"{PUBLIC}\""), format!("key = \"{ENVIRONMENT}\"")];
    assert_eq!(lines, expected);
    assert_eq!(fleet().to_text().lines().nth(1), Some(format!("fleet = \"{FLEET}\"").as_str()));
}

#[test]
fn a_mac_is_as_ever() {
    // RFC 4231, test case 2, with its key filled up with zeros, as HMAC does itself.
    let mut key = [0; 32];
    key[..4].copy_from_slice(b"Jefe");
    let mac = Secret::new(key).mac(b"what do ya want for nothing?");
    assert_eq!(hex::encode(&mac), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

#[test]
fn envelopes_are_written_and_read_as_ever() {
    let session = Session(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
    let message = mac::Message { kind: MacKind::Report, n: 7, session, body: BODY.into() };
    assert_eq!(mac::wrap(&keys(), &message).unwrap(), MAC_ENVELOPE);
    assert_eq!(mac::open(&keys(), &[MacKind::Report], MAC_ENVELOPE), Ok(message));
    let message = signed::Message {
        to: Address::One(name()),
        kind: SignedKind::Order,
        entry: "host-1".into(),
        epoch: Epoch(3),
        issued_ms: NOW,
        body: BODY.into(),
    };
    let (signer, order) = (fleet().signer(), [SignedKind::Order]);
    assert_eq!(signed::wrap(&signer, &message).unwrap(), SIGNED_ENVELOPE);
    assert_eq!(signed::open(&signer.verifier(), Some(&name()), &order, SIGNED_ENVELOPE), Ok(message));
}

#[test]
fn a_hop_is_written_and_believed_as_ever() {
    let app = AppId::parse("crm").unwrap();
    assert_eq!(keys().hop_header(&app, NOW, "GET", "/a?b=c"), HOP_HEADER);
    assert_eq!(Hop::parse(HOP_HEADER).unwrap().check(&keys(), NOW, "GET", "/a?b=c"), Ok(&app));
}

#[test]
fn a_sealed_secret_opens_as_ever() {
    assert_eq!(keys().decrypt(SEALED, "order/crm/jwt").unwrap(), "pass wörd");
}
