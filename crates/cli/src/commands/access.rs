//! Agents, tokens, versions, and the check of the projection.

use std::process::ExitCode;

use anyhow::Result;
use api::{
    Client, ClientError, Code,
    access::{AgentView, BuildView, EnrolmentTokenCreated, EnrolmentTokenRequest, PreferBuild, TokenCreated, TokenRequest, TokenView, VerifyView, VersionView},
    items::Listed,
};
use serde::Serialize;

use super::look::missing;
use crate::{
    arguments::{AgentCommand, BuildCommand, Output, TokenCommand},
    exit, output,
    output::{or_dash, table},
};

pub(super) async fn agent(client: &Client, output: Output, command: AgentCommand) -> Result<ExitCode> {
    match command {
        AgentCommand::List => agents(client, output, None).await,
        AgentCommand::Token { site } => {
            let created: EnrolmentTokenCreated = client.post("/v1/agents/tokens", &EnrolmentTokenRequest { site }).await?;
            output::answer(output, &created, enrolment_words)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn enrolment_words(created: &EnrolmentTokenCreated) -> String {
    let EnrolmentTokenCreated { site, token, expires_at, ca_sha256, server } = created;
    let Some(server) = server else {
        return format!(
            "token for an agent of site {site}, once, until {expires_at}:\n\n  {token}\n\n\
             The server does not listen on the network yet: start it with --listen IP:PORT, then run on the agent's host\n\n  \
             switchback-agent enroll --server https://IP:PORT --ca-sha256 {ca_sha256} --token {token} --name NAME"
        );
    };
    format!(
        "run on the host of an agent of site {site}, once, until {expires_at}:\n\n  \
         switchback-agent enroll --server {server} --ca-sha256 {ca_sha256} --token {token} --name NAME"
    )
}

pub(super) async fn build(client: &Client, output: Output, command: BuildCommand) -> Result<ExitCode> {
    let builds: Listed<BuildView> = match command {
        BuildCommand::List => client.get("/v1/builds").await?,
        BuildCommand::Prefer { build } => client.post("/v1/builds/prefer", &PreferBuild { build }).await?,
    };
    output::answer(output, &builds, |builds| {
        let rows = builds.items.iter().map(|build| {
            [
                build.build.clone(),
                if build.newest { "all runs" } else { "its own runs" }.to_owned(),
                build.workers.to_string(),
                build.open_runs.to_string(),
                build.known_at.format("%Y-%m-%d %H:%M:%S").to_string(),
            ]
        });
        table(["BUILD", "CARRIES ON", "WORKERS", "OPEN RUNS", "KNOWN SINCE (UTC)"], rows, "no worker has been here yet")
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn agents(client: &Client, output: Output, name: Option<&str>) -> Result<ExitCode> {
    let mut agents: Listed<AgentView> = client.get("/v1/agents").await?;
    if let Some(name) = name {
        agents.items.retain(|agent| agent.name == name);
        if agents.items.is_empty() {
            return Err(missing(Code::AgentNotEnrolled, format!("no agent is called {name}")).into());
        }
    }
    output::answer(output, &agents, |agents| {
        let rows = agents.items.iter().map(|agent| {
            [
                agent.name.clone(),
                agent.site.to_string(),
                if agent.connected { "connected" } else { "away" }.to_owned(),
                or_dash(agent.data_address.as_ref()),
                or_dash(agent.build.as_ref()),
                or_dash(agent.seen_at.map(|at| at.format("%Y-%m-%d %H:%M:%S"))),
                or_dash(agent.anchored_runs),
            ]
        });
        let shown = table(["AGENT", "SITE", "STATE", "TAKES DATA AT", "VERSION", "SEEN AT (UTC)", "ANCHORED RUNS"], rows, "no agent is enrolled");
        let alarms = agents.items.iter().filter_map(|agent| agent.anchor_alarm.as_ref().map(|alarm| format!("ALARM {}: {alarm}", agent.name)));
        alarms.fold(shown, |shown, alarm| format!("{shown}\n{}", output::visible(&alarm)))
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn token(client: &Client, output: Output, command: TokenCommand) -> Result<ExitCode> {
    let (name, role) = match command {
        TokenCommand::Create { name, role } => (name, role),
        TokenCommand::List => return tokens(client, output).await,
    };
    let created: TokenCreated = client.post("/v1/tokens", &TokenRequest { name, role }).await?;
    output::answer(output, &created, |created| created.token.clone())?;
    Ok(ExitCode::SUCCESS)
}

async fn tokens(client: &Client, output: Output) -> Result<ExitCode> {
    let tokens: Listed<TokenView> = client.get("/v1/tokens").await?;
    output::answer(output, &tokens, |tokens| {
        let rows = tokens.items.iter().map(|token| {
            let TokenView { name, role, created_by, created_at } = token;
            [name.clone(), role.to_string(), created_at.format("%Y-%m-%d %H:%M:%S").to_string(), created_by.clone()]
        });
        table(["TOKEN", "ROLE", "MADE AT (UTC)", "BY"], rows, "there are no tokens; `switchback token create` makes one")
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn verify(client: &Client, output: Output) -> Result<ExitCode> {
    let view: VerifyView = client.post("/v1/verify", &serde_json::json!({})).await?;
    output::answer(output, &view, |view| {
        let VerifyView { runs, facts, items, differences } = view;
        let mut lines = vec![format!("{runs} histories checked, {facts} facts folded, {items} items compared: {} differences", differences.len())];
        for difference in differences {
            let item = difference.item.as_ref().map(|item| format!("item {item}: ")).unwrap_or_default();
            lines.push(format!("  {item}{}", difference.what));
        }
        lines.join("\n")
    })?;
    Ok(if view.differences.is_empty() { ExitCode::SUCCESS } else { exit::DEGRADED.into() })
}

#[derive(Serialize)]
struct Versions {
    client: &'static str,
    server: Option<VersionView>,
}

pub(super) async fn version(client: &Client, output: Output) -> Result<ExitCode> {
    let server = match client.get("/v1/version").await {
        Ok(server) => Some(server),
        Err(ClientError::Unreachable { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    output::answer(output, &Versions { client: env!("CARGO_PKG_VERSION"), server }, |versions| match &versions.server {
        Some(server) => format!("switchback {}\nserver {} with schema {}", versions.client, server.version, server.schema),
        None => format!("switchback {}\nno server answers", versions.client),
    })?;
    Ok(ExitCode::SUCCESS)
}
