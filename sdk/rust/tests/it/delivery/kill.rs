//! Scripts that are killed: every call that returned counts, once.

use std::{
    collections::HashSet,
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use matyan_sdk::Run;
use matyan_tests::{Reader, Server, eventually};

use crate::delivery::{
    child::Script,
    recorder::Recorder,
    scene::{SpoolRoot, series, taken_notices},
};

/// Number of kills of all tests that count: 16, or as `MATYAN_KILLS` specifies.
fn kills() -> u32 {
    #[expect(clippy::disallowed_methods, reason = "the length of a test is its only setting")]
    let asked = std::env::var("MATYAN_KILLS");
    asked.map_or(16, |kills| kills.parse().expect("MATYAN_KILLS is a number"))
}

/// Terminal lines of each script.
const LINES: i64 = 20;
/// Offset of the payload of a segment's first record: the header has 64 bytes, and the record's head 8.
const FIRST_PAYLOAD: u64 = 64 + 8;

/// Tracks forever with a pause after each call, and records the number of calls that have returned in a
/// file.
pub(crate) fn count_forever(run: &Run, output: &Path, pause: impl Fn(u64) -> Duration) {
    let loss = series(run, "loss");
    let file = File::create(output).expect("the file can be created");
    for step in 0_u64.. {
        run.track(&loss, step as f64, Some(step as i64), None);
        file.write_all_at(&(step + 1).to_le_bytes(), 0).expect("the file can be written");
        let pause = pause(step);
        if !pause.is_zero() {
            std::thread::park_timeout(pause);
        }
    }
}

/// Stores lines that nothing sends, because there is no server.
pub(crate) fn print_and_abort(run: &Run) {
    for line in 0..LINES {
        run.terminal_line(&format!("first {line}"), line).expect("the line is short");
    }
    // SAFETY: it ends the process.
    #[expect(unsafe_code, reason = "the script must not clean up")]
    unsafe {
        libc::_exit(0)
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_lines_of_a_killed_script_come_before_those_of_the_next() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let output = root.path().with_extension("none");
    let script = Script {
        name: "print",
        // The next script sends them: the addresses belong to its server.
        gateway_url: &server.ingest,
        backend_url: &server.query,
        run_id: "printed",
        output: &output,
    };
    let mut child = script.start(&root);
    assert!(child.wait().expect("a child can be waited for").success());
    let mut options = root.options(&server.ingest);
    options.run_id = Some("printed".to_owned());
    options.config.backend_url = server.query.clone();
    let run = Run::new(options).unwrap();
    for line in 0..LINES {
        run.terminal_line(&format!("second {line}"), line).unwrap();
    }
    drop(run);
    root.wait_until_empty().await;
    let reader = Reader::connect(&server.query).await;
    let expected: Vec<_> = ["first", "second"]
        .iter()
        .flat_map(|writer| (0..LINES).map(move |line| format!("{writer} {line}")))
        .zip(0..)
        .map(|(line, number)| (number, line))
        .collect();
    eventually("all lines can be read", async || {
        let lines = reader.lines("printed").await.map_err(|status| status.to_string())?;
        if lines == expected { Ok(()) } else { Err(format!("{lines:?}")) }
    })
    .await;
}

/// Number of calls that a script says have returned.
pub(crate) fn counted(output: &Path) -> usize {
    let bytes = std::fs::read(output).unwrap_or_default();
    bytes.first_chunk().map_or(0, |count| u64::from_le_bytes(*count) as usize)
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_what_was_tracked_before_sigkill_is_stored_once() {
    kill_scripts(kills() - kills() / 4, "mapped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_a_written_spool_has_what_was_tracked_shortly_before_sigkill() {
    kill_scripts(kills() / 4, "written").await;
}

/// Time of the last write to a segment below a directory of spools.
fn last_copy(root: &SpoolRoot) -> Option<SystemTime> {
    let files = root.spools().into_iter().filter_map(|spool| spool.read_dir().ok()).flatten().flatten();
    let segments = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "seg"));
    // A segment that is stored disappears.
    segments.filter_map(|segment| segment.metadata().ok()?.modified().ok()).max()
}

/// Waits until a written spool has copied everything that was tracked before. A copy that has begun
/// earlier writes to two files at most, the last segments.
async fn copied(root: &SpoolRoot) {
    for _ in 0..3 {
        let before = last_copy(root);
        eventually("the spool is copied to its file", async || {
            let last = last_copy(root);
            if last > before { Ok(()) } else { Err(last) }
        })
        .await;
    }
}

/// Kills scripts, and checks that the points are stored, once and in order, which they had tracked before
/// the kill, or before the spool was copied to its file. Prints their numbers.
#[expect(clippy::print_stdout, reason = "figures of the test")]
async fn kill_scripts(kills: u32, mode: &str) {
    let is_written = mode == "written";
    let server = Server::up().await;
    let root = SpoolRoot::new();
    // This run only makes the process look for spools that others left.
    let parent = root.run(&server.ingest);
    let mut expected = Vec::new();
    for round in 0..kills {
        let id = format!("killed-{round}");
        let output = root.path().with_extension(format!("{round}.count"));
        let script = Script {
            name: "count",
            gateway_url: &server.ingest,
            backend_url: &server.query,
            run_id: &id,
            output: &output,
        };
        let mut child = script.start_with(&root, &[("MATYAN_SPOOL_MODE", mode)]);
        eventually("the script tracks", async || if counted(&output) > 0 { Ok(()) } else { Err(()) }).await;
        tokio::time::sleep(Duration::from_millis(u64::from(round * 37 % 400))).await;
        let counted_before = counted(&output);
        if is_written {
            copied(&root).await;
        }
        child.kill().expect("a child can be killed");
        child.wait().expect("a killed child can be waited for");
        let all = counted(&output);
        expected.push((id, if is_written { counted_before } else { all }, all));
        std::fs::remove_file(output).expect("the file exists");
    }
    drop(parent);
    root.wait_until_empty().await;
    let reader = Reader::connect(&server.query).await;
    let mut tracked = 0;
    let mut stored = 0;
    let mut doubled = 0;
    for (id, kept, all) in expected {
        let points = eventually("the points can be read", async || {
            let points = reader.points(&id, "loss", "").await.map_err(|status| status.to_string())?;
            if points.len() >= kept { Ok(points) } else { Err(format!("{} of {kept}", points.len())) }
        })
        .await;
        let steps: HashSet<i64> = points.iter().map(|point| point.step).collect();
        tracked += kept;
        stored += points.len();
        doubled += points.len() - steps.len();
        // The call that was interrupted may have happened.
        assert!(points.len() <= all + 1, "{} of {all}", points.len());
        assert!(points.iter().map(|point| point.step).eq(0..points.len() as i64), "in order, once each");
    }
    let lost = tracked.saturating_sub(stored);
    println!(
        "{kills} kills of scripts with {mode} spools: {tracked} points tracked before, {stored} stored, {lost} lost, \
         {doubled} doubled"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_damage_of_a_spool_that_another_process_left_is_reported() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let output = root.path().with_extension("damaged.count");
    let absent = "http://127.0.0.1:1";
    let script = Script {
        name: "count",
        gateway_url: absent,
        backend_url: absent,
        run_id: "damaged",
        output: &output,
    };
    let mut child = script.start(&root);
    eventually("the script tracks", async || if counted(&output) > 100 { Ok(()) } else { Err(()) }).await;
    child.kill().expect("a child can be killed");
    child.wait().expect("a killed child can be waited for");
    let segment = root.spools()[0].join("00000001.seg");
    let file = File::options().write(true).open(&segment).expect("the segment exists");
    // Without a connection, nothing after the first batch is read.
    file.write_all_at(&[0xff; 8], FIRST_PAYLOAD).expect("the file can be written");
    let run = root.run(&server.ingest);
    eventually("the damage is reported", async || {
        let notices = taken_notices(&run);
        let is_named = |message: &str| message.contains("is damaged") && message.contains("00000001.seg");
        if notices.iter().any(|notice| is_named(&notice.message)) { Ok(()) } else { Err(notices) }
    })
    .await;
    std::fs::remove_file(output).expect("the file exists");
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_another_process_sends_the_same_bytes() {
    let recorder = Recorder::start().await;
    let root = SpoolRoot::new();
    let output = root.path().with_extension("count");
    let script = Script {
        name: "count",
        gateway_url: &recorder.url,
        backend_url: &recorder.url,
        run_id: "resent",
        output: &output,
    };
    let mut child = script.start(&root);
    // Nothing is acknowledged, and every connection ends after some batches.
    recorder.wait_for_batches(20).await;
    child.kill().expect("a child can be killed");
    child.wait().expect("a killed child can be waited for");
    let connections = recorder.connections();
    let parent = root.run(&recorder.url);
    recorder.wait_for_connections_of(&recorder.first_producer(), connections + 2).await;
    recorder.acknowledge_all();
    drop(parent);
    root.wait_until_empty().await;
    recorder.assert_same_bytes();
    // Each number is in exactly one batch.
    let steps = recorder.steps(&recorder.first_producer());
    assert!(steps.len() >= counted(&output), "{} of {}", steps.len(), counted(&output));
    assert!(steps.iter().copied().eq(0..steps.len() as i64));
    std::fs::remove_file(output).expect("the file exists");
}
