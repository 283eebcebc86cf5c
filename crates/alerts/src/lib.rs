//! What monitoring sends, believed only if it proves whom it is from: authenticated, then read as alerts of one form.
//!
//! ```text
//!   headers, body ─▶ authenticate(settings, keys, now) ─▶ decode(settings) ─▶ alerts, one for each incident, in order
//!                        └─▶ AuthError (401)                  └─▶ DecodeError (400)
//! ```
//!
//! Invariants: 1. Nothing of a body is believed before its sender is; secrets are compared in constant time and can't be
//! serialized. 2. An incident is (fingerprint, beginning). What is said of it only grows: once over, it is over for good, so
//! that deliveries may come twice, late and in any order. 3. A delivery is read as a whole or refused as a whole: half of an
//! alert is no evidence. 4. What a sender says of a group is never believed of its alerts. 5. No clock here: now comes in.

mod alert;
mod authenticate;
mod decode;
mod headers;
mod incidents;
mod kind;
mod mapping;
mod secret;
mod settings;

pub use alert::{Alert, Said};
pub use authenticate::{AuthError, Key, authenticate};
pub use decode::{DecodeError, Limit, MOST_ALERTS, decode};
pub use headers::Headers;
pub use incidents::{Incident, Incidents, Standing};
pub use kind::{InvalidSourceName, Kind, SourceName, UnknownKind};
pub use mapping::{Began, Mapping, Pointer, TimeForm};
pub use secret::{Secret, SecretDigest, WeakSecret};
pub use settings::{Credential, Settings, SettingsError};
