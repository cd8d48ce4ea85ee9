//! The log of a process, embedded or Apache Kafka: one value behind both traits of it.
//! What only one of the two has to do at its start or end is done here.

use std::{path::PathBuf, sync::Arc, time::Duration};

use matyan_log::{LogReader, LogWriter, RecordFormat, embedded::EmbeddedLog, kafka::KafkaLog};

use crate::{
    settings::{self, Settings},
    wire::Error,
};

/// Of the workers of Matyan 0.3, which read JSON alone.
const OLD_GROUP: &str = "ingestion-workers";

pub(crate) enum Log {
    Embedded(Arc<EmbeddedLog>),
    Kafka(Arc<KafkaLog>),
}

impl Log {
    pub(super) async fn open(settings: &Settings, place: impl Fn(&str) -> PathBuf) -> Result<Self, Error> {
        let kafka = match &settings.log {
            settings::Log::Embedded => {
                let log = EmbeddedLog::open(place("log"), Default::default()).await?;
                return Ok(Self::Embedded(Arc::new(log)));
            }
            settings::Log::Kafka(kafka) => kafka,
        };
        let log = KafkaLog::open((**kafka).clone()).await?;
        if !settings.role.is_worker() && settings.message_format == RecordFormat::Protobuf {
            refuse_old_readers(&log).await?;
        }
        Ok(Self::Kafka(Arc::new(log)))
    }

    pub(crate) fn writer(&self) -> Arc<dyn LogWriter> {
        match self {
            Self::Embedded(log) => log.clone(),
            Self::Kafka(log) => log.clone(),
        }
    }

    pub(crate) fn reader(&self) -> Arc<dyn LogReader> {
        match self {
            Self::Embedded(log) => log.clone(),
            Self::Kafka(log) => log.clone(),
        }
    }

    /// Returns when it has ended without being asked to. Cancel-safe.
    pub(super) async fn ended(&self) {
        match self {
            Self::Embedded(log) => log.ended().await,
            // Its threads belong to its library.
            Self::Kafka(_) => std::future::pending().await,
        }
    }

    /// Brokers that are away are waited for no longer than connections are: what they have not answered, nobody was told.
    pub(super) async fn close(&self, patience: Duration) -> Result<(), Error> {
        match self {
            Self::Embedded(log) => log.close().await?,
            Self::Kafka(log) => {
                if let Err(error) = log.close_within(patience).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the log did not end in time and is cut off"
                    );
                }
            }
        }
        Ok(())
    }
}

/// What they cannot read they would pass over, and what they have passed over is lost to them.
async fn refuse_old_readers(log: &KafkaLog) -> Result<(), Error> {
    match log.group_members(OLD_GROUP).await? {
        0 => Ok(()),
        members => Err(Error::OldReaders { group: OLD_GROUP, members }),
    }
}
