//! What this agent says of itself and its host, every minute and when machines come or go: its version, its certificate's end, what is free, what it can do for plans.

use std::{sync::Arc, time::Duration};

use api::agent::{AgentReport, Done};
use chrono::{DateTime, Utc};
use provider::{Actions, Reports, Site};
use recovery::ItemName;
use tokio::{sync::watch, time::Instant};

use crate::identity::Identity;

/// How often: how old the knowledge about a host is that others judge by.
const EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether the host has got machines that it had not, which is told at once.
const LOOK: Duration = Duration::from_secs(10);

/// Until when the agent's certificate holds; `None` if it does not say it legibly.
pub(crate) fn certificate_end(identity: &Identity) -> Option<DateTime<Utc>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(identity.certificate_pem.as_bytes()).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&pem.contents).ok()?;
    DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0)
}

/// Until `stop` turns true.
pub(crate) async fn keep_describing(
    client: Arc<api::Client>,
    certificate_expires_at: Option<DateTime<Utc>>,
    site: Arc<dyn Site>,
    actions: Arc<dyn Actions>,
    mut stop: watch::Receiver<bool>,
) {
    let mut told: Option<(Vec<ItemName>, Instant)> = None;
    while !*stop.borrow() {
        let here = site.clone();
        let looked = tokio::task::spawn_blocking(move || Reports::capacity(here.as_ref())).await;
        let capacity = looked.ok().and_then(|looked| looked.inspect_err(|error| tracing::debug!(%error, "the hypervisor does not say what its host has")).ok());
        let machines: Vec<ItemName> = capacity.iter().flat_map(|capacity| capacity.needs.keys().cloned()).collect();
        if !told.as_ref().is_some_and(|(known, at)| *known == machines && at.elapsed() < EVERY) {
            let actions = actions.clone();
            let actions = tokio::task::spawn_blocking(move || actions.report()).await.unwrap_or_default();
            let report = AgentReport { v: 1, build: env!("CARGO_PKG_VERSION").to_owned(), certificate_expires_at, capacity, actions };
            match client.post::<Done>("/v1/agent/report", &report).await {
                Ok(Done {}) => told = Some((machines, Instant::now())),
                Err(error) => tracing::debug!(%error, "what this agent says of itself did not arrive; it is told again"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stop.changed() => {}
        }
    }
}
