//! Commands for whoever operates the product: queues, agents, sites, tokens, verification, versions.

use anyhow::Result;
use api::{
    Client,
    access::{AgentView, EnrolmentTokenCreated, EnrolmentTokenRequest, SiteView, TokenCreated, TokenRequest, VerifyView, VersionView},
    items::Listed,
    queues::{QueueView, TaskChanged},
    runs::TaskView,
};
use sdk::RunId;
use serde_json::json;

use crate::{
    arguments::{Agent, Form, Queue, Token},
    ending::Ending,
    print,
};

pub(crate) async fn queue(client: &Client, command: Queue, form: Form) -> Result<Ending> {
    match command {
        Queue::List => queues(client, form).await,
        Queue::Dead => dead(client, form).await,
        Queue::Retry { run, seq } => change(client, run, seq, "retry", form).await,
        Queue::Discard { run, seq } => change(client, run, seq, "discard", form).await,
    }
}

async fn queues(client: &Client, form: Form) -> Result<Ending> {
    let queues: Listed<QueueView> = client.get("/v1/queues").await?;
    if form == Form::Json {
        print::json(&queues)?;
        return Ok(Ending::Well);
    }
    let rows = queues.items.iter().map(|view| {
        let QueueView { queue, queued, claimed, dead, oldest_age_ms, attempts } = view;
        [queue.clone(), queued.to_string(), claimed.to_string(), dead.to_string(), print::millis(*oldest_age_ms), attempts.to_string()]
    });
    print::table(["QUEUE", "WAITING", "RUNNING", "DEAD", "OLDEST", "MOST ATTEMPTS"], rows);
    Ok(Ending::Well)
}

async fn dead(client: &Client, form: Form) -> Result<Ending> {
    let tasks: Listed<TaskView> = client.get("/v1/queues/dead").await?;
    if form == Form::Json {
        print::json(&tasks)?;
        return Ok(Ending::Well);
    }
    let rows = tasks.items.iter().map(|task| {
        [task.run.to_string(), task.seq.to_string(), task.queue.clone(), task.activity.clone(), print::or_dash(task.problem.as_ref())]
    });
    print::table(["RUN", "SEQ", "QUEUE", "ACTIVITY", "PROBLEM"], rows);
    Ok(Ending::Well)
}

async fn change(client: &Client, run: RunId, seq: i32, word: &str, form: Form) -> Result<Ending> {
    let changed: TaskChanged = client.post(&format!("/v1/tasks/{run}/{seq}/{word}"), &json!({})).await?;
    match form {
        Form::Json => print::json(&changed)?,
        Form::Table if changed.changed => println!("task {seq} of run {run}: {word}"),
        Form::Table => println!("task {seq} of run {run} is no dead letter any more; nothing was changed"),
    }
    Ok(Ending::Well)
}

pub(crate) async fn agent(client: &Client, command: Agent, form: Form) -> Result<Ending> {
    let site = match command {
        Agent::List => return agents(client, None, form).await,
        Agent::Token { site } => site,
    };
    let made: EnrolmentTokenCreated = client.post("/v1/agents/tokens", &EnrolmentTokenRequest { site }).await?;
    if form == Form::Json {
        print::json(&made)?;
        return Ok(Ending::Well);
    }
    let server = made.server.clone().unwrap_or_else(|| "https://HOST:PORT (this server does not listen on the network: start it with --listen)".into());
    println!("token for site {}, good once until {}; on the agent's host:", made.site, print::time(made.expires_at));
    println!("  switchback-agent enroll --server {server} --ca-sha256 {} --token {} --name NAME", made.ca_sha256, made.token);
    Ok(Ending::Well)
}

pub(crate) async fn agents(client: &Client, name: Option<&str>, form: Form) -> Result<Ending> {
    let mut agents: Listed<AgentView> = client.get("/v1/agents").await?;
    agents.items.retain(|agent| name.is_none_or(|name| agent.name == name));
    if form == Form::Json {
        print::json(&agents)?;
        return Ok(Ending::Well);
    }
    let rows = agents.items.iter().map(|agent| {
        let connected = if agent.connected { "yes" } else { "no" };
        [
            agent.name.clone(),
            agent.site.to_string(),
            connected.to_owned(),
            print::or_dash(agent.data_address.as_ref()),
            print::or_dash(agent.seen_at.map(print::time)),
            print::or_dash(agent.build.as_ref()),
        ]
    });
    print::table(["AGENT", "SITE", "CONNECTED", "DATA ADDRESS", "LAST SEEN", "BUILD"], rows);
    Ok(Ending::Well)
}

pub(crate) async fn sites(client: &Client, name: Option<&str>, form: Form) -> Result<Ending> {
    let mut sites: Listed<SiteView> = client.get("/v1/sites").await?;
    sites.items.retain(|site| name.is_none_or(|name| site.name.as_str() == name));
    if form == Form::Json {
        print::json(&sites)?;
        return Ok(Ending::Well);
    }
    let rows = sites.items.iter().map(|site| [site.name.to_string(), site.agents.join(", "), site.connected.to_string()]);
    print::table(["SITE", "AGENTS", "CONNECTED"], rows);
    Ok(Ending::Well)
}

pub(crate) async fn token(client: &Client, command: Token, form: Form) -> Result<Ending> {
    let Token::Create { name, role } = command;
    let made: TokenCreated = client.post("/v1/tokens", &TokenRequest { name, role }).await?;
    match form {
        Form::Json => print::json(&made)?,
        Form::Table => {
            eprintln!("token of {} ({}), shown once; use it as SWITCHBACK_TOKEN:", made.name, made.role);
            println!("{}", made.token);
        }
    }
    Ok(Ending::Well)
}

pub(crate) async fn verify(client: &Client, form: Form) -> Result<Ending> {
    let found: VerifyView = client.post_within("/v1/verify", &json!({}), std::time::Duration::from_secs(600)).await?;
    match form {
        Form::Json => print::json(&found)?,
        Form::Table => {
            println!("{} runs, {} facts, {} items: {} differences", found.runs, found.facts, found.items, found.differences.len());
            for difference in &found.differences {
                println!("  {}: {}", print::or_dash(difference.item.as_ref()), difference.what);
            }
        }
    }
    Ok(if found.differences.is_empty() { Ending::Well } else { Ending::Degraded })
}

pub(crate) async fn version(client: Result<Client>, form: Form) -> Result<Ending> {
    let ours = env!("CARGO_PKG_VERSION");
    let server = match client {
        Ok(client) => client.get::<VersionView>("/v1/version").await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    match (form, &server) {
        (Form::Json, _) => print::json(&json!({ "client": ours, "server": server.as_ref().ok() }))?,
        (Form::Table, Ok(server)) => println!("switchback {ours}, server {} (schema {})", server.version, server.schema),
        (Form::Table, Err(error)) => println!("switchback {ours}, no server ({error})"),
    }
    Ok(Ending::Well)
}
