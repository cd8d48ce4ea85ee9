//! How old the oldest record is that is not applied. It is told every second, whatever the loop that applies waits for:
//! while the store is away it grows. What a log holds that does not answer nobody here knows: of that the lag's silence tells.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicI64, Ordering},
};

use prometheus::Gauge;

use crate::{deps::Clock, heartbeat::BEAT_EVERY};

/// Nothing waits.
const NOTHING: i64 = i64::MAX;

pub(super) struct Age {
    oldest_us: AtomicI64,
    clock: Clock,
    gauge: Gauge,
}

impl Age {
    pub(super) fn new(clock: Clock, gauge: Gauge) -> Self {
        Self { oldest_us: AtomicI64::new(NOTHING), clock, gauge }
    }

    /// When the oldest came of those that were taken and are not applied.
    pub(super) fn set(&self, oldest_us: Option<i64>) {
        self.oldest_us.store(oldest_us.unwrap_or(NOTHING), Ordering::Relaxed);
    }

    /// Nothing can be taken from now on: what comes waits at least since now.
    pub(super) fn wait(&self) {
        self.oldest_us.fetch_min((self.clock)(), Ordering::Relaxed);
    }

    pub(super) async fn tell(&self) -> Infallible {
        loop {
            let age_us = match self.oldest_us.load(Ordering::Relaxed) {
                NOTHING => 0,
                oldest_us => (self.clock)().saturating_sub(oldest_us).max(0),
            };
            self.gauge.set(age_us as f64 / 1e6);
            tokio::time::sleep(BEAT_EVERY).await;
        }
    }
}
