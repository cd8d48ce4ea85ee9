//! The whole system over a real Apache Kafka, broken on purpose, each scene with topics of its own: what was acknowledged is
//! counted, none lost, none doubled, order kept, and the lag comes back to zero. `MATYAN_KAFKA_ROUNDS` and
//! `MATYAN_KAFKA_PAUSE_SECONDS` make the scenes longer.
//!
//! All share one broker; those that kill it have it for themselves. Without a broker they are ignored, unless
//! `REQUIRE=kafka` asks for them; so are those with all services apart without a FoundationDB, unless `REQUIRE=fdb` does.

#![expect(clippy::print_stdout, reason = "what was counted is told, and the seed that plays it again")]

#[path = "kafka_system/apart.rs"]
mod apart;
#[path = "kafka_system/broker.rs"]
mod broker;
#[path = "kafka_system/control.rs"]
mod control;
#[path = "kafka_system/formats.rs"]
mod formats;
#[path = "kafka_system/processes.rs"]
mod processes;
#[path = "kafka_system/topics.rs"]
mod topics;
#[path = "kafka_system/ways.rs"]
mod ways;

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

type Played<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A scene, by what it does to the broker.
#[derive(Clone, Copy)]
enum Play {
    Beside(for<'a> fn(&'a Broker) -> Played<'a>),
    /// Beside others, and with a FoundationDB.
    Apart(for<'a> fn(&'a Broker) -> Played<'a>),
    Alone(for<'a> fn(&'a mut Broker) -> Played<'a>),
}

macro_rules! scenes {
    ($($kind:ident: $($module:ident::$scene:ident),+;)+) => {
        const SCENES: &[(&str, Play)] =
            &[$($((stringify!($scene), Play::$kind(|broker| Box::pin($module::$scene(broker))))),+),+];
    };
}

scenes! {
    Beside: topics::topics_are_made_once_and_checked_at_every_start,
        topics::rule_01_a_topic_made_anew_is_read_from_its_beginning,
        topics::rule_01_a_topic_made_anew_under_a_running_system,
        topics::rule_02_a_changed_partition_count_is_refused,
        topics::rule_03_a_partition_overtaken_by_retention_stops_alone,
        topics::rule_08_poison_and_a_dead_letter_topic_that_is_away,
        control::rule_15_control_events_are_published_as_documented,
        control::rule_15_deletes_survive_a_control_worker_that_is_killed,
        ways::every_login_is_let_in_and_a_wrong_one_is_told,
        ways::the_whole_system_over_tls,
        formats::protobuf_is_refused_while_old_workers_read,
        formats::json_and_protobuf_leave_the_same_state,
        formats::recorded_envelopes_leave_the_same_state_as_recorded_frames,
        formats::large_frames_and_traces_in_both_forms,
        processes::a_worker_killed_under_load_loses_and_doubles_nothing,
        processes::a_frontier_killed_with_frames_in_flight,
        processes::a_frame_is_followed_from_process_to_process;
    Apart: apart::foundationdb_workers_are_killed_and_stopped_under_load,
        apart::foundationdb_of_two_control_workers_either_may_be_gone;
    Alone: broker::a_broker_killed_and_restarted_under_load,
        broker::a_broker_that_pauses_under_load,
        broker::a_frontier_ends_while_the_broker_is_away;
}

fn main() -> ExitCode {
    let (broker_lacks, cluster_lacks) = (kafka::lacking(), foundationdb::lacking());
    assert!(
        !matyan_servers::is_required(foundationdb::NAME) || broker_lacks.is_none(),
        "REQUIRE=fdb, and {broker_lacks:?}"
    );
    let broker = Arc::new(RwLock::new(None));
    let trials = SCENES.iter().map(|(name, play)| {
        let broker = broker.clone();
        let trial = Trial::test(*name, move || {
            run(&broker, *play);
            Ok(())
        });
        let cluster_lacks = cluster_lacks.as_ref().filter(|_| matches!(play, Play::Apart(_)));
        match broker_lacks.as_ref().or(cluster_lacks) {
            Some(reason) => trial.with_kind(reason.clone()).with_ignored_flag(true),
            None => trial,
        }
    });
    let outcome = libtest_mimic::run(&Arguments::from_args(), trials.collect());
    drop(broker);
    outcome.exit_code()
}

fn run(broker: &RwLock<Option<Broker>>, play: Play) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime is made");
    match play {
        Play::Beside(play) | Play::Apart(play) => {
            let broker = shared(broker);
            runtime.block_on(play(broker.as_ref().expect("it was started")));
        }
        Play::Alone(play) => {
            let mut place = broker.write().unwrap_or_else(PoisonError::into_inner);
            // A scene that fails takes it along, as nobody knows what it has left.
            let mut broker = place.take().unwrap_or_else(Broker::start);
            runtime.block_on(play(&mut broker));
            *place = Some(broker);
        }
    }
}

/// The broker of all, started if there is none at the moment.
fn shared(broker: &RwLock<Option<Broker>>) -> RwLockReadGuard<'_, Option<Broker>> {
    loop {
        broker.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Broker::start);
        let shared = broker.read().unwrap_or_else(PoisonError::into_inner);
        if shared.is_some() {
            return shared;
        }
    }
}

/// How often something is killed: 3 times, or what is asked for.
fn rounds() -> u32 {
    number("MATYAN_KAFKA_ROUNDS", 3)
}

/// How long a broker is paused.
fn pause() -> std::time::Duration {
    std::time::Duration::from_secs(number("MATYAN_KAFKA_PAUSE_SECONDS", 5).into())
}

#[expect(clippy::disallowed_methods, reason = "the length of a test is its only setting")]
fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("it is a number"))
}
