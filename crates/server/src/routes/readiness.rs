//! How items and plans stand.

use api::{Code, items::Listed, readiness::ReadinessView};
use axum::{
    Json,
    extract::{Path, State},
};
use recovery::{ItemName, PlanName};

use super::items;
use crate::{
    app::{App, parsed},
    caller::Caller,
    problem::{Answer, Refusal},
    readiness,
};

/// As judged last.
pub(super) async fn all(_: Caller, State(app): State<App>) -> Answer<Listed<ReadinessView>> {
    Ok(Json(Listed { items: readiness::stands(&app, None).await? }))
}

/// Judged now.
pub(super) async fn of_item(_: Caller, State(app): State<App>, Path(item): Path<String>) -> Answer<ReadinessView> {
    let name: ItemName = parsed(&item)?;
    readiness::item_now(&app, &name).await?.map(Json).ok_or_else(|| items::unknown(&name))
}

/// Judged now.
pub(super) async fn of_plan(_: Caller, State(app): State<App>, Path(plan): Path<String>) -> Answer<ReadinessView> {
    let name: PlanName = parsed(&plan)?;
    let unknown = || Refusal::new(Code::UnknownPlan, format!("no plan is called {name}"));
    readiness::plan_now(&app, &name).await?.map(Json).ok_or_else(unknown)
}
