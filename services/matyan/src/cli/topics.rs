//! `matyan topics create`: creates the topics for a log on Apache Kafka, and prints for each
//! whether it existed. Safe to run at every deployment: existing topics are checked, and never
//! changed.

use std::io;
#[cfg(feature = "kafka")]
use std::io::Write;

use clap::Subcommand;
#[cfg(feature = "kafka")]
use matyan_log::kafka::{TopicStatus, topics_create};

use crate::settings::TopicsSettings;

#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Create missing topics and check existing ones; safe to repeat
    ///
    /// Topic names, brokers and credentials are the same settings as for every other
    /// command: KAFKA_BOOTSTRAP_SERVERS, KAFKA_DATA_INGESTION_TOPIC,
    /// KAFKA_CONTROL_EVENTS_TOPIC, KAFKA_DEAD_LETTERS_TOPIC, KAFKA_SECURITY_PROTOCOL, …
    Create,
}

#[derive(Debug, thiserror::Error)]
#[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "only used by builds with Kafka"))]
pub(crate) enum Error {
    #[error("failed to start the async runtime, or to write the output")]
    SetUp(#[source] io::Error),
    #[error(transparent)]
    Log(#[from] matyan_log::Error),
}

#[cfg(feature = "kafka")]
pub(super) fn create(settings: &TopicsSettings) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::SetUp)?;
    let found = runtime.block_on(topics_create(&settings.kafka, settings.topics))?;
    let mut out = io::stdout().lock();
    found.iter().try_for_each(|topic| writeln!(out, "{}", line(topic))).map_err(Error::SetUp)
}

#[cfg(feature = "kafka")]
fn line(TopicStatus { name, partitions, is_new }: &TopicStatus) -> String {
    let what = if *is_new { "created" } else { "exists" };
    let plural = if *partitions == 1 { "" } else { "s" };
    format!("{what:<7}  {name}  {partitions} partition{plural}")
}

#[cfg(not(feature = "kafka"))]
pub(super) fn create(_settings: &TopicsSettings) -> Result<(), Error> {
    unreachable!("the settings refuse backends that the build lacks")
}
