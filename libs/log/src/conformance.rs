//! Conformance suite for `LogWriter`, `LogInspector` and `LogReader`: cases named after the guarantees, for
//! every implementation to run.
//!
//! Cases use only the traits and a `Fixture`, and wait for states, never for time. The test
//! binary of an implementation (`harness = false`) runs the `trials` of its fixtures. If a
//! fixture's server is missing, its cases are reported as ignored, with the reason.

mod append;
mod delayed_fixture;
mod faults;
mod kill;
mod order;
mod read;
mod sequences;
mod support;
mod trim;

pub use delayed_fixture::DelayedFixture;
pub use kill::{AcknowledgedRecord, write_until_killed};

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use libtest_mimic::{Failed, Trial};

use crate::{LogReader, LogWriter};

/// Ends a case that hangs. Normally no case takes even a tenth of this.
const HANG_GUARD: Duration = Duration::from_secs(300);

/// Requirements of a case on its log.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Number of partitions of the ingestion topic, if the log supports more than one.
    pub partitions: u32,
    /// Timeout of an append.
    pub append_wait: Duration,
    /// Bound on unread bytes, beyond which appends wait.
    pub max_unread_bytes: Option<u64>,
    /// True if the case will call `obstruct`.
    pub is_obstructed: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            partitions: 1,
            append_wait: Duration::from_secs(40),
            max_unread_bytes: None,
            is_obstructed: false,
        }
    }
}

/// Capability that a case requires of the implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    Log,
    /// A configurable bound on unread bytes.
    Bound,
    /// A way to make appends fail.
    Obstruction,
    /// A way to kill the process that hosts the log.
    Kill,
}

/// An implementation under test.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// Prefix of the case names.
    fn name(&self) -> String;

    /// The reason cases with this need cannot run here, if any.
    fn missing_reason(&self, capability: Capability) -> Option<String>;

    /// Creates a new, empty log.
    async fn create(&self, shape: Shape) -> Box<dyn Instance>;

    /// Writes with `write_until_killed` until about `count` records are acknowledged, kills
    /// the process that hosts the log with SIGKILL, and reopens the log.
    async fn kill(&self, count: usize) -> (Box<dyn Instance>, Vec<AcknowledgedRecord>);
}

/// A log under test. Dropping it cleans up.
#[async_trait]
pub trait Instance: Send {
    fn writer(&self) -> Arc<dyn LogWriter>;

    fn reader(&self) -> Arc<dyn LogReader>;

    /// Reopens the log, as a restart of the program does.
    async fn reopen(&mut self);

    /// From now on, makes appends of 64 KiB eventually fail.
    async fn obstruct(&mut self);

    async fn clear(&mut self);
}

type Case = (&'static str, Capability, fn(Arc<dyn Fixture>) -> Pin<Box<dyn Future<Output = ()>>>);

/// Lists all cases. The name of a case starts with the guarantee that it tests.
macro_rules! cases {
    ($($capability:ident: $($module:ident::$case:ident),+;)+) => {
        const CASES: &[Case] = &[$($(
            (stringify!($case), Capability::$capability, |fixture| Box::pin($module::$case(fixture))),
        )+)+];
    };
}

cases! {
    Log: append::durable_after_reopening, append::durable_before_described, append::size_over_the_limit_is_refused,
        append::size_at_the_limit_is_kept, append::every_field_comes_back, append::identity_is_kept,
        append::empty_append_is_answered,
        order::ordered_within_an_append, order::ordered_when_pipelined, order::ordered_by_many_writers,
        order::ordered_keys_agree_with_kafka, order::ordered_over_thousands_of_keys,
        read::complete_while_written, read::complete_when_next_is_dropped, read::complete_again_after_redelivery,
        read::exclusive_between_two_subscribers, read::any_position_from_first_to_end,
        read::any_position_again, read::any_position_beyond_the_end_is_refused, read::nothing_before_start, read::no_blocking_by_a_slow_subscriber,
        trim::trim_refuses_an_earlier_start, trim::trim_keeps_later_records, trim::trim_of_everything_keeps_offsets,
        trim::trim_never_moves_backwards,
        sequences::generated_sequences_match_the_model;
    Bound: faults::bounded_by_unread_bytes;
    Obstruction: faults::bounded_when_obstructed, faults::recovers_after_an_obstruction, faults::whole_or_unknown_when_obstructed,
        faults::durable_through_an_obstruction;
    Kill: kill::durable_after_kill;
}

/// All cases on all fixtures, for libtest-mimic to run.
pub fn trials(fixtures: &[Arc<dyn Fixture>]) -> Vec<Trial> {
    fixtures.iter().flat_map(|fixture| CASES.iter().map(|case| trial(fixture.clone(), case))).collect()
}

fn trial(fixture: Arc<dyn Fixture>, (name, capability, case): &'static Case) -> Trial {
    let lacking = fixture.missing_reason(*capability);
    let name = format!("{}::{name}", fixture.name());
    ignored_for(lacking, Trial::test(name, move || run_case(case(fixture))))
}

/// Marks a case that cannot run as ignored, with the reason.
pub fn ignored_for(reason: Option<String>, trial: Trial) -> Trial {
    match reason {
        Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
        None => trial,
    }
}

/// Runs a case to completion on its own runtime.
pub fn run_case(case: impl Future<Output = ()>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let played = runtime.block_on(async { tokio::time::timeout(HANG_GUARD, case).await });
    runtime.shutdown_background();
    played.map_err(|_| Failed::from(format!("hung: still waiting after {HANG_GUARD:?}")))
}
