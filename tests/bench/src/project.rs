//! Projects of any size, written below ingestion: through the model into a store that no server has open. Made from a seed,
//! so that every machine measures the same runs, and kept, because making 100,000 runs takes minutes.
//!
//! A folder that a project was made in says so in the file `made`, last of all; what lacks it is made again.

mod runs;
mod write;

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// What is made. Another format, seed or count makes another project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) runs: u64,
    /// Of each series.
    pub(crate) points: u32,
    pub(crate) seed: u64,
}

/// Rises with whatever changes the rows of a project: what `runs` makes, or the formats of the model.
const FORMAT: u32 = 2;
/// Written when a project is begun and when it is done.
const MAKING: &str = "making";
const MADE: &str = "made";

pub(crate) const PARAMS: usize = 200;
pub(crate) const SERIES: u32 = 50;

impl Content {
    /// Many runs, of few points each.
    pub(crate) fn of_runs(runs: u64) -> Self {
        Self { runs, points: 4, seed: 1 }
    }

    /// A few runs whose series are long enough for a pyramid.
    pub(crate) fn of_charts() -> Self {
        Self { runs: 10, points: 10_000, seed: 1 }
    }

    /// Runs share their shard with at most 1,000 others: what an index finds.
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

/// The run that stands at a place of the project, from 0.
pub(crate) fn run_id(place: u64) -> String {
    format!("bench{place:027x}")
}

/// The data directory of a project in the cache; made if it is missing or another one.
pub(crate) async fn cached(content: Content) -> PathBuf {
    let home = std::env::home_dir().expect("the user has a home directory");
    let Content { runs, points, .. } = content;
    let directory = home.join(".cache/matyan/bench").join(format!("{runs}-runs-{points}-points"));
    generate(content, &directory).await;
    directory
}

/// Makes the project in a folder that is empty, or holds one that was made like this.
pub(crate) async fn generate(content: Content, directory: &Path) {
    let (making, made) = (directory.join(MAKING), directory.join(MADE));
    match std::fs::read_to_string(&made) {
        Ok(text) if text == content.describe() => return,
        Ok(_) => clear(directory),
        Err(error) if error.kind() == ErrorKind::NotFound => match making.exists() {
            true => clear(directory),
            false => assert!(
                is_empty(directory),
                "{} holds something else: name another folder",
                directory.display()
            ),
        },
        Err(error) => panic!("{} cannot be read: {error}", made.display()),
    }
    std::fs::create_dir_all(directory).expect("the folder can be made");
    std::fs::write(&making, content.describe()).expect("the folder is writable");
    write::project(content, &directory.join("store")).await;
    std::fs::rename(&making, &made).expect("the folder is writable");
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
    async fn a_project_is_made_once_and_replaced_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("project");
        let content = Content { runs: 3, points: 2, seed: 1 };
        generate(content, &directory).await;
        let age = || std::fs::metadata(directory.join("store/lock")).unwrap().created().unwrap();
        let first = age();
        generate(content, &directory).await;
        assert_eq!(age(), first, "it is kept");
        generate(Content { seed: 2, ..content }, &directory).await;
        assert_ne!(age(), first, "it is made again");
        std::fs::rename(directory.join(MADE), directory.join(MAKING)).unwrap();
        let second = age();
        generate(content, &directory).await;
        assert_ne!(age(), second, "what is not complete is made again");
    }

    #[tokio::test]
    #[should_panic(expected = "holds something else")]
    async fn a_folder_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), "").unwrap();
        generate(Content::of_runs(1), folder.path()).await;
    }
}
