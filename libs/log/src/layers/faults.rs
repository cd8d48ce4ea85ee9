//! A log with injected faults: it can be slow, fail, leave appends unanswered, stop, or redeliver
//! records. Faults come from a script, and otherwise from a seed.
//!
//! It keeps the order of appends, like every log: they reach the inner log when they are
//! called, and only the responses are delayed. It never loses or changes a record.

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
    /// Appends immediately, but responds late.
    Delay(Duration),
    /// Does not append, and returns `Unavailable`.
    ErrorBefore,
    /// Appends, but returns `Unavailable`, so the outcome is unknown to the caller.
    ErrorAfter,
    /// Appends, but never responds.
    NoAnswer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryFault {
    Delay(Duration),
    /// `next` fails; the delivery follows with the next call.
    Error,
    /// The records are delivered twice, without a restart.
    Repeat,
    /// The partition is revoked before the delivery, and reassigned.
    Reassign,
}

/// Probability of each fault, from 0 to 1, once the script has ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub error_before: f64,
    pub error_after: f64,
    pub delivery_error: f64,
    pub repeat: f64,
    pub reassign: f64,
    /// Maximum delay of every response and delivery.
    pub delay_up_to: Duration,
}

/// The plan shared by a writer and a reader, and controlled by a test.
pub struct Faults {
    plan: Mutex<Plan>,
    is_stopped: watch::Sender<bool>,
    /// Time that an append to a stopped log waits before it fails.
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

    /// Injects only scripted faults.
    pub fn scripted(append_wait: Duration) -> Self {
        Self::seeded(0, Rates::default(), append_wait)
    }

    /// Scripts faults for the next appends, one each; `None` lets one pass.
    pub fn script_appends(&self, faults: impl IntoIterator<Item = Option<AppendFault>>) {
        self.plan().appends.extend(faults);
    }

    /// Scripts faults for the next deliveries of records, one each; `None` lets one pass.
    pub fn script_deliveries(&self, faults: impl IntoIterator<Item = Option<DeliveryFault>>) {
        self.plan().deliveries.extend(faults);
    }

    /// From now on nothing reaches the log and nothing gets a response, as if its process
    /// had crashed.
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
        self.plan.lock().expect("no thread panics while holding the plan")
    }

    fn is_stopped(&self) -> bool {
        *self.is_stopped.borrow()
    }

    async fn until_resumed(&self) {
        let until_resumed = self.is_stopped.subscribe().wait_for(|is_stopped| !is_stopped).await.map(|_| ());
        until_resumed.expect("the sender lives as long as the plan");
    }
}

impl Plan {
    fn delay(&mut self) -> Option<Duration> {
        let longest = self.rates.delay_up_to.as_micros() as u64;
        (longest > 0).then(|| Duration::from_micros(self.random.random_range(0..=longest)))
    }
}

fn injected_error(what: &str) -> Error {
    Error::unavailable(format!("{what} (injected fault)"))
}

#[cfg(test)]
mod tests;
