//! A fixture under the fault layer, with faults that no guarantee forbids: delays, and
//! reassigned partitions. The guarantees of an implementation must also hold through such a
//! layer.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{AcknowledgedRecord, Capability, Fixture, Instance, Shape};
use crate::{
    LogReader, LogWriter,
    layers::{Faults, FaultyReader, FaultyWriter, Rates},
};

const RATES: Rates = Rates {
    error_before: 0.0,
    error_after: 0.0,
    delivery_error: 0.0,
    repeat: 0.0,
    reassign: 0.1,
    delay_up_to: Duration::from_millis(3),
};

pub struct DelayedFixture<F>(pub F);

struct DelayedInstance {
    inner: Box<dyn Instance>,
    faults: Arc<Faults>,
}

fn delayed(inner: Box<dyn Instance>, append_wait: Duration) -> Box<dyn Instance> {
    const SEED: u64 = 7;
    Box::new(DelayedInstance { inner, faults: Arc::new(Faults::seeded(SEED, RATES, append_wait)) })
}

#[async_trait]
impl<F: Fixture> Fixture for DelayedFixture<F> {
    fn name(&self) -> String {
        format!("{}_delayed", self.0.name())
    }

    fn missing_reason(&self, capability: Capability) -> Option<String> {
        self.0.missing_reason(capability)
    }

    async fn create(&self, shape: Shape) -> Box<dyn Instance> {
        delayed(self.0.create(shape).await, shape.append_wait)
    }

    async fn kill(&self, count: usize) -> (Box<dyn Instance>, Vec<AcknowledgedRecord>) {
        let (inner, acknowledged) = self.0.kill(count).await;
        (delayed(inner, Shape::default().append_wait), acknowledged)
    }
}

#[async_trait]
impl Instance for DelayedInstance {
    fn writer(&self) -> Arc<dyn LogWriter> {
        Arc::new(FaultyWriter::new(self.inner.writer(), self.faults.clone()))
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(FaultyReader::new(self.inner.reader(), self.faults.clone()))
    }

    async fn reopen(&mut self) {
        self.inner.reopen().await;
    }

    async fn obstruct(&mut self) {
        self.inner.obstruct().await;
    }

    async fn clear(&mut self) {
        self.inner.clear().await;
    }
}
