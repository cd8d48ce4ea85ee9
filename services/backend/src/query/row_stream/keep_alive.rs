//! Keep-alive for long work: it stops when the client disconnects, and reports progress at
//! least twice a second.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::server::stream::{Sender, StreamEnd};

/// Maximum time between two messages to a client that reads progress.
const INTERVAL: Duration = Duration::from_millis(500);

pub(crate) struct KeepAlive<'s, T> {
    sender: &'s Sender<T>,
    ticks: Interval,
}

impl<'s, T> KeepAlive<'s, T> {
    pub(crate) fn new(sender: &'s Sender<T>) -> Self {
        let mut ticks = interval_at(Instant::now() + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { sender, ticks }
    }

    /// The sender of the stream.
    pub(super) fn sender(&self) -> &'s Sender<T> {
        self.sender
    }

    /// Runs `work`, sending keep-alive messages; one is dropped if the client is too slow
    /// to take it.
    pub(crate) async fn during<O>(
        &mut self,
        work: impl Future<Output = O>,
        keep_alive_message: impl Fn() -> Option<T>,
    ) -> Result<O, StreamEnd> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                // Polled first, because it is usually ready.
                done = &mut work => return Ok(done),
                () = self.sender.closed() => return Err(StreamEnd::Disconnected),
                _ = self.ticks.tick() => drop(keep_alive_message().map(|message| self.sender.try_send(message))),
            }
        }
    }

    /// Sends if the client takes the message soon; returns it otherwise.
    pub(crate) async fn send_soon(&mut self, message: T) -> Result<(), T> {
        self.sender.send_soon(message).await?;
        self.ticks.reset();
        Ok(())
    }

    pub(crate) async fn send(&mut self, message: T) -> Result<(), StreamEnd> {
        self.sender.send(message).await?;
        self.ticks.reset();
        Ok(())
    }
}
