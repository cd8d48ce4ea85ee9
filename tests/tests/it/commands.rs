//! The client commands as users and scripts see them: the real binary against a real server.

mod logs;

use std::process::{Command, Output, Stdio};

use matyan_tests::{
    Reader, Server, eventually,
    json::{CLIENT_TIME, JsonWriter, create_run, finish_run, log_record, metric},
    server::binary,
};
use serde_json::{Value, json};

const RUN: &str = "3fd1c0";

/// `matyan` with the given arguments for the given server, in a clean environment.
fn command(server: &Server, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(words).env_clear().env("MATYAN_BACKEND_URL", &server.query).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is UTF-8")
}

/// Output of a command that must succeed.
fn stdout_of(server: &Server, words: &[&str]) -> String {
    let Output { status, stdout, stderr } = command(server, words).output().expect("the binary starts");
    assert!(status.success(), "{words:?}: {}", text(&stderr));
    text(&stdout)
}

/// The JSON lines that a command prints. The command must succeed.
fn json_lines_of(server: &Server, words: &[&str]) -> Vec<Value> {
    let lines = stdout_of(server, &[words, &["--json"]].concat());
    lines.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
}

/// Error output of a command that must fail with this exit code, without any other output.
fn error_of(command: &mut Command, code: i32) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    assert_eq!((status.code(), text(&stdout)), (Some(code), String::new()), "{}", text(&stderr));
    text(&stderr)
}

async fn log(server: &Server, run_id: &str, frames: &[Value]) {
    let mut writer = JsonWriter::connect(&server.ingest, run_id).await.expect("the server listens");
    for frame in frames {
        writer.send(frame).await.expect("the frame is acknowledged");
    }
}

fn line(step: u32, line: &str) -> Value {
    json!({
        "type": "log_terminal_line", "line": line, "step": step, "client_datetime": CLIENT_TIME,
    })
}

/// Logs a finished run with one item of every kind.
async fn log_run(server: &Server) {
    let mut frames = vec![
        create_run(),
        json!({"type": "log_hparams", "value": {"hparams": {"lr": 0.5, "layers": [64, 64]}}}),
        json!({"type": "log_hparams", "value": {"__system_params": {"host": "tower"}}}),
        json!({"type": "set_run_property", "name": "first steps", "experiment": "gpt"}),
        json!({"type": "add_tag", "tag_name": "best"}),
        line(0, "epoch 1\r\n"),
        line(1, "epoch 2"),
        log_record("learning", 1_767_323_045.0),
    ];
    frames.extend((0..100).map(|step| metric("loss", f64::from(100 - step), Some(i64::from(step)))));
    frames.push(finish_run());
    log(server, RUN, &frames).await;
    let is_finished = async || {
        let shown = command(server, &["runs", "show", RUN, "--json"]).output().expect("the binary starts");
        let shown: Value = serde_json::from_slice(&shown.stdout).map_err(|error| error.to_string())?;
        if shown["active"] == false { Ok(()) } else { Err(shown.to_string()) }
    };
    eventually("the run is finished", is_finished).await;
}

#[tokio::test]
async fn runs_are_listed_and_shown() {
    let server = Server::up().await;
    log_run(&server).await;
    log(&server, "other", &[create_run()]).await;
    let reader = Reader::connect(&server.query).await;
    reader.count("other").await.expect("a call for a run waits until it is applied");

    let listed = stdout_of(&server, &["runs", "ls"]);
    let row = listed.lines().find(|line| line.starts_with(RUN)).expect("the run is listed");
    for expected in ["first steps", "gpt", "finished", "best"] {
        assert!(row.contains(expected), "{listed}");
    }
    let ids = |words: &[&str]| -> Vec<String> {
        json_lines_of(&server, words)
            .iter()
            .map(|run| run["run_id"].as_str().expect("text").to_owned())
            .collect()
    };
    assert_eq!(ids(&["runs", "ls"]), ["other", RUN], "newest first");
    assert_eq!(ids(&["runs", "ls", "--limit", "1"]), ["other"]);

    let shown = &json_lines_of(&server, &["runs", "show", RUN])[0];
    assert_eq!(
        (&shown["experiment"], &shown["tags"], &shown["params"]["hparams"]),
        (&json!("gpt"), &json!(["best"]), &json!({"lr": 0.5, "layers": [64, 64]}))
    );
    let series = shown["series"].as_array().expect("a list");
    let loss = series.iter().find(|series| series["name"] == "loss").expect("the series is listed");
    assert_eq!((&loss["points"], &loss["last"], &loss["last_step"]), (&json!(100), &json!(1.0), &json!(99)));
    let shown = stdout_of(&server, &["runs", "show", RUN]);
    for expected in ["name        first steps", "hparams.lr      0.5", "loss"] {
        assert!(shown.contains(expected), "{shown}");
    }
    assert!(!shown.contains("__system_params"), "{shown}");
    let shown = stdout_of(&server, &["runs", "show", RUN, "--system"]);
    assert!(shown.contains("__system_params.host  \"tower\""), "{shown}");
    let shown = &json_lines_of(&server, &["runs", "show", RUN, "--system"])[0];
    assert_eq!(shown["params"]["__system_params"], json!({"host": "tower"}));
}

#[tokio::test]
async fn runs_are_searched_and_queries_explained() {
    let server = Server::up().await;
    log_run(&server).await;
    let found = json_lines_of(&server, &["runs", "search", "run.hparams.lr < 1 and 'best' in run.tags"]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["run_id"], RUN);
    assert!(json_lines_of(&server, &["runs", "search", "run.hparams.lr > 1", "--sort", "name"]).is_empty());

    let explained = stdout_of(&server, &["runs", "search", "run.hparams.lr < 1", "--explain"]);
    for expected in ["query     run.", "answered  by", "plan\n  "] {
        assert!(explained.contains(expected), "{explained}");
    }
    let explained = &json_lines_of(&server, &["runs", "search", "metric.name == 'other'", "--explain"])[0];
    assert_eq!((&explained["full_scan"], &explained["candidates"]), (&json!(false), &json!(0)));

    for words in
        [&["runs", "search", "run.hparams.lr <"][..], &["runs", "search", "run.hparams.lr <", "--explain"]]
    {
        let output = error_of(&mut command(&server, words), 1);
        assert!(
            output.contains("run.hparams.lr <\n") && output.contains("^ expected an expression"),
            "{output}"
        );
    }
}

#[tokio::test]
async fn runs_are_archived_and_deleted() {
    let server = Server::up().await;
    log_run(&server).await;
    let state = |key: &str| json_lines_of(&server, &["runs", "show", RUN])[0][key].clone();
    assert!(stdout_of(&server, &["runs", "archive", RUN]).contains("archived"));
    assert_eq!(state("archived"), true);
    assert!(json_lines_of(&server, &["runs", "ls"]).is_empty());
    stdout_of(&server, &["runs", "archive", RUN, "--undo"]);
    assert_eq!(state("archived"), false);

    let output = error_of(&mut command(&server, &["runs", "rm", RUN]), 1);
    assert!(output.contains("nothing was done") && output.contains("--yes"), "{output}");
    assert_eq!(
        json_lines_of(&server, &["runs", "rm", RUN, "--yes"]),
        [json!({"run_id": RUN, "status": "moved to the bin"})]
    );
    for words in [&["runs", "show", RUN][..], &["logs", RUN], &["metrics", RUN], &["runs", "archive", RUN]] {
        let output = error_of(&mut command(&server, words), 1);
        assert!(
            output.contains("run `3fd1c0` does not exist") && output.contains("matyan runs ls"),
            "{words:?}: {output}"
        );
    }
}

#[tokio::test]
async fn the_bin_is_listed_up_to_a_limit() {
    let server = Server::up().await;
    log_run(&server).await;
    log(&server, "other", &[create_run()]).await;
    let reader = Reader::connect(&server.query).await;
    reader.count("other").await.expect("a call for a run waits until it is applied");
    for run in [RUN, "other"] {
        stdout_of(&server, &["runs", "rm", run, "--yes"]);
    }
    let listed = |words: &[&str]| {
        let Output { stdout, stderr, .. } = command(&server, words).output().expect("the binary starts");
        (text(&stdout), text(&stderr))
    };
    let (table, notice) = listed(&["runs", "bin", "--limit", "1"]);
    assert!(table.contains("other") && !table.contains(RUN), "the last one comes first: {table}");
    assert!(notice.contains("--limit 0"), "{notice}");
    let (table, notice) = listed(&["runs", "bin", "--limit", "0"]);
    assert!(table.contains("other") && table.contains(RUN) && notice.is_empty(), "{table}{notice}");
    assert_eq!(json_lines_of(&server, &["runs", "bin", "--limit", "1"]).len(), 1);
}

#[tokio::test]
async fn runs_are_tagged_and_moved() {
    let server = Server::up().await;
    log_run(&server).await;
    let state = |key: &str| json_lines_of(&server, &["runs", "show", RUN])[0][key].clone();
    assert!(stdout_of(&server, &["runs", "tag", RUN, "--tag", "kept"]).contains("tagged"));
    assert_eq!(state("tags").as_array().expect("a list").len(), 2);
    assert_eq!(
        json_lines_of(&server, &["runs", "untag", RUN, "--tag", "best"]),
        [json!({"run_id": RUN, "status": "untagged"})]
    );
    assert_eq!(state("tags"), json!(["kept"]));
    let output = error_of(&mut command(&server, &["runs", "untag", RUN, "--tag", "none such"]), 1);
    assert!(output.contains("there is no tag `none such`"), "{output}");

    stdout_of(&server, &["runs", "move", RUN, "--to", "bert"]);
    assert_eq!(state("experiment"), "bert");
    stdout_of(&server, &["runs", "move", RUN, "--none"]);
    assert_eq!(state("experiment"), json!(null));
    // Clap refuses a move without a target.
    error_of(&mut command(&server, &["runs", "move", RUN]), 2);
    let output = error_of(&mut command(&server, &["runs", "tag", "missing", "--tag", "kept"]), 1);
    assert!(output.contains("run `missing` does not exist"), "{output}");
}

#[tokio::test]
async fn series_are_renamed_and_deleted() {
    let server = Server::up().await;
    log_run(&server).await;
    assert_eq!(
        json_lines_of(&server, &["series", "rename", RUN, "loss", "--to", "train loss"]),
        [json!({"run_id": RUN, "name": "loss", "status": "renamed"})]
    );
    stdout_of(&server, &["series", "rm", RUN, "train loss", "--from", "10", "--yes"]);
    let points = &json_lines_of(&server, &["metrics", RUN, "train loss", "--points", "0"])[0];
    assert_eq!(points["steps"], json!((0..10).collect::<Vec<_>>()));
    let refused = error_of(&mut command(&server, &["series", "rm", RUN, "train loss"]), 1);
    assert!(refused.contains("pass --yes"), "{refused}");
    assert!(stdout_of(&server, &["series", "rm", RUN, "train loss", "--yes"]).contains("deleted"));
    let gone = error_of(&mut command(&server, &["series", "rm", RUN, "train loss", "--yes"]), 1);
    assert!(gone.contains("there is no series `train loss`"), "{gone}");
}

#[tokio::test]
async fn metrics_are_listed_sampled_and_plotted() {
    let server = Server::up().await;
    log_run(&server).await;
    assert!(stdout_of(&server, &["metrics", RUN]).contains("loss"));
    let points = &json_lines_of(&server, &["metrics", RUN, "loss", "--points", "0"])[0];
    let expected: Vec<f64> = (0..100).map(|step| f64::from(100 - step)).collect();
    assert_eq!((&points["values"], &points["steps"][99]), (&json!(expected), &json!(99)));
    let some = stdout_of(&server, &["metrics", RUN, "loss", "--points", "5"]);
    assert_eq!(some.lines().count(), 2 + 5, "{some}");

    let plot = stdout_of(&server, &["metrics", RUN, "loss", "--plot", "--width", "40", "--height", "10"]);
    let lines: Vec<&str> = plot.lines().collect();
    assert_eq!((lines.len(), lines[0]), (11, "loss"), "{plot}");
    // The plot descends from the upper left corner to the lower right one.
    let drawn =
        |line: &str| line.split_once('┤').map(|(label, dots)| (label.trim().to_owned(), dots.to_owned()));
    let (label, dots) = drawn(lines[1]).expect("the line has an axis");
    assert!(label == "100" && !dots.starts_with('⠀') && dots.ends_with('⠀'), "{plot}");
    let (label, dots) = drawn(lines[8]).expect("the line has an axis");
    assert!(label == "1" && dots.starts_with('⠀') && !dots.ends_with('⠀'), "{plot}");
    assert!(lines[10].trim_start().starts_with('0') && lines[10].ends_with("99"), "{plot}");
    assert!(lines.iter().all(|line| line.chars().count() <= 40), "{plot}");

    let output = error_of(&mut command(&server, &["metrics", RUN, "acc"]), 1);
    assert!(output.contains("no metric `acc`") && output.contains("matyan metrics 3fd1c0"), "{output}");
    for wrong in ["val", "[1]", "{"] {
        let output = error_of(&mut command(&server, &["metrics", RUN, "loss", "--context", wrong]), 1);
        assert!(output.contains(&format!("invalid context `{wrong}`")), "{output}");
    }

    // The server decides which contexts are equal: 1 and 1.0 are, and NaN equals itself.
    let mut writer = JsonWriter::connect(&server.ingest, "folds").await.expect("the server listens");
    writer.send(&create_run()).await.expect("the frame is acknowledged");
    for (value, context) in [(1.0, r#"{"fold": 1.0}"#), (2.0, r#"{"fold": 2, "scale": NaN}"#)] {
        let frame = metric("loss", value, Some(0)).to_string();
        let frame = frame.replace("\"context\":null", &format!("\"context\":{context}"));
        writer.send_text(frame).await.expect("the frame is acknowledged");
    }
    drop(writer);
    eventually("both series are applied", async || {
        match json_lines_of(&server, &["metrics", "folds"]).len() {
            2 => Ok(()),
            count => Err(count),
        }
    })
    .await;
    let of = |context: &str| json_lines_of(&server, &["metrics", "folds", "loss", "--context", context]);
    let found = of(r#"{"fold": 1}"#);
    assert_eq!((found.len(), &found[0]["values"]), (1, &json!([1.0])));
    let found = of(r#"{"fold": 2.0, "scale": NaN}"#);
    assert_eq!((found.len(), &found[0]["values"]), (1, &json!([2.0])));
    assert_eq!(found[0]["context"], json!({"fold": 2, "scale": null}));
    let plot = stdout_of(&server, &["metrics", "folds", "loss", "--context", r#"{"fold": 1}"#, "--plot"]);
    assert!(plot.starts_with("loss {\"fold\":1.0}\n"), "{plot}");
    let output =
        error_of(&mut command(&server, &["metrics", "folds", "loss", "--context", r#"{"fold":3}"#]), 1);
    assert!(output.contains("no metric `loss` with this context"), "{output}");
}

#[tokio::test]
async fn the_state_of_a_server_is_shown() {
    let server = Server::up().await;
    let status = stdout_of(&server, &["status"]);
    for expected in [server.query.as_str(), env!("CARGO_PKG_VERSION"), "ready    yes", "store         ok"] {
        assert!(status.contains(expected), "{status}");
    }
    let status = &json_lines_of(&server, &["status"])[0];
    assert_eq!((&status["ready"], &status["component"]), (&json!(true), &json!("backend")));
    let of_project = |name: &str| {
        let url = format!("{}/p/{name}", server.query);
        command(&server, &["status", "--server", &url]).output().expect("the binary starts")
    };
    stdout_of(&server, &["projects", "create", "team"]);
    assert!(of_project("team").status.success());
    let missing = of_project("missing");
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stdout).contains("ready    yes"));
    assert!(text(&missing.stderr).contains("`missing`: `matyan projects list`"), "{}", text(&missing.stderr));
    // Without `/p/`, calls would work on the default project.
    let url = format!("{}/team", server.query);
    for words in [&["status"][..], &["runs", "ls"], &["projects", "list"]] {
        let refused = error_of(command(&server, words).args(["--server", &url]), 1);
        assert!(refused.contains("the path `/team`") && refused.contains("/p/NAME"), "{refused}");
    }
}

#[tokio::test]
async fn partitions_of_the_log_are_listed() {
    let server = Server::up().await;
    log_run(&server).await;
    eventually("everything is reported as applied", async || {
        let partitions = json_lines_of(&server, &["partitions", "ls"]);
        let is_applied = |one: &Value| one["applied"] == one["end"] && one["lag"] == 0 && one["lost"] == 0;
        let is_used = partitions.iter().any(|one| one["end"].as_u64() > Some(0));
        if is_used && partitions.iter().all(is_applied) { Ok(()) } else { Err(format!("{partitions:?}")) }
    })
    .await;
    assert!(stdout_of(&server, &["partitions", "ls"]).contains("all applied"));
    assert!(stdout_of(&server, &["partitions", "skip", "0"]).contains("partition 0 has lost no records"));
    let output = error_of(&mut command(&server, &["partitions", "skip", "1000"]), 1);
    assert!(output.contains("partition"), "{output}");
}

#[tokio::test]
async fn the_project_can_be_renamed() {
    let server = Server::up().await;
    assert_eq!(stdout_of(&server, &["project", "show"]), "name         My project\ndescription\n");
    let set = ["project", "set", "--name", "speech", "--description", "all of it"];
    let expected = json!({"name": "speech", "description": "all of it"});
    assert_eq!(json_lines_of(&server, &set), [expected]);
    stdout_of(&server, &["project", "set", "--description", ""]);
    assert_eq!(json_lines_of(&server, &["project", "show"]), [json!({"name": "speech", "description": ""})]);
    assert_eq!(stdout_of(&server, &["project", "show"]), "name         speech\ndescription\n");
    let output = error_of(&mut command(&server, &["project", "set", "--name", &"x".repeat(2_000)]), 1);
    assert!(output.contains("`name`") && !output.contains("rejected"), "{output}");
    error_of(&mut command(&server, &["project", "set"]), 2);
}

#[tokio::test]
async fn runs_in_quarantine_are_listed() {
    let server = Server::up().await;
    log(&server, "flood", &[create_run()]).await;
    eventually("the run exists", async || match json_lines_of(&server, &["runs", "ls"]).len() {
        1 => Ok(()),
        count => Err(count),
    })
    .await;
    let quarantined = |run: &str| json_lines_of(&server, &["parked", "runs", "--run", run]);
    assert!(quarantined("flood").is_empty());
    stdout_of(&server, &["runs", "park", "flood", "--reason", "it sends too much"]);
    let listed = quarantined("flood");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["run_id"], &listed[0]["reason"]), (&json!("flood"), &json!("it sends too much")));
    assert!(quarantined("other").is_empty());
    assert!(json_lines_of(&server, &["parked", "ls"]).is_empty(), "it lists items");
    let table = stdout_of(&server, &["parked", "ls"]);
    assert!(table.contains("it sends too much") && table.contains("`matyan runs resume RUN`"), "{table}");
}

#[tokio::test]
async fn parked_items_are_listed_and_deleted() {
    let server = Server::up().await;
    // After the maximum step, automatic steps have no next value.
    let last = metric("loss", 1.0, Some(i64::MAX));
    let frames: Vec<_> =
        [create_run(), last].into_iter().chain((0..3).map(|_| metric("loss", 2.0, None))).collect();
    log(&server, "odd", &frames).await;
    eventually("items are parked", async || match json_lines_of(&server, &["parked", "ls"]).len() {
        3 => Ok(()),
        count => Err(count),
    })
    .await;
    let items = json_lines_of(&server, &["parked", "ls", "--run", "odd"]);
    assert_eq!(items.len(), 3);
    assert!(items.iter().all(|item| item["run_id"] == "odd" && item["reason"] != ""), "{items:?}");
    assert!(json_lines_of(&server, &["parked", "ls", "--run", "other"]).is_empty());
    assert_eq!(json_lines_of(&server, &["parked", "ls", "--limit", "2"]), items[..2]);
    let table = stdout_of(&server, &["parked", "ls", "--limit", "2"]);
    let first = items[0]["id"].as_str().expect("text");
    assert!(
        table.contains(first) && table.ends_with("and 1 older items; use --limit 0 to list all\n"),
        "{table}"
    );
    let table = stdout_of(&server, &["parked", "ls", "--limit", "2", "--run", "odd"]);
    assert!(
        table.contains(first) && table.ends_with("and older items; use --limit 0 to list all\n"),
        "{table}"
    );
    let removed = command(&server, &["parked", "rm", first, "nothing"]).output().expect("the binary starts");
    let output = text(&removed.stderr);
    assert_eq!((removed.status.code(), text(&removed.stdout).as_str()), (Some(1), "1 deleted\n"), "{output}");
    assert!(output.contains("1 of 2 items do not exist"), "{output}");
    assert_eq!(json_lines_of(&server, &["parked", "ls", "--limit", "0"]), items[1..]);
}

#[tokio::test]
async fn jobs_are_started_and_listed() {
    let server = Server::up().await;
    log_run(&server).await;
    log(&server, "idle", &[create_run()]).await;
    eventually("the idle run is listed", async || match json_lines_of(&server, &["runs", "ls"]).len() {
        2 => Ok(()),
        count => Err(count),
    })
    .await;
    let stale = |more: &[&str]| {
        json_lines_of(&server, &[&["jobs", "finish-stale", "--timeout-hours", "0.0001"], more].concat())
    };
    // 0.0001 hours are about a third of a second.
    eventually("the run is stale", async || {
        let output = stale(&["--dry-run"]);
        if output.first() == Some(&json!({"run_id": "idle"})) { Ok(()) } else { Err(output) }
    })
    .await;
    assert_eq!(json_lines_of(&server, &["runs", "ls", "--active"]).len(), 1, "a dry run changes nothing");
    let sum = json!({"job": "finish-stale", "dry_run": false, "done": 1, "found": 1, "failed": 0});
    assert_eq!(stale(&[]), [json!({"run_id": "idle"}), sum]);
    assert!(json_lines_of(&server, &["runs", "ls", "--active"]).is_empty());

    let output = stdout_of(&server, &["jobs", "reindex", "--dry-run"]);
    assert!(output.starts_with("reindex: ") && output.contains("dry run, nothing was changed"), "{output}");
    for job in ["reindex", "cleanup-orphan-blobs", "cleanup-tombstones"] {
        let sum = json_lines_of(&server, &["jobs", job]).pop().expect("every job prints a summary");
        assert_eq!((&sum["job"], &sum["failed"]), (&json!(job), &json!(0)), "{sum}");
        let unchecked = if job == "reindex" { json!(0) } else { Value::Null };
        assert_eq!(sum["unchecked_counters"], unchecked, "{sum}");
    }
    let listed = json_lines_of(&server, &["jobs", "ls"]);
    for job in ["finish-stale", "reindex", "cleanup-orphan-blobs", "cleanup-tombstones"] {
        let is_listed = |one: &Value| one["job"] == job && one["last_success_us"].is_i64();
        assert!(listed.iter().any(is_listed), "{job}: {listed:?}");
    }
    let young = &["jobs", "cleanup-tombstones", "--older-than-hours", "719"];
    let output = error_of(&mut command(&server, young), 1);
    assert!(output.contains("720 hours") && output.contains("force"), "{output}");
    json_lines_of(&server, &[&young[..], &["--force"]].concat());
    let output = error_of(&mut command(&server, &["jobs", "finish-stale", "--timeout-hours", "0"]), 2);
    assert!(output.contains("must be a number of hours above 0"), "{output}");
}

#[tokio::test]
async fn an_unreachable_server_is_reported_with_advice() {
    let output = |server: &str| {
        let mut command = Command::new(binary());
        error_of(command.args(["status", "--server", server]).env_clear(), 1)
    };
    // A port that was bound and released: nothing listens on it.
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port is free");
    let gone = output(&format!("http://{free}"));
    assert!(gone.contains("no server is responding") && gone.contains("`matyan up`"), "{gone}");
    for wrong in ["nonsense", "ftp://a", "file:///a"] {
        assert!(output(wrong).contains("invalid server address"), "{wrong}");
    }
}

#[test]
fn every_command_has_examples() {
    for words in [
        &["runs"][..],
        &["logs"],
        &["metrics"],
        &["status"],
        &["partitions"],
        &["jobs"],
        &["up"],
        &["parked"],
        &["project"],
    ] {
        let help = Command::new(binary()).args(words).arg("--help").output().expect("the binary starts");
        let own = text(&help.stdout);
        let all = Command::new(binary()).arg("--help").output().expect("the binary starts");
        let example = format!("  matyan {}", words[0]);
        assert!(own.contains(&example) || text(&all.stdout).contains(&example), "{own}");
    }
}

#[tokio::test]
async fn a_closed_output_pipe_is_not_an_error() {
    let server = Server::up().await;
    log_run(&server).await;
    let mut listing = command(&server, &["metrics", RUN, "loss", "--points", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(listing.stdout.take());
    assert!(listing.wait().expect("the command exits").success());
}

/// Every command about projects, and what a project does not share with another.
#[tokio::test]
async fn projects_are_created_used_renamed_and_deleted() {
    let server = Server::up().await;
    let names = |words: &[&str]| -> Vec<Value> {
        json_lines_of(&server, words).into_iter().map(|one| one["name"].clone()).collect()
    };
    let create = ["projects", "create", "team", "--display-name", "Team", "--description", "speech"];
    let created = &json_lines_of(&server, &create)[0];
    assert_eq!(
        (&created["name"], &created["display_name"], &created["description"], &created["state"]),
        (&json!("team"), &json!("Team"), &json!("speech"), &json!("active"))
    );
    assert_eq!(names(&["projects", "list"]), ["", "team"]);
    let again = error_of(&mut command(&server, &create), 1);
    assert!(again.contains("team"), "{again}");
    let wrong = error_of(&mut command(&server, &["projects", "create", "Team"]), 1);
    assert!(wrong.contains("name"), "{wrong}");

    // The same id in both projects, with other content.
    let of_team = format!("{}/p/team", server.ingest);
    for (address, value, points) in [(&server.ingest, "default", 1), (&of_team, "team", 5)] {
        let mut writer = JsonWriter::connect(address, RUN).await.expect("the server listens");
        let named = json!({"type": "set_run_property", "name": value, "experiment": value});
        let mut frames = vec![create_run(), named];
        frames.extend((0..points).map(|step| metric("loss", f64::from(step), Some(i64::from(step)))));
        frames.push(finish_run());
        for frame in frames {
            writer.send(&frame).await.expect("the frame is acknowledged");
        }
    }
    let shown = async |project: &[&str], points: u64| {
        let words = [&["runs", "show", RUN, "--json"][..], project].concat();
        let is_applied = async || {
            let shown = command(&server, &words).output().expect("the binary starts");
            let shown: Value = serde_json::from_slice(&shown.stdout).map_err(|error| error.to_string())?;
            if shown["active"] == false { Ok(()) } else { Err(shown.to_string()) }
        };
        eventually("the run is finished", is_applied).await;
        let shown: Value = serde_json::from_str(&stdout_of(&server, &words)).expect("JSON");
        assert_eq!(shown["series"][0]["points"], points);
        shown["name"].clone()
    };
    assert_eq!(shown(&[], 1).await, "default");
    assert_eq!(shown(&["--project", "team"], 5).await, "team");
    let usage = |words: &[&str]| -> Vec<(Value, Value, Value)> {
        let lines = json_lines_of(&server, words).into_iter();
        lines.map(|one| (one["name"].clone(), one["runs"].clone(), one["points"].clone())).collect()
    };
    let default = (json!(""), json!(1), json!(1));
    let team = (json!("team"), json!(1), json!(5));
    assert_eq!(usage(&["projects", "usage"]), [default.clone(), team.clone()]);
    assert_eq!(usage(&["projects", "usage", "team"]), [team]);

    let renamed = &json_lines_of(&server, &["projects", "rename", "team", "Speech"])[0];
    assert_eq!((&renamed["name"], &renamed["display_name"]), (&json!("team"), &json!("Speech")));
    let listed = stdout_of(&server, &["projects", "list"]);
    assert!(listed.contains("Speech") && listed.contains("My project"), "{listed}");
    let project = &json_lines_of(&server, &["project", "show", "--project", "team"])[0];
    assert_eq!((&project["name"], &project["description"]), (&json!("Speech"), &json!("speech")));

    let unconfirmed = command(&server, &["projects", "delete", "team"]).output().expect("the binary starts");
    assert!(!unconfirmed.status.success());
    assert_eq!(names(&["projects", "list"]), ["", "team"], "nothing is deleted without a confirmation");
    let deleted = &json_lines_of(&server, &["projects", "delete", "team", "--yes"])[0];
    assert_eq!((&deleted["name"], &deleted["state"]), (&json!("team"), &json!("deleting")));
    let gone = error_of(&mut command(&server, &["runs", "ls", "--project", "team"]), 1);
    assert!(gone.contains("team"), "{gone}");
    assert_eq!(usage(&["projects", "usage"]), [default]);
    assert_eq!(shown(&[], 1).await, "default");
    let never_free = error_of(&mut command(&server, &create), 1);
    assert!(never_free.contains("deleted"), "{never_free}");
    let unknown = error_of(&mut command(&server, &["projects", "usage", "unknown"]), 1);
    assert!(unknown.contains("unknown"), "{unknown}");
}
