//! Edits of a series that is being logged, with a server that is killed in the meantime: each edit applies to
//! everything that was acknowledged before the call, and to nothing that was sent after it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use matyan_proto::{
    common::v1::{SeriesKey, SeriesType, StepRange},
    ingest::v1::{IngestionBatch, Points},
    series::v1::{DeleteStepsRequest, RenameRequest, series_service_client::SeriesServiceClient},
};
use matyan_tests::{Reader, Server, binary::BinaryWriter, eventually};
use rand::Rng as _;
use tokio::task::JoinHandle;
use tonic::{Status, transport::Channel};

const RUN: &str = "edited";
const POINTS_A_BATCH: i64 = 5;
const EDITS: usize = 12;
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Logs a series in the background, in ascending steps, also across restarts of the server.
struct Logging {
    /// Address of the server, which changes when it is restarted.
    base: Arc<Mutex<String>>,
    /// Steps below have been sent.
    sent: Arc<AtomicI64>,
    /// Steps below have been acknowledged.
    acknowledged: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Logging {
    fn start(server: &Server) -> Self {
        let base = Arc::new(Mutex::new(server.ingest.clone()));
        let sent = Arc::<AtomicI64>::default();
        let acknowledged = Arc::<AtomicI64>::default();
        let stop = Arc::<AtomicBool>::default();
        let task = tokio::spawn(log(
            Arc::clone(&base),
            Arc::clone(&sent),
            Arc::clone(&acknowledged),
            Arc::clone(&stop),
        ));
        Logging { base, sent, acknowledged, stop, task }
    }

    async fn wait_for_acks(&self, more: i64) {
        let wanted = self.acknowledged.load(SeqCst) + more;
        eventually("points are acknowledged", async || match self.acknowledged.load(SeqCst) {
            steps if steps >= wanted => Ok(()),
            steps => Err(steps),
        })
        .await;
    }

    /// Stops, and returns the number of steps, all of which are acknowledged.
    async fn finish(self) -> i64 {
        self.stop.store(true, SeqCst);
        self.task.await.expect("the writer does not panic");
        self.acknowledged.load(SeqCst)
    }
}

async fn log(
    base: Arc<Mutex<String>>,
    sent: Arc<AtomicI64>,
    acknowledged: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
) {
    const OUTSTANDING: usize = 4;
    let mut writer = BinaryWriter::new(RUN);
    let mut batches = 0_i64;
    loop {
        let is_last = stop.load(SeqCst);
        let progressed = async {
            if !is_last {
                let mut batch = IngestionBatch::default();
                let series = writer.series(&mut batch, "loss");
                let steps: Vec<_> = (batches * POINTS_A_BATCH..(batches + 1) * POINTS_A_BATCH).collect();
                sent.store((batches + 1) * POINTS_A_BATCH, SeqCst);
                batches += 1;
                let values = steps.iter().map(|step| *step as f64).collect();
                batch.points =
                    vec![Points { series: vec![series; steps.len()], values, steps, ..Points::default() }];
                writer.send(&batch).await?;
            }
            writer.wait_for_acks(if is_last { 0 } else { OUTSTANDING }).await
        };
        let progress = progressed.await;
        acknowledged.store(writer.acknowledged.cast_signed() * POINTS_A_BATCH, SeqCst);
        match progress {
            Ok(()) if is_last => return,
            Ok(()) => {}
            Err(_) => loop {
                let now = base.lock().expect("the address is only assigned").clone();
                if writer.connect(&now).await.is_ok() {
                    break;
                }
                tokio::time::sleep(RECONNECT_PAUSE).await;
            },
        }
    }
}

/// Makes the call until it succeeds, also across a restart of the server.
async fn until_done<T>(
    base: &str,
    mut call: impl AsyncFnMut(SeriesServiceClient<Channel>) -> Result<T, Status>,
) {
    eventually("the series is edited", async || {
        let endpoint = Channel::from_shared(base.to_owned()).expect("the base is a URL");
        let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
        call(SeriesServiceClient::new(channel)).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

fn key(name: &str) -> Option<SeriesKey> {
    Some(SeriesKey { name: name.into(), context: "{}".into() })
}

/// Kills and restarts the server in the middle of the edits.
async fn edit(server: &mut Server, logging: &Logging, mut one: impl AsyncFnMut(&str, usize)) {
    for at in 0..EDITS {
        let points = rand::rng().random_range(20..200);
        logging.wait_for_acks(points).await;
        if at == EDITS / 2 {
            server.kill();
            server.start().await;
            server.ingest.clone_into(&mut logging.base.lock().expect("the address is only assigned"));
        }
        one(&server.query, at).await;
    }
    logging.wait_for_acks(50).await;
}

async fn steps(server: &Server, name: &str) -> Vec<i64> {
    let reader = Reader::connect(&server.query).await;
    let points = reader.points(RUN, name, "{}").await.expect("the series is read");
    assert!(points.iter().all(|point| point.value == point.step as f64), "a point has another value");
    points.iter().map(|point| point.step).collect()
}

async fn until_applied(server: &Server, points: u64) {
    let reader = Reader::connect(&server.query).await;
    eventually("everything is applied", async || match reader.count(RUN).await {
        Ok(count) if count >= points => Ok(()),
        other => Err(format!("{other:?} of {points}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_series_is_renamed_while_it_is_logged() {
    let mut server = Server::up().await;
    let logging = Logging::start(&server);
    let mut bounds = Vec::new();
    edit(&mut server, &logging, async |base, at| {
        let request_id = uuid::Uuid::new_v4().to_string();
        let before = logging.acknowledged.load(SeqCst);
        until_done(base, async |mut client| {
            let request = RenameRequest {
                run_id: RUN.into(),
                r#type: SeriesType::Metric.into(),
                key: key("loss"),
                new_key: key(&format!("loss_{at}")),
                request_id: request_id.clone(),
            };
            client.rename(request).await
        })
        .await;
        bounds.push((before, logging.sent.load(SeqCst)));
    })
    .await;
    let total = logging.finish().await;
    until_applied(&server, total.cast_unsigned()).await;
    let mut next = 0;
    for (at, (before, after)) in bounds.into_iter().enumerate() {
        let found = steps(&server, &format!("loss_{at}")).await;
        let end = next + found.len() as i64;
        assert_eq!(found, (next..end).collect::<Vec<_>>(), "loss_{at} starts where the previous one ended");
        assert!((before..=after).contains(&end), "loss_{at} ends at {end}, not between {before} and {after}");
        next = end;
    }
    assert_eq!(steps(&server, "loss").await, (next..total).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_are_deleted_while_they_are_logged() {
    let mut server = Server::up().await;
    let logging = Logging::start(&server);
    let mut last = (0, 0);
    edit(&mut server, &logging, async |base, _| {
        let request_id = uuid::Uuid::new_v4().to_string();
        let before = logging.acknowledged.load(SeqCst);
        until_done(base, async |mut client| {
            let request = DeleteStepsRequest {
                run_id: RUN.into(),
                r#type: SeriesType::Metric.into(),
                key: key("loss"),
                steps: Some(StepRange { start: Some(0), stop: None }),
                request_id: request_id.clone(),
            };
            client.delete_steps(request).await
        })
        .await;
        last = (before, logging.sent.load(SeqCst));
    })
    .await;
    let total = logging.finish().await;
    eventually("everything is applied", async || match steps(&server, "loss").await.last() {
        Some(last) if *last == total - 1 => Ok(()),
        other => Err(other.copied()),
    })
    .await;
    let found = steps(&server, "loss").await;
    let first = total - found.len() as i64;
    assert_eq!(found, (first..total).collect::<Vec<_>>(), "what was logged later is complete");
    assert!((last.0..=last.1).contains(&first), "{first} is the first step left, not between {last:?}");
}
