//! `matyan topics create`: creates the topics for a log on Apache Kafka, and prints for each
//! whether it existed. Safe to run at every deployment: existing topics are checked, and never
//! changed.
//!
//! `matyan topics close`: closes the topic for data.

use std::io;
#[cfg(feature = "kafka")]
use std::io::Write;

use clap::Subcommand;
#[cfg(feature = "kafka")]
use matyan_log::kafka::{TopicStatus, topic_set_open, topics_create};
use matyan_log::kafka_settings::Settings;

use crate::settings::TopicsSettings;

#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Create missing topics and check existing ones; safe to repeat
    ///
    /// Topic names, brokers and credentials are the same settings as for every other
    /// command: KAFKA_BOOTSTRAP_SERVERS, KAFKA_DATA_INGESTION_TOPIC,
    /// KAFKA_CONTROL_EVENTS_TOPIC, KAFKA_DEAD_LETTERS_TOPIC, KAFKA_SECURITY_PROTOCOL, …
    Create,
    /// Let the topic for data refuse all records, before the store moves to another topic
    ///
    /// Brokers refuse the records of every process. Clients keep their data until the topic accepts
    /// records again, or another topic has replaced it. docs/operating/kafka.md has the steps.
    Close {
        /// Let the topic accept records again
        #[arg(long)]
        undo: bool,
    },
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
    let found = runtime()?.block_on(topics_create(&settings.kafka, settings.topics))?;
    let mut out = io::stdout().lock();
    found.iter().try_for_each(|topic| writeln!(out, "{}", line(topic))).map_err(Error::SetUp)
}

#[cfg(feature = "kafka")]
pub(super) fn set_open(kafka: &Settings, is_open: bool) -> Result<(), Error> {
    runtime()?.block_on(topic_set_open(kafka, is_open))?;
    let name = &kafka.topics.ingestion;
    let mut out = io::stdout().lock();
    let written = if is_open {
        writeln!(out, "open    {name}: it accepts records again")
    } else {
        writeln!(
            out,
            "closed  {name}: wait until `matyan partitions ls` shows `all applied` everywhere, twice, a few seconds apart"
        )
    };
    written.map_err(Error::SetUp)
}

#[cfg(feature = "kafka")]
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::SetUp)
}

#[cfg(feature = "kafka")]
fn line(TopicStatus { name, partitions, is_new }: &TopicStatus) -> String {
    let what = if *is_new { "created" } else { "exists" };
    let plural = if *partitions == 1 { "" } else { "s" };
    format!("{what:<7}  {name}  {partitions} partition{plural}")
}

#[cfg(not(feature = "kafka"))]
pub(super) fn set_open(_kafka: &Settings, _is_open: bool) -> Result<(), Error> {
    unreachable!("the settings refuse backends that the build lacks")
}

#[cfg(not(feature = "kafka"))]
pub(super) fn create(_settings: &TopicsSettings) -> Result<(), Error> {
    unreachable!("the settings refuse backends that the build lacks")
}
