//! Keep-alive for long work: it stops when the client disconnects, and reports progress at
//! least twice a second.

use std::{pin::pin, time::Duration};

use futures::future::maybe_done;
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

    /// Sends a message while `work` goes on, and then waits for the work as `during` does.
    pub(super) async fn send_during<O>(
        &mut self,
        message: T,
        work: impl Future<Output = O>,
        keep_alive_message: impl Fn() -> Option<T>,
    ) -> Result<O, StreamEnd> {
        let mut work = pin!(maybe_done(work));
        {
            let mut sending = pin!(self.send(message));
            tokio::select! {
                biased;
                sent = &mut sending => sent?,
                () = &mut work => sending.await?,
            }
        }
        self.during(work.as_mut(), keep_alive_message).await?;
        Ok(work.take_output().expect("`during` waits for the end of the work"))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::sync::oneshot;

    use super::*;
    use crate::server::stream::Streams;

    /// The client has taken its messages before the work that went on at the same time is done.
    #[tokio::test(start_paused = true)]
    async fn a_client_hears_of_work_that_outlasts_a_message() {
        let (end_work, work) = oneshot::channel();
        let messages = Streams::default().respond(async move |sender| {
            let mut keep_alive = KeepAlive::new(&sender);
            let done = keep_alive.send_during("page", work, || Some("at work")).await?;
            keep_alive.send(done.unwrap_or("lost")).await
        });
        let mut messages = messages.map(Result::unwrap);
        assert_eq!(messages.next().await, Some("page"));
        assert_eq!(messages.next().await, Some("at work"));
        end_work.send("done").unwrap();
        assert_eq!(messages.filter(|it| std::future::ready(*it != "at work")).next().await, Some("done"));
    }
}
