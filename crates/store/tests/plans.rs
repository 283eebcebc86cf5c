//! Plans: versions, who applies at the same time, what removes them and what is left, and deadlines that fire once.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::collections::BTreeSet;

use engine::{RunStore, StartRun, Started};
use sdk::{Message, RunId};
use serde_json::json;
use switchback_store::{
    PgStore,
    plans::{Deadline, NewPlan},
    testing::PgLab,
};
use uuid::Uuid;

async fn applied(store: &PgStore, text: &str, items: &[&str], by: &str) -> i64 {
    let plan = json!({ "text": text });
    store.apply_plan(&NewPlan { name: "shop", text, plan: &plan, sha256: digest(text), items, by }).await.unwrap()
}

/// Enough of one for a test: other texts have other digests.
fn digest(text: &str) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    digest
}

async fn stands(store: &PgStore) -> Option<(i64, String, String)> {
    store.plans(Some("shop")).await.unwrap().pop().map(|row| (row.version, row.text.unwrap_or_default(), row.applied_by))
}

async fn items(lab: &PgLab) -> Vec<String> {
    let rows = lab.database.client().await.query("select item from recovery.plan_items where plan = 'shop' order by item", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn begun(store: &PgStore) -> RunId {
    let run = RunId(Uuid::now_v7());
    let start =
        Message::Start { workflow: "plan".into(), input: json!(null), workflow_id: "plan:shop".into(), requested_by: "ada".into(), trace: None, parent: None };
    assert_eq!(store.start_run(StartRun { run, start }).await.unwrap(), Started::New);
    run
}

#[tokio::test]
async fn the_same_text_is_the_same_version_and_a_plan_that_comes_back_goes_on_counting() {
    let lab = PgLab::new().await;
    let store = &lab.store;
    assert_eq!(applied(store, "one", &["a", "b"], "ada").await, 1);
    assert_eq!(applied(store, "one", &["a", "b"], "bob").await, 1);
    assert_eq!(applied(store, "two", &["b", "c"], "bob").await, 2);
    assert_eq!((stands(store).await.unwrap(), items(&lab).await), ((2, "two".into(), "bob".into()), vec!["b".to_owned(), "c".to_owned()]));

    assert!(store.remove_plan("shop", "plan:shop").await.unwrap());
    assert!(!store.remove_plan("shop", "plan:shop").await.unwrap(), "it is gone");
    assert_eq!((stands(store).await, items(&lab).await), (None, vec![]));
    assert_eq!(applied(store, "one", &["a", "b"], "cleo").await, 3);
    assert_eq!((stands(store).await.unwrap(), items(&lab).await), ((3, "one".into(), "cleo".into()), vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(store.plan_version("shop", 2).await.unwrap(), Some(json!({ "text": "two" })), "what ran with it can still be read");
}

#[tokio::test]
async fn whoever_applies_at_the_same_time_gets_a_version_of_their_own() {
    let lab = PgLab::new().await;
    let texts: Vec<String> = (0..8).map(|n| format!("text {n}")).collect();
    let versions: Vec<i64> = {
        let tasks: Vec<_> = texts.iter().cloned().map(|text| { let store = lab.store.clone(); tokio::spawn(async move { applied(&store, &text, &["a"], "ada").await }) }).collect();
        let mut versions = vec![];
        for task in tasks {
            versions.push(task.await.unwrap());
        }
        versions
    };
    assert_eq!(versions.iter().copied().collect::<BTreeSet<i64>>(), (1..=8).collect());
    let (version, text, _) = stands(&lab.store).await.unwrap();
    let of_last = versions.iter().position(|found| *found == 8).unwrap();
    assert_eq!((version, text), (8, texts[of_last].clone()));
}

#[tokio::test]
async fn a_plan_that_is_carried_out_is_not_removed_and_its_deadline_goes_with_it() {
    let lab = PgLab::new().await;
    let store = &lab.store;
    applied(store, "one", &["a"], "ada").await;
    let run = begun(store).await;
    let input = json!({});
    let set = Deadline { name: "plan:shop", after_ms: 60_000, workflow: "plan", workflow_id: "plan:shop", input: &input, cause: "commit policy", set_by: run };
    store.set_deadline(&set).await.unwrap();
    assert!(!store.remove_plan("shop", "plan:shop").await.unwrap());
    assert_eq!(store.deadlines(Some("plan:shop")).await.unwrap().len(), 1);
    assert!(stands(store).await.is_some());

    store.apply_plan(&NewPlan { name: "mail", text: "x", plan: &input, sha256: digest("x"), items: &["a"], by: "ada" }).await.unwrap();
    assert!(store.remove_plan("mail", "plan:mail").await.unwrap());
    assert_eq!(store.deadlines(None).await.unwrap().len(), 1, "another plan's stays");
}

#[tokio::test]
async fn what_is_due_begins_once_whoever_looks_and_waits_for_the_run_that_is_open() {
    let lab = PgLab::new().await;
    let store = &lab.store;
    let (input, open) = (json!({ "work": "undo" }), begun(store).await);
    let set = Deadline { name: "plan:shop", after_ms: 0, workflow: "plan", workflow_id: "plan:shop", input: &input, cause: "commit policy", set_by: open };
    store.set_deadline(&set).await.unwrap();
    assert_eq!(store.fire_deadlines().await.unwrap(), 0, "run {open} is open");
    assert_eq!(store.deadlines(None).await.unwrap().len(), 1, "it waits");

    let client = lab.database.client().await;
    client.execute("update engine.runs set state = 'completed', closed_at = engine.now() where run_id = $1", &[&open.0]).await.unwrap();
    let looks: Vec<_> = (0..6).map(|_| { let store = lab.store.clone(); tokio::spawn(async move { store.fire_deadlines().await.unwrap() }) }).collect();
    let mut fired = 0;
    for look in looks {
        fired += look.await.unwrap();
    }
    assert_eq!(fired, 1);
    // An activity that is carried out again sets what was set: it must not fire twice.
    store.set_deadline(&set).await.unwrap();
    assert_eq!((store.fire_deadlines().await.unwrap(), store.deadlines(None).await.unwrap()), (0, vec![]));
}
