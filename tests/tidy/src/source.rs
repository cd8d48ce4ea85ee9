//! The files of the repository.

use std::{fs, path::PathBuf, process::Command};

/// A file that is in the repository, or would be with the next commit.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Path from the root, with forward slashes.
    pub path: String,
    pub text: String,
}

/// A checkout of this repository.
#[derive(Debug)]
pub struct Repository {
    root: PathBuf,
}

impl Repository {
    /// The checkout that this crate is in: cargo runs tests in the directory of their crate. A path
    /// from compile time may belong to another checkout with the same target directory.
    pub fn own() -> Self {
        Self { root: PathBuf::from("../..") }
    }

    /// Runs a program in the root and returns its output.
    pub fn output(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).current_dir(&self.root).output();
        let output = output.unwrap_or_else(|error| panic!("failed to start {program}: {error}"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).expect("the output is UTF-8")
    }

    /// Returns the paths of all files that git tracks or does not ignore.
    pub fn paths(&self) -> Vec<String> {
        let listed = self.output("git", &["ls-files", "--cached", "--others", "--exclude-standard"]);
        listed.lines().filter(|path| self.root.join(path).is_file()).map(str::to_owned).collect()
    }

    /// Returns the text of a file. Bytes that are not UTF-8 are replaced.
    pub fn text(&self, path: &str) -> String {
        let bytes = fs::read(self.root.join(path));
        let bytes = bytes.unwrap_or_else(|error| panic!("failed to read {path}: {error}"));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns the files with one of these endings.
    pub fn files(&self, endings: &[&str]) -> Vec<SourceFile> {
        let mut paths = self.paths();
        paths.retain(|path| endings.iter().any(|ending| path.ends_with(ending)));
        paths.into_iter().map(|path| SourceFile { text: self.text(&path), path }).collect()
    }

    /// Returns every Rust file.
    pub fn rust_files(&self) -> Vec<SourceFile> {
        self.files(&[".rs"])
    }

    /// Returns the Rust files that end up in what users run: neither tests, benchmarks nor test harnesses.
    pub fn product_files(&self) -> Vec<SourceFile> {
        self.rust_files().into_iter().filter(|file| !file.is_test()).collect()
    }
}

impl SourceFile {
    /// Whether the whole file exists for tests, benchmarks or measurements.
    pub fn is_test(&self) -> bool {
        let path = &self.path;
        let folders = ["tests/", "examples/", "benches/", "conformance/"];
        path.ends_with("/tests.rs")
            || path.ends_with("/conformance.rs")
            || folders.iter().any(|folder| path.starts_with(folder) || path.contains(&format!("/{folder}")))
    }

    /// The text without its inline tests, which come last.
    pub fn product_text(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
    }

    /// Number of lines that are neither blank nor comments, without inline tests.
    pub fn code_lines(&self) -> usize {
        let lines = self.product_text().lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_counted() {
        let check = |text: &str, expected| {
            let file = SourceFile { path: "a.rs".to_owned(), text: text.to_owned() };
            assert_eq!(file.code_lines(), expected, "{text}");
        };
        check("//! x\n\nfn a() {\n    // why\n    b();\n}\n\n#[cfg(test)]\nmod tests {\n    x\n}\n", 3);
        check("#[cfg(test)]\nmod tests;\nfn a() {}\n", 3);
    }

    #[test]
    fn tests_are_recognized_by_path() {
        let check = |path: &str, expected| {
            let file = SourceFile { path: path.to_owned(), text: String::new() };
            assert_eq!(file.is_test(), expected, "{path}");
        };
        check("tests/src/server.rs", true);
        check("libs/log/src/conformance/append.rs", true);
        check("libs/log/src/kafka/tests.rs", true);
        check("libs/log/examples/log_bench.rs", true);
        check("libs/log/src/kafka.rs", false);
    }
}
