//! How items and plans stand.

use api::{items::Listed, readiness::ReadinessView};
use axum::{
    Json,
    extract::{Path, State},
};
use recovery::ItemName;

use super::items;
use crate::{
    app::{App, parsed},
    caller::Caller,
    problem::Answer,
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
