//! Rule 52: a store whose journal is damaged is not opened, and what can be read in it is saved.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use matyan_tests::{Server, server::binary};
use serde_json::{Value, json};

const TAGS: usize = 150;

async fn create_tags(server: &Server) {
    let client = reqwest::Client::new();
    for number in 0..TAGS {
        let tag = json!({"name": format!("tag-{number:03}")});
        let answer = client.post(format!("{}/api/v1/rest/tags/", server.query)).json(&tag).send().await;
        assert!(answer.expect("the server answers").status().is_success());
    }
}

async fn tags(server: &Server) -> BTreeSet<String> {
    let tags = server.get("/api/v1/rest/tags/").await.expect("tags can be listed");
    let tags = tags.as_array().expect("a list").iter();
    tags.map(|tag| tag["name"].as_str().expect("a name").to_owned()).collect()
}

fn newest_journal(data_dir: &Path) -> PathBuf {
    let files = fs::read_dir(data_dir.join("store/engine")).expect("the store has an engine");
    let journals = files.map(|file| file.expect("a file").path());
    let journals = journals.filter(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    journals
        .max_by_key(|path| path.file_stem().map(|number| (number.len(), number.to_owned())))
        .expect("a journal")
}

/// Changes the trailer of the commit that holds a text, so that the journal cannot be read from there on.
fn damage(journal: &Path, text: &str) {
    let mut content = fs::read(journal).expect("the journal can be read");
    let text = content.windows(text.len()).position(|bytes| bytes == text.as_bytes()).expect("the tag");
    let trailer = content[text..].windows(4).position(|bytes| bytes == b"FJL\x03").expect("a trailer");
    content[text + trailer] ^= 1;
    fs::write(journal, content).expect("the journal can be written");
}

/// Runs a command, and returns its exit code and its output.
fn run(words: &[&str]) -> (Option<i32>, Value, String) {
    let output = Command::new(binary()).args(words).arg("--json").env_clear().output();
    let output = output.expect("the binary starts");
    let value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), value, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_52_a_damaged_store_is_refused_and_saved() {
    let mut server = Server::up().await;
    create_tags(&server).await;
    let data_dir = server.data_dir();
    let directory = data_dir.to_str().expect("the path is text").to_owned();
    let (code, _, error) = run(&["store", "verify", &directory]);
    assert_eq!(code, Some(1), "the server uses it: {error}");
    server.kill();

    let (code, report, error) = run(&["store", "verify", &directory]);
    assert_eq!((code, &report["damage"]), (Some(0), &json!([])), "{error}");
    let journal = newest_journal(&data_dir);
    damage(&journal, "tag-060");
    let before = fs::read(&journal).expect("the journal can be read");

    let started = server.command().output().expect("the binary starts");
    assert!(!started.status.success());
    let log = server.log();
    for part in [&*journal.to_string_lossy(), "at byte", "matyan store salvage"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(fs::read(&journal).expect("the journal can be read"), before, "nothing was changed");

    let (code, report, error) = run(&["store", "verify", &directory]);
    assert_eq!(code, Some(3), "{report} {error}");
    assert_eq!(report["damage"][0]["file"], journal.to_string_lossy().as_ref());
    assert!(error.contains("matyan store salvage"), "{error}");

    let salvaged = data_dir.join("salvaged");
    let output = salvaged.to_str().expect("the path is text");
    let (code, report, error) = run(&["store", "salvage", &directory, "--output", output]);
    assert_eq!(code, Some(3), "{report} {error}");
    assert_eq!(report["losses"].as_array().map(Vec::len), Some(1), "{report}");
    fs::rename(data_dir.join("store"), data_dir.join("damaged")).expect("the store can be moved");
    fs::rename(&salvaged, data_dir.join("store")).expect("the copy can be moved");
    server.start().await;
    let found = tags(&server).await;
    let missing: Vec<usize> =
        (0..TAGS).filter(|number| !found.contains(&format!("tag-{number:03}"))).collect();
    assert_eq!(missing, [60], "only the tag of the damaged commit is missing");
}
