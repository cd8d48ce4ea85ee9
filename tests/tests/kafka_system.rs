//! The whole system over a real Apache Kafka with injected failures. Each scene has its own topics.
//! Acknowledged data is counted: nothing is lost or duplicated, order is kept, and the lag returns to zero.
//! `MATYAN_KAFKA_ROUNDS` and `MATYAN_KAFKA_PAUSE_SECONDS` make the scenes longer.
//!
//! All scenes share one broker; scenes that kill it use it exclusively. Without a broker all scenes are
//! ignored, unless `REQUIRE=kafka` is set. Scenes with separate services are ignored without FoundationDB,
//! unless `REQUIRE=fdb` is set.

#![expect(clippy::print_stdout, reason = "prints the counts, and the seed that reproduces a run")]

#[path = "kafka_system/broker.rs"]
mod broker;
#[path = "kafka_system/broker_access.rs"]
mod broker_access;
#[path = "kafka_system/control.rs"]
mod control;
#[path = "kafka_system/elections.rs"]
mod elections;
#[path = "kafka_system/formats.rs"]
mod formats;
#[path = "kafka_system/processes.rs"]
mod processes;
#[path = "kafka_system/separate_services.rs"]
mod separate_services;
#[path = "kafka_system/topics.rs"]
mod topics;

use std::{
    future::Future,
    pin::Pin,
    process::ExitCode,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use libtest_mimic::{Arguments, Trial};
use matyan_servers::{
    foundationdb,
    kafka::{self, Broker},
};

type SceneFuture<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A scene, by its use of the broker.
#[derive(Clone, Copy)]
enum SceneFn {
    Shared(for<'a> fn(&'a Broker) -> SceneFuture<'a>),
    /// Concurrently with other scenes, and with a FoundationDB.
    WithFoundationDb(for<'a> fn(&'a Broker) -> SceneFuture<'a>),
    Exclusive(for<'a> fn(&'a mut Broker) -> SceneFuture<'a>),
}

macro_rules! scenes {
    ($($kind:ident: $($module:ident::$scene:ident),+;)+) => {
        const SCENES: &[(&str, SceneFn)] =
            &[$($((stringify!($scene), SceneFn::$kind(|broker| Box::pin($module::$scene(broker))))),+),+];
    };
}

scenes! {
    Shared: topics::topics_are_created_once_and_checked_at_every_start,
        topics::rule_01_a_recreated_topic_is_read_from_its_start,
        topics::rule_01_a_topic_is_recreated_under_a_running_system,
        topics::rule_02_a_changed_partition_count_is_refused,
        topics::rule_02_no_process_creates_a_topic_by_asking_for_it,
        topics::rule_03_only_the_partition_overtaken_by_retention_stops,
        topics::rule_08_poison_records_and_a_missing_dead_letter_topic,
        control::rule_15_control_events_are_published_as_documented,
        control::rule_15_deletes_survive_a_killed_control_worker,
        broker_access::every_login_works_and_a_wrong_one_is_reported,
        broker_access::the_whole_system_over_tls,
        formats::json_and_protobuf_result_in_the_same_state,
        formats::recorded_envelopes_result_in_the_same_state_as_recorded_frames,
        formats::large_frames_and_traces_in_both_formats,
        processes::a_worker_killed_under_load_loses_and_duplicates_nothing,
        processes::a_frontier_killed_with_frames_in_flight,
        processes::rule_43_a_store_moves_to_a_topic_with_more_partitions_under_load,
        processes::a_frame_is_traced_across_processes,
        elections::rule_40_a_partition_without_a_leader_delays_no_other,
        elections::rule_43_a_partition_stops_where_an_unclean_election_cut_it;
    WithFoundationDb: separate_services::foundationdb_workers_are_killed_and_suspended_under_load,
        separate_services::foundationdb_either_of_two_control_workers_may_be_down;
    Exclusive: formats::protobuf_is_refused_while_old_workers_are_running,
        broker::a_broker_killed_and_restarted_under_load,
        broker::a_broker_suspended_under_load,
        broker::a_frontier_stops_while_the_broker_is_unavailable;
}

fn main() -> ExitCode {
    let no_broker = kafka::unavailable_reason();
    let no_cluster = foundationdb::unavailable_reason();
    assert!(
        !matyan_servers::is_required(foundationdb::NAME) || no_broker.is_none(),
        "REQUIRE=fdb, and {no_broker:?}"
    );
    let broker = Arc::new(RwLock::new(None));
    let trials = SCENES.iter().map(|(name, play)| {
        let broker = broker.clone();
        let trial = Trial::test(*name, move || {
            run(&broker, *play);
            Ok(())
        });
        let no_cluster = no_cluster.as_ref().filter(|_| matches!(play, SceneFn::WithFoundationDb(_)));
        match no_broker.as_ref().or(no_cluster) {
            Some(reason) => trial.with_kind(reason.clone()).with_ignored_flag(true),
            None => trial,
        }
    });
    let outcome = libtest_mimic::run(&Arguments::from_args(), trials.collect());
    drop(broker);
    outcome.exit_code()
}

fn run(broker: &RwLock<Option<Broker>>, play: SceneFn) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime is created");
    match play {
        SceneFn::Shared(scene) | SceneFn::WithFoundationDb(scene) => {
            let broker = shared(broker);
            runtime.block_on(scene(broker.as_ref().expect("the broker was started")));
        }
        SceneFn::Exclusive(scene) => {
            let mut place = broker.write().unwrap_or_else(PoisonError::into_inner);
            // A scene that panics drops the broker, whose state is unknown by then.
            let mut broker = place.take().unwrap_or_else(Broker::start);
            runtime.block_on(scene(&mut broker));
            *place = Some(broker);
        }
    }
}

/// The shared broker, which is started if there is none at the moment.
fn shared(broker: &RwLock<Option<Broker>>) -> RwLockReadGuard<'_, Option<Broker>> {
    loop {
        broker.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Broker::start);
        let shared = broker.read().unwrap_or_else(PoisonError::into_inner);
        if shared.is_some() {
            return shared;
        }
    }
}

/// Number of times that something is killed.
fn rounds() -> u32 {
    number("MATYAN_KAFKA_ROUNDS", 3)
}

/// Duration of a broker's pause.
fn pause() -> std::time::Duration {
    std::time::Duration::from_secs(number("MATYAN_KAFKA_PAUSE_SECONDS", 5).into())
}

#[expect(clippy::disallowed_methods, reason = "the length of a test is its only setting")]
fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("the variable is a number"))
}
