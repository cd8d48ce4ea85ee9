//! Conformance suite for every store: one case per guarantee, named after it, and cases for
//! interactions between them.
//!
//! A backend implements `Instance` and runs its `trials`. If its server is missing, its cases are
//! reported as ignored, with the reason. Behavior that cannot be exercised through the trait is
//! tested next to the backend: kill -9 and power loss (5), full disks and I/O errors (10).

#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]

#[cfg(feature = "fdb")]
pub mod fdb;
mod generated;
mod guarantees;
mod limits;
mod model;
mod scans;
mod transactions;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use libtest_mimic::{Failed, Trial};

use crate::{Batch, Commit, Key, Range, Scan, Store, Value, Version};

/// One store, initially empty and isolated from all others.
#[async_trait]
pub trait Instance: Send + Sync {
    fn store(&self) -> Arc<dyn Store>;

    /// Closes the store and reopens it with its persisted data.
    async fn reopen(&mut self);

    /// Advances time as seen by the store.
    async fn advance_time(&self, time: Duration);

    async fn close(&mut self);
}

pub type OpenInstance = Arc<dyn Fn() -> BoxFuture<'static, Box<dyn Instance>> + Send + Sync>;

/// A backend under test. `open` holds the reason if no instance can be opened.
pub struct Suite {
    pub name: &'static str,
    pub open: Result<OpenInstance, String>,
}

type Case = for<'a> fn(&'a mut dyn Instance) -> BoxFuture<'a, ()>;

macro_rules! cases {
    ($($module:ident::$case:ident),* $(,)?) => {
        &[$((stringify!($case), |instance| $module::$case(instance).boxed())),*]
    };
}

const CASES: &[(&str, Case)] = cases![
    guarantees::atomic,
    guarantees::serializable,
    guarantees::own_order,
    guarantees::snapshot,
    guarantees::durable,
    limits::limits,
    limits::limits_reached_are_accepted,
    limits::limits_hold_for_small_mutations,
    limits::limits_of_reads,
    guarantees::ends,
    guarantees::absent,
    guarantees::settled,
    guarantees::stamps_order_like_commits,
    guarantees::versions_increase_over_reopening,
    guarantees::numbers_wrap_and_widen,
    guarantees::clear_range_is_atomic_when_large,
    transactions::checks_compare_values,
    transactions::unchanged_sees_what_values_cannot,
    transactions::unchanged_covers_every_mutation,
    transactions::unchanged_fails_when_too_old,
    transactions::increments_are_not_lost,
    transactions::write_skew_is_refused,
    transactions::phantoms_are_refused,
    transactions::retries_end,
    scans::pages_forward,
    scans::pages_backward,
    scans::pages_hold_a_row,
    scans::ranges_end_before_their_end,
    scans::large_values_come_whole,
    scans::keys_are_read_near_and_far_apart,
    watches::changed_returns_on_a_write,
    watches::changed_sees_ranges_and_stamps,
    watches::changed_returns_immediately_if_the_value_differs,
    watches::changed_waits_while_others_change,
    generated::generated_sequences_match_the_model,
];

/// Returns every case on every suite, each under its own name.
pub fn trials(suites: &[Suite]) -> Vec<Trial> {
    suites.iter().flat_map(|suite| CASES.iter().map(|case| trial(suite, *case))).collect()
}

fn trial(suite: &Suite, (name, case): (&'static str, Case)) -> Trial {
    let name = format!("{}::{name}", suite.name);
    match suite.open.clone() {
        Ok(open) => Trial::test(name, move || run_case(open, case)),
        Err(reason) => Trial::test(name, || Ok(())).with_kind(reason).with_ignored_flag(true),
    }
}

fn run_case(open: OpenInstance, case: Case) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut instance = open().await;
        case(instance.as_mut()).await;
        instance.close().await;
    });
    Ok(())
}

/// Commits a batch that must succeed.
async fn must_commit(store: &dyn Store, batch: Batch) -> Version {
    match store.commit(batch).await.expect("the commit succeeds") {
        Commit::Done { version, stamp } => {
            assert_eq!(stamp.version(), version, "a stamp begins with its version");
            version
        }
        Commit::Conflict => panic!("unexpected conflict"),
    }
}

async fn must_conflict(store: &dyn Store, batch: Batch) {
    assert_eq!(store.commit(batch).await.expect("the commit gets an answer"), Commit::Conflict);
}

async fn get(store: &dyn Store, key: &str) -> Option<Value> {
    let snapshot = store.snapshot().await.expect("a snapshot can be taken");
    snapshot.get(&Key::copy_from_slice(key.as_bytes())).await.expect("the key can be read")
}

async fn rows(store: &dyn Store, prefix: &str) -> Vec<(Key, Value)> {
    let snapshot = store.snapshot().await.expect("a snapshot can be taken");
    let scan = Scan { bytes: usize::MAX, ..Scan::default() };
    let page =
        snapshot.scan(&Range::prefix(prefix.as_bytes().to_vec()), scan).await.expect("the scan succeeds");
    assert!(!page.more, "a page without limits is complete");
    page.rows
}

type WriteFn = fn(&mut Batch) -> &mut Batch;

pub(crate) fn batch(write: impl FnOnce(&mut Batch) -> &mut Batch) -> Batch {
    let mut batch = Batch::default();
    write(&mut batch);
    batch
}
