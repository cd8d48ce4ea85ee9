//! The revision at which a script runs, and the changes since. The `git` program reads them, so that
//! every repository format and configuration that the user has works.

use std::{
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use matyan_value::{Map, Value};

use super::environment::without_credentials;

/// Longest diff that is kept; generated files can make it enormous.
const MAX_DIFF_BYTES: u64 = 8 << 20;

/// Time after which git is ended, such as on a file system that does not answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Returns branch, remote, and commit; empty outside of a work tree or without git.
pub(super) fn revision(directory: &Path) -> Map {
    let Some(branch) = text_of(directory, &["rev-parse", "--abbrev-ref", "HEAD"]) else { return Map::new() };
    let remote = text_of(directory, &["config", "--get", "remote.origin.url"]);
    let shown = text_of(directory, &["log", "-1", "--format=%h%n%cI%n%an"]).unwrap_or_default();
    let mut lines = shown.lines().map(|line| Value::Text(line.to_owned()));
    let mut commit = Map::new();
    for field in ["hash", "timestamp", "author"] {
        commit.insert(field.to_owned(), lines.next().unwrap_or(Value::Null));
    }
    let remote = remote.map_or(Value::Null, |remote| Value::Text(without_credentials(&remote)));
    Map::from([
        ("branch".to_owned(), Value::Text(branch)),
        ("remote_origin_url".to_owned(), remote),
        ("commit".to_owned(), Value::Map(commit)),
    ])
}

/// Returns the difference between the last commit and the work tree, at most 8 MiB of it and without
/// the credentials of URLs; none if there is no difference or no repository.
pub fn diff(directory: &Path) -> Option<Vec<u8>> {
    let arguments = ["diff", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD", "--"];
    let diff = output_of(directory, &arguments).filter(|diff| !diff.is_empty())?;
    Some(diff.split_inclusive(|byte| *byte == b'\n').flat_map(masked).collect())
}

/// A line without the credentials of its URLs. Other lines keep their bytes, whatever the encoding.
fn masked(line: &[u8]) -> Vec<u8> {
    if line.windows(3).any(|part| part == b"://") {
        without_credentials(&String::from_utf8_lossy(line)).into_bytes()
    } else {
        line.to_vec()
    }
}

fn text_of(directory: &Path, arguments: &[&str]) -> Option<String> {
    let text = String::from_utf8_lossy(&output_of(directory, arguments)?).trim().to_owned();
    Some(text).filter(|text| !text.is_empty())
}

fn output_of(directory: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    let mut git = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(arguments)
        // Never write to the user's repository, and never wait for a password.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut output = Vec::new();
    let mut pipe = git.stdout.take()?.take(MAX_DIFF_BYTES);
    let (finished, is_finished) = mpsc::channel::<()>();
    let ending = thread::spawn(move || {
        if is_finished.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            git.kill()?;
        }
        git.wait()
    });
    let read = pipe.read_to_end(&mut output);
    let truncated = output.len() as u64 == MAX_DIFF_BYTES;
    // A git that still writes ends with its pipe.
    drop((pipe, finished));
    let success = ending.join().is_ok_and(|status| status.is_ok_and(|status| status.success()));
    (read.is_ok() && (success || truncated)).then_some(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(directory: &Path, arguments: &[&str]) {
        let identity = ["-c", "user.name=Jane Doe", "-c", "user.email=jane@example.com"];
        let status = Command::new("git").arg("-C").arg(directory).args(identity).args(arguments).status();
        assert!(status.unwrap().success(), "{arguments:?}");
    }

    #[test]
    fn a_repository_has_a_revision_and_a_diff() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(revision(path), Map::new(), "not a repository");
        git(path, &["init", "--quiet", "--initial-branch=trunk"]);
        std::fs::write(path.join("train.py"), "lr = 0.1\n").unwrap();
        git(path, &["add", "."]);
        git(path, &["commit", "--quiet", "-m", "add training"]);
        git(path, &["remote", "add", "origin", "https://me:secret@host/repo.git"]);
        assert_eq!(diff(path), None);

        std::fs::write(path.join("train.py"), b"lr = 0.2\ndb = 'pg://me:secret@host'\n\xe9\n").unwrap();
        let changed = diff(path).unwrap();
        assert!(changed.contains(&0xe9), "other encodings are kept");
        let changed = String::from_utf8_lossy(&changed);
        assert!(changed.contains("-lr = 0.1\n+lr = 0.2\n+db = 'pg://***@host'\n"), "{changed}");
        let revision = revision(path);
        assert_eq!(revision["branch"], Value::Text("trunk".to_owned()));
        assert_eq!(revision["remote_origin_url"], Value::Text("https://***@host/repo.git".to_owned()));
        let commit = revision["commit"].as_map().unwrap();
        assert_eq!(commit["author"], Value::Text("Jane Doe".to_owned()));
        assert!(matches!(&commit["hash"], Value::Text(hash) if hash.len() >= 7), "{commit:?}");
    }
}
