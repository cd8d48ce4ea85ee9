//! Projects of any size, written below ingestion: through the model into a store that no server
//! has open. They are generated from a seed, so that every machine measures the same runs, and
//! cached, because creating 100,000 runs takes minutes.
//!
//! The file `made` marks a complete project, and is written last. The project in a directory without this
//! file is generated from the start.

mod runs;
mod write;

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use matyan_value::Map;

pub(crate) use self::write::{collect_params, with_params};

/// Parameters of a project. Another format, seed or count yields another project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) runs: u64,
    /// Number of points in each series.
    pub(crate) points: u32,
    pub(crate) seed: u64,
}

/// Incremented with every change to the rows of a project: to the values that `runs` generates, or to
/// the formats of the model.
const FORMAT: u32 = 4;
/// Marker files for a project that is being generated, and for a complete one.
const MAKING: &str = "making";
const MADE: &str = "made";

pub(crate) const PARAMS: usize = 200;
pub(crate) const SERIES: u32 = 50;

impl Content {
    /// Many runs with a small number of points each.
    pub(crate) fn of_runs(runs: u64) -> Self {
        Self { runs, points: 4, seed: 1 }
    }

    /// A small number of runs whose series are long enough for a pyramid.
    pub(crate) fn of_charts() -> Self {
        Self { runs: 10, points: 10_000, seed: 1 }
    }

    /// Number of shards, chosen so that an index lookup finds about 1,000 runs.
    fn shards(self) -> u64 {
        (self.runs / 1_000).max(10)
    }

    fn describe(self) -> String {
        let Self { runs, points, seed } = self;
        format!(
            "format {FORMAT}, seed {seed}, {runs} runs of {PARAMS} params and {SERIES} series of {points} points\n"
        )
    }
}

/// Params of the run at an index of the project, from 0.
pub(crate) fn params(content: Content, index: u64) -> Map {
    runs::params(content, index, &mut runs::random(content, index))
}

/// Id of the run at an index of the project.
pub(crate) fn run_id(index: u64) -> String {
    format!("bench{index:027x}")
}

/// Returns the data directory of a project in the cache. It is generated if it is missing or
/// differs.
pub(crate) async fn cached(content: Content) -> PathBuf {
    let home = std::env::home_dir().expect("the user has a home directory");
    let Content { runs, points, .. } = content;
    let directory = home.join(".cache/matyan/bench").join(format!("{runs}-runs-{points}-points"));
    generate(content, &directory).await;
    directory
}

/// Generates the project in a directory that is empty or contains an older project.
pub(crate) async fn generate(content: Content, directory: &Path) {
    let making = directory.join(MAKING);
    let made = directory.join(MADE);
    match std::fs::read_to_string(&made) {
        Ok(text) if text == content.describe() => return,
        Ok(_) => clear(directory),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if making.exists() {
                clear(directory);
            } else {
                assert!(
                    is_empty(directory),
                    "{} contains other files: choose another directory",
                    directory.display()
                );
            }
        }
        Err(error) => panic!("failed to read {}: {error}", made.display()),
    }
    std::fs::create_dir_all(directory).expect("the directory can be created");
    std::fs::write(&making, content.describe()).expect("the directory is writable");
    write::project(content, &directory.join("store")).await;
    std::fs::rename(&making, &made).expect("the directory is writable");
}

fn clear(directory: &Path) {
    std::fs::remove_dir_all(directory).expect("an older project can be removed");
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_project_is_generated_once_and_replaced_if_it_differs() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("project");
        let content = Content { runs: 3, points: 2, seed: 1 };
        generate(content, &directory).await;
        let age = || std::fs::metadata(directory.join("store/lock")).unwrap().created().unwrap();
        let first = age();
        generate(content, &directory).await;
        assert_eq!(age(), first, "the project is kept");
        generate(Content { seed: 2, ..content }, &directory).await;
        assert_ne!(age(), first, "another project replaces it");
        std::fs::rename(directory.join(MADE), directory.join(MAKING)).unwrap();
        let second = age();
        generate(content, &directory).await;
        assert_ne!(age(), second, "an incomplete project is generated again");
    }

    #[tokio::test]
    #[should_panic(expected = "contains other files")]
    async fn a_directory_with_other_files_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), "").unwrap();
        generate(Content::of_runs(1), folder.path()).await;
    }
}
