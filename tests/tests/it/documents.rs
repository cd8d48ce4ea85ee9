//! Everything that documents and deployment files mention exists: command lines, settings, metrics, files. Versions are the
//! same in all files. After a rename these tests list what else has to change.

mod chart;
mod commands;
mod deployments;
mod names;
mod versions;

use std::{fs, path::PathBuf, process::Command};

/// Files and directories to check.
const FOLDERS: [&str; 3] = ["README.md", "docs/", "deploy/"];

fn root() -> PathBuf {
    PathBuf::from("..")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Path and text of each document, without symbolic links.
fn documents() -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .args(FOLDERS)
        .current_dir(root())
        .output()
        .expect("git can be started");
    let listed = String::from_utf8(listed.stdout).expect("paths are text");
    let is_file = |path: &&str| {
        !path.ends_with(".png") && fs::symlink_metadata(root().join(path)).is_ok_and(|it| it.is_file())
    };
    let documents: Vec<_> =
        listed.lines().filter(is_file).map(|path| (path.to_owned(), text(path))).collect();
    assert!(documents.len() > 20, "git lists only {} files", documents.len());
    documents
}

/// Fails with a list of problems, unless it is empty.
fn check(mut problems: Vec<String>) {
    problems.sort();
    problems.dedup();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Code spans in a line of Markdown or in a comment.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn links_have_existing_targets() {
    let mut problems = Vec::new();
    for (path, text) in documents().iter().filter(|(path, _)| path.ends_with(".md")) {
        let folder = root().join(path).parent().expect("a file is in a directory").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') && !folder.join(target).exists() {
                problems.push(format!("{path}: `{target}` does not exist"));
            }
        }
    }
    check(problems);
}
