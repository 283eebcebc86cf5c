//! A site and the identity under which it is served.

use std::{path::PathBuf, sync::Arc};

use provider::{Actions, Site};

use crate::identity::Identity;

/// A site with the identity under which it is served.
pub(crate) struct Served {
    pub(crate) identity: Identity,
    /// Where the identity is kept, and what this agent notes for itself.
    pub(crate) state_dir: PathBuf,
    pub(crate) site: Arc<dyn Site>,
    /// What it does for plans beside its machines.
    pub(crate) actions: Arc<dyn Actions>,
    pub(crate) data_address: Option<String>,
}
