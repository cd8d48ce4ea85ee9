//! Work done for a client that waits: it stops when the client leaves, and tells at least twice a second that it goes on.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::stream::{Left, Sender};

/// The longest that a reader of progress hears nothing.
const SILENCE: Duration = Duration::from_millis(500);

pub(crate) struct Pulse<'s, T> {
    sender: &'s Sender<T>,
    ticks: Interval,
}

impl<'s, T> Pulse<'s, T> {
    pub(crate) fn new(sender: &'s Sender<T>) -> Self {
        let mut ticks = interval_at(Instant::now() + SILENCE, SILENCE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { sender, ticks }
    }

    /// Works; a sign of life that the client is too slow to take is not sent.
    pub(crate) async fn during<O>(
        &mut self,
        work: impl Future<Output = O>,
        sign_of_life: impl Fn() -> Option<T>,
    ) -> Result<O, Left> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                // First, as it mostly need not wait.
                done = &mut work => return Ok(done),
                () = self.sender.closed() => return Err(Left),
                _ = self.ticks.tick() => drop(sign_of_life().map(|message| self.sender.try_send(message))),
            }
        }
    }

    /// Sends if the client need not be waited for long; gives the message back otherwise.
    pub(crate) async fn send_soon(&mut self, message: T) -> Result<(), T> {
        self.sender.send_soon(message).await?;
        self.ticks.reset();
        Ok(())
    }

    pub(crate) async fn send(&mut self, message: T) -> Result<(), Left> {
        self.sender.send(message).await?;
        self.ticks.reset();
        Ok(())
    }
}
