//! `matyan topics create`: makes what a log on Apache Kafka needs, and tells of each topic whether it was there.
//! It may be called at every deployment: topics that are there are checked, and never changed.

use std::io::{self, Write};

use matyan_log::kafka::{FoundTopic, topics_create};

use crate::settings::TopicsSettings;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the process cannot be set up")]
    SetUp(#[source] io::Error),
    #[error(transparent)]
    Log(#[from] matyan_log::Error),
}

pub(crate) fn create(settings: &TopicsSettings) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::SetUp)?;
    let found = runtime.block_on(topics_create(&settings.kafka, settings.wanted))?;
    let mut out = io::stdout().lock();
    found.iter().try_for_each(|topic| writeln!(out, "{}", line(topic))).map_err(Error::SetUp)
}

fn line(FoundTopic { name, partitions, is_new }: &FoundTopic) -> String {
    let what = if *is_new { "made" } else { "there" };
    let plural = if *partitions == 1 { "" } else { "s" };
    format!("{what}  {name}  {partitions} partition{plural}")
}
