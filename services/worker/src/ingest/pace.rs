//! When the log is read: at once while it has something, and else not before a rest since it was last waited for. What comes
//! one by one meanwhile is then applied together; what comes alone waits for nothing.
//!
//! A rest that is given up for something else begins again with a look at the log. Mostly that is a writer's finished turn: it is
//! free then, and what has come by now it may have at once.

use std::time::Duration;

use futures::FutureExt as _;
use matyan_log::{Delivery, Result, Subscription};
use tokio::time::{Instant, sleep_until};

/// Between two times that the log is waited for: whoever reads his own writes waits no longer than this.
const REST: Duration = Duration::from_millis(5);
/// A delivery of so much is no trickle.
const LARGE_BYTES: usize = 256 << 10;

pub(super) struct Pace {
    rested: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { rested: Instant::now() }
    }

    /// The next delivery. Loses none where it is given up.
    pub(super) async fn next(&mut self, subscription: &mut dyn Subscription) -> Result<Delivery> {
        if let Some(delivery) = subscription.next().now_or_never() {
            return delivery;
        }
        sleep_until(self.rested).await;
        let delivery = subscription.next().await;
        if !delivery.as_ref().is_ok_and(is_large) {
            self.rested = Instant::now() + REST;
        }
        delivery
    }
}

/// What is read from a disk is waited for as well, and has more behind it.
fn is_large(delivery: &Delivery) -> bool {
    match delivery {
        Delivery::Records { records, .. } => {
            records.iter().map(|record| record.value.len()).sum::<usize>() >= LARGE_BYTES
        }
        Delivery::Assigned { .. } | Delivery::Revoked { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use matyan_log::Record;
    use tokio::sync::mpsc;

    use super::*;

    /// Delivers what it is given.
    struct Given(mpsc::UnboundedReceiver<Delivery>);

    #[async_trait::async_trait]
    impl Subscription for Given {
        async fn next(&mut self) -> Result<Delivery> {
            match self.0.recv().await {
                Some(delivery) => Ok(delivery),
                None => std::future::pending().await,
            }
        }

        async fn start(&mut self, _: u32, _: u64) -> Result<()> {
            Ok(())
        }
    }

    fn delivery(bytes: usize) -> Delivery {
        let value = Bytes::from(vec![0; bytes]);
        let record = Record { offset: 0, key: Bytes::new(), value, headers: Vec::new(), appended_us: 0 };
        Delivery::Records { partition: 0, records: vec![record] }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_one_by_one_is_taken_together_and_what_comes_alone_at_once() {
        let (give, given) = mpsc::unbounded_channel();
        let (mut given, mut pace) = (Given(given), Pace::new());
        let start = Instant::now();
        let mut taken = async |given: &mut Given| {
            pace.next(given).await.unwrap();
            start.elapsed()
        };
        let give_in = |bytes: usize, millis: u64| {
            let give = give.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                give.send(delivery(bytes)).unwrap();
            })
        };
        let millis = Duration::from_millis;
        // Alone, and the log is empty: at once.
        give_in(1, 20);
        assert_eq!(taken(&mut given).await, millis(20));
        // Two more come soon: both when it has rested.
        give_in(1, 1);
        give_in(1, 2);
        assert_eq!(taken(&mut given).await, millis(20) + REST);
        assert_eq!(taken(&mut given).await, millis(20) + REST);
        // A page from the disk, and the next one right behind it.
        give_in(LARGE_BYTES, 20);
        assert_eq!(taken(&mut given).await, millis(40) + REST);
        give_in(1, 1);
        assert_eq!(taken(&mut given).await, millis(41) + REST);
        // Given up in the middle of the rest, it looks before it rests on.
        assert!(tokio::time::timeout(millis(1), taken(&mut given)).await.is_err());
        give.send(delivery(1)).unwrap();
        assert_eq!(taken(&mut given).await, millis(42) + REST);
    }
}
