//! Signatures: ed25519 over a statement that names every run with its head and every other record by its digest.
//!
//! ```text
//!   statement { header, runs [run, events, head], report, page }  ──PAE──▶ ed25519
//! ```
//!
//! Invariants: 1. What is signed says what it is (DSSE's pre-authentication encoding), so no signature can be shown as one over
//! something else. 2. Each part of a file can be compared with the statement by itself: what was changed is found, not only that
//! something was. 3. The private key has no text and no serialised form in this crate.

use std::{fmt, str::FromStr};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sdk::RunId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What is signed, by name.
const PAYLOAD_TYPE: &str = "application/vnd.switchback.evidence.v1+json";
const ALGORITHM: &str = "ed25519:";

/// Signs. Has no serialised form, on purpose.
pub struct SigningKey(Ed25519KeyPair);

/// By which a signature is checked; as text `ed25519:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

/// Why something is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not a private key that signs.
    #[error("this is no ed25519 key in PKCS#8")]
    Private,
    /// Not a public key.
    #[error("{0:?} is no public key of the form ed25519: and 64 hexadecimal digits")]
    Public(String),
    /// No key at all.
    #[error("it holds no key; a key is a line that begins with ed25519:, as `switchback evidence key` prints it")]
    None,
}

/// Names what a file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Version of this format.
    pub v: u32,
    /// SHA-256 of the header's record.
    pub header: String,
    /// Every run with its length and its head.
    pub runs: Vec<Head>,
    /// SHA-256 of the report's record, if there is one.
    pub report: Option<String>,
    /// SHA-256 of the page above the file that it carries, if it was written as a page.
    pub page: Option<String>,
}

/// The end of a run's chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Which run.
    pub run: RunId,
    /// Its events.
    pub events: usize,
    /// The last link, lower-case hex.
    pub head: String,
}

/// A statement with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// What is signed.
    pub statement: Statement,
    /// By which it is checked.
    pub key: PublicKey,
    /// 64 bytes, lower-case hex.
    pub value: String,
}

impl SigningKey {
    /// From PKCS#8, version 1 or 2.
    ///
    /// # Errors
    /// [`InvalidKey::Private`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, InvalidKey> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Self).map_err(|_rejected| InvalidKey::Private)
    }

    /// From the 32 random bytes that an ed25519 key is.
    ///
    /// # Errors
    /// [`InvalidKey::Private`] if they are not 32.
    pub fn from_seed(seed: &[u8]) -> Result<Self, InvalidKey> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).map_err(|_rejected| InvalidKey::Private)
    }

    /// The other half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs a statement.
    #[must_use]
    pub fn sign(&self, statement: Statement) -> Signature {
        let value = hex::encode(self.0.sign(&encoded(&statement)));
        Signature { statement, key: self.public(), value }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

impl Signature {
    /// Whether it is this key's over this statement. Says nothing of whether the key can be trusted.
    #[must_use]
    pub fn holds(&self) -> bool {
        // One form only: capitals would mean the same and be a changed byte.
        let Some(value) = hex::decode(&self.value).ok().filter(|value| hex::encode(value) == self.value) else { return false };
        UnparsedPublicKey::new(&ED25519, self.key.0).verify(&encoded(&self.statement), &value).is_ok()
    }
}

impl Statement {
    /// The version that this build writes.
    pub const VERSION: u32 = 1;
}

/// SHA-256 as lower-case hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Reads the keys of a file: a key a line, with a comment behind it if one likes; lines that begin with `#` are left out.
///
/// # Errors
/// A line is no key, or there is none.
pub fn keys(text: &str) -> Result<Vec<PublicKey>, InvalidKey> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys = lines.map(|line| line.split_whitespace().next().unwrap_or_default().parse()).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() { Err(InvalidKey::None) } else { Ok(keys) }
}

/// DSSE v1: lengths keep the type and the body apart.
fn encoded(statement: &Statement) -> Vec<u8> {
    let body = serde_json::to_string(statement).unwrap_or_default();
    format!("DSSEv1 {} {PAYLOAD_TYPE} {} {body}", PAYLOAD_TYPE.len(), body.len()).into_bytes()
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", hex::encode(self.0))
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let invalid = || InvalidKey::Public(text.to_owned());
        let digits = text.strip_prefix(ALGORITHM).filter(|digits| !digits.bytes().any(|byte| byte.is_ascii_uppercase()));
        let bytes = digits.and_then(|digits| hex::decode(digits).ok()).ok_or_else(invalid)?;
        bytes.try_into().map(Self).map_err(|_wrong_length| invalid())
    }
}

impl TryFrom<String> for PublicKey {
    type Error = InvalidKey;
    fn try_from(text: String) -> Result<Self, InvalidKey> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    /// A type that has a serialised form has two of these, and then this does not compile: nobody can say which is meant.
    trait NotSerialisable<Reason> {
        fn is_not() -> bool {
            true
        }
    }
    impl<T: ?Sized> NotSerialisable<()> for T {}
    struct HasAForm;
    impl<T: ?Sized + Serialize> NotSerialisable<HasAForm> for T {}
    struct HasAText;
    impl<T: ?Sized + fmt::Display> NotSerialisable<HasAText> for T {}

    fn statement() -> Statement {
        Statement { v: 1, header: sha256(b"header"), runs: vec![], report: None, page: None }
    }

    #[test]
    fn a_private_key_has_no_serialised_form_and_shows_its_public_half_alone() {
        assert!(<SigningKey as NotSerialisable<_>>::is_not());
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.public()));
    }

    #[test]
    fn a_signature_is_of_one_key_over_one_statement() {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        let signature = key.sign(statement());
        assert!(signature.holds());
        let other = SigningKey::from_seed(&[8; 32]).unwrap().public();
        assert!(!Signature { key: other, ..signature.clone() }.holds());
        assert!(!Signature { statement: Statement { report: Some(sha256(b"")), ..statement() }, ..signature.clone() }.holds());
        assert!(!Signature { value: signature.value.replace(&signature.value[..2], "zz"), ..signature }.holds());
    }

    #[test]
    fn keys_are_read_a_line_each() {
        let key = SigningKey::from_seed(&[7; 32]).unwrap().public();
        assert_eq!(keys(&format!("# ours\n{key} server of berlin\n\n{key}\n")).unwrap(), [key, key]);
        assert_eq!(keys("# none\n"), Err(InvalidKey::None));
        assert!(keys("ed25519:00").is_err() && keys("-----BEGIN PUBLIC KEY-----").is_err());
        assert!(keys(&key.to_string().to_uppercase()).is_err());
    }
}
