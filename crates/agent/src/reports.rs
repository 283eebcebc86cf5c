//! Forwards what the site's journals say, whenever it changed. Lost reports are made up for by sending all again, and so is whatever a database
//! server that was started anew may have lost.

use std::{sync::Arc, time::Duration};

use api::agent::{Done, ItemStatus, MachinesStatus, ReplicaStatus, ReplicationStatus, SiteStatus};
use engine::witness::Witness;
use provider::{ItemReport, Phase, PowerState, Reports, Site};
use tokio::sync::watch;

/// How often journals are looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Until `stop` turns true. `notes` know when a database server was started anew.
pub(crate) async fn forward(client: Arc<api::Client>, site: Arc<dyn Site>, data_address: Option<String>, notes: Arc<dyn Witness>, mut stop: watch::Receiver<bool>) {
    let (mut told_address, mut testimonies) = (false, notes.testimonies());
    while !*stop.borrow() {
        if std::mem::replace(&mut testimonies, notes.testimonies()) != testimonies {
            site.report_all_again();
            told_address = false;
        }
        let looked = site.clone();
        let items = tokio::task::spawn_blocking(move || Reports::reports(looked.as_ref())).await.unwrap_or_default();
        if !items.is_empty() || !told_address {
            let status = SiteStatus { data_address: data_address.clone(), items: items.iter().map(status).collect() };
            match client.post::<Done>("/v1/agent/status", &status).await {
                Ok(Done {}) => told_address = true,
                Err(error) => {
                    tracing::debug!(%error, "a report did not arrive; all is reported again later");
                    site.report_all_again();
                    told_address = false;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.changed() => {}
        }
    }
}

fn status(report: &ItemReport) -> ItemStatus {
    let replica = report.replica.as_ref().map(|replica| ReplicaStatus {
        generation: replica.generation,
        sealed: replica.sealed,
        withdrawn: replica.withdrawn,
        points: replica.points.iter().map(|point| point.listed(replica.withdrawn)).collect(),
    });
    let replication = report.replication.as_ref().map(|status| ReplicationStatus {
        generation: status.generation,
        phase: phase(status.phase).into(),
        bytes_done: status.bytes_done,
        bytes_total: status.bytes_total,
        last_point: status.last_point,
        last_point_taken_at: status.last_point_taken_at,
        last_app_point: status.last_app_point,
        app_error: status.app_error.clone(),
        last_error: status.last_error.clone(),
        bytes_sent_total: status.bytes_sent_total,
        group: status.group.clone(),
    });
    let looked = report.source.is_some() || report.recovered.is_some();
    let machines = looked.then(|| MachinesStatus {
        source_runs: report.source.as_ref().map(|source| source.power != PowerState::Off),
        autostart: report.source.as_ref().is_some_and(|source| source.autostart),
        quarantined: report.replication.as_ref().is_some_and(|status| status.phase == Phase::Quarantined),
        recovered_runs: report.recovered.map(|power| power != PowerState::Off),
    });
    ItemStatus { item: report.item.clone(), replica, replication, machines }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Seeding => "seeding",
        Phase::Replicating => "replicating",
        Phase::Resyncing => "resyncing",
        Phase::Paused => "paused",
        Phase::Broken => "broken",
        Phase::Superseded => "superseded",
        Phase::Stopped => "stopped",
        Phase::Quarantined => "quarantined",
    }
}
