//! Enrolment: a key that never leaves this host, a certificate for it, a site.

use anyhow::{Context, Result, bail};
use api::agent::{EnrolRequest, Enrolled};

use crate::{
    arguments::Enroll,
    identity::{Identity, authority},
};

pub(crate) async fn enrol(wanted: &Enroll) -> Result<()> {
    if Identity::load(&wanted.state_dir).is_ok() {
        bail!(
            "{} already holds an identity; nothing was changed. To enroll anew, remove identity.json and agent.key there first",
            wanted.state_dir.display()
        );
    }
    let pinned = pinned(&wanted.ca_sha256)?;
    let key = rcgen::KeyPair::generate().context("making a key")?;
    let csr = rcgen::CertificateParams::new(vec![api::agent::tls_name(&wanted.name)]).and_then(|params| params.serialize_request(&key));
    let csr_pem = csr.and_then(|csr| csr.pem()).context("making a certificate request")?;
    let client = api::Client::https(authority(&wanted.server)?, &api::Trust::Pinned(pinned), None, None)?;
    let request =
        EnrolRequest { token: wanted.token.clone(), name: wanted.name.clone(), csr_pem, build: env!("CARGO_PKG_VERSION").into() };
    let given: Enrolled = client.post("/v1/agent/enroll", &request).await.context("enrolling")?;
    let (name, site) = (given.name.clone(), given.site.clone());
    Identity::new(&wanted.server, given, key.serialize_pem()).save(&wanted.state_dir)?;
    say(&format!("agent {name} is enrolled for site {site}; its identity is in {}", wanted.state_dir.display()));
    Ok(())
}

fn pinned(hex_text: &str) -> Result<[u8; 32]> {
    let bytes = hex::decode(hex_text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.with_context(|| format!("{hex_text:?} is not a SHA-256 in hex (64 digits)"))
}

fn say(text: &str) {
    println!("{text}");
}
