//! State shared by all streams and published batches.

use std::sync::Arc;

use matyan_log::{LogWriter, Position};
use matyan_proto::common::v1::LogPosition;
use tokio::sync::Semaphore;

use crate::{
    deps::{Clock, NewId},
    dictionary_memory::DictionaryMemory,
    log_health::LogHealth,
    memory_budget::MemoryBudget,
    metrics::BatchMetrics,
    settings::Settings,
    throttle::Throttle,
};

/// Maximum number of batches over `compose::HEAVY_BYTES` that are checked concurrently: each
/// takes about ten times its size in memory.
const HEAVY_CHECKS: usize = 4;

pub(crate) struct Ingestion {
    pub(crate) log: Arc<dyn LogWriter>,
    pub(crate) log_health: LogHealth,
    pub(crate) clock: Clock,
    pub(crate) new_id: NewId,
    pub(crate) settings: Settings,
    pub(crate) throttle: Throttle,
    pub(crate) budget: MemoryBudget,
    pub(crate) dictionaries: DictionaryMemory,
    pub(crate) heavy_checks: Semaphore,
    pub(crate) metrics: BatchMetrics,
}

impl Ingestion {
    pub(crate) fn new(
        log: Arc<dyn LogWriter>,
        clock: Clock,
        new_id: NewId,
        settings: Settings,
        metrics: BatchMetrics,
    ) -> Self {
        Self {
            log,
            log_health: LogHealth::default(),
            clock,
            new_id,
            throttle: Throttle::new(settings.run_bytes_per_second),
            budget: MemoryBudget::new(&settings),
            dictionaries: DictionaryMemory::new(settings.dictionary_bytes),
            heavy_checks: Semaphore::new(HEAVY_CHECKS),
            settings,
            metrics,
        }
    }

    /// A position as clients know it.
    pub(crate) fn log_position(&self, position: Position) -> LogPosition {
        let log = self.settings.log_number.unwrap_or(LogPosition::UNKNOWN_LOG);
        LogPosition { log, partition: position.partition, offset: position.offset }
    }
}
