//! What documents and deployment files speak of exists: command lines, settings, metrics, files. And what several files say of
//! one thing, such as a version, is the same. Whoever renames something is told here what else has to change.

mod chart;
mod commands;
mod names;
mod versions;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What is read, beside all of these folders.
const FOLDERS: [&str; 3] = ["README.md", "docs/", "deploy/"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Path and text of each, links to others left out.
fn documents() -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .args(FOLDERS)
        .current_dir(root())
        .output()
        .expect("git can be started");
    let listed = String::from_utf8(listed.stdout).expect("paths are text");
    let is_file = |path: &&str| fs::symlink_metadata(root().join(path)).is_ok_and(|it| it.is_file());
    let documents: Vec<_> =
        listed.lines().filter(is_file).map(|path| (path.to_owned(), text(path))).collect();
    assert!(documents.len() > 20, "git has listed {} files", documents.len());
    documents
}

/// Where something stands, for whoever has to change it.
fn check(mut problems: Vec<String>) {
    problems.sort();
    problems.dedup();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Code in a line of Markdown, or in a comment: what stands between backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn links_lead_somewhere() {
    let mut problems = Vec::new();
    for (path, text) in documents().iter().filter(|(path, _)| path.ends_with(".md")) {
        let folder = root().join(path).parent().expect("a file lies in a folder").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                problems.push(format!("{path}: `{target}` is not there"));
            }
        }
    }
    check(problems);
}
