//! Secrets of sources: what signs, and the digest of what is shown.
//!
//! Invariant: a secret can't be serialized, and its debug form shows nothing: what exports, logs or answers can't contain one.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// Fewest bytes of a secret that somebody chose: fewer can be guessed from one signed delivery.
const LEAST_BYTES: usize = 16;
/// Most bytes: HTTP servers and senders cut longer headers.
const MOST_BYTES: usize = 1024;

/// A secret in plain: to verify a signature one needs it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

/// A text that must not be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakSecret {
    /// Too short or too long.
    #[error("a secret has {LEAST_BYTES} to {MOST_BYTES} bytes, this has {0}")]
    Length(usize),
    /// Can't be a header's value, or would be changed on the way.
    #[error("a secret consists of visible ASCII characters without spaces")]
    Characters,
}

/// SHA-256 of a secret that is shown with each delivery; all that is kept of one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretDigest([u8; 32]);

impl Secret {
    /// A secret that somebody chose.
    ///
    /// # Errors
    /// [`WeakSecret`].
    pub fn chosen(text: &str) -> Result<Self, WeakSecret> {
        if !(LEAST_BYTES..=MOST_BYTES).contains(&text.len()) {
            return Err(WeakSecret::Length(text.len()));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(WeakSecret::Characters);
        }
        Ok(Self(text.as_bytes().into()))
    }

    /// One that was kept.
    #[must_use]
    pub fn kept(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// To be kept where nothing shows or exports it, or to verify with.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// What is kept of it if it is shown with each delivery.
    #[must_use]
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(&self.0)
    }
}

impl SecretDigest {
    /// Of what was shown. Secrets have enough chance in them that a slow hash would only slow deliveries down.
    #[must_use]
    pub fn of(shown: &[u8]) -> Self {
        Self(Sha256::digest(shown).into())
    }

    /// One that was kept.
    #[must_use]
    pub fn kept(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// To be kept.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn same(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest(..)")
    }
}

/// Does not compile once one of them can be serialized: which of two blanket implementations is meant would be open.
const _: fn() = || {
    trait Once<A> {
        fn meant() {}
    }
    struct Serializable;
    impl<T: ?Sized> Once<()> for T {}
    impl<T: ?Sized + serde::Serialize> Once<Serializable> for T {}
    <Secret as Once<_>>::meant();
    <SecretDigest as Once<_>>::meant();
    <crate::Key as Once<_>>::meant();
};

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing() {
        let secret = Secret::chosen("correct-horse-battery").unwrap();
        assert_eq!(format!("{secret:?} {:?}", secret.digest()), "Secret(..) SecretDigest(..)");
    }

    #[test]
    fn what_can_be_guessed_or_cannot_be_sent_is_no_secret() {
        assert_eq!(Secret::chosen("short"), Err(WeakSecret::Length(5)));
        assert_eq!(Secret::chosen(&"x".repeat(1025)), Err(WeakSecret::Length(1025)));
        assert_eq!(Secret::chosen("sixteen bytes ok"), Err(WeakSecret::Characters));
        assert_eq!(Secret::chosen("line\nsixteen-byte"), Err(WeakSecret::Characters));
    }
}
