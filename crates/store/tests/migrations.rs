//! The schema: brought up to date once, by one, and never in a database that is not ours to touch.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::time::Duration;

use switchback_store::{Limits, OpenError, PgStore, migrate, pool::Target, testing::TestDatabase};

fn target(database: &TestDatabase) -> Target {
    Target::new(&database.url, Duration::from_secs(4)).unwrap()
}

#[tokio::test]
async fn two_that_start_together_migrate_once() {
    let database = TestDatabase::empty().await;
    let (first, second) = (target(&database), target(&database));
    let (first, second) = tokio::join!(migrate::run(&first), migrate::run(&second));
    let mut from = [first.unwrap().from, second.unwrap().from];
    from.sort_unstable();
    assert_eq!(from, [0, migrate::known()]);
}

#[tokio::test]
async fn a_schema_of_a_newer_build_is_refused_and_left_as_it_is() {
    let database = TestDatabase::migrated().await;
    let newer = "insert into switchback_schema_history (version, name, applied_on, checksum) values (99, 'later', '', '0')";
    database.client().await.batch_execute(newer).await.unwrap();
    let refused = migrate::run(&target(&database)).await.unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 99, .. }), "{refused}");
    let refused = PgStore::open(&database.url, Limits::default()).await.err().unwrap();
    assert!(matches!(refused, OpenError::Newer { found: 99, .. }), "{refused}");
}

#[tokio::test]
async fn somebody_elses_database_is_refused_and_left_as_it_is() {
    let database = TestDatabase::empty().await;
    let client = database.client().await;
    client.batch_execute("create schema shop; create table shop.orders (id int)").await.unwrap();
    let refused = migrate::run(&target(&database)).await.unwrap_err();
    assert!(matches!(&refused, OpenError::NotOurs { table, .. } if table == "shop.orders"), "{refused}");
    let row = client.query_one("select to_regnamespace('engine') is null and to_regnamespace('recovery') is null", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
}

#[tokio::test]
async fn a_database_that_nobody_migrated_is_not_opened() {
    let database = TestDatabase::empty().await;
    let refused = PgStore::open(&database.url, Limits::default()).await.err().unwrap();
    assert!(matches!(refused, OpenError::Older { found: 0, .. }), "{refused}");
}

/// A database that has run a migration refuses a build that carries another text of it, be it only another comment.
#[tokio::test]
async fn migrations_are_never_edited_afterwards() {
    let database = TestDatabase::migrated().await;
    let rows = database.client().await.query("select version, name, checksum from switchback_schema_history order by version", &[]).await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| format!("V{} {} {}", row.get::<_, i32>(0), row.get::<_, String>(1), row.get::<_, String>(2))).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn the_schema_that_all_migrations_give() {
    let database = TestDatabase::empty().await;
    migrate::run(&target(&database)).await.unwrap();
    let rows = database.client().await.query(include_str!("schema.sql"), &[]).await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn a_history_is_append_only_and_new_runs_have_a_partition() {
    let database = TestDatabase::migrated().await;
    let client = database.client().await;
    let insert = "insert into engine.events (run_id, seq, kind, body, worker_id, lease_epoch, turn, hash)
                  select id, 0, 'x', '', id, 1, id, sha256('') from (select engine.first_run_id('2027-02-03')) r (id)
                  returning tableoid::regclass::text";
    let row = client.query_one(insert, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "engine.events_2027q1");
    for change in ["update engine.events set kind = 'y'", "delete from engine.events"] {
        let refused = client.batch_execute(change).await.unwrap_err();
        assert_eq!(refused.as_db_error().unwrap().message(), "histories are append-only");
    }
    let add = "select engine.add_event_partition('events_2029q1', '2029-01-01', '2029-04-01')";
    client.batch_execute(add).await.unwrap();
}

#[tokio::test]
async fn an_item_that_was_accepted_under_schema_3_is_replicated_back_next() {
    let database = TestDatabase::empty().await;
    migrate::run_to(&target(&database), 3).await.unwrap();
    let client = database.client().await;
    for (name, main, active) in [("away", "committed", "recovery"), ("home", "protected", "primary"), ("pending", "commit_pending", "recovery")] {
        let record = format!(r#"{{"state": {{"main": {{"is": "{main}"}}, "active": "{active}", "direction": "forward"}}}}"#);
        let insert = format!("insert into recovery.items values ('{name}', '{record}', 1, gen_random_uuid(), 1, now())");
        client.batch_execute(&insert).await.unwrap();
    }
    migrate::run(&target(&database)).await.unwrap();
    let rows = client.query("select name, record -> 'state' ->> 'direction' from recovery.items order by name", &[]).await.unwrap();
    let directions: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected = [("away", "reverse"), ("home", "forward"), ("pending", "forward")];
    assert_eq!(directions, expected.map(|(name, direction)| (name.to_owned(), direction.to_owned())));
    let away = "select name from recovery.items where running_since is not null order by name";
    let away: Vec<String> = client.query(away, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(away, ["away", "pending"], "their old machines are watched from now on");
}
