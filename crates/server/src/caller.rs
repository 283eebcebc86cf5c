//! Who asks: a local user by the kernel's word, a program by its token, an agent by its certificate.
//!
//! Invariant: a route that needs somebody takes him as an argument; without it there is nobody.

use std::{collections::BTreeSet, fs, process::Command};

use api::{Code, access::Role};
use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use sha2::{Digest, Sha256};
use store::access::KnownAgent;

use crate::{app::App, listen::Peer, problem::Refusal};

/// A person or a program, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Goes into events.
    pub(crate) name: String,
    role: Role,
}

/// An enrolled agent.
#[derive(Clone, Debug)]
pub(crate) struct AgentCaller(pub(crate) KnownAgent);

impl Caller {
    /// Refuses unless the caller's role includes this one.
    pub(crate) fn may(&self, role: Role) -> Result<(), Refusal> {
        if self.role >= role {
            return Ok(());
        }
        let detail = format!("{} is {}, this needs {role}", self.name, self.role);
        Err(Refusal::new(Code::Forbidden, detail))
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        if let Some(Peer::Local { uid }) = parts.extensions.get::<Peer>() {
            return Ok(local(*uid));
        }
        let Some(token) = bearer(parts) else {
            return Err(Refusal::new(Code::Unauthenticated, "the request carries no bearer token"));
        };
        let holder = app.store.token_holder(Sha256::digest(token.as_bytes()).into()).await?;
        let Some(holder) = holder else {
            return Err(Refusal::new(Code::Unauthenticated, "nobody has this bearer token"));
        };
        let role = holder.role.parse().map_err(|error: api::access::InvalidRole| Refusal::new(Code::Internal, error.to_string()))?;
        Ok(Self { name: holder.name, role })
    }
}

impl FromRequestParts<App> for AgentCaller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let shown = match parts.extensions.get::<Peer>() {
            Some(Peer::Network { certificate, .. }) => *certificate,
            Some(Peer::Local { .. }) | None => None,
        };
        let Some(certificate) = shown else {
            return Err(Refusal::new(Code::AgentNotEnrolled, "the connection shows no agent's certificate"));
        };
        let known = app.store.agent_by_certificate(certificate).await?;
        known.map(Self).ok_or_else(|| Refusal::new(Code::AgentNotEnrolled, "no agent is enrolled with the certificate that was shown"))
    }
}

fn bearer(parts: &Parts) -> Option<&str> {
    parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

/// Root and the server's own user run the installation; whoever else the socket's permissions let in operates it.
fn local(uid: u32) -> Caller {
    let own = uid == 0 || uid == rustix::process::geteuid().as_raw();
    Caller { name: user_name(uid), role: if own { Role::Admin } else { Role::Operator } }
}

fn user_name(uid: u32) -> String {
    let listed = fs::read_to_string("/etc/passwd").ok().and_then(|passwd| named(&passwd, uid));
    listed.or_else(|| from_name_service(uid)).unwrap_or_else(|| format!("uid:{uid}"))
}

fn from_name_service(uid: u32) -> Option<String> {
    let output = Command::new("getent").args(["passwd", &uid.to_string()]).output().ok()?;
    named(&String::from_utf8_lossy(&output.stdout), uid)
}

/// Which of these names are users of this host, as histories would name them.
pub(crate) fn users_of_this_host(names: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = listed(&fs::read_to_string("/etc/passwd").unwrap_or_default(), names);
    found.extend(names.iter().filter(|name| name.strip_prefix("uid:").is_some_and(|uid| uid.parse::<u32>().is_ok())).cloned());
    let others: Vec<&String> = names.difference(&found).collect();
    if !others.is_empty()
        && let Ok(output) = Command::new("getent").args(["passwd", "--"]).args(others).output()
    {
        found.extend(listed(&String::from_utf8_lossy(&output.stdout), names));
    }
    found
}

fn listed(passwd: &str, names: &BTreeSet<String>) -> BTreeSet<String> {
    passwd.lines().filter_map(|line| line.split(':').next()).filter(|name| names.contains(*name)).map(str::to_owned).collect()
}

fn named(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
    line.split(':').next().map(str::to_owned)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_by_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nada:x:1000:100::/home/ada:/bin/sh\n";
        assert_eq!(named(passwd, 1000).unwrap(), "ada");
        assert_eq!(named(passwd, 100), None);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        assert_eq!(listed(passwd, &names(&["ada", "x", "bob"])), names(&["ada"]));
        let here = users_of_this_host(&names(&["root", "uid:7", "uid:x", "nobody-of-that-name"]));
        assert_eq!(here, names(&["root", "uid:7"]));
    }

    #[test]
    fn a_role_includes_the_ones_before_it() {
        let caller = |role| Caller { name: "ci".to_owned(), role };
        assert!(caller(Role::Admin).may(Role::Operator).is_ok());
        assert!(caller(Role::Viewer).may(Role::Viewer).is_ok());
        let refused = caller(Role::Viewer).may(Role::Operator).unwrap_err();
        assert_eq!(refused.0.detail, "ci is viewer, this needs operator");
    }
}
