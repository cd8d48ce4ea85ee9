//! Runs the conformance suite on every implementation, with and without a layer of delays. The
//! binary also serves as the process killed by `durable_after_kill`: started with
//! `--write-until-killed`, it only writes.

#[path = "conformance/embedded.rs"]
mod embedded;
#[path = "conformance/kafka.rs"]
mod kafka;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use libtest_mimic::Arguments;
use matyan_log::conformance::{DelayedFixture, Fixture, trials};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(embedded::WRITE_UNTIL_KILLED) {
        let directory = arguments.next().map(PathBuf::from).expect("a directory argument follows");
        embedded::write_until_killed(directory);
        return ExitCode::FAILURE;
    }
    let fixtures: Vec<Arc<dyn Fixture>> = vec![
        Arc::new(embedded::Embedded),
        Arc::new(DelayedFixture(embedded::Embedded)),
        Arc::new(kafka::Kafka),
        Arc::new(DelayedFixture(kafka::Kafka)),
    ];
    let mut trials = trials(&fixtures);
    trials.extend(kafka::kafka_specific_trials());
    let outcome = libtest_mimic::run(&Arguments::from_args(), trials);
    kafka::stop();
    outcome.exit_code()
}
