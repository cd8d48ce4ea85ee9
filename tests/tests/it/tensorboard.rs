//! Event files of TensorBoard that a command or the server itself follows: what a writer has added is stored once,
//! whatever is killed.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use matyan_tests::{Reader, Server, eventually, server::binary};
use prost::Message;
use serde_json::Value;
use tempfile::TempDir;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    number: Option<f32>,
}

fn masked_crc32c(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn framed(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    [&length[..], &masked_crc32c(&length), content, &masked_crc32c(content)].concat()
}

/// The value of `loss` at a step.
fn loss(step: i64) -> f32 {
    1.0 / (step as f32 + 1.0)
}

fn record(step: i64) -> Vec<u8> {
    let value = SummaryValue { tag: "loss".to_owned(), number: Some(loss(step)) };
    let summary = Some(Summary { values: vec![value] });
    framed(&Event { wall_time: 1e9 + step as f64, step, summary }.encode_to_vec())
}

/// The first record of a file, begun at this number of seconds.
fn first_record(begun: u32) -> Vec<u8> {
    framed(&Event { wall_time: f64::from(begun), ..Event::default() }.encode_to_vec())
}

/// An event file below a directory, begun at this number of seconds.
fn event_file(root: &Path, folder: &str, begun: u32) -> PathBuf {
    let folder = root.join(folder);
    fs::create_dir_all(&folder).expect("the directory is writable");
    let path = folder.join(format!("events.out.tfevents.{begun}.host"));
    fs::write(&path, first_record(begun)).expect("the directory is writable");
    path
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(path).expect("the file exists");
    file.write_all(bytes).expect("the disk has room");
}

fn append_steps(path: &Path, steps: std::ops::Range<i64>) {
    append(path, &steps.flat_map(record).collect::<Vec<u8>>());
}

/// `matyan follow` for the given server, in a clean environment.
fn follow(server: &Server, root: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("follow").arg(root).args(words).args(["--server", &server.query]);
    command.env_clear().stdin(Stdio::null());
    command
}

/// The result of `matyan follow --once`.
fn follow_once(server: &Server, root: &Path) -> Value {
    let command = &mut follow(server, root, &["--once", "--json"]);
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).expect("the result is JSON")
}

/// The id of the only run with this name.
async fn run_named(server: &Server, name: &str) -> String {
    let query = format!("run.name == '{name}'");
    eventually("the run is there", async || {
        let mut command = Command::new(binary());
        command.args(["runs", "search", &query, "--json", "--server", &server.query]).env_clear();
        let output = command.output().map_err(|error| error.to_string())?;
        let lines = String::from_utf8_lossy(&output.stdout);
        let runs: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        match &*runs {
            [run] => Ok(run["run_id"].as_str().expect("an id is text").to_owned()),
            other => Err(format!("{other:?} {}", String::from_utf8_lossy(&output.stderr))),
        }
    })
    .await
}

/// Waits until a run has exactly the points of these steps.
async fn until_stored(server: &Server, run_id: &str, steps: i64) {
    let reader = Reader::connect(&server.query).await;
    let points = eventually("all points are stored", async || {
        let points = reader.points(run_id, "loss", "").await.map_err(|status| status.to_string())?;
        if points.len() as i64 == steps { Ok(points) } else { Err(points.len().to_string()) }
    })
    .await;
    for (point, step) in points.iter().zip(0..) {
        let time_us = Some((1_000_000_000 + step) * 1_000_000);
        assert_eq!((point.step, point.value, point.time_us), (step, f64::from(loss(step)), time_us));
    }
}

#[tokio::test]
async fn what_is_added_to_a_file_is_stored_once() {
    let server = Server::up().await;
    let root = TempDir::new().expect("the temporary directory is writable");
    let file = event_file(root.path(), "a", 1_000);
    append_steps(&file, 0..1_000);
    // A torn record, which a later write completes.
    let torn = record(1_000);
    append(&file, &torn[..torn.len() - 5]);
    let first = follow_once(&server, root.path());
    assert_eq!((&first["points"], first["runs_begun"].as_array().map(Vec::len)), (&1_000.into(), Some(1)));
    let run_id = run_named(&server, "a").await;
    until_stored(&server, &run_id, 1_000).await;
    let repeated = follow_once(&server, root.path());
    assert_eq!((&repeated["points"], repeated["runs_begun"].as_array().map(Vec::len)), (&0.into(), Some(0)));
    append(&file, &torn[torn.len() - 5..]);
    append_steps(&file, 1_001..1_500);
    assert_eq!(follow_once(&server, root.path())["points"], 500);
    until_stored(&server, &run_id, 1_500).await;
    // A second file continues the run.
    append_steps(&event_file(root.path(), "a", 2_000), 1_500..1_600);
    assert_eq!(follow_once(&server, root.path())["points"], 100);
    until_stored(&server, &run_id, 1_600).await;
    // A file that is written again is read again, and its points replace the old ones.
    fs::write(&file, first_record(1_001)).expect("the file is writable");
    append_steps(&file, 0..1_500);
    assert_eq!(follow_once(&server, root.path())["points"], 1_500);
    until_stored(&server, &run_id, 1_600).await;
    // Other files in the same folder belong to another run.
    fs::remove_dir_all(root.path().join("a")).expect("the folder can be removed");
    append_steps(&event_file(root.path(), "a", 3_000), 0..10);
    assert_eq!(follow_once(&server, root.path())["runs_begun"].as_array().map(Vec::len), Some(1));
    until_stored(&server, &run_id, 1_600).await;
}

/// A follower that is killed when the test ends.
struct Following(Child);

impl Following {
    fn begin(server: &Server, root: &Path) -> Self {
        let mut command = follow(server, root, &[]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts"))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.kill().expect("a child can be killed");
        self.0.wait().expect("a killed child can be waited for");
    }
}

#[tokio::test]
async fn rule_125_no_point_is_lost_or_doubled_when_a_follower_or_a_server_is_killed() {
    let mut server = Server::up().await;
    let root = TempDir::new().expect("the temporary directory is writable");
    let file = event_file(root.path(), "a", 1_000);
    let mut written = 0;
    for _ in 0..3 {
        let following = Following::begin(&server, root.path());
        append_steps(&file, written..written + 20_000);
        written += 20_000;
        let run_id = run_named(&server, "a").await;
        let reader = Reader::connect(&server.query).await;
        // Killed somewhere in the middle, or after the end.
        let is_growing = async || match reader.count(&run_id).await {
            Ok(0) => Err("no point".to_owned()),
            Ok(_) => Ok(()),
            Err(status) => Err(status.to_string()),
        };
        eventually("some points are stored", is_growing).await;
        drop(following);
        server.kill();
        server.start().await;
    }
    let _following = Following::begin(&server, root.path());
    append_steps(&file, written..written + 1);
    let run_id = run_named(&server, "a").await;
    until_stored(&server, &run_id, written + 1).await;
}

#[tokio::test]
async fn two_followers_of_two_writers_store_each_point_once() {
    let server = Server::up().await;
    let root = TempDir::new().expect("the temporary directory is writable");
    let files = [1_000, 1_001].map(|begun| event_file(root.path(), "a", begun));
    let first = Following::begin(&server, root.path());
    let second = Following::begin(&server, root.path());
    let mut written = 0;
    for _ in 0..10 {
        for file in &files {
            append_steps(file, written..written + 1_000);
            written += 1_000;
        }
    }
    let run_id = run_named(&server, "a").await;
    drop(first);
    append_steps(&files[0], written..written + 1_000);
    until_stored(&server, &run_id, written + 1_000).await;
    drop(second);
    let last = follow_once(&server, root.path());
    assert_eq!(last["runs_begun"].as_array().map(Vec::len), Some(0));
    until_stored(&server, &run_id, written + 1_000).await;
}

/// Follows a directory once more. No run begins, and this number of points is sent.
fn continue_run(server: &Server, root: &Path, points: u64) {
    let continued = follow_once(server, root);
    assert_eq!(
        (&continued["points"], continued["runs_begun"].as_array().map(Vec::len)),
        (&points.into(), Some(0))
    );
}

/// The names of event files begin with a time in seconds, so the file of a writer that starts later in the same second
/// may come first.
#[tokio::test]
async fn a_file_that_comes_before_the_others_continues_their_run() {
    let server = Server::up().await;
    let root = TempDir::new().expect("the temporary directory is writable");
    append_steps(&event_file(root.path(), "a", 2_000), 0..10);
    assert_eq!(follow_once(&server, root.path())["points"], 10);
    let run_id = run_named(&server, "a").await;
    append_steps(&event_file(root.path(), "a", 1_000), 10..20);
    continue_run(&server, root.path(), 10);
    assert_eq!(run_named(&server, "a").await, run_id);
    until_stored(&server, &run_id, 20).await;
}

#[tokio::test]
async fn a_run_whose_first_file_is_removed_goes_on() {
    let server = Server::up().await;
    let root = TempDir::new().expect("the temporary directory is writable");
    let first = event_file(root.path(), "a", 1_000);
    append_steps(&first, 0..10);
    let second = event_file(root.path(), "a", 2_000);
    append_steps(&second, 10..20);
    assert_eq!(follow_once(&server, root.path())["points"], 20);
    let run_id = run_named(&server, "a").await;
    // The files are rotated while no follower runs.
    fs::remove_file(first).expect("the file exists");
    append_steps(&second, 20..30);
    append_steps(&event_file(root.path(), "a", 3_000), 30..40);
    continue_run(&server, root.path(), 20);
    assert_eq!(run_named(&server, "a").await, run_id);
    until_stored(&server, &run_id, 40).await;
}

#[tokio::test]
async fn a_server_follows_its_own_directory() {
    let root = TempDir::new().expect("the temporary directory is writable");
    let logdir = root.path().join("runs");
    let file = event_file(&logdir, "a", 1_000);
    append_steps(&file, 0..10);
    let mut server = Server::up_with(&["--logdir", logdir.to_str().expect("the path is UTF-8")]).await;
    let first = run_named(&server, "a").await;
    until_stored(&server, &first, 10).await;
    // A folder that is new, and a file that grows.
    append_steps(&event_file(&logdir, "b/c", 1_001), 0..5);
    append_steps(&file, 10..20);
    until_stored(&server, &first, 20).await;
    let second = run_named(&server, "b/c").await;
    until_stored(&server, &second, 5).await;
    server.kill();
    append_steps(&file, 20..30);
    server.start().await;
    until_stored(&server, &first, 30).await;
    let info = server.get(&format!("/api/v1/rest/runs/{first}/info/")).await.expect("the run is there");
    assert_eq!(
        (&info["props"]["experiment"]["name"], &info["params"]["tensorboard"]["path"]),
        (&"runs".into(), &"a".into())
    );
}

/// The output of a command, which must succeed, with a token.
fn output_of(server: &Server, words: &[&str], token: &str) -> String {
    let mut command = Command::new(binary());
    command.args(words).env_clear().env("MATYAN_BACKEND_URL", &server.query).env("MATYAN_TOKEN", token);
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    assert!(status.success(), "{words:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("the output is UTF-8").trim().to_owned()
}

#[tokio::test]
async fn a_follower_needs_the_role_writer_and_stays_in_its_project() {
    let server = Server::up_with(&["--access", "on"]).await;
    let operator = fs::read_to_string(server.data_dir().join("operator-token")).expect("there is a token");
    let operator = operator.trim();
    output_of(&server, &["projects", "create", "team"], operator);
    let token_of = |name: &str, role: &str| {
        output_of(&server, &["access", "grant", name, role, "--project", "team"], operator);
        output_of(&server, &["access", "token", "create", name, "--project", "team"], operator)
    };
    let writer = token_of("ana", "writer");
    let ingest = token_of("bo", "ingest");
    let root = TempDir::new().expect("the temporary directory is writable");
    append_steps(&event_file(root.path(), "a", 1_000), 0..10);
    let follow = |project: &str, token: Option<&str>| {
        let mut command = Command::new(binary());
        command.arg("follow").arg(root.path()).args(["--once", "--json", "--server"]);
        command.arg(format!("{}/p/{project}", server.query)).env_clear().stdin(Stdio::null());
        if let Some(token) = token {
            command.env("MATYAN_TOKEN", token);
        }
        command.output().expect("the binary starts")
    };
    for (project, token) in
        [("team", None), ("team", Some(ingest.as_str())), ("other", Some(writer.as_str()))]
    {
        let refused = follow(project, token);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    }
    let stored = follow("team", Some(&writer));
    let stored: Value = serde_json::from_slice(&stored.stdout).expect("the result is JSON");
    assert_eq!(stored["points"], 10);
    let run_id = stored["runs_begun"][0].as_str().expect("a run was begun");
    let shown = output_of(&server, &["runs", "show", run_id, "--project", "team", "--json"], &writer);
    let shown: Value = serde_json::from_str(&shown).expect("the output is JSON");
    assert_eq!((&shown["name"], &shown["series"][0]["points"]), (&"a".into(), &10.into()));
}

#[tokio::test]
async fn only_a_directory_is_followed() {
    let server = Server::up().await;
    let output = follow(&server, Path::new("/nowhere"), &[]).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not a directory"), "{output:?}");
}
