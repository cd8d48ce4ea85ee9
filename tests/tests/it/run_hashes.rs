//! Commands that name runs, by hashes or by queries: short hashes, hashes of branches, and wrong hashes.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use matyan_tests::{
    Server, eventually,
    json::{CLIENT_TIME, JsonWriter, create_run, metric},
    server::binary,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// `matyan` with the given arguments for the given server: exit code, output, and error output.
fn matyan(server: &Server, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary());
    command.args(words).env_clear().env("MATYAN_BACKEND_URL", &server.query).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// Output of a command that must succeed.
fn stdout_of(server: &Server, words: &[&str]) -> String {
    let (code, stdout, stderr) = matyan(server, words);
    assert_eq!(code, Some(0), "{words:?}: {stderr}");
    stdout
}

/// Error output of a command that must fail.
fn error_of(server: &Server, words: &[&str]) -> String {
    let (code, stdout, stderr) = matyan(server, words);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{words:?}: {stderr}");
    stderr
}

async fn log(server: &Server, run_id: &str, frames: &[Value]) {
    let mut writer = JsonWriter::connect(&server.ingest, run_id).await.expect("the server listens");
    for frame in frames {
        writer.send(frame).await.expect("the frame is acknowledged");
    }
}

async fn eventually_listed(server: &Server, count: usize) {
    eventually("the runs are listed", async || match stdout_of(server, &["runs", "ls", "--json"]) {
        list if list.lines().count() == count => Ok(()),
        list => Err(list),
    })
    .await;
}

#[tokio::test]
async fn the_beginning_of_a_hash_is_enough() {
    let server = Server::up().await;
    for run in ["3fd1c0aa", "77aa01bb", "77aa02cc"] {
        log(&server, run, &[create_run(), metric("loss", 1.0, Some(0))]).await;
    }
    eventually_listed(&server, 3).await;
    assert!(stdout_of(&server, &["runs", "show", "3fd1"]).contains("3fd1c0aa"));
    assert!(stdout_of(&server, &["metrics", "3fd1c0", "loss"]).contains("loss"));
    assert_eq!(stdout_of(&server, &["logs", "3fd1"]), "");
    assert!(stdout_of(&server, &["series", "rename", "3fd1", "loss", "--to", "cost"]).contains("renamed"));
    assert!(stdout_of(&server, &["parked", "ls", "--run", "3fd1", "--json"]).is_empty());
    let exported = stdout_of(&server, &["export", "runs", "--runs", "3fd1", "--format", "csv"]);
    assert_eq!(exported.lines().count(), 2, "{exported}");
    // Archived runs have hashes as well.
    stdout_of(&server, &["runs", "archive", "3fd1"]);
    stdout_of(&server, &["runs", "archive", "3fd1", "--undo"]);

    let ambiguous = error_of(&server, &["runs", "show", "77aa"]);
    for expected in ["several runs begin with `77aa`", "\n  77aa01bb", "\n  77aa02cc"] {
        assert!(ambiguous.contains(expected), "{ambiguous}");
    }
    for (unknown, is_short) in [("beef", false), ("3fd", true)] {
        let output = error_of(&server, &["runs", "show", unknown]);
        assert!(output.contains(&format!("run `{unknown}` does not exist")), "{output}");
        assert_eq!(output.contains("must have at least four characters"), is_short, "{output}");
    }
    assert!(stdout_of(&server, &["runs", "rm", "77aa01", "--yes"]).contains("77aa01bb  moved to the bin"));
    // A run in the bin and a visible one begin with the same characters.
    let ambiguous = error_of(&server, &["runs", "purge", "77aa", "--yes"]);
    for expected in ["several runs begin with `77aa`", "\n  77aa01bb", "\n  77aa02cc"] {
        assert!(ambiguous.contains(expected), "{ambiguous}");
    }
    assert!(stdout_of(&server, &["runs", "purge", "77aa01", "--yes"]).contains("77aa01bb  deleted"));
}

#[tokio::test]
async fn branches_show_their_parents_and_are_named_when_these_are_deleted() {
    let server = Server::up().await;
    log(&server, "trunk", &[create_run(), metric("loss", 1.0, Some(0)), metric("loss", 2.0, Some(1))]).await;
    eventually_listed(&server, 1).await;
    let create = json!({
        "type": "create_run", "client_datetime": CLIENT_TIME, "parent_run_id": "trunk", "parent_step": 0,
    });
    log(&server, "branch", &[create]).await;
    eventually_listed(&server, 2).await;
    let shown: Value =
        serde_json::from_str(&stdout_of(&server, &["runs", "show", "branch", "--json"])).expect("JSON");
    assert_eq!(shown["parent"], json!({"run_id": "trunk", "step": 0}));
    assert!(stdout_of(&server, &["runs", "show", "branch"]).contains("parent      trunk, up to step 0\n"));
    let exported = stdout_of(&server, &["export", "runs", "--format", "csv"]);
    assert!(exported.lines().any(|row| row.starts_with("branch,") && row.contains(",trunk,0")), "{exported}");

    let refused = error_of(&server, &["runs", "rm", "trunk"]);
    assert!(refused.contains("lose the points that they share with them: branch\n"), "{refused}");
    let (code, stdout, stderr) = matyan(&server, &["runs", "rm", "trunk", "branch", "--yes"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("trunk  moved to the bin") && !stderr.contains("warning"), "{stdout}{stderr}");
}

#[tokio::test]
async fn a_backup_of_nothing_is_refused_and_leaves_nothing() {
    let server = Server::up().await;
    log(&server, "3fd1c0aa", &[create_run()]).await;
    eventually_listed(&server, 1).await;
    let folder = TempDir::new().expect("a directory is created");
    let path = folder.path().to_str().expect("text");
    for filter in [
        &["--runs", "nope"][..],
        &["--runs", "3fd1", "--since", "2030-01-01"],
        &["--experiment", "none such"],
    ] {
        let output = error_of(&server, &[&["backup", path][..], filter].concat());
        assert!(!output.is_empty());
        let left = fs::read_dir(folder.path()).expect("the directory is readable").count();
        assert_eq!(left, 0, "{filter:?}: {output}");
    }
    assert!(stdout_of(&server, &["backup", path, "--runs", "3fd1"]).contains("1 runs"));
    let is_new = stdout_of(&server, &["backup", path, "--since", "2030-01-01"]);
    assert!(is_new.contains(" 0 runs"), "{is_new}");
}

#[tokio::test]
async fn an_export_marks_the_error_of_its_query() {
    let server = Server::up().await;
    for table in [&["runs"][..], &["metrics"], &["objects", "texts"]] {
        let words = [&["export"][..], table, &["--query", "run.hparams.lr <", "--format", "csv"]].concat();
        let output = error_of(&server, &words);
        assert!(
            output.contains("run.hparams.lr <\n") && output.contains("^ expected an expression"),
            "{output}"
        );
    }
}

#[tokio::test]
async fn an_export_that_finds_nothing_says_so() {
    let server = Server::up().await;
    log(&server, "3fd1c0aa", &[create_run(), metric("loss", 1.0, Some(0))]).await;
    eventually("the point is exported", async || {
        let exported = stdout_of(&server, &["export", "metrics", "--format", "csv"]);
        if exported.lines().count() == 2 { Ok(()) } else { Err(exported) }
    })
    .await;
    for (name, is_empty) in [("loss", false), ("los", true)] {
        let (code, stdout, stderr) =
            matyan(&server, &["export", "metrics", "--names", name, "--format", "csv"]);
        assert_eq!((code, stdout.lines().count()), (Some(0), if is_empty { 1 } else { 2 }), "{stdout}");
        assert_eq!(stderr.contains("no rows were found: check the query"), is_empty, "{stderr}");
    }
}

#[tokio::test]
async fn a_project_needs_some_name() {
    let server = Server::up().await;
    let output = error_of(&server, &["projects", "rename", "default", ""]);
    assert!(output.contains("the new name of the project `default` is empty"), "{output}");
}
