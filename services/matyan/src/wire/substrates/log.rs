//! The log of a process, embedded or Apache Kafka: a single value that provides all traits of a log.
//! Startup and shutdown steps that only Kafka or only the embedded log needs are here.

use std::{path::PathBuf, sync::Arc, time::Duration};

#[cfg(feature = "kafka")]
use matyan_log::kafka::KafkaLog;
use matyan_log::{LogReader, LogWriter, embedded::EmbeddedLog};
#[cfg(feature = "kafka")]
use matyan_wire::ingestion::RecordFormat;

use crate::{
    settings::{self, Settings},
    wire::Error,
};

/// Consumer group of the Matyan 0.3 workers, which can only read JSON.
#[cfg(feature = "kafka")]
const MATYAN_0_3_GROUP: &str = "ingestion-workers";

pub(crate) enum Log {
    Embedded(Arc<EmbeddedLog>),
    #[cfg(feature = "kafka")]
    Kafka(Arc<KafkaLog>),
}

impl Log {
    pub(super) async fn open(
        settings: &Settings,
        data_path: impl Fn(&str) -> PathBuf,
    ) -> Result<Self, Error> {
        match &settings.storage.log {
            settings::Log::Embedded => {
                let log = EmbeddedLog::open(data_path("log"), Default::default()).await?;
                Ok(Self::Embedded(Arc::new(log)))
            }
            #[cfg(feature = "kafka")]
            settings::Log::Kafka(kafka) => {
                let log = KafkaLog::open((**kafka).clone()).await?;
                if !settings.role.is_worker() && settings.storage.message_format == RecordFormat::Protobuf {
                    refuse_old_readers(&log).await?;
                }
                Ok(Self::Kafka(Arc::new(log)))
            }
            #[cfg(not(feature = "kafka"))]
            settings::Log::Kafka(_) => unreachable!("the settings refuse backends that the build lacks"),
        }
    }

    pub(crate) fn writer(&self) -> Arc<dyn LogWriter> {
        match self {
            Self::Embedded(log) => log.clone(),
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => log.clone(),
        }
    }

    pub(crate) fn reader(&self) -> Arc<dyn LogReader> {
        match self {
            Self::Embedded(log) => log.clone(),
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => log.clone(),
        }
    }

    /// Waits until the log ends unexpectedly. Cancel-safe.
    pub(super) async fn ended(&self) {
        match self {
            Self::Embedded(log) => log.ended().await,
            // Its threads belong to librdkafka.
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => std::future::pending().await,
        }
    }

    /// Closes the log. Brokers get the same time limit as connections: records that they
    /// have not acknowledged were not acknowledged to clients either.
    pub(super) async fn close(
        &self,
        #[cfg_attr(not(feature = "kafka"), expect(unused_variables, reason = "only used with Kafka"))]
        patience: Duration,
    ) -> Result<(), Error> {
        match self {
            Self::Embedded(log) => log.close().await?,
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => {
                if let Err(error) = log.close_within(patience).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "timed out closing the log; abandoning it"
                    );
                }
            }
        }
        Ok(())
    }
}

/// Fails while workers of Matyan 0.3 are running: they skip records that they cannot read, so
/// these would be lost.
#[cfg(feature = "kafka")]
async fn refuse_old_readers(log: &KafkaLog) -> Result<(), Error> {
    match log.group_members(MATYAN_0_3_GROUP).await? {
        0 => Ok(()),
        members => Err(Error::OldReaders { group: MATYAN_0_3_GROUP, members }),
    }
}
