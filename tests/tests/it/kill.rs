//! Promises 1 to 3 under SIGKILL: the server is killed at random moments while eight writers
//! write, and restarted. Acknowledged data is counted: nothing lost, nothing duplicated, order
//! kept.

use std::time::Duration;

use matyan_tests::{Reader, Server, load::Load};
use rand::{Rng, SeedableRng, rngs::StdRng};

const WRITERS_PER_KIND: usize = 4;

/// Number of kills: 20, or as `MATYAN_KILLS` specifies.
fn kills() -> u32 {
    #[expect(clippy::disallowed_methods, reason = "the length of a test is its only setting")]
    let asked = std::env::var("MATYAN_KILLS");
    asked.map_or(20, |kills| kills.parse().expect("MATYAN_KILLS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_and_duplicates_nothing() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Server::up().await;
    let load = Load::start(&server.ingest, WRITERS_PER_KIND);
    for _ in 0..kills() {
        tokio::time::sleep(Duration::from_millis(random.random_range(20..600))).await;
        server.kill();
        server.start().await;
        load.set_address(&server.ingest);
    }
    load.wait_for_acks(100).await;
    let compared = load.finish(&Reader::connect(&server.query).await).await;
    assert_eq!(compared.refused, 0, "valid frames were refused");
    println!(
        "{} kills; {} JSON frames acknowledged, 0 lost, 0 duplicated ({} unknown, {} of them applied completely); \
         {} binary batches acknowledged, 0 lost, 0 duplicated",
        kills(),
        compared.frames,
        compared.unknown,
        compared.applied_without_ack,
        compared.batches
    );
}
