//! Sites, agents, tokens, and the check of the projection.

use std::time::Duration;

use api::{
    Code,
    access::{
        AgentView, EnrolmentTokenCreated, EnrolmentTokenRequest, Role, SiteView, TokenCreated, TokenRequest, VerifyView,
    },
    items::Listed,
};
use axum::{Json, extract::State};
use recovery::SiteName;
use sha2::{Digest, Sha256};

use crate::{
    app::{App, Asked},
    caller::Caller,
    problem::{Answer, Refusal},
    verify,
};

/// An enrolment token is used by whoever asked for it, at once.
const ENROLMENT_LIFE: Duration = Duration::from_secs(3600);
/// Longest name of a token: it goes into every event.
const NAME_BYTES: usize = 63;

pub(super) async fn sites(_: Caller, State(app): State<App>) -> Answer<Listed<SiteView>> {
    let view = |row: store::access::SiteRow| Ok(SiteView { name: site(&row.name)?, agents: row.agents, connected: row.connected });
    let items = app.store.sites().await?.into_iter().map(view).collect::<Result<_, Refusal>>()?;
    Ok(Json(Listed { items }))
}

pub(super) async fn agents(_: Caller, State(app): State<App>) -> Answer<Listed<AgentView>> {
    let view = |row: store::access::AgentRow| {
        Ok(AgentView {
            site: site(&row.site)?,
            name: row.name,
            connected: row.connected,
            data_address: row.data_address,
            build: row.build,
            enrolled_at: row.enrolled_at,
            seen_at: row.seen_at,
            anchored_runs: row.anchored_runs,
            anchor_alarm: row.anchor_alarm,
        })
    };
    let items = app.store.agents().await?.into_iter().map(view).collect::<Result<_, Refusal>>()?;
    Ok(Json(Listed { items }))
}

pub(super) async fn enrolment_token(caller: Caller, State(app): State<App>, Asked(asked): Asked<EnrolmentTokenRequest>) -> Answer<EnrolmentTokenCreated> {
    caller.may(Role::Admin)?;
    let token = secret("sbe");
    let digest = Sha256::digest(token.as_bytes()).into();
    let expires_at = app.store.add_enrolment_token(digest, asked.site.as_str(), &caller.name, ENROLMENT_LIFE).await?;
    tracing::info!(site = %asked.site, by = caller.name, "an enrolment token was made");
    let ca_sha256 = app.authority.fingerprint();
    Ok(Json(EnrolmentTokenCreated { site: asked.site, token, expires_at, ca_sha256, server: app.public.clone() }))
}

pub(super) async fn api_token(caller: Caller, State(app): State<App>, Asked(asked): Asked<TokenRequest>) -> Answer<TokenCreated> {
    caller.may(Role::Admin)?;
    let TokenRequest { name, role } = asked;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if name.is_empty() || name.len() > NAME_BYTES || !name.chars().all(plain) {
        let detail = format!("a token's name has 1 to {NAME_BYTES} letters, digits, `-`, `_`, `.` or `@`; {name:?} has not");
        return Err(Refusal::new(Code::InvalidRequest, detail));
    }
    let token = secret("sbt");
    if !app.store.add_api_token(&name, role.as_str(), Sha256::digest(token.as_bytes()).into(), &caller.name).await? {
        return Err(Refusal::new(Code::NameTaken, format!("there is a token {name}")));
    }
    tracing::info!(name, %role, by = caller.name, "a token was made");
    Ok(Json(TokenCreated { name, role, token }))
}

pub(super) async fn verify_all(_: Caller, State(app): State<App>) -> Answer<VerifyView> {
    verify::verify(&app.store).await.map(Json)
}

/// 256 random bits; the prefix says what it is for, to people and to scanners of leaked secrets.
pub(super) fn secret(prefix: &str) -> String {
    format!("{prefix}_{}", hex::encode(rand::random::<[u8; 32]>()))
}

fn site(name: &str) -> Result<SiteName, Refusal> {
    name.parse().map_err(|error| Refusal::new(Code::Internal, format!("a stored site has no valid name: {error}")))
}
