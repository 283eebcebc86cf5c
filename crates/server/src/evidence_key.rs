//! The key with which this server signs exports and reports: `pki/evidence.key`, made at the first start.
//!
//! Invariant: it never leaves its directory. Several servers on one database have a key each; whoever verifies is given all of them.

use std::{fs, io, path::Path};

use evidence::SigningKey;
use rcgen::{KeyPair, PKCS_ED25519};

use crate::{ca::CaError, state_dir::write_whole};

/// Reads it, making it if there is none.
pub(crate) fn open(dir: &Path) -> Result<SigningKey, CaError> {
    let path = dir.join("evidence.key");
    let unreadable = |source| CaError::Unreadable { path: path.display().to_string(), source };
    match fs::metadata(&path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = KeyPair::generate_for(&PKCS_ED25519).map_err(CaError::Making)?;
            write_whole(&path, made.serialize_pem().as_bytes(), 0o600)?;
        }
        Err(error) => return Err(unreadable(error)),
    }
    let pem = fs::read_to_string(&path).map_err(unreadable)?;
    let key = KeyPair::from_pem(&pem).map_err(CaError::Making)?;
    SigningKey::from_pkcs8(key.serialized_der()).map_err(|error| unreadable(io::Error::other(error)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let dir = store::testing::short_dir("sb-key");
        fs::create_dir(&dir).unwrap();
        let first = open(&dir).unwrap().public();
        assert_eq!(open(&dir).unwrap().public(), first);
        assert_eq!(fs::metadata(dir.join("evidence.key")).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(dir.join("evidence.key"), "no key").unwrap();
        assert!(open(&dir).is_err(), "a damaged key is not replaced by another one in silence");
        fs::remove_dir_all(&dir).unwrap();
    }
}
