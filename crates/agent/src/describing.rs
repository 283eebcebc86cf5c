//! What this agent says of itself and its host, every minute: its version, its certificate's end, what is free, what it can do for plans.

use std::{sync::Arc, time::Duration};

use api::agent::{AgentReport, Done};
use chrono::{DateTime, Utc};
use provider::{Actions, Reports, Site};
use tokio::sync::watch;

use crate::identity::Identity;

/// How often: how old the knowledge about a host is that others judge by.
const EVERY: Duration = Duration::from_secs(60);
/// After a report that did not arrive.
const AGAIN: Duration = Duration::from_secs(5);

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
    while !*stop.borrow() {
        let (site, actions) = (site.clone(), actions.clone());
        let looked = tokio::task::spawn_blocking(move || (Reports::capacity(site.as_ref()), actions.report())).await;
        let pause = match looked {
            Ok((capacity, actions)) => {
                let capacity = capacity.inspect_err(|error| tracing::debug!(%error, "the hypervisor does not say what its host has")).ok();
                let report = AgentReport { v: 1, build: env!("CARGO_PKG_VERSION").to_owned(), certificate_expires_at, capacity, actions };
                match client.post::<Done>("/v1/agent/report", &report).await {
                    Ok(Done {}) => EVERY,
                    Err(error) => {
                        tracing::debug!(%error, "what this agent says of itself did not arrive");
                        AGAIN
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the host could not be looked at");
                EVERY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => {}
        }
    }
}
