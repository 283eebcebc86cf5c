//! A site and the identity under which it is served.

use std::sync::Arc;

use provider::Site;

use crate::identity::Identity;

/// A site with the identity under which it is served.
pub(crate) struct Served {
    pub(crate) identity: Identity,
    pub(crate) site: Arc<dyn Site>,
    pub(crate) data_address: Option<String>,
}
