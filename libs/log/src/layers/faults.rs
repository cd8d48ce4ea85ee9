//! A log that is slow, fails, forgets to answer, stops, and delivers again: as scripted, and else as a seed decides.
//! It keeps the order of appends, as every log does: they reach the inner log when they are called for, and only answers
//! wait. It never loses or changes a record.

mod reader;
mod writer;

pub use reader::FaultyReader;
pub use writer::FaultyWriter;

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::watch;

use crate::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFault {
    /// Appended at once, answered later.
    Delay(Duration),
    /// Not appended, answered as unavailable.
    ErrorBefore,
    /// Appended, answered as unavailable: the caller cannot know.
    ErrorAfter,
    /// Appended, and never answered.
    NoAnswer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryFault {
    Delay(Duration),
    /// `next` fails; the delivery comes with the next call.
    Error,
    /// The delivery comes once more, although nobody started there.
    Repeat,
    /// The partition is taken away before the delivery, and given back.
    Reassign,
}

/// How likely each fault is, from 0 to 1, where no script says what happens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub error_before: f64,
    pub error_after: f64,
    pub delivery_error: f64,
    pub repeat: f64,
    pub reassign: f64,
    /// Every answer and delivery is late by up to this much.
    pub delay_up_to: Duration,
}

/// The plan that a writer and a reader share, and by which a test drives them.
pub struct Faults {
    plan: Mutex<Plan>,
    is_stopped: watch::Sender<bool>,
    /// How long an append to a stopped log waits for its answer.
    append_wait: Duration,
}

struct Plan {
    random: StdRng,
    rates: Rates,
    appends: VecDeque<Option<AppendFault>>,
    deliveries: VecDeque<Option<DeliveryFault>>,
}

impl Faults {
    pub fn seeded(seed: u64, rates: Rates, append_wait: Duration) -> Self {
        let plan = Plan {
            random: StdRng::seed_from_u64(seed),
            rates,
            appends: VecDeque::new(),
            deliveries: VecDeque::new(),
        };
        Self { plan: Mutex::new(plan), is_stopped: watch::Sender::new(false), append_wait }
    }

    /// Nothing happens but what is scripted.
    pub fn scripted(append_wait: Duration) -> Self {
        Self::seeded(0, Rates::default(), append_wait)
    }

    /// What happens to the next appends, one after another; `None` lets one pass.
    pub fn script_appends(&self, faults: impl IntoIterator<Item = Option<AppendFault>>) {
        self.plan().appends.extend(faults);
    }

    /// What happens to the next deliveries of records, one after another; `None` lets one pass.
    pub fn script_deliveries(&self, faults: impl IntoIterator<Item = Option<DeliveryFault>>) {
        self.plan().deliveries.extend(faults);
    }

    /// From now on nothing reaches the log and nothing is answered, as if its process had crashed.
    pub fn stop(&self) {
        self.is_stopped.send_replace(true);
    }

    pub fn resume(&self) {
        self.is_stopped.send_replace(false);
    }

    fn append_fault(&self) -> Option<AppendFault> {
        let mut plan = self.plan();
        if let Some(scripted) = plan.appends.pop_front() {
            return scripted;
        }
        let rates = plan.rates;
        let draw = plan.random.random::<f64>();
        if draw < rates.error_before {
            return Some(AppendFault::ErrorBefore);
        }
        if draw < rates.error_before + rates.error_after {
            return Some(AppendFault::ErrorAfter);
        }
        plan.delay().map(AppendFault::Delay)
    }

    fn delivery_fault(&self) -> Option<DeliveryFault> {
        let mut plan = self.plan();
        if let Some(scripted) = plan.deliveries.pop_front() {
            return scripted;
        }
        let Rates { delivery_error, repeat, reassign, .. } = plan.rates;
        let draw = plan.random.random::<f64>();
        if draw < delivery_error {
            return Some(DeliveryFault::Error);
        }
        if draw < delivery_error + repeat {
            return Some(DeliveryFault::Repeat);
        }
        if draw < delivery_error + repeat + reassign {
            return Some(DeliveryFault::Reassign);
        }
        plan.delay().map(DeliveryFault::Delay)
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().expect("nobody panics while holding the plan")
    }

    fn is_stopped(&self) -> bool {
        *self.is_stopped.borrow()
    }

    async fn resumed(&self) {
        let resumed = self.is_stopped.subscribe().wait_for(|is_stopped| !is_stopped).await.map(|_| ());
        resumed.expect("the sender lives as long as the plan");
    }
}

impl Plan {
    fn delay(&mut self) -> Option<Duration> {
        let longest = self.rates.delay_up_to.as_micros() as u64;
        (longest > 0).then(|| Duration::from_micros(self.random.random_range(0..=longest)))
    }
}

fn injected(what: &str) -> Error {
    Error::unavailable(format!("{what}, as a fault layer was told"))
}

#[cfg(test)]
mod tests;
