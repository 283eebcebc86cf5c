//! What a provider's error means for the engine.

use engine::Fault;
use provider::ProviderError;
use sdk::{Applied, Failure};
use workflows::declared::{SiteError, Standing};

/// Retryable errors are left to the retry policy, with what is known about the effect; the others are the site's answer.
pub(crate) fn fault(error: &ProviderError) -> Fault<SiteError> {
    let code = error.code().replace('_', "-");
    if !error.retryable() {
        let standing = if let ProviderError::OlderMachine { older, point, .. } = error { Some(Standing { generation: *older, point: *point }) } else { None };
        return Fault::App(SiteError { code, message: error.to_string(), advice: error.advice().into(), standing });
    }
    Fault::Other(passing(error))
}

/// The same for probes: asking again may help.
pub(crate) fn passing(error: &ProviderError) -> Failure {
    let failure = Failure::retryable(error.code().replace('_', "-"), format!("{error}; {}", error.advice()));
    if error.not_applied() { Failure { applied: Applied::No, ..failure } } else { failure }
}

/// Not there yet: ask again.
pub(crate) fn not_yet(code: &str, message: String) -> Fault<SiteError> {
    Fault::Other(Failure::retryable(code, message).not_applied())
}
