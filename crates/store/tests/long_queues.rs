//! Queues that are long: a claim takes the head in its order, and does not look at the rest.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::time::Duration;

use engine::LeaseStore;
use sdk::{Lease, WorkerId};
use serde_json::Value;
use switchback_store::testing::PgLab;
use uuid::Uuid;

/// Pages of 8 KiB: a few for each of ten tasks, its indexes among them, and none for the tens of thousands behind them.
const MOST_PAGES: u64 = 600;

/// Tasks of two sites, due one after the other, the last ones in an hour; every hundredth is carried out by somebody who lives.
const TASKS: &str = "
    insert into engine.tasks (run_id, seq, queue, activity, input, options, effect, scope, run_epoch, state, max_attempts, scheduled_at, not_before,
                              start_to_close, worker_id, lease_epoch, attempt_deadline, heartbeat_at)
    select md5(n::text)::uuid, n, case when n % 2 = 0 then 'site:a' else 'site:b' end, 'fence-machine', 'null', '{}', 'idempotent', 'prod', 1,
           case when n % 100 = 0 then 'claimed' else 'queued' end, 3, engine.now(),
           engine.now() + case when n > 30000 then interval '1 hour' else n * interval '1 ms' - interval '1 hour' end, interval '1 hour',
           case when n % 100 = 0 then $1::uuid end, case when n % 100 = 0 then $2::bigint end,
           case when n % 100 = 0 then engine.now() + interval '1 hour' end, case when n % 100 = 0 then engine.now() end
    from generate_series(1, 40000) as n";

#[tokio::test]
async fn a_claim_reads_the_head_of_its_queues_however_long_they_are() {
    let lab = PgLab::new().await;
    let client = lab.database.client().await;
    let lives = lab.store.open_lease(WorkerId(Uuid::from_u128(1)), Duration::from_secs(600)).await.unwrap();
    client.execute(TASKS, &[&lives.worker.0, &lives.epoch]).await.unwrap();
    client.batch_execute("analyze engine.tasks").await.unwrap();
    let Lease { worker, epoch, .. } = lab.store.open_lease(WorkerId(Uuid::from_u128(2)), Duration::from_secs(600)).await.unwrap();
    let explained = "explain (analyze, buffers, format json) select * from engine.claim_tasks($1, $2, array['site:a', 'site:b'], 10)";
    // The first one reads the catalogue as well.
    client.query_one(explained, &[&worker.0, &epoch]).await.unwrap();
    let row = client.query_one(explained, &[&worker.0, &epoch]).await.unwrap();
    let plan: Value = row.get(0);
    let pages = |which: &str| plan[0]["Plan"][which].as_u64().unwrap();
    let read = pages("Shared Hit Blocks") + pages("Shared Read Blocks");
    assert_eq!(plan[0]["Plan"]["Actual Rows"].as_f64(), Some(10.0));
    assert!(read < MOST_PAGES, "{read} pages were read for ten tasks");

    let claim = "select array_agg(seq order by seq) from engine.claim_tasks($1, $2, $3, 3)";
    let claimed = async |queues: &[&str]| client.query_one(claim, &[&worker.0, &epoch, &queues]).await.unwrap().get::<_, Vec<i32>>(0);
    assert_eq!(claimed(&["site:a", "site:b"]).await, [21, 22, 23], "the oldest of all queues");
    assert_eq!(claimed(&["site:b", "site:b"]).await, [25, 27, 29], "a queue that is named twice is one");
}
