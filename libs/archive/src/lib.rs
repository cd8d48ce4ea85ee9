//! Archives: what a backup looks like as files. Format 1 of Matyan 0.3, which the published client reads and writes, with files
//! and keys of our own beside it that it passes over:
//!
//! | file | what |
//! |---|---|
//! | `manifest.json` | version, filters, counts; ours: `log`, the positions at which the backup was cut |
//! | `entities.jsonl` | experiments, tags, dashboards, apps, reports, notes, one a line |
//! | `project.json`, `tombstones.jsonl` | ours: settings and pinned sequences; deleted runs |
//! | `runs/{run}/run.json` | properties; ours: tags, names of links, parent, cursor |
//! | `runs/{run}/attrs.json` | params and, as `__blobs__`, artifacts |
//! | `runs/{run}/traces.json`, `contexts.json` | series and their contexts |
//! | `runs/{run}/sequences.jsonl` | a step a line, series by series |
//! | `runs/{run}/producers.jsonl` | ours: how far each producer has come, and its dictionary |
//! | `runs/{run}/blobs/…`, `blobs.jsonl` | files; ours: their content types, and paths that are no names of files |
//! | `runs/{run}/lost.jsonl` | ours: blobs that the run refers to, and that were gone when the backup was made |
//! | `checksums.sha256` | ours: the SHA-256 of every other file, as `sha256sum -c` reads it |
//!
//! What JSON cannot say stands beside it: a value with bytes as CBOR in hexadecimal under its key with `_cbor` behind it, a time
//! that a float does not hold as microseconds under the key with `_us`. A run id that is no good name of a folder has one made of
//! its digest.

mod blob_file;
mod durable;
mod entities;
mod fields;
mod json;
mod lines;
mod pack;
mod run_files;
mod run_reader;
mod run_writer;
mod series;
mod sums;
#[cfg(test)]
mod tests;

pub mod reader;
pub mod writer;

pub(crate) use fields::{Fields, Record};
pub use pack::{pack, unpack};

use std::{io, path::Path, path::PathBuf};

use sha2::{Digest, Sha256};

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const ENTITIES: &str = "entities.jsonl";
pub(crate) const PROJECT: &str = "project.json";
pub(crate) const TOMBSTONES: &str = "tombstones.jsonl";
pub(crate) const CHECKSUMS: &str = "checksums.sha256";
/// Runs that are being written, until the archive is complete.
pub(crate) const PARTS: &str = ".parts";
/// Stands in an archive that is not complete.
pub(crate) const UNFINISHED: &str = ".unfinished.json";
pub(crate) const RUNS: &str = "runs";
/// In the folder of a run.
pub(crate) const LOST: &str = "lost.jsonl";
pub(crate) const VERSION: i64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {reason}", file.display())]
    Damaged { file: PathBuf, reason: String },
    #[error("{}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{0}")]
    NoArchive(String),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

pub(crate) fn damaged(file: impl Into<PathBuf>, reason: impl Into<String>) -> Error {
    Error::Damaged { file: file.into(), reason: reason.into() }
}

/// Says of which file an error is.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |source| Error::File { path: path.to_owned(), source }
}

/// The folder of a run below `runs`.
pub(crate) fn folder(run_id: &str) -> String {
    let is_plain = !run_id.is_empty()
        && run_id.len() <= 200
        && !run_id.starts_with(['.', '~'])
        && !run_id.chars().any(|it| it.is_control() || matches!(it, '/' | '\\'));
    if is_plain { run_id.to_owned() } else { format!("~{}", hex::encode(Sha256::digest(run_id))) }
}
