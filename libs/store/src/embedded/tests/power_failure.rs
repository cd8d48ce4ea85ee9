//! Power failures under all files of the store, at any moment, also while it is created, opened, or closed: names,
//! pages, and lengths of files that no sync had covered are lost at random. The store opens, and has all commits up to
//! the last commit that was acknowledged as synced, or up to a later commit.

use std::sync::atomic::AtomicU64;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::lossy_files::{self, Power};
use super::*;
use crate::Limits;

const FAILURES: u32 = 4;
/// Rows that commits overwrite in turn.
const STATES: u64 = 7;

/// Number of seeds: 5, or as `MATYAN_POWER_FAILURES` specifies.
fn seeds() -> u32 {
    #[expect(clippy::disallowed_methods, reason = "the length of a test is its only setting")]
    let asked = std::env::var("MATYAN_POWER_FAILURES");
    asked.map_or(5, |seeds| seeds.parse().expect("MATYAN_POWER_FAILURES is a number"))
}

fn row(number: u64) -> Key {
    format!("row/{number:08}").into()
}

fn state(number: u64) -> Key {
    format!("state/{}", number % STATES).into()
}

/// Number of commits: each has written the row of its number, and one of the states.
async fn commits(store: &EmbeddedStore) -> u64 {
    let snapshot = store.snapshot().await.unwrap();
    let scan = Scan { bytes: usize::MAX, keys_only: true, ..Scan::default() };
    let found = snapshot.scan(&Range::prefix("row/"), scan).await.unwrap().rows;
    for (number, (key, _)) in found.iter().enumerate() {
        assert_eq!(*key, row(number as u64), "no commit is missing before another one");
    }
    let commits = found.len() as u64;
    for number in commits.saturating_sub(STATES)..commits {
        let value = snapshot.get(&state(number)).await.unwrap().unwrap();
        assert_eq!(value[..8], number.to_be_bytes(), "the last write of a row is the newest");
    }
    commits
}

/// Most values are small. Some fill the memory of the engine, which then writes tables and large values.
fn value(number: u64, random: &mut StdRng) -> Vec<u8> {
    let most = if random.random_bool(0.3) { Limits::VALUE_BYTES } else { 300 };
    let mut value = vec![0; random.random_range(8..most)];
    random.fill(&mut value[..]);
    value[..8].copy_from_slice(&number.to_be_bytes());
    value
}

async fn write(store: &EmbeddedStore, durable: &AtomicU64, random: &mut StdRng) {
    let mut next = commits(store).await;
    for _ in 0..random.random_range(0..120) {
        let is_synced = random.random_bool(0.2);
        let durability = if is_synced { Durability::Synced } else { Durability::Buffered };
        let mut batch = Batch { durability, ..Batch::default() };
        batch.set(row(next), value(next, random));
        batch.set(state(next), value(next, random));
        done(store.commit(batch).await.unwrap());
        next += 1;
        if is_synced {
            durable.store(next, Ordering::SeqCst);
        }
    }
}

async fn play(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let mut directory = root.join("0");
    std::fs::create_dir(&directory).unwrap();
    let durable = Arc::new(AtomicU64::new(0));
    for failure in 1..=FAILURES {
        let image = root.join(failure.to_string());
        let power = Power {
            directory: directory.clone(),
            image: image.clone(),
            syncs: random.random_range(1..100),
            durable: durable.clone(),
            random: StdRng::seed_from_u64(random.random()),
        };
        power.turn_on();
        let store = open(&directory).await;
        let found = commits(&store).await;
        let least = durable.load(Ordering::SeqCst);
        assert!(found >= least, "seed {seed}: {found} commits, but {least} were durable");
        write(&store, &durable, &mut random).await;
        store.close().await.unwrap();
        durable.store(lossy_files::end_power(), Ordering::SeqCst);
        directory = image;
    }
    let store = open(&directory).await;
    let found = commits(&store).await;
    let least = durable.load(Ordering::SeqCst);
    assert!(found >= least, "seed {seed}: {found} commits, but {least} were durable");
    store.close().await.unwrap();
}

#[tokio::test]
async fn rule_30_a_power_failure_loses_no_synced_commit() {
    for _ in 0..seeds() {
        let seed = rand::random();
        println!("seed {seed}");
        play(seed).await;
    }
}
