//! The engine's contract on real Postgres, each case in a database of its own.

use engine::contract::cases;
use switchback_store::testing::PgLab;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_on_postgres_keeps_the_contract() {
    for (name, case) in cases::<PgLab>() {
        println!("{name}");
        case(&PgLab::new().await).await;
    }
}
