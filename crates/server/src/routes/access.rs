//! Sites, agents, tokens, and the check of the projection.

use std::time::Duration;

use api::{
    Code,
    access::{
        AgentView, BuildView, EnrolmentTokenCreated, EnrolmentTokenRequest, InvalidRole, PreferBuild, Role, SiteView, TokenCreated, TokenRequest, TokenView, VerifyView,
    },
    items::Listed,
};
use axum::{Json, extract::State};
use engine::LeaseStore;
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

pub(super) async fn builds(_: Caller, State(app): State<App>) -> Answer<Listed<BuildView>> {
    let view = |(place, row): (usize, store::access::BuildRow)| {
        let store::access::BuildRow { build, known_at, workers, open_runs } = row;
        BuildView { build, newest: place == 0, known_at, workers, open_runs }
    };
    Ok(Json(Listed { items: app.store.builds().await?.into_iter().enumerate().map(view).collect() }))
}

pub(super) async fn prefer_build(caller: Caller, State(app): State<App>, Asked(asked): Asked<PreferBuild>) -> Answer<Listed<BuildView>> {
    caller.may(Role::Admin)?;
    let PreferBuild { build } = asked;
    if !app.store.prefer_build(&build).await? {
        let known: Vec<String> = app.store.builds().await?.into_iter().map(|row| row.build).collect();
        let detail = format!("no worker has been of build {build:?}; nothing has changed. Known are {}", known.join(", "));
        return Err(Refusal::new(Code::InvalidRequest, detail));
    }
    tracing::warn!(build, by = caller.name, "a build is preferred: new runs are its own, and it may carry on all others");
    builds(caller, State(app)).await
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

pub(super) async fn api_tokens(caller: Caller, State(app): State<App>) -> Answer<Listed<TokenView>> {
    caller.may(Role::Admin)?;
    let view = |row: store::access::ApiTokenRow| {
        let role = row.role.parse().map_err(|error: InvalidRole| Refusal::new(Code::Internal, format!("a stored token has no valid role: {error}")))?;
        Ok(TokenView { name: row.name, role, created_by: row.created_by, created_at: row.created_at })
    };
    let items = app.store.api_tokens().await?.into_iter().map(view).collect::<Result<_, Refusal>>()?;
    Ok(Json(Listed { items }))
}

/// 256 random bits; the prefix says what it is for, to people and to scanners of leaked secrets.
pub(super) fn secret(prefix: &str) -> String {
    format!("{prefix}_{}", hex::encode(rand::random::<[u8; 32]>()))
}

fn site(name: &str) -> Result<SiteName, Refusal> {
    name.parse().map_err(|error| Refusal::new(Code::Internal, format!("a stored site has no valid name: {error}")))
}
