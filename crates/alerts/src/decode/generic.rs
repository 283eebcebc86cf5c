//! Any JSON, by the source's mapping.

use serde_json::Value;

use super::json;
use crate::{Alert, DecodeError, Mapping};

pub(super) fn read(mapping: &Mapping, body: &[u8]) -> Result<Vec<Alert>, DecodeError> {
    mapping.read(&json::<Value>(body)?)
}
