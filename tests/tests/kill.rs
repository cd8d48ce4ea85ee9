//! Promises 1 to 3, broken on purpose: the server is killed with -9 at random moments while 8 writers write, started
//! again, and what was acknowledged is counted: none lost, none doubled, order kept.
//!
//! Four writers are as the published client is: no ids, nothing sent again; a frame cut off may be there or not, but
//! whole. Four speak the binary protocol and send again: of theirs everything is there exactly once.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use matyan_proto::ingest::v1::{Event, IngestionBatch, LogRecord, Points, event::Kind};
use matyan_tests::{
    Reader, Server,
    binary::BinaryWriter,
    eventually,
    json::{Ack, JsonWriter, log_record, metric},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

const WRITERS_OF_A_KIND: usize = 4;
const OUTSTANDING: usize = 16;

/// How often the server is killed: 20, or what `MATYAN_KILLS` says.
fn kills() -> u32 {
    #[expect(clippy::disallowed_methods, reason = "the length of a test is its only setting")]
    let asked = std::env::var("MATYAN_KILLS");
    asked.map_or(20, |kills| kills.parse().expect("MATYAN_KILLS is a number"))
}

/// Where the server listens now, and whether the writers are to stop.
struct Scene {
    ingest: Mutex<String>,
    over: AtomicBool,
}

impl Scene {
    fn ingest(&self) -> String {
        self.ingest.lock().expect("no writer panics with it").clone()
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// One frame of every kind of item whose doubling or loss could be seen.
fn frame(number: i64) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "frame numbers are small")]
    let value = number as f64;
    json!([
        metric("explicit", value, Some(number)),
        metric("automatic", value, None),
        log_record(&number.to_string(), value),
        {"type": "log_terminal_line", "line": number.to_string(), "step": number},
    ])
}

/// Writes until the scene is over; answers with each frame's fate: acknowledged, or unknown.
async fn write_json(scene: Arc<Scene>, run_id: String) -> Vec<bool> {
    let mut fates = Vec::new();
    while !scene.over() {
        let Ok(mut writer) = JsonWriter::connect(&scene.ingest(), &run_id).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        while !scene.over() {
            let number = i64::try_from(fates.len()).expect("few frames");
            let answer = writer.send(&frame(number)).await;
            fates.push(answer == Ok(Ack::Ok));
            assert!(!matches!(answer, Ok(Ack::Error(_))), "a good frame was refused: {answer:?}");
            if answer.is_err() {
                break;
            }
        }
    }
    fates
}

/// Writes with up to 16 batches outstanding until the scene is over, then settles; answers with the number of batches.
async fn write_binary(scene: Arc<Scene>, run_id: String) -> i64 {
    let mut writer = BinaryWriter::new(&run_id);
    let mut batches = 0;
    loop {
        if writer.connect(&scene.ingest()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let written = async {
            while !scene.over() {
                let batch = binary_batch(&mut writer, batches);
                batches += 1;
                writer.send(&batch).await?;
                writer.settle(OUTSTANDING).await?;
            }
            writer.settle(0).await
        };
        if written.await.is_ok() {
            return batches;
        }
    }
}

fn binary_batch(writer: &mut BinaryWriter, number: i64) -> IngestionBatch {
    let mut batch = IngestionBatch::default();
    let (explicit, automatic) =
        (writer.series(&mut batch, "explicit"), writer.series(&mut batch, "automatic"));
    #[expect(clippy::cast_precision_loss, reason = "batch numbers are small")]
    let value = number as f64;
    let points = Points { values: vec![value; 2], ..Points::default() };
    batch.points =
        vec![Points { series: vec![explicit, automatic], steps: vec![number, i64::MIN], ..points }];
    let record =
        LogRecord { message: number.to_string(), level: 20, timestamp: value, ..LogRecord::default() };
    batch.events = vec![Event { client_time_us: None, kind: Some(Kind::LogRecord(record)) }];
    batch
}

/// The frame numbers that each kind of item shows, in stored order.
struct Found {
    explicit: Vec<i64>,
    automatic: Vec<i64>,
    records: Vec<i64>,
    lines: Vec<i64>,
}

async fn found(reader: &Reader, run_id: &str) -> Found {
    #[expect(clippy::cast_possible_truncation, reason = "the values are small whole numbers")]
    let values =
        |points: Vec<matyan_tests::reading::Point>| points.iter().map(|point| point.value as i64).collect();
    let number = |text: &String| text.parse::<i64>().expect("messages are numbers");
    let explicit = reader.points(run_id, "explicit", "").await.expect("the series is readable");
    assert!(explicit.iter().all(|point| point.step as f64 == point.value), "a point has another's value");
    let automatic = reader.points(run_id, "automatic", "").await.expect("the series is readable");
    assert!(
        automatic.iter().enumerate().all(|(at, point)| point.step == at as i64),
        "automatic steps have a gap"
    );
    Found {
        explicit: values(explicit),
        automatic: values(automatic),
        records: reader.records(run_id).await.expect("readable").iter().map(number).collect(),
        lines: reader.lines(run_id).await.expect("readable").iter().map(|(_, text)| number(text)).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_and_doubles_nothing() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Server::up().await;
    let scene = Arc::new(Scene { ingest: Mutex::new(server.ingest.clone()), over: AtomicBool::new(false) });
    let json_runs: Vec<String> = (0..WRITERS_OF_A_KIND).map(|number| format!("json-{number}")).collect();
    let binary_runs: Vec<String> = (0..WRITERS_OF_A_KIND).map(|number| format!("binary-{number}")).collect();
    let json: Vec<_> =
        json_runs.iter().map(|run| tokio::spawn(write_json(scene.clone(), run.clone()))).collect();
    let binary: Vec<_> =
        binary_runs.iter().map(|run| tokio::spawn(write_binary(scene.clone(), run.clone()))).collect();

    for _ in 0..kills() {
        tokio::time::sleep(Duration::from_millis(random.random_range(20..600))).await;
        server.kill();
        server.start().await;
        scene.ingest.lock().expect("no writer panics with it").clone_from(&server.ingest);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    scene.over.store(true, Ordering::Relaxed);

    let reader = Reader::connect(&server.query).await;
    let (mut frames, mut unknown, mut unknown_applied) = (0, 0, 0);
    for (run_id, writer) in json_runs.iter().zip(json) {
        let fates = writer.await.expect("the writer does not panic");
        let acknowledged: Vec<i64> =
            (0..).zip(&fates).filter(|(_, fate)| **fate).map(|(number, _)| number).collect();
        let found = applied(&reader, run_id, *acknowledged.last().expect("something was acknowledged")).await;
        assert_eq!(found.automatic, found.explicit, "{run_id}: doubled, lost or out of order");
        assert_eq!(
            found.records, found.explicit,
            "{run_id}: a frame was applied in part, or a record doubled"
        );
        assert_eq!(found.lines, found.explicit, "{run_id}: a frame was applied in part");
        let lost: Vec<_> = acknowledged.iter().filter(|number| !found.explicit.contains(number)).collect();
        assert!(lost.is_empty(), "{run_id}: acknowledged and lost: {lost:?}");
        frames += acknowledged.len();
        unknown += fates.len() - acknowledged.len();
        unknown_applied += found.explicit.len() - acknowledged.len();
    }
    let mut batches = 0;
    for (run_id, writer) in binary_runs.iter().zip(binary) {
        let written = writer.await.expect("the writer does not panic");
        let found = applied(&reader, run_id, written - 1).await;
        let expected: Vec<i64> = (0..written).collect();
        assert_eq!(found.explicit, expected, "{run_id}");
        assert_eq!(found.automatic, expected, "{run_id}: doubled, lost or out of order");
        assert_eq!(found.records, expected, "{run_id}");
        batches += written;
    }
    println!(
        "{} kills; {frames} JSON frames acknowledged, 0 lost, 0 doubled ({unknown} cut off, {unknown_applied} of them \
         applied whole); {batches} binary batches acknowledged, 0 lost, 0 doubled",
        kills()
    );
}

/// What is stored of a run once its last acknowledged frame has been applied.
async fn applied(reader: &Reader, run_id: &str, last: i64) -> Found {
    eventually("the last acknowledged frame is applied", async || {
        let found = found(reader, run_id).await;
        if found.explicit.contains(&last) { Ok(found) } else { Err(found.explicit.len()) }
    })
    .await
}
