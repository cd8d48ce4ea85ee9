//! Full and damaged spools.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use matyan_sdk::{Columns, Config, Content, Outcome, Run, RunOptions, SpoolFull, SpoolMode};
use matyan_tests::{Reader, Server, eventually};

use crate::delivery::{
    child::Script,
    proxy::Proxy,
    scene::{GUARD, PATIENT, SlowestCall, SpoolRoot, blocking, expect_count, props, series, take_notices},
};

/// Size of a segment.
const SEGMENT: u64 = 4 << 20;

/// Whether the script of a test was interrupted.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Whether a call of that script has waited.
static WAITED: AtomicBool = AtomicBool::new(false);

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_a_full_spool_drops_what_is_new_and_says_so() {
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let config = Config { spool_bytes: 2 * SEGMENT, ..root.config(&proxy.url) };
    let run = Run::new(RunOptions { config, ..RunOptions::default() }).unwrap();
    let loss = series(&run, "loss");
    let calls = SlowestCall::new("a full spool");
    for step in 0..400_000 {
        calls.track(&run, &loss, step, Some(i64::from(step)));
    }
    let dropped = run.health().dropped;
    assert!((1..400_000).contains(&dropped), "{dropped} points were dropped");
    let notices = take_notices(&run);
    assert_eq!(notices.iter().filter(|notice| notice.message.contains("is full")).count(), 1, "{notices:?}");
    let used: u64 =
        fs::read_dir(&root.spools()[0]).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(used < 3 * SEGMENT, "{used} bytes");

    let server = Server::up().await;
    proxy.set_target(&server.ingest);
    let id = run.id().to_owned();
    drop(run);
    root.wait_until_empty().await;
    expect_count(&server.query, &id, "loss", 400_000 - dropped as usize).await;
}

/// Tracks more than a small disk can hold, and records how many points were dropped once the others
/// are stored.
pub(crate) fn fill(run: &Run, output: &Path) {
    let loss = series(run, "loss");
    let calls = SlowestCall::new("a full disk");
    for step in 0..400_000 {
        calls.track(run, &loss, step, Some(i64::from(step)));
    }
    fs::write(output.with_extension("filled"), "").expect("the file can be written");
    // The end of the run needs space too.
    run.flush(GUARD);
    run.close(PATIENT, |_| true);
    fs::write(output, run.health().dropped.to_string()).expect("the file can be written");
}

/// Runs `fill` without a server until it has tracked everything, and returns the number of points
/// that were dropped.
#[cfg(target_os = "linux")]
async fn fill_small_disk(server: &Server, run_id: &str, used: &str) -> usize {
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let results = SpoolRoot::new();
    let output = results.path().join("dropped");
    let gateway_url = proxy.url.as_str();
    let backend_url = server.query.as_str();
    let script = Script { name: "fill", gateway_url, backend_url, run_id, output: &output };
    let mut child = script.start_on_small_disk(&root, used);
    eventually("the script has tracked everything", async || {
        if output.with_extension("filled").exists() { Ok(()) } else { Err(child.try_wait()) }
    })
    .await;
    proxy.set_target(&server.ingest);
    let status = blocking(move || child.wait()).await.expect("a child can be waited for");
    assert!(status.success(), "{status}");
    fs::read_to_string(output).expect("the script wrote it").parse().expect("a number")
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_what_it_cannot_hold_and_nothing_else() {
    let server = Server::up().await;
    let dropped = fill_small_disk(&server, "small", "0").await;
    assert!((1..400_000).contains(&dropped), "{dropped} points were dropped");
    expect_count(&server.query, "small", "loss", 400_000 - dropped).await;
    // Not even the first segment fits. The start and the end of the run count too.
    assert_eq!(fill_small_disk(&server, "full", "6291456").await, 400_002);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_blocks_if_asked_to() {
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let config = Config { spool_bytes: 2 * SEGMENT, spool_full: SpoolFull::Block, ..root.config(&proxy.url) };
    let run = Run::new(RunOptions { config, ..RunOptions::default() }).unwrap();
    let id = run.id().to_owned();
    let tracking = std::thread::spawn(move || {
        let loss = series(&run, "loss");
        for step in 0..600_000 {
            run.track(&loss, f64::from(step), None, None);
        }
        run.health().dropped
    });
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!tracking.is_finished(), "there is no space for all points");
    let server = Server::up().await;
    proxy.set_target(&server.ingest);
    let dropped = blocking(move || tracking.join().expect("tracking does not panic")).await;
    assert_eq!(dropped, 0);
    root.wait_until_empty().await;
    expect_count(&server.query, &id, "loss", 600_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_of_any_size_blocks_only_until_something_is_stored() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    for spool_bytes in [1, 1_000_000, SEGMENT, SEGMENT + 1] {
        let config = Config { spool_bytes, spool_full: SpoolFull::Block, ..root.config(&server.ingest) };
        let run = Run::new(RunOptions { config, ..RunOptions::default() }).unwrap();
        let id = run.id().to_owned();
        let tracking = blocking(move || {
            let loss = series(&run, "loss");
            for step in 0..150_000 {
                run.track(&loss, f64::from(step), None, None);
            }
            // Larger than the spool.
            run.terminal_line(&"x".repeat(5 << 20), 0).unwrap();
            for step in 150_000..200_000 {
                run.track(&loss, f64::from(step), None, None);
            }
            run.health().dropped
        });
        let dropped = tokio::time::timeout(GUARD, tracking).await.expect("tracking makes progress");
        assert_eq!(dropped, 0, "{spool_bytes}");
        root.wait_until_empty().await;
        expect_count(&server.query, &id, "loss", 200_000).await;
        let lines = Reader::connect(&server.query).await.lines(&id).await.unwrap();
        assert_eq!(lines.iter().map(|(_, line)| line.len()).collect::<Vec<_>>(), [5 << 20]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_space_can_be_interrupted() {
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let config = Config { spool_bytes: 1_000_000, spool_full: SpoolFull::Block, ..root.config(&proxy.url) };
    let interrupted: fn() -> bool = || {
        WAITED.store(true, Ordering::Relaxed);
        INTERRUPTED.load(Ordering::Relaxed)
    };
    let options = RunOptions { config, interrupted: Some(interrupted), ..RunOptions::default() };
    let run = Run::new(options).unwrap();
    let tracking = std::thread::spawn(move || {
        let loss = series(&run, "loss");
        for step in 0.. {
            run.track(&loss, f64::from(step), None, None);
            if INTERRUPTED.load(Ordering::Relaxed) {
                return run.health().dropped;
            }
        }
        0
    });
    let waited = async || if WAITED.load(Ordering::Relaxed) { Ok(()) } else { Err(()) };
    eventually("a call waits for space", waited).await;
    assert!(!tracking.is_finished(), "there is no server");
    INTERRUPTED.store(true, Ordering::Relaxed);
    let ended = blocking(move || tracking.join().expect("tracking does not panic"));
    let dropped = tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the wait ends");
    assert_eq!(dropped, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_wait_gives_up_the_rest_of_a_column() {
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let config = Config { spool_bytes: 1_000_000, spool_full: SpoolFull::Block, ..root.config(&proxy.url) };
    let interrupted = Some((|| true) as fn() -> bool);
    let run = Run::new(RunOptions { config, interrupted, ..RunOptions::default() }).unwrap();
    let tracking = blocking(move || {
        let values = vec![0.5; 1_000_000];
        let columns = Columns { values: &values, ..Columns::default() };
        run.track_many(&series(&run, "loss"), &columns).unwrap();
        run.health()
    });
    let health = tokio::time::timeout(GUARD, tracking).await.expect("it does not wait for each part");
    // The start of the run is pending, too.
    assert_eq!(health.pending + health.dropped, 1_000_001);
    assert!(health.dropped > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_a_full_spool_has_space_for_the_end_of_the_run() {
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let config = Config { spool_bytes: 1_000_000, ..root.config(&proxy.url) };
    let run = Run::new(RunOptions { config, ..RunOptions::default() }).unwrap();
    let loss = series(&run, "loss");
    for step in 0..100_000 {
        run.track(&loss, f64::from(step), None, None);
    }
    for line in 0..2_000 {
        run.terminal_line("a shorter record", line).unwrap();
    }
    assert!(run.health().dropped > 0);
    run.finish(Some(&Outcome::Failed("ValueError: ".to_owned() + &"x".repeat(60_000))));
    let id = run.id().to_owned();
    drop(run);
    let server = Server::up().await;
    proxy.set_target(&server.ingest);
    root.wait_until_empty().await;
    let props = props(&server, &id, |props| props["active"] == false).await;
    assert_eq!(props["outcome"], "failed");
    let text = props["outcome_message"].as_str().unwrap_or_default();
    assert!(text.starts_with("ValueError: xxx") && text.len() == 512, "{} bytes", text.len());
}

#[test]
fn a_run_without_a_directory_says_what_is_lost() {
    let root = SpoolRoot::new();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let spool_dirs = vec![file.join("a"), file.join("b")];
    let config = Config { spool_dirs, fallback_dirs: Vec::new(), ..root.config("http://127.0.0.1:1") };
    let run = Run::new(RunOptions { config, ..RunOptions::default() }).unwrap();
    let loss = series(&run, "loss");
    for step in 0..10 {
        run.track(&loss, f64::from(step), None, None);
    }
    assert!(!run.flush(Duration::from_millis(1)));
    // The points and the start of the run.
    assert_eq!(run.health().dropped, 11);
    let notices = take_notices(&run);
    let named: Vec<_> = notices.iter().filter(|notice| notice.message.contains("file/a: ")).collect();
    assert_eq!(named.len(), 1, "{notices:?}");
    for part in ["nothing can be recorded", "MATYAN_SPOOL_DIR", "file/b: "] {
        assert!(named[0].message.contains(part), "{part}: {notices:?}");
    }
    let report = run.close(PATIENT, |_| true);
    // The end of the run as well.
    assert_eq!((report.dropped, report.spool), (12, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_its_directory_uses_another_one() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let fallback = SpoolRoot::new();
    let config = Config {
        spool_dirs: vec![file.join("a")],
        fallback_dirs: vec![file.join("b"), fallback.path().to_owned()],
        ..root.config(&server.ingest)
    };
    let run = Run::new(RunOptions { config, ..RunOptions::default() }).unwrap();
    let loss = series(&run, "loss");
    for step in 0..10 {
        run.track(&loss, f64::from(step), None, None);
    }
    let notices = take_notices(&run);
    let expected = format!("MATYAN_SPOOL_DIR={} matyan-client sync", fallback.path().display());
    assert!(notices.iter().any(|notice| notice.message.contains(&expected)), "{notices:?}");
    let id = run.id().to_owned();
    let report = blocking(move || run.close(PATIENT, |_| true)).await;
    assert_eq!((report.pending, report.dropped), (0, 0));
    expect_count(&server.query, &id, "loss", 10).await;
}

#[test]
fn rule_93_a_file_that_the_spool_cannot_take_is_dropped_and_counted() {
    let root = SpoolRoot::new();
    let run = root.run("http://127.0.0.1:1");
    run.log_artifact(Content::Bytes(b"a"), "a", None).unwrap();
    fs::remove_dir_all(root.spools()[0].join("uploads")).unwrap();
    run.log_artifact(Content::Bytes(b"b"), "b", None).unwrap();
    let file = root.path().join("file");
    fs::write(&file, "c").unwrap();
    run.log_artifact(Content::File(&file), "c", None).unwrap();
    assert_eq!(run.health().dropped, 2);
    let notices = take_notices(&run);
    assert!(
        notices.iter().any(|notice| notice.message.contains("cannot be put into the spool")),
        "{notices:?}"
    );
    // A missing file is an error of the call, and is not counted.
    fs::remove_file(&file).unwrap();
    assert!(run.log_artifact(Content::File(&file), "c", None).is_err());
    assert_eq!(run.health().dropped, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn written_segments_deliver_the_same() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let config = Config { spool_mode: Some(SpoolMode::Written), ..root.config(&server.ingest) };
    let run = Run::new(RunOptions { config, ..RunOptions::default() }).unwrap();
    let loss = series(&run, "loss");
    for step in 0..300_000 {
        run.track(&loss, f64::from(step), None, None);
        if step % 1_000 == 0 {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
    let id = run.id().to_owned();
    let dropped = run.health().dropped;
    drop(run);
    root.wait_until_empty().await;
    assert_eq!(dropped, 0);
    expect_count(&server.query, &id, "loss", 300_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_a_damaged_segment_costs_its_rest_and_nothing_else() {
    let proxy = Proxy::start().await;
    let root = SpoolRoot::new();
    let run = Arc::new(root.run(&proxy.url));
    let loss = series(&run, "loss");
    // More than two segments.
    for step in 0..300_000 {
        run.track(&loss, f64::from(step), None, None);
    }
    let id = run.id().to_owned();
    let segment = root.spools()[0].join("00000002.seg");
    let file = fs::OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(&[0xff; 8], SEGMENT / 2).unwrap();
    let server = Server::up().await;
    proxy.set_target(&server.ingest);
    let closing = run.clone();
    let report = blocking(move || closing.close(PATIENT, |_| true)).await;
    assert_eq!(report.pending, 0);
    let notices = take_notices(&run);
    assert!(notices.iter().any(|notice| notice.message.contains("is damaged")), "{notices:?}");

    let reader = Reader::connect(&server.query).await;
    let points = eventually("the last point can be read", async || {
        let points = reader.points(&id, "loss", "").await.map_err(|status| status.to_string())?;
        if points.last().is_some_and(|last| last.step == 299_999) {
            Ok(points)
        } else {
            Err(points.len().to_string())
        }
    })
    .await;
    let lost = 300_000 - points.len();
    // Half a segment of 32 bytes each.
    assert!((60_000..70_000).contains(&lost), "{lost} points are lost");
    assert!(points.iter().all(|point| point.value == point.step as f64));
}
