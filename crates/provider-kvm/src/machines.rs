//! x
use std::path::Path;
use provider::ProviderError;
pub(crate) fn dependent(_dir: &Path) -> Result<Option<String>, ProviderError> { Ok(None) }
