//! Spools after a power failure. The kernel has written some of their files later than others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use matyan_sdk::{
    Content, Notice, Run, RunOptions, SyncOptions,
    http::{HttpError, Timeouts},
    reading::{BackendClient, BackendOptions},
};
use matyan_tests::{Reader, Server, eventually};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;

use crate::delivery::{
    child::Script,
    kill::counted,
    proxy::{Fault, Proxy},
    scene::{PATIENT, SpoolRoot, blocking, series},
};

/// Offsets in the journal: the boot in which it was started, the checksum of its header, and the last
/// sequence that was acknowledged.
const BOOT: usize = 32;
const CHECKSUM: usize = 52;
const ACKNOWLEDGED: usize = 56;

fn journal_path(spool: &Path) -> PathBuf {
    spool.join("cuts")
}

/// Steps that the script tracks slowly, so that the server acknowledges many small batches, before the rush.
const SLOW_STEPS: u64 = 2_000;
/// Steps of the rush: three segments, of 256 KiB, 4 MiB and a part of 4 MiB, with records of 32 bytes.
const RUSH_STEPS: u64 = 180_000;

/// The pause after a step of the script that fills several segments, and then slows down again.
pub(crate) fn pause_of_rush(step: u64) -> Duration {
    let is_rush = (SLOW_STEPS..SLOW_STEPS + RUSH_STEPS).contains(&step);
    if is_rush { Duration::ZERO } else { Duration::from_millis(1) }
}

/// Steps between the artifacts of the script before the rush, and afterwards.
const SLOW_ARTIFACTS: u64 = 200;
const RUSH_ARTIFACTS: u64 = 20_000;

fn is_artifact(step: u64) -> bool {
    step.is_multiple_of(if step < SLOW_STEPS { SLOW_ARTIFACTS } else { RUSH_ARTIFACTS })
}

fn artifact_path(step: u64) -> String {
    format!("artifacts/{step}")
}

/// Several pages of content. No two artifacts have the same content.
fn artifact_content(step: u64) -> Vec<u8> {
    (0..5 * PAGE as u64 + 7).map(|at| ((at * 31 + step / SLOW_ARTIFACTS) % 251) as u8).collect()
}

/// Logs an artifact after some steps of the script.
pub(crate) fn log_artifact_after(run: &Run, step: u64) {
    if is_artifact(step) {
        let content = artifact_content(step);
        run.log_artifact(Content::Bytes(&content), &artifact_path(step), None).expect("the path is valid");
    }
}

/// Returns the journal of the only spool once a sequence is acknowledged.
async fn journal_after(root: &SpoolRoot, sequence: u64) -> Vec<u8> {
    eventually("the server stores batches", async || {
        let spools = root.spools();
        let journal = spools.first().and_then(|spool| fs::read(journal_path(spool)).ok()).unwrap_or_default();
        let bytes = journal.get(ACKNOWLEDGED..).and_then(|bytes| bytes.first_chunk());
        let acknowledged = bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if acknowledged >= sequence { Ok(journal) } else { Err(acknowledged) }
    })
    .await
}

/// Changes a journal as if the machine had been started again since.
fn age(journal: &mut [u8]) {
    journal[BOOT..BOOT + 16].fill(0xee);
    let checksum = crc32c::crc32c(&journal[..CHECKSUM]);
    journal[CHECKSUM..CHECKSUM + 4].copy_from_slice(&checksum.to_le_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_an_older_journal_next_to_newer_records_loses_nothing() {
    let server = Server::up().await;
    let proxy = Proxy::start().await;
    proxy.set_target(&server.ingest);
    let root = SpoolRoot::new();
    let output = root.path().with_extension("count");
    // Slowly, so that batches are small: full batches would be cut at the same places again.
    let script = Script {
        name: "count slowly",
        gateway_url: &proxy.url,
        backend_url: &server.query,
        run_id: "failed",
        output: &output,
    };
    let mut child = script.start(&root);
    let mut older = journal_after(&root, 5).await;
    let acknowledged = older[ACKNOWLEDGED..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    journal_after(&root, acknowledged + 5).await;
    proxy.set_fault(Fault::Cut);
    let before = counted(&output);
    eventually("the script tracks on", async || match counted(&output) {
        count if count > before + 100 => Ok(()),
        count => Err(count),
    })
    .await;
    child.kill().expect("a child can be killed");
    child.wait().expect("a killed child can be waited for");
    let all = counted(&output);
    age(&mut older);
    fs::write(journal_path(&root.spools()[0]), older).expect("the journal can be written");
    proxy.set_fault(Fault::None);
    let config = root.config(&server.ingest);
    let (progress, notices) =
        blocking(move || matyan_sdk::sync(&config, &SyncOptions::default(), |_| true, |_| true)).await;
    assert_eq!((progress.spools, progress.finished), (1, 1), "{notices:?}");
    let reader = Reader::connect(&server.query).await;
    let points = eventually("the points can be read", async || {
        let points = reader.points("failed", "loss", "").await.map_err(|status| status.to_string())?;
        if points.len() >= all { Ok(points) } else { Err(format!("{} of {all}", points.len())) }
    })
    .await;
    // The call that was interrupted may have happened.
    assert!(points.len() <= all + 1, "{} of {all}", points.len());
    assert!(points.iter().map(|point| point.step).eq(0..points.len() as i64), "in order, once each");
    let is_named = |message: &str| message.contains("some data may be sent twice");
    assert!(notices.iter().any(|notice| is_named(&notice.message)), "{notices:?}");
    fs::remove_file(output).expect("the file exists");
}

const PAGE: usize = 4_096;

/// Number of seeds: 3, or as `MATYAN_POWER_FAILURES` specifies.
fn seeds() -> u32 {
    #[expect(clippy::disallowed_methods, reason = "the length of a test is its only setting")]
    let asked = std::env::var("MATYAN_POWER_FAILURES");
    asked.map_or(3, |seeds| seeds.parse().expect("MATYAN_POWER_FAILURES is a number"))
}

fn uploads_of(spool: &Path) -> PathBuf {
    spool.join("uploads")
}

/// The files of a spool, with the files of its uploads.
fn files_of(spool: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = [spool.to_owned(), uploads_of(spool)].into_iter().filter_map(|it| fs::read_dir(it).ok());
    let entries = folders.flatten().filter_map(Result::ok);
    let paths = entries.map(|entry| entry.path()).filter(|path| path.is_file());
    paths.filter_map(|path| Some((path.clone(), fs::read(path).ok()?))).collect()
}

/// Pages of either content; a page that one of them lacks is zeros there. Many pages are old, or few, or none.
fn mixed(old: &[u8], new: &[u8], random: &mut StdRng) -> Vec<u8> {
    let share_of_old = [0.0, 0.01, 0.5][random.random_range(0..3)];
    let mut mixed = Vec::with_capacity(new.len());
    while mixed.len() < new.len() {
        let from = if random.random_bool(share_of_old) { old } else { new };
        let page = from.get(mixed.len()..).unwrap_or_default();
        let mut page = page[..page.len().min(PAGE)].to_vec();
        page.resize(PAGE.min(new.len() - mixed.len()), 0);
        mixed.append(&mut page);
    }
    mixed
}

/// Steps whose records are complete in a file of a segment.
fn steps_in(path: &Path, content: &[u8]) -> BTreeSet<i64> {
    const RECORD: usize = 32;
    const POINT_HEAD: [u8; 4] = [1, 24, 0, 0];
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(number) = name.strip_suffix(".seg") else { return BTreeSet::new() };
    let number: u32 = number.parse().expect("segments have numbers");
    let last = content.len().saturating_sub(RECORD);
    let records = (64..=last).step_by(8).map(|offset| (offset, &content[offset..][..RECORD]));
    let is_complete = |offset: usize, record: &[u8]| {
        if !record.starts_with(&POINT_HEAD) {
            return false;
        }
        let position = (u64::from(number) << 32 | offset as u64).to_le_bytes();
        let covered = [&position[..], &POINT_HEAD, &[0; 4], &record[8..]].concat();
        record[4..8] == crc32c::crc32c(&covered).to_le_bytes()
    };
    let complete = records.filter(|(offset, record)| is_complete(*offset, record));
    complete.filter_map(|(_, record)| Some(i64::from_le_bytes(*record[16..].first_chunk()?))).collect()
}

/// The parts of a spool that a power failure has left.
#[derive(Default)]
struct Remains {
    /// Steps of points whose records are complete.
    steps: BTreeSet<i64>,
    /// Paths of artifacts whose manifests are complete.
    artifacts: BTreeSet<String>,
    /// Paths of artifacts whose manifests are damaged.
    undescribed: BTreeSet<String>,
}

/// Writes every file of a spool to disk in part, and leaves some deletions out, as a power failure does.
fn damage(spool: &Path, older: &BTreeMap<PathBuf, Vec<u8>>, random: &mut StdRng) -> Remains {
    let mut remains = Remains::default();
    for (path, new) in files_of(spool) {
        let old = older.get(&path).map(Vec::as_slice).unwrap_or_default();
        let mut content = mixed(old, &new, random);
        if path == journal_path(spool) {
            age(&mut content);
        }
        if old.is_empty() && !random.random_bool(0.8) {
            fs::remove_file(&path).expect("the file exists");
            continue;
        }
        remains.steps.append(&mut steps_in(&path, &content));
        if path.extension().is_some_and(|extension| extension == "json") {
            let manifest: Value = serde_json::from_slice(&new).expect("a manifest appears in one step");
            let artifact = manifest["path"].as_str().expect("a manifest has a path").to_owned();
            if content == new {
                remains.artifacts.insert(artifact);
            } else {
                remains.undescribed.insert(artifact);
            }
        }
        fs::write(&path, content).expect("the spool can be written");
    }
    for (path, old) in older {
        if path.starts_with(uploads_of(spool)) && !path.exists() && random.random_bool(0.5) {
            fs::write(path, old).expect("the spool can be written");
        }
    }
    remains
}

/// Checks that every artifact is stored as it was logged, or is missing with a notice if its manifest was left.
fn check_artifacts(query: &str, steps: u64, remains: &Remains, notices: &[Notice]) {
    let is_named = |loss: &str| notices.iter().any(|notice| notice.message.contains(loss));
    let options = BackendOptions {
        timeouts: Timeouts::default(),
        interrupted: || false,
        runtime: matyan_sdk::io_runtime,
    };
    let backend = BackendClient::new(query, options).expect("the options are valid");
    for step in (0..=steps).filter(|step| is_artifact(*step)) {
        let path = artifact_path(step);
        match backend.artifact("failed", &path).and_then(|body| body.into_bytes()) {
            Ok(content) => assert!(content == artifact_content(step), "{path} has other content"),
            Err(HttpError::NotFound { .. }) => {
                let is_reported =
                    !remains.artifacts.contains(&path) || is_named(&format!("{path} was not uploaded"));
                assert!(is_reported, "{path} is lost: {notices:?}");
                // The manifest of a file that is stored already is not read any more.
                let is_described = !remains.undescribed.contains(&path);
                assert!(is_described || is_named("the description of a file is damaged"), "{notices:?}");
            }
            Err(error) => panic!("{path}: {error}"),
        }
    }
}

/// Every file of the spool is written to disk in part. What is stored afterwards was tracked, once each; all that the
/// server had acknowledged is still there, and a loss has a notice. Artifacts are complete, or missing.
async fn lose_pages_of_a_spool(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let server = Server::up().await;
    let proxy = Proxy::start().await;
    proxy.set_target(&server.ingest);
    let root = SpoolRoot::new();
    let output = root.path().with_extension("count");
    let script = Script {
        name: "count in a rush",
        gateway_url: &proxy.url,
        backend_url: &server.query,
        run_id: "failed",
        output: &output,
    };
    let mut child = script.start(&root);
    journal_after(&root, random.random_range(1..8)).await;
    let spool = root.spools().remove(0);
    let older = files_of(&spool);
    let before = counted(&output);
    eventually("the script tracks on", async || match counted(&output) {
        count if count > before + 200 => Ok(()),
        count => Err(count),
    })
    .await;
    proxy.set_fault(Fault::Cut);
    let acknowledged = counted_points(&server).await;
    let wanted = counted(&output).max(random.random_range(0..(SLOW_STEPS + RUSH_STEPS) as usize));
    eventually("the script tracks on", async || match counted(&output) {
        count if count > wanted => Ok(()),
        count => Err(count),
    })
    .await;
    child.kill().expect("a child can be killed");
    child.wait().expect("a killed child can be waited for");
    let all = counted(&output);
    let remains = damage(&spool, &older, &mut random);
    proxy.set_fault(Fault::None);
    let config = root.config(&server.ingest);
    let (progress, notices) =
        blocking(move || matyan_sdk::sync(&config, &SyncOptions::default(), |_| true, |_| true)).await;
    assert_eq!((progress.spools, progress.finished), (1, 1), "seed {seed}: {notices:?}");
    wait_until_applied(&server, &root).await;
    let reader = Reader::connect(&server.query).await;
    let points = reader.points("failed", "loss", "").await.expect("the run exists");
    assert!(points.len() >= acknowledged, "seed {seed}: {} of {acknowledged}", points.len());
    assert!(points.is_sorted_by(|point, next| point.step < next.step), "seed {seed}: in order, once each");
    let is_named = |loss: &str| notices.iter().any(|notice| notice.message.contains(loss));
    assert!(points.len() >= all || is_named("the last data may be missing"), "seed {seed}: {notices:?}");
    let stored: BTreeSet<_> = points.iter().map(|point| point.step).collect();
    // Records are on the disk that follow a lost one.
    let unsent = remains.steps.difference(&stored).count();
    assert!(unsent == 0 || is_named(".seg is damaged"), "seed {seed}: {unsent} points, {notices:?}");
    for point in points {
        // The call that was interrupted may have happened.
        assert!((0..=all as i64).contains(&point.step), "seed {seed}: {}", point.step);
        assert_eq!(point.value, point.step as f64, "seed {seed}");
    }
    let query = server.query.clone();
    blocking(move || check_artifacts(&query, all as u64, &remains, &notices)).await;
    fs::remove_file(output).expect("the file exists");
}

/// Waits until all that was stored of the run can be read. Records of a run are applied in order, so a last
/// point shows it.
async fn wait_until_applied(server: &Server, root: &SpoolRoot) {
    let mut options = RunOptions { run_id: Some("failed".to_owned()), ..root.options(&server.ingest) };
    options.config.backend_url.clone_from(&server.query);
    blocking(move || {
        let run = Run::new(options).expect("the options are valid");
        run.track(&series(&run, "last"), 0.0, Some(0), None);
        run.close(PATIENT, |_| true)
    })
    .await;
    let reader = Reader::connect(&server.query).await;
    eventually("the last point can be read", async || {
        let points = reader.points("failed", "last", "").await.map_err(|status| status.to_string())?;
        if points.len() == 1 { Ok(()) } else { Err(format!("{} points", points.len())) }
    })
    .await;
}

/// Number of points that can be read.
async fn counted_points(server: &Server) -> usize {
    let reader = Reader::connect(&server.query).await;
    eventually("the run exists", async || {
        reader
            .points("failed", "loss", "")
            .await
            .map(|points| points.len())
            .map_err(|error| error.to_string())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_93_a_power_failure_stores_nothing_that_was_not_tracked() {
    for _ in 0..seeds() {
        let seed = rand::random();
        println!("seed {seed}");
        lose_pages_of_a_spool(seed).await;
    }
}
