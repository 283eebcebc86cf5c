//! What plans ask for beside the store: a drill out of the way, and a word for later.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{ActivityRegistry, Fault, Job, Perform, Probed, RunStore};
use sdk::{Failure, Message};
use store::{Lost, PgStore, plans::Deadline};
use workflows::{
    declared::{DropDeadline, MakeWay, SetDeadline, SiteError, Way},
    item_workflow_id, makes_way,
};

#[derive(Clone)]
struct BesideStore(Arc<PgStore>);

/// Adds them to the activities of the queue `server`.
pub(crate) fn with_plan_steps(registry: ActivityRegistry, store: Arc<PgStore>) -> ActivityRegistry {
    let beside = BesideStore(store);
    registry.with::<MakeWay, _>(beside.clone()).with::<SetDeadline, _>(beside.clone()).with::<DropDeadline, _>(beside)
}

fn silent(what: &str, lost: &Lost) -> Failure {
    Failure::retryable("store-silent", format!("{what}: {lost}"))
}

/// Asks a drill's run to end; a run that is none stays.
pub(crate) async fn way(store: &PgStore, item: &recovery::ItemName, run: sdk::RunId, work: &str) -> Result<Way, Box<dyn std::error::Error + Send + Sync>> {
    let open = store.open_run_of(&item_workflow_id(item)).await?.filter(|(open, _)| *open == run);
    let Some((run, workflow)) = open else { return Ok(Way::Free) };
    if !makes_way(&workflow) {
        return Ok(Way::Busy { workflow });
    }
    let cancel = Message::Cancel { by: work.to_owned(), reason: format!("a real {work} goes first") };
    store.send(run, cancel).await?;
    tracing::info!(%item, %run, work, "a drill makes way");
    Ok(Way::Drill)
}

#[async_trait]
impl Perform<MakeWay> for BesideStore {
    async fn perform(&self, _: &Job, wanted: MakeWay) -> Result<Way, Fault<SiteError>> {
        let way = way(&self.0, &wanted.item, wanted.run, &wanted.work).await;
        way.map_err(|error| Fault::Other(Failure::retryable("store-silent", format!("asking a drill to end: {error}"))))
    }

    /// Asking twice is asking.
    async fn probe(&self, _: &Job, _: &MakeWay) -> Result<Probed<Way>, Failure> {
        Ok(Probed::NotDone)
    }
}

#[async_trait]
impl Perform<SetDeadline> for BesideStore {
    async fn perform(&self, job: &Job, wanted: SetDeadline) -> Result<(), Fault<SiteError>> {
        let SetDeadline { name, after_ms, workflow, workflow_id, input, cause } = &wanted;
        let after_ms = i64::try_from(*after_ms).unwrap_or(i64::MAX);
        let set = Deadline { name, after_ms, workflow, workflow_id, input, cause, set_by: job.run };
        self.0.set_deadline(&set).await.map_err(|lost| Fault::Other(silent("setting a deadline", &lost)))
    }

    /// Setting it twice is setting it.
    async fn probe(&self, _: &Job, _: &SetDeadline) -> Result<Probed<()>, Failure> {
        Ok(Probed::NotDone)
    }
}

#[async_trait]
impl Perform<DropDeadline> for BesideStore {
    async fn perform(&self, _: &Job, wanted: DropDeadline) -> Result<(), Fault<SiteError>> {
        self.0.drop_deadline(&wanted.name).await.map_err(|lost| Fault::Other(silent("dropping a deadline", &lost)))
    }

    /// Dropping it twice is dropping it.
    async fn probe(&self, _: &Job, _: &DropDeadline) -> Result<Probed<()>, Failure> {
        Ok(Probed::NotDone)
    }
}
