//! Each scripted fault on a real embedded log, and the determinism of seeds.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tempfile::TempDir;

use super::*;
use crate::{
    Delivery, LogInspector, LogReader, LogWriter, NewRecord, Subscription, Topic,
    embedded::{EmbeddedLog, Settings},
};

struct FaultyLog {
    faults: Arc<Faults>,
    log: Arc<EmbeddedLog>,
    writer: FaultyWriter,
    reader: FaultyReader,
    _directory: TempDir,
}

async fn faulty_log() -> FaultyLog {
    let directory = TempDir::new().unwrap();
    let log = Arc::new(EmbeddedLog::open(directory.path(), Settings::default()).await.unwrap());
    let faults = Arc::new(Faults::scripted(Duration::from_millis(20)));
    let writer = FaultyWriter::new(log.clone(), faults.clone());
    let reader = FaultyReader::new(log.clone(), faults.clone());
    FaultyLog { faults, log, writer, reader, _directory: directory }
}

impl FaultyLog {
    async fn append(&self, value: &'static str) -> crate::Result<()> {
        let record =
            NewRecord { key: Bytes::new(), value: Bytes::from_static(value.as_bytes()), headers: vec![] };
        self.writer.append(Topic::Ingestion, vec![record]).await.map(|_| ())
    }

    async fn subscribe(&self) -> Box<dyn Subscription> {
        let mut subscription = self.reader.subscribe(Topic::Ingestion).await.unwrap();
        assert_eq!(next(&mut *subscription).await, "assigned");
        subscription.start(0, 0.into()).await.unwrap();
        subscription
    }

    /// The end offset of the inner log.
    async fn end(&self) -> u64 {
        self.log.describe(Topic::Ingestion).await.unwrap().partitions[0].end
    }
}

async fn next(subscription: &mut dyn Subscription) -> String {
    match subscription.next().await {
        Ok(Delivery::Assigned { .. }) => "assigned".into(),
        Ok(Delivery::Revoked { .. }) => "revoked".into(),
        Ok(Delivery::Records { records, .. }) => {
            records.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect()
        }
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn appends_can_fail_before_or_after_writing() {
    let log = faulty_log().await;
    log.faults.script_appends([Some(AppendFault::ErrorBefore), Some(AppendFault::ErrorAfter), None]);
    assert!(log.append("refused").await.unwrap_err().is_temporary());
    assert_eq!(log.end().await, 0);
    assert!(log.append("maybe").await.unwrap_err().is_temporary());
    assert_eq!(log.end().await, 1);
    log.append("answered").await.unwrap();
    assert_eq!(log.end().await, 2);
}

#[tokio::test]
async fn an_answer_can_be_late_or_missing() {
    let log = faulty_log().await;
    log.faults
        .script_appends([Some(AppendFault::Delay(Duration::from_millis(5))), Some(AppendFault::NoAnswer)]);
    log.append("late").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(30), log.append("no answer")).await.is_err());
    assert_eq!(log.end().await, 2);
}

#[tokio::test]
async fn delays_keep_the_order_of_appends() {
    let log = faulty_log().await;
    log.faults.script_appends([Some(AppendFault::Delay(Duration::from_millis(20))), None]);
    let (slow, quick) = tokio::join!(log.append("slow"), log.append("quick"));
    slow.and(quick).unwrap();
    let mut subscription = log.subscribe().await;
    assert_eq!(next(&mut *subscription).await, "slowquick");
}

#[tokio::test]
async fn deliveries_fail_repeat_and_move() {
    let log = faulty_log().await;
    let mut subscription = log.subscribe().await;
    use DeliveryFault::{Delay, Error, Reassign, Repeat};
    log.faults.script_deliveries([
        Some(Error),
        Some(Repeat),
        Some(Delay(Duration::from_millis(5))),
        Some(Reassign),
    ]);
    log.append("a").await.unwrap();
    assert!(next(&mut *subscription).await.contains("the delivery failed"));
    assert_eq!(next(&mut *subscription).await, "a");
    for (value, expected) in [("b", &["b", "b"][..]), ("c", &["c"]), ("d", &["revoked", "assigned"])] {
        log.append(value).await.unwrap();
        for expected in expected {
            assert_eq!(next(&mut *subscription).await, *expected);
        }
    }
    log.append("e").await.unwrap();
    assert!(subscription.next().now_or_never().is_none(), "a reassigned partition must be started again");
    subscription.start(0, 1.into()).await.unwrap();
    assert_eq!(next(&mut *subscription).await, "bcde");
}

#[tokio::test]
async fn a_stopped_log_answers_nothing_until_it_is_resumed() {
    let log = faulty_log().await;
    let mut subscription = log.subscribe().await;
    log.append("before").await.unwrap();
    log.faults.stop();
    assert!(log.append("lost").await.unwrap_err().is_temporary());
    assert!(subscription.next().now_or_never().is_none());
    assert!(log.writer.describe(Topic::Ingestion).now_or_never().is_none());
    assert_eq!(log.end().await, 1);
    log.faults.resume();
    log.append("after").await.unwrap();
    assert_eq!(next(&mut *subscription).await, "beforeafter");
}

#[test]
fn a_seed_always_gives_the_same_faults() {
    let rates = Rates {
        error_before: 0.2,
        error_after: 0.2,
        delivery_error: 0.2,
        repeat: 0.2,
        reassign: 0.2,
        delay_up_to: Duration::from_millis(9),
    };
    let [one, same, other, (appends, deliveries)] = [1, 1, 2, 3].map(|seed| {
        let faults = Faults::seeded(seed, rates, Duration::ZERO);
        let appends: Vec<_> = (0..100).map(|_| faults.append_fault()).collect();
        let deliveries: Vec<_> = (0..100).map(|_| faults.delivery_fault()).collect();
        (appends, deliveries)
    });
    assert_eq!(one, same);
    assert_ne!(one, other);
    assert!(
        [AppendFault::ErrorBefore, AppendFault::ErrorAfter]
            .iter()
            .all(|fault| appends.contains(&Some(*fault)))
    );
    for fault in [DeliveryFault::Error, DeliveryFault::Repeat, DeliveryFault::Reassign] {
        assert!(deliveries.contains(&Some(fault)), "{fault:?}");
    }
}
