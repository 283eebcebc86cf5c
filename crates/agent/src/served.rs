//! A site and the identity under which it is served.

use std::{path::PathBuf, sync::Arc};

use provider::Site;

use crate::identity::Identity;

/// A site with the identity under which it is served.
pub(crate) struct Served {
    pub(crate) identity: Identity,
    /// Where the identity is kept, and what this agent notes for itself.
    pub(crate) state_dir: PathBuf,
    pub(crate) site: Arc<dyn Site>,
    pub(crate) data_address: Option<String>,
}
