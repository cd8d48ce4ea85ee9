//! `matyan topics create`: creates the topics for a log on Apache Kafka, and prints for each
//! whether it existed. Safe to run at every deployment: existing topics are checked, and never
//! changed.

use std::io::{self, Write};

use matyan_log::kafka::{TopicStatus, topics_create};

use crate::settings::TopicsSettings;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to start the async runtime, or to write the output")]
    SetUp(#[source] io::Error),
    #[error(transparent)]
    Log(#[from] matyan_log::Error),
}

pub(crate) fn create(settings: &TopicsSettings) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::SetUp)?;
    let found = runtime.block_on(topics_create(&settings.kafka, settings.topics))?;
    let mut out = io::stdout().lock();
    found.iter().try_for_each(|topic| writeln!(out, "{}", line(topic))).map_err(Error::SetUp)
}

fn line(TopicStatus { name, partitions, is_new }: &TopicStatus) -> String {
    let what = if *is_new { "created" } else { "exists" };
    let plural = if *partitions == 1 { "" } else { "s" };
    format!("{what:<7}  {name}  {partitions} partition{plural}")
}
