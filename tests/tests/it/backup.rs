//! Damaged archives, and backups and restores that are interrupted at any point: the real
//! commands against real servers.

#![expect(
    clippy::unwrap_used,
    reason = "tests fail by panicking, and the lint does not recognize helpers of tests"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use matyan_tests::{
    Reader, Server, Service, eventually,
    json::{JsonWriter, create_run, finish_run, log_record, metric},
    server::binary,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Runs the binary without blocking the runtime.
async fn command(server: &str, words: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(binary());
    command.args(words).args(["--server", server, "--json"]).env_clear().stdin(Stdio::null());
    command.output().await.expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn json_of(server: &str, words: &[&str]) -> Value {
    let output = command(server, words).await;
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the output is JSON")
}

async fn backup(server: &str, into: &Path) -> PathBuf {
    let report = json_of(server, &["backup", into.to_str().expect("text")]).await;
    PathBuf::from(report["archive"].as_str().expect("the output names the archive"))
}

async fn log(server: &Server, run_id: &str, frames: &[Value]) {
    let mut writer = JsonWriter::connect(&server.ingest, run_id).await.expect("the server listens");
    for frame in frames {
        writer.send(frame).await.expect("the frame is acknowledged");
    }
}

async fn run_json(server: &Server, run_id: &str) -> Option<Value> {
    let output = command(&server.query, &["runs", "show", run_id]).await;
    output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("the output is JSON"))
}

/// Logs a finished run with points, an object, a record, a line and blobs.
async fn log_run(server: &Server, run_id: &str, points: i64) {
    let object = json!({
        "type": "log_custom_object", "name": "texts", "step": 0, "dtype": "text",
        "value": {"type": "text", "data": "x".repeat(200)},
    });
    let line = json!({"type": "log_terminal_line", "line": "a line", "step": 0});
    log(server, run_id, &[create_run(), object, line, log_record("learning", 1.5)]).await;
    let values: Vec<Value> =
        (0..points).map(|step| metric("loss", (step as f64).sin(), Some(step))).collect();
    for frame in values.chunks(1_000) {
        log(server, run_id, &[json!(frame)]).await;
    }
    // Two artifacts cannot have these paths in one directory tree: the first one is a prefix of the second.
    for (path, size) in [("a/b.bin", 300_000), ("a/b.bin/inner", 3)] {
        upload(server, run_id, path, size).await;
    }
    log(server, run_id, &[finish_run()]).await;
    eventually("the run is finished", async || match run_json(server, run_id).await {
        Some(run) if run["active"] == false => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn upload(server: &Server, run_id: &str, path: &str, size: usize) {
    let client = reqwest::Client::new();
    let request = json!({"run_id": run_id, "artifact_path": path, "content_type": "text/plain"});
    let url = format!("{}/api/v1/rest/artifacts/presign", server.ingest);
    let signed: Value = client.post(url).json(&request).send().await.unwrap().json().await.unwrap();
    let put = client.put(signed["upload_url"].as_str().unwrap()).header("content-type", "text/plain");
    assert!(put.body(vec![7_u8; size]).send().await.unwrap().status().is_success());
    let key = &signed["s3_key"];
    let blob =
        json!({"type": "blob_ref", "artifact_path": path, "s3_key": key, "content_type": "text/plain"});
    log(server, run_id, &[blob]).await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            assert!(fs::copy(entry.path(), target).is_ok());
        }
    }
}

/// Every file of the runs by path, without the data that depends on the log that a run came from.
fn contents(archive: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![archive.join("runs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(archive).unwrap().to_owned();
            let mut bytes = fs::read(&path).unwrap();
            if inside.ends_with("run.json") {
                let mut run: Value = serde_json::from_slice(&bytes).unwrap();
                run.as_object_mut().unwrap().shift_remove("cursor");
                bytes = serde_json::to_vec(&run).unwrap();
            }
            if !inside.ends_with("producers.jsonl") {
                found.insert(inside, bytes);
            }
        }
    }
    found
}

/// Compares the runs of two archives, and reports the first difference.
fn assert_same(left: &Path, right: &Path, what: &str) {
    let left = contents(left);
    let right = contents(right);
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>(), "{what}");
    for (file, left) in &left {
        let right = &right[file];
        let at = left.iter().zip(right).position(|(left, right)| left != right);
        let around = |bytes: &[u8]| {
            let at = at.unwrap_or(left.len().min(right.len()));
            text(&bytes[at.saturating_sub(80)..bytes.len().min(at + 80)])
        };
        assert!(left == right, "{what}: {} has\n{}\nand\n{}", file.display(), around(left), around(right));
    }
}

fn edit(archive: &Path, file: &str, from: &str, to: &str) {
    let path = archive.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from}: {text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

type Damage = (&'static str, &'static str, fn(&Path));

/// Ways to damage an archive with checksums, each with the file and the reason that the error must contain.
const SUMMED: &[Damage] = &[
    ("runs/r/sequences.jsonl", "has changed since the backup", |it| {
        edit(it, "runs/r/sequences.jsonl", "0.8414", "0.8415")
    }),
    ("runs/r/attrs.json", "has changed since the backup", |it| edit(it, "runs/r/attrs.json", "{", "{ ")),
    ("runs/r/blobs/a/b.bin", "has changed since the backup", |it| {
        fs::write(it.join("runs/r/blobs/a/b.bin"), "other").unwrap()
    }),
    ("runs/r/blobs/a/b.bin", "is missing", |it| fs::remove_file(it.join("runs/r/blobs/a/b.bin")).unwrap()),
    ("runs/r/blobs/new", "is not part of the backup", |it| {
        fs::write(it.join("runs/r/blobs/new"), "").unwrap()
    }),
    ("entities.jsonl", "has changed since the backup", |it| {
        fs::write(it.join("entities.jsonl"), "{}").unwrap()
    }),
    ("runs/r/sequences.jsonl", "is missing", |it| {
        fs::remove_file(it.join("runs/r/sequences.jsonl")).unwrap()
    }),
    ("runs/r/link", "neither a file nor a folder", |it| {
        std::os::unix::fs::symlink("/etc/passwd", it.join("runs/r/link")).unwrap()
    }),
];

/// Ways to damage an archive without checksums, as another tool might write it.
const UNSUMMED: &[Damage] = &[
    ("manifest.json", "not valid JSON", |it| fs::write(it.join("manifest.json"), "{").unwrap()),
    ("manifest.json", "format 2", |it| {
        edit(it, "manifest.json", "\"format_version\": 1", "\"format_version\": 2")
    }),
    ("manifest.json", "`format_version` is missing", |it| edit(it, "manifest.json", "format_version", "x")),
    ("", "has no manifest.json", |it| fs::remove_file(it.join("manifest.json")).unwrap()),
    ("runs", "is missing", |it| fs::remove_dir_all(it.join("runs")).unwrap()),
    ("runs/r", "is in the manifest but missing", |it| fs::remove_dir_all(it.join("runs/r")).unwrap()),
    ("runs/extra", "is not in the manifest", |it| fs::create_dir(it.join("runs/extra")).unwrap()),
    ("runs/r/run.json", "is missing", |it| fs::remove_file(it.join("runs/r/run.json")).unwrap()),
    ("runs/r/run.json", "is in the folder of another run", |it| {
        edit(it, "runs/r/run.json", "\"hash\": \"r\"", "\"hash\": \"s\"")
    }),
    ("runs/r/run.json", "`created_at` is not a number", |it| {
        edit(it, "runs/r/run.json", "\"created_at\": ", "\"created_at\": \"x\", \"y\": ")
    }),
    ("runs/r/attrs.json", "not a JSON object", |it| fs::write(it.join("runs/r/attrs.json"), "[]").unwrap()),
    ("runs/r/traces.json", "not valid JSON", |it| fs::write(it.join("runs/r/traces.json"), "[{").unwrap()),
    ("runs/r/contexts.json", "is not a context", |it| {
        fs::write(it.join("runs/r/contexts.json"), "{\"x\": 1}").unwrap()
    }),
    ("runs/r/sequences.jsonl", "line 3: not valid JSON", |it| {
        let path = it.join("runs/r/sequences.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        let third = text.lines().take(3).map(|line| line.len() + 1).sum::<usize>();
        fs::write(path, &text[..third - 9]).unwrap();
    }),
    ("runs/r/sequences.jsonl", "context 77 is not in contexts.json", |it| {
        edit(
            it,
            "runs/r/sequences.jsonl",
            "\"ctx_id\": 0, \"name\": \"loss\", \"step\": 1500",
            "\"ctx_id\": 77, \"name\": \"loss\", \"step\": 1500",
        )
    }),
    ("runs/r/sequences.jsonl", "`step` is not an integer", |it| {
        edit(it, "runs/r/sequences.jsonl", "\"step\": 1500", "\"step\": 1500.5")
    }),
    ("runs/r/sequences.jsonl", "neither a number nor an object", |it| {
        edit(it, "runs/r/sequences.jsonl", "\"value\": 0.8414709848078965", "\"value\": \"0.84\"")
    }),
    ("entities.jsonl", "line 1: `data` is missing", |it| {
        fs::write(it.join("entities.jsonl"), "{\"entity_type\": \"tag\"}\n").unwrap()
    }),
];

#[tokio::test]
async fn a_damaged_archive_is_refused_with_the_file_and_the_reason() {
    let server = Server::up().await;
    log_run(&server, "r", 2_000).await;
    let directory = TempDir::new().unwrap();
    let archive = backup(&server.query, directory.path()).await;
    let empty = Server::up().await;
    let cases = SUMMED.iter().map(|case| (case, true)).chain(UNSUMMED.iter().map(|case| (case, false)));
    for (((file, reason, damage), is_summed), number) in cases.zip(0..) {
        let copied = directory.path().join(format!("case-{number}"));
        copy(&archive, &copied);
        if !is_summed {
            fs::remove_file(copied.join("checksums.sha256")).unwrap();
        }
        damage(&copied);
        for words in
            [&["restore", copied.to_str().unwrap()][..], &["restore", copied.to_str().unwrap(), "--dry-run"]]
        {
            let output = command(&empty.query, words).await;
            let report = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{file} {reason}: {report}");
            assert!(report.contains(file) && report.contains(reason), "{file} {reason}: {report}");
        }
        assert_eq!(run_json(&empty, "r").await, None, "nothing was restored: {file} {reason}");
    }
    // An undamaged archive is still accepted.
    let report = json_of(&empty.query, &["restore", archive.to_str().unwrap(), "--dry-run"]).await;
    assert_eq!((&report["runs_restored"], run_json(&empty, "r").await), (&json!(1), None));
    json_of(&empty.query, &["restore", archive.to_str().unwrap()]).await;
    assert!(run_json(&empty, "r").await.is_some());
}

/// A proxy that lets a limited number of bytes through in one direction, and then closes every connection.
struct InterruptingProxy {
    url: String,
    left: Arc<AtomicI64>,
    task: tokio::task::JoinHandle<()>,
}

impl InterruptingProxy {
    async fn start(server: &str, counts_answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let target = server.trim_start_matches("http://").to_owned();
        let left = Arc::new(AtomicI64::new(0));
        let budget = left.clone();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let target = target.clone();
                let budget = budget.clone();
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(&target).await else { return };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    let unlimited = Arc::new(AtomicI64::new(i64::MAX));
                    let (up, down) = if counts_answers { (unlimited, budget) } else { (budget, unlimited) };
                    // The direction that ends first closes the other one.
                    tokio::select! {
                        () = forward(from_client, to_server, &up) => {}
                        () = forward(from_server, to_client, &down) => {}
                    }
                });
            }
        });
        Self { url, left, task }
    }

    fn allow(&self, bytes: i64) {
        self.left.store(bytes, Ordering::SeqCst);
    }
}

impl Drop for InterruptingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, left: &AtomicI64) {
    let mut buffer = vec![0; 8 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if left.fetch_sub(read as i64, Ordering::SeqCst) < read as i64
            || to.write_all(&buffer[..read]).await.is_err()
        {
            return;
        }
    }
}

#[tokio::test]
async fn interrupted_backups_and_restores_resume() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let server = Server::up().await;
    for run in ["one", "two", "three"] {
        log_run(&server, run, 20_000).await;
    }
    let directory = TempDir::new().unwrap();
    let whole = backup(&server.query, &directory.path().join("whole")).await;

    let proxy = InterruptingProxy::start(&server.query, true).await;
    let into = directory.path().join("cut");
    let mut cuts = 0;
    let cut = loop {
        proxy.allow(random.random_range(1_000..1_000_000));
        let output = command(&proxy.url, &["backup", into.to_str().unwrap()]).await;
        if output.status.success() {
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            break PathBuf::from(report["archive"].as_str().unwrap());
        }
        cuts += 1;
        assert!(cuts < 200, "{}", text(&output.stderr));
    };
    println!("the backup was interrupted {cuts} times");
    assert_same(&whole, &cut, &format!("seed {seed}"));
    assert_eq!(fs::read_dir(&into).unwrap().count(), 1, "every attempt resumes the previous one");

    let mut target = Server::up().await;
    let mut cuts = 0;
    loop {
        let proxy = InterruptingProxy::start(&target.query, false).await;
        proxy.allow(random.random_range(1_000..600_000));
        let output = command(&proxy.url, &["restore", cut.to_str().unwrap()]).await;
        if output.status.success() {
            break;
        }
        for run in ["one", "two", "three"] {
            if let Some(run) = run_json(&target, run).await {
                assert_eq!(run["active"], false, "a visible run is complete");
            }
        }
        cuts += 1;
        assert!(cuts < 200, "{}", text(&output.stderr));
        if cuts % 2 == 0 {
            target.kill();
            target.start().await;
        }
    }
    println!("the restore was interrupted {cuts} times, and the server killed every second time");
    let again = backup(&target.query, &directory.path().join("again")).await;
    assert_same(&whole, &again, &format!("seed {seed}"));
}

#[tokio::test]
async fn a_run_deleted_during_a_backup_is_skipped() {
    let server = Server::up().await;
    log_run(&server, "doomed", 20_000).await;
    log_run(&server, "kept", 10).await;
    let directory = TempDir::new().unwrap();
    let proxy = InterruptingProxy::start(&server.query, true).await;
    let into = directory.path().to_str().unwrap();
    // Interrupt later and later, until a part of the run has arrived.
    for allowed in 1.. {
        proxy.allow(allowed * 4_096);
        let output = command(&proxy.url, &["backup", into]).await;
        assert!(!output.status.success(), "the backup is interrupted within the first run");
        let begun = fs::read_dir(into).unwrap().next().map(|entry| entry.unwrap().path());
        if begun.is_some_and(|root| root.join(".parts/doomed").exists()) {
            break;
        }
    }
    let url = format!("{}/api/v1/rest/runs/doomed/", server.query);
    assert!(reqwest::Client::new().delete(url).send().await.unwrap().status().is_success());
    eventually("the run is deleted", async || match run_json(&server, "doomed").await {
        None => Ok(()),
        Some(run) => Err(run.to_string()),
    })
    .await;
    proxy.allow(i64::MAX);
    let report = json_of(&proxy.url, &["backup", into]).await;
    assert_eq!((&report["runs"], &report["resumed"]), (&json!(1), &json!(true)));
    let empty = Server::up().await;
    let restored = json_of(&empty.query, &["restore", report["archive"].as_str().unwrap()]).await;
    assert_eq!(restored["runs_restored"], 1);
}

/// A worker that reads the rest of a log creates runs that have only the records in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_53_runs_that_differ_from_those_of_the_archive_are_named() {
    let source = Server::up().await;
    log_run(&source, "whole", 20).await;
    log_run(&source, "half", 20).await;
    let folder = TempDir::new().unwrap();
    let archive = backup(&source.query, folder.path()).await;
    let restore = ["restore", archive.to_str().unwrap()];
    // In the store that the archive is from, all runs are the same.
    let report = json_of(&source.query, &restore).await;
    assert_eq!((&report["runs_restored"], &report["runs_recreated"]), (&json!(0), &json!([])), "{report}");
    let target = Server::up().await;
    log_run(&target, "half", 3).await;
    let output = command(&target.query, &restore).await;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["runs_restored"], &report["runs_recreated"]), (&json!(1), &json!(["half"])));
    assert!(text(&output.stderr).contains("half"), "{}", text(&output.stderr));
}

/// Waits until a run has this many points, and checks that these are all of its steps from the first one on, once each.
async fn expect_steps(server: &Server, run_id: &str, steps: std::ops::Range<i64>) {
    let reader = Reader::connect(&server.query).await;
    let wanted = steps.clone().count();
    let points = eventually("the points can be read", async || {
        let points = reader.points(run_id, "loss", "").await.map_err(|status| status.to_string())?;
        if points.len() >= wanted { Ok(points) } else { Err(format!("{} of {wanted} points", points.len())) }
    })
    .await;
    assert!(points.iter().map(|point| point.step).eq(steps), "{points:?}");
}

/// The store is lost, and the log has only what came after the last trim.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_70_a_worker_waits_for_a_restore_if_its_store_was_lost() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut server = Server::up_on(&data).await;
    log_run(&server, "r", 100).await;
    eventually("all of the log is trimmed", async || {
        let partition = json_of(&server.query, &["partitions", "ls"]).await;
        let is_trimmed = partition["end"].as_u64() > Some(0) && partition["first"] == partition["end"];
        if is_trimmed { Ok(()) } else { Err(partition) }
    })
    .await;
    let archive = backup(&server.query, &folder.path().join("backups")).await;
    let restore = ["restore", archive.to_str().unwrap()];
    server.kill();
    fs::remove_dir_all(data.join("store")).unwrap();

    server.start().await;
    eventually("the worker waits", async || {
        let partition = json_of(&server.query, &["partitions", "ls"]).await;
        let has_stopped = server.log().contains("the log has lost its first records; stopped partition");
        if has_stopped && partition["is_headless"] == true { Ok(()) } else { Err(partition) }
    })
    .await;
    // Clients go on, and their data is acknowledged.
    let later: Vec<Value> = (100..150).map(|step| metric("loss", (step as f64).sin(), Some(step))).collect();
    log(&server, "r", &[json!(later)]).await;
    let listed = command(&server.query, &["runs", "ls"]).await;
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    assert_eq!(text(&listed.stdout), "", "no run is created");
    server.kill();
    let other = folder.path().join("other");
    copy(&data, &other);

    // As the documentation advises, only the query side runs during the restore.
    let mut backend = Service::new("backend", folder.path())
        .flag("store", "embedded:")
        .flag("log", "embedded:")
        .flag("blobs", "embedded:")
        .flag("data-dir", data.to_str().unwrap());
    backend.start().await;
    let report = json_of(backend.address("query"), &restore).await;
    assert_eq!((&report["runs_restored"], &report["runs_recreated"]), (&json!(1), &json!([])), "{report}");
    assert_eq!(
        (&report["log_positions_taken"], &report["log_records_lost"]),
        (&json!(true), &json!(0)),
        "{report}"
    );
    assert!(backend.terminate().await.success(), "{}", backend.log());
    server.start().await;
    expect_steps(&server, "r", 0..150).await;

    // Here, the operator gives up the first records, so the run is created from the others.
    let server = Server::up_on(&other).await;
    json_of(&server.query, &["partitions", "skip", "0"]).await;
    expect_steps(&server, "r", 100..150).await;
    let output = command(&server.query, &restore).await;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["runs_restored"], &report["runs_recreated"]), (&json!(0), &json!(["r"])), "{report}");
    expect_steps(&server, "r", 100..150).await;
}

/// Removes the file of a blob from the embedded blob store. Exactly one path must contain `ending`.
fn lose(server: &Server, ending: &str) {
    let mut found = Vec::new();
    let mut folders = vec![server.data_dir().join("blobs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().contains(ending) {
                found.push(path);
            }
        }
    }
    assert_eq!(found.len(), 1, "{ending}: {found:?}");
    fs::remove_file(&found[0]).unwrap();
}

#[tokio::test]
async fn lost_blobs_are_listed_and_everything_else_is_kept() {
    let server = Server::up().await;
    let large = json!({
        "type": "log_custom_object", "name": "texts", "step": 1, "dtype": "text",
        "value": {"type": "text", "data": "y".repeat(200_000)},
    });
    log(&server, "r", &[create_run(), large]).await;
    log_run(&server, "r", 100).await;
    log_run(&server, "whole", 100).await;
    let directory = TempDir::new().unwrap();
    let before = json_of(&server.query, &["backup", directory.path().join("before").to_str().unwrap()]).await;
    assert_eq!((&before["blobs_lost"], &before["blobs"]), (&json!(0), &json!(4)));

    lose(&server, "/r.d/.matyan.d/");
    lose(&server, "/r.d/a.d/b.bin.f");
    let output = command(&server.query, &["backup", directory.path().join("after").to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("2 blobs that runs refer to are missing"),
        "{}",
        text(&output.stderr)
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["runs"], &report["runs_deleted_meanwhile"]), (&json!(2), &json!(0)), "{report}");
    assert_eq!((&report["blobs_lost"], &report["blobs"]), (&json!(2), &json!(3)), "{report}");
    assert_eq!(report["blobs_lost_are_listed_in"], json!(["runs/r/lost.jsonl"]));
    let archive = PathBuf::from(report["archive"].as_str().unwrap());
    let lost = fs::read_to_string(archive.join("runs/r/lost.jsonl")).unwrap();
    let lost: Vec<Value> = lost.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lost[0]["name"], &lost[0]["step"]), (&json!("texts"), &json!(1)), "{lost:?}");
    assert_eq!(lost[1], json!({"s3_key": "r/a/b.bin", "artifact": "a/b.bin"}));
    // Only the lost blobs differ from the earlier backup.
    let mut whole = contents(Path::new(before["archive"].as_str().unwrap()));
    let kept = contents(&archive);
    whole.remove(Path::new("runs/r/blobs/a/b.bin")).unwrap();
    // Without the lost artifact, the other one can use its own path.
    whole.retain(|file, _| !file.to_string_lossy().contains("runs/r/blobs/~"));
    let changed = ["r/blobs.jsonl", "r/sequences.jsonl", "r/traces.json"];
    for (file, content) in &whole {
        let may_differ = changed.iter().any(|changed| file.ends_with(changed));
        assert!(may_differ || kept[file] == *content, "{}", file.display());
    }
    let steps = Path::new("runs/r/sequences.jsonl");
    let small = |bytes: &[u8]| {
        let text = text(bytes);
        text.lines().filter(|line| !line.contains("yyy")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(small(&whole[steps]), small(&kept[steps]));

    let target = Server::up().await;
    let restored = json_of(&target.query, &["restore", archive.to_str().unwrap()]).await;
    assert_eq!((&restored["runs_restored"], &restored["blobs_lost"]), (&json!(2), &json!(2)), "{restored}");
    let output = command(&target.query, &["backup", directory.path().join("again").to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(3), "an artifact is kept even if its content is lost");
    let again: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(again["blobs_lost"], json!(1), "{again}");
}
