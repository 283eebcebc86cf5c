//! How items and plans stand: kept many at once, with the times at which something has changed.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::time::Duration;

use serde_json::json;
use switchback_store::{
    readiness::{Judged, ReadinessRow},
    testing::PgLab,
};

fn judged(subject: &str, severity: &'static str, mark: &str) -> Judged {
    Judged { subject: subject.to_owned(), severity, counts: json!({ severity: 1 }), marks: vec![mark.to_owned()], findings: json!([{ "what": "a\u{0}b" }]) }
}

#[tokio::test]
async fn what_is_found_is_kept_in_one_go_and_times_stay_where_nothing_has_changed() {
    let lab = PgLab::new().await;
    let store = &lab.store;
    let many: Vec<Judged> = (0..2_500).rev().map(|n| judged(&format!("item:{n:04}"), "ok", "")).collect();
    store.put_readiness(&many).await.unwrap();
    store.put_readiness(&[judged("plan:shop", "ok", "")]).await.unwrap();
    let before = store.readiness(None).await.unwrap();
    assert_eq!(before.len(), 2_501);
    lab.database.advance(Duration::from_secs(60)).await;
    store.put_readiness(&[judged("item:0001", "ok", "other"), judged("item:0000", "critical", ""), judged("item:0002", "ok", "")]).await.unwrap();
    store.forget_readiness("item:", &["item:0000", "item:0001", "item:0002"].map(str::to_owned)).await.unwrap();
    let after = store.readiness(None).await.unwrap();
    let names = |rows: &[ReadinessRow]| rows.iter().map(|row| row.subject.clone()).collect::<Vec<_>>();
    assert_eq!(names(&after), ["item:0000", "item:0001", "item:0002", "plan:shop"]);
    let moved: Vec<(bool, bool, bool)> = after.iter().map(|row| {
        let old = before.iter().find(|old| old.subject == row.subject).unwrap();
        (row.since > old.since, row.changed_at > old.changed_at, row.judged_at > old.judged_at)
    }).collect();
    assert_eq!(moved, [(true, false, true), (false, true, true), (false, false, true), (false, false, false)]);
}
