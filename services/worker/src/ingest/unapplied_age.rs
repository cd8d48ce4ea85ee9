//! Age of the oldest unapplied record. It is reported every second, no matter what the
//! ingestion loop is waiting for, so it grows while the store is unavailable. If the log itself
//! does not respond, the age of its records is unknown; the missing lag metric shows that case.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicI64, Ordering},
};

use prometheus::Gauge;

use crate::{deps::Clock, heartbeat::BEAT_INTERVAL};

/// No record is waiting.
const NOTHING: i64 = i64::MAX;

pub(super) struct UnappliedAge {
    oldest_us: AtomicI64,
    clock: Clock,
    gauge: Gauge,
}

impl UnappliedAge {
    pub(super) fn new(clock: Clock, gauge: Gauge) -> Self {
        Self { oldest_us: AtomicI64::new(NOTHING), clock, gauge }
    }

    /// Sets the append time of the oldest record that was taken but not yet applied.
    pub(super) fn set(&self, oldest_us: Option<i64>) {
        self.oldest_us.store(oldest_us.unwrap_or(NOTHING), Ordering::Relaxed);
    }

    /// Notes that no more records can be taken, so that new ones wait from now on.
    pub(super) fn set_waiting(&self) {
        self.oldest_us.fetch_min((self.clock)(), Ordering::Relaxed);
    }

    pub(super) async fn report(&self) -> Infallible {
        loop {
            let age_us = match self.oldest_us.load(Ordering::Relaxed) {
                NOTHING => 0,
                oldest_us => (self.clock)().saturating_sub(oldest_us).max(0),
            };
            self.gauge.set(age_us as f64 / 1e6);
            tokio::time::sleep(BEAT_INTERVAL).await;
        }
    }
}
