//! Where the installation is, and how it is reached.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use api::{Client, Trust, client::Address};

use crate::{arguments::Global, output::visible};

/// The state directory that was named, or the usual one.
pub(crate) fn state_dir(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/switchback".into());
    }
    let data_home = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
    let base = data_home.or_else(home).context("no state directory: neither XDG_DATA_HOME nor HOME is set; use --state-dir")?;
    Ok(base.join("switchback"))
}

/// Said while a command waits for that.
fn checked(problem: &api::Problem) {
    eprintln!("the database is being checked, which takes up to 20 seconds; waiting ({})", visible(&problem.detail));
}

/// A client of the server that was named, or of the one on this machine.
pub(crate) fn client(global: &Global) -> Result<Client> {
    let address = match &global.server {
        Some(named) => named.parse()?,
        None => {
            let named = std::env::var_os("SWITCHBACK_STATE_DIR").map(PathBuf::from);
            Address::Unix(state_dir(named.as_deref())?.join("api.sock"))
        }
    };
    match address {
        Address::Unix(path) => Ok(Client::unix(path)?.patient(checked)),
        Address::Https(authority) => {
            let Some(ca) = &global.ca else {
                bail!("https://{authority} is known by its CA: name the file with --ca or SWITCHBACK_CA (on the server it is STATE_DIR/pki/ca.crt)")
            };
            let pem = std::fs::read(ca).with_context(|| format!("reading the CA in {}", ca.display()))?;
            Ok(Client::https(&authority, &Trust::Ca(pem), None, global.token.clone())?.patient(checked))
        }
    }
}
