//! A data directory written by an older version opens in this one, and every answer about it is
//! the same.

mod generator;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use matyan_tests::{
    eventually,
    server::{Server, binary},
};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new("fixtures").join(name)
}

fn unpack(file: &Path, into: &Path) {
    let archive = std::fs::File::open(file).expect("the fixture is in the repository");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    archive.unpack(into).expect("the directory is writable");
}

/// Runs a command of the binary, which must succeed, and returns its output.
async fn command(server: &str, words: &[&str]) -> String {
    let mut command = tokio::process::Command::new(binary());
    command.args(words).args(["--server", server, "--json"]).env_clear().stdin(std::process::Stdio::null());
    let output = command.output().await.expect("the binary starts");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the output is text")
}

/// Sends a recorded request, and returns the status and body of the response, or runs a recorded
/// command.
async fn replay(server: &Server, recorded: &Value) -> Result<(u64, String), String> {
    if let Some(words) = recorded["command"].as_array() {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        return Ok((0, BASE64_STANDARD.encode(command(&server.query, &words).await)));
    }
    let text = |name: &str| recorded[name].as_str().expect("a request has a method and a path").to_owned();
    let method = text("method").parse().expect("a method");
    let project = recorded["project"].as_str().map(|name| format!("/p/{name}")).unwrap_or_default();
    let url = format!("{}{project}/api/v1/rest{}", server.query, text("path"));
    let mut request = reqwest::Client::new().request(method, url);
    if !recorded["body"].is_null() {
        request = request.json(&recorded["body"]);
    }
    let response = request.send().await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let body = response.bytes().await.map_err(|error| error.to_string())?;
    Ok((status.into(), BASE64_STANDARD.encode(body)))
}

async fn check_answers(server: &Server, fixture: &Path) {
    let file = std::fs::File::open(fixture.join("answers.json.gz")).expect("the fixture is readable");
    let recorded: Vec<Value> =
        serde_json::from_reader(flate2::read::GzDecoder::new(file)).expect("the fixture is JSON");
    assert!(recorded.len() > 20);
    for request in &recorded {
        let expected = (request["status"].as_u64(), request["answer"].as_str());
        // Records that were in the log when the old server was killed are applied in the background.
        eventually(
            &format!("the recorded answer of {}{}", request["path"], request["command"]),
            async || {
                let (status, body) = replay(server, request).await?;
                let is_equal = (Some(status), Some(body.as_str())) == expected;
                is_equal.then_some(()).ok_or_else(|| format!("{status}: {body}"))
            },
        )
        .await;
    }
}

/// Makes a backup of what is applied.
async fn backup(server: &Server, into: &Path) -> PathBuf {
    command(&server.query, &["runs", "resume", "parked"]).await;
    eventually("the parked records are applied", async || {
        let parked = command(&server.query, &["parked", "ls"]).await;
        parked.is_empty().then_some(()).ok_or(parked)
    })
    .await;
    let report = command(&server.query, &["backup", into.to_str().expect("text")]).await;
    let report: Value = serde_json::from_str(&report).expect("the output is JSON");
    PathBuf::from(report["archive"].as_str().expect("the output names the archive"))
}

/// Every file of an archive by path. The manifest and the checksums depend on the backup.
fn contents(archive: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![archive.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the archive is readable") {
            let path = entry.expect("the archive is readable").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(archive).expect("inside the archive").to_owned();
            let is_of_backup = inside.starts_with("manifest.json") || inside.starts_with("checksums.sha256");
            if !is_of_backup {
                found.insert(inside, std::fs::read(&path).expect("the archive is readable"));
            }
        }
    }
    found
}

#[tokio::test]
async fn rule_44_an_older_store_and_log_open_here() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let fixture = fixture("store-of-format-2");
    unpack(&fixture.join("data.tar.gz"), directory.path());
    let server = Server::up_on(&directory.path().join("data")).await;
    check_answers(&server, &fixture).await;
}

#[tokio::test]
async fn rule_44_everything_in_a_store_of_format_2_is_read_and_migrated() {
    check_migration(&fixture("everything-of-format-2")).await;
}

#[tokio::test]
async fn rule_44_everything_in_a_store_of_format_3_is_read_and_migrated() {
    check_migration(&fixture("everything-of-format-3")).await;
}

#[tokio::test]
async fn rule_44_everything_in_a_store_of_format_4_is_read_and_migrated() {
    check_migration(&fixture("everything-of-format-4")).await;
}

/// The text of a backup's file, with the times of producers in seconds. For a record that was not applied
/// yet, this version uses the time at which it was written to the log; older versions used the time of its
/// receipt.
fn comparable(path: &Path, content: &[u8]) -> String {
    let text = String::from_utf8_lossy(content);
    if !path.ends_with("producers.jsonl") {
        return text.into_owned();
    }
    let rounded = |line: &str| {
        let mut row: Value = serde_json::from_str(line).expect("a line is an object");
        if let Some(seen_at) = row["seen_at"].as_f64() {
            row["seen_at"] = seen_at.round().into();
        }
        row.to_string()
    };
    text.lines().map(rounded).collect::<Vec<_>>().join("\n")
}

async fn check_migration(fixture: &Path) {
    let until_migrated = async |server: &Server| {
        eventually("the store is migrated", async || {
            let log = server.log();
            log.contains("migrated the store").then_some(()).ok_or(log)
        })
        .await;
    };
    check_store(fixture, until_migrated).await;
}

/// Compares the answers and the backup of a store with what is recorded, also after a kill.
async fn check_store(fixture: &Path, until_ready: impl AsyncFn(&Server)) {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    for file in ["data.tar.gz", "archive.tar.gz"] {
        unpack(&fixture.join(file), directory.path());
    }
    let mut server = Server::up_on(&directory.path().join("data")).await;
    check_answers(&server, fixture).await;
    until_ready(&server).await;
    server.kill();
    server.start().await;
    check_answers(&server, fixture).await;
    let old = directory.path().join("archive");
    let new = backup(&server, directory.path()).await;
    let old = contents(&old);
    let new = contents(&new);
    assert_eq!(old.keys().collect::<Vec<_>>(), new.keys().collect::<Vec<_>>());
    for (path, old) in &old {
        let old = comparable(path, old);
        let new = comparable(path, &new[path]);
        assert!(old == new, "{} was\n{old}\nand is\n{new}", path.display());
    }
}
