//! Finds the server and the right to use it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use api::{Client, Trust, client::Address};

use crate::arguments::Arguments;

/// The state directory: as named, else where this user's server keeps it.
pub(crate) fn state_dir(arguments: &Arguments) -> Result<PathBuf> {
    if let Some(dir) = &arguments.state_dir {
        return std::path::absolute(dir).with_context(|| format!("{} is no path", dir.display()));
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/switchback"));
    }
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share")));
    Ok(base.context("neither XDG_DATA_HOME nor HOME is set; name a directory with --state-dir")?.join("switchback"))
}

pub(crate) fn client(arguments: &Arguments) -> Result<Client> {
    let address = match &arguments.server {
        Some(text) => text.parse::<Address>()?,
        None => Address::Unix(state_dir(arguments)?.join("api.sock")),
    };
    let client = match address {
        Address::Unix(path) => Client::unix(path)?,
        Address::Https(authority) => Client::https(&authority, &trust(arguments)?, None, arguments.token.clone())?,
    };
    Ok(client.traced(telemetry::traceparent()))
}

fn trust(arguments: &Arguments) -> Result<Trust> {
    let Some(ca) = &arguments.ca else {
        bail!("an https server is known by its CA: name its file or fingerprint with --ca (on the server: STATE_DIR/pki/ca.crt)");
    };
    if ca.len() == 64 && ca.chars().all(|c| c.is_ascii_hexdigit()) {
        let digit_pair = |at: usize| u8::from_str_radix(&ca[at * 2..at * 2 + 2], 16);
        let bytes = (0..32).map(digit_pair).collect::<Result<Vec<u8>, _>>()?;
        return Ok(Trust::Pinned(bytes.try_into().unwrap_or([0; 32])));
    }
    Ok(Trust::Ca(std::fs::read(ca).with_context(|| format!("reading the CA {ca}"))?))
}
