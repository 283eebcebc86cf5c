//! `up`, `server`, `worker`: the commands that run the product instead of asking it.

use anyhow::Result;

use crate::{arguments::Arguments, ending::Ending};

pub(crate) fn serve(_arguments: Arguments) -> Result<Ending> {
    anyhow::bail!("not wired yet")
}
